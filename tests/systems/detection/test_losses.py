"""Losses: nothing for the truth, a mean over pictures, and cells that learn what they should."""

import pytest
import torch

from inkwash import diffusion
from inkwash.diffusion.denoiser import Denoiser
from inkwash.systems.detection.boxes import to_centres, to_corners, to_state
from inkwash.systems.detection.losses import fcos_loss, owners, set_loss, stage_loss
from inkwash.systems.detection.networks import places, to_boxes

TRUTH = torch.tensor([[[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.9, 0.8], [0.4, 0.4, 0.6, 0.6]]])
KINDS = torch.tensor([[1, 0, -1]])


def sure(kinds, classes=2):
    """Logits that say of each box its class, and of a placeholder none."""
    logits = torch.full((*kinds.shape, classes), -30.0)
    for place in (kinds >= 0).nonzero().tolist():
        logits[(*place, int(kinds[tuple(place)]))] = 30.0
    return logits


def test_the_truth_itself_costs_nothing():
    assert float(stage_loss(sure(KINDS), TRUTH, TRUTH, KINDS)) == pytest.approx(0, abs=1e-4)


def test_the_parts_by_hand():
    """One object, one box beside its place by 0.05 along x, its class half believed."""
    truth, kinds = TRUTH[:, :1], KINDS[:, :1]
    corners = truth + torch.tensor([0.05, 0, 0.05, 0])
    overlap = 0.15 / 0.25
    boxes = 5 * 0.1 + 2 * (1 - overlap)
    assert float(stage_loss(sure(kinds), corners, truth, kinds)) == pytest.approx(boxes, abs=1e-4)
    half = float(stage_loss(torch.tensor([[[-30.0, 0.0]]]), corners, truth, kinds))
    assert half == pytest.approx(boxes + 2 * 0.25 * 0.25 * 0.6931, abs=1e-3)


def test_placeholders_and_empty_pictures_learn_that_there_is_nothing():
    nothing = torch.full((1, 3), -1)
    believed = stage_loss(torch.full((1, 3, 2), 2.0), TRUTH, TRUTH, nothing)
    assert float(believed) > 1 and float(stage_loss(sure(nothing), TRUTH, TRUTH, nothing)) == pytest.approx(
        0, abs=1e-5
    )


def test_it_is_divided_by_the_boxes_of_the_batch_that_answer():
    """Two pictures of which one has no object: the loss of the batch is the sum over both, divided by one box."""
    logits = torch.zeros(2, 1, 2)
    corners = TRUTH[:, :1].expand(2, 1, 4)
    kinds = torch.tensor([[0], [-1]])
    found = stage_loss(logits, corners, corners, kinds)
    one = float(stage_loss(logits[:1], corners[:1], corners[:1], kinds[:1]))
    assert float(found[0]) == pytest.approx(2 * one)  # the mean over two samples is this sample's own
    assert float(found[1]) > 0


def test_it_is_an_objective_of_the_core_and_every_stage_learns():
    logits = torch.zeros(1, 2, 3, 2, requires_grad=True)
    boxes = TRUTH[:, None].repeat(1, 2, 1, 1).requires_grad_()

    def network(x, time, **condition):
        return x, {"logits": logits, "boxes": boxes + 0.01}

    denoise = Denoiser(network, diffusion.Gaussian(diffusion.cosine()), "x0")
    loss = denoise.loss(to_state(to_centres(TRUTH)), objective=set_loss(KINDS, 2))
    loss.backward()
    one = float(stage_loss(logits[:, 0], boxes[:, 0] + 0.01, TRUTH, KINDS).detach())
    assert float(loss.detach()) == pytest.approx(2 * one)
    assert (logits.grad.abs().sum((2, 3)) > 0).all()
    assert (boxes.grad[0, :, :2].abs().sum(-1) > 0).all() and not boxes.grad[0, :, 2].any()


FEATURES = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)]


def test_places_are_the_middles_of_cells():
    middles, sides = places([torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 1, 2)])
    assert middles[0].tolist() == [0.125, 0.25] and middles[5].tolist() == [0.375, 0.75]
    assert middles[8:].tolist() == [[0.25, 0.5], [0.75, 0.5]] and sides[9].tolist() == [0.5, 1.0]


def test_edges_in_cells_are_boxes():
    edges = torch.zeros(1, 80, 4)
    edges[0, 8 * 2 + 3] = torch.tensor([1.0, 2, 3, 0.5])
    edges[0, 64 + 4 + 1] = torch.tensor([0.5, 0.5, 1.5, 1])
    found = to_boxes(FEATURES, edges)
    assert found[0, 19].tolist() == pytest.approx([2.5 / 8, 0.5 / 8, 6.5 / 8, 3 / 8])
    assert found[0, 69].tolist() == pytest.approx([1 / 4, 1 / 4, 3 / 4, 2.5 / 4])


def test_cells_near_the_middle_learn_the_smallest_object_of_their_level():
    small, large = [2 / 8, 2 / 8, 4 / 8, 4 / 8], [0.0, 0.0, 1.0, 1.0]
    found = owners(FEATURES, torch.tensor([[large, small]]), torch.tensor([[0, 0]]))[0]
    fine, coarse = found[:64].reshape(8, 8), found[64:].reshape(4, 4)
    assert (fine[2:4, 2:4] == 1).all() and (fine == 1).sum() == 4  # inside of it only, though 1.5 cells reach farther
    assert (coarse == 0).all()  # too large for the finer level; 1.5 cells of this one reach everywhere
    assert (fine == 0).sum() == 0
    none = owners(FEATURES, torch.tensor([[large, small]]), torch.tensor([[-1, -1]]))
    assert (none == -1).all()


def test_fcos_s_truth_costs_what_its_centres_do():
    """Boxes and classes as they are: what is left is the cross-entropy of how central a cell is."""
    truth, kinds = torch.tensor([[[2 / 8, 2 / 8, 4 / 8, 4 / 8]]]), torch.tensor([[1]])
    found = owners(FEATURES, truth, kinds)[0]
    middles, sides = places(FEATURES)
    edges = torch.cat([middles - truth[0, 0, :2], truth[0, 0, 2:] - middles], -1) / sides.repeat(1, 2)
    logits = torch.full((1, 80, 2), -30.0)
    logits[0, found == 0, 1] = 30.0
    loss = float(fcos_loss((logits, edges[None], torch.zeros(1, 80)), FEATURES, truth, kinds))
    assert loss == pytest.approx(0.6931, abs=1e-3)
    empty = fcos_loss((torch.full((1, 80, 2), -30.0), edges[None], torch.zeros(1, 80)), FEATURES, truth, kinds - 9)
    assert float(empty) == pytest.approx(0, abs=1e-6)


def test_corners_and_centres_agree_in_the_state():
    torch.testing.assert_close(to_corners(to_centres(TRUTH)), TRUTH)
