import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import Gaussian, Grid, betas, cosine, karras, leading, linear_beta, trailing, uniform
from tests.diffusion.oracle import PROCESSES

SCHEDULES = {name: process.schedule for name, process in PROCESSES.items()}
any_schedule = st.sampled_from(sorted(SCHEDULES))


@given(any_schedule, st.floats(1e-4, 0.999))
def test_time_inverts_the_ratio(name, t):
    schedule = SCHEDULES[name]
    point = schedule.at(t)
    assert schedule.time(point.sigma / point.alpha) == pytest.approx(t, abs=1e-6)


@given(any_schedule, st.floats(0, 1), st.floats(0, 1))
def test_noise_grows_and_variance_is_preserved(name, t, s):
    a, b = (SCHEDULES[name].at(u) for u in sorted((s, t)))
    assert a.sigma <= b.sigma and a.alpha >= b.alpha
    if name != "rectified_flow":
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


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_clean_end_is_clean(name):
    start = SCHEDULES[name].at(0.0)
    assert (start.alpha, start.sigma, start.log_snr) == (1.0, 0.0, math.inf)


def test_formulas():
    t = 0.37
    assert linear_beta(0.1, 20).at(t).alpha == pytest.approx(math.exp(-(t**2) * 19.9 / 4 - t * 0.1 / 2))
    u = [(x + 0.008) / 1.008 * math.pi / 2 for x in (t, 0)]
    assert cosine().at(t).alpha == pytest.approx(math.cos(u[0]) / math.cos(u[1]))
    assert cosine().at(1.0).alpha == 0 and cosine().at(1.0).log_snr == -math.inf


@pytest.mark.parametrize("table", [[], [1.0], [1.0, 0.1], [0.0], [[0.1]], [float("nan")]])
def test_bad_betas(table):
    with pytest.raises(ValueError, match="betas"):
        betas(table)


def test_grids():
    process = Gaussian(betas(np.full(1000, 0.01)))
    assert [p.t for p in leading(process, 4)] == pytest.approx([0.751, 0.501, 0.251, 0.001, 0])
    assert [p.t for p in trailing(process, 3)] == pytest.approx([1, 0.667, 0.333, 0])
    assert [p.t for p in uniform(process, 2, start=0.6)] == pytest.approx([0.6, 0.3, 0])
    flow = PROCESSES["rectified_flow"]
    ratios = [p.sigma / p.alpha for p in karras(flow, 5)]
    expected = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 5) ** 7
    assert ratios == pytest.approx([*expected, 0])
    assert karras(process, 5, highest=1e9)[0].t == pytest.approx(1)  # clipped to what the schedule reaches
    for beta_max in np.linspace(1, 3, 30):  # rounding must not step over the end
        assert karras(Gaussian(linear_beta(0.1, float(beta_max))), 5)[0].t == pytest.approx(1)


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5, 0], [0, 1], [1.2, 0], [1, -0.1], [float("nan"), 0]])
def test_bad_grids(times):
    with pytest.raises(ValueError, match="grid"):
        Grid(PROCESSES["cosine"], times)


@pytest.mark.parametrize("grid", [uniform, leading, trailing, karras])
def test_no_steps(grid):
    with pytest.raises(ValueError, match="steps = 0"):
        grid(PROCESSES["cosine"], 0)
