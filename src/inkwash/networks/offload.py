"""Networks whose weights lie in their files until they are used: each network's, or each layer's.

Such a network has the parameters that it always has, but their data are views of a file (`weights.mapped`), in the
precision that they have there; before a layer runs they are converted, and moved to its device. Nothing but time is
lost: the numbers are those of a network that was loaded as a whole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from inkwash.weights.mapped import release, trim

Undo = Callable[[], object]


class Part(NamedTuple):
    """A network, and the precision of its matrices and kernels when it runs; vectors (of norms, and biases) are then
    in float32, as autocast would have them. changes: what an adapter makes of a parameter's numbers."""

    network: nn.Module
    dtype: torch.dtype = torch.float32
    changes: Mapping[nn.Parameter, Callable[[Tensor], Tensor]] = {}


def layers(network: nn.Module) -> list[nn.Module]:
    """The modules that have parameters of their own."""
    return [module for module in network.modules() if next(module.parameters(recurse=False), None) is not None]


def place(modules: Iterable[nn.Module], part: Part, device: torch.device) -> Undo:
    """Converts the parameters of these layers of a part, and moves them to the device. Returns what puts them back as
    they were, but for those that others have replaced meanwhile."""
    before = [(parameter, parameter.data) for module in modules for parameter in module.parameters(recurse=False)]
    for parameter, data in before:
        change = part.changes.get(parameter)
        changed = data if change is None else change(data.to(device, torch.float32))
        converted = changed.to(device, part.dtype if data.ndim > 1 else torch.float32)
        parameter.data = converted.contiguous()  # a file may hold it transposed, which rounds otherwise
        if parameter.data_ptr() != data.data_ptr():
            release(data)
    placed = [parameter.data_ptr() for parameter, _ in before]

    def back() -> None:
        for (parameter, data), address in zip(before, placed, strict=True):
            if parameter.data_ptr() == address:
                parameter.data = data
                release(data)

    return back


def by_layer(part: Part, device: torch.device) -> Undo:
    """From now on, until what is returned is called, the weights of each layer are in memory only while it runs."""

    def serve(layer: nn.Module) -> list[RemovableHandle]:
        running: list[Undo] = []

        def end(*_: Any) -> None:
            if running:  # it is not where the hook before failed
                running.pop()()

        begin = layer.register_forward_pre_hook(lambda *_: running.append(place(layer.modules(), part, device)))
        return [begin, layer.register_forward_hook(end, always_call=True)]

    after = part.network.register_forward_hook(lambda *_: trim())
    return remover([after, *(handle for layer in layers(part.network) for handle in serve(layer))])


def by_turns(groups: Iterable[Sequence[Part]], device: torch.device) -> Undo:
    """From now on, until what is returned is called, the weights of one group of networks at most are in memory: of
    that which ran last."""
    placed: list[tuple[Sequence[Part], list[Undo]]] = []

    def leave() -> None:
        while placed:
            for back in placed.pop()[1]:
                back()
            trim()

    def serve(group: Sequence[Part]) -> list[RemovableHandle]:
        def turn(*_: Any) -> None:
            if not placed or placed[-1][0] is not group:
                leave()
                placed.append((group, [place(layers(part.network), part, device) for part in group]))

        return [layer.register_forward_pre_hook(turn) for part in group for layer in layers(part.network)]

    handles = [handle for group in groups for handle in serve(group)]

    def undo() -> None:
        leave()
        remover(handles)()

    return undo


def remover(handles: Sequence[RemovableHandle]) -> Undo:
    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove
