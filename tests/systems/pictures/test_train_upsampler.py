"""An upsampler learns on pictures of discs."""

import json

import numpy as np
import pytest
from PIL import Image

from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.networks.unet import load_unet
from inkwash.systems.pictures import emoji_data, metrics, train_upsampler
from inkwash.systems.pictures.runtimes import Torch
from inkwash.systems.pictures.upsampler import Upsampler
from inkwash.training.settings import Settings
from tests.systems.pictures.discs import discs


@pytest.fixture(autouse=True)
def features(monkeypatch):
    """No network that scores is needed: pictures are compared by every fourth pixel."""
    monkeypatch.setattr(train_upsampler, "features", lambda p: p[:, ::4, ::4, :3].reshape(len(p), -1) / 255.0)
    assert metrics.features is not train_upsampler.features


@pytest.mark.slow
def test_an_upsampler_learns_clean_edges_from_small_pictures(tmp_path, monkeypatch):
    """Its pictures are nearer to the true large ones than the enlarged small ones are, most of all at the edges:
    inside a disc of one colour an enlargement cannot be wrong."""
    from tests.models import tiny_autoencoder

    many = {64: discs(8, train=400), 256: discs(32, train=400)}  # of few, it learns few colours
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: many[size])
    monkeypatch.setattr(train_upsampler, "load_autoencoder", lambda _: tiny_autoencoder())
    monkeypatch.setattr(latents, "decode", lambda _, state: state)  # an autoencoder that changes nothing
    monkeypatch.setattr(latents, "encode", lambda _, p, __: np.concatenate([on_white(p), p[..., 3:]], axis=-1))
    network = {
        "block_out_channels": [32, 32],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    settings = Settings(steps=1200, batch_size=8, learning_rate=6e-3, warmup=10, lr_decay="cosine", ema_decay=0.95)
    recipe = train_upsampler.Recipe("upsampler", tmp_path, tmp_path, network, settings, crop=8)
    train_upsampler.train(recipe, tmp_path)
    report = json.loads((tmp_path / "upsampler" / "report.json").read_text())["test"]
    assert report["upsampler"]["sharpness"] > report["bicubic"]["sharpness"]
    assert report["upsampler"]["psnr"] > report["bicubic"]["psnr"]
    model = Upsampler(load_unet(tmp_path / "upsampler"), Torch())
    small, large = (of.pictures[of.split == "test"] for of in (many[64], many[256]))
    large = on_white(large).astype(float)
    small_on_white = np.concatenate([on_white(small), small[..., 3:]], axis=-1)
    generated = model.sample(small_on_white, range(40), noise_level=0.0)
    enlarged = [Image.fromarray(p).resize((32, 32), Image.Resampling.BICUBIC) for p in on_white(small)]
    error, bicubic = (np.abs(p.astype(float) - large) for p in (generated[..., :3], np.stack(enlarged)))
    edges = bicubic.max(-1) > 10
    assert error[edges].mean() < 0.9 * bicubic[edges].mean()


def test_sharpness_is_the_height_of_the_steepest_edges():
    """An edge of 100 within one pixel, and the same edge over four."""
    sharp, soft = np.zeros((2, 1, 16, 16, 3), np.uint8)
    sharp[:, :, 8:] = 100
    for k in range(4):
        soft[:, :, 6 + k :] = 25 * (k + 1)
    assert train_upsampler.sharpness(sharp) == 100 and train_upsampler.sharpness(soft) == 25
