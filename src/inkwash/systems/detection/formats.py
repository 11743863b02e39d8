"""Boxes as other tools write them: COCO's JSON, YOLO's text, Pascal VOC's XML, and a table; read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from inkwash.codecs.picture_files import is_hidden, is_picture, size_of, stem_of
from inkwash.errors import UserError
from inkwash.systems import coco
from inkwash.systems.detection.annotations import (
    Annotations,
    Box,
    Note,
    Picture,
    by_stem,
    counted_from_zero,
    from_voc,
    named,
    pictures_of_lists,
)
from inkwash.systems.splits import some
from inkwash.weights.files import files_below

COLUMNS = ("image", "label", "xmin", "ymin", "xmax", "ymax")
OTHER = {"filename": "image", "class": "label"}  # names of columns in TensorFlow's tables
LISTS = {part: f"{part}.txt" for part in ("test", "val", "train")}
VOC_LISTS = {part: f"ImageSets/Main/{part}.txt" for part in ("test", "val", "train")}
PARTS = ("train", "val", "test")


def read(folder: Path, note: Note) -> Annotations:
    """The boxes of a folder, whichever of the four formats they are in. UserError where there is none, or more than
    one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: a folder of pictures and boxes is needed")
    files = [file for file in files_below(folder) if not is_hidden(file, folder)]
    content = [(file, coco.load(file)) for file in files if file.suffix.lower() == ".json"]
    of_coco = [pair for pair in content if coco.is_coco(pair[1])]
    yamls = [file for file in files if file.suffix.lower() in (".yaml", ".yml") and names_of(file)]
    xmls = [
        (file, root) for file in files if file.suffix.lower() == ".xml" and (root := annotation(file)) is not None
    ]
    tables = [file for file in files if file.suffix.lower() == ".csv" and is_table(file)]
    kinds = {"COCO's JSON": of_coco, "YOLO's data.yaml": yamls, "Pascal VOC's XML": xmls, "a table of boxes": tables}
    there = [kind for kind, found in kinds.items() if found]
    if len(there) > 1:
        raise UserError(f"{folder}: boxes in several formats: {' and '.join(there)}; leave one there")
    if not there:
        raise UserError(
            f"{folder}: no boxes found for {sum(map(is_picture, files))} pictures; looked for COCO's JSON, YOLO's "
            f"data.yaml with labels/, Pascal VOC's XML, and a CSV of the columns {', '.join(COLUMNS)}"
        )
    for several in (of_coco, yamls, tables):
        if len(several) > 1:
            paths = [one[0] if isinstance(one, tuple) else one for one in several]
            shown = ", ".join(path.name for path in paths[:3])
            raise UserError(f"{folder}: several files of annotations: {shown}; leave one there")
    if of_coco:
        found = read_coco(*of_coco[0])
        known = {stem_of(picture.file.name) for picture in found.pictures}
        if lone := sorted({stem_of(file.name) for file in files if is_picture(file)} - known):
            note(f"{some(lone)} have no annotation in the JSON, and are left out")
        return found
    if yamls:
        return read_yolo(yamls[0], note)
    return read_voc(folder, files, xmls, note) if xmls else read_table(folder, files, tables[0], note)


def read_coco(path: Path, content: Any) -> Annotations:
    """bbox is x, y, width, height from the picture's corner. Ids of categories may have gaps."""
    known, pictures = coco.read(path, content), []
    for key, file in known.files.items():
        boxes = []
        for one in known.owners[key]:
            try:
                x, y, width, height = (float(value) for value in one["bbox"])
            except (KeyError, TypeError, ValueError) as error:
                raise coco.broken(path, error) from None
            label, crowd = known.categories[one["category_id"]], bool(one.get("iscrowd"))
            boxes.append(Box((x, y, x + width, y + height), label, crowd, bool(one.get("difficult"))))
        pictures.append(Picture(file, known.sizes[key], boxes))
    ids, classes = [*known.categories], [*known.categories.values()]
    if len(set(classes)) < len(classes):
        raise UserError(f"{path}: two categories are called {max(classes, key=classes.count)}; rename one")
    return Annotations(pictures, classes, ids, {})


def names_of(path: Path) -> Any:
    """The names of a YOLO data set's classes, a list or a dict; None for another YAML."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return content.get("names") if isinstance(content, dict) else None


def read_yolo(path: Path, note: Note) -> Annotations:
    """A line for each box: class from 0, then the middle, width and height as shares of the picture's; or the corners
    of a polygon, around which the box lies. A picture without a file of labels has no objects."""
    content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    given = content["names"]
    names = [str(given[key]) for key in sorted(given)] if isinstance(given, dict) else [str(name) for name in given]
    if isinstance(given, dict) and sorted(given) != list(range(len(given))):
        raise UserError(f"{path}: its names are numbered {sorted(given)[:9]}; from 0, without gaps, is needed")
    parts = {part: yolo_pictures(path, content, part) for part in PARTS if content.get(part)}
    files = [file for found in parts.values() for file in found]
    files = list(dict.fromkeys(files)) or pictures_below(path.parent)
    by_stem(path.parent, files)
    labels = {file: labels_of(file) for file in files}
    missing = [file for file, text in labels.items() if not text.is_file()]
    if len(missing) == len(files):
        raise UserError(f"{path}: none of its {len(files)} pictures has labels; looked for {labels[files[0]]}")
    if missing:
        note(f"{len(missing)} pictures have no file of labels, and are taken for pictures without objects")
    polygons = 0
    pictures = []
    for file in files:
        size = size_of(file)
        lines = [] if file in missing else labels[file].read_text(encoding="utf-8-sig").splitlines()
        rows = [(f"{labels[file]}, line {n}", line.split()) for n, line in enumerate(lines, 1) if line.strip()]
        polygons += sum(len(words) > 6 for _, words in rows)
        pictures.append(Picture(file, size, [yolo_box(where, words, names, size) for where, words in rows]))
    if polygons:
        note(f"{polygons} objects are polygons: the boxes around them are taken")
    sets = {part: set(found) for part, found in parts.items()}
    apart = len(sets) > 1 and not set.intersection(*sets.values())
    listed = {stem_of(file.name): part for part, found in parts.items() for file in found} if apart else {}
    return Annotations(pictures, names, list(range(1, len(names) + 1)), listed)


def yolo_pictures(path: Path, content: dict[str, Any], part: str) -> list[Path]:
    """The pictures of a part: folders, or lists of files, below data.yaml's `path`, or beside it."""
    places = content[part] if isinstance(content[part], list) else [content[part]]
    found = []
    for place in map(str, places):
        roots = [path.parent / str(content.get("path") or "."), path.parent]
        tries = [root / name for root in roots for name in (place, place.removeprefix("../"))]
        where = next((one for one in tries if one.exists()), None)
        if where is None:
            raise UserError(f"{path}: {part}: {place} is not there; looked for {tries[-1]}")
        if where.is_dir():
            found += pictures_below(where)
            continue
        for line in filter(None, map(str.strip, where.read_text(encoding="utf-8-sig").splitlines())):
            own = where.parent / line
            if not own.is_file():
                raise UserError(f"{where}: {line} is not there")
            found.append(own)
    return found


def pictures_below(folder: Path) -> list[Path]:
    return [file for file in files_below(folder) if is_picture(file) and not is_hidden(file, folder)]


def labels_of(picture: Path) -> Path:
    """Where YOLO looks for the labels of a picture: the last folder `images` is `labels`; else beside it."""
    parts = [*picture.parts]
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        parts[place] = "labels"
    return Path(*parts).with_suffix(".txt")


def yolo_box(where: str, words: Sequence[str], names: Sequence[str], size: tuple[int, int]) -> Box:
    try:
        kind, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise UserError(f"{where}: not numbers: {' '.join(words)[:60]}") from None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise UserError(f"{where}: {len(words)} numbers; a class, the middle, width and height are needed")
    if not 0 <= kind < len(names):
        raise UserError(f"{where}: class {kind}; data.yaml names {len(names)}, from 0")
    if max(values) > 2:  # a little beyond 1 a box passes the edge
        raise UserError(f"{where}: {max(values):g}: absolute numbers; YOLO has shares of the picture, from 0 to 1")
    if len(values) == 4:
        x, y, width, height = values
        values = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = ([round(value * side, 4) for value in values[i::2]] for i, side in enumerate(size))
    if len(values) == 4:
        return Box((xs[0], ys[0], xs[1], ys[1]), names[kind])
    return Box((min(xs), min(ys), max(xs), max(ys)), names[kind])


def annotation(path: Path) -> Any:
    """The root of a file of Pascal VOC's; None for another XML."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    return root if root.tag == "annotation" else None


def read_voc(folder: Path, files: Sequence[Path], xmls: Sequence[Any], note: Note) -> Annotations:
    """xmin to xmax are pixels, counted from 1; see `counted_from_zero`."""
    known = by_stem(folder, files)
    found = []
    for path, root in xmls:
        name = (root.findtext("filename") or "").strip()
        file = coco.place(path, name) if name else None
        file = file or known.get(stem_of(name or path.stem)) or known.get(stem_of(path.stem))
        if file is None:
            raise UserError(f"{path}: its picture {name or path.stem} is nowhere in {folder}")
        size = tuple(int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        if all(size):
            coco.check_size(file, (size[0], size[1]), path)
        rows = [voc_object(one, path) for one in root.iter("object")]
        found.append((file, size_of(file), rows))
    zero = counted_from_zero([row[0] for *_, rows in found for row in rows], note)
    pictures = [
        Picture(file, size, [Box(from_voc(corners, zero), label, False, hard) for corners, label, hard in rows])
        for file, size, rows in found
    ]
    stems = [stem_of(picture.file.name) for picture in pictures]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise UserError(f"{folder}: {twice[0]} has two files of annotations; leave one there")
    lone = known.keys() - set(stems)
    if lone:
        note(f"{len(lone)} pictures have no annotation, and are left out: {', '.join(sorted(lone)[:3])}")
    classes = named([box.label for picture in pictures for box in picture.boxes])
    return Annotations(pictures, classes, list(range(1, len(classes) + 1)), pictures_of_lists(folder, VOC_LISTS))


def voc_object(one: Any, path: Path) -> tuple[list[float], str, bool]:
    """Corners as they are, class, difficult."""
    try:
        corners = [float(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        label, hard = one.findtext("name").strip(), int(one.findtext("difficult") or 0)
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: an object without a name, or without the four numbers of its box") from None
    return corners, label, bool(hard)


def is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error):
        return False
    return {*COLUMNS} <= {OTHER.get(name.strip(), name.strip()) for name in head}


def read_table(folder: Path, files: Sequence[Path], path: Path, note: Note) -> Annotations:
    """A row for each box: picture, class, and its corners as Pascal VOC has them; columns `difficult` and `crowd`
    where there are such. A picture in a row without a class, or in train.txt, val.txt or test.txt alone, has no
    objects."""
    known, rows = by_stem(folder, files), dict[str, list[Any]]()
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, given in enumerate(csv.DictReader(file), 2):
            row = {
                OTHER.get(name.strip(), name.strip()): (value or "").strip() for name, value in given.items() if name
            }
            own = rows.setdefault(stem_of(row["image"]), [])
            if not row["label"]:
                continue
            try:
                corners = [float(row[name]) for name in COLUMNS[2:]]
                flags = [bool(int(row.get(name) or 0)) for name in ("crowd", "difficult")]
            except ValueError:
                raise UserError(f"{path}, line {number}: numbers are needed for {', '.join(COLUMNS[2:])}") from None
            own.append((corners, row["label"], *flags))
    listed = pictures_of_lists(folder, LISTS)
    for stem in listed:
        rows.setdefault(stem, [])
    if missing := [stem for stem in rows if stem not in known]:
        shown = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise UserError(f"{path}: {len(missing)} of its {len(rows)} pictures are not in {folder}: {shown}")
    if lone := sorted(known.keys() - rows.keys()):
        note(f"{len(lone)} pictures have no row, and are left out: {', '.join(lone[:3])}{', ...' * (len(lone) > 3)}")
    zero = counted_from_zero([row[0] for own in rows.values() for row in own], note)
    pictures = [
        Picture(known[stem], size_of(known[stem]), [Box(from_voc(corners, zero), *more) for corners, *more in own])
        for stem, own in rows.items()
    ]
    classes = named([box.label for picture in pictures for box in picture.boxes])
    return Annotations(pictures, classes, list(range(1, len(classes) + 1)), listed)
