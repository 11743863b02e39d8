import copy
import hashlib
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import inkwash.diffusion.noise as module
from inkwash.diffusion.noise import Noise, child_seed, philox

SEEDS = st.integers(0, 2**64 - 1)
WIDTHS = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 64, 301])


def hashed(*names):
    return int.from_bytes(hashlib.sha256(b"\xff".join(map(str.encode, names))).digest()[:8], "little")


def old_uniform(seed, tag, draw, count):
    """The words of NumPy's generator, and the numbers in (0, 1] made of them."""
    words = np.random.Philox(key=np.array([seed, tag], np.uint64), counter=[0, draw, 0, 0]).random_raw(count)
    return ((words >> np.uint64(11)) + 0.5) * 2.0**-53


def old_normal(seed, tag, draw, count):
    """The transform as it has always been, a row at a time."""
    half = (count + 1) // 2
    u = old_uniform(seed, tag, draw, 2 * half)
    radius, turn = np.sqrt(-2 * np.log(u[:half])), np.sin(np.pi * (0.5 - u[half:]))
    cos, sin = 2 * turn**2 - 1, 2 * turn * np.sqrt(1 - turn**2)
    return np.concatenate([radius * cos, radius * sin])[:count]


GOLDEN = {  # (seeds, field): draws 0 and 2 normal, draw 1 uniform, the bits of float32; they never change
    ((7, 2**64 - 1), "x"): (
        [0x3F954A71, 0xBF2E40DE, 0xBF613933, 0xBE7AC584, 0x3FA29155, 0x3F20C51E],
        [0x3E6AE371, 0x3E343EA9, 0x3EEC9AF5, 0x3F2708B1, 0x3F57F93A, 0x3F218E0F],
        [0xBCA5D09E, 0x3CDA81CA, 0xBDC13259, 0x3F1EBCA5, 0x3F2B6422, 0x3D88F8DC],
    ),
}


@pytest.mark.parametrize(("seeds", "field"), GOLDEN)
def test_golden_bits(seeds, field):
    noise, expected = Noise(seeds, (3,), field), GOLDEN[seeds, field]
    for draw, bits in zip((noise.normal, noise.uniform, noise.normal), expected, strict=True):
        assert draw().view(np.uint32).ravel().tolist() == bits


def test_golden_bits_of_larger_draws():
    """So many rows, and so long ones, that each way of making words is taken, as it was before there were two."""

    def digest(x):
        return hashlib.sha256(x.tobytes()).hexdigest()[:16]

    many, large = Noise(range(300), (9,), "crystal"), Noise([5], (3, 16, 16), "picture")
    many.normal(), large.normal()
    assert digest(many.normal()) == "11a56f78f7494a50"
    assert digest(many.uniform()) == "9472ad84ec816c34"
    assert digest(large.normal()) == "e2de11b3fb67cef9"


def test_golden_bits_with_a_mask():
    noise = Noise([7, 8], (4,), mask=np.array([[1, 1, 0, 1], [0, 1, 0, 1]], bool))
    normal, uniform = (draw().view(np.uint32).ravel().tolist() for draw in (noise.normal, noise.uniform))
    assert normal == [0x40026171, 0xBFEE1B14, 0, 0xBFF2433A, 0, 0xBF030CB2, 0, 0xBFE65444]
    assert uniform == [0x3EEBD8CD, 0x3EF9E290, 0, 0x3DCDEBE1, 0, 0x3F0399C7, 0, 0x3DA9567C]


@given(SEEDS, SEEDS, SEEDS, st.integers(1, 5), st.booleans())
def test_words_are_those_of_philox(seed, tag, draw, counters, many):
    """Few rows take NumPy's own generator, many the arithmetic."""
    seeds = np.full(3000 if many else 2, seed, np.uint64)
    seeds[:-1] += np.arange(len(seeds) - 1, dtype=np.uint64)
    words = philox(seeds, tag, draw, counters)
    for i in (0, -1):
        key, counter = np.array([seeds[i], tag], np.uint64), np.array([0, draw, 0, 0], np.uint64)
        expected = np.random.Philox(key=key, counter=counter).random_raw(4 * counters)
        np.testing.assert_array_equal(words[i], expected)


@given(st.lists(SEEDS, min_size=1, max_size=40), WIDTHS, st.booleans(), st.sampled_from(["", "other"]))
def test_draws_are_those_of_the_formula(seeds, count, mixed, stream):
    tag = hashed("x", stream) if stream else hashed("x")
    single, double = (Noise(seeds, (count,), "x", stream=stream, dtype=d) for d in ("float32", "float64"))
    for draw in range(4):
        if mixed and draw % 2:
            expected = np.array([old_uniform(seed, tag, draw, count) for seed in seeds])
            np.testing.assert_array_equal(double.uniform(), np.minimum(expected, 1 - 2.0**-53))
            rounded = np.minimum(expected.astype(np.float32), np.float32(1 - 2**-24))
            np.testing.assert_array_equal(single.uniform(), rounded)
        else:
            expected = np.array([old_normal(seed, tag, draw, count) for seed in seeds])
            np.testing.assert_array_equal(double.normal(), expected)
            np.testing.assert_array_equal(single.normal(), expected.astype(np.float32))


@given(SEEDS, st.integers(1, 99), st.integers(1, 99), WIDTHS)
def test_any_split_of_a_batch_gives_the_same_rows(seed, first, second, count):
    seeds = [(seed + i) % 2**64 for i in range(first + second)]
    whole, left, right = (Noise(part, (count,), "x") for part in (seeds, seeds[:first], seeds[first:]))
    for draw in ("normal", "uniform", "normal", "normal"):
        parts = [getattr(noise, draw)() for noise in (left, right)]
        np.testing.assert_array_equal(getattr(whole, draw)(), np.concatenate(parts))
    np.testing.assert_array_equal(
        whole.between(0.5, 2.0), np.concatenate([left.between(0.5, 2.0), right.between(0.5, 2.0)])
    )


@given(SEEDS, SEEDS)
def test_seeds_fields_streams_and_draws_differ(one, other):
    noise = Noise([one], (8,), "a")
    first = noise.normal()
    assert not np.array_equal(first, noise.normal())
    assert one == other or not np.array_equal(first, Noise([other], (8,), "a").normal())
    names = [("b", ""), ("a", "b"), ("ab", ""), ("", "ab"), ("", "a"), ("", "path"), ("a", "path")]
    draws = [first, *(Noise([one], (8,), field, stream=stream).normal() for field, stream in names)]
    assert len({draw.tobytes() for draw in draws}) == len(draws)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
@pytest.mark.parametrize("seeds", [[1], range(3)])
def test_any_shape(seeds, shape):
    noise = Noise(seeds, shape)
    for values in (noise.normal(), noise.uniform(), noise.between(1, 2)):
        assert values.shape == (len(seeds), *shape) and values.dtype == np.float32


# masks


@given(SEEDS, st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=30))
def test_a_row_draws_as_many_numbers_as_its_mask_has(seed, mask):
    mask = np.array(mask)
    seeds = [(seed + i) % 2**64 for i in range(len(mask))]
    padded = Noise(seeds, (6, 2), "x", mask=mask)
    for draw in range(3):
        name = "uniform" if draw == 1 else "normal"
        values = getattr(padded, name)()
        assert (values[~mask] == 0).all()
        for row, real, own in zip(values, mask, seeds, strict=True):
            alone = Noise([own], (int(real.sum()), 2), "x")
            for _ in range(draw):
                alone.normal()
            np.testing.assert_array_equal(row[real], getattr(alone, name)()[0])
    np.testing.assert_array_equal(
        padded.between(1, 3)[0][mask[0]], Noise(seeds[:1], (int(mask[0].sum()), 2), "x").between(1, 3)[0]
    )


# the law


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_law(dtype):
    """Moments and tails of 10^6 normals and uniforms, within 5 standard errors."""
    n = 10**6
    z = Noise([1], (n,), dtype=dtype).normal()[0].astype(float)
    moments = [(z**k).mean() for k in (1, 2, 3, 4)]
    errors = np.sqrt(np.array([1, 2, 15, 96]) / n)
    assert (np.abs(np.array(moments) - [0, 1, 0, 3]) < 5 * errors).all()
    assert (z > 3).mean() == pytest.approx(0.0013499, abs=5 * np.sqrt(0.00135 / n))
    u = Noise([2], (n,), dtype=dtype).uniform()[0]
    counts = np.histogram(u, 100, (0, 1))[0]
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 99 + 5 * np.sqrt(2 * 99)


def test_seeds_elements_and_draws_are_independent():
    noise = Noise(range(40_000), (2,))
    z = np.concatenate([noise.normal(), noise.normal(), Noise(range(40_000), (2,), stream="b").normal()], 1)
    z = np.concatenate([z, np.roll(z, 1, 0)], 1).astype(float)
    assert np.abs(z.T @ z / len(z) - np.eye(12)).max() < 5 * np.sqrt(2 / len(z))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_ends_are_excluded(word, dtype, monkeypatch):
    monkeypatch.setattr(module, "philox", lambda *args: np.full((1, 4), word, np.uint64))
    assert 0 < Noise([1], (1,), dtype=dtype).uniform()[0, 0] < 1
    assert np.isfinite(Noise([1], (2,), dtype=dtype).normal()).all()


# between

POINTS = st.floats(-14, 14).map(lambda x: math.exp(2 * x))


@given(SEEDS, st.lists(POINTS, min_size=3, max_size=3).map(sorted), st.booleans())
def test_adjoining_intervals_are_one_motion(seed, points, from_zero):
    a, b, c = points
    a = 0.0 if from_zero else a
    if b < 1.01 * a or c < 1.01 * b:
        return
    noise = Noise([seed], (5,), "x", dtype="float64")
    sum_of_two = math.sqrt(b - a) * noise.between(a, b) + math.sqrt(c - b) * noise.between(b, c)
    np.testing.assert_allclose(sum_of_two / math.sqrt(c - a), noise.between(a, c), atol=1e-9)


@given(SEEDS, st.lists(POINTS, min_size=2, max_size=6, unique=True).map(sorted))
def test_the_order_of_asking_and_draws_between_do_not_matter(seed, points):
    noise, other = Noise([seed, 3], (4,), "x"), Noise([seed, 3], (4,), "x")
    pairs = list(pairwise(points))
    forwards = [noise.between(a, b) for a, b in pairs]
    first = other.normal()
    backwards = [other.between(a, b) for a, b in pairs[::-1]][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    np.testing.assert_array_equal(noise.normal(), first)
    np.testing.assert_array_equal(forwards[0], Noise([seed, 3], (4,), "x").between(*pairs[0]))


@pytest.mark.parametrize(
    "points",
    [
        (0, 1e-3, 0.1, 1.0, 1.5, 40.0),
        (0, 1e-30, 1e-28, 1e-5, 1e10, 1e30, 1e40),  # beyond the tree
        (2.0, 2.2, 2.3, 2.31, 2.32),
        (1.0, math.exp(1), math.exp(2), math.exp(4)),  # knots
    ],
)
def test_steps_are_independent_standard_normals(points):
    n = 40_000
    noise = Noise(range(n), (), dtype="float64")
    z = np.stack([noise.between(a, b) for a, b in pairwise(points)])
    assert np.abs(z.mean(1)).max() < 5 / math.sqrt(n)
    assert np.abs(z @ z.T / n - np.eye(len(z))).max() < 5 * math.sqrt(2 / n)
    assert np.abs((z**4).mean(1) - 3).max() < 5 * math.sqrt(96 / n)


def test_within_a_leaf():
    """Two points of one leaf have a standard normal of their own."""
    n, points = 40_000, (2.0, 2.0001, 2.0002, 2.0003)
    noise = Noise(range(n), ())
    z = np.stack([noise.between(a, b) for a, b in pairwise(points)]).astype(float)
    assert np.abs(z @ z.T / n - np.eye(3)).max() < 5 * math.sqrt(2 / n)


@given(SEEDS)
def test_motions_differ(seed):
    motions = [Noise([seed], (4,), f, stream=s).between(1, 2) for f, s in (("", ""), ("a", ""), ("", "a"))]
    motions += [Noise([seed ^ 1], (4,)).between(1, 2), Noise([seed], (4,)).normal()]
    assert len({motion.tobytes() for motion in motions}) == len(motions)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 1), (-1, 1), (0, math.inf), (math.nan, 1), (0, math.nan)])
def test_intervals_that_are_none(a, b):
    with pytest.raises(ValueError, match="between"):
        Noise([1], (2,)).between(a, b)


# the object


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch(dtype):
    there, here = Noise([1, 2], (3,), device="cpu", dtype=dtype), Noise([1, 2], (3,), dtype=dtype)
    for x, y in (
        (there.normal(), here.normal()),
        (there.uniform(), here.uniform()),
        (there.between(1, 2), here.between(1, 2)),
    ):
        assert isinstance(x, torch.Tensor) and x.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(x.numpy(), y)


def test_a_mask_of_torch_is_the_same_mask():
    mask = np.array([[True, False], [True, True]])
    a, b = Noise([1, 2], (2,), mask=mask), Noise([1, 2], (2,), mask=torch.from_numpy(mask))
    np.testing.assert_array_equal(a.normal(), b.normal())
    assert a == b


def test_pickle_and_equality():
    noise = Noise(range(3), (2,), "x", stream="s", mask=np.ones((3, 2), bool))
    noise.normal(), noise.between(1, 2)
    for twin in (pickle.loads(pickle.dumps(noise)), copy.deepcopy(noise)):
        assert twin == noise
        np.testing.assert_array_equal(twin.between(2, 3), noise.between(2, 3))
        expected = copy.deepcopy(noise).normal()
        np.testing.assert_array_equal(twin.normal(), expected)
        assert twin != noise  # it has drawn once more


def test_each_argument_counts():
    base = {"seeds": [1, 2], "shape": (2,), "field": "x", "stream": "", "mask": None, "dtype": "float32"}
    changes = [
        {"seeds": [1, 3]},
        {"shape": (3,)},
        {"field": "y"},
        {"stream": "s"},
        {"mask": np.ones((2, 2), bool)},
        {"dtype": "float64"},
        {"device": "cpu"},
    ]
    assert Noise(**base) == Noise(**{**base, "seeds": np.array([1, 2])})
    for change in changes:
        assert Noise(**base) != Noise(**{**base, **change})
    assert Noise(**base) != "noise"


def test_repr():
    text = repr(Noise(range(100), (2, 3), "lattice", stream="start"))
    assert text.startswith("Noise(seeds=[0, 1, 2") and "..." in text
    assert all(part in text for part in ("shape=(100, 2, 3)", "field='lattice'", "stream='start'", "draws=0"))


# seeds


def test_child_seed():
    assert child_seed(7, 3) == int.from_bytes(hashlib.sha256(b"7/3").digest()[:8], "little")
    assert child_seed(7, "candidate", 3) == int.from_bytes(hashlib.sha256(b"7/candidate/3").digest()[:8], "little")
    assert child_seed(np.uint64(7), np.int64(3)) == child_seed(7, 3)


@pytest.mark.parametrize("seed", [-1, 2**64, 7.5, 7.0, True, np.True_, "7", None, np.int64(-1), np.float32(2)])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match=r"seed .*whole number from 0"):
        Noise([seed], (1,))
    with pytest.raises(ValueError, match=r"seed .*whole number from 0"):
        child_seed(seed, 1)


@given(SEEDS)
def test_a_seed_of_numpy(seed):
    np.testing.assert_array_equal(Noise(np.array([seed], np.uint64), (3,)).normal(), Noise([seed], (3,)).normal())


def test_one_seed_that_is_no_list():
    with pytest.raises(ValueError, match=r"seeds = 3: .*\[3\] or range\(3\)"):
        Noise(3, (1,))


def test_another_dtype():
    with pytest.raises(ValueError, match="dtype"):
        Noise([3], (1,), dtype="float16")
