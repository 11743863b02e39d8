"""A large picture reduced again is the small one: exactly, whatever the large one was."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.restoration.consistency import consistent, reduced, rounded_consistently


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.integers(2, 5),
    sides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bits=st.sampled_from([8, 16]),
    colours=st.sampled_from([(), (3,)]),
    spread=st.sampled_from([0.0, 0.01, 0.3, 3.0]),
    extreme=st.booleans(),
)
def test_rounded_to_whole_numbers_it_is_exact(seed, factor, sides, bits, colours, spread, extreme):
    """Also where the small picture is all black or white, and the large one far beyond both."""
    rng, white = np.random.default_rng(seed), 2**bits - 1
    low = rng.integers(0, white + 1, (*sides, *colours), dtype=f"uint{bits}")
    if extreme:
        low = (low > white / 2).astype(low.dtype) * low.dtype.type(white)
    large = low.repeat(factor, 0).repeat(factor, 1) + spread * white * rng.normal(
        size=(factor * sides[0], factor * sides[1], *colours)
    )
    made = rounded_consistently(large, low, factor, white)
    assert made.dtype == low.dtype and (reduced(made, factor) == low).all()
    sums = np.add.reduceat(np.add.reduceat(made.astype(np.int64), np.arange(0, len(made), factor), 0),
                           np.arange(0, made.shape[1], factor), 1)  # fmt: skip
    assert (sums == low.astype(np.int64) * factor**2).all()  # of whole numbers, by another way


def test_what_is_consistent_already_stays_as_it_is():
    large = np.random.default_rng(0).integers(0, 64, (6, 8, 3)) * 4
    large[::2, ::2] += (-large.reshape(3, 2, 4, 2, 3).sum((1, 3))) % 4
    low = reduced(large, 2)
    assert (low == low.round()).all()
    made = rounded_consistently(large.astype(float), low.astype(np.uint16), 2, 65535)
    assert (made == large).all()


def test_the_projection_is_the_nearest_consistent_picture():
    """Its change is the same all over a square, so it is orthogonal to whatever changes no mean."""
    generator = torch.Generator().manual_seed(0)
    x, low = (torch.randn(2, 3, *size, generator=generator) for size in ((6, 9), (2, 3)))
    made = consistent(x, low, 3)
    blocks = made.reshape(2, 3, 2, 3, 3, 3).mean((3, 5))
    assert torch.allclose(blocks, low, atol=1e-6)
    other = torch.randn(2, 3, 6, 9, generator=generator)
    other = other - other.reshape(2, 3, 2, 3, 3, 3).mean((3, 5)).repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert float(((made - x) * other).sum()) == pytest.approx(0, abs=1e-3)
    assert torch.allclose(consistent(made, low, 3), made, atol=1e-6)
