"""A start touches only files of its own shape that its own crash has left, and loses none that is whole."""

import hashlib
import os

import pytest
from PIL import Image

from inkwash.codecs.png import encode_png
from inkwash.studio.library import NewFile
from inkwash.studio.store import Store
from tests.studio.test_recovery import draw, model


def put(folder, data, suffix=".png"):
    """A whole file that no row names."""
    name = hashlib.sha256(data).hexdigest()
    path = folder / name[:2] / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def png(shade):
    return encode_png(Image.new("RGB", (8, 8), (shade, 0, 0)))


def test_a_copy_that_a_crash_cut_off_goes(store):
    half = store.files.folder / f"..staged-{'a' * 32}.123-456"
    half.write_bytes(b"half")
    assert store.recover() == [] and not half.exists()


def test_links_and_what_they_lead_to_stay(store, user, tmp_path):
    draw(store, user, 1)
    elsewhere = tmp_path / "elsewhere"
    theirs = [put(elsewhere, png(shade)) for shade in range(5)]
    half = theirs[0].with_name(f".{theirs[0].stem}.12-3.png")
    half.write_bytes(b"mine")
    links = [store.files.folder / f".staged-{'a' * 32}", store.models_folder / "linked"]
    links[0].symlink_to(half)
    links[1].symlink_to(model(elsewhere / "model"))
    for path in theirs:
        if not (store.files.folder / path.parent.name).exists():
            links.append(store.files.folder / path.parent.name)
            links[-1].symlink_to(path.parent)
    assert store.recover() == []
    assert all(path.is_symlink() and path.exists() for path in links)
    assert half.exists() and all(path.exists() for path in theirs)


def test_what_lies_in_lost_and_found_is_not_replaced(store):
    orphan, folder = put(store.files.folder, png(1)), model(store.models_folder / "ring")
    lost = store.home / "lost+found"
    model(lost / "ring")
    (lost / orphan.name).write_bytes(b"altered by somebody")
    small = store.files.thumbnails / orphan.parent.name / f"{orphan.stem}.webp"
    picture = put(store.files.folder, png(2), ".webp")
    also = store.files.thumbnails / picture.parent.name / picture.name  # whose name is that of the file itself
    for path in (small, also):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"small")
    assert len(store.recover()) == 3
    kept = {path.name: path.read_bytes() for path in lost.iterdir() if path.is_file()}
    assert kept == {
        orphan.name: b"altered by somebody",
        f"{orphan.stem}-2.png": png(1),
        picture.name: png(2),
    }
    assert {path.name for path in lost.iterdir() if path.is_dir()} == {"ring", "ring-2"} and not folder.exists()


def test_a_start_goes_on_where_a_model_cannot_be_moved(store):
    folder = model(store.models_folder / "ring")
    (store.home / "lost+found").write_bytes(b"")
    assert store.recover() == [] and folder.exists()


def test_a_folder_where_a_file_should_be_is_not_taken_for_it(store, user):
    with store.files.stage(png(1), ".png") as content:
        store.files.path(content.sha256, ".png").mkdir(parents=True)
        with pytest.raises(OSError):
            store.add_uploads(user, [NewFile(content, "fox.png")])
    assert store.upload_of(content.sha256, user) is None


def test_a_folder_of_ones_own_pictures_stays(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "beach.png").write_bytes(png(1))
    Store(tmp_path)
    assert (tmp_path / "pictures" / "beach.png").exists() and not os.listdir(tmp_path / "files")
