"""How good masks are: of pixels, of edges, of objects, of probabilities, and of samples as a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

Array = np.ndarray
UNSURE = 0.05  # of the pixels, those that are least sure


def iou(found: Array, truth: Array, classes: int) -> float:
    """The mean over classes of |A and B| / |A or B| of maps (H, W); of a class that is in neither 1."""
    return float(np.mean([_iou(found == kind, truth == kind) for kind in range(1, classes + 1)]))


def _iou(a: Array, b: Array) -> float:
    either = int((a | b).sum())
    return float((a & b).sum() / either) if either else 1.0


def dice(found: Array, truth: Array, classes: int) -> float:
    """The mean over classes of 2 |A and B| / (|A| + |B|); of a class that is in neither 1."""
    overlaps = [_iou(found == kind, truth == kind) for kind in range(1, classes + 1)]
    return float(np.mean([2 * value / (1 + value) for value in overlaps]))


def boundary_f(found: Array, truth: Array, radius: float) -> float:
    """The F-score of edges of masks (H, W): a pixel of one edge counts if one of the other is within `radius` pixels.
    Two masks without an edge agree."""
    edges = [edge(mask) for mask in (found, truth)]
    if not (edges[0].any() and edges[1].any()):
        return float(edges[0].any() == edges[1].any())
    away = [ndimage.distance_transform_edt(~one) for one in edges]
    precision, recall = (away[1][edges[0]] <= radius).mean(), (away[0][edges[1]] <= radius).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def edge(mask: Array) -> Array:
    """Its pixels that have a neighbour outside; the picture's border is no edge."""
    inner: Array = np.asarray(mask, bool)
    found: Array = inner & ~ndimage.binary_erosion(inner, border_value=1)
    return found


class Matches(NamedTuple):
    """Objects of one picture and class: score and whether it was matched of each found one, the best first; how many
    there truly are."""

    scores: Array
    matched: Array
    true: int


def overlaps(found: Array, truth: Array) -> Array:
    """(n, m) IoU of each found object with each true one, labels from 1."""
    n, m = int(found.max()), int(truth.max())
    both = np.bincount((found.astype(np.int64) * (m + 1) + truth).ravel(), minlength=(n + 1) * (m + 1))
    both = both.reshape(n + 1, m + 1).astype(float)
    either = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    table: Array = both[1:, 1:] / np.maximum(either[1:, 1:], 1)
    return table


def match(found: Array, scores: Array, truth: Array, threshold: float = 0.5) -> Matches:
    """Each found object, the best score first, takes the true one that it overlaps most, of those that are free and
    overlap by `threshold` or more."""
    table, free = overlaps(found, truth), np.ones(int(truth.max()), bool)
    order = np.argsort(-scores, kind="stable")
    matched = np.zeros(len(order), bool)
    for place, row in enumerate(order):
        best = np.where(free, table[row], -1.0)
        if best.size and best.max() >= threshold:
            free[best.argmax()], matched[place] = False, True
    return Matches(scores[order], matched, len(free))


def average_precision(pictures: Sequence[Matches]) -> float:
    """COCO's: the mean over recalls 0, 0.01, ... 1 of the greatest precision at that recall or more, objects of all
    pictures ranked by their scores. NaN where there is no true object."""
    true = sum(one.true for one in pictures)
    if not true:
        return float("nan")
    scores, matched = (np.concatenate([getattr(one, key) for one in pictures]) for key in ("scores", "matched"))
    hits = matched[np.argsort(-scores, kind="stable")].cumsum()
    if not len(hits):
        return 0.0
    recall, precision = hits / true, hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.mean(np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0)))


def detection_f(pictures: Sequence[Matches]) -> float:
    """2 hits / (found + true) over all pictures."""
    hits = sum(int(one.matched.sum()) for one in pictures)
    count = sum(len(one.matched) + one.true for one in pictures)
    return 2 * hits / count if count else 1.0


def weighted_coverage(found: Array, truth: Array) -> float:
    """Of each true object its best IoU, weighted by its area (Silberman et al. 2014). NaN without one. (An area ratio
    that goes by this name elsewhere gives 1 to two masks that never meet.)"""
    areas = np.bincount(truth.ravel())[1:]
    if not areas.sum():
        return float("nan")
    table = overlaps(found, truth)
    best = table.max(0) if len(table) else np.zeros(len(areas))
    return float((areas * best).sum() / areas.sum())


def brier(probability: Array, truth: Array) -> float:
    """The mean squared error of a probability (K, H, W) to 0 or 1."""
    return float(((probability - truth) ** 2).mean())


def error_in_unsure(uncertainty: Array, wrong: Array) -> float:
    """Which share of the wrong pixels is among the 5 % that are least sure; ties count by their share. NaN where
    nothing is wrong."""
    if not wrong.any():
        return float("nan")
    values = uncertainty.ravel()
    count = UNSURE * len(values)
    bound = np.partition(values, len(values) - 1 - int(count))[len(values) - 1 - int(count)]
    above, at = values > bound, values == bound
    share = (count - above.sum()) / at.sum()
    flat = wrong.ravel()
    return float(((above & flat).sum() + share * (at & flat).sum()) / flat.sum())


def energy_distance(samples: Sequence[Array], truths: Sequence[Array]) -> float:
    """2 E d(S, T) - E d(S, S') - E d(T, T') with d = 1 - IoU of masks, S and S' different samples: unbiased, and so
    below 0 at times (Szekely & Rizzo 2013; Kohl et al. 2018, 1806.05034). The truths are all there are."""
    between, own, true = (
        pairwise_distances(a, b) for a, b in ((samples, truths), (samples, samples), (truths, truths))
    )
    n = len(samples)
    return float(2 * between.mean() - (own.sum() - np.trace(own)) / (n * (n - 1)) - true.mean())


def pairwise_distances(one: Sequence[Array], other: Sequence[Array]) -> Array:
    """(n, m): 1 - IoU of each pair of masks; of two empty ones 0."""
    a, b = (np.stack(masks).reshape(len(masks), -1).astype(float) for masks in (one, other))
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    found: Array = 1 - np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return found
