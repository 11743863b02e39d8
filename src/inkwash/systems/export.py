"""The verb that rooms share whose models have their networks as ONNX graphs, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from inkwash.systems.base import Context, Help, Request, Result
from inkwash.weights.shipped import locate

if TYPE_CHECKING:
    from torch import Tensor

SIDES = (0, 2, 3)  # axes of pictures and their features that stay open: the batch, height, width


@dataclass(frozen=True, kw_only=True)
class Export(Request):
    """Write a model's networks as ONNX graphs beside its weights, to compute without torch."""

    model: Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.", argument=True)]


EXPORT: dict[str, Any] = {"lasting": True, "out": "MODEL", "takes": ()}  # how its `Verb` is run, in every system


class NetworkGraph(NamedTuple):
    """A graph to write.

    name      of its file
    answer    (the model's network, *inputs) -> a tensor, or several
    axes      of each input, whose lengths stay open
    examples  inputs, by which it is made, and on which it must answer as torch does
    """

    name: str
    answer: Callable[..., Any]
    axes: Mapping[str, Sequence[int]]
    examples: Sequence[Mapping[str, Tensor]]


def export(
    requests: list[Any],
    context: Context,
    load: Callable[..., Any],
    graphs: Callable[[Any], Iterable[NetworkGraph]],
) -> Iterator[Result]:
    """load: of the room's models; graphs: of a model. Each is written when it has been found equal to torch."""
    from inkwash.networks.export import Function, check_installed, write_graph

    check_installed()
    for of, request in enumerate(requests):
        folder = locate(request.model)
        model = load(folder, runtime="torch")
        for name, answer, axes, examples in graphs(model):
            function = Function(model.network, answer)
            file = write_graph(folder / name, function, examples[0], axes, examples[1:])
            yield Result(of, None, {name: file})
