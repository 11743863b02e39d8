"""Backups: consistent while the studio works, usable at any moment, and never at the cost of another folder."""

import json
import shutil
import stat
import threading

import pytest

from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio import backup as backups
from inkwash.studio.backup import backup, restore
from inkwash.studio.recovery import recover
from inkwash.studio.sqlite import MARK
from inkwash.studio.store import NewJob, Store
from tests.studio.test_recovery import close, draw, everything, model, titles


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "backup"


def snapshot_of(folder):
    """What a backup holds, by a copy of it that is used as a home."""
    copy = folder.with_name("used")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return Store(copy)


def test_it_holds_all_and_comes_back(store, user, folder, tmp_path):
    names = {draw(store, user, shade, f"fox {shade}"): f"fox {shade}" for shade in range(3)}
    job = store.submit(user, NewJob("pictures", "train", {}, lasting=True)).id
    model(store.runs / job / "out" / "so far")
    copied = backup(store.home, folder)
    assert (copied.results, copied.files, copied.missing) == (3, 3, [])
    assert {path.name for path in folder.iterdir()} == {"studio.db", "files", "runs"}
    other = tmp_path / "other"
    assert restore(folder, other).results == 3
    assert not list(other.glob("studio.db-*"))
    again = Store(other)
    assert titles(again, user) == names and again.job(job).status == "queued"
    assert (again.runs / job / "out" / "so far" / "system.json").is_file()
    assert [again.files.read(name, ".png") for name in names] == [store.files.read(name, ".png") for name in names]
    assert again.recover() == []


def test_an_earlier_one_gets_what_is_new_and_loses_what_was_deleted(store, user, folder):
    old, kept = draw(store, user, 1, "old"), draw(store, user, 2, "kept")
    backup(store.home, folder)
    inode = (folder / "files" / kept[:2] / f"{kept}.png").stat().st_ino
    (folder / "files" / "notes.txt").write_text("mine")
    store.delete(next(one.id for one in store.results(user) if one.title == "old"), user)
    new = draw(store, user, 3, "new")
    assert backup(store.home, folder).results == 2
    assert titles(snapshot_of(folder), user) == {kept: "kept", new: "new"}
    assert not (folder / "files" / old[:2] / f"{old}.png").exists()
    assert (folder / "files" / kept[:2] / f"{kept}.png").stat().st_ino == inode  # it was not copied again
    assert (folder / "files" / "notes.txt").read_text() == "mine"


def test_what_is_deleted_while_it_copies_is_not_missing(store, user, folder, monkeypatch):
    draw(store, user, 1, "deleted"), draw(store, user, 2, "kept")
    copy_named, calls = backups.copy_named, []

    def slow(*arguments, **options):
        if not calls:  # between the snapshot of the rows and the files
            store.delete(next(one.id for one in store.results(user) if one.title == "deleted"), user)
        calls.append(copy_named(*arguments, **options))
        return calls[-1]

    monkeypatch.setattr(backups, "copy_named", slow)
    copied = backup(store.home, folder)
    assert (copied.results, copied.missing, len(calls[0])) == (1, [], 1)
    assert list(titles(snapshot_of(folder), user).values()) == ["kept"]


def test_it_is_consistent_while_the_studio_draws_and_deletes(store, user, folder):
    stop = threading.Event()

    def work():
        shade = 0
        while not stop.is_set():
            shade = (shade + 1) % 256
            draw(store, user, shade, str(shade))
            if shade % 3 == 0:
                store.delete(store.results(user)[-1].id, user)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(4):
            copied = backup(store.home, folder)
            copy = snapshot_of(folder)
            assert copied.missing == [] and len(titles(copy, user)) == copied.results
            assert all(copy.files.path(name, ".png").is_file() for name in titles(copy, user))
            assert copy.sweep() == []
            close(copy)
    finally:
        stop.set()
        thread.join()


def test_a_crash_in_the_middle_leaves_the_earlier_one(store, user, folder, monkeypatch):
    old = draw(store, user, 1, "old")
    backup(store.home, folder)
    store.delete(store.results(user)[0].id, user)
    draw(store, user, 2, "new")
    with monkeypatch.context() as patch:
        patch.setattr(backups.os, "utime", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backup(store.home, folder)
    assert titles(snapshot_of(folder), user) == {old: "old"} and restore(folder, folder.with_name("x")).results == 1
    assert list(titles(snapshot_of(folder), user).values()) == ["old"]
    backup(store.home, folder)
    assert list(titles(snapshot_of(folder), user).values()) == ["new"]


def test_a_first_one_that_was_cut_off_is_ended_by_the_next(store, user, folder, monkeypatch):
    draw(store, user, 1)
    with monkeypatch.context() as patch:
        patch.setattr(backups.os, "utime", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backup(store.home, folder)
    with pytest.raises(UserError, match="there is no database"):
        restore(folder, folder.with_name("x"))
    assert backup(store.home, folder).results == 1 and restore(folder, folder.with_name("x")).results == 1


def test_it_goes_into_no_other_folder(store, user, folder, tmp_path):
    draw(store, user, 1)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    another = Store(tmp_path / "another")
    draw(another, accounts.add_user(another, "ben", None).id, 2)
    theirs = tmp_path / "theirs"
    backup(another.home, theirs)
    backup(store.home, folder)
    used = folder.with_name("used")
    restore(folder, used)
    close(Store(used))
    for place, why in (
        (strange, "not empty, and no backup"),
        (theirs, "a backup of another studio"),
        (used, "a studio has run there"),
        (store.home, "a studio has run there"),
        (another.home, "a studio has run there"),
    ):
        before = everything(place)
        with pytest.raises(UserError, match=why):
            backup(store.home, place)
        assert {name: data for name, data in everything(place).items() if "studio.db-" not in name.name} == {
            name: data for name, data in before.items() if "studio.db-" not in name.name
        }


def test_an_older_or_damaged_database_does_not_replace_a_newer_backup(store, user, folder):
    draw(store, user, 1)
    close(store)
    older = (store.home / "studio.db").read_bytes()
    draw(store, user, 2)
    backup(store.home, folder)
    close(store)
    for data, why in ((older, "newer than the database"), (older[:-5000], "damaged|cannot be read"), (b"", "read")):
        (store.home / "studio.db").write_bytes(data)
        with pytest.raises(UserError, match=why):
            backup(store.home, folder)
        assert len(titles(snapshot_of(folder), user)) == 2
    (store.home / "studio.db").unlink()
    with pytest.raises(UserError, match="there is no database"):
        backup(store.home, folder)


def test_a_file_that_is_lost_or_damaged_is_said_and_all_else_copied(store, user, folder):
    lost, damaged, _ = (draw(store, user, shade) for shade in range(3))
    store.files.path(lost, ".png").unlink()
    store.files.path(damaged, ".png").write_bytes(b"rot")
    copied = backup(store.home, folder)
    assert {name.partition("/")[2] for name in copied.missing} == {f"{lost}.png", f"{damaged}.png"}
    assert len(list((folder / "files").glob("*/*"))) == 1
    with pytest.raises(UserError, match="2 files are lost or damaged"):
        restore(folder, folder.with_name("x"))


def test_what_is_not_whole_is_not_restored_and_a_database_not_replaced(store, user, folder, tmp_path):
    name = draw(store, user, 1)
    backup(store.home, folder)
    with pytest.raises(UserError, match="has a database"):
        restore(folder, store.home)
    (folder / "files" / name[:2] / f"{name}.png").write_bytes(b"rot")
    other = tmp_path / "other"
    with pytest.raises(UserError, match="1 files are lost or damaged"):
        restore(folder, other)
    (folder / "studio.db").write_bytes(b"rot" * 10000)
    with pytest.raises(UserError, match="cannot be read"):
        restore(folder, other)
    assert not other.exists()


def test_a_lost_database_is_put_back_beside_its_files_without_the_old_journal(store, user, folder):
    name = draw(store, user, 1)
    backup(store.home, folder)
    close(store)
    (store.home / "studio.db").unlink()
    (store.home / "studio.db-wal").write_bytes(b"stale")
    restore(folder, store.home)
    assert titles(Store(store.home), user) == {name: "a red fox"}
    (journal,) = (store.home / "lost+found").iterdir()
    assert journal.read_bytes() == b"stale" and journal.name.endswith("-wal")


def test_keys_of_this_machine_stay_out_of_it_and_it_is_nobody_elses(store, user, folder):
    (store.home / "local.json").write_text(json.dumps({"key": "ink-secret"}))
    draw(store, user, 1)
    backup(store.home, folder)
    assert not any(b"ink-secret" in data for data in everything(folder).values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_whose_tables_are_in_postgresql_gets_no_others(store, user, folder, tmp_path):
    draw(store, user, 1)
    backup(store.home, folder)
    home = tmp_path / "servers"
    (home / "files").mkdir(parents=True)
    (home / MARK).write_text("0" * 32)
    for write in (lambda: restore(folder, home), lambda: recover(home)):
        with pytest.raises(UserError, match="its database is PostgreSQL's"):
            write()
    assert sorted(path.name for path in home.iterdir()) == ["files", MARK] and not any((home / "files").iterdir())
