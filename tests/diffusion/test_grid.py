import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import Gaussian, Grid, betas, karras, leading, linear_beta, trailing, uniform
from tests.diffusion.oracle import PROCESSES


@given(st.floats(0.7, 5), st.integers(2, 30), st.sampled_from([karras, diffusion.exponential]))
def test_grids_of_a_schedule_of_ones_own_begin_and_end_where_they_should(power, steps, grid):
    @diffusion.schedule()
    def own():
        return diffusion.Formulas(lambda t: 1 - 0 * t, lambda t: 300 * t**power)

    levels = grid(Gaussian(own()), steps).levels
    assert levels[0].edm_sigma == pytest.approx(80, rel=1e-9)
    assert levels[-2].edm_sigma == pytest.approx(0.002, rel=1e-6) and levels[-1].t == 0


def test_grids():
    process = Gaussian(betas(np.full(1000, 0.01)))
    assert [p.t for p in leading(process, 4)] == pytest.approx([0.751, 0.501, 0.251, 0.001, 0])
    assert [p.t for p in trailing(process, 3)] == pytest.approx([1, 0.667, 0.333, 0])
    assert [p.t for p in uniform(process, 2, start=0.6)] == pytest.approx([0.6, 0.3, 0])
    flow = PROCESSES["rectified_flow"]
    ratios = [p.sigma / p.alpha for p in karras(flow, 5)]
    expected = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 5) ** 7
    assert ratios == pytest.approx([*expected, 0])
    assert karras(process, 5, sigma_max=1e9)[0].t == pytest.approx(1)  # clipped to what the schedule reaches
    for beta_max in np.linspace(1, 3, 30):  # rounding must not step over the end
        assert karras(Gaussian(linear_beta(0.1, float(beta_max))), 5)[0].t == pytest.approx(1)


def test_log_snr_and_beta_grids():
    flow = PROCESSES["rectified_flow"]
    ratios = [p.edm_sigma for p in diffusion.exponential(flow, 4, sigma_max=8.0, sigma_min=0.125)]
    assert ratios == pytest.approx([8, 2, 0.5, 0.125, 0])
    for a, b in ((0.6, 0.6), (0.5, 2.0), (3.0, 1.0)):
        expected = scipy.stats.beta.ppf(np.linspace(1, 0, 9), a, b)
        assert [p.t for p in diffusion.beta(flow, 8, a, b)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("grid", [karras, diffusion.exponential, diffusion.beta, uniform, leading, trailing])
def test_every_grid_has_its_steps_on_every_schedule(grid, name):
    points = list(grid(PROCESSES[name], 9))
    assert len(points) == 10 and points[-1].t == 0


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5, 0], [0, 1], [1.2, 0], [1, -0.1], [float("nan"), 0]])
def test_bad_grids(times):
    with pytest.raises(ValueError, match="grid"):
        Grid(PROCESSES["cosine"], times)


@pytest.mark.parametrize("grid", [uniform, leading, trailing, karras])
def test_no_steps(grid):
    with pytest.raises(ValueError, match="steps = 0"):
        grid(PROCESSES["cosine"], 0)
