"""Pictures and models without a database, or with an older one: a start refuses, `recover` takes them in once."""

import json
import os
import shutil
import time

import pytest
from PIL import Image

from inkwash.codecs.png import encode_png
from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio.library import NewFile
from inkwash.studio.recovery import Recovered, check_current, recover
from inkwash.studio.store import NewResult, Store
from tests.studio.conftest import asked


def draw(store, user, shade, prompt="a red fox"):
    """A picture with its recipe, made by a job; its SHA-256."""
    recipe = {"system": "pictures", "verb": "generate", "prompt": prompt, "seed": shade, "model": "emoji"}
    store.submit(user, asked())
    job = store.claim("w")
    with store.files.stage(encode_png(Image.new("RGB", (8, 8), (shade, 0, 0)), recipe), ".png") as content:
        assert store.add("w", job, 0, 0, NewResult(0, prompt, {}, recipe, [NewFile(content, "fox.png")]))
    store.advance("w", job)
    return content.sha256


def model(folder):
    folder.mkdir(parents=True)
    (folder / "system.json").write_text(json.dumps({"system": "pictures", "size": 8}))
    return folder


def close(store):
    store.engine.dispose()
    return store.home


def lose(store):
    """The studio stops, and its database goes."""
    for file in close(store).glob("studio.db*"):
        file.unlink()
    return store.home


def titles(store, user=None):
    user = user or accounts.local_user(store).id
    return {result.files[0].sha256: result.title for result in store.results(user)}


def everything(home):
    return {path.relative_to(home): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("empty", [False, True])
def test_a_lost_or_empty_database_is_no_new_studio(store, user, empty):
    draw(store, user, 1)
    home = lose(store)
    if empty:
        (home / "studio.db").touch()
    before = everything(home)
    with pytest.raises(UserError, match=f"studio.db is {'empty' if empty else 'lost'}, and 1 files and 0 models"):
        Store(home)
    assert everything(home) == before


def test_an_empty_database_in_an_empty_folder_is_a_new_studio(tmp_path):
    (tmp_path / "studio.db").touch()
    assert accounts.local_user(Store(tmp_path))


def test_a_lost_database_is_made_anew_of_the_pictures_and_models(store, user):
    names = {draw(store, user, shade, f"fox {shade}"): f"fox {shade}" for shade in range(3)}
    model(store.models_folder / "a")
    with store.files.stage(encode_png(Image.new("RGB", (8, 8))), ".png") as content:  # of no recipe, so of nobody
        store.files.commit(content)
    first = store.files.path(next(iter(names)), ".png")
    os.utime(first, (1.7e9, 1.7e9))
    home = lose(store)
    (home / "lost+found").mkdir()
    first.rename(home / "lost+found" / first.name)  # where an earlier start had put it
    assert recover(home) == Recovered(results=3, models=1, left=0)
    again = Store(home)
    assert titles(again) == names
    oldest = again.results(accounts.local_user(again).id)[-1]
    assert oldest.created == 1.7e9 and oldest.recipe["seed"] == 0
    job = again.job(oldest.job_id)
    assert (job.status, job.system, job.verb, job.model) == ("done", "pictures", "generate", "emoji")
    assert job.request == {"prompt": "fox 0", "seed": 0, "model": "emoji"}
    (row,) = again.models(accounts.local_user(again).id)
    assert row.name == "pictures-recovered" and (again.folder_of(row) / "system.json").is_file()
    check_current(again)
    assert [path.stem for path in again.recover()] == [content.sha256]  # a start finds no more than this
    assert titles(again) == names
    close(again)
    assert recover(home) == Recovered(results=0, models=0, left=1)


def test_what_was_taken_in_may_be_anothers(store, user):
    name = draw(store, user, 1)
    home = lose(store)
    recover(home, "ben")  # who is made, as there is nobody yet
    again = Store(home)
    assert titles(again, accounts.find_user(again, "ben").id) == {name: "a red fox"}
    close(again)
    with pytest.raises(UserError, match="no user 'carl'"):
        recover(home, "carl")


@pytest.mark.parametrize("damage", ["garbage", "half"])
def test_a_damaged_database_is_set_aside_and_never_deleted(store, user, damage):
    name = draw(store, user, 1)
    path = close(store) / "studio.db"
    data = path.read_bytes()
    broken = b"no database" * 1000 if damage == "garbage" else data[: len(data) // 2]
    path.write_bytes(broken)
    path.with_name("studio.db-wal").write_bytes(b"journal")
    assert recover(store.home).results == 1
    assert titles(Store(store.home)) == {name: "a red fox"}
    lost = sorted((store.home / "lost+found").iterdir())
    assert [file.read_bytes() for file in lost[:2]] == [broken, b"journal"] or broken == lost[0].read_bytes()
    assert lost[0].name.startswith("studio.db.20")


def test_a_start_refuses_a_database_older_than_its_pictures_until_they_are_taken_in(store, user):
    old = draw(store, user, 1, "old")
    home = close(store)
    shutil.copy(home / "studio.db", home.parent)
    again = Store(home)
    names = {draw(again, user, shade, "new"): "new" for shade in (2, 3)}
    for name in names:
        later = time.time() + 3600
        os.utime(again.files.path(name, ".png"), (later, later))
    lose(again)
    shutil.copy(home.parent / "studio.db", home)
    older = Store(home)
    with pytest.raises(UserError, match="older than 2 results and models in"):
        check_current(older)
    close(older)
    assert recover(home).results == 2
    newest = Store(home)
    check_current(newest)
    assert titles(newest) == names and titles(newest, user) == {old: "old"} and newest.recover() == []


def test_a_file_of_a_crash_is_no_reason_to_refuse(store, user):
    draw(store, user, 1)
    with store.files.stage(encode_png(Image.new("RGB", (8, 8)), {"prompt": "x"}), ".png") as content:
        store.files.commit(content)  # and its row was not written
    check_current(store)
    assert [path.stem for path in store.recover()] == [content.sha256]
    close(store)
    assert recover(store.home).results == 1 and content.sha256 in titles(Store(store.home))


def test_a_picture_that_its_user_deleted_does_not_come_back(store, user):
    name = draw(store, user, 1)
    data = store.files.read(name, ".png")
    store.delete(store.results(user)[0].id, user)
    close(store)
    store.files.path(name, ".png").write_bytes(data)
    os.utime(store.files.path(name, ".png"), (1e9, 1e9))  # as if the deletion had been cut short
    again = Store(store.home)
    check_current(again)
    assert again.recover() == [] and not again.files.path(name, ".png").exists()


def test_a_folder_in_which_no_studio_has_been_stays_as_it_is(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no studio has been there"):
        recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
