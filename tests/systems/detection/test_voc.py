"""What is read of Pascal VOC's files, their traps, and what is refused in one line."""

import pytest
from PIL import Image

from inkwash.errors import UserError
from tests.systems.detection.folders import HEIGHT, WIDTH, found, picture, text, voc


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


def test_an_annotation_of_a_picture_before_its_exif_turned_it_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    voc(tmp_path, [("cell", 0, 3, 4, 6, 9)], name="a.jpg")
    (tmp_path / "JPEGImages" / "a.png").unlink()
    picture(tmp_path / "JPEGImages" / "a.jpg", exif=exif)
    with pytest.raises(UserError, match=r"a.jpg is 30 x 40 pixels, by the file 40 x 30"):
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
