from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from inkwash import diffusion
from inkwash.systems.torch_model import TorchModel
from inkwash.systems.tune import tuned
from inkwash.training.fit import fit
from inkwash.training.settings import Settings
from inkwash.training.tune import Problem

FLOW = diffusion.Gaussian(diffusion.rectified_flow())


class Points(TorchModel):
    system = "points"

    def __init__(self, radius=1.0):
        self.network = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.radius, self.denoiser = radius, diffusion.Denoiser(self.answer, FLOW, "flow")

    def answer(self, x, t):
        return self.network(torch.cat([x, t[:, None] / 1000], 1))

    def facts(self):
        return {"radius": self.radius}

    def draw(self, seeds, sampler=None, steps=12):
        rule, grid = diffusion.SAMPLERS.get(sampler or "heun"), diffusion.uniform(FLOW, steps)
        rule, grid = (rule, grid) if rule else tuned(self.folder, self.hash, steps, FLOW)
        return Problem(self.denoiser, (2,), seeds, device="cpu").sample(rule, grid).numpy()

    def problem(self, request, data):
        seeds, grid = range(request.seed, request.seed + request.samples), diffusion.uniform(FLOW, 100)
        return Problem(self.denoiser, (2,), seeds, device="cpu"), grid


@dataclass(frozen=True)
class Recipe:
    task: str
    fit: Settings
    radius: float = 1.0


def train(recipe, folder, monitor):
    torch.manual_seed(recipe.fit.seed)
    model, ring = Points(recipe.radius), nn.functional.normalize(torch.randn(4096, 2)) * recipe.radius

    def batch(k):
        return ring[torch.randint(4096, (recipe.fit.batch_size,), generator=torch.Generator().manual_seed(k))]

    def loss(x, generator):
        return model.denoiser.loss(x, generator=generator)

    def preview(network, step):
        return np.histogram2d(*model.draw(range(500)).T, 64, [[-2, 2]] * 2)[0].astype(np.uint8)

    fit(model.network, loss, batch, folder, recipe.fit, preview, model.save, folder / "model", monitor)
