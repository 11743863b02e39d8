"""Scores of forecasts, exactly as gluonts' evaluators define them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

LEVELS = np.arange(1, 20) / 20


def quantile(samples: np.ndarray, level: float) -> np.ndarray:
    """The sample of rank round((S - 1) level) over the first axis: no interpolation, as in gluonts."""
    values: np.ndarray = quantiles(samples, [level])[0]
    return values


def quantiles(samples: np.ndarray, levels: Sequence[float] | np.ndarray) -> np.ndarray:
    """(L, ...): `quantile` for each level."""
    values: np.ndarray = np.sort(samples, axis=0)[[int(np.round((len(samples) - 1) * level)) for level in levels]]
    return values


def quantile_loss(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The mean over 19 levels q = 0.05, ..., 0.95 of 2 |(f_q - y) (1[y <= f_q] - q)|: an estimate of the CRPS.

    samples (S, ...), truth (...); of the same shape as truth, NaN where truth is.
    """
    total = np.zeros(truth.shape)
    for level, f in zip(LEVELS, quantiles(samples, LEVELS), strict=True):
        total += 2 * np.abs((f - truth) * ((truth <= f) - level))
    return total / len(LEVELS)


def scores(samples: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of forecasts (W, S, H, D) of W windows of the truth (W, H, D).

    crps      sum of quantile losses / sum of |y|, over windows, steps and series (mean_wQuantileLoss)
    crps_sum  the same of the sums over the series, of each sample (m_sum_mean_wQuantileLoss)
    nd        sum of |median - y| / sum of |y|;  nd_sum the same of the sums

    NaN where all values, or all sums, are 0.
    """
    samples, both = np.moveaxis(samples, 1, 0), {}
    for suffix, draws, y in (("", samples, truth), ("_sum", samples.sum(-1), truth.sum(-1))):
        size = _nonzero(np.nansum(np.abs(y)))
        both["crps" + suffix] = float(np.nansum(quantile_loss(draws, y)) / size)
        both["nd" + suffix] = float(np.nansum(np.abs(quantile(draws, 0.5) - y)) / size)
    return both


def coverage(samples: np.ndarray, truth: np.ndarray, band: float = 0.9) -> float:
    """The share of the truth (W, H, D) within the band of forecasts (W, S, H, D), from quantile (1 - band) / 2 to
    quantile (1 + band) / 2; NaN without any truth."""
    return float(_mean(_within(samples, truth, band)))


def _within(samples: np.ndarray, truth: np.ndarray, band: float) -> np.ndarray:
    """(W, H, D): 1 within the band, 0 outside, NaN where there is no truth."""
    ends = (round((1 - band) / 2, 9), round((1 + band) / 2, 9))
    low, high = quantiles(np.moveaxis(samples, 1, 0), ends)
    return np.where(np.isnan(truth), np.nan, (low <= truth) & (truth <= high))


def _mean(values: np.ndarray, axis: tuple[int, ...] | None = None) -> np.ndarray:
    """The mean of those that are not NaN; NaN without any."""
    count = (~np.isnan(values)).sum(axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)


def _nonzero(values: np.ndarray) -> np.ndarray:
    """NaN in place of 0: what is divided by it is not defined."""
    return np.where(values == 0, np.nan, values)


def seasonal_scale(history: np.ndarray, season: int) -> np.ndarray:
    """(D,): the mean |y_t - y_(t - season)| of a history (T, D), or the mean |change| if it is no longer than a
    season: the scale of MASE. NaN where nothing ever changes, or nothing is observed."""
    season = season if len(history) > season else 1
    return _nonzero(_mean(np.abs(history[season:] - history[:-season]), axis=(0,)))


def seasonal_error(history: np.ndarray, season: int) -> np.ndarray:
    """`seasonal_scale`, and one where that is not defined."""
    scale = seasonal_scale(history, season)
    return np.where(np.isnan(scale), 1.0, scale)


def series_scores(samples: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (D,) of each series, of forecasts (W, S, H, D) of W windows of the truth (W, H, D); scale (W, D): the
    `seasonal_scale` of what lies before each window. Means are over windows and steps; y is the truth, m the median.

    MASE          mean of |y - m| / scale (Hyndman and Koehler 2006, 10.1016/j.ijforecast.2006.03.001)
    sMAPE         mean of 2 |y - m| / (|y| + |m|), from 0 to 2 (Makridakis 1993, 10.1016/0169-2070(93)90079-3)
    WQL           weighted quantile loss: sum of `quantile_loss` / sum of |y| (the mean over the levels of the risk of
                  Salinas et al. 2020, 10.1016/j.ijforecast.2019.07.001, which gluonts calls mean_wQuantileLoss)
    scaled CRPS   mean of `quantile_loss` / scale (CRPS: Gneiting and Raftery 2007, 10.1198/016214506000001437)
    within 80 %, within 90 %   the share of the truth in these bands, between quantiles

    What has a denominator of zero is left out of a mean; a score is NaN where nothing else is left.
    """
    median, loss = quantile(np.moveaxis(samples, 1, 0), 0.5), quantile_loss(np.moveaxis(samples, 1, 0), truth)
    error, steps = np.abs(truth - median), (0, 1)
    return {
        "MASE": _mean(error / scale[:, None], steps),
        "sMAPE": _mean(2 * error / _nonzero(np.abs(truth) + np.abs(median)), steps),
        "WQL": _mean(loss, steps) / _nonzero(_mean(np.abs(truth), steps)),
        "scaled CRPS": _mean(loss / scale[:, None], steps),
        "within 80 %": _mean(_within(samples, truth, 0.8), steps),
        "within 90 %": _mean(_within(samples, truth, 0.9), steps),
    }


def shares_below(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(19, D): the share of the truth (W, H, D) of each series at or below the quantile of each of the `LEVELS` of
    forecasts (W, S, H, D): the level itself, but for chance, if these are calibrated (a reliability diagram)."""
    below = truth <= quantiles(np.moveaxis(samples, 1, 0), LEVELS)
    return _mean(np.where(np.isnan(truth), np.nan, below), (1, 2))


def window_scores(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The CRPS of the sum of each window, (W,), as a part of the mean size of the sums over all windows, so that
    their mean is `crps_sum`."""
    summed = truth.sum(-1)
    losses = quantile_loss(np.moveaxis(samples, 1, 0).sum(-1), summed)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a window without a value has no score
        each: np.ndarray = np.nanmean(losses, axis=1) / _nonzero(np.nanmean(np.abs(summed)))
    return each
