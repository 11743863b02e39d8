"""The two networks around the diffusion of latents learn what they are for, on pictures of discs."""

import json
from dataclasses import fields
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white, shuffled, unshuffled
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.systems.pictures import emoji_data, metrics, train_autoencoder, train_upsampler
from inkwash.systems.pictures.upsampler import load_upsampler
from inkwash.training.fit import Settings


@cache
def discs(size: int, train: int = 40) -> emoji_data.Emoji:
    """Discs of many colours, places and sizes: 40 for validation, 40 for the test."""
    rng, pictures = np.random.default_rng(0), []
    y, x = (np.mgrid[:64, :64] + 0.5) / 64
    for _ in range(train + 80):
        cy, cx, radius = *rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.35)
        inside = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)[..., None]
        large = Image.fromarray(np.where(inside, [*rng.integers(30, 226, 3), 255], 0).astype(np.uint8))
        pictures.append(np.asarray(large.resize((size, size), Image.Resampling.BOX)))
    text = np.array([""] * (train + 80))
    columns = {field.name: text for field in fields(emoji_data.Emoji)}
    columns |= {"pictures": np.stack(pictures), "split": np.repeat(["train", "validation", "test"], [train, 40, 40])}
    return emoji_data.Emoji(**columns)


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: discs({64: 16, 256: 64}[size]))
    for module in (train_autoencoder, train_upsampler):
        monkeypatch.setattr(module, "features", lambda p: p[:, ::4, ::4, :3].reshape(len(p), -1) / 255.0)
        assert metrics.features is not module.features


@pytest.mark.slow
def test_an_autoencoder_learns_to_keep_pictures_and_their_opacity(data, tmp_path):
    network = {"in_channels": 16, "out_channels": 16, "block_out_channels": [32], "layers_per_block": 1}
    network |= {"latent_channels": 8, "norm_num_groups": 4, "mid_block_add_attention": False}  # half as many numbers
    settings = Settings(steps=1000, batch_size=8, learning_rate=3e-3, warmup=10, lr_decay="cosine", ema_decay=0.95)
    recipe = train_autoencoder.Recipe("autoencoder", tmp_path, network, settings)
    report = train_autoencoder.train(recipe, tmp_path)
    vae, true = load_autoencoder(tmp_path / "vae"), discs(16)
    held_out = true.pictures[true.split == "test"]
    state = latents.encode(vae, held_out)
    assert 0.7 < float(state.std()) < 1.4  # what a diffusion model sees has unit scale
    remade = latents.decode(vae, state)
    blank = np.abs(255.0 - on_white(held_out)).mean()
    assert np.abs(remade[..., :3].astype(float) - on_white(held_out)).mean() < 0.75 * blank
    assert report["test"]["psnr"] > 18 and report["test"]["opacity error"] < 25
    assert report["test"]["frechet distance"] < report["test"]["frechet distance of other pictures"]


@pytest.mark.slow
def test_an_upsampler_learns_clean_edges_from_small_pictures(data, tmp_path, monkeypatch):
    """Its pictures are nearer to the true large ones than the enlarged small ones are, most of all at the edges:
    inside a disc of one colour an enlargement cannot be wrong."""
    from tests.models import tiny_autoencoder

    many = {64: discs(16, train=400), 256: discs(64, train=400)}  # of few, it learns few colours
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: many[size])
    monkeypatch.setattr(train_upsampler, "load_autoencoder", lambda _: tiny_autoencoder())
    monkeypatch.setattr(latents, "decode", lambda _, state: state)  # an autoencoder that changes nothing
    monkeypatch.setattr(latents, "encode", lambda _, p: np.concatenate([on_white(p), p[..., 3:]], axis=-1))
    network = {
        "block_out_channels": [32, 32],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    settings = Settings(steps=1500, batch_size=8, learning_rate=3e-3, warmup=10, lr_decay="cosine", ema_decay=0.95)
    recipe = train_upsampler.Recipe("upsampler", tmp_path, tmp_path, network, settings, cutting=16)
    train_upsampler.train(recipe, tmp_path)
    report = json.loads((tmp_path / "upsampler" / "report.json").read_text())["test"]
    assert report["upsampler"]["crispness"] > report["bicubic"]["crispness"]
    assert report["upsampler"]["psnr"] > report["bicubic"]["psnr"]
    model = load_upsampler(tmp_path / "upsampler")
    small, large = (of.pictures[of.split == "test"] for of in (many[64], many[256]))
    large = on_white(large).astype(float)
    seen = np.concatenate([on_white(small), small[..., 3:]], axis=-1)
    made = model.sample(seen, range(40), noise_level=0.0)
    enlarged = [Image.fromarray(p).resize((64, 64), Image.Resampling.BICUBIC) for p in on_white(small)]
    error, bicubic = (np.abs(p.astype(float) - large) for p in (made[..., :3], np.stack(enlarged)))
    edges = bicubic.max(-1) > 10
    assert error[edges].mean() < 0.9 * bicubic[edges].mean()


def test_crispness_is_the_height_of_the_steepest_edges():
    """An edge of 100 within one pixel, and the same edge over four."""
    sharp, soft = np.zeros((2, 1, 16, 16, 3), np.uint8)
    sharp[:, :, 8:] = 100
    for k in range(4):
        soft[:, :, 6 + k :] = 25 * (k + 1)
    assert train_upsampler.crispness(sharp) == 100 and train_upsampler.crispness(soft) == 25


def test_shuffled_and_unshuffled_are_those_of_torch():
    state = torch.randn(2, 64, 3, 5)
    expected = torch.nn.functional.pixel_shuffle(state, 4).numpy()
    np.testing.assert_array_equal(shuffled(state.numpy(), 4), expected)
    np.testing.assert_array_equal(unshuffled(expected, 4), state.numpy())


@pytest.mark.parametrize("channels, patch", [(3, 1), (4, 1), (16, 2), (64, 4)])
def test_what_goes_into_an_autoencoder_comes_out(channels, patch):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3 if channels == 3 else 4), np.uint8)
    pictures[..., 3:] = 255
    x = latents.to_input(pictures, channels)
    assert x.shape == (2, channels, 8 // patch, 16 // patch)
    np.testing.assert_array_equal(latents.from_output(x), pictures)
