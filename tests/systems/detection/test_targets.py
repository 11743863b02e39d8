"""What is learned from: pictures and boxes that still belong together, and placeholders."""

import numpy as np
import pytest
import torch

from inkwash.systems.detection import targets
from inkwash.systems.detection.boxes import SIGNAL, from_state, to_corners, to_state
from inkwash.systems.detection.data import page_of, read_data
from inkwash.systems.detection.targets import Scene, canvas, changed, loader, mirrored, padded, scene
from tests.systems.detection.toy import folder

RNG = np.random.default_rng(0)


def marked(size=(60, 80), box=(20, 15, 40, 35)):
    """A dark picture (height, width) with a bright square, and its box."""
    picture = torch.zeros(3, *size, dtype=torch.uint8)
    picture[:, box[1] : box[3], box[0] : box[2]] = 255
    return Scene(picture, torch.tensor([box], dtype=torch.float32), torch.tensor([1]), True)


def test_a_scene_has_its_boxes_in_the_network_s_pixels(tmp_path):
    (example, *_) = read_data(folder(tmp_path, 3)).examples
    found = scene(example, page_of(example), 24)
    assert found.picture.shape == (3, 20, 24)
    torch.testing.assert_close(found.boxes, torch.from_numpy(example.boxes / 2).float())
    crowd = example._replace(crowd=np.array([True, False, False]))
    assert scene(crowd, page_of(example), 24).kinds.tolist() == example.kinds[1:].tolist()


def test_a_canvas_holds_all_of_them():
    assert canvas([marked((60, 80)), marked((33, 90))], 16) == (64, 96)


@pytest.mark.parametrize("seed", range(8))
def test_boxes_go_where_their_objects_go(seed, monkeypatch):
    """Zoomed, cut, mirrored: the bright square is still what the box holds."""
    monkeypatch.setattr(targets, "recoloured", lambda picture, grey, rng: picture)
    picture, corners, kinds = changed(marked(), (64, 96), np.random.default_rng(seed))
    bright = (picture.mean(0) > 0.6).nonzero()
    if not len(kinds):
        assert len(bright) < 0.4 * 20 * 20 * 1.6
        return
    top, left = bright.min(0).values.tolist()
    bottom, right = (bright.max(0).values + 1).tolist()
    expected = torch.tensor([left / 96, top / 64, right / 96, bottom / 64])
    torch.testing.assert_close(corners[0], expected, atol=1.6 / 64, rtol=0)
    assert kinds.tolist() == [1] and corners.min() >= 0 and corners.max() <= 1


def test_mirrored_twice_is_as_it_was():
    corners = torch.tensor([[0.1, 0.2, 0.4, 0.9]])
    assert mirrored(corners, 0)[0].tolist() == pytest.approx([0.6, 0.2, 0.9, 0.9])
    assert mirrored(corners, 1)[0].tolist() == pytest.approx([0.1, 0.1, 0.4, 0.8])
    torch.testing.assert_close(mirrored(mirrored(corners, 1), 1), corners)


def test_an_object_of_which_little_is_left_is_none():
    """A square at the corner, where cuts begin: whenever it is an object, most of it is to be seen."""
    one = marked(box=(0, 0, 20, 20))
    shares = []
    for seed in range(40):
        _, corners, kinds = changed(one._replace(picture=one.picture), (32, 32), np.random.default_rng(seed))
        shares += [float(own[2:].sub(own[:2]).prod()) * 32 * 32 for own in corners]
        assert len(kinds) == len(corners)
    assert 0 < len(shares) < 40 and min(shares) > 0.3 * 400 * 0.8**2 * 0.95


def test_placeholders_lie_around_the_middle_and_have_an_area():
    corners, kinds = torch.tensor([[0.1, 0.2, 0.4, 0.9]]), torch.tensor([1])
    state, own = padded(corners, kinds, 4000, np.random.default_rng(0))
    assert own[0] == 1 and (own[1:] == -1).all()
    torch.testing.assert_close(to_corners(from_state(state[:1])), corners)
    centres = (state[1:] / SIGNAL + 1) / 2
    assert centres.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.02)
    assert centres.std(0).tolist() == pytest.approx([1 / 6] * 4, abs=0.01)
    assert (centres[:, 2:] >= 1e-4 - 1e-6).all()


def test_of_more_objects_than_boxes_some_are_taken_at_random():
    corners = torch.rand(30, 2).repeat(1, 2) + torch.tensor([0, 0, 0.1, 0.1])
    seen = set()
    for seed in range(20):
        state, own = padded(corners, torch.arange(30), 5, np.random.default_rng(seed))
        assert state.shape == (5, 4) and len(set(own.tolist())) == 5 and (own >= 0).all()
        torch.testing.assert_close(
            state,
            to_state(torch.cat([(corners[own, :2] + corners[own, 2:]) / 2, corners[own, 2:] - corners[own, :2]], -1)),
        )
        seen |= {*own.tolist()}
    assert len(seen) > 20


def test_a_picture_without_objects_is_all_placeholders():
    state, own = padded(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 6, np.random.default_rng(0))
    assert (own == -1).all() and torch.isfinite(state).all()


def test_a_batch_depends_on_its_number_alone():
    scenes = [marked(), marked((50, 70))]
    one, other = (loader(scenes, (64, 80), 7, 3, 0) for _ in range(2))
    first = one(5)
    one(6)
    for key, value in other(5).items():
        assert value == first[key] if key == "most" else torch.equal(value, first[key])
    assert not torch.equal(one(6)["picture"], first["picture"])
    assert first["picture"].shape == (3, 3, 64, 80) and first["x"].shape == (3, 7, 4)
    assert first["picture"].min() >= -1 and first["picture"].max() <= 1
