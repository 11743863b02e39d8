"""An upsampler learns on pictures of discs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.errors import UserError
from inkwash.networks.autoencoder import save_autoencoder
from inkwash.networks.unet import load_unet
from inkwash.systems.pictures import emoji_data, metrics, train_upsampler
from inkwash.systems.pictures.runtimes import Torch
from inkwash.systems.pictures.upsampler import Upsampler
from inkwash.training.settings import Settings
from tests.systems.pictures.discs import discs
from tests.systems.pictures.fits import fits_of, loss_of, numbers_of


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
    save_autoencoder(tiny_autoencoder(), tmp_path / "vae")
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
    recipe = train_upsampler.Recipe("upsampler", tmp_path, tmp_path / "vae", network, settings, crop=8)
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


def places(side: int, scale: int) -> np.ndarray:
    """Three pictures that say of each pixel of the small one where it lies and in which picture."""
    pictures = np.zeros((3, side, side, 4), np.uint8)
    pictures[..., 0], pictures[..., 1] = np.mgrid[:side, :side] // scale
    pictures[..., 2], pictures[..., 3] = np.arange(3)[:, None, None], 255
    return pictures


def test_crops_of_small_and_large_pictures_show_the_same_place():
    """Half of the small ones as they are, half as the first stage gives them; every place as often."""
    small, large, count = places(7, 1), places(28, 4), 9000
    reconstructed = small[[2, 0]].copy()
    reconstructed[..., 3] = 200
    rows, numbers = torch.tensor([2, 0] * (count // 2)), torch.tensor([0, 1] * (count // 2))
    tables = map(torch.from_numpy, (small, reconstructed, large))
    batch, generator = {"rows": rows, "reconstructed": numbers}, torch.Generator().manual_seed(0)
    x0, low = train_upsampler.crop_pairs(batch, *tables, 5, generator)
    low = (127.5 * (low + 1)).round().long()
    top, left = low[:, 0, 0, 0], low[:, 1, 0, 0]
    offsets = torch.arange(5)
    assert torch.equal(low[:, 0], (top[:, None, None] + offsets[:, None]).expand(-1, -1, 5))
    assert torch.equal(low[:, 1], (left[:, None, None] + offsets).expand(-1, 5, -1))
    assert torch.equal(low[:, 2], rows[:, None, None].expand(-1, 5, 5))
    high = (127.5 * (torch.nn.functional.pixel_shuffle(x0, 4) + 1)).round().long()
    assert torch.equal(high[:, :3], low[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3))
    as_they_are = low[:, 3, 0, 0] == 255
    assert as_they_are.double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert ((low[:, 3] == 255) == as_they_are[:, None, None]).all()
    both = 3 * top + left
    assert (both.bincount() / count).tolist() == pytest.approx([1 / 9] * 9, abs=0.015)


@pytest.fixture
def small_stages(monkeypatch, tmp_path):
    from tests.models import tiny_autoencoder

    many = {64: discs(16), 256: discs(64)}
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: many[size])
    save_autoencoder(tiny_autoencoder(), tmp_path / "vae")
    return many


NETWORK = {"block_out_channels": [4], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
NETWORK |= {"mid_block_type": "UNetMidBlock2D", "norm_num_groups": 4}


def test_a_batch_is_numbers_and_nothing_is_learned_from_what_is_held_out(small_stages, tmp_path):
    recipe = train_upsampler.Recipe(
        "upsampler", tmp_path, tmp_path / "vae", NETWORK, Settings(steps=1, batch_size=8), crop=8
    )
    (call,) = fits_of(train_upsampler, lambda: train_upsampler.train(recipe, tmp_path))
    split, batches = small_stages[64].split, [call.batch(k) for k in range(10)]
    for some, name in ((batches, "train"), (call.held_out, "validation")):
        assert {*split[[*numbers_of(some)]]} == {name}
        assert all(value.dtype.kind == "i" and value.shape == (8,) for batch in some for value in batch.values())
    assert loss_of(call, batches[0], 1) == loss_of(call, batches[0], 1) != loss_of(call, batches[0], 2)


def test_a_crop_larger_than_a_picture_is_refused(small_stages, tmp_path):
    recipe = train_upsampler.Recipe("upsampler", tmp_path, tmp_path / "vae", NETWORK, Settings(steps=1), crop=17)
    with pytest.raises(UserError, match="crop = 17: choose a side from 1 to 16"):
        train_upsampler.train(recipe, tmp_path)
