from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.codecs import pixels
from inkwash.errors import UserError
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.model import Info
from inkwash.systems.pictures.train import Recipe, captions, read_folder, train
from inkwash.training import Settings


@pytest.mark.slow
def test_any_folder_of_pictures_trains_and_the_model_draws_them(tmp_path, monkeypatch, capsys):
    """Red and blue squares, a broken file, a transparent one: after a few hundred steps the samples are such."""
    rng = np.random.default_rng(0)
    for i in range(12):
        colour = (220, 30, 30) if i % 2 else (30, 30, 220)
        Image.new("RGB", (int(rng.integers(20, 90)), 40), colour).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"""
task = "pictures"
words = false
data = "{tmp_path}"
[model]
size = 16
steps = 10
[network]
block_out_channels = [32, 32]
down_block_types = ["DownBlock2D", "DownBlock2D"]
up_block_types = ["UpBlock2D", "UpBlock2D"]
mid_block_type = "UNetMidBlock2D"
layers_per_block = 1
norm_num_groups = 4
[fit]
steps = 250
batch_size = 12
learning_rate = 2e-3
warmup = 20
ema = 0.9
""")
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'run' / 'model'}\n" and "broken.jpg" in shown.err
    model = inkwash.load(tmp_path / "run" / "model")
    made = np.stack([np.asarray(p) for p in model.generate("", n=8, seed=0)]).astype(int)
    centres = made.mean((1, 2))
    distance = np.abs(centres[:, None] - [[220, 30, 30], [30, 30, 220]]).max(2)
    assert (distance.min(1) < 60).all()
    assert len(set(distance.argmin(1))) == 2  # both kinds
    assert Image.open(tmp_path / "run" / "preview-00000250.png").size == (8 * 18, 18)  # eight in a row


def test_what_follows_from_the_rest_of_a_recipe_is_not_given_twice(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    recipe = Recipe("pictures", tmp_path, Settings(steps=1), {"in_channels": 3}, words=False)
    with pytest.raises(UserError, match=r"\[network\] in_channels: it follows"):
        train(recipe, tmp_path / "run")


def test_a_sketch_is_drawn_from_words(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    recipe = Recipe("pictures", tmp_path, Settings(steps=1), {}, words=False, sketch=True)
    with pytest.raises(UserError, match="sketch = true needs words = true"):
        train(recipe, tmp_path / "run")


@pytest.mark.slow
def test_words_and_a_sketch_are_learned_from_the_emoji_data(tmp_path, monkeypatch):
    """Two concepts in two colours: after a few hundred steps each word draws its own, with a sketch of it."""
    colours = {"apple": (220, 30, 30), "whale": (30, 30, 220)}
    concepts = sorted(colours) * 2
    pictures = np.zeros((4, 16, 16, 4), np.uint8)
    for picture, concept in zip(pictures, concepts, strict=True):
        picture[:] = (*colours[concept], 255)
    columns = {
        "style": np.array(["flat"] * 2 + ["noto"] * 2),
        "concept": np.array(concepts),
        "name": np.array(concepts),
        "tags": [[]] * 4,
        "split": np.array(["train"] * 4),
    }
    others = {field.name: columns["name"] for field in fields(emoji_data.Emoji)}
    data = emoji_data.Emoji(**{**others, **columns, "pictures": pictures})
    monkeypatch.setattr(emoji_data, "load", lambda *_, **__: data)
    network = {
        "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    settings = Settings(steps=200, batch_size=8, learning_rate=2e-3, warmup=20, ema=0.9)
    recipe = Recipe("pictures", tmp_path, settings, network, sketch=True, model=Info(size=16, steps=8, guidance=2.0))
    train(recipe, tmp_path / "run")
    model = inkwash.load(tmp_path / "run" / "model")
    for word, colour in colours.items():
        made = np.asarray(model.generate(word, style="flat", seed=0)).astype(float).mean((0, 1))
        with torch.no_grad():
            sketch = model.sketch(model.condition([word], ["flat"])["label"])
        drawn = pixels.decode(sketch, 4)[0].astype(float).mean((0, 1))
        assert np.abs(made - colour).max() < 60 and np.abs(drawn - colour).max() < 60


def test_a_picture_too_large_is_skipped(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert len(read_folder(tmp_path, 8)) == 1


def test_read_folder_crops_and_lies_on_white(tmp_path):
    picture = Image.new("RGBA", (60, 20), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (20, 0, 40, 20))
    picture.save(tmp_path / "a.PNG")
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "b.webp")
    a, b = read_folder(tmp_path, 8)
    assert (a[3:5, 3:5] == [255, 0, 0]).all() and (b == 255).all()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(UserError, match=r"no such folder|no pictures"):
            read_folder(folder, 8)


def test_captions_always_name_the_concept_or_its_tags():
    some = captions("owl", ["bird", "wise"], np.random.default_rng(0))
    assert "owl" in some and "an owl" in some
    assert all("owl" in c or "bird" in c or "wise" in c for c in some)
    assert set(captions("owl", [], np.random.default_rng(0))) == {"owl", "an owl", "owl, owl"}
