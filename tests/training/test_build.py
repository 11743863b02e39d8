"""Networks by what recipes say of them."""

from functools import partial

import pytest
import torch

from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder
from inkwash.networks.unet import UNet
from inkwash.training.build import build

GOOD = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "cross_attention_dim": None,
    "norm_num_groups": 4,
}


@pytest.mark.parametrize("network", [UNet, Autoencoder])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"block_out_channels": [0, 0]}, "block_out_channels = 0: choose a whole number from 1"),
        ({"block_out_channels": [-8, 8]}, "block_out_channels = -8: choose a whole number from 1"),
        ({"block_out_channels": ["a", 8]}, "block_out_channels = 'a': a whole number is needed"),
        ({"block_out_channels": 8}, "makes no network"),
        ({"block_out_channels": [1_000_000, 1_000_000]}, "billion parameters; at most 2 are possible"),
        ({"layers_per_block": 10**9}, "layers_per_block = 1000000000: choose a whole number from 1 to 256"),
        ({"dropout": 7.0}, "dropout"),
        ({"blocks": 3}, "blocks"),
    ],
)
def test_a_mistake_is_one_line_of_the_table(network, change, says):
    own = GOOD if network is UNet else {"norm_num_groups": 4}
    with pytest.raises(UserError) as caught:
        build(partial(network, **own | change), own | change)
    assert str(caught.value).startswith("[network]") and says in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_count_changes_no_weight():
    torch.manual_seed(0)
    plain = UNet(**GOOD)
    torch.manual_seed(0)
    torch.testing.assert_close(build(partial(UNet, **GOOD), GOOD).state_dict(), plain.state_dict(), rtol=0, atol=0)
