"""Exponential smoothing of many short series, each of which learns from all (empirical Bayes: Robbins 1956).

A series of two dozen rows cannot tell its parameters, nor a season it has seen twice; two hundred such series can
tell which parameters and which seasons series of their kind have. The prior of `ets` over the G points of its grid,
and the correlation V of the m phases of the first season s, are learned by EM from D series together:

    w_g = (BELIEF / G + sum_i p(g | y_i)) / (BELIEF + D)
    V ~ BELIEF I + sum_i m E[s_i s_i' | y_i] / tr E[s_i s_i' | y_i]

so that few series change little. V is a shape alone, each series' scatter over its size, since the grid has the sizes
(Tyler 1987). A season that all have in common is a large eigenvalue of V, and a series that is new knows it at once.

Errors of a step are as correlated as those of the past, so that sums have the right width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from inkwash.systems.series import ets
from inkwash.systems.series.baselines import last_value, spans

FEWEST = 8  # series that are pooled
SHORT = 120  # rows: of more than these a series says enough for itself
BELIEF = 20.0  # series whose word weighs as much as that of a prior that knows nothing
STEPS = 6  # of EM
TEMPER = 0.5  # the power of w: the next step, which it is learned from, is not the whole horizon
MOST, MOST_GROUPS = 200, 16  # series to learn from, and spans of time


class Group(NamedTuple):
    """Series that begin and end together: the first row, the row after the last, which (D,), and values (T, D')."""

    first: int
    end: int
    which: np.ndarray
    history: np.ndarray


def is_pooled(length: int, dims: int, season: int) -> bool:
    """Whether series are many and short, but of half their season's phases seen twice."""
    return dims >= FEWEST and 1.5 * season <= length <= SHORT


def pooled_ets(
    values: np.ndarray, horizon: int, samples: int, rng: np.random.Generator, season: int = 1
) -> np.ndarray:
    """Paths (S, H, D) after series (T, D), NaN where nothing was observed; 0 of a series without a value."""
    values = values[-ets.LONGEST :]
    grid = ets.make_grid(season if season <= min(len(values), ets.LONGEST_SEASON) else 1)
    groups = [
        Group(first, end, which, np.ascontiguousarray(pd.DataFrame(values[first:end, which]).interpolate()))
        for first, end, which in spans(values)
    ]
    prior, errors = learn(grid, groups), np.full(values.shape, np.nan)
    for group in groups:
        errors[group.first : group.end, group.which] = past_errors(grid, turned(prior, group.first), group.history)
    farthest = horizon + max((len(values) - group.end for group in groups), default=0)
    noise = rng.standard_normal((-(-samples // 2), farthest, values.shape[1])) @ joint_factor(errors).T
    drawn = np.zeros((samples, horizon, values.shape[1]))
    for group in groups:
        ahead = horizon + len(values) - group.end
        if len(group.history) > 2:
            own = noise[:, farthest - ahead :, group.which]
            found = ets.draw_all(grid, turned(prior, group.first), group.history, own, rng)[:samples]
        else:
            found = last_value(group.history, ahead, samples, rng)
        drawn[..., group.which] = found[:, ahead - horizon :]
    return drawn


def turned(prior: ets.Prior, first: int) -> ets.Prior:
    """The prior of series that begin at a row: their season's first phase is that of the row."""
    season = len(prior.root) - 2
    rows = [0, 1, *(2 + (first + np.arange(season)) % max(season, 1))]
    return ets.Prior(prior.weights, prior.root[rows])


def learn(grid: ets.Grid, groups: list[Group]) -> ets.Prior:
    """The prior of all series, at their row 0; from the largest groups, where there are more than are needed."""
    shape = (2, len(grid.alpha))
    prior = ets.Prior(np.full(shape, -np.log(2 * len(grid.alpha))), np.eye(grid.deviation.shape[1]))
    season = len(prior.root) - 2
    parts = [(group.first, part) for group in groups for part in learned_from(group, season)]
    parts = sorted(parts, key=lambda each: each[1].size, reverse=True)[:MOST_GROUPS]
    for _ in range(STEPS):
        points, scatter = np.zeros(shape), np.zeros((season, season))
        for first, part in parts:
            root = turned(prior, first).root
            columns = ets.as_columns(part)
            found = ets.fit(grid, columns.y, root)
            posterior = ets.log_posterior(prior, found, columns)
            posterior = np.exp(posterior - posterior.max((0, 1)))
            posterior /= posterior.sum((0, 1))
            points += posterior.sum(2)
            if season:
                scatter += season_scatter(grid, found, columns, posterior)
        weights = np.log((BELIEF / points.size + points) / (BELIEF + points.sum()))
        prior = ets.Prior(weights, season_root(prior.root, scatter))
    return ets.Prior(TEMPER * prior.weights, prior.root)


def learned_from(group: Group, season: int) -> list[np.ndarray]:
    """The series of a group that move, evenly chosen where they are many, in parts that fit into memory; none of less
    than a season and a half, of which a season of its own would explain all."""
    moving = group.history[:, (np.ptp(group.history, axis=0) > 0) & (len(group.history) >= max(1.5 * season, 3))]
    chosen = moving[:, :: -(-max(moving.shape[1], 1) // MOST)]
    return [chosen[:, k : k + ets.SERIES_AT_ONCE] for k in range(0, chosen.shape[1], ets.SERIES_AT_ONCE)]


def season_scatter(grid: ets.Grid, found: ets.Posterior, columns: ets.Columns, posterior: np.ndarray) -> np.ndarray:
    """(m, m): the sum over the series of the scatter of their first season, in units of the prior's root, each over
    its size, by the probability (2, G, D) of points that have a season."""
    seasonal = grid.deviation[:, 2] > 0
    weights = np.concatenate([posterior[0], posterior[1][:, columns.positive]], axis=1)[seasonal]  # (G, C)
    inverse, mean = np.linalg.inv(found.factor[seasonal]), found.mean[seasonal, 2:]
    covariance = (inverse.mT @ inverse)[:, 2:, 2:]
    scaled = mean * np.sqrt(weights * len(columns.y) / found.squares[seasonal])[:, None]  # sigma^-2 is T / squares
    scatter = np.einsum("gid,gjd->dij", scaled, scaled, optimize=True)
    scatter += np.tensordot(weights.T, covariance, axes=1)
    share, size = weights.sum(0), np.trace(scatter, axis1=1, axis2=2)
    total: np.ndarray = (scatter * (share * scatter.shape[1] / np.maximum(size, 1e-300))[:, None, None]).sum(0)
    return total


def season_root(root: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """The root with the season that a scatter in its units says, of mean variance 1."""
    if not len(scatter):
        return root
    old, new = root[2:, 2:], root.copy()
    covariance = BELIEF * np.eye(len(old)) + old @ scatter @ old.T
    new[2:, 2:] = np.linalg.cholesky(covariance * len(old) / np.trace(covariance))
    return new


def past_errors(grid: ets.Grid, prior: ets.Prior, history: np.ndarray) -> np.ndarray:
    """The errors (T, D) of each step of series (T, D), each at its most probable point; NaN of one or two rows."""
    errors = np.full(history.shape, np.nan)
    for first in range(0, history.shape[1] if len(history) > 2 else 0, ets.SERIES_AT_ONCE):
        part = slice(first, first + ets.SERIES_AT_ONCE)
        columns = ets.as_columns(history[:, part])
        found = ets.fit(grid, columns.y, prior.root)
        posterior = ets.log_posterior(prior, found, columns)
        dims = np.arange(posterior.shape[2])
        which, points = np.divmod(posterior.reshape(-1, len(dims)).argmax(0), len(grid.alpha))
        column = np.where(which, len(dims) + columns.positive.searchsorted(dims), dims)
        state = (grid.deviation[points] * found.mean[points, :, column] @ prior.root.T)[..., None]
        parameters = tuple(each[points] for each in grid[:4])
        for t, value in enumerate(columns.y[:, column]):
            error = value[:, None] - ets.expected(parameters, state, t)
            ets.step(parameters, state, t, error)
            errors[t, part] = error[:, 0]
    return errors


def joint_factor(errors: np.ndarray) -> np.ndarray:
    """The Cholesky factor (D, D) of the correlation of errors (T, D), NaN where there are none, shrunk to the mean
    correlation, more so the fewer rows there are: of many series that is what the width of their sum is made of."""
    dims = errors.shape[1]
    scaled = np.nan_to_num(errors / np.sqrt(np.nansum(errors**2, axis=0) + 1e-300))
    correlation = scaled.T @ scaled
    mean = np.clip((correlation.sum() - np.trace(correlation)) / max(dims * (dims - 1), 1), 0, 0.99)
    share = len(errors) / (len(errors) + dims + 1)
    correlation = share * correlation + (1 - share) * mean
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(np.linalg.cholesky(correlation))
