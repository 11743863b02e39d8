"""Exact conditioning by sequential Monte Carlo: many samples step together, are weighted, and are resampled.

SMCDiff (Trippe et al. 2023, 2206.04119) conditions on a part of the state, TDS (Wu et al. 2023, 2306.17775) on a
likelihood or a reward; `bridge` conditions on a part in the manner of TDS. All are a hook, and a guide, around the
one driver; any process whose transition has a density will do. What each is exact for, and when, `particles` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from inkwash.diffusion import DiffusionError, Grid, Noise, NoiseLevel, Torus, ancestral, child_seed, sample
from inkwash.diffusion.arrays import Array, by_field, cast, each, host, is_tokens, like, mask_like, merge
from inkwash.diffusion.arrays import namespace, numpy, split
from inkwash.diffusion.denoiser import Condition
from inkwash.diffusion.driver import check_kinds
from inkwash.diffusion.errors import require
from inkwash.diffusion.guides import detached, gradient, shifted, trained_process
from inkwash.diffusion.options import COUNT, UNIT, checked
from inkwash.diffusion.samplers import Sampler

CLEAN = NoiseLevel(0.0, 1.0, 0.0)


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


class Disagreement(NamedTuple):
    """ratio: (statistics,), how many times as large as their own weights say the variance of filters' means is.
    limit: what chance alone rarely exceeds. excess: whether any ratio does."""

    ratio: np.ndarray
    limit: float
    excess: bool


def disagreement(result: Particles, statistic: Callable[[Any], Array] | None = None) -> Disagreement:
    """Whether F >= 3 independent filters, those of different seeds asked the same question, disagree.

    With m_i = sum_k w_ik h(x_ik), h = `statistic` from states (F K, ...) to (F K, statistics), by default all their
    numbers, ratio = var_i(m_i) / mean_i sum_k w_ik^2 (h(x_ik) - m_i)^2. Particles that were drawn independently have
    1; limit = 1 + 4 sqrt(2 / (F - 1)). More says that an ESS is not to be believed. A ratio of a few that stays as
    `count` grows: particles have few ancestors, and the errors are as much larger. One that grows with `count`: each
    filter has lost another mode, or, of SMCDiff, the chain's steps are too few (`particles`). What all filters have
    lost alike it cannot see.

    Raises DiffusionError for fewer than three filters.
    """
    w = result.weights
    require(len(w) >= 3, f"disagreement: {len(w)} filters; three or more seeds are needed")
    flat = by_field(lambda x: x.reshape(-1, *x.shape[2:]), result.states)
    values = [statistic(flat)] if statistic else [*split(flat).values()]
    h = np.concatenate([numpy(value).astype(float).reshape(*w.shape, -1) for value in values], 2)
    means = (w[..., None] * h).sum(1)
    within = (w[..., None] ** 2 * (h - means[:, None]) ** 2).sum(1).mean(0)
    between = means.var(0, ddof=1)
    ratio = np.where(between > 1e-12 * (1 + (means**2).mean(0)), between / np.maximum(within, 1e-300), 0.0)
    limit = 1 + 4 * math.sqrt(2 / (len(w) - 1))
    return Disagreement(ratio, limit, bool((ratio > limit).any()))


@checked(count=COUNT, threshold=UNIT)
def particles(
    denoise: Callable[..., Any],
    shape: Sequence[int] | Mapping[str, Sequence[int]],
    grid: Grid | Mapping[str, Grid],
    seeds: Sequence[int],
    condition: Condition | None = None,
    *,
    count: int = 64,
    known_region: Any = None,
    bridge: bool = False,
    twist: Callable[[Any, Any], Array] | None = None,
    gradients: bool = False,
    threshold: float = 0.5,
    sampler: Sampler = ancestral,
    mask: Any = None,
    progress: Callable[[int, int], None] | None = None,
    device: Any = None,
) -> Particles:
    """One sample for each seed, each from its own filter of `count` particles.

    known_region: (values, where), a part y of the clean state and where it is, both broadcast to (len(seeds),
        *shape); for named fields a dict of them. In a `ZeroCoM` field only its shape is known: each particle
        puts it elsewhere. As in SMCDiff one noised path of it, y_t ~ q(y_t | y_s) upwards from y, is put into
        all particles of a filter, and they are weighted with p(y_s | x_t), the density of its next point under
        their transition. As particles grow in number that draws from the mean over paths of p(x_0 | path), p the
        chain: of p(x_0 | y) only where the path is distributed as the chain's own, which it is in the limit of
        many steps and not before.
    bridge: instead each particle goes to y by itself, y_s ~ q(y_s | y_t, y), is weighted with
        p(x_s | x_t) / q(x_s | x_t, y), and twisted by p(y | x_t), as if y had one unit of variance: N(y; clean
        prediction, sigma^2 / (alpha^2 + sigma^2)), of tokens their own probability. As particles grow in number that
        draws from p(x_0 | y) of the chain itself, of any number of steps; its last step, where `ancestral` draws
        nothing, shows y with the noise sigma^2 / (alpha^2 + sigma^2) of its start (DDPM's beta_1).
    twist: (clean prediction, t) -> (batch,), the log-likelihood or reward wanted, dicts for named fields; at the last
        time of the grid it is given the sample itself. Particles are weighted by its growth, so the chain tilted by
        exp(reward) is the limit of many particles. A twist that tells two modes apart too late loses one of them at
        an ESS that looks healthy.
    gradients: also move each step by the gradient of the twist, as TDS does, which the weights then make good; needs
        torch, and moves only fields of real numbers.
    threshold: particles are resampled when their effective number falls below this share of `count`.
    mask: which elements there are, (len(seeds), ...), as in `sample`: the others are 0, draw nothing and weigh
        nothing. condition: with a row for each seed. sampler: one that draws from its transition.

    An ESS says what the weights of the particles that are left differ by, not what was lost: `disagreement` compares
    the filters of several seeds.

    Raises DiffusionError for a sampler without noise, a known field that is not there, known values that do not
    belong to their process, fields that do not step together, gradients without torch, and where every particle has
    weight 0.
    """
    fields, urns = split(shape), Noise(seeds, (), "resampling")
    size = (len(seeds), count)
    for n, trained in each(trained_process(denoise), fields).items():
        check_kinds(f" of field '{n}'" if n else "", fields[n], sampler, each(grid, fields)[n], trained)
    require(known_region is not None or not bridge, "bridge leads to what is known: give `known_region` too")
    require(twist is not None or bridge or not gradients, "gradients are those of a twist: give `twist` too")
    particle_seeds = [child_seed(seed, k) for seed in seeds for k in range(count)]
    filters = np.arange(len(particle_seeds)) // count
    masks = {n: None if m is None else numpy(m)[filters] for n, m in each(mask, fields).items()}
    grids = {n: replace(g, process=g.process.take(filters)) for n, g in each(grid, fields).items()}

    def rows(value: Array) -> Array:
        fits = np.shape(value)[:1] == size[:1]
        require(fits, f"a condition of shape {tuple(np.shape(value))}: a row for each of {size[0]} seeds is needed")
        return value[filters]

    conditions = {key: by_field(rows, value) for key, value in (condition or {}).items()}
    start, ends = {}, {n: g[-1] for n, g in grids.items()}
    for n, g in grids.items():
        noise = Noise(particle_seeds, fields[n], n, stream="start", mask=masks[n], device=device)
        start[n] = g.process.project(g.process.prior(g[0], noise), masks[n])
    known: dict[str, tuple[Array, Array]] = {}  # y, and where it is, for each particle
    paths: dict[str, dict[float, Array]] = {}  # y_t at each time, unless each particle has its own bridge
    for n, pair in (split(known_region) if known_region is not None else {}).items():
        require(n in fields, f"known_region: there is no field '{n}', only {[*fields]}")
        require(
            isinstance(pair, tuple) and len(pair) == 2, "known_region: a pair (values, where) is needed of each field"
        )
        known[n] = _known_values(grids[n].process, pair[0], pair[1], start[n], masks[n], size, n)
        if not bridge:
            noise = Noise(seeds, fields[n], n, stream="known", mask=each(mask, fields)[n], device=device)
            path = _noised_path(each(grid, fields)[n], known[n][0][::count], noise)
            paths[n] = {t: y[filters] for t, y in path.items()}
            start[n] = grids[n].process.merge(start[n], paths[n][grids[n][0].t], known[n][1])
    log_w, before = np.zeros(size), np.zeros(size)
    ess, ancestors = list[np.ndarray](), list[np.ndarray]()  # of each step
    last: Any = None  # at the last call of the network: states, predictions without guide, the twist
    bridge_ends = np.zeros(size)  # log p(y | x_t) of the bridges' last steps

    def per_particle(x: Array) -> np.ndarray:
        values = numpy(x).astype(float)
        require(
            values.size == len(particle_seeds),
            f"a twist of shape {values.shape}: one number for each particle is needed",
        )
        return values.reshape(size)

    def denoise_and_score(x: Any, t: Any, condition: Condition | None) -> Any:

        def score(x: Any) -> Array:
            nonlocal last
            states, levels, plain = split(x), split(t), split(denoise(x, t, condition))
            for n, p in plain.items():
                x0 = p.x0 if is_tokens(states[n]) else cast(p.x0, states[n].dtype)
                plain[n] = p._replace(x0=grids[n].process.project(x0, masks[n]))
            terms = [] if twist is None else [twist(merge({n: p.x0 for n, p in plain.items()}), t)]
            for n, (y, where) in known.items() if bridge else ():
                clean = grids[n].process.transition(states[n], levels[n], CLEAN, plain[n])
                terms.append(grids[n].process.log_known(_with_start_noise(clean, levels[n]), y, where))
            value = sum(terms) if terms else np.zeros(size)
            last = states, {n: detached(p) for n, p in plain.items()} if gradients else plain, per_particle(value)
            return value

        slopes = gradient(score, x, "particles: gradients") if gradients else {}
        if not gradients:
            score(x)
        predictions = split(shifted(merge(last[1]), t, slopes))
        for n, (y, where) in known.items() if bridge else ():
            process, x0 = grids[n].process, predictions[n].x0
            if isinstance(process, Torus):  # the image of y that is nearest to x_t
                y = y + process.period * namespace(y).round((last[0][n] - y) / process.period)
            x0 = process.merge(x0, like(process.delta(y).x0, x0), mask_like(where, x0))
            predictions[n] = predictions[n]._replace(x0=x0)
        return merge(predictions)

    def hook(steps: Any, noises: Any) -> Any:
        nonlocal log_w, before, bridge_ends
        number, fresh, steps, noises = len(ess) + 1, {}, split(steps), split(noises)
        apart = f"particles, step {number}: give the grids of all fields {[*fields]} the same times"
        require(steps.keys() == fields.keys(), apart)
        log_w += last[2] - before
        for n, path in paths.items():
            transition = _transition(steps[n], number)
            if not transition.deterministic:
                log_w += per_particle(grids[n].process.log_known(transition, path[steps[n].s.t], known[n][1]))
        w, u = _weights(log_w, seeds, number), numpy(urns.uniform())
        ess.append(1 / (w**2).sum(1))
        resampled = ess[-1] < threshold * count
        ancestors.append(np.tile(np.arange(count), (size[0], 1)))
        for row in np.flatnonzero(resampled):
            ancestors[-1][row] = residual_systematic(w[row], u[row])
        rows = (np.arange(size[0])[:, None] * count + ancestors[-1]).reshape(-1)
        log_w, before = np.where(resampled[:, None], 0.0, log_w), last[2].reshape(-1)[rows].reshape(size)
        for n, step in steps.items():
            process, transition, xp = grids[n].process, _transition(step, number), namespace(step.x)
            index, at_end = like(rows, step.x, xp.int64), step.s == ends[n]
            y, where = known.get(n, (step.x, xp.zeros_like(step.x, dtype=xp.bool)))
            transition = transition.take(index)
            x = transition.sample(noises[n])  # anew for all: whether one filter resamples, no other can tell
            if gradients or bridge:  # p(x_s | x_t) / q(x_s | x_t), p the chain that nothing guides
                p = process.transition(last[0][n], step.t, step.s, last[1][n]).take(index)
                if p.deterministic:  # a step without noise is p's own
                    x = p.mean
                else:
                    ratio = p.log_prob(x) - transition.log_prob(x)
                    real = xp.ones_like(where) if masks[n] is None else mask_like(masks[n], x)
                    real = real & ~where if at_end and bridge else real
                    log_w += per_particle(xp.where(real, ratio, 0.0).reshape(len(x), -1).sum(1))
                if at_end and bridge and n in known:
                    bridge_ends += per_particle(process.log_known(_with_start_noise(p, step.t), y, where))
            inserted = paths[n][step.s.t] if n in paths else y if at_end else None
            fresh[n] = x if inserted is None else process.merge(x, inserted, where)
        return merge(fresh)

    options = {"hooks": [hook], "progress": progress, "x": merge(start), "device": device}
    options |= {} if mask is None else {"mask": merge(masks)}
    states = sample(denoise_and_score, shape, sampler, merge(grids), particle_seeds, conditions, **options)
    log_w += bridge_ends - before + (0.0 if twist is None else per_particle(twist(states, merge(ends))))
    w, u = _weights(log_w, seeds, len(ess)), numpy(urns.uniform())
    chosen = [min(int((np.cumsum(row) < v).sum()), count - 1) for row, v in zip(w, u, strict=True)]
    grouped = by_field(lambda x: x.reshape(*size, *x.shape[1:]), states)
    x = by_field(lambda x: x[list(range(size[0])), chosen], grouped)
    return Particles(x, grouped, w, np.stack(ess), np.stack(ancestors))


def residual_systematic(weights: np.ndarray, u: float) -> np.ndarray:
    """As many ancestors as weights (which add up to 1), in ascending order: floor(n w) of each, and the remainder
    systematically by the fractional parts of n w, from one uniform number. The mean number of each is n w."""
    n, scaled = len(weights), weights * (len(weights) / weights.sum())
    copies = np.floor(scaled + 1e-9).astype(int)
    remainder = n - int(copies.sum())
    if remainder:
        ends = np.cumsum(np.clip(scaled - copies, 0, None))
        extra = np.searchsorted(ends, (np.arange(remainder) + u) / remainder * ends[-1])
        copies += np.bincount(np.minimum(extra, n - 1), minlength=n)
    return np.repeat(np.arange(n), copies)


def _known_values(
    process: Any, values: Any, where: Any, x: Array, mask: Any, size: Any, name: str
) -> tuple[Array, Array]:
    """The known values for each particle, and where they are; x is a state of all particles."""
    xp, count = namespace(x), size[1]
    shape, rows = (size[0], *x.shape[1:]), np.arange(len(x)) // count
    try:
        y = xp.broadcast_to(like(numpy(values), x), shape)[rows]
        where = xp.broadcast_to(like(numpy(where), x, xp.bool), shape)[rows]
        where = where if mask is None else where & mask_like(mask, x)
        process.check(host(process.merge(0 * y, y, where)))
    except (ValueError, RuntimeError) as error:
        raise DiffusionError(f"known values of field '{name}', shape {shape}: {error}") from None
    return y, where


def _noised_path(grid: Grid, y: Array, noise: Noise) -> dict[float, Array]:
    """y_t at each time t of the grid, one jointly drawn path for each filter."""
    process, last = grid.process, grid[-1]
    path = {last.t: process.noise(y, last, process.eps(noise))}
    for t in reversed(grid.levels[:-1]):
        path[t.t] = process.postprocess(process.renoise(path[last.t], last, t, process.eps(noise)))
        last = t
    return path


def _with_start_noise(transition: Any, t: NoiseLevel) -> Any:
    """p(x_s | x_t), with the noise that data of variance 1 have at x_t where the chain itself draws nothing."""
    return replace(transition, std=t.sigma / math.hypot(t.alpha, t.sigma)) if transition.deterministic else transition


def _transition(step: Any, number: int) -> Any:
    still = f"particles, step {number}: the sampler draws nothing; take one with noise (`ancestral`)"
    require(step.transition is not None, still)
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
