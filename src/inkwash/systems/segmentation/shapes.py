"""Outlines of objects along the edges of their pixels, so that what is drawn from them is the mask again: GeoJSON and
ImageJ's ROIs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from inkwash.errors import UserError

Array = np.ndarray
Ring = list[tuple[int, int]]
ROI_VERSION, TRACED = 227, 8
FARTHEST, MOST_CORNERS = 2**15 - 1, 2**16 - 1  # what a ROI's 16 bits hold


def rings(mask: Array) -> list[Ring]:
    """Closed outlines (x, y) of a mask (H, W), corners only, the first again at the end: those of regions go round so
    that their area by the shoelace formula is above 0, those of holes below."""
    padded = np.pad(np.asarray(mask, bool), 1).astype(np.int8)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    down = np.diff(padded, axis=1)  # an edge between columns: from the top corner to the bottom one, or back
    across = np.diff(padded, axis=0)
    for (y, x), value in zip(np.argwhere(down).tolist(), down[down != 0].tolist(), strict=True):
        a, b = (x, y - 1), (x, y)
        start, end = (b, a) if value > 0 else (a, b)
        steps.setdefault(start, []).append(end)
    for (y, x), value in zip(np.argwhere(across).tolist(), across[across != 0].tolist(), strict=True):
        a, b = (x - 1, y), (x, y)
        start, end = (a, b) if value > 0 else (b, a)
        steps.setdefault(start, []).append(end)
    found = []
    while steps:
        start = next(iter(steps))
        ring = [start]
        while len(ring) < 2 or ring[-1] != start:
            ring.append(turn(ring, steps))
        found.append(corners(ring))
    return found


def turn(ring: Ring, steps: dict[tuple[int, int], list[tuple[int, int]]]) -> tuple[int, int]:
    """The next corner, taken out of `steps`. Where two pixels touch at a corner alone, the way stays with its own."""
    here = ring[-1]
    ends = steps[here]
    chosen = 0
    if len(ends) > 1 and len(ring) > 1:
        dx, dy = here[0] - ring[-2][0], here[1] - ring[-2][1]
        sides = [dx * (end[1] - here[1]) - dy * (end[0] - here[0]) for end in ends]
        chosen = sides.index(max(sides))
    end = ends.pop(chosen)
    if not ends:
        del steps[here]
    return end


def corners(ring: Ring) -> Ring:
    """Without points on a straight line."""
    points = ring[:-1]
    kept = [
        point
        for before, point, after in zip([points[-1], *points[:-1]], points, [*points[1:], points[0]], strict=True)
        if (point[0] - before[0]) * (after[1] - point[1]) != (point[1] - before[1]) * (after[0] - point[0])
    ]
    return [*kept, kept[0]]


def area(ring: Ring) -> float:
    """By the shoelace formula; below 0 the other way round."""
    x, y = np.array(ring, float).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def polygons(mask: Array) -> list[list[Ring]]:
    """Regions of a mask, each as its outline and those of its holes."""
    outer = [[ring] for ring in rings(mask) if area(ring) > 0]
    holes = [ring for ring in rings(mask) if area(ring) < 0]
    for hole in holes:
        owner = min((one for one in outer if holds(one[0], hole)), key=lambda one: area(one[0]))
        owner.append(hole)
    return outer


def holds(ring: Ring, hole: Ring) -> bool:
    """Whether a hole lies within an outline: a point just inside its first corner's pixel does."""
    xs, ys = np.array(hole, float).T
    x, y = xs[ys == ys.min()].min() + 0.5, ys.min() + 0.5
    crossings = 0
    for (ax, ay), (bx, by) in pairwise(ring):
        crossings += ax == bx and ax > x and min(ay, by) < y < max(ay, by)
    return crossings % 2 == 1


def objects_of(labels: Array) -> list[tuple[int, Array, tuple[int, int]]]:
    """(number, mask cut out, (x, y) of its corner) of each object."""
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            found.append((number, labels[box] == number, (int(box[1].start), int(box[0].start))))
    return found


def moved(ring: Ring, corner: tuple[int, int]) -> Ring:
    return [(x + corner[0], y + corner[1]) for x, y in ring]


def to_geojson(labels: Array, kinds: Array, classes: Sequence[str], scores: Array) -> dict[str, Any]:
    """A FeatureCollection as QuPath writes and reads it: pixels from the picture's corner."""
    features = []
    for number, mask, corner in objects_of(labels):
        parts = [[moved(ring, corner) for ring in part] for part in polygons(mask)]
        single = len(parts) == 1
        geometry = {"type": "Polygon" if single else "MultiPolygon", "coordinates": parts[0] if single else parts}
        facts = {"objectType": "annotation", "classification": {"name": classes[kinds[number] - 1]}}
        facts |= {"name": str(number), "measurements": {"probability": round(float(scores[number - 1]), 4)}}
        features.append({"type": "Feature", "id": str(number), "geometry": geometry, "properties": facts})
    return {"type": "FeatureCollection", "features": features}


def to_roi(ring: Ring, name: str) -> bytes:
    """An outline as a file of ImageJ's: version 227, traced, name in the second header; numbers high byte first."""
    xs, ys = (np.array(axis) for axis in zip(*ring[:-1], strict=True))
    left, top, right, bottom = int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())
    if max(right, bottom) > FARTHEST or len(xs) > MOST_CORNERS:
        raise UserError(
            f"object {name} reaches to {right}, {bottom} with {len(xs)} corners; ImageJ's ROIs hold coordinates to "
            f"{FARTHEST} and {MOST_CORNERS} corners: take --geojson instead of --rois"
        )
    head = struct.pack(">4sHBBhhhhH", b"Iout", ROI_VERSION, TRACED, 0, top, left, bottom, right, len(xs))
    points = np.concatenate([xs - left, ys - top]).astype(">i2").tobytes()
    second = 64 + len(points)
    head = head.ljust(60, b"\0") + struct.pack(">i", second)
    text = name.encode("utf-16-be")
    header2 = struct.pack(">iiiiii", 0, 0, 0, 0, second + 64, len(name)).ljust(64, b"\0")
    return head + points + header2 + text


def to_rois(labels: Array) -> list[tuple[str, bytes]]:
    """(name, file) of the outlines of each object, the largest of each: a ROI of this type has no holes."""
    found = []
    for number, mask, corner in objects_of(labels):
        ring = max(rings(mask), key=area)
        found.append((f"{number:05d}", to_roi(moved(ring, corner), str(number))))
    return found
