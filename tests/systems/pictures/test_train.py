from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import inkwash
from inkwash import diffusion
from inkwash.cli import main
from inkwash.codecs import pixels
from inkwash.codecs.pixels import on_white
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.pictures import colours, emoji_data
from inkwash.systems.pictures import train as train_module
from inkwash.systems.pictures.model import Config
from inkwash.systems.pictures.train import (
    Conditions,
    MeanPrediction,
    Recipe,
    capped_weight,
    captioned,
    captions,
    captions_zh,
    encode_states,
    read_folder,
    split_by_content,
    train,
)
from inkwash.training import data
from inkwash.training.settings import Settings
from tests.follower import Follower
from tests.models import tiny
from tests.systems.pictures.fits import fits_of, loss_of, numbers_of

NETWORK = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


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
    """10 % without words and style, 5 % more without words, 10 % more without a style; two in five are Chinese; and
    each of a picture's captions as often as it is written."""
    model, dataset = tiny(), captioned(red_discs(), 0.0)
    conditions = Conditions(model, dataset, 0.4)
    batch = conditions.draw(np.ones(40_000, int), np.random.default_rng(0))  # the cat in the style "flat"
    texts = np.array(conditions.texts)[batch["text"]]
    silent, without_style = texts == "", batch["style"] == 2
    assert silent.mean() == pytest.approx(0.15, abs=0.008)
    assert without_style.mean() == pytest.approx(0.20, abs=0.008)
    assert (silent & without_style).mean() == pytest.approx(0.10, abs=0.006)
    assert set(batch["style"][~without_style]) == {0}
    for share, captions_of_cat in ((0.6, dataset.english[1]), (0.4, dataset.chinese[1])):
        for text in set(captions_of_cat):
            expected = share * captions_of_cat.count(text) / len(captions_of_cat)
            assert (texts[~silent] == text).mean() == pytest.approx(expected, abs=0.012)


def test_the_network_is_told_what_the_text_encoder_says(monkeypatch):
    """Texts of a batch padded to its longest, or to the longest of all where shapes must not change."""
    model = tiny()
    conditions = Conditions(model, captioned(red_discs(), 0.5), 0.4)
    texts, longest = ["", "red apple", "红苹果"], conditions.contexts.ragged.longest
    numbers = torch.tensor([conditions.texts.index(text) for text in texts])
    expected = model.text_encoder.encode(texts, torch.from_numpy)
    for length in (expected["context"].shape[1], longest):
        condition = conditions({"text": numbers, "style": torch.tensor([1, 2, 0])})
        assert condition["context"].shape[1] == condition["context_mask"].shape[1] == length
        padded = {"context": condition["context"], "context_mask": condition["context_mask"]}
        for name, value in padded.items():
            own = torch.zeros(value.shape, dtype=value.dtype)
            own[:, : expected[name].shape[1]] = expected[name]
            torch.testing.assert_close(value, own, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(condition["label"][:, :384], expected["pooled"], atol=2e-3, rtol=2e-3)
        assert condition["label"][:, 384:].tolist() == [[0, 1], [0, 0], [1, 0]]
        monkeypatch.setattr(data, "fixed_shapes", lambda device: True)


def with_validation() -> emoji_data.Emoji:
    emoji = red_discs()
    return replace(emoji, split=np.where(emoji.split == "test", "validation", emoji.split))


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """Of the U-Net's two mean predictors, and of itself; what it is trained on; and the recipe."""
    monkeypatch.setattr(emoji_data, "load", lambda *_, **__: with_validation())
    mean = MeanPrediction(Settings(steps=8, batch_size=2, seed=3), hidden=8)
    settings = Settings(steps=4, batch_size=3, threads=2, precision="bfloat16", micro_batch_threads=2)
    recipe = Recipe("pictures", tmp_path, settings, NETWORK, mean_predictor=mean, recolour=0.5, model=Config(size=16))
    return fits_of(train_module, lambda: train(recipe, tmp_path / "run")), captioned(with_validation(), 0.5), recipe


def test_mean_predictors_are_trained_where_the_u_net_is(trainings):
    (whole, half, unet), _, recipe = trainings
    own = recipe.mean_predictor.fit
    assert whole.settings == replace(own, device=unet.settings.device, threads=2)
    assert half.settings == replace(own, device=unet.settings.device, threads=2, steps=4)
    assert (whole.settings.precision, unet.settings.precision) == ("float32", "bfloat16")


def test_a_batch_is_numbers_and_nothing_is_learned_from_what_is_held_out(trainings):
    calls, dataset, _ = trainings
    assert dataset.held_out.tolist() == [len(dataset.pictures) - 1]
    assert dataset.english[dataset.held_out[0]] == ["cat"]
    for call in calls:
        batches = [call.batch(k) for k in range(40)]
        assert all(value.dtype.kind in "ib" and value.ndim == 1 for batch in batches for value in batch.values())
        assert numbers_of(call.held_out) == {*dataset.held_out.tolist()}
        assert not numbers_of(batches) & numbers_of(call.held_out)
    assert numbers_of([calls[1].batch(k) for k in range(200)]).isdisjoint([1, *dataset.recoloured[1]])  # never seen
    unseen = np.concatenate([calls[2].batch(k)["unseen"] for k in range(2000)])
    assert unseen.mean() == pytest.approx(0.5 / 3, abs=0.02)  # half of every second one, here of one in three


def test_the_loss_of_a_batch_is_that_of_its_pictures_with_their_words(trainings):
    (whole, half, unet), dataset, _ = trainings
    model = SimpleNamespace(unet=unet.net, mean=whole.net, half=half.net, parts=tiny())
    with torch.no_grad():
        torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    batch = unet.batch(0)
    batch["unseen"] = np.array([True, False, True])
    conditions = Conditions(model.parts, dataset, 0.0)
    states = model.parts.text_encoder.encode([conditions.texts[i] for i in batch["text"]], torch.from_numpy)
    style = torch.eye(3, 2)[torch.from_numpy(batch["style"])]
    label = torch.cat([states["pooled"], style], dim=1)
    x0 = torch.from_numpy(pixels.encode(on_white(dataset.pictures[batch["rows"]]), 4))
    denoiser = diffusion.Denoiser(model.unet, model.parts.denoiser.process, "x0")
    with torch.no_grad():
        means = torch.stack([model.half(label)[0], model.mean(label)[1], model.half(label)[2]])
        condition = {name: states[name] for name in ("context", "context_mask")} | {"label": label, "concat": means}
        expected = denoiser.loss(x0, condition, weight=capped_weight(5.0), generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(loss_of(unet, batch, 5), expected, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(
            loss_of(whole, batch), (model.mean(label) - x0).square().mean(), atol=1e-4, rtol=1e-3
        )


def test_of_a_folder_every_20th_picture_by_its_content_is_held_out(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i:03}.png")
    network = {"block_out_channels": [4], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    network |= {"mid_block_type": "UNetMidBlock2D", "norm_num_groups": 4}
    recipe = Recipe("pictures", tmp_path, Settings(steps=1), network, words=False, model=Config(size=4, patch=2))
    (call,) = fits_of(train_module, lambda: train(recipe, tmp_path / "run", Follower()))
    held_out = numbers_of(call.held_out)
    assert len(held_out) == 10 and numbers_of(call.batch(k) for k in range(9)) == {*range(200)} - held_out
    assert call.monitor.of(Note)[-1].text == "10 of 200 pictures are held out: nothing is learned from them"
    order = rng.permutation(200)  # as if the files had other names
    assert {*order[split_by_content(pictures[order])[1]].tolist()} == held_out
    assert [part.tolist() for part in split_by_content(pictures[:199])] == [[*range(199)], []]


def test_copies_of_a_picture_are_held_out_together_or_learned_from_together():
    pictures = np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    learned, held_out = split_by_content(np.concatenate([pictures, pictures]))
    assert len(held_out) == 20 and not {*learned % 200} & {*held_out % 200}
    assert len(split_by_content(np.concatenate([pictures[:1]] * 200))[1]) == 0


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
