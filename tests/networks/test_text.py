"""The text encoder against torch's own transformer, and its indifference to padding."""

import math

import torch
from torch import nn

from inkwash.networks.text import TextEncoder, TransformerLayer, apply_rotary, rotary


def test_a_layer_is_the_pre_norm_transformer_layer_of_torch() -> None:
    torch.manual_seed(0)
    ours = TransformerLayer(width=24, heads=3).eval()
    theirs = nn.TransformerEncoderLayer(
        24, 3, dim_feedforward=96, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    pairs = {
        "norm1": "norm1", "norm2": "norm2", "out": "self_attn.out_proj", "up": "linear1", "down": "linear2",
    }  # fmt: skip
    weights = {
        f"{new}.{kind}": ours.state_dict()[f"{old}.{kind}"]
        for old, new in pairs.items()
        for kind in ("weight", "bias")
    }
    weights |= {f"self_attn.in_proj_{kind}": ours.state_dict()[f"qkv.{kind}"] for kind in ("weight", "bias")}
    theirs.load_state_dict(weights)
    x = torch.randn(4, 7, 24)
    mask = torch.arange(7) < torch.tensor([[7], [5], [2], [1]])
    with torch.no_grad():
        expected = theirs(x, src_key_padding_mask=~mask)
        torch.testing.assert_close(ours(x, mask[:, None, None])[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_turned_queries_and_keys_depend_on_their_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64)
    position = torch.arange(40, dtype=torch.float64)
    products = (
        apply_rotary(q.expand(40, 8), rotary(position, 8)) @ apply_rotary(k.expand(40, 8), rotary(position, 8)).T
    )
    for distance in (0, 1, 7):
        same = products.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    torch.testing.assert_close(products[0, 0], q @ k)
    assert (products[0, 0] - products[0, 1]).abs() > 1e-2


def small() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(vocabulary=50, embedding=8, width=16, layers=2, heads=2, length=12, output=20).eval()


@torch.no_grad()
def test_what_stands_behind_the_mask_changes_nothing_before_it() -> None:
    network = small()
    ids = torch.randint(50, (3, 12))
    mask = torch.arange(12) < torch.tensor([[12], [6], [2]])
    states, pooled = network(ids, mask)
    changed, pooled_too = network(ids.where(mask, torch.randint(50, (3, 12))), mask)
    torch.testing.assert_close(changed[mask], states[mask])
    torch.testing.assert_close(pooled_too, pooled)
    alone, pooled_alone = network(ids[1:2, :6], mask[1:2, :6])
    torch.testing.assert_close(alone[0], states[1, :6])
    torch.testing.assert_close(pooled_alone[0], pooled[1])


@torch.no_grad()
def test_pooled_is_the_mean_of_real_states_at_unit_mean_square() -> None:
    network = small()
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    states, pooled = network(torch.randint(50, (2, 9)), mask)
    mean = states[1, :4].mean(0)
    torch.testing.assert_close(pooled[1], mean / mean.norm() * math.sqrt(20))
    torch.testing.assert_close(pooled.square().mean(1), torch.ones(2))


@torch.no_grad()
def test_the_order_of_pieces_matters() -> None:
    ids = torch.arange(6)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    network = small()
    assert (network(ids, mask)[1] - network(ids.flip(1), mask)[1]).abs().max() > 1e-4
