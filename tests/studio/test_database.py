"""A database that vanishes, is damaged or cannot be written: the studio says so, and makes no other."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing

import httpx
import pytest

from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio.errors import DatabaseUnusable
from inkwash.studio.store import Store
from tests.studio.conftest import Running, asked, fox
from tests.studio.test_full_disk import MOUNT, may_mount
from tests.studio.test_recovery import close, draw


def gone(store, how):
    path = store.home / "studio.db"
    if how == "removed":
        path.unlink()
    elif how == "emptied folder":
        shutil.rmtree(store.home)
    else:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["removed", "replaced", "emptied folder"])
def test_a_database_that_vanishes_is_not_written_to_any_more(store, user, how):
    draw(store, user, 1)
    gone(store, how)
    before = sorted(store.home.rglob("*"))
    for act in (lambda: store.submit(user, asked()), lambda: store.results(user), lambda: store.claim("w")):
        with pytest.raises(DatabaseUnusable, match="removed or replaced while it ran") as caught:
            act()
        assert (caught.value.status, caught.value.code) == (503, "database_lost")
    assert sorted(store.home.rglob("*")) == before


def test_what_is_written_while_it_vanishes_is_not_acknowledged(store, user):
    with pytest.raises(DatabaseUnusable), store.writing():
        gone(store, "removed")


def test_a_database_that_turns_out_damaged_is_left_alone(store, user):
    draw(store, user, 1)
    home = close(store)
    with (home / "studio.db").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(os.urandom(size - 4096))  # all but the first page
    again = None
    with pytest.raises((DatabaseUnusable, UserError), match="damaged"):
        again = Store(home)
        again.results(user)
    if again is not None:
        with pytest.raises(DatabaseUnusable) as caught:
            again.submit(user, asked())
        assert caught.value.code == "database_damaged"


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_program_is_told_of_it(idle, how):
    store = idle.app.state.engine.store
    if how == "lost":
        gone(store, "removed")
    else:
        close(store)
        damage(store.home, "text")
    for answer in (idle.get("/api/jobs"), fox(idle)):
        assert answer.status_code == 503 and answer.json()["error"]["code"] == f"database_{how}"
    health = idle.get("/healthz")
    assert health.status_code == 503 and health.json()["status"] == f"database {how}"
    assert store.path.exists() == (how == "damaged")


def test_a_studio_without_its_database_waits_and_does_not_fill_its_log(tmp_path):
    studio = Running(tmp_path / "home")
    try:
        client = studio.client()
        assert fox(client, model="emoji-fast").status_code == 202
        (studio.home / "studio.db").unlink()
        end = time.monotonic() + 60
        while httpx.get(f"{studio.url}/healthz").json() != {"status": "database lost", "workers": 0}:
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(3)
        log = (studio.home / "studio.log").read_text()
        assert log.count("worker started") == 1 and "Traceback" not in log
        assert sum("/healthz" not in line for line in log.splitlines()) < 12
        assert fox(client).status_code == 503 and not (studio.home / "studio.db").exists()
    finally:
        studio.stop()
    assert "Traceback" not in (studio.home / "studio.log").read_text()


def damage(home, how):
    path = home / "studio.db"
    data = path.read_bytes() if path.is_file() else b""
    if how == "text":
        path.write_bytes(b"this is no database\n" * 1000)
    elif how == "half":
        path.write_bytes(data[: len(data) // 2])
    elif how == "one page":
        path.write_bytes(data[:4096])
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "lost":
        path.unlink()
    else:
        with sqlite3.connect(path) as raw:
            raw.execute("delete from migrations" + (" where number > 1" if how == "some steps not noted" else ""))


DAMAGES = ("text", "half", "one page", "folder", "empty", "lost", "no step noted", "some steps not noted")


@pytest.mark.parametrize("how", DAMAGES)
def test_each_command_says_in_a_line_what_is_wrong(store, user, how, monkeypatch, capsys):
    from inkwash.cli import main

    draw(store, user, 1)
    home = close(store)
    (home / "local.json").write_text('{"url": "http://127.0.0.1:1", "key": ""}')
    damage(home, how)
    before = {path: path.read_bytes() for path in (home / "files").glob("*/*.png")}
    for words in (["--port", "0"], ["key"], ["link"], ["user", "ben", "--close"], ["backup", str(home / "x")]):
        options = ["--home", str(home), *words] if words[0] == "--port" else [*words, "--home", str(home)]
        assert main(["studio", *options]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "studio.db" in error and "Traceback" not in error
    assert {path: path.read_bytes() for path in (home / "files").glob("*/*.png")} == before


def test_what_postgresql_needs_is_asked_for_only_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("inkwash.extras.find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"needs psycopg: pip install 'inkwash\[postgresql\]'"):
        Store(tmp_path / "home", url="postgresql://localhost/x")
    code = (
        f"from inkwash.studio.store import Store; from pathlib import Path; Store(Path({str(tmp_path / 'lite')!r}))"
    )
    check = f"{code}; import sys; assert 'psycopg' not in sys.modules and 'inkwash.studio.news' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


OBSTACLES = {
    "file for files/": lambda home: (shutil.rmtree(home / "files"), (home / "files").touch()),
    "file for models/": lambda home: (shutil.rmtree(home / "models"), (home / "models").touch()),
    "file for empty/": lambda home: (shutil.rmtree(home / "empty"), (home / "empty").touch()),
    "folder for the lock": lambda home: (home / "lock").mkdir(),
    "folder for the log": lambda home: (home / "studio.log").mkdir(),
    "folder for local.json": lambda home: (home / "local.json").mkdir(),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_what_is_in_the_way_of_a_start_is_one_line(store, user, what, capsys):
    from inkwash.cli import main

    home = close(store)
    OBSTACLES[what](home)
    assert main(["studio", "--home", str(home), "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(home) in error


@pytest.mark.skipif(not may_mount(), reason="this machine lets no user mount a file system")
@pytest.mark.parametrize("words", [["--port", "0"], ["key"], ["recover"]])
def test_a_folder_that_cannot_be_written_is_one_line(store, user, words):
    home = close(store)
    options = ["--home", home, *words] if words[0] == "--port" else [*words, "--home", home]
    studio = " ".join([sys.executable, "-m", "inkwash", "studio", *map(str, options)])
    mount = f"mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec {studio}"
    done = subprocess.run([*MOUNT, "sh", "-c", mount], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(home) in done.stderr, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")
def test_all_that_it_writes_is_its_users_alone_and_a_folder_open_to_others_is_named(tmp_path):
    home = tmp_path / "home"
    older = Store(home)
    user = accounts.local_user(older).id
    draw(older, user, 1)
    close(older)
    home.chmod(0o755)
    for path in home.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # as an older studio left it
    (home / "notes.txt").write_text("mine")
    (home / "notes.txt").chmod(0o644)
    (home / "files" / "@eaDir").mkdir(mode=0o755)
    (home / "files" / "@eaDir").chmod(0o755)
    previous = os.umask(0o022)
    try:
        studio = Warned(home)
    finally:
        os.umask(previous)
    try:
        client = studio.client()
        job = fox(client, model="emoji-fast", n=2).json()["id"]
        assert client.get(f"/api/jobs/{job}?wait=30").json()["status"] == "done"
        for result in client.get("/api/results").json():
            assert client.get(f"/api/results/{result['id']}/thumbnail").status_code == 200
        open_to_others = {
            str(path.relative_to(home)) for path in home.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077
        }
        assert open_to_others == {"notes.txt", "files/@eaDir"}
        assert (home / "studio.db-wal").exists() and any((home / "thumbnails").rglob("*.webp"))
        assert stat.S_IMODE(home.stat().st_mode) == 0o755
    finally:
        studio.stop()
    assert f"others on this machine may look into {home}" in studio.errors.read_text()


class Warned(Running):
    """One whose standard error is kept."""

    def start(self) -> None:
        self.errors = self.home.with_name("errors")
        with self.errors.open("w") as file:
            before = os.dup(2)
            os.dup2(file.fileno(), 2)
            try:
                super().start()
            finally:
                os.dup2(before, 2)
                os.close(before)


@pytest.mark.skipif(not may_mount(), reason="this machine lets no user mount a file system")
def test_an_old_database_opens_where_there_is_no_room_to_erase_what_it_deleted(tmp_path):
    home, small = tmp_path / "home", tmp_path / "small"
    small.mkdir()
    close(Store(home))
    with closing(sqlite3.connect(home / "studio.db", isolation_level=None)) as old:
        old.execute("create table large as select randomblob(10000000)")
        old.execute("pragma user_version=0")
    command = f"{sys.executable} -m inkwash studio --home {small} key"
    script = f"mount -t tmpfs -o size=16m none {small} && cp -r {home}/. {small} && SQLITE_TMPDIR={small} {command}"
    made = subprocess.run([*MOUNT, "sh", "-c", script], capture_output=True, text=True)
    assert made.returncode == 0 and made.stdout.startswith("ink-"), made.stderr
