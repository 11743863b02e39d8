"""Training of the upsampler: see upsampler.py."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.errors import UserError
from inkwash.networks.unet import UNet, save_unet
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.pictures import crops, emoji_data
from inkwash.systems.pictures.conditions import held_out_rows
from inkwash.systems.pictures.data import image_grid
from inkwash.systems.pictures.metrics import features, frechet_distance, psnr
from inkwash.systems.pictures.model import autoencoder_folder
from inkwash.systems.pictures.runtimes import Torch
from inkwash.systems.pictures.train import capped_weight
from inkwash.systems.pictures.upsampler import CHANNELS, FACTOR, Upsampler
from inkwash.training.build import build
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Width
from inkwash.training.settings import Settings
from inkwash.weights.files import save_json

MAX_NOISE_LEVEL = 0.5  # largest time to which the small picture is noised in training


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "upsampler".

    data         the emoji data set (`inkwash data emoji`)
    autoencoder  half of the small pictures pass through it first, as those of the first stage do
    network      keys of the U-Net, beside those that follow from the rest
    crop         side of a crop, in pixels of the small picture
    """

    task: Literal["upsampler"]
    data: Path
    autoencoder: Path
    network: dict[str, Any]
    fit: Settings
    crop: Width = 16


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> Upsampler:
    """Trains (or goes on with) the upsampler of a recipe; it lies in `folder`/upsampler, report.json beside it."""
    torch.manual_seed(recipe.fit.seed)
    runtime, large = Torch(recipe.fit.device), emoji_data.load(recipe.data, size=256)
    rows, held_out = np.flatnonzero(large.split == "train"), held_out_rows(large)
    preview_rows = np.flatnonzero(large.split == "validation")[::40][:6]
    small = emoji_data.load(recipe.data).pictures
    if recipe.crop > small.shape[1]:
        raise UserError(f"crop = {recipe.crop}: choose a side from 1 to {small.shape[1]}, that of a small picture")
    vae = runtime.load("AutoencoderKL", autoencoder_folder(recipe.autoencoder, monitor))

    def reconstruct(pictures: np.ndarray) -> np.ndarray:
        """As the first stage gives them."""
        return latents.decode(vae, latents.encode(vae, pictures, runtime.array))

    preview_small, shown = reconstruct(small[preview_rows]), np.concatenate([rows, held_out])
    # all as uint8: they become numbers where they have been cut to crops
    reconstructed, originals, large_pictures = map(runtime.array, (reconstruct(small[shown]), small, large.pictures))
    states = CHANNELS * FACTOR**2
    derived: dict[str, Any] = {"in_channels": states + CHANNELS, "out_channels": states, "cross_attention_dim": None}
    unet = build(partial(UNet, **derived | {"class_embed_type": "timestep"} | recipe.network), recipe.network)
    model = Upsampler(unet, runtime)
    order = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed)

    def examples(numbers: np.ndarray) -> dict[str, np.ndarray]:
        return {"reconstructed": numbers, "rows": shown[numbers]}

    def loss(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, low = crop_pairs(batch, originals, reconstructed, large_pictures, recipe.crop, generator)
        noise_level = MAX_NOISE_LEVEL * torch.rand(len(x0), generator=generator, device=x0.device)
        noise = torch.randn(low.shape, generator=generator, device=x0.device)
        process = model.denoiser.process
        low = process.noise(low, process.at(noise_level.reshape(-1, 1, 1, 1)), noise)
        condition = {"concat": low, "noise_level": noise_level}
        return model.denoiser.loss(x0, condition, weight=capped_weight(5.0), generator=generator)

    def preview(_: nn.Module, step: int) -> np.ndarray:
        generated = model.sample(preview_small, range(len(preview_rows)))[..., :3]
        enlarged = preview_small[..., :3].repeat(FACTOR, 1).repeat(FACTOR, 2)
        return image_grid(
            np.concatenate([enlarged, generated, on_white(large.pictures[preview_rows])]), len(preview_rows)
        )

    parts = whole_batches(np.arange(len(rows), len(shown)), recipe.fit.batch_size)
    fit(
        unet, loss, lambda k: examples(order(k)), folder, recipe.fit, preview, partial(save_unet, unet),
        folder / "upsampler", monitor, held_out=[examples(part) for part in parts],
    )  # fmt: skip
    report = {}
    for split in ("validation", "test"):
        rows_of_split = np.random.default_rng(0).permutation(np.flatnonzero(large.split == split))[:96]
        small_reconstructed = reconstruct(small[rows_of_split])
        report[split] = measure(
            Upsampler(runtime.load("UNet2DConditionModel", folder / "upsampler"), runtime),
            small_reconstructed,
            on_white(large.pictures[rows_of_split]),
        )
    save_json(folder / "upsampler" / "report.json", report)
    return model


def crop_pairs(
    batch: dict[str, Tensor],
    originals: Tensor,
    reconstructed: Tensor,
    large: Tensor,
    side: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The same square of large pictures, as states (B, 64, side, side), and of the small ones, (B, 4, side, side):
    half of these as they are, half as the first stage gives them."""
    rows = batch["rows"]
    count, device = len(rows), rows.device
    most = originals.shape[1] - side + 1
    top, left = torch.randint(most, (2, count), generator=generator, device=device)
    as_they_are = torch.rand((count, 1, 1, 1), generator=generator, device=device) < 0.5
    low = torch.where(
        as_they_are,
        crops.on_white(crops.crop(originals, rows, top, left, side)),
        crops.crop(reconstructed, batch["reconstructed"], top, left, side),
    )
    high = crops.on_white(crops.crop(large, rows, FACTOR * top, FACTOR * left, FACTOR * side))
    return pixel_unshuffle(crops.normalize(high), FACTOR), crops.normalize(low)


def measure(model: Upsampler, small: np.ndarray, large: np.ndarray) -> dict[str, Any]:
    """Small pictures as the first stage gives them, made large in two ways: by the upsampler, and bicubically.

    Of each the PSNR to the true large pictures (dB), the Frechet distance of EfficientNet-Lite0's features, and how
    sharp it is beside the true pictures, which are drawn from vectors.
    """
    side = large.shape[1]
    bicubic = [Image.fromarray(p[..., :3]).resize((side, side), Image.Resampling.BICUBIC) for p in small]
    generated = np.concatenate([model.sample(small[i : i + 1], [i]) for i in range(len(small))])
    methods = {"upsampler": generated[..., :3], "bicubic": np.stack([np.asarray(p) for p in bicubic])}
    real_features = features(large)
    report: dict[str, Any] = {"pictures": len(small)}
    for name, pictures in methods.items():
        report[name] = {
            "psnr": psnr(pictures, large),
            "frechet distance": frechet_distance(features(pictures), real_features),
            "sharpness": sharpness(pictures) / sharpness(large),
        }
    return report


def sharpness(pictures: np.ndarray) -> float:
    """How steep the edges are: the 98th percentile of the step between neighbouring pixels, a mean over pictures."""
    grey = pictures.mean(-1)
    steps = np.hypot(np.diff(grey, axis=1)[:, :, 1:], np.diff(grey, axis=2)[:, 1:])
    return float(np.percentile(steps.reshape(len(steps), -1), 98, axis=1).mean())
