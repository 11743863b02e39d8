"""From pictures to files, on the command line as people type it."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image, ImageCms
from scipy.ndimage import gaussian_filter

from inkwash.cli import main
from inkwash.codecs.png import COMPOSITE, read_recipe
from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.base import options as options_of
from inkwash.systems.restoration import verbs
from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.photos import read_photo
from inkwash.systems.restoration.request import Edit, TrainEditor, TrainUpscaler, Upscale
from tests.systems.restoration.toy import Notes, editor, folder, picture, upscaler

FILE = File("0" * 64, "a.png")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def run(tmp_path, source, **options):
    """Of `upscale`: its results, and what was said."""
    context = Notes(tmp_path / "out", toy=upscaler())
    (tmp_path / "out").mkdir(exist_ok=True)
    pictures = context.file(source, options_of(Upscale)["pictures"])
    try:
        return list(verbs.upscale([Upscale(pictures=pictures, model="toy", **options)], context)), context.notes
    finally:
        context.close()


def edit(tmp_path, source, mask=None, notes=None, **options):
    context = Notes(tmp_path / "out", toy=editor())
    context.notes = context.notes if notes is None else notes
    (tmp_path / "out").mkdir(exist_ok=True)
    fields = options_of(Edit)
    files = {"picture": context.file(source, fields["picture"])}
    files |= {} if mask is None else {"mask": context.file(mask, fields["mask"])}
    try:
        (result,) = verbs.edit([Edit(**files, model="toy", **options)], context)
        return result
    finally:
        context.close()


def test_opacity_profile_and_kind_are_kept(tmp_path):
    pytest.importorskip("tifffile")
    alpha = np.arange(24 * 30).reshape(24, 30).astype(np.uint8)
    both = Image.fromarray(np.dstack([picture(), alpha]))
    (tmp_path / "in").mkdir()
    both.save(tmp_path / "in" / "mit Deckkraft é.png", icc_profile=PROFILE)
    both.save(tmp_path / "in" / "b.webp", lossless=True, exact=True, icc_profile=PROFILE)
    Image.fromarray(picture()).save(tmp_path / "in" / "c.jpg", quality=98, icc_profile=PROFILE)
    Image.fromarray(picture(bits=16, colours=1)).save(tmp_path / "in" / "d.tif")
    (tmp_path / "in" / "notes.txt").write_text("none")
    found, notes = run(tmp_path, tmp_path / "in", samples=1)
    files = {name: file for one in found for name, file in one.files.items()}
    assert sorted(files) == ["b-x2.webp", "c-x2.jpg", "d-x2.tif", "mit Deckkraft é-x2.png"]
    assert any(
        "1 files are no pictures, or come from an earlier run, and are left out: notes.txt" in note for note in notes
    )
    for name, file in files.items():
        photo = read_photo(file)
        assert photo.pixels.shape[:2] == (48, 60) and photo.icc == (b"" if name[0] == "d" else PROFILE)
        assert COMPOSITE.encode() in file.read_bytes()
        if photo.alpha is not None:
            assert np.abs(reduced(photo.alpha, 2) - alpha)[2:-2, 2:-2].mean() < 8
    assert read_photo(files["d-x2.tif"]).pixels.dtype == np.uint16
    assert (read_photo(files["b-x2.webp"]).alpha is None, read_photo(files["c-x2.jpg"]).alpha) == (False, None)


def test_what_is_written_is_consistent_or_is_no_jpeg(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(picture()).save(tmp_path / "in" / "a.jpg")
    Image.fromarray(picture(bits=16, colours=1)).save(tmp_path / "in" / "b.png")
    found, notes = run(tmp_path, tmp_path / "in", samples=2, consistent=True)
    assert [sorted(one.files) for one in found] == [
        [f"{name}-x2-{end}.png" for end in ("1", "2", "spread")] for name in ("a", "b")
    ]
    for name, one in zip(("a.jpg", "b.png"), found, strict=True):
        low = read_photo(tmp_path / "in" / name).pixels
        for end in ("1", "2"):
            assert (reduced(read_photo(one.files[f"{name[0]}-x2-{end}.png"]).pixels, 2) == low).all()
    assert "a.jpg: written as PNG, since a JPEG would not be consistent" in notes[0]
    with pytest.raises(UserError, match="consistent: a JPEG changes the bits"):
        Upscale(pictures=FILE, model="toy", consistent=True, format="jpeg")


def test_the_recipe_says_what_was_asked_and_the_row_what_came(tmp_path):
    folder(tmp_path / "in", 2)
    found, _ = run(tmp_path, tmp_path / "in", samples=1, seed=7, noise_level=0.1)
    for i, one in enumerate(found):
        assert one.row == {"picture": f"photo {i}", "width": 60, "height": 48, "samples": 1}
        recipe = read_recipe(one.files[f"photo {i}-x2.png"])
        assert recipe == json.loads(json.dumps(one.recipe))
        assert (recipe["system"], recipe["seed"], recipe["noise_level"]) == ("superresolution", 7, 0.1)
        assert recipe["pictures"]["name"] == f"photo {i}.png"


def test_a_hole_is_filled_and_what_was_invented_is_marked(tmp_path):
    given, hole = picture(), np.zeros((24, 30), np.uint8)
    hole[6:12, 10:25] = 255
    Image.fromarray(given).save(tmp_path / "a.png", icc_profile=PROFILE)
    Image.fromarray(hole).save(tmp_path / "m.png")
    found = edit(tmp_path, tmp_path / "a.png", tmp_path / "m.png", task="inpaint", samples=3)
    assert sorted(found.files) == ["-1.png", "-2.png", "-3.png", "-invented.png", "-spread.png"]
    for end in ("-1.png", "-2.png", "-3.png"):
        photo = read_photo(found.files[end])
        assert (photo.pixels[hole == 0] == given[hole == 0]).all() and photo.icc == PROFILE
        content = found.files[end].read_bytes()
        assert all(f"<Iptc4xmpExt:{side}</".encode() in content for side in ("rbX>10", "rbY>6", "rbW>15", "rbH>6"))
        assert read_recipe(found.files[end])["invented"] == {"box": [10, 6, 15, 6], "share": 0.125}
    assert (np.asarray(Image.open(found.files["-invented.png"])) == hole).all()
    spread = np.asarray(Image.open(found.files["-spread.png"]))
    assert spread[hole > 0].any() and not spread[hole == 0].any()
    samples = np.stack([read_photo(found.files[f"-{i}.png"]).pixels for i in (1, 2, 3)]) / 255
    expected = samples.std(0).mean(-1)
    assert np.abs(spread - 255 * expected / expected.max()).max() <= 0.6
    assert found.row["spread_most"] == pytest.approx(expected.max(), abs=1e-5)
    assert found.row["spread"] == pytest.approx(expected[hole > 0].mean(), abs=1e-5)


def test_a_mask_of_another_size_is_resized_and_of_another_shape_refused(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    large = np.zeros((48, 60), np.uint8)
    large[12:24, 20:50] = 255
    Image.fromarray(large).save(tmp_path / "large.png")
    found = edit(tmp_path, tmp_path / "a.png", tmp_path / "large.png", task="inpaint", samples=1)
    assert found.recipe["invented"]["box"] == [10, 6, 15, 6]
    for name, mask, says in (
        ("wide.png", np.zeros((24, 24), np.uint8), "the mask has 24 x 24 pixels, the picture 30 x 24"),
        ("black.png", np.zeros((24, 30), np.uint8), "the mask is black everywhere"),
        ("white.png", np.full((24, 30), 255, np.uint8), "no pixel of the mask is black"),
        ("classes.png", (large[::2, ::2] > 0).astype(np.uint8), "the mask's lightest pixel is 1 of 255"),
    ):
        Image.fromarray(mask).save(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: {says}"):
            edit(tmp_path, tmp_path / "a.png", tmp_path / name, task="inpaint")


def test_a_mask_that_may_be_meant_otherwise_is_refused_or_it_is_said(tmp_path):
    given, hole = picture(), np.zeros((24, 30), np.uint8)
    hole[6:12, 10:25] = 255
    Image.fromarray(given).save(tmp_path / "a.png")
    red = np.dstack([hole, np.zeros((24, 30, 2), np.uint8)])
    palette = Image.fromarray(hole // 255)
    palette.putpalette([0, 0, 0, 128, 0, 0])  # as PASCAL VOC's first class
    frames = [Image.fromarray(hole), Image.fromarray(255 - hole)]
    for name, mask, more, says in (
        ("cut.png", Image.fromarray(np.dstack([given, 255 - hole])), {}, "a mask in colours"),
        ("grey.png", Image.fromarray(np.dstack([given[..., 0], 255 - hole])), {}, "a picture in greys with a hole"),
        ("red.png", Image.fromarray(red), {}, "a mask in colours"),
        ("voc.png", palette, {}, "a mask in colours"),
        ("pages.tif", frames[0], {"save_all": True, "append_images": frames[1:]}, "animated, or a stack"),
    ):
        mask.save(tmp_path / name, **more)
        with pytest.raises(UserError, match=f"{name}: {says}"):
            edit(tmp_path, tmp_path / "a.png", tmp_path / name, task="inpaint")
    brush = np.dstack([np.full_like(hole, 250), gaussian_filter(hole, 1.5)])  # white on nothing, with a soft edge
    Image.fromarray(brush).save(tmp_path / "brush.png")
    assert edit(tmp_path, tmp_path / "a.png", tmp_path / "brush.png", task="inpaint", samples=1).files
    for name in ("m.jpg", "m.webp"):
        Image.fromarray(hole).save(tmp_path / name, quality=60)
        found = edit(tmp_path, tmp_path / "a.png", tmp_path / name, notes := [], task="inpaint", samples=1)
        assert "what is lighter than half is drawn" in notes[0]
        drawn = np.asarray(Image.open(found.files["-invented.png"])) > 0
        assert (read_photo(found.files[".png"]).pixels[~drawn] == given[~drawn]).all()
        assert (drawn != (hole > 0)).mean() < 0.03
    exif, notes = Image.Exif(), []
    exif[0x112] = 3
    Image.fromarray(given).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(hole // 2).save(tmp_path / "m.png")
    edit(tmp_path, tmp_path / "turned.png", tmp_path / "m.png", notes, task="inpaint", samples=1)
    assert ["turned.png and m.png are turned as the EXIF of each says" in notes[0], len(notes)] == [True, 2]
    assert "m.png is nowhere white: what is drawn is mixed with the picture" in notes[1]
    Image.fromarray(hole).save(tmp_path / "m.png", exif=exif)
    edit(tmp_path, tmp_path / "turned.png", tmp_path / "m.png", notes, task="inpaint", samples=1)
    assert len(notes) == 2


def test_masks_of_truth_values_and_tiffs_that_pillow_does_not_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    hole = np.zeros((24, 30), bool)
    hole[6:12, 10:25] = True
    Image.fromarray(picture()).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "m.tif", hole)
    Image.fromarray(hole).save(tmp_path / "one.tif")
    both = np.dstack([picture(bits=16, colours=1), np.full((24, 30), 65535, np.uint16)])
    tifffile.imwrite(
        tmp_path / "big.tif", both, bigtiff=True, byteorder=">", photometric="minisblack", extrasamples=[2]
    )
    for source, mask in (("a.png", "m.tif"), ("a.png", "one.tif"), ("big.tif", "m.tif")):
        found = edit(tmp_path, tmp_path / source, tmp_path / mask, task="inpaint", samples=1)
        assert ((np.asarray(Image.open(found.files["-invented.png"])) > 0) == hole).all()


def test_a_name_that_no_text_can_hold_is_said(tmp_path):
    (tmp_path / "in").mkdir()
    for name in (b"lat\xfc.png", b"b.png"):
        Image.fromarray(picture()).save(tmp_path / "in" / os.fsdecode(name))
    with pytest.raises(UserError, match=r"a picture is called 'lat\\udcfc.png': rename it"):
        run(tmp_path, tmp_path / "in", samples=1, steps=1)


def test_an_orientation_that_is_text_turns_nothing(tmp_path):
    """Beside a mask, too, whose orientation is compared."""
    one = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0x\0\0\0\0\0\0\0"
    given, hole = picture(), np.zeros((24, 30), np.uint8)
    hole[8:16, 8:20] = 255
    Image.fromarray(given).save(tmp_path / "a.jpg", exif=one)
    Image.fromarray(hole).save(tmp_path / "m.png")
    assert edit(tmp_path, tmp_path / "a.jpg", tmp_path / "m.png", notes := [], task="inpaint", samples=1).files
    assert not notes


def test_what_is_drawn_in_a_hole_of_the_opacity_is_seen(tmp_path):
    hole = np.zeros((24, 30), np.uint8)
    hole[6:12, 10:25] = 255
    Image.fromarray(np.dstack([picture(), 200 - (hole // 255) * 200])).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "m.png")
    found = edit(tmp_path, tmp_path / "a.png", tmp_path / "m.png", task="inpaint", samples=1)
    assert (read_photo(found.files[".png"]).alpha == np.where(hole > 0, 255, 200)).all()


def test_opacity_is_drawn_on_as_opaque_and_a_profile_of_grey_is_not_of_colours(tmp_path):
    alpha = np.full((24, 30), 9, np.uint8)
    Image.fromarray(np.dstack([picture(), alpha])).save(tmp_path / "a.png", icc_profile=PROFILE)
    photo = read_photo(edit(tmp_path, tmp_path / "a.png", task="uncrop", outpaint=0.25, samples=1).files[".png"])
    assert photo.icc == PROFILE and (photo.alpha == 9).sum() == alpha.size and set(np.unique(photo.alpha)) == {9, 255}
    Image.fromarray(picture(colours=1)).save(tmp_path / "g.png", icc_profile=PROFILE)
    grey = read_photo(edit(tmp_path, tmp_path / "g.png", task="restore", samples=1).files[".png"])
    coloured = read_photo(edit(tmp_path, tmp_path / "g.png", task="colourise", samples=1).files[".png"])
    assert (grey.icc, coloured.icc) == (PROFILE, b"") and (grey.pixels.ndim, coloured.pixels.ndim) == (2, 3)


def test_deep_colours_are_written_as_tiff_and_a_jpeg_as_png(tmp_path):
    pytest.importorskip("tifffile")
    Image.fromarray(picture(bits=16, colours=1)).save(tmp_path / "deep.png")
    assert [*edit(tmp_path, tmp_path / "deep.png", task="colourise", samples=1).files] == [".tif"]
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    assert [*edit(tmp_path, tmp_path / "a.jpg", task="restore", samples=1).files] == [".png"]
    with pytest.raises(UserError, match=r"deep.png: format = webp: no WEBP of 16 bits is written: take png or tiff"):
        edit(tmp_path, tmp_path / "deep.png", task="restore", format="webp")


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder(tmp_path / "in", 1)
    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(UserError, match=r"cannot write in .* \(No space left on device\): make room and run again"):
        run(tmp_path, tmp_path / "in")
    assert not list((tmp_path / "out").iterdir())


def test_tasks_with_commas_are_several():
    made = TrainEditor(data=FILE, tasks=("colourise, inpaint", "restore", "inpaint"))
    assert made.tasks == ("colourise", "inpaint", "restore")
    assert TrainUpscaler(data=FILE, degradation=("area,jpeg",)).degradation == ("area", "jpeg")
    assert TrainUpscaler(data=FILE).degradation is None


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    upscaler().save(tmp_path / "up")
    editor().save(tmp_path / "ed")
    folder(tmp_path / "in", 2)
    assert main(["upscale", "in", "--model", "up", "-o", "out", "--factor", "2", "--steps", "2"]) == 0
    assert main(["edit", "in/photo 0.png", "--model", "ed", "-o", "out", "--task", "denoise", "--samples", "1"]) == 0
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    ends = ["x2-1.png", "x2-2.png", "x2-spread.png"]
    assert names == sorted(["photo 0-denoise.png", *(f"photo {i}-{end}" for i in (0, 1) for end in ends)])
    before = (tmp_path / "out" / "photo 0-denoise.png").read_bytes()
    assert main(["edit", "in/photo 0.png", "--model", "ed", "-o", "out", "--task", "denoise", "--samples", "1"]) == 0
    assert (tmp_path / "out" / "photo 0-denoise.png").read_bytes() == before  # nothing is written over
    assert (tmp_path / "out" / "photo 0-denoise-2.png").read_bytes()
    assert capsys.readouterr().out.count(".png") == 8


def test_rows_of_a_table_are_called_by_what_differs_and_their_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    upscaler().save(tmp_path / "model")
    Image.fromarray(picture()).save("one.png")
    (tmp_path / "rows.csv").write_text("pictures,seed\none.png,1\none.png,2\n")
    assert main(["upscale", "--csv", "rows.csv", "--model", "model", "--samples", "1", "-o", "out"]) == 0
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {"seed-1-one-x2.png", "seed-2-one-x2.png"}


def test_one_sample_may_be_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    upscaler().save(tmp_path / "up")
    editor().save(tmp_path / "ed")
    Image.fromarray(picture()).save(tmp_path / "a.png")
    Image.fromarray((picture(colours=1) > 99).astype(np.uint8) * 255).save(tmp_path / "m.png")
    larger = ["upscale", "a.png", "--model", "up", "--steps", "1", "--samples"]
    assert main([*larger, "1", "-o", "big.jpg"]) == 0 and read_photo(tmp_path / "big.jpg").format == "jpeg"
    edited = [
        "edit",
        "a.png",
        "--model",
        "ed",
        "--task",
        "inpaint",
        "--mask",
        "m.png",
        "--steps",
        "1",
        "-o",
        "new.tif",
    ]
    assert main([*edited, "--samples", "1"]) == 0 and read_photo(tmp_path / "new.tif").format == "tiff"
    capsys.readouterr()
    for asked in ([*larger, "2", "-o", "two.png"], edited, [*larger, "1", "-o", "big.png", "--format", "webp"]):
        assert main(asked) == 2
    assert main(["upscale", ".", "--model", "up", "--samples", "1", "-o", "all.png"]) == 2
    assert capsys.readouterr().err.count("is one file, but several results are asked for: give a folder") == 3
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert files == {"a.png", "m.png", "big.jpg", "new.tif", "a-inpaint-invented.png"}


def test_pictures_and_maps_are_made_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    upscaler().save(tmp_path / "up")
    editor().save(tmp_path / "ed")
    folder(tmp_path / "in", 1)
    Image.fromarray(picture(bits=16, colours=1)).save(tmp_path / "in" / "deep.png")
    hole = np.zeros((24, 30), np.uint8)
    hole[6:12, 10:25] = 255
    Image.fromarray(hole).save(tmp_path / "m.png")
    assert main(["upscale", "in", "--model", "up", "-o", "out", "--seed", "5", "--consistent"]) == 0
    assert main(["edit", "in/photo 0.png", "--model", "ed", "-o", "out", "--task", "inpaint", "--mask", "m.png"]) == 0
    for name in ("deep-x2-2", "photo 0-x2-1", "photo 0-x2-spread", "photo 0-inpaint-2", "photo 0-inpaint-invented"):
        capsys.readouterr()
        assert main(["again", f"out/{name}.png", "--inputs", "in", "--out", "more"]) == 0
        assert "the same pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["upscale", "none.png", "--model", "up"], "none.png: no such file or folder"),
        (["upscale", "in", "--model", "up", "--factor", "3"], "factor = 3: the model makes pictures 2 times larger"),
        (["upscale", "in", "--model", "ed"], "ed is a model of editing: inkwash edit --model ed"),
        (["upscale", "text.png", "--model", "up", "-o", "new"], "not a picture that can be read"),
        (["upscale", "cmyk.jpg", "--model", "up", "-o", "new"], "CMYK, which no screen shows"),
        (["upscale", "in", "--model", "plain", "--samples", "2"], "samples means nothing with the model plain"),
        (["upscale", "in", "--model", "plain", "--noise-level", "0.1"], "noise_level means nothing with the model"),
        (["edit", "in/photo 0.png", "--model", "ed", "--task", "uncrop"], "uncrop needs outpaint"),
        (
            ["edit", "in/photo 0.png", "--model", "ed", "--task", "restore", "--outpaint", "0.1"],
            "outpaint means nothing",
        ),
        (["edit", "in/photo 0.png", "--model", "ed", "--task", "paint"], "unknown task 'paint'"),
        (["edit", "in/photo 0.png", "--model", "few", "--task", "restore"], "unknown task 'restore'"),
        (["edit", "in/photo 0.png", "--model", "up", "--task", "restore"], "up is a model of superresolution"),
        (["superresolution", "train", "--data", "bare", "--out", "run"], "no pictures there"),
        (["editing", "train", "--data", "in", "--out", "run", "--tasks", "paint"], "unknown task 'paint'"),
        (["editing", "train", "--data", "in", "--out", "run"], "2 pictures, or groups of them"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    upscaler().save(tmp_path / "up")
    upscaler(engine="plain").save(tmp_path / "plain")
    editor().save(tmp_path / "ed")
    editor(tasks=["inpaint"]).save(tmp_path / "few")
    folder(tmp_path / "in", 2)
    (tmp_path / "bare").mkdir()
    for name in ("text.png", "bare/notes.txt"):
        (tmp_path / name).write_text("none")
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert says in told[-1] and "Traceback" not in "".join(told)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_pictures_that_cannot_be_read_keep_no_other_from_being_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "in", 2)
    upscaler().save("up")
    (tmp_path / "in" / "a broken one.png").write_bytes(b"\x89PNG")
    assert main(["upscale", "in", "--model", "up", "-o", "out", "--steps", "2", "--samples", "1"]) == 2
    said = capsys.readouterr().err
    assert "left out, and the other pictures are done: " in said and "a broken one" in said
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["photo 0-x2.png", "photo 1-x2.png"]
    assert main(["upscale", "in/a broken one.png", "--model", "up", "-o", "none"]) == 2
    assert "the other pictures are done" not in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_picture_with_opacity_keeps_no_other_from_becoming_a_jpeg(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "in", 2)
    upscaler().save("up")
    Image.new("RGBA", (16, 16), (9, 99, 199, 128)).save(tmp_path / "in" / "a clear one.png")
    asked = ["upscale", "in", "--model", "up", "-o", "out", "--steps", "1", "--samples", "1", "--format", "jpeg"]
    assert main(asked) == 2
    assert "a clear one.png: format = jpeg: a JPEG has no opacity: take png or tiff" in capsys.readouterr().err
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["photo 0-x2.jpg", "photo 1-x2.jpg"]
