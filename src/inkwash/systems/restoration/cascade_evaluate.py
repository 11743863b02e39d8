"""How good a cascade is: by a classifier that learned from real pictures, at several levels of noise between stages,
of real small pictures and of generated ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems import report
from inkwash.systems.base import Context
from inkwash.systems.detection.data import read_data
from inkwash.systems.pictures.metrics import frechet_distance
from inkwash.systems.report import Report, Row, bootstrap, names_of, row, wilson
from inkwash.systems.restoration import metrics
from inkwash.systems.restoration.cascade import Cascade, to_bytes
from inkwash.systems.restoration.cascade_data import Crop, balanced, crops_of, loader
from inkwash.systems.restoration.cascade_train import AT_ONCE, LEVELS
from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.data import to_planes
from inkwash.systems.restoration.levels import Array
from inkwash.systems.restoration.networks import CellClassifier
from inkwash.systems.splits import unseen
from inkwash.training.fit import fit
from inkwash.training.settings import Settings

TITLE = "Pictures of each kind, as many of one as of another"
FOUND, DISTANCE = "kind found", "cell classifier's Frechet distance"
LEARNING = Settings(steps=600, batch_size=64, learning_rate=3e-3, warmup=50, lr_decay="cosine", ema_decay=0.99)
COMPARED = 12  # pictures of each kind that are compared in pairs
REAL = "held-out pictures"


class Way(NamedTuple):
    """How a cascade is asked: the noise between stages, and whether stages are stopped there."""

    level: float
    truncated: bool = False

    def __str__(self) -> str:
        return f"{self.level:g}{', truncated' * self.truncated}"


class Judge(NamedTuple):
    """A classifier, the features of real pictures that it did not learn from, and the kinds that it is shown."""

    network: CellClassifier
    real: Array
    kinds: Array

    def rows(self, pictures: Array, **keys: Any) -> list[Row]:
        """Of pictures (N, S, S, 3) of the kinds, kind after kind: how often they are found, how far their features
        lie from real ones, and how alike those of a kind are."""
        features, found = seen_by(self.network, pictures)
        right = int((found == self.kinds).sum())
        own = [pictures[self.kinds == kind][:COMPARED] for kind in np.unique(self.kinds)]
        alike = [metrics.pairwise_ssim(list(some)) for some in own]
        return [
            row(FOUND, right / len(found), wilson(right, len(found)), len(found), **keys),
            row(DISTANCE, max(0.0, round(frechet_distance(features, self.real), 6)), n=len(found), **keys),
            row("pairwise SSIM within a kind", float(np.mean(alike)), n=len(found), **keys),
        ]


class Data(NamedTuple):
    """training: what the model learned from, and now the classifier; held_out: what no model has seen, of pictures of
    these names."""

    training: list[Crop]
    held_out: list[Crop]
    names: list[str]


def measure(request: Any, model: Cascade, context: Context) -> Report:
    models: list[Cascade] = [context.model(name) for name in (request.model, *request.beside)]
    check_models(models)
    data, classes, side = read(request, models, context), len(model.config["classes"]), model.sides[-1]
    real = balanced(data.held_out, classes, request.per_kind)
    if len(real) < 2 * classes:
        raise UserError("data: two pictures of each kind are needed at least that the model has not seen")
    clock, seconds = time.process_time(), dict[str, float]()
    network = classifier(data.training, classes, side, request.seed, context)
    seconds["classifier"] = time.process_time() - clock
    shown = pictures_of(real)
    judge = Judge(network, seen_by(network, shown)[0], np.array([crop.kind for crop in real]))
    rows = judge.rows(shown, source=REAL, small="", noise="")
    known = balanced(data.training, classes, len(real) // classes)
    if len(known) == len(real):
        rows += judge.rows(pictures_of(known), source="pictures to learn from", small="", noise="")
    rows += bicubic_rows(judge, shown, model)
    for name, one in zip(names_of(request), models, strict=True):
        clock = time.process_time()
        rows += rows_of(name, one, judge, shown, request, context)
        seconds[name] = time.process_time() - clock
    return Report(
        title=f"{TITLE}. The classifier's accuracy is {accuracy(network, data.held_out):.3f}, a mean over kinds, on "
        f"{len(data.held_out)} real ones that nothing has seen.",
        system=model.system,
        rows=rows,
        seeds=[request.seed],
        cpu_seconds=seconds,
        model={name: model.config[name] for name in ("classes", "augmentation", "noise_level")}
        | {"sides": model.sides, "steps": request.steps or model.config["steps"]},
        data={
            "split": f"{len(real)} boxes in {len(data.names)} pictures that were neither learned from nor chosen by",
            "learned_from": len(data.training),
            "pictures": data.names,
            "chosen_by": sorted(model.config["choices"].values()),
        },
    )


def read(request: Any, models: Sequence[Cascade], context: Context) -> Data:
    """UserError for data of other kinds, and where nothing is that the model learned from, or nothing else."""

    def note(text: str) -> None:
        context.tell(Note(text))

    model = models[0]
    data = read_data(context.open(request.data), "", True, note)
    if data.classes != model.config["classes"]:
        own, known = ", ".join(data.classes), ", ".join(model.config["classes"])
        raise UserError(f"data: boxes of {own}; the model knows {known}")
    learned = [one for one in data.examples if one.digest in model.config["train"]]
    if not learned:
        raise UserError("data: none of the pictures that the model learned from: the classifier needs them, too")
    examples = unseen(data.examples, data.listed, models, note)
    training, held_out = (crops_of(part, model.sides[-1], note, context.tell) for part in (learned, examples))
    return Data(training, held_out, [example.name for example in examples])


def pictures_of(crops: Sequence[Crop]) -> Array:
    return np.stack([crop.picture for crop in crops])


evaluate = partial(report.evaluate, measure=measure)


def check_models(models: Sequence[Cascade]) -> None:
    """UserError for models that do not draw the same."""
    for other in models[1:]:
        if not isinstance(other, Cascade):
            raise UserError(f"beside: a model of {other.system}, not a cascade")
        if (other.config["classes"], other.sides) != (models[0].config["classes"], models[0].sides):
            raise UserError("beside: a cascade of other kinds or sides than the model's")


def classifier(training: Sequence[Crop], classes: int, side: int, seed: int, context: Context) -> CellClassifier:
    """Trained on real pictures, balanced, turned and mirrored. No cascade has anything of it."""
    torch.manual_seed(seed)
    network = CellClassifier(classes)
    batch = loader(training, side, 1, classes, LEARNING.batch_size, seed)
    quiet = SimpleNamespace(tell=lambda event: context.tell(event) if isinstance(event, Progress) else None)
    quiet.stopped = lambda: False

    def loss(batch: dict[str, Tensor], _: torch.Generator) -> Tensor:
        return F.cross_entropy(network(batch["x"]), batch["label"])

    with TemporaryDirectory() as folder:
        return fit(network, loss, batch, folder, LEARNING, monitor=quiet)


def seen_by(network: CellClassifier, pictures: Array) -> tuple[Array, Array]:
    """Of (N, S, S, 3) uint8 the features (N, 64), and the kinds that are found."""
    with torch.no_grad():
        features = torch.cat(
            [network.features(planes(part)) for part in np.array_split(pictures, len(pictures) // 64 + 1)]
        )
        return features.numpy(), network.head(features).argmax(1).numpy()


def accuracy(network: CellClassifier, crops: Sequence[Crop]) -> float:
    """A mean over kinds of how often each is found."""
    kinds = np.array([crop.kind for crop in crops])
    right = seen_by(network, pictures_of(crops))[1] == kinds
    return float(np.mean([right[kinds == kind].mean() for kind in np.unique(kinds)]))


def planes(pictures: Array) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) from -1 to 1."""
    return torch.from_numpy(np.stack([to_planes(picture / 255) for picture in pictures]))


def smaller(pictures: Array, side: int) -> Array:
    """(N, S, S, 3) -> (N, side, side, 3) uint8, means of areas."""
    return np.stack([reduced(one, one.shape[0] // side) for one in pictures]).round().astype(np.uint8)


def bicubic(pictures: Array, side: int) -> Array:
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in pictures]
    )


def bicubic_rows(judge: Judge, shown: Array, model: Cascade) -> list[Row]:
    """What interpolation makes of real small pictures."""
    sides = model.sides
    rows = judge.rows(bicubic(smaller(shown, sides[0]), sides[-1]), source="bicubic", small="real", noise="")
    for one, side in pairwise(sides):
        rows.append(psnr_row(bicubic(smaller(shown, one), side), shown, "bicubic", one, ""))
    return rows


def psnr_row(made: Array, shown: Array, source: str, small: int, noise: str) -> Row:
    """How near pictures are to real ones of their size."""
    values = [metrics.psnr(one, truth) for one, truth in zip(made, smaller(shown, made.shape[1]), strict=True)]
    stage = f"{small} to {made.shape[1]} pixels"
    return row(
        "PSNR", float(np.mean(values)), bootstrap(values), len(values), source=source, stage=stage, noise=noise
    )


def ways_of(model: Cascade) -> list[Way]:
    """All levels, the model's own among them, and truncated where there is noise; without augmentation none."""
    if not model.config["augmentation"]:
        return [Way(0.0)]
    levels = sorted({*LEVELS, model.config["noise_level"]})
    return [Way(level, truncated) for truncated in (False, True) for level in levels if level or not truncated]


def rows_of(name: str, model: Cascade, judge: Judge, shown: Array, request: Any, context: Context) -> list[Row]:
    """Of each way: what is made of real small pictures and of generated ones, and each stage's PSNR."""
    seeds, sides, ways, rows = (
        range(request.seed, request.seed + len(shown)),
        model.sides,
        ways_of(model),
        list[Row](),
    )
    kinds: list[int] = judge.kinds.tolist()
    lows = [model.array(planes(smaller(shown, side)).numpy()) for side in sides[:-1]]

    def draw(way: Way, part: slice) -> list[Any]:
        return model.draw(kinds[part], seeds[part], request.steps, *way)

    def enlarge(way: Way, first: int, part: slice) -> list[Any]:
        low = lows[first - 1][part]
        return model.enlarge(low, kinds[part], seeds[part], request.steps, way.level, first=first)

    for done, way in enumerate(ways):
        context.tell(Progress(done, len(ways), f"{name}, noise {way}"))
        keys = {"source": name, "noise": str(way)}
        made = batched(partial(draw, way), len(shown))
        rows += judge.rows(made[-1], small="generated", **keys)
        if not done:
            rows += judge.rows(bicubic(made[0], sides[-1]), small="generated", source=f"{name}, bicubic", noise="")
        if not way.truncated:
            larger = [batched(partial(enlarge, way, first), len(shown)) for first in range(1, len(sides))]
            rows += judge.rows(larger[0][-1], small="real", **keys)
            for own, small in zip(larger, sides, strict=False):
                rows.append(psnr_row(own[0], shown, name, small, str(way)))
    return rows


def batched(draw: Any, count: int) -> list[Array]:
    """The pictures of each stage, some of them at once."""
    parts = [draw(slice(start, min(start + AT_ONCE, count))) for start in range(0, count, AT_ONCE)]
    return [np.concatenate([to_bytes(part[k]) for part in parts]) for k in range(len(parts[0]))]
