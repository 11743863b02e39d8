import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import GRIDS, Gaussian, Grid, betas, karras, leading, linear_beta, trailing, uniform
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
        assert [p.t for p in diffusion.beta(flow, 8, a, b)] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("grid", GRIDS.values())
def test_every_grid_has_its_steps_on_every_schedule(grid, name):
    points = list(grid(PROCESSES[name], 8))
    assert len(points) == 9 and points[-1].t == 0


STABLE_DIFFUSION = Gaussian(diffusion.scaled_linear())
TABLE = np.sqrt(1 / np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1)  # sigma / alpha


def sigmas(grid):
    return [level.edm_sigma for level in grid]


@given(st.integers(1, 60))
def test_grids_on_a_table_are_those_of_the_tools_that_name_them(steps):
    """By what ComfyUI's documentation and sources say of its schedulers, reckoned here step by step."""
    between = lambda index: np.exp(np.interp(index, np.arange(1000), np.log(TABLE)))  # noqa: E731
    expected = {
        "normal": [between(index) for index in np.linspace(999, 0, steps)],
        "sgm_uniform": [between(999 - 999 * i / steps) for i in range(steps)],
        "simple": [TABLE[-(1 + int(i * (1000 / steps)))] for i in range(steps)],
        "ddim_uniform": [TABLE[i] for i in range(1, 1000, 1000 // steps)][::-1],
        "kl_optimal": [
            np.tan(np.arctan(TABLE[-1]) * (1 - i / max(steps - 1, 1)) + np.arctan(TABLE[0]) * i / max(steps - 1, 1))
            for i in range(steps)
        ],
    }
    for name, levels in expected.items():
        assert sigmas(GRIDS[name](STABLE_DIFFUSION, steps)) == pytest.approx([*levels, 0], rel=1e-9)
    quantiles = scipy.stats.beta.ppf(1 - np.arange(steps) / steps, 0.6, 0.6) * 999
    if np.abs(quantiles % 1 - 0.5).min() > 1e-3:  # no quantile lies where rounding turns
        rounded = dict.fromkeys(int(np.rint(quantile)) for quantile in quantiles)
        assert sigmas(diffusion.beta(STABLE_DIFFUSION, steps, table=1000)) == pytest.approx([*TABLE[[*rounded]], 0])


def test_ten_steps_of_stable_diffusion():
    known = [14.6146, 8.3072, 5.0924, 3.3251, 2.2797, 1.6156, 1.1629, 0.8319, 0.5712, 0.3437, 0]
    assert sigmas(diffusion.sgm_uniform(STABLE_DIFFUSION, 10)) == pytest.approx(known, abs=6e-5)
    known = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0]
    assert sigmas(karras(STABLE_DIFFUSION, 10)) == pytest.approx(known, abs=6e-5)
    known = [14.6146, 7.3249, 3.6712, 1.84, 0.9222, 0.4622, 0.2317, 0.1161, 0.0582, 0.0292, 0]
    assert sigmas(diffusion.exponential(STABLE_DIFFUSION, 10)) == pytest.approx(known, abs=6e-5)


@given(st.integers(2, 60), st.floats(0.01, 0.2))
def test_linear_quadratic_is_a_line_and_a_parabola_that_meets_it_smoothly(steps, threshold):
    levels = diffusion.linear_quadratic(PROCESSES["rectified_flow"], steps, threshold)
    y, half = [1 - level.sigma for level in levels], steps // 2
    assert y[: half + 1] == pytest.approx([threshold * i / half for i in range(half + 1)], abs=1e-9)
    second = np.diff(y[half - 1 :], n=2) if steps % 2 or steps > 2 else np.zeros(1)
    assert second[1:] == pytest.approx(np.full(len(second) - 1, second[-1]), abs=1e-9) and y[-1] == pytest.approx(1)
    curve = (1 - threshold - threshold / half * (steps - half)) / (steps - half) ** 2
    assert y[half + 1] - y[half] == pytest.approx(
        threshold / half + curve, abs=1e-9
    )  # the line's slope where they meet
    same = sigmas(diffusion.linear_quadratic(STABLE_DIFFUSION, steps, threshold))
    assert same == pytest.approx([TABLE[-1] * (1 - each) for each in y], rel=1e-9, abs=1e-9)


def test_steps_that_are_aligned_are_as_published():
    """And their noise levels are those at the time steps that diffusers has for them, up to its rounding."""
    from diffusers.schedulers.scheduling_utils import AysSchedules

    for name, theirs in (("sd1", "StableDiffusion"), ("sdxl", "StableDiffusionXL")):
        found = sigmas(diffusion.align_your_steps(STABLE_DIFFUSION, 10, name))
        assert found == pytest.approx([min(14.6146, each) for each in AysSchedules[f"{theirs}Sigmas"]], rel=1e-5)
        for sigma, index in zip(found, AysSchedules[f"{theirs}Timesteps"], strict=False):
            assert abs(np.interp(sigma, TABLE, np.arange(1000)) - index) < 2
    few = sigmas(diffusion.align_your_steps(STABLE_DIFFUSION, 5))
    assert few == pytest.approx([14.6146, 3.861, 1.886, 0.963, 0.399, 0], rel=1e-5)


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5, 0], [0, 1], [1.2, 0], [1, -0.1], [float("nan"), 0]])
def test_bad_grids(times):
    with pytest.raises(ValueError, match="grid"):
        Grid(PROCESSES["cosine"], times)


@pytest.mark.parametrize("grid", [uniform, leading, trailing, karras])
def test_no_steps(grid):
    with pytest.raises(ValueError, match="steps = 0"):
        grid(PROCESSES["cosine"], 0)
