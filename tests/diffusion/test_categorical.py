"""Tokens on a toy of three positions and three symbols, where everything can be counted."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import (
    Categorical,
    Denoiser,
    DiffusionError,
    Prediction,
    ancestral,
    cross_entropy,
    d3pm_bound,
    sample,
    uniform,
    unmask,
)
from inkwash.inference import variational_bound

SYMBOLS, LENGTH = 3, 3
TEXTS = np.array(list(product(range(SYMBOLS), repeat=LENGTH)))  # (27, 3)
DATA = np.random.default_rng(5).dirichlet(np.full(len(TEXTS), 0.4))  # the probability of each text
FLOW = diffusion.rectified_flow()
MASKED, UNIFORM = Categorical.masked(FLOW, SYMBOLS), Categorical.uniform(FLOW, SYMBOLS)
PROCESSES = {
    "masked": MASKED,
    "uniform": UNIFORM,
    "masked, cosine": Categorical.masked(diffusion.cosine(), SYMBOLS),
    "like the data": Categorical(FLOW, (0.5, 0.2, 0.3)),
}


def likelihoods(process, x, alpha):
    """q(x | text) for each state (n, 3) and text: (n, 27), from the definition, one factor a position."""
    limit = np.array(process.limit)
    same = x[:, None, :] == TEXTS[None]
    return (alpha * same + (1 - alpha) * limit[x][:, None, :]).prod(-1)


def exact(process):
    """The exact denoiser: log p(x_0^i | x_t), by enumeration."""

    def denoise(x, t, condition=None):
        xp = torch if isinstance(x, torch.Tensor) else np
        joint = likelihoods(process, np.asarray(x), t.alpha) * DATA
        post = joint / joint.sum(1, keepdims=True)
        marginal = np.zeros((*x.shape, len(process.limit)))
        for i, k in product(range(LENGTH), range(SYMBOLS)):
            marginal[:, i, k] = post[:, TEXTS[:, i] == k].sum(1)
        with np.errstate(divide="ignore"):
            return Prediction(xp.asarray(np.log(marginal).astype(np.float32)))

    return denoise


def chain(process, grid):
    """The distribution of what `ancestral` draws with the exact denoiser, by enumeration of all states."""
    states = np.array(list(product(range(len(process.limit)), repeat=LENGTH)))
    law = np.array(process.limit)[states].prod(1)
    for t, s in pairwise(grid):
        some = likelihoods(process, states, t.alpha) @ DATA > 0  # the others are never reached
        table = np.zeros((len(states), len(states)))
        p = process.transition(states[some], t, s, exact(process)(states[some], t)).probabilities
        table[some] = np.prod([p[:, i][:, states[:, i]] for i in range(LENGTH)], axis=0)
        law = law @ table
    return np.array([law[(states == text).all(1)].sum() for text in TEXTS])


def counted(x):
    """The share of each text, and the distance that Monte Carlo alone may be expected to leave, at most."""
    code = np.asarray(x) @ (SYMBOLS ** np.arange(LENGTH)[::-1])
    return np.bincount(code, minlength=27) / len(x)


def agree(shares, law, n):
    """Pearson's statistic of 26 degrees of freedom at most: it is above 60 once in 6,000 times."""
    some = law > 1e-9
    assert shares[~some].sum() == 0
    assert n * ((shares - law)[some] ** 2 / law[some]).sum() < 60


@pytest.mark.parametrize("name", PROCESSES)
def test_noise_has_the_marginal_of_its_definition(name):
    process, n = PROCESSES[name], 20_000
    noise = diffusion.Noise(range(1), (n,))
    x0 = np.full((1, n), 1)
    s, t = process.at(0.35), process.at(0.8)
    for x, alpha in (
        (process.noise(x0, t, noise.uniform()), t.alpha),
        (process.renoise(process.noise(x0, s, noise.uniform()), s, t, noise.uniform()), t.alpha),
        (process.prior(process.at(1.0), noise), 0.0),
    ):
        law = alpha * (np.arange(len(process.limit)) == 1) + (1 - alpha) * np.array(process.limit)
        found = np.bincount(x[0], minlength=len(law)) / n
        np.testing.assert_allclose(found, law, atol=0.015)
        assert (found[law == 0] == 0).all()
    np.testing.assert_allclose(
        process.marginal(x0[:, :1], t).probabilities[0, 0],
        (1 - t.alpha) * np.array(process.limit) + t.alpha * (np.arange(len(process.limit)) == 1),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", PROCESSES)
def test_the_way_back_is_bayes_rule(name):
    """sum over x_t of q(x_t | x_0) p(x_s | x_t, x_0) = q(x_s | x_0): of the known x_0, and of any mixture."""
    process = PROCESSES[name]
    t, s = process.at(0.7), process.at(0.4)
    x0, states = np.array([2]), np.arange(len(process.limit))
    forward = process.marginal(x0, t).probabilities[0]
    some = forward > 0
    back = process.transition(states[some], t, s, process.delta(np.full(some.sum(), 2))).probabilities
    np.testing.assert_allclose(forward[some] @ back, process.marginal(x0, s).probabilities[0], atol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_ancestral_draws_the_law_of_its_chain(name):
    process, n = PROCESSES[name], 20_000
    grid = uniform(process, 4)
    law = chain(process, grid)
    x = sample(exact(process), (LENGTH,), ancestral, grid, range(n))
    agree(counted(x), law, n)


def test_the_chain_goes_to_the_data_as_steps_grow():
    for process in (MASKED, UNIFORM):
        errors = [abs(chain(process, uniform(process, steps)) - DATA).sum() for steps in (4, 16, 64)]
        assert errors[1] < errors[0] / 2.5 and errors[2] < errors[1] / 2.5 and errors[2] < 0.05


@pytest.mark.parametrize("confident", [False, True])
def test_unmasking_one_by_one_is_exact_on_any_grid(confident):
    calls, n = [], 20_000

    def denoise(x, t, condition=None):
        calls.append(t.t)
        return exact(MASKED)(x, t)

    def sampler(x, grid, noise):
        return unmask(x, grid, noise, by_confidence=confident)

    for steps in (1, 50):
        x = sample(denoise, (LENGTH,), sampler, uniform(MASKED, steps), range(n))
        agree(counted(x), DATA, n)
    assert len(calls) == 2 * LENGTH  # however many steps the grid has


def test_one_call_opens_all_at_once_as_if_they_were_independent():
    n = 20_000
    x = sample(exact(MASKED), (LENGTH,), lambda *a: unmask(*a, steps=1), uniform(MASKED, 1), range(n))
    single = [[DATA[TEXTS[:, i] == k].sum() for k in range(SYMBOLS)] for i in range(LENGTH)]
    agree(counted(x), np.array([np.prod([single[i][k] for i, k in enumerate(text)]) for text in TEXTS]), n)


def test_what_is_open_at_the_start_stays_and_conditions_the_rest():
    n, start = 20_000, np.array([3, 1, 3])
    timeless = lambda x, t, condition: exact(MASKED)(x, MASKED.at(0.5))  # noqa: E731
    x = sample(timeless, (LENGTH,), unmask, uniform(MASKED, 5), range(n), x=np.tile(start, (n, 1)))
    law = np.where(TEXTS[:, 1] == 1, DATA, 0)
    agree(counted(x), law / law.sum(), n)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_bound_is_that_of_the_chain(name):
    """Its mean over the data, against the entropy, and against KL by KL enumeration for one text."""
    process = PROCESSES[name]
    grid = uniform(process, 30)
    rows = np.random.default_rng(0).choice(27, 4000, p=DATA)
    found = variational_bound(exact(process), grid, TEXTS[rows], diffusion.Noise(range(4000), (LENGTH,)))
    want = 0.0
    states = np.array(list(product(range(len(process.limit)), repeat=LENGTH)))
    for t, s in pairwise(grid):
        weight = likelihoods(process, states, t.alpha) * DATA  # p(x_t, x_0)
        some = weight.sum(1) > 0
        model = process.transition(states[some], t, s, exact(process)(states[some], t))
        for j, text in enumerate(TEXTS):
            truth = process.transition(states[some], t, s, process.delta(np.tile(text, (some.sum(), 1))))
            with np.errstate(invalid="ignore"):
                want -= np.nansum(weight[some, j] * truth.kl(model).sum(1) * (weight[some, j] > 0))
    assert found.mean() == pytest.approx(want, abs=4 * float(found.std()) / 4000**0.5)
    entropy = -(DATA * np.log(DATA)).sum()
    assert -entropy - 0.3 < want < -entropy


@pytest.mark.parametrize("name", PROCESSES)
def test_the_loss_is_the_bound(name):
    """E over random times of the training loss, times the positions, is the bound of a chain of as many steps."""
    process, steps = PROCESSES[name], 20
    table = exact(process)

    def network(x, time):
        points = [process.at(float(t) / 1000) for t in time]
        return torch.cat([table(x[i : i + 1], t).x0 for i, t in enumerate(points)])

    rows = np.random.default_rng(0).choice(27, 3000, p=DATA)
    x0, generator = torch.from_numpy(TEXTS[rows]), torch.Generator().manual_seed(0)
    grid_times = lambda n, g: (torch.randint(steps, (n,), generator=g).double() + 1) / steps  # noqa: E731
    denoiser = Denoiser(network, process)
    loss = denoiser.loss(x0, objective=d3pm_bound(steps), times=grid_times, generator=generator)
    bound = variational_bound(table, uniform(process, steps), TEXTS[rows], diffusion.Noise(range(3000), (LENGTH,)))
    assert float(loss) * LENGTH == pytest.approx(-bound.mean(), rel=0.12)
    if process.mask is not None:
        weight = lambda t, form: steps * (process.at(t.t - 1 / steps).alpha - t.alpha) / (1 - t.alpha)  # noqa: E731
        same = denoiser.loss(
            x0, objective=cross_entropy, weight=weight, times=grid_times, generator=generator.manual_seed(0)
        )
        torch.testing.assert_close(same, loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_torch_and_numpy_draw_the_same(name):
    grid = uniform(PROCESSES[name], 6)
    on = {d: sample(exact(grid.process), (LENGTH,), ancestral, grid, range(50), device=d) for d in (None, "cpu")}
    np.testing.assert_array_equal(on[None], on["cpu"].numpy())


def test_tokens_that_do_not_exist_and_logits_that_are_not_numbers_are_refused():
    grid = uniform(MASKED, 3)
    with pytest.raises(DiffusionError, match=r"x, shape \(1, 3\): token 4 is outside the vocabulary, 0 to 3"):
        sample(exact(MASKED), (LENGTH,), ancestral, grid, [0], x=np.array([[0, 4, 1]]))
    with pytest.raises(DiffusionError, match="whole numbers"):
        sample(exact(MASKED), (LENGTH,), ancestral, grid, [0], x=np.zeros((1, 3)))
    with pytest.raises(DiffusionError, match="token -1 is outside"):
        Denoiser(lambda x, time: x, MASKED).loss(torch.tensor([[-1, 0, 0]]))
    broken = lambda x, t, c: Prediction(exact(MASKED)(x, t).x0 * np.nan)  # noqa: E731
    with pytest.raises(DiffusionError, match=r"step 1, at t = 1: the logits, of shape \(1, 3, 4\), are not numbers"):
        sample(broken, (LENGTH,), ancestral, grid, [0])
    with pytest.raises(DiffusionError, match=r"prediction has the shape \(1, 3\).* \(1, 3, 4\) is needed"):
        sample(lambda x, t, c: Prediction(0.0 * x), (LENGTH,), ancestral, grid, [0])
    with pytest.raises(DiffusionError, match="has no mask"):
        sample(exact(UNIFORM), (LENGTH,), unmask, uniform(UNIFORM, 3), [0])
    with pytest.raises(DiffusionError, match="add up to 1"):
        Categorical(FLOW, (0.5, 0.2))


@given(st.sampled_from([ancestral, unmask]), st.integers(1, 6), st.sampled_from([None, "cpu"]))
def test_what_is_open_at_the_start_stays_even_where_all_should_be_masked(sampler, steps, device):
    """A text with gaps, walked from t = 1."""
    process = Categorical.masked(diffusion.cosine(), 4)
    x = np.array([[3, 4, 1, 4], [4, 4, 2, 0]])
    network = Denoiser(lambda x, t: (0.0 * x)[..., None] + (np if device is None else torch).arange(5.0), process)
    out = np.asarray(sample(network, (4,), sampler, uniform(process, steps), [1, 2], x=x, device=device))
    assert (out[x < 4] == x[x < 4]).all() and (out < 4).all()


@pytest.mark.parametrize("start", [0.9, 0.3, 1 / 3])
def test_openings_end_exactly_at_the_last_time(start):
    """In any number of calls: rounding must not lead below it, where there is no time."""
    levels = []

    def logits(x, t, condition=None):
        levels.append(t.t)
        return Prediction(np.zeros((*x.shape, 4), np.float32))

    for steps in range(1, 60):
        levels.clear()
        walk = lambda *a, steps=steps: unmask(*a, steps=steps)  # noqa: E731
        out = sample(logits, (3,), walk, diffusion.Grid(MASKED, (start, 0.0)), [0], x=np.full((1, 3), 3))
        assert (out != 3).all() and len(levels) == steps and levels[0] == pytest.approx(start)
