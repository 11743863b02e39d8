"""Pictures that a user names."""

from inkwash.systems.picture_folders import picture_files
from inkwash.systems.segmentation.files import is_mask, pictures_of
from tests.systems.segmentation.cells import cells, folder, save


def test_masks_are_no_pictures(tmp_path):
    folder(tmp_path, 2)
    save(cells(5)[0], tmp_path / "more" / "b.png")
    save(cells(5)[1].astype("uint8"), tmp_path / "more" / "b_mask.png")
    assert [name for name, _ in picture_files(tmp_path, "", is_mask)] == ["cell_0", "cell_1", "b"]
    assert [
        (name, (page == cells(i)[0]).all()) for i, (name, page) in enumerate(pictures_of(tmp_path / "images"))
    ] == [("cell_0", True), ("cell_1", True)]


def test_results_are_no_pictures(tmp_path):
    for name in ("a.png", "blood-samples.png"):
        save(cells(0)[0], tmp_path / name)
    for end in ("mask", "overlay", "probability", "uncertainty", "samples"):
        for number in ("", "-2"):
            save(cells(0)[0], tmp_path / f"a-{end}{number}.png")
    assert [name for name, _ in picture_files(tmp_path, "", is_mask)] == ["a", "blood-samples"]
