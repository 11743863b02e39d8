"""What is undone is what was said, and is drawn in the bounds that are said."""

import numpy as np
import pytest

from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.degradations import (
    DEGRADATIONS,
    TASKS,
    as_jpeg,
    bicubic,
    deblur,
    denoise,
    make_small,
    make_small_in_words,
    restore,
)
from tests.systems.restoration.toy import picture

PICTURE = picture(height=32, width=32) / 255


def rng(seed=0):
    return np.random.default_rng(seed)


def test_means_of_areas_are_exact_and_nothing_else_is_done():
    assert np.allclose(make_small(PICTURE, 4, ["area"], rng()), reduced(PICTURE, 4), atol=1e-12)
    flat = np.full((16, 16, 3), 0.25)
    assert np.allclose(bicubic(flat, 4), 0.25)


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg"])
def test_half_of_the_small_pictures_are_spoiled(name):
    clean, spoiled = reduced(PICTURE, 2), 0
    for seed in range(60):
        small = make_small(PICTURE, 2, ["area", name], rng(seed))
        assert small.min() >= 0 and small.max() <= 1
        spoiled += not np.allclose(small, clean, atol=1e-9)
    assert 18 <= spoiled <= 42


def test_one_of_the_ways_is_drawn_for_each_picture():
    ways = [make_small(PICTURE, 2, ["area", "bicubic"], rng(seed)) for seed in range(40)]
    area = sum(np.allclose(small, reduced(PICTURE, 2)) for small in ways)
    assert 10 <= area <= 30 and all(
        np.allclose(small, reduced(PICTURE, 2)) or np.allclose(small, bicubic(PICTURE, 2)) for small in ways
    )


def test_a_blur_keeps_the_mean_and_takes_detail():
    small = [make_small(PICTURE, 2, ["area", "blur"], rng(seed)) for seed in range(20)]
    for one in small:
        assert one.mean() == pytest.approx(PICTURE.mean(), abs=0.01) and one.std() <= PICTURE.std() + 1e-9


def test_a_jpeg_that_is_restored_has_the_quality_that_is_said_and_begins_anywhere():
    qualities = []
    for seed in range(60):
        draw = rng(seed)
        top, left = draw.integers(0, 8, 2)
        quality = int(draw.integers(5, 31))
        expected = as_jpeg(np.pad(PICTURE, ((top, 0), (left, 0), (0, 0)), mode="edge"), quality)[top:, left:]
        assert (restore(PICTURE, rng(seed)).source == expected).all()
        qualities.append(quality)
    assert min(qualities) <= 7 and max(qualities) >= 28


def test_noise_and_blur_are_of_the_sizes_that_are_said():
    grey = np.full((64, 64, 3), 0.5)
    stds = [(denoise(grey, rng(seed)).source - 0.5).std() for seed in range(40)]
    assert 0.015 < min(stds) < 0.05 and 0.15 < max(stds) < 0.21
    point = np.zeros((41, 41, 3))
    point[20, 20] = 1
    y, x = np.mgrid[-20:21, -20:21]
    for seed in range(10):  # the second moment of a blurred point, where rounding to 8 bits leaves enough of it
        sigma = float(rng(seed).uniform(0.5, 3.0))
        if sigma < 1.2:
            found = deblur(point, rng(seed)).source[..., 0]
            assert np.sqrt((found * (x**2 + y**2)).sum() / found.sum() / 2) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("name", TASKS)
def test_holes_alone_are_missing_and_sources_are_pictures(name):
    source, missing = TASKS[name].degrade(PICTURE, rng())
    assert source.shape == PICTURE.shape and source.min() >= 0 and source.max() <= 1
    assert (missing is not None) == (name in ("inpaint", "uncrop"))
    assert (source == PICTURE).all() == (missing is not None)


def test_all_of_it_is_said():
    words = make_small_in_words(4, DEGRADATIONS)
    assert words.startswith("pictures made 4 times smaller (means of areas or bicubic)")
    assert all(word in words for word in ("blurred", "noise", "JPEG"))
    assert make_small_in_words(2, ["bicubic"]) == "pictures made 2 times smaller (bicubic)"
