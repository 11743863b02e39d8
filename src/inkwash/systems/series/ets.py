"""Exponential smoothing in state space, averaged over its parameters: of use from a dozen rows on.

    y_t = l_{t-1} + phi b_{t-1} + s_{t-m} + e_t,    e_t ~ N(0, sigma^2)
    l_t = l_{t-1} + phi b_{t-1} + alpha e_t,    b_t = phi b_{t-1} + beta e_t,    s_t = s_{t-m} + gamma e_t

(Hyndman, Koehler, Ord and Snyder 2008, chapter 3). Given alpha, beta, gamma and phi the errors are linear in
the first state, whose prior is N(0, sigma^2 V): its posterior, that of sigma and the evidence are those of Bayesian
linear regression. A path draws its parameters from a grid by their posterior, then sigma and the first state by
theirs, then its errors, so that the band is as wide as what a few rows cannot tell. Series that are positive are also
taken as logarithms, whose errors, trends and seasons are products; the evidence weighs the two.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

LONGEST = 300  # rows that are looked at: the last ones
LONGEST_SEASON = 60  # of longer ones there is no season: the state has a number for each of its steps
SERIES_AT_ONCE = 32  # the errors of each at each point of the grid are in memory
ALPHAS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)
# (beta / alpha, phi, deviation of the first slope in sigmas): a level, a line, trends that fade, and levels that come
# back as an AR(1) does, which is beta = -alpha (1 - phi) / phi
TRENDS = (
    (0.0, 1.0, 0.0),
    (0.0, 1.0, 0.15),
    (0.1, 0.9, 0.2),
    (0.3, 0.9, 0.3),
    *((1 - 1 / phi, phi, 0.0) for phi in (0.5, 0.8, 0.95)),
)
# gamma, deviation of the first season in sigmas: none, weak and strong ones that stay, and ones that change
SEASONS = ((0.0, 0.0), (0.0, 1.0), (0.0, 3.0), (0.0, 10.0), (0.1, 3.0), (0.1, 10.0), (0.3, 3.0))
LEVEL = 100.0  # deviation of the first level, in sigmas
GROWTH = 10.0  # logarithms: no path grows beyond e^10 times the largest value, as it might in a thousand steps
WIDER = 8.0  # errors of T rows are sqrt(1 + WIDER / T) times as wide: no law of the grid is quite the right one


class Grid(NamedTuple):
    """Parameters (G, 1), and the prior deviations (G, K) of the first state: level, slope, season by its phase."""

    alpha: np.ndarray
    beta: np.ndarray
    phi: np.ndarray
    gamma: np.ndarray
    deviation: np.ndarray


class Prior(NamedTuple):
    """Before any value: log weights (2, G) of the points for a series itself and for its logarithms, and the Cholesky
    factor (K, K) of the correlation of its first states. `pooled` learns one; else all points weigh the same."""

    weights: np.ndarray
    root: np.ndarray


class Posterior(NamedTuple):
    """Of D series at each point of a grid: log evidence and residual sums of squares (G, D), mean first states
    (G, K, D) in units of their prior, the Cholesky factor (G, K, K) of their precision, and the last states: from a
    first one of zero (G, K, D), and what the first one adds (G, K, K)."""

    evidence: np.ndarray
    squares: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    last: np.ndarray
    added: np.ndarray


def make_grid(season: int) -> Grid:
    """All points; a season of 1 is none."""
    points = [
        (alpha, alpha * ratio, phi, gamma, LEVEL, slope, *[size] * (season if season > 1 else 0))
        for alpha, (ratio, phi, slope), (gamma, size) in product(ALPHAS, TRENDS, SEASONS[: None if season > 1 else 1])
    ]
    columns = np.array(points)
    alpha, beta, phi, gamma = (columns[:, [k]] for k in range(4))
    return Grid(alpha, beta, phi, gamma, columns[:, 4:])


def step(parameters: tuple[np.ndarray, ...], state: np.ndarray, t: int, error: np.ndarray) -> None:
    """Moves states (N, K, C), whose next value is `expected`, on by the error (N, C) of step t."""
    alpha, beta, phi, gamma = parameters
    slope = phi * state[:, 1]
    state[:, 0] += slope + alpha * error
    state[:, 1] = slope + beta * error
    if state.shape[1] > 2:
        state[:, 2 + t % (state.shape[1] - 2)] += gamma * error


def expected(parameters: tuple[np.ndarray, ...], state: np.ndarray, t: int) -> np.ndarray:
    """(N, C): the mean of step t."""
    level: np.ndarray = state[:, 0] + parameters[2] * state[:, 1]
    return level + state[:, 2 + t % (state.shape[1] - 2)] if state.shape[1] > 2 else level


def smooth(grid: Grid, y: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors (G, T, C) and last states (G, K, C) of columns y (T, C) from first states (K, C)."""
    state = np.repeat(first[None], len(grid.alpha), axis=0)
    errors = np.empty((len(state), *y.shape))
    for t, value in enumerate(y):
        errors[:, t] = value - expected(grid[:4], state, t)
        step(grid[:4], state, t, errors[:, t])
    return errors, state


def flat_prior(grid: Grid) -> Prior:
    return Prior(np.zeros((2, len(grid.alpha))), np.eye(grid.deviation.shape[1]))


def fit(grid: Grid, y: np.ndarray, root: np.ndarray | None = None) -> Posterior:
    """The posterior of series y (T, D), whose first states have the covariance (deviation root) (deviation root)'."""
    states = grid.deviation.shape[1]
    root = np.eye(states) if root is None else root
    design, added = smooth(grid, np.zeros((len(y), states)), root)
    residual, last = smooth(grid, y, np.zeros((states, y.shape[1])))
    design, added = -design * grid.deviation[:, None], added * grid.deviation[:, None]
    precision, right = design.mT @ design + np.eye(states), design.mT @ residual
    factor, mean = np.linalg.cholesky(precision), np.linalg.solve(precision, right)
    squares = (residual**2).sum(1) - (right * mean).sum(1)
    squares = np.maximum(squares, 1e-9 * (y**2).sum(0) + 1e-300)  # of rounding alone, where nothing is left
    volume = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1, keepdims=True)
    return Posterior(-volume - len(y) / 2 * np.log(squares), squares, mean, factor, last, added)


def draw(
    grid: Grid, found: Posterior, points: np.ndarray, column: int, steps: int, noise: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Paths (2 N, H) of a column after its `steps` steps, of parameters at the points (N,) and normal noise (N, H),
    each followed by its antithetic one."""
    variance = found.squares[points, column] / rng.chisquare(steps, len(points))
    sigma = np.sqrt((1 + WIDER / steps) * variance)[:, None]
    normal = rng.standard_normal((len(points), grid.deviation.shape[1]))
    apart = np.linalg.solve(found.factor[points].mT, (sigma * normal)[..., None])[..., 0]
    first = found.mean[points, :, column][..., None] + np.stack([apart, -apart], axis=-1)
    state = found.last[points, :, column][..., None] + found.added[points] @ first  # (N, K, 2)
    errors = (sigma * noise)[..., None] * [1, -1]
    parameters = tuple(each[points] for each in grid[:4])
    paths = np.empty((len(points), 2, noise.shape[1]))
    for h in range(noise.shape[1]):
        paths[..., h] = expected(parameters, state, steps + h) + errors[:, h]
        step(parameters, state, steps + h, errors[:, h])
    return paths.reshape(-1, noise.shape[1])


def ets(history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator, season: int = 1) -> np.ndarray:
    """Paths (S, H, D) after a history (T, D), two antithetic ones of each draw. Errors of a step are as correlated
    as the changes of the series are."""
    recent, half = history[-LONGEST:], -(-samples // 2)
    season = season if season <= min(len(recent), LONGEST_SEASON) else 1
    noise = rng.standard_normal((half, horizon, history.shape[1])) @ correlation_factor(recent, season).T
    grid = make_grid(season)
    return draw_all(grid, flat_prior(grid), recent, noise, rng)[:samples]


def draw_all(grid: Grid, prior: Prior, recent: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paths (2 N, H, D) of any number of series by noise (N, H, D)."""
    paths = np.empty((2 * len(noise), *noise.shape[1:]))
    for first in range(0, recent.shape[1], SERIES_AT_ONCE):
        part = slice(first, first + SERIES_AT_ONCE)
        paths[..., part] = of_columns(grid, prior, recent[:, part], noise[..., part], rng)
    return paths


class Columns(NamedTuple):
    """D series and the logarithms of those that are `positive` (P,), as y (T, D + P) about their `middle` and in
    units of their changes' `size` (D + P,); and the log `density` (D + P,) that makes those of y those of the values.
    """

    y: np.ndarray
    middle: np.ndarray
    size: np.ndarray
    positive: np.ndarray
    density: np.ndarray


def as_columns(recent: np.ndarray) -> Columns:
    positive = np.flatnonzero((recent > 0).all(0))
    y = np.concatenate([recent, np.log(recent[:, positive])], axis=1)
    middle = y.mean(0)
    y = y - middle
    size = np.sqrt((np.diff(y, axis=0) ** 2).mean(0))
    size[size == 0] = 1.0
    density = -len(y) * np.log(size)
    density[recent.shape[1] :] -= np.log(recent[:, positive]).sum(0)
    return Columns(y / size, middle, size, positive, density)


def log_posterior(prior: Prior, found: Posterior, columns: Columns) -> np.ndarray:
    """(2, G, D) up to a constant of each series: of the points for itself and for its logarithms, if it has any."""
    evidence, dims = found.evidence + columns.density, len(columns.density) - len(columns.positive)
    both = np.full((2, len(evidence), dims), -np.inf)
    both[0], both[1][:, columns.positive] = evidence[:, :dims], evidence[:, dims:]
    return np.asarray(both + prior.weights[..., None])


def of_columns(
    grid: Grid, prior: Prior, recent: np.ndarray, noise: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """`draw_all`, of as many series as fit into memory."""
    columns = as_columns(recent)
    found = fit(grid, columns.y, prior.root)
    posterior = log_posterior(prior, found, columns)
    paths = np.empty((2 * len(noise), *noise.shape[1:]))
    for d in range(recent.shape[1]):
        weights = np.exp(posterior[..., d] - posterior[..., d].max()).ravel()
        which, points = np.divmod(rng.choice(len(weights), len(noise), p=weights / weights.sum()), len(grid.alpha))
        for k, column in enumerate([d, recent.shape[1] + int(columns.positive.searchsorted(d))]):
            rows, pairs = np.flatnonzero(which == k), np.repeat(which == k, 2)
            if not len(rows):
                continue
            drawn = draw(grid, found, points[rows], column, len(recent), noise[rows, :, d], rng)
            middle, size = columns.middle[column], columns.size[column]
            drawn, largest = middle + size * drawn, middle + size * columns.y[:, column].max()
            paths[pairs, :, d] = np.exp(np.minimum(drawn, largest + GROWTH)) if k else drawn
    return paths


def correlation_factor(recent: np.ndarray, season: int) -> np.ndarray:
    """The Cholesky factor (D, D) of the correlation of the changes, freed of the season where there are two, and
    shrunk to the diagonal, more so the fewer rows there are."""
    apart = recent[season:] - recent[:-season] if len(recent) > 2 * season > 2 else recent
    changes = np.diff(apart, axis=0)
    changes = changes / (np.sqrt((changes**2).mean(0)) + 1e-300)
    share = len(changes) / (len(changes) + recent.shape[1] + 1)
    correlation = share * changes.T @ changes / len(changes)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(np.linalg.cholesky(correlation))
