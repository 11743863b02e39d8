"""Probabilities and counts that mean what they say: fitted on pictures that are in no table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

Array = np.ndarray
EDGE = 0.01  # a mean of few samples is nowhere surer than that before it is calibrated
NOMINAL = 0.9
FEWEST = 9  # pictures that an interval of counts needs: with fewer, no quantile of 0.9 is among their errors


def logit(p: Array) -> Array:
    clipped = np.clip(p, EDGE, 1 - EDGE)
    found: Array = np.log(clipped / (1 - clipped))
    return found


def calibrated(mean: Array, temperature: float) -> Array:
    """sigmoid(logit(mean) / temperature), the mean kept from 0 and 1 by EDGE (Guo et al. 2017, 1706.04599)."""
    found: Array = expit(logit(mean) / temperature).astype(np.float32)
    return found


def fit_temperature(means: Sequence[Array], truths: Sequence[Array]) -> float:
    """The temperature of the least cross-entropy of means (K, H, W) to truths of the same shapes, 0 or 1, each
    picture counting the same; from 0.05 to 20, by golden section on its logarithm, where the loss has one minimum."""
    parts = [
        (logit(mean).ravel(), np.asarray(truth).ravel().astype(bool))
        for mean, truth in zip(means, truths, strict=True)
    ]

    def loss(u: float) -> float:
        scaled = [np.where(truth, -z, z) / math.exp(u) for z, truth in parts]
        return float(np.mean([np.logaddexp(0, z).mean() for z in scaled]))

    low, high, golden = math.log(0.05), math.log(20.0), (math.sqrt(5) - 1) / 2
    a, b = high - golden * (high - low), low + golden * (high - low)
    at_a, at_b = loss(a), loss(b)
    while high - low > 1e-3:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - golden * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + golden * (high - low)
            at_b = loss(b)
    return round(math.exp((low + high) / 2), 4)


def fit_counts(found: Sequence[float], true: Sequence[float]) -> float | None:
    """The quantile q of |true - found| / sqrt(found + 1) with which found -+ q sqrt(found + 1) covers a new picture's
    count in 90 of 100 cases (split conformal prediction, Vovk et al. 2005); None of too few pictures."""
    n = len(found)
    rank = math.ceil((n + 1) * NOMINAL)
    if n < FEWEST or rank > n:
        return None
    errors = np.abs(np.asarray(true, float) - found) / np.sqrt(np.asarray(found, float) + 1)
    return float(np.sort(errors)[rank - 1])


def count_interval(found: float, quantile: float) -> tuple[int, int]:
    """Whole numbers."""
    half = quantile * math.sqrt(found + 1)
    return max(0, math.ceil(found - half - 1e-9)), math.floor(found + half + 1e-9)


def sample_interval(counts: Sequence[float]) -> tuple[float, float] | None:
    """The order statistics between which 90 % of further samples lie; None of fewer than 19, which have none."""
    n = len(counts)
    if n < 19:
        return None
    k = math.floor((n + 1) * (1 - NOMINAL) / 2 + 1e-9)
    ordered = sorted(counts)
    return ordered[k - 1], ordered[n - k]


def entropy(probability: Array) -> Array:
    """(K, H, W) -> (H, W) float32: of the classes and the background, from 0, sure, to 1, all the same."""
    background = (1 - probability.sum(0, keepdims=True)).clip(0, 1)
    p = np.concatenate([background, probability]).clip(1e-9, 1)
    p = p / p.sum(0, keepdims=True)
    found: Array = (-(p * np.log(p)).sum(0) / math.log(len(p))).clip(0, 1).astype(np.float32)
    return found
