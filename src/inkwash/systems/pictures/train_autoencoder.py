"""Training of the image autoencoder that a latent diffusion model stands on.

The loss is that of latent diffusion (Rombach et al. 2022, 2112.10752, appendix G): the absolute error, a perceptual
term, an adversarial term and a little of the Kullback-Leibler divergence to a standard normal. The perceptual term is
the error in the features of the discriminator itself, "a learned similarity metric" (Larsen et al. 2016, 1512.09300),
so that no network trained elsewhere, and none that measures results, takes part.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.networks.autoencoder import Autoencoder, save_autoencoder
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.pictures import crops, emoji_data
from inkwash.systems.pictures.conditions import held_out_rows
from inkwash.systems.pictures.crops import augment
from inkwash.systems.pictures.data import image_grid
from inkwash.systems.pictures.metrics import features, frechet_distance, psnr
from inkwash.systems.pictures.runtimes import Torch
from inkwash.training.build import build
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Share
from inkwash.training.settings import Settings
from inkwash.weights.files import save_json

Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "autoencoder", for pictures with opacity.

    data         the emoji data set (`inkwash data emoji`)
    network      keys of the autoencoder
    perceptual   weight of the error in the discriminator's features
    adversarial  weight of the adversarial term
    divergence   weight of the Kullback-Leibler divergence
    discriminator_start  share of the steps before the discriminator has a say; its weight then grows as long again
    """

    task: Literal["autoencoder"]
    data: Path
    network: dict[str, Any]
    fit: Settings
    perceptual: Weight = 0.1
    adversarial: Weight = 0.02
    divergence: Weight = 1e-6
    discriminator_start: Share = 0.1


class Discriminator(nn.Module):
    """Is each patch of a picture real? (Isola et al. 2017, 1611.07004.) Also returns the features on the way."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in widths[1:])
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), 0.2)
            features.append(x)
        return self.out(x), features


def frozen(module: nn.Module) -> nn.Module:
    """The module with its parameters as constants: gradients pass through it and reach none of them. It is another
    object, since the module itself may be learning in another thread meanwhile."""
    return deepcopy(module, {id(parameter): parameter.detach() for parameter in module.parameters()})


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> dict[str, Any]:
    """Trains (or goes on with) the autoencoder of a recipe; it lies in `folder`/vae with report.json beside it."""
    torch.manual_seed(recipe.fit.seed)
    runtime, data = Torch(recipe.fit.device), emoji_data.load(recipe.data)
    array, rows = runtime.array, np.flatnonzero(data.split == "train")
    preview_pictures = data.pictures[data.split == "validation"][::40][:12]
    sampled = data.pictures[rows[:: max(1, len(rows) // 500)]]
    autoencoder = build(partial(Autoencoder, **recipe.network), recipe.network)
    side = latents.patch_size(autoencoder.config["in_channels"])
    with torch.no_grad():  # begin with little noise in the latents: with much, nothing gets through to learn from
        autoencoder.get_parameter("encoder.conv_out.bias")[autoencoder.config["latent_channels"] :] -= 6
    module = nn.ModuleDict({"vae": autoencoder, "discriminator": Discriminator(4)})
    order = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed)
    discriminator_start = max(1.0, recipe.discriminator_start * recipe.fit.steps * recipe.fit.grad_accumulation)
    pictures = array(data.pictures)

    def batch(k: int) -> dict[str, Any]:
        return {"rows": rows[order(k)], "adversarial": min(max(k / discriminator_start - 1, 0.0), 1.0)}

    def loss(batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        chosen, adversarial = batch["rows"], batch["adversarial"]
        # what is held out is measured as it is
        shown = augment(pictures, chosen, generator) if autoencoder.training else pictures[chosen]
        x = crops.normalize(crops.on_white(shown))
        mean, log_variance = autoencoder.encode(F.pixel_unshuffle(x, side))
        noise = torch.empty_like(mean).normal_(generator=generator)
        reconstructed = F.pixel_shuffle(autoencoder.decode(mean + (0.5 * log_variance).exp() * noise), side)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        value: Tensor = (reconstructed - x).abs().mean() + recipe.divergence * divergence
        if adversarial == 0:
            return value
        discriminator = module["discriminator"]
        judge = frozen(discriminator)  # from whose verdict the autoencoder alone learns
        real_features = judge(x)[1]
        fake, fake_features = judge(reconstructed)
        perceptual = sum((a - b).abs().mean() for a, b in zip(fake_features, real_features, strict=True))
        value = value + adversarial * (recipe.perceptual * perceptual - recipe.adversarial * fake.mean())
        # what the discriminator itself learns from: hinge
        hinge = F.relu(1 - discriminator(x)[0]).mean() + F.relu(1 + discriminator(reconstructed.detach())[0]).mean()
        return value + hinge

    def preview(_: nn.Module, step: int) -> np.ndarray:
        reconstructed = latents.decode(autoencoder, latents.encode(autoencoder, preview_pictures, array))
        return image_grid(np.concatenate([on_white(preview_pictures), reconstructed[..., :3]]), len(preview_pictures))

    def save(path: Path) -> None:
        """With the scale that gives latents unit variance."""
        std = latents.encode(autoencoder, sampled, array).std() / autoencoder.config["scaling_factor"]
        autoencoder.config["scaling_factor"] = round(float(1 / std), 4)
        save_autoencoder(autoencoder, path)

    parts = whole_batches(held_out_rows(data), recipe.fit.batch_size)
    fit(
        module, loss, batch, folder, recipe.fit, preview, save, folder / "vae", monitor,
        held_out=[{"rows": part, "adversarial": 0.0} for part in parts],
    )  # fmt: skip
    report = measure(runtime.load("AutoencoderKL", folder / "vae"), data, array)
    save_json(folder / "vae" / "report.json", report)
    return report


def measure(
    autoencoder: Autoencoder, data: emoji_data.Emoji, array: Callable[[np.ndarray], Tensor]
) -> dict[str, Any]:
    """How well pictures of each split come back: PSNR of the colours on white (dB), mean absolute error of the
    opacity (grey levels of 255), and the Frechet distance of EfficientNet-Lite0's features, with that of as many
    other pictures of the split for comparison."""
    report: dict[str, Any] = {}
    for split in ("train", "validation", "test"):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(data.split == split))[:500]
        half = len(rows) // 2
        true, other = data.pictures[rows[:half]], data.pictures[rows[half : 2 * half]]
        reconstructed = latents.decode(autoencoder, latents.encode(autoencoder, true, array))
        real_features = features(on_white(true))
        report[split] = {
            "pictures": half,
            "psnr": psnr(reconstructed[..., :3], on_white(true)),
            "opacity error": float(np.abs(reconstructed[..., 3].astype(float) - true[..., 3]).mean()),
            "frechet distance": frechet_distance(features(reconstructed[..., :3]), real_features),
            "frechet distance of other pictures": frechet_distance(features(on_white(other)), real_features),
        }
    return report
