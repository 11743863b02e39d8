"""Models that make pictures larger (CDM, Ho et al. 2021, 2106.15282; SR3, Saharia et al. 2021, 2104.07636)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from inkwash.diffusion.arrays import constant, like, namespace
from inkwash.diffusion.noise import Noise
from inkwash.errors import UserError
from inkwash.systems.restoration.consistency import consistent, rounded_consistently
from inkwash.systems.restoration.levels import (
    Array,
    check_memory,
    check_picture,
    from_network,
    to_levels,
    to_network,
    white_of,
)
from inkwash.systems.restoration.model import Batch, Progress, RestorationModel, in_all

if TYPE_CHECKING:
    import torch

MOST_NOISE = 0.5  # largest time to which a small picture is noised
SLOPE = -0.75  # of the bicubic kernel at a distance of 1


class Upscaler(RestorationModel):
    """A model that makes pictures larger; further facts: factor, noise_level (which `upscale` takes by itself).

    >>> model = inkwash.load("runs/photos/model")
    >>> model.upscale(picture, samples=4)
    """

    system = "superresolution"
    keys: ClassVar[tuple[str, ...]] = ("factor", "noise_level", "degradations")
    parametrization = "v"  # exact at faint noise, where the detail of pictures is drawn

    @property
    def factor(self) -> int:
        return int(self.config["factor"])

    def upscale(
        self,
        picture: Array,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        consistent: bool = False,
        noise_level: float | None = None,
        progress: Progress | None = None,
    ) -> Array:
        """(H, W) or (H, W, 3) of uint8 or uint16 -> (k, factor H, factor W, ...) of the same. Sample j has the seed
        `seed` + j, and is the same alone and among others.

        consistent: the means of squares of factor x factor pixels are the picture, to the last bit; each step is
        projected there. noise_level: the time to which the picture is noised first, by the sample's own noise, as
        large as in training (non-truncated conditioning augmentation, 2106.15282, section 3.3): more lets the network
        correct more. Raises UserError for a picture that is too large for the memory.
        """
        self.check_plain(samples=samples, steps=steps, noise_level=noise_level)
        check_picture(picture)
        height, width = picture.shape[:2]
        seeds, white, factor = self.seeds(seed, samples), white_of(picture), self.factor
        check_memory(height * factor, width * factor, len(seeds))
        low, made = self.padded(to_network(picture, white)), []
        for j, one in enumerate(seeds):
            x = self.enlarge(low, [one], steps, consistent, noise_level, progress=in_all(progress, j, len(seeds)))
            drawn = from_network(x[..., : height * factor, : width * factor], white, picture.ndim == 2)
            if consistent:
                made.append(rounded_consistently(drawn, picture, factor, white))
            else:
                made.append(to_levels(drawn, white, picture))
        return np.stack(made)

    def enlarge(
        self,
        low: Any,
        seeds: Sequence[int],
        steps: int | None = None,
        project: bool = False,
        noise_level: float | None = None,
        noised: bool = False,
        label: Any = None,
        until: float = 0.0,
        progress: Progress | None = None,
    ) -> Any:
        """(B, 3, h, w) from -1 to 1, as the network takes it, -> (B, 3, factor h, factor w). noised: `low` is at the
        time `noise_level` already, the state of a first stage that was stopped there (truncated conditioning
        augmentation). label: of a stage of a cascade, which is told the kind. until: it is itself stopped there, see
        `draw`."""
        level = self.config["noise_level"] if noise_level is None else noise_level
        if not 0 <= level <= MOST_NOISE:
            raise UserError(f"noise_level = {level}: choose a number from 0 to {MOST_NOISE}")
        at, known = self.denoiser.process.at(level), low
        if level and not noised:
            noise = Noise(seeds, tuple(low.shape[1:]), "small", device=self.device).normal()
            known = self.denoiser.process.noise(low, at, noise)
        base, scale = self.seen(known / at.alpha, at.sigma / at.alpha)
        condition = {"concat": base, "noise_level": like([level] * len(low), low)} | told(label)
        number = scale if isinstance(scale, float) else scale.item()
        known = partial(consistent, low=low, factor=self.factor) if project else None
        return self.draw(base, number, condition, seeds, steps, None, known, until, progress)

    def seen(self, small: Any, noise: Any) -> tuple[Any, Any]:
        """Of small pictures (B, 3, h, w) with noise of this deviation, a number or (B, 1, 1, 1), the large ones that
        the network sees and changes, and the deviation of what is to change in them."""
        return enlarged(small, self.factor), (self.config["residual"] ** 2 + noise**2) ** 0.5

    def base(self, batch: Batch) -> Any:
        return enlarged(batch["low"], self.factor)

    def answer(self, batch: Batch, seed: int, steps: int) -> Any:
        label = batch.get("label")
        label = None if label is None else label.to(self.device)
        return self.enlarge(batch["low"].to(self.device), [seed], steps, label=label)

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Any, dict[str, Any], None]:
        """What is learned from: states, and what the network is told of them. Each small picture is noised to a time
        of its own, and divided by what is left of it there; of a plain model it stays as it is."""
        import torch

        low, process = batch["low"], self.denoiser.process
        level = self.most_noise * torch.rand(len(low), generator=generator, device=low.device)
        at = process.at(level.reshape(-1, 1, 1, 1))
        noise = torch.randn(low.shape, generator=generator, device=low.device)
        base, scale = self.seen(process.noise(low, at, noise) / at.alpha, at.sigma / at.alpha)
        return (batch["x"] - base) / scale, {"concat": base, "noise_level": level} | told(batch.get("label")), None

    @property
    def most_noise(self) -> float:
        """The largest time to which small pictures were noised in training."""
        return 0.0 if self.config["engine"] == "plain" else MOST_NOISE


def told(label: Any) -> dict[str, Any]:
    """What the network's condition has of a kind, where there is one."""
    return {} if label is None else {"label": label}


def enlarged(low: Any, factor: int) -> Any:
    """(B, C, h, w) of NumPy or torch -> (B, C, factor h, factor w), bicubic; beyond its edges it goes on as they
    are."""
    xp, device = namespace(low), low.device
    for axis in (2, 3):
        total: Any = 0.0
        for place, weight in taps(low.shape[axis], factor):
            neighbour = low[(slice(None),) * axis + (place(xp, xp.int64, device),)]
            total = total + neighbour * weight(xp, low.dtype, device).reshape(-1, *[1] * (3 - axis))
        low = total
    return low


@lru_cache(16)
def taps(side: int, factor: int) -> list[tuple[Any, Any]]:
    """Of each place of a side that is made `factor` times as long the four next to it and their weights, as
    `constant`s: cubic convolution (Keys 1981)."""
    place = (np.arange(side * factor) + 0.5) / factor - 0.5
    index = np.floor(place).astype(int) + np.arange(-1, 3)[:, None]
    d, a = np.abs(place - index), SLOPE
    weight = np.where(d <= 1, ((a + 2) * d - (a + 3)) * d**2 + 1, a * (((d - 5) * d + 8) * d - 4))
    return [(constant(i), constant(w)) for i, w in zip(index.clip(0, side - 1), weight, strict=True)]
