"""Run lengths, by hand, there and back, and by COCO's own code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from inkwash.errors import UserError
from inkwash.systems.segmentation import rle

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


def test_runs_go_down_the_columns_and_begin_with_nothing():
    mask = np.array([[0, 1], [1, 1], [0, 0]], bool)
    assert rle.unpack(rle.encode(mask)) == [1, 1, 1, 2, 1]
    assert rle.unpack(rle.encode(np.ones((2, 2), bool))) == [0, 4]
    assert rle.encode(np.zeros((2, 2), bool)) == "4"


@given(MASKS)
def test_there_and_back(mask):
    assert (rle.decode(rle.encode(mask), *mask.shape) == mask).all()
    assert (rle.decode(rle.unpack(rle.encode(mask)), *mask.shape) == mask).all()


@given(MASKS)
def test_the_letters_are_those_of_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask")
    assert rle.encode(mask) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_any_runs_are_packed(runs):
    assert rle.unpack(rle.pack(runs)) == runs


def test_runs_of_another_size_are_refused():
    with pytest.raises(UserError, match="has 5 pixels, its picture 6"):
        rle.decode([2, 3], 2, 3)
