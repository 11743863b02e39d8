"""Boxes by hand, and beside loops over pixels and pairs."""

import math

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
    level_of,
    nms,
    pairwise,
    roi_align,
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
        found = nms(corners, torch.from_numpy(scores), torch.from_numpy(kinds), threshold)
        assert found.tolist() == brute_nms(corners, scores, kinds, threshold)


def test_many_boxes_are_compared_in_parts(monkeypatch):
    corners, scores = some_boxes(7, 40), torch.rand(40, generator=torch.Generator().manual_seed(0))
    whole = nms(corners, scores, torch.zeros(40), 0.2)
    monkeypatch.setattr(boxes, "ROWS", 7)
    assert nms(corners, scores, torch.zeros(40), 0.2).tolist() == whole.tolist()


def test_what_was_taken_away_takes_nothing_away():
    """A chain: the first hides the second, which alone would hide the third."""
    corners = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    found = nms(corners, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3), 0.5)
    assert found.tolist() == [0, 2]
    assert nms(corners, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]), 0.5).tolist() == [0, 1, 2]
    assert nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)).tolist() == []


def bilinear(plane, x, y):
    """At (x, y) in cells, whose middles are at halves; the edge goes on."""
    x, y = (min(max(value - 0.5, 0), side - 1) for value, side in ((x, plane.shape[1]), (y, plane.shape[0])))
    left, top = math.floor(x), math.floor(y)
    right, bottom = min(left + 1, plane.shape[1] - 1), min(top + 1, plane.shape[0] - 1)
    a, b = x - left, y - top
    upper = (1 - a) * plane[top, left] + a * plane[top, right]
    return (1 - b) * upper + b * ((1 - a) * plane[bottom, left] + a * plane[bottom, right])


@pytest.mark.parametrize(("size", "samples"), [(2, 2), (3, 1), (7, 2)])
def test_roi_align_is_that_of_its_definition(size, samples):
    features = torch.randn(2, 3, 9, 13, generator=torch.Generator().manual_seed(0))
    corners = some_boxes(2, 2, 4)  # some reach beyond the edge
    found = roi_align([features], corners, size, samples)
    for b, n in np.ndindex(2, 4):
        x0, y0, x1, y1 = (corners[b, n] * torch.tensor([13, 9, 13, 9])).tolist()
        for c, i, j in np.ndindex(3, size, size):
            values = [
                bilinear(
                    features[b, c].numpy(),
                    x0 + (x1 - x0) * (j + (v + 0.5) / samples) / size,
                    y0 + (y1 - y0) * (i + (u + 0.5) / samples) / size,
                )
                for u in range(samples)
                for v in range(samples)
            ]
            assert float(found[b, n, c, i, j]) == pytest.approx(np.mean(values), abs=1e-5)


def test_roi_align_of_a_slope_is_the_slope():
    """Features that are their own places: the parts of a box show their middles."""
    x = (torch.arange(16) + 0.5) / 16
    features = torch.stack([x.expand(16, 16), x[:, None].expand(16, 16)])[None]
    found = roi_align([features], torch.tensor([[[0.25, 0.5, 0.75, 0.75]]]), 4)[0, 0]
    torch.testing.assert_close(found[0, 1], 0.25 + 0.5 * (torch.arange(4) + 0.5) / 4)
    torch.testing.assert_close(found[1, :, 2], 0.5 + 0.25 * (torch.arange(4) + 0.5) / 4)


def test_large_boxes_are_looked_at_on_coarse_levels():
    features = [torch.full((1, 1, 32 // 2**i, 32 // 2**i), float(i)) for i in range(3)]
    sides = torch.tensor([0.01, 5.9, 6.1, 11.9, 12.1, 32.0]) / 32
    corners = to_corners(torch.stack([torch.full((6,), 0.5), torch.full((6,), 0.5), sides, sides], -1))[None]
    assert level_of(corners, features)[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert roi_align(features, corners, 2).amax((2, 3, 4))[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert level_of(torch.zeros(1, 1, 4), features).tolist() == [[0]]


def test_a_box_that_is_no_number_does_not_end_the_process():
    """torch's grid_sample writes outside of its memory in the backward pass there."""
    features = torch.randn(1, 4, 32, 32, requires_grad=True)
    corners = torch.full((1, 50, 4), torch.nan)
    corners[:, ::2] = torch.inf
    roi_align([features, features[..., ::2, ::2]], corners, 5, 1).sum().backward()
    assert features.grad is not None


def test_gradients_reach_the_features_in_the_box_alone():
    features = torch.zeros(1, 1, 8, 8, requires_grad=True)
    roi_align([features], torch.tensor([[[0.5, 0.0, 1.0, 0.5]]]), 4).sum().backward()
    touched = features.grad[0, 0] != 0
    assert touched[:4, 4:].all() and not touched[5:].any() and not touched[:, :3].any()
