"""Pictures whose sides meet."""

import pytest
import torch
from torch import nn

from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder
from inkwash.networks.seamless import circular
from inkwash.networks.unet import UNet
from tests.networks.test_stable_diffusion import TINY, VAE


def randomised(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def unet():
    network = randomised(UNet(**TINY["sd1"]["unet"]))
    context = torch.randn(1, 7, 12)
    return network, lambda x: network(x, torch.tensor([500.0]), context)


@pytest.fixture(scope="module")
def vae():
    return randomised(Autoencoder(**VAE))


def check(network, call, x, axes, inside, outside):
    """Shifts along the axes of a tiling, and along no other, pass through."""
    with circular(network, axes), torch.no_grad():
        expected = call(x)
        for dim, axis in ((2, "y"), (3, "x")):
            shifted = call(x.roll(inside, dim)).roll(-outside, dim)
            assert torch.allclose(shifted, expected, rtol=1e-4, atol=1e-4) == (axis in axes), axis


@pytest.mark.parametrize("axes", ["x", "y", "xy"])
def test_a_shift_of_what_goes_in_is_one_of_what_comes_out(unet, vae, axes):
    torch.manual_seed(1)
    check(*unet, torch.randn(1, 4, 16, 24), axes, 8, 8)
    check(vae, vae.decode, torch.randn(1, 4, 8, 12), axes, 3, 24)
    check(vae, lambda x: vae.encode(x)[0], torch.randn(1, 3, 32, 64), axes, 16, 2)


def test_a_picture_of_one_colour_has_no_border(vae):
    z = torch.randn(1, 4, 1, 1).expand(1, 4, 6, 9).contiguous()
    with torch.no_grad():
        with circular(vae, "xy"):
            flat = vae.decode(z)
        with circular(vae, "x"):
            rows = vae.decode(z)
        usual = vae.decode(z)
    assert flat.std((2, 3)).max() < 1e-5
    assert rows.std(3).max() < 1e-5 < 1e-2 < rows.std(2).max()
    assert usual.std(3).max() > 1e-2


def test_afterwards_it_is_as_before_even_if_it_failed(unet):
    network, call = unet
    x = torch.randn(1, 4, 16, 16)
    with torch.no_grad():
        before = call(x)
        with circular(network, ""):
            assert torch.equal(call(x), before)
        with pytest.raises(RuntimeError, match="stop"), circular(network, "xy"):
            assert not torch.allclose(call(x), before, atol=1e-2)
            raise RuntimeError("stop")
        assert torch.equal(call(x), before)


def test_an_unknown_tiling_is_refused(unet):
    with pytest.raises(UserError, match="tiling"), circular(unet[0], "z"):
        pass
