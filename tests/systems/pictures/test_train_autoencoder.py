"""An autoencoder learns on pictures of discs."""

import numpy as np
import pytest
import torch

from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.systems.pictures import emoji_data, metrics, train_autoencoder
from inkwash.training.settings import Settings
from tests.systems.pictures.discs import discs


@pytest.fixture(autouse=True)
def features(monkeypatch):
    """No network that scores is needed: pictures are compared by every fourth pixel."""
    monkeypatch.setattr(train_autoencoder, "features", lambda p: p[:, ::4, ::4, :3].reshape(len(p), -1) / 255.0)
    assert metrics.features is not train_autoencoder.features


@pytest.mark.slow
def test_an_autoencoder_learns_to_keep_pictures_and_their_opacity(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: discs(16))
    network = {"in_channels": 16, "out_channels": 16, "block_out_channels": [32], "layers_per_block": 1}
    network |= {"latent_channels": 8, "norm_num_groups": 4, "mid_block_add_attention": False}  # half as many numbers
    settings = Settings(steps=1000, batch_size=8, learning_rate=3e-3, warmup=10, lr_decay="cosine", ema_decay=0.95)
    recipe = train_autoencoder.Recipe("autoencoder", tmp_path, network, settings)
    report = train_autoencoder.train(recipe, tmp_path)
    vae, true = load_autoencoder(tmp_path / "vae"), discs(16)
    held_out = true.pictures[true.split == "test"]
    state = latents.encode(vae, held_out, torch.from_numpy)
    assert 0.7 < float(state.std()) < 1.4  # what a diffusion model sees has unit scale
    remade = latents.decode(vae, state)
    blank = np.abs(255.0 - on_white(held_out)).mean()
    assert np.abs(remade[..., :3].astype(float) - on_white(held_out)).mean() < 0.75 * blank
    assert report["test"]["psnr"] > 18 and report["test"]["opacity error"] < 25
    assert report["test"]["frechet distance"] < report["test"]["frechet distance of other pictures"]
