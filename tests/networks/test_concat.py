"""A U-Net that sees another picture beside the state."""

import pytest
import torch

from inkwash.networks.concat import ConcatUNet
from tests.networks.test_unet import CONFIGS, filled, inputs


@torch.no_grad()
def test_the_state_stands_before_the_other_picture_whose_precision_does_not_matter():
    unet, given = filled(**CONFIGS["class"]), inputs("class", 8, 8)  # of nine channels, as one that paints in
    x, concat = given.pop("x").split([4, 5], dim=1)
    concat = concat.half()
    expected = unet(torch.cat([x, concat.float()], dim=1), **given)
    assert torch.equal(ConcatUNet(unet)(x, given.pop("time"), concat, **given), expected)


@torch.no_grad()
def test_the_noise_level_is_heard_as_the_time_of_the_other_picture():
    unet, given = filled(**CONFIGS["timestep label"]), inputs("timestep label", 8, 8)
    x, concat = given.pop("x").split([3, 1], dim=1)
    network, expected = ConcatUNet(unet), unet(torch.cat([x, concat], dim=1), **given)
    label = given.pop("label")  # 10 and 600, on the scale of time
    assert torch.equal(network(x, concat=concat, label=label, **given), expected)
    found = network(x, concat=concat, noise_level=label / 1000, **given)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(TypeError, match="label"):  # it cannot hear both
        network(x, concat=concat, noise_level=label / 1000, label=label, **given)


@torch.no_grad()
def test_a_picture_whose_kernel_is_zero_is_not_seen():
    seen, given = filled(**CONFIGS["lowest"] | {"in_channels": 7}), inputs("lowest", 8, 8)
    seen.conv_in.weight[:, 4:] = 0
    blind = filled(**CONFIGS["lowest"])
    blind.load_state_dict(seen.state_dict() | {"conv_in.weight": seen.conv_in.weight[:, :4]})
    found = ConcatUNet(seen)(concat=torch.randn(2, 3, 8, 8), **given)
    torch.testing.assert_close(found, blind(**given), rtol=0, atol=1e-5)
    seen.conv_in.weight[:, 4:] = 1
    assert (ConcatUNet(seen)(concat=torch.randn(2, 3, 8, 8), **given) - found).abs().max() > 0.1
