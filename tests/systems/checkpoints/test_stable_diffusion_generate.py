"""Pictures with their recipes out of checkpoints."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.networks.stable_diffusion import save_single_file
from inkwash.networks.taesd import TinyDecoder, load_tiny_decoder
from inkwash.systems.checkpoints.facts import hash_of
from inkwash.systems.checkpoints.infotext import read_infotext
from inkwash.systems.checkpoints.seeds import TOOLS
from inkwash.systems.checkpoints.settings import settings_of
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from tests.networks.test_stable_diffusion import folders, tensors_of  # noqa: F401

FEW = {"steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def model(folders):  # noqa: F811
    return StableDiffusion.load(folders["sd1"])


def test_a_recipe_makes_the_same_picture_and_each_is_its_seeds_alone(model):
    several = model.generate("the cats", n=2, **FEW, width=96, height=64, negative="a fox")
    recipe = several[1].info[KEY]
    assert several[1].size == (96, 64) and recipe["seed"] == 8 and recipe["hash"] == hash_of(model.path)
    names = ("prompt", "seed", "negative", "sampler", "steps", "grid", "guidance", "width", "height", "clip_skip")
    again = model.generate(**{name: recipe[name] for name in names})
    assert again.tobytes() == several[1].tobytes() != several[0].tobytes()


def test_each_option_changes_the_picture(model):
    changes = [
        {}, {"seed": 8}, {"negative": "a fox"}, {"sampler": "euler"}, {"steps": 3}, {"grid": "trailing"},
        {"guidance": 3.0}, {"clip_skip": 1}, {"size": 72}, {"prompt": "the (cats:1.3)"},
        {"prompt": "the (cats:1.3)", "weighting": "comfyui"}, {"prompt": "the (cats:1.3)", "weighting": "none"},
        *({"seed_like": tool, "sampler": "euler_ancestral"} for tool in TOOLS), {"prompt": "the [fox:cats:0.25]"},
        {"sampler": "euler_ancestral"},
        {"prompt": "the cats AND a fox"},
        {"tiling": "x"}, {"tiling": "xy"},
    ]  # fmt: skip
    made = [model.generate(**FEW | {"prompt": "the cats", "steps": 4} | change).tobytes() for change in changes]
    same = [(changes[i], changes[k]) for i in range(len(made)) for k in range(i) if made[i] == made[k]]
    assert not same


def test_a_picture_whose_sides_meet_is_itself_when_its_noise_is_shifted(model):
    """Of 128 x 64 pixels by half: where the join was is then the middle, and no other than inside."""
    noise = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    how = {"steps": 3, "size": (128, 64), "sampler": "ddim", "grid": "uniform"}
    usual, meeting = (
        [
            model.sample_states(["the cats"], [7], noise=start, tiling=tiling, **how)
            for start in (noise, noise.roll(8, 3))
        ]
        for tiling in ("", "x")
    )
    torch.testing.assert_close(meeting[1].roll(8, 3), meeting[0], rtol=1e-3, atol=1e-3)
    assert (usual[1].roll(8, 3) - usual[0]).abs().max() > 0.1
    decoded = [model.decode(state, "x").astype(int) for state in meeting]
    assert np.abs(np.roll(decoded[1], 64, 2) - decoded[0]).max() <= 1
    assert model.generate("the cats", tiling="x", **FEW).info[KEY]["tiling"] == "x"


def test_an_image_gives_the_shape_and_a_mask_keeps_its_pixels(model):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    image, mask = Image.fromarray(pixels), Image.new("L", (128, 64))
    mask.paste(255, (64, 0, 128, 64))
    seen = []
    picture = model.generate("", image=image, strength=0.5, **FEW)
    assert picture.size == (88, 48) and picture.info[KEY]["strength"] == 0.5  # of the area of 64 x 64
    found = model.generate(
        "", image=image, mask=mask, width=128, height=64, steps=4, seed=7, preview=seen.append, previews=1
    )
    changed = (np.asarray(found) != pixels).any(-1)
    assert not changed[:, :64].any() and changed[:, 70:].mean() > 0.9
    assert [one.size for one in seen] == [(128, 64)] and not (np.asarray(seen[0]) != pixels)[:, :64].any()
    facts = found.info[KEY]
    assert facts["strength"] == 1.0 and facts["mask"]["sha256"] == hashlib.sha256(mask.tobytes()).hexdigest()


def test_previews_are_those_of_taesd_where_it_is_given_and_the_picture_is_the_same(model, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "taesd_decoder.safetensors"
    save_file({f"decoder.{name}": tensor for name, tensor in TinyDecoder().state_dict().items()}, file)
    tiny, seen, usual = StableDiffusion.load(model.path, taesd=file), [], []
    picture = tiny.generate("the cats", steps=4, seed=7, preview=seen.append, previews=1)
    assert (
        picture.tobytes() == model.generate("the cats", steps=4, seed=7, preview=usual.append, previews=1).tobytes()
    )
    assert seen[0].size == usual[0].size == (64, 64) and seen[0].tobytes() != usual[0].tobytes()
    state = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        expected = (255 * load_tiny_decoder(file)(state)[0]).round().permute(1, 2, 0)
    assert np.array_equal(tiny.decode_preview(state)[0], expected.numpy().astype(np.uint8))


def test_what_follows_75_tokens_counts(model):
    long = "the cats " * 50
    pictures = {model.generate(f"{long}{end}", **FEW).tobytes() for end in ("", "a red fox", "a café")}
    assert len(pictures) == 3


def test_a_picture_says_what_it_was_made_by_to_other_tools(model, tmp_path):
    """What `settings_of` reads from the words alone draws the same pixels."""
    made = model.generate(
        "(the cats:1.3), {a red|the} fox", **FEW, sampler="euler", seed_like="a1111", negative="a, b"
    )
    made.save(tmp_path / "ours.png")
    with Image.open(tmp_path / "ours.png") as opened:
        words = opened.info["parameters"]
    options, notes = read_infotext(words)
    assert notes == [] and options.pop("model") == "sd1"
    assert model.generate(**options).tobytes() == made.tobytes()
    assert settings_of(tmp_path / "ours.png").options["prompt"] == made.info[KEY]["prompt"] == options["prompt"]
    made.info.pop(KEY)
    made.save(tmp_path / "bare.png")
    with Image.open(tmp_path / "bare.png") as bare:  # without metadata is without these, too
        assert "parameters" not in bare.info


def test_chance_is_the_seeds_and_the_recipe_says_what_it_chose(model, tmp_path):
    (tmp_path / "animal.txt").write_text("a red fox\n# no animal\n\nthe cats\n", encoding="utf-8")
    made = model.generate("__animal__, {a|the} theatre", n=8, **FEW | {"steps": 1}, wildcards=tmp_path)
    recipes = [picture.info[KEY] for picture in made]
    assert len({recipe["prompt"] for recipe in recipes}) > 2
    assert {recipe["prompt_template"] for recipe in recipes} == {"__animal__, {a|the} theatre"}
    again = model.generate(recipes[3]["prompt"], seed=recipes[3]["seed"], steps=1)
    assert again.tobytes() == made[3].tobytes() and "prompt_template" not in again.info[KEY]
    literal = model.generate("{a|the} theatre", **FEW, weighting="none").info[KEY]
    assert literal["prompt"] == "{a|the} theatre"


def test_the_hash_of_a_file_is_that_of_other_tools_and_of_a_folder_of_all_its_networks(folders, tmp_path):  # noqa: F811
    file = tmp_path / "one.safetensors"
    save_single_file(file, "sd1", tensors_of(folders["sd1"], "sd1"))
    assert hash_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    places = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    parts = [(folders["sd1"] / f"{place}.safetensors").read_bytes() for place in places]
    joined = "".join(hashlib.sha256(part).hexdigest() for part in parts)
    assert hash_of(folders["sd1"]) == hashlib.sha256(joined.encode()).hexdigest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "a <lora:fox:1>"}, "<lora:fox> in the prompt: give its file"),
        ({"guidance": 31.0}, "guidance = 31.0"),
        ({"guidance": 1.0, "negative": "a fox"}, "negative: it acts through guidance"),
        ({"steps": 0}, "steps = 0"),
        ({"n": 0}, "n = 0"),
        ({"seed": 2**64}, "seed = 18446744073709551616"),
        ({"size": 60}, "size = 60 x 60: choose multiples of 8"),
        ({"size": 8192}, "size = 8192: choose a whole number from 8 to 4096"),
        ({"size": 64, "width": 64}, "leave it out beside width"),
        ({"width": 64}, "width and height: give both"),
        ({"strength": 0.5}, "means nothing without an image"),
        ({"image": Image.new("RGB", (200, 10))}, "no more than a line"),
        ({"sampler": "none"}, "sampler"),
        ({"grid": "none"}, "grid"),
        ({"weighting": "diffusers"}, "unknown weighting 'diffusers'"),
        ({"seed_like": "a111"}, "unknown seed_like 'a111': did you mean a1111"),
        ({"seed_like": "a1111", "sampler": "dpmpp_sde"}, "draws a Brownian path"),
        ({"prompt": "__animal__"}, "__animal__ in the prompt: name a folder"),
        ({"tiling": "z"}, "tiling"),
        ({"rescale": 2.0}, "rescale = 2.0: choose a number from 0 to 1"),
        ({"rescale": float("nan")}, "rescale"),
        ({"clip_skip": 1.5}, "clip_skip = '1.5': a whole number"),
        ({"clip_skip": -1}, "clip_skip = -1"),
        ({"steps": 2.5}, "steps = '2.5': a whole number"),
        ({"guidance": "7"}, "guidance = '7': a number"),
        ({"hires": 2.0, "hires_steps": 1001}, "hires_steps = 1001"),
        ({"hires": 2.0, "hires_strength": 0.01}, "hires_strength = 0.01: of 2 steps none"),
        ({"prompt": 5}, "prompt = '5': text"),
        (
            {"prompt": "a <lora:x:1>", "adapters": ["a/x.safetensors", "b/x.safetensors"]},
            "two adapters have this name",
        ),
        ({"prompt": "<lora:x:1> <lora:x:2>", "adapters": ["x.safetensors"]}, "it is there twice"),
        ({"refiner": 5}, "refiner: it is no checkpoint"),
    ],
)
def test_what_cannot_be_asked_for(model, options, message):
    with pytest.raises(UserError, match=message) as caught:
        model.generate(**{"prompt": "the cats"} | FEW | options)
    assert "\n" not in str(caught.value)
