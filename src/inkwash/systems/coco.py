"""COCO's JSON: its pictures, what is annotated in them, and what is wrong with it in one line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from inkwash.codecs.picture_files import size_of
from inkwash.errors import UserError


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
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def is_coco(content: Any) -> bool:
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def broken(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not COCO's JSON: {error} is missing or wrong")


def read(path: Path, content: Any) -> Content:
    """The content of a COCO file, whose pictures lie beside it or in its folder `images`.

    Raises UserError for missing pictures, two of one name, sizes that differ from the file's, and unknown ids.
    """
    try:
        names = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        names = {key: names[key] for key in sorted(names)}
        pictures = {
            one["id"]: (str(one["file_name"]), int(one["width"]), int(one["height"])) for one in content["images"]
        }
        owners: dict[Any, list[dict[str, Any]]] = {key: [] for key in pictures}
        for one in content["annotations"]:
            if one["image_id"] not in owners:
                raise UserError(
                    f"{path}: annotation {one.get('id')} is of a picture {one['image_id']} that is not listed"
                )
            if one["category_id"] not in names:
                raise UserError(f"{path}: annotation {one.get('id')} has an unknown category {one['category_id']}")
            owners[one["image_id"]].append(one)
    except UserError:  # is a ValueError
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken(path, error) from None
    files = [name for name, *_ in pictures.values()]
    if twice := sorted({name for name in files if files.count(name) > 1}):
        raise UserError(f"{path}: two pictures are called {twice[0]}; leave one out")
    places = {key: place(path, name) for key, (name, *_) in pictures.items()}
    if missing := [pictures[key][0] for key, found in places.items() if found is None]:
        some = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise UserError(
            f"{path}: {len(missing)} of its {len(pictures)} pictures are not beside it, nor in images/: {some}"
        )
    found = {key: file for key, file in places.items() if file is not None}
    sizes = {key: (width, height) for key, (_, width, height) in pictures.items()}
    for key, file in found.items():
        check_size(file, sizes[key], path)
    return Content(names, found, sizes, owners)


def place(path: Path, name: str) -> Path | None:
    """Where a picture of an annotation file lies: beside it, in `images` there or one folder up. Nowhere else, for a
    file that somebody sent may name any."""
    known = PureWindowsPath(name)  # its parts are those of either system's paths
    parts = [part for part in known.parts if part not in (known.anchor, "..")]
    above = path.parent.parent
    for own in (parts, parts[-1:]) if parts else ():
        for folder in (path.parent, path.parent / "images", above / "images", *[above] * (".." in known.parts)):
            for form in ("NFC", "NFD"):  # as macOS, and as others, write an umlaut
                if (file := folder / unicodedata.normalize(form, "/".join(own))).is_file():
                    return file
    return None


def check_size(picture: Path, size: tuple[int, int], path: Path) -> None:
    """UserError where a picture, turned as its EXIF says, is not as large as its annotations say."""
    if (found := size_of(picture)) != size:
        said, own = ("{} x {}".format(*one) for one in (size, found))
        raise UserError(f"{path}: {picture.name} is {own} pixels, by the file {said}")
