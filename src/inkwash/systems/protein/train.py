"""Training of a model of backbones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from inkwash.diffusion import Denoiser
from inkwash.diffusion.losses import log_normal, uniform_times
from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.protein.data import Chain, batches_by_length, load_chains, points, split, usable, windows
from inkwash.systems.protein.model import NETWORKS, SIGMAS, BackboneModel, denoiser
from inkwash.training.build import build
from inkwash.training.fit import fit
from inkwash.training.placement import place
from inkwash.training.recipe import Depth, Width
from inkwash.training.settings import Settings

Batch = dict[str, Tensor]
TIMES = (-1.7, 1.6)  # mean and standard deviation of the logarithm of the noise, in nm, at which "frames" is trained
WINDOW = 40  # residues of the longest stretch of a chain that is learned from too
# how each engine is sampled: "frames" as chosen on the chains for choices, ProtDiff as published
DEFAULTS: dict[str, dict[str, Any]] = {
    "frames": {"steps": 200, "sampler": ["ancestral", {}], "noise_scale": 0.75},
    "protdiff": {"steps": 1024, "sampler": ["ancestral", {}], "noise_scale": 1.0},
}
LEAST_VARIANCE = [(1.0, 0.0)]  # noise levels and errors, where none were measured


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "backbone".

    data      see `load_chains`; only compact chains of `shortest` to `longest` residues are used
    engine    frames: N, CA and C, by a network that knows handedness; protdiff: the paper's, of CA alone
    windows   whether compact stretches of up to 40 residues of longer chains are learned from too, since there are
              few short chains
    width, layers  of the network; of "frames" the layers of its last stage, one fewer in its first
    fit.batch_size  chains of 64 residues; of shorter ones so many more as have as many pairs of residues
    """

    task: Literal["backbone"]
    data: Path
    fit: Settings
    engine: Literal["frames", "protdiff"] = "frames"
    shortest: Annotated[int, Ge(4), Le(1000)] = 20
    longest: Annotated[int, Ge(4), Le(1000)] = 100
    windows: bool = True
    width: Width = 64
    layers: Depth = 3


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model."""

    def say(text: str) -> None:
        monitor.tell(Note(text))

    chains = load_chains(recipe.data, say)
    kept = usable(chains, recipe.shortest, recipe.longest, say)
    sizes = f"compact, unbroken and of {recipe.shortest} to {recipe.longest} residues"
    if not kept:
        raise UserError(f"{recipe.data}: of {len(chains)} chains none is {sizes}")
    training_set, choices, table = split(kept)
    if not training_set:
        raise UserError(f"{recipe.data}: {len(kept)} chains are too few to train on and to hold some out")
    say(
        f"{len(kept)} of {len(chains)} chains are {sizes}: {len(training_set)} to train on, {len(choices)} for "
        f"choices, {len(table)} for the table"
    )
    longest = min(WINDOW, recipe.longest)
    if recipe.windows and recipe.shortest <= longest:
        training_set = training_set + windows(training_set, recipe.shortest, longest, recipe.fit.seed)
    atoms = 1 if recipe.engine == "protdiff" else 3
    torch.manual_seed(recipe.fit.seed)
    config: dict[str, Any] = {"width": recipe.width, "layers": recipe.layers}
    if recipe.engine == "frames":
        std = float(np.std(np.concatenate([points(chain, atoms) for chain in training_set])))
        config |= {"layers": [max(1, recipe.layers - 1), recipe.layers], "data_std": round(std, 3)}
    network = build(lambda: NETWORKS[recipe.engine](**config), {}, "the recipe")
    facts = {"engine": recipe.engine, "atoms": atoms, "shortest": recipe.shortest, "max_length": recipe.longest}
    model = BackboneModel(network, facts | DEFAULTS[recipe.engine] | {"errors": LEAST_VARIANCE})
    batch, held_out = loader(training_set, choices, atoms, recipe.fit)
    denoise = denoiser(network)
    times = log_normal(denoise.process, *TIMES) if recipe.engine == "frames" else uniform_times

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        return denoise.loss(batch["x"], times=times, mask=batch["mask"], generator=generator)

    def save(folder: Path) -> None:
        if recipe.engine == "frames" and held_out:
            model.config["errors"] = noise_errors(denoise, held_out[len(held_out) // 2])
        model.save(folder)

    fit(network, loss, batch, folder, recipe.fit, None, save, folder / "model", monitor, held_out=held_out)


def noise_errors(denoise: Denoiser, batch: Batch) -> list[tuple[float, float]]:
    """Noise levels and the mean squared error of the noise predicted there, of a held-out batch."""
    network: Any = denoise.network
    found, batch = [], place(batch, next(network.parameters()).device)
    for sigma in np.geomspace(SIGMAS[0], 20, 13).tolist():
        times = torch.full((len(batch["x"]),), denoise.process.schedule.sigma_to_t(sigma), dtype=torch.float64)
        x, level, _ = denoise.draw(batch["x"], times, torch.Generator().manual_seed(0), batch["mask"])
        x0 = denoise.process.project(denoise(x, level, {"mask": batch["mask"]}).x0, batch["mask"])
        error = ((x0 - batch["x"]) ** 2).sum() / batch["mask"].sum() / 3 / sigma**2
        found.append((sigma, float(error)))
    return found


def loader(
    training_set: list[Chain], choices: list[Chain], atoms: int, settings: Settings
) -> tuple[Callable[[int], Batch], list[Batch]]:
    """Batch k of the training set, and the held-out batches: {"x": (B, atoms L, 3) centred, in nm, "mask": (B, atoms
    L)}."""
    tables = [points(chain, atoms) for chain in training_set]
    rows_of = batches_by_length(
        np.array([len(chain.atoms) for chain in training_set]), settings.batch_size, settings.seed
    )
    held_out = sorted((points(chain, atoms) for chain in choices), key=len)
    size = settings.batch_size
    return (
        lambda k: padded([tables[row] for row in rows_of(k)]),
        [padded(held_out[start : start + size]) for start in range(0, len(held_out), size)],
    )


def padded(chains: list[np.ndarray]) -> Batch:
    """Point sets of different sizes as one batch."""
    longest = max(map(len, chains))
    x = np.zeros((len(chains), longest, 3), np.float32)
    mask = np.zeros(x.shape[:2], bool)
    for row, chain in enumerate(chains):
        x[row, : len(chain)], mask[row, : len(chain)] = chain, True
    return {"x": torch.from_numpy(x), "mask": torch.from_numpy(mask)}
