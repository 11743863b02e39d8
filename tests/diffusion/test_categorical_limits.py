"""Tokens that give way to another distribution in each sample."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Categorical,
    Denoiser,
    DiffusionError,
    Noise,
    Prediction,
    ancestral,
    classifier_free,
    cosine,
    d3pm_bound,
    rectified_flow,
    repaint,
    sample,
    uniform,
    unmask,
)

LIMITS = ((0.7, 0.2, 0.1), (0.1, 0.1, 0.8), (0.0, 0.0, 1.0))
DATA = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.4, 0.6, 0.0]])
PROCESS = Categorical(rectified_flow(), LIMITS)
N = 20_000


def rows(x):
    return np.stack([np.bincount(row, minlength=3) / row.size for row in np.asarray(x).reshape(len(x), -1)])


def near(x, p):
    """Frequencies within 5 standard errors, and what cannot be is not."""
    n = np.asarray(x)[0].size
    assert (abs(rows(x) - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()


def matrix(row, kept):
    """q(to | from) of one sample."""
    return kept * np.eye(3) + (1 - kept) * np.array(LIMITS[row])


def exact(x, t, condition=None):
    """p(x_0 | x_t) of positions drawn alone from the sample's own DATA."""
    chance = np.stack([DATA[row] * matrix(row, t.alpha)[:, x[row]].T for row in range(len(x))])
    with np.errstate(divide="ignore"):
        return Prediction(np.log(chance).astype(np.float32))


@pytest.mark.parametrize("kept", [1.0, 0.6, 0.25, 0.0])
def test_each_sample_has_its_own_marginals(kept):
    t = PROCESS.at(1 - kept)
    x0 = np.stack([np.repeat([0, 1, 2], N)] * 3)
    x = PROCESS.noise(x0, t, Noise(range(3), x0.shape[1:]).uniform())
    law = PROCESS.marginal(x0[:, ::N], t).probabilities
    for symbol in range(3):
        p = np.stack([matrix(row, kept)[symbol] for row in range(3)])
        near(x[:, symbol * N : (symbol + 1) * N], p)
        np.testing.assert_allclose(law[:, symbol], p, atol=1e-6)


def test_the_prior_is_each_samples_own():
    near(PROCESS.prior(PROCESS.at(1.0), Noise(range(3), (N,))), np.array(LIMITS))


def test_more_noise_on_top_is_the_noise_at_once():
    s, t = PROCESS.at(0.3), PROCESS.at(0.8)
    noise = Noise(range(3), (N,))
    x = PROCESS.renoise(PROCESS.noise(np.zeros((3, N), int), s, noise.uniform()), s, t, noise.uniform())
    near(x, np.stack([matrix(row, t.alpha)[0] for row in range(3)]))


@pytest.mark.parametrize("times", [(1.0, 0.4), (0.9, 0.5), (0.5, 0.1), (0.3, 0.0)])
@pytest.mark.parametrize("module", [np, torch])
def test_a_transition_is_bayes_rule_on_each_samples_own_matrices_and_sums_to_1(times, module):
    t, s = map(PROCESS.at, times)
    x, p = np.array([[0, 1, 2]] * 2 + [[2, 2, 2]]), np.array([0.5, 0.3, 0.2])
    logits = np.broadcast_to(np.log(p), (3, 3, 3)).astype(np.float32).copy()
    state, prediction = (x, logits) if module is np else (torch.tensor(x), torch.tensor(logits))
    got = np.asarray(PROCESS.transition(state, t, s, Prediction(prediction)).probabilities)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-5)
    assert (got >= 0).all()
    for row, place in np.ndindex(3, 3):
        now = x[row, place]
        joint = matrix(row, s.alpha) * matrix(row, t.alpha / s.alpha)[:, now]  # from x_0 over x_s to x_t
        reach = joint.sum(1, keepdims=True)
        expected = (p[:, None] * np.divide(joint, reach, where=reach > 0, out=0 * joint)).sum(0)
        np.testing.assert_allclose(got[row, place], expected / expected.sum(), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("sampler", [ancestral, partial(repaint, jump_length=3, n_resample=2)])
def test_an_exact_denoiser_draws_each_samples_own_data(steps, sampler):
    x = sample(exact, (N,), sampler, uniform(PROCESS, steps), range(3))
    near(x, DATA)


def test_a_run_stopped_halfway_has_each_samples_own_noise():
    grid = uniform(PROCESS, 4, end=0.5)
    near(sample(exact, (N,), ancestral, grid, range(3)), DATA * 0.5 + 0.5 * np.array(LIMITS))


def test_limits_of_one_kind_are_the_process_with_one_limit():
    one, many = Categorical.uniform(cosine(), 3), Categorical(cosine(), ((1 / 3,) * 3,) * 4)
    network = lambda x, t, c=None: Prediction(np.eye(3, dtype=np.float32)[x])  # noqa: E731
    a, b = (sample(network, (6,), ancestral, uniform(process, 5), range(4)) for process in (one, many))
    np.testing.assert_array_equal(a, b)
    x0 = torch.tensor([[0, 1], [2, 1], [0, 0], [1, 2]])
    losses = [
        Denoiser(lambda x, t: torch.eye(3)[x], process).loss(
            x0, objective=d3pm_bound(10), generator=torch.Generator().manual_seed(0)
        )
        for process in (one, many)
    ]
    torch.testing.assert_close(*losses)


def test_other_samples_take_their_own_limits_along():
    assert PROCESS.take([2, 0]).limit == (LIMITS[2], LIMITS[0])
    assert Categorical.uniform(cosine(), 3).take([0, 0]) == Categorical.uniform(cosine(), 3)
    assert PROCESS.symbols == 3 and PROCESS.mask is None


def test_guidance_asks_for_a_batch_of_both():
    network = Denoiser(lambda x, t, c: np.eye(3, dtype=np.float32)[x] * c[:, None], PROCESS)
    condition, free = {"c": np.ones((3, 1), np.float32)}, {"c": np.zeros((1, 1), np.float32)}
    x = np.array([[0, 1], [1, 1], [2, 2]])
    got = classifier_free(network, 2.0, free)(x, PROCESS.at(0.5), condition).x0
    np.testing.assert_allclose(got, 2 * np.eye(3)[x])


TWO = torch.tensor([[0, 1], [1, 2]])
T, S = PROCESS.at(0.6), PROCESS.at(0.3)
LOGITS = Prediction(torch.zeros(2, 2, 3))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: PROCESS.check(TWO),
        lambda: PROCESS.prior(T, Noise(range(2), (2,))),
        lambda: PROCESS.noise(TWO, T, torch.rand(2, 2)),
        lambda: PROCESS.renoise(TWO, S, T, torch.rand(2, 2)),
        lambda: PROCESS.marginal(TWO, T),
        lambda: PROCESS.transition(TWO, T, S, LOGITS),
        lambda: PROCESS.check(TWO[:1]),
        lambda: PROCESS.transition(TWO[:1], T, S, Prediction(torch.zeros(1, 2, 3))),
        lambda: PROCESS.take([0]).transition(TWO, T, S, LOGITS),
        lambda: Denoiser(lambda x, t: torch.zeros(2, 2, 3), PROCESS).loss(TWO),
        lambda: Denoiser(lambda x, t: torch.zeros(2, 2, 3), PROCESS).draw(TWO, torch.rand(2)),
        lambda: sample(exact, (2,), ancestral, uniform(PROCESS, 3), range(2)),
        lambda: sample(exact, (2,), ancestral, uniform(PROCESS, 3), range(2), x=np.zeros((2, 2), int)),
    ],
)
def test_a_batch_of_another_size_is_refused(ask):
    with pytest.raises(DiffusionError, match="one each"):
        ask()


@pytest.mark.parametrize("limit", [((0.5, 0.5), (0.5, 0.6)), ((0.5, 0.5), (1.0,)), (((0.5, 0.5),),), ((-0.5, 1.5),)])
def test_what_is_no_distribution_is_refused(limit):
    with pytest.raises(DiffusionError, match="add up to 1"):
        Categorical(rectified_flow(), limit)


TENSOR = Categorical(rectified_flow(), torch.tensor(LIMITS))  # as a network has predicted them


def test_limits_in_a_tensor_are_those_in_tuples():
    x, u = torch.tensor([[0, 1], [1, 2], [2, 0]]), torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    t, s = PROCESS.at(0.6), PROCESS.at(0.3)
    logits = Prediction(torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(1)))
    for one, other in zip(
        *(
            [
                process.noise(x, t, u),
                process.renoise(x, s, t, u),
                process.prior(t, Noise(range(3), (2,), device="cpu")),
                process.marginal(x, t).probabilities,
                process.transition(x, t, s, logits).probabilities,
                process.take([2, 0]).noise(x[:2], t, u[:2]),
            ]
            for process in (PROCESS, TENSOR)
        ),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    assert TENSOR.symbols == 3 and TENSOR.mask is None
    TENSOR.check(x)
    with pytest.raises(DiffusionError, match="one each"):
        TENSOR.check(x[:2])
    with pytest.raises(DiffusionError, match="outside the vocabulary"):
        TENSOR.check(x + 1)


@pytest.mark.parametrize("limit", [[0.5, 0.5], [[[0.5, 0.5]]], [[1.0]]])
def test_a_tensor_of_limits_of_another_shape_is_refused(limit):
    with pytest.raises(DiffusionError, match=r"not \(batch, symbols\)"):
        Categorical(rectified_flow(), torch.tensor(limit))


@pytest.mark.parametrize("limit", [[[0.5, 0.6]], [[-0.5, 1.5]], [[0.5, float("nan")]]])
def test_a_tensor_that_is_no_distribution_is_refused(limit):
    with pytest.raises(DiffusionError, match="add up to 1"):
        Categorical(rectified_flow(), torch.tensor(limit))


def test_unmask_refuses_limits_of_their_own():
    with pytest.raises(DiffusionError, match="mask"):
        sample(exact, (2,), unmask, uniform(PROCESS, 3), range(3))


def test_a_chain_of_steps_is_what_its_matrices_say():
    """An inexact denoiser on a coarse grid: the law of each sample, matrix by matrix."""
    shares, grid = np.array([0.5, 0.3, 0.2], np.float32), uniform(PROCESS, 3)
    network = lambda x, t, c=None: Prediction(np.broadcast_to(np.log(shares), (*x.shape, 3)))  # noqa: E731
    law, symbols = np.array(LIMITS), np.array([[0, 1, 2]] * 3)
    for t, s in pairwise(grid):
        with np.errstate(invalid="ignore"):
            step = np.nan_to_num(PROCESS.transition(symbols, t, s, network(symbols, t)).probabilities)
        law = np.einsum("rx,rxy->ry", law, step)
    near(sample(network, (N,), ancestral, grid, range(3)), law)
