"""What is read of YOLO's files, their traps, and what is refused in one line."""

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.detection.yolo import labels_of
from tests.systems.detection.folders import found, picture, text, yolo


def test_yolo_has_shares_of_the_picture_and_classes_from_0(tmp_path):
    boxes, data, _ = found(yolo(tmp_path, "1 0.5 0.5 1 1\n\n0 0.25 0.5 0.1 0.2\n"))
    assert boxes["a"][0] == ((0, 0, 40, 30), "dust", False, False)
    assert boxes["a"][1][0] == pytest.approx((8, 12, 12, 18))
    assert data.classes == ["cell", "dust"] and data.ids == [1, 2]


def test_names_may_be_a_dict_and_a_polygon_has_a_box_around_it(tmp_path):
    boxes, data, notes = found(yolo(tmp_path, "1 0.1 0.2 0.5 0.2 0.3 0.6\n", "names:\n  1: b\n  0: a\n"))
    assert boxes["a"][0][:2] == (pytest.approx((4, 6, 20, 18)), "b") and data.classes == ["a", "b"]
    assert notes == ["1 objects are polygons: the boxes around them are taken"]


def test_a_picture_without_labels_has_no_objects_and_that_is_said(tmp_path):
    picture(yolo(tmp_path, "0 0.5 0.5 1 1") / "images" / "empty.png")
    boxes, _, notes = found(tmp_path)
    assert boxes["empty"] == [] and notes == [
        "1 pictures have no file of labels, and are taken for pictures without objects"
    ]


def test_the_parts_of_data_yaml_are_its_lists(tmp_path):
    yolo(tmp_path, "0 0.5 0.5 1 1", "names: [cell]\ntrain: ../train/images\nval: valid.txt\n")  # as Roboflow has it
    (tmp_path / "images" / "a.png").unlink()
    for place in ("train", "valid"):
        picture(tmp_path / place / "images" / f"{place}.png")
        text(tmp_path / place / "labels" / f"{place}.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "valid.txt", "valid/images/valid.png\n")
    boxes, data, _ = found(tmp_path)
    assert {*boxes} == {"train", "valid"} and data.listed == {"train": "train", "valid": "val"}


def test_where_labels_lie(tmp_path):
    assert (
        labels_of(tmp_path / "images" / "x" / "images" / "a.png", tmp_path)
        == tmp_path / "images" / "x" / "labels" / "a.txt"
    )
    assert labels_of(tmp_path / "a.jpg", tmp_path) == tmp_path / "a.txt"


@pytest.mark.parametrize(
    ("lines", "yaml", "says"),
    [
        ("0 20 15 10 10", "names: [a]", "line 1: 20: absolute numbers; YOLO has shares"),
        ("0 0.5 0.5 1 1\n3 0.5 0.5 1 1", "names: [a]", "line 2: class 3; data.yaml names 1"),
        ("0 0.5 0.5 1", "names: [a]", "4 numbers; a class, the middle"),
        (
            "0 0.5 0.5 1 1 0.9",
            "names: [a]",
            "line 1: a probability after the box",
        ),  # with a probability: what was found
        ("cell 0.5 0.5 1 1", "names: [a]", "not numbers: cell"),
        ("0 0.5 0.5 1 1", "names: {0: a, 2: b}", r"numbered \[0, 2\]"),
        ("0 0.5 0.5 1 1", "names: [a]\ntrain: nowhere", "train: nowhere is not there"),
    ],
)
def test_what_is_wrong_with_yolo_is_one_line(lines, yaml, says, tmp_path):
    with pytest.raises(UserError, match=says):
        found(yolo(tmp_path, lines, yaml))


def test_yolo_without_any_labels_says_where_they_should_be(tmp_path):
    (yolo(tmp_path, "") / "labels" / "a.txt").unlink()
    with pytest.raises(UserError, match=r"none of its 1 pictures has labels; looked for .*labels/a\.txt"):
        found(tmp_path)


def test_names_of_yaml_are_text_and_nothing_else(tmp_path):
    assert found(yolo(tmp_path, "0 0.5 0.5 1 1", "names: [no, 010, ' 1e3 ']\n"))[1].classes == ["no", "010", "1e3"]
    nested = "a: &a [x, x]\nb: &b [*a, *a]\n"
    for names in ("cell", "7", "coco.names", "{0: a, b: c}", "[*b]", "[a, a]"):
        with pytest.raises(UserError, match=r"data.yaml: (names: a list|two categories are called a)"):
            found(yolo(tmp_path, "0 0.5 0.5 1 1", f"{nested}names: {names}\n"))
    for broken in ("names: [a", "names: " + "[" * 3000):
        with pytest.raises(UserError, match=r"data.yaml: not YAML"):
            found(yolo(tmp_path, "0 0.5 0.5 1 1", broken))


def test_data_yaml_lays_nothing_open_beyond_its_folder(tmp_path):
    inner = tmp_path / "data"
    text(tmp_path / "secret.txt", "token=1\n")
    text(inner / "list.txt", f"{picture(tmp_path / 'other' / 'o.png')}\n")
    places = ("/", "../secret.txt", tmp_path / "secret.txt", "../other", "[images, ../other]", "list.txt")
    for place in places:
        yolo(inner, "0 0.5 0.5 1 1", f"path: ..\nnames: [cell]\ntrain: {place}\n")
        with pytest.raises(UserError, match="is not there, in") as error:
            found(inner)
        assert "token" not in str(error.value)
    yolo(inner, "0 0.5 0.5 1 1", f"names: [cell]\ntrain: {inner / 'images'}\n")
    assert {*found(inner)[0]} == {"a"}


def test_labels_are_looked_for_within_the_folder_alone(tmp_path):
    folder = tmp_path / "images" / "set"
    picture(folder / "p" / "a.png")
    text(folder / "p" / "a.txt", "0 0.5 0.5 1 1")
    text(tmp_path / "labels" / "set" / "p" / "a.txt", "1 0.5 0.5 1 1")
    text(folder / "data.yaml", "names: [mine, other]\ntrain: p\n")
    assert found(folder)[0]["a"][0][1] == "mine"


def test_the_joints_of_a_pose_are_no_outline(tmp_path):
    line = "0 0.5 0.5 0.2 0.2" + " 0.1 0.9" * 17
    boxes, data, notes = found(yolo(tmp_path, line, "names: [cell]\nkpt_shape: [17, 2]\n"))
    assert boxes["a"][0][0] == pytest.approx((16, 12, 24, 18)) and data.others == ["keypoints"] and not notes


def test_a_polygon_of_what_is_no_number_is_bad(tmp_path):
    (corners, *_), *_ = found(yolo(tmp_path, "0 0.1 0.1 nan 0.1 0.2 0.3"))[0]["a"]
    assert np.isnan(corners).any()


def test_labels_of_no_picture_are_said(tmp_path):
    text(yolo(tmp_path, "0 0.5 0.5 1 1") / "labels" / "b.txt", "0 0.5 0.5 1 1")
    assert found(tmp_path)[2] == ["1 files of labels, such as b.txt, are of no picture that is read"]


@pytest.mark.parametrize("names", ["classes.txt", "obj.names"])
def test_names_without_data_yaml_and_labels_beside_their_pictures(names, tmp_path):
    for place in ("a.png", "images/b.png"):  # where labelImg leaves them
        text(picture(tmp_path / place).with_suffix(".txt"), "1 0.5 0.5 1 1\n")
    text(tmp_path / names, "cell\n\ndust\n")
    text(tmp_path / "test.txt", "data/images/b.png\n")
    boxes, data, _ = found(tmp_path)
    assert boxes == {stem: [((0, 0, 40, 30), "dust", False, False)] for stem in "ab"}
    assert data.classes == ["cell", "dust"] and data.listed == {"b": "test"}
    text(tmp_path / "a.txt", "2 0.5 0.5 1 1\n")
    with pytest.raises(UserError, match=f"class 2; {names} names 2, from 0"):
        found(tmp_path)
