"""Files as people have them are read as they mean them."""

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.pictures.data import read_mask, read_picture


def test_pictures_of_every_mode_are_read_as_the_plain_one():
    plain = Image.fromarray((np.add.outer(np.arange(16), np.arange(16)) * 8).astype(np.uint8))
    wide = Image.fromarray(np.asarray(plain).astype(np.uint16) * 257)
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # "turn me right"
    animation = plain.convert("P")
    expected = read_picture(plain, 16)
    assert (expected[..., 3] == 255).all() and (expected[..., 0] == np.asarray(plain)).all()
    for picture in (plain.convert("RGB"), plain.convert("RGBA"), plain.convert("P"), animation, wide, turned):
        assert np.abs(read_picture(picture, 16).astype(int) - expected).max() <= 1, picture.mode
    assert np.abs(read_picture(plain.convert("CMYK"), 16).astype(int) - expected).max() <= 3


def test_other_shapes_are_fitted_whole_and_masks_the_same_way():
    tall = Image.new("RGB", (10, 20), "red")
    canvas = read_picture(tall, 16)
    assert (canvas[:, 4:12] == [255, 0, 0, 255]).all() and (canvas[:, :3, 3] == 0).all()
    mask = read_mask(Image.new("L", (10, 20), 255), 16)
    assert (mask[:, 4:12] == 1).all() and (mask[:, :3] == 0).all()
    assert (read_mask(Image.new("RGBA", (8, 8), (255, 255, 255, 0)), 16) == 0).all()  # transparent white: keep
    with pytest.raises(UserError, match="not a picture"):
        read_picture(__file__, 16)


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_picture(tmp_path / "a.gif", 8)[..., :3] == [255, 0, 0]).all()
