"""Exact conditioning by sequential Monte Carlo: many samples walk together, are weighed, and are drawn again.

SMCDiff (Trippe et al. 2023, 2206.04119) conditions on a part of the state, TDS (Wu et al. 2023, 2306.17775) on a
likelihood or a reward. Both are a hook, and a guide, around the one driver; any process whose transition has a
density will do. As the number of particles grows,
samples become exact for the chain that the denoiser and the grid define.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from inkwash.diffusion.arrays import Array, by_field, each, like, mask_like, merge, namespace, numpy, split
from inkwash.diffusion.denoiser import Condition
from inkwash.diffusion.driver import sample
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import detached, gradient, shifted
from inkwash.diffusion.noise import Noise, child_seed
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
    mask: Any = None,
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
        and they are weighed with the density of its next point under their transition. In a `ZeroCoM` field only its
        shape is known: each particle has its own place for it.
    twist: (clean prediction, t) -> (batch,), the log-likelihood or reward wanted, dicts for named fields; at the last
        time of the grid it is told the sample itself. Particles are weighed with how it grows.
    gradients: also move each step by the gradient of the twist, as TDS does, which the weights then make good; needs
        torch, and moves only fields of real numbers.
    threshold: particles are drawn again when their effective number falls below this share of `count`.
    mask: which elements there are, as in `sample`, with a row for each seed.
    condition: with a row for each seed. sampler: one that draws from its transition.

    Raises DiffusionError for a sampler without noise, a known field that is not there, known values that do not
    belong to their process, gradients without torch, and where every particle has weight 0.
    """
    if count < 1:
        raise DiffusionError(f"count = {count}: at least one particle is needed")
    fields, size = split(shape), (len(seeds), count)
    own = [child_seed(seed, k) for seed in seeds for k in range(count)]
    rows = np.arange(len(own)) // count
    grids = {n: replace(g, process=g.process.take(rows)) for n, g in each(grid, fields).items()}
    told = {key: value[rows] for key, value in (condition or {}).items()}
    masks = {n: None if m is None else m[rows] for n, m in each(mask, fields).items()}
    start = {}
    for name, one in grids.items():
        noise = Noise(own, fields[name], f"{name}/start", mask=masks[name], device=device)
        start[name] = one.process.project(one.process.prior(one[0], noise), masks[name])
    paths: dict[str, tuple[list[Array], Array]] = {}
    for name, (values, where) in (split(known) if known is not None else {}).items():
        if name not in fields:
            raise DiffusionError(f"known: there is no field '{name}', only {[*fields]}")
        noise = Noise(seeds, fields[name], f"{name}/known", device=device)
        paths[name] = _path(each(grid, fields)[name], values, where, start[name], masks[name], noise)
        start[name] = grids[name].process.merge(start[name], paths[name][0][0], paths[name][1])
    urns, log_w, before = Noise(seeds, (), "resampling"), np.zeros(size), np.zeros(size)
    ess: list[np.ndarray] = []
    ancestors: list[np.ndarray] = []
    seen: Any = None  # at the last request: states, plain predictions, the twist

    def asked(x: Any, t: Any, told: Condition | None) -> Any:
        nonlocal seen

        def score(x: Any) -> Array:
            nonlocal seen
            plain = denoise(x, t, told)
            value = np.zeros(size) if twist is None else twist(by_field(lambda p: p.x0, plain), t)
            seen = split(x), split(by_field(detached, plain) if gradients else plain), numpy(value).reshape(size)
            return value

        slopes = gradient(score, x, "particles: gradients") if gradients else {}
        if not gradients:
            score(x)
        return shifted(merge(seen[1]), t, slopes)

    def hook(steps: Any, noises: Any) -> Any:
        nonlocal log_w, before
        number, fresh, steps, noises = len(ess) + 1, {}, split(steps), split(noises)
        log_w += seen[2] - before
        for name, (path, where) in paths.items():
            law = _law(steps[name], number)
            if not law.deterministic:
                log_w += numpy(grids[name].process.log_known(law, path[number], where)).reshape(size).astype(float)
        w, u = _weights(log_w, seeds, number), numpy(urns.uniform())
        ess.append(1 / (w**2).sum(1))
        thin = ess[-1] < threshold * count
        ancestors.append(np.tile(np.arange(count), (size[0], 1)))
        for row in np.flatnonzero(thin):
            ancestors[-1][row] = residual_systematic(w[row], u[row])
        rows = (np.arange(size[0])[:, None] * count + ancestors[-1]).reshape(-1)
        log_w, before = np.where(thin[:, None], 0.0, log_w), seen[2].reshape(-1)[rows].reshape(size)
        for name, step in steps.items():
            process, x, law = grids[name].process, step.x, _law(step, number)
            index = like(rows, x, namespace(x).int64)
            if thin.any():  # those of one ancestor part at once
                law = law.take(index)
                x = namespace(x).where(mask_like(np.repeat(thin, count), x), law.sample(noises[name]), x)
            if gradients:  # log p(x_s | x_t) - log q(x_s | x_t), p the chain that nothing guides
                p = process.transition(seen[0][name], step.t, step.s, seen[1][name]).take(index)
                if p.deterministic:  # a step without noise is walked by p itself
                    x = p.mean
                else:
                    log_w += numpy((p.log_prob(x) - law.log_prob(x)).reshape(len(x), -1).sum(1)).reshape(size)
            fresh[name] = process.merge(x, paths[name][0][number], paths[name][1]) if name in paths else x
        return merge(fresh)

    states = sample(
        asked,
        shape,
        sampler,
        merge(grids),
        own,
        told,
        hooks=[hook],
        mask=None if mask is None else merge(masks),
        progress=progress,
        x=merge(start),
        device=device,
    )
    if twist is not None:
        log_w += numpy(twist(states, merge({n: grids[n][-1] for n in fields}))).reshape(size) - before
    w, u = _weights(log_w, seeds, len(ess)), numpy(urns.uniform())
    last = [min(int((np.cumsum(row) < v).sum()), count - 1) for row, v in zip(w, u, strict=True)]
    grouped = by_field(lambda x: x.reshape(*size, *x.shape[1:]), states)
    drawn = by_field(lambda x: x[list(range(size[0])), last], grouped)
    return Particles(drawn, grouped, w, np.stack(ess), np.stack(ancestors))


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


def _path(grid: Grid, values: Array, where: Array, x: Array, mask: Any, noise: Noise) -> tuple[list[Array], Array]:
    """The known part at each time of the grid, one jointly drawn path for each filter, and where it is."""
    xp, process, last = namespace(x), grid.process, grid[-1]
    where, eps = xp.broadcast_to(like(numpy(where), x, xp.bool), x.shape), process.eps(noise)
    where = where if mask is None else where & mask_like(mask, x)
    y = xp.broadcast_to(like(numpy(values), x), eps.shape)
    try:
        process.check(process.merge(0 * y, y, where[: len(y)]))
    except DiffusionError as error:
        name = noise.field.removesuffix("/known")
        raise DiffusionError(f"known values of field '{name}', shape {tuple(y.shape)}: {error}") from None
    path: list[Array] = []
    y = process.noise(y, last, eps)
    for t in reversed(grid.levels):
        y = y if t is last else process.renoise(y, last, t, process.eps(noise))
        last, path = t, [y[np.arange(len(x)) // (len(x) // len(y))], *path]
    return path, where


def _law(step: Any, number: int) -> Any:
    if step.transition is None:
        raise DiffusionError(
            f"particles, step {number}: the sampler draws nothing; take one with noise (`ancestral`)"
        )
    return step.transition


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
