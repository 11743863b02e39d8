"""Binary, objects or classes: what is found, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.segmentation.masks import (
    Mask,
    by_colour,
    describe,
    kind_of,
    palettes_differ,
    read_masks,
    to_objects,
)
from tests.systems.segmentation.cells import cells, deep_png, save

BINARY = [Mask(255 * (cells(i)[1] > 0).astype(np.int64), False) for i in range(3)]
OBJECTS = [Mask(cells(i)[1].astype(np.int64), False) for i in range(3)]
CLASSES = [Mask(np.where(cells(i)[1] > 0, 1 + cells(i)[1] % 2, 0).astype(np.int64), False) for i in range(3)]


@pytest.mark.parametrize(("masks", "kind"), [(BINARY, "binary"), (OBJECTS, "objects"), (CLASSES, "classes")])
def test_what_the_masks_are_is_found_and_said(masks, kind):
    found, values = kind_of(masks, named=False)
    notes = []
    describe(found, values, len(masks), notes.append)
    assert (
        found == kind
        and {"binary": "touch count as one", "objects": "a number for each", "classes": "1, 2"}[kind] in notes[0]
    )


def test_named_values_are_classes_even_with_one_region_each():
    assert kind_of(OBJECTS, named=True) == ("classes", [1, 2, 3, 4, 5])


def test_a_binary_mask_is_parted_into_its_regions():
    truth = cells(0)[1]
    labels, kinds = to_objects(BINARY[0], "binary", [255], "a.png")
    assert labels.max() == truth.max() == len(kinds) - 1 and ((labels > 0) == (truth > 0)).all()
    assert set(kinds[1:]) == {1} and kinds[0] == 0


def test_numbers_with_gaps_become_numbers_without():
    labels, kinds = to_objects(Mask(np.array([[0, 7], [900, 7]]), False), "objects", [], "a.png")
    assert labels.tolist() == [[0, 1], [2, 1]] and kinds.tolist() == [0, 1, 1]


def test_classes_keep_their_order_and_their_regions():
    values = np.array([[5, 0, 9], [5, 0, 9], [0, 0, 0], [9, 0, 0]])
    labels, kinds = to_objects(Mask(values, False), "classes", [5, 9], "a.png")
    assert kinds.tolist() == [0, 1, 2, 2] and (kinds[labels] == np.select([values == 5, values == 9], [1, 2])).all()
    with pytest.raises(UserError, match="value 9 is none of the classes'"):
        to_objects(Mask(values, False), "classes", [5], "a.png")


def test_colours_and_palettes(tmp_path):
    picture = np.zeros((6, 6, 3), np.uint8)
    picture[:2], picture[4:] = (255, 0, 0), (0, 0, 255)
    (mask,) = read_masks(save(picture, tmp_path / "a.png"))
    assert mask.coloured and np.unique(mask.values).tolist() == [0, 255, 255 * 65536]
    indexed = Image.fromarray(np.array([[0, 1, 255], [2, 1, 255]], np.uint8))
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224, 224, 192] * 253)
    indexed.save(tmp_path / "voc.png")
    (mask,) = read_masks(tmp_path / "voc.png")
    assert mask.coloured and mask.values.tolist() == [[0, 1, 0], [2, 1, 0]]  # 255 is VOC's border


def test_colours_that_come_again_are_classes_though_each_is_one_region():
    values = np.zeros((6, 6), np.int64)
    values[:2], values[4:] = 1, 2
    assert kind_of([Mask(values, True)] * 2, named=False)[0] == "classes"
    assert kind_of([Mask(values, False)] * 2, named=False)[0] == "objects"


def test_sixteen_bits_and_slices(tmp_path):
    pytest.importorskip("tifffile")
    stack = np.stack([cells(i)[1] + 300 for i in range(2)]).astype(np.uint16)
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [
        (mask.values == page).all() for mask, page in zip(read_masks(tmp_path / "a.tif"), stack, strict=True)
    ] == [True] * 2


def test_masks_that_are_none_are_one_line(tmp_path):
    many = np.zeros((20, 20, 3), np.uint8)
    many[..., 0], many[..., 1] = np.arange(20)[:, None], np.arange(20)
    with pytest.raises(UserError, match="a mask of 400 colours"):
        read_masks(save(many, tmp_path / "many.png"))
    with pytest.raises(UserError, match="a mask as JPEG, whose values are blurred"):
        read_masks(save(many, tmp_path / "many.jpg"))
    soft = np.asarray(
        Image.fromarray((255 * (cells(0, 200, 20)[1] > 0)).astype(np.uint8)).resize(
            (120, 120), Image.Resampling.BILINEAR
        )
    )
    with pytest.raises(UserError, match="neither classes nor objects"):
        kind_of([Mask(soft.astype(np.int64), False)], named=False)


def test_what_is_transparent_is_nothing(tmp_path):
    truth = cells(0)[1] > 0
    for ink in (0, 255):
        clear = np.dstack([np.full((*truth.shape, 3), ink, np.uint8), np.where(truth, 255, 0).astype(np.uint8)])
        (mask,) = read_masks(save(clear, tmp_path / "a.png"))
        assert ((mask.values > 0) == truth).all()
        Image.fromarray(clear[..., 2:], "LA").save(tmp_path / "b.png")
        (mask,) = read_masks(tmp_path / "b.png")
        assert ((mask.values > 0) == truth).all()
    white, numbers = np.where(truth, 0, 255).astype(np.uint8), np.where(truth, cells(0)[1], 999).astype(np.uint16)
    indexed = Image.fromarray(np.where(truth, 0, 1).astype(np.uint8))
    indexed.putpalette([255, 0, 0, 0, 255, 0])
    for name, picture, nothing in (
        ("grey.png", Image.fromarray(white), 255),
        ("deep.png", Image.fromarray(numbers), 999),
        ("palette.png", indexed, 1),
        ("palette.gif", indexed, 1),
    ):
        picture.save(tmp_path / name, transparency=nothing)
        (mask,) = read_masks(tmp_path / name)
        assert ((mask.values > 0) == truth).all()
        assert name != "deep.png" or (mask.values == cells(0)[1]).all()
    pytest.importorskip("tifffile")
    (mask,) = read_masks(save(clear, tmp_path / "a.tif"))
    assert ((mask.values > 0) == truth).all()
    opaque = np.dstack([np.zeros((*truth.shape, 3), np.uint8), np.full(truth.shape, 255, np.uint8)])
    assert not read_masks(save(opaque, tmp_path / "c.png"))[0].values.any()


def test_a_mask_of_imagej_keeps_its_numbers_whatever_its_table_shows(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    truth = np.where(cells(0)[1] > 0, 255, 0).astype(np.uint8)
    about = "ImageJ=1.54f\nmin=0.0\nmax=255.0\n"
    tifffile.imwrite(tmp_path / "a.tif", truth, photometric="miniswhite", description=about, metadata=None)
    assert (read_masks(tmp_path / "a.tif")[0].values == truth).all()
    numbers = Image.fromarray((cells(0)[1] % 200).astype(np.uint8))
    numbers.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    numbers.save(tmp_path / "b.tif")
    assert (read_masks(tmp_path / "b.tif")[0].values == np.asarray(numbers)).all()


def test_a_mask_is_turned_as_its_picture_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    truth = cells(0)[1].astype(np.uint8)
    Image.fromarray(truth).save(tmp_path / "a.png", exif=exif)
    assert (read_masks(tmp_path / "a.png")[0].values == np.rot90(truth, 2)).all()


def test_masks_that_pillow_would_read_a_part_of_are_one_line(tmp_path):
    frames = [Image.fromarray(cells(i)[1].astype(np.uint8)) for i in range(2)]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="animated, of 2 frames"):
        read_masks(tmp_path / "film.png")
    many = np.random.default_rng(0).integers(0, 9, (99, 99), dtype=np.uint8)
    whole = save(many, tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut.png: a broken picture"):
        read_masks(tmp_path / "cut.png")
    with pytest.raises(UserError, match="16 bits a colour"):
        read_masks(deep_png(tmp_path / "deep.png"))
    pytest.importorskip("tifffile")
    for value in (np.nan, np.inf):
        with pytest.raises(UserError, match="a mask of fractions"):
            read_masks(save(np.where(many > 4, value, 1).astype(np.float32), tmp_path / "a.tif"))


def test_a_border_of_voc_is_one_beside_a_single_class_that_fills_the_picture(tmp_path):
    indexed = Image.fromarray(np.array([[15, 15], [15, 255]], np.uint8))
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224, 224, 192] * 253)
    indexed.save(tmp_path / "voc.png")
    assert read_masks(tmp_path / "voc.png")[0].values.tolist() == [[15, 15], [15, 0]]


def indexed(values, colours, file):
    picture = Image.fromarray(np.asarray(values, np.uint8))
    picture.putpalette(np.asarray(colours, np.uint8).tobytes())
    picture.save(file)
    return read_masks(file)[0]


def test_palettes_that_differ_are_read_by_their_colours(tmp_path):
    black, red, green = (0, 0, 0), (255, 0, 0), (0, 255, 0)
    one = indexed([[0, 1], [2, 2]], [black, red, green], tmp_path / "a.png")
    same = indexed([[0, 2], [2, 2]], [black, red, green], tmp_path / "b.png")
    other = indexed([[0, 1], [1, 1]], [black, green], tmp_path / "c.png")
    assert one.coloured and not palettes_differ([one, same]) and palettes_differ([one, other])
    assert by_colour(one).values.tolist() == [[0, 255 * 65536], [255 * 256] * 2]
    assert by_colour(other).values.tolist() == by_colour(same).values.tolist() == [[0, 255 * 256], [255 * 256] * 2]
    inverted = indexed([[0, 1], [1, 1]], [(255, 255, 255), black], tmp_path / "d.png")
    assert palettes_differ([inverted]) and (by_colour(inverted).values > 0).tolist() == [[True, False], [False] * 2]


def test_a_palette_of_grey_is_no_colour(tmp_path):
    mask = indexed([[0, 1], [7, 7]], np.arange(256)[:, None] * [1, 1, 1], tmp_path / "a.png")
    assert not mask.coloured and mask.palette is None and mask.values.tolist() == [[0, 1], [7, 7]]


def test_truth_values_are_written_by_tifffile_as_black(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    truth = cells(0)[1] > 0
    tifffile.imwrite(tmp_path / "a.tif", truth)
    assert ((read_masks(tmp_path / "a.tif")[0].values > 0) == truth).all()
    tifffile.imwrite(tmp_path / "scan.tif", ~truth, software="a scanner's", photometric="miniswhite")
    assert ((read_masks(tmp_path / "scan.tif")[0].values > 0) == truth).all()


def test_numbers_too_large_to_count_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.where(np.eye(9) > 0, 1e30, 0))
    with pytest.raises(UserError, match="save whole numbers"):
        read_masks(tmp_path / "a.tif")
