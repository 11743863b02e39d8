"""The U-Net against diffusers' on the same weights, and against itself across dimensions."""

import copy
import inspect
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from inkwash.errors import UserError
from inkwash.networks.layers import Attention, sinusoidal_embedding
from inkwash.networks.unet import FIXED, IDLE, WEIGHTS, UNet, load_unet, save_unet

LOWEST = {  # attention at the lowest level only, as in the project's own models
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "layers_per_block": 1,
}
CONFIGS = {
    "lowest": LOWEST,
    "sd1": {"block_out_channels": (16, 16, 32, 32), "cross_attention_dim": 24, "norm_num_groups": 16},
    "sd2": LOWEST
    | {
        "use_linear_projection": True,
        "attention_head_dim": (2, 8),
        "transformer_layers_per_block": (1, 2),
        "layers_per_block": (2, 1),
        "upcast_attention": True,
    },
    "label": LOWEST
    | {
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 7,
        "resnet_time_scale_shift": "scale_shift",
        "flip_sin_to_cos": False,
        "freq_shift": 1,
    },
    "timestep label": LOWEST | {"class_embed_type": "timestep", "mid_block_type": "UNetMidBlock2D"},
    "class": LOWEST | {"num_class_embeds": 5, "mid_block_type": None, "in_channels": 9, "out_channels": 3},
    "text_proj": LOWEST | {"encoder_hid_dim": 10, "encoder_hid_dim_type": "text_proj", "norm_eps": 1e-3},
    "far padding": LOWEST | {"downsample_padding": 0},
    "sdxl": {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "attention_head_dim": (2, 4, 8),
        "transformer_layers_per_block": (1, 2, 3),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 58,  # 10 of the text, and six times 8
    },
    "sdxl-refiner": {
        "block_out_channels": (16, 16, 32, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "attention_head_dim": (2, 4, 8, 8),
        "transformer_layers_per_block": 2,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 50,  # five times 8
    },
    "guidance": LOWEST | {"time_cond_proj_dim": 6, "in_channels": 8},
    "no context": LOWEST
    | {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    },
}
LABELS = {"label": torch.randn(2, 7), "timestep label": torch.tensor([10.0, 600.0]), "class": torch.tensor([3, 0])}

SIZES = torch.tensor([[1024.0, 768.0, 0.0, 64.0, 1024.0, 1024.0], [512.0, 512.0, 8.0, 0.0, 1024.0, 1024.0]])
ADDED = {
    "sdxl": {"text_embeds": torch.randn(2, 10), "time_ids": SIZES},
    "sdxl-refiner": {"text_embeds": torch.randn(2, 10), "time_ids": SIZES[:, :5] / 100},
    "guidance": {"timestep_cond": torch.randn(2, 6)},
}


def inputs(name: str, *spatial: int) -> dict[str, torch.Tensor | None]:
    """Arguments of the forward pass; the second text has two tokens of padding."""
    config = CONFIGS[name]
    torch.manual_seed(1)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    return {
        "x": torch.randn(2, config.get("in_channels", 4), *spatial),
        "time": torch.tensor([3.0, 812.5]),
        "context": torch.randn(2, 6, config.get("encoder_hid_dim", config["cross_attention_dim"])),
        "context_mask": mask,
        "label": LABELS.get(name),
    } | ADDED.get(name, {})


def filled(**config: object) -> UNet:
    """A U-Net whose zeroed layers are random too."""
    torch.manual_seed(0)
    unet = UNet(**config).eval()
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return unet


def their_output(theirs: torch.nn.Module, given: dict[str, torch.Tensor | None]) -> torch.Tensor:
    mask, label = given["context_mask"], given["label"]
    return theirs(
        given["x"],
        given["time"],
        given["context"],
        class_labels=label,
        encoder_attention_mask=mask,
        added_cond_kwargs={key: given[key] for key in ("text_embeds", "time_ids") if key in given},
        timestep_cond=given.get("timestep_cond"),
    ).sample


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_equals_diffusers_and_each_opens_what_the_other_saves(name, tmp_path):
    Theirs = pytest.importorskip("diffusers").UNet2DConditionModel
    torch.manual_seed(0)
    theirs, ours = Theirs(**CONFIGS[name]).eval(), UNet(**CONFIGS[name]).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    # Sizes that halve with a remainder, where diffusers can (it cannot with self-attention blocks or far padding).
    given = inputs(name, *((16, 8) if name in ("far padding", "no context") else (13, 10)))
    torch.testing.assert_close(ours(**given), their_output(theirs, given), rtol=0, atol=1e-5)

    save_unet(ours, tmp_path / "ours")
    reopened = Theirs.from_pretrained(tmp_path / "ours").eval()
    expected = load_unet(tmp_path / "ours")(**given)
    torch.testing.assert_close(their_output(reopened, given), expected, rtol=0, atol=1e-5)
    theirs.half().save_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(load_unet(tmp_path / "theirs")(**given), expected, rtol=0, atol=1e-5)


def test_defaults_are_those_of_the_format():
    Theirs = pytest.importorskip("diffusers").UNet2DConditionModel
    defaults = {key: value.default for key, value in inspect.signature(Theirs).parameters.items()}
    ours = {key: value.default for key, value in inspect.signature(UNet).parameters.items()} | FIXED
    for key in defaults.keys() - IDLE:
        assert ours[key] == defaults[key], key
    with torch.device("meta"):  # the 860 million of Stable Diffusion 1, without their memory
        one, other = UNet(cross_attention_dim=768).state_dict(), Theirs(cross_attention_dim=768).state_dict()
    assert {key: value.shape for key, value in one.items()} == {k: v.shape for k, v in other.items()}


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_a_picture_one_pixel_wide_is_the_network_of_one_dimension_less(dims):
    # Only the middle slice of every kernel can touch such a picture.
    more, less = filled(**CONFIGS["label"], dims=dims), filled(**CONFIGS["label"], dims=dims - 1)
    less.load_state_dict(
        {
            key: value[..., value.shape[-1] // 2] if value.ndim == dims + 2 else value
            for key, value in more.state_dict().items()
        }
    )
    given = inputs("label", *(9, 6)[: dims - 1], 1)
    x = given.pop("x")
    torch.testing.assert_close(less(x[..., 0], **given), more(x, **given)[..., 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["lowest", "text_proj"])
@torch.no_grad()
def test_padding_is_not_seen_and_a_text_without_tokens_is_finite(name):
    unet, given = filled(**CONFIGS[name]), inputs(name, 8, 8)
    out = unet(**given)
    short = {key: value[1:] for key, value in given.items() if key in ("x", "time")}
    alone = unet(**short, context=given["context"][1:, :4])
    torch.testing.assert_close(out[1:], alone, rtol=0, atol=1e-5)
    given["context"][1, 4:] = 1e4
    assert torch.equal(unet(**given), out)
    given["context"][0, 2] += 1
    assert not torch.allclose(unet(**given)[0], out[0], atol=1e-4)
    given["context_mask"][:] = False
    assert unet(**given).isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
def test_starts_at_zero_and_every_parameter_learns(name):
    torch.manual_seed(0)
    unet, given = UNet(**CONFIGS[name]), inputs(name, 16, 16)
    start = {key: value.clone() for key, value in unet.named_parameters()}
    assert not unet(**given).any()
    # Zeroed layers wake from the output inwards, an attention's output before what it attends with.
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        (unet(**given) - 1).square().mean().backward()
        optimizer.step()
    still = [key for key, value in unet.named_parameters() if torch.equal(value, start[key])]
    assert not still


@pytest.mark.parametrize("name", ["sd1", "sd2", "no context"])
@torch.no_grad()
def test_bfloat16_and_channels_last_agree_with_plain_float32(name):
    unet, given = filled(**CONFIGS[name]), inputs(name, 16, 16)
    plain = unet(**given)
    layouts = []
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, args, out: layouts.extend([*args, out]))
    unet.to(memory_format=torch.channels_last)
    given["x"] = given["x"].to(memory_format=torch.channels_last)
    torch.testing.assert_close(unet(**given), plain, rtol=0, atol=1e-4)
    assert all(state.is_contiguous(memory_format=torch.channels_last) for state in layouts)  # no copy between
    with torch.autocast("cpu", torch.bfloat16):
        half = unet(**given).float()
    assert (half - plain).norm() < 0.02 * plain.norm()


@torch.no_grad()
def test_exports_with_any_batch_and_length_of_text():
    unet, given = filled(**LOWEST), inputs("lowest", 8, 8)
    del given["label"]
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    text = {0: batch, 1: length}
    dynamic = {"x": {0: batch}, "time": {0: batch}, "context": text, "context_mask": text}
    graph = torch.export.export(unet, (), given, dynamic_shapes=dynamic).module()
    other = {key: torch.cat([value, value[:1]]) for key, value in given.items()}
    other |= {key: other[key][:, :5] for key in ("context", "context_mask")}
    torch.testing.assert_close(graph(**other), unet(**other), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dual_cross_attention", True),
        ("only_cross_attention", True),
        ("class_embed_type", "identity"),
        ("encoder_hid_dim_type", "image_proj"),
        ("down_block_types", ("DownBlock2D", "KDownBlock2D")),
        ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
        ("up_block_types", ("UpBlock2D",)),
        ("norm_num_groups", 7),
        ("cross_attention_dim", None),
        ("attention_head_dim", 5),
        ("layers_per_block", (1, 2, 3)),
        ("block_out_chanels", (16, 32)),
        ("dims", 4),
        ("addition_embed_type", "image"),
    ],
)
def test_a_configuration_it_cannot_carry_is_named(key, value):
    with pytest.raises(UserError, match=key):
        UNet(**LOWEST | {key: value})


@pytest.mark.parametrize("key", ["addition_time_embed_dim", "projection_class_embeddings_input_dim"])
def test_a_condition_of_text_and_sizes_has_its_widths(key):
    with pytest.raises(UserError, match=f"addition_embed_type 'text_time' needs {key}"):
        UNet(**CONFIGS["sdxl"] | {key: None})


def test_a_projected_context_has_one_width():
    widths = {"encoder_hid_dim": 10, "encoder_hid_dim_type": "text_proj", "cross_attention_dim": (12, 24)}
    with pytest.raises(UserError, match="encoder_hid_dim needs one cross_attention_dim"):
        UNet(**LOWEST | widths)


def test_an_unconditional_network_needs_no_context_dim_and_is_opened_by_diffusers(tmp_path):
    unet = filled(**CONFIGS["no context"] | {"cross_attention_dim": None})
    save_unet(unet, tmp_path)
    given = inputs("no context", 8, 8)
    expected = load_unet(tmp_path)(given["x"], given["time"])
    theirs = pytest.importorskip("diffusers").UNet2DConditionModel.from_pretrained(tmp_path)
    torch.testing.assert_close(their_output(theirs, given), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_network_of_one_dimension_is_saved_and_loaded(tmp_path):
    unet = filled(**LOWEST, dims=1).half().float()
    save_unet(unet, tmp_path)
    again, given = load_unet(tmp_path), inputs("lowest", 11)
    assert again.config == unet.config
    assert torch.equal(again(**given), unet(**given))


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path):
    unet = UNet(**LOWEST)
    torch.nn.init.constant_(unet.conv_in.bias, torch.inf)
    with pytest.raises(UserError, match=r"conv_in\.bias"):
        save_unet(unet, tmp_path / "new")
    assert not list(tmp_path.rglob("*"))


def test_a_label_or_a_context_must_be_what_the_network_was_built_for():
    with pytest.raises(ValueError, match="needs a label"):
        UNet(**CONFIGS["label"])(**inputs("lowest", 8, 8))
    with pytest.raises(ValueError, match="takes no label"):
        UNet(**LOWEST)(**inputs("lowest", 8, 8) | {"label": torch.ones(2, 7)})
    with pytest.raises(ValueError, match="needs a context"):
        UNet(**LOWEST)(**inputs("lowest", 8, 8) | {"context": None})


@pytest.mark.parametrize(
    "name, missing", [("sdxl", "text_embeds"), ("sdxl-refiner", "time_ids"), ("guidance", "timestep_cond")]
)
def test_further_conditions_must_be_what_the_network_was_built_for(name, missing):
    given = inputs(name, 8, 8)
    value = given.pop(missing)
    with pytest.raises(ValueError, match=f"needs a {missing} tensor"):
        UNet(**CONFIGS[name])(**given)
    with pytest.raises(ValueError, match=f"takes no {missing} tensor"):
        UNet(**LOWEST)(**inputs("lowest", 8, 8) | {missing: value})


def test_the_refiner_s_numbers_are_not_taken_for_sdxl_s():
    given = inputs("sdxl", 8, 8)
    given["time_ids"] = given["time_ids"][:, :5]
    with pytest.raises(ValueError, match="text_embeds and time_ids make 50 features, this U-Net takes 58"):
        UNet(**CONFIGS["sdxl"])(**given)


@torch.no_grad()
def test_the_guidance_scale_is_embedded_as_in_the_pipeline_of_latent_consistency():
    pipeline = pytest.importorskip("diffusers").LatentConsistencyModelPipeline
    scale = torch.tensor([1.0, 7.5, 8.0])
    expected = pipeline.get_guidance_scale_embedding(None, scale - 1, 256)
    found = sinusoidal_embedding(1000 * (scale - 1), 256, cosine_first=False, shift=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)  # sines of 7000, in float32


@torch.no_grad()
def test_scores_beyond_float16_are_none_too_many_for_attention():
    """So `upcast_attention` asks for nothing that is not done, and is kept for those who open what is saved."""
    torch.manual_seed(0)
    attention = Attention(16, 2).eval()
    for layer in (attention.to_q, attention.to_k):
        layer.weight *= 400
    x = torch.randn(1, 5, 16)
    q, k = (layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (attention.to_q, attention.to_k))
    assert (q @ k.mT).abs().max() > 65504  # float16's largest number
    found = copy.deepcopy(attention).half()(x.half())
    torch.testing.assert_close(found.float(), attention(x), rtol=0, atol=0.01)


def test_what_is_kept_for_others_is_saved(tmp_path):
    Theirs = pytest.importorskip("diffusers").UNet2DConditionModel
    save_unet(UNet(**CONFIGS["sd2"]), tmp_path)
    assert load_unet(tmp_path).config["upcast_attention"] is True
    assert Theirs.from_pretrained(tmp_path).config.upcast_attention is True


def residuals_of(unet: UNet, given: dict[str, torch.Tensor | None]) -> list[torch.Tensor]:
    """Random ones for the skip states, whose shapes a pass through the way down tells, and for the middle."""
    states = []
    hooks = [unet.conv_in.register_forward_hook(lambda _, args, out: states.append(out))]
    for block in unet.down_blocks:
        hooks.append(block.register_forward_hook(lambda _, args, out: states.extend(out)))
    unet(**given)
    for hook in hooks:
        hook.remove()
    torch.manual_seed(2)
    return [torch.randn_like(state) for state in [*states, states[-1]]]


@pytest.mark.parametrize("name", ["sd1", "class", "far padding"])
@torch.no_grad()
def test_residuals_are_those_of_diffusers(name):
    Theirs = pytest.importorskip("diffusers").UNet2DConditionModel
    ours, theirs = filled(**CONFIGS[name]), Theirs(**CONFIGS[name]).eval()
    theirs.load_state_dict(ours.state_dict())
    given = inputs(name, 16, 8)
    *down, middle = residuals_of(ours, given)
    expected = theirs(
        given["x"],
        given["time"],
        given["context"],
        class_labels=given["label"],
        encoder_attention_mask=given["context_mask"],
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    found = ours(**given, residuals=[*down, middle])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - ours(**given)).abs().max() > 0.1


@torch.no_grad()
def test_nothing_added_is_nothing_changed():
    unet, given = filled(**LOWEST), inputs("lowest", 13, 10)
    zeros = [torch.zeros_like(residual) for residual in residuals_of(unet, given)]
    assert torch.equal(unet(**given, added=zeros[0], residuals=zeros), unet(**given))


@torch.no_grad()
def test_what_is_added_goes_in_where_the_bias_of_the_first_convolution_does():
    unet, given = filled(**LOWEST), inputs("lowest", 13, 10)
    bias = torch.randn(16)
    found = unet(**given, added=bias[:, None, None].expand(2, 16, 13, 10))
    unet.conv_in.bias += bias
    torch.testing.assert_close(found, unet(**given), rtol=0, atol=1e-5)


@torch.no_grad()
def test_features_of_another_picture_are_added_as_if_both_were_seen_by_one_convolution():
    # conv([x; y]) = G(x) + F(y): the sum of SegDiff, for an encoder F of one convolution
    torch.manual_seed(0)
    both, given = filled(**LOWEST | {"in_channels": 7}), inputs("lowest", 13, 10)
    alone, other = filled(**LOWEST), torch.randn(2, 3, 13, 10)
    state = both.state_dict()
    kernel = state.pop("conv_in.weight")
    alone.load_state_dict(state | {"conv_in.weight": kernel[:, :4]})
    features = torch.nn.functional.conv2d(other, kernel[:, 4:], padding=1)
    expected = both(**given | {"x": torch.cat([given["x"], other], dim=1)})
    torch.testing.assert_close(alone(**given, added=features), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_additions_of_another_number_or_shape_are_refused():
    unet, given = filled(**LOWEST), inputs("lowest", 8, 8)
    residuals = residuals_of(unet, given)
    with pytest.raises(ValueError, match=r"4 residuals: this U-Net takes 5, the middle's last"):
        unet(**given, residuals=residuals[:-1])
    residuals[2] = residuals[2][:1]
    with pytest.raises(ValueError, match=r"residual 2 has the shape \(1, 16, 4, 4\), .* \(2, 16, 4, 4\)"):
        unet(**given, residuals=residuals)
    with pytest.raises(ValueError, match=r"added has the shape \(16, 1, 1\), .* \(2, 16, 8, 8\)"):
        unet(**given, added=torch.zeros(16, 1, 1))


def rewrite(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def to_pickle(file):
    torch.save({"conv_in.bias": torch.zeros(16)}, file)


BROKEN = {
    "missing": (lambda file: file.unlink(), "no such file"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "not a whole safetensors"),
    "empty": (lambda file: file.write_bytes(b""), "not a whole safetensors"),
    "something else": (lambda file: file.write_bytes(b"\x89PNG" + bytes(1000)), "not a whole safetensors"),
    "new pickle": (to_pickle, "only safetensors are loaded"),
    "old pickle": (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "only safetensors are loaded"),
    "a key too few": (lambda file: rewrite(file, lambda t: t.pop("conv_in.bias")), r"lacks conv_in\.bias"),
    "a key too many": (lambda file: rewrite(file, lambda t: t.update(odd=torch.ones(1))), "unexpected odd"),
    "a wrong shape": (
        lambda file: rewrite(file, lambda t: t.update({"conv_in.bias": torch.ones(3)})),
        r"wrong shapes for conv_in\.bias",
    ),
    "a .bin alone": (lambda file: to_pickle(file.rename(file.with_suffix(".bin"))), "only safetensors"),
    "config cut short": (lambda file: (file.parent / "config.json").write_text('{"in'), "not the configuration"),
    "config of a list": (lambda file: (file.parent / "config.json").write_text("[1]"), "not the configuration"),
    "config of a wrong type": (
        lambda file: (file.parent / "config.json").write_text(json.dumps({"block_out_channels": 3})),
        "not the configuration",
    ),
    "config it cannot carry": (
        lambda file: (file.parent / "config.json").write_text(json.dumps({"act_fn": "mish"})),
        "act_fn = 'silu' only",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_of_one_line_with_its_name(name, tmp_path):
    save_unet(UNet(**LOWEST), tmp_path)
    spoil, reason = BROKEN[name]
    spoil(tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=reason) as caught:
        load_unet(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / ("config.json" if "config" in name else "diffusion_pytorch_model")) in message


@torch.no_grad()
def test_the_state_stands_before_the_other_picture_whose_precision_does_not_matter():
    unet, given = filled(**CONFIGS["class"]), inputs("class", 8, 8)  # of nine channels, as one that paints in
    x, concat = given.pop("x").split([4, 5], dim=1)
    concat = concat.half()
    expected = unet(torch.cat([x, concat.float()], dim=1), **given)
    assert torch.equal(unet(x, given.pop("time"), concat=concat, **given), expected)


@torch.no_grad()
def test_the_noise_level_is_heard_as_the_time_of_the_other_picture():
    unet, given = filled(**CONFIGS["timestep label"]), inputs("timestep label", 8, 8)
    x, concat = given.pop("x").split([3, 1], dim=1)
    expected = unet(torch.cat([x, concat], dim=1), **given)
    label = given.pop("label")  # 10 and 600, on the scale of time
    assert torch.equal(unet(x, concat=concat, label=label, **given), expected)
    found = unet(x, concat=concat, noise_level=label / 1000, **given)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="label"):  # it cannot hear both
        unet(x, concat=concat, noise_level=label / 1000, label=label, **given)


@torch.no_grad()
def test_a_picture_whose_kernel_is_zero_is_not_seen():
    seen, given = filled(**CONFIGS["lowest"] | {"in_channels": 7}), inputs("lowest", 8, 8)
    seen.conv_in.weight[:, 4:] = 0
    blind = filled(**CONFIGS["lowest"])
    blind.load_state_dict(seen.state_dict() | {"conv_in.weight": seen.conv_in.weight[:, :4]})
    found = seen(concat=torch.randn(2, 3, 8, 8), **given)
    torch.testing.assert_close(found, blind(**given), rtol=0, atol=1e-5)
    seen.conv_in.weight[:, 4:] = 1
    assert (seen(concat=torch.randn(2, 3, 8, 8), **given) - found).abs().max() > 0.1


@pytest.fixture(params=[None, "fp16"])
def cut(tmp_path, request):
    """A network that diffusers has cut into several files, in float32 or in float16."""
    Theirs = pytest.importorskip("diffusers").UNet2DConditionModel
    torch.manual_seed(0)
    theirs = Theirs(**LOWEST)
    theirs.to(torch.float16 if request.param else torch.float32)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB", variant=request.param)
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 2 and not (tmp_path / WEIGHTS).exists()
    return tmp_path, theirs


def test_a_network_that_lies_in_several_files_is_opened(cut):
    folder, theirs = cut
    ours, expected = load_unet(folder).state_dict(), theirs.state_dict()
    assert all(torch.equal(ours[key], expected[key].float()) for key in expected)


def test_a_network_that_is_there_in_float16_only_is_opened_and_else_the_other_is_taken(tmp_path):
    Theirs = pytest.importorskip("diffusers").UNet2DConditionModel
    theirs = Theirs(**LOWEST)
    expected = theirs.state_dict()["conv_in.weight"].clone()
    theirs.half().save_pretrained(tmp_path, variant="fp16")
    (tmp_path / WEIGHTS).with_suffix(".bin").write_bytes(b"a pickle that nobody opens")
    assert torch.equal(load_unet(tmp_path).conv_in.weight, expected.half().float())
    save_file({key: value.float() + 1 for key, value in theirs.state_dict().items()}, tmp_path / WEIGHTS)
    assert torch.equal(load_unet(tmp_path).conv_in.weight, expected.half().float() + 1)


def test_a_missing_or_foreign_part_of_several_is_an_error_of_one_line(cut):
    folder, _ = cut
    (index,) = folder.glob("*.index*.json")
    next(iter(sorted(folder.glob("*-of-*.safetensors")))).unlink()
    with pytest.raises(UserError, match=r"model.*-00001-of-\d+\.safetensors: no such file"):
        load_unet(folder)
    for content in ('{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": 3}', "[]", "{"):
        index.write_text(content)
        with pytest.raises(UserError, match=r"json: not the index of a model's files"):
            load_unet(folder)
