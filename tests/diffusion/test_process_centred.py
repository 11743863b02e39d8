"""NoiseLevel sets with their centre of mass at 0, of different sizes in one batch."""

import math

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.diffusion import Denoiser, DiffusionError, Prediction, ZeroCoM, centred, sample, uniform

PROCESS = ZeroCoM(diffusion.cosine())
VARIANCE = 0.3


def denoise(x, t, condition=None):
    """E[x_0 | x_t] for x_0 ~ VARIANCE * (centred standard normal)."""
    return Prediction(t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2) * x)


def drifting(x, t, condition=None):
    """The same by a network that also shifts the whole set, as one that is not equivariant does."""
    return Prediction(denoise(x, t).x0 + 5.0)


@pytest.mark.parametrize("network", [denoise, drifting])
@pytest.mark.parametrize("sampler", [diffusion.ancestral, diffusion.heun, diffusion.dpmpp_2m])
def test_samples_are_the_gaussian_of_the_subspace(sampler, network):
    n, points = 4000, 4
    x = sample(network, (points, 2), sampler, uniform(PROCESS, 60), range(n))
    assert abs(x.sum(1)).max() < 1e-4
    found = np.einsum("bpi,bqi->pq", x, x) / (2 * n)  # both coordinates have this covariance
    exact = VARIANCE * (np.eye(points) - 1 / points)
    np.testing.assert_allclose(found, exact, atol=0.03)
    assert abs(x.mean(0)).max() < 4 * math.sqrt(VARIANCE / n)


def test_a_sample_is_the_same_in_any_padding():
    grid, mask = uniform(PROCESS, 8), np.array([[True] * 3 + [False] * 2, [True] * 5])
    seen = []

    def network(x, t, condition):
        seen.append(condition["mask"])
        return drifting(x, t)

    both = sample(network, (5, 3), diffusion.ancestral, grid, [7, 8], mask=mask)
    for i, points in enumerate((3, 5)):
        alone = sample(drifting, (points, 3), diffusion.ancestral, grid, [7 + i])
        np.testing.assert_allclose(both[i, :points], alone[0], atol=1e-5)
        assert (both[i, points:] == 0).all()
        assert abs(both[i].sum(0)).max() < 1e-5
    assert all(given is mask for given in seen)
    on_torch = sample(network, (5, 3), diffusion.ancestral, grid, [7, 8], mask=torch.from_numpy(mask), device="cpu")
    np.testing.assert_allclose(on_torch.numpy(), both, atol=1e-5)


def test_turning_and_shifting_what_a_network_answers_is_no_matter():
    """Invariance: rotated noise is as likely, and leads an equivariant network to the rotated sample."""
    grid, turn = uniform(PROCESS, 20), np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    start = centred(np.random.default_rng(1).normal(size=(6, 4, 3)))
    x, turned = (sample(denoise, (4, 3), diffusion.euler, grid, range(6), x=s) for s in (start, start @ turn))
    np.testing.assert_allclose(x @ turn, turned, atol=1e-12)
    law, other = (PROCESS.marginal(y, PROCESS.at(0.5)) for y in (x, x @ turn))
    np.testing.assert_allclose(law.log_prob(start).sum((1, 2)), other.log_prob(start @ turn).sum((1, 2)), rtol=1e-9)


def test_the_density_is_that_of_the_subspace():
    """Against a normal distribution in an orthonormal basis of the centred sets, padded or not."""
    rng = np.random.default_rng(0)
    mean, x = centred(rng.normal(size=(2, 4, 3))), centred(rng.normal(size=(2, 4, 3)))
    basis = np.linalg.svd(np.ones((1, 4)))[2][1:]  # (3, 4), orthogonal to (1, 1, 1, 1)
    z = np.einsum("kp,bpi->bki", basis, x - mean)
    exact = (-((z / 0.7) ** 2) / 2 - math.log(0.7) - math.log(2 * math.pi) / 2).sum((1, 2))
    law = PROCESS.distribution(mean, 0.7)
    np.testing.assert_allclose(law.log_prob(x).sum((1, 2)), exact)
    pad = [np.concatenate([y, np.zeros((2, 3, 3))], 1) for y in (mean, x)]
    mask = np.arange(7)[None] < np.array([4, 4])[:, None]
    np.testing.assert_allclose(PROCESS.distribution(pad[0], 0.7).log_prob(pad[1], mask).sum((1, 2)), exact)


def test_the_loss_looks_at_the_points_that_there_are():
    x0 = torch.from_numpy(centred(np.random.default_rng(0).normal(size=(1, 4, 3))).astype(np.float32))
    padded = torch.cat([x0, torch.zeros(1, 2, 3)], 1)
    mask = torch.tensor([[True] * 4 + [False] * 2])

    def junk(x, time, mask=None):
        return x + 1e3 * (torch.arange(x.shape[1]) >= 4)[None, :, None]  # at points that are none

    def loss(mask, x):
        process = ZeroCoM(diffusion.cosine())
        return [
            float(Denoiser(junk, process, "x0").loss(x, mask=mask, generator=torch.Generator().manual_seed(s)))
            for s in range(200)
        ]

    assert np.mean(loss(mask, padded)) == pytest.approx(np.mean(loss(None, x0)), rel=0.1)


def test_sets_that_are_not_centred_and_masks_that_do_not_fit_are_refused():
    grid = uniform(PROCESS, 3)
    with pytest.raises(DiffusionError, match="centre of mass is not at 0"):
        Denoiser(lambda x, time: x, PROCESS, "x0").loss(torch.ones(1, 3, 2))
    with pytest.raises(DiffusionError, match=r"mask has the shape \(1, 3\), the state \(2, 4, 3\)"):
        sample(denoise, (4, 3), diffusion.ancestral, grid, [0, 1], mask=np.ones((1, 3), bool))
    joint = lambda x, t, c: {n: denoise(x[n], t[n]) for n in x}  # noqa: E731
    with pytest.raises(DiffusionError, match=r"mask of field 'b' has the shape \(2, 3\), the state \(2, 4, 3\)"):
        sample(
            joint, {"a": (2, 3), "b": (4, 3)}, diffusion.ancestral, grid, [0, 1], mask={"b": np.ones((2, 3), bool)}
        )
    with pytest.raises(DiffusionError, match="field 'b' has no sampler or no grid"):
        sample(joint, {"a": (2, 3), "b": (4, 3)}, diffusion.ancestral, {"a": grid}, [0, 1])
