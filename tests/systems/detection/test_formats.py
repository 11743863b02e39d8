"""What is read of each format, the traps of each, and what is refused in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.detection.formats import labels_of, read

WIDTH, HEIGHT = 40, 30


def picture(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path, **options)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def found(folder):
    """Corners and more of each box, by the picture's stem; classes; notes."""
    notes = []
    data = read(folder, notes.append)
    boxes = {
        one.file.stem: [(box.corners, box.label, box.crowd, box.difficult) for box in one.boxes]
        for one in data.pictures
    }
    return boxes, data, notes


def coco(folder, annotations, categories=((3, "cell"), (90, "dust"))):
    picture(folder / "images" / "a b.png")
    content = {
        "images": [{"id": 7, "file_name": "a b.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": i, "image_id": 7} | one for i, one in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    text(folder / "coco.json", json.dumps(content))
    return folder


def test_coco_has_width_and_height_crowds_and_ids_with_gaps(tmp_path):
    rows = [
        {"category_id": 90, "bbox": [0, 0, WIDTH, HEIGHT], "iscrowd": 1},
        {"category_id": 3, "bbox": [2.5, 3, 4, 5]},
    ]
    boxes, data, _ = found(coco(tmp_path, rows))
    assert boxes == {"a b": [((0, 0, 40, 30), "dust", True, False), ((2.5, 3, 6.5, 8), "cell", False, False)]}
    assert data.classes == ["cell", "dust"] and data.ids == [3, 90]


@pytest.mark.parametrize(
    ("rows", "categories", "says"),
    [
        ([{"category_id": 3}], ((3, "cell"),), "not COCO's JSON: 'bbox' is missing"),
        ([{"category_id": 3, "bbox": [1, 2, 3]}], ((3, "cell"),), "not COCO's JSON"),
        ([{"category_id": 4, "bbox": [1, 2, 3, 4]}], ((3, "cell"),), "unknown category 4"),
        ([{"category_id": 3, "bbox": [1, 2, 3, 4]}], ((3, "cell"), (4, "cell")), "two categories are called cell"),
    ],
)
def test_what_is_wrong_with_coco_is_one_line(rows, categories, says, tmp_path):
    with pytest.raises(UserError, match=says):
        found(coco(tmp_path, rows, categories))


def yolo(folder, lines, yaml="names: [cell, dust]\n"):
    picture(folder / "images" / "a.png")
    text(folder / "labels" / "a.txt", lines)
    text(folder / "data.yaml", yaml)
    return folder


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
    assert labels_of(tmp_path / "images" / "x" / "images" / "a.png") == tmp_path / "images" / "x" / "labels" / "a.txt"
    assert labels_of(tmp_path / "a.jpg") == tmp_path / "a.txt"


@pytest.mark.parametrize(
    ("lines", "yaml", "says"),
    [
        ("0 20 15 10 10", "names: [a]", "line 1: 20: absolute numbers; YOLO has shares"),
        ("0 0.5 0.5 1 1\n3 0.5 0.5 1 1", "names: [a]", "line 2: class 3; data.yaml names 1"),
        ("0 0.5 0.5 1", "names: [a]", "4 numbers; a class, the middle"),
        (
            "0 0.5 0.5 1 1 0.9",
            "names: [a]",
            "6 numbers; a class",
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


def voc(folder, objects, name="a.png", size=(WIDTH, HEIGHT)):
    picture(folder / "JPEGImages" / "a.png")
    rows = "".join(
        f"<object><name>{label}</name><difficult>{hard}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, hard, x0, y0, x1, y1 in objects
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    text(folder / "Annotations" / "a.xml", f"<annotation><filename>{name}</filename>{sides}{rows}</annotation>")
    return folder


def test_voc_counts_from_1_and_says_what_is_difficult(tmp_path):
    boxes, data, notes = found(voc(tmp_path, [("dust", 1, 1, 1, WIDTH, HEIGHT), ("cell", 0, 3, 4, 6, 9)]))
    assert boxes == {"a": [((0, 0, 40, 30), "dust", False, True), ((2, 3, 6, 9), "cell", False, False)]}
    assert data.classes == ["cell", "dust"] and not notes


def test_voc_that_counts_from_0_is_read_so(tmp_path):
    boxes, _, notes = found(voc(tmp_path, [("cell", 0, 0, 4, 6, 9), ("cell", 0, 2, 4, 6, 9)]))
    assert boxes["a"][1][0] == (2, 4, 6, 9) and "counted from 0" in notes[0]


def test_voc_finds_its_picture_by_its_stem_and_has_lists(tmp_path):
    voc(tmp_path, [("cell", 0, 3, 4, 6, 9)], name="elsewhere/a.JPG", size=(0, 0))  # no size, as some tools leave it
    picture(tmp_path / "JPEGImages" / "lone.png")
    text(tmp_path / "ImageSets" / "Main" / "val.txt", "a\n")
    boxes, data, notes = found(tmp_path)
    assert {*boxes} == {"a"} and data.listed == {"a": "val"} and "1 pictures have no annotation" in notes[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": (HEIGHT, WIDTH)}, "a.png is 40 x 30 pixels, by the file 30 x 40"),
        ({"name": "b.png", "objects": []}, "its picture b.png is nowhere"),
        ({"objects": [("cell", 0, "", 4, 6, 9)]}, "an object without a name, or without the four numbers"),
    ],
)
def test_what_is_wrong_with_voc_is_one_line(options, says, tmp_path):
    voc(tmp_path, **({"objects": [("cell", 0, 3, 4, 6, 9)]} | options))
    if "b.png" in says:
        (tmp_path / "JPEGImages" / "a.png").rename(tmp_path / "JPEGImages" / "other.png")
    with pytest.raises(UserError, match=says):
        found(tmp_path)


def table(folder, rows, head="image,label,xmin,ymin,xmax,ymax"):
    picture(folder / "images" / "a.5.png")
    text(folder / "boxes.csv", "\n".join([head, *rows]))
    return folder


def test_a_table_is_read_with_empty_pictures_and_lists(tmp_path):
    picture(tmp_path / "images" / "empty.png")
    picture(tmp_path / "images" / "listed.png")
    picture(tmp_path / "images" / "lone.png")
    text(tmp_path / "val.txt", "listed\n")
    rows = ["a.5,cell,3,4,6,9", "a.5.png,dust,1,1,40,30", "empty.png,,,,,"]
    boxes, data, notes = found(table(tmp_path, rows))
    assert boxes == {
        "a.5": [((2, 3, 6, 9), "cell", False, False), ((0, 0, 40, 30), "dust", False, False)],
        "empty": [],
        "listed": [],
    }
    assert data.listed == {"listed": "val"} and notes == ["1 pictures have no row, and are left out: lone"]


def test_a_table_of_tensorflow_s_and_flags(tmp_path):
    head = "filename,width,height,class,xmin,ymin,xmax,ymax,crowd,difficult"
    boxes, _, _ = found(table(tmp_path, ["a.5.png,40,30,cell,3,4,6,9,1,1"], head))
    assert boxes["a.5"] == [((2, 3, 6, 9), "cell", True, True)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a.5,cell,3,4,6,x"], "line 2: numbers are needed for xmin, ymin, xmax, ymax"),
        (["b,cell,3,4,6,9"], "1 of its 1 pictures are not in .*: b"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(rows, says, tmp_path):
    with pytest.raises(UserError, match=says):
        found(table(tmp_path, rows))


def test_none_two_formats_and_two_pictures_of_one_name_are_refused(tmp_path):
    picture(tmp_path / "images" / "a.png")
    with pytest.raises(UserError, match=r"no boxes found for 1 pictures; looked for COCO's JSON, YOLO's"):
        found(tmp_path)
    table(tmp_path, ["a,cell,3,4,6,9"])
    picture(tmp_path / "more" / "a.jpg")
    with pytest.raises(UserError, match=r"two pictures are called a: images/a.png and more/a.jpg"):
        found(tmp_path)
    coco(tmp_path, [])
    with pytest.raises(UserError, match=r"several formats: COCO's JSON and a table of boxes"):
        found(tmp_path)


def test_an_annotation_of_a_picture_before_its_exif_turned_it_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    voc(tmp_path, [("cell", 0, 3, 4, 6, 9)], name="a.jpg")
    (tmp_path / "JPEGImages" / "a.png").unlink()
    picture(tmp_path / "JPEGImages" / "a.jpg", exif=exif)
    with pytest.raises(UserError, match=r"a.jpg is 30 x 40 pixels, by the file 40 x 30"):
        found(tmp_path)


def test_what_macos_leaves_is_no_picture_and_pictures_without_annotation_are_said(tmp_path):
    coco(tmp_path / "coco", [{"category_id": 3, "bbox": [2, 3, 4, 5]}])
    picture(tmp_path / "coco" / "images" / "lone.png")
    text(tmp_path / "yolo" / "data.yaml", "names: [cell]\n")
    picture(tmp_path / "yolo" / "images" / "a.png")
    text(tmp_path / "yolo" / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1")
    for kind in ("coco", "yolo"):
        for name in ("._a.png", ".cache/a.png"):
            text(tmp_path / kind / "images" / name, "none")
    boxes, _, notes = found(tmp_path / "coco")
    assert [*boxes] == ["a b"] and notes == ["1 pictures (lone) have no annotation in the JSON, and are left out"]
    boxes, _, notes = found(tmp_path / "yolo")
    assert [*boxes] == ["a"] and not notes
