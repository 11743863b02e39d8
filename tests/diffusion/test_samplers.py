import math
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.diffusion import (
    DiffusionError,
    Grid,
    Prediction,
    ancestral,
    betas,
    ddim,
    ddim_inversion,
    euler,
    heun,
    known_region,
    leading,
    lms,
    sample,
    uniform,
)
from tests.diffusion.oracle import MEAN, PROCESSES, TABLE, VARIANCE, denoise, flow

# each solver of the probability flow with its order
SOLVERS = {
    "euler": (diffusion.euler, 1),
    "ddim": (diffusion.ddim, 1),
    "heun": (diffusion.heun, 2),
    "dpm2": (diffusion.dpm2, 2),
    "flow_heun": (diffusion.flow_heun, 2),
    "flow_midpoint": (diffusion.flow_midpoint, 2),
    "dpm_solver_2m": (diffusion.dpm_solver_2m, 2),
    "dpmpp_2m_sde, eta 0": (partial(diffusion.dpmpp_2m_sde, eta=0.0), 2),
    "dpmpp_sde, eta 0": (partial(diffusion.dpmpp_sde, eta=0.0), 2),
    "dpmpp_3m_sde, eta 0": (partial(diffusion.dpmpp_3m_sde, eta=0.0), 3),
    "lms, order 2": (partial(diffusion.lms, order=2), 2),
    "lms, order 3": (partial(diffusion.lms, order=3), 3),
    "lms": (diffusion.lms, 4),
    "deis, order 2": (partial(diffusion.deis, order=2), 2),
    "deis": (diffusion.deis, 3),
    "dpmpp_2s": (diffusion.dpmpp_2s, 2),
    "dpmpp_2m": (diffusion.dpmpp_2m, 2),
    "dpmpp_3m": (diffusion.dpmpp_3m, 3),
    "unipc, order 1": (partial(diffusion.unipc, order=1), 2),  # the corrector adds one
    "unipc": (diffusion.unipc, 3),
    "unipc, order 3": (partial(diffusion.unipc, order=3), 4),
}
STOCHASTIC = {
    "ancestral": diffusion.ancestral,
    "ddim, eta 0.5": partial(diffusion.ddim, eta=0.5),
    "ddim, eta 1": partial(diffusion.ddim, eta=1.0),
    "euler_ancestral": diffusion.euler_ancestral,
    "heun, churn": partial(diffusion.heun, s_churn=10.0),
    "dpmpp_2m_sde": diffusion.dpmpp_2m_sde,
    "dpmpp_3m_sde": diffusion.dpmpp_3m_sde,
    "dpmpp_sde": diffusion.dpmpp_sde,
    "predictor_corrector": diffusion.predictor_corrector,
    "repaint": partial(diffusion.repaint, jump_length=5, n_resample=2),
}
ALL = {name: solver for name, (solver, _) in SOLVERS.items()} | STOCHASTIC | {"consistency": diffusion.consistency}
GRIDS = {
    "uniform": uniform,
    "karras": diffusion.karras,
    "log_snr": diffusion.exponential,
    "beta": diffusion.beta,
    "leading": leading,
    "trailing": diffusion.trailing,
}


def errors(sampler, grids):
    x = np.array([[-1.5, 0.2, 2.0]])
    found = []
    for grid in grids:
        out = sample(denoise, (3,), sampler, grid, [0], x=x)
        assert out.dtype == np.float64
        found.append(np.abs(out - flow(x, grid[0], grid[-1])).max())
    return found


@cache
def smooth_grid(process, n, sigma_min=0.15):
    """Between finite log-SNRs, dense at both ends: a multistep method begins, and UniPC also ends, with steps of a
    lower order, which must be small enough not to hide the order of the rest."""
    sigma_max = min(10, 0.99 * process.at(1.0).edm_sigma)
    u = np.linspace(0, 1, n + 1)
    sigmas = sigma_max * (sigma_min / sigma_max) ** (u**2 * (3 - 2 * u))
    return Grid(process, process.schedule.sigma_to_t(sigmas))


@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("sampler", SOLVERS)
def test_order_of_convergence(schedule, sampler):
    solver, order = SOLVERS[sampler]
    steps = [128, 256, 512]
    # at two ends, since at one of them errors of the two signs may cancel
    ends = [errors(solver, [smooth_grid(PROCESSES[schedule], n, r) for n in steps]) for r in (0.15, 0.7)]
    found = np.max(ends, axis=0)
    fitted = -np.polyfit(np.log(steps), np.log(found), 1)[0]
    assert fitted > order - 0.15


@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("grid", GRIDS)
def test_infinite_ends_are_finite_and_the_error_falls(schedule, grid):
    """From noise alone, where there is such an end, to clean data, with every solver on every grid. Near t = 0 the
    schedule `sqrt` is infinitely steep, and equal steps in t end with one so large that little is gained by more."""
    enough = 0.03 if schedule == "sqrt" else 2e-3
    grids = [GRIDS[grid](PROCESSES[schedule], n) for n in (10, 250)]
    for solver, _ in SOLVERS.values():
        coarse, fine = errors(solver, grids)
        assert fine < coarse / 4 or fine < enough


@pytest.mark.parametrize("schedule", PROCESSES)
def test_euler_is_ddim_without_noise(schedule):
    grid = uniform(PROCESSES[schedule], 7)
    x = np.linspace(-2, 2, 5)[None]
    np.testing.assert_allclose(
        sample(denoise, (5,), euler, grid, [0], x=x), sample(denoise, (5,), ddim, grid, [0], x=x), rtol=1e-12
    )


@pytest.mark.parametrize("schedule", PROCESSES)
def test_ddim_with_eta_one_is_ancestral(schedule):
    grid = uniform(PROCESSES[schedule], 12)
    one = sample(denoise, (6,), partial(ddim, eta=1.0), grid, [3, 4])
    np.testing.assert_allclose(one, sample(denoise, (6,), ancestral, grid, [3, 4]), rtol=2e-5, atol=1e-5)


def test_euler_ancestral_is_k_diffusions_formula():
    """In x / alpha, with r = sigma / alpha: Euler down to sqrt(r_s^2 - up^2), then up * noise."""
    process = PROCESSES["variance_exploding"]
    grid = diffusion.karras(process, 6, sigma_max=20.0)
    x = start = np.array([[3.0, -1.0]])
    noise = diffusion.Noise([5], (2,), stream=f"{grid[0].t:g}")
    for t, s in pairwise(grid):
        slope = (x - denoise(x, t).x0) / t.sigma
        up = min(s.sigma, math.sqrt(s.sigma**2 * (t.sigma**2 - s.sigma**2) / t.sigma**2))
        x = x + (math.sqrt(s.sigma**2 - up**2) - t.sigma) * slope
        x = x + up * noise.normal() if up else x
    out = sample(denoise, (2,), diffusion.euler_ancestral, grid, [5], x=start)
    np.testing.assert_allclose(out, x, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["linear_beta", "cosine", "variance_exploding", "sub_vp", "rectified_flow"])
@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_stochastic_samplers_have_the_mean_and_covariance(schedule, sampler):
    """20,000 pairs of coordinates: the mean and the 2 x 2 covariance within 5 standard errors, and a bias of 2 %."""
    n, process = 20_000, PROCESSES[schedule]
    steps = 100 if "dpmpp" in sampler else 300  # those are of a higher order
    grid = diffusion.exponential(process, steps, sigma_min=0.01)
    grid = Grid(process, [point.t for point in grid][:-1])
    end = grid[-1]
    out = sample(denoise, (n, 2), STOCHASTIC[sampler], grid, [11])[0].astype(float)
    variance = end.alpha**2 * VARIANCE + end.sigma**2
    assert out.mean(0) == pytest.approx([end.alpha * MEAN] * 2, abs=5 * np.sqrt(variance / n) + 0.01)
    assert np.cov(out.T) == pytest.approx(variance * np.eye(2), abs=(5 * np.sqrt(2 / n) + 0.02) * variance)


def halved(grid):
    """The grid with the middle in log(sigma / alpha) of each of its steps."""
    middles = [grid.at_sigma(math.sqrt(t.edm_sigma * s.edm_sigma)).t for t, s in pairwise(grid)]
    return Grid(grid.process, [*(t for pair in zip(grid.times, middles, strict=False) for t in pair), grid.times[-1]])


KIN = {
    "dpmpp_sde": (diffusion.dpmpp_2s, halved),
    "dpmpp_2m_sde": (diffusion.dpmpp_2m, lambda grid: grid),
    "dpmpp_3m_sde": (diffusion.dpmpp_3m, lambda grid: grid),
}


@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("sampler", KIN)
def test_without_noise_a_solver_of_the_sde_is_its_kin_of_the_flow(sampler, schedule):
    (kin, grid_of), grid = KIN[sampler], smooth_grid(PROCESSES[schedule], 12)
    x = np.array([[-1.5, 0.2, 2.0]])
    still = sample(denoise, (3,), partial(getattr(diffusion, sampler), eta=0.0), grid, [0], x=x)
    np.testing.assert_allclose(still, sample(denoise, (3,), kin, grid_of(grid), [0], x=x), rtol=1e-9)


@cache
def distances(sampler, schedule, eta):
    """Between the pictures of 20, 40, ..., 320 steps."""
    grids = [diffusion.exponential(PROCESSES[schedule], 20 * 2**i, sigma_max=10.0, sigma_min=0.05) for i in range(5)]
    solver = partial(getattr(diffusion, sampler), eta=eta)
    pictures = [sample(denoise, (2000,), solver, grid, [5], dtype="float64") for grid in grids]
    return [float(np.sqrt(((x - y) ** 2).mean())) for x, y in pairwise(pictures)]


@pytest.mark.parametrize("schedule", ["cosine", "variance_exploding", "rectified_flow"])
@pytest.mark.parametrize("sampler", ["dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_more_steps_of_the_same_brownian_path_make_the_same_picture(sampler, schedule, eta):
    """The distance from the picture of n steps to that of 2 n falls as 1 / n. That of noise which is counted does not
    fall: there, pictures of the same seed have nothing but their start in common."""

    off = distances(sampler, schedule, eta)
    assert all(finer < 0.65 * coarser for coarser, finer in pairwise(off)) and off[-1] < 0.015
    counted = distances("ddim", schedule, eta)
    assert all(finer > 0.8 * coarser for coarser, finer in pairwise(counted)) and min(counted) > 20 * off[-1]


@pytest.mark.parametrize("schedule", ["cosine", "rectified_flow"])
def test_consistency_has_the_moments_that_its_steps_imply(schedule):
    """x_0 is a linear map of x_t, and noise is drawn anew: mean and variance step by step."""
    n, process = 40_000, PROCESSES[schedule]
    grid = uniform(process, 4, end=0.1)
    mean, variance = 0.0, grid[0].sigma ** 2
    for t, s in pairwise(grid):
        gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
        mean = s.alpha * (MEAN + gain * (mean - t.alpha * MEAN))
        variance = (s.alpha * gain) ** 2 * variance + s.sigma**2
    out = sample(denoise, (n,), diffusion.consistency, grid, [11])[0].astype(float)
    assert out.mean() == pytest.approx(mean, abs=5 * (variance / n) ** 0.5)
    assert out.var() == pytest.approx(variance, rel=5 * (2 / n) ** 0.5)


@pytest.mark.parametrize("schedule", ["linear_beta", "variance_exploding"])
def test_annealed_langevin_has_the_moments_that_its_steps_imply(schedule):
    """Few and large steps, so that another size would show: the score is linear, and so is the chain."""
    n, process, step, corrections = 40_000, PROCESSES[schedule], 0.3, 3
    grid = Grid(process, diffusion.exponential(process, 8, sigma_max=5.0, sigma_min=0.1).times[:-1])
    mean, variance = 0.0, grid[0].sigma ** 2
    for t, s in pairwise(grid):
        total, h = t.alpha**2 * VARIANCE + t.sigma**2, step * t.sigma**2
        for _ in range(corrections):
            mean += h * (t.alpha * MEAN - mean) / total
            variance = (1 - h / total) ** 2 * variance + 2 * h
        mean, variance = s.alpha / t.alpha * mean, (s.alpha / t.alpha) ** 2 * variance
    solver = partial(diffusion.annealed_langevin, corrections=corrections, step=step)
    out = sample(denoise, (n,), solver, grid, [3])[0].astype(float)
    assert out.mean() == pytest.approx(mean, abs=5 * (variance / n) ** 0.5)
    assert out.var() == pytest.approx(variance, rel=5 * (2 / n) ** 0.5)


def test_annealed_langevin_comes_to_the_marginal():
    """Of Gaussian data, up to the bias of its step."""
    n, process = 20_000, PROCESSES["variance_exploding"]
    grid = diffusion.exponential(process, 30, sigma_max=20.0, sigma_min=0.05)
    solver = partial(diffusion.annealed_langevin, corrections=100, step=0.05)
    grid = Grid(process, grid.times[:-1])
    out = sample(denoise, (n,), solver, grid, [3])[0].astype(float)
    assert out.mean() == pytest.approx(MEAN, abs=0.03)
    assert out.var() == pytest.approx(VARIANCE, rel=0.1)


@pytest.mark.parametrize("sampler", ALL)
def test_numpy_and_torch_agree_and_a_seed_is_the_same_alone_and_in_a_batch(sampler):
    grid = uniform(PROCESSES["cosine"], 10)
    batch = sample(denoise, (4,), ALL[sampler], grid, [3, 4, 5])
    alone = sample(denoise, (4,), ALL[sampler], grid, [4])
    np.testing.assert_allclose(batch[1:2], alone, rtol=1e-6, atol=1e-6)
    torched = sample(denoise, (4,), ALL[sampler], grid, [3, 4, 5], device="cpu")
    assert torched.dtype == torch.float32 and batch.dtype == np.float32
    np.testing.assert_allclose(torched.numpy(), batch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", [name for name in PROCESSES if PROCESSES[name].at(1.0).alpha])
def test_inversion_leads_to_the_noise_that_leads_back(schedule):
    process = PROCESSES[schedule]
    x0 = np.array([[0.3, 1.1, -0.4]])
    lost = []
    for steps in (50, 200, 800):
        grid = smooth_grid(process, steps)
        x = sample(denoise, (3,), ddim_inversion, grid, [0], x=x0)
        lost.append(np.abs(sample(denoise, (3,), ddim, grid, [0], x=x) - x0).max())
        exact = flow(x0, grid[-1], grid[0])
    assert lost[0] > 2.5 * lost[1] > 2.5**2 * lost[2]  # of first order
    assert np.abs(x - exact).max() < 0.02 * np.abs(exact).max()


def test_inversion_cannot_begin_in_pure_noise():
    with pytest.raises(DiffusionError, match="t = 1 nothing is left of x"):
        sample(denoise, (1,), ddim_inversion, uniform(PROCESSES["cosine"], 4), [0], x=np.zeros((1, 1)))


@pytest.mark.parametrize(("sampler", "most"), [(lms, 4), (diffusion.deis, 3), (diffusion.unipc, 3)])
@pytest.mark.parametrize("order", [0, 5])
def test_an_order_that_a_solver_does_not_have(sampler, most, order):
    with pytest.raises(DiffusionError, match=f"order = {order}; a whole number from 1 to {most} is needed"):
        sample(denoise, (1,), partial(sampler, order=order), uniform(PROCESSES["cosine"], 4), [0])


def test_churn_raises_the_noise_within_its_interval_only():
    """The states at which the network is asked lie, in every step of the interval, at a level risen by sqrt(2)."""
    process, asked = PROCESSES["edm"], []

    def watch(x, t, condition=None):
        asked.append(t.sigma)
        return denoise(x, t)

    grid = diffusion.karras(process, 5)
    sample(watch, (1,), partial(heun, s_churn=1e9, s_t=(1.0, 30.0)), grid, [0])
    begins = asked[::2]
    expected = [p.sigma * (math.sqrt(2) if 1 <= p.sigma <= 30 else 1) for p in grid.levels[:-1]]
    assert begins == pytest.approx(expected)


def test_the_corrector_of_unipc_keeps_what_a_hook_has_put_into_the_state():
    process = PROCESSES["cosine"]
    x0, mask = np.full((1, 2), 0.9), np.array([[True, False]])
    seen = []

    def network(x, t, condition=None):
        seen.append((x[0, 0], t))
        return denoise(x, t)

    grid, hook = uniform(process, 8, start=0.9), known_region(process, x0, mask)
    sample(network, (2,), diffusion.unipc, grid, [2], hooks=[hook])
    noise = diffusion.Noise([2], (2,))
    first = process.prior(grid[0], noise)[0, 0]
    known = [process.noise(0.9, t, noise.normal()[0, 0]) for t in grid.levels[1:-1]]
    assert [value for value, _ in seen] == pytest.approx([first, *known])


def test_a_spread_of_one_is_the_larger_variance():
    process = PROCESSES["linear_beta"]
    t, s = process.at(0.5), process.at(0.499)
    added = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
    assert process.transition(0.0, t, s, Prediction(0.0, 1.0)).std == pytest.approx(math.sqrt(added))
    assert process.transition(0.0, t, process.at(0.0), Prediction(0.0, 1.0)).std == 0


def test_the_table_of_betas_is_the_schedule():
    bars = np.cumprod(1 - TABLE)
    schedule = betas(TABLE)
    for index in (0, 500, 999):
        assert schedule.at((index + 1) / 1000).alpha ** 2 == pytest.approx(bars[index], rel=1e-12)
