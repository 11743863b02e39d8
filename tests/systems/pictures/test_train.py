from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.codecs import pixels
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.pictures import colours, emoji_data
from inkwash.systems.pictures.model import Config
from inkwash.systems.pictures.train import (
    Conditions,
    MeanPrediction,
    Recipe,
    captioned,
    captions,
    captions_zh,
    encode_states,
    read_folder,
    train,
)
from inkwash.training.settings import Settings
from tests.follower import Follower
from tests.models import tiny


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
ema_decay = 0.9
""")
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'run' / 'model'}\n" and "broken.jpg" in captured.err
    model = inkwash.load(tmp_path / "run" / "model")
    samples = np.stack([np.asarray(p) for p in model.generate("", n=8, seed=0)]).astype(int)
    centres = samples.mean((1, 2))
    distance = np.abs(centres[:, None] - [[220, 30, 30], [30, 30, 220]]).max(2)
    assert (distance.min(1) < 60).all()
    assert len(set(distance.argmin(1))) == 2  # both kinds
    with Image.open(tmp_path / "run" / "preview-00000250.png") as shown:
        assert shown.size == (8 * 18, 18)  # eight in a row


def test_what_follows_from_the_rest_of_a_recipe_is_not_given_twice(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    recipe = Recipe("pictures", tmp_path, Settings(steps=1), {"in_channels": 3}, words=False)
    with pytest.raises(UserError, match=r"\[network\] in_channels: it follows"):
        train(recipe, tmp_path / "run")


def test_a_mean_is_predicted_from_words(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    mean = MeanPrediction(Settings(steps=1))
    recipe = Recipe("pictures", tmp_path, Settings(steps=1), {}, words=False, mean_predictor=mean)
    with pytest.raises(UserError, match=r"\[mean_predictor\] needs words = true"):
        train(recipe, tmp_path / "run")


@pytest.mark.slow
def test_words_and_their_mean_are_learned_from_the_emoji_data(tmp_path, monkeypatch):
    """Two concepts in two colours: after a few hundred steps each word draws its own, and predicts it."""
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
        "tags_zh": [[]] * 4,
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
    settings = Settings(steps=200, batch_size=8, learning_rate=2e-3, warmup=20, ema_decay=0.9)
    mean = MeanPrediction(Settings(steps=150, batch_size=8, learning_rate=2e-3, warmup=20, ema_decay=0.9), hidden=64)
    model = Config(size=16, steps=8, guidance=2.0)
    recipe = Recipe("pictures", tmp_path, settings, network, mean_predictor=mean, model=model)
    train(recipe, tmp_path / "run")
    model = inkwash.load(tmp_path / "run" / "model")
    for word, colour in colours.items():
        samples = np.asarray(model.generate(word, style="flat", seed=0)).astype(float).mean((0, 1))
        mean = model.condition([word], ["flat"])["concat"]
        mean_prediction = pixels.decode(mean.numpy(), 4)[0].astype(float).mean((0, 1))
        assert np.abs(samples - colour).max() < 60 and np.abs(mean_prediction - colour).max() < 60


def test_a_picture_too_large_is_skipped(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert len(read_folder(tmp_path, 8, follower := Follower())) == 1
    why = "not a picture that can be read, or too large"
    notes = [f"skipped {tmp_path / name}: {why}" for name in ("a.png", "c.png")]
    assert [note.text for note in follower.of(Note)] == notes


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


def red_discs() -> emoji_data.Emoji:
    """An apple and a cat, both red discs, in two styles; the cat in the second style is not for training."""
    y, x = np.mgrid[:16, :16] - 7.5
    disc = np.zeros((16, 16, 4), np.uint8)
    disc[x**2 + y**2 < 40] = (210, 40, 40, 255)
    columns = {
        "pictures": np.stack([disc] * 4),
        "style": np.array(["flat", "flat", "noto", "noto"]),
        "name": np.array(["red apple", "cat"] * 2),
        "name_zh": np.array(["红苹果", "猫"] * 2),
        "concept": np.array(["1f34e", "1f408"] * 2),
        "tags": [["fruit"], ["pet"]] * 2,
        "tags_zh": [["水果"], ["宠物"]] * 2,
        "group": np.array(["food-drink", "animals-nature"] * 2),
        "split": np.array(["train", "train", "train", "test"]),
        "licence": np.array(["MIT"] * 4),
    }
    return emoji_data.Emoji(**columns)


def test_recoloured_pictures_are_captioned_with_their_colour_but_never_in_a_held_out_pair():
    data = red_discs()
    dataset = captioned(data, 0.5)
    near = ("red", "brown")  # too like what they are
    assert dataset.n_originals == 3 and captioned(data, 0.0).pictures.shape[0] == 3
    for i, concept, noun in ((0, "1f34e", "apple"), (1, "1f408", "cat")):
        possible = [c for c in colours.COLOURS if not colours.held_out(concept, c) and c not in near]
        assert [dataset.english[k] for k in dataset.recoloured[i]] == [
            [f"{c} {noun}", f"{article(c)} {c} {noun}"] for c in possible
        ]
        assert all(
            dataset.chinese[k][0].startswith(colours.COLOURS[c].chinese)
            for k, c in zip(dataset.recoloured[i], possible, strict=True)
        )
    rng = np.random.default_rng(0)
    chosen = np.array([0, 1, 2] * 1000)
    swapped = dataset.swap_recoloured(chosen, 0.25, rng)
    assert (swapped >= dataset.n_originals).mean() == pytest.approx(0.25, abs=0.03)
    assert all(k == i or k in dataset.recoloured[i] for i, k in zip(chosen, swapped, strict=True))


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def test_conditions_are_of_both_languages_and_now_and_then_silent():
    """10 % without words and style, 5 % more without words, 10 % more without a style; two in five are Chinese."""
    model = tiny()
    conditions = Conditions(model, captioned(red_discs(), 0.0), 0.4)
    condition = conditions(np.zeros(4000, int), np.random.default_rng(0))
    silent = torch.from_numpy(model.encode_prompt([""])["pooled"][0])
    without_words = (condition["label"][:, :384] - silent).abs().amax(1) < 1e-4
    without_style = condition["label"][:, 384:].abs().sum(1) == 0
    assert without_words.float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert without_style.float().mean().item() == pytest.approx(0.20, abs=0.02)
    assert (without_words & without_style).float().mean().item() == pytest.approx(0.10, abs=0.015)
    assert {"red apple", "红苹果", "fruit", "水果"} <= set(conditions.encoded) - {""}
    expected = model.text_encoder.encode(["红苹果"], torch.from_numpy)
    torch.testing.assert_close(conditions.encoded["红苹果"][0], expected["context"][0][expected["context_mask"][0]])


def test_latents_are_encoded_once_for_the_same_pictures_and_autoencoder(tmp_path):
    model, pictures = tiny(latent=True), red_discs().pictures
    file = tmp_path / "states.safetensors"
    first = encode_states(model, pictures, file)
    torch.testing.assert_close(first.float(), model.encode(pictures), rtol=1e-3, atol=1e-3)
    before = file.stat().st_mtime_ns
    assert torch.equal(encode_states(model, pictures, file), first) and file.stat().st_mtime_ns == before
    with torch.no_grad():
        model.vae.encoder.conv_out.bias += 1
    assert not torch.equal(encode_states(model, pictures, file), first)


def test_chinese_captions_name_the_concept_or_its_tags():
    some = captions_zh("猫头鹰", ["鸟"], np.random.default_rng(0))
    assert {"猫头鹰", "一个猫头鹰", "鸟"} <= set(some) and all("猫头鹰" in c or "鸟" in c for c in some)
