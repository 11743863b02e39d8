"""The verbs of segmentation: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context, Result, recipe
from inkwash.systems.segmentation import output
from inkwash.systems.segmentation.files import picture_files, slices
from inkwash.systems.segmentation.formats import read_pages, says_of_range
from inkwash.systems.segmentation.request import Segment, Tune
from inkwash.systems.segmentation.train import default_recipe
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training
from inkwash.systems.tune import tune as run_tuning

TASKS = {"segmentation": Task("inkwash.systems.segmentation.train")}


def segment(requests: list[Segment], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model = context.model(request.model)
        name = "" if isinstance(request.pictures, tuple) else request.pictures.name
        files = picture_files(context.open(request.pictures), name)
        rows, images, annotations, place = list[Any](), list[Any](), list[Any](), 0
        for number, (stem, file) in enumerate(files):
            pages = read_pages(file)
            says_of_range(pages, file.name, lambda text: context.tell(Note(text)))
            for label, page in slices(stem, pages):
                try:
                    found = model.segment(
                        page, request.samples, request.seed, request.steps, request.sampler, request.flips,
                        partial(on_picture, context, number, len(files), label),
                    )  # fmt: skip
                except UserError as error:
                    raise UserError(f"{file.name}: {error}") from None
                made = output.write_picture(found, page, label, model.classes, context.folder, request, of)
                own = output.picture_rows(found, label, model.classes)
                rows += own
                if request.coco:
                    images.append(
                        {"id": place + 1, "file_name": file.name, "height": page.shape[0], "width": page.shape[1]}
                    )
                    annotations += output.coco_objects(found, place + 1, len(annotations) + 1)
                yield Result(of, place, made, own[0], recipe("segmentation", "segment", request, model, context))
                place += 1
            if context.stopped():
                break
        table = {"objects.csv": context.folder / f"{of}-objects.csv"}
        output.write_csv(rows, table["objects.csv"])
        if request.coco:
            table["objects.json"] = context.folder / f"{of}-objects.json"
            output.write_json(output.coco(images, annotations, model.classes), table["objects.json"])
        yield Result(of, None, table, {"text": in_words(rows, place)}, request.facts())


def on_picture(context: Context, number: int, of: int, name: str, step: int, steps: int) -> None:
    context.tell(Progress(number * steps + step, of * steps, name))


def in_words(rows: list[Any], pictures: int) -> str:
    """What was found, in a sentence."""
    totals: dict[str, list[int]] = {}
    for row in rows:
        total = totals.setdefault(row["class"], [0, 0, 0])
        for i, key in enumerate(("count", "count_least", "count_greatest")):
            total[i] += row[key]
    found = [f"{count} of {name} ({least} to {most} by samples)" for name, (count, least, most) in totals.items()]
    return f"{pictures} picture{'s' * (pictures != 1)}: {', '.join(found)}"


def tune(requests: list[Tune], context: Context) -> Iterator[Result]:
    return run_tuning(requests, context)


train = partial(run_training, tasks=TASKS, default=default_recipe)
