"""What covariates that are known in advance add to a series, by a ridge regression of its differences.

    y_t = x_t beta + n_t,    y_t - y_{t-m} = (x_t - x_{t-m}) beta + errors

Simple forecasts are fitted to n, and x beta is added to their paths. m is a season or one step, whichever difference
is the smaller: what a season or a slow level is, is then no effect of x. Of positive series y may be the logarithm.
That, and the ridge, are chosen by leaving out one row after the other; the last ridge leaves no effect at all.
Outliers are drawn in to four deviations, by the band that holds 90 % of the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e12)  # in units of the mean squared singular value; the last: no effect
OUTLIER = 4.0  # deviations: what lies farther off is drawn in to there, as often as the fit is repeated
ROUNDS = 4
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
    dx, dy = (x[lag:] - x[:-lag])[there], dy[there]
    dx = dx - dx.mean(0)
    size = dx.std(0)
    size[size < 1e-9] = np.inf  # what never changed: its effect is not known, and taken to be none
    left, singular, right = np.linalg.svd(dx / size, full_matrices=False)
    shrunk = [singular**2 / (singular**2 + ridge * np.mean(singular**2) + 1e-12) for ridge in RIDGES]
    leverage = [(left**2 * each).sum(1) + 1 / len(dy) for each in shrunk]
    for _ in range(ROUNDS):
        dy = dy - dy.mean()
        fitted = [left @ (each * (left.T @ dy)) for each in shrunk]
        errors = [
            float(np.mean(((dy - own) / (1 - weight).clip(1e-3)) ** 2))
            for own, weight in zip(fitted, leverage, strict=True)
        ]
        best = int(np.argmin(errors))
        rest = dy - fitted[best]
        most = OUTLIER * float(np.quantile(np.abs(rest), 0.9)) / 1.645 or np.inf  # 1.645: of the normal law
        dy = fitted[best] + rest.clip(-most, most)
    back = right.T / size[:, None]  # from the directions of the regression to beta
    inverse = np.where(singular > 1e-9, shrunk[best] / singular.clip(1e-9), 0)
    mean = back @ (inverse * (left.T @ dy))
    deviation = np.sqrt(np.mean(rest**2) * inverse / singular.clip(1e-9))
    return Effect(mean, back * deviation, x[-lag:].mean(0), errors[best])


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
