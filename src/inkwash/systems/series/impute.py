"""Gaps of a table filled by sample paths that begin at what lies before a gap and end at what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from inkwash import diffusion
from inkwash.systems.series import transforms
from inkwash.systems.series.data import Series

FOLLOWING = 4  # values after a gap that are looked at; of a random walk the first says all
LEAST = 100  # paths, from which the covariance with what follows is estimated


class Chunk(NamedTuple):
    """Rows of a table from `start` up to `end`, the first at which series that were missing are back (or the end of
    the table), and which series those are, (D,)."""

    start: int
    end: int
    back: np.ndarray


def chunks(missing: np.ndarray, first: int) -> Iterator[Chunk]:
    """The parts of all gaps in a table (T, D) from row `first` on, in order."""
    length = len(missing)
    gaps = np.flatnonzero(missing.any(1))
    back = missing & ~np.concatenate([missing[1:], missing[-1:]])  # of the next row
    returns = np.flatnonzero(back.any(1)) + 1
    start = first
    while (later := gaps[gaps >= start]).size or (start > first and start < length and missing[start - 1].any()):
        start = start if start > first and missing[start - 1].any() else int(later[0])
        end = int(next(iter(returns[returns >= max(start, first + 1)]), length))
        yield Chunk(start, end, back[end - 1] & (end < length))
        start = end + 1


def fill(
    forecaster: Any,
    series: Series,
    samples: int,
    seed: int,
    sampler: str | None = None,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    first: int | None = None,
) -> np.ndarray:
    """Paths (S, T, D) of a table (T, D): what was observed, and in the gaps from row `first` on what was drawn.

    Each gap is drawn as a forecast is, series that are there held by the hook `known_region`, and on over the next
    values. Then every path x is moved by what it missed them by: x + C V^-1 (observed - x of the same steps), V the
    covariance of those steps, C that of x with them (pathwise conditioning, exact for normal laws: Matheron's rule).
    Of random walks C V^-1 is known, the share of the gap that is past, which makes them Brownian bridges; of other
    series it is estimated from the paths. What was observed in one series moves no other that is still missing.
    """
    config, raw = forecaster.config, series.values.to_numpy(np.float64)
    missing = np.isnan(raw)
    first = config.history if first is None else first
    reach = config.context + max(config.lags)
    requested, samples = samples, samples if config.random_walk else max(samples, LEAST)
    out = np.repeat(transforms.interpolate(raw)[None], samples, axis=0)
    covariates = forecaster.tensor(transforms.covariates(series, config, 0))
    observed = forecaster.tensor(~missing)
    sample_step = forecaster.step_sampler(sampler, steps)
    reference = transforms.statistics(config, forecaster.network, raw)
    parts = list(chunks(missing, first))
    for done, (start, end, back) in enumerate(parts):
        following = (1 if config.random_walk else FOLLOWING) if back.any() else 0
        rows = slice(start, min(end + following, len(raw)))
        known = raw[rows].copy()
        known[end - start :, back] = np.nan  # drawn freely, to be compared
        seeds = [diffusion.child_seed(seed, done, path) for path in range(samples)]
        with torch.no_grad():
            history = forecaster.encode_history(
                forecaster.tensor(out[:, max(0, start - reach) : start]), observed, covariates, start,
                rows.stop - start, reference,
            )  # fmt: skip
            known_region = forecaster.tensor(known)
            drawn = forecaster.unroll([history], seeds, len(known), sample_step, reference, known_region=known_region)
        inside = slice(start, min(end + 1, len(raw)))
        out[:, inside] = np.where(missing[inside], drawn[:, : inside.stop - start], raw[inside])
        for d in np.flatnonzero(back):
            begin = max(int(np.flatnonzero(~missing[:end, d])[-1:].sum()) + 1, first)
            there = ~missing[end : rows.stop, d]
            free = drawn[:, end - start :, d][:, there]
            gap = out[:, begin:end, d]
            errors = raw[end : rows.stop, d][there] - free
            gap += errors @ (bridge_gain(end - begin) if config.random_walk else estimated_gain(gap, free))
            if not config.random_walk:  # as wide as if the gain had been estimated from other paths
                gap += (gap - gap.mean(0)) * free.shape[1] / samples
            if config.random_walk and missing[begin:end].all() and back.all():
                mirror_pairs(gap, out[:, begin - 1, d], raw[end, d])
        if config.lower_bound is not None:
            out[:, start:end] = out[:, start:end].clip(config.lower_bound)
        if progress is not None:
            progress(done + 1, len(parts))
    return np.where(missing, out, raw)[:requested]


def mirror_pairs(gap: np.ndarray, before: np.ndarray, after: float) -> None:
    """Makes every second bridge (S, L) the mirror image of the one before it, about the straight line from what lies
    `before` (S,) to what lies `after`: both are as likely, and their median is the line, without chance."""
    shares = np.arange(1, gap.shape[1] + 1) / (gap.shape[1] + 1)
    lines = before[:, None] + shares * (after - before[:, None])
    pairs = len(gap) // 2 * 2
    gap[1:pairs:2] = lines[1:pairs:2] - (gap - lines)[:pairs:2]


def bridge_gain(steps: int) -> np.ndarray:
    """(1, L): by how much of an error at its end a random walk was wrong at each of the steps before."""
    return np.arange(1, steps + 1)[None] / (steps + 1)


def estimated_gain(gap: np.ndarray, following: np.ndarray) -> np.ndarray:
    """(M, L): V^-1 C, of the covariances of paths in the gap (S, L) and of the steps that follow it (S, M)."""
    gap, following = gap - gap.mean(0), following - following.mean(0)
    inner = following.T @ following
    ridge = 1e-3 * max(inner.trace() / len(inner), 1e-30) * np.eye(len(inner))
    return np.asarray(np.linalg.solve(inner + ridge, following.T @ gap))
