"""The studio's commands: who may come in, and mistakes that are one line."""

import io
import logging
import os
import socket
import sys

import pytest

from inkwash.cli import main
from inkwash.cli.studio import logging_to
from inkwash.studio import accounts
from inkwash.studio.store import Store
from inkwash.weights.files import lock
from tests.studio.test_recovery import draw, lose


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def run(monkeypatch, *words, typed=""):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return main(["studio", *map(str, words)])


def test_an_account_is_opened_changed_and_closed_and_a_new_password_leaves_its_rights(home, monkeypatch, capsys):
    password, other = "correct horse battery", "another long password"
    where = ("--home", home)
    assert run(monkeypatch, "user", "anna", "--daily", 5, "--admin", *where, typed=f"{password}\n") == 0
    store = Store(home)
    anna = accounts.log_in(store, "anna", password)
    assert anna.admin and anna.daily == 5
    key = accounts.issue(store, anna.id, "key")
    assert run(monkeypatch, "user", "anna", *where, typed=f"{other}\n") == 0
    assert accounts.log_in(store, "anna", password) is None and accounts.holder(store, key, "key") is None
    assert accounts.log_in(store, "anna", other) == anna
    assert "keys and sessions are ended" in capsys.readouterr().out
    key = accounts.issue(store, anna.id, "key")
    assert run(monkeypatch, "user", "anna", "--no-admin", "--disk", 7, *where) == 0  # and nothing else
    changed = accounts.log_in(store, "anna", other)
    assert (changed.admin, changed.daily, changed.disk) == (False, 5, 7 * 10**6)
    assert accounts.holder(store, key, "key").name == "anna"
    assert run(monkeypatch, "user", "anna", "--close", "--daily", 5, *where) == 2
    assert "leave out --daily" in capsys.readouterr().err and accounts.log_in(store, "anna", other)
    assert run(monkeypatch, "user", "anna", "--close", *where) == 0
    assert accounts.log_in(store, "anna", other) is None
    assert "anna: closed" in capsys.readouterr().out
    for words in (["key", "--user", "anna"], ["link", "--user", "anna"]):
        (home / "local.json").write_text('{"url": "http://127.0.0.1:7860", "key": ""}')
        assert run(monkeypatch, *words, *where) == 2
        said = capsys.readouterr()
        assert "'anna' is closed" in said.err and not said.out


def test_a_name_in_another_case_is_the_same_account(home, monkeypatch, capsys):
    where = ("--home", home)
    assert run(monkeypatch, "user", "Anna", *where, typed="correct horse battery\n") == 0
    assert run(monkeypatch, "user", "ａnna", *where, typed="another long password\n") == 0
    assert "Anna: may log in with the new password" in capsys.readouterr().out
    store = Store(home)
    assert [row.name for row in accounts.list_users(store)] == ["Anna"]
    assert run(monkeypatch, "key", "--user", "ANNA", *where) == 0
    assert accounts.holder(store, capsys.readouterr().out.strip(), "key").name == "Anna"
    assert run(monkeypatch, "user", "ANNA", "--close", *where) == 0
    assert accounts.log_in(store, "Anna", "another long password") is None
    assert (
        run(monkeypatch, "user", "a\udcff", *where, typed="another long password\n") == 2
    )  # bytes that are no UTF-8
    assert "can be seen" in capsys.readouterr().err


def test_visitors_of_an_open_studio_are_limited_and_closed_before_it_was_ever_open(home, monkeypatch, capsys):
    where = ("--home", home)
    assert run(monkeypatch, "user", "guest", "--daily", 20, "--disk", 3, *where) == 0
    store = Store(home)
    guest = accounts.guest_user(store)
    assert (guest.id, guest.daily, guest.disk, guest.admin) == (accounts.GUEST, 20, 3 * 10**6, False)
    assert run(monkeypatch, "user", "Guest", "--close", *where) == 0
    assert accounts.open_user(store, accounts.GUEST) is None
    assert run(monkeypatch, "user", "guest", *where) == 0  # no password is asked for
    assert accounts.open_user(store, accounts.GUEST) == guest and not accounts.has_accounts(store)
    assert run(monkeypatch, "user", "guest", "--admin", *where) == 2
    capsys.readouterr()
    assert run(monkeypatch, "key", "--user", "guest", *where) == 2
    said = capsys.readouterr()
    assert "no keys" in said.err and not said.out


def test_a_key_and_a_link_are_printed(home, monkeypatch, capsys):
    store = Store(home)
    assert run(monkeypatch, "key", "--user", "x", "--home", home) == 2
    assert "no user 'x'" in capsys.readouterr().err
    assert run(monkeypatch, "key", "--home", home) == 0
    assert accounts.holder(store, capsys.readouterr().out.strip(), "key").name == accounts.LOCAL
    (home / "local.json").write_text('{"url": "http://127.0.0.1:7860", "key": ""}')
    assert run(monkeypatch, "--home", home, "link") == 0  # --home may come before, too
    address, _, link = capsys.readouterr().out.strip().partition("/#token=")
    assert address == "http://127.0.0.1:7860" and accounts.redeem(store, link).name == accounts.LOCAL


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "there are no users"),
        (["--open", "--host", "no.such.host.invalid"], "cannot listen"),
        (["--model", "nothing"], "unknown model 'nothing'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cpu", "--device", "cpu"], "--device cpu: given twice"),
        (["--allow-origin", "*"], "it would be every site"),
        (["--root-path", "inkwash/"], "a path like /inkwash"),
        (["--proxy-address", "nginx"], "such as 172.18.0.2"),
        (["--allow-origin", "https://a.org", "key"], "--allow-origin: for starting the studio"),
        (["--host", "0.0.0.0", "--model", "emoji"], "there are no users"),
        (["user", "local"], "cannot be changed"),
        (["user", "x", "--close"], "no user 'x'"),
        (["user", "x"], "10 characters"),
        (["user", " "], "1 to 100"),
        (["user", "an\u200bna"], "can be seen"),
        (["user", "Local"], "cannot be changed"),
        (["--login-header", "X-Remote-User"], "give --proxy"),
        (["--proxy", "--login-header", "X: y"], "letters, digits and hyphens"),
        (["key", "--user", "x"], "never run here"),
        (["link"], "never run here"),
        (["--files", "file:///srv/files"], "s3://BUCKET/PREFIX is needed"),
        (["--files", "gs://bucket/files"], "s3://BUCKET/PREFIX is needed"),
        (["--files", "https://s3.example.org/bucket"], "s3://BUCKET/PREFIX is needed"),
        (["--files", "/srv/files"], "s3://BUCKET/PREFIX is needed"),
        (["--files", "s3://key:secret@bucket"], "never in the address"),
        (["--files", "s3://bucket/files"], "give --store"),
        (["--files", " "], "--files is empty"),
        (["--files-url", "https://s3.example.org"], "give --files, too"),
        (["--files-url", "s3.example.org", "--files", "s3://bucket"], "such as https://s3.example.org"),
        (["--files-url", "https://h:99999", "--files", "s3://bucket"], "such as https://s3.example.org"),
        (["--files-url", "https://s3_storage", "--files", "s3://bucket"], "such as https://s3.example.org"),
        (["key", "--files", "file:///srv/files"], "s3://BUCKET/PREFIX is needed"),
        (["backup", "x", "--files", "s3://bucket"], "No such option"),
        (["recover"], "never run here"),
        (["backup", "x"], "there is no database"),
        (["restore", "x"], "there is no database"),
        (["--port", "7932", "key"], "--port: for starting the studio"),
        (["--open", "--host", "x", "user", "x"], "--open, --host: for starting the studio"),
    ],
)
def test_a_mistake_is_one_line(home, monkeypatch, capsys, words, message):
    assert run(monkeypatch, *words[:1], *words[1:], "--home", home, typed="short\n") == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and "secret" not in told.replace("AWS_SECRET", "")
    assert not home.exists()


def test_a_port_that_is_taken_and_a_folder_that_cannot_be_made(home, monkeypatch, capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(monkeypatch, "--port", server.getsockname()[1], "--home", home) == 2
    assert "give another --port" in capsys.readouterr().err and not home.exists()
    (tmp_path / "file").touch()
    assert run(monkeypatch, "--home", tmp_path / "file" / "x") == 2
    assert "--home" in capsys.readouterr().err


def test_a_file_of_something_else_is_not_replaced(home, monkeypatch, capsys):
    home.mkdir()
    (home / "local.json").write_text('{"mine": 1}')
    assert run(monkeypatch, "--home", home, "--port", 0) == 2
    assert "local.json: this file is not inkwash's" in capsys.readouterr().err
    assert (home / "local.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        (["emoji=emoji-fast"], "there is a model 'emoji' already"),
        (["x=emoji", "x=emoji-fast"], "there is a model 'x' already"),
        (["dall-e-3=emojy"], "unknown model 'emojy': did you mean emoji"),
        (["dall-e-3"], "NAME=MODEL is needed"),
        (["=emoji"], "NAME=MODEL is needed"),
        (["a/b=emoji"], "NAME=MODEL is needed"),
    ],
)
def test_an_alias_that_is_none_is_refused(home, monkeypatch, capsys, alias, message):
    assert run(monkeypatch, "--home", home, *(word for one in alias for word in ("--alias", one))) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1 and not home.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this machine has no disk that is always full")
def test_a_log_that_cannot_be_written_is_one_line(home, capsys):
    with logging_to(home, "/dev/full"):
        for _ in range(3):
            logging.getLogger("inkwash.studio").warning("a line")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot write the log /dev/full" in error


def test_a_backup_is_made_restored_and_a_lost_database_recovered(home, monkeypatch, capsys, tmp_path):
    store = Store(home)
    draw(store, accounts.local_user(store).id, 1)
    folder, other, where = tmp_path / "backup", tmp_path / "other", ("--home", home)
    assert run(monkeypatch, "backup", folder, *where) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: 1 results, 1 files, 0.")
    store.files.path(draw(store, accounts.local_user(store).id, 2), ".png").unlink()
    assert run(monkeypatch, "backup", folder, *where) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{folder}: 2 results") and "1 files that the database names are lost" in said.err
    assert run(monkeypatch, "restore", folder, "--home", other) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not other.exists()
    lose(store)
    assert run(monkeypatch, "recover", *where) == 0
    assert capsys.readouterr().out == "1 pictures and 0 models taken in; 0 files stay in lost+found\n"
    assert run(monkeypatch, "backup", tmp_path / "new", *where) == 0
    assert run(monkeypatch, "restore", tmp_path / "new", "--home", other) == 0
    assert capsys.readouterr().out.count(": 1 results, 1 files, 0.") == 2
    assert len(Store(other).results(accounts.local_user(Store(other)).id)) == 1
    with lock(home / "lock", "held"):
        assert run(monkeypatch, "recover", *where) == 2
    assert "is running" in capsys.readouterr().err


def test_where_the_studio_is_cannot_be_read(home, monkeypatch, capsys):
    home.mkdir()
    for text in ("{", "[]", "{}"):
        (home / "local.json").write_text(text)
        assert run(monkeypatch, "link", "--home", home) == 2
        assert "local.json: it cannot be read" in capsys.readouterr().err
