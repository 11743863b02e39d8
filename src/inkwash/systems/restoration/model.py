"""Pictures from pictures by diffusion: larger ones (CDM, Ho et al. 2021, 2106.15282; SR3, 2104.07636), and edited
ones (Palette, Saharia et al. 2021, 2111.05826); or by the same network without noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.diffusion.denoiser import Denoise, Denoiser
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Prediction
from inkwash.errors import unknown
from inkwash.systems.base import check_seed
from inkwash.systems.restoration.consistency import consistent, rounded_consistently
from inkwash.systems.restoration.levels import (
    Array,
    check_memory,
    check_picture,
    from_network,
    luma,
    spread_of,
    to_levels,
    to_network,
    white_of,
)
from inkwash.systems.restoration.masks import canvas, surrounding
from inkwash.systems.restoration.networks import COLOURS, RestorationNetwork
from inkwash.systems.restoration.options import check_options
from inkwash.systems.torch_model import TorchModel

MOST_NOISE = 0.5  # largest time to which a small picture is noised
OVERLAP = 16  # pixels that two windows share at least
Progress = Callable[[int, int], None]
Batch = dict[str, Tensor]
KEYS = (
    "engine",
    "size",
    "steps",
    "samples",
    "residual",
    "degradation",
    "train",
    "choices",
)  # of the facts of both kinds


class RestorationModel(TorchModel):
    """What both kinds share.

    facts: engine ("diffusion", or "plain": the network without noise), size (of the squares that it was trained on),
    steps, samples, degradation (in words: what it undoes), train and choices (digests of the pictures that it has
    seen), residual (the root mean square of what is to change in a source), and the network's own.
    """

    parametrization: ClassVar[str]

    def __init__(self, network: RestorationNetwork, config: dict[str, Any]) -> None:
        self.network: RestorationNetwork = network
        self.config = config

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Self:
        for key in KEYS:
            facts[key]
        network: Any = RestorationNetwork(**facts["network"])
        return cls(network.to(memory_format=torch.channels_last), facts)  # faster on a CPU

    def facts(self) -> dict[str, Any]:
        return self.config

    @property
    def denoiser(self) -> Denoiser:
        """Of states (B, 3, H, W): what is to change in the source, divided by how much that is at large, so that
        noise of every size matters (SRDiff, Li et al. 2021, 2104.14951, of residuals). Its condition is that of
        `RestorationNetwork`, which is told the time, continuous, times 1000."""
        return Denoiser(self.network, diffusion.Gaussian(diffusion.cosine()), self.parametrization)

    def draw(
        self,
        base: Tensor,
        scale: float,
        condition: dict[str, Tensor],
        seed: int,
        steps: int | None = None,
        mask: Tensor | None = None,
        low: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """One sample base + scale state, (1, 3, H, W) from -1 to 1, by windows where it is more than twice as large
        as what was trained on; of a plain model its answer. mask: what is drawn, elsewhere it is `base`. low: what each
        step is consistent with."""
        plain = self.config["engine"] == "plain"
        answers: Denoise = partial(plain_answer, self.network) if plain else self.denoiser
        windows = diffusion.tiled(answers, 2 * self.config["size"], OVERLAP)
        denoise = in_range(windows, base, scale, low)
        with torch.no_grad():
            if plain:
                state = denoise(torch.zeros_like(base), diffusion.cosine().at(0.0), condition).x0
                state = state if mask is None else state * mask
            else:
                state = diffusion.sample(
                    denoise,
                    tuple(base.shape[1:]),
                    diffusion.ddim,
                    diffusion.uniform(self.denoiser.process, steps or self.config["steps"]),
                    [seed],
                    condition,
                    mask=mask,
                    device=self.device,
                    progress=progress,
                )
        sample: Tensor = base + scale * state
        return sample

    def base(self, batch: Batch) -> Tensor:
        """The sources of a batch, (B, 3, H, W), which are changed."""
        raise NotImplementedError

    def answer(self, batch: Batch, seed: int, steps: int) -> Tensor:
        """A sample of a batch of one."""
        raise NotImplementedError

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """What is learned from: states, what the network is told of them, and what of them counts; None for all."""
        raise NotImplementedError

    def padded(self, x: Tensor) -> Tensor:
        """(1, C, H, W), mirrored beyond its edges to multiples of the network's patch."""
        rows, columns = (-side % self.network.patch for side in x.shape[2:])
        if not rows and not columns:
            return x.to(self.device)
        wider = np.pad(x.numpy(force=True), ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")
        return torch.from_numpy(wider).to(self.device)

    def seeds(self, seed: int, samples: int | None) -> list[int]:
        check_seed(seed)
        return [(seed + j) % 2**64 for j in range(samples or self.config["samples"])]


class Upscaler(RestorationModel):
    """A model that makes pictures larger; further facts: factor, noise_level (which `upscale` takes by itself).

    >>> model = inkwash.load("runs/photos/model")
    >>> model.upscale(picture, samples=4)
    """

    system = "superresolution"
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
        check_picture(picture)
        height, width = picture.shape[:2]
        seeds, white, factor = self.seeds(seed, samples), white_of(picture), self.factor
        check_memory(height * factor, width * factor, len(seeds))
        low, made = self.padded(to_network(picture, white)), []
        for j, one in enumerate(seeds):
            x = self.enlarge(low, one, steps, consistent, noise_level, progress=in_all(progress, j, len(seeds)))
            drawn = from_network(x[..., : height * factor, : width * factor], white, picture.ndim == 2)
            if consistent:
                made.append(rounded_consistently(drawn, picture, factor, white))
            else:
                made.append(to_levels(drawn, white, picture))
        return np.stack(made)

    def enlarge(
        self,
        low: Tensor,
        seed: int,
        steps: int | None = None,
        project: bool = False,
        noise_level: float | None = None,
        noised: bool = False,
        progress: Progress | None = None,
    ) -> Tensor:
        """(1, 3, h, w) from -1 to 1 -> (1, 3, factor h, factor w). noised: `low` is at the time `noise_level`
        already, the state of a first stage that was stopped there (truncated conditioning augmentation)."""
        level = self.config["noise_level"] if noise_level is None else noise_level
        at, known = self.denoiser.process.at(level), low
        if level and not noised:
            noise = Noise([seed], tuple(low.shape[1:]), "small", device=low.device).normal()
            known = self.denoiser.process.noise(low, at, noise)
        base = enlarged(known / at.alpha, self.factor)
        condition = {"concat": base, "noise_level": torch.full((1,), level).to(low)}
        scale = math.hypot(self.config["residual"], at.sigma / at.alpha)
        return self.draw(base, scale, condition, seed, steps, low=low if project else None, progress=progress)

    def base(self, batch: Batch) -> Tensor:
        return enlarged(batch["low"], self.factor)

    def answer(self, batch: Batch, seed: int, steps: int) -> Tensor:
        return self.enlarge(batch["low"].to(self.device), seed, steps)

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], None]:
        """What is learned from: states, and what the network is told of them. Each small picture is noised to a time
        of its own, and divided by what is left of it there; of a plain model it stays as it is."""
        low, process = batch["low"], self.denoiser.process
        level = MOST_NOISE * torch.rand(len(low), generator=generator, device=low.device)
        if self.config["engine"] == "plain":
            level = torch.zeros_like(level)
        at = process.at(level.reshape(-1, 1, 1, 1))
        noise = torch.randn(low.shape, generator=generator, device=low.device)
        base = enlarged(process.noise(low, at, noise) / at.alpha, self.factor)
        scale = (self.config["residual"] ** 2 + (at.sigma / at.alpha) ** 2) ** 0.5
        return (batch["x"] - base) / scale, {"concat": base, "noise_level": level}, None


class Edited(NamedTuple):
    """samples (k, H, W) or (k, H, W, 3) as the picture's numbers; spread (H, W): their standard deviation, in parts
    of the range from black to white; invented (H, W): where they are not the picture itself."""

    samples: Array
    spread: Array
    invented: Array


class Editor(RestorationModel):
    """A model that edits photographs; a further fact: tasks, which it was trained on, without being told which.

    >>> model = inkwash.load("runs/shop/model")
    >>> model.edit(picture, "inpaint", mask=hole, samples=4).samples
    """

    system = "editing"
    parametrization = "x0"  # of tasks that change much and little alike, it leaves no noise

    def edit(
        self,
        picture: Array,
        task: str,
        mask: Array | None = None,
        outpaint: float | None = None,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """Of a picture (H, W) or (H, W, 3) of uint8 or uint16. Sample j has the seed `seed` + j.

        inpaint: where `mask` (H, W), from 0 to 1, is 0 each sample has the picture's own bits; between 0 and 1 both
        are mixed. uncrop: the picture, its bits kept, in the middle of a larger one, of which `outpaint` of the side
        is drawn on each side. colourise: by the brightness of the picture alone. restore, denoise, deblur: all of it.

        Raises UserError for a task that the model does not know, and for a picture too large for the memory.
        """
        if task not in self.config["tasks"]:
            raise unknown("task", task, self.config["tasks"])
        check_options(task, mask=mask, outpaint=outpaint)
        check_picture(picture)
        if outpaint is not None:
            picture, mask = canvas(picture, outpaint)
        elif task == "colourise":
            picture = np.repeat(luma(picture)[..., None], 3, -1)
        return self.redraw(picture, mask, samples, seed, steps, progress)

    def redraw(
        self,
        picture: Array,
        mask: Array | None = None,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """What the network makes of a picture: of all of it, or where `mask` (H, W) is above 0, nothing of the
        picture there being known to it."""
        seeds, white = self.seeds(seed, samples), white_of(picture)
        box = np.s_[:, :] if mask is None else surrounding(mask > 0, self.config["size"])
        cut = picture[box]
        share = np.ones(cut.shape[:2]) if mask is None else mask[box]
        check_memory(cut.shape[0], cut.shape[1], len(seeds))
        grey = picture.ndim == 2
        source, own = to_network(cut, white), share if grey else share[..., None]
        made = []
        for j, one in enumerate(seeds):
            told = in_all(progress, j, len(seeds))
            drawn = from_network(
                self.fill(source, None if mask is None else share > 0, one, steps, told), white, grey
            )
            result = picture.copy()
            result[box] = np.where(own > 0, to_levels(own * drawn + (1 - own) * cut, white, cut), cut)
            made.append(result)
        stack = np.stack(made)
        return Edited(stack, spread_of(stack, white), np.ones(picture.shape[:2], bool) if mask is None else mask > 0)

    def fill(
        self, source: Tensor, hole: Array | None, seed: int, steps: int | None, progress: Progress | None = None
    ) -> Tensor:
        """(1, 3, H, W) from -1 to 1, with a hole (H, W) or None, -> a sample of the same shape."""
        height, width = source.shape[2:]
        missing = torch.zeros(1, 1, height, width) if hole is None else torch.from_numpy(hole).float()[None, None]
        concat = self.padded(with_missing(source, missing))
        mask = None if hole is None else (concat[:, COLOURS:] > 0).expand(-1, COLOURS, -1, -1)
        scale = self.config["residual"]
        drawn = self.draw(concat[:, :COLOURS], scale, {"concat": concat}, seed, steps, mask, progress=progress)
        return drawn[..., :height, :width]

    def base(self, batch: Batch) -> Tensor:
        return with_missing(batch["source"], batch["missing"])[:, :COLOURS]

    def answer(self, batch: Batch, seed: int, steps: int) -> Tensor:
        hole = batch["drawn"][0, 0].numpy() if batch["missing"].any() else None
        return self.fill(batch["source"], hole, seed, steps)

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What is learned from: states, what the network is told of them, and what of them counts."""
        concat = with_missing(batch["source"], batch["missing"])
        state = (batch["x"] - concat[:, :COLOURS]) / self.config["residual"]
        return state, {"concat": concat}, batch["drawn"].expand(-1, COLOURS, -1, -1)


@diffusion.x0_guide()
def in_range(x0: Any, t: Any, base: Tensor, scale: float, low: Tensor | None = None) -> Any:
    """Of the state of a picture base + scale x0 the one of that picture from -1 to 1 and, with `low`, consistent with
    that."""
    picture = (base + scale * x0).clip(-1, 1)
    if low is not None:
        picture = consistent(picture, low, base.shape[2] // low.shape[2])
    return (picture - base) / scale


def with_missing(source: Tensor, missing: Tensor) -> Tensor:
    """(B, 3, H, W) and (B, 1, H, W), 1 where nothing is known -> (B, 4, H, W), 0 in the colours there."""
    return torch.cat([source * (1 - missing), missing], 1)


def enlarged(low: Tensor, factor: int) -> Tensor:
    """(B, C, h, w) -> (B, C, factor h, factor w), bicubic."""
    return F.interpolate(low, scale_factor=factor, mode="bicubic", align_corners=False)


def plain_answer(network: Any, x: Tensor, t: Any, condition: Any) -> Prediction:
    """What the network says without noise, and without a time."""
    return Prediction(network(torch.zeros_like(x), torch.zeros(len(x), device=x.device), **condition))


def in_all(progress: Progress | None, number: int, of: int) -> Progress | None:
    """Reports a step of one of several."""
    return progress and (lambda step, steps: progress(number * steps + step, of * steps))
