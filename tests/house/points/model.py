import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from inkwash import diffusion
from inkwash.progress import CONSOLE, Monitor
from inkwash.training.fit import Settings, fit
from inkwash.weights.files import atomic, load_into, write

FLOW = diffusion.Gaussian(diffusion.rectified_flow())


class Points:
    """A perceptron of the plane; `samplers` are those that its maker allows."""

    def __init__(self, radius=1.0, samplers=("heun", "ddim"), folder=None):
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.facts = {"system": "points", "radius": radius, "samplers": list(samplers)}
        self.folder, self.denoiser = folder, diffusion.Denoiser(self.answer, FLOW, "flow")

    def answer(self, x, time):
        return self.layers(torch.cat([x, time[:, None] / 1000], 1))

    @property
    def hash(self):
        return hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()

    def draw(self, seeds, sampler=None):
        walk, grid = diffusion.SAMPLERS[sampler or self.facts["samplers"][0]], diffusion.uniform(FLOW, 12)
        return diffusion.sample(self.denoiser, (2,), walk, grid, seeds, device="cpu").numpy()

    def save(self, folder):
        write(folder / "model.safetensors", self.layers.state_dict())
        with atomic(folder / "system.json") as file:
            file.write_text(json.dumps(self.facts))


def picture(points):
    """Where they lie, 64 x 64 pixels."""
    pixels = np.full((64, 64), 255, np.uint8)
    x, y = np.clip(32 + 16 * points, 0, 63).astype(int).T
    pixels[y, x] = 0
    return Image.fromarray(pixels)


def load(folder, device, precision, runtime, threads):
    facts = json.loads((folder / "system.json").read_text())
    model = Points(facts["radius"], facts["samplers"], folder)
    load_into(model.layers, folder / "model.safetensors")
    return model


@dataclass(frozen=True)
class Recipe:
    task: Literal["points"]
    fit: Settings
    radius: float = 1.0


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    torch.manual_seed(recipe.fit.seed)
    model, ring = Points(recipe.radius), nn.functional.normalize(torch.randn(4096, 2)) * recipe.radius

    def batch(k):
        return ring[torch.randint(4096, (recipe.fit.batch_size,), generator=torch.Generator().manual_seed(k))]

    def loss(x, generator):
        return model.denoiser.loss(x, generator=generator)

    def preview(network, step):
        return picture(model.draw(range(100)))

    fit(model.layers, loss, batch, folder, recipe.fit, preview, model.save, folder / "model", monitor)
