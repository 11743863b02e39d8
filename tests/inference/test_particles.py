"""Sequential Monte Carlo against posteriors that are known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import (
    Categorical,
    DiffusionError,
    Gaussian,
    Prediction,
    Torus,
    ZeroCoM,
    ancestral,
    ddim,
    known_region,
    sample,
    uniform,
)
from inkwash.inference import particles
from inkwash.inference.particles import residual_systematic
from tests.diffusion import test_categorical as tokens

SIZE, PART = 8, 4  # elements, of which the first few are known
WHERE = np.arange(SIZE) < PART
MOTIF = np.where(WHERE, np.resize([0.8, -0.3, 0.5, 0.0], SIZE), 0.0)
VP = Gaussian(diffusion.linear_beta())


def covariance(rho):
    return (1 - rho) * np.eye(SIZE) + rho


def denoiser(rho):
    """E[x_0 | x_t] for x_0 ~ N(0, C), all correlations rho."""
    c = covariance(rho)

    def denoise(x, t, condition=None):
        gain = t.alpha * c @ np.linalg.inv(t.alpha**2 * c + t.sigma**2 * np.eye(SIZE))
        xp = torch if isinstance(x, torch.Tensor) else np
        return Prediction(x @ xp.asarray(gain, dtype=x.dtype).T)

    return denoise


def conditional(rho, noise=0.0):
    """Mean and covariance of x_0 given its first PART elements, seen with this much noise."""
    c, a = covariance(rho), np.eye(SIZE)[:PART]
    gain = c @ a.T @ np.linalg.inv(a @ c @ a.T + noise**2 * np.eye(PART))
    return gain @ MOTIF[:PART], c - gain @ a @ c


def off(x, mean, cov):
    """How far the mean and the variance, both averaged over elements, lie off, in standard errors."""
    n, d = x.shape
    spread = math.sqrt(cov.sum() / d**2 / n)
    variance = ((x - x.mean(0)) ** 2).sum() / (n - 1) / d
    of_variance = math.sqrt(2 * (cov**2).sum() / d**2 / n)
    return abs(x.mean() - mean.mean()) / spread, abs(variance - np.trace(cov) / d) / of_variance


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_smcdiff_is_exact_where_replacement_is_not(rho):
    """500 steps leave the chain itself nearly exact; what is left is Monte Carlo."""
    grid, (mean, cov) = uniform(VP, 500), conditional(rho)
    mean, cov = mean[PART:], cov[PART:, PART:]
    found = particles(denoiser(rho), (SIZE,), grid, range(400), count=32, known=(MOTIF, WHERE))
    assert (found.x[:, :PART] == MOTIF[:PART].astype(np.float32)).all()  # the very motif, not the model's
    assert max(off(found.x[:, PART:], mean, cov)) < 3.5
    hook = known_region(VP, MOTIF[None], WHERE[None])
    replaced = sample(denoiser(rho), (SIZE,), ancestral, grid, range(2000), hooks=[hook])
    assert max(off(replaced[:, PART:], mean, cov)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [False, True])
def test_a_twist_is_exact_with_and_without_gradients(gradients):
    """The known part seen with noise: the twist is the likelihood, sharpened as the sample clears."""
    rho, noise = 0.5, 0.4
    mean, cov = conditional(rho, noise)
    y = torch.tensor(MOTIF[:PART], dtype=torch.float32)

    def twist(clean, t):
        spread = noise**2 + t.sigma**2 / (t.alpha**2 + t.sigma**2)
        return -((clean[:, :PART] - y) ** 2).sum(1) / (2 * spread)

    found = particles(
        denoiser(rho), (SIZE,), uniform(VP, 150), range(400), count=24, twist=twist, gradients=gradients, device="cpu"
    )
    assert max(off(found.x.numpy().astype(float), mean, cov)) < 3.5
    if gradients:  # the guided proposal keeps more of them alive
        blind = particles(denoiser(rho), (SIZE,), uniform(VP, 150), range(100), count=24, twist=twist, device="cpu")
        assert found.ess[:, :100].mean() > 1.1 * blind.ess.mean()


def test_tokens_are_conditioned_exactly():
    """The middle position known, in a masked chain of so many steps that two rarely open at once; and a reward."""
    process, n = tokens.MASKED, 2000
    grid = uniform(process, 25)
    joint = np.where(tokens.TEXTS[:, 1] == 1, tokens.DATA, 0)
    known = np.array([0, 1, 0]), np.array([False, True, False])
    found = particles(tokens.exact(process), (3,), grid, range(n), count=16, known=known)
    shares = tokens.counted(found.x)
    assert abs(shares - joint / joint.sum()).sum() < 0.12
    assert (found.x[:, 1] == 1).all()
    blind = sample(tokens.exact(process), (3,), ancestral, grid, range(n))
    assert abs(tokens.counted(blind) - joint / joint.sum()).sum() > 0.5


def test_a_centred_motif_finds_its_own_place():
    """Two of five points in a line known up to their place: the gap between them, and the rest, as they should be."""
    process, points, gap = ZeroCoM(diffusion.cosine()), 5, 1.2
    basis = np.linalg.svd(np.ones((1, points)))[2][1:]
    scale = np.array([0.3, 0.6, 1.0, 1.5])  # variances along the basis, so that points depend on each other
    cov = basis.T @ np.diag(scale) @ basis

    def denoise(x, t, condition=None):
        gain = basis.T @ np.diag(t.alpha * scale / (t.alpha**2 * scale + t.sigma**2)) @ basis
        return Prediction(np.einsum("pq,bqi->bpi", gain, x).astype(x.dtype))

    values = np.array([[10.0], [10.0 + gap], [0.0], [0.0], [0.0]])  # anywhere: only the gap counts
    where = np.array([[True], [True], [False], [False], [False]])
    found = particles(denoise, (points, 1), uniform(process, 300), range(500), count=24, known=(values, where)).x[
        ..., 0
    ]
    assert abs(found.sum(1)).max() < 1e-4
    np.testing.assert_allclose(found[:, 1] - found[:, 0], gap, atol=1e-5)
    a = np.array([-1.0, 1.0, 0, 0, 0])
    gain = cov @ a / (a @ cov @ a)
    mean, rest = gain * gap, cov - np.outer(gain, a) @ cov
    np.testing.assert_allclose(found.mean(0), mean, atol=4 * math.sqrt(rest.diagonal().max() / 500))
    np.testing.assert_allclose(np.cov(found.T), rest, atol=0.15)


def test_a_dict_of_fields_is_weighed_together():
    """A number and an angle that both follow one hidden coin: knowing the number tells the angle."""
    number, angle = VP, Torus(diffusion.variance_exploding(0.005, 0.7))
    pairs = np.array([[-1.0, 0.2], [1.0, 0.7]])  # (number, angle), each with probability 1/2
    width = 0.05

    def joint(x, t, condition=None):
        clean, log = {}, np.zeros((len(x["n"]), 2))
        shifts = np.arange(-3, 4)
        v = (t["n"].alpha * width) ** 2 + t["n"].sigma ** 2
        log += -((x["n"] - t["n"].alpha * pairs[:, 0]) ** 2) / (2 * v)
        w = width**2 + t["a"].sigma ** 2
        far = pairs[:, 1][None, :, None] + shifts - (x["a"] % 1)[:, :, None]
        images = np.exp(-(far**2) / (2 * w))
        log += np.log(images.sum(-1) + 1e-300)
        share = np.exp(log - log.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        gain = t["n"].alpha * width**2 / v
        clean["n"] = (share * (pairs[:, 0] + gain * (x["n"] - t["n"].alpha * pairs[:, 0]))).sum(1, keepdims=True)
        drift = t["a"].sigma ** 2 / w * (far * images).sum(-1) / (images.sum(-1) + 1e-300)
        clean["a"] = x["a"] + (share * drift).sum(1, keepdims=True)
        return {k: Prediction(value.astype(np.float32)) for k, value in clean.items()}

    grids = {"n": uniform(number, 60), "a": uniform(angle, 60)}
    known = {"n": (np.array([1.0]), np.array([True]))}
    found = particles(joint, {"n": (1,), "a": (1,)}, grids, range(60), count=16, known=known)
    assert (found.x["n"] == 1).all() and (found.x["a"] >= 0).all() and (found.x["a"] < 1).all()
    assert (abs(found.x["a"] - 0.7) < 5 * width).mean() > 0.95
    free = sample(joint, {"n": (1,), "a": (1,)}, ancestral, grids, range(400))
    assert 0.4 < (abs(free["a"] - 0.7) < 0.25).mean() < 0.6
    assert ((free["n"] > 0) == (abs(free["a"] - 0.7) < 0.25)).mean() > 0.98


def test_genealogy_ess_and_the_final_draw():
    """Weights, ancestors and the sample belong together; a filter of one particle is the plain replacement."""
    grid, seeds, count = uniform(VP, 30), [3, 11], 16
    found = particles(denoiser(0.9), (SIZE,), grid, seeds, count=count, known=(MOTIF, WHERE))
    assert found.ess.shape == (30, 2) and found.ancestors.shape == (30, 2, count)
    thin = found.ess < count / 2
    assert thin.any() and (~thin).any()
    assert (found.ess >= 1 - 1e-9).all() and (found.ess <= count + 1e-9).all()
    still = np.arange(count)
    for step, row in np.ndindex(thin.shape):
        kept = found.ancestors[step, row]
        assert (kept == still).all() != thin[step, row] or not thin[step, row]
        assert (np.diff(kept) >= 0).all()
    np.testing.assert_allclose(found.weights.sum(1), 1)
    for row in range(2):
        assert any((found.x[row] == state).all() for state in found.states[row])
    alone = particles(denoiser(0.9), (SIZE,), grid, seeds[1:], count=count, known=(MOTIF, WHERE))
    np.testing.assert_allclose(alone.x[0], found.x[1], rtol=1e-4, atol=1e-5)
    one = particles(denoiser(0.9), (SIZE,), grid, seeds, count=1, known=(MOTIF, WHERE))
    assert np.isfinite(one.x).all() and (one.ess == 1).all() and (one.weights == 1).all()


def test_the_final_weights_count():
    """A reward seen only at the very end, by the last draw: the sample must follow it, a plain draw would not."""
    reward = lambda clean, t: clean[:, 0] if t.sigma == 0 else 0 * clean[:, 0]  # noqa: E731
    found = particles(denoiser(0.0), (SIZE,), uniform(VP, 40), range(600), count=64, twist=reward)
    variance = float(found.states[:, :, 0].var())  # nearly 1, but a chain of 40 steps loses some
    assert found.x[:, 0].mean() == pytest.approx(variance, abs=4 / 600**0.5)  # N(0, v) tilted by exp(x) has mean v
    assert found.states[:, :, 0].mean() == pytest.approx(0.0, abs=0.05)


def test_each_seed_has_its_own_condition():
    def denoise(x, t, condition):
        return Prediction(0 * x + condition["c"])

    c = np.array([[1.0], [-2.0]])
    for device, rows in ((None, c), ("cpu", torch.from_numpy(c))):
        found = particles(denoise, (3,), uniform(VP, 5), [4, 5], {"c": rows}, count=6, device=device)
        assert np.asarray(found.x).tolist() == [[1.0] * 3, [-2.0] * 3]


def test_the_motif_has_the_noise_of_its_time():
    """What the network sees in the known part at time t is alpha_t y + sigma_t noise, of one joint path."""
    seen = []

    def denoise(x, t, condition=None):
        seen.append((t, x[::4, :PART].copy()))
        assert (x[0::4, :PART] == x[1::4, :PART]).all()  # one path for all particles of a filter
        return denoiser(0.5)(x, t)

    grid = uniform(VP, 12)
    particles(denoise, (SIZE,), grid, range(800), count=4, known=(MOTIF, WHERE))
    noises = [(y - t.alpha * MOTIF[:PART]) / t.sigma for t, y in seen]
    for eps in noises:
        assert abs(eps.mean()) < 0.08 and eps.std() == pytest.approx(1, abs=0.06)
    for (t, _), (s, _), up, low in zip(seen, seen[1:], noises, noises[1:], strict=False):
        want = t.alpha / s.alpha * s.sigma / t.sigma  # the correlation of two times of one path
        assert np.corrcoef(up.ravel(), low.ravel())[0, 1] == pytest.approx(want, abs=0.06)
    assert len(list(pairwise(grid))) == len(seen)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-3), st.floats(1e-6, 1 - 1e-6))
def test_residual_systematic_resampling(weights, u):
    w = np.array(weights) / sum(weights)
    n = len(w)
    copies = np.bincount(residual_systematic(w, u), minlength=n)
    assert copies.sum() == n
    assert (copies >= np.floor(n * w - 1e-6)).all() and (copies <= np.floor(n * w + 1e-6) + 1).all()
    assert (copies[w == 0] == 0).all()


def test_residual_systematic_resampling_is_unbiased():
    w = np.array([0.05, 0.4, 0.13, 0.0, 0.42])
    mean = np.mean(
        [np.bincount(residual_systematic(w, u), minlength=5) for u in (np.arange(2000) + 0.5) / 2000], axis=0
    )
    np.testing.assert_allclose(mean, 5 * w, atol=2e-3)


def test_what_cannot_be_is_refused():
    grid = uniform(VP, 5)
    with pytest.raises(DiffusionError, match="take one with noise"):
        particles(denoiser(0.5), (SIZE,), grid, [0], count=4, known=(MOTIF, WHERE), sampler=ddim)
    with pytest.raises(DiffusionError, match="step 1: every particle of seed 5 has weight 0"):
        particles(denoiser(0.5), (SIZE,), grid, [5], count=4, twist=lambda clean, t: -np.inf + 0 * clean[:, 0])
    with pytest.raises(DiffusionError, match="needs gradients"):
        particles(denoiser(0.5), (SIZE,), grid, [0], count=4, twist=lambda c, t: c[:, 0], gradients=True)
    with pytest.raises(DiffusionError, match=r"no field 'b', only \['a'\]"):
        particles(denoiser(0.5), {"a": (SIZE,)}, grid, [0], count=4, known={"b": (MOTIF, WHERE)})
    with pytest.raises(DiffusionError, match=r"known values of field '', shape .*: a value is not finite"):
        particles(denoiser(0.5), (SIZE,), grid, [0], count=4, known=(MOTIF * np.nan, WHERE))
    process = Categorical.masked(diffusion.rectified_flow(), 3)
    with pytest.raises(DiffusionError, match="token 9 is outside the vocabulary"):
        particles(None, (3,), uniform(process, 5), [0], known=(np.array([9, 0, 0]), np.array([True, False, False])))
    with pytest.raises(DiffusionError, match="tokens have no gradients"):
        logits = lambda x, t, c: Prediction(torch.zeros(*x.shape, 4))  # noqa: E731
        particles(logits, (3,), uniform(process, 5), [0], twist=lambda c, t: c, gradients=True, device="cpu")


def test_ancestors_are_the_states_that_were_walked_from():
    """In small steps a particle is much nearer to its recorded ancestor than to what stood in its own place."""
    states = []

    def denoise(x, t, condition=None):
        states.append(x.copy())
        return denoiser(0.9)(x, t)

    grid, count = uniform(VP, 300), 12
    found = particles(denoise, (SIZE,), grid, [1, 2], count=count, known=(MOTIF, WHERE), threshold=0.95)
    near, own = [], []
    for before, after, ancestors in zip(states, states[1:], found.ancestors, strict=False):
        for row, origin in enumerate(ancestors):
            old, new = (x[row * count : (row + 1) * count, PART:] for x in (before, after))
            moved = origin != np.arange(count)
            near += list(((new - old[origin]) ** 2).sum(1)[moved])
            own += list(((new - old) ** 2).sum(1)[moved])
    assert len(near) > 50 and np.mean(near) < 0.2 * np.mean(own)
