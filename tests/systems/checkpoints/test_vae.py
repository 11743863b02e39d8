"""Autoencoders in tiles, and in float32 where less overflows."""

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder, load_autoencoder
from inkwash.systems.checkpoints import vae as tiled
from inkwash.systems.checkpoints.vae import by_tiles, decode, encode_mean, starts
from inkwash.weights.shipped import FOLDER
from tests.networks.test_stable_diffusion import VAE


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    network = Autoencoder(**VAE).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


@given(st.integers(1, 600))
def test_tiles_cover_a_side_and_overlap(length):
    first = starts(length)
    ends = [min(start + tiled.TILE, length) for start in first]
    assert first[0] == 0 and ends[-1] == length
    assert all(b - a <= tiled.TILE - tiled.OVERLAP for a, b in pairwise(first)) and len({*first}) == len(first)


@pytest.mark.parametrize(("side", "to"), [(1, 8), (8, 1), (1, 1)])
def test_of_what_sees_each_place_alone_tiles_make_the_whole(monkeypatch, side, to):
    monkeypatch.setattr(tiled, "WHOLE", 100)
    monkeypatch.setattr(tiled, "TILE", 24)
    x = torch.randn(1, 2, 40 * side, 57 * side)

    def call(x):
        assert x.shape[2] <= 24 * side and x.shape[3] <= 24 * side
        pooled = nn.functional.avg_pool2d(x, side)
        return pooled.repeat_interleave(to, 2).repeat_interleave(to, 3) * 3

    whole = (nn.functional.avg_pool2d(x, side) * 3).repeat_interleave(to, 2).repeat_interleave(to, 3)
    torch.testing.assert_close(by_tiles(call, x, side, to), whole)


def test_up_to_a_size_the_whole_is_decoded_and_encoded(tiny, monkeypatch):
    z = torch.randn(2, 4, 16, 24)
    with torch.no_grad():
        whole = tiny.decode(z[:1] / tiny.config["scaling_factor"]).clamp(-1, 1)
    expected = ((whole + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(decode(tiny, z, nullcontext)[:1], expected)
    x = torch.rand(2, 3, 128, 64)
    with torch.no_grad():
        assert torch.equal(encode_mean(tiny, x)[1:], tiny.encode(x[1:])[0])
    monkeypatch.setattr(tiled, "WHOLE", 16 * 24 - 1)
    monkeypatch.setattr(tiled, "TILE", 20)
    assert not np.array_equal(decode(tiny, z, nullcontext)[:1], expected)


def test_the_seam_of_tiles_is_no_step_larger_than_inside(monkeypatch):
    """On the shipped autoencoder, which was trained, and a picture eight times as large as it knows: edges of tiles
    show without an overlap, and not with a sixth of a tile, as it is used; the norms' shift of tone stays."""
    vae = load_autoencoder(FOLDER / "emoji" / "vae")
    y, x = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 256), indexing="ij")
    waves = [torch.sin(9 * x * y), torch.cos(5 * x + 3 * y), torch.sin(40 * (x**2 + y**2)), torch.ones(256, 256)]
    picture = torch.stack(waves)[None]
    with torch.no_grad():
        z = vae.encode(nn.functional.pixel_unshuffle(picture, 2))[0]
        whole = nn.functional.pixel_shuffle(vae.decode(z), 2)
    monkeypatch.setattr(tiled, "WHOLE", 0)
    monkeypatch.setattr(tiled, "TILE", 24)
    figures = {}
    for overlap in (1, 4):
        monkeypatch.setattr(tiled, "OVERLAP", overlap)
        with torch.no_grad():
            found = nn.functional.pixel_shuffle(by_tiles(vae.decode, z, 1, vae.factor), 2)
        difference = 127.5 * (found - whole)[0, :3].mean(0)
        steps = difference.diff(dim=1).abs().mean(0)
        figures[overlap] = float(steps.max() / steps.median()), float(difference.abs().mean())
    assert figures[1][0] > 3.5 and figures[4][0] < 2  # the largest step of what tiles change, beside the usual one
    assert figures[4][1] < 1.5  # grey levels


def test_what_overflows_is_decoded_in_float32(tiny):
    with torch.no_grad():
        tiny.decoder.conv_norm_out.weight.mul_(1e5)
        tiny.decoder.conv_out.weight.mul_(1e-5)
    state = torch.randn(2, 4, 8, 8)

    def half():
        return torch.autocast("cpu", torch.float16)

    with torch.no_grad(), half():
        assert not tiny.decode(state[:1] / tiny.config["scaling_factor"]).isfinite().all()
    assert np.array_equal(decode(tiny, state, half), decode(tiny, state, nullcontext))


def test_what_is_not_finite_in_float32_either_is_no_black_picture(tiny):
    with torch.no_grad():
        tiny.decoder.conv_out.bias[0] = torch.nan
    with pytest.raises(UserError, match="the VAE makes values that are not finite"):
        decode(tiny, torch.zeros(1, 4, 8, 8), nullcontext)


def test_tiles_of_a_picture_whose_sides_meet_meet_there_too(tiny, monkeypatch):
    """Waves that go round: the step from the last column to the first is none larger than inside, as it is where
    the sides do not meet."""
    turn = torch.linspace(0, 2 * torch.pi, 41)[:-1]
    z = torch.stack([turn.cos(), turn.sin(), (2 * turn).cos(), (3 * turn).sin()])[None, :, None].repeat(1, 1, 30, 1)
    monkeypatch.setattr(tiled, "WHOLE", 0)
    monkeypatch.setattr(tiled, "TILE", 32)

    def join(axes):
        found = decode(tiny, z, nullcontext, axes).astype(float)
        assert found.shape == (1, 240, 320, 3)
        steps = np.abs(np.roll(found, 1, 2) - found)[0].mean((0, 2))
        return steps[0] / steps[1:].max()

    assert max(join("x"), join("xy")) < 0.5 and min(join("y"), join("")) > 1
