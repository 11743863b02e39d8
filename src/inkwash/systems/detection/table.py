"""Boxes as rows of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inkwash.codecs.picture_files import size_of, stem_of
from inkwash.errors import UserError
from inkwash.systems import coco
from inkwash.systems.detection.annotations import (
    LISTS,
    Annotations,
    Box,
    Note,
    Picture,
    by_stem,
    check_classes,
    counted_from_zero,
    from_voc,
    named,
    others,
    parts_of,
    pictures_of_lists,
    text_of,
)
from inkwash.systems.splits import SEPARATORS, parts_by_name

COLUMNS = ("image", "label", "xmin", "ymin", "xmax", "ymax")
OTHER = {"filename": "image", "class": "label"}  # names of columns in TensorFlow's tables
SUFFIXES = (".csv", ".tsv")
SIZES = {"width": "image width", "height": "image height"}  # which there are beside its `filename`


def body_of(path: Path, errors: str = "strict") -> io.StringIO:
    """Without the line by which Excel is told the separator."""
    text = text_of(path, errors)
    return io.StringIO(text.partition("\n")[2] if text.lower().startswith("sep=") else text, newline="")


def separator_of(path: Path) -> str:
    """What parts the columns of a table of boxes; "" of another file."""
    head = body_of(path, "replace").readline()
    try:
        heads = {own: columns_of(next(csv.reader([head], delimiter=own), [])) for own in SEPARATORS}
    except csv.Error:
        return ""
    return next((own for own, names in heads.items() if {*COLUMNS} <= {*names}), "")


def columns_of(head: Sequence[str]) -> list[str]:
    """As they are called here; where both names of one are there, each keeps its own."""
    names = [name.strip() for name in head]
    other = OTHER | (SIZES if "filename" in names else {})
    return [name if other.get(name) in names else other.get(name, name) for name in names]


def rows_of(path: Path) -> list[tuple[str, dict[str, str]]]:
    """(file and line, row) of a table, but for empty ones. UserError where a row has more values than there are
    columns."""
    rows, separator = [], separator_of(path)
    try:
        reader = csv.reader(body_of(path), delimiter=separator)
        names = columns_of(next(reader))
        if twice := coco.first_twice(name for name in names if name in COLUMNS):
            raise UserError(f"{path}: two columns are called {twice}; leave one")
        for given in reader:
            values = [value.strip() for value in given]
            if len(values) > len(names):
                raise UserError(f"{path}, line {reader.line_num}: {len(values)} values for {len(names)} columns")
            if any(values):
                row = dict.fromkeys(names, "") | dict(zip(names, values, strict=False))
                row |= {name: row[name].replace(",", ".") for name in COLUMNS[2:] if separator != ","}
                rows.append((f"{path}, line {reader.line_num}", row))
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error})") from None
    return rows


def read(folder: Path, files: Sequence[Path], paths: Sequence[Path], note: Note) -> Annotations:
    """A table, or one for each part. A row for each box: picture, class, and its corners as Pascal VOC has them;
    columns `difficult` and `crowd` where there are such. A picture in a row without a class, or in train.txt, val.txt
    or test.txt alone, has no objects."""
    parts = parts_by_name(folder, paths)
    if len(paths) > 1 and not parts:
        raise coco.several(folder, paths)
    known, rows = by_stem(folder, files), dict[str, list[Any]]()
    tables = {path: rows_of(path) for path in paths}
    table = [pair for own in tables.values() for pair in own]
    for where, row in table:
        rows.setdefault(stem_of(row["image"]), []).extend(boxes_of(where, row))
    stems = {parts[path]: [*{stem_of(row["image"]) for _, row in own}] for path, own in tables.items() if parts}
    listed = parts_of(stems, note) if parts else pictures_of_lists(folder, LISTS, note)
    for stem in listed:
        rows.setdefault(stem, [])
    source = paths[0] if len(paths) == 1 else folder
    if missing := [stem for stem in rows if stem not in known]:
        shown = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise UserError(f"{source}: {len(missing)} of its {len(rows)} pictures are not in {folder}: {shown}")
    if lone := sorted(known.keys() - rows.keys()):
        note(f"{len(lone)} pictures have no row, and are left out: {', '.join(lone[:3])}{', ...' * (len(lone) > 3)}")
    for width, height, image in {tuple(row.get(name, "") for name in (*SIZES.values(), "image")) for _, row in table}:
        if width.isdecimal() and height.isdecimal():
            coco.check_size(known[stem_of(image)], (int(width), int(height)), source)
    zero = counted_from_zero([row[0] for own in rows.values() for row in own], note)
    pictures = [
        Picture(known[stem], size_of(known[stem]), [Box(from_voc(corners, zero), *more) for corners, *more in own])
        for stem, own in rows.items()
    ]
    classes = named([box.label for picture in pictures for box in picture.boxes])
    check_classes(classes, source)
    rest = others([row for _, row in table], {*COLUMNS, *SIZES.values(), "crowd", "difficult"})
    return Annotations(pictures, classes, list(range(1, len(classes) + 1)), listed, rest)


def boxes_of(where: str, row: dict[str, str]) -> list[tuple[list[float], str, bool, bool]]:
    """Corners as they are, class, crowd, difficult: none or one, of a row."""
    if row["image"] and not any(row[name] for name in COLUMNS[1:]):
        return []
    if not row["image"] or not row["label"]:
        raise UserError(f"{where}: a box without its {'class' if row['image'] else 'picture'}")
    try:
        corners = [float(row[name]) for name in COLUMNS[2:]]
        crowd, difficult = (coco.flag(row.get(name)) for name in ("crowd", "difficult"))
    except ValueError as error:
        raise UserError(
            f"{where}: numbers are needed for {', '.join(COLUMNS[2:])}, 0 or 1 for flags ({error})"
        ) from None
    return [(corners, row["label"], crowd, difficult)]
