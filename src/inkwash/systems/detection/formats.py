"""Boxes as other tools write them, whichever of four formats: found in a folder, and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inkwash.codecs.picture_files import is_hidden, is_picture, stem_of
from inkwash.errors import UserError
from inkwash.systems import coco
from inkwash.systems.detection import table, voc, yolo
from inkwash.systems.detection.annotations import (
    Annotations,
    Box,
    Note,
    Picture,
    check_classes,
    others,
    parts_of,
)
from inkwash.systems.splits import parted_by_folders, parts_by_folder, parts_by_name, some
from inkwash.weights.files import files_below

KEPT = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult"}  # of COCO's annotations


def read(folder: Path, note: Note) -> Annotations:
    """The boxes of a folder, whichever of the four formats they are in. Where no list of the format's own parts the
    pictures, folders called train, val and test do. UserError where there is none, or more than one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: a folder of pictures and boxes is needed")
    files = [file for file in files_below(folder) if not is_hidden(file, folder)]
    found = read_any(folder, files, note)
    if not found.listed:
        listed = parts_by_folder(folder, [picture.file for picture in found.pictures])
        found = found._replace(listed={stem_of(file.name): part for file, part in listed.items()})
        if listed:
            note(parted_by_folders(listed))
    return found


def read_any(folder: Path, files: Sequence[Path], note: Note) -> Annotations:
    content = [(file, coco.load(file)) for file in files if file.suffix.lower() == ".json"]
    of_coco = [pair for pair in content if coco.is_coco(pair[1])]
    yamls = [file for file in files if file.suffix.lower() in (".yaml", ".yml") and yolo.names_of(file)]
    xmls = [
        (file, root) for file in files if file.suffix.lower() == ".xml" and (root := voc.annotation(file)) is not None
    ]
    tables = [file for file in files if file.suffix.lower() in table.SUFFIXES and table.separator_of(file)]
    kinds = {"COCO's JSON": of_coco, "YOLO's data.yaml": yamls, "Pascal VOC's XML": xmls, "a table of boxes": tables}
    there = [kind for kind, found in kinds.items() if found]
    if len(there) > 1:
        raise UserError(f"{folder}: boxes in several formats: {' and '.join(there)}; leave one there")
    if not there and (yamls := [file for file in files if file.name in yolo.NAMES]):
        there = ["names of YOLO's classes"]
    if not there:
        raise UserError(
            f"{folder}: no boxes found for {sum(map(is_picture, files))} pictures; looked for COCO's JSON, YOLO's "
            f"data.yaml with labels/, {' or '.join(yolo.NAMES)}, Pascal VOC's XML, and a CSV of the columns "
            f"{', '.join(table.COLUMNS)}"
        )
    if len(yamls) > 1:
        raise coco.several(folder, yamls, parts=False)
    if of_coco:
        found = read_coco(folder, of_coco, note)
        known = {stem_of(picture.file.name) for picture in found.pictures}
        if lone := sorted({stem_of(file.name) for file in files if is_picture(file)} - known):
            note(f"{some(lone)} have no annotation in the JSON, and are left out")
        return found
    if yamls:
        return yolo.read(folder, yamls[0], note)
    return voc.read(folder, files, xmls, note) if xmls else table.read(folder, files, tables, note)


def read_coco(folder: Path, pairs: Sequence[tuple[Path, Any]], note: Note) -> Annotations:
    """A file, or one for each part, of the same categories."""
    parts = parts_by_name(folder, [path for path, _ in pairs])
    if len(pairs) > 1 and not parts:
        raise coco.several(folder, [path for path, _ in pairs])
    found = {path: read_coco_file(path, content, note) for path, content in pairs}
    (path, first), *rest = found.items()
    for other, own in rest:
        if (own.classes, own.ids) != (first.classes, first.ids):
            raise UserError(f"{other}: other categories, or other ids of them, than {path}; make them the same")
    stems = {
        parts[path]: [stem_of(picture.file.name) for picture in own.pictures] for path, own in found.items() if parts
    }
    return first._replace(
        pictures=[picture for own in found.values() for picture in own.pictures],
        listed=parts_of(stems, note),
        others=sorted({key for own in found.values() for key in own.others}),
    )


def read_coco_file(path: Path, content: Any, note: Note) -> Annotations:
    """bbox is x, y, width, height from the picture's corner. Ids of categories may have gaps."""
    known, pictures = coco.read(path, content, note), []
    for key, file in known.files.items():
        boxes = []
        for one in known.owners[key]:
            try:
                x, y, width, height = (float(value) for value in one["bbox"])
                hard = coco.flag(one.get("difficult"))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{coco.broken(path, error)}, in annotation {one.get('id')}") from None
            label = known.categories[one["category_id"]].strip()
            boxes.append(Box((x, y, x + width, y + height), label, one["iscrowd"], hard))
        pictures.append(Picture(file, known.sizes[key], boxes))
    ids, classes = [*known.categories], [name.strip() for name in known.categories.values()]
    check_classes(classes, path)
    rows = [one for own in known.owners.values() for one in own]
    return Annotations(pictures, classes, ids, {}, others(rows, KEPT))
