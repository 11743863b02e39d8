"""What operators type by mistake: each is one line, and nothing of theirs is lost."""

import io
import sys

import pytest

from inkwash.cli import main
from inkwash.studio.accounts import list_users
from inkwash.studio.store import Store
from tests.cli.test_studio import run


@pytest.mark.parametrize("right", ["--daily", "--disk"])
def test_a_right_that_no_row_holds_is_refused(tmp_path, monkeypatch, capsys, right):
    typed = "correct horse battery\n"
    assert run(monkeypatch, "user", "anna", right, 10**19, "--home", tmp_path, typed=typed) == 2
    assert right in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_password_that_is_no_text_is_refused(tmp_path, monkeypatch, capsys, errors):
    typed = io.TextIOWrapper(io.BytesIO(b"correct horse \xff battery\n"), "utf-8", errors)
    monkeypatch.setattr(sys, "stdin", typed)
    assert main(["studio", "user", "anna", "--home", str(tmp_path)]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_a_keys_name_that_is_no_text_is_refused(tmp_path, monkeypatch, capsys):
    Store(tmp_path)
    assert run(monkeypatch, "key", "--name", "d\udcff", "--home", tmp_path) == 2
    assert "--name" in capsys.readouterr().err


def test_an_empty_home_is_not_this_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["user", "anna", "--home", ""], ["--home", "", "user", "anna"]):
        assert run(monkeypatch, *words, typed="correct horse battery\n") == 2
        assert "--home is empty" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert run(monkeypatch, "user", "anna", "--home", ".", typed="correct horse battery\n") == 0
    assert [user.name for user in list_users(Store(tmp_path))] == ["anna"]


@pytest.mark.parametrize("ending", ["", ".1", ".2"])
def test_a_file_that_is_not_a_log_is_not_rotated_away(tmp_path, monkeypatch, capsys, ending):
    theirs = tmp_path / f"theirs{ending}"
    theirs.write_text("a diary")
    home = tmp_path / "home"
    assert run(monkeypatch, "--home", home, "--port", 0, "--log", tmp_path / "theirs") == 2
    assert "not inkwash's" in capsys.readouterr().err
    assert theirs.read_text() == "a diary"
