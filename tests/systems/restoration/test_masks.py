"""Holes have the sizes that are said, and users' ones are met to the pixel."""

import numpy as np
import pytest

from inkwash.systems.restoration.masks import box, canvas, free_form, random_border, random_hole, surrounding


@pytest.mark.parametrize("kind", [box, free_form, random_border, random_hole])
def test_a_generator_decides_and_something_is_drawn_and_something_known(kind):
    shares = []
    for seed in range(200):
        hole = kind(np.random.default_rng(seed), 32)
        assert hole.dtype == bool and hole.shape == (32, 32) and hole.any()
        assert (hole == kind(np.random.default_rng(seed), 32)).all()
        shares.append(hole.mean())
    assert 0.1 < np.mean(shares) < 0.75 and np.std(shares) > 0.03 and np.mean(np.array(shares) < 1) > 0.95


def test_a_border_is_a_half_at_each_side_or_on_all_sides():
    seen = set()
    for seed in range(100):
        hole = random_border(np.random.default_rng(seed), 32)
        edges = [hole[0].all(), hole[-1].all(), hole[:, 0].all(), hole[:, -1].all()]
        assert hole.mean() == 0.5 if sum(edges) == 1 else all(edges) and not hole[16, 16]
        seen.add(tuple(edges))
    assert len(seen) == 5


def test_a_picture_lies_in_the_middle_of_its_canvas():
    picture = np.arange(60, dtype=np.uint16).reshape(6, 10) + 1
    wide, free = canvas(picture, 0.25)
    assert wide.shape == free.shape == (12, 20)  # a quarter of each side on each side
    assert (wide[free == 0].reshape(6, 10) == picture).all() and not wide[free > 0].any()
    assert canvas(np.zeros((40, 40, 3)), 0.1)[0].shape == (50, 50, 3)


def test_what_surrounds_a_hole_ends_at_the_picture():
    hole = np.zeros((20, 30), bool)
    hole[5:7, 28] = True
    rows, columns = surrounding(hole, 4)
    assert (rows, columns) == (slice(1, 11), slice(24, 30))
