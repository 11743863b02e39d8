"""Filters draw what the exact conditional of a Gaussian chain is, and have none of the known defects of SMCDiff's
published code; what they say of themselves is true."""

from itertools import pairwise

import numpy as np
import pytest

from inkwash.diffusion import (
    DiffusionError,
    Gaussian,
    Prediction,
    ZeroCoM,
    analytic_variance,
    cosine,
    karras,
    uniform,
    variance_exploding,
)
from inkwash.errors import UserError
from inkwash.systems.protein import scaffold as module
from inkwash.systems.protein.scaffold import METHODS, Scaffold, in_batches, scaffold
from tests.systems.protein.toy import PROCESS, GaussianChain

CHAIN = GaussianChain(16)
INDICES = np.array([3, 4, 5, 6, 10, 11])  # two segments
WANTED = [0, 8, 15]
MOTIF = CHAIN.draw(np.random.default_rng(0))[INDICES] + 5
GRID = karras(PROCESS, 60)


class Spy:
    """The chain's denoiser, that notes what it is shown."""

    process = PROCESS

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, condition=None):
        self.calls.append((np.array(x), t))
        return CHAIN(x, t)


def shape(x):
    """The motif's part of states, less its centre."""
    part = x[:, INDICES]
    return part - part.mean(1, keepdims=True)


def deviations(method, seeds, **options):
    """Of the wanted points from their exact mean, in exact standard deviations: (seeds, 3, 3)."""
    device = "cpu" if method == "tds" else None
    found = scaffold(CHAIN, MOTIF, INDICES, 16, GRID, range(seeds), method=method, device=device, **options)
    mean, std = CHAIN.given(MOTIF, INDICES, WANTED)
    return (np.array([one.points[WANTED] for one in found]) - MOTIF.mean(0) - mean) / std[:, None]


@pytest.mark.parametrize("method", ["smcdiff", "tds"])
def test_filters_draw_the_exact_conditional(method):
    z = deviations(method, 100)
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(100)
    assert abs((z**2).mean() - 1) < 0.25


@pytest.mark.parametrize("method", ["replacement", "fixed"])
def test_what_has_no_weights_is_biased(method):
    z = deviations(method, 100)
    assert np.abs(z.mean(0)).max() > 10 / np.sqrt(100)
    assert (z**2).mean() > 1.3


@pytest.mark.parametrize("method", METHODS)
def test_the_motif_is_the_input_and_its_place_is_not_leaked(method):
    options = {"method": method, "count": 8, "device": "cpu" if method == "tds" else None}
    (one,) = scaffold(CHAIN, MOTIF, INDICES, 16, GRID, [7], **options)
    offset = np.array([100, -50, 7])
    (moved,) = scaffold(CHAIN, MOTIF + offset, INDICES, 16, GRID, [7], **options)
    assert np.array_equal(one.points[INDICES], MOTIF)
    assert np.allclose(moved.points - offset, one.points, atol=1e-4)
    (again, other) = scaffold(CHAIN, MOTIF, INDICES, 16, GRID, [7, 8], **options)
    assert np.allclose(again.points, one.points, atol=1e-4)
    assert not np.allclose(other.points, one.points, atol=0.1)


def run_of_one_filter():
    """The states of K particles at each call of the network, and what the filter says."""
    spy = Spy()
    (found,) = scaffold(spy, MOTIF, INDICES, 16, GRID, [3], count=32)
    return [x.astype(float) for x, _ in spy.calls], [t for _, t in spy.calls], found


def test_the_weights_are_those_of_the_motif_replaced_in_the_particles_themselves():
    """Algorithm 2 of the paper once more, from the states alone: the weight of a step is the density of the path's
    next point under the mean of a particle whose motif is the path's, not the particle's own; with the entry of the
    path that belongs to the time; and it is kept until a resampling."""
    states, times, found = run_of_one_filter()
    basis = np.linalg.svd(np.eye(6) - 1 / 6)[0][:, :5]  # of shapes of six points
    log_w = np.zeros(32)
    for step, (t, s) in enumerate(pairwise(times)):
        x, following = states[step], shape(states[step + 1])
        assert np.abs(shape(x) - shape(x)[0]).max() < 1e-4 * max(1, t.sigma)  # one path for all particles
        added = t.sigma**2 - s.sigma**2  # alpha is 1
        x0 = CHAIN(x, t).x0
        mean = (s.sigma**2 * x + added * x0) / t.sigma**2
        std = np.sqrt(added) * s.sigma / t.sigma
        error = np.einsum("kmd,mj->kjd", shape(mean) - following[:1], basis)
        log_w = log_w - (error**2).sum((1, 2)) / (2 * std**2)
        w = np.exp(log_w - log_w.max())
        w /= w.sum()
        assert 1 / (w**2).sum() == pytest.approx(found.ess[step], rel=0.02)
        if found.ess[step] < 16:
            log_w = np.zeros(32)
        else:
            assert (found.ancestors[step] == np.arange(32)).all()
    assert (found.ess[:-1] < 16).sum() >= 2
    w = np.exp(log_w - log_w.max())
    assert np.allclose(found.weights, w / w.sum(), atol=0.01)


def test_the_genealogy_is_that_of_the_states():
    states, times, found = run_of_one_filter()
    scaffold_points = np.setdiff1d(np.arange(16), INDICES)
    own, strange = [], []
    for step, (t, s) in enumerate(pairwise(times)):
        added = t.sigma**2 - s.sigma**2
        mean = (s.sigma**2 * states[step] + added * CHAIN(states[step], t).x0) / t.sigma**2
        z = np.sqrt(added) * s.sigma / t.sigma
        if (found.ancestors[step] == np.arange(32)).all():
            continue
        for errors, parents in ((own, found.ancestors[step]), (strange, np.arange(32))):
            part = (states[step + 1] - mean[parents])[:, scaffold_points]
            errors.append(((part - part.mean(1, keepdims=True)) ** 2).mean() / z**2)
    assert len(own) >= 2
    assert np.mean(own) == pytest.approx(0.9, abs=0.15)
    assert np.mean(strange) > 1.2


def test_the_path_is_as_noisy_as_the_network_expects_and_jointly_drawn():
    spy = Spy()
    scaffold(spy, MOTIF, INDICES, 16, GRID, range(60), count=1)
    clean = MOTIF - MOTIF.mean(0)
    for (x, t), (y, s) in pairwise(spy.calls):
        noise, less = shape(x.astype(float)) - clean, shape(y.astype(float)) - clean
        assert (noise**2).mean() / t.sigma**2 == pytest.approx(5 / 6, abs=0.2)  # 900 numbers
        added = ((noise - less) ** 2).mean() / (t.sigma**2 - s.sigma**2)  # independent noises would add up to more
        assert added == pytest.approx(5 / 6, abs=0.2)


def test_the_sample_is_drawn_by_the_final_weights():
    """Without resampling all that corrects the proposals are the final weights."""
    z = deviations("smcdiff", 150, threshold=0.0, count=32)
    unweighted = deviations("smcdiff", 150, count=1)
    biased = np.abs(unweighted.mean(0)).max()
    assert biased > 10 / np.sqrt(150)
    assert np.abs(z.mean(0)).max() < biased / 2


def test_one_particle_and_impossible_motifs_give_no_nan():
    (one,) = scaffold(CHAIN, MOTIF, INDICES, 16, GRID, count=1)
    assert np.isfinite(one.points).all()
    assert one.weights.tolist() == [1]
    (far,) = scaffold(CHAIN, MOTIF * 40, INDICES, 16, GRID, count=4)
    assert np.isfinite(far.points).all()
    assert np.isfinite(far.weights).all()
    assert not far.alive

    def never(x, t, condition=None):
        return Prediction(CHAIN(x, t).x0 * np.float32(np.nan if t.sigma < 1 else 1))

    with pytest.raises(DiffusionError, match="weight 0, or one that is not a number"):
        scaffold(never, MOTIF, INDICES, 16, GRID, count=4)


def made(ess, ancestors, count=4):
    weights = np.full(count, 1 / count)
    return Scaffold(np.zeros((2, 3)), weights, np.array(ess), np.array(ancestors))


def test_first_ancestors_are_counted_through_the_generations():
    stay = [0, 1, 2, 3]
    assert made([4.0], [stay]).first_ancestors == 4
    assert made([4, 4], [[0, 0, 1, 1], [0, 1, 1, 3]]).first_ancestors == 2
    assert made([4, 4, 4], [[0, 0, 1, 1], stay, [0, 1, 1, 1]]).first_ancestors == 1


def test_a_filter_that_died_says_so():
    alive = made([3.0, 1.1, 3.0], [[0, 1, 2, 3]] * 3)
    assert alive.alive
    assert alive.verdict() == ""
    poor = made([0.9, 1.0, 3.0], [[0, 1, 2, 3]] * 3).verdict()
    assert poor.startswith("the filter died: median ESS 1.0 of 4, 4 first ancestors left; this model hardly makes")
    kin = made([3.0, 3.0], [[2, 2, 2, 2], [0, 1, 2, 3]])
    assert kin.verdict().startswith(
        "the filter died: median ESS 3.0 of 4, 1 first ancestor left; the particles are all kin"
    )
    assert made([1.0], [[0]], count=1).verdict() == ""  # a method without particles


def test_a_healthy_filter_lives_and_a_strange_motif_kills_it():
    (healthy,) = scaffold(CHAIN, MOTIF, INDICES, 16, GRID)
    (strange,) = scaffold(CHAIN, MOTIF * 8, INDICES, 16, GRID)
    assert healthy.alive
    assert not strange.alive


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "rf"}, "unknown method 'rf'"),
        ({"motif": MOTIF[:, 0]}, "a motif of shape"),
        ({"motif": MOTIF * np.nan}, "finite coordinates"),
        ({"indices": [1, 2, 3]}, "6 different whole numbers from 0 to 15"),
        ({"indices": [1, 2, 3, 4, 5, 5]}, "6 different whole numbers"),
        ({"indices": [1, 2, 3, 4, 5, 16]}, "from 0 to 15"),
        ({"indices": [-1, 2, 3, 4, 5, 6]}, "from 0 to 15"),
        ({"points": 6, "indices": range(6)}, "nothing is left to draw"),
        ({"grid": uniform(Gaussian(cosine()), 5)}, "a grid of ZeroCoM is needed"),
    ],
)
def test_what_does_not_fit_is_refused(change, reason):
    options = {"motif": MOTIF, "indices": INDICES, "points": 16, "grid": GRID} | change
    with pytest.raises(UserError, match=reason):
        scaffold(CHAIN, **options)


def test_many_particles_are_shown_to_the_network_a_few_at_a_time(monkeypatch):
    options = {"motif": MOTIF, "indices": INDICES, "points": 16, "grid": karras(PROCESS, 12), "count": 10}
    varied = analytic_variance(CHAIN, [0.01, 10.0], [0.9, 0.1])
    whole = {method: scaffold(varied, **options, method=method, device="cpu")[0] for method in ("smcdiff", "tds")}
    monkeypatch.setattr(module, "PAIRS", 3 * 16**2)
    sizes = []

    def few(x, t, condition=None):
        sizes.append(len(x))
        return CHAIN(x, t)

    few = analytic_variance(few, [0.01, 10.0], [0.9, 0.1])
    for method, one in whole.items():
        sizes.clear()
        (parts,) = scaffold(few, **options, method=method, device="cpu")
        assert set(sizes) == {3, 1}
        assert np.allclose(parts.points, one.points, atol=1e-4)
        assert np.allclose(parts.ess, one.ess, rtol=1e-3)


def test_a_denoiser_of_another_schedule_is_refused():
    few = in_batches(CHAIN, 3)
    with pytest.raises(DiffusionError, match="the denoiser was trained on"):
        scaffold(few, MOTIF, INDICES, 16, karras(ZeroCoM(variance_exploding(0.01, 20.0)), 5))
