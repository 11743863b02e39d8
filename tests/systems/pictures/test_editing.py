"""Pictures from pictures: what is kept is kept, what is asked is recorded, and nothing breaks on odd files."""

import json

import numpy as np
import pytest
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.systems.pictures.data import read_mask, read_picture
from tests.models import tiny


@pytest.fixture(params=[False, True], ids=["pixels", "latents"])
def model(request):
    return tiny(latent=request.param, parametrization="flow" if request.param else "x0", steps=4)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(file)
    return file


def array(picture):
    return np.asarray(picture).astype(int)


def test_no_strength_is_the_picture_itself_and_full_strength_only_its_noise(model, photo):
    before = array(Image.open(photo))
    assert (array(model.generate("a fox", image=photo, strength=0.0, seed=1)) == before).all()
    some = array(model.generate("a fox", image=photo, strength=0.5, seed=1))
    assert (some != before).any() and (
        some != array(model.generate("a fox", image=photo, strength=0.5, seed=2))
    ).any()
    other = photo.with_name("other.png")
    Image.new("RGB", (16, 16), "red").save(other)
    full = [array(model.generate("a fox", image=file, strength=1.0, seed=1)) for file in (photo, other)]
    assert (full[0] == full[1]).all()  # at t = 1 nothing is left of either


def test_steps_really_walked_follow_the_strength(model, photo):
    seen = []
    model.generate("a fox", image=photo, strength=0.5, seed=1, progress=lambda done, steps: seen.append(steps))
    assert seen == [2, 2]


def test_what_the_mask_keeps_is_kept_to_the_pixel(model, photo, tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 3:12] = 255
    mask[9, 3:12] = 128
    Image.fromarray(mask).save(tmp_path / "mask.png")
    before = array(Image.open(photo))
    made = model.generate("a fox", image=photo, mask=tmp_path / "mask.png", seed=1)
    after = array(made)
    assert (after[mask == 0] == before[mask == 0]).all() and (after[mask == 255] != before[mask == 255]).any()
    assert made.info[KEY]["sampler"] == "ancestral" and made.info[KEY]["strength"] == 1.0
    framed = array(model.generate("a fox", image=photo, border=0.25, seed=1))
    small = array(Image.open(photo).resize((8, 8), Image.Resampling.LANCZOS))
    assert np.abs(framed[4:12, 4:12] - small).max() <= 1


def test_pictures_of_every_mode_are_read_as_the_plain_one():
    plain = Image.fromarray((np.add.outer(np.arange(16), np.arange(16)) * 8).astype(np.uint8))
    wide = Image.fromarray(np.asarray(plain).astype(np.uint16) * 257)
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # "turn me right"
    film = plain.convert("P")
    expected = read_picture(plain, 16)
    assert (expected[..., 3] == 255).all() and (expected[..., 0] == np.asarray(plain)).all()
    for picture in (plain.convert("RGB"), plain.convert("RGBA"), plain.convert("P"), film, wide, turned):
        assert np.abs(read_picture(picture, 16).astype(int) - expected).max() <= 1, picture.mode
    assert np.abs(read_picture(plain.convert("CMYK"), 16).astype(int) - expected).max() <= 3


def test_other_shapes_are_fitted_whole_and_masks_the_same_way():
    tall = Image.new("RGB", (10, 20), "red")
    read = read_picture(tall, 16)
    assert (read[:, 4:12] == [255, 0, 0, 255]).all() and (read[:, :3, 3] == 0).all()
    mask = read_mask(Image.new("L", (10, 20), 255), 16)
    assert (mask[:, 4:12] == 1).all() and (mask[:, :3] == 0).all()
    assert (read_mask(Image.new("RGBA", (8, 8), (255, 255, 255, 0)), 16) == 0).all()  # transparent white: keep
    with pytest.raises(UserError, match="not a picture"):
        read_picture(__file__, 16)


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_picture(tmp_path / "a.gif", 8)[..., :3] == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 0.5}, "need an image"),
        ({"image": "photo", "strength": 1.5}, r"strength = 1\.5"),
        ({"image": "photo", "border": 0.6}, r"border = 0\.6"),
        ({"image": "photo", "border": 0.2, "mask": "photo"}, "not both"),
        ({"image": "nowhere.png"}, r"nowhere\.png: no such file"),
        ({"image": "photo", "sampler": "tuned"}, "choose another with an image"),
    ],
)
def test_what_does_not_go_together_is_said(options, words, photo):
    options = {key: photo if value == "photo" else value for key, value in options.items()}
    with pytest.raises(UserError, match=words):
        tiny(latent=True, parametrization="flow").generate("a fox", seed=1, **options)
    black = Image.new("L", (16, 16), 0)
    with pytest.raises(UserError, match="black everywhere"):
        tiny().generate("a fox", image=photo, mask=black)


def test_between_two_prompts_the_ends_are_the_prompts_own(model):
    frames = [array(p) for p in model.between("a fox", "a house", 3, style="flat", seed=5)]
    for end, prompt in ((frames[0], "a fox"), (frames[-1], "a house")):
        assert np.abs(end - array(model.generate(prompt, style="flat", seed=5))).max() <= 1
    assert (frames[1] != frames[0]).any() and (frames[1] != frames[2]).any()


def test_the_command_line_edits_and_draws_again(photo, tmp_path, capsys):
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    made = tmp_path / "made.png"
    Image.new("L", (16, 16), 255).save(tmp_path / "mask.png")
    asked = ["generate", "--model", str(tmp_path / "m"), "--image", str(photo), "--mask", str(tmp_path / "mask.png")]
    assert main([*asked, "--seed", "3", "-o", str(made)]) == 0  # without words, too
    assert main(["again", str(made)]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out
    recipe = json.loads(Image.open(made).info[KEY])
    assert recipe["image"]["file"] == str(photo) and len(recipe["mask"]["sha256"]) == 64
    Image.new("RGB", (16, 16)).save(photo)
    assert main(["again", str(made)]) == 2
    assert "photo.png, which is not there any more or has changed" in capsys.readouterr().err
    assert (
        main(["generate", "a fox", "--model", str(tmp_path / "m"), "--to", "a cat", "-n", "3", "-o", str(tmp_path)])
        == 0
    )
    film, page = capsys.readouterr().out.split()
    assert Image.open(film).n_frames == 4 and Image.open(page).size == (2 * 18, 2 * 18)
    comment = json.loads(Image.open(film).info["comment"])
    assert comment["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    asked = {"verb": "generate", "prompt": "a fox", "to": "a cat", "n": 3, "hash": recipe["hash"]}
    assert asked.items() <= comment[KEY].items() and f"-{comment[KEY]['seed']}.gif" in film
    assert main(["again", film]) == 2
    assert "a film; its comment says how it was made" in capsys.readouterr().err


def test_a_table_of_prompts_is_drawn_row_by_row_and_resumed(tmp_path, capsys):
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    table, out = tmp_path / "prompts.csv", tmp_path / "out"
    table.write_text(
        "prompt,style,seed,name,steps\na fox,flat,7,,\n猫,,,second,2\na dog,flat,x,,\n,,,,\na cow,oil,,,\n",
        encoding="utf-8-sig",
    )
    asked = ["generate", "--csv", str(table), "--model", str(tmp_path / "m"), "-o", str(out)]
    assert main(asked) == 2
    shown = capsys.readouterr()
    assert shown.out.split() == [str(out / "a-fox-flat-7.png"), str(out / "second.png")]
    assert "prompts.csv, line 4, column seed: 'x' is no whole number" in shown.err
    assert "prompts.csv, line 5, column prompt: empty" in shown.err
    assert (
        "prompts.csv, line 6: unknown style 'oil'" in shown.err and "2 made, 0 there already, 3 broken" in shown.err
    )
    model = inkwash.load(tmp_path / "m")
    expected = array(model.generate("a fox", style="flat", seed=7))
    assert (array(Image.open(out / "a-fox-flat-7.png")) == expected).all()
    recipe = json.loads(Image.open(out / "second.png").info[KEY])
    assert (recipe["seed"], recipe["steps"], recipe["prompt"]) == (3, 2, "猫")  # its line, where no seed is given

    table.write_text("prompt,style,seed,name,steps\na fox,flat,7,,\n猫,,3,second,3\n", encoding="utf-8")
    before = (out / "a-fox-flat-7.png").stat().st_mtime_ns
    assert main(asked) == 0
    assert "1 made, 1 there already, 0 broken" in capsys.readouterr().err  # one row asks for other steps now
    assert (out / "a-fox-flat-7.png").stat().st_mtime_ns == before
    for text, words in (("words\na\n", "unknown column"), ("style\nflat\n", "no column 'prompt'"), ("", "no column")):
        table.write_text(text, encoding="utf-8")
        assert main(asked) == 2
        assert words in capsys.readouterr().err
