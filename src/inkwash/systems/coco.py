"""COCO's JSON: its pictures, what is annotated in them, and what is wrong with it in one line."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from inkwash.codecs.picture_files import size_of
from inkwash.errors import UserError

FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class Content(NamedTuple):
    """The names of the categories by their ids, in the order of these; of each picture by its id the file, width and
    height, and what is annotated in it, as the file has it."""

    categories: dict[Any, str]
    files: dict[Any, Path]
    sizes: dict[Any, tuple[int, int]]
    owners: dict[Any, list[dict[str, Any]]]


def load(path: Path) -> Any:
    """UserError for what is no JSON."""
    try:
        return json.loads(path.read_bytes())  # which sees whether it is UTF-8 or UTF-16
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def is_coco(content: Any) -> bool:
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def several(folder: Path, paths: Sequence[Path], parts: bool = True) -> UserError:
    """parts: whether there may be one for each part."""
    shown, more = (
        ", ".join(path.relative_to(folder).as_posix() for path in paths[:3]),
        ", or name one train, others val",
    )
    return UserError(f"{folder}: several files of annotations: {shown}; leave one there{more * parts}")


def broken(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not COCO's JSON: {error} is missing or wrong")


def flag(value: Any) -> bool:
    """Of 0 or 1, true or false, as a number or as text; False of nothing. ValueError of anything else."""
    text = "" if value is None else str(value).strip().lower()
    if text not in FLAGS:
        raise ValueError(f"{str(value)[:20]!r}, not 0 or 1")
    return FLAGS[text]


def first_twice(names: Iterable[Any]) -> Any:
    """The first that is there more than once; None where there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def by_id(path: Path, rows: Any, what: str) -> dict[Any, Any]:
    """UserError for two of one id, of which the annotations would not say which they mean."""
    if (twice := first_twice(one["id"] for one in rows)) is not None:
        raise UserError(f"{path}: two {what} have the id {twice}; number them anew")
    return {one["id"]: one for one in rows}


def read(path: Path, content: Any, note: Callable[[str], None]) -> Content:
    """The content of a COCO file, whose pictures lie where `place` looks for them. A category that is another's
    supercategory, of which nothing is annotated, is a heading and no class, as Roboflow has them; that is said.

    Raises UserError for missing pictures, two of one name, sizes that differ from the file's, unknown ids, and those
    that are there twice.
    """
    try:
        categories = by_id(path, content.get("categories", []), "categories")
        names = {key: str(categories[key]["name"]) for key in sorted(categories)}
        pictures = {
            key: (str(one["file_name"]), int(one["width"]), int(one["height"]))
            for key, one in by_id(path, content["images"], "pictures").items()
        }
        owners: dict[Any, list[dict[str, Any]]] = {key: [] for key in pictures}
        for one in content["annotations"]:
            if one["image_id"] not in owners:
                raise UserError(
                    f"{path}: annotation {one.get('id')} is of a picture {one['image_id']} that is not listed"
                )
            if one["category_id"] not in names:
                raise UserError(f"{path}: annotation {one.get('id')} has an unknown category {one['category_id']}")
            owners[one["image_id"]].append(one | {"iscrowd": flag(one.get("iscrowd"))})
        above = {one.get("supercategory") for one in categories.values() if one.get("supercategory") != one["name"]}
    except UserError:  # is a ValueError
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken(path, error) from None
    if (twice := first_twice(name for name, *_ in pictures.values())) is not None:
        raise UserError(f"{path}: two pictures are called {twice}; leave one out")
    used = {one["category_id"] for own in owners.values() for one in own}
    if headings := [key for key, name in names.items() if name in above and key not in used]:
        note(f"{path.name}: of {', '.join(names[key] for key in headings)} nothing is annotated: a heading, no class")
    names = {key: name for key, name in names.items() if key not in headings}
    places = {key: place(path, name) for key, (name, *_) in pictures.items()}
    if missing := [pictures[key][0] for key, found in places.items() if found is None]:
        some = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise UserError(
            f"{path}: {len(missing)} of its {len(pictures)} pictures are not beside it, nor in images/: {some}"
        )
    found = {key: file for key, file in places.items() if file is not None}
    if (file := first_twice(found.values())) is not None:
        same = [pictures[key][0] for key, own in found.items() if own == file]
        raise UserError(f"{path}: {same[0]} and {same[1]} are both found as {file}; put each where its name says")
    sizes = {key: (width, height) for key, (_, width, height) in pictures.items()}
    for key, file in found.items():
        check_size(file, sizes[key], path)
    return Content(names, found, sizes, owners)


def place(path: Path, name: str) -> Path | None:
    """Where a picture of an annotation file lies: beside it, in `images` there or one folder up, or in a folder
    called as the file (train2017 for instances_train2017.json) there; by its name, or as an address writes that.
    Nowhere else, for a file that somebody sent may name any."""
    above, called = path.parent.parent, path.stem.removeprefix("instances_")
    beside = (path.parent, path.parent / "images", above / "images", above / "images" / called, above / called)
    for known in map(PureWindowsPath, dict.fromkeys((name, unquote(name)))):  # its parts are those of either system's
        parts = [part for part in known.parts if part not in (known.anchor, "..")]
        for own in (parts, parts[-1:]) if parts else ():
            for folder in (*beside, *[above] * (".." in known.parts)):
                for form in ("NFC", "NFD"):  # as macOS, and as others, write an umlaut
                    file = folder / unicodedata.normalize(form, "/".join(own))
                    if os.path.isfile(file):  # of a name that is too long Path.is_file raises
                        return file
    return None


def check_size(picture: Path, size: tuple[int, int], path: Path) -> None:
    """UserError where a picture, turned as its EXIF says, is not as large as its annotations say."""
    if (found := size_of(picture)) != size:
        said, own = ("{} x {}".format(*one) for one in (size, found))
        raise UserError(f"{path}: {picture.name} is {own} pixels, by the file {said}")
