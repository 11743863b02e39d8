"""How good a model is on pictures that it never saw, beside Otsu's threshold and other models in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, is_grey, normalised
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context
from inkwash.systems.report import (
    Report,
    Row,
    ask_each,
    bootstrap,
    calibration_error,
    names_of,
    reliability,
    row,
    wilson,
)
from inkwash.systems.segmentation import metrics
from inkwash.systems.segmentation.calibration import entropy, sample_interval
from inkwash.systems.segmentation.data import Example, read_data
from inkwash.systems.segmentation.masks import regions
from inkwash.systems.segmentation.metrics import Matches
from inkwash.systems.segmentation.model import Segmentation, SegmentationModel
from inkwash.systems.segmentation.objects import class_map, sizes_of
from inkwash.systems.segmentation.output import object_scores
from inkwash.systems.segmentation.request import Evaluate
from inkwash.systems.splits import unseen

OTSU = "Otsu's threshold"
RADII = (1, 2, 3, 5)  # pixels of the boundary F
DRAWS = 1000  # of pictures with replacement, of a figure that is no mean
TITLE = (
    "Masks of pictures that the model never saw, at their own size. Intervals: pictures drawn with replacement. "
    "AP50: COCO's, at an IoU of 0.5. Covered: true counts by the interval of the samples (order statistics of 19 or "
    "more) and by the one that was fitted on pictures for choices, nominal 0.9. Otsu's threshold has the brighter or "
    "darker side, whichever is nearer the truth, so it is told more than the models are."
)


class Scored(NamedTuple):
    """The figures of a picture: means over pictures by name, the reliability table, objects by class, counts."""

    figures: dict[str, float]
    reliability: Array | None
    matches: list[Matches]
    covered: dict[str, bool]


class Source(NamedTuple):
    """Who is measured: what it says of an example."""

    name: str
    answer: Callable[[Example], Any]


def measure(request: Evaluate, model: SegmentationModel, context: Context) -> Report:
    data = read_data(context.open(request.data), request.classes, note=lambda text: context.tell(Note(text)))
    models = dict(zip(names_of(request), map(context.model, (request.model, *request.beside)), strict=True))
    for name, one in models.items():
        check_classes(name, one.classes, data.classes, lambda text: context.tell(Note(text)))
    examples = unseen(data.examples, data.listed, list(models.values()), lambda text: context.tell(Note(text)))
    sources = [source for name, one in models.items() for source in sources_of(name, one, request)]
    if len(model.classes) == 1:
        sources.append(Source(OTSU, otsu))
    scored, seconds = ask_each([scorer(one, len(model.classes)) for one in sources], examples, len(examples), context)
    grey = np.array([is_grey(example.picture) for example in examples])
    parts = {"all": np.ones(len(grey), bool)}
    if grey.any() and not grey.all():
        parts |= {"grey": grey, "colour": ~grey}
    rows = [
        one
        for name, found in scored.items()
        for part, chosen in parts.items()
        for one in rows_of(found, chosen, name, part)
    ]
    context.folder.mkdir(parents=True, exist_ok=True)
    return Report(
        title=TITLE,
        system="segmentation",
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


def check_classes(name: str, known: list[str], found: list[str], note: Callable[[str], None]) -> None:
    """UserError where a model's classes are not as many as the data's, or in another order; other names are said."""
    mine, theirs = ", ".join(known), ", ".join(found)
    if len(known) != len(found):
        raise UserError(f"the model {name} knows the classes {mine}; the data have {theirs}")
    if known != found and {*known} == {*found}:
        order = " ".join(f"--classes '{one}'" for one in known)
        raise UserError(f"the model {name} knows the classes {mine}; the data have {theirs}: give {order}")
    if known != found:
        note(f"the data's {theirs} are taken for the {mine} of {name}")


evaluate = partial(report.evaluate, measure=measure)


def settings(request: Evaluate, model: SegmentationModel) -> dict[str, Any]:
    """How the model was asked."""
    names = ("engine", "temperature", "members", "parametrization", "schedule")
    asked = {name: getattr(request, name) or model.config[name] for name in ("samples", "steps", "sampler")}
    return {name: model.config[name] for name in names} | asked


def sources_of(name: str, model: SegmentationModel, request: Evaluate) -> list[Source]:
    """A model; of a plain one also its first network alone, and the mean over mirror images."""
    if model.config["engine"] == "segdiff":
        return [
            Source(
                name,
                lambda one: (
                    model.segment(one.picture, request.samples, request.seed, request.steps, request.sampler),
                    True,
                ),
            )
        ]
    found = [
        Source(f"{name}, first network", lambda one: (first(model, one, False), True)),
        Source(f"{name}, first network, mirrored", lambda one: (first(model, one, True), True)),
    ]
    if model.config["members"] > 1:
        members = model.config["members"]
        found.append(Source(f"{name}, {members} networks", lambda one: (model.segment(one.picture), True)))
    return found


def first(model: SegmentationModel, example: Example, flips: bool) -> Segmentation:
    """What the first member of a plain model says."""
    drawn = model.draw(example.picture, flips=flips)[:1]
    return model.read(drawn, (example.picture.shape[0], example.picture.shape[1]))


def otsu(example: Example) -> tuple[Segmentation, bool]:
    """Otsu's threshold (1979) of the grey picture, on whichever side is nearer the truth; regions are objects."""
    from skimage.filters import threshold_otsu

    grey = normalised(example.picture).mean(-1)
    bright = grey > threshold_otsu(grey)
    truth = example.kinds[example.labels]
    mask = max((bright, ~bright), key=lambda one: metrics.iou(one, truth, 1))
    labels, count = regions(mask)
    probability = mask[None].astype(np.float32)
    kinds = np.minimum(np.arange(count + 1), 1).astype(np.uint8)
    counts, areas = sizes_of(labels, kinds, 1)
    found = Segmentation(
        labels, kinds, probability, probability, entropy(probability), labels[None], counts[None], areas[None], None
    )
    return found, False


def scorer(source: Source, classes: int) -> Source:
    """Says the figures of what a source says."""

    def answer(example: Example) -> Scored:
        found, sure = source.answer(example)
        return score(found, example, classes, sure)

    return Source(source.name, answer)


def score(found: Segmentation, example: Example, classes: int, sure: bool) -> Scored:
    """The figures of a picture. sure: whether its probabilities are meant as such."""
    truth = example.kinds[example.labels]
    said = class_map(found.probability)
    figures = {"IoU": metrics.iou(said, truth, classes), "Dice": metrics.dice(said, truth, classes)}
    for radius in RADII:
        edges = [metrics.boundary_f(said == kind, truth == kind, radius) for kind in range(1, classes + 1)]
        figures[f"boundary F, {radius} px"] = float(np.mean(edges))
    figures["WCov"] = metrics.weighted_coverage(found.labels, example.labels)
    scores, matches = object_scores(found), []
    for kind in range(1, classes + 1):
        own, own_scores = only(found.labels, found.kinds, kind), scores[found.kinds[1:] == kind]
        matches.append(metrics.match(own, own_scores, only(example.labels, example.kinds, kind)))
    counts = sizes_of(found.labels, found.kinds, classes)[0], sizes_of(example.labels, example.kinds, classes)[0]
    figures["count off by"] = float(np.abs(counts[0] - counts[1]).mean())
    if not sure:
        return Scored(figures, None, matches, {})
    planes = np.stack([truth == kind for kind in range(1, classes + 1)])
    figures["Brier"] = metrics.brier(found.probability, planes)
    figures["errors in the least sure 5 %"] = metrics.error_in_unsure(found.uncertainty, said != truth)
    covered = {}
    intervals = [sample_interval(found.counts[:, kind].tolist()) for kind in range(classes)]
    if sampled := [interval for interval in intervals if interval is not None]:
        covered["count covered, samples"] = within(sampled, counts[1])
    if found.count_interval is not None:
        covered["count covered, fitted"] = within(found.count_interval.tolist(), counts[1])
    return Scored(figures, reliability(found.probability, planes), matches, covered)


def within(intervals: Sequence[Any], counts: Array) -> bool:
    """Whether each count lies in its interval."""
    return all(low <= count <= high for (low, high), count in zip(intervals, counts, strict=True))


def only(labels: Array, kinds: Array, kind: int) -> Array:
    """The objects of one class, numbered from 1."""
    numbers = np.cumsum(kinds == kind) * (kinds == kind)
    numbers[0] = 0
    found: Array = numbers[labels].astype(np.int32)
    return found


def rows_of(found: Sequence[Scored], chosen: Array, source: str, part: str) -> list[Row]:
    """The rows of a source, of the chosen pictures."""
    ours = [one for one, counts in zip(found, chosen, strict=True) if counts]
    keys: dict[str, Any] = {"source": source, "pictures": part}
    rows = []
    for name in ours[0].figures:
        values = np.array([one.figures[name] for one in ours])
        values = values[~np.isnan(values)]
        if len(values):
            rows.append(row(name, float(values.mean()), bootstrap(values), len(ours), **keys))
    if any(match.true for one in ours for match in one.matches):
        rows.append(pooled("AP50 of objects", ours, precision, keys))
    rows.append(pooled("F1 of objects", ours, f_score, keys))
    if ours[0].reliability is not None:
        rows.append(pooled("calibration error", ours, miscalibration, keys))
    for name in ours[0].covered:
        hits = sum(one.covered[name] for one in ours)
        rows.append(row(name, hits / len(ours), wilson(hits, len(ours)), len(ours), **keys))
    return rows


def pooled(name: str, ours: Sequence[Scored], figure: Callable[[Sequence[Scored]], float], keys: Row) -> Row:
    """A figure of all pictures together, and of pictures drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = [figure([ours[i] for i in rng.integers(0, len(ours), len(ours))]) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return row(name, figure(ours), (float(low), float(high)), len(ours), **keys)


def precision(pictures: Sequence[Scored]) -> float:
    """The mean over classes that are there; NaN where none is."""
    classes = range(len(pictures[0].matches))
    found = np.array([metrics.average_precision([one.matches[kind] for one in pictures]) for kind in classes])
    return float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else float("nan")


def f_score(pictures: Sequence[Scored]) -> float:
    return metrics.detection_f([match for one in pictures for match in one.matches])


def miscalibration(pictures: Sequence[Scored]) -> float:
    return calibration_error(np.sum([one.reliability for one in pictures if one.reliability is not None], 0))
