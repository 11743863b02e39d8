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
    found = coco.read(path, coco.load(path))
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
        ({"categories": []}, "unknown category 3"),
        ({"annotations": [{"id": 1, "image_id": 8, "category_id": 3}]}, "of a picture 8 that is not listed"),
    ],
)
def test_mistakes_are_one_line(changes, says, tmp_path):
    path = write(tmp_path, **changes)
    with pytest.raises(UserError, match=says):
        coco.read(path, coco.load(path))


def test_what_is_no_json_is_said(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        coco.load(tmp_path / "a.json")


def test_a_picture_that_its_exif_turns_has_another_size(tmp_path):
    path = write(tmp_path, images=[{"id": 7, "file_name": "a.jpg", "width": 9, "height": 6}])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(UserError, match=r"a.jpg is 6 x 9 pixels, by the file 9 x 6"):
        coco.read(path, coco.load(path))
