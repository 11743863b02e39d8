"""Pictures of a folder: what is read, what is refused, and the squares that are learned from."""

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.restoration import data as module
from inkwash.systems.restoration.data import (
    for_editing,
    for_upscaling,
    loader,
    read_pictures,
    split,
    square,
    to_bytes,
    window,
)
from tests.systems.restoration.toy import folder, picture


def test_pictures_of_all_kinds_are_read_as_colours_of_eight_bits(tmp_path):
    folder(tmp_path, 2)
    Image.fromarray(picture(5, colours=1)).save(tmp_path / "grey.png")
    dark = picture(6, bits=16, colours=1) // 300
    Image.fromarray(dark).save(tmp_path / "dark.png")
    (tmp_path / "notes.txt").write_text("none")
    notes = []
    found = {one.name: one.picture for one in read_pictures(tmp_path, note=notes.append).examples}
    assert sorted(found) == ["dark", "grey", "photo 0", "photo 1"]
    assert (found["photo 1"] == picture(1)).all() and (found["grey"] == picture(5, colours=1)[..., None]).all()
    assert found["dark"].max() == 255 and "1 pictures of 16 bits use a small part" in notes[1]
    assert notes[0] == "1 files are no pictures, or come from an earlier run, and are left out: notes.txt"
    assert np.abs(found["dark"][..., 0] - dark * (255 / dark.max())).max() <= 0.5


def test_parts_are_a_tenth_and_a_fifth_and_never_meet(tmp_path):
    folder(tmp_path, 20)
    pictures = read_pictures(tmp_path)
    parts = split(pictures, tmp_path)
    assert [len(part) for part in parts] == [14, 2, 4]
    names = [one.name for part in parts for one in part]
    assert len(set(names)) == 20
    again = split(read_pictures(tmp_path), tmp_path)
    assert [[one.name for one in part] for part in again] == [[one.name for one in part] for part in parts]
    grouped = split(read_pictures(tmp_path, r"photo (\d)\d?"), tmp_path)
    groups = [{one.group for one in part} for part in grouped]
    assert groups[0] and not groups[0] & groups[1]
    with pytest.raises(UserError, match=r"group '\(\.\*\)_' is in no file's name"):
        read_pictures(tmp_path, "(.*)_")
    (tmp_path / "split.csv").write_text(
        "name,split\n" + "".join(f"photo {i},{'val' if i < 5 else 'train'}\n" for i in range(20))
    )
    listed = split(read_pictures(tmp_path), tmp_path)
    assert sorted(one.name for one in listed[2]) == [f"photo {i}" for i in range(5)]


def test_folders_of_parts_part_what_no_list_does(tmp_path):
    for i, part in enumerate(("train", "train", "valid")):
        (tmp_path / part).mkdir(exist_ok=True)
        Image.fromarray(picture(i)).save(tmp_path / part / f"p{i}.png")
    notes = []
    assert read_pictures(tmp_path, note=notes.append).listed == {"p0": "train", "p1": "train", "p2": "table"}
    assert notes == ["their folders are called train, val, and part them where no list does"]
    Image.fromarray(picture(9)).save(tmp_path / "p9.png")
    assert read_pictures(tmp_path).listed == {}


def test_what_cannot_be_learned_from_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="a folder of pictures is needed"):
        read_pictures(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures there"):
        read_pictures(tmp_path / "empty")
    folder(tmp_path / "one", 1)
    with pytest.raises(UserError, match="1 pictures, or groups of them"):
        split(read_pictures(tmp_path / "one"), tmp_path / "one")
    folder(tmp_path / "twice", 2)
    folder(tmp_path / "twice" / "more", 1)
    with pytest.raises(UserError, match="two pictures are called photo 0: "):
        read_pictures(tmp_path / "twice")
    monkeypatch.setattr(module, "free_memory", lambda: 4000)
    with pytest.raises(UserError, match=r"1 of 1 pictures take .* GB, .* are free: give fewer"):
        read_pictures(tmp_path / "one")


def test_batches_are_a_function_of_the_step(tmp_path):
    folder(tmp_path, 4)
    examples = read_pictures(tmp_path).examples
    batch = loader(examples, 16, 3, 0, for_upscaling(4, ["area"]))
    one, two = batch(5), loader(examples, 16, 3, 0, for_upscaling(4, ["area"]))(5)
    assert all(torch.equal(one[key], two[key]) for key in ("x", "low")) and not torch.equal(one["x"], batch(6)["x"])
    assert one["x"].shape == (3, 3, 16, 16) and one["low"].shape == (3, 3, 4, 4)
    assert torch.allclose(one["low"], torch.nn.functional.avg_pool2d(one["x"], 4), atol=1e-5)


def test_tasks_are_drawn_by_their_weights(tmp_path):
    folder(tmp_path, 4)
    batch = loader(read_pictures(tmp_path).examples, 16, 400, 0, for_editing({"colourise": 3.0, "inpaint": 1.0}))(0)
    holes = batch["missing"].flatten(1).any(1)
    assert float(holes.float().mean()) == pytest.approx(0.25, abs=0.08)
    assert torch.equal(batch["drawn"][holes], batch["missing"][holes] > 0) and batch["drawn"][~holes].all()
    assert torch.equal(batch["source"][holes], batch["x"][holes])
    grey = batch["source"][~holes]
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])


def test_squares_are_parts_of_the_picture_turned():
    given = picture()
    parts = {given[i : i + 8, j : j + 8].tobytes() for i in range(17) for j in range(23)}
    ways = [lambda x: x, lambda x: np.flip(x, 0), lambda x: np.flip(x, 1), lambda x: np.flip(x, (0, 1))]
    seen = set()
    for seed in range(60):
        found = (square(given, 8, np.random.default_rng(seed)) * 255).round().astype(np.uint8)
        which = [(i, t) for t in (0, 1) for i, way in enumerate(ways)
                 if np.ascontiguousarray(way(found.swapaxes(0, 1) if t else found)).tobytes() in parts]  # fmt: skip
        assert which
        seen.update(which)
    assert len(seen) == 8
    assert window(given[:5, :5], 8).shape == (8, 8, 3)


def test_what_upscale_made_earlier_is_no_picture(tmp_path):
    again = ("a-x4-2", "b-x4-1-2", "b-x4-spread-2", "a-denoise-1", "a-inpaint-invented", "a-denoise-spread-3")
    for name in ("a", "a-x4", "b", "b-x4-1", "b-x4-2", "b-x4-spread", "map-x4", "a-cell", *again):
        Image.fromarray(picture(1)).save(tmp_path / f"{name}.png")
    files, others = module.picture_files(tmp_path)
    assert sorted(file.stem for file in files) == ["a", "a-cell", "b", "map-x4"] and len(others) == 10


def test_what_is_transparent_is_learned_as_white(tmp_path):
    alpha = np.zeros((24, 30), np.uint8)
    alpha[:12] = 255
    for i, pixels in enumerate((picture(1), picture(1, colours=1))):
        Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / f"{i}.png")
    for example, pixels in zip(read_pictures(tmp_path).examples, (picture(1), picture(1, colours=1)), strict=True):
        assert (example.picture[12:] == 255).all() and (example.picture[:12] == to_bytes(pixels)[:12]).all()


def test_squares_of_large_pictures_are_cut_at_every_size():
    ramp = np.repeat(np.arange(160, dtype=np.uint8)[:, None], 40, 1)[..., None].repeat(3, -1)
    slopes = []
    for seed in range(20):
        cut = square(ramp, 10, np.random.default_rng(seed), zoom=8) * 255
        steps = [np.abs(np.diff(cut[2:-2, 2:-2, 0], axis=axis)).mean() for axis in (0, 1)]
        assert min(steps) == 0
        slopes.append(max(steps))
    assert min(slopes) < 1.5 and 3 < max(slopes) < 4.2  # a side of 40 is four times 10, whatever zoom says


def test_deep_pictures_become_bytes_by_their_range():
    deep = picture(bits=16)
    assert np.abs(to_bytes(deep) - deep / 257).max() <= 0.5


def test_lists_by_whoever_wrote_them_and_neither_hidden_files_nor_links_to_nowhere(tmp_path):
    folder(tmp_path, 2)
    Image.fromarray(picture(5)).save(tmp_path / "fu\u0308r.png")
    for name in ("._photo 0.png", ".git/photo 0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "index.csv").write_text(
        "name,split\nC:\\my\\f\u00fcr.tif, Val \nphoto 1,\ngone,train\n", encoding="utf-8"
    )
    notes = []
    found = read_pictures(tmp_path, note=notes.append)
    assert [one.name for one in found.examples] == ["f\u00fcr", "photo 0", "photo 1"]
    assert found.listed == {"f\u00fcr": "table"}
    assert notes == [
        "1 pictures (photo 0) are not in index.csv",
        "index.csv: 1 pictures (gone) are not among those that are read",
    ]
