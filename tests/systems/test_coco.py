"""COCO's JSON: what is wrong with it, in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems import coco


def write(tmp_path, **changes):
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 9, "height": 6}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 3, "name": "cell"}, {"id": 90, "name": "dust"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content | changes))
    return tmp_path / "a.json"


def test_what_is_read(tmp_path):
    path = write(tmp_path)
    found = coco.read(path, coco.load(path), print)
    assert found.categories == {3: "cell", 90: "dust"} and found.sizes == {7: (9, 6)}
    assert found.files == {7: tmp_path / "a.png"} and found.owners[7][0]["bbox"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"images": [{"id": 7, "file_name": "b.png", "width": 9, "height": 6}]},
            "1 of its 1 pictures are not",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.png", "width": 6, "height": 9}]},
            "is 9 x 6 pixels, by the file 6",
        ),
        ({"images": [{"id": i, "file_name": "a.png", "width": 9, "height": 6} for i in (7, 8)]}, "two pictures are"),
        ({"images": [{"id": 7, "width": 9}]}, "not COCO's JSON: 'file_name' is missing"),
        ({"categories": []}, r"^\S*a.json: annotation 1 has an unknown category 3$"),
        ({"annotations": [{"id": 1, "image_id": 8, "category_id": 3}]}, "of a picture 8 that is not listed$"),
    ],
)
def test_mistakes_are_one_line(changes, says, tmp_path):
    path = write(tmp_path, **changes)
    with pytest.raises(UserError, match=says):
        coco.read(path, coco.load(path), print)


def test_what_is_no_json_is_said(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        coco.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match="not JSON"):
        coco.load(tmp_path / "a.json")
    assert not coco.is_coco([])


def test_pictures_are_found_by_paths_of_either_system_and_nowhere_else(tmp_path):
    inner = tmp_path / "data" / "annotations"
    for file in ("x/a.png", "data/images/b.png", "data/raw/c.png", "data/annotations/f\u00fcr.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 10)).save(tmp_path / file)
    for name, expected in {
        "images\\b.png": "data/images/b.png",
        "C:\\Users\\me\\b.png": "data/images/b.png",
        "../raw/c.png": "data/raw/c.png",
        "fu\u0308r.png": "data/annotations/f\u00fcr.png",
    }.items():
        assert coco.place(inner / "a.json", name) == tmp_path / expected
    for name in (str(tmp_path / "x" / "a.png"), "../../x/a.png", "", "..", "c.png"):
        assert coco.place(inner / "a.json", name) is None


def test_ids_may_be_words(tmp_path):
    path = write(
        tmp_path,
        images=[{"id": "x", "file_name": "a.png", "width": 9, "height": 6}],
        annotations=[{"id": 1, "image_id": "x", "category_id": "8"}],
        categories=[{"id": "8", "name": "cell"}, {"id": "7", "name": "dust"}],
    )
    found = coco.read(path, coco.load(path), print)
    assert [*found.categories.items()] == [("7", "dust"), ("8", "cell")] and len(found.owners["x"]) == 1


def test_a_picture_that_its_exif_turns_has_another_size(tmp_path):
    path = write(tmp_path, images=[{"id": 7, "file_name": "a.jpg", "width": 9, "height": 6}])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(UserError, match=r"a.jpg is 6 x 9 pixels, by the file 9 x 6"):
        coco.read(path, coco.load(path), print)


def test_ids_that_are_there_twice_and_pictures_that_are_one_are_refused(tmp_path):
    one = {"file_name": "a.png", "width": 9, "height": 6}
    for changes, says in [
        ({"images": [one | {"id": 7}, one | {"id": 7, "file_name": "b.png"}]}, "two pictures have the id 7"),
        ({"categories": [{"id": 3, "name": "cell"}, {"id": 3, "name": "dust"}]}, "two categories have the id 3"),
        (
            {"images": [one | {"id": 7, "file_name": "x/a.png"}, one | {"id": 8, "file_name": "y/a.png"}]},
            r"x/a.png and y/a.png are both found as .*a.png",
        ),
    ]:
        path = write(tmp_path, **changes)
        with pytest.raises(UserError, match=says):
            coco.read(path, coco.load(path), print)


def test_a_name_as_addresses_have_it_and_one_without_end(tmp_path):
    Image.new("L", (12, 10)).save(tmp_path / "a b%20.png")
    assert coco.place(tmp_path / "a.json", "https://h.org/x/a%20b%2520.png") == tmp_path / "a b%20.png"
    assert coco.place(tmp_path / "a.json", "a b%20.png") == tmp_path / "a b%20.png"
    assert coco.place(tmp_path / "a.json", "a" * 5000 + ".png") is None
    assert coco.place(tmp_path / "a.json", "a\0.png") is None


def test_utf_16_is_read(tmp_path):
    path = write(tmp_path)
    before = coco.load(path)
    path.write_text(path.read_text(), encoding="utf-16")
    assert coco.load(path) == before
