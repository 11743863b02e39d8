"""COCO's and labelme's JSON, against shapes whose pixels are known."""

import base64

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.segmentation import annotated, rle

pytest.importorskip("skimage")
WIDTH, HEIGHT = 12, 10


def coco(folder, objects, categories=((1, "cell"),), size=(WIDTH, HEIGHT), names=("a.png",)):
    for name in names:
        Image.new("L", (WIDTH, HEIGHT)).save(folder / name)
    images = [{"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": i, "name": name} for i, name in categories]}
    for number, (kind, shape) in enumerate(objects):
        content["annotations"].append({"id": number, "image_id": 0, "category_id": kind, "segmentation": shape})
    return content


def read(folder, content):
    notes = []
    found, names = annotated.read_coco(folder / "all.json", content, notes.append)
    return annotated.to_labels(found[0], names), names, notes


@pytest.mark.parametrize(
    ("polygon", "rows", "columns"),
    [
        ([2, 3, 7, 3, 7, 8, 2, 8], (3, 8), (2, 7)),
        ([0, 0, 12, 0, 12, 10, 0, 10], (0, 10), (0, 12)),
        ([2.3, 3, 7.3, 3, 7.3, 8, 2.3, 8], (3, 8), (2, 7)),
    ],
)
def test_a_rectangle_covers_the_pixels_between_its_edges(polygon, rows, columns):
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[slice(*rows), slice(*columns)] = True
    assert (annotated.draw(polygon, HEIGHT, WIDTH) == expected).all()


def test_a_disc_has_its_area():
    angles = np.linspace(0, 2 * np.pi, 200)
    mask = annotated.draw(np.stack([50 + 30 * np.cos(angles), 50 + 30 * np.sin(angles)], -1), 100, 100)
    assert mask.sum() == pytest.approx(np.pi * 900, rel=0.005)


def test_polygons_run_lengths_and_ids_with_gaps(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[1:3, 8:11] = True
    shapes = [(7, [[2, 3, 7, 3, 7, 8, 2, 8]]), (90, {"size": [HEIGHT, WIDTH], "counts": rle.encode(mask)})]
    (labels, kinds), names, _ = read(tmp_path, coco(tmp_path, shapes, [(90, "late"), (7, "early")]))
    assert names == ["early", "late"] and kinds.tolist() == [0, 1, 2]
    assert (labels == 2).sum() == 6 and (labels[1:3, 8:11] == 2).all() and (labels[3:8, 2:7] == 1).all()


def test_later_objects_lie_on_top_and_crowds_are_left_out_and_said(tmp_path):
    content = coco(
        tmp_path,
        [(1, [[0, 0, 6, 0, 6, 6, 0, 6]]), (1, [[3, 3, 9, 3, 9, 9, 3, 9]]), (1, [[0, 0, 12, 0, 12, 10, 0, 10]])],
    )
    content["annotations"][2]["iscrowd"] = 1
    (labels, _), _, notes = read(tmp_path, content)
    assert (labels == 1).sum() == 36 - 9 and (labels == 2).sum() == 36 and labels[9, 11] == 0
    assert "1 crowds" in notes[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c["images"][0].update(file_name="b.png"),
            "1 of its 1 pictures are not beside it, nor in images/: b.png",
        ),
        (lambda c: c["images"].append(dict(c["images"][0], id=5)), "two pictures are called a.png"),
        (lambda c: c["annotations"][0].update(category_id=3), "an unknown category 3"),
        (lambda c: c["annotations"][0].update(image_id=9), "is of a picture 9 that is not listed$"),
        (lambda c: c["images"][0].update(width=99), "a.png is 12 x 10 pixels, by the file 99 x 10"),
        (lambda c: c["annotations"][0].pop("segmentation"), "'segmentation' is missing or wrong"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 1, 40, 1, 40, 5]]), "a corner at 40, 1 lies outside"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 1, 4, 1]]), "a polygon of 2 corners"),
        (lambda c: c["annotations"][0].update(segmentation=[]), "1 annotations have a box alone, and no outline"),
        (lambda c: c["annotations"][0].update(segmentation=5), "neither polygons nor run lengths"),
        (lambda c: c["annotations"][0].update(segmentation=None), "1 annotations have a box alone, and no outline"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, "x", 4, 1, 4, 4]]), "a polygon of what is no number"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, float("nan"), 4, 1, 4, 4]]), "what is no number"),
        (
            lambda c: c["annotations"][0].update(segmentation={"size": [10, 12], "counts": [9]}),
            "a mask of run lengths has 9 pixels, its picture 120; write it again$",
        ),
        (lambda c: c["annotations"][0].update(segmentation={"size": [10, 12]}), "neither polygons nor run lengths"),
        (
            lambda c: c["annotations"][0].update(segmentation={"size": [10, 12], "counts": [9.5, 110.5]}),
            "neither polygons nor run lengths",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation={"size": [3, 3], "counts": [9]}),
            "a mask of .3, 3. for a picture of 10 x 12",
        ),
    ],
)
def test_mistakes_in_coco_are_one_line(change, says, tmp_path):
    content = coco(tmp_path, [(1, [[2, 3, 7, 3, 7, 8, 2, 8]])])
    change(content)
    with pytest.raises(UserError, match=says):
        read(tmp_path, content)


def labelme(folder, *shapes):
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "a.png")
    keys = ("label", "shape_type", "points", "group_id")
    return {"imagePath": "a.png", "shapes": [dict(zip(keys, shape, strict=True)) for shape in shapes]}


def test_shapes_of_labelme(tmp_path):
    content = labelme(
        tmp_path,
        ("b", "rectangle", [[2, 3], [7, 8]], None),
        ("a", "polygon", [[0, 0], [2, 0], [2, 2], [0, 2]], 4),
        ("a", "polygon", [[10, 8], [12, 8], [12, 10], [10, 10]], 4),
        ("a", "line", [[0, 0], [5, 5]], None),
        ("b", "circle", [[9, 3], [11, 3]], None),
    )
    notes = []
    found = annotated.read_labelme(tmp_path / "a.json", content, notes.append)
    labels, kinds = annotated.to_labels(found, ["a", "b"])
    assert kinds.tolist() == [0, 2, 1, 2]
    assert (labels[3:8, 2:7] == 1).all() and (labels == 2).sum() == 8 and labels[0, 0] == labels[9, 11] == 2
    assert (labels == 3).sum() == pytest.approx(np.pi * 4, abs=1)
    assert "1 shapes of type line have no area" in notes[0]


def test_a_picture_that_is_missing_is_named(tmp_path):
    content = labelme(tmp_path) | {"imagePath": "..\\pictures\\b.png"}
    with pytest.raises(UserError, match=r"its picture ..\\pictures\\b.png is not beside it"):
        annotated.read_labelme(tmp_path / "a.json", content, print)


def test_ids_may_be_words_and_two_classes_of_one_name_are_one(tmp_path):
    content = coco(tmp_path, [(1, [[2, 3, 7, 3, 7, 8, 2, 8]])])
    content["categories"] = [{"id": "7", "name": "cell"}, {"id": "8", "name": "cell"}]
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = "x"
    content["annotations"][0]["category_id"] = "8"
    (found,), classes = annotated.read_coco(tmp_path / "a.json", content, print)
    assert classes == ["cell"] and annotated.to_labels(found, classes)[0].max() == 1


def test_objects_that_are_not_seen_are_not_counted(tmp_path):
    small, whole = [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]], [[2, 3, 7, 3, 7, 8, 2, 8]]
    content = coco(tmp_path, [(1, small), (1, whole), (1, whole)])
    (found,), classes = annotated.read_coco(tmp_path / "a.json", content, print)
    labels, kinds = annotated.to_labels(found, classes)
    assert labels.max() == 1 and (labels == 1).sum() == 25 and kinds.tolist() == [0, 1]


def test_sizes_are_those_of_the_turned_picture(tmp_path):
    content, exif = labelme(tmp_path, ("a", "rectangle", [[0, 0], [2, 9]], None)), Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (HEIGHT, WIDTH)).save(tmp_path / "a.png", exif=exif)
    found = annotated.read_labelme(tmp_path / "a.json", content | {"imageWidth": 12, "imageHeight": 10}, print)
    assert found.size == (12, 10) and annotated.to_labels(found, ["a"])[0].shape == (10, 12)
    with pytest.raises(UserError, match=r"^\S*a.json: a.png is 12 x 10 pixels, by the file 10 x 12$"):
        annotated.read_labelme(tmp_path / "a.json", content | {"imageWidth": 10, "imageHeight": 12}, print)


def test_masks_turned_rectangles_and_circles_at_the_edge_of_labelme(tmp_path):
    own = np.array([[1, 0, 1], [1, 1, 1]], bool)
    Image.fromarray(own).save(tmp_path / "own.png")
    content = labelme(
        tmp_path,
        ("a", "mask", [[4, 5], [6, 6]], None),
        ("a", "rotation", [[8, 0], [12, 0], [12, 3], [8, 3]], None),
        ("a", "circle", [[0, 0], [2, 0]], None),
    )
    content["shapes"][0]["mask"] = base64.b64encode((tmp_path / "own.png").read_bytes()).decode()
    labels, _ = annotated.to_labels(annotated.read_labelme(tmp_path / "a.json", content, print), ["a"])
    assert (labels[5:7, 4:7] == own).all() and (labels == 1).sum() == 5
    assert (labels[:3, 8:] == 2).all() and (labels == 2).sum() == 12
    assert (labels == 3).sum() == pytest.approx(np.pi, abs=1) and labels[0, 0] == 3
    for change in ({"points": [[11, 5], [13, 6]]}, {"points": [[np.nan, 5], [6, 6]]}, {"mask": 5}, {"mask": "!"}):
        broken = content | {"shapes": [content["shapes"][0] | change]}
        with pytest.raises(UserError, match="cannot be read, or that lies outside of the picture"):
            annotated.to_labels(annotated.read_labelme(tmp_path / "a.json", broken, print), ["a"])


@pytest.mark.parametrize("change", [{"points": None}, {"label": 1, "points": [["x", 1]]}, {"points": [[1, 2, 3]]}])
def test_broken_shapes_of_labelme_are_one_line(change, tmp_path):
    content = labelme(tmp_path, ("a", "polygon", [[0, 0], [2, 0], [2, 2]], None))
    content["shapes"][0] |= change
    with pytest.raises(UserError, match="not labelme's JSON"):
        annotated.read_labelme(tmp_path / "a.json", content, print)
