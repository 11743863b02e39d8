"""Outlines whose area is the mask's, and that draw the mask again."""

import io
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from inkwash.errors import UserError
from inkwash.systems.segmentation import shapes
from inkwash.systems.segmentation.masks import regions
from tests.systems.segmentation.cells import cells

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


def filled(rings, shape):
    """The pixels of which so many rings lie to the right that their number is odd."""
    crossed = np.zeros(shape, int)
    for ring in rings:
        for (ax, ay), (bx, by) in pairwise(ring):
            if ax == bx:
                crossed[min(ay, by) : max(ay, by), :ax] += 1
    return crossed % 2 == 1


def test_a_rectangle_has_four_corners():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (ring,) = shapes.rings(mask)
    assert set(ring) == {(2, 1), (7, 1), (7, 4), (2, 4)} and ring[0] == ring[-1] and len(ring) == 5
    assert shapes.area(ring) == 15


@given(MASKS)
def test_rings_enclose_the_mask_and_nothing_else(mask):
    rings = shapes.rings(mask)
    assert sum(map(shapes.area, rings)) == mask.sum()
    assert (filled(rings, mask.shape) == mask).all()


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_polygons_are_the_regions_with_their_holes(mask):
    parts = shapes.polygons(mask)
    assert sum(shapes.area(ring) for part in parts for ring in part) == mask.sum()
    for outline, *holes in parts:
        assert shapes.area(outline) > 0 and all(shapes.area(hole) < 0 for hole in holes)
        here = filled([outline, *holes], mask.shape)
        assert (mask | ~here).all()


def test_a_hole_belongs_to_what_is_around_it():
    mask = np.zeros((20, 20), bool)
    mask[1:9, 1:9], mask[11:19, 11:19] = True, True
    mask[3:6, 3:6] = mask[14, 14] = False
    found = sorted(shapes.polygons(mask), key=lambda part: part[0])
    assert [[shapes.area(ring) for ring in part] for part in found] == [[64, -9], [64, -1]]


def test_geojson_is_as_qupath_reads_it():
    truth = cells(1)[1]
    kinds = np.array([0, 1, 2, 1, 1, 2], np.uint8)
    content = shapes.to_geojson(truth, kinds, ["red", "blue"], np.linspace(0.5, 0.9, 5))
    assert content["type"] == "FeatureCollection" and len(content["features"]) == 5
    for number, feature in enumerate(content["features"], 1):
        assert feature["geometry"]["type"] == "Polygon" and feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["name"] == ["red", "blue"][kinds[number] - 1]
        assert (filled(feature["geometry"]["coordinates"], truth.shape) == (truth == number)).all()
    assert content["features"][4]["properties"]["measurements"] == {"probability": 0.9}


def test_rois_are_read_by_roifile():
    roifile = pytest.importorskip("roifile")
    truth = cells(2)[1]
    rois = shapes.to_rois(truth)
    assert len(rois) == regions(truth)[1] == 5
    for number, (name, content) in enumerate(rois, 1):
        roi = roifile.ImagejRoi.frombytes(content)
        assert name == f"{number:05d}" and roi.name == str(number) and roi.roitype == roifile.ROI_TYPE.TRACED
        ring = [tuple(point) for point in roi.coordinates().round().astype(int).tolist()]
        ring += [ring[0]] * (ring[0] != ring[-1])
        assert (filled([ring], truth.shape) == (truth == number)).all()


def test_a_roi_is_laid_out_as_imagej_does():
    content = shapes.to_roi([(3, 4), (9, 4), (9, 8), (3, 8), (3, 4)], "7")
    assert content[:4] == b"Iout" and content[4:6] == (227).to_bytes(2, "big") and content[6] == 8
    assert [int.from_bytes(content[i : i + 2], "big") for i in (8, 10, 12, 14, 16)] == [4, 3, 8, 9, 4]
    assert np.frombuffer(content[64:80], ">i2").tolist() == [0, 6, 6, 0, 0, 0, 4, 4]
    second = int.from_bytes(content[60:64], "big")
    place, length = (int.from_bytes(content[second + i : second + i + 4], "big") for i in (16, 20))
    assert second == 80 and length == 1 and content[place : place + 2].decode("utf-16-be") == "7"
    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        archive.writestr("a.roi", content)


def test_what_does_not_fit_into_a_roi_is_said():
    labels = np.zeros((3, 40_000), np.int32)
    labels[1, 39_000:39_009] = 1
    with pytest.raises(
        UserError, match="object 1 reaches to 39009, 2 with 4 corners; ImageJ's ROIs hold coordinates to"
    ):
        shapes.to_rois(labels)
