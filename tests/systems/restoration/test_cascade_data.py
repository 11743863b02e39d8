"""What is cut out of pictures, and what is learned from it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.detection.data import read_data
from inkwash.systems.restoration.cascade_data import Crop, balanced, crops_of, cut, loader
from tests.systems.detection import toy

PLACES = np.dstack([*np.mgrid[:40, :50], np.zeros((40, 50))]).astype(np.uint8)  # each pixel says where it lies
PICTURE = Image.fromarray(PLACES)


@pytest.mark.parametrize(
    ("box", "corner"),
    [((10, 10, 20, 20), (9, 9)), ((0, 0, 10, 10), (0, 0)), ((40, 30, 50, 40), (38, 28)), ((10, 12, 20, 18), (9, 9))],
)
def test_a_square_a_little_larger_than_the_box_moved_into_the_picture(box, corner):
    left, top = corner
    found = cut(Image.fromarray(PLACES), np.array(box, float), 12)
    assert (found == PLACES[top : top + 12, left : left + 12]).all()


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(0, 39)] * 2), st.integers(1, 40), st.integers(1, 40))
def test_nothing_beyond_the_picture_is_seen_and_its_middle_is_the_boxs(start, width, height):
    x0, y0 = start
    x1, y1 = min(x0 + width, 50), min(y0 + height, 40)
    found = cut(PICTURE, np.array([x0, y0, x1, y1], float), 16).astype(float)
    rows, columns = found[..., 0], found[..., 1]
    wide = min(1.2 * max(x1 - x0, y1 - y0), 40)
    for values, middle, most in ((rows, (y0 + y1) / 2, 40), (columns, (x0 + x1) / 2, 50)):
        expected = min(max(middle, wide / 2), most - wide / 2) - 0.5
        assert abs(values.mean() - expected) < 0.6 and np.ptp(values) < wide + 1


def test_crowds_and_tiny_boxes_are_left_out_and_said(tmp_path):
    rows = [["p0", "disc", 1, 1, 12, 12], ["p0", "square", 5, 5, 10, 10], ["p1", "square", 10, 10, 30, 30]]
    data, notes = read_data(toy.folder(tmp_path, 2, rows=rows)), []
    found = crops_of(data.examples, 32, notes.append)
    assert [crop.kind for crop in found] == [0, 1] and notes == ["1 boxes of less than 8 pixels are left out"]
    assert all(crop.picture.shape == (32, 32, 3) and crop.picture.dtype == np.uint8 for crop in found)
    crowd = data.examples[1]._replace(crowd=np.array([True]))
    assert len(crops_of([data.examples[0], crowd], 32)) == 1


def test_grey_and_16_bits_are_seen_alike_and_floats_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    (example,) = read_data(toy.folder(tmp_path, 1)).examples
    grey = np.asarray(Image.open(example.file).convert("L"))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "float.tif", grey / np.float32(255))
    one, other = (crops_of([example._replace(file=tmp_path / name)], 16) for name in ("grey.png", "deep.png"))
    assert all((a.picture == b.picture).all() for a, b in zip(one, other, strict=True))
    with pytest.raises(UserError, match=r"float.tif: a picture of shape \(40, 48\) and float32"):
        crops_of([example._replace(file=tmp_path / "float.tif")], 16)


def crops(reds=1, blues=9):
    """Of two kinds, red and blue, some of them lighter."""
    rng = np.random.default_rng(0)
    made = []
    for kind, count in ((0, reds), (1, blues)):
        for _ in range(count):
            picture = rng.integers(0, 60, (16, 16, 3))
            picture[..., 2 * kind] += 150
            made.append(Crop(picture.astype(np.uint8), kind))
    return made


def test_kinds_come_equally_often_however_rare_they_are():
    batch = loader(crops(), 16, 1, 2, 64, seed=0)
    labels = torch.cat([batch(k)["label"] for k in range(4)])
    assert (labels.sum(1) == 1).all() and 100 < labels[:, 0].sum() < 156  # of 256; 5 deviations
    red = batch(0)["x"][:, 0].mean((1, 2)) > batch(0)["x"][:, 2].mean((1, 2))
    assert torch.equal(red, batch(0)["label"][:, 0] == 1)


def test_small_pictures_are_means_of_the_large_ones_and_half_of_the_blurred_are_blurred():
    sharp, blurred = (loader(crops(), 8, 2, 2, 64, seed=1, blurred=own)(3) for own in (False, True))
    assert torch.allclose(torch.nn.functional.avg_pool2d(sharp["x"], 2), sharp["low"], atol=1e-6)
    assert sharp["x"].shape == (64, 3, 8, 8) and sharp["low"].abs().max() <= 1
    means = torch.nn.functional.avg_pool2d(blurred["x"], 2)
    off = (means - blurred["low"]).abs().amax((1, 2, 3))
    assert 16 < int((off > 1e-3).sum()) < 48
    assert torch.allclose(means.mean((2, 3)), blurred["low"].mean((2, 3)), atol=0.1)  # as bright
    again = loader(crops(), 8, 2, 2, 64, seed=1, blurred=True)(3)
    assert all(torch.equal(again[key], blurred[key]) for key in again)


def test_as_many_of_each_kind():
    assert [crop.kind for crop in balanced(crops(3, 9), 2, 5)] == [0] * 3 + [1] * 3
    assert [crop.kind for crop in balanced(crops(3, 9), 2, 2)] == [0, 0, 1, 1]
    assert balanced(crops(0, 9), 2, 2) == []
