"""Objects out of probabilities: people count cells, and do not want one blob."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from inkwash.systems.segmentation.masks import JOINED, regions

Array = np.ndarray
DEPTH = 0.1  # of the way from an edge to a middle: so much deeper must each of two middles be than the neck between


def class_map(probability: Array) -> Array:
    """(K, H, W) -> (H, W) uint8: 0, or the class, from 1, that is likelier than all others and than the background,
    which has what is left of 1."""
    background = (1 - probability.sum(0, keepdims=True)).clip(0, 1)
    found: Array = np.concatenate([background, probability]).argmax(0).astype(np.uint8)
    return found


def distances(labels: Array) -> Array:
    """(H, W) float32: how far each pixel lies from the edge of its object, 1 in the object's middle, 0 outside."""
    found = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            own = labels[box] == number
            depth = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1]
            found[box][own] = (depth / depth.max())[own]
    return found


def find_objects(classes: Array, distance: Array | None, radius: float, smallest: float) -> tuple[Array, Array]:
    """(labels (H, W) int32, kinds (n + 1,) uint8) of a map of classes: each class is flooded from the middles of its
    objects (watershed, Beucher & Lantuejoul 1979), and what is smaller than `smallest` pixels is left out.

    distance: to the edge, as `distances` has it, as a network sees it; None: by the map itself, where two middles
    count as two if the neck between them is clearly narrower than both. radius: of a usual object, in pixels.
    """
    labels, kinds = np.zeros(classes.shape, np.int32), [0]
    for kind in range(1, int(classes.max()) + 1):
        mask = classes == kind
        if not mask.any():
            continue
        own = flooded(mask, distance, radius)
        sizes = np.bincount(own.ravel())
        sizes[0] = 0
        kept = np.flatnonzero(sizes >= max(smallest, 1))
        renumbered = np.zeros(len(sizes), np.int32)
        renumbered[kept] = np.arange(len(kinds), len(kinds) + len(kept))
        labels[mask] = renumbered[own[mask]]
        kinds += [kind] * len(kept)
    return labels, np.array(kinds, np.uint8)


def flooded(mask: Array, distance: Array | None, radius: float) -> Array:
    """The objects of a mask; each region has one at least."""
    from skimage.segmentation import watershed

    own = ndimage.distance_transform_edt(mask) / radius if distance is None else distance
    depth = ndimage.gaussian_filter(own, max(radius / 8, 0.5))  # samples are rough
    middles = regions(maxima(depth, DEPTH) & mask)[0]
    whole, _ = regions(mask)
    without = mask & ~np.isin(whole, np.unique(whole[middles > 0]))  # small ones, of which the distance is not sure
    lone, _ = regions(without)
    markers = np.where(without, lone + int(middles.max()), middles)
    found: Array = watershed(-depth, markers, mask=mask, connectivity=JOINED).astype(np.int32)
    return found


def maxima(depth: Array, height: float) -> Array:
    """Where a landscape rises at least `height` above the highest pass to anything higher."""
    from skimage.morphology import reconstruction

    found: Array = depth - reconstruction(depth - height, depth) >= height * (1 - 1e-6)
    return found


def sizes_of(labels: Array, kinds: Array, classes: int) -> tuple[Array, Array]:
    """(count (K,), area in pixels (K,)) of each class."""
    areas = np.bincount(labels.ravel(), minlength=len(kinds))[: len(kinds)]
    areas[0] = 0
    count = np.bincount(kinds[1:], minlength=classes + 1)[1:]
    area = np.bincount(kinds, weights=areas, minlength=classes + 1)[1:]
    return count, area


def typical(labels: Sequence[Array]) -> tuple[float, float]:
    """(radius, smallest) of many maps: of a circle of the median area, and half the area below which two of a hundred
    objects are, in pixels."""
    areas = np.concatenate([np.bincount(one.ravel())[1:] for one in labels])
    areas = areas[areas > 0]
    return float(np.sqrt(np.median(areas) / np.pi)), float(np.quantile(areas, 0.02) / 2)
