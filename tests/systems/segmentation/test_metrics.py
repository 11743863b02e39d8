"""Figures by hand, against independent code, and their bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inkwash.systems.segmentation import metrics
from tests.systems.segmentation.cells import cells

MASKS = arrays(bool, (12, 12))


def test_overlap_by_hand():
    a, b = np.zeros((4, 4), int), np.zeros((4, 4), int)
    a[:2], b[1:3] = 1, 1
    assert metrics.iou(a, b, 1) == pytest.approx(1 / 3) and metrics.dice(a, b, 1) == pytest.approx(1 / 2)
    assert metrics.iou(0 * a, 0 * b, 1) == 1
    assert metrics.iou(a, b, 2) == pytest.approx((1 / 3 + 1) / 2)  # of the second class there is none in either


@given(MASKS, MASKS)
def test_dice_is_twice_the_overlap_over_both(a, b):
    expected = 2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else 1
    assert metrics.dice(a, b, 1) == pytest.approx(expected)


def test_weighted_coverage_is_no_ratio_of_areas():
    """The published code's gives 1 to two masks of one size that never meet."""
    truth, found = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32)
    truth[:2, :2], found[6:8, 6:8] = 1, 1
    assert metrics.weighted_coverage(found, truth) == 0
    truth[4:8, 4:8] = 2  # area 16; the found one covers a quarter of it
    assert metrics.weighted_coverage(found, truth) == pytest.approx((4 * 0 + 16 * 0.25) / 20)
    assert np.isnan(metrics.weighted_coverage(found, 0 * truth)) and metrics.weighted_coverage(0 * found, truth) == 0


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 4])
def test_boundaries_within_the_radius_agree(shift):
    truth = np.zeros((40, 40), bool)
    truth[10:20, 10:20] = True
    found = np.roll(truth, shift, 1)
    values = [metrics.boundary_f(found, truth, radius) for radius in (1, 2, 3, 5)]
    assert values == sorted(values) and all(
        value == 1 for radius, value in zip((1, 2, 3, 5), values, strict=True) if radius >= shift
    )
    assert shift < 2 or values[0] < 1
    assert metrics.boundary_f(truth, 0 * truth, 3) == 0 and metrics.boundary_f(0 * truth, 0 * truth, 3) == 1


def test_average_precision_by_hand():
    hit = metrics.Matches(np.array([0.9, 0.5]), np.array([True, False]), 2)
    miss = metrics.Matches(np.array([0.7, 0.2]), np.array([False, True]), 1)
    # ranked: hit, miss, miss, hit of 3 true: precision 1 to recall 1/3, 1/2 to 2/3
    assert metrics.average_precision([hit, miss]) == pytest.approx((34 * 1 + 33 * 0.5) / 101)
    assert metrics.detection_f([hit, miss]) == pytest.approx(2 * 2 / (4 + 3))
    assert metrics.average_precision([hit._replace(matched=np.array([False] * 2))]) == 0


def test_a_true_object_is_matched_once():
    truth = np.zeros((8, 8), np.int32)
    truth[:, :4] = 1
    found = np.zeros((8, 8), np.int32)
    found[:5, :4], found[5:, :4] = 1, 2
    found_twice = metrics.match(found, np.array([0.3, 0.9]), truth, 0.3)
    assert found_twice.matched.tolist() == [True, False] and found_twice.scores.tolist() == [0.9, 0.3]


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_average_precision_is_that_of_pycocotools(seed):
    pytest.importorskip("pycocotools")
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from inkwash.systems.segmentation import rle

    rng = np.random.default_rng(seed)
    images, truths, found, matches = [], [], [], []
    for i in range(4):
        truth = cells(int(rng.integers(10**6)), 40)[1]
        labels = np.roll(truth, rng.integers(-3, 4, 2), (0, 1))
        labels[np.isin(labels, rng.integers(1, 6, 2))] = 0
        numbers = np.unique(labels[labels > 0])
        labels = np.searchsorted(np.concatenate([[0], numbers]), labels).astype(np.int32)
        scores = rng.permutation(len(numbers)) / 7 + i / 100
        matches.append(metrics.match(labels, scores, truth))
        images.append({"id": i, "height": 40, "width": 40})
        for n in range(1, truth.max() + 1):
            mask = truth == n
            shape = {"size": [40, 40], "counts": rle.encode(mask)}
            facts = {"id": len(truths) + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
            truths.append(facts | {"area": int(mask.sum()), "segmentation": shape})
        for n in range(1, labels.max() + 1):
            shape = {"size": [40, 40], "counts": rle.encode(labels == n)}
            found.append({"image_id": i, "category_id": 1, "score": float(scores[n - 1]), "segmentation": shape})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "cell"}]}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert metrics.average_precision(matches) == pytest.approx(judge.stats[1], abs=1e-6)


def test_brier_by_hand():
    found = metrics.brier(np.array([[[0.1, 0.1, 0.9, 0.9]]]), np.array([[[0, 1, 1, 1]]]))
    assert found == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)


def test_errors_among_the_least_sure():
    uncertainty = np.arange(100.0).reshape(10, 10)
    wrong = np.zeros((10, 10), bool)
    wrong[9, 5:], wrong[0, :5] = True, True  # five of the surest, five of the least sure
    assert metrics.error_in_unsure(uncertainty, wrong) == pytest.approx(0.5)
    assert metrics.error_in_unsure(np.zeros((10, 10)), wrong) == pytest.approx(0.05)  # nothing known: by chance
    assert np.isnan(metrics.error_in_unsure(uncertainty, ~wrong & wrong))


def test_the_energy_distance_of_two_truths():
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    a[:4], b[:8] = True, True  # IoU 1/2
    assert metrics.energy_distance([a, b] * 500, [a, b]) == pytest.approx(0, abs=2e-3)
    # always the one: 2 (1/4) - 0 - 1/4
    assert metrics.energy_distance([a, a, a], [a, b]) == pytest.approx(0.25)


def test_the_energy_distance_is_unbiased():
    """Of two samples as of many: its mean is 0 where samples are drawn as the truths are."""
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    a[:4], b[:8] = True, True
    rng = np.random.default_rng(0)
    for count in (2, 8):
        values = [
            metrics.energy_distance([(a, b)[k] for k in rng.integers(0, 2, count)], [a, b]) for _ in range(2000)
        ]
        assert np.mean(values) == pytest.approx(0, abs=0.02)
