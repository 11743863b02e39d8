"""What is read of COCO's files and of all formats, and what is refused in one line."""

import json

import pytest

from inkwash.errors import UserError
from tests.systems.detection.folders import HEIGHT, WIDTH, coco, found, picture, table, text, voc, yolo


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


def in_parts(folder, write, **names):
    """A set of one file of annotations for each part, with its picture beside it, as Roboflow exports it."""
    for part, name in names.items():
        picture(folder / name / f"{part}.png")
        write(folder / name, part)
    return folder


def coco_part(folder, part, categories=((0, "cells", "none"), (1, "cell", "cells"))):
    content = {
        "images": [{"id": 0, "file_name": f"{part}.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [2, 3, 4, 5]}],
        "categories": [{"id": key, "name": name, "supercategory": above} for key, name, above in categories],
    }
    text(folder / "_annotations.coco.json", json.dumps(content))


def test_coco_of_a_file_for_each_part_is_one_set_without_its_heading(tmp_path):
    in_parts(tmp_path, coco_part, train="train", val="valid", test="test")
    boxes, data, notes = found(tmp_path)
    assert boxes == {part: [((2, 3, 6, 8), "cell", False, False)] for part in ("train", "val", "test")}
    assert data.listed == {"train": "train", "val": "val", "test": "test"}
    assert data.classes == ["cell"] and data.ids == [1] and "of cells nothing is annotated: a heading" in notes[0]


def test_parts_that_do_not_agree_or_are_not_told_apart_are_refused(tmp_path):
    in_parts(tmp_path / "other", coco_part, train="train")
    in_parts(tmp_path / "other", lambda *own: coco_part(*own, ((1, "cell", ""), (2, "dust", ""))), val="valid")
    with pytest.raises(UserError, match="other categories, or other ids of them, than"):
        found(tmp_path / "other")
    in_parts(tmp_path / "same", coco_part, train="first", val="second")
    with pytest.raises(UserError, match=r"several files of annotations: first/_anno.*name one train"):
        found(tmp_path / "same")


def test_pictures_of_coco_s_own_folders_are_found(tmp_path):
    for part in ("train2017", "val2017"):
        coco_part(tmp_path / "annotations", part)
        (tmp_path / "annotations" / "_annotations.coco.json").rename(
            tmp_path / "annotations" / f"instances_{part}.json"
        )
        picture(tmp_path / part / f"{part}.png")
    boxes, data, _ = found(tmp_path)
    assert {*boxes} == {"train2017", "val2017"} and data.listed == {"train2017": "train", "val2017": "val"}


def test_folders_of_parts_part_what_no_list_does(tmp_path):
    voc(tmp_path, [("cell", 0, 3, 4, 6, 9)], name="")
    for part in ("train", "valid"):
        picture(tmp_path / "set" / part / f"{part}.png")
        text(
            tmp_path / "set" / part / f"{part}.xml",
            (tmp_path / "Annotations" / "a.xml").read_text(),
        )
    _, data, notes = found(tmp_path / "set")
    assert (
        data.listed == {"train": "train", "valid": "val"}
        and "folders are called train, val, and part them" in notes[-1]
    )
    picture(tmp_path / "set" / "b.png")
    text(tmp_path / "set" / "b.xml", (tmp_path / "Annotations" / "a.xml").read_text())
    assert found(tmp_path / "set")[1].listed == {}
