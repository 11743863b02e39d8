"""What is left of all steps and all samples."""

import numpy as np
import pytest

from inkwash.systems.detection.candidates import Candidates, best_of, joined, spread_over

HERE, THERE = [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8]


def some(*rows):
    corners, scores, kinds = zip(*rows, strict=True)
    return Candidates(np.array(corners), np.array(scores), np.array(kinds))


def test_the_best_pairs_of_box_and_class():
    found = best_of(np.array([HERE, THERE]), np.array([[0.1, 0.8], [0.7, 0.2]]), 3)
    assert found.scores.tolist() == pytest.approx([0.8, 0.7, 0.2]) and found.kinds.tolist() == [1, 0, 1]
    assert found.corners.tolist() == [HERE, THERE, THERE]
    assert len(best_of(np.array([HERE]), np.array([[0.1, 0.8]]), 99).scores) == 2


def test_all_steps_count_and_not_only_the_last():
    found = joined([some((HERE, 0.9, 0)), some((THERE, 0.3, 0), (HERE, 0.5, 0), (HERE, 0.4, 1))])
    assert found.scores.tolist() == pytest.approx([0.9, 0.4, 0.3]) and found.kinds.tolist() == [0, 1, 0]


def test_the_spread_over_samples_by_hand():
    moved = [x + 0.02 for x in HERE]
    found = spread_over([some((HERE, 0.8, 0), (THERE, 0.9, 1)), some((moved, 0.6, 0), (THERE, 0.5, 0))])
    assert found.kinds.tolist() == [0, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.7, 0.45, 0.25])  # the mean, 0 where a sample has none
    assert found.found.tolist() == pytest.approx([1, 0.5, 0.5])
    assert found.spread[0].tolist() == pytest.approx([0.01] * 4, abs=1e-6) and not found.spread[1:].any()


def test_of_the_same_samples_nothing_is_spread():
    one = some((HERE, 0.8, 0), (THERE, 0.3, 1))
    found = spread_over([one, one, one])
    np.testing.assert_allclose(found.scores, one.scores)
    np.testing.assert_allclose(found.corners, one.corners)
    assert (found.found == 1).all() and abs(found.spread).max() < 1e-6


def test_of_samples_without_boxes_there_are_none():
    empty = Candidates(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert len(spread_over([empty, empty]).scores) == 0
    assert spread_over([empty, some((HERE, 0.8, 0))]).scores.tolist() == pytest.approx([0.4])
