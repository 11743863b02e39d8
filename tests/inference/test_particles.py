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
    Denoiser,
    DiffusionError,
    Gaussian,
    Prediction,
    Torus,
    ZeroCoM,
    ancestral,
    child_seed,
    ddim,
    known_region,
    sample,
    uniform,
)
from inkwash.inference import Particles, disagreement, particles, residual_systematic
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
    found = particles(denoiser(rho), (SIZE,), grid, range(400), count=32, known_region=(MOTIF, WHERE))
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
    found = particles(tokens.exact(process), (3,), grid, range(n), count=16, known_region=known)
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
    found = particles(
        denoise, (points, 1), uniform(process, 300), range(500), count=24, known_region=(values, where)
    ).x[..., 0]
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
    found = particles(joint, {"n": (1,), "a": (1,)}, grids, range(60), count=16, known_region=known)
    assert (found.x["n"] == 1).all() and (found.x["a"] >= 0).all() and (found.x["a"] < 1).all()
    assert (abs(found.x["a"] - 0.7) < 5 * width).mean() > 0.95
    free = sample(joint, {"n": (1,), "a": (1,)}, ancestral, grids, range(400))
    assert 0.4 < (abs(free["a"] - 0.7) < 0.25).mean() < 0.6
    assert ((free["n"] > 0) == (abs(free["a"] - 0.7) < 0.25)).mean() > 0.98


def test_genealogy_ess_and_the_final_draw():
    """Weights, ancestors and the sample belong together; a filter of one particle is the plain replacement."""
    grid, seeds, count = uniform(VP, 30), [3, 11], 16
    found = particles(denoiser(0.9), (SIZE,), grid, seeds, count=count, known_region=(MOTIF, WHERE))
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
    alone = particles(denoiser(0.9), (SIZE,), grid, seeds[1:], count=count, known_region=(MOTIF, WHERE))
    np.testing.assert_allclose(alone.x[0], found.x[1], rtol=1e-4, atol=1e-5)
    one = particles(denoiser(0.9), (SIZE,), grid, seeds, count=1, known_region=(MOTIF, WHERE))
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
    particles(denoise, (SIZE,), grid, range(800), count=4, known_region=(MOTIF, WHERE))
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
        particles(denoiser(0.5), (SIZE,), grid, [0], count=4, known_region=(MOTIF, WHERE), sampler=ddim)
    with pytest.raises(DiffusionError, match="step 1: every particle of seed 5 has weight 0"):
        particles(denoiser(0.5), (SIZE,), grid, [5], count=4, twist=lambda clean, t: -np.inf + 0 * clean[:, 0])
    with pytest.raises(DiffusionError, match="needs gradients"):
        particles(denoiser(0.5), (SIZE,), grid, [0], count=4, twist=lambda c, t: c[:, 0], gradients=True)
    with pytest.raises(DiffusionError, match=r"no field 'b', only \['a'\]"):
        particles(denoiser(0.5), {"a": (SIZE,)}, grid, [0], count=4, known_region={"b": (MOTIF, WHERE)})
    with pytest.raises(DiffusionError, match=r"known values of field '', shape .*: a value is not finite"):
        particles(denoiser(0.5), (SIZE,), grid, [0], count=4, known_region=(MOTIF * np.nan, WHERE))
    process = Categorical.masked(diffusion.rectified_flow(), 3)
    with pytest.raises(DiffusionError, match="token 9 is outside the vocabulary"):
        particles(
            None, (3,), uniform(process, 5), [0], known_region=(np.array([9, 0, 0]), np.array([True, False, False]))
        )
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
    found = particles(denoise, (SIZE,), grid, [1, 2], count=count, known_region=(MOTIF, WHERE), threshold=0.95)
    near, own = [], []
    for before, after, ancestors in zip(states, states[1:], found.ancestors, strict=False):
        for row, origin in enumerate(ancestors):
            old, new = (x[row * count : (row + 1) * count, PART:] for x in (before, after))
            moved = origin != np.arange(count)
            near += list(((new - old[origin]) ** 2).sum(1)[moved])
            own += list(((new - old) ** 2).sum(1)[moved])
    assert len(near) > 50 and np.mean(near) < 0.2 * np.mean(own)


MIDDLES, SHARES, WIDTH = np.array([[-1.2, -0.8], [0.2, 0.7], [1.5, -0.2]]), np.array([0.3, 0.4, 0.3]), 0.3


def mixture(x, t, condition=None):
    """E[x_0 | x_t] of three Gaussians in the plane."""
    total = (t.alpha * WIDTH) ** 2 + t.sigma**2
    score = np.log(SHARES) - ((x[:, None] - t.alpha * MIDDLES) ** 2).sum(-1) / (2 * total)
    weight = np.exp(score - score.max(1, keepdims=True))
    gain = t.alpha * WIDTH**2 / total
    clean = (1 - t.alpha * gain) * (weight @ MIDDLES) / weight.sum(1, keepdims=True) + gain * x
    return Prediction(clean.astype(x.dtype))


def chains_own(grid, y):
    """Mean and variance of the first number given the second, of the chain of `grid`, integrated on a lattice; the
    last step shows the second with the noise of where it starts."""
    line = np.linspace(-4.5, 4.5, 91)
    plane = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(-(plane**2).sum(1) / (2 * grid[0].sigma ** 2))
    for t, s in pairwise(grid.levels[:-1]):
        law = VP.transition(plane, t, s, mixture(plane, t))
        one, two = (np.exp(-(((line[:, None] - law.mean[:, i]) / law.std) ** 2) / 2) for i in (0, 1))
        mass = ((one * (mass / mass.sum())) @ two.T).reshape(-1)
    clean = mixture(plane, grid[-2]).x0
    mass = mass * np.exp(-((y - clean[:, 1]) ** 2) / (2 * grid[-2].sigma ** 2))
    mean = mass @ clean[:, 0] / mass.sum()
    return mean, mass @ (clean[:, 0] - mean) ** 2 / mass.sum()


def z_scores(found, mean, variance):
    """How far the filters' mean and variance of the first number lie off, in standard errors."""
    u, w = found.states[..., 0].astype(float), found.weights
    parts = (w * u).sum(1), (w * (u - mean) ** 2).sum(1)
    return [
        (p.mean() - want) / (p.std(ddof=1) / len(p) ** 0.5) for p, want in zip(parts, (mean, variance), strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [6, 15])
def test_bridges_are_exact_for_a_chain_of_few_steps_where_one_path_is_not(steps):
    grid, y = uniform(VP, steps), 0.3
    mean, variance = chains_own(grid, y)
    known = np.array([0.0, y]), np.array([False, True])
    bridged = particles(mixture, (2,), grid, range(300), count=256, known_region=known, bridge=True)
    assert (bridged.states[..., 1] == np.float32(y)).all()
    assert max(map(abs, z_scores(bridged, mean, variance))) < 4
    one_path = particles(mixture, (2,), grid, range(300), count=256, known_region=known)
    assert abs(z_scores(one_path, mean, variance)[1]) > 3
    ratios = [disagreement(found, lambda x: x[:, :1]).ratio[0] for found in (bridged, one_path)]
    assert ratios[0] < 5 and ratios[1] > 3 * ratios[0]


def test_bridges_steered_by_gradients_have_the_same_limit():
    grid, y = uniform(VP, 6), 0.3
    known = np.array([0.0, y]), np.array([False, True])

    def on_torch(x, t, condition=None):
        total = (t.alpha * WIDTH) ** 2 + t.sigma**2
        means, shares = torch.from_numpy(MIDDLES).to(x), torch.from_numpy(SHARES).to(x)
        weight = (shares.log() - ((x[:, None] - t.alpha * means) ** 2).sum(-1) / (2 * total)).softmax(-1)
        gain = t.alpha * WIDTH**2 / total
        return Prediction((1 - t.alpha * gain) * (weight @ means) + gain * x)

    found = particles(
        on_torch, (2,), grid, range(200), count=128, known_region=known, bridge=True, gradients=True, device="cpu"
    )
    assert max(map(abs, z_scores(found._replace(states=found.states.numpy()), *chains_own(grid, y)))) < 4


@pytest.mark.parametrize("name", ["masked", "uniform"])
def test_bridges_of_tokens_are_exact_for_a_chain_of_three_steps(name):
    process = tokens.PROCESSES[name]
    grid, known = uniform(process, 3), (np.array([0, 1, 0]), np.array([False, True, False]))
    law = tokens.chain(process, grid) * (tokens.TEXTS[:, 1] == 1)
    found = particles(tokens.exact(process), (3,), grid, range(300), count=64, known_region=known, bridge=True)
    assert (found.states[..., 1] == 1).all()
    code = found.states @ (tokens.SYMBOLS ** np.arange(tokens.LENGTH)[::-1])
    shares = np.stack([(found.weights * (code == i)).sum(1) for i in range(len(law))], 1)
    error = np.maximum(shares.std(0, ddof=1) / len(shares) ** 0.5, 1e-3)
    assert (abs(shares.mean(0) - law / law.sum()) / error).max() < 4.5


def test_bridges_of_angles_and_of_centred_points_end_where_they_should():
    """An angle pair at one offset across the edge of the cell; and a gap between two of four points."""
    torus, sigma = Torus(diffusion.variance_exploding(0.005, 0.7)), 0.05

    def pair(x, t, condition=None):  # b = a + 0.3, a uniform: only the difference is known
        off = x[:, 1:] - x[:, :1] - 0.3
        shifts = off - np.round(off) + np.arange(-4, 5)
        w = np.exp(-(shifts**2) / (2 * (sigma**2 + 2 * t.sigma**2)))
        drift = (
            (w * shifts).sum(1, keepdims=True) / w.sum(1, keepdims=True) * t.sigma**2 / (sigma**2 + 2 * t.sigma**2)
        )
        return Prediction((x + drift * np.array([1.0, -1.0])).astype(x.dtype))

    known = np.array([0.95, 0.0]), np.array([True, False])
    grid = uniform(torus, 40)
    found = particles(pair, (2,), grid, range(60), count=64, known_region=known, bridge=True)
    np.testing.assert_allclose(found.x[:, 0], 0.95, atol=1e-6)
    off = (found.states[..., 1] - 0.25 + 0.5) % 1 - 0.5
    mean, square = (found.weights * off).sum(1), (found.weights * off**2).sum(1)
    assert abs(mean.mean()) < 4 * mean.std() / 60**0.5 + 0.005
    assert square.mean() == pytest.approx(sigma**2, rel=0.35)

    process = ZeroCoM(diffusion.cosine())

    def points(x, t, condition=None):
        return Prediction(t.alpha / (t.alpha**2 + t.sigma**2) * x)

    known = np.array([[3.0], [4.1], [0.0], [0.0]]), np.array([[True], [True], [False], [False]])
    x = particles(points, (4, 1), uniform(process, 40), range(300), count=16, known_region=known, bridge=True).x[
        ..., 0
    ]
    np.testing.assert_allclose(x[:, 1] - x[:, 0], 1.1, atol=1e-5)
    assert abs(x.sum(1)).max() < 1e-4  # of independent points the others do not depend on the gap
    assert x[:, 2].var() == pytest.approx(0.75, abs=0.25) and abs(x[:, 2].mean()) < 4 * (0.75 / 300) ** 0.5


def mean_over(x, mask):
    return (x * mask).sum(1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)


def smooth(x, t, condition=None):
    """A denoiser whose elements depend on each other, of what is there alone."""
    mask = np.ones(x.shape[:2], bool) if "mask" not in (condition or {}) else condition["mask"]
    mask = mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)).astype(float)
    wide = x.astype(float)
    return Prediction(((0.6 * t.alpha * wide + 0.3 * mean_over(wide, mask)) * mask + 7 * (1 - mask)).astype(x.dtype))


def logits(x, t, condition=None):
    mask = np.ones(x.shape, bool) if "mask" not in (condition or {}) else condition["mask"]
    share = mean_over((x == 2).astype(float), mask.astype(float))
    return Prediction(np.stack([0.3 + share + 0 * x, -share + 0 * x, np.cos(x), 9 + 0 * x], -1).astype(np.float32))


MASKED_TOKENS = Categorical.masked(diffusion.rectified_flow(), 3)
PADDED = {  # the process, a sample's shape of n elements, a denoiser, what is known, and a reward
    "numbers": (VP, lambda n: (n,), smooth, 0.7, lambda x, t: -(x**2).sum(1)),
    "points": (ZeroCoM(diffusion.cosine()), lambda n: (n, 2), smooth, 0.7, lambda x, t: -(x**2).sum((1, 2))),
    "tokens": (MASKED_TOKENS, lambda n: (n,), logits, 1, lambda x, t: (x.reshape(len(x), -1) != 0).sum(1) * 0.1),
}


@pytest.mark.parametrize("how", ["one path", "bridge", "twist"])
@pytest.mark.parametrize("kind", PADDED)
def test_a_sample_is_the_same_in_any_padding(kind, how):
    process, shape, denoise, value, reward = PADDED[kind]
    grid, seeds, sizes = uniform(process, 12), [5, 6, 7], [4, 6, 3]

    def given(n):
        values, where = np.zeros(shape(n)), np.zeros(shape(n), bool)
        values[0], values[1], where[:2] = value, 0, True
        known = {"known_region": (values.astype(int) if kind == "tokens" else values, where)}
        return {"twist": reward} if how == "twist" else known | {"bridge": how == "bridge"}

    mask = np.arange(8) < np.array(sizes)[:, None]
    together = particles(denoise, shape(8), grid, seeds, count=10, threshold=1.0, mask=mask, **given(8))
    moved = (together.ancestors != np.arange(10)).any()  # one path weighs centred points of this denoiser alike
    assert moved or (kind, how) == ("points", "one path")
    for i, n in enumerate(sizes):
        alone = particles(denoise, shape(n), grid, seeds[i : i + 1], count=10, threshold=1.0, **given(n))
        np.testing.assert_array_equal(together.ancestors[:, i], alone.ancestors[:, 0])
        np.testing.assert_allclose(together.weights[i], alone.weights[0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(together.states[i, :, :n], alone.states[0], atol=1e-4)
        assert (together.states[i, :, n:] == 0).all() and (together.x[i, n:] == 0).all()


@pytest.mark.parametrize("bridge", [False, True])
def test_each_particle_has_the_limit_of_its_own_filter(bridge):
    limits = ((0.7, 0.2, 0.1), (0.1, 0.1, 0.8), (0.3, 0.4, 0.3))
    flow, known = diffusion.rectified_flow(), (np.array([2, 0, 0]), np.array([True, False, False]))

    def denoise(x, t, condition=None):
        share = (x == 1).mean(1)[:, None] + 0 * x
        return Prediction(np.stack([share, 1 - share, 0.5 + 0 * x], -1).astype(np.float32))

    options = {"count": 7, "threshold": 0.95, "known_region": known, "bridge": bridge}
    together = particles(denoise, (3,), uniform(Categorical(flow, limits), 6), [1, 2, 3], **options)
    for i, limit in enumerate(limits):
        alone = particles(denoise, (3,), uniform(Categorical(flow, limit), 6), [i + 1], **options)
        np.testing.assert_array_equal(together.states[i], alone.states[0])
        np.testing.assert_allclose(together.weights[i], alone.weights[0], rtol=1e-4)


def test_the_seeds_of_particles_are_the_cores_children():
    """In one step from noise alone to data, of a denoiser that says what it has seen."""
    grid, seeds = uniform(VP, 1), [3, 9]
    found = particles(lambda x, t, condition: Prediction(x), (2,), grid, seeds, count=4)
    own = [child_seed(seed, k) for seed in seeds for k in range(4)]
    noise = diffusion.Noise(own, (2,), stream="start").normal() * np.float32(grid[0].sigma)
    np.testing.assert_allclose(found.states.reshape(8, 2), noise, rtol=1e-5)


def test_filters_disagree_where_each_has_lost_a_mode_and_agree_where_particles_are_independent():
    rng = np.random.default_rng(2)
    empty = np.zeros((1, 40)), np.zeros((1, 40, 50), int)
    free = rng.standard_normal((40, 50, 3))
    weights = rng.dirichlet(np.full(50, 2.0), 40)
    fair = disagreement(made(free, weights, empty))
    assert not fair.excess and fair.ratio.shape == (3,) and abs(fair.ratio - 1).max() < fair.limit - 1
    modes = free.copy()
    modes[..., 0] = 0.1 * modes[..., 0] + np.where(np.arange(40) % 2, 1.0, -1.0)[:, None]
    lost = disagreement(made(modes, weights, empty))
    assert lost.excess and lost.ratio[0] > 100 and (lost.ratio[1:] < lost.limit).all()
    constant = disagreement(made(0 * free + 0.3, weights, empty))
    assert (constant.ratio == 0).all()
    with pytest.raises(DiffusionError, match="2 filters; three or more"):
        disagreement(made(free[:2], weights[:2], empty))


def made(states, weights, empty):
    return Particles(states[:, 0], states, weights, *empty)


def test_fields_of_other_times_are_refused():
    grids = {"a": uniform(VP, 4), "b": uniform(VP, 5)}
    with pytest.raises(DiffusionError, match="the same times"):
        denoise = lambda x, t, c: {n: Prediction(0 * v) for n, v in x.items()}  # noqa: E731
        particles(denoise, {"a": (1,), "b": (1,)}, grids, [0], count=2)


def test_a_known_angle_near_the_end_of_the_cell_keeps_within_it():
    """Angles at 0.3, of which one is known to be 0.95: its noised path goes around the circle."""
    process = Torus(diffusion.variance_exploding(0.01, 1.0))

    def near(x, t, condition=None):
        off = np.mod(x - 0.3 + 0.5, 1) - 0.5
        return Prediction(x - off * t.sigma**2 / (t.sigma**2 + 0.1**2))

    known = np.array([0.95, 0.0]), np.array([True, False])
    x = particles(near, (2,), uniform(process, 30), range(40), count=16, known_region=known).x
    assert (x[:, 0] == np.float32(0.95)).all() and abs(x[:, 1].mean() - 0.3) < 0.1


def steady(x, t, condition=None):
    return Prediction(0.5 * x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "particles: count = 0; a whole number from 1"),
        ({"count": 1.5}, "particles: count = 1.5; a whole number from 1"),
        ({"threshold": math.nan}, "particles: threshold = nan; a number from 0 to 1"),
        ({"threshold": 32}, "particles: threshold = 32; a number from 0 to 1"),
        ({"bridge": True}, "bridge leads to what is known: give `known_region` too"),
        ({"gradients": True, "device": "cpu"}, "gradients are those of a twist: give `twist` too"),
        (
            {"gradients": True, "device": "cpu", "twist": lambda x, t: x.detach().numpy().sum(1)},
            "particles: gradients: its score has no gradient",
        ),
        ({"shape": 2}, "shape = 2: a tuple of whole numbers is needed"),
        ({"grid": VP}, "grid = Gaussian.*: a Grid is needed"),
        ({"seeds": 3}, "seeds = 3: one whole number for each sample is needed"),
        ({"denoise": Denoiser(lambda x, t: x, Gaussian(diffusion.cosine()))}, "the denoiser was trained on"),
        ({"known_region": np.zeros(2)}, "known_region: a pair"),
        ({"known_region": (np.zeros(3), [True, False])}, r"known values of field '', shape \(2, 2\): "),
        ({"condition": {"c": np.zeros((3, 1))}}, r"a condition of shape \(3, 1\): a row for each of 2 seeds"),
        ({"condition": {"c": 1.0}}, r"a condition of shape \(\): a row for each of 2 seeds"),
        ({"twist": lambda x, t: -(x**2)}, r"a twist of shape \(8, 2\): one number for each particle is needed"),
        ({"mask": [[1, 0.5], [1, 1]]}, "mask: true and false, or 1 and 0, are needed"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(options, words):
    asked = {"denoise": steady, "shape": (2,), "grid": uniform(VP, 3), "seeds": range(2), "count": 4, **options}
    with pytest.raises(DiffusionError, match=words) as caught:
        particles(**asked)
    assert "\n" not in str(caught.value)


def test_masks_and_what_is_known_may_be_lists():
    grid, asked = uniform(VP, 3), {"seeds": range(2), "count": 4}
    made = [
        particles(steady, (2,), grid, mask=mask, known_region=known, **asked).x
        for mask, known in (
            ([[1, 0], [1, 1]], ([0.5, 0.0], [True, False])),
            (np.array([[True, False], [True, True]]), (np.array([0.5, 0.0]), np.array([True, False]))),
        )
    ]
    np.testing.assert_array_equal(*made)
    assert (made[0][:, 0] == 0.5).all() and made[0][0, 1] == 0
