"""Boxes on pictures."""

import numpy as np

from inkwash.systems.detection import drawing
from inkwash.systems.detection.drawing import overlay
from inkwash.systems.picture_folders import COLOURS

PAGE = np.linspace(0, 60000, 40 * 60).reshape(40, 60).astype(np.uint16)


def test_the_edge_of_a_box_has_its_class_s_colour_and_its_inside_is_the_picture():
    plain = np.asarray(overlay(PAGE, np.zeros((0, 4)), np.zeros(0, int), []))
    drawn = np.asarray(overlay(PAGE, np.array([[10, 5, 30, 25.0]]), np.array([1]), [""]))
    changed = (drawn != plain).any(-1)
    expected = np.zeros((40, 60), bool)
    expected[5:25, 10:30] = True
    expected[6:24, 11:29] = False
    assert (changed == expected).all() and (drawn[expected] == COLOURS[1]).all()


def test_texts_are_drawn_but_for_those_that_the_font_lacks():
    box, kind = np.array([[10, 5, 30, 25.0]]), np.array([0])
    bare, named, chinese = (np.asarray(overlay(PAGE, box, kind, [text])) for text in ("", "cell 0.9", "细胞 0.9"))
    assert (named != bare).any() and (chinese == bare).all()


def test_a_large_picture_is_drawn_smaller_with_its_boxes(monkeypatch):
    monkeypatch.setattr(drawing, "LARGEST", 20)
    drawn = np.asarray(overlay(PAGE, np.array([[30, 15, 60, 40.0]]), np.array([0]), [""]))
    assert drawn.shape[1] == 20 and abs(drawn.shape[0] - 40 / 3) < 1
    rows, columns = np.nonzero((drawn == COLOURS[0]).all(-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 5, 19, 12)
