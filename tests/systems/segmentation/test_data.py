"""Folders of pictures and masks: found, parted, and refused in one line."""

import json
from operator import attrgetter

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.segmentation.data import read_data, split
from inkwash.systems.splits import near_duplicates
from tests.systems.segmentation.cells import cells, folder, save

pytest.importorskip("skimage")


def names(part):
    return {one.name for one in part}


def test_folders_and_files_beside_each_other_are_the_same(tmp_path):
    one = read_data(folder(tmp_path / "folders", 3))
    for i in range(3):
        picture, labels = cells(i)
        save(picture, tmp_path / "beside" / f"cell_{i}.png")
        save(labels.astype(np.uint16), tmp_path / "beside" / f"cell_{i}_masks.png")
    other = read_data(tmp_path / "beside")
    assert one.classes == other.classes == ["object"] and len(one.examples) == 3
    for a, b in zip(one.examples, other.examples, strict=True):
        assert (
            a.name == b.name
            and a.digest == b.digest
            and (a.labels == b.labels).all()
            and (a.picture == b.picture).all()
        )
        assert a.labels.max() == 5


def test_slices_of_stacks_are_examples_of_one_group(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pairs = [cells(i) for i in range(4)]
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([pair[0] for pair in pairs]), photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "stack_masks.tif",
        np.stack([pair[1] for pair in pairs]).astype(np.uint16),
        photometric="minisblack",
    )
    data = read_data(tmp_path)
    assert [one.name for one in data.examples] == [f"stack-{i}" for i in (1, 2, 3, 4)]
    assert {one.group for one in data.examples} == {"stack"}
    assert (data.examples[2].labels == pairs[2][1]).all()


def test_what_was_found_is_said(tmp_path):
    notes = []
    folder(tmp_path, 3, "binary")
    save(cells(9)[0], tmp_path / "images" / "lone.png")
    read_data(tmp_path, note=notes.append)
    assert notes == [
        "1 pictures (lone) have no mask, and are left out",
        "3 masks, binary: each region is an object, so objects that touch count as one",
    ]


def test_coco_of_a_folder(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "cell"}, {"id": 1, "name": "dirt"}]}
    for i in range(3):
        save(cells(i)[0], tmp_path / "images" / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png", "width": 48, "height": 48})
        shape = [[1, 1, 9, 1, 9, 9, 1, 9]]
        content["annotations"].append({"id": i, "image_id": i, "category_id": 1 + 2 * (i % 2), "segmentation": shape})
    (tmp_path / "all.json").write_text(json.dumps(content))
    data = read_data(tmp_path)
    assert data.classes == ["dirt", "cell"] and [one.kinds[1] for one in data.examples] == [1, 2, 1]
    only = read_data(tmp_path, ("cell",))
    assert only.classes == ["cell"] and [int(one.labels.max()) for one in only.examples] == [0, 1, 0]


def test_coco_of_a_file_for_each_part_is_one_set(tmp_path):
    for i, part in enumerate(("train", "valid")):
        save(cells(i)[0], tmp_path / part / f"{part}.png")
        content = {
            "images": [{"id": 0, "file_name": f"{part}.png", "width": 48, "height": 48}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}],
            "categories": [
                {"id": 0, "name": "cells", "supercategory": "none"},
                {"id": 1, "name": "cell", "supercategory": "cells"},
            ],
        }
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    data = read_data(tmp_path)
    assert data.classes == ["cell"] and data.listed == {"train": "train", "valid": "table"}
    (tmp_path / "valid" / "_annotations.coco.json").write_text(json.dumps(content).replace('"cell"', '"dust"'))
    with pytest.raises(UserError, match="other categories than"):
        read_data(tmp_path)


def test_classes_of_which_nothing_is_there_are_left_out_and_that_is_said(tmp_path):
    save(cells(0)[0], tmp_path / "0.png")
    content = {
        "images": [{"id": 0, "file_name": "0.png", "width": 48, "height": 48}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 7, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}],
        "categories": [{"id": i, "name": f"c{i}"} for i in range(9)],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    notes = []
    data = read_data(tmp_path, note=notes.append)
    assert data.classes == ["c7"] and data.examples[0].kinds.tolist() == [0, 1]
    assert notes[0] == "8 classes have no object, and are left out: c0, c1, c2, c3, c4, ..."


def test_the_split_has_its_shares_and_is_always_the_same(tmp_path):
    data = read_data(folder(tmp_path, 20))
    parts = split(data, tmp_path)
    assert [len(part) for part in parts] == [14, 2, 4]
    again = split(data._replace(examples=data.examples[::-1]), tmp_path)
    assert [names(part) for part in parts] == [names(part) for part in again]
    assert set.union(*map(names, parts)) == names(data.examples)


def test_groups_stay_whole(tmp_path):
    for i in range(12):
        picture, labels = cells(i)
        save(picture, tmp_path / f"slide{i // 3}_{i}.png")
        save(labels.astype(np.uint8), tmp_path / f"slide{i // 3}_{i}_mask.png")
    parts = split(read_data(tmp_path, group=r"(slide\d+)_"), tmp_path)
    assert sorted(map(len, parts)) == [3, 3, 6]
    slides = [{name.split("_")[0] for name in names(part)} for part in parts]
    assert not set.intersection(slides[0], slides[1] | slides[2]) and not slides[1] & slides[2]
    with pytest.raises(UserError, match="a pattern with one bracket is needed"):
        read_data(tmp_path, group="(slide")
    with pytest.raises(UserError, match="'patient' is in no file's name, nor a column"):
        read_data(tmp_path, group="patient")


def test_a_list_is_followed(tmp_path):
    folder(tmp_path, 8)
    rows = [f"cell_{i},{'val' if i < 3 else 'train'},{i // 2}" for i in range(8)]
    (tmp_path / "index.csv").write_text("\n".join(["name,split,patient", *rows]))
    training, choices, table = split(read_data(tmp_path), tmp_path)
    assert names(table) == {"cell_0", "cell_1", "cell_2"} and len(choices) == 1 and len(training) == 4
    with pytest.raises(UserError, match="has '1' to learn from and to measure on"):
        split(read_data(tmp_path, group="patient"), tmp_path)
    (tmp_path / "index.csv").write_text("name,split\ncell_1,some\n")
    with pytest.raises(UserError, match="split 'some': train, val or test is needed"):
        read_data(tmp_path)


@pytest.mark.parametrize(("start", "separator"), [("", ","), ("\ufeff", ";"), ("sep=;\n", ";"), ("", "\t")])
def test_a_list_is_parted_as_spreadsheets_do(start, separator, tmp_path):
    folder(tmp_path, 8)
    rows = [f"cell_{i}{separator}{'test' if i < 3 else 'train'}" for i in range(8)]
    text = start + "\r\n".join([f"name{separator}split", *rows])
    (tmp_path / "split.csv").write_bytes(text.encode())
    assert names(split(read_data(tmp_path), tmp_path)[2]) == {"cell_0", "cell_1", "cell_2"}


def test_a_file_for_each_object(tmp_path):
    notes = []
    for i in range(3):
        picture, labels = cells(i)
        save(picture, tmp_path / f"id{i}" / "images" / f"{i:04d}.png")
        for number in range(1, 6):
            save((255 * (labels == number)).astype(np.uint8), tmp_path / f"id{i}" / "masks" / f"part{number}.png")
    save(cells(3)[0], tmp_path / "id3" / "images" / "0003.png")
    data = read_data(tmp_path, note=notes.append)
    assert notes == [
        "3 pictures with a file for each object",
        "1 pictures (0003) have no mask, and are left out",
        "3 masks with a number for each object",
    ]
    for i, example in enumerate(data.examples):
        assert example.name == f"{i:04d}" and (example.labels == cells(i)[1]).all()
    save(cells(0)[1].astype(np.uint8), tmp_path / "id0" / "masks" / "all.png")
    with pytest.raises(UserError, match=r"all\.png: more than one object; .*masks is to have a file for each"):
        read_data(tmp_path)
    save(np.full((9, 9), 255, np.uint8), tmp_path / "id0" / "masks" / "all.png")
    with pytest.raises(UserError, match=r"part1\.png: of another size than all\.png"):
        read_data(tmp_path)


def test_masks_without_a_picture_are_said(tmp_path):
    notes = []
    folder(tmp_path, 4)
    (tmp_path / "images" / "cell_3.png").rename(tmp_path / "images" / "cell_3.czi")
    read_data(tmp_path, note=notes.append)
    assert notes[0] == "1 masks (cell_3) have no picture that is read here, and are left out"


def test_a_models_answers_are_no_truth(tmp_path):
    picture, _ = cells(0)
    save(picture, tmp_path / "a.png")
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "score": 0.9}
    images = [{"id": 1, "file_name": "a.png", "width": picture.shape[1], "height": picture.shape[0]}]
    content = {"images": images, "categories": [{"id": 1, "name": "cell"}], "annotations": [shape]}
    (tmp_path / "objects.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"objects\.json: annotations with a score are a model's answers, no truth"):
        read_data(tmp_path)
    del shape["score"]
    (tmp_path / "objects.json").write_text(json.dumps(content))
    assert len(read_data(tmp_path).examples) == 1


def test_a_list_without_a_split_whose_row_is_longer_is_said(tmp_path):
    notes = []
    folder(tmp_path, 3)
    (tmp_path / "index.csv").write_text("name,remark\ncell_0,good, but dark\n")
    read_data(tmp_path, note=notes.append)
    assert "index.csv has no column 'split', and is not followed; there are name, remark" in notes


def test_masks_of_cellpose(tmp_path):
    picture, labels = cells(0)
    save(picture, tmp_path / "a.png")
    save(labels.astype(np.uint16), tmp_path / "a_cp_masks.png")
    (example,) = read_data(tmp_path).examples
    assert example.name == "a" and (example.labels == labels).all()


def test_near_duplicates_are_named(tmp_path):
    folder(tmp_path, 6)
    brighter = np.clip(cells(1)[0].astype(int) + 9, 0, 255).astype(np.uint8)
    save(brighter, tmp_path / "images" / "copy.png")
    save(cells(1)[1].astype(np.uint8), tmp_path / "masks" / "copy.png")
    examples = {one.name: one for one in read_data(tmp_path).examples}
    copy, picture_of = examples.pop("copy"), attrgetter("picture")
    assert near_duplicates([list(examples.values()), [copy]], picture_of) == [("cell_1", "copy")]
    assert near_duplicates([list(examples.values())[:3], list(examples.values())[3:]], picture_of) == []


def test_a_class_that_is_missing_where_it_is_learned_is_said(tmp_path):
    for i in range(6):
        values = np.zeros((24, 24), np.uint8)
        values[2:8, 2:8], values[12:18, 2:8] = 1, 1
        if i == 0:
            values[2:8, 12:18] = 2
        save(cells(i, 24, 1)[0], tmp_path / "images" / f"cell_{i}.png")
        save(values, tmp_path / "masks" / f"cell_{i}.png")
    rows = [f"cell_{i},{'test' if i == 0 else 'train'}" for i in range(6)]
    (tmp_path / "split.csv").write_text("\n".join(["name,split", *rows]))
    with pytest.raises(UserError, match="class 'rare' is in no picture of the training part"):
        split(read_data(tmp_path, ("usual", "rare")), tmp_path)


def no_masks(path):
    for i in range(3):
        save(cells(i)[0], path / f"{i}.png")


def other_size(path):
    folder(path, 3)
    save(cells(0, 40)[1].astype(np.uint8), path / "masks" / "cell_0.png")


def empty(path):
    folder(path, 3)
    for i in range(3):
        save(np.zeros((48, 48), np.uint8), path / "masks" / f"cell_{i}.png")


def one(path):
    folder(path, 1)


def twice(path):
    folder(path, 3)
    save(cells(0)[0], path / "images" / "cell_0.tif")


def masks_twice(path):
    folder(path, 3)
    save(cells(0)[1].astype(np.uint8), path / "labels" / "cell_0.png")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            no_masks,
            "no masks found for 3 pictures; looked in masks or labels for the names that images/ has",
        ),
        (other_size, "40 x 40 pixels, but cell_0.png has 48 x 48"),
        (empty, "all 3 masks are empty"),
        (one, "1 pictures, or groups of them, .* 3 at least are needed"),
        (twice, "two pictures are called cell_0: cell_0.png and cell_0.tif"),
        (masks_twice, "two masks are called cell_0"),
    ],
)
def test_bad_folders_are_one_line(make, says, tmp_path):
    make(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        split(read_data(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_another_number_of_classes_is_said(tmp_path):
    with pytest.raises(UserError, match="3 classes are named, the masks have 5 values beside 0: 1, 2, 3, 4, 5"):
        read_data(folder(tmp_path, 3), ("a", "b", "c"))
    with pytest.raises(UserError, match="a folder of pictures and masks is needed"):
        read_data(tmp_path / "images" / "cell_0.png")


def test_hidden_folders_and_umlauts_of_two_systems(tmp_path):
    folder(tmp_path, 3)
    for place in ("images/.ipynb_checkpoints", ".trash/masks", "__MACOSX/images"):
        save(cells(0)[0], tmp_path / place / ("._cell_0.png" if "MAC" in place else "cell_0.png"))
    save(cells(4)[0], tmp_path / "images" / "gr\u00fcn 1.png")
    save(cells(4)[1].astype(np.uint8), tmp_path / "masks" / "gru\u0308n 1.png")
    assert [one.name for one in read_data(tmp_path).examples] == ["cell_0", "cell_1", "cell_2", "gr\u00fcn 1"]


def test_a_list_knows_names_with_dots_folders_and_umlauts(tmp_path):
    notes, names = [], ["a.v1", "b.v1", "gr\u00fcn", "d", "e"]
    for i, name in enumerate(names):
        save(cells(i)[0], tmp_path / "images" / f"{name}.png")
        save(cells(i)[1].astype(np.uint8), tmp_path / "masks" / f"{name}.png")
    rows = ["a.v1,test", "images\\b.v1.png,test", "gru\u0308n.png,test", "gone,test", "d,train"]
    (tmp_path / "index.csv").write_text("\n".join(["name,split", *rows]), encoding="utf-8")
    data = read_data(tmp_path, note=notes.append)
    assert {name for name, part in data.listed.items() if part == "table"} == {"a.v1", "b.v1", "gr\u00fcn"}
    assert "1 pictures (e) are not in index.csv" in notes
    assert "index.csv: 1 pictures (gone) are not among those that are read" in notes
    (tmp_path / "index.csv").write_text("file;split\na;test\n")
    with pytest.raises(UserError, match=r"^\S*index.csv: a column 'name' is needed, and 'split' or one to group by$"):
        read_data(tmp_path)
    (tmp_path / "index.csv").write_text("name,subset\na,test\n")
    assert read_data(tmp_path, note=notes.append).listed == {}
    assert "index.csv has no column 'split', and is not followed; there are name, subset" in notes


def test_turned_pictures_are_said(tmp_path):
    folder(tmp_path, 3)
    exif, notes = Image.Exif(), []
    exif[0x0112] = 3
    Image.fromarray(cells(0)[0]).save(tmp_path / "images" / "cell_0.png", exif=exif)
    read_data(tmp_path, note=notes.append)
    assert "1 pictures (cell_0.png) are turned as their EXIF says: their masks must lie the same way" in notes


def test_pictures_without_an_annotation_are_said(tmp_path):
    folder(tmp_path, 2)
    shape = {"label": "a", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
    (tmp_path / "images" / "cell_0.json").write_text(json.dumps({"imagePath": "cell_0.png", "shapes": [shape]}))
    notes = []
    assert len(read_data(tmp_path, note=notes.append).examples) == 1
    assert "1 pictures (cell_1) have no annotation in the JSON, and are left out" in notes


def test_classes_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(UserError, match="class 'a' is named twice"):
        read_data(folder(tmp_path, 3), ("a", "b", "c", "d", "a"))
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"c{i}"} for i in range(300)]}
    save(cells(0)[0], tmp_path / "images" / "0.png")
    content["images"] = [{"id": 0, "file_name": "0.png", "width": 48, "height": 48}]
    shape = [[1, 1, 9, 1, 9, 9, 1, 9]]
    content["annotations"] = [{"id": i, "image_id": 0, "category_id": i, "segmentation": shape} for i in range(300)]
    (tmp_path / "all.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="300 classes; 255 at most"):
        read_data(tmp_path)
    assert read_data(tmp_path, ("c299",)).classes == ["c299"]


def test_masks_whose_colours_were_reduced_each_by_itself(tmp_path):
    folder(tmp_path, 3)
    for i in range(3):
        white = Image.fromarray(np.dstack([255 * (cells(i)[1] > 0)] * 3).astype(np.uint8))
        white.quantize(4).save(tmp_path / "masks" / f"cell_{i}.png")
    notes = []
    data = read_data(tmp_path, note=notes.append)
    assert all(((one.labels > 0) == (cells(i)[1] > 0)).all() for i, one in enumerate(data.examples))
    assert "the masks' palettes differ: they are read by their colours, and black is where nothing is" in notes


def test_folders_of_parts_part_what_no_list_does(tmp_path):
    notes = []
    folder(tmp_path / "train", 3)
    (tmp_path / "train" / "images" / "cell_0.png").rename(tmp_path / "cell_0.png")
    (tmp_path / "test").mkdir()
    (tmp_path / "cell_0.png").rename(tmp_path / "test" / "cell_0.png")
    data = read_data(tmp_path, note=notes.append)
    assert data.listed == {"cell_0": "table", "cell_1": "train", "cell_2": "train"}
    assert any(note.startswith("their folders are called test, train, and part them") for note in notes)
    (tmp_path / "split.csv").write_text("name,split\ncell_1,test\n")
    assert read_data(tmp_path).listed == {"cell_1": "table"}  # which goes before


def test_objects_of_a_json_that_are_not_seen_are_said(tmp_path):
    save(cells(0)[0], tmp_path / "a.png")
    height, width = cells(0)[0].shape[:2]
    images = [{"id": 1, "file_name": "a.png", "width": width, "height": height}]
    shapes = [[[2, 2, 9, 2, 9, 9, 2, 9]], [[3, 3, 8, 3, 5, 3]]]
    objects = [{"id": i, "image_id": 1, "category_id": 1, "segmentation": one} for i, one in enumerate(shapes)]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    notes = []
    assert read_data(tmp_path, note=notes.append).examples[0].labels.max() == 1
    assert "1 objects are left out: they lie below others, or cover half of no pixel" in notes
