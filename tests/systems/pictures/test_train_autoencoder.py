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
from tests.systems.pictures.fits import fits_of, loss_of, numbers_of


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


NETWORK = {"in_channels": 16, "out_channels": 16, "block_out_channels": [8], "layers_per_block": 1}
NETWORK |= {"latent_channels": 8, "norm_num_groups": 4, "mid_block_add_attention": False, "use_quant_conv": False}


def test_a_batch_is_numbers_and_what_is_held_out_is_measured_as_it_is(tmp_path, monkeypatch):
    """In training pictures are augmented and the discriminator has its say; the held-out loss is that of
    reconstruction, of the validation split."""
    data = discs(16)
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: data)
    settings = Settings(steps=10, batch_size=8, grad_accumulation=2)
    recipe = train_autoencoder.Recipe("autoencoder", tmp_path, NETWORK, settings, divergence=0.0)
    (call,) = fits_of(train_autoencoder, lambda: train_autoencoder.train(recipe, tmp_path))
    batches = [call.batch(k) for k in range(20)]
    assert {*data.split[[*numbers_of(batches)]]} == {"train"}
    assert {*data.split[[*numbers_of(call.held_out)]]} == {"validation"}
    assert [batch["adversarial"] for batch in batches[:6]] == [0, 0, 0, 0.5, 1, 1]  # from a tenth of 20 on
    vae = call.net["vae"]
    (batch,) = [batch for batch in call.held_out if 40 in batch["rows"]]
    with torch.no_grad():
        vae.get_parameter("encoder.conv_out.weight")[8:] = 0  # hardly any noise in the latents
        vae.get_parameter("encoder.conv_out.bias")[8:] = -30
        call.net.eval()
        x = torch.from_numpy(latents.to_input(data.pictures[batch["rows"]], 16))
        expected = (vae.decode(vae.encode(x)[0]) - x).abs().mean()
        torch.testing.assert_close(loss_of(call, batch), expected, atol=1e-4, rtol=1e-4)
        call.net.train()
        assert abs(loss_of(call, batch) - expected) > 1e-4  # now they are moved and recoloured
        assert len({round(float(loss_of(call, batch, seed)), 6) for seed in range(4)}) == 4


def test_a_discriminator_may_have_its_say_from_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: discs(16))
    recipe = train_autoencoder.Recipe("autoencoder", tmp_path, NETWORK, Settings(steps=3), discriminator_start=0.0)
    (call,) = fits_of(train_autoencoder, lambda: train_autoencoder.train(recipe, tmp_path))
    assert [call.batch(k)["adversarial"] for k in range(4)] == [0, 0, 1, 1]


def test_a_discriminator_stays_as_it_is_for_other_threads_while_it_is_asked_for_its_verdict(monkeypatch, tmp_path):
    """Two micro-batches at once: while one asks for the verdict alone, the other learns."""
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: discs(16))
    recipe = train_autoencoder.Recipe("autoencoder", tmp_path, NETWORK, Settings(steps=1), discriminator_start=0.0)
    (call,) = fits_of(train_autoencoder, lambda: train_autoencoder.train(recipe, tmp_path))
    discriminator, found, leaky_relu = call.net["discriminator"], [], torch.nn.functional.leaky_relu
    parameters = [*discriminator.parameters()]

    def meanwhile(*args):
        found.append([a is b for a, b in zip(discriminator.parameters(), parameters, strict=True)])
        return leaky_relu(*args)

    monkeypatch.setattr(train_autoencoder.F, "leaky_relu", meanwhile)
    loss_of(call, call.batch(5))
    assert len(found) == 12 and all(map(all, found))
