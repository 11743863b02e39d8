from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import inkwash
from inkwash import diffusion
from inkwash.cli import main
from inkwash.codecs import pixels
from inkwash.codecs.pixels import on_white
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures import train as train_module
from inkwash.systems.pictures.conditions import Conditions, captioned
from inkwash.systems.pictures.folder import Folder, split_by_content
from inkwash.systems.pictures.model import Config, read_index
from inkwash.systems.pictures.train import (
    MeanPrediction,
    Recipe,
    capped_weight,
    encode_states,
    train,
)
from inkwash.training.settings import Settings
from inkwash.weights.shipped import FOLDER as WEIGHTS_FOLDER
from tests.follower import Follower
from tests.models import tiny
from tests.systems.pictures.discs import red_discs
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
    rng, data = np.random.default_rng(0), tmp_path / "data"
    data.mkdir()
    for i in range(12):
        colour = (220, 30, 30) if i % 2 else (30, 30, 220)
        Image.new("RGB", (int(rng.integers(20, 90)), 40), colour).save(data / f"{i}.png")
    (data / "broken.jpg").write_bytes(b"no picture")
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"""
task = "pictures"
words = false
data = "{data}"
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


@pytest.mark.slow
def test_a_folder_with_captions_trains_and_the_model_draws_what_is_asked_for(tmp_path, capsys):
    """30 red discs and 30 blue squares, by folder: after a minute the words draw their own."""
    rng = np.random.default_rng(0)
    colours = {"cats": (220, 40, 40), "dogs": (40, 60, 220)}
    for i, (name, colour) in enumerate([*colours.items()] * 30):
        picture, (x, y, r) = Image.new("RGB", (32, 32), "white"), rng.integers(10, 16, 3)
        draw = ImageDraw.Draw(picture)
        (draw.rectangle if i % 2 else draw.ellipse)([x - r + 5, y - r + 5, x + r, y + r], fill=colour)
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "data" / name / f"{i}.png")
    run = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    options = ["--size", "16", "--steps", "120", "--batch-size", "16", "--lr", "2e-3", "--flip"]
    assert main(["train", "pictures", *run, *options]) == 0
    assert "captions: cats (30), dogs (30)" in capsys.readouterr().err
    model = inkwash.load(tmp_path / "run" / "model")
    for name, colour in colours.items():
        for picture in model.generate(name, n=4, seed=0):
            assert np.abs(np.asarray(picture).astype(int)[7:9, 7:9].mean((0, 1)) - colour).max() < 60


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
        "kinds": [[]] * 4,
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


def test_training_goes_on_from_a_pretrained_model(trainings, tmp_path):
    """Its first weights are those of another model's U-Net and mean predictor, and it must be of the same size."""
    (whole, _, unet), _, recipe = trainings
    with torch.no_grad():
        for i, weights in enumerate([*unet.net.parameters(), *whole.net.parameters()]):
            weights.fill_(i)
    unet.save(tmp_path / "model")
    recipe = replace(recipe, pretrained=tmp_path / "model")
    whole, half, unet = fits_of(train_module, lambda: train(recipe, tmp_path / "again"))
    assert all((weights == i).all() for i, weights in enumerate([*unet.net.parameters(), *whole.net.parameters()]))
    assert any((weights != weights[:1]).any() for weights in half.net.parameters())  # it has seen nothing
    wider = replace(recipe, network=NETWORK | {"block_out_channels": [8, 16]})
    with pytest.raises(UserError, match=r"pretrained = .*its unet is not of the size that the recipe says"):
        train(wider, tmp_path / "wider")


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


def own_folder(tmp_path, **keys):
    """Two pictures, dark on their left, of which one has two captions; and the recipe of a small network on them."""
    for name, lines in {"a": "a fox\nein Fuchs", "b": ""}.items():
        picture = Image.new("RGB", (4, 4), "white")
        picture.paste("black" if lines else "red", (0, 0, 2, 4))
        picture.save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(lines)
    model = Config(size=4, patch=2)
    return Recipe("pictures", tmp_path, Settings(steps=1, batch_size=4), NETWORK, model=model, folder=Folder(**keys))


def test_words_of_a_folder_are_its_captions_and_now_and_then_none(tmp_path):
    recipe, follower = own_folder(tmp_path), Follower()
    (call,) = fits_of(train_module, lambda: train(recipe, tmp_path / "run", follower))
    drawn = [call.batch(k) for k in range(300)]
    rows, texts = (np.concatenate([batch[key] for batch in drawn]) for key in ("rows", "text"))
    counts = np.bincount(texts[rows == 0], minlength=3) / (rows == 0).sum()  # "", a fox, ein Fuchs
    assert counts == pytest.approx([0.15, 0.425, 0.425], abs=0.06)
    assert (texts[rows == 1] == 0).all()  # it has none
    assert loss_of(call, drawn[0]) > 0
    assert "1 of 2 pictures have none" in follower.of(Note)[-1].text


def test_half_of_the_pictures_of_a_folder_are_mirrored_if_asked_for(tmp_path):
    recipe = own_folder(tmp_path, flip=True)
    encoded = []
    with pytest.MonkeyPatch.context() as patch:
        encode = encode_states
        patch.setattr(train_module, "encode_states", lambda *args: encoded.append(args[1]) or encode(*args))
        (call,) = fits_of(train_module, lambda: train(recipe, tmp_path / "run", Follower()))
    (pictures,) = encoded
    assert (pictures[2:] == pictures[:2, :, ::-1]).all() and (pictures[2:] != pictures[:2]).any()
    rows = np.concatenate([call.batch(k)["rows"] for k in range(200)])
    assert np.bincount(rows) / len(rows) == pytest.approx([0.25] * 4, abs=0.05)


def test_what_a_folder_does_not_have_is_refused(tmp_path):
    recipe = own_folder(tmp_path)
    with pytest.raises(UserError, match="recolour and chinese are of the emoji data set"):
        train(replace(recipe, recolour=0.5), tmp_path / "run", Follower())
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match="no captions there"):
        train(recipe, tmp_path / "run", Follower())


def test_the_autoencoder_of_a_recipe_that_ships_is_there_without_a_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(emoji_data, "load", lambda *_, **__: with_validation())
    for folder, message in (("runs/autoencoder/vae", "vae is not there: the autoencoder of the shipped"), ("x", "x")):
        settings = Settings(steps=1, batch_size=2)
        recipe = Recipe("pictures", tmp_path, settings, NETWORK, autoencoder=Path(folder), model=Config(size=16))
        follower = Follower()
        if folder == "x":
            with pytest.raises(UserError, match="autoencoder = x: no such folder; train one before"):
                train(recipe, tmp_path / "run", follower)
            continue
        (call,) = fits_of(train_module, lambda r=recipe, f=follower: train(r, tmp_path / "run", f))
        assert message in follower.of(Note)[0].text
        call.save(tmp_path / "model")  # the shipped one is named, not copied
        assert read_index(tmp_path / "model")["vae"].folder == WEIGHTS_FOLDER / "emoji" / "vae"
