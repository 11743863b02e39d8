"""Pictures that a user names."""

import pytest

from inkwash.errors import UserError
from inkwash.systems.picture_folders import picture_files
from tests.systems.segmentation.cells import cells, save


def test_a_single_file_has_its_owner_s_name(tmp_path):
    file = save(cells(0)[0], tmp_path / "a.png")
    assert picture_files(file, "my cells.png") == [("my cells", file)]


def test_none_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no pictures there"):
        picture_files(tmp_path)
    for place in ("x", "y"):
        save(cells(0)[0], tmp_path / place / "a.png")
    with pytest.raises(UserError, match=r"two pictures are called a: x/a.png and y/a.png"):
        picture_files(tmp_path)


def test_links_to_nowhere_and_what_is_hidden_are_no_pictures(tmp_path):
    for name in ("a.png", "._a.png", ".hidden/b.png"):
        save(cells(0)[0], tmp_path / name)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    assert [name for name, _ in picture_files(tmp_path)] == ["a"]


def test_a_name_that_no_text_can_hold_is_refused(tmp_path):
    save(cells(0)[0], tmp_path / "a\x01b.png")
    for path in (tmp_path, tmp_path / "a\x01b.png"):
        with pytest.raises(UserError, match=r"a picture is called 'a\\x01b'"):
            picture_files(path)
    with pytest.raises(UserError, match="a picture is called"):
        picture_files(tmp_path / "a\x01b.png", "z\udce4.png")
