"""The same numbers never come twice: what is drawn on from a given state is independent of what has made it."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.diffusion import (
    Gaussian,
    Noise,
    Prediction,
    ancestral,
    cosine,
    ddim,
    ddim_transition,
    linear_beta,
    rectified_flow,
    sample,
    uniform,
    variance_exploding,
)

N = 20_000  # elements of one sample, all alike
PROCESSES = [Gaussian(f()) for f in (cosine, linear_beta, rectified_flow, variance_exploding)]


def denoise(x, t, condition=None):
    """E[x_0 | x_t] for x_0 ~ N(0, 1)."""
    return Prediction(t.alpha / (t.alpha**2 + t.sigma**2) * x)


def chain(grid, state, stream, eta=1.0):
    """The state after `ddim` with eta, as coefficients of independent draws; `state` is that before, or None."""
    draws, drawn = ((stream, i) for i in range(10**6)), dict(state or {})
    if state is None:
        drawn[next(draws)] = grid[0].sigma
    for t, s in pairwise(grid):
        law = ddim_transition(1.0, denoise(1.0, t).x0, t, s, eta)
        drawn = {draw: law.mean * share for draw, share in drawn.items()}
        if law.std:
            draw = next(draws)
            drawn[draw] = drawn.get(draw, 0.0) + law.std
    return drawn


def std(state):
    return sum(share**2 for share in state.values()) ** 0.5


def by_hand(t, x0, seed, noise=""):
    """A picture noised to t, as a reader of the paper would do it."""
    return (t.alpha * x0 + t.sigma * Noise([seed], (N,), stream=noise).normal()).astype(np.float32)


def near(x, exact):
    """The standard deviation of N normal numbers, within 5 of its standard errors."""
    return np.asarray(x).std() == pytest.approx(exact, rel=5 / (2 * N) ** 0.5)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_picture_noised_by_hand_with_the_same_seed_and_sampled_on(device):
    grid = uniform(Gaussian(linear_beta()), 6, start=0.5)
    x = by_hand(grid[0], Noise([7], (N,), stream="data").normal(), 7)
    start = {("data", 0): grid[0].alpha, ("", 0): grid[0].sigma}
    right, wrong = std(chain(grid, start, "0.5")), std(chain(grid, start, ""))
    assert (round(right, 3), round(wrong, 3)) == (0.773, 0.868)
    assert near(sample(denoise, (N,), ancestral, grid, [7], x=x, device=device), right)
    assert near(sample(denoise, (N,), ancestral, grid, [7], x=x, stream="", device=device), wrong)


def test_ten_steps_cut_into_five_and_five():
    process = PROCESSES[0]
    whole, first = uniform(process, 10), uniform(process, 5, end=0.5)
    rest = uniform(process, 5, start=0.5)
    middle = sample(denoise, (N,), ancestral, first, [7])
    right, wrong = std(chain(whole, None, "")), std(chain(rest, chain(first, None, ""), ""))
    assert right == pytest.approx(0.825, abs=5e-4) and wrong > 1.15 * right
    assert std(chain(rest, chain(first, None, ""), "0.5")) == pytest.approx(right)
    assert near(sample(denoise, (N,), ancestral, whole, [7]), right)
    assert near(sample(denoise, (N,), ancestral, rest, [7], x=middle), right)
    assert near(sample(denoise, (N,), ancestral, rest, [7], x=middle, stream=""), wrong)


@settings(max_examples=30)
@given(
    process=st.sampled_from(PROCESSES),
    seed=st.integers(0, 2**64 - 1),
    eta=st.floats(0.1, 1),
    cuts=st.lists(st.integers(1, 19), min_size=1, max_size=3, unique=True).map(sorted),
    hand=st.booleans(),
)
def test_any_chain_cut_anywhere_has_the_spread_of_the_whole(process, seed, eta, cuts, hand):
    """From noise, or from a picture noised by hand; then the steps before the first cut are left out."""
    times = np.linspace(0.95, 0, 21)
    ends = [*([] if hand else [0]), *cuts, 20]
    state, x, streams = None, None, []
    for first, last in pairwise(ends):
        grid = type(uniform(process, 1))(process, times[first : last + 1])
        if hand and x is None:
            x = by_hand(grid[0], Noise([seed], (N,), stream="data").normal(), seed)
            state = {("data", 0): grid[0].alpha, ("", 0): grid[0].sigma}
        streams.append("" if x is None else str(grid[0].t))
        state = chain(grid, state, streams[-1], eta)
        x = sample(denoise, (N,), partial(ddim, eta=eta), grid, [seed], x=x)
    assert len(set(streams)) == len(streams)
    assert np.asarray(x).std() == pytest.approx(std(state), rel=6 / (2 * N) ** 0.5)


@given(st.text(max_size=5), st.sampled_from([None, "cpu"]))
def test_a_stream_is_drawn_from_by_its_name(name, device):
    grid = uniform(PROCESSES[0], 2, start=0.9, end=0.1)
    x = np.ones((2, 3), np.float32)
    noise, hand = Noise([4, 5], (3,), "", stream=name), x
    for t, s in pairwise(grid):
        hand = grid.process.transition(hand, t, s, denoise(hand, t)).sample(noise)
    named = sample(denoise, (3,), ancestral, grid, [4, 5], x=x, stream=name, device=device)
    np.testing.assert_allclose(named, hand, atol=1e-6)


@given(st.lists(st.floats(0.01, 0.99).map(lambda t: round(t, 4)), min_size=2, max_size=2, unique=True))
def test_states_given_at_different_times_are_drawn_on_with_different_numbers(starts):
    seen = []

    def watch(step, noise):
        seen.append(step.x - step.transition.mean)

    for start in starts:
        grid = uniform(PROCESSES[0], 1, start=start, end=start / 2)
        sample(denoise, (8,), ancestral, grid, [3], x=np.ones((1, 8), np.float32), hooks=[watch])
    seen = [part / part.std() for part in seen]
    assert not np.allclose(*seen, atol=1e-3)


def test_each_field_has_numbers_of_its_own():
    joint = lambda x, t, c: {name: denoise(x[name], t[name]) for name in x}  # noqa: E731
    grid = uniform(PROCESSES[0], 3, start=0.5)
    x = {"a": np.zeros((1, N), np.float32), "b": np.zeros((1, N), np.float32)}
    out = sample(joint, {"a": (N,), "b": (N,)}, ancestral, grid, [7], x=x)
    assert abs(np.corrcoef(out["a"], out["b"])[0, 1]) < 5 / N**0.5
    for name, field in out.items():
        start = Noise([7], (N,), name).normal()
        assert near(field, std(chain(grid, {}, "0.5"))), name
        assert abs(np.corrcoef(field, start)[0, 1]) < 5 / N**0.5


@settings(max_examples=50)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9),
    count=st.integers(1, 40),
    draws=st.integers(1, 9),
)
def test_a_row_is_the_same_alone_in_any_batch_at_any_draw(seeds, count, draws):
    together, alone = Noise(seeds, (count,)), Noise(seeds[-1:], (count,))
    for i in range(draws):
        a, b = (noise.uniform() if i % 2 else noise.normal() for noise in (together, alone))
        np.testing.assert_array_equal(a[-1:], b)
    np.testing.assert_array_equal(together.between(0.5, 2)[-1:], alone.between(0.5, 2))


@given(st.integers(0, 9), st.integers(0, 9))
def test_streams_may_be_numbered(one, other):
    """Each is a stream by its name; 0 too is one beside that of the seed."""
    drawn = {stream: Noise([7], (3,), stream=stream).normal().tolist() for stream in (one, other, str(one), "")}
    assert drawn[one] == drawn[str(one)] != drawn[""] and (drawn[one] == drawn[other]) == (one == other)
    grid = uniform(Gaussian(cosine()), 2)
    made = [
        sample(lambda x, t, c: Prediction(0.5 * x), (3,), ancestral, grid, [7], stream=s) for s in (one, str(one))
    ]
    np.testing.assert_array_equal(*made)
