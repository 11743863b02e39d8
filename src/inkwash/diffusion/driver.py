"""The one loop there is: it runs a sampler's coroutine against a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from inkwash.diffusion.arrays import Array, finite, no_grad
from inkwash.diffusion.denoiser import Condition, Prediction
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import Hook
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.samplers import Ask, Sampler


def sample(
    denoise: Callable[..., Any],
    shape: Sequence[int] | Mapping[str, Sequence[int]],
    sampler: Sampler | Mapping[str, Sampler],
    grid: Grid | Mapping[str, Grid],
    seeds: Sequence[int],
    condition: Condition | None = None,
    *,
    hooks: Sequence[Hook] = (),
    progress: Callable[[int, int], None] | None = None,
    self_conditioning: bool = False,
    x: Any = None,
    device: Any = None,
) -> Any:
    """Draws len(seeds) samples: the state at the last time of the grid, of shape (len(seeds), *shape).

    shape: of one sample, without the batch. A dict of shapes makes a state of named fields; sampler and grid are then
        one for all, or a dict, and the denoiser gets dicts of x and t and returns a dict of predictions.
    seeds: one for each sample; its noise depends on nothing else (`Noise`).
    condition: passed to the denoiser as it is; with `self_conditioning` its last clean prediction is added as
        `previous` (None at first; Chen et al. 2022, 2208.04202).
    hooks: called in turn after each step with (step, noise), dicts of them for a dict state; what a hook returns,
        unless None, replaces the state, or those of its fields that it names.
    progress: called after each step with (steps done, steps in all).
    x: the state to start from at the first time of the grid; drawn from the process's prior unless given.
    device: None for NumPy arrays, else the torch device on which the state lives.

    No gradients are kept: a guide that needs them switches them on within its own call.
    Raises DiffusionError for fields out of step, for a state or a prediction of another shape, and as soon as a step
    gives a value that is not finite.
    """
    bare = not isinstance(shape, Mapping)
    fields: dict[str, Any] = {"": shape} if bare else dict(shape)  # type: ignore[arg-type]

    def each(value: Any) -> dict[str, Any]:
        return dict(value) if isinstance(value, Mapping) else dict.fromkeys(fields, value)

    def joint(values: Mapping[str, Any]) -> Any:
        return values[""] if bare else dict(values)

    def split(value: Any) -> dict[str, Any]:
        return {"": value} if bare else value

    samplers, grids = each(sampler), each(grid)
    noise = {name: Noise(seeds, fields[name], name, _converter(device)) for name in fields}
    start = (
        {name: grids[name].process.prior(grids[name][0], noise[name]) for name in fields} if x is None else split(x)
    )
    for name, state in start.items():
        if tuple(state.shape) != (len(seeds), *fields[name]):
            raise DiffusionError(
                f"x{_of(name)} has the shape {tuple(state.shape)}: {len(seeds)} seeds and the shape of a sample, "
                f"{tuple(fields[name])}, make {(len(seeds), *fields[name])}"
            )
    total = max(len(g) for g in grids.values()) - 1
    done, previous = 0, None

    with no_grad(next(iter(start.values()))):
        walks = {name: samplers[name](start[name], grids[name], noise[name]) for name in fields}
        replies: dict[str, Any] = dict.fromkeys(fields)
        while True:
            requests = {}
            for name, walk in walks.items():
                try:
                    requests[name] = walk.send(replies[name])
                except StopIteration as stop:
                    replies[name] = stop.value
            if not requests:
                return joint(replies)
            kinds = set(map(type, requests.values()))
            if len(kinds) > 1 or len(requests) < len(fields):
                raise DiffusionError(
                    "the fields are out of step: their samplers and grids ask a different number of times"
                )

            if kinds == {Ask}:
                given = {**(condition or {}), "previous": previous} if self_conditioning else condition
                states = joint({name: ask.x for name, ask in requests.items()})
                times = joint({name: ask.t for name, ask in requests.items()})
                replies = split(denoise(states, times, given))
                for name, ask in requests.items():
                    _check(replies[name], ask, name, done + 1)
                if self_conditioning:
                    previous = joint({name: reply.clean for name, reply in replies.items()})
                continue

            done += 1
            for hook in hooks:
                changed = hook(joint(requests), joint(noise))
                if changed is not None:
                    requests |= {n: requests[n]._replace(x=value) for n, value in split(changed).items()}
            for name, step in requests.items():
                replies[name] = step.x
                if not finite(step.x):
                    raise DiffusionError(
                        f"step {done}{_of(name)}, from t = {step.t.t:.4g} to {step.s.t:.4g}: a value is not finite; "
                        "look at what the network answers there, and at the scale of guidance"
                    )
            if progress is not None:
                progress(done, max(done, total))  # a sampler may walk a step more than once


def _check(reply: Prediction, ask: Ask, field: str, step: int) -> None:
    if reply.clean.shape != ask.x.shape:
        raise DiffusionError(
            f"step {step}{_of(field)}, at t = {ask.t.t:.4g}: the denoiser's prediction has the shape "
            f"{tuple(reply.clean.shape)}, the state {tuple(ask.x.shape)}; they must agree"
        )


def _of(field: str) -> str:
    return f" of field '{field}'" if field else ""


def _converter(device: Any) -> Callable[[np.ndarray], Array]:
    if device is None:
        return lambda x: x
    import torch

    return lambda x: torch.from_numpy(x).to(device)
