"""What is cut out of pictures where they lie is what was cut out of them one by one."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from inkwash.codecs import latents, pixels
from inkwash.systems.pictures import crops

PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 6, 6, 4), dtype=np.uint8))


def test_pixels_become_the_numbers_that_the_codecs_make_of_them():
    ours = crops.normalize(crops.on_white(PICTURES))
    assert torch.equal(ours, torch.from_numpy(latents.to_array(PICTURES.numpy())))
    assert torch.equal(crops.normalize(PICTURES), torch.from_numpy(pixels.normalize(PICTURES.numpy())))


def test_crops_are_slices():
    top, left = torch.tensor([0, 3, 1]), torch.tensor([2, 0, 3])
    cut = crops.crop(PICTURES, torch.tensor([2, 0, 2]), top, left, 3)
    assert torch.equal(cut, torch.stack([PICTURES[2, :3, 2:5], PICTURES[0, 3:, :3], PICTURES[2, 1:4, 3:]]))


def test_pictures_are_moved_mirrored_and_recoloured_as_often_as_they_should_be():
    """Every picture is one of the 9 x 9 x 2 x 6 that a picture can become, and all of these come in their shares."""
    picture = PICTURES[1]
    padded = np.pad(picture.numpy(), ((4, 4), (4, 4), (0, 0)), "edge")
    possible = {}
    for top, left, mirrored, order in product(range(9), range(9), (False, True), permutations(range(3))):
        moved = padded[top : top + 6, left : left + 6]
        moved = moved[:, ::-1] if mirrored else moved
        possible[moved[..., [*order, 3]].tobytes()] = top, left, mirrored, order != (0, 1, 2)
    assert len(possible) == 9 * 9 * 2 * 6
    generator, count = torch.Generator().manual_seed(0), 20_000
    shown = crops.augment(PICTURES, torch.ones(count, dtype=torch.long), generator)
    top, left, mirrored, recoloured = np.array([possible[each.numpy().tobytes()] for each in shown]).T
    for place in (top, left):
        assert np.bincount(place) / count == pytest.approx(np.full(9, 1 / 9), abs=0.012)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.015)
    assert recoloured.mean() == pytest.approx(0.25 * 5 / 6, abs=0.015)
    correlations = np.corrcoef([top, left, mirrored, recoloured]) - np.eye(4)
    assert np.abs(correlations).max() < 0.03  # drawn apart from each other
