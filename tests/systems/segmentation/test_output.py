"""Files agree with what the model said, and with each other."""

import csv
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from inkwash.codecs.picture_files import read_pages
from inkwash.codecs.png import read_recipe
from inkwash.systems.base import File
from inkwash.systems.segmentation import output, rle
from inkwash.systems.segmentation.calibration import entropy
from inkwash.systems.segmentation.model import Segmentation
from inkwash.systems.segmentation.objects import sizes_of
from inkwash.systems.segmentation.request import Segment
from tests.systems.segmentation.cells import cells

pytest.importorskip("skimage")
PICTURE, LABELS = cells(4)
KINDS = np.array([0, 1, 2, 1, 1, 2], np.uint8)
REQUEST = Segment(model="toy", pictures=File("0" * 64, "a.png"), coco=True, geojson=True, rois=True)


def found(samples=3):
    probability = np.stack([np.where(KINDS[LABELS] == kind, 0.6 + 0.05 * LABELS, 0.1) for kind in (1, 2)]).astype(
        np.float32
    )
    many = np.stack([np.where(j < LABELS, LABELS - j, 0).astype(np.int32) for j in range(samples)])
    sizes = [sizes_of(one, KINDS[: one.max() + 1], 2) for one in many]
    counts, areas = (np.stack(values) for values in zip(*sizes, strict=True))
    return Segmentation(
        LABELS, KINDS, probability, probability, entropy(probability), many, counts, areas, np.array([[2, 4], [1, 3]])
    )


def written(folder):
    return output.write_picture(found(), PICTURE, ["red", "blue"], folder / "a", REQUEST, {"seed": 3})


def test_every_file_is_there_and_no_other(tmp_path):
    files = written(tmp_path)
    pictures = ["-classes.png", "-mask.png", "-overlay.png", "-probability.png", "-uncertainty.png"]
    others = ["-objects.csv", "-outlines.geojson", "-probability.tif", "-rois.zip", "-samples.tif"]
    assert sorted(files) == sorted(pictures + others)
    assert sorted(tmp_path.iterdir()) == sorted(files.values())
    plain = Segment(model="toy", pictures=File("0" * 64, "a.png"))
    (tmp_path / "other").mkdir()
    single = found()._replace(kinds=np.minimum(KINDS, 1), probability=found().probability[:1])
    one = output.write_picture(single, PICTURE, ["red"], tmp_path / "other" / "a", plain, {})
    assert not {"-classes.png", "-outlines.geojson", "-rois.zip"} & {*one}


def test_masks_and_probabilities_are_read_back_as_they_were(tmp_path):
    files, said = written(tmp_path), found()
    with Image.open(files["-mask.png"]) as mask:
        assert mask.mode == "I;16" and (np.asarray(mask) == LABELS).all()
    assert read_recipe(files["-mask.png"]) == {"seed": 3}
    with Image.open(files["-classes.png"]) as classes:
        assert (np.asarray(classes) == KINDS[LABELS]).all()
    with Image.open(files["-probability.tif"]) as stack:
        for kind in range(2):
            stack.seek(kind)
            assert stack.mode == "F" and (np.asarray(stack) == said.probability[kind]).all()
    with Image.open(files["-probability.png"]) as eight:
        np.testing.assert_allclose(np.asarray(eight) / 255, said.probability.max(0), atol=0.002)
    with Image.open(files["-samples.tif"]) as stack:
        assert stack.n_frames == 3
        stack.seek(2)
        assert (np.asarray(stack) == said.samples[2]).all()


def test_imagej_s_reader_sees_the_same_stack(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    files = written(tmp_path)
    values = tifffile.imread(files["-probability.tif"])
    assert values.dtype == np.float32 and (values == found().probability).all()
    assert [page.shape for page in read_pages(files["-samples.tif"])] == [LABELS.shape] * 3


def test_the_table_of_objects(tmp_path):
    rows = list(csv.DictReader(written(tmp_path)["-objects.csv"].read_text().splitlines()))
    assert [int(row["object"]) for row in rows] == [1, 2, 3, 4, 5]
    for number, row in enumerate(rows, 1):
        y, x = (axis.mean() + 0.5 for axis in np.nonzero(number == LABELS))
        assert (float(row["x"]), float(row["y"])) == pytest.approx((x, y), abs=0.006)
        assert int(row["area"]) == (number == LABELS).sum() and row["class"] == ["red", "blue"][KINDS[number] - 1]
        assert float(row["probability"]) == pytest.approx(0.6 + 0.05 * number, abs=1e-4)


def test_the_table_of_pictures_says_how_samples_differ():
    red, blue = output.picture_rows(found(), "a", ["red", "blue"])
    assert (red["count"], blue["count"]) == (3, 2) and red["samples"] == 3
    counts = found().counts[:, 0]
    assert (red["count_least"], red["count_greatest"]) == (counts.min(), counts.max())
    assert red["count_std"] == pytest.approx(counts.std(ddof=1), abs=1e-3)
    assert (red["count_low"], red["count_high"]) == (2, 4) and "count_5" not in red
    many = found()._replace(counts=np.arange(78).reshape(39, 2))
    (red, _) = output.picture_rows(many, "a", ["red", "blue"])
    assert (red["count_5"], red["count_95"]) == (2, 74)  # the second and the 38th of 0, 2, ... 76


def test_coco_s_objects_are_the_masks():
    rows = output.coco_objects(found(), 7, 11)
    assert [row["id"] for row in rows] == [11, 12, 13, 14, 15] and {row["image_id"] for row in rows} == {7}
    for number, row in enumerate(rows, 1):
        mask = number == LABELS
        assert (rle.decode(row["segmentation"]["counts"], *LABELS.shape) == mask).all() and row["area"] == mask.sum()
        y, x = np.nonzero(mask)
        assert row["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert row["category_id"] == KINDS[number] and row["score"] == pytest.approx(0.6 + 0.05 * number, abs=1e-4)


def test_outlines_and_rois_are_of_every_object(tmp_path):
    files = written(tmp_path)
    assert len(json.loads(files["-outlines.geojson"].read_text())["features"]) == 5
    with zipfile.ZipFile(files["-rois.zip"]) as archive:
        assert archive.namelist() == [f"{number:05d}.roi" for number in range(1, 6)] and archive.testzip() is None


def test_the_overlay_marks_edges_alone(tmp_path):
    with Image.open(written(tmp_path)["-overlay.png"]) as picture:
        drawn = np.asarray(picture).astype(int)
    marked = (drawn == output.COLOURS[0]).all(-1) | (drawn == output.COLOURS[1]).all(-1)
    assert marked.any() and (LABELS[marked] > 0).all()
    assert (np.ptp(drawn, axis=-1)[~marked] == 0).all()


def test_nothing_found_is_an_empty_table(tmp_path):
    nothing = found()._replace(labels=0 * LABELS, kinds=np.zeros(1, np.uint8))
    assert output.object_rows(nothing, ["red", "blue"], output.object_scores(nothing)) == []
    assert (
        output.coco_objects(nothing, 1, 1) == []
        and output.picture_rows(nothing, "a", ["red", "blue"])[0]["probability"] == ""
    )
    output.write_csv([], tmp_path / "a.csv", ("object", "class"))
    assert (tmp_path / "a.csv").read_text().strip() == "object,class"


def test_more_than_65535_objects_keep_their_numbers():
    assert output.numbered(np.array([[70_000]])).mode == "I" and output.numbered(np.array([[65_535]])).mode == "I;16"


def test_more_objects_than_sixteen_bits_hold(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    labels = np.zeros((264, 520), np.int32)
    labels[::2, :500:2] = np.arange(1, 33001).reshape(132, 250)
    labels[1::2, :500:2] = np.arange(33001, 66001).reshape(132, 250)
    kinds, planes = np.minimum(np.arange(66001), 1).astype(np.uint8), np.full((1, *labels.shape), 0.5, np.float32)
    many, one = found()._replace(labels=labels, kinds=kinds, samples=np.stack([labels, labels * 0])), np.zeros((2, 1))
    many = many._replace(probability=planes, mean=planes, uncertainty=planes[0], counts=one, areas=one)
    plain = Segment(model="toy", pictures=File("0" * 64, "a.png"))
    files = output.write_picture(many, labels, ["red"], tmp_path / "a", plain, {"seed": 3})
    assert "-mask.png" not in files and (tifffile.imread(files["-mask.tif"]) == labels).all()
    assert (tifffile.imread(files["-samples.tif"], key=0) == labels).all()
    assert read_recipe(files["-overlay.png"]) == {"seed": 3}
