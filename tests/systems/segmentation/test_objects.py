"""Objects that touch are parted; what is small is left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.segmentation.objects import class_map, distances, find_objects, sizes_of, typical
from tests.systems.segmentation.cells import cells

pytest.importorskip("skimage")


def pair(gap, radius=8.0, size=48):
    """Two discs whose middles are so far apart: labels."""
    y, x = np.mgrid[:size, :size] + 0.5
    left, right = (((x - size / 2 - side * gap / 2) ** 2 + (y - size / 2) ** 2) for side in (-1, 1))
    inside = np.minimum(left, right) <= radius**2
    return np.where(inside, np.where(left <= right, 1, 2), 0).astype(np.int32)


@pytest.mark.parametrize("gap", [12, 14, 16, 20])
@pytest.mark.parametrize("drawn", [True, False])
def test_two_discs_that_touch_are_two(gap, drawn):
    truth = pair(gap)
    labels, kinds = find_objects((truth > 0).astype(np.uint8), distances(truth) if drawn else None, 8.0, 5)
    assert kinds.tolist() == [0, 1, 1]
    both = np.stack([labels.ravel(), truth.ravel()])
    agree = max((both[0] == both[1]).mean(), (both[0] == np.array([0, 2, 1])[both[1]]).mean())
    assert agree > 0.995


def test_one_long_object_stays_one():
    mask = np.zeros((30, 60), np.uint8)
    mask[10:20, 5:55] = 1
    assert find_objects(mask, None, 8.0, 5)[1].tolist() == [0, 1]
    assert find_objects(mask, distances(mask.astype(np.int32)), 8.0, 5)[1].tolist() == [0, 1]


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_objects_that_do_not_touch_are_found_as_they_are(number):
    truth = cells(number)[1]
    for distance in (None, distances(truth)):
        labels, kinds = find_objects((truth > 0).astype(np.uint8), distance, 4.5, 5)
        assert len(kinds) == truth.max() + 1 and ((labels > 0) == (truth > 0)).all()
        assert all(len(np.unique(truth[labels == n])) == 1 for n in range(1, len(kinds)))


def test_small_ones_are_left_out_and_numbers_have_no_gaps():
    mask = np.zeros((20, 20), np.uint8)
    mask[1:3, 1:3], mask[5:12, 5:12], mask[15:19, 15:19] = 1, 1, 2
    labels, kinds = find_objects(mask, None, 3.0, 9)
    assert kinds.tolist() == [0, 1, 2] and labels[1, 1] == 0 and labels[8, 8] == 1 and labels[16, 16] == 2
    assert [part.tolist() for part in sizes_of(labels, kinds, 2)] == [[1, 1], [49, 16]]


def test_an_object_without_a_sure_middle_is_still_found():
    truth = pair(30, radius=4)
    distance = distances(truth)
    distance[truth == 2] *= 0.3
    assert find_objects((truth > 0).astype(np.uint8), distance, 4.0, 5)[1].tolist() == [0, 1, 1]


def test_the_class_is_what_is_likelier_than_all_else():
    probability = np.array([[[0.4, 0.3, 0.6]], [[0.45, 0.3, 0.0]]])
    assert class_map(probability).tolist() == [[2, 0, 1]]
    assert class_map(np.array([[[0.49, 0.51]]])).tolist() == [[0, 1]]


def test_distance_is_one_in_every_middle_and_small_where_objects_meet():
    truth = pair(14)
    found = distances(truth)
    assert found.max() == 1 and (found > 0).sum() == (truth > 0).sum()
    assert all(found[truth == n].max() == 1 for n in (1, 2))
    assert found[24, 23:25].max() <= 1 / 6


def test_what_is_typical():
    radius, smallest = typical([pair(20), pair(22)])
    area = (pair(20) == 1).sum()
    assert radius == pytest.approx((area / np.pi) ** 0.5) and smallest == pytest.approx(area / 2)
