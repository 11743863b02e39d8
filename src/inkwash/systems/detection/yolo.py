"""Boxes as YOLO's tools write them: lines of text for each picture, and a file that names the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inkwash.codecs.picture_files import is_hidden, is_picture, size_of, stem_of
from inkwash.errors import UserError
from inkwash.systems.detection.annotations import (
    LISTS,
    Annotations,
    Box,
    Note,
    Picture,
    by_stem,
    check_classes,
    parts_of,
    pictures_of_lists,
    text_of,
)
from inkwash.weights.files import files_below

PARTS = ("train", "val", "test")
NO_PLACE = ("", "~", "null")  # in YAML
NAMES = ("classes.txt", "obj.names")  # a class a line, as labelImg and Darknet have it


def names_of(path: Path) -> Any:
    """The names of a YOLO data set's classes, a list or a dict; None for another YAML."""
    content = content_of(path)
    return content.get("names") if isinstance(content, dict) else None


def content_of(path: Path) -> Any:
    """All of it as text: `no` and `010` are names of classes as well. UserError for a broken one that has names."""
    text = text_of(path, "replace")
    if "names" not in text:
        return None
    try:
        return yaml.load(text_of(path), Loader=yaml.BaseLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None


def set_of(path: Path) -> dict[str, Any]:
    """What data.yaml says; of a file of names alone, these."""
    if path.name in NAMES:
        return {"names": [line.strip() for line in text_of(path).splitlines() if line.strip()]}
    content: dict[str, Any] = content_of(path)
    return content


def class_names(path: Path, given: Any) -> list[str]:
    """UserError for what is neither a list of names nor names by their numbers from 0."""
    numbered = isinstance(given, dict) and all(str(key).isdecimal() for key in given)
    if numbered and sorted(map(int, given)) != list(range(len(given))):
        raise UserError(
            f"{path}: its names are numbered {sorted(map(int, given))[:9]}; from 0, without gaps, is needed"
        )
    names = [given[key] for key in sorted(given, key=int)] if numbered else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: names: a list of the classes, or a name for each number, is needed")
    names = [name.strip() for name in names]
    check_classes(names, path)
    return names


def read(folder: Path, path: Path, note: Note) -> Annotations:
    """A line for each box: class from 0, then the middle, width and height as shares of the picture's; or the corners
    of a polygon, around which the box lies. A picture without a file of labels has no objects. path: data.yaml, or a
    file of the classes' names, beside which train.txt, val.txt and test.txt may part the pictures."""
    content = set_of(path)
    names = class_names(path, content["names"])
    parts = {
        part: yolo_pictures(folder, path, content, part) for part in PARTS if content.get(part, "") not in NO_PLACE
    }
    files = [file for found in parts.values() for file in found]
    files = list(dict.fromkeys(files)) or pictures_below(folder if path.name in NAMES else path.parent)
    by_stem(folder, files)
    labels = {file: labels_of(file, folder) for file in files}
    missing = [file for file, text in labels.items() if not text.is_file()]
    if len(missing) == len(files):
        raise UserError(f"{path}: none of its {len(files)} pictures has labels; looked for {labels[files[0]]}")
    if missing:
        note(f"{len(missing)} pictures have no file of labels, and are taken for pictures without objects")
    below = {text.parent for text in labels.values() if "labels" in text.parts}
    if lone := sorted({text for place in below for text in place.glob("*.txt")} - {*labels.values()}):
        note(f"{len(lone)} files of labels, such as {lone[0].name}, are of no picture that is read")
    polygons, poses = 0, "kpt_shape" in content
    pictures = []
    for file in files:
        size = size_of(file)
        lines = [] if file in missing else text_of(labels[file]).splitlines()
        rows = [(f"{labels[file]}, line {n}", line.split()) for n, line in enumerate(lines, 1) if line.strip()]
        rows = [(where, words[:5]) for where, words in rows] if poses else rows  # the joints of a pose follow its box
        polygons += sum(len(words) > 6 for _, words in rows)
        pictures.append(Picture(file, size, [box_of(where, words, names, size, path.name) for where, words in rows]))
    if polygons:
        note(f"{polygons} objects are polygons: the boxes around them are taken")
    stems = {part: sorted({stem_of(file.name) for file in found}) for part, found in parts.items()}
    first = stems.get("train")  # of a set that nobody has parted the others are the same
    stems = {part: own for part, own in stems.items() if part == "train" or own != first}
    listed = parts_of(stems, note) if len(stems) > 1 else {}
    if path.name in NAMES:
        listed = pictures_of_lists(path.parent, LISTS, note)
    return Annotations(pictures, names, list(range(1, len(names) + 1)), listed, ["keypoints"] * poses)


def within(folder: Path, path: Path) -> Path | None:
    """The path, where it lies in the folder. Others are not looked at, for a file that somebody sent may name any."""
    own, top = (Path(os.path.abspath(one)) for one in (path, folder))
    return folder / own.relative_to(top) if own.is_relative_to(top) else None


def yolo_pictures(folder: Path, path: Path, content: dict[str, Any], part: str) -> list[Path]:
    """The pictures of a part: folders, or lists of files, below data.yaml's `path`, or beside it; in the folder."""
    places = content[part] if isinstance(content[part], list) else [content[part]]
    found = []
    for place in map(str, places):
        roots = [path.parent / str(content.get("path") or "."), path.parent]
        tries = [root / name for root in roots for name in (place, place.removeprefix("../"))]
        inner = [own for one in tries if (own := within(folder, one))]
        where = next((one for one in inner if os.path.exists(one)), None)
        if where is None:
            raise UserError(
                f"{path}: {part}: {place[:100]} is not there, in {folder}; looked for {str(tries[-1])[:200]}"
            )
        if where.is_dir():
            found += pictures_below(where)
            continue
        for line in filter(None, map(str.strip, text_of(where).splitlines())):
            own = within(folder, where.parent / line)
            if own is None or not os.path.isfile(own):
                raise UserError(f"{where}: {line[:100]} is not there, in {folder}")
            found.append(own)
    return found


def pictures_below(folder: Path) -> list[Path]:
    return [file for file in files_below(folder) if is_picture(file) and not is_hidden(file, folder)]


def labels_of(picture: Path, folder: Path) -> Path:
    """Where YOLO looks for the labels of a picture: the last folder `images`, of those within the data's own, is
    `labels`; else beside it, where labelImg leaves them also in `images`."""
    parts = [*picture.relative_to(folder).parts]
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        parts[place] = "labels"
    path, beside = folder.joinpath(*parts).with_suffix(".txt"), picture.with_suffix(".txt")
    return beside if beside.is_file() and not path.is_file() else path


def box_of(where: str, words: Sequence[str], names: Sequence[str], size: tuple[int, int], source: str) -> Box:
    """source: what names the classes."""
    try:
        kind, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise UserError(f"{where}: not numbers: {' '.join(words)[:60]}") from None
    if len(values) == 5:
        raise UserError(
            f"{where}: a probability after the box: what a model found, to be looked through first; take it away to "
            "learn from it"
        )
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise UserError(f"{where}: {len(words)} numbers; a class, the middle, width and height are needed")
    if not 0 <= kind < len(names):
        raise UserError(f"{where}: class {kind}; {source} names {len(names)}, from 0")
    if max(values) > 2:  # a little beyond 1 a box passes the edge
        raise UserError(f"{where}: {max(values):g}: absolute numbers; YOLO has shares of the picture, from 0 to 1")
    if len(values) == 4:
        x, y, width, height = values
        values = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = ([round(value * side, 4) for value in values[i::2]] for i, side in enumerate(size))
    if len(values) == 4:
        return Box((xs[0], ys[0], xs[1], ys[1]), names[kind])
    x0, y0, x1, y1 = (float(end(side)) for end in (np.min, np.max) for side in (xs, ys))  # min(1, nan) would be 1
    return Box((x0, y0, x1, y1), names[kind])
