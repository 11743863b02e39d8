"""From pictures to files, on the command line as people type it."""

import csv
import errno
import json

import numpy as np
import pytest

from inkwash.cli import main
from inkwash.codecs.picture_files import read_pages
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.base import options as options_of
from inkwash.systems.segmentation import verbs
from inkwash.systems.segmentation.data import read_data
from inkwash.systems.segmentation.request import Segment, Tune
from tests.systems.segmentation.cells import cells, folder, save
from tests.systems.segmentation.toy import Notes, model

pytest.importorskip("skimage")


def run(tmp_path, source, **options):
    context = Notes(tmp_path / "out", toy=model())
    (tmp_path / "out").mkdir(exist_ok=True)
    option = options_of(Segment)["pictures"]
    pictures = context.file(source, option)
    try:
        *each, whole = verbs.segment([Segment(pictures=pictures, model="toy", **options)], context)
    finally:
        context.close()
    return each, whole, context.notes


def test_pictures_of_a_folder_and_one_table(tmp_path):
    folder(tmp_path / "in", 3)
    each, whole, _ = run(tmp_path, tmp_path / "in", coco=True)
    assert whole.place is None and [one.place for one in each] == [0, 1, 2]
    rows = list(csv.DictReader(whole.files["objects.csv"].read_text().splitlines()))
    assert [row["picture"] for row in rows] == ["cell_0", "cell_1", "cell_2"]
    content = json.loads(whole.files["objects.json"].read_text())
    assert [image["file_name"] for image in content["images"]] == [f"images/cell_{i}.png" for i in range(3)]
    for number, (one, row) in enumerate(zip(each, rows, strict=True), 1):
        objects = list(csv.DictReader(one.files[f"cell_{number - 1}-objects.csv"].read_text().splitlines()))
        assert (
            int(row["count"]) == len(objects) == len([a for a in content["annotations"] if a["image_id"] == number])
        )
        assert int(row["area"]) == sum(int(found["area"]) for found in objects)
        assert one.recipe["system"] == "segmentation" and one.recipe["seed"] == 0
        assert one.recipe["pictures"]["name"] == f"images/cell_{number - 1}.png"
        assert read_recipe(one.files[f"cell_{number - 1}-mask.png"]) == json.loads(json.dumps(one.recipe))
    assert whole.row["text"].startswith(f"3 pictures: {sum(int(row['count']) for row in rows)} of cell (")
    ids = [a["id"] for a in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_a_stack_is_segmented_slice_by_slice(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pages = np.stack([cells(i)[0] for i in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    save(pages[1], tmp_path / "alone.png")
    each, whole, _ = run(tmp_path, tmp_path / "stack.tif", coco=True)
    assert [one.row["picture"] for one in each] == ["stack-1", "stack-2", "stack-3"]
    images = json.loads(whole.files["objects.json"].read_text())["images"]
    assert [image["file_name"] for image in images] == ["stack-1", "stack-2", "stack-3"]
    mask = read_pages(each[1].files["stack-2-mask.png"])[0]
    (alone,), _, _ = run(tmp_path, tmp_path / "alone.png")
    assert (read_pages(alone.files["alone-mask.png"])[0] == mask).all()  # alone and in a stack


def test_a_slice_that_is_called_as_another_picture_is_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pages = np.stack([cells(i)[0] for i in range(2)])
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "stack.tif", pages, photometric="minisblack")
    save(pages[0], tmp_path / "in" / "stack-1.png")
    with pytest.raises(UserError, match=r"two pictures are called stack-1, one of them a slice of stack.tif"):
        run(tmp_path, tmp_path / "in")
    for name, page in (("stack_mask", pages), ("stack-1_mask", pages[0])):
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", (page > 99).astype(np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match="two pictures are called stack-1, one of them a slice"):
        read_data(tmp_path / "in")


def test_a_dark_picture_is_said_to_be_scaled(tmp_path):
    save(cells(0)[0].astype(np.uint16), tmp_path / "dark.png")
    _, _, notes = run(tmp_path, tmp_path / "dark.png")
    assert "dark.png: 16 bits, of which only" in notes[0]


def test_a_picture_that_is_too_large_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("inkwash.systems.segmentation.sizes.free_memory", lambda: 1000)
    save(cells(0)[0], tmp_path / "big.png")
    with pytest.raises(UserError, match=r"big.png: a picture of 48 x 48 pixels needs about"):
        run(tmp_path, tmp_path / "big.png")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    save(cells(0)[0], tmp_path / "a.png")
    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(UserError, match=r"cannot write in .* \(No space left on device\): make room and run again"):
        run(tmp_path, tmp_path / "a.png")
    assert not list((tmp_path / "out").iterdir())


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model().save(tmp_path / "mine")
    folder(tmp_path / "in", 2)
    assert main(["segment", "in", "--model", "mine", "-o", "out", "--samples", "2", "--rois"]) == 0
    out = capsys.readouterr().out
    assert "2 pictures: " in out
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    expected = [
        "mask.png",
        "objects.csv",
        "overlay.png",
        "probability.png",
        "probability.tif",
        "rois.zip",
        "samples.tif",
        "uncertainty.png",
    ]
    assert names == sorted(["objects.csv", *(f"cell_{i}-{end}" for i in (0, 1) for end in expected)])
    before = (tmp_path / "out" / "cell_0-mask.png").read_bytes()
    assert main(["segment", "in/images/cell_0.png", "--model", "mine", "-o", "out", "--samples", "2"]) == 0
    assert (tmp_path / "out" / "cell_0-mask.png").read_bytes() == before  # nothing is written over
    assert (tmp_path / "out" / "cell_0-mask-2.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["segment", "none.png", "--model", "mine"], "none.png: no such file or folder"),
        (["segment", "in", "--model", "mine", "--samples", "0"], "samples = 0: choose a whole number from 1"),
        (["segment", "in", "--model", "mine", "--flips"], "flips means nothing with the model mine"),
        (["segment", "text.png", "--model", "mine", "-o", "new"], "not a picture that can be read"),
        (["segmentation", "train", "--data", "bare", "--out", "run"], "no masks found for 2 pictures"),
        (["segmentation", "train", "--data", "in", "--out", "old"], "old/best: it is there, and no training here"),
        (["segmentation", "train", "--out", "run"], "neither a recipe nor data of your own"),
        (["segmentation", "evaluate", "mine", "--data", "bare", "--out", "new"], "no masks found for 2 pictures"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model().save(tmp_path / "mine")
    folder(tmp_path / "in", 2)
    for i in range(2):
        save(cells(i)[0], tmp_path / "bare" / f"{i}.png")
    (tmp_path / "text.png").write_text("none")
    model().save(tmp_path / "old" / "best")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert says in told[-1] and "Traceback" not in "".join(told)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_it_is_tuned_by_the_verb_that_all_share(tmp_path, monkeypatch):
    made = model()
    made.save(tmp_path / "mine")
    made.folder = tmp_path / "mine"
    folder(tmp_path / "in", 2)
    context = Notes(tmp_path / "mine", mine=made)
    data = (File("0" * 64, "a.png"),)
    context.paths[data] = tmp_path / "in"
    monkeypatch.setattr("inkwash.systems.segmentation.model.TUNING_STEPS", 12)
    (result,) = verbs.tune([Tune(model="mine", data=data, steps=(2,), samples=8)], context)
    assert "tables.json" in result.files
    found = made.segment(cells(0)[0], samples=2, steps=2, sampler="tuned")
    assert found.samples.shape == (2, 48, 48)
    with pytest.raises(UserError, match=r"make one: inkwash tune"):
        made.segment(cells(0)[0], steps=5, sampler="tuned")
    with pytest.raises(UserError, match=r"a plain model takes one step"):
        model(engine="plain").problem(Tune(model="mine", data=data), tmp_path / "in")


def test_pictures_that_cannot_be_read_keep_no_other_from_being_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "in", 2)
    model().save("mine")
    (tmp_path / "in" / "images" / "broken.png").write_bytes(b"\x89PNG")
    assert main(["segment", "in", "--model", "mine", "-o", "out", "--samples", "2"]) == 2
    assert "left out, and the other pictures are done: " in (said := capsys.readouterr().err) and "broken.png" in said
    with open("out/objects.csv") as file:
        assert [row["picture"] for row in csv.DictReader(file)] == ["cell_0", "cell_1"]


def test_what_is_left_out_of_a_folder_is_said(tmp_path):
    for name in ("a.png", "my_mask.png", "masks/b.png", ".hidden.png"):
        save(cells(0)[0], tmp_path / "in" / name)
    each, _, notes = run(tmp_path, tmp_path / "in", samples=1)
    assert len(each) == 1
    assert notes[0] == "2 files are masks, come from an earlier run, or lead nowhere: left out: b.png, my_mask.png"
