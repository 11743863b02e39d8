"""What covariates that are known in advance add to a series, by a ridge regression of its differences.

    y_t = x_t beta + n_t,    y_t - y_{t-m} = (x_t - x_{t-m}) beta + errors

Simple forecasts are fitted to n, and x beta is added to their paths. m is a season or one step, whichever difference
is the smaller: what a season or a slow level is, is then no effect of x. Of positive series y may be the logarithm.
That, and the ridge, are chosen by leaving out one row after the other; the last ridge is infinite, no effect at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, np.inf)  # in units of the mean squared singular value
ROWS = 10  # differences that there must be for each covariate
LARGEST = 10.0  # of logarithms: no effect is a factor of more than e^10


class Covariates(NamedTuple):
    """Values (T + ahead, C), and which of them concern each series (D, C)."""

    values: np.ndarray
    concern: np.ndarray


class Effect(NamedTuple):
    """The mean (C,) of beta, a factor (C, R) of its covariance, what x is compared with (C,): its mean over the last
    m rows; the mean squared error of rows that were left out, and whether y is a logarithm."""

    mean: np.ndarray
    factor: np.ndarray
    reference: np.ndarray
    error: float = np.inf
    is_log: bool = False


def fit_effect(y: np.ndarray, x: np.ndarray, season: int) -> Effect:
    """Of y (T,), NaN where nothing was observed, and x (T, C)."""
    differences = [y[lag:] - y[:-lag] for lag in {1, season} if 2 * lag < len(y)]
    differences = [each for each in differences if np.isfinite(each).sum() > ROWS * x.shape[1]]
    if not differences:
        return Effect(np.zeros(x.shape[1]), np.zeros((x.shape[1], 1)), np.zeros(x.shape[1]))
    dy = min(differences, key=lambda each: float(np.nanvar(each)))
    lag = len(y) - len(dy)
    there = np.isfinite(dy)
    dx = (x[lag:] - x[:-lag])[there]
    dx, dy = dx - dx.mean(0), dy[there] - dy[there].mean()
    size = dx.std(0)
    size[size < 1e-9] = np.inf  # what never changed: its effect is not known, and taken to be none
    left, singular, right = np.linalg.svd(dx / size, full_matrices=False)
    square, projected = singular**2, left.T @ dy

    def left_out(ridge: float) -> float:
        """The mean squared error of each row by a regression on the others."""
        shrunk = square / (square + ridge * square.mean() + 1e-12)
        leverage = (left**2 * shrunk).sum(1) + 1 / len(dy)
        return float(np.mean(((dy - left @ (shrunk * projected)) / (1 - leverage).clip(1e-3)) ** 2))

    best = min(RIDGES, key=left_out)
    ridge = best * square.mean() + 1e-12
    back = right.T / size[:, None]  # from the directions of the regression to beta
    mean = back @ (singular / (square + ridge) * projected)
    deviation = np.sqrt(np.mean((dy - dx @ mean) ** 2) / (square + ridge)) * (singular > 1e-9)
    return Effect(mean, back * deviation, x[-lag:].mean(0), left_out(best))


def choose_effect(values: np.ndarray, x: np.ndarray, season: int) -> Effect:
    """Of values (T,) or, where they are positive, of their logarithms, whichever has the smaller error in their own
    units (Box and Cox 1964: a logarithm's, times the geometric mean)."""
    found = fit_effect(values, x, season)
    if (values <= 0).any():  # gaps are no reason against
        return found
    logs = np.log(values)
    other = fit_effect(logs, x, season)
    return other._replace(is_log=True) if other.error * np.exp(2 * np.nanmean(logs)) < found.error else found


def remove_effects(
    values: np.ndarray, covariates: Covariates, season: int
) -> tuple[np.ndarray, Callable[[np.ndarray, np.random.Generator], np.ndarray]]:
    """Values (T, D) without what the covariates (their rows up to the last step ahead) add; and a function that adds
    it to paths (S, H, D) of the steps after them, of which each pair draws a beta and its mirror image."""
    known, (steps, dims) = covariates.values, values.shape
    removed = values.copy()
    effects: dict[int, tuple[np.ndarray, Effect]] = {}
    for d in range(dims):
        x = known[:, covariates.concern[d]]
        if x.shape[1] and np.isfinite(values[:, d]).any():
            found = choose_effect(values[:, d], x[:steps], season)
            added = x[:steps] @ found.mean
            removed[:, d] = values[:, d] / grown(added) if found.is_log else values[:, d] - added
            effects[d] = x[steps:], found

    def add(paths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        out, half = paths.copy(), -(-len(paths) // 2)
        for d, (ahead, effect) in effects.items():
            noise = rng.standard_normal((half, effect.factor.shape[1]))
            beta = np.stack([noise, -noise], 1).reshape(2 * half, -1)[: len(paths)] @ effect.factor.T
            added = ahead @ effect.mean + beta @ (ahead - effect.reference).T
            out[..., d] = paths[..., d] * grown(added) if effect.is_log else paths[..., d] + added
        return out

    return removed, add


def grown(logarithm: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(logarithm.clip(-LARGEST, LARGEST)))
