"""Who answers for whom: cases by hand, and what holds of any."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from inkwash.systems.detection.boxes import giou
from inkwash.systems.detection.matching import ALPHA, GAMMA, costs, focal
from inkwash.systems.detection.matching import match as match_all
from tests.systems.detection.test_boxes import some_boxes


def match(logits, corners, kinds, truth):
    """Of one picture."""
    return match_all(logits[None], corners[None], kinds[None], truth[None])[0]


def test_the_focal_loss_is_that_of_its_formula():
    for p in (0.01, 0.3, 0.9):
        logit = torch.tensor(math.log(p / (1 - p)))
        assert float(focal(logit, True)) == pytest.approx(-ALPHA * (1 - p) ** GAMMA * math.log(p), rel=1e-5)
        assert float(focal(logit, False)) == pytest.approx(-(1 - ALPHA) * p**GAMMA * math.log(1 - p), rel=1e-5)
    assert torch.isfinite(focal(torch.tensor([-200.0, 200.0]), True)).all()


def test_a_cost_has_its_four_parts():
    logits, corners = torch.zeros(2, 3), torch.tensor([[0.0, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]])
    truth, kinds = torch.tensor([[0.1, 0.1, 0.4, 0.4]]), torch.tensor([1])
    one = 2 * 0.25 * math.log(2) * (ALPHA - (1 - ALPHA)) + 5 * 0.2 + 2 * (1 - 9 / 16)
    found = costs(logits, corners, kinds, truth)
    assert float(found[0, 0]) == pytest.approx(one, abs=1e-5)
    other = one - 5 * 0.2 - 2 * (1 - 9 / 16) + 5 * 1.8 + 2 * (1 - float(giou(corners[1], truth[0]))) + 100
    assert float(found[1, 0]) == pytest.approx(other, abs=1e-4)


def test_a_likelier_class_is_cheaper():
    logits, corners = torch.tensor([[3.0, -3.0]]), torch.tensor([[0.1, 0.1, 0.4, 0.4]])
    found = costs(logits, corners, torch.tensor([0, 1]), corners.expand(2, 4))
    assert found[0, 0] < found[0, 1]


def test_an_object_has_as_many_as_its_ious_sum_to():
    """Four on the object and one beside, whose IoUs sum to a little more than 4.

    Of an object that nothing overlaps, one."""
    here, there = [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8]
    corners = torch.tensor([here] * 4 + [[0.27, 0.1, 0.47, 0.3], [0.4, 0.4, 0.5, 0.5]])
    truth = torch.tensor([here, there])
    found = match(torch.zeros(6, 1), corners, torch.tensor([0, 0]), truth)
    assert found[:4].tolist() == [0, 0, 0, 0] and (found[4:] == 1).sum() == 1 and (found[4:] == 0).sum() == 0


def test_one_that_two_claim_goes_to_its_cheapest_and_the_other_gets_one_all_the_same():
    truth = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.52, 0.5]])
    corners = torch.tensor([[0.115, 0.1, 0.515, 0.5], [0.8, 0.8, 0.9, 0.9]])
    found = match(torch.zeros(2, 1), corners, torch.tensor([0, 0]), truth)
    assert found.tolist() == [1, 0]  # 0.115 is nearer to 0.12


def test_as_many_objects_as_predictions_all_find_one():
    """Even if all predictions are claimed by one object."""
    here = torch.tensor([0.1, 0.1, 0.3, 0.3])
    corners = here.expand(5, 4)
    truth = torch.stack([here, *(here + 0.1 * i for i in range(1, 5))])
    found = match(torch.zeros(5, 1), corners, torch.zeros(5, dtype=torch.long), truth)
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]


def test_a_picture_without_objects_matches_none():
    found = match(torch.zeros(4, 2), some_boxes(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    assert found.tolist() == [-1] * 4


def slow_match(cost, overlap):
    """The same by lists, as the papers say it."""
    n, m = cost.shape
    owners = [[] for _ in range(n)]
    for j in range(m):
        count = max(1, int(np.float32(np.sort(overlap[:, j])[::-1][:5].sum(dtype=np.float32))))
        for i in np.argsort(cost[:, j], kind="stable")[:count]:
            owners[i].append(j)
    found = [min(own, key=lambda j: (cost[i, j], j)) if own else -1 for i, own in enumerate(owners)]
    for j in range(m):
        if j not in found:
            free = [i for i in range(n) if found[i] < 0]
            free = free or [i for i in range(n) if found.count(found[i]) > 1]
            found[min(free, key=lambda i: cost[i, j])] = j
    return found


@pytest.mark.parametrize("seed", range(6))
def test_matching_is_that_of_its_definition(seed):
    from inkwash.systems.detection.boxes import iou, pairwise

    generator = torch.Generator().manual_seed(seed)
    truth, kinds = some_boxes(seed, 7), torch.randint(0, 3, (7,), generator=generator)
    corners = torch.cat([truth + 0.03 * torch.randn(7, 4, generator=generator), some_boxes(seed + 50, 23)])
    corners = torch.cat(
        [torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    logits = torch.randn(30, 3, generator=generator)
    found = match(logits, corners, kinds, truth)
    expected = slow_match(costs(logits, corners, kinds, truth).numpy(), pairwise(iou, corners, truth).numpy())
    assert found.tolist() == expected
    assert {*range(7)} <= {*found.tolist()}


def test_pictures_of_a_batch_are_matched_each_by_itself():
    """Also where they have fewer objects than others, or none."""
    truth, corners = some_boxes(0, 3, 6), some_boxes(1, 3, 15)
    logits = torch.randn(3, 15, 2, generator=torch.Generator().manual_seed(0))
    kinds = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, -1, -1, -1, -1], [-1] * 6])
    found = match_all(logits, corners, kinds, truth)
    for i, count in enumerate((6, 2, 0)):
        assert found[i].tolist() == match(logits[i], corners[i], kinds[i, :count], truth[i, :count]).tolist()


def test_focal_is_cross_entropy_without_its_weights():
    logits = torch.linspace(-4, 4, 9)
    weight = ALPHA * (-logits).sigmoid() ** GAMMA
    expected = weight * F.binary_cross_entropy_with_logits(logits, torch.ones(9), reduction="none")
    torch.testing.assert_close(focal(logits, True), expected)
