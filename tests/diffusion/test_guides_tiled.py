"""States larger than the network's own, by windows."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import (
    DiffusionError,
    Gaussian,
    Prediction,
    ancestral,
    classifier_free,
    cosine,
    ddim,
    dps,
    on,
    sample,
    tiled,
    uniform,
)
from tests.diffusion.oracle import denoise

PROCESS = Gaussian(cosine())
LEVEL = PROCESS.at(0.6)
SPATIAL = [(13,), (4,), (3,), (9, 14), (3, 11), (5, 6, 9)]


def linear(x, t, condition=None):
    """Linear in the state, at each place by itself and over the channels, with what a map says of the place."""
    where = condition["where"] if condition else 1.0
    return Prediction(0.7 * where * x + 0.1 * x.sum(1)[:, None] + 0.2, extra={"double": 2 * x})


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize(("size", "overlap"), [(4, 0), (4, 1), (4, 3), (5, 2), (1, 0)])
@pytest.mark.parametrize("module", [np, torch])
def test_windows_of_a_linear_denoiser_are_the_whole(spatial, size, overlap, module):
    x = np.random.default_rng(0).normal(size=(2, 3, *spatial)).astype(np.float32)
    where = np.random.default_rng(1).normal(size=(1, 1, *spatial)).astype(np.float32)
    x, where = (x, where) if module is np else (torch.tensor(x), torch.tensor(where))
    guided = tiled(linear, size, overlap)
    for condition in (None, {"where": where}):
        got, whole = guided(x, LEVEL, condition), linear(x, LEVEL, condition)
        assert got.x0.dtype == x.dtype and type(got.x0) is type(x)
        np.testing.assert_allclose(got.x0, whole.x0, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got.extra["double"], whole.extra["double"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spatial", SPATIAL)
def test_gradients_through_windows_are_those_of_the_whole(spatial):
    x = torch.randn(2, 3, *spatial, requires_grad=True)
    weight = torch.randn(2, 3, *spatial)
    slopes = [
        torch.autograd.grad((weight * f(x, LEVEL, None).x0.square()).sum(), x)[0]
        for f in (tiled(linear, 4, 2), linear)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)
    y = torch.zeros(2, 3, *spatial)
    measured = [
        dps(f, lambda x0: x0, y, lambda t: 1.0)(x.detach(), LEVEL, None).x0 for f in (tiled(linear, 4, 2), linear)
    ]
    torch.testing.assert_close(*measured, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_windows_cover_the_state_have_the_size_and_overlap_enough(n, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    seen = []

    def record(x, t, condition):
        seen.append(x[0, 0].astype(int).tolist())
        return Prediction(x)

    x = np.arange(n, dtype=np.float64).reshape(1, 1, n)
    np.testing.assert_allclose(tiled(record, size, overlap)(x, LEVEL, None).x0, x, atol=1e-12)
    assert {len(window) for window in seen} == {min(size, n)}
    assert sorted({place for window in seen for place in window}) == [*range(n)]
    assert all(len(set(a) & set(b)) >= overlap for a, b in pairwise(seen))
    assert len(seen) == max(1, -(-(n - overlap) // (size - overlap)))  # none too many


def test_where_windows_differ_each_counts_less_towards_its_edge():
    answers = iter([0.0, 1.0])
    guided = tiled(lambda x, t, c: Prediction(0 * x + next(answers)), 4, 2)
    got = guided(np.zeros((1, 1, 6)), LEVEL, None).x0[0, 0]
    np.testing.assert_allclose(got, [0, 0, 1 / 3, 2 / 3, 1, 1])


def test_conditions_of_the_same_spatial_shape_are_cut_and_others_are_not():
    shapes = set()

    def record(x, t, condition):
        shapes.add((x.shape, *(value.shape if hasattr(value, "shape") else value for value in condition.values())))
        return Prediction(x)

    condition = {"map": np.zeros((1, 2, 9, 7)), "words": np.zeros((1, 9, 5)), "label": np.zeros(1), "previous": None}
    tiled(record, 4, 1)(np.zeros((1, 3, 9, 7)), LEVEL, condition)
    assert shapes == {((1, 3, 4, 4), (1, 2, 4, 4), (1, 9, 5), (1,), None)}


def test_variances_and_by_products_are_blended_and_those_of_a_window_averaged():
    def network(x, t, condition=None):
        return Prediction(x, 0 * x + 0.3, {"map": x[:, :1], "score": x.mean((1, 2))})

    x = np.arange(12.0).reshape(1, 2, 6)
    got = tiled(network, 4, 2)(x, LEVEL, None)
    np.testing.assert_allclose(got.variance, 0.3 + 0 * x)
    np.testing.assert_allclose(got.extra["map"], x[:, :1])
    np.testing.assert_allclose(got.extra["score"], [(x[..., :4].mean() + x[..., 2:].mean()) / 2])


@pytest.mark.parametrize("sampler", [ddim, ancestral])
def test_a_picture_by_windows_is_the_picture(sampler):
    grid = uniform(PROCESS, 5)
    whole, parts = (
        sample(f, (1, 10, 7), sampler, grid, range(2)) for f in (denoise, tiled(denoise, size=4, overlap=1))
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4)


def test_windows_go_with_other_guides_and_on_one_field():
    condition, free = {"where": np.ones((1, 1, 9))}, {"where": np.zeros((1, 1, 9))}
    x = np.random.default_rng(0).normal(size=(1, 2, 9))
    whole = classifier_free(linear, 3.0, free)(x, LEVEL, condition)
    np.testing.assert_allclose(classifier_free(tiled(linear, 4, 1), 3.0, free)(x, LEVEL, condition).x0, whole.x0)

    def both(x, t, condition=None):
        return {name: linear(part, t) for name, part in x.items()}

    state = {"a": x, "b": x[..., :1]}
    got = on("a", partial(tiled, size=4, overlap=1))(both)(state, dict.fromkeys(state, LEVEL), None)
    for name, part in state.items():
        np.testing.assert_allclose(got[name].x0, linear(part, LEVEL).x0)


@pytest.mark.parametrize(("size", "overlap"), [(4, 4), (4, 5), (0, 0), (4, -1), (2.5, 1), (4, 0.5)])
def test_an_overlap_of_a_window_or_more_is_refused(size, overlap):
    with pytest.raises(DiffusionError, match=r"overlap|size"):
        tiled(linear, size, overlap)
