"""The likeliest variance of a step is the exact one where the data are a Gaussian, however few the steps are."""

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    DiffusionError,
    Gaussian,
    Grid,
    Normal,
    Prediction,
    ZeroCoM,
    analytic_variance,
    ancestral,
    cosine,
    linear_beta,
    sample,
    variance_exploding,
)

STD = 2.0  # of the data
PROCESSES = [Gaussian(variance_exploding(0.01, 200.0)), Gaussian(linear_beta()), Gaussian(cosine())]
TIMES = (0.999, 0.8, 0.5, 0.2, 0.1)
SIGMAS = np.geomspace(1e-4, 1e4, 2000)
ERRORS = STD**2 / (STD**2 + SIGMAS**2)  # E (eps - E[eps | x])^2


def exact(x, t, condition=None):
    gain = t.alpha * STD**2 / (t.alpha**2 * STD**2 + t.sigma**2)
    return Prediction(gain * x)


@pytest.mark.parametrize("process", PROCESSES)
def test_four_steps_keep_the_variance_of_a_gaussian(process):
    grid, n = Grid(process, TIMES), 20_000
    x = sample(analytic_variance(exact, SIGMAS, ERRORS), (1,), ancestral, grid, range(n))
    wanted = np.hypot(grid[-1].alpha * STD, grid[-1].sigma)
    assert x.std() == pytest.approx(wanted, rel=4 / (2 * n) ** 0.5 + 0.002)  # the prior's own std is within 0.1 %
    assert sample(exact, (1,), ancestral, grid, range(n)).std() < 0.9 * wanted


@pytest.mark.parametrize("process", PROCESSES)
def test_each_step_is_the_exact_conditional(process):
    """q(x_s | x_t) of a Gaussian, by its covariance."""
    t, s = process.at(0.6), process.at(0.3)
    x = np.array([[1.0], [-3.0]], np.float32)
    prediction = analytic_variance(exact, SIGMAS, ERRORS)(x, t._replace(s=s), None)
    law = process.transition(x, t, s, prediction)
    at_t, at_s = (level.alpha**2 * STD**2 + level.sigma**2 for level in (t, s))
    shared = t.alpha / s.alpha * at_s
    assert law.mean == pytest.approx(shared / at_t * x, rel=1e-5)
    assert law.std == pytest.approx((at_s - shared**2 / at_t) ** 0.5, rel=1e-3)
    half = analytic_variance(exact, SIGMAS, ERRORS, 0.5)(x, t._replace(s=s), None)
    assert process.transition(x, t, s, half).std == pytest.approx(law.std / 2, rel=1e-5)


def test_what_needs_no_variance_or_has_no_next_time_stays():
    process, x = PROCESSES[0], np.ones((2, 1), np.float32)
    guided = analytic_variance(exact, SIGMAS, ERRORS)
    for level in (process.at(0.5), process.at(0.5)._replace(s=process.at(0.0)), PROCESSES[2].at(1.0)):
        assert guided(x, level, None).variance is None


def test_gradients_pass_and_rows_are_taken():
    process = ZeroCoM(variance_exploding(0.01, 20.0))
    t, s = process.at(0.6), process.at(0.4)
    x = torch.randn(4, 5, 3, requires_grad=True)
    prediction = analytic_variance(exact, SIGMAS, ERRORS)(x, t._replace(s=s), None)
    law = process.transition(x, t, s, prediction)
    assert isinstance(law, Normal) and law.take([2, 0]).std.shape == (2, 1, 1)
    law.log_prob(x.detach()).sum().backward()
    assert x.grad.isfinite().all()


def test_a_table_that_does_not_fit():
    with pytest.raises(DiffusionError, match="an error for each noise level"):
        analytic_variance(exact, [1.0, 2.0], [0.5])
