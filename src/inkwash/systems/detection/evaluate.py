"""How good a model is on pictures that it never saw, beside the simplest boxes there are and other models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, normalised
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context, idle
from inkwash.systems.detection.data import Data, Example, page_of, read_data
from inkwash.systems.detection.metrics import MAX_DETS, Judge
from inkwash.systems.detection.model import Detection, DetectionModel
from inkwash.systems.detection.request import Evaluate
from inkwash.systems.report import Report, Row, ask_each, bootstrap, calibration_error, names_of, reliability, row
from inkwash.systems.splits import unseen

REGIONS = "Otsu's regions"
DRAWS = 200  # of pictures with replacement, of a figure that is no mean
CERTAIN = 0.5  # the probability from which on a box is counted


class Source(NamedTuple):
    """Who is measured: what it says of a picture; whether its scores are meant as probabilities."""

    name: str
    answer: Callable[[Array], Detection]
    sure: bool


def measure(request: Evaluate, model: DetectionModel, context: Context) -> Report:
    def note(text: str) -> None:
        context.tell(Note(text))

    data = read_data(context.open(request.data), "", request.drop_bad, note)
    data = numbered_as(data, model.classes, note)
    models = dict(zip(names_of(request), map(context.model, (request.model, *request.beside)), strict=True))
    if all(one.config["engine"] == "fcos" for one in models.values()):
        idle(request, ("boxes", "steps", "samples"), "with models without diffusion")
    if other := [name for name, one in models.items() if one.classes != model.classes]:
        raise UserError(f"{other[0]} knows other classes: {', '.join(models[other[0]].classes)}")
    examples = unseen(data.examples, data.listed, list(models.values()), note)
    if not any(len(one.boxes) for one in examples):
        raise UserError("none of the pictures to measure on has a box")
    sources = [source for name, one in models.items() for source in sources_of(name, one, request)]
    sources.append(Source(REGIONS, lambda page: regions(page, model.config["common"]), False))
    max_dets = max(MAX_DETS, *(request.boxes or one.config["boxes"] for one in models.values()))
    answers, seconds = ask_each(sources, map(page_of, examples), len(examples), context)
    rows = [
        row for source in sources for row in rows_of(answers[source.name], examples, model.classes, source, max_dets)
    ]
    context.folder.mkdir(parents=True, exist_ok=True)
    return Report(
        title=title(max_dets),
        system="detection",
        rows=rows,
        seeds=[request.seed],
        cpu_seconds=seconds,
        model=settings(request, model),
        data={
            "split": f"{len(examples)} pictures that were neither learned from nor chosen by",
            "pictures": [example.name for example in examples],
            "chosen_by": sorted(model.config["choices"].values()),
        },
    )


def numbered_as(data: Data, classes: list[str], note: Callable[[str], None]) -> Data:
    """The data, its classes as the model has them. UserError for one that the model does not know; one that only the
    model knows is said."""
    if strange := [name for name in data.classes if name not in classes]:
        raise UserError(f"the model knows the classes {', '.join(classes)}; the data have {', '.join(strange)}, too")
    if lone := [name for name in classes if name not in data.classes]:
        note(f"of {', '.join(lone)} the data have none: what the model finds of that counts as wrong")
    numbers = np.array([classes.index(name) for name in data.classes])
    examples = [one._replace(kinds=numbers[one.kinds]) for one in data.examples]
    return data._replace(examples=examples, classes=classes)


evaluate = partial(report.evaluate, measure=measure)


def title(max_dets: int) -> str:
    return (
        f"Boxes of pictures that the model never saw, by pycocotools; maxDets {max_dets}: the best boxes of each "
        "class in a picture. AP: the mean over IoUs from 0.5 to 0.95; small: areas under 32 x 32 of its pixels, "
        "large: above 96 x 96. Intervals: pictures drawn with replacement. Calibration error: of the probabilities, "
        "right being an IoU of 0.5 or more. Otsu's regions: the boxes around connected regions of the smaller side "
        "of Otsu's threshold, the larger the surer, all of the class that most objects of the training part have."
    )


def settings(request: Evaluate, model: DetectionModel) -> dict[str, Any]:
    """How the model was asked."""
    asked = {name: getattr(request, name) or model.config[name] for name in ("boxes", "steps", "samples")}
    return {name: model.config[name] for name in ("engine", "calibration", "size")} | asked


def sources_of(name: str, model: DetectionModel, request: Evaluate) -> list[Source]:
    """A model; of one by diffusion also in one step."""

    def answer(page: Array, steps: int | None) -> Detection:
        return model.detect(page, request.boxes, steps, request.seed, request.samples)

    found = [Source(name, partial(answer, steps=request.steps), True)]
    if model.config["engine"] == "diffusiondet" and (request.steps or model.config["steps"]) > 1:
        found.append(Source(f"{name}, 1 step", partial(answer, steps=1), True))
    return found


def regions(page: Array, kind: int) -> Detection:
    """Boxes around the connected regions of the smaller side of Otsu's threshold (1979) of the grey picture."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    grey = normalised(page).mean(-1)
    bright = grey > threshold_otsu(grey) if grey.min() < grey.max() else np.zeros(grey.shape, bool)
    labels, count = ndimage.label(bright if bright.mean() < 0.5 else ~bright)
    places = ndimage.find_objects(labels)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = np.array([[x.start, y.start, x.stop, y.stop] for y, x in places], float).reshape(-1, 4)
    order = np.argsort(-areas, kind="stable")
    return Detection(boxes[order], np.full(count, kind), areas[order] / grey.size)


def rows_of(
    found: Sequence[Detection], examples: Sequence[Example], classes: Sequence[str], source: Source, max_dets: int
) -> list[Row]:
    judge, keys = Judge(found, examples, len(classes), max_dets), dict[str, Any](source=source.name)
    rng = np.random.default_rng(0)
    drawn = [judge.figures(rng.integers(0, len(examples), len(examples))) for _ in range(DRAWS)]
    figures, rows = judge.figures(), []
    by_class = zip(classes, judge.by_class(), strict=True)
    for name, value in figures.items():
        values = np.array([one[name] for one in drawn])
        values = values[~np.isnan(values)]
        low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (np.nan, np.nan)
        if not np.isnan(value):
            rows.append(row(name, value, (float(low), float(high)), len(examples), **keys))
    if len(classes) > 1:
        rows += [
            row(f"AP50 of {name}", value, n=len(examples), **keys) for name, value in by_class if not np.isnan(value)
        ]
    if source.sure:
        scores, right = judge.right()
        if len(scores):
            table = reliability(scores, right)
            rows.append(row("calibration error", calibration_error(table), n=len(examples), **keys))
        off = [
            abs(int((one.scores >= CERTAIN).sum()) - len(example.boxes))
            for one, example in zip(found, examples, strict=True)
        ]
        rows.append(row("count off by", float(np.mean(off)), bootstrap(off), len(examples), **keys))
    return rows
