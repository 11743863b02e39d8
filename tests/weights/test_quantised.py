"""Weights that were quantised, beside the program that quantises so, and by hand."""

import json

import pytest
import torch

from inkwash.errors import UserError
from inkwash.weights.quantised import dequantise, hadamard

WEIGHT = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))


def mark(**facts):
    return torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)


def eight_bits(scale=0.5):
    return (WEIGHT / scale).to(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("beside", "metadata"),
    [
        ({"x.scale_weight": torch.tensor(0.5), "scaled_fp8": torch.zeros(2)}, {}),
        ({"x.scale_weight": torch.tensor([0.5]), "x.scale_input": torch.ones(1)}, {}),
        ({"x.weight_scale": torch.tensor(0.5), "x.comfy_quant": mark(format="float8_e4m3fn")}, {}),
        (
            {"x.weight_scale": torch.tensor(0.5), "x.input_scale": torch.ones(())},
            {"_quantization_metadata": json.dumps({"layers": {"x": {"format": "float8_e4m3fn"}}})},
        ),
    ],
)
def test_eight_bit_floats_are_scaled_and_their_marks_are_gone(beside, metadata):
    tensors = {"x.weight": eight_bits(), "x.bias": torch.ones(8), **beside}
    found = dequantise(tensors, metadata, "file")
    assert found.keys() == {"x.weight", "x.bias"} and torch.equal(found["x.weight"], eight_bits().float() * 0.5)
    assert (found["x.weight"] - WEIGHT).abs().max() < 0.07 * WEIGHT.abs().max()


def test_bytes_are_floats_where_it_is_said():
    beside = {"x.weight_scale": torch.tensor(0.5), "x.comfy_quant": mark(format="float8_e4m3fn")}
    found = dequantise({"x.weight": eight_bits().view(torch.uint8), **beside}, {}, "file")
    assert torch.equal(found["x.weight"], eight_bits().float() * 0.5)


def test_without_scales_nothing_changes():
    tensors = {"x.weight": eight_bits(), "y.weight": WEIGHT.half(), "y.bias": WEIGHT[0]}
    found = dequantise(tensors, {}, "file")
    assert all(found[name] is tensor for name, tensor in tensors.items())


@pytest.mark.parametrize("scales", [(), (8,), (8, 1)])
def test_whole_numbers_are_scaled_as_a_whole_or_by_outputs(scales):
    scale = torch.rand(scales, generator=torch.Generator().manual_seed(1)) + 0.5
    q = torch.randint(-127, 128, (8, 64), generator=torch.Generator().manual_seed(2)).to(torch.int8)
    found = dequantise(
        {"x.weight": q, "x.weight_scale": scale, "x.comfy_quant": mark(format="int8_tensorwise")}, {}, ""
    )
    expected = torch.stack([row * (scale if not scales else scale[i]) for i, row in enumerate(q.float())])
    torch.testing.assert_close(found["x.weight"], expected)


@pytest.mark.parametrize("size", [4, 16, 64])
def test_a_rotation_is_taken_back(size):
    """By hand: each group of inputs was multiplied by a matrix of +-1 / sqrt(size) that is its own inverse."""
    h = hadamard(size)
    assert torch.equal(h, h.T) and torch.equal(h @ h, torch.eye(size)) and (h.abs() * size**0.5 == 1).all()
    turned = torch.cat([part @ h for part in WEIGHT.split(size, dim=1)], dim=1)
    scale = turned.abs().amax(1) / 127
    q = (turned / scale[:, None]).round().to(torch.int8)
    for facts in (
        {"convrot": True, "convrot_groupsize": size},
        {"params": {"convrot": True, "convrot_groupsize": size}},
    ):
        tensors = {"x.weight": q, "x.weight_scale": scale, "x.comfy_quant": mark(format="int8_tensorwise", **facts)}
        found = dequantise(tensors, {}, "")["x.weight"]
        assert (found - WEIGHT).abs().max() < 0.03 * WEIGHT.abs().max()


@pytest.mark.parametrize("size", [16, 64, 256])
def test_what_the_program_of_comfyui_rotates_is_read(size):
    theirs = pytest.importorskip("comfy_kitchen.backends.eager.quantization")
    weight = torch.randn(6, 512, generator=torch.Generator().manual_seed(3))
    q, scale = theirs.quantize_int8_convrot_weight(weight, size)
    facts = mark(format="int8_tensorwise", convrot=True, convrot_groupsize=size)
    found = dequantise({"x.weight": q, "x.weight_scale": scale, "x.comfy_quant": facts}, {}, "")["x.weight"]
    torch.testing.assert_close(found, theirs.dequantize_int8_convrot_weight(q, scale, size))


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"x.comfy_quant": mark(format="nvfp4")}, "file: x is quantised as nvfp4, which is not read"),
        ({"x.comfy_quant": torch.ones(3, dtype=torch.uint8)}, "a format that cannot be read"),
        ({"x.comfy_quant": mark(format="float8_e4m3fn")}, "its scale is missing"),
        (
            {"x.weight": WEIGHT.half(), "x.weight_scale": torch.ones(())},
            "torch.float16 with scales, which is not read",
        ),
        ({"x.scale_weight": torch.ones(3)}, "3 scales for 8 outputs"),
        (
            {"x.weight_scale": torch.ones(()), "x.comfy_quant": mark(format="int8_tensorwise", convrot=True)},
            "rotated in groups of 256 of 64 inputs",
        ),
    ],
)
def test_what_is_not_read_is_one_line(beside, message):
    with pytest.raises(UserError, match=message) as error:
        dequantise({"x.weight": eight_bits(), **beside}, {}, "file")
    assert "\n" not in str(error.value)
