"""Training of a model of boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.best import finite_samples, keep_best, save_best
from inkwash.systems.detection.boxes import from_state, to_corners
from inkwash.systems.detection.calibration import calibrated, fit_calibration
from inkwash.systems.detection.data import Data, Example, page_of, read_data, split
from inkwash.systems.detection.drawing import overlay
from inkwash.systems.detection.losses import fcos_loss, set_loss
from inkwash.systems.detection.metrics import Judge
from inkwash.systems.detection.model import Detection, DetectionModel, denoiser
from inkwash.systems.detection.networks import GROUPS, DetectionNetwork
from inkwash.systems.detection.request import MOST_BOXES
from inkwash.systems.detection.targets import Scene, canvas, loader, scene
from inkwash.systems.splits import note_near_duplicates
from inkwash.training.build import build
from inkwash.training.fit import Stopped, fit
from inkwash.training.recipe import Count, Depth, Width, load_recipe
from inkwash.training.settings import Settings
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import RECIPES

JUDGED, JUDGED_STEPS = 24, 2  # pictures for choices, and steps, while it trains
SHOWN, PROBABLE = 4, 0.3  # pictures of a preview, and from which probability on boxes are drawn there
DEFAULTS: dict[str, Any] = {"steps": 4, "samples": 1}
MORE = 5  # times the boxes of training that are looked for at first: more find more, at little cost


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "detection".

    data       see `read_data`; a tenth of what is not for the table is for choices: the best step, the calibration
    group, drop_bad   see `read_data`
    engine     diffusiondet; or fcos: the same backbone with a head without noise
    size       of the longer side of a picture as the network sees it, in pixels
    widths, levels, dim   of the backbone: each width halves the side, the last `levels` are looked at, in `dim`
               features
    boxes      of diffusiondet: in training, objects and placeholders; more than a picture has objects
    stages, pooled   of diffusiondet's head: how many, and into how many parts a box is cut along its sides
    backbone_steps   of diffusiondet: before its own steps the backbone learns for so many with fcos's head, which
               teaches it to see in less time
    """

    task: Literal["detection"]
    data: Path
    fit: Settings
    group: str = ""
    drop_bad: bool = False
    engine: Literal["diffusiondet", "fcos"] = "diffusiondet"
    size: Annotated[int, Ge(32), Le(4096)] = 256
    boxes: Annotated[int, Ge(1), Le(MOST_BOXES)] = 60
    widths: list[Width] = field(default_factory=lambda: [16, 32, 48, 64])
    levels: Depth = 2
    dim: Width = 64
    stages: Depth = 3
    pooled: Count = 5
    backbone_steps: Annotated[int, Ge(0)] = 0


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model, the best so far by the pictures for choices."""
    check(recipe)

    def note(text: str) -> None:
        monitor.tell(Note(text))

    data = read_data(recipe.data, recipe.group, recipe.drop_bad, note)
    training, choices, table = split(data, recipe.data)
    note(f"{len(training)} pictures to learn from, {len(choices)} for choices, {len(table)} for the table")
    note_near_duplicates([training, choices, table], page_of, note)
    if crowds := sum(int(one.crowd.sum()) for one in training):
        note(f"{crowds} crowds, which are no single objects, are not learned from")
    scenes = [scene(example, page_of(example, note), recipe.size) for example in training]
    says_of_number(scenes, recipe, note)
    begun: DetectionModel | None = None
    if recipe.engine == "diffusiondet" and recipe.backbone_steps:
        note(f"the backbone learns first, for {recipe.backbone_steps} steps, with the head of FCOS")
        first = replace(recipe, engine="fcos", fit=replace(recipe.fit, steps=recipe.backbone_steps))
        begun = learn(first, data, scenes, training, choices, folder / "backbone", monitor)
    learn(recipe, data, scenes, training, choices, folder, monitor, begun)


def learn(
    recipe: Recipe,
    data: Data,
    scenes: Sequence[Scene],
    training: Sequence[Example],
    choices: Sequence[Example],
    folder: Path,
    monitor: Monitor,
    begun: DetectionModel | None = None,
) -> DetectionModel:
    """The model of a recipe's engine, the best so far, in folder/model; begun: whose backbone it begins with."""

    def note(text: str) -> None:
        monitor.tell(Note(text))

    torch.manual_seed(recipe.fit.seed)
    model = new_model(recipe, data, training, choices)
    if begun is not None:
        model.network.backbone.load_state_dict(begun.network.backbone.state_dict())
    shape = canvas(scenes, model.multiple)
    note(f"pictures are seen at {shape[1]} x {shape[0]} pixels")
    boxes = recipe.boxes if recipe.engine == "diffusiondet" else max(len(one.kinds) for one in scenes)
    batch = loader(scenes, shape, boxes, recipe.fit.batch_size, recipe.fit.seed)
    best = folder / "best"

    def preview(_: nn.Module, step: int) -> Image.Image:
        with finite_samples(step):
            figures, calibration, picture = judge(model, choices)
        before = keep_best(model, best, step, "AP50", figures["AP50"], calibration=[*calibration])
        known = "" if before is None else f", {before:.3f} before"
        note(f"step {step}: AP50 {figures['AP50']:.3f}, AP {figures['AP']:.3f} on the pictures for choices{known}")
        return picture

    try:
        fit(
            model.network,
            loss_of(recipe, model),
            batch,
            folder,
            recipe.fit,
            preview,
            partial(save_best, model, best),
            folder / "model",
            monitor,
        )
    except Stopped:
        finish(folder / "model", choices)
        raise
    finish(folder / "model", choices)
    return DetectionModel.load(folder / "model", runtime="torch")


def check(recipe: Recipe) -> None:
    """UserError for keys that contradict each other."""
    if recipe.levels > len(recipe.widths):
        raise UserError(f"levels = {recipe.levels}: at most {len(recipe.widths)}, the number of widths")
    for width in (*recipe.widths, recipe.dim):
        if width % GROUPS:
            raise UserError(f"a width of {width}: multiples of {GROUPS} are needed in widths and dim")


def says_of_number(scenes: Sequence[Scene], recipe: Recipe, note: Callable[[str], None]) -> None:
    """Says of pictures that they have more objects than there are boxes."""
    most = max(len(one.kinds) for one in scenes)
    if recipe.engine == "diffusiondet" and most > recipe.boxes:
        full = sum(len(one.kinds) > recipe.boxes for one in scenes)
        note(
            f"{full} pictures have more than {recipe.boxes} objects, up to {most}: as many of them, at random, are "
            "learned at a time; boxes in a recipe says another number"
        )


def new_model(recipe: Recipe, data: Data, training: Sequence[Example], choices: Sequence[Example]) -> DetectionModel:
    """An untrained one, with what is known of its pictures."""
    config: dict[str, Any] = {
        "kinds": len(data.classes),
        "head": recipe.engine,
        "widths": recipe.widths,
        "levels": recipe.levels,
        "dim": recipe.dim,
        "stages": recipe.stages,
        "pooled": recipe.pooled,
    }
    counts = Counter(kind for one in training for kind in one.kinds.tolist())
    facts: dict[str, Any] = {
        "engine": recipe.engine,
        "classes": data.classes,
        "ids": data.ids,
        "size": recipe.size,
        "boxes": min(MORE * recipe.boxes, MOST_BOXES),
        "calibration": [1.0, 0.0],
        "common": max(counts, key=lambda kind: (counts[kind], -kind)),
        "network": config,
        "train": sorted(one.digest for one in training),
        "choices": {one.digest: one.name for one in choices},
    }
    return DetectionModel(build(lambda: DetectionNetwork(**config), {}, "the recipe"), facts | DEFAULTS)


def loss_of(recipe: Recipe, model: DetectionModel) -> Callable[[dict[str, Any], torch.Generator], Tensor]:
    """The core's loss with `set_loss` as its objective; or FCOS's."""
    network, denoise = model.network, denoiser(model.network)

    def diffusiondet(batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        condition: Any = {"features": network.backbone(batch["picture"])}
        return denoise.loss(
            batch["x"], condition, objective=set_loss(batch["kinds"], batch["most"]), generator=generator
        )

    def fcos(batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        features, most = network.backbone(batch["picture"]), max(1, batch["most"])
        truth = to_corners(from_state(batch["x"][:, :most]))
        return fcos_loss(network.head(features), features, truth, batch["kinds"][:, :most])

    return diffusiondet if recipe.engine == "diffusiondet" else fcos


def judge(
    model: DetectionModel, choices: Sequence[Example]
) -> tuple[dict[str, float], tuple[float, float], Image.Image]:
    """COCO's figures on pictures for choices, in few steps, the calibration by these, and a strip of some: what was
    found, and the truth."""
    model.config["calibration"] = [1.0, 0.0]
    examples = choices[:JUDGED]
    found = [model.detect(page_of(example), steps=JUDGED_STEPS) for example in examples]
    judged = Judge(found, examples, len(model.classes))
    calibration = fit_calibration(*judged.right())
    rows = [strip(model, *pair, calibration) for pair in zip(examples[:SHOWN], found, strict=False)]
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    return judged.figures(), calibration, Image.fromarray(sheet)


def strip(model: DetectionModel, example: Example, found: Detection, calibration: tuple[float, float]) -> np.ndarray:
    """uint8 (H, W, 3): the picture with what was found, and with the truth."""
    page = page_of(example)
    sure = found._replace(scores=calibrated(found.scores, *calibration)).above(PROBABLE)
    sides = [
        overlay(page, boxes, kinds, [model.classes[kind] for kind in kinds])
        for boxes, kinds in ((sure.boxes, sure.kinds), (example.boxes, example.kinds))
    ]
    return np.concatenate([np.pad(np.asarray(side), ((0, 4), (0, 4), (0, 0))) for side in sides], 1)


def finish(folder: Path, choices: Sequence[Example]) -> None:
    """What the pictures for choices tell of the model that was kept, as it is going to be used: what its scores
    mean."""
    if not (folder / WEIGHTS).exists():
        return
    model = DetectionModel.load(folder, runtime="torch")
    model.config["calibration"] = [1.0, 0.0]
    found = [model.detect(page_of(example)) for example in choices]
    scores, right = Judge(found, choices, len(model.classes)).right()
    model.config["calibration"] = [*fit_calibration(scores, right)]
    model.save(folder)


def default_recipe(data: Path) -> Recipe:
    """For pictures of one's own: that of blood cells, shorter."""
    settings = Settings(3000, 4, 1e-3, warmup=200, ema_decay=0.995, preview_every=200, channels_last=True)
    return replace(load_recipe(RECIPES / "bccd.toml", Recipe, data=data), fit=settings, backbone_steps=1500)
