"""Balls and sticks: what is nearer covers what is farther, all of it is on the paper, and nothing is mirrored."""

import numpy as np

from inkwash.systems.crystals.picture import picture_of
from inkwash.systems.drawing import VIEW, Ball, Stick, draw
from inkwash.systems.protein.picture import picture_of as trace_of
from tests.systems.crystals.toy import perovskite

RED, BLUE = (200, 0, 0), (0, 0, 200)
EYE = VIEW[2]


def colored(picture, color):
    """Where a picture is nearer to this colour than to its complement among red and blue."""
    pixels = np.asarray(picture).astype(int)
    red, blue = pixels[..., 0] - pixels[..., 2] > 60, pixels[..., 2] - pixels[..., 0] > 60
    return red if color == RED else blue


def test_the_view_is_a_rotation():
    np.testing.assert_allclose(VIEW @ VIEW.T, np.eye(3), atol=2e-3)
    assert np.linalg.det(VIEW) > 0.99


def test_the_nearer_of_two_balls_covers_the_other_whatever_their_order():
    near, far = Ball(EYE * 2, 1.0, RED), Ball(-EYE * 2, 1.0, BLUE)
    for balls in ([near, far], [far, near]):
        picture = draw(balls)
        assert colored(picture, RED).any() and not colored(picture, BLUE).any()
    assert colored(draw([near, far._replace(radius=2.0)]), BLUE).any()


def test_all_of_it_is_on_the_paper():
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0, 100.0):
        places = scale * rng.normal(size=(20, 3)) + 5
        picture = draw([Ball(p, scale * 0.3, RED) for p in places], [Stick(places[0], places[1], scale, BLUE)])
        pixels = np.asarray(picture)
        edge = np.concatenate([pixels[:4].reshape(-1, 3), pixels[-4:].reshape(-1, 3), pixels[:, :4].reshape(-1, 3)])
        assert (edge == 255).all() and (pixels != 255).any()


def test_atoms_on_faces_are_drawn_on_each_of_them():
    """Of a perovskite with Ba at the corners eight, Ti in the middle one; seven more where Ba is counted."""
    corner = np.asarray(picture_of(perovskite())) == np.array((0, 201, 0))
    inside = np.asarray(
        picture_of(perovskite(shift=0.0)._replace(coordinates=perovskite().coordinates * 0.98 + 0.05))
    )
    green = [(p[..., 1].astype(int) - p[..., 0] > 40).sum() for p in (np.asarray(picture_of(perovskite())), inside)]
    assert green[0] > 2 * green[1] > 0 and corner.shape == inside.shape


def test_a_chain_and_its_mirror_image_look_different_and_its_motif_is_black():
    t = np.arange(40) * np.deg2rad(100)
    helix = np.stack([2.3 * np.cos(t), 2.3 * np.sin(t), 1.5 * np.arange(40)], 1)[:, None]
    right, left = np.asarray(trace_of(helix)), np.asarray(trace_of(helix * np.array([1, 1, -1])))
    assert (right != left).any()
    moved = helix @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0] + 7
    assert (np.asarray(trace_of(helix)).mean() - np.asarray(trace_of(moved)).mean()) < 3
    dark = [(np.asarray(trace_of(helix, motif)).max(-1) < 110).sum() for motif in ((), range(10, 20))]
    assert dark[1] > dark[0] + 500
