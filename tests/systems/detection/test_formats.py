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


def test_coco_s_flags_may_be_text(tmp_path):
    rows = [{"category_id": 3, "bbox": [2, 3, 4, 5], "iscrowd": given} for given in ("0", "1", False, 1.0, None)]
    boxes, _, _ = found(coco(tmp_path, rows))
    assert [box[2] for box in boxes["a b"]] == [False, True, False, True, False]
    with pytest.raises(UserError, match="not COCO's JSON: 'maybe', not 0 or 1"):
        found(coco(tmp_path, [rows[0] | {"iscrowd": "maybe"}]))


def test_what_is_not_kept_of_boxes_is_known(tmp_path):
    rows = [{"category_id": 3, "bbox": [2, 3, 4, 5], "segmentation": [], "attributes": {"occluded": True}}]
    assert found(coco(tmp_path / "coco", rows))[1].others == ["attributes"]
    voc(tmp_path / "voc", [("cell", 0, 3, 4, 6, 9)])
    file = tmp_path / "voc" / "Annotations" / "a.xml"
    extra = "<pose>Unspecified</pose><occluded>0</occluded><truncated>1</truncated>"
    text(file, file.read_text().replace("<bndbox>", f"{extra}<bndbox>"))
    assert found(tmp_path / "voc")[1].others == ["truncated"]
    table(tmp_path / "csv", ["a.5,cell,3,4,6,9,7"], "image,label,xmin,ymin,xmax,ymax,slide")
    assert found(tmp_path / "csv")[1].others == ["slide"]


@pytest.mark.parametrize("name", ["", "a\x01b", "a\ud800", "x" * 201])
def test_a_class_that_no_format_could_hold_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="a class is called"):
        found(coco(tmp_path, [], ((3, name),)))


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


def test_what_is_in_two_parts_is_not_learned_from_and_that_is_said(tmp_path):
    yolo(tmp_path / "yolo", "0 0.5 0.5 1 1", "names: [cell]\ntrain: images\nval: val.txt\ntest: images\n")
    picture(tmp_path / "yolo" / "images" / "b.png")
    text(tmp_path / "yolo" / "val.txt", "images/a.png\n")
    _, data, notes = found(tmp_path / "yolo")
    assert data.listed == {"a": "val", "b": "train"} and "1 pictures (a) are in several of train, val" in notes[-1]
    voc(tmp_path / "voc", [("cell", 0, 3, 4, 6, 9)])
    for part in ("train", "test"):
        text(tmp_path / "voc" / "ImageSets" / "Main" / f"{part}.txt", "a\n")
    _, data, notes = found(tmp_path / "voc")
    assert data.listed == {"a": "test"} and "1 pictures (a) are in several of test, train" in notes[-1]


@pytest.mark.parametrize("format", ["yolo", "voc", "csv"])
def test_text_of_other_encodings_is_read_or_refused(format, tmp_path):
    make = {
        "yolo": lambda: yolo(tmp_path, "0 0.5 0.5 1 1"),
        "voc": lambda: voc(tmp_path, [("cell", 0, 3, 4, 6, 9)]),
        "csv": lambda: table(tmp_path, ["a.5,cell,3,4,6,9"]),
    }[format]
    make()
    ending = {"yolo": "labels/*.txt", "voc": "Annotations/*.xml", "csv": "*.csv"}[format]
    (file,) = tmp_path.glob(ending)
    before, content = found(tmp_path)[0], file.read_text()
    file.write_bytes(content.encode("utf-16"))
    assert found(tmp_path)[0] == before
    file.write_bytes((content.replace("cell", "körper") + "\n\xe4").encode("latin-1"))
    with pytest.raises(UserError, match=r"as UTF-8$"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("</annotation>", "", "not XML that can be read"),
        ("<annotation>", '<?xml version="1.0" encoding="gbk"?><annotation>', "not XML that can be read"),
        ("<width>40<", "<width>wide<", "its size is no number of pixels"),
        ("</bndbox>", "</bndbox><bndbox><xmin>1</xmin></bndbox>", "an object 'cell' of several boxes"),
        (">0</difficult>", ">maybe</difficult>", "difficult is 'maybe', not 0 or 1"),
    ],
)
def test_xml_that_is_not_as_voc_has_it_is_one_line(old, new, says, tmp_path):
    file = voc(tmp_path, [("cell", 0, 3, 4, 6, 9)]) / "Annotations" / "a.xml"
    text(file, file.read_text().replace(old, new))
    with pytest.raises(UserError, match=says):
        found(tmp_path)


def test_voc_with_a_namespace_sizes_of_floats_and_masks_beside(tmp_path):
    file = voc(tmp_path, [("cell", 0, 3, 4, 6, 9)]) / "Annotations" / "a.xml"
    content = file.read_text().replace("<annotation>", '<annotation xmlns="http://x">').replace("40<", "40.0<")
    text(file, content)
    picture(tmp_path / "SegmentationClass" / "a.png")
    boxes, data, notes = found(tmp_path)
    assert boxes["a"] == [((2, 3, 6, 9), "cell", False, False)] and not notes
    assert data.pictures[0].file.parent.name == "JPEGImages"


@pytest.mark.parametrize(
    ("rows", "head", "says"),
    [
        (["a.5,,3,4,6,9"], "", "line 2: a box without its class"),
        ([",cell,3,4,6,9"], "", "line 2: a box without its picture"),
        (["", "a.5,cell,3,5,4,6,9,1"], "", "line 3: 8 values for 6 columns"),
        (["a.5,cell,3,4,6,9,maybe"], "image,label,xmin,ymin,xmax,ymax,crowd", "'maybe', not 0 or 1"),
        (["a.5,cell,3,4,6,9,5"], "image,label,xmin,ymin,xmax,ymax,xmin", "two columns are called xmin"),
        (
            ["a.5,90,60,x,3,4,6,9"],
            "filename,width,height,class,xmin,ymin,xmax,ymax",
            "40 x 30 pixels, by the file 90",
        ),
        (["a.5," + "x" * 200_000 + ",3,4,6,9"], "", "not a table"),
    ],
)
def test_rows_that_would_be_read_wrong_are_refused(rows, head, says, tmp_path):
    with pytest.raises(UserError, match=says):
        found(table(tmp_path, rows, head or "image,label,xmin,ymin,xmax,ymax"))


def test_a_column_of_each_name_keeps_its_own_and_empty_rows_say_nothing(tmp_path):
    rows = ["a.5,cell,7,3,4,6,9,False", ",,,,,,,", ""]
    boxes, data, _ = found(table(tmp_path, rows, "image,label,class,xmin,ymin,xmax,ymax,difficult"))
    assert boxes["a.5"] == [((2, 3, 6, 9), "cell", False, False)] and data.others == ["class"]
