"""Objects from the JSON of COCO and of labelme: polygons and run lengths, drawn onto pixels."""

from __future__ import annotations

import io
import json
import unicodedata
from base64 import b64decode
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.segmentation.formats import Array, size_of
from inkwash.systems.segmentation.rle import decode

FINE = 4  # parts of a pixel, along each side, by which a polygon's share of it is found


class Annotated(NamedTuple):
    """A picture's file, its objects as (class, function that draws its mask (H, W)), later ones on top, and its width
    and height."""

    path: Path
    objects: list[tuple[str, Callable[[], Array]]]
    size: tuple[int, int]


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


def is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def draw(polygon: Sequence[float] | Array, height: int, width: int) -> Array:
    """The pixels (height, width) of which a polygon, x and y from the picture's corner, covers half or more of 4 x 4
    parts."""
    from skimage.draw import polygon2mask

    points = np.asarray(polygon, float).reshape(-1, 2)
    left, top = np.floor(points.min(0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int), (width, height))
    mask = np.zeros((height, width), bool)
    if right > left and bottom > top:
        shape = (bottom - top, right - left)
        fine = polygon2mask([FINE * side for side in shape], ((points - (left, top)) * FINE - 0.5)[:, ::-1])
        share = fine.reshape(shape[0], FINE, shape[1], FINE).sum((1, 3))
        mask[top:bottom, left:right] = 2 * share >= FINE**2
    return mask


def read_coco(path: Path, content: Any, note: Callable[[str], None]) -> tuple[list[Annotated], list[str]]:
    """The pictures of a COCO file, which lie beside it or in its folder `images`, and the names of the classes in the
    order of their ids. Crowds are left out, and said.

    Raises UserError for missing pictures, two of one name, sizes that differ from the file's, unknown ids, and
    polygons outside of the picture.
    """
    try:
        names = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        pictures = {
            one["id"]: (str(one["file_name"]), int(one["height"]), int(one["width"])) for one in content["images"]
        }
        owners: dict[Any, list[tuple[str, Any]]] = {key: [] for key in pictures}
        crowds = boxes = 0
        for one in content["annotations"]:
            if one["image_id"] not in owners:
                raise UserError(
                    f"{path}: annotation {one.get('id')} is of a picture {one['image_id']} that is not listed"
                )
            if one["category_id"] not in names:
                raise UserError(f"{path}: annotation {one.get('id')} has an unknown category {one['category_id']}")
            if one.get("iscrowd"):
                crowds += 1
            else:
                owners[one["image_id"]].append((names[one["category_id"]], one["segmentation"]))
                boxes += not one["segmentation"]
        ordered = [names[key] for key in sorted(names)]
    except UserError:  # is a ValueError
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not COCO's JSON: {error} is missing or wrong") from None
    if boxes:
        raise UserError(f"{path}: {boxes} annotations have a box alone, and no outline: leave them out, or draw one")
    if crowds:
        note(f"{path.name}: {crowds} crowds, which are no single objects, are left out")
    files = [name for name, *_ in pictures.values()]
    if twice := sorted({name for name in files if files.count(name) > 1}):
        raise UserError(f"{path}: two pictures are called {twice[0]}; leave one out")
    places = {key: place(path, name) for key, (name, *_) in pictures.items()}
    if missing := [pictures[key][0] for key, found in places.items() if found is None]:
        some = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise UserError(
            f"{path}: {len(missing)} of its {len(pictures)} pictures are not beside it, nor in images/: {some}"
        )
    found = []
    for key, (name, height, width) in pictures.items():
        check_size(places[key], (width, height), path)
        objects = [(kind, partial(coco_mask, shape, height, width, f"{path}, {name}")) for kind, shape in owners[key]]
        found.append(Annotated(places[key], objects, (width, height)))  # type: ignore[arg-type]
    return found, list(dict.fromkeys(ordered))


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


def check_size(picture: Path | None, size: tuple[int, int], path: Path) -> None:
    """UserError where a picture, turned as its EXIF says, is not as large as its annotations say."""
    assert picture is not None
    if (found := size_of(picture)) != size:
        said, own = ("{} x {}".format(*one) for one in (size, found))
        raise UserError(f"{path}: {picture.name} is {own} pixels, by the file {said}")


def coco_mask(shape: Any, height: int, width: int, name: str) -> Array:
    """Of run lengths, or of a list of polygons."""
    if isinstance(shape, list):
        return draw_all(shape, height, width, name)
    try:
        if list(shape["size"]) != [height, width]:
            raise UserError(f"a mask of {shape['size']} for a picture of {height} x {width}")
        return decode(shape["counts"], height, width)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{name}: a mask that is neither polygons nor run lengths with a size; write it again"
        ) from None


def draw_all(polygons: Sequence[Any], height: int, width: int, name: str) -> Array:
    """The pixels of any of them."""
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        mask |= draw(check_polygon(polygon, height, width, name), height, width)
    return mask


def check_polygon(polygon: Any, height: int, width: int, name: str) -> Array:
    """The corners (n, 2). UserError for fewer than three, and for one clearly outside of the picture."""
    try:
        points = np.asarray(polygon, float)
    except (TypeError, ValueError):
        raise UserError(f"{name}: a polygon of what is no number: {str(polygon)[:60]}") from None
    if not np.isfinite(points).all():
        raise UserError(f"{name}: a polygon of what is no number")
    if points.size % 2 or points.size < 6:
        raise UserError(f"{name}: a polygon of {points.size / 2:g} corners; at least 3 are needed")
    points = points.reshape(-1, 2)
    outside = (points < -1).any() or (points > np.array([width, height]) + 1).any()
    if outside:
        x, y = points[((points < -1) | (points > np.array([width, height]) + 1)).any(1)][0]
        raise UserError(f"{name}: a corner at {x:g}, {y:g} lies outside of the {width} x {height} pixels")
    return points


def read_labelme(path: Path, content: Any, note: Callable[[str], None]) -> Annotated:
    """One picture of labelme; shapes of one group_id are one object, those without an area are left out, and said."""
    picture = place(path, str(content["imagePath"]))
    if picture is None:
        raise UserError(f"{path}: its picture {content['imagePath']} is not beside it")
    width, height = size_of(picture)
    shapes: dict[Any, list[Callable[[], Array]]] = {}
    flat: dict[str, int] = {}
    try:
        if content.get("imageWidth") and content.get("imageHeight"):
            check_size(picture, (int(content["imageWidth"]), int(content["imageHeight"])), path)
        for number, shape in enumerate(content["shapes"]):
            kind, group = str(shape.get("shape_type") or "polygon"), shape.get("group_id")
            points = np.asarray(shape["points"], float).reshape(-1, 2)
            corners = labelme_corners(kind, points, width, height)
            if corners is None:
                flat[kind] = flat.get(kind, 0) + 1
                continue
            drawn = partial(draw_all, [corners], height, width, str(path))
            if kind == "mask":
                drawn = partial(labelme_mask, shape["mask"], points, height, width, str(path))
            key = str(shape["label"]), number if group is None else f"group {group}"
            shapes.setdefault(key, []).append(drawn)
    except UserError:  # is a ValueError
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not labelme's JSON: {error} is missing or wrong") from None
    for kind, count in flat.items():
        note(f"{path.name}: {count} shapes of type {kind} have no area, and are left out")
    objects = [(name, partial(union, pieces)) for (name, _), pieces in shapes.items()]
    return Annotated(picture, list(objects), (width, height))


def union(pieces: Sequence[Callable[[], Array]]) -> Array:
    """The pixels of any of them."""
    mask = pieces[0]()
    for piece in pieces[1:]:
        mask |= piece()
    return mask


def labelme_mask(mask: str, points: Array, height: int, width: int, name: str) -> Array:
    """A shape of type mask: a PNG in base64 from the first of its points, a pixel's number, to the second."""
    try:
        own = np.asarray(Image.open(io.BytesIO(b64decode(mask)))) > 0
        (left, top), (right, bottom) = points.astype(int)
        found = np.zeros((height, width), bool)
        found[top : bottom + 1, left : right + 1] = own
    except (OSError, SyntaxError, TypeError, ValueError):
        raise UserError(f"{name}: a mask that cannot be read, or that lies outside of the picture") from None
    return found


def labelme_corners(kind: str, points: Array, width: int, height: int) -> Array | None:
    """A shape as a polygon, a circle as much of it as lies in the picture; None without an area."""
    if kind in ("line", "linestrip", "point", "points"):
        return None
    if kind == "rectangle" and len(points) == 2:
        (a, b), (c, d) = points
        return np.array([[a, b], [c, b], [c, d], [a, d]])
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        corners: Array = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], -1)
        return corners.clip(0, (width, height))
    return points


def to_labels(found: Annotated, classes: Sequence[str]) -> tuple[Array, Array]:
    """(labels (H, W) int32, kinds (n + 1,) uint8) as `masks.to_objects` makes them, without objects that others hide,
    or of which no pixel is half."""
    labels, kinds = np.zeros(found.size[::-1], np.int32), [0]
    for name, drawn in found.objects:
        labels[drawn()] = len(kinds)
        kinds.append(classes.index(name) + 1)
    seen = np.union1d(labels, 0)
    return np.searchsorted(seen, labels).astype(np.int32), np.array(kinds, np.uint8)[seen]
