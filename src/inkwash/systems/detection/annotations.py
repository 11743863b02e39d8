"""What formats of boxes have in common: pictures, their boxes in one way of counting, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, is_picture, stem_of
from inkwash.errors import UserError

Note = Callable[[str], None]
ROUNDING = 1.0  # pixels by which a box may pass the edge, and is cut


class Box(NamedTuple):
    """x0, y0, x1, y1 in pixels from the picture's corner: a box of the whole picture is (0, 0, width, height), so a
    pixel is 1 wide. crowd: a group of objects in one box; difficult: hard to see, as Pascal VOC has it."""

    corners: tuple[float, float, float, float]
    label: str
    crowd: bool = False
    difficult: bool = False


class Picture(NamedTuple):
    """A picture's file, its width and height, and its boxes."""

    file: Path
    size: tuple[int, int]
    boxes: list[Box]


class Annotations(NamedTuple):
    """What a folder holds. ids: of the classes, as COCO's file has them, else from 1. listed: which part the format's
    own lists give a picture's stem to, "train", "val" or "test"; {} without any."""

    pictures: list[Picture]
    classes: list[str]
    ids: list[Any]
    listed: dict[str, str]


def named(labels: Sequence[str]) -> list[str]:
    """The classes of a format that does not list them, in the order of the alphabet."""
    return sorted(set(labels))


def by_stem(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """The pictures of a folder by their stems. UserError for two of one."""
    found: dict[str, Path] = {}
    for file in filter(is_picture, files):
        stem = stem_of(file.name)
        if stem in found:
            one, other = (path.relative_to(folder).as_posix() for path in (found[stem], file))
            raise UserError(f"{folder}: two pictures are called {stem}: {one} and {other}; rename one")
        found[stem] = file
    return found


def counted_from_zero(corners: Sequence[Sequence[float]], note: Note) -> bool:
    """Whether corners are counted from 0, where Pascal VOC counts from 1: where one is 0 they are, and it is said."""
    zero = any(min(box[:2]) < 1 for box in corners)
    if zero:
        note("corners are counted from 0 here, since some are 0; Pascal VOC itself counts from 1")
    return zero


def from_voc(corners: Sequence[float], zero: bool) -> tuple[float, float, float, float]:
    """Pixels xmin to xmax, counted from 1, both in the box; counted from 0 xmax is where the box ends. Where both are
    one pixel, as a slip of the mouse leaves them, there is no area."""
    x0, y0, x1, y1 = map(float, corners)
    left, top = (low if zero or low == high else low - 1 for low, high in ((x0, x1), (y0, y1)))
    return left, top, x1, y1


def to_voc(corners: Sequence[float]) -> list[float | int]:
    """Counted from 1; whole numbers where they are whole."""
    x0, y0, x1, y1 = corners
    return [whole(value) for value in (x0 + 1, y0 + 1, x1, y1)]


def whole(value: float) -> float | int:
    """As short as it can be written: to 1/10,000 of a pixel."""
    rounded = round(float(value), 4)
    return int(rounded) if rounded == int(rounded) else rounded


def checked(found: Annotations, folder: Path, drop: bool, note: Note) -> Annotations:
    """Boxes that pass the edge by up to a pixel are cut there, and it is said. UserError for bad ones: outside of the
    picture, inverted, without an area; with `drop` they are left out, and named."""
    bad, kinds, cut, pictures = list[str](), Counter[str](), 0, list[Picture]()
    for picture in found.pictures:
        ends, good = np.array([*picture.size, *picture.size], float), list[Box]()
        for number, box in enumerate(picture.boxes, 1):
            corners = np.array(box.corners)
            inside = np.clip(corners, 0, ends)
            what = wrong(corners, inside)
            if what:
                kinds[what] += 1
                bad.append(f"{picture.file.name}, box {number} ({box.label})")
            else:
                cut += bool((inside != corners).any())
                x0, y0, x1, y1 = inside.tolist()
                good.append(box._replace(corners=(x0, y0, x1, y1)))
        pictures.append(picture._replace(boxes=good))
    if cut:
        note(f"{cut} boxes pass the edge of their picture by up to a pixel, and are cut there")
    if bad:
        counts = ", ".join(f"{count} {what}" for what, count in kinds.items())
        some = "; ".join(bad[:3]) + "; ..." * (len(bad) > 3)
        text = f"{len(bad)} bad boxes: {counts}: {some}"
        if not drop:
            raise UserError(f"{folder}: {text}; mend them, or leave them out with --drop-bad")
        note(f"{text}; left out")
    return found._replace(pictures=pictures)


def wrong(corners: Array, inside: Array) -> str:
    """What is bad about a box, "" if nothing is; inside: the box, cut at the picture's edge."""
    if not np.isfinite(corners).all():
        return "not finite"
    if (corners[2:] < corners[:2]).any():
        return "inverted"
    if (corners[2:] == corners[:2]).any():
        return "without an area"
    if (abs(inside - corners) > ROUNDING).any() or (inside[2:] <= inside[:2]).any():
        return "outside of their picture"
    return ""


def pictures_of_lists(folder: Path, names: dict[str, str]) -> dict[str, str]:
    """Stems by the part whose list has them. names: of the lists' files below the folder, by part."""
    listed: dict[str, str] = {}
    for part, name in names.items():
        if (file := folder / name).is_file():
            for line in file.read_text(encoding="utf-8-sig").splitlines():
                if name := line.strip():
                    listed[stem_of(name)] = part
    return listed
