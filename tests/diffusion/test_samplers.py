from functools import partial

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Ask,
    Denoiser,
    Gaussian,
    Grid,
    ancestral,
    betas,
    ddim,
    dpmpp_2m,
    euler,
    karras,
    leading,
    sample,
    static_threshold,
    trailing,
    uniform,
)
from tests.diffusion.oracle import MEAN, PROCESSES, TABLE, VARIANCE, denoise, flow

DETERMINISTIC = {"ddim": (ddim, 1), "euler": (euler, 1), "dpmpp_2m": (dpmpp_2m, 2)}


def errors(process, sampler, steps, grid_of):
    x = np.array([[-1.5, 0.2, 2.0]])
    found = []
    for n in steps:
        grid = grid_of(process, n)
        out = sample(denoise, (3,), sampler, grid, [0], x=x)
        assert out.dtype == np.float64
        found.append(np.abs(out - flow(x, grid[0], grid[-1])).max())
    return found


def log_snr_grid(process, n):
    """Equal steps in log-SNR between finite ends, sigma / alpha from 20 to 0.05."""
    return Grid(process, [process.schedule.time(r) for r in np.geomspace(20, 0.05, n + 1)])


@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_order_of_convergence(schedule, sampler):
    solver, order = DETERMINISTIC[sampler]
    steps = [32, 64, 128, 256]
    found = errors(PROCESSES[schedule], solver, steps, log_snr_grid)
    fitted = -np.polyfit(np.log(steps), np.log(found), 1)[0]
    assert fitted == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("grid_of", [uniform, karras, partial(trailing, table=1000), partial(leading, table=1000)])
@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_infinite_ends_are_finite_and_the_error_falls(schedule, sampler, grid_of):
    coarse, fine = errors(PROCESSES[schedule], DETERMINISTIC[sampler][0], [10, 200], grid_of)
    assert fine < coarse / 5


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
    np.testing.assert_allclose(one, sample(denoise, (6,), ancestral, grid, [3, 4]), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("sampler", [ancestral, partial(ddim, eta=0.5), partial(ddim, eta=1.0)])
def test_stochastic_samplers_have_the_mean_and_covariance(schedule, sampler):
    """20,000 pairs of coordinates: the mean and the 2 x 2 covariance within 5 standard errors."""
    n = 20_000
    out = sample(denoise, (n, 2), sampler, uniform(PROCESSES[schedule], 300), [11])[0].astype(float)
    assert out.mean(0) == pytest.approx([MEAN] * 2, abs=5 * np.sqrt(VARIANCE / n) + 0.005)
    bias = 0.01 * VARIANCE  # of 300 steps
    assert np.cov(out.T) == pytest.approx(VARIANCE * np.eye(2), abs=5 * np.sqrt(2 / n) * VARIANCE + bias)


# Known answers: the dummy model and the dummy sample of the diffusers test suite.
SAMPLE = (torch.arange(768) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def dummy(x, time):
    time = time.reshape(-1, 1, 1, 1)
    return x * time / (time + 1)


def dummy_denoiser(parametrization):
    process = Gaussian(betas(np.linspace(1e-4, 0.02, 1000, dtype=np.float32)))
    return static_threshold(Denoiser(dummy, process, parametrization, time=lambda t: 1000 * t.t - 1)), process


@pytest.mark.parametrize(("parametrization", "expected"), [("eps", 172.0067), ("v", 52.5302)])
def test_ddim_reference_sums(parametrization, expected):
    denoiser, process = dummy_denoiser(parametrization)
    out = sample(denoiser, SAMPLE.shape[1:], ddim, leading(process, 10), range(4), x=SAMPLE)
    assert out.abs().sum().item() == pytest.approx(expected, abs=1e-2)


def test_ddpm_reference_sum():
    """All 1,000 steps, with torch's own generator in place of our noise."""
    denoiser, process = dummy_denoiser("eps")
    generator = torch.manual_seed(0)

    class TorchNoise:
        def normal(self):
            return torch.randn(SAMPLE.shape, generator=generator)

    walk = ancestral(SAMPLE, uniform(process, 1000), TorchNoise())
    request = next(walk)
    try:
        while True:
            reply = denoiser(request.x, request.t, None) if isinstance(request, Ask) else request.x
            request = walk.send(reply)
    except StopIteration as stop:
        assert stop.value.abs().sum().item() == pytest.approx(258.9606, abs=1e-2)


def test_dpmpp_2m_reference_mean():
    """Equal whole-number steps from index 999 to 0, the last entry being the end (no step to clean data)."""
    process = Gaussian(betas(np.linspace(1e-4, 0.02, 1000, dtype=np.float32)))
    denoiser = Denoiser(dummy, process, "eps", time=lambda t: 1000 * t.t - 1)
    indices = np.round(np.linspace(0, 999, 11))[::-1]
    times = [*(indices[:-1] + 1) / 1000, 1 / 1000]
    out = sample(denoiser, SAMPLE.shape[1:], dpmpp_2m, Grid(process, times), range(4), x=SAMPLE)
    assert out.abs().mean().item() == pytest.approx(0.3301, abs=1e-3)


def test_the_table_of_betas_is_the_schedule():
    bars = np.cumprod(1 - TABLE)
    schedule = betas(TABLE)
    for index in (0, 500, 999):
        assert schedule.at((index + 1) / 1000).alpha ** 2 == pytest.approx(bars[index], rel=1e-12)
