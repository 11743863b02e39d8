"""What a pyramid shows in boxes, beside loops over its cells."""

import math

import numpy as np
import pytest
import torch

from inkwash.systems.detection.boxes import to_corners
from inkwash.systems.detection.pooling import level_of, roi_align
from tests.systems.detection.test_boxes import some_boxes


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
