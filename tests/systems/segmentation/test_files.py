"""Pictures that a user names."""

import pytest

from inkwash.errors import UserError
from inkwash.systems.segmentation.files import picture_files, pictures_of
from tests.systems.segmentation.cells import cells, folder, save


def test_masks_are_no_pictures(tmp_path):
    folder(tmp_path, 2)
    save(cells(5)[0], tmp_path / "more" / "b.png")
    save(cells(5)[1].astype("uint8"), tmp_path / "more" / "b_mask.png")
    assert [name for name, _ in picture_files(tmp_path)] == ["cell_0", "cell_1", "b"]
    assert [
        (name, (page == cells(i)[0]).all()) for i, (name, page) in enumerate(pictures_of(tmp_path / "images"))
    ] == [("cell_0", True), ("cell_1", True)]


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


def test_results_links_to_nowhere_and_what_is_hidden_are_no_pictures(tmp_path):
    for name in ("a.png", "blood-samples.png", ".hidden/b.png"):
        save(cells(0)[0], tmp_path / name)
    for end in ("mask", "overlay", "probability", "uncertainty", "samples"):
        for number in ("", "-2"):
            save(cells(0)[0], tmp_path / f"a-{end}{number}.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    assert [name for name, _ in picture_files(tmp_path)] == ["a", "blood-samples"]
