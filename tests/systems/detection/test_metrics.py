"""COCO's figures: by hand, beside the segmentation room's own average precision, and drawn again."""

import numpy as np
import pytest

from inkwash.systems.detection.data import Example
from inkwash.systems.detection.model import Detection
from inkwash.systems.segmentation.metrics import Matches, average_precision

pytest.importorskip("pycocotools")
from inkwash.systems.detection.metrics import Judge


def example(boxes, kinds, crowd=None, name="a"):
    boxes = np.array(boxes, float).reshape(-1, 4)
    flags = np.zeros(len(boxes), bool)
    crowd = flags if crowd is None else np.array(crowd)
    return Example(name, None, (200, 200), boxes, np.array(kinds, np.int64), crowd, flags, name, name)


def found(boxes, kinds, scores):
    return Detection(np.array(boxes, float).reshape(-1, 4), np.array(kinds, np.int64), np.array(scores, float))


HERE, THERE = [10, 10, 50, 50], [100, 100, 160, 170]


def test_the_truth_is_perfect_and_nothing_is_nothing():
    truth = [example([HERE, THERE], [0, 1])]
    figures = Judge([found([HERE, THERE], [0, 1], [0.9, 0.8])], truth, 2).figures()
    assert [figures[name] for name in ("AP", "AP50", "AP75", "AR")] == pytest.approx([1] * 4)
    assert figures["AP, medium"] == pytest.approx(1) and np.isnan(figures["AP, large"])
    nothing = Judge([found([], [], [])], truth, 2).figures()
    assert nothing["AP"] == nothing["AR"] == 0


def test_a_box_of_iou_08_counts_up_to_08():
    shifted = [10, 10, 50, 42]  # 32 of 40 rows: IoU 0.8
    figures = Judge([found([shifted], [0], [0.9])], [example([HERE], [0])], 1).figures()
    assert [figures["AP50"], figures["AP75"]] == pytest.approx([1, 1])
    assert figures["AP"] == pytest.approx(0.7)  # 0.5, 0.55, ... 0.8


def test_classes_count_the_same_and_are_told_apart():
    truth = [example([HERE, THERE], [0, 1])]
    judge = Judge([found([HERE, THERE], [0, 0], [0.9, 0.8])], truth, 2)
    assert judge.figures()["AP50"] == pytest.approx(0.5) and judge.by_class() == [pytest.approx(1), 0]


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong():
    truth = [example([HERE, [90, 90, 190, 190]], [0, 0], [False, True])]
    boxes = [HERE, [100, 100, 120, 120], [130, 130, 150, 150]]
    judge = Judge([found(boxes, [0, 0, 0], [0.5, 0.9, 0.8])], truth, 1)
    assert judge.figures()["AP50"] == pytest.approx(1)
    scores, right = judge.right()
    assert scores.tolist() == [0.5] and right.tolist() == [True]


def test_ap50_is_that_of_the_segmentation_room():
    rng = np.random.default_rng(0)
    truths, answers, matches = [], [], []
    for i in range(6):
        boxes = np.array([[x, y, x + 20, y + 20] for x in (5, 60, 120) for y in (5, 60)], float)
        hit = rng.random(6) < 0.7
        moved = boxes + np.where(hit, 1, 30)[:, None] * np.array([1, 0, 1, 0])
        scores = np.round(rng.random(6), 3)
        truths.append(example(boxes, [0] * 6, name=str(i)))
        answers.append(found(moved, [0] * 6, scores))
        order = np.argsort(-scores, kind="stable")
        matches.append(Matches(scores[order], hit[order], 6))
    judge = Judge(answers, truths, 1)
    assert judge.figures()["AP50"] == pytest.approx(average_precision(matches), abs=1e-6)
    scores, right = judge.right()
    assert right.sum() == sum(match.matched.sum() for match in matches) and len(scores) == 36


def test_pictures_drawn_again_count_as_often_as_they_stand_there():
    truth = [example([HERE], [0], name="a"), example([HERE], [0], name="b")]
    judge = Judge([found([HERE], [0], [0.9]), found([THERE], [0], [0.8])], truth, 1)
    both = judge.figures()
    assert judge.figures(np.array([0, 0]))["AP50"] == pytest.approx(1)
    assert judge.figures(np.array([1, 1]))["AP50"] == 0
    assert judge.figures() == pytest.approx(both, nan_ok=True) and 0 < both["AP50"] < 1


def test_more_boxes_than_max_dets_do_not_count():
    many = [[i, 0, i + 5, 5] for i in range(120)]
    boxes, scores = [*many, HERE], [*np.linspace(0.9, 0.5, 120), 0.1]
    truth = [example([HERE], [0])]
    assert Judge([found(boxes, [0] * 121, scores)], truth, 1).figures()["AR"] == 0
    assert Judge([found(boxes, [0] * 121, scores)], truth, 1, 200).figures()["AR"] == pytest.approx(1)
