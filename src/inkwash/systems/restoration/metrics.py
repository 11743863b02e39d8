"""How near a picture is to the truth, how sharp, how colourful, and how samples differ; all of uint8 (H, W, 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from skimage.metrics import structural_similarity

from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.levels import LUMA, Array

BEST = 100.0  # dB of a picture without an error, which would be infinite
TOP = 0.25  # cycles a pixel from which on frequencies are of the top octave
ROUNDING = 1 / 12  # variance of what rounding to whole numbers takes away


def psnr(picture: Array, truth: Array, where: Array | None = None) -> float:
    """10 log10(255^2 / mean squared error), in dB, at most 100; where (H, W) is true."""
    error = (picture.astype(float) - truth) ** 2
    mean = error.mean() if where is None else error[where].mean()
    return float(min(BEST, 10 * np.log10(255**2 / max(mean, 1e-12))))


def ssim(picture: Array, truth: Array, where: Array | None = None) -> float:
    """Structural similarity (Wang et al. 2004), a mean over channels and places, by scikit-image."""
    mean, found = structural_similarity(picture, truth, channel_axis=-1, full=True)
    return float(mean if where is None else found[where].mean())


def pairwise_ssim(samples: Sequence[Array], where: Array | None = None) -> float:
    """The mean over pairs of samples: 1 if they are all the same."""
    return float(np.mean([ssim(one, other, where) for one, other in combinations(samples, 2)]))


def top_octave(picture: Array) -> float:
    """Mean power of the brightness from a quarter of a cycle a pixel on, under a Hann window: of white noise, its
    variance."""
    grey = picture @ LUMA
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in grey.shape))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in grey.shape), indexing="ij"))
    return float(power[frequency >= TOP].mean() / (window**2).sum())


def sharpness(picture: Array, truth: Array) -> float:
    """Power in the top octave, in parts of the truth's; not a number where that is no more than rounding makes."""
    own = top_octave(truth)
    return top_octave(picture) / own if own > ROUNDING else float("nan")


def inconsistency(picture: Array, low: Array, factor: int) -> float:
    """The mean distance, in levels of 255, of the picture reduced again (means of squares) from the small one."""
    return float(np.abs(reduced(picture, factor) - low).mean())


def chroma(picture: Array) -> Array:
    """(H, W) complex: Cb + i Cr of JPEG's YCbCr, whose length is how colourful a pixel is, and its angle the hue."""
    values = picture.astype(float)
    y = values @ LUMA
    found: Array = (values[..., 2] - y) / 1.772 + 1j * (values[..., 0] - y) / 1.402
    return found


def chroma_share(picture: Array, truth: Array) -> float:
    """The mean chroma, in parts of the truth's."""
    return float(np.abs(chroma(picture)).mean() / max(np.abs(chroma(truth)).mean(), 1e-9))


def hue_error(picture: Array, truth: Array) -> float:
    """Degrees between hues, a mean weighted by the chroma of the truth; not a number where one has no chroma."""
    one, other = chroma(picture), chroma(truth)
    weight = np.abs(other)
    if min(weight.max(), np.abs(one).max()) < 1e-6:
        return math.nan
    return float(np.degrees((np.abs(np.angle(one * other.conj())) * weight).sum() / max(weight.sum(), 1e-9)))
