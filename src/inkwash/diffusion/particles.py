"""Exact conditioning by sequential Monte Carlo: many samples walk together, are weighed, and are drawn again.

SMCDiff (Trippe et al. 2023, 2206.04119) conditions on a part of the state, TDS (Wu et al. 2023, 2306.17775) on a
likelihood or a reward. Both are a hook, and a guide, around the one driver; any process whose transition has a
density will do. As the number of particles grows,
samples become exact for the chain that the denoiser and the grid define.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from inkwash.diffusion.arrays import Array, like, namespace, numpy
from inkwash.diffusion.denoiser import Condition
from inkwash.diffusion.driver import converter, sample
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import needs_torch
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.samplers import Sampler, ancestral


class Particles(NamedTuple):
    """What `particles` found, for F seeds with K particles each; states are arrays, or dicts of them.

    x: (F, ...), one particle of each seed drawn by the final weights: the samples. states: (F, K, ...) all of them,
    with weights (F, K) that add up to 1. ess: (steps, F), the effective sample size 1 / sum w^2 before each
    resampling.
    ancestors: (steps, F, K), which particle each one descends from; its own number where none were drawn again.
    """

    x: Any
    states: Any
    weights: np.ndarray
    ess: np.ndarray
    ancestors: np.ndarray


def particles(
    denoise: Callable[..., Any],
    shape: Sequence[int] | Mapping[str, Sequence[int]],
    grid: Grid | Mapping[str, Grid],
    seeds: Sequence[int],
    condition: Condition | None = None,
    *,
    count: int = 64,
    known: Any = None,
    twist: Callable[[Any, Any], Array] | None = None,
    gradients: bool = False,
    threshold: float = 0.5,
    sampler: Sampler = ancestral,
    progress: Callable[[int, int], None] | None = None,
    device: Any = None,
) -> Particles:
    """One sample for each seed, each from its own filter of `count` particles.

    known: (values, where), a part of the clean state and where it is, both broadcast to (1, *shape); for named fields
        a dict of them. As in SMCDiff one noised path of it, drawn forwards, is put into all particles of a filter,
        and they are weighed with the density of its next point under their transition. In a `Centred` field only its
        shape is known: each particle has its own place for it.
    twist: (clean prediction, t) -> (batch,), the log-likelihood or reward wanted, dicts for named fields; at the last
        time of the grid it is told the sample itself. Particles are weighed with how it grows.
    gradients: also move each step by the gradient of the twist, as TDS does, which the weights then make good; needs
        torch, and moves only fields of real numbers.
    threshold: particles are drawn again when their effective number falls below this share of `count`.
    sampler: one that draws from its transition; a condition is given once, in a batch of 1.

    Raises DiffusionError for a sampler without noise, a known field that is not there, known values that do not
    belong to their process, gradients without torch, and where every particle has weight 0.
    """
    if count < 1:
        raise DiffusionError(f"count = {count}: at least one particle is needed")
    bare = not isinstance(shape, Mapping)
    fields: dict[str, Any] = {"": shape} if bare else dict(shape)  # type: ignore[arg-type]

    def split(value: Any) -> dict[str, Any]:
        return {"": value} if bare else dict(value)

    def joint(value: dict[str, Any]) -> Any:
        return value[""] if bare else value

    grids = dict(grid) if isinstance(grid, Mapping) else dict.fromkeys(fields, grid)
    convert, filters = converter(device), len(seeds)
    own = [_child(seed, k) for seed in seeds for k in range(count)]
    start = {n: grids[n].process.prior(grids[n][0], Noise(own, fields[n], f"{n}/start", convert)) for n in fields}
    paths: dict[str, tuple[list[Array], Array]] = {}
    for name, (values, where) in (split(known) if known is not None else {}).items():
        if name not in fields:
            raise DiffusionError(f"known: there is no field '{name}', only {[*fields]}")
        noise = Noise(seeds, fields[name], f"{name}/known", convert)
        paths[name] = _path(grids[name], values, where, start[name], noise, name, count)
        start[name] = grids[name].process.paste(start[name], paths[name][0][0], paths[name][1])
    urns = Noise(seeds, (), "resampling")
    log_w, before = np.zeros((filters, count)), np.zeros((filters, count))  # and the twist at the last request
    ess: list[np.ndarray] = []
    ancestors: list[np.ndarray] = []
    seen: dict[str, Any] = {}  # what `guided` saw at the last request

    def guided(x: Any, t: Any, told: Condition | None) -> Any:
        if twist is None:
            return denoise(x, t, told)
        if not gradients:
            seen["plain"] = prediction = denoise(x, t, told)
            seen["twist"] = numpy(twist(_clean(prediction), t)).reshape(filters, count)
            return prediction
        return joint(_twisted(denoise, twist, split(x), split(t), told, joint, seen, (filters, count)))

    def hook(given: Any, noises: Any) -> Any:
        nonlocal log_w, before
        steps, noise, number = split(given), split(noises), len(ess) + 1
        now = seen["twist"] if twist is not None else before
        log_w += now - before
        for name, (path, where) in paths.items():
            law = _law(steps[name], number)
            if not law.sharp:
                gain = grids[name].process.log_known(law, path[number], where)
                log_w += numpy(gain).reshape(filters, count).astype(float)
        w = _weights(log_w, seeds, number)
        ess.append(1 / (w**2).sum(1))
        u, thin = numpy(urns.uniform()), ess[-1] < threshold * count
        chosen = [residual_systematic(w[f], float(u[f])) if thin[f] else np.arange(count) for f in range(filters)]
        ancestors.append(np.stack(chosen))
        rows = (np.arange(filters)[:, None] * count + ancestors[-1]).reshape(-1)
        log_w, before = np.where(thin[:, None], 0.0, log_w), np.take_along_axis(now, ancestors[-1], 1)
        fresh = {}
        for name, step in steps.items():
            x, law = step.x, _law(step, number)
            if thin.any():  # those of one ancestor part at once
                index = like(rows, x, namespace(x).int64)
                again = np.repeat(thin, count).reshape(-1, *[1] * (x.ndim - 1))
                law = law.take(index)
                x = namespace(x).where(like(again, x, namespace(x).bool), law.sample(noise[name]), x)
            if gradients:
                x, change = _untwist(grids[name], step, split(seen["plain"])[name], seen["x"][name], law, x, rows)
                log_w = log_w + change.reshape(filters, count)
            if name in paths:
                x = grids[name].process.paste(x, paths[name][0][number], paths[name][1])
            fresh[name] = x
        return joint(fresh)

    states = sample(
        guided, shape, sampler, grid, own, condition, hooks=[hook], progress=progress, x=joint(start), device=device
    )
    if twist is not None:
        ends = joint({name: grids[name][-1] for name in fields})
        log_w += numpy(twist(states, ends)).reshape(filters, count) - before
    w = _weights(log_w, seeds, len(ess))
    u = numpy(urns.uniform())
    last = [min(int(np.searchsorted(np.cumsum(w[f]), u[f])), count - 1) for f in range(filters)]
    split_states = {n: x.reshape(filters, count, *x.shape[1:]) for n, x in split(states).items()}
    drawn = {n: x[list(range(filters)), last] for n, x in split_states.items()}
    return Particles(joint(drawn), joint(split_states), w, np.stack(ess), np.stack(ancestors))


def residual_systematic(weights: np.ndarray, u: float) -> np.ndarray:
    """As many ancestors as weights (which add up to 1), in ascending order: floor(n w) of each, and the rest
    systematically by what is left of n w, from one uniform number. The mean number of each is n w."""
    n = len(weights)
    scaled = weights / weights.sum() * n
    copies = np.floor(scaled + 1e-9).astype(int)
    rest = n - int(copies.sum())
    if rest:
        ends = np.cumsum(np.clip(scaled - copies, 0, None))
        extra = np.searchsorted(ends, (np.arange(rest) + u) / rest * ends[-1])
        copies += np.bincount(np.minimum(extra, n - 1), minlength=n)
    return np.repeat(np.arange(n), copies)


def _child(seed: int, k: int) -> int:
    """The seed of particle k in the filter of `seed`."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{k}".encode()).digest()[:8], "little")


def _path(
    grid: Grid, values: Array, where: Array, x: Array, noise: Noise, name: str, count: int
) -> tuple[list[Array], Array]:
    """The known part at each time of the grid, one jointly drawn path for each filter, and where it is."""
    xp, process, shape = namespace(x), grid.process, (len(x) // count, *x.shape[1:])
    where = xp.broadcast_to(like(numpy(where), x, xp.bool), x.shape)
    y = xp.broadcast_to(like(numpy(values), x), shape)
    try:
        process.check(process.paste(0 * y, y, where[: len(y)]))
    except DiffusionError as error:
        raise DiffusionError(f"known values of field '{name}', shape {tuple(shape)}: {error}") from None
    path: list[Array] = []
    last = grid[-1]
    if last.sigma:
        y = process.noise(y, last, process.eps(noise))
    for i, point in enumerate(reversed(grid.points)):
        y = process.renoise(y, last, point, process.eps(noise)) if i else y
        path, last = [xp.repeat(y, count, 0) if xp is np else y.repeat_interleave(count, 0), *path], point
    return path, where


def _law(step: Any, number: int) -> Any:
    if step.transition is None:
        raise DiffusionError(
            f"particles, step {number}: the sampler draws nothing; take one with noise (`ancestral`)"
        )
    return step.transition


def _clean(prediction: Any) -> Any:
    """The clean predictions of all fields, or of the only one."""
    return {n: p.clean for n, p in prediction.items()} if isinstance(prediction, dict) else prediction.clean


def _weights(log_w: np.ndarray, seeds: Sequence[int], step: int) -> np.ndarray:
    """The normalised weights of each filter."""
    top = log_w.max(1, keepdims=True)
    for seed, value in zip(seeds, top[:, 0], strict=True):
        if not math.isfinite(value):
            raise DiffusionError(
                f"particles, step {step}: every particle of seed {seed} has weight 0, or one that is not a number; "
                "what is known may be impossible for this model, or more particles are needed"
            )
    w = np.exp(log_w - top)
    return np.asarray(w / w.sum(1, keepdims=True))


def _twisted(
    denoise: Any, twist: Any, x: dict[str, Any], t: dict[str, Any], told: Any, joint: Any, seen: Any, size: Any
) -> dict[str, Any]:
    """Predictions moved by the gradient of the twist: clean + (sigma^2 / alpha) grad, as in `classifier`."""
    for value in x.values():
        needs_torch(value, "particles: gradients")
    import torch

    with torch.enable_grad():
        x = {n: v.detach().requires_grad_(v.is_floating_point()) for n, v in x.items()}
        free = [n for n, v in x.items() if v.requires_grad]
        if not free:
            raise DiffusionError("particles: tokens have no gradients; take gradients=False")
        prediction = denoise(joint(x), joint(t), told)
        value = twist(_clean(prediction), joint(t))
        slopes = dict(
            zip(free, torch.autograd.grad(value.sum(), [x[n] for n in free], allow_unused=True), strict=True)
        )
    plain = prediction if isinstance(prediction, dict) else {"": prediction}
    plain = {n: p._replace(clean=p.clean.detach()) for n, p in plain.items()}
    seen.update(plain=joint(plain), x={n: v.detach() for n, v in x.items()}, twist=numpy(value).reshape(size))

    def moved(name: str) -> Any:
        slope, p = slopes.get(name), t[name]
        if slope is None or not p.alpha:
            return plain[name]
        return plain[name]._replace(clean=plain[name].clean + (p.sigma**2 / p.alpha) * slope)

    return {n: moved(n) for n in x}


def _untwist(
    grid: Grid, step: Any, plain: Any, origin: Array, law: Any, x: Array, rows: np.ndarray
) -> tuple[Any, Any]:
    """The state, and what its weight gains: log p(x_s | x_t) - log q(x_s | x_t), p the chain without the twist. A
    step without noise is walked by p itself."""
    index = like(rows, x, namespace(x).int64)
    p = grid.process.transition(origin, step.t, step.s, plain).take(index)
    if p.sharp:
        return p.mean, np.zeros(len(x))
    gain = p.log_prob(x) - law.log_prob(x)
    return x, numpy(gain.reshape(len(x), -1).sum(1)).astype(float)
