"""Training of a cascade: its stages one after the other, each alone, then the noise between them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note, Progress
from inkwash.systems.detection.data import page_of, read_data, split
from inkwash.systems.pictures.metrics import frechet_distance
from inkwash.systems.restoration.cascade import Base, Cascade, Stage, cosines, to_bytes
from inkwash.systems.restoration.cascade_data import Crop, balanced, crops_of, loader
from inkwash.systems.restoration.levels import LUMA, Array
from inkwash.systems.restoration.train import JUDGED, Shared, fit_model, new_model, residual_of
from inkwash.systems.splits import note_near_duplicates
from inkwash.training.fit import Stopped
from inkwash.training.recipe import Width, load_recipe
from inkwash.training.settings import Settings
from inkwash.weights.files import WEIGHTS, atomic, load_into
from inkwash.weights.shipped import RECIPES, describe

STEPS = 16  # of each stage
LEVELS = (0.0, 0.02, 0.05, 0.1)  # of noise between stages, among which is chosen
TRIED, AT_ONCE = 48, 24  # pictures of each kind by which it is chosen, and how many are drawn at once
BANDS = 8  # of frequencies


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe file of task "cascade".

    data          pictures and boxes as detection reads them; a tenth of what is not for the table is for choices
    group         see `read_data`
    drop_bad      see `read_data`
    augmentation  noise on the small pictures, which a stage is told, and blur on half of the last stage's
    sides         of the pictures of each stage, in pixels
    widths        of each stage's network, see `RestorationNetwork`
    patches       the same
    lengths       how many times the steps of [fit] each stage takes: the first, whose pictures are small, learns most
    """

    task: Literal["cascade"]
    data: Path
    fit: Settings
    group: str = ""
    drop_bad: bool = False
    augmentation: bool = True
    sides: list[Annotated[int, Ge(8), Le(1024)]] = field(default_factory=lambda: [16, 32, 64])
    widths: list[list[Width]] = field(default_factory=lambda: [[24, 32], [16, 16], [24, 24]])
    patches: list[Annotated[int, Ge(1), Le(8)]] = field(default_factory=lambda: [1, 1, 2])
    lengths: list[Annotated[int, Ge(1), Le(1000)]] = field(default_factory=lambda: [3, 1, 1])


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model once the last stage has begun. Each stage has a folder of its own,
    called after its side."""

    def note(text: str) -> None:
        monitor.tell(Note(text))

    check(recipe)
    data = read_data(recipe.data, recipe.group, recipe.drop_bad, note)
    parts = split(data, recipe.data)
    note_near_duplicates(parts, page_of, note)
    training, choices = (crops_of(part, recipe.sides[-1], note, monitor.tell) for part in parts[:2])
    check_kinds(training, choices, data.classes, recipe.data)
    note(f"{len(training)} pictures of single objects to learn from, {len(choices)} for choices")
    seen = {
        "train": sorted(one.digest for one in parts[0]),
        "choices": {one.digest: one.name for one in parts[1]},
    }
    stages = new_stages(recipe, len(data.classes))
    try:
        for k, stage in enumerate(stages):
            note(f"stage {k + 1} of {len(stages)}: {in_words(recipe, k)}")
            train_stage(recipe, k, stage, training, choices, folder / str(recipe.sides[k]), monitor)
    except Stopped:
        if all((folder / str(side) / "model").exists() for side in recipe.sides):
            save(assemble(recipe, stages, data.classes, seen, folder), recipe, folder)
        raise
    cascade = assemble(recipe, stages, data.classes, seen, folder)
    save(cascade, recipe, folder)  # of use should what follows be broken off
    choose_level(cascade, training, monitor)
    save(cascade, recipe, folder)


def check(recipe: Recipe) -> None:
    """UserError for keys that contradict each other."""
    sides, patches = recipe.sides, recipe.patches
    if not 2 <= len(sides) == len(recipe.widths) == len(patches) == len(recipe.lengths):
        raise UserError("sides, widths, patches, lengths: one for each stage is needed, two stages at least")
    for small, large in pairwise(sides):
        if large % small or not 2 <= large // small <= 8:
            raise UserError(f"sides: {large} is not 2 to 8 times {small}")
    for side, patch in zip(sides, patches, strict=True):
        if side % patch:
            raise UserError(f"patches: {patch} does not divide the side {side}")


def check_kinds(training: Sequence[Crop], choices: Sequence[Crop], classes: list[str], folder: Path) -> None:
    """UserError for a kind with fewer than two pictures that are large enough, and for no choices."""
    for number, name in enumerate(classes):
        if sum(crop.kind == number for crop in training) < 2:
            raise UserError(f"{folder}: two large enough boxes of '{name}' to learn from are needed: leave that out")
    if not choices:
        raise UserError(f"{folder}: no box of the pictures for choices is large enough: add some pictures")


def factor_of(recipe: Recipe, k: int) -> int:
    """How many times larger stage k makes pictures; 1 of the first."""
    return recipe.sides[k] // recipe.sides[k - 1] if k else 1


def in_words(recipe: Recipe, k: int) -> str:
    side = recipe.sides[k]
    return f"{recipe.sides[k - 1]} to {side} pixels" if k else f"from noise to {side} pixels"


def part_of(recipe: Recipe, k: int) -> Shared:
    """What the trainings of restoration want to know of a stage."""
    fit = replace(recipe.fit, steps=recipe.fit.steps * recipe.lengths[k])
    return Shared(data=recipe.data, fit=fit, size=recipe.sides[k], widths=recipe.widths[k], patch=recipe.patches[k])


def new_stages(recipe: Recipe, classes: int) -> list[Any]:
    """Untrained ones."""
    torch.manual_seed(recipe.fit.seed)
    stages = list[Any]()
    for k in range(len(recipe.sides)):
        network = {"classes": classes, "augmented": k > 0, "source": k > 0}
        facts = {
            "samples": 1, "noise_level": 0.0, "augmentation": recipe.augmentation, "factor": factor_of(recipe, k),
            "spectrum": [], "degradation": in_words(recipe, k),
        }  # fmt: skip
        stages.append(new_model(part_of(recipe, k), Stage if k else Base, network, facts, [], []))
    return stages


def train_stage(
    recipe: Recipe,
    k: int,
    stage: Any,
    training: Sequence[Crop],
    choices: Sequence[Crop],
    folder: Path,
    monitor: Monitor,
) -> None:
    """Trains stage k, or goes on; its best lies in folder/model."""
    side, factor, classes = recipe.sides[k], factor_of(recipe, k), stage.config["network"]["classes"]
    blurred = recipe.augmentation and k == len(recipe.sides) - 1
    batch, judged = (
        loader(part, side, factor, classes, recipe.fit.batch_size, recipe.fit.seed, blurred)
        for part in (training, choices)
    )
    stage.config["spectrum"] = spectrum_of(batch) if k else []
    stage.config["residual"] = residual_of(stage, batch)
    fit_model(part_of(recipe, k), stage, batch, judged, folder, monitor)


def spectrum_of(batch: Callable[[int], dict[str, Tensor]]) -> list[list[float]]:
    """Of small pictures the mean squares of their cosine transform, never 0."""
    low = np.concatenate([batch(k)["low"].numpy() for k in range(JUDGED)]).astype(np.float64)
    basis = cosines(low.shape[-1])
    power = ((basis @ low @ basis.T) ** 2).mean((0, 1)).clip(1e-8)
    return [[float(f"{value:.4g}") for value in row] for row in power.tolist()]


def assemble(recipe: Recipe, stages: list[Any], classes: list[str], seen: dict[str, Any], folder: Path) -> Cascade:
    """The cascade of the best of each stage so far."""
    for stage, side in zip(stages, recipe.sides, strict=True):
        best = folder / str(side) / "model"
        stage.config.update(describe(best))
        stage.config.pop("system")
        load_into(stage.network, best / WEIGHTS)
        stage.network.eval()
    facts = {
        "classes": classes, "noise_level": 0.0, "augmentation": recipe.augmentation, "steps": STEPS, **seen,
        "stages": [stage.config for stage in stages],
    }  # fmt: skip
    return Cascade.of(stages, facts)


def save(cascade: Cascade, recipe: Recipe, folder: Path) -> None:
    """Writes folder/model, and how far its last stage is trained."""
    cascade.save(folder / "model")
    with atomic(folder / "model" / "training.json") as file:
        shutil.copyfile(folder / str(recipe.sides[-1]) / "model" / "training.json", file)


def choose_level(cascade: Cascade, training: Sequence[Crop], monitor: Monitor) -> None:
    """The noise between stages with which generated pictures are nearest to those that were learned from (those for
    choices are too few), by the Frechet distance of `appearance`, each number in its deviations; no network judges.
    Without augmentation there is none."""
    if not cascade.config["augmentation"]:
        return
    real = balanced(training, len(cascade.config["classes"]), 10 * TRIED)
    truth = appearance(np.stack([crop.picture for crop in real]))
    unit, found = truth.std(0).clip(1e-3), dict[str, float]()
    for done, level in enumerate(LEVELS, 1):
        made = appearance(pictures_of_all_kinds(cascade, TRIED, level))
        found[str(level)] = round(frechet_distance(made / unit, truth / unit), 4)
        monitor.tell(Progress(done, len(LEVELS), "noise between stages is chosen"))
    best = min(found, key=lambda level: found[level])
    cascade.config |= {"noise_level": float(best), "levels": found}
    shown = ", ".join(f"{distance:.3f} at {level}" for level, distance in found.items())
    monitor.tell(Note(f"noise between stages: {best} (Frechet distance of colours and frequencies: {shown})"))


def pictures_of_all_kinds(cascade: Cascade, per_kind: int, level: float) -> Array:
    """(classes per_kind, side, side, 3) uint8, kind after kind."""
    kinds, made = np.repeat(np.arange(len(cascade.config["classes"])), per_kind).tolist(), list[Array]()
    for start in range(0, len(kinds), AT_ONCE):
        own = kinds[start : start + AT_ONCE]
        made.append(to_bytes(cascade.draw(own, range(start, start + len(own)), noise_level=level)[-1]))
    return np.concatenate(made)


def appearance(pictures: Array) -> Array:
    """(N, S, S, 3) uint8 -> (N, 6 + BANDS): means and deviations of the colours, and the logarithm of the power of
    the brightness in bands of frequency up to half a cycle a pixel."""
    values = pictures / 255
    grey = values @ LUMA
    power = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in grey.shape[1:]), indexing="ij"))
    band = np.minimum((2 * BANDS * frequency).astype(int), BANDS)  # the last: corners of the square
    powers = [np.log(power[:, band == number].mean(1) + 1e-6) for number in range(BANDS)]
    return np.concatenate([values.mean((1, 2)), values.std((1, 2)), np.stack(powers, 1)], 1)


def default_recipe(data: Path) -> Recipe:
    """For boxes of one's own."""
    return load_recipe(RECIPES / "cells.toml", Recipe, data=data)
