import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.pictures.folder import read_folder, split_by_content
from tests.follower import Follower


def test_a_picture_too_large_is_skipped(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert len(read_folder(tmp_path, 8, monitor=(follower := Follower())).pictures) == 1
    why = "not a picture that can be read, or too large"
    notes = [f"skipped {tmp_path / name}: {why}" for name in ("a.png", "c.png")]
    assert [note.text for note in follower.of(Note)] == notes


def test_read_folder_crops_and_lies_on_white(tmp_path):
    picture = Image.new("RGBA", (60, 20), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (20, 0, 40, 20))
    picture.save(tmp_path / "a.PNG")
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "b.webp")
    a, b = read_folder(tmp_path, 8).pictures
    assert (a[3:5, 3:5] == [255, 0, 0]).all() and (b == 255).all()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(UserError, match=r"no such folder|no pictures"):
            read_folder(folder, 8)


def test_copies_of_a_picture_are_held_out_together_or_learned_from_together():
    pictures = np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    learned, held_out = split_by_content(np.concatenate([pictures, pictures]))
    assert len(held_out) == 20 and not {*learned % 200} & {*held_out % 200}
    assert len(split_by_content(np.concatenate([pictures[:1]] * 200))[1]) == 0
