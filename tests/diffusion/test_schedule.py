import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import (
    Denoiser,
    DiffusionError,
    Formulas,
    Gaussian,
    betas,
    cosine,
    karras,
    linear_beta,
    schedule,
    uniform,
)
from tests.diffusion.oracle import PROCESSES

SCHEDULES = {name: process.schedule for name, process in PROCESSES.items()}
PRESERVING = {
    "linear_beta",
    "scaled_linear",
    "cosine",
    "cosine, shift 10",
    "sigmoid",
    "sqrt",
    "betas",
    "betas, zero terminal SNR",
}
any_schedule = st.sampled_from(sorted(SCHEDULES))


@given(any_schedule, st.lists(st.floats(1e-4, 0.999), min_size=1, max_size=4))
def test_the_time_of_a_noise_level_is_where_it_is_reached(name, times):
    schedule = SCHEDULES[name]
    sigmas = [schedule.at(t).edm_sigma for t in times]
    assert [schedule.sigma_to_t(sigma) for sigma in sigmas] == pytest.approx(times, rel=1e-8)
    assert schedule.sigma_to_t(np.array(sigmas)) == pytest.approx(times, rel=1e-8)
    assert isinstance(schedule.sigma_to_t(sigmas[0]), float)


@given(any_schedule, st.floats(1.001, 1e9))
def test_noise_levels_that_are_never_reached_lie_at_the_ends(name, factor):
    schedule = SCHEDULES[name]
    assert schedule.sigma_to_t(schedule.at(0.0).edm_sigma / factor) == 0
    assert schedule.sigma_to_t(schedule.at(1.0).edm_sigma * factor) == 1
    assert schedule.sigma_to_t(schedule.at(1.0).edm_sigma) == pytest.approx(1)


@given(any_schedule, st.floats(0, 1), st.floats(0, 1))
def test_noise_grows_and_variance_is_preserved(name, t, s):
    a, b = (SCHEDULES[name].at(u) for u in sorted((s, t)))
    assert a.sigma <= b.sigma and a.alpha >= b.alpha
    if name in PRESERVING:
        assert a.alpha**2 + a.sigma**2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_numbers_numpy_and_torch_agree(name):
    schedule, times = SCHEDULES[name], np.linspace(0, 1, 23)
    floats = [schedule.at(float(t)) for t in times]
    arrays, tensors = schedule.at(times), schedule.at(torch.from_numpy(times))
    for field in ("alpha", "sigma"):
        numbers = [getattr(p, field) for p in floats]
        assert all(type(number) is float for number in numbers)
        np.testing.assert_allclose(getattr(arrays, field), numbers, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(getattr(tensors, field), numbers, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "sqrt"])
def test_the_clean_end_is_clean(name):
    start = SCHEDULES[name].at(0.0)
    assert (start.alpha, start.sigma, start.lambda_ * 2) == (1.0, 0.0, math.inf)


def test_formulas():
    t, table = 0.37, np.linspace(1e-4, 0.02, 1000)
    decay = t**2 * 19.9 / 2 + t * 0.1
    assert linear_beta(0.1, 20).at(t).alpha == pytest.approx(math.exp(-decay / 2))
    assert diffusion.sub_vp(0.1, 20).at(t)[1:3] == pytest.approx((math.exp(-decay / 2), 1 - math.exp(-decay)))
    u = [(x + 0.008) / 1.008 * math.pi / 2 for x in (t, 0)]
    assert cosine().at(t).alpha == pytest.approx(math.cos(u[0]) / math.cos(u[1]))
    assert cosine().at(1.0).alpha == 0 and cosine().at(1.0).lambda_ * 2 == -math.inf
    assert cosine(shift=10).at(t).edm_sigma == pytest.approx(10 * cosine().at(t).edm_sigma)
    assert cosine(shift=1).at(t) == cosine().at(t)
    low, here, high = (1 / (1 + math.exp(-x / 0.9)) for x in (-3, -3 + 6 * t, 3))
    assert diffusion.sigmoid(tau=0.9).at(t).alpha ** 2 == pytest.approx((high - here) / (high - low))
    assert diffusion.sigmoid().at(1.0).alpha == 0
    assert diffusion.sqrt().at(t).alpha ** 2 == pytest.approx(1 - math.sqrt(t + 1e-4), abs=1e-4)
    assert diffusion.sqrt().at(0.0).sigma == pytest.approx(0.1) and diffusion.sqrt().at(1.0).alpha == 0
    noise = 0.01**2 * ((50 / 0.01) ** (2 * t) - 1)
    assert diffusion.variance_exploding(0.01, 50).at(t)[1:3] == pytest.approx((1, math.sqrt(noise)))
    assert diffusion.edm_schedule(80.0).at(t)[1:3] == pytest.approx((1, 80 * t))
    shifted = 3 * t / (1 + 2 * t)
    assert diffusion.rectified_flow(3.0).at(t)[1:3] == pytest.approx((1 - shifted, shifted))
    bars = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    assert diffusion.scaled_linear().at(0.25).alpha ** 2 == pytest.approx(bars[249])
    rescaled = np.sqrt(np.cumprod(1 - diffusion.zero_terminal_snr(table)))  # Lin et al., algorithm 1
    alpha = np.sqrt(np.cumprod(1 - table))
    np.testing.assert_allclose(rescaled, (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1]), atol=1e-12)


def test_the_flow_of_the_exact_sub_vp_and_exploding_sdes():
    """sigma solves d sigma^2 / dt = g^2 - 2 f sigma^2, alpha d alpha / dt = -f alpha: integrated step by step."""
    n = 200_000
    t = (np.arange(n) + 0.5) / n
    rate = 0.1 + t * 19.9
    decay = np.cumsum(rate) / n
    forced = np.cumsum(rate * (1 - np.exp(-2 * decay)) * np.exp(decay)) / n  # of the sub-VP SDE, Score SDE eq. 13
    assert diffusion.sub_vp().at(1.0).sigma ** 2 == pytest.approx(np.exp(-decay[-1]) * forced[-1], rel=1e-3)
    g2 = 0.01**2 * (50 / 0.01) ** (2 * t) * 2 * np.log(50 / 0.01)
    assert diffusion.variance_exploding().at(1.0).sigma ** 2 == pytest.approx(g2.sum() / n, rel=1e-6)


@pytest.mark.parametrize("table", [[], [1.0], [1.0, 0.1], [0.0], [[0.1]], [float("nan")]])
def test_bad_betas(table):
    with pytest.raises(ValueError, match="betas"):
        betas(table)


def test_a_schedule_that_is_not_monotone_is_refused_with_the_step():
    @diffusion.schedule()
    def back():
        return diffusion.Formulas(lambda t: 1 - 0 * t, lambda t: t * (1.5 - t))

    with pytest.raises(DiffusionError, match="back: sigma / alpha does not grow with t"):
        back()

    @diffusion.schedule()
    def dips():  # between the times that are looked at when it is made
        return diffusion.Formulas(lambda t: 1 - 0 * t, lambda t: t + 0.2 * np.sin(48 * t))

    with pytest.raises(DiffusionError, match=r"does not (grow|fall)"):
        uniform(Gaussian(dips()), 400)


@pytest.mark.parametrize("steps", [2.5, -1])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(DiffusionError, match=f"steps = {steps}; a whole number"):
        uniform(PROCESSES["cosine"], steps)


@schedule()
def still():
    """A schedule one of whose formulas is a number."""
    return Formulas(lambda t: 1.0, lambda t: 9 * t)


def test_a_formula_may_be_a_number():
    process = Gaussian(still())
    grid = karras(process, 5)
    assert all(level.alpha == 1.0 for level in grid) and grid[0].sigma == 9.0
    x, _, eps = Denoiser(lambda x, time: x, process).draw(torch.ones(3, 2), torch.tensor([0.1, 0.5, 1.0]))
    torch.testing.assert_close(x, 1 + 9 * torch.tensor([[0.1], [0.5], [1.0]]) * eps)
    assert Denoiser(lambda x, time: x, process).loss(torch.ones(3, 2)).isfinite()


@pytest.mark.parametrize("name", PROCESSES)
def test_noise_alone_lies_at_the_end_and_what_is_no_number_nowhere(name):
    found = PROCESSES[name].schedule.sigma_to_t
    with np.errstate(all="raise"):
        assert found(math.inf) == 1.0
    for sigma in (math.nan, np.array([1.0, math.nan])):
        with pytest.raises(DiffusionError, match="a noise level is not a number"):
            found(sigma)
