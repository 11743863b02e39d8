"""The verbs of detection: from requests to results."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from inkwash.codecs.picture_files import Array, stem_of
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.base import Context, Result, recipe
from inkwash.systems.detection import formats, writers
from inkwash.systems.detection.annotations import Picture, checked
from inkwash.systems.detection.drawing import overlay
from inkwash.systems.detection.metrics import to_xywh
from inkwash.systems.detection.model import Detection
from inkwash.systems.detection.request import Convert, Detect
from inkwash.systems.detection.table import COLUMNS
from inkwash.systems.picture_folders import (
    check_all_done,
    pages_of,
    room_on_disk,
    save,
    with_recipe,
    write_csv,
    write_json,
)  # fmt: skip
from inkwash.systems.splits import LISTS, SAME, read_parts
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training

TASKS = {"detection": Task("inkwash.systems.detection.train")}
Row = dict[str, Any]
OVERLAY = re.compile(r"(.+)-overlay(-\d+)?")  # what `detect` writes


def detect(requests: list[Detect], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model, place = context.model(request.model), -1
        rows, results, counts, surest = list[Row](), list[Row](), dict.fromkeys(model.classes, 0), 0.0
        faulty = list[str]()
        pages = pages_of(request.pictures, context, faulty, is_overlay)
        for place, (file, name, page, progress) in enumerate(pages):
            try:
                every = model.detect(page, request.boxes, request.steps, request.seed, request.samples, progress)
            except UserError as error:
                raise UserError(f"{file.name}: {error}") from None
            surest = max(surest, float(every.scores.max(initial=0)))
            found = every.above(request.threshold)
            facts = recipe("detection", "detect", replace(request, pictures=file), model, context)
            facts |= {"runtime": model.runtime}
            with room_on_disk(context):
                made = write_picture(found, page, file.name, model.classes, context.folder / f"{of}-{name}", facts)
            rows += table_rows(found, Path(file.name).name if name == Path(file.name).stem else name, model.classes)
            results += coco_results(found, name, model.config["ids"])
            own = {label: int((found.kinds == kind).sum()) for kind, label in enumerate(model.classes)}
            counts = {label: counts[label] + own[label] for label in counts}
            yield Result(
                of, place, {f"{name}{end}": path for end, path in made.items()}, {"picture": name} | own, facts
            )
        table = {name: context.folder / f"{of}-{name}" for name in ("boxes.csv", "results.json", "data.yaml")}
        with room_on_disk(context):
            write_csv(rows, table["boxes.csv"], (*COLUMNS, "probability"))
            write_json(results, table["results.json"])
            writers.write_data_yaml(model.classes, table["data.yaml"])
        text = in_words(counts, place + 1, surest, request.threshold)
        yield Result(of, None, table, {"text": text}, request.facts())
        check_all_done(faulty)


def is_overlay(file: Path, folder: Path) -> bool:
    """Whether a file is the result of an earlier run, and no picture."""
    ours = OVERLAY.fullmatch(file.stem)
    return ours is not None and file.with_name(f"{ours[1]}{ours[2] or ''}.xml").exists()


def write_picture(
    found: Detection, page: Array, name: str, classes: list[str], target: Path, facts: Row
) -> dict[str, Path]:
    """The files of a picture by their endings; the overlay has the recipe in it."""
    files = {ending: target.with_name(f"{target.name}{ending}") for ending in ("-overlay.png", ".txt", ".xml")}
    size, scores = (page.shape[1], page.shape[0]), found.scores.tolist()
    texts = [f"{classes[kind]} {score:.2f}" for kind, score in zip(found.kinds, scores, strict=True)]
    save(overlay(page, found.boxes, found.kinds, texts), files["-overlay.png"], pnginfo=with_recipe(facts))
    rows = [*zip(found.kinds.tolist(), found.boxes.tolist(), scores, strict=True)]
    writers.write_text(writers.yolo_text(rows, size), files[".txt"])
    objects = [(classes[kind], box, {"difficult": "0", "score": f"{score:.4f}"}) for kind, box, score in rows]
    writers.write_text(writers.voc_xml(Picture(Path(name), size, []), objects), files[".xml"])
    return files


def table_rows(found: Detection, image: str, classes: list[str]) -> list[Row]:
    """A row for each box: corners as Pascal VOC counts them, and the probability; of several samples the share of
    them that have the box, and the standard deviation of its corners."""
    rows = []
    for i, (box, kind, score) in enumerate(zip(found.boxes, found.kinds, found.scores, strict=True)):
        row = writers.table_row(image, classes[kind], box) | {"probability": round(float(score), 4)}
        if found.spread is not None and found.found is not None:
            row["found"] = round(float(found.found[i]), 4)
            row |= {f"{name}_std": round(float(x), 3) for name, x in zip(COLUMNS[2:], found.spread[i], strict=True)}
        rows.append(row)
    return rows


def coco_results(found: Detection, name: str, ids: list[Any]) -> list[Row]:
    """As COCO's evaluation reads them: a picture's id is its name, as a number where it is one, or has COCO's twelve
    digits."""
    image: int | str = name
    if name.isascii() and name.isdigit() and name in (str(int(name)), f"{int(name):012d}"):
        image = int(name)
    return [
        {
            "image_id": image,
            "category_id": ids[kind],
            "bbox": [round(value, 3) for value in to_xywh(box)],
            "score": round(float(score), 5),
        }
        for box, kind, score in zip(found.boxes, found.kinds, found.scores, strict=True)
    ]


def in_words(counts: dict[str, int], pictures: int, surest: float, threshold: float) -> str:
    """What was found, in a sentence."""
    said = ", ".join(f"{count} of {name}" for name, count in counts.items())
    if not any(counts.values()):
        said = f"no box with a probability of {threshold:g} or more; the surest has {surest:.2f}: --threshold says"
    return f"{pictures} picture{'s' * (pictures != 1)}: {said}"


def convert(requests: list[Convert], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        data, target = context.open(request.data), context.folder / str(of)
        if data.is_file():
            raise UserError(f"{data}: a folder of pictures and boxes is needed")

        def note(text: str) -> None:
            context.tell(Note(text))

        found = checked(formats.read(data, note), data, request.drop_bad, note)
        if found.others:
            note(f"not kept of the boxes: {', '.join(found.others)}")
        stems = [stem_of(picture.file.name) for picture in found.pictures]
        parts, _ = read_parts(data, "", stems, note)
        found = found._replace(listed={stem: SAME.get(part, part) for stem, part in parts.items()} or found.listed)
        with room_on_disk(context):
            files = writers.write(found, target, data, request.format, note)
            for name in filter(lambda name: (data / name).is_file(), LISTS):  # which goes before the format's own
                shutil.copyfile(data / name, target / name)
                files[name] = target / name
        boxes = sum(len(picture.boxes) for picture in found.pictures)
        text = (
            f"{boxes} boxes of {len(found.pictures)} pictures as {request.format}; put the pictures in images/ there"
        )
        yield Result(of, None, files, {"text": text}, request.facts())


def own_recipe(data: Path) -> Any:
    from inkwash.systems.detection.train import default_recipe

    return default_recipe(data)


train = partial(run_training, tasks=TASKS, default=own_recipe)
"""Pictures and boxes of one's own."""
