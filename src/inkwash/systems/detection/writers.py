"""Boxes as other tools read them: COCO's JSON, YOLO's text, Pascal VOC's XML, and a table; written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from inkwash.codecs.picture_files import stem_of
from inkwash.systems.detection import voc
from inkwash.systems.detection.annotations import LISTS, Annotations, Box, Picture, named, to_voc, whole
from inkwash.systems.detection.table import COLUMNS
from inkwash.systems.detection.yolo import PARTS
from inkwash.systems.picture_folders import write_csv, write_json
from inkwash.weights.files import atomic

Row = dict[str, Any]


def write(found: Annotations, folder: Path, data: Path, format: str, note: Callable[[str], None]) -> dict[str, Path]:
    """Writes boxes in one of the formats into a folder; the files by their names. data: where the pictures lie. What
    the format cannot hold is said."""
    if found.listed:  # what no list has is learned from
        stems = [stem_of(picture.file.name) for picture in found.pictures]
        found = found._replace(listed={stem: found.listed.get(stem, "train") for stem in stems})
    if format in ("voc", "csv") and (thin := sum(is_thin(box) for one in found.pictures for box in one.boxes)):
        note(f"{thin} boxes, no more than a pixel wide or high, are left out: in {format} they have no area")
        found = keeping(found, lambda box: not is_thin(box))
    boxes = [box for picture in found.pictures for box in picture.boxes]
    crowds, difficult = (sum(getattr(box, flag) for box in boxes) for flag in ("crowd", "difficult"))
    if format in ("yolo", "voc") and crowds:
        note(f"{crowds} crowds, which are no single objects, are left out: {format} has no place for them")
        found = keeping(found, lambda box: not box.crowd)
    if format == "yolo" and difficult:
        note(f"{difficult} boxes are marked as difficult, which yolo has no place for")
    if format in ("voc", "csv") and named([box.label for box in boxes]) != found.classes:
        note(f"the list of the classes is lost: {format} has only those of its boxes, in the order of the alphabet")
    if format != "coco" and found.ids != list(range(1, len(found.ids) + 1)):
        note(f"the ids of the classes, {', '.join(map(str, found.ids[:9]))}, are lost: {format} has none")
    writers = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc, "csv": write_table}
    return writers[format](found, folder, data) | write_lists(found, folder, format)


def write_lists(found: Annotations, folder: Path, format: str) -> dict[str, Path]:
    """Which part a picture belongs to, as the format lists it; COCO, which does not, beside it."""
    files = [one.file for one in found.pictures]
    parts = {part: [file for file in files if found.listed.get(stem_of(file.name)) == part] for part in PARTS}
    if format == "coco":
        rows = [{"name": file.stem, "split": part} for part, files in parts.items() for file in files]
        if rows:
            write_csv(rows, folder / "split.csv")
        return {"split.csv": folder / "split.csv"} if rows else {}
    names, written = voc.LISTS if format == "voc" else LISTS, dict[str, Path]()
    for part, files in parts.items():
        lines = [f"./images/{file.name}" if format == "yolo" else file.stem for file in files]
        if lines:
            write_text("".join(f"{line}\n" for line in lines), folder / names[part])
            top = Path(names[part]).parts[0]
            written[top] = folder / top
    return written


def keeping(found: Annotations, keep: Callable[[Box], bool]) -> Annotations:
    """Those of its boxes."""
    return found._replace(pictures=[one._replace(boxes=[*filter(keep, one.boxes)]) for one in found.pictures])


def is_thin(box: Box) -> bool:
    """Whether, counted as pixels, it would be read as without an area, or as inverted."""
    x0, y0, x1, y1 = to_voc(box.corners)
    return x0 >= x1 or y0 >= y1


def write_coco(found: Annotations, folder: Path, data: Path) -> dict[str, Path]:
    """difficult is a key of its own, which other tools pass over."""
    numbers = dict(zip(found.classes, found.ids, strict=True))
    annotations = list[Row]()
    for image, picture in enumerate(found.pictures, 1):
        for box in picture.boxes:
            x0, y0, x1, y1 = box.corners
            row: Row = {"id": len(annotations) + 1, "image_id": image, "category_id": numbers[box.label]}
            row |= {"bbox": [whole(value) for value in (x0, y0, x1 - x0, y1 - y0)]}
            row |= {"area": whole((x1 - x0) * (y1 - y0)), "iscrowd": int(box.crowd)}
            annotations.append(row | ({"difficult": 1} if box.difficult else {}))
    images = [
        {"id": image, "file_name": name_in(data, one.file), "width": one.size[0], "height": one.size[1]}
        for image, one in enumerate(found.pictures, 1)
    ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    file = folder / "annotations.json"
    write_json({"images": images, "annotations": annotations, "categories": categories}, file)
    return {file.name: file}


def name_in(data: Path, file: Path) -> str:
    """A picture's name as a file beside its data set, or in its folder `images`, would have it."""
    own = file.relative_to(data) if file.is_relative_to(data) else Path(file.name)
    return own.as_posix().removeprefix("images/")


def write_yolo(found: Annotations, folder: Path, data: Path) -> dict[str, Path]:
    for picture in found.pictures:
        rows = [(found.classes.index(box.label), box.corners, None) for box in picture.boxes]
        write_text(yolo_text(rows, picture.size), folder / "labels" / f"{picture.file.stem}.txt")
    parts = [part for part in PARTS if part in found.listed.values()]
    write_data_yaml(found.classes, folder / "data.yaml", parts)
    return {"labels": folder / "labels", "data.yaml": folder / "data.yaml"}


def write_data_yaml(classes: Sequence[str], file: Path, parts: Sequence[str] = ()) -> None:
    """parts: those that have a list; without any all pictures are for training and for validation."""
    names = "".join(f"  {kind}: {json.dumps(name, ensure_ascii=False)}\n" for kind, name in enumerate(classes))
    places = {part: f"{part}.txt" for part in parts} or {"train": "images", "val": "images"}
    write_text(
        "path: .\n" + "".join(f"{part}: {place}\n" for part, place in places.items()) + f"names:\n{names}", file
    )


def yolo_text(rows: Sequence[tuple[int, Sequence[float], float | None]], size: tuple[int, int]) -> str:
    """A line for each (class, corners, probability): class, middle, width and height as shares, and the probability
    where there is one."""
    lines = []
    for kind, (x0, y0, x1, y1), score in rows:
        width, height = size
        shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        words = [str(kind), *(f"{share:.10g}" for share in shares), *([] if score is None else [f"{score:.4f}"])]
        lines.append(" ".join(words) + "\n")
    return "".join(lines)


def write_voc(found: Annotations, folder: Path, data: Path) -> dict[str, Path]:
    for picture in found.pictures:
        rows = [(box.label, box.corners, {"difficult": str(int(box.difficult))}) for box in picture.boxes]
        write_text(voc_xml(picture, rows), folder / "annotations" / f"{picture.file.stem}.xml")
    return {"annotations": folder / "annotations"}


def voc_xml(picture: Picture, rows: Sequence[tuple[str, Sequence[float], dict[str, str]]]) -> str:
    """Of (class, corners, other fields of the object). Corners are whole numbers where they are whole."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = picture.file.name
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*picture.size, 3), strict=True):
        ElementTree.SubElement(size, name).text = str(value)
    for label, corners, fields in rows:
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = label
        for name, text in fields.items():
            ElementTree.SubElement(one, name).text = text
        box = ElementTree.SubElement(one, "bndbox")
        for name, number in zip(("xmin", "ymin", "xmax", "ymax"), to_voc(corners), strict=True):
            ElementTree.SubElement(box, name).text = str(number)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def write_table(found: Annotations, folder: Path, data: Path) -> dict[str, Path]:
    """A picture without objects is a row without a class; columns crowd and difficult where any box is."""
    boxes = [box for picture in found.pictures for box in picture.boxes]
    flags = [flag for flag in ("crowd", "difficult") if any(getattr(box, flag) for box in boxes)]
    rows: list[Row] = []
    for picture in found.pictures:
        for box in picture.boxes:
            row = table_row(picture.file.name, box.label, box.corners)
            rows.append(row | {flag: int(getattr(box, flag)) for flag in flags})
        if not picture.boxes:
            rows.append({"image": picture.file.name})
    write_csv(rows, folder / "boxes.csv", COLUMNS)
    return {"boxes.csv": folder / "boxes.csv"}


def table_row(image: str, label: str, corners: Sequence[float] | np.ndarray) -> Row:
    return {"image": image, "label": label} | dict(zip(COLUMNS[2:], to_voc([*corners]), strict=True))


def write_text(text: str, file: Path) -> None:
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
