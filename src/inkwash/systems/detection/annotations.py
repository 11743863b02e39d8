"""What formats of boxes have in common: pictures, their boxes in one way of counting, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, is_picture, is_writable, stem_of
from inkwash.errors import UserError
from inkwash.systems.coco import first_twice
from inkwash.systems.picture_folders import check_names
from inkwash.systems.splits import some

Note = Callable[[str], None]
ROUNDING = 1.0  # pixels by which a box may pass the edge, and is cut
LONGEST = 200  # letters of a class's name
BOMS = (b"\xff\xfe", b"\xfe\xff")  # with which UTF-16 begins
LISTS = {part: f"{part}.txt" for part in ("test", "val", "train")}  # of a table, and of YOLO without data.yaml
NOTHING = ("", "0", "Unspecified", "None", "[]", "{}", "False")  # what says no more of a box


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
    own lists give a picture's stem to, "train", "val" or "test"; {} without any. others: what the file says of its
    boxes beside these, which is not kept."""

    pictures: list[Picture]
    classes: list[str]
    ids: list[Any]
    listed: dict[str, str]
    others: Sequence[str] = ()


def text_of(path: Path, errors: str = "strict") -> str:
    """UserError for what is neither UTF-8 nor, with its mark, UTF-16."""
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith(BOMS) else "utf-8-sig", errors)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text of UTF-8; save it as UTF-8") from None


def named(labels: Sequence[str]) -> list[str]:
    """The classes of a format that does not list them, in the order of the alphabet."""
    return sorted(set(labels))


def check_classes(names: Sequence[str], path: Path) -> None:
    """UserError for names that not every format can hold, and for two of one."""
    for name in names:
        if not 0 < len(name) <= LONGEST or not is_writable(name):
            raise UserError(
                f"{path}: a class is called {name[:40]!r}: up to {LONGEST} letters that can be written are needed"
            )
    if (twice := first_twice(names)) is not None:
        raise UserError(f"{path}: two categories are called {twice}; rename one")


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
    picture, inverted, without an area; with `drop` they are left out, and named; and for two pictures of one name,
    names that no text can hold, and shares where pixels are needed."""
    check_names(folder, [picture.file.name for picture in found.pictures])
    if (twice := first_twice(stem_of(picture.file.name) for picture in found.pictures)) is not None:
        raise UserError(f"{folder}: two pictures are called {twice}; rename one")
    every = [value for picture in found.pictures for box in picture.boxes for value in box.corners]
    if every and max(every) <= 1 and any(value % 1 for value in every):
        raise UserError(f"{folder}: all corners lie between 0 and 1: shares of a picture; pixels are needed")
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


def pictures_of_lists(folder: Path, names: dict[str, str], note: Note) -> dict[str, str]:
    """Stems by the part whose list has them. names: of the lists' files below the folder, by part."""
    files = {part: folder / name for part, name in names.items()}
    texts = {part: text_of(file) for part, file in files.items() if file.is_file()}
    return parts_of(
        {part: [stem_of(line) for line in text.splitlines() if line.strip()] for part, text in texts.items()}, note
    )


def parts_of(parts: dict[str, list[str]], note: Note) -> dict[str, str]:
    """The part of each stem. What is in several is measured on, and not learned from, and that is said."""
    listed: dict[str, str] = {}
    several = set[str]()
    for part, stems in sorted(parts.items(), key=lambda pair: pair[0] != "train"):
        several |= listed.keys() & {*stems}
        listed |= dict.fromkeys(stems, part)
    if several:
        note(f"{some(sorted(several))} are in several of {', '.join(sorted(parts))}: not learned from")
    return listed


def others(rows: Sequence[dict[Any, Any]], kept: set[str]) -> list[str]:
    """The keys of rows, beside those that are kept, that say anything."""
    return sorted({str(key) for row in rows for key, value in row.items() if key not in kept and says(value)})


def says(value: Any) -> bool:
    return str(value).strip() not in NOTHING
