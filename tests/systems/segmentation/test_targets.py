"""Squares for training: picture and target stay together, and depend on the step alone."""

import numpy as np
import pytest
import torch

from inkwash.systems.segmentation.data import Example
from inkwash.systems.segmentation.targets import loader, prepare, square, target_of
from tests.systems.segmentation.cells import cells

pytest.importorskip("skimage")


def example(number, size=48, colour=False):
    picture, labels = cells(number, size, colour=colour)
    return Example(str(number), picture, labels, np.minimum(np.arange(labels.max() + 1), 1).astype(np.uint8), "", "")


def test_a_channel_for_each_class_and_the_distance():
    one = example(0)
    two = one._replace(kinds=np.array([0, 1, 2, 2, 1, 2], np.uint8))
    planes = target_of(two, 2, distance=True)
    assert planes.shape[0] == 3 and (planes[:2].sum(0) == (two.labels > 0)).all()
    assert (planes[1] > 0).sum() == np.isin(two.labels, [2, 3, 5]).sum() and planes[2].max() == 1
    assert len(target_of(one, 1, distance=False)) == 1


def test_halved_it_has_half_the_side_and_the_same_share():
    one = example(0)
    small = prepare(one, 1, True, 0.5)
    assert small.picture.shape == (3, 24, 24) and small.target.shape == (2, 24, 24) and small.grey
    assert small.target[0].float().mean() / 255 == pytest.approx((one.labels > 0).mean(), abs=0.01)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_picture_and_target_are_cut_and_turned_together(size):
    """The discs are bright: the picture says where the target must be."""
    examples = prepare(example(3), 1, False, 1.0)
    for k in range(20):
        picture, target = square(examples, size, np.random.default_rng(k))
        assert picture.shape == (3, size, size) and target.shape == (1, size, size)
        inside, outside = picture[0][target[0] > 0.9], picture[0][target[0] < -0.9]
        assert not len(inside) or not len(outside) or inside.mean() > outside.mean() + 0.5
        assert picture.min() >= -1 and picture.max() <= 1 and target.min() >= -1 and target.max() <= 1


def test_grey_stays_grey_and_colours_do_not():
    for colour in (False, True):
        prepared = prepare(example(1, colour=colour), 1, False, 1.0)
        picture, _ = square(prepared, 32, np.random.default_rng(0))
        assert torch.equal(picture[0], picture[1]) is not colour


def test_batches_depend_on_their_number_alone_and_members_have_their_own():
    examples = [prepare(example(i), 1, True, 1.0) for i in range(5)]
    one, other = loader(examples, 16, 2, 0, members=2), loader(examples, 16, 2, 0, members=2)
    one(0), one(1)
    assert torch.equal(one(7)["x"], other(7)["x"]) and torch.equal(one(7)["picture"], other(7)["picture"])
    assert one(7)["x"].shape == (4, 2, 16, 16) and not torch.equal(one(7)["x"][:2], one(7)["x"][2:])
    assert not torch.equal(one(7)["x"], one(8)["x"])
