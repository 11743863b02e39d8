"""The one loop there is: it runs samplers' coroutines against a denoiser."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from inkwash.diffusion.arrays import Array, cast, each, finite, host, is_tokens, mask_of, merge, name_of, namespace
from inkwash.diffusion.arrays import no_grad, split, widened
from inkwash.diffusion.denoiser import Condition, Denoise
from inkwash.diffusion.errors import DiffusionError, require
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import Hook, check_process, needs_torch, trained_process
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.options import COUNT
from inkwash.diffusion.process import Prediction
from inkwash.diffusion.samplers import ModelCall, Sampler, StepResult
from inkwash.diffusion.schedule import NoiseLevel


def sample(
    denoise: Denoise,
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
    stream: str | None = None,
    dtype: Any = None,
    device: Any = None,
    gradients: bool = False,
) -> Any:
    """Draws len(seeds) samples: the state at the last time of the grid, of shape (len(seeds), *shape).

    shape: of one sample, without the batch. A dict of shapes makes a state of named fields; sampler and grid are then
        one for all, or a dict, and the denoiser gets dicts of x and t and returns a dict of predictions.
    seeds: one for each sample; its noise depends on nothing else (`Noise`).
    condition: passed to the denoiser as it is; with `self_conditioning` its last clean prediction is added as
        `previous` (None at first; Chen et al. 2022, 2208.04202).
    mask: which elements of a padded batch there are, (len(seeds), ...) over the first axes of the shape; a dict of
        masks for named fields. The others hold 0 and draw no noise, so a sample is the same in any padding; the
        denoiser's condition has it as `mask`. Guides see what the network answers there, and those that look at a
        sample as a whole (`rescale`, `dynamic_threshold`, `adaptive_projected`) count it.
    hooks: called in turn after each step with (step, noise), for a dict state dicts of them, the steps of the fields
        that have stepped; what a hook returns, unless None, replaces the state, or those of its fields that it names.
    progress: called after each step with (steps done, steps in all).
    x: the state to start from at the first time of the grid; drawn from the process's prior unless given.
    stream: which of the seeds' streams of noise to draw from. A given x has one of its own, named after the time at
        which it starts, since the noise that made x must not come again.
    dtype: "float32" or "float64", of states and noise, whatever the network computes in; float32 unless a given x is
        float64.
    device: the torch device on which the state lives; None for that of a given x, or NumPy arrays.
    gradients: keep the graph through all steps; else a guide that needs gradients has them within its own call.

    Fields step together that have walked the same share of their grids; one that is ahead, or asks nothing, stands
    still, and the denoiser sees it where it stands. So a field may ask more often than the others, or have a finer
    grid.

    Raises DiffusionError for fields without a sampler or a grid, for what is not of the kind or shape it should be,
    for a denoiser of another schedule than the grid's, and as soon as a step gives a value that is not finite.
    """
    shapes, trained = split(shape), trained_process(denoise)
    require(shapes, "shape = {}: a state has one field at least")
    grids, samplers, masks, given, processes = (each(value, shapes) for value in (grid, sampler, mask, x, trained))
    require(isinstance(hooks, Sequence), f"hooks are a {type(hooks).__name__}: a list of hooks is needed")
    if dtype is None:
        wide = any(name_of(getattr(own, "dtype", None)) == "float64" for own in given.values())
        dtype = "float64" if wide else "float32"
    if device is None:
        device = next((own.device for own in given.values() if namespace(own) is not np), None)
    fields: dict[str, _Field] = {}
    for name, own in shapes.items():
        of = f" of field '{name}'" if name else ""
        check_kinds(of, own, samplers[name], grids[name], processes[name])
        key = stream if stream is not None else "" if x is None else f"{grids[name][0].t:g}"
        noise = Noise(seeds, own, name, stream=key, mask=masks[name], device=device, dtype=name_of(dtype))
        fields[name] = _Field(of, grids[name], noise, given[name])
    if mask is not None:
        told = {name: mask_of(field.noise.mask, field.x) for name, field in fields.items()}
        condition = {**(condition or {}), "mask": merge(told)}
    for field in fields.values() if gradients else ():
        needs_torch(field.x, "gradients=True")
        if not (field.x.requires_grad or is_tokens(field.x)):
            field.x = field.x.detach().requires_grad_()  # guides with gradients keep the graph of such a state
    total, done, previous = max(len(field.grid) for field in fields.values()) - 1, 0, None

    with nullcontext() if gradients else no_grad(next(iter(fields.values())).x):
        for name, field in fields.items():
            field.start(samplers[name])
        while running := {name: field for name, field in fields.items() if field.request is not None}:
            behind = min(field.walked() for field in running.values()) + 1e-9 if len(running) > 1 else math.inf
            stepping = {name: field for name, field in running.items() if behind > 1 or field.walked() <= behind}
            while asking := [name for name, field in stepping.items() if isinstance(field.request, ModelCall)]:
                seen = {name: field.seen() for name, field in fields.items()}
                if self_conditioning:
                    condition = {**(condition or {}), "previous": previous}
                states, levels = (merge({name: pair[i] for name, pair in seen.items()}) for i in (0, 1))
                answers = split(denoise(states, levels, condition))
                replies = {n: field.checked(answers.get(n), *seen[n], done + 1) for n, field in fields.items()}
                if self_conditioning:
                    previous = merge({name: reply.x0 for name, reply in replies.items()})
                for name in asking:
                    fields[name].advance(replies[name])
            done += 1
            for hook in hooks:
                steps = merge({name: field.request for name, field in stepping.items()})
                changed = hook(steps, merge({name: field.noise for name, field in fields.items()}))
                for name, value in split(changed).items() if changed is not None else ():
                    require(name in stepping, f"hook {hook!r}: there is no field '{name}' in this step")
                    stepping[name].request = stepping[name].request._replace(x=value)
            for field in stepping.values():
                field.step(done)
            if progress is not None:
                progress(done, max(done, total))  # a sampler may walk a step more than once
        return merge({name: field.grid.process.postprocess(field.x) for name, field in fields.items()})


class _Field:
    """One field on its way: where it stands, `x` at `level`, and what its sampler waits for; None when it is done."""

    def __init__(self, of: str, grid: Grid, noise: Noise, x: Any) -> None:
        self.of, self.grid, self.noise, self.level = of, grid, noise, grid[0]
        self.request: Any = None
        process: Any = grid.process
        if x is None:
            self.x = self.project(process.prior(grid[0], noise))
            return
        x = _as_state(x, noise)
        self.check_shape(x, "x")
        try:
            self.x = self.project(x)
            process.check(host(self.x))
            self.x = widened(self.x, noise.dtype)
        except DiffusionError as error:
            raise DiffusionError(f"x{of}, shape {tuple(x.shape)}: {error}") from None

    def project(self, x: Array) -> Array:
        return self.grid.process.project(x, self.noise.mask)

    def check_shape(self, x: Array, what: str) -> None:
        shape, wanted = tuple(getattr(x, "shape", ())), self.noise.shape
        if shape != wanted:
            made = f"{wanted[0]} seeds and the shape of a sample, {wanted[1:]}, make {wanted}"
            raise DiffusionError(f"{what}{self.of} has the shape {shape}: {made}")

    def start(self, sampler: Sampler) -> None:
        self.walk = sampler(self.x, self.grid, self.noise)
        coroutine = isinstance(self.walk, Generator)
        require(coroutine, f"the sampler{self.of} is no coroutine: it must yield ModelCalls and StepResults")
        self.advance(None)

    def walked(self) -> float:
        """Which share of its grid's steps lies behind the time at which it asks."""
        times, t = self.grid.times, self.request.t.t
        i = min(bisect.bisect_left(times, -t, 1, key=lambda time: -time), len(times) - 1)  # t lies above time i
        share: float = (times[i - 1] - t) / (times[i - 1] - times[i])
        return (i - 1 + min(max(share, 0.0), 1.0)) / (len(times) - 1)

    def seen(self) -> tuple[Array, NoiseLevel]:
        """The state that the denoiser is shown, and its level; one that stands goes nowhere."""
        if isinstance(self.request, ModelCall):
            x, t, s = self.request
            return self.project(x), t if s is None else t._replace(s=s)
        x, t = (self.x, self.level) if self.request is None else (self.request.x, self.request.s)
        return self.project(x), t._replace(s=t)

    def checked(self, reply: Any, x: Array, t: NoiseLevel, step: int) -> Prediction:
        """The denoiser's reply, in the dtype and the space of the state."""
        process: Any = self.grid.process
        wrong = _wrong(reply, x, process.output_shape(tuple(x.shape)))
        if wrong:
            raise DiffusionError(f"step {step}{self.of}, at t = {t.t:.4g}: {wrong}")
        x0, variance = reply.x0, reply.variance
        if x0.dtype != x.dtype and not is_tokens(x):
            x0 = cast(x0, x.dtype)
        if hasattr(variance, "dtype"):
            variance = cast(variance, x.dtype)
        return Prediction(self.project(x0), variance, reply.extra)

    def advance(self, reply: Any) -> None:
        """Sends the sampler what it waits for."""
        try:
            self.request = self.walk.send(reply)
        except StopIteration as stop:
            self.x, self.request = stop.value, None
            self.check_shape(self.x, "what the sampler returns")
            return
        if not isinstance(self.request, (ModelCall, StepResult)):
            kind = type(self.request).__name__
            raise DiffusionError(f"the sampler{self.of} yields {kind}: a ModelCall or a StepResult is needed")
        self.check_shape(self.request.x, "what the sampler yields")

    def step(self, done: int) -> None:
        """Goes on from the state that the sampler, or a hook, has stepped to."""
        x, t, s = self.request[:3]
        what = f"step {done}: what the sampler or a hook has made"
        self.check_shape(x, what)
        if type(x) is not type(self.x) or x.dtype != self.x.dtype:
            x = _as_state(x, self.noise)
            kind = f"{what}{self.of} is of {x.dtype}; {self.x.dtype} is needed"
            require(("float" in name_of(x.dtype), is_tokens(x)) == (not is_tokens(self.x), is_tokens(self.x)), kind)
            x = cast(x, self.x.dtype)
        if is_tokens(x):
            self.grid.process.check(host(x))
        if not finite(x):
            raise DiffusionError(
                f"step {done}{self.of}, from t = {t.t:.4g} to {s.t:.4g}: a value is not finite in a state of shape "
                f"{tuple(x.shape)}; look at what the network answers there, and at the scale of guidance"
            )
        self.x, self.level = self.project(x), s
        self.advance(self.x)


def check_kinds(of: str, shape: Any, sampler: Any, grid: Any, trained: Any) -> None:
    """Raises DiffusionError for what is not of the kind that `sample` needs."""
    given = sampler is not None and grid is not None
    require(given, f"the state{of} has no sampler or no grid, and so no process: give it one")
    sizes = isinstance(shape, Sequence) and all(map(COUNT.holds, shape))
    require(sizes, f"shape = {shape!r}{of}: a tuple of whole numbers is needed, (2,) for two numbers")
    if not callable(sampler):
        raise DiffusionError(f"sampler = {sampler!r}{of}: a function is needed; by name they are in SAMPLERS")
    if not isinstance(grid, Grid):
        raise DiffusionError(f"grid = {grid!r}{of}: a Grid is needed, uniform(process, 20) for one")
    check_process(trained, grid.process, of)


def _wrong(reply: Any, x: Array, wanted: tuple[int, ...]) -> str:
    """What is wrong with a reply to the state x, or nothing."""
    if not isinstance(reply, Prediction):
        kind = "no prediction of it" if reply is None else f"a {type(reply).__name__}; return a Prediction(x0)"
        return f"the denoiser gave {kind}"
    x0 = reply.x0
    if not hasattr(x0, "shape") or namespace(x0) is not namespace(x):
        kinds = f"the denoiser predicts a {type(x0).__name__}, the state is a {type(x).__name__}"
        return f'{kinds}; for tensors of torch give `sample` a device, "cpu" for one'
    if tuple(x0.shape) != wanted:
        shapes = f"the shape {tuple(x0.shape)}, the state {tuple(x.shape)}"
        return f"the denoiser's prediction has {shapes}; {wanted} is needed"
    if is_tokens(x) and not bool(namespace(x).isfinite(namespace(x).amax(x0, -1)).all()):  # drawn tokens hide it
        return (
            f"the logits, of shape {wanted}, are not numbers (NaN), or all -inf; look at the network, and at guides"
        )
    return ""


def _as_state(x: Any, noise: Noise) -> Array:
    """A given state, where and in which precision the noise is."""
    if noise.device is not None:
        import torch

        x = x.to(noise.device) if torch.is_tensor(x) else torch.asarray(x, device=noise.device)
    kind = f"a state is a {type(x).__name__}: give `sample` its device, or a NumPy array"
    require(noise.device is not None or isinstance(x, np.ndarray), kind)
    return widened(x, noise.dtype) if "float" in name_of(x.dtype) else x
