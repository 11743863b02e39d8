"""Ways of counting, and boxes that are bad."""

from pathlib import Path

import pytest

from inkwash.errors import UserError
from inkwash.systems.detection.annotations import (
    Annotations,
    Box,
    Picture,
    checked,
    counted_from_zero,
    from_voc,
    to_voc,
    whole,
)


def some(*boxes, size=(20, 10)):
    return Annotations([Picture(Path("a.png"), size, [Box(box, "cell") for box in boxes])], ["cell"], [1], {})


def test_voc_counts_pixels_from_one_and_both_ends_are_in_the_box():
    assert from_voc((1, 1, 20, 10), False) == (0, 0, 20, 10)  # the whole of 20 x 10 pixels
    assert from_voc((3, 4, 5, 9), False) == (2, 3, 5, 9)
    assert from_voc((0, 0, 20, 10), True) == (0, 0, 20, 10)
    assert to_voc((0, 0, 20, 10)) == [1, 1, 20, 10] and to_voc((2.5, 3, 5.25, 9)) == [3.5, 4, 5.25, 9]
    for corners in ((0, 0, 20, 10), (2, 3, 5, 9), (1.25, 0, 3, 7.5)):
        assert from_voc(to_voc(corners), False) == corners


def test_a_slip_of_the_mouse_has_no_area():
    x0, _, x1, _ = from_voc((5, 2, 5, 9), False)
    assert x0 == x1


def test_counting_from_zero_is_seen_and_said():
    notes = []
    assert not counted_from_zero([(1, 1, 5, 5)], notes.append) and not notes
    assert counted_from_zero([(3, 1, 5, 5), (0, 4, 5, 5)], notes.append) and "counted from 0" in notes[0]
    assert not counted_from_zero([], notes.append)


def test_numbers_are_as_short_as_can_be():
    assert [whole(value) for value in (3.0, 2.99999999, 2.5, 1 / 3)] == [3, 3, 2.5, 0.3333]
    assert isinstance(whole(3.0), int)


BAD = {
    "inverted": (5, 2, 3, 4),
    "without an area": (5, 2, 5, 4),
    "outside of their picture": (15, 2, 25, 4),
    "not finite": (5, 2, float("nan"), 4),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_box_is_counted_named_and_refused_or_dropped(what):
    found, notes = some((1, 1, 4, 4), BAD[what]), []
    with pytest.raises(UserError, match=rf"folder: 1 bad boxes: 1 {what}: a.png, box 2 \(cell\); mend .* --drop-bad"):
        checked(found, Path("folder"), False, notes.append)
    left = checked(found, Path("folder"), True, notes.append)
    assert [box.corners for box in left.pictures[0].boxes] == [(1, 1, 4, 4)]
    assert f"1 {what}" in notes[0] and "left out" in notes[0]


def test_all_kinds_are_counted_together():
    with pytest.raises(UserError, match=r"5 bad boxes: 2 inverted, 1 without an area, 1 outside .*; \.\.\.; mend"):
        checked(some(BAD["inverted"], *BAD.values()), Path("folder"), False, print)


def test_up_to_a_pixel_is_rounding_and_is_cut_and_said():
    notes = []
    found = checked(some((-0.5, 0, 20.9, 10.0), (1, 1, 4, 4)), Path("folder"), False, notes.append)
    assert [box.corners for box in found.pictures[0].boxes] == [(0, 0, 20, 10), (1, 1, 4, 4)]
    assert notes == ["1 boxes pass the edge of their picture by up to a pixel, and are cut there"]


def test_a_box_of_which_nothing_is_in_the_picture_is_outside_of_it():
    with pytest.raises(UserError, match="1 outside of their picture"):
        checked(some((20, 1, 20.8, 4)), Path("folder"), False, print)


def test_shares_where_pixels_are_needed_are_refused():
    with pytest.raises(UserError, match="all corners lie between 0 and 1"):
        checked(some((0.1, 0.2, 0.5, 1.0), (0.0, 0.0, 1.0, 1.0)), Path("folder"), True, print)
    assert len(checked(some((0.1, 0.2, 0.5, 1.5)), Path("folder"), False, print).pictures[0].boxes) == 1


def test_two_pictures_of_one_name_are_refused():
    one = some((1, 1, 4, 4))
    twice = one._replace(pictures=[*one.pictures, one.pictures[0]._replace(file=Path("b/a.jpg"))])
    with pytest.raises(UserError, match="two pictures are called a; rename one"):
        checked(twice, Path("folder"), False, print)


@pytest.mark.parametrize(
    "name", ["z\udce4.png", "a\x01.png"]
)  # of bytes that are no UTF-8, as old archives leave them
def test_a_picture_whose_name_no_text_can_hold_is_refused(name):
    one = some((1, 1, 4, 4))
    with pytest.raises(UserError, match="a picture is called"):
        checked(one._replace(pictures=[one.pictures[0]._replace(file=Path(name))]), Path("folder"), False, print)
