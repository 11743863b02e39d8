"""Scores of forecasts, exactly as gluonts' MultivariateEvaluator defines them."""

from __future__ import annotations

import warnings

import numpy as np

LEVELS = np.arange(1, 20) / 20


def quantile(samples: np.ndarray, level: float) -> np.ndarray:
    """The sample of rank round((S - 1) level) over the first axis: no interpolation, as in gluonts."""
    rank = int(np.round((len(samples) - 1) * level))
    values: np.ndarray = np.sort(samples, axis=0)[rank]
    return values


def quantile_loss(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The mean over 19 levels q = 0.05, ..., 0.95 of 2 |(f_q - y) (1[y <= f_q] - q)|: an estimate of the CRPS.

    samples (S, ...), truth (...); of the same shape as truth, NaN where truth is.
    """
    ranked = np.sort(samples, axis=0)
    total = np.zeros(truth.shape)
    for level in LEVELS:
        f = ranked[int(np.round((len(samples) - 1) * level))]
        total += 2 * np.abs((f - truth) * ((truth <= f) - level))
    return total / len(LEVELS)


def scores(samples: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of forecasts (W, S, H, D) of W windows of the truth (W, H, D).

    crps      sum of quantile losses / sum of |y|, over windows, steps and series (mean_wQuantileLoss)
    crps_sum  the same of the sums over the series, of each sample (m_sum_mean_wQuantileLoss)
    nd        sum of |median - y| / sum of |y|;  nd_sum the same of the sums
    """
    samples, both = np.moveaxis(samples, 1, 0), {}
    for suffix, draws, y in (("", samples, truth), ("_sum", samples.sum(-1), truth.sum(-1))):
        size = np.nansum(np.abs(y))
        both["crps" + suffix] = float(np.nansum(quantile_loss(draws, y)) / size)
        both["nd" + suffix] = float(np.nansum(np.abs(quantile(draws, 0.5) - y)) / size)
    return both


def coverage(samples: np.ndarray, truth: np.ndarray) -> float:
    """The share of the truth (W, H, D) within the band of 90 % of forecasts (W, S, H, D)."""
    low, high = (quantile(np.moveaxis(samples, 1, 0), level) for level in (0.05, 0.95))
    return float(((low <= truth) & (truth <= high))[~np.isnan(truth)].mean())


def seasonal_error(history: np.ndarray, season: int) -> np.ndarray:
    """(D,): the mean |y_t - y_(t - season)| of a history (T, D), or the mean |change| if it is no longer than a
    season: the scale of MASE. One where nothing ever changes, or nothing is observed."""
    season = season if len(history) > season else 1
    change = np.abs(history[season:] - history[:-season])
    count = (~np.isnan(change)).sum(0)
    error = np.nansum(change, axis=0) / np.maximum(count, 1)
    return np.where(error > 0, error, 1.0)


def window_scores(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The CRPS of the sum of each window, (W,), as a part of the mean size of the sums over all windows, so that
    their mean is `crps_sum`."""
    summed = truth.sum(-1)
    losses = quantile_loss(np.moveaxis(samples, 1, 0).sum(-1), summed)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a window without a value has no score
        each: np.ndarray = np.nanmean(losses, axis=1) / np.nanmean(np.abs(summed))
    return each
