"""The verbs of segmentation: from requests to results."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context, File, Result, recipe
from inkwash.systems.segmentation import output
from inkwash.systems.segmentation.files import picture_files, slices
from inkwash.systems.segmentation.formats import Array, read_pages, says_of_range
from inkwash.systems.segmentation.request import Segment, Tune
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training
from inkwash.systems.tune import tune as run_tuning

TASKS = {"segmentation": Task("inkwash.systems.segmentation.train")}


def segment(requests: list[Segment], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model = context.model(request.model)
        rows, images, annotations = list[Any](), list[Any](), list[Any]()
        for file, name, page, progress in pages_of(request, context):
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
                images.append({"id": len(images) + 1, "file_name": file.name} | size)
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
            output.write_csv(rows, table["objects.csv"])
            if request.coco:
                table["objects.json"] = context.folder / f"{of}-objects.json"
                output.write_json(output.coco(images, annotations, model.classes), table["objects.json"])
        yield Result(of, None, table, {"text": in_words(rows, len(rows) // len(model.classes))}, request.facts())


def pages_of(request: Segment, context: Context) -> Iterator[tuple[File, str, Array, Callable[[int, int], None]]]:
    """(file, name, picture, whom to tell how far it is) of each slice of each picture, until no more is wanted."""
    path, pictures = context.open(request.pictures), request.pictures
    given = {one.name: one for one in pictures} if isinstance(pictures, tuple) else {}
    files = picture_files(path, "" if isinstance(pictures, tuple) else pictures.name)
    names = {stem for stem, _ in files}
    for number, (stem, file) in enumerate(files):
        if context.stopped():
            return
        own = given[file.relative_to(path).as_posix()] if isinstance(pictures, tuple) else pictures
        pages = read_pages(file)
        says_of_range(pages, own.name, lambda text: context.tell(Note(text)))
        for name, page in slices(stem, pages):
            if name != stem and name in names:
                raise UserError(f"two pictures are called {name}, one of them a slice of {file.name}; rename one")
            yield own, name, page, partial(on_picture, context, number, len(files), name)


@contextmanager
def room_on_disk(context: Context) -> Iterator[None]:
    """UserError where the disk is full, or takes nothing."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise UserError(f"cannot write in {context.folder} ({error.strerror}): make room and run again") from None


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


def own_recipe(data: Path) -> Any:
    from inkwash.systems.segmentation.train import default_recipe

    return default_recipe(data)


train = partial(run_training, tasks=TASKS, default=own_recipe)
