"""Coordinates that wrap: the wrapped normal against a sum over images, samples against a known density."""

import math

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.diffusion import Denoiser, DiffusionError, Prediction, Torus, sample, uniform

PROCESS = Torus(diffusion.variance_exploding(0.005, 0.7))
CENTRES, WIDTHS, SHARES = np.array([0.05, 0.6]), np.array([0.03, 0.08]), np.array([0.3, 0.7])


def images(x, mean, std, period=1.0, count=200):
    """The density and its slope as a plain sum over images, `count` to each side, in float64."""
    d = np.asarray(x, float)[..., None] - mean + period * np.arange(-count, count + 1)
    density = np.exp(-((d / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    return density.sum(-1), (-d / std**2 * density).sum(-1)


def mixture(x, t):
    """The density at time t of two wrapped normals, and its slope. Beyond nine images all lie more than 12 of the
    widest standard deviation away, and are nothing in float64."""
    parts = [images(x, c, math.hypot(w, t.sigma), count=9) for c, w in zip(CENTRES, WIDTHS, strict=True)]
    return sum(a * p for a, (p, _) in zip(SHARES, parts, strict=True)), sum(
        a * q for a, (_, q) in zip(SHARES, parts, strict=True)
    )


def denoise(x, t, condition=None):
    density, slope = mixture(x % 1, t)
    return Prediction((x + t.sigma**2 * slope / density).astype(x.dtype))


@pytest.mark.parametrize("period", [1.0, 2 * math.pi])
@pytest.mark.parametrize("share", [0.003, 0.1, 0.4, 1.0, 30.0])
def test_density_and_score_are_sums_over_images(share, period):
    std = share * period
    x = np.linspace(0, period, 41)[:-1]
    for mean in (0.1 * period, 0.97 * period, -3.4 * period):
        law = diffusion.WrappedNormal(np.full(40, mean), std, period)
        far = min(std, 3 * period)  # the plain sum has 401 images
        density, slope = images(x, mean % period, far, period)
        some = density > 1e-200
        np.testing.assert_allclose(law.log_prob(x)[some], np.log(density[some]), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(law.score(x)[some] * std, slope[some] / density[some] * std, rtol=1e-6, atol=3e-6)


SAMPLERS = {
    "ancestral": diffusion.ancestral,
    "predictor_corrector": diffusion.predictor_corrector,
    "ddim": diffusion.ddim,
    "dpmpp_2m": diffusion.dpmpp_2m,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_known_density_and_stay_in_the_cell(name):
    n, grid = 4000, diffusion.exponential(PROCESS, 150, sigma_max=0.7, sigma_min=0.002)
    x = sample(denoise, (1,), SAMPLERS[name], grid, range(n))
    assert (x >= 0).all() and (x < 1).all()
    ends = np.linspace(0, 1, 21)
    fine = np.linspace(0, 1, 20_001)
    cumulative = np.concatenate([[0], np.cumsum(mixture((fine[1:] + fine[:-1]) / 2, grid[-1])[0])]) / 20_000
    law = np.diff(np.interp(ends, fine, cumulative))
    found = np.histogram(x, ends)[0] / n
    assert abs(found - law).max() < 4.5 * math.sqrt(0.25 / n)


def test_hooks_and_known_regions_stay_in_the_cell():
    where = np.array([[True, False]])
    hook = diffusion.known_region(PROCESS, np.array([[0.98, 0.0]]), where)
    x = sample(denoise, (2,), diffusion.ancestral, uniform(PROCESS, 40), range(200), hooks=[hook])
    assert (x[:, 0] == np.float32(0.98)).all() and (x >= 0).all() and (x < 1).all()


@pytest.mark.parametrize("form", ["eps", "score", "x0"])
def test_the_best_network_is_the_score_of_the_data(form):
    """Least squares on the target finds the score of q(x_t), here of a single point, and of data spread uniformly."""
    process, generator = PROCESS, torch.Generator().manual_seed(0)
    x0 = torch.full((64, 1), 0.95)

    def exact(x, time):
        t = process.at(time.double().reshape(-1, 1) / 1000)
        score = diffusion.WrappedNormal(torch.full_like(x, 0.95), t.sigma.float()).score(x)
        if form == "score":
            return score
        return -t.sigma.float() * score if form == "eps" else x + (t.sigma**2).float() * score

    loss = Denoiser(exact, process, form).loss(x0, weight=lambda t, f: t.sigma**2, generator=generator)
    if form != "x0":  # the network sees x in the cell, and the target is the very score
        assert float(loss) < 1e-6
    off = Denoiser(lambda x, time: 0 * x, process, form).loss(x0, weight=lambda t, f: t.sigma**2, generator=generator)
    assert float(off) > 1e-3


def test_network_sees_the_cell_and_torch_agrees_with_numpy():
    seen = []

    def network(x, time):
        seen.append((float(x.min()), float(x.max())))
        return 0 * x + (2 * math.pi * x).sin() if isinstance(x, torch.Tensor) else np.sin(2 * math.pi * x)

    denoiser, grid = Denoiser(network, PROCESS, "score"), diffusion.exponential(PROCESS, 20, 0.7, 0.01)
    for sampler in SAMPLERS.values():
        on = [np.asarray(sample(denoiser, (5,), sampler, grid, range(20), device=d)) for d in (None, "cpu")]
        gap = abs(on[0] - on[1])
        assert np.minimum(gap, 1 - gap).max() < 1e-4
    assert all(low >= 0 and high < 1 for low, high in seen)


def test_coordinates_outside_the_cell_and_schedules_that_shrink_are_refused():
    grid = uniform(PROCESS, 3)
    with pytest.raises(DiffusionError, match=r"x, shape \(1, 2\): coordinates from 0.5 to 1.2 lie outside the cell"):
        sample(denoise, (2,), diffusion.ancestral, grid, [0], x=np.array([[0.5, 1.2]]))
    with pytest.raises(DiffusionError, match="outside the cell"):
        Denoiser(lambda x, time: x, PROCESS, "eps").loss(torch.tensor([[-0.1]]))
    with pytest.raises(DiffusionError, match="cannot shrink"):
        Torus(diffusion.cosine())
    law = PROCESS.marginal(np.zeros(1), PROCESS.at(0.5))
    with pytest.raises(DiffusionError, match="no closed form"):
        law.kl(law)
