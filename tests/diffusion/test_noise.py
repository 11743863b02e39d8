import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import Noise, ancestral, sample, uniform
from tests.diffusion.oracle import PROCESSES, denoise

SEEDS = st.integers(0, 2**64 - 1)


def test_known_words():
    """Philox 4x64-10 with key (seed, field) at counter (0, draw, 0, 0), and the transform, spelled out."""
    noise = Noise([7], (3,), "")
    noise.normal()
    again = noise.normal()
    tag = int.from_bytes(__import__("hashlib").sha256(b"").digest()[:8], "little")
    words = np.random.Philox(key=[7, tag], counter=[0, 1, 0, 0]).random_raw(4)
    u = ((words >> np.uint64(11)).astype(float) + 0.5) / 2**53
    radius = np.sqrt(-2 * np.log(u[:2]))
    expected = [*(radius * np.cos(2 * np.pi * u[2:])), *(radius * np.sin(2 * np.pi * u[2:]))][:3]
    np.testing.assert_allclose(again[0], expected, rtol=1e-6)


def test_frozen_values():
    """These never change: every picture ever made depends on them."""
    np.testing.assert_allclose(Noise([7], (4,)).normal()[0], FROZEN, rtol=1e-6)


FROZEN = [2.0371973514556885, -1.860201358795166, -1.892676591873169, -1.5347845554351807]


@given(st.lists(SEEDS, min_size=1, max_size=4), st.integers(0, 3))
def test_a_row_depends_on_its_seed_alone(seeds, draws):
    together, alone = Noise(seeds, (5,), "x"), Noise(seeds[-1:], (5,), "x")
    for _ in range(draws + 1):
        a, b = together.normal(), alone.normal()
    np.testing.assert_array_equal(a[-1:], b)


@given(SEEDS, SEEDS)
def test_seeds_fields_and_draws_differ(one, other):
    noise = Noise([one], (8,), "a")
    first = noise.normal()
    assert not np.array_equal(first, noise.normal())
    assert not np.array_equal(first, Noise([one], (8,), "b").normal())
    assert one == other or not np.array_equal(first, Noise([other], (8,), "a").normal())


def test_the_law():
    """Moments and tails of 10^6 normals and uniforms, within 5 standard errors."""
    n = 10**6
    z = Noise([1], (n,)).normal()[0].astype(float)
    moments = [(z**k).mean() for k in (1, 2, 3, 4)]
    errors = np.sqrt(np.array([1, 2, 15, 96]) / n)
    assert np.abs(np.array(moments) - [0, 1, 0, 3]).max() < 5 * errors.max()
    assert (np.abs(np.array(moments) - [0, 1, 0, 3]) < 5 * errors).all()
    assert (z > 3).mean() == pytest.approx(0.0013499, abs=5 * np.sqrt(0.00135 / n))
    u = Noise([2], (n,)).uniform()[0]
    counts = np.histogram(u, 100, (0, 1))[0]
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 99 + 5 * np.sqrt(2 * 99)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_ends_are_excluded(word, monkeypatch):
    monkeypatch.setattr(Noise, "_words", lambda self, rows, count: np.full((1, count), word, np.uint64))
    assert 0 < Noise([1], (1,)).uniform()[0, 0] < 1
    assert np.isfinite(Noise([1], (2,)).normal()).all()


@pytest.mark.parametrize("seed", [-1, 2**64, 7.5])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="seed"):
        Noise([seed], (1,))


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_picture_is_the_same_alone_and_in_a_batch_on_numpy_and_torch(device):
    grid = uniform(PROCESSES["cosine"], 20)
    many = sample(denoise, (3, 4, 4), ancestral, grid, range(64), device=device)
    one = sample(denoise, (3, 4, 4), ancestral, grid, [7])
    assert isinstance(many, np.ndarray if device is None else torch.Tensor)
    np.testing.assert_allclose(np.asarray(many)[7], one[0], atol=1e-6)
    assert many.dtype in (np.float32, torch.float32)
