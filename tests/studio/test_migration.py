"""A database that an older studio wrote: pictures, shares, uploads and a queue come through, and go on."""

import hashlib
import json
import sqlite3
from importlib import resources

import pytest
from PIL import Image

from inkwash.codecs.png import encode_png
from inkwash.studio import accounts
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.store import NewJob, Store
from inkwash.studio.tables import sha256
from inkwash.studio.worker import ModelCache, Worker
from tests.studio.conftest import Grey

ASK = {
    "prompt": "a red fox", "negative": "", "model": "emoji", "style": None, "n": 3, "seed": 2**64 - 3,
    "sampler": None, "steps": None, "guidance": 1.5, "size": None, "transparent": False, "image": None, "mask": None,
    "strength": None, "border": None, "previews": 2,
}  # fmt: skip


def save(home, shade):
    data = encode_png(Image.new("RGB", (8, 8), (shade, 0, 0)), {"seed": shade})
    name = hashlib.sha256(data).hexdigest()
    path = home / "pictures" / name[:2] / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name, data


@pytest.fixture
def old(tmp_path):
    """The folder of a studio as its first version left it: one job done, one half done, one that waits."""
    home = tmp_path / "home"
    home.mkdir()
    with sqlite3.connect(home / "studio.db") as raw:
        first = (resources.files("inkwash.studio.migrations") / "0001_start.sql").read_text()
        raw.executescript(first + "create table migrations (number integer primary key);")
        raw.execute("insert into migrations values (1)")
        raw.execute("insert into users values ('u', 'anna', null, 1, 1, 50, 1.7e9, 1.0)")
        upload, _ = save(home, 9)
        raw.execute("insert into uploads values ('up', 'u', ?, 5.0)", [upload])
        for number, (id, status, ask) in enumerate(
            [
                ("done", "done", ASK | {"n": 1}),
                ("half", "running", ASK),
                ("waits", "queued", ASK | {"n": 1, "image": "up", "strength": 0.5}),
            ]
        ):
            lease = ("w", 2e9) if status == "running" else (None, None)
            row = (id, "u", "api", json.dumps(ask), ask["n"], status, None, f"key:api:{id}", *lease, 0)
            raw.execute(f"insert into jobs values ({','.join('?' * 14)})", (*row, 2.0 + number, 3.0, None))
        contents = []
        for id, job, place, gone in (("a", "done", 0, None), ("b", "half", 0, None), ("c", "half", 1, 4.0)):
            name, data = save(home, len(contents))
            if gone:
                (home / "pictures" / name[:2] / f"{name}.png").unlink()
            contents.append((name, data))
            facts = (8, 8, "" if gone else "a red fox", json.dumps({} if gone else {"seed": 2**64 - 3}), 3.5, gone)
            raw.execute(f"insert into pictures values ({','.join('?' * 11)})", (id, job, place, "u", name, *facts))
        raw.execute("insert into shares values ('token', 'a', 1, null)")
    return home, contents, upload


def test_it_comes_through_and_goes_on(old):
    home, contents, upload = old
    store = Store(home)
    assert not (home / "pictures").exists()
    kept = store.results("u")
    assert [(result.id, result.title, result.place) for result in kept] == [
        ("b", "a red fox", 0),
        ("a", "a red fox", 0),
    ]
    assert store.read(kept[1].files[0]) == contents[0][1] and kept[1].files[0].media == "image/png"
    assert kept[1].recipe == {"seed": 2**64 - 3} and kept[1].bytes == len(contents[0][1])
    assert store.shared("token")[0].result_id == "a" and store.disk_used("u") == sum(
        len(data) for _, data in contents[:2]
    ) + len(store.files.read(upload, ".png"))
    job = store.job("done")
    assert (job.system, job.verb, job.model, job.api, job.previews) == ("pictures", "generate", "emoji", "api", 2)
    assert job.request["seed"] == 2**64 - 3 and "previews" not in job.request and (job.part, job.parts) == (1, 1)
    assert store.job("waits").request["image"] == {"sha256": upload, "name": "image.png"}

    assert store.recover() == []
    worker = Worker(store, Catalogue(store), ModelCache(lambda folder: Grey(), 1e12), "w", lambda message: None)
    while worker.step():
        pass
    assert store.count() == {"done": 3}
    assert [result.part for result in store.results_of("half")] == [0, 2]  # the one that was deleted stays so
    assert [result.recipe["seed"] for result in store.results_of("half")] == [2**64 - 3, 2**64 - 1]
    assert store.results_of("waits")[0].place is not None


def test_accounts_of_one_name_in_two_cases_come_through_and_are_told_apart_by_the_name_itself(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    steps = sorted(
        one.name for one in resources.files("inkwash.studio.migrations").iterdir() if one.name[:4] <= "0003"
    )
    with sqlite3.connect(home / "studio.db") as raw:
        raw.create_function("file_size", 2, lambda *_: 0)
        raw.execute("create table migrations (number integer primary key)")
        for step in steps:
            raw.executescript((resources.files("inkwash.studio.migrations") / step).read_text())
            raw.execute("insert into migrations values (?)", [int(step[:4])])
        names = ("Anna", "anna", "ANNA", "Local", "local", "Guest", "guest", "ben")
        for number, name in enumerate(names):
            row = (f"id{number}", name, f"password of {name}", number == 4, name != "local", None, 0.0, float(number))
            raw.execute(f"insert into users values ({','.join('?' * 8)}, null)", row)
    store = Store(home)
    found = {name: accounts.find_user(store, name).id for name in (*names, "aNNa", "LOCAL", "GUEST", "BEN")}
    assert [found[name] for name in names] == [f"id{number}" for number in range(8)]
    assert (found["aNNa"], found["LOCAL"], found["GUEST"], found["BEN"]) == ("id0", "id4", "id6", "id7")
    local, guest = accounts.local_user(store), accounts.guest_user(store)
    assert local.id == "id4" and local.admin and not accounts.has_password(store, "id4")
    assert accounts.issue(store, local.id, "key")  # it was closed, which nobody could undo now
    assert guest.id == accounts.GUEST and guest.name.startswith("guest ") and guest == accounts.guest_user(store)
    assert accounts.proxied_user(store, guest.name) is None


def test_it_comes_through_once_and_a_crash_between_folder_and_table_changes_nothing(old):
    home, contents, _ = old
    (home / "pictures").rename(home / "files")  # as far as a process came that died then
    for _ in range(2):
        store = Store(home)
        assert {result.files[0].sha256 for result in store.results("u")} == {name for name, _ in contents[:2]}
        store.engine.dispose()


@pytest.fixture
def third(tmp_path):
    """The folder of a studio as its third version left it: four jobs of a user's; another had the last turn."""
    home = tmp_path / "third"
    home.mkdir()
    with sqlite3.connect(home / "studio.db") as raw:
        raw.create_function("file_size", 2, lambda sha256, suffix: 0)
        raw.execute("create table migrations (number integer primary key)")
        for step in sorted(resources.files("inkwash.studio.migrations").iterdir(), key=lambda file: file.name):
            if step.name.endswith(".sql") and step.name < "0004":
                raw.executescript(step.read_text())
                raw.execute("insert into migrations values (?)", [int(step.name[:4])])
        for user in ("u", "v"):
            raw.execute(
                "insert into users (id, name, admin, active, served, created) values (?, ?, 0, 1, 20, 1)",
                [user, user],
            )
        fields = "id, user_id, api, request, parts, status, idempotency_key, deaths, created, changed, started"
        for id, user, status, created, changed, started in [
            ("d", "u", "done", 2.0, 9.0, 8.0),
            ("c", "u", "queued", 3.0, 3.0, None),
            ("b", "u", "queued", 4.0, 4.0, None),
            ("a", "u", "done", 4.0, 5.0, 4.5),
            ("e", "v", "running", 1.0, 10.0, 10.0),
        ]:
            row = (id, user, "api", json.dumps({"prompt": "a fox", "n": 1}), 1, status, f"key:api:a {id}: fox", 0)
            raw.execute(
                f"insert into jobs ({fields}) values ({','.join('?' * 11)})", (*row, created, changed, started)
            )
        for id, created in (("y", 6.0), ("x", 6.0), ("z", 5.0)):
            raw.execute(
                "insert into results (id, job_id, part, number, user_id, system, verb, title, data, recipe, bytes, "
                "created) values (?, 'a', 0, ?, 'u', 'pictures', 'generate', '', '{}', '{}', 1, ?)",
                (id, ord(id), created),
            )
    return home


def test_what_was_deleted_by_an_older_studio_goes_from_its_free_pages(third):
    with sqlite3.connect(third / "studio.db") as raw:
        raw.execute("pragma secure_delete=off")
        raw.execute("create table words as select replace(hex(zeroblob(9000)), '0', 'xylophonic ') as word")
        raw.commit()
        raw.execute("drop table words")
    raw.close()
    assert b"xylophonic" in (third / "studio.db").read_bytes()
    Store(third).truncate_log()
    assert b"xylophonic" not in b"".join(file.read_bytes() for file in third.glob("studio.db*"))


def test_a_database_of_the_third_version_comes_through_in_its_order(third):
    store = Store(third)
    assert [job.id for job in store.jobs("u")] == ["b", "a", "c", "d"]
    assert [job.id for job in store.changed_since("u", 0)] == ["c", "b", "a", "d"]
    assert [result.id for result in store.results("u")] == ["y", "x", "z"]
    new = store.submit("u", NewJob("pictures", "generate", {}), idempotency_key=f"key:api:{sha256('a d: fox')}")
    assert new.id == "d"  # who asks again is given the same job
    store.truncate_log()
    assert b"a d: fox" not in b"".join(file.read_bytes() for file in third.glob("studio.db*"))
    assert store.version() == store.job("e").version + 3  # of five jobs, and three results
    store.recover()
    order = [store.claim("w").id for _ in range(3)]
    assert order == ["c", "e", "b"]  # who had the last turn waits, of two users who were served alike
    later = store.submit("u", NewJob("pictures", "generate", {}))
    assert store.jobs("u")[0].id == later.id
