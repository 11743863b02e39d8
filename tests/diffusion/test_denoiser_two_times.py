"""Networks that are told where a step leads: flow maps and consistency functions, exact for a Gaussian."""

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Denoiser,
    DiffusionError,
    Gaussian,
    Prediction,
    consistency,
    cosine,
    ddim,
    euler,
    heun,
    karras,
    rectified_flow,
    sample,
    uniform,
    variance_exploding,
)
from tests.diffusion.oracle import MEAN, VARIANCE, denoise, flow

FLOW = Gaussian(rectified_flow())


def spread(t):
    return ((1 - t) ** 2 * VARIANCE + t**2) ** 0.5


def mean_velocity(x, t, s):
    """(x_t - x_s) / (t - s) along the exact flow; at s = t it is the velocity itself."""
    t, s = t[:, None], s[:, None]
    reached = (1 - s) * MEAN + spread(s) / spread(t) * (x - (1 - t) * MEAN)
    slope = ((t - (1 - t) * VARIANCE) / spread(t) ** 2) * (x - (1 - t) * MEAN) - MEAN
    xp = torch if isinstance(x, torch.Tensor) else np
    return xp.where(t == s, slope, (x - reached) / xp.where(t == s, 1, t - s))


MAP = Denoiser(mean_velocity, FLOW, "flow", c_noise=lambda level: level.t, two_times=True)


@pytest.mark.parametrize("sampler", [euler, ddim])
@pytest.mark.parametrize("start", [1.0, 0.7])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_exact_mean_velocity_is_followed_to_the_exact_answer_in_one_step_and_in_three(sampler, start, device):
    x = np.linspace(-3, 3, 14, dtype=np.float64).reshape(7, 2)
    x = x if device is None else torch.tensor(x)
    for steps in (1, 3):
        grid = uniform(FLOW, steps, start=start)
        got = sample(MAP, (2,), sampler, grid, range(7), x=x, dtype="float64", device=device)
        np.testing.assert_allclose(got, flow(x, grid[0], grid[-1]), rtol=0, atol=1e-12)


def test_a_network_of_one_time_is_not_exact_in_three_steps():
    """So the test above could fail."""
    x = np.linspace(-3, 3, 7)[:, None]
    grid = uniform(FLOW, 3)
    assert (
        abs(sample(denoise, (1,), euler, grid, range(7), x=x, dtype="float64") - flow(x, grid[0], grid[-1])).max()
        > 0.1
    )


def test_the_network_is_told_both_ends_of_each_step():
    told = []

    def network(x, t, s):
        told.append((t[0], s[0]))
        return 0 * x

    grid = uniform(FLOW, 4, end=0.2)
    sample(Denoiser(network, FLOW, "flow", lambda level: level.t, two_times=True), (1,), euler, grid, [0, 1])
    np.testing.assert_allclose(told, [*zip(grid.times, grid.times[1:], strict=False)], rtol=1e-6)


def test_a_training_batch_may_name_its_own_next_times():
    """The level that `draw` returns, with a next one, is what a flow map is trained on; gradients pass."""
    x0 = torch.randn(5, 2, dtype=torch.float64)
    x, t, _ = MAP.draw(x0, torch.rand(5, dtype=torch.float64) * 0.5 + 0.5)
    x.requires_grad_()
    s = FLOW.at(t.t / 3)
    clean = MAP(x, t._replace(s=s)).x0
    expected = (1 - s.t) * MEAN + spread(s.t) / spread(t.t) * (x - (1 - t.t) * MEAN)
    torch.testing.assert_close(x + (s.t - t.t) / t.t * (x - clean), expected)
    clean.sum().backward()
    assert bool((x.grad != 0).all())


@pytest.mark.parametrize("ask", [lambda: MAP(np.ones((1, 1)), 0.5), lambda: MAP(np.ones((1, 1)), FLOW.at(0.5))])
def test_without_a_next_time_it_is_refused(ask):
    with pytest.raises(DiffusionError, match="two times"):
        ask()


def test_a_sampler_that_looks_elsewhere_is_refused():
    with pytest.raises(DiffusionError, match="two times"):
        sample(MAP, (1,), heun, uniform(FLOW, 3), [0])


def exact_consistency(x, t, condition=None):
    """Where the flow carries x from t to clean data."""
    return Prediction(flow(x, t, Gaussian(rectified_flow()).at(0.0)))


@pytest.mark.parametrize("schedule", [rectified_flow(), cosine(), variance_exploding()])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_consistency_sampling_has_the_moments_that_its_algorithm_implies(schedule, steps):
    """x_s = alpha_s f(x_t) + sigma_s z is linear in x_t: from one given state, mean and variance are a recursion."""
    process, n, start = Gaussian(schedule), 20_000, 1.7
    grid = (karras if schedule == variance_exploding() else uniform)(process, steps)
    mean, variance = start, 0.0
    for t, s in zip(grid, [*grid][1:], strict=False):
        slope = (VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)) ** 0.5
        mean = s.alpha * (MEAN + slope * (mean - t.alpha * MEAN))
        variance = (s.alpha * slope) ** 2 * variance + s.sigma**2
    x = sample(exact_consistency, (n,), consistency, grid, [3], x=np.full((1, n), start))[0].astype(float)
    assert x.mean() == pytest.approx(mean, abs=5 * (variance / n) ** 0.5 + 1e-5)
    assert x.var() == pytest.approx(variance, abs=5 * variance * (2 / n) ** 0.5 + 1e-9)


def test_an_exact_consistency_function_draws_the_data_at_any_number_of_steps():
    n = 20_000
    for steps in (1, 4):
        x = sample(exact_consistency, (n,), consistency, uniform(FLOW, steps), [5])[0].astype(float)
        assert x.mean() == pytest.approx(MEAN, abs=5 * (VARIANCE / n) ** 0.5)
        assert x.var() == pytest.approx(VARIANCE, abs=5 * VARIANCE * (2 / n) ** 0.5)


def test_a_field_that_stands_goes_nowhere_in_the_eyes_of_a_network_of_two_times():
    """A joint flow map at two paces: while one field steps, the other's next time is its own."""
    told = []

    def network(x, t, s):
        told.append({name: (float(t[name][0]), float(s[name][0])) for name in t})
        return {name: mean_velocity(x[name], t[name], s[name]) for name in x}

    denoiser = Denoiser(network, {"a": FLOW, "b": FLOW}, "flow", c_noise=lambda level: level.t, two_times=True)
    grids = {"a": uniform(FLOW, 1, end=0.1), "b": uniform(FLOW, 3, end=0.1)}
    x = {name: np.linspace(-2, 2, 5)[:, None] for name in grids}
    got = sample(denoiser, {"a": (1,), "b": (1,)}, euler, grids, range(5), x=x, dtype="float64")
    for name in grids:
        np.testing.assert_allclose(got[name], flow(x[name], FLOW.at(1.0), FLOW.at(0.1)), atol=1e-12)
    assert [pair["a"] for pair in told] == [(1.0, pytest.approx(0.1)), *[(pytest.approx(0.1),) * 2] * 2]
