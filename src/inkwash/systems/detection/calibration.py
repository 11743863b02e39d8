"""Scores that mean what they say: fitted on pictures that are in no table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

Array = np.ndarray
EDGE = 1e-6  # a score is nowhere surer than that
STEADY = 1e-3  # of the squared parameters, so that few boxes do not make a score certain


def calibrated(scores: Array, a: float, b: float) -> Array:
    """sigmoid(a logit(score) + b), a > 0: the order stays (Platt 1999)."""
    found: Array = expit(a * logit(np.clip(scores, EDGE, 1 - EDGE)) + b)
    return found


def fit_calibration(scores: Sequence[float] | Array, right: Sequence[bool] | Array) -> tuple[float, float]:
    """(a, b) of the least cross-entropy of `calibrated` scores to whether their boxes are right. (1, 0), which
    changes nothing, where all are right, or none."""
    z, truth = logit(np.clip(np.asarray(scores, float), EDGE, 1 - EDGE)), np.asarray(right, bool)
    if truth.all() or not truth.any():
        return 1.0, 0.0

    def loss(parameters: Array) -> float:
        log_a, b = parameters
        u = np.exp(log_a) * z + b
        return float(np.logaddexp(0, np.where(truth, -u, u)).mean() + STEADY * (log_a**2 + b**2))

    log_a, b = minimize(loss, np.zeros(2), bounds=[(-3, 3), (-20, 20)]).x
    return round(float(np.exp(log_a)), 4), round(float(b), 4)
