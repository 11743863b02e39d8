"""Folders as operators have them: links to other disks, what a crash left, pictures that do harm, other programs'."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from inkwash.codecs.png import encode_png
from inkwash.errors import UserError
from inkwash.studio.backup import backup, restore
from inkwash.studio.files import set_aside
from inkwash.studio.recovery import recover
from inkwash.studio.store import NewJob, NewResult, Store
from inkwash.weights.files import digest, lock
from tests.studio.test_recovery import close, draw, model


@pytest.fixture
def two_disks(monkeypatch):
    """Nothing can be renamed from one folder into another, but beside a scratch copy of it."""

    def rename(source, target, real=os.replace):
        source, target = Path(source), Path(target)
        if source.parent != target.parent and not source.parent.name.startswith(".move-"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        real(source, target)
        return target

    monkeypatch.setattr(Path, "replace", rename)
    monkeypatch.setattr(Path, "rename", rename)


def test_a_training_ends_where_models_are_a_link_to_another_disk(store, user, two_disks):
    job = store.submit(user, NewJob("pictures", "train", {}, lasting=True))
    store.claim("w")
    out = model(store.runs / job.id / "out")
    assert store.add("w", store.job(job.id), 0, 0, NewResult(0, "", {}, {}, [], folder=out, model="mine"))
    (row,) = store.models(user)
    assert (store.folder_of(row) / "system.json").read_bytes() == (out / "system.json").read_bytes()
    assert [path.name for path in store.models_folder.iterdir()] == [row.id]


def test_what_no_row_names_is_set_aside_and_taken_in_across_disks(store, user, two_disks, tmp_path):
    data = encode_png(Image.new("RGB", (8, 8)), {"prompt": "a fox"})
    picture = tmp_path / "x.png"
    picture.write_bytes(data)
    picture = picture.replace(picture.with_name(f"{digest(picture)}.png"))
    assert set_aside(picture, store.home / "lost+found").read_bytes() == data and not picture.exists()
    set_aside(model(tmp_path / "made"), store.home / "lost+found")
    assert recover(close(store))[:2] == (1, 1)


@pytest.mark.parametrize("home", [True, False])
def test_what_was_cut_off_goes(store, user, tmp_path, home):
    """Copies of databases, with words that are deleted since, keys, and halves of folders; nothing else."""
    folder = store.home if home else tmp_path / "backup"
    names = [".studio.12-34.db", ".local.12-34.json", ".recover-ab_c1234/x", "models/.copy-ab_c1234/x"]
    others = ["studio.1.db", ".studio.old.db", ".copy-mine/x", "@eaDir/x", "models/.move-12/x"]
    draw(store, user, 1)
    if not home:
        backup(store.home, folder)
    for name in names + others:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a word")
    store.sweep() if home else backup(store.home, folder)
    assert not [name for name in names if (folder / name.removesuffix("/x")).exists()]
    assert all((folder / name).exists() for name in others)


def test_the_next_backup_mends_what_is_damaged_in_it(store, user, tmp_path):
    folder, sha256 = tmp_path / "backup", draw(store, user, 1)
    backup(store.home, folder)
    copy = folder / "files" / sha256[:2] / f"{sha256}.png"
    copy.write_bytes(b"torn")
    backup(store.home, folder)
    assert digest(copy) == sha256
    assert restore(folder, tmp_path / "other").files == 1


DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize("fields", ['"prompt": "\\ud800"', '"guidance": NaN', '"seed": 1e999', f'"x": {DEEP}'])
def test_a_recipe_that_no_answer_can_hold_stops_nothing(store, user, idle, fields):
    """One such file kept all others from being taken in, or, taken in, every list from being shown."""
    client, home = idle, idle.app.state.engine.store.home
    for shade, recipe in enumerate([f'{{"prompt": "bad", {fields}}}', '{"prompt": "good"}']):
        staged = home / "new.png"
        info = PngImagePlugin.PngInfo()
        info.add_text("inkwash", recipe)
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(staged, pnginfo=info)
        place = home / "files" / digest(staged)[:2] / f"{digest(staged)}.png"
        place.parent.mkdir(exist_ok=True)
        staged.replace(place)
    assert recover(home).results == 1
    (result,) = client.get("/api/results").json()
    assert result["title"] == "good"


def test_lost_found_of_the_file_system_does_not_matter(store, user, monkeypatch):
    (store.home / "lost+found").mkdir()

    def refuse(path, real=os.listdir):
        if Path(path).name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert recover(close(store)).left == 0


@pytest.mark.parametrize("table", ["songs (id integer)", "migrations (id integer, migration text)"])
def test_another_programs_database_stays_as_it_is(tmp_path, table):
    path = tmp_path / "studio.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"create table {table}")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(UserError, match="another program's database"):
        Store(tmp_path)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["studio.db"]


def test_another_programs_models_stay_open_to_others(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir(mode=0o755)
    (folder / "other.ckpt").write_bytes(b"x")
    with pytest.raises(UserError, match="another program's"):
        Store(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["models"]


def test_another_programs_lock_is_not_taken_away(store, tmp_path):
    backup(store.home, tmp_path / "backup")
    home = tmp_path / "other"
    home.mkdir()
    (home / "lock").write_text("pid 12")
    with pytest.raises(UserError, match="not inkwash's"):
        restore(tmp_path / "backup", home)
    assert [one.name for one in home.iterdir()] == ["lock"]
    (home / "lock").unlink()
    (home / "lock").symlink_to(home / "nowhere")
    with pytest.raises(UserError, match="not inkwash's"), lock(home / "lock", "held"):
        pass
    assert not (home / "nowhere").exists()
