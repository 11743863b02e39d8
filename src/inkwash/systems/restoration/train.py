"""What the trainings of both kinds of models share: those that make pictures larger, and those that edit them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.progress import Monitor, Note
from inkwash.systems.best import finite_samples, keep_best, save_best
from inkwash.systems.restoration.data import (
    Degrade,
    Example,
    loader,
    read_pictures,
    split,
)
from inkwash.systems.restoration.levels import COLOURS
from inkwash.systems.restoration.masks import with_missing
from inkwash.systems.restoration.model import RestorationModel, plain_answer
from inkwash.systems.restoration.networks import RestorationNetwork
from inkwash.systems.splits import note_near_duplicates
from inkwash.training.build import build
from inkwash.training.fit import fit
from inkwash.training.recipe import Depth, Width
from inkwash.training.settings import Settings

CAP = 5.0  # of the weight of a time
JUDGED = 8  # batches of pictures for choices
SHOWN, SHOWN_STEPS = 4, 4  # pictures of a preview, and the steps in which they are drawn
STEPS = 8  # of an answer
Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Keys of both recipes.

    data       see `read_pictures`; a tenth of what is not for the table is for choices: which step is kept
    group      see `read_pictures`
    engine     diffusion; or plain: the same network without noise and time, by the absolute error
    objective  l2 keeps samples diverse, l1 makes them alike (Palette, 2111.05826, section 5)
    size       of the squares that are learned from, in pixels; less what patch and factor do not divide
    zoom       they are cut up to so many times larger, where a picture is, and made small: for large photographs,
               whose single pixels show little
    widths, layers, patch, attention  of the network, see `RestorationNetwork`
    """

    data: Path
    fit: Settings
    group: str = ""
    engine: Literal["diffusion", "plain"] = "diffusion"
    objective: Literal["l2", "l1"] = "l2"
    size: Annotated[int, Ge(16), Le(1024)] = 64
    zoom: Annotated[float, Ge(1), Le(64)] = 1.0
    widths: list[Width] = field(default_factory=lambda: [32, 48, 64])
    layers: Depth = 1
    patch: Annotated[int, Ge(1), Le(8)] = 2
    attention: bool = True


def side_of(recipe: Shared, factor: int) -> int:
    """Of the squares that are learned from: the recipe's, less what patch and factor do not divide."""
    side = recipe.size - recipe.size % math.lcm(recipe.patch, factor)
    if not side:
        raise UserError(f"size = {recipe.size}: patch and factor need {math.lcm(recipe.patch, factor)} at least")
    return side


def train_model(
    recipe: Shared,
    kind: type[RestorationModel],
    network: dict[str, Any],
    facts: dict[str, Any],
    degrade: Degrade,
    folder: Path,
    monitor: Monitor,
) -> None:
    """Trains, or goes on; writes folder/model, the best so far by the pictures for choices."""

    def note(text: str) -> None:
        monitor.tell(Note(text))

    pictures = read_pictures(recipe.data, recipe.group, note, monitor.tell)
    training, choices, table = split(pictures, recipe.data)
    note(f"{len(training)} pictures to learn from, {len(choices)} for choices, {len(table)} for the table")
    note_near_duplicates([training, choices, table], lambda one: one.picture, note)
    note(f"it learns to undo: {facts['degradation']}")
    torch.manual_seed(recipe.fit.seed)
    model = new_model(recipe, kind, network, facts, training, choices)
    cut = partial(loader, size=model.config["size"], batch_size=recipe.fit.batch_size, seed=recipe.fit.seed)
    batch, judged = (cut(part, degrade=degrade, zoom=recipe.zoom) for part in (training, choices))
    model.config["residual"] = residual_of(model, batch)
    fit_model(recipe, model, batch, judged, folder, monitor)


def fit_model(
    recipe: Shared,
    model: RestorationModel,
    batch: Callable[[int], Batch],
    judged: Callable[[int], Batch],
    folder: Path,
    monitor: Monitor,
) -> None:
    """Trains, or goes on; writes folder/model, the best so far by the batches `judged`."""
    loss, best = loss_of(recipe, model), folder / "best"

    def preview(_: nn.Module, step: int) -> Image.Image:
        score = judge(loss, judged, model.device)
        with finite_samples(step):
            picture = strip(model, judged(0))
        before = keep_best(model, best, step, "loss", score, lower=True)
        known = "" if before is None else f", {before:.5f} before"
        monitor.tell(Note(f"step {step}: loss {score:.5f} on the pictures for choices{known}"))
        return picture

    fit(
        model.network,
        loss,
        batch,
        folder,
        recipe.fit,
        preview,
        partial(save_best, model, best),
        folder / "model",
        monitor,
    )


def new_model(
    recipe: Shared,
    kind: type[RestorationModel],
    network: dict[str, Any],
    facts: dict[str, Any],
    training: Sequence[Example],
    choices: Sequence[Example],
) -> RestorationModel:
    """An untrained one, with what is known of its pictures."""
    side = side_of(recipe, facts.get("factor", 1))
    shape = {name: getattr(recipe, name) for name in ("widths", "layers", "patch", "attention")}
    config = network | shape
    known = {
        "engine": recipe.engine,
        "objective": recipe.objective,
        "parametrization": kind.parametrization,
        "size": side,
        "zoom": recipe.zoom,
        "residual": 1.0,
        "steps": STEPS,
        "network": config,
        "train": sorted(one.digest for one in training),
        "choices": {one.digest: one.name for one in choices},
    }
    return kind(build(lambda: RestorationNetwork(**config), {}, "the recipe"), known | facts)


def residual_of(model: RestorationModel, batch: Callable[[int], Batch]) -> float:
    """The root mean square of what is to change in sources, where something is drawn; not 0 where nothing is."""
    squares, count = 0.0, 0.0
    for k in range(JUDGED):
        own = batch(k)
        base = model.base(own)
        drawn = own.get("drawn", torch.ones_like(own["x"][:, :1])).expand_as(base)
        squares += float(((own["x"] - base) ** 2 * drawn).sum())
        count += float(drawn.sum())
    return max(float(np.sqrt(squares / count)), 1e-3)


def loss_of(recipe: Shared, model: RestorationModel) -> Callable[[Batch, torch.Generator], Tensor]:
    """Of diffusion the error by the core's Denoiser, in holes alone, where there are some. Plain: the absolute error
    of what the network says without noise."""
    denoise: Any = model.denoiser
    objective = diffusion.absolute if recipe.objective == "l1" else diffusion.square

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        example: Any = model.example(batch, generator)
        state, condition, mask = example
        if recipe.engine == "plain":
            error: Tensor = (plain_answer(model.network, state, None, condition).x0 - state).abs()
            real = torch.ones_like(error) if mask is None else mask.to(error)
            return ((error * real).flatten(1).sum(1) / real.flatten(1).sum(1)).mean()
        value: Tensor = denoise.loss(
            state, condition, objective=objective, weight=capped, mask=mask, generator=generator
        )
        return value

    return loss


def capped(t: diffusion.NoiseLevel, form: Any) -> Any:
    """The weight of v, 1 / sigma^2 on the squared error of x_0; of another parametrization at most `CAP`, as in
    min-SNR (2303.09556)."""
    most = torch.inf if form is diffusion.PARAMETRIZATIONS["v"] else CAP
    return torch.clip(t.sigma**-2, max=most) / form.factor(t)


def judge(
    loss: Callable[[Batch, torch.Generator], Tensor], batch: Callable[[int], Batch], device: torch.device
) -> float:
    """The mean loss on pictures for choices, always the same squares and noise."""
    found = []
    with torch.no_grad():
        for k in range(JUDGED):
            own = {key: value.to(device) for key, value in batch(k).items()}
            found.append(loss(own, torch.Generator(device).manual_seed(k)))
    return float(torch.stack(found).mean())


def strip(model: RestorationModel, batch: Batch) -> Image.Image:
    """A row for each of some pictures: what the model is given, two samples, the truth."""
    rows = []
    for i in range(min(SHOWN, len(batch["x"]))):
        one = {key: value[i : i + 1] for key, value in batch.items()}
        samples = [model.answer(one, seed, SHOWN_STEPS) for seed in (0, 1)]
        given = with_missing(one["source"], one["missing"])[:, :COLOURS] if "source" in one else model.base(one)
        tiles = [given, *(x.cpu() for x in samples), one["x"]]
        rows.append(torch.cat([nn.functional.pad(tile[0], (0, 4, 0, 4), value=1.0) for tile in tiles], 2))
    sheet = (torch.cat(rows, 1).clamp(-1, 1) + 1) * 127.5
    return Image.fromarray(sheet.round().byte().permute(1, 2, 0).numpy())
