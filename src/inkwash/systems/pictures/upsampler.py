"""The second stage of a cascade: a small picture to one of four times the side.

A diffusion model of the large picture that sees the small one (CDM, Ho et al. 2021, 2106.15282). The small picture
is noised first, and the network is told how much (noise conditioning augmentation; Imagen, 2205.11487): so it does
not trust every pixel, and draws clean edges from the slightly wrong pictures of the first stage too. Nothing in it
depends on the size or on where a place lies: it learns from cuttings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.diffusion.noise import Noise
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.unet import UNet, load_unet, save_unet
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.sheet import sheet
from inkwash.training import Settings, batches, fit

FACTOR = 4
CHANNELS = 4  # colours on white, and opacity
MOST_NOISE = 0.5  # largest time to which the small picture is noised in training


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "upsampler".

    data         the emoji data set (`inkwash data emoji`)
    autoencoder  half of the small pictures pass through it first, as those of the first stage do
    network      keys of the U-Net, beside those that follow from the rest
    cutting      side of a cutting, in pixels of the small picture
    """

    task: Literal["upsampler"]
    data: Path
    autoencoder: Path
    network: dict[str, Any]
    fit: Settings
    cutting: int = 16


class Beside(nn.Module):
    """A U-Net that sees the small picture beside the state, place by place, and hears how noisy it is."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, small: Tensor, level: Tensor) -> Tensor:
        output: Tensor = self.unet(torch.cat([x, small.to(x.dtype)], dim=1), time, label=1000 * level)
        return output


class Upsampler:
    """Small pictures (N, h, w, 4) -> (N, 4 h, 4 w, 4), all with colours on white, and opacity."""

    def __init__(self, unet: UNet) -> None:
        self.unet = unet
        process = diffusion.Gaussian(diffusion.rectified_flow())
        self.denoiser = diffusion.Denoiser(Beside(unet), process, "clean")

    @classmethod
    def load(cls, folder: Path) -> "Upsampler":
        return cls(load_unet(folder))

    def save(self, folder: Path) -> None:
        save_unet(self.unet, folder)

    def sample(
        self,
        pictures: np.ndarray,
        seeds: Sequence[int],
        *,
        steps: int = 4,
        level: float = 0.1,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """uint8 (N, h, w, 4), colours on white and opacity, as `latents.decode` gives them -> (N, 4 h, 4 w, 4).

        level: the time to which the small picture is noised, 0 to 0.5: more of it lets the network correct more.
        """
        small = plain(pictures)
        process = self.denoiser.process
        noise = Noise(seeds, small.shape[1:], "small", torch.from_numpy).normal()
        small = process.noise(small, process.at(level), noise)
        condition = {"small": small, "level": torch.full((len(small),), level)}
        shape = CHANNELS * FACTOR**2, *small.shape[2:]
        state = diffusion.sample(
            diffusion.static_threshold(self.denoiser),
            shape,
            diffusion.dpmpp_2m,
            diffusion.uniform(process, steps),
            seeds,
            condition,
            device=small.device,
            progress=progress,
        )
        x = ((pixel_shuffle(state, FACTOR).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return x.permute(0, 2, 3, 1).numpy()


def train(recipe: Recipe, folder: Path) -> Upsampler:
    """Trains (or goes on with) the upsampler of a recipe; it lies in `folder`/upsampler."""
    torch.manual_seed(recipe.fit.seed)
    large = emoji_data.load(recipe.data, size=256)
    rows = np.flatnonzero(large.split == "train")
    shown = np.flatnonzero(large.split == "validation")[::40][:6]
    small = emoji_data.load(recipe.data).pictures
    vae = load_autoencoder(recipe.autoencoder)
    remade = latents.decode(vae, latents.encode(vae, small[rows]))
    preview_small = latents.decode(vae, latents.encode(vae, small[shown]))
    states = CHANNELS * FACTOR**2
    unet = UNet(
        **{"in_channels": states + CHANNELS, "out_channels": states, "cross_attention_dim": None}
        | {"class_embed_type": "timestep", **recipe.network}
    )
    model = Upsampler(unet)
    order = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed)
    cut = recipe.cutting

    def batch(k: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([recipe.fit.seed, k])
        x0, seen = [], []
        for i in order(k):
            top, left = rng.integers(small.shape[1] - cut + 1, size=2)
            source = latents.to_tensor(small[rows[i]][None]) if rng.random() < 0.5 else plain(remade[i][None])
            seen.append(source[..., top : top + cut, left : left + cut])
            picture = large.pictures[rows[i]][
                FACTOR * top : FACTOR * (top + cut), FACTOR * left : FACTOR * (left + cut)
            ]
            x0.append(latents.to_tensor(picture[None]))
        return pixel_unshuffle(torch.cat(x0), FACTOR), torch.cat(seen)

    def weight(t: diffusion.Point, form: diffusion.Parametrization) -> Tensor:
        return torch.clip(t.sigma**-2, max=5.0) / form.factor(t)

    def loss(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        x0, seen = batch
        level = MOST_NOISE * torch.rand(len(x0), generator=generator)
        noise = torch.randn(seen.shape, generator=generator)
        process = model.denoiser.process
        seen = process.noise(seen, process.at(level.reshape(-1, 1, 1, 1)), noise)
        return model.denoiser.loss(x0, {"small": seen, "level": level}, weight=weight, generator=generator)

    def preview(_: nn.Module, step: int) -> np.ndarray:
        made = model.sample(preview_small, range(len(shown)))[..., :3]
        grown = preview_small[..., :3].repeat(FACTOR, 1).repeat(FACTOR, 2)
        return sheet(np.concatenate([grown, made, latents.on_white(large.pictures[shown])]), len(shown))

    fit(model.denoiser.network, loss, batch, folder, recipe.fit, preview)
    model.save(folder / "upsampler")
    return model


def plain(pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 4), colours on white already, and opacity -> float32 (N, 4, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
