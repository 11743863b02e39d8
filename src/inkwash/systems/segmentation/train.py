"""Training of a model of masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.codecs.picture_files import Array, normalised, resized
from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.best import finite_samples, keep_best, save_best
from inkwash.systems.segmentation.calibration import fit_counts, fit_temperature
from inkwash.systems.segmentation.data import Data, Example, read_data, split
from inkwash.systems.segmentation.metrics import detection_f, iou, match
from inkwash.systems.segmentation.model import SegmentationModel, denoiser
from inkwash.systems.segmentation.networks import Members
from inkwash.systems.segmentation.objects import class_map, sizes_of, typical
from inkwash.systems.segmentation.targets import loader, prepare
from inkwash.systems.splits import note_near_duplicates
from inkwash.training.build import build
from inkwash.training.fit import Stopped, fit
from inkwash.training.recipe import Count, Depth, Width, load_recipe
from inkwash.training.settings import Settings
from inkwash.weights.files import WEIGHTS
from inkwash.weights.shipped import RECIPES

USUAL = 8.0  # radius of an object as the network sees it, in pixels, unless the recipe has a scale
JUDGED, JUDGED_SAMPLES, JUDGED_STEPS = 24, 3, 5  # pictures for choices, and how they are drawn, while it trains
SHOWN = 4  # pictures of a preview
DEFAULTS: dict[str, Any] = {"steps": 10, "samples": 9, "sampler": "ddim"}


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "segmentation".

    data       see `read_data`; a tenth of what is not for the table is for choices: the best step, the calibration
    classes, group   see `read_data`
    engine     segdiff; or plain: the same network without noise and time, by cross-entropy and Dice
    members    of plain: networks that are trained beside each other, an ensemble
    parametrization, schedule   what the network predicts, of which noise; as published eps and linear; cosine,
               or shifted, which is noisier
    condition  sum, as published, or concat: how the picture comes in
    distance   whether the distance to the edge is drawn too, by which objects that touch are parted
    size       of the squares that are learned from, in pixels as the network sees them
    scale      of its pixels to a picture's, 0.5: halved; by the size of objects if left out
    widths, layers  of the U-Net's levels; blocks, growth  of the picture's encoder
    """

    task: Literal["segmentation"]
    data: Path
    fit: Settings
    classes: list[str] = field(default_factory=list)
    group: str = ""
    engine: Literal["segdiff", "plain"] = "segdiff"
    members: Annotated[int, Ge(1), Le(20)] = 1
    parametrization: Literal["eps", "v", "x0"] = "v"
    schedule: Literal["shifted", "cosine", "linear"] = "shifted"
    condition: Literal["sum", "concat"] = "sum"
    distance: bool = True
    size: Annotated[int, Ge(16), Le(1024)] = 128
    scale: Annotated[float, Gt(0), Le(4)] | None = None
    widths: list[Width] = field(default_factory=lambda: [16, 24, 32, 32])
    layers: Depth = 1
    blocks: Depth = 1
    growth: Count = 8


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model, the best so far by the pictures for choices."""
    check(recipe)
    note = noted(monitor)
    data = read_data(recipe.data, recipe.classes, recipe.group, note)
    training, choices, table = split(data, recipe.data)
    note(f"{len(training)} pictures to learn from, {len(choices)} for choices, {len(table)} for the table")
    note_near_duplicates([training, choices, table], lambda one: one.picture, note)
    torch.manual_seed(recipe.fit.seed)
    model = new_model(recipe, data, training, choices)
    radius, scale = (model.config[key] for key in ("radius", "scale"))
    note(f"objects of a usual radius of {radius:.1f} pixels; pictures are seen at {scale:g} of their size")
    examples = [prepare(one, len(data.classes), recipe.distance, model.config["scale"]) for one in training]
    batch = loader(examples, recipe.size, recipe.fit.batch_size, recipe.fit.seed, recipe.members)
    best = folder / "best"

    def preview(_: nn.Module, step: int) -> Image.Image:
        with finite_samples(step):
            score, temperature, picture = judge(model, choices)
        before = keep_best(model, best, step, "iou", score, temperature=temperature)
        known = "" if before is None else f", {before:.3f} before"
        note(f"step {step}: IoU {score:.3f} on the pictures for choices{known}")
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


def noted(monitor: Monitor) -> Callable[[str], None]:
    return lambda text: monitor.tell(Note(text))


def check(recipe: Recipe) -> None:
    """UserError for keys that contradict each other."""
    if recipe.engine == "segdiff" and recipe.members > 1:
        raise UserError("members: of the engine plain; a segdiff model is an ensemble by its samples: leave it out")
    if recipe.parametrization == "eps" and recipe.schedule != "linear":
        raise UserError(
            f"parametrization eps needs the schedule linear: {recipe.schedule} ends in noise, which tells nothing"
        )
    if recipe.size % 2 ** len(recipe.widths):
        raise UserError(
            f"size = {recipe.size}: {len(recipe.widths)} widths need a multiple of {2 ** len(recipe.widths)}"
        )


def new_model(
    recipe: Recipe, data: Data, training: Sequence[Example], choices: Sequence[Example]
) -> SegmentationModel:
    """An untrained one, with what is known of its pictures."""
    radius, smallest = typical([one.labels for one in training])
    config = {
        "channels": len(data.classes) + recipe.distance,
        "widths": recipe.widths,
        "layers": recipe.layers,
        "blocks": recipe.blocks,
        "growth": recipe.growth,
        "condition": recipe.condition,
    }
    facts: dict[str, Any] = {
        "engine": recipe.engine,
        "classes": data.classes,
        "distance": recipe.distance,
        "parting": "mask",
        "parametrization": recipe.parametrization,
        "schedule": recipe.schedule,
        "size": recipe.size,
        "scale": recipe.scale or float(f"{min(1.0, USUAL / radius):.3g}"),
        "radius": round(radius, 2),
        "smallest": round(smallest, 1),
        "temperature": 1.0,
        "counts": None,
        "members": recipe.members,
        "network": config,
        "train": sorted(one.digest for one in training),
        "choices": {one.digest: one.name for one in choices},
    }
    network = build(lambda: Members(config, recipe.members), {}, "the recipe")
    return SegmentationModel(network, facts | DEFAULTS)


def loss_of(recipe: Recipe, model: SegmentationModel) -> Callable[[dict[str, Tensor], torch.Generator], Tensor]:
    """The mean squared error of the core's Denoiser, so that a learning rate means the same for all sizes; or
    cross-entropy and Dice."""
    networks: Any = model.network.networks
    denoise = denoiser(networks[0], recipe.parametrization, recipe.schedule)

    def segdiff(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        return denoise.loss(batch["x"], {"features": networks[0].encode(batch["picture"])}, generator=generator)

    def plain(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        losses = []
        for network, picture, x in zip(
            networks, *(batch[key].chunk(len(networks)) for key in ("picture", "x")), strict=True
        ):
            zeros, time = torch.zeros_like(x), torch.zeros(len(x), device=x.device)
            logits, target = network(zeros, time, network.encode(picture)).float(), (x + 1) / 2
            classes = len(model.classes)
            losses.append(
                F.binary_cross_entropy_with_logits(logits, target)
                + dice_loss(logits[:, :classes], target[:, :classes])
            )
        return torch.stack(losses).mean()

    return segdiff if recipe.engine == "segdiff" else plain


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 sum(p y) / (sum p + sum y), of each class over the batch (V-Net, Milletari et al. 2016, 1606.04797)."""
    p = logits.sigmoid()
    both, all_ = (p * target).sum((0, 2, 3)), (p + target).sum((0, 2, 3))
    return 1 - ((2 * both + 1) / (all_ + 1)).mean()


def judge(model: SegmentationModel, choices: Sequence[Example]) -> tuple[float, float, Image.Image]:
    """The mean IoU on pictures for choices in few samples and steps, the temperature by these, and a strip of some:
    the picture, three samples, their mean, the truth."""
    scores, means, truths, rows = list[float](), list[Array](), list[Array](), list[Array]()
    for example in choices[:JUDGED]:
        drawn = model.draw(example.picture, JUDGED_SAMPLES, 0, JUDGED_STEPS)
        mean = full_size(drawn.mean(0, keepdims=True), example, len(model.classes))
        classes = example.kinds[example.labels]
        scores.append(iou(class_map(mean), classes, len(model.classes)))
        means.append(mean)
        truths.append(np.stack([classes == kind for kind in range(1, len(model.classes) + 1)]))
        if len(rows) < SHOWN:
            rows.append(strip(model, example, drawn, mean, classes))
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows])
    return float(np.nanmean(scores)), fit_temperature(means, truths), Image.fromarray(sheet)


def full_size(drawn: Array, example: Example, classes: int) -> Array:
    """(K, H, W) at the picture's own size."""
    found: Array = resized(drawn, full_shape(example))[0, :classes]
    return found


def full_shape(example: Example) -> tuple[int, int]:
    return example.labels.shape[0], example.labels.shape[1]


def strip(model: SegmentationModel, example: Example, drawn: Array, mean: Array, truth: Array) -> Array:
    """uint8 (H, W, 3)."""
    k = len(model.classes)
    samples = [full_size(one[None], example, k).max(0) for one in drawn]
    planes = [*samples, mean.max(0), truth / k]
    tiles = [normalised(example.picture), *(np.repeat(plane[..., None], 3, -1) for plane in planes)]
    return (
        (255 * np.concatenate([np.pad(tile, ((0, 0), (0, 4), (0, 0))) for tile in tiles], 1)).round().astype(np.uint8)
    )


def finish(folder: Path, choices: Sequence[Example]) -> None:
    """What the pictures for choices tell of the model that was kept, as it is going to be used: its temperature, by
    which distance objects are parted, and how far counts are off."""
    if not (folder / WEIGHTS).exists():
        return
    model = SegmentationModel.load(folder, runtime="torch")
    drawn, k = [model.draw(example.picture) for example in choices], len(model.classes)
    means = [full_size(one.mean(0, keepdims=True), example, k) for one, example in zip(drawn, choices, strict=True)]
    kinds = [example.kinds[example.labels] for example in choices]
    truths = [np.stack([found == kind for kind in range(1, k + 1)]) for found in kinds]
    model.config["temperature"] = fit_temperature(means, truths)
    ways = ["mask"] + ["distance"] * model.config["distance"]
    read = {way: objects_by(model, way, drawn, choices) for way in ways}
    model.config["parting"] = max(ways, key=lambda way: agreement(read[way], choices))
    found = [sizes_of(*one, k)[0] for one in read[model.config["parting"]]]
    true = [sizes_of(example.labels, example.kinds, k)[0] for example in choices]
    quantiles = [fit_counts([one[kind] for one in found], [one[kind] for one in true]) for kind in range(k)]
    model.config["counts"] = None if None in quantiles else quantiles
    model.save(folder)


Objects = tuple[Array, Array]


def objects_by(
    model: SegmentationModel, way: str, drawn: Sequence[Array], choices: Sequence[Example]
) -> list[Objects]:
    """Labels and kinds of samples of pictures, parted in one way."""
    model.config["parting"] = way
    read = [model.read(one, full_shape(example)) for one, example in zip(drawn, choices, strict=True)]
    return [(one.labels, one.kinds) for one in read]


def agreement(found: Sequence[Objects], choices: Sequence[Example]) -> float:
    """The F-score of objects, whatever their class."""
    pairs = zip(found, choices, strict=True)
    return detection_f(
        [match(labels, np.zeros(len(kinds) - 1), example.labels) for (labels, kinds), example in pairs]
    )


def default_recipe(data: Path) -> Recipe:
    """For pictures of one's own: the recipe of the shipped model, its objects as large as they are there, in less
    time, for which the noisier schedule is the better."""
    settings = Settings(1500, 4, 2e-3, warmup=100, ema_decay=0.995, preview_every=150, channels_last=True)
    recipe = load_recipe(RECIPES / "nuclei.toml", Recipe, data=data)
    return replace(recipe, fit=settings, scale=None, schedule="shifted")
