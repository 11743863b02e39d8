"""What is written is read again as it was, where the format has a place for it; what it has none for is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inkwash.systems.detection.annotations import Annotations, Box, Picture
from inkwash.systems.detection.formats import read
from inkwash.systems.detection.writers import voc_xml, write, yolo_text

FORMATS = ["coco", "yolo", "voc", "csv"]


def some(folder, **changes):
    """Two pictures, one without objects, in images/; boxes with fractions, a name with a space, a class of umlaut."""
    found = {}
    for name in ("zelle 1", "leer"):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((37, 53), np.uint8)).save(folder / "images" / f"{name}.png")
        found[name] = folder / "images" / f"{name}.png"
    boxes = [
        Box((0, 0, 53, 37), "körper"),
        Box((3, 4, 18, 9), "cell & <co>", changes.get("crowd", False), changes.get("difficult", False)),
        Box((2.5, 3.25, 7.125, 30.0625), "körper"),
    ]
    pictures = [Picture(found["zelle 1"], (53, 37), boxes), Picture(found["leer"], (53, 37), [])]
    return Annotations(pictures, ["cell & <co>", "körper"], changes.get("ids", [1, 2]), changes.get("listed", {}))


def again(data, folder, format):
    """Written in a format beside the pictures, and read; and what was said."""
    notes, target = [], folder / "new"
    target.mkdir()
    (folder / "images").rename(target / "images")
    moved = [one._replace(file=target / "images" / one.file.name) for one in data.pictures]
    write(data._replace(pictures=moved), target, target, format, notes.append)
    return data._replace(pictures=moved), read(target, notes.append), notes


@pytest.mark.parametrize("format", FORMATS)
def test_boxes_classes_and_empty_pictures_come_back(format, tmp_path):
    before, after, notes = again(some(tmp_path), tmp_path, format)
    assert after.classes == before.classes and after.ids == before.ids and not notes
    files = {one.file: one for one in after.pictures}
    assert {*files} == {one.file for one in before.pictures}
    for one in before.pictures:
        other = files[one.file]
        assert other.size == one.size and [box._replace(corners=()) for box in other.boxes] == [
            box._replace(corners=()) for box in one.boxes
        ]
        for box, found in zip(one.boxes, other.boxes, strict=True):
            assert found.corners == pytest.approx(box.corners, abs=1e-4)


@pytest.mark.parametrize(("format", "kept"), [("coco", True), ("csv", True), ("voc", False), ("yolo", False)])
def test_crowds_stay_where_there_is_a_place_for_them(format, kept, tmp_path):
    _, after, notes = again(some(tmp_path, crowd=True), tmp_path, format)
    flags = [box.crowd for one in after.pictures for box in one.boxes]
    assert sorted(flags) == ([False, False, True] if kept else [False, False])
    assert any("1 crowds" in note and "left out" in note for note in notes) is not kept


@pytest.mark.parametrize(("format", "kept"), [("coco", True), ("csv", True), ("voc", True), ("yolo", False)])
def test_difficult_stays_where_there_is_a_place_for_it(format, kept, tmp_path):
    _, after, notes = again(some(tmp_path, difficult=True), tmp_path, format)
    assert sum(box.difficult for one in after.pictures for box in one.boxes) == kept
    assert sum(len(one.boxes) for one in after.pictures) == 3  # the box itself is there
    assert any("difficult" in note for note in notes) is not kept


@pytest.mark.parametrize("format", FORMATS)
def test_ids_with_gaps_stay_in_coco_and_are_said_elsewhere(format, tmp_path):
    _, after, notes = again(some(tmp_path, ids=[3, 90]), tmp_path, format)
    assert after.ids == ([3, 90] if format == "coco" else [1, 2])
    assert any("ids of the classes, 3, 90, are lost" in note for note in notes) is (format != "coco")


@pytest.mark.parametrize("format", ["yolo", "voc", "csv"])
def test_a_split_comes_back_as_the_format_s_own_lists(format, tmp_path):
    listed = {"zelle 1": "train", "leer": "val"}
    assert again(some(tmp_path, listed=listed), tmp_path, format)[1].listed == listed


def test_coco_has_its_split_beside_it(tmp_path):
    files = write(
        some(tmp_path, listed={"zelle 1": "train", "leer": "test"}), tmp_path / "out", tmp_path, "coco", print
    )
    assert files["split.csv"].read_text().splitlines() == ["name,split", "zelle 1,train", "leer,test"]


def test_a_class_that_no_box_has_stays_where_classes_are_listed(tmp_path):
    data = some(tmp_path)
    data = data._replace(classes=[*data.classes, "never"], ids=[1, 2, 3])
    assert again(data, tmp_path, "yolo")[1].classes == data.classes


@pytest.mark.parametrize("format", ["voc", "csv"])
def test_a_list_of_classes_that_is_lost_is_said(format, tmp_path):
    data = some(tmp_path)
    _, after, notes = again(data._replace(classes=data.classes[::-1]), tmp_path, format)
    assert after.classes == data.classes and "the list of the classes is lost" in notes[0]


def test_coco_s_numbers(tmp_path):
    write(some(tmp_path, ids=[3, 90]), tmp_path / "out", tmp_path, "coco", print)
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert content["annotations"][1] == {
        "id": 2, "image_id": 1, "category_id": 3, "bbox": [3, 4, 15, 5], "area": 75, "iscrowd": 0,
    }  # fmt: skip
    assert content["images"][0] == {"id": 1, "file_name": "zelle 1.png", "width": 53, "height": 37}


def test_yolo_s_lines():
    assert yolo_text([(1, (10, 5, 30, 15), None)], (40, 20)) == "1 0.5 0.5 0.5 0.5\n"
    assert yolo_text([(0, (0, 0, 40, 20), 0.98765)], (40, 20)) == "0 0.5 0.5 1 1 0.9877\n"


def test_voc_s_numbers():
    text = voc_xml(Picture(Path("a b.png"), (40, 20), []), [("x", (0, 0.5, 40, 20), {"difficult": "1"})])
    for part in ("<filename>a b.png</filename>", "<xmin>1</xmin>", "<ymin>1.5</ymin>", "<xmax>40</xmax>"):
        assert part in text
    assert "<difficult>1</difficult>" in text and "<width>40</width>" in text


@pytest.mark.parametrize(("format", "kept"), [("coco", 4), ("yolo", 4), ("voc", 3), ("csv", 3)])
def test_a_box_of_a_pixel_or_less_is_left_out_where_it_would_have_no_area(format, kept, tmp_path):
    data = some(tmp_path)
    boxes = [*data.pictures[0].boxes, Box((3, 4, 3.5, 9), "körper")]
    _, after, notes = again(data._replace(pictures=[data.pictures[0]._replace(boxes=boxes)]), tmp_path, format)
    assert sum(len(one.boxes) for one in after.pictures) == kept
    assert any("1 boxes, no more than a pixel" in note for note in notes) is (kept == 3)


@pytest.mark.parametrize("format", ["yolo", "voc", "csv"])
def test_what_is_in_no_list_is_still_there_and_learned_from(format, tmp_path):
    _, after, _ = again(some(tmp_path, listed={"leer": "val", "elsewhere": "test"}), tmp_path, format)
    assert after.listed == {"zelle 1": "train", "leer": "val"} and len(after.pictures) == 2


def test_coco_names_a_picture_beside_its_folder(tmp_path):
    write(some(tmp_path), tmp_path / "out", tmp_path / "annotations", "coco", print)
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["zelle 1.png", "leer.png"]
