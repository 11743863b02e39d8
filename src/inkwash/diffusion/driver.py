"""The one loop there is: it runs a sampler's coroutine against a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from inkwash.diffusion.arrays import Array, finite, no_grad
from inkwash.diffusion.denoiser import Condition
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import Hook
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Prediction
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
    mask: Any = None,
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
    mask: which elements of a padded batch there are, (len(seeds), ...) over the first axes of the shape; a dict of
        masks for named fields. The others hold 0 and draw no noise, so a sample is the same in any padding; the
        denoiser's condition has it as `mask`.
    hooks: called in turn after each step with (step, noise), dicts of them for a dict state; what a hook returns,
        unless None, replaces the state, or those of its fields that it names.
    progress: called after each step with (steps done, steps in all).
    x: the state to start from at the first time of the grid; drawn from the process's prior unless given.
    device: None for NumPy arrays, else the torch device on which the state lives.

    No gradients are kept: a guide that needs them switches them on within its own call.
    Raises DiffusionError for fields out of step or without a grid, for a state, a mask or a prediction of another
    shape, for a given state that its process does not know, and as soon as a step gives a value that is not finite.
    """
    fields, each, split, joint = named(shape)
    samplers, grids, masks = each(sampler), each(grid), each(mask)
    for name in fields:
        if name not in samplers or name not in grids:
            raise DiffusionError(f"field '{name}' has no sampler or no grid, and so no process: give it one")
    masks = {name: _mask(masks.get(name), name, len(seeds), fields[name]) for name in fields}
    if mask is not None:
        condition = {**(condition or {}), "mask": joint(masks)}
    noise = {name: Noise(seeds, fields[name], name, converter(device), masks[name]) for name in fields}
    start = (
        {name: grids[name].process.prior(grids[name][0], noise[name]) for name in fields}
        if x is None
        else dict(split(x))
    )
    for name, state in start.items():
        if tuple(state.shape) != (len(seeds), *fields[name]):
            raise DiffusionError(
                f"x{_of(name)} has the shape {tuple(state.shape)}: {len(seeds)} seeds and the shape of a sample, "
                f"{tuple(fields[name])}, make {(len(seeds), *fields[name])}"
            )
        start[name] = grids[name].process.confine(state, masks[name])
        if x is not None:
            try:
                grids[name].process.check(start[name])
            except DiffusionError as error:
                raise DiffusionError(f"x{_of(name)}, shape {tuple(state.shape)}: {error}") from None
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
                return joint({name: grids[name].process.settle(state) for name, state in replies.items()})
            kinds = set(map(type, requests.values()))
            if len(kinds) > 1 or len(requests) < len(fields):
                raise DiffusionError(
                    "the fields are out of step: their samplers and grids ask a different number of times"
                )

            if kinds == {Ask}:
                given = {**(condition or {}), "previous": previous} if self_conditioning else condition
                states = joint({n: grids[n].process.confine(ask.x, masks[n]) for n, ask in requests.items()})
                times = joint({name: ask.t for name, ask in requests.items()})
                replies = split(denoise(states, times, given))
                for name, ask in requests.items():
                    process = grids[name].process
                    _check(replies.get(name), process.answer(tuple(ask.x.shape)), ask, name, done + 1)
                    clean = process.confine(replies[name].clean, masks[name])
                    if clean is not replies[name].clean:
                        replies[name] = replies[name]._replace(clean=clean)
                if self_conditioning:
                    previous = joint({name: reply.clean for name, reply in replies.items()})
                continue

            done += 1
            for hook in hooks:
                changed = hook(joint(requests), joint(noise))
                if changed is not None:
                    requests |= {n: requests[n]._replace(x=value) for n, value in split(changed).items()}
            for name, step in requests.items():
                replies[name] = grids[name].process.confine(step.x, masks[name])
                if not finite(step.x):
                    raise DiffusionError(
                        f"step {done}{_of(name)}, from t = {step.t.t:.4g} to {step.s.t:.4g}: a value is not "
                        f"finite in a state of shape {tuple(step.x.shape)}; look at what the network answers there, "
                        "and at the scale of guidance"
                    )
            if progress is not None:
                progress(done, max(done, total))  # a sampler may walk a step more than once


def named(shape: Any) -> tuple[dict[str, Any], Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The shapes of a state's fields, the only one of a bare state being called ""; and three functions: a value for
    each field, or one for all, as a dict; a state as a dict; a dict as a state."""
    if isinstance(shape, Mapping):
        names = dict(shape)
        return names, lambda v: dict(v) if isinstance(v, Mapping) else dict.fromkeys(names, v), dict, dict
    return {"": shape}, lambda v: {"": v}, lambda v: {"": v}, lambda v: v[""]


def _check(reply: Prediction | None, shape: tuple[int, ...], ask: Ask, field: str, step: int) -> None:
    where = f"step {step}{_of(field)}, at t = {ask.t.t:.4g}: "
    if reply is None:
        raise DiffusionError(f"{where}the denoiser gave no prediction of it")
    if tuple(reply.clean.shape) != shape:
        raise DiffusionError(
            f"{where}the denoiser's prediction has the shape {tuple(reply.clean.shape)}, the state "
            f"{tuple(ask.x.shape)}; {shape} is needed"
        )
    if reply.clean.dtype != ask.x.dtype and not bool((reply.clean == reply.clean).all()):  # drawn tokens hide a NaN
        raise DiffusionError(f"{where}the logits, of shape {shape}, are not numbers (NaN); look at the network")


def _mask(mask: Any, field: str, batch: int, shape: Sequence[int]) -> Any:
    if mask is None:
        return None
    wanted = (batch, *shape)
    if tuple(mask.shape) != wanted[: mask.ndim]:
        raise DiffusionError(
            f"mask{_of(field)} has the shape {tuple(mask.shape)}, the state {wanted}: the mask must have the state's "
            "first axes, the batch among them"
        )
    return mask


def _of(field: str) -> str:
    return f" of field '{field}'" if field else ""


def converter(device: Any) -> Callable[[np.ndarray], Array]:
    if device is None:
        return lambda x: x
    import torch

    return lambda x: torch.from_numpy(x).to(device)
