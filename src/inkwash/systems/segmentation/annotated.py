"""Objects from the JSON of COCO and of labelme: polygons and run lengths, drawn onto pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import Array, opened
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
    known, found = coco.read(path, content), []
    shapes = [one for own in known.owners.values() for one in own]
    if crowds := sum(bool(one.get("iscrowd")) for one in shapes):
        note(f"{path.name}: {crowds} crowds, which are no single objects, are left out")
    for key, file in known.files.items():
        (width, height), objects = known.sizes[key], []
        name = file.name if file.parent == path.parent else f"{file.parent.name}/{file.name}"
        for one in known.owners[key]:
            if "segmentation" not in one:
                raise coco.broken(path, KeyError("segmentation"))
            if not one.get("iscrowd"):
                mask = partial(coco_mask, one["segmentation"], height, width, f"{path}, {name}")
                objects.append((known.categories[one["category_id"]], mask))
        found.append(Annotated(file, list(objects), (width, height)))
    return found, [known.categories[key] for key in sorted(known.categories)]


def coco_mask(shape: Any, height: int, width: int, name: str) -> Array:
    """Of run lengths, or of a list of polygons."""
    if not isinstance(shape, dict):
        return draw_all(shape, height, width, name)
    if list(shape.get("size", ())) != [height, width]:
        raise UserError(f"{name}: a mask of {shape.get('size')} for a picture of {height} x {width}")
    return decode(shape["counts"], height, width)


def draw_all(polygons: Sequence[Any], height: int, width: int, name: str) -> Array:
    """The pixels of any of them."""
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        mask |= draw(check_polygon(polygon, height, width, name), height, width)
    return mask


def check_polygon(polygon: Any, height: int, width: int, name: str) -> Array:
    """The corners (n, 2). UserError for fewer than three, and for one clearly outside of the picture."""
    points = np.asarray(polygon, float)
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
    picture = coco.place(path, str(content["imagePath"]).replace("\\", "/"))
    if picture is None:
        raise UserError(f"{path}: its picture {content['imagePath']} is not beside it")
    with opened(picture) as found:
        width, height = found.size
    if content.get("imageWidth"):
        coco.check_size(picture, (int(content["imageWidth"]), int(content["imageHeight"])), path)
    shapes: dict[Any, list[Array]] = {}
    flat: dict[str, int] = {}
    for number, shape in enumerate(content["shapes"]):
        kind, group = str(shape.get("shape_type", "polygon")), shape.get("group_id")
        corners = labelme_corners(kind, np.asarray(shape["points"], float).reshape(-1, 2))
        if corners is None:
            flat[kind] = flat.get(kind, 0) + 1
        else:
            shapes.setdefault((str(shape["label"]), number if group is None else f"group {group}"), []).append(
                corners
            )
    for kind, count in flat.items():
        note(f"{path.name}: {count} shapes of type {kind} have no area, and are left out")
    objects = [
        (name, partial(draw_all, polygons, height, width, str(path))) for (name, _), polygons in shapes.items()
    ]
    return Annotated(picture, list(objects), (width, height))


def labelme_corners(kind: str, points: Array) -> Array | None:
    """A shape as a polygon; None without an area."""
    if kind == "polygon":
        return points
    if kind == "rectangle" and len(points) == 2:
        (a, b), (c, d) = points
        return np.array([[a, b], [c, b], [c, d], [a, d]])
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        corners: Array = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], -1)
        return corners
    return None


def to_labels(found: Annotated, classes: Sequence[str]) -> tuple[Array, Array]:
    """(labels (H, W) int32, kinds (n + 1,) uint8) as `masks.to_objects` makes them."""
    labels, kinds = np.zeros(found.size[::-1], np.int32), [0]
    for name, drawn in found.objects:
        labels[drawn()] = len(kinds)
        kinds.append(classes.index(name) + 1)
    return labels, np.array(kinds, np.uint8)
