"""Pictures with their recipes out of checkpoints."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.networks.stable_diffusion import save_single_file
from inkwash.systems.checkpoints.facts import hash_of
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
        {"guidance": 3.0}, {"clip_skip": 1}, {"size": 72},
    ]  # fmt: skip
    made = [model.generate("the cats", **FEW | {"steps": 4} | change).tobytes() for change in changes]
    same = [(changes[i], changes[k]) for i in range(len(made)) for k in range(i) if made[i] == made[k]]
    assert not same


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


def test_what_follows_75_tokens_is_named(model):
    assert model.prompt_warning("the cats") is None
    warning = model.prompt_warning("the cats " * 50)
    tokens = model.components["tokenizer"]
    shown = tokens.cut("the cats " * 50)
    assert len(tokens.encode(shown)) == 75 and f"'{shown[-30:]}' is cut off" in warning


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
        ({"prompt": "a <lora:fox:1>"}, "there are no adapters here"),
        ({"guidance": 31.0}, "guidance = 31.0"),
        ({"guidance": 1.0, "negative": "a fox"}, "negative: it acts through guidance"),
        ({"steps": 0}, "steps = 0"),
        ({"n": 0}, "n = 0"),
        ({"seed": 2**64}, "seed = 18446744073709551616"),
        ({"size": 60}, "size = 60 x 60: choose multiples of 8"),
        ({"size": 8192}, "size = 8192 x 8192"),
        ({"size": 64, "width": 64}, "leave it out beside width"),
        ({"width": 64}, "width and height: give both"),
        ({"strength": 0.5}, "means nothing without an image"),
        ({"image": Image.new("RGB", (200, 10))}, "no more than a line"),
        ({"sampler": "none"}, "sampler"),
        ({"grid": "none"}, "grid"),
    ],
)
def test_what_cannot_be_asked_for(model, options, message):
    with pytest.raises(UserError, match=message) as caught:
        model.generate(**{"prompt": "the cats"} | FEW | options)
    assert "\n" not in str(caught.value)
