"""Scores that mean what they say."""

import numpy as np
import pytest
from scipy.special import expit, logit

from inkwash.systems.detection.calibration import calibrated, fit_calibration


def test_it_is_a_line_on_logits():
    scores = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(calibrated(scores, 2.0, 0.3), expit(2 * logit(scores) + 0.3))
    np.testing.assert_allclose(calibrated(scores, 1.0, 0.0), scores)
    assert np.isfinite(calibrated(np.array([0.0, 1.0]), 3, 1)).all()


def test_scores_that_were_bent_are_bent_back():
    rng = np.random.default_rng(0)
    true = rng.uniform(0.02, 0.98, 20_000)
    bent = expit((logit(true) - 1.5) / 2.0)
    a, b = fit_calibration(bent, rng.random(len(true)) < true)
    assert a == pytest.approx(2.0, rel=0.06) and b == pytest.approx(1.5, rel=0.06)


def test_the_order_stays():
    rng = np.random.default_rng(1)
    scores = rng.random(200)
    a, b = fit_calibration(scores, rng.random(200) < 0.2)
    assert a > 0 and (np.argsort(calibrated(scores, a, b)) == np.argsort(scores)).all()


def test_of_one_kind_alone_nothing_is_learned():
    assert fit_calibration([0.3, 0.6], [True, True]) == fit_calibration([0.3], [False]) == (1.0, 0.0)
    assert fit_calibration([], []) == (1.0, 0.0)
