"""Pictures and boxes of one's own: found in a folder, checked, and parted into what is learned from and what not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, read_pages, says_of_range, stem_of
from inkwash.errors import UserError
from inkwash.systems import splits
from inkwash.systems.detection import formats
from inkwash.systems.detection.annotations import Note, checked
from inkwash.systems.splits import PARTS, check_group, group_of, read_list
from inkwash.weights.files import digest

SCORES = ("score", "probability")  # what only answers have


class Example(NamedTuple):
    """A picture's file, its width and height; boxes (n, 4) float64, corners in its pixels; kinds (n,) int64, classes
    from 0; crowd and difficult (n,) bool; digest: of the file; group: of `split`."""

    name: str
    file: Path
    size: tuple[int, int]
    boxes: Array
    kinds: Array
    crowd: Array
    difficult: Array
    digest: str
    group: str


class Data(NamedTuple):
    """What a folder holds. ids: of the classes, as COCO's file has them. listed: which part a list gives each name
    to, {} without a list."""

    examples: list[Example]
    classes: list[str]
    ids: list[Any]
    listed: dict[str, str]


def read_data(folder: Path, group: str = "", drop_bad: bool = False, note: Note = lambda _: None) -> Data:
    """Pictures and boxes of a folder, in any of the formats of `formats`. A list, index.csv or split.csv with the
    columns name and split, is followed, or the format's own lists.

    group: a pattern whose first bracket is the slide or patient in a file's name, or a column of the list.
    Classes without any box, such as those that labelImg begins with, are left out, and that is said.
    """
    found = checked(formats.read(folder, note), folder, drop_bad, note)
    if scored := [name for name in SCORES if name in found.others]:
        raise UserError(f"{folder}: boxes with a {scored[0]} are a model's answers, no truth: take them away")
    if not any(picture.boxes for picture in found.pictures):
        raise UserError(f"{folder}: no boxes in any of its {len(found.pictures)} pictures")
    stems = [stem_of(picture.file.name) for picture in found.pictures]
    listed, groups = read_list(folder, group, stems, note)
    listed = listed or {stem: PARTS[part] for stem, part in found.listed.items()}
    listed = {stem: listed.get(stem, "train") for stem in stems} if "table" in listed.values() else {}
    counts = Counter(box.label for picture in found.pictures for box in picture.boxes)
    used = [(name, key) for name, key in zip(found.classes, found.ids, strict=True) if counts[name]]
    classes, ids = [name for name, _ in used], [key for _, key in used]
    if empty := [name for name in found.classes if not counts[name]]:
        note(
            f"{len(empty)} classes have no box, and are left out: {', '.join(empty[:5])}{', ...' * (len(empty) > 5)}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    examples = [
        Example(
            stem,
            picture.file,
            picture.size,
            np.array([box.corners for box in picture.boxes], float).reshape(-1, 4),
            np.array([numbers[box.label] for box in picture.boxes], np.int64),
            np.array([box.crowd for box in picture.boxes], bool),
            np.array([box.difficult for box in picture.boxes], bool),
            digest(picture.file)[:12],
            group_of(stem, group, groups),
        )
        for stem, picture in zip(stems, found.pictures, strict=True)
    ]
    check_group(group, groups, [(one.group, one.name) for one in examples])
    shown = ", ".join(f"{counts[name]} of {name}" for name in classes)
    bare = sum(not picture.boxes for picture in found.pictures)
    note(f"{len(examples)} pictures{f', {bare} of them without objects' * bool(bare)}: {shown}")
    return Data(examples, classes, ids, listed)


def page_of(example: Example, note: Callable[[str], None] = lambda _: None) -> Array:
    """The picture. UserError for a stack."""
    pages = read_pages(example.file)
    if len(pages) > 1:
        raise UserError(
            f"{example.file}: a stack of {len(pages)} slices, which annotations do not tell apart; save slices"
        )
    says_of_range(pages, example.file.name, note)
    return pages[0]


def split(data: Data, folder: Path) -> tuple[list[Example], list[Example], list[Example]]:
    """See `splits.split`. UserError also for a class that is in no picture to learn from, and for choices without any
    object."""
    training, choices, table = splits.split(data.examples, data.listed, folder)
    for number, name in enumerate(data.classes):
        if not any((one.kinds[~one.crowd] == number).any() for one in training):
            raise UserError(
                f"{folder}: class '{name}' is in no picture of the training part; add some, or leave it out"
            )
    if not any(len(one.boxes) for one in choices):
        raise UserError(f"{folder}: none of the {len(choices)} pictures for choices has objects: add some pictures")
    return training, choices, table
