"""A folder as examples, and its split."""

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.detection.data import page_of, read_data, split
from inkwash.systems.splits import near_duplicates
from tests.systems.detection.toy import folder, shapes


def test_examples_have_boxes_in_their_pixels_and_numbers_of_classes(tmp_path):
    notes = []
    data = read_data(folder(tmp_path, 3), note=notes.append)
    assert data.classes == ["disc", "square"] and [one.name for one in data.examples] == ["p0", "p1", "p2"]
    for i, one in enumerate(data.examples):
        _, boxes, kinds = shapes(i)
        np.testing.assert_array_equal(one.boxes, boxes)
        assert [data.classes[kind] for kind in one.kinds] == kinds and one.size == (48, 40)
    assert notes[0].startswith("3 pictures: ") and "of disc" in notes[0]
    assert len({one.digest for one in data.examples}) == 3


def test_seven_tenths_a_tenth_and_a_fifth_without_a_list(tmp_path):
    parts = split(read_data(folder(tmp_path, 10)), tmp_path)
    assert [len(part) for part in parts] == [7, 1, 2]
    assert len({one.name for part in parts for one in part}) == 10


@pytest.mark.parametrize("lists", ["val.txt", "split.csv"])
def test_a_list_says_what_stays_out(lists, tmp_path):
    folder(tmp_path, 8)
    text = "p1\np5\n" if lists == "val.txt" else "name,split\np1,val\np5.png,test\n"
    (tmp_path / lists).write_text(text)
    training, choices, table = split(read_data(tmp_path), tmp_path)
    assert {one.name for one in table} == {"p1", "p5"} and len(choices) == 1 and len(training) == 5


def test_groups_stay_whole(tmp_path):
    folder(tmp_path, 9)
    for i in range(9):
        (tmp_path / "images" / f"p{i}.png").rename(tmp_path / "images" / f"s{i // 3}_{i}.png")
    text = (tmp_path / "boxes.csv").read_text()
    for i in range(9):
        text = text.replace(f"p{i},", f"s{i // 3}_{i},")
    (tmp_path / "boxes.csv").write_text(text)
    parts = split(read_data(tmp_path, "(.*)_"), tmp_path)
    assert all(
        {one.group for one in a}.isdisjoint(one.group for one in b) for a in parts for b in parts if a is not b
    )
    assert [len(part) for part in parts] == [3, 3, 3]
    with pytest.raises(UserError, match="group 'x' is in no file's name"):
        read_data(tmp_path, "x")


def test_what_cannot_be_split_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no boxes in any of its 2 pictures"):
        read_data(folder(tmp_path / "none", 2, rows=[["p0", "", "", "", "", ""], ["p1", "", "", "", "", ""]]))
    with pytest.raises(UserError, match="1 pictures, or groups of them"):
        split(read_data(folder(tmp_path / "one", 1)), tmp_path / "one")
    one = split(read_data(folder(tmp_path / "few", 5)), tmp_path / "few")[1][0].name
    rows = [[f"p{i}", "", "", "", "", ""] if f"p{i}" == one else [f"p{i}", "a", 1, 1, 9, 9] for i in range(5)]
    with pytest.raises(UserError, match="none of the 1 pictures for choices has objects"):
        split(read_data(folder(tmp_path / "few", 5, rows=rows)), tmp_path / "few")
    rows = [[f"p{i}", "b" if f"p{i}" == one else "a", 1, 1, 9, 9] for i in range(5)]
    with pytest.raises(UserError, match="class 'b' is in no picture of the training part"):
        split(read_data(folder(tmp_path / "few", 5, rows=rows)), tmp_path / "few")


def test_bad_boxes_are_dropped_only_if_that_is_said(tmp_path):
    rows = [["p0", "a", 1, 1, 9, 9], ["p0", "a", 5, 5, 5, 9], ["p1", "a", 2, 2, 90, 9]]
    folder(tmp_path, 2, rows=rows)
    with pytest.raises(UserError, match=r"2 bad boxes: 1 without an area, 1 outside of their picture: p0.png, box 2"):
        read_data(tmp_path)
    assert [len(one.boxes) for one in read_data(tmp_path, drop_bad=True).examples] == [1, 0]


def test_near_duplicates_across_the_split_are_named(tmp_path):
    folder(tmp_path, 3)
    picture = np.asarray(Image.open(tmp_path / "images" / "p0.png")) // 2 + 30  # darker, and otherwise the same
    Image.fromarray(picture).save(tmp_path / "images" / "p2.png")
    one, other, copy = read_data(tmp_path).examples
    assert near_duplicates([[one, other], [copy]], page_of) == [("p0", "p2")]


def test_a_stack_is_refused_and_the_range_of_16_bits_is_said(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    folder(tmp_path, 3)
    (example, *_) = read_data(tmp_path).examples
    deep = np.asarray(Image.open(example.file))[..., 0].astype(np.uint16) % 200
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    notes = []
    page = page_of(example._replace(file=tmp_path / "deep.tif"), notes.append)
    assert (page == deep).all() and "16 bits, of which only" in notes[0]
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([deep, deep]))
    with pytest.raises(UserError, match="a stack of 2 slices"):
        page_of(example._replace(file=tmp_path / "stack.tif"))


def test_lists_by_whoever_wrote_them_and_what_they_leave_out_is_said(tmp_path):
    folder(tmp_path, 4)
    (tmp_path / "images" / "._p0.png").write_bytes(b"")
    (tmp_path / "index.csv").write_text("name,split\nimages\\p1.png, Test \nC:\\data\\p2.PNG,train\ngone,\n")
    notes = []
    data = read_data(tmp_path, note=notes.append)
    assert data.listed == {"p0": "train", "p1": "table", "p2": "train", "p3": "train"}
    assert "2 pictures (p0, p3) are not in index.csv" in notes
    assert "index.csv: 1 pictures (gone) are not among those that are read" in notes
    (tmp_path / "index.csv").write_text("name,stain\np1,blue\n")
    assert read_data(tmp_path, note=notes.append).listed == {}
    assert notes[-2] == "index.csv has no column 'split', and is not followed; there are name, stain"


def test_classes_without_a_box_are_left_out_and_that_is_said(tmp_path):
    for i in range(3):
        picture, _, _ = shapes(i)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "images" / f"p{i}.png")
        (tmp_path / "images" / f"p{i}.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("dog\nperson\ncell\n")  # labelImg's own come first
    notes = []
    data = read_data(tmp_path, note=notes.append)
    assert (data.classes, data.ids) == (["cell"], [3]) and {*data.examples[0].kinds.tolist()} == {0}
    assert notes[0] == "2 classes have no box, and are left out: dog, person"


@pytest.mark.parametrize("column", ["probability", "score"])
def test_a_models_answers_are_no_truth(column, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text(f"image,label,xmin,ymin,xmax,ymax,{column}\na.png,cell,1,1,9,9,0.9\n")
    with pytest.raises(UserError, match=f"boxes with a {column} are a model's answers, no truth"):
        read_data(tmp_path)
