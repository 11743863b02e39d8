"""A studio that outgrew SQLite and its folder: all that it had is on PostgreSQL, and in a bucket."""

import math

import pytest

from inkwash.cli import main
from inkwash.errors import UserError
from inkwash.studio import accounts, moving, runs
from inkwash.studio.backup import backup
from inkwash.studio.library import NewFile
from inkwash.studio.moving import restore_to_postgresql
from inkwash.studio.store import NewJob, NewResult, Store
from inkwash.studio.tables import metadata
from tests.studio import s3
from tests.studio.conftest import asked
from tests.studio.test_recovery import draw, everything, model, titles


@pytest.fixture(params=["folder", "bucket"])
def bucket(request, monkeypatch):
    """The address of one, or "": its files are in the folder."""
    if request.param == "folder":
        yield ""
        return
    with s3.running("moto") as storage:
        for name, value in storage.env.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{storage.create()}/inkwash"


@pytest.fixture
def url(cluster):
    yield cluster.url(name := cluster.create())
    cluster.drop(name)


@pytest.fixture
def folder(store, tmp_path):
    """A backup of a studio in which much has been."""
    anna = accounts.add_user(store, "anna", "a good password", admin=True, daily=7).id
    draw(store, anna, 1, "a fox\0 with a NUL")
    draw(store, anna, 2, "deleted")
    store.delete(next(one.id for one in store.results(anna) if one.title == "deleted"), anna)
    training = store.submit(anna, NewJob("pictures", "train", {}, lasting=True)).id
    job = store.claim("w")
    assert job.id == training
    made = model(store.home / "made")
    with store.files.stage(b"text", ".txt") as content:
        file = NewFile(content, "log.txt")
        assert store.add("w", job, 0, 0, NewResult(None, "a model", {"loss": math.nan}, {}, [file], made, "mine"))
    model(store.runs / training / "out" / "so far")
    store.submit(anna, asked())
    backup(store.home, tmp_path / "backup")
    return tmp_path / "backup"


def counts(store):
    with store.reading() as tx:
        return {table.name: [len(tx.execute(table.select()).all())] for table in metadata.sorted_tables}


def test_all_of_it_comes_over_and_goes_on(store, folder, url, bucket, tmp_path):
    anna = accounts.find_user(store, "anna").id
    key = accounts.issue(store, anna, "key")
    backup(store.home, folder)
    copied = restore_to_postgresql(folder, tmp_path / "new", url, bucket)
    assert (copied.results, copied.files) == (2, 2)
    new = Store(tmp_path / "new", url=url, bucket=bucket)
    assert counts(new) == counts(store)
    assert accounts.holder(new, key, "key").id == anna
    found = accounts.find_user(new, "ANNA")
    assert (found.id, found.admin, found.daily) == (anna, True, 7)
    assert {one.title for one in new.results(anna)} == {"a fox\ufffd with a NUL", "a model"}
    for sha256, title in titles(store, anna).items():
        suffix = ".txt" if title == "a model" else ".png"
        assert new.files.read(sha256, suffix) == store.files.read(sha256, suffix)
    (row,) = new.models(anna)
    assert (new.folder_of(row) / "system.json").read_text() == (store.folder_of(row) / "system.json").read_text()
    (training,) = [job for job in new.jobs(anna) if job.lasting]
    runs.fetch(new, training.id)
    assert (new.runs / training.id / "out" / "so far" / "system.json").is_file()
    versions = [job.version for job in new.jobs(anna)]
    assert new.submit(anna, asked()).version > max(versions)
    new.engine.dispose()


def test_what_was_stopped_goes_on_and_what_is_whole_is_not_touched(folder, url, bucket, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    before = everything(folder)
    with monkeypatch.context() as patch:
        patch.setattr(moving, "copy_tables", stopped)
        with pytest.raises(KeyboardInterrupt):
            restore_to_postgresql(folder, tmp_path / "new", url, bucket)
    assert restore_to_postgresql(folder, tmp_path / "new", url, bucket).results == 2
    with pytest.raises(UserError, match=r"has users or jobs already, and nothing of them was changed; make a new"):
        restore_to_postgresql(folder, tmp_path / "new", url, bucket)
    assert everything(folder) == before


def test_a_backup_with_a_damaged_file_changes_nothing(folder, url, tmp_path):
    file = next((folder / "files").glob("*/*.png"))
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"1 files are lost or damaged, such as .*png; take another backup"):
        restore_to_postgresql(folder, tmp_path / "new", url, "")
    assert not (tmp_path / "new").exists()


def test_on_the_command_line(folder, url, bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INKWASH_STORE", url)
    monkeypatch.setenv("INKWASH_FILES", bucket) if bucket else monkeypatch.delenv("INKWASH_FILES", raising=False)
    command = ["studio", "restore", str(folder), "--home", str(tmp_path / "new")]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"{bucket or tmp_path / 'new'}: 2 results, 2 files, 0.")
    assert main(command) == 2
    assert "has users or jobs already" in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert main(["studio", "restore", str(tmp_path), "--home", str(tmp_path / "new")]) == 2
    assert "there is no database; give the folder of a studio or of a backup" in capsys.readouterr().err
