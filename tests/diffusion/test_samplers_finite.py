from functools import partial

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    ancestral,
    annealed_langevin,
    ddim,
    deis,
    dpm2,
    dpm_solver_2m,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    dpmpp_3m,
    dpmpp_3m_sde,
    dpmpp_sde,
    euler,
    euler_ancestral,
    flow_heun,
    flow_midpoint,
    heun,
    karras,
    lms,
    predictor_corrector,
    repaint,
    sample,
    unipc,
)
from tests.diffusion.oracle import PROCESSES, finite

SAMPLERS = {
    "ancestral": ancestral,
    "annealed_langevin": partial(annealed_langevin, corrections=40, step=0.1),
    "ddim": ddim,
    "ddim, eta 0.5": partial(ddim, eta=0.5),
    "deis": deis,
    "dpm2": dpm2,
    "dpm_solver_2m": dpm_solver_2m,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "dpmpp_2s": dpmpp_2s,
    "dpmpp_3m": dpmpp_3m,
    "dpmpp_3m_sde": dpmpp_3m_sde,
    "dpmpp_sde": dpmpp_sde,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "flow_heun": flow_heun,
    "flow_midpoint": flow_midpoint,
    "heun": heun,
    "heun, churn": partial(heun, s_churn=20.0),
    "lms": lms,
    "predictor_corrector": predictor_corrector,
    "repaint": partial(repaint, jump_length=10, n_resample=2),
    "unipc": unipc,
}
SLOW = {"annealed_langevin": pytest.mark.slow}
POINTS, COUNTS = np.array([-1.8, -0.2, 0.84]), np.array([2, 3, 5])  # of mean zero, as is the prior


@pytest.mark.parametrize("schedule", ["cosine", "variance_exploding", "rectified_flow"])
@pytest.mark.parametrize("sampler", [pytest.param(name, marks=SLOW.get(name, ())) for name in SAMPLERS])
def test_samples_of_a_finite_data_set_are_its_points_in_their_proportions(sampler, schedule):
    """Of one state of 10,000 numbers; each share within 4 standard errors, and 0.01 for the steps."""
    denoise, n = finite(POINTS[:, None], COUNTS), 10_000
    each = lambda x, t, c: type(p := denoise(x.reshape(n, 1), t))(p.x0.reshape(1, n))  # noqa: E731
    grid = karras(PROCESSES[schedule], 60, sigma_max=80.0, sigma_min=0.002)
    out = sample(each, (n,), SAMPLERS[sampler], grid, [7], dtype="float64")[0]
    off = np.abs(out[:, None] - POINTS)
    assert off.min(1).max() < 1e-3
    shares = np.bincount(off.argmin(1), minlength=3) / n
    np.testing.assert_allclose(shares, COUNTS / 10, rtol=0, atol=4 * 0.5 / n**0.5 + 0.01)


def test_numpy_and_torch_agree():
    denoise, x = finite(np.array([[0.0, 1.0], [2.0, -1.0], [2.0, -1.0]])), np.array([[0.5, 0.5], [1.5, -3.0]])
    t = PROCESSES["cosine"].at(0.6)
    likely = np.exp(-((x[:, None] - t.alpha * np.array([[0, 1], [2, -1]])) ** 2).sum(2) / (2 * t.sigma**2)) * [1, 2]
    exact = likely @ np.array([[0, 1], [2, -1]]) / likely.sum(1, keepdims=True)
    np.testing.assert_allclose(denoise(x, t).x0, exact)
    np.testing.assert_allclose(denoise(torch.from_numpy(x), t).x0, exact)
