"""From pictures to files, on the command line as people type it."""

import csv
import errno
import json

import numpy as np
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.base import options
from inkwash.systems.detection import verbs
from inkwash.systems.detection.formats import read
from inkwash.systems.detection.model import Detection
from inkwash.systems.detection.request import Detect
from inkwash.systems.detection.voc import annotation, object_of
from tests.systems.detection.toy import Notes, folder, model, shapes

pytest.importorskip("scipy")


def run(tmp_path, source, made=None, **asked):
    context = Notes(tmp_path / "out", toy=made or model(ids=[3, 90]))
    (tmp_path / "out").mkdir(exist_ok=True)
    try:
        pictures = context.file(source, options(Detect)["pictures"])
        *each, whole = verbs.detect([Detect(pictures=pictures, model="toy", **{"threshold": 0.0} | asked)], context)
    finally:
        context.close()
    return each, whole, context.notes


def test_all_files_say_the_same_boxes(tmp_path):
    folder(tmp_path / "in", 2)
    each, whole, _ = run(tmp_path, tmp_path / "in" / "images")
    rows = list(csv.DictReader(whole.files["boxes.csv"].read_text().splitlines()))
    results = json.loads(whole.files["results.json"].read_text())
    assert len(rows) == len(results) > 10 and {row["image"] for row in rows} == {"p0.png", "p1.png"}
    assert {one["image_id"] for one in results} == {"p0", "p1"}
    text = "".join(one.files[f"p{i}.txt"].read_text() for i, one in enumerate(each))
    found = [line.split() for line in text.splitlines()]
    roots = [annotation(one.files[f"p{i}.xml"]) for i, one in enumerate(each)]
    objects = [object_of(own, None) for root in roots for own in root.iter("object")]
    for row, result, line, (corners, label, _) in zip(rows, results, found, objects, strict=True):
        x, y, width, height = result["bbox"]
        box = [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
        assert box == pytest.approx([x + 1, y + 1, x + width, y + height], abs=1e-2)
        assert box == pytest.approx(corners, abs=1e-2)
        shares = [(x + width / 2) / 48, (y + height / 2) / 40, width / 48, height / 40]
        assert [float(word) for word in line[1:5]] == pytest.approx(shares, abs=1e-3)
        assert result["category_id"] == {"disc": 3, "square": 90}[label]
        assert row["label"] == label == ["disc", "square"][int(line[0])]
        assert float(row["probability"]) == pytest.approx(result["score"], abs=1e-3) == float(line[5])


def test_each_picture_has_its_files_and_its_recipe(tmp_path):
    folder(tmp_path / "in", 2)
    each, whole, _ = run(tmp_path, tmp_path / "in", seed=4)
    for i, one in enumerate(each):
        assert [*one.files] == [f"p{i}-overlay.png", f"p{i}.txt", f"p{i}.xml"] and one.place == i
        assert one.recipe["seed"] == 4 and one.recipe["pictures"]["name"] == f"images/p{i}.png"
        assert read_recipe(one.files[f"p{i}-overlay.png"]) == json.loads(json.dumps(one.recipe))
        assert one.row["disc"] + one.row["square"] == len(one.files[f"p{i}.txt"].read_text().splitlines())
    total = sum(one.row["disc"] for one in each)
    assert whole.row["text"].startswith(f"2 pictures: {total} of disc, ")
    assert whole.files["data.yaml"].read_text().endswith('names:\n  0: "disc"\n  1: "square"\n')


def test_a_threshold_leaves_out_what_is_less_probable_and_nothing_found_is_said(tmp_path):
    folder(tmp_path / "in", 2)
    _, whole, _ = run(tmp_path, tmp_path / "in")
    scores = [one["score"] for one in json.loads(whole.files["results.json"].read_text())]
    middle = float(np.median(scores))
    _, whole, _ = run(tmp_path, tmp_path / "in", threshold=middle)
    left = [one["score"] for one in json.loads(whole.files["results.json"].read_text())]
    assert left == [score for score in scores if score >= middle] and 0 < len(left) < len(scores)
    _, whole, _ = run(tmp_path, tmp_path / "in", threshold=1.0)
    assert f"no box with a probability of 1 or more; the surest has {max(scores):.2f}" in whole.row["text"]
    assert json.loads(whole.files["results.json"].read_text()) == []


def test_several_samples_have_columns_of_their_spread(tmp_path):
    folder(tmp_path / "in", 1)
    _, whole, _ = run(tmp_path, tmp_path / "in", samples=3)
    rows = list(csv.DictReader(whole.files["boxes.csv"].read_text().splitlines()))
    assert all(round(float(row["found"]) * 3, 2) in (1, 2, 3) for row in rows)
    assert any(float(row["xmin_std"]) > 0 for row in rows) and {"ymin_std", "xmax_std", "ymax_std"} <= rows[0].keys()


def test_a_stack_is_detected_slice_by_slice(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "a b.tif", np.stack([shapes(i)[0][..., 0] for i in range(3)]), photometric="minisblack"
    )
    each, whole, _ = run(tmp_path, tmp_path / "a b.tif")
    assert [[*one.files][1] for one in each] == ["a b-1.txt", "a b-2.txt", "a b-3.txt"]
    images = {row["image"] for row in csv.DictReader(whole.files["boxes.csv"].read_text().splitlines())}
    assert images == {"a b-1", "a b-2", "a b-3"}


def test_names_that_are_numbers_are_ids_as_coco_has_them():
    found = Detection(np.array([[1, 2, 4, 6.0]]), np.array([1]), np.array([0.75]))
    (one,) = verbs.coco_results(found, "000000000139", [1, 90])
    assert one == {"image_id": 139, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.75}
    assert verbs.coco_results(found, "a7", [1, 90])[0]["image_id"] == "a7"
    for name, image in (("²", "²"), ("007", "007"), ("7", 7), ("-1", "-1")):  # two pictures never have one id
        assert verbs.coco_results(found, name, [1, 90])[0]["image_id"] == image


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    folder(tmp_path / "in", 1)

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(verbs, "write_picture", full)
    with pytest.raises(UserError, match=r"cannot write in .*: make room and run again"):
        run(tmp_path, tmp_path / "in")


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "csv"])
def test_boxes_are_converted_on_the_command_line(format, tmp_path, capsys):
    data = folder(tmp_path / "data", 2)
    assert main(["detection", "convert", str(data), format, "-o", str(tmp_path / "out")]) == 0
    assert f"6 boxes of 2 pictures as {format}; put the pictures in images/" in capsys.readouterr().out
    (data / "images").rename(tmp_path / "out" / "images")
    found = read(tmp_path / "out", print)
    for i, picture in enumerate(sorted(found.pictures)):
        _, boxes, kinds = shapes(i)
        assert [box.label for box in picture.boxes] == kinds
        np.testing.assert_allclose([box.corners for box in picture.boxes], boxes, atol=1e-3)


def test_a_list_beside_the_data_goes_with_them(tmp_path):
    data = folder(tmp_path / "data", 3)
    (data / "split.csv").write_text("name,split,slide\np0,train,a\np1,val,b\n")
    assert main(["detection", "convert", str(data), "voc", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "split.csv").read_text() == (data / "split.csv").read_text()
    lists = tmp_path / "out" / "ImageSets" / "Main"  # for tools that know no other
    assert (lists / "train.txt").read_text() == "p0\np2\n" and (lists / "val.txt").read_text() == "p1\n"


def test_a_split_goes_to_coco_and_back(tmp_path):
    data = folder(tmp_path / "data", 3)
    for name, part in (("p0", "train"), ("p1", "val"), ("p2", "test")):
        (data / f"{part}.txt").write_text(f"{name}\n")
    for source, format in (("data", "coco"), ("coco", "yolo"), ("yolo", "csv")):
        out = tmp_path / format
        assert main(["detection", "convert", str(tmp_path / source), format, "-o", str(out)]) == 0
        (tmp_path / source / "images").rename(out / "images")
    assert read(tmp_path / "csv", print).listed == {"p0": "train", "p1": "val", "p2": "test"}
    assert "val: val.txt" in (tmp_path / "yolo" / "data.yaml").read_text()


def test_what_is_lost_of_boxes_is_said(tmp_path, capsys):
    data = folder(tmp_path / "data", 1, rows=[["p0", "a", 2, 3, 9, 9]])
    lines = (data / "boxes.csv").read_text().splitlines()
    (data / "boxes.csv").write_text(f"{lines[0]},slide\n{lines[1]},7\n")
    assert main(["detection", "convert", str(data), "coco", "-o", str(tmp_path / "out")]) == 0
    assert "not kept of the boxes: slide" in capsys.readouterr().err


def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys):
    made = tmp_path / "toy"
    model().save(made)
    Image.new("CMYK", (9, 9)).save(tmp_path / "print.jpg")
    (tmp_path / "text.png").write_text("none")
    bad = folder(tmp_path / "bad", 1, rows=[["p0", "a", 9, 9, 5, 5]])
    for arguments, says in [
        (["detect", tmp_path / "print.jpg", "--model", made], "CMYK, the colours of print"),
        (["detect", tmp_path / "text.png", "--model", made], "not a picture that can be read"),
        (["detect", tmp_path / "none.png", "--model", made], "no such file or folder"),
        (["detection", "convert", bad, "voc"], "1 bad boxes: 1 inverted: p0.png, box 1 (a)"),
        (["detection", "convert", bad, "xls"], "coco"),
        (["detection", "train", "--data", bad], "1 bad boxes: 1 inverted"),
        (["detection", "evaluate", made, "--data", bad], "1 bad boxes: 1 inverted"),
    ]:
        out = tmp_path / "new"
        assert main([*map(str, arguments), "-o", str(out)]) == 2
        error = capsys.readouterr().err
        assert says in error.replace("\n", " ") and "Traceback" not in error
        assert not [path for path in out.rglob("*") if path.is_file()] or arguments[1] == "train"
    assert main(["detection", "convert", str(bad), "voc", "--drop-bad", "-o", str(tmp_path / "new")]) == 0


def test_overlays_of_an_earlier_run_and_what_is_hidden_are_no_pictures(tmp_path):
    folder(tmp_path / "in", 1)
    images = tmp_path / "in" / "images"
    for name in ("p0-overlay.png", "p0-overlay-2.png", "cells-overlay.png", "._p0.png"):
        Image.fromarray(shapes(1)[0]).save(images / name)
    for name in ("p0.xml", "p0-2.xml"):
        (images / name).write_text("<annotation/>")
    each, _, _ = run(tmp_path, images)
    assert [one.row["picture"] for one in each] == ["cells-overlay", "p0"]


def test_a_slice_called_like_a_picture_is_refused(tmp_path):
    pytest.importorskip("tifffile")
    (tmp_path / "in").mkdir()
    first, second = (Image.fromarray(shapes(i)[0]) for i in range(2))
    first.save(tmp_path / "in" / "a.tif", save_all=True, append_images=[second])
    second.save(tmp_path / "in" / "a-2.png")
    with pytest.raises(UserError, match=r"two pictures are called a-2, one of them a slice of a.tif"):
        run(tmp_path, tmp_path / "in")


def test_pictures_that_cannot_be_read_keep_no_other_from_being_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "in", 2)
    model().save("mine")
    (tmp_path / "in" / "images" / "broken.png").write_bytes(b"\x89PNG")
    assert main(["detect", "in/images", "--model", "mine", "-o", "out", "--steps", "1"]) == 2
    assert "left out, and the other pictures are done: " in (said := capsys.readouterr().err) and "broken.png" in said
    with open("out/boxes.csv") as file:
        assert {row["image"] for row in csv.DictReader(file)} <= {"p0.png", "p1.png"}
    assert sorted(file.name for file in (tmp_path / "out").glob("*.xml")) == ["p0.xml", "p1.xml"]
    for name in ("p0", "p1"):
        (tmp_path / "in" / "images" / f"{name}.png").write_bytes(b"\x89PNG")
    assert main(["detect", "in/images", "--model", "mine", "-o", "none", "--steps", "1"]) == 2
    assert "the other pictures are done" not in capsys.readouterr().err and not (tmp_path / "none").exists()
