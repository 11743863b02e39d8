"""Objects from the JSON of COCO and of labelme: polygons and run lengths, drawn onto pixels."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from inkwash.codecs.picture_files import Array, size_of
from inkwash.errors import UserError
from inkwash.systems import coco
from inkwash.systems.segmentation.rle import decode

FINE = 4  # parts of a pixel, along each side, by which a polygon's share of it is found


class Annotated(NamedTuple):
    """A picture's file, its objects as (class, function that draws its mask (H, W)), later ones on top, and its width
    and height."""

    path: Path
    objects: list[tuple[str, Callable[[], Array]]]
    size: tuple[int, int]


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
    """The pictures of a COCO file, and the names of the classes in the order of their ids; see `coco.read`. Crowds
    are left out, and said. Raises UserError also for polygons outside of the picture."""
    known, found = coco.read(path, content, note), []
    shapes = [one for own in known.owners.values() for one in own]
    if boxes := sum(not one.get("iscrowd") and not one.get("segmentation", True) for one in shapes):
        raise UserError(f"{path}: {boxes} annotations have a box alone, and no outline: leave them out, or draw one")
    if crowds := sum(bool(one.get("iscrowd")) for one in shapes):
        note(f"{path.name}: {crowds} crowds, which are no single objects, are left out")
    for key, file in known.files.items():
        (width, height), objects = known.sizes[key], []
        name = file.name if file.parent == path.parent else f"{file.parent.name}/{file.name}"
        for one in (one for one in known.owners[key] if not one.get("iscrowd")):
            if "segmentation" not in one:
                raise coco.broken(path, KeyError("segmentation"))
            mask = partial(coco_mask, one["segmentation"], height, width, f"{path}, {name}")
            objects.append((known.categories[one["category_id"]], mask))
        found.append(Annotated(file, list(objects), (width, height)))
    return found, list(dict.fromkeys(known.categories.values()))


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
    picture = coco.place(path, str(content["imagePath"]))
    if picture is None:
        raise UserError(f"{path}: its picture {content['imagePath']} is not beside it")
    width, height = size_of(picture)
    shapes: dict[Any, list[Callable[[], Array]]] = {}
    flat: dict[str, int] = {}
    try:
        if content.get("imageWidth") and content.get("imageHeight"):
            coco.check_size(picture, (int(content["imageWidth"]), int(content["imageHeight"])), path)
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
        if not (np.abs(points) < height + width).all():
            raise ValueError("no number, or far outside")
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
