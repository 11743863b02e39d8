"""Boxes by hand, and beside loops over pixels and pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.detection import boxes
from inkwash.systems.detection.boxes import (
    from_state,
    giou,
    iou,
    nms,
    pairwise,
    to_centres,
    to_corners,
    to_state,
)

UNIT = torch.tensor([0.0, 0.0, 2.0, 2.0])


def some_boxes(seed, *shape, side=1.0):
    generator = torch.Generator().manual_seed(seed)
    middle, size = (torch.rand(*shape, 2, generator=generator) for _ in range(2))
    return to_corners(torch.cat([middle * side, 0.05 + size * side / 2], -1))


@pytest.mark.parametrize(
    ("other", "overlap", "general"),
    [
        ([0, 0, 2, 2], 1, 1),
        ([1, 0, 3, 2], 1 / 3, 1 / 3),  # the hull is what both cover
        ([1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
        ([3, 0, 5, 2], 0, -2 / 10),
        ([4, 4, 6, 6], 0, -(36 - 8) / 36),
        ([0.5, 0.5, 1.5, 1.5], 1 / 4, 1 / 4),
        ([2, 0, 4, 2], 0, 0),  # they touch
        ([1, 1, 1, 1], 0, 0),  # a point
    ],
)
def test_overlaps_by_hand(other, overlap, general):
    other = torch.tensor(other, dtype=torch.float32)
    assert float(iou(UNIT, other)) == pytest.approx(overlap, abs=1e-6)
    assert float(giou(UNIT, other)) == pytest.approx(general, abs=1e-6)
    assert float(giou(other, UNIT)) == pytest.approx(general, abs=1e-6)


def test_iou_counts_the_cells_of_a_grid():
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = np.sort(rng.integers(0, 30, (2, 2, 2)), 1).reshape(2, 4)
        masks = np.zeros((2, 30, 30), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
            mask[y0:y1, x0:x1] = True
        either = (masks[0] | masks[1]).sum()
        found = float(iou(*torch.from_numpy(corners).float()))
        assert found == pytest.approx((masks[0] & masks[1]).sum() / either if either else 0, abs=1e-6)


def test_pairwise_is_each_with_each():
    a, b = some_boxes(0, 3, 5), some_boxes(1, 3, 4)
    found = pairwise(giou, a, b)
    for i, j, k in np.ndindex(3, 5, 4):
        assert float(found[i, j, k]) == pytest.approx(float(giou(a[i, j], b[i, k])), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 0.99), min_size=4, max_size=4))
def test_conversions_are_undone(values):
    centres = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(to_centres(to_corners(centres)), centres)
    torch.testing.assert_close(from_state(to_state(centres)), centres)


def test_a_state_is_twice_as_wide_as_its_sign_and_is_clamped():
    assert to_state(torch.tensor([0.0, 0.5, 1.0, 0.75])).tolist() == [-2, 0, 2, 1]
    assert from_state(torch.tensor([-7.0, -2.0, 1.0, 9.0])).tolist() == [0, 0, 0.75, 1]
    assert to_corners(torch.tensor([0.5, 0.5, 0.2, 0.4])).tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])


def brute_nms(corners, scores, kinds, threshold):
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if kinds[i] != kinds[best] or float(iou(corners[i], corners[best])) <= threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_nms_is_that_of_its_definition(threshold):
    for seed in range(5):
        corners = some_boxes(seed, 40)
        rng = np.random.default_rng(seed)
        scores, kinds = rng.integers(0, 9, 40) / 9, rng.integers(0, 2, 40)  # many are equal
        found = nms(corners.numpy(), scores, kinds, threshold)
        assert found.tolist() == brute_nms(corners, scores, kinds, threshold)


def test_many_boxes_are_compared_in_parts_and_none_that_is_gone(monkeypatch):
    corners, scores = some_boxes(7, 40).numpy(), np.random.default_rng(0).random(40)
    whole = nms(corners, scores, np.zeros(40), 0.2)
    tables, compared = [], boxes.pairwise
    monkeypatch.setattr(boxes, "PAIRS", 140)
    monkeypatch.setattr(
        boxes, "pairwise", lambda measure, a, b: tables.append((len(a), len(b))) or compared(measure, a, b)
    )
    assert nms(corners, scores, np.zeros(40), 0.2).tolist() == whole.tolist()
    assert len(tables) > 2 and all(rows * columns <= 140 for rows, columns in tables)
    tables.clear()
    assert len(nms(np.repeat(corners[:1], 1000, 0), np.ones(1000), np.zeros(1000))) == 1
    assert tables == [(1, 1000)]


def test_what_was_taken_away_takes_nothing_away():
    """A chain: the first hides the second, which alone would hide the third."""
    corners, scores = np.array([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]]), np.array([0.9, 0.8, 0.7])
    assert nms(corners, scores, np.zeros(3), 0.5).tolist() == [0, 2]
    assert nms(corners, scores, np.array([0, 1, 0]), 0.5).tolist() == [0, 1, 2]
    assert nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0)).tolist() == []


@pytest.mark.parametrize("measure", [iou, giou])
def test_numpy_and_torch_have_one_measure(measure):
    a, b = some_boxes(0, 6), some_boxes(1, 4)
    found = pairwise(measure, a.numpy(), b.numpy())
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, pairwise(measure, a, b), atol=1e-6)
    np.testing.assert_allclose(to_state(to_centres(a.numpy())), to_state(to_centres(a)), atol=1e-6)
