"""The verbs of segmentation: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from inkwash.errors import UserError
from inkwash.systems.base import Context, Result, recipe
from inkwash.systems.picture_folders import check_all_done, pages_of, room_on_disk, write_csv, write_json
from inkwash.systems.segmentation import output
from inkwash.systems.segmentation.files import is_mask
from inkwash.systems.segmentation.request import Segment, Tune
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training
from inkwash.systems.tune import tune as run_tuning

TASKS = {"segmentation": Task("inkwash.systems.segmentation.train")}


def segment(requests: list[Segment], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model = context.model(request.model)
        rows, images, annotations, faulty = list[Any](), list[Any](), list[Any](), list[str]()
        for file, name, page, progress in pages_of(request.pictures, context, faulty, is_mask):
            try:
                found = model.segment(
                    page, request.samples, request.seed, request.steps, request.sampler, request.flips, progress
                )
            except UserError as error:
                raise UserError(f"{file.name}: {error}") from None
            own = output.picture_rows(found, name, model.classes)
            rows += own
            if request.coco:
                size = {"height": page.shape[0], "width": page.shape[1]}
                called = file.name if name == Path(file.name).stem else name  # of a stack's slices each its own
                images.append({"id": len(images) + 1, "file_name": called} | size)
                annotations += output.coco_objects(found, len(images), len(annotations) + 1)
            facts = recipe("segmentation", "segment", replace(request, pictures=file), model, context)
            facts |= {"runtime": model.runtime}
            with room_on_disk(context):
                target = context.folder / f"{of}-{name}"
                made = output.write_picture(found, page, model.classes, target, request, facts)
            row = {"picture": name} | {one["class"]: one["count"] for one in own}
            place = len(rows) // len(own) - 1
            yield Result(of, place, {f"{name}{ending}": written for ending, written in made.items()}, row, facts)
        table = {"objects.csv": context.folder / f"{of}-objects.csv"}
        with room_on_disk(context):
            write_csv(rows, table["objects.csv"])
            if request.coco:
                table["objects.json"] = context.folder / f"{of}-objects.json"
                write_json(output.coco(images, annotations, model.classes), table["objects.json"])
        yield Result(of, None, table, {"text": in_words(rows, len(rows) // len(model.classes))}, request.facts())
        check_all_done(faulty)


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


def own_recipe(data: Path) -> Any:
    from inkwash.systems.segmentation.train import default_recipe

    return default_recipe(data)


train = partial(run_training, tasks=TASKS, default=own_recipe)
