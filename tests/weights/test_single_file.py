"""Where a tensor of a folder lies in a single file: small cases by hand. With whole networks, and against diffusers:
tests/networks/test_stable_diffusion.py."""

import pytest
import torch

from inkwash.weights.single_file import FAMILIES, Component, find_family, from_single_file, to_single_file

LAYER = "text_model.encoder.layers.0.self_attn."
SD1, SD2, XL = FAMILIES["sd1"], FAMILIES["sd2"], FAMILIES["sdxl"]


def both_ways(component: Component, folder: dict[str, torch.Tensor], file: dict[str, torch.Tensor]) -> bool:
    """Whether these tensors of a folder are those of a file, with the prefix before their names."""
    file = {component.prefix + name: tensor for name, tensor in file.items()}
    written, found = to_single_file(component, folder), from_single_file(component, file, folder)
    return all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in ((written, file), (found, folder))
    )


def test_queries_keys_and_values_lie_one_below_the_other():
    parts = {part: torch.full((2, 2), float(i)) for i, part in enumerate("qkv")}
    folder = {f"{LAYER}{part}_proj.weight": parts[part] for part in "vqk"}  # in any order
    fused = torch.tensor([[0.0, 0], [0, 0], [1, 1], [1, 1], [2, 2], [2, 2]])
    assert both_ways(SD2["text_encoder"], folder, {"transformer.resblocks.0.attn.in_proj_weight": fused})
    folder = {name.replace("weight", "bias"): tensor[0] for name, tensor in folder.items()}
    assert both_ways(SD2["text_encoder"], folder, {"transformer.resblocks.0.attn.in_proj_bias": fused[:, 0]})


def test_the_projection_is_transposed_in_openclip_alone():
    matrix = torch.arange(6.0).reshape(2, 3)
    assert both_ways(XL["text_encoder_2"], {"text_projection.weight": matrix}, {"text_projection": matrix.T})
    assert both_ways(XL["text_encoder"], {"text_projection.weight": matrix}, {"text_projection.weight": matrix})


def test_blocks_of_the_autoencoder_are_numbered_from_the_end_on_the_way_up_only():
    folder = {
        **{f"decoder.up_blocks.{i}.resnets.0.norm1.bias": torch.tensor([float(i)]) for i in range(3)},
        **{f"encoder.down_blocks.{i}.resnets.0.norm1.bias": torch.tensor([10.0 + i]) for i in range(3)},
    }
    file = {
        **{f"decoder.up.{i}.block.0.norm1.bias": torch.tensor([2.0 - i]) for i in range(3)},
        **{f"encoder.down.{i}.block.0.norm1.bias": torch.tensor([10.0 + i]) for i in range(3)},
    }
    assert both_ways(SD1["vae"], folder, file)


def test_attention_of_the_autoencoder_is_of_kernels_of_width_one():
    norm = "decoder.up_blocks.0.resnets.0.norm1.bias"
    attention, matrix = "decoder.mid_block.attentions.0", torch.arange(4.0).reshape(2, 2)
    folder = {f"{attention}.to_out.0.weight": matrix, f"{attention}.to_q.bias": matrix[0], norm: matrix[1]}
    file = {"mid.attn_1.proj_out.weight": matrix[..., None, None], "mid.attn_1.q.bias": matrix[0]}
    file = {f"decoder.{name}": tensor for name, tensor in file.items()} | {
        "decoder.up.0.block.0.norm1.bias": matrix[1]
    }
    assert both_ways(SD1["vae"], folder, file)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_blocks_of_the_unet_are_counted_through(layers):
    """conv_in, then the resnets of a block and what changes the size; that of the way up stands behind an attention,
    where there is one."""
    names = [f"down_blocks.{i}.resnets.{j}.norm1.bias" for i in range(2) for j in range(layers)]
    names += ["down_blocks.0.downsamplers.0.conv.bias", "up_blocks.0.upsamplers.0.conv.bias"]
    names += [f"up_blocks.{i}.resnets.{j}.conv_shortcut.bias" for i in range(2) for j in range(layers + 1)]
    names += ["up_blocks.1.attentions.0.norm.bias", "up_blocks.1.upsamplers.0.conv.bias"]
    first, second = layers, 2 * layers + 1  # the last place of each block
    expected = [f"input_blocks.{1 + i}.0.in_layers.0.bias" for i in range(layers)]
    expected += [f"input_blocks.{layers + 2 + i}.0.in_layers.0.bias" for i in range(layers)]
    expected += [f"input_blocks.{layers + 1}.0.op.bias", f"output_blocks.{first}.1.conv.bias"]
    expected += [f"output_blocks.{i}.0.skip_connection.bias" for i in range(2 * layers + 2)]
    expected += [f"output_blocks.{layers + 1}.1.norm.bias", f"output_blocks.{second}.2.conv.bias"]
    values = [torch.tensor([float(i)]) for i in range(len(names))]
    folder, file = (dict(zip(keys, values, strict=True)) for keys in (names, expected))
    assert both_ways(SD1["unet"], folder, file)


def test_a_family_is_known_by_all_its_text_encoders():
    prefixes = {
        family: [c.prefix for name, c in parts.items() if "text" in name] for family, parts in FAMILIES.items()
    }
    for family, own in prefixes.items():
        assert find_family([f"{prefix}x.weight" for prefix in own]) == family
    assert find_family(["model.diffusion_model.out.0.bias", "first_stage_model.quant_conv.bias"]) is None
    assert find_family(["conditioner.embedders.0.transformer.text_model.x"]) is None  # half of SDXL's
