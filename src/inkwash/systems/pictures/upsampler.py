"""The second stage of a cascade: a small picture to one of four times the side.

A diffusion model of the large picture that sees the small one (CDM, Ho et al. 2021, 2106.15282). The small picture
is noised first, and the network is told how much (noise conditioning augmentation; Imagen, 2205.11487): so it does
not trust every pixel, and draws clean edges from the slightly wrong pictures of the first stage too. Nothing in it
depends on the size or on where a place lies: it learns from crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inkwash import diffusion
from inkwash.codecs.pixels import denormalize, normalize, pixel_shuffle
from inkwash.diffusion.arrays import numpy
from inkwash.diffusion.noise import Noise
from inkwash.systems.pictures.runtimes import Onnx, Torch

FACTOR = 4
CHANNELS = 4  # colours on white, and opacity


class Upsampler:
    """Small pictures (N, h, w, 4) -> (N, 4 h, 4 w, 4), all with colours on white, and opacity.

    unet  (x, time, concat=, noise_level=) -> the clean state, on arrays of the runtime's kind
    """

    def __init__(self, unet: Any, runtime: Torch | Onnx) -> None:
        self.unet, self.runtime = unet, runtime
        self.denoiser = diffusion.Denoiser(unet, diffusion.Gaussian(diffusion.rectified_flow()), "x0")

    def sample(
        self,
        pictures: np.ndarray,
        seeds: Sequence[int],
        *,
        steps: int = 4,
        noise_level: float = 0.1,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """uint8 (N, h, w, 4), colours on white and opacity, as `latents.decode` gives them -> (N, 4 h, 4 w, 4).

        noise_level: the time to which the small picture is noised, 0 to 0.5: more lets the network correct more.
        """
        small, process = normalize(pictures), self.denoiser.process
        noise = Noise(seeds, small.shape[1:], "small").normal()
        small = process.noise(small, process.at(noise_level), noise).astype(np.float32)
        levels = np.full(len(small), noise_level, np.float32)
        condition = {"concat": self.runtime.array(small), "noise_level": self.runtime.array(levels)}
        state = diffusion.sample(
            diffusion.static_threshold(self.denoiser),
            (CHANNELS * FACTOR**2, *small.shape[2:]),
            diffusion.dpmpp_2m,
            diffusion.uniform(process, steps),
            seeds,
            condition,
            device=self.runtime.device,
            progress=progress,
        )
        return denormalize(pixel_shuffle(numpy(state), FACTOR))
