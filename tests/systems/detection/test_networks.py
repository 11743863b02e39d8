"""The backbone and the heads: what depends on what."""

import pytest
import torch

from inkwash.systems.detection.boxes import SIGNAL, from_state, to_centres, to_corners, to_state
from inkwash.systems.detection.networks import (
    LEAST,
    PRIOR,
    Backbone,
    DetectionNetwork,
    DynamicConv,
    FCOSHead,
    kept_open,
    moved,
)
from tests.systems.detection.toy import NETWORK

TIME = torch.tensor([300.0, 700.0])


def made(**changes):
    torch.manual_seed(0)
    return DetectionNetwork(**NETWORK | changes).eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_width_halves_the_side_and_the_last_levels_are_looked_at():
    features = Backbone([8, 16, 24], 2, 16)(noise(1, 3, 48, 64))
    assert [tuple(one.shape) for one in features] == [(1, 16, 12, 16), (1, 16, 6, 8)]


def test_what_is_coarse_comes_into_what_is_finer():
    backbone = Backbone([8, 16], 2, 16)
    x = noise(1, 3, 16, 16)
    before = backbone(x)[0]
    with torch.no_grad():
        backbone.lateral[1].bias += 1.0  # of the coarsest
    change = backbone(x)[0] - before
    assert change.abs().max() > 1e-3


def test_boxes_have_no_order():
    network, x = made(), noise(2, 7, 4)
    features = network.backbone(noise(2, 3, 32, 32))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    one, other = network(x, TIME, features), network(x[:, order], TIME, features)
    torch.testing.assert_close(one[0][:, order], other[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one[1]["logits"][:, :, order], other[1]["logits"], atol=1e-4, rtol=1e-4)


def test_boxes_see_each_other_and_the_time_and_not_the_other_picture():
    network, x = made(), noise(2, 7, 4)
    features = network.backbone(noise(2, 3, 32, 32))
    answer = network(x, TIME, features)[1]["logits"]
    other = x.clone()
    other[0, 3] = torch.tensor([0.5, -0.5, 0.0, 0.0])
    changed = network(other, TIME, features)[1]["logits"]
    assert (changed[0, :, 0] - answer[0, :, 0]).abs().max() > 1e-6 and torch.equal(changed[1], answer[1])
    later = network(x, TIME + 100, features)[1]["logits"]
    assert (later - answer).abs().max() > 1e-5


def test_a_state_is_clamped_before_anything_is_looked_at():
    network, x = made(), 3 * noise(2, 7, 4)
    features = network.backbone(noise(2, 3, 32, 32))
    assert (x.abs() > SIGNAL).any()
    one, other = network(x, TIME, features), network(x.clamp(-SIGNAL, SIGNAL), TIME, features)
    assert torch.equal(one[0], other[0]) and one[0].abs().max() <= SIGNAL


def test_the_answer_is_the_last_stage_s_boxes_as_a_state():
    network = made()
    answer, extra = network(noise(2, 7, 4), TIME, network.backbone(noise(2, 3, 32, 32)))
    assert extra["boxes"].shape == (2, 2, 7, 4) and extra["logits"].shape == (2, 2, 7, 2)
    torch.testing.assert_close(answer, to_state(to_centres(extra["boxes"][:, -1].clamp(0, 1))))


def test_no_gradient_passes_from_a_stage_to_another_s_boxes():
    network = made()
    _, extra = network(noise(2, 7, 4), TIME, network.backbone(noise(2, 3, 32, 32)))
    extra["boxes"][:, 1].sum().backward()
    first, second = network.head.stages
    assert not first.deltas.weight.grad.any() and second.deltas.weight.grad.any()


def test_a_box_is_moved_by_shares_of_its_size():
    box = torch.tensor([0.2, 0.4, 0.4, 0.8])
    assert moved(box, torch.zeros(4)).tolist() == pytest.approx(box.tolist())
    told = torch.tensor([1.0, -1.0, 0.6931472, 0.0])  # half a width right, half a height up, twice as wide
    assert moved(box, told).tolist() == pytest.approx([0.2, 0.2, 0.6, 0.6], abs=1e-6)
    assert torch.isfinite(moved(box, torch.full((4,), 1e4))).all()


def test_a_box_without_an_area_is_looked_at_all_the_same():
    found = kept_open(torch.tensor([0.5, 0.5, 0.0, 0.3]))
    assert found.tolist() == pytest.approx([0.5 - LEAST / 2, 0.35, 0.5 + LEAST / 2, 0.65])
    torch.testing.assert_close(
        kept_open(from_state(noise(9, 4)).clamp(LEAST)), to_corners(from_state(noise(9, 4)).clamp(LEAST))
    )


def test_a_class_begins_as_likely_as_its_prior():
    network = made()
    _, extra = network(noise(2, 7, 4), TIME, network.backbone(noise(2, 3, 32, 32)))
    assert float(extra["logits"].detach().sigmoid().mean()) == pytest.approx(PRIOR, rel=0.3)
    logits, _, _ = made(head="fcos").head(network.backbone(noise(2, 3, 32, 32)))
    assert float(logits.detach().sigmoid().mean()) == pytest.approx(PRIOR, rel=0.3)


def test_a_dynamic_convolution_is_two_products_with_the_box_s_own_kernels():
    torch.manual_seed(0)
    layer = DynamicConv(8, 2, 3).eval()
    objects, seen = noise(1, 2, 8), noise(1, 2, 8, 3, 3, seed=1)
    kernels = layer.kernels(objects)
    found = layer(objects, seen)
    for n in range(2):
        first, second = kernels[0, n, :16].reshape(8, 2), kernels[0, n, 16:].reshape(2, 8)
        h = torch.relu(layer.norm_in(seen[0, n].reshape(8, 9).T @ first))
        h = torch.relu(layer.norm_out(h @ second))
        torch.testing.assert_close(
            found[0, n], torch.relu(layer.norm(layer.out(h.reshape(-1)))), atol=1e-5, rtol=1e-4
        )


def test_fcos_answers_for_each_cell_of_each_level_row_after_row():
    torch.manual_seed(0)
    head = FCOSHead(2, 16, 2).eval()
    features = [noise(1, 16, 4, 6), noise(1, 16, 2, 3, seed=1)]
    logits, edges, centre = head(features)
    assert logits.shape == (1, 30, 2) and (edges > 0).all() and centre.shape == (1, 30)
    alone = head.logits(head.class_tower(features[0]))
    torch.testing.assert_close(logits[0, 2 * 6 + 5], alone[0, :, 2, 5])
    torch.testing.assert_close(logits[0, 24 + 3 + 1], head.logits(head.class_tower(features[1]))[0, :, 1, 1])
