"""Our samplers agree with diffusers: side by side (`parity`), and with the numbers in diffusers' own test suite."""

import json

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Denoiser,
    Gaussian,
    Grid,
    Prediction,
    ancestral,
    betas,
    consistency,
    ddim,
    ddim_inversion,
    deis,
    dpmpp_2m,
    dpmpp_2s,
    edm,
    edm_schedule,
    euler,
    exponential,
    flux_shift,
    karras,
    leading,
    quarter_log_sigma,
    rectified_flow,
    static_threshold,
    uniform,
    unipc,
)
from tests.diffusion.parity import (
    BOUND,
    CASES,
    LINEAR,
    RESULT,
    SAMPLE,
    SD,
    Draws,
    between,
    boundary,
    cut,
    dummy,
    entries,
    index,
    lcm_grid,
    levels,
    ours,
    spaced,
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what NumPy thinks of diffusers
@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_diffusers(name):
    pytest.importorskip("diffusers")
    assert CASES[name].difference() <= BOUND


def test_the_report_has_every_row():
    report = json.loads(RESULT.read_text(encoding="utf-8"))
    named = [f"{row['diffusers'].removesuffix('Scheduler')}, {row['settings']}" for row in report["rows"]]
    assert named == list(CASES)
    assert all(row["largest relative difference"] <= BOUND for row in report["rows"])


def run(sampler, grid, predicts="eps", guide=lambda denoise: denoise, time=index, x=SAMPLE, noise=None):
    return ours(guide(Denoiser(dummy, grid.process, predicts, c_noise=time)), sampler, grid, x, noise)


def clipped(sampler, grid, predicts="eps", **options):
    return run(sampler, grid, predicts, static_threshold, **options)


def noised(grid):
    """The sample with, for noise, its own numbers in reverse, at the first time of the grid."""
    return grid.process.noise(SAMPLE, grid[0], SAMPLE.flip(0, 1, 2, 3))


def halved(denoise):
    """Their dynamic threshold with a largest value of 0.5: whatever the quantile, clipped to 0.5 and doubled."""
    narrow = static_threshold(denoise, 0.5)
    return lambda x, t, condition: Prediction(2 * narrow(x, t, condition).x0)


def pairs_after_one(grid, x=SAMPLE):
    """dpmpp_2s with the step that is left over first instead of last: theirs, begun in the middle of a pair."""
    return run(dpmpp_2s, cut(grid, 1), x=run(dpmpp_2s, cut(grid, 0, 2), x=x))


def deis_eased(grid, predicts="eps", x=SAMPLE):
    """DEIS of order 2 whose last step is of first order: their `lower_order_final`."""
    x = run(lambda x, grid, noise: deis(x, grid, noise, 2), cut(grid, 0, -1), predicts, x=x)
    return run(euler, cut(grid, -2), predicts, x=x)


def to_entry(grid):
    """Down to the table's cleanest entry in place of clean data: TCD with eta = 0 is then DDIM on LCM's times."""
    return Grid(grid.process, [*grid.times[:-1], 1 / 1000])


CHAIN, TEN, END, SHORT = (
    uniform(LINEAR, 1000),
    leading(LINEAR, 10),
    entries(LINEAR, 10),
    Grid(LINEAR, [0.002, 0.001, 0]),
)
NOISY = Gaussian(betas(np.linspace(0.01, 0.02, 1000)))
LONG = Gaussian(betas(np.linspace(1e-4, 0.02, 1100)))
SPACED = spaced(LONG, 10, 1100)
LEVELS = cut(levels(LINEAR, 10), 0, -1)
# Their Karras levels with final_sigmas_type "sigma_min" have the last level twice; the times of a grid must descend.
TWICE = Grid(LINEAR, [*(point.t for point in LEVELS), LEVELS[-1].t * (1 - 1e-9)])
TOLD = {"time": between(LINEAR, whole=True)}
EDM = karras(Gaussian(edm_schedule()), 10)
# Their tests of EDM's DPM-Solver++ show the network x itself; "v" there is the network's answer, negated.
RAW = edm()._replace(c_in=None)
NEGATED = RAW._replace(weights=lambda t: tuple(-weight for weight in RAW.weights(t)))
RATIO = {"time": quarter_log_sigma}
LINE = (torch.arange(96, dtype=torch.float64) / 96).reshape(3, 8, 4).permute(2, 0, 1)

# Sums of |x| in the tests of diffusers. The Euler family's own are left out, since those tests step from the scaled
# state; 168.0516 is that of a correct loop. Clipping takes hold in none of DDIM's. Left out of DDIMInverse are "v",
# another rule (`parity`), and "not alpha_to_one", where it does clip, and clips what ours never forms.
SUMS = {
    "DDPM": (258.9606, lambda: clipped(ancestral, CHAIN, noise=Draws(torch.float32))),
    "DDPM, v": (202.0296, lambda: clipped(ancestral, CHAIN, "v", noise=Draws(torch.float32))),
    "DDPM, from noise": (387.9466, lambda: clipped(ancestral, SHORT, x=noised(SHORT), noise=Draws(torch.float32))),
    "DDIM": (172.0067, lambda: clipped(ddim, TEN)),
    "DDIM, v": (52.5302, lambda: clipped(ddim, TEN, "v")),
    "DDIM, to one": (149.8295, lambda: clipped(ddim, leading(NOISY, 10))),
    "DDIM, to the first entry": (149.0784, lambda: clipped(ddim, cut(leading(NOISY, 10), 0, -1))),
    "DDIM, from noise": (354.5418, lambda: clipped(ddim, cut(TEN, 8), x=noised(cut(TEN, 8)))),
    "DDIMInverse": (671.6816, lambda: run(ddim_inversion, TEN)),
    "DDIMInverse, from one": (539.9622, lambda: run(ddim_inversion, leading(NOISY, 10))),
    "Euler": (168.0516, lambda: run(euler, SPACED, time=lambda t: 1100 * t.t - 1, x=SAMPLE * SPACED[0].sigma)),
    "DPMSolverMultistep": (253.5514, lambda: run(dpmpp_2m, END)),
    "DPMSolverMultistep, from noise": (318.4111, lambda: run(dpmpp_2m, cut(END, 5), x=noised(cut(END, 5)))),
    "DPMSolverSinglestep, from noise": (269.2187, lambda: pairs_after_one(cut(END, 5), noised(cut(END, 5)))),
    "UniPC, from noise": (315.5757, lambda: run(unipc, cut(END, 8), x=noised(cut(END, 8)))),
    "UniPC, a line, from noise": (
        39.0870,
        lambda: run(unipc, cut(END, 8), x=LINEAR.noise(LINE, END[8], LINE.flip(0, 1, 2))),
    ),
    "DEIS, from noise": (315.3016, lambda: deis_eased(cut(END, 8), x=noised(cut(END, 8)))),
    "LCM, one step": (18.7097, lambda: run(consistency, lcm_grid(1), guide=boundary, noise=Draws(torch.float32))),
    "LCM": (197.7616, lambda: run(consistency, lcm_grid(10), guide=boundary, noise=Draws(torch.float32))),
    "TCD, one step": (29.8715, lambda: run(ddim, to_entry(lcm_grid(1)))),
    "TCD": (181.2040, lambda: run(ddim, to_entry(lcm_grid(10)))),
    "EDMEuler": (34.1855, lambda: run(euler, EDM, "edm", x=SAMPLE * (80**2 + 1) ** 0.5, **RATIO)),
    "EDMDPMSolverMultistep, from noise": (
        8.1661,
        lambda: run(dpmpp_2m, cut(EDM, 5, -1), RAW, x=noised(cut(EDM, 5)), **RATIO),
    ),
}

# Means of |x| in the same tests. They use a grid of Lu's as well, which we have not.
MEANS = {
    "DPMSolverMultistep": (0.3301, lambda: run(dpmpp_2m, END)),
    "DPMSolverMultistep, v": (0.2251, lambda: run(dpmpp_2m, END, "v")),
    "DPMSolverMultistep, Karras, v": (0.2096, lambda: run(dpmpp_2m, LEVELS, "v", **TOLD)),
    "DPMSolverMultistep, threshold": (1.1364, lambda: run(dpmpp_2m, END, guide=halved)),
    "DPMSolverSinglestep": (0.2791, lambda: run(dpmpp_2s, END)),
    "DPMSolverSinglestep, Karras": (0.2248, lambda: run(dpmpp_2s, TWICE, **TOLD)),
    "DPMSolverSinglestep, v": (0.1453, lambda: run(dpmpp_2s, END, "v")),
    "DPMSolverSinglestep, Karras, v": (0.0649, lambda: run(dpmpp_2s, TWICE, "v", **TOLD)),
    "DPMSolverSinglestep, uneven": (0.2574, lambda: pairs_after_one(cut(entries(LINEAR, 50), 3))),
    "UniPC": (0.2464, lambda: run(unipc, END)),
    "UniPC, Karras": (0.2925, lambda: run(unipc, TWICE, **TOLD)),
    "UniPC, v": (0.1014, lambda: run(unipc, END, "v")),
    "UniPC, Karras, v": (0.1966, lambda: run(unipc, TWICE, "v", **TOLD)),
    "UniPC, a line": (0.2441, lambda: run(unipc, END, x=LINE)),
    "UniPC, a line, Karras": (0.2898, lambda: run(unipc, TWICE, x=LINE, **TOLD)),
    "UniPC, a line, v": (0.1014, lambda: run(unipc, END, "v", x=LINE)),
    "UniPC, a line, Karras, v": (0.1944, lambda: run(unipc, TWICE, "v", x=LINE, **TOLD)),
    "DEIS": (0.23916, lambda: deis_eased(END)),
    "DEIS, v": (0.091, lambda: deis_eased(END, "v")),
    "EDMDPMSolverMultistep": (0.0001, lambda: run(dpmpp_2m, cut(EDM, 0, -1), RAW, **RATIO)),
    "EDMDPMSolverMultistep, threshold": (0.0080, lambda: run(dpmpp_2m, cut(EDM, 0, -1), RAW, halved, **RATIO)),
    "EDMDPMSolverMultistep, v": (0.0092, lambda: run(dpmpp_2m, cut(EDM, 0, -1), NEGATED, **RATIO)),
}

# The sum: theirs is 387.9669 with exact products of betas (`parity` has these two steps); float32 loses up to 6e-4 of
# a beta of 1e-4. The means: their suite allows 1e-3, and version 0.42.1 itself computes 0.20920, 0.19621 and 0.10047.
LOOSE = {
    "DDPM, from noise": 3e-2,
    "DPMSolverMultistep, Karras, v": 5e-4,
    "UniPC, Karras, v": 5e-4,
    "UniPC, a line, v": 1e-3,
}


@pytest.mark.parametrize("name", SUMS)
def test_reference_sums(name):
    expected, result = SUMS[name]
    assert result().abs().sum().item() == pytest.approx(expected, abs=LOOSE.get(name, 3e-3), rel=0)


@pytest.mark.parametrize("name", MEANS)
def test_reference_means(name):
    expected, result = MEANS[name]
    assert result().abs().mean().item() == pytest.approx(expected, abs=LOOSE.get(name, 1e-4), rel=0)


@pytest.mark.parametrize(
    ("t", "s", "expected"),
    [(487, 486, 0.00979), (999, 998, 0.02), (420, 400, 0.14771), (980, 960, 0.32460)],
)
def test_reference_variances_of_ddpm_and_ddim(t, s, expected):
    there, here = LINEAR.at((t + 1) / 1000), LINEAR.at((s + 1) / 1000)
    assert LINEAR.transition(SAMPLE, there, here, Prediction(SAMPLE)).std ** 2 == pytest.approx(expected, abs=1e-5)


def test_reference_karras_levels_of_a_rectified_flow():
    grid = karras(Gaussian(rectified_flow()), 5, sigma_max=200, sigma_min=0.01)
    expected = [0.99502486, 0.97874546, 0.87748843, 0.36049718, 0.00990099, 0]
    assert [point.sigma for point in grid] == pytest.approx(expected, abs=1e-7)


# The levels sigma / alpha of 10 steps on Stable Diffusion's table, as other tools list them.
SD_LEVELS = {
    "karras": [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292],
    "exponential": [14.6146, 7.3249, 3.6712, 1.8400, 0.9222, 0.4622, 0.2317, 0.1161, 0.0582, 0.0292],
    "sgm_uniform": [14.6146, 8.3072, 5.0924, 3.3251, 2.2797, 1.6156, 1.1629, 0.8319, 0.5712, 0.3437],
}


@pytest.mark.parametrize("name", SD_LEVELS)
def test_reference_levels_on_the_table_of_stable_diffusion(name):
    grids = {
        "karras": karras(SD, 10),
        "exponential": exponential(SD, 10),
        "sgm_uniform": Grid(SD, [*((np.linspace(999, 0, 11)[:-1] + 1) / 1000), 0.0]),
    }
    assert [level.edm_sigma for level in grids[name]] == pytest.approx([*SD_LEVELS[name], 0], abs=6e-5, rel=0)


@pytest.mark.parametrize(("side", "mu"), [(512, 0.63), (768, 0.846667), (1024, 1.15), (1536, 2.016667), (2048, 3.23)])
def test_reference_shifts_of_flux(side, mu):
    shift = flux_shift((side // 16) ** 2)
    assert np.log(shift) == pytest.approx(mu, abs=1e-6)
    assert rectified_flow(shift).at(0.5).sigma == pytest.approx(np.exp(mu) / (np.exp(mu) + 1), abs=1e-6)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("steps", [1, 10, 30, 50, 999])
def test_reference_times_of_the_leading_spacing(steps, offset):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(steps_offset=offset)
    scheduler.set_timesteps(steps)
    found = [1000 * level.t - 1 for level in leading(LINEAR, steps, steps_offset=offset)]
    assert found == pytest.approx([*scheduler.timesteps.tolist(), -1], abs=1e-9)
