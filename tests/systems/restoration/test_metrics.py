"""Figures of known answers, and of another implementation."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from inkwash.systems.restoration import metrics
from tests.systems.restoration.toy import picture

pytest.importorskip("skimage")
ONE, OTHER = picture(0, 40, 48), picture(1, 40, 48)


def test_error_and_similarity_are_scikit_images():
    assert metrics.psnr(ONE, OTHER) == pytest.approx(peak_signal_noise_ratio(OTHER, ONE), rel=1e-9)
    assert metrics.ssim(ONE, OTHER) == pytest.approx(structural_similarity(ONE, OTHER, channel_axis=-1), rel=1e-3)
    assert metrics.psnr(ONE, ONE) == metrics.BEST and metrics.ssim(ONE, ONE) == pytest.approx(1)
    assert metrics.psnr(ONE, ONE + np.uint8(1) * (ONE < 255)) == pytest.approx(48.13, abs=0.3)  # a level of 255


def test_only_the_hole_counts():
    hole = np.zeros((40, 48), bool)
    hole[10:20, 10:30] = True
    made = ONE.copy()
    made[~hole] = 0
    assert metrics.psnr(made, ONE, hole) == metrics.BEST
    made[hole] = 255 - ONE[hole]
    expected = 10 * np.log10(255**2 / ((made[hole].astype(float) - ONE[hole]) ** 2).mean())
    assert metrics.psnr(made, ONE, hole) == pytest.approx(expected)


def test_samples_that_are_the_same_have_a_similarity_of_one():
    assert metrics.pairwise_ssim([ONE, ONE, ONE]) == pytest.approx(1)
    three = metrics.pairwise_ssim([ONE, OTHER, ONE])
    assert three == pytest.approx((1 + 2 * metrics.ssim(ONE, OTHER)) / 3, abs=1e-6)


def test_power_of_waves_lies_in_their_octave():
    """Of a third of a cycle a pixel in the top octave, of an eighth below it; the power is the amplitude's square."""
    x = np.arange(64)

    def wave(frequency, amplitude):
        return np.repeat((128 + amplitude * np.cos(2 * np.pi * frequency * x))[None, :, None], 64, 0).repeat(3, -1)

    high, low = metrics.top_octave(wave(1 / 3, 20)), metrics.top_octave(wave(1 / 8, 20))
    assert low < 1e-4 * high
    assert metrics.top_octave(wave(1 / 3, 40)) == pytest.approx(4 * high, rel=1e-6)


def test_blur_takes_sharpness_and_the_truth_has_all_of_it():
    soft = gaussian_filter(ONE.astype(float), (1, 1, 0)).round().astype(np.uint8)
    assert metrics.sharpness(ONE, ONE) == 1 and metrics.sharpness(soft, ONE) < 0.3
    sky = np.full_like(ONE, 200)  # which nothing is as sharp as
    assert np.isnan(metrics.sharpness(ONE, sky)) and metrics.sharpness(sky, ONE) == 0


def test_the_top_octave_of_white_noise_is_its_variance():
    noise = np.random.default_rng(0).normal(0, 5, (96, 80))
    found = metrics.top_octave(np.repeat(noise[..., None], 3, -1))
    assert found == pytest.approx(25, rel=0.05)


def test_a_consistent_picture_is_off_by_nothing():
    small = ONE[:5, :6]
    large = small.repeat(4, 0).repeat(4, 1)
    assert metrics.inconsistency(large, small, 4) == 0
    assert metrics.inconsistency(large.astype(int) + 2, small, 4) == 2


def test_chroma_is_jpegs_and_grey_has_none():
    ycc = np.asarray(Image.fromarray(ONE).convert("YCbCr"), float)
    found = metrics.chroma(ONE)
    assert np.abs(found.real - (ycc[..., 1] - 128)).max() < 1 and np.abs(found.imag - (ycc[..., 2] - 128)).max() < 1
    grey = np.repeat(ONE[..., :1], 3, -1)
    assert metrics.chroma_share(grey, ONE) < 1e-9 and metrics.chroma_share(ONE, ONE) == pytest.approx(1)
    red, green = (np.full((4, 4, 3), colour, np.uint8) for colour in ((200, 50, 50), (50, 200, 50)))
    assert math.isnan(metrics.hue_error(grey, ONE)) and math.isnan(metrics.hue_error(ONE, grey))
    assert metrics.hue_error(red, red) == pytest.approx(0) and metrics.hue_error(green, red) > 60
    assert metrics.hue_error(np.full((4, 4, 3), (125, 110, 110), np.uint8), red) < 15  # paler, not of another hue
