"""Stable Diffusion 1, 2 and XL: the real sizes without their memory, and tiny ones both ways with diffusers."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from inkwash.errors import UserError
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.clip import load_clip, with_prefix
from inkwash.networks.stable_diffusion import CLASSES, CONFIGS, load_single_file, load_vae, save_single_file
from inkwash.networks.unet import load_unet
from inkwash.weights.single_file import FAMILIES, from_single_file, to_single_file
from tests.codecs.test_clip import END, VOCABULARY, write

UNET = {"sample_size": 8, "norm_num_groups": 4, "block_out_channels": [8, 8, 16, 16], "cross_attention_dim": 12}
VAE = {"sample_size": 16, "norm_num_groups": 4, "block_out_channels": [4, 8, 8, 12]}
TEXT = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": len(VOCABULARY),
}
WIDE = TEXT | {"hidden_size": 20, "projection_dim": 18}
SDXL = UNET | {"block_out_channels": [8, 8, 16], "attention_head_dim": [2, 4, 8], "cross_attention_dim": 32}
REFINER = UNET | {"attention_head_dim": [2, 4, 8, 8], "transformer_layers_per_block": 2, "cross_attention_dim": 20}
SMALLER = {
    "sd1": {"unet": UNET | {"attention_head_dim": 4}, "text_encoder": TEXT},
    "sd2": {"unet": UNET | {"attention_head_dim": [2, 4, 4, 8]}, "text_encoder": TEXT},
    "sdxl": {
        "unet": SDXL | {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 18 + 6 * 4},
        "text_encoder": TEXT,
        "text_encoder_2": WIDE,
    },
    "sdxl-refiner": {
        "unet": REFINER | {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 18 + 5 * 4},
        "text_encoder_2": WIDE,
    },
}
TINY = {
    family: {folder: config | ({"vae": VAE} | SMALLER[family])[folder] for folder, config in configs.items()}
    for family, configs in CONFIGS.items()
}
EVERY = [(family, folder) for family, configs in CONFIGS.items() for folder in configs]
SIZES = {  # tensors, parameters
    ("sd1", "unet"): (686, 859_520_964),
    ("sd2", "unet"): (686, 865_910_724),
    ("sdxl", "unet"): (1680, 2_567_463_684),
    ("sdxl-refiner", "unet"): (1220, 2_259_526_660),
    **{(family, "vae"): (248, 83_653_863) for family in CONFIGS},
    ("sd1", "text_encoder"): (196, 123_060_480),
    ("sd2", "text_encoder"): (372, 340_387_840),
    ("sdxl", "text_encoder"): (196, 123_060_480),
    ("sdxl", "text_encoder_2"): (517, 694_659_840),
    ("sdxl-refiner", "text_encoder_2"): (517, 694_659_840),
}


def on_meta(family: str, folder: str, **changes: object) -> dict[str, torch.Tensor]:
    """The tensors of the real size, without their memory."""
    with torch.device("meta"):
        return CLASSES[folder](**CONFIGS[family][folder] | changes).state_dict()


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def theirs(folder: str, config: dict[str, object]) -> torch.nn.Module:
    """The network of diffusers or transformers of the same configuration."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    if folder == "unet":
        return diffusers.UNet2DConditionModel(**config)
    if folder == "vae":
        levels = len(config["block_out_channels"])
        blocks = {
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
        }
        return diffusers.AutoencoderKL(**config, **blocks)
    config = {key: value for key, value in config.items() if key != "projection"}
    kind = "CLIPTextModelWithProjection" if folder == "text_encoder_2" else "CLIPTextModel"
    return getattr(transformers, kind)(transformers.CLIPTextConfig(**config))


@pytest.mark.parametrize("family, folder", EVERY)
def test_names_and_shapes_of_the_real_sizes_are_those_of_diffusers_and_transformers(family, folder):
    ours = on_meta(family, folder)
    assert (len(ours), sum(tensor.numel() for tensor in ours.values())) == SIZES[family, folder]
    with torch.device("meta"):
        state = theirs(folder, CONFIGS[family][folder]).state_dict()
    expected = with_prefix(state) if folder.startswith("text") else state
    assert shapes(ours) == shapes(expected)


@pytest.mark.parametrize("channels", [8, 9])  # to edit by words, and to paint in
def test_a_network_of_more_channels_differs_in_its_first_kernel_alone(channels):
    usual, more = shapes(on_meta("sd1", "unet")), shapes(on_meta("sd1", "unet", in_channels=channels))
    assert {name for name in usual if usual[name] != more[name]} == {"conv_in.weight"}
    assert more["conv_in.weight"] == (320, channels, 3, 3)


KNOWN = {  # names and shapes as they stand in the files of these families
    "sd1": {
        "model.diffusion_model.time_embed.2.weight": (1280, 1280),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.middle_block.1.norm.weight": (1280,),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),  # no attention before it
        "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),  # the last on the way up
        "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "first_stage_model.encoder.down.0.downsample.conv.weight": (128, 128, 3, 3),
        "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.post_quant_conv.weight": (4, 4, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
    },
    "sd2": {
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320),  # linear
        "cond_stage_model.model.positional_embedding": (77, 1024),
        "cond_stage_model.model.transformer.resblocks.22.attn.in_proj_weight": (3072, 1024),
        "cond_stage_model.model.ln_final.bias": (1024,),
    },
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_v.weight": (1280, 2048),
        "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.8.0.skip_connection.weight": (320, 640, 1, 1),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
        "conditioner.embedders.1.model.transformer.resblocks.31.mlp.c_fc.weight": (5120, 1280),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
    },
    "sdxl-refiner": {
        "model.diffusion_model.label_emb.0.0.weight": (1536, 2560),
        "model.diffusion_model.middle_block.1.transformer_blocks.3.attn2.to_k.weight": (1536, 1280),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1536, 1536, 3, 3),
        "conditioner.embedders.0.model.transformer.resblocks.0.attn.in_proj_bias": (3840,),
    },
}


@pytest.mark.parametrize("family", CONFIGS)
def test_a_file_of_the_real_size_is_converted_as_diffusers_does_and_back(family):
    convert = pytest.importorskip("diffusers").loaders.single_file_utils
    with torch.device("meta"):
        file = {}
        for folder, component in FAMILIES[family].items():
            file |= to_single_file(component, on_meta(family, folder))
        assert {name: tuple(file[name].shape) for name in KNOWN[family]} == KNOWN[family]
        for folder, component in FAMILIES[family].items():
            ours = on_meta(family, folder)
            own = {name: tensor for name, tensor in file.items() if name.startswith(component.prefix)}
            assert shapes(from_single_file(component, own, ours)) == shapes(ours)
            if folder == "unet":
                found = convert.convert_ldm_unet_checkpoint(
                    dict(file), {"layers_per_block": 2} | CONFIGS[family][folder]
                )
            elif folder == "vae":
                network = theirs(folder, CONFIGS[family][folder])
                found = convert.convert_ldm_vae_checkpoint(dict(file), network.config)
            elif ".transformer." in component.prefix:
                found = convert.convert_ldm_clip_checkpoint(file)
            else:
                network = theirs(folder, CONFIGS[family][folder])
                found = convert.convert_open_clip_checkpoint(network, file, component.prefix)
            assert shapes(with_prefix(found) if folder.startswith("text") else found) == shapes(ours)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny pipeline of each family, as diffusers saves it."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    root, folders = tmp_path_factory.mktemp("pipelines"), {}
    for pad in (END, "!"):
        write(root / f"tokenizer{pad[:1]}", {"pad_token": pad})
    for family, configs in TINY.items():
        torch.manual_seed(0)
        parts = {}
        for folder, config in configs.items():
            parts[folder] = theirs(folder, config)
            for name, parameter in parts[folder].named_parameters():
                # so that pictures depend on the words by far more than rounding
                torch.nn.init.normal_(parameter, std=0.6 if "attn2" in name else 0.2)
            if folder.startswith("text"):
                pad = END if folder == "text_encoder" and family != "sd2" else "!"
                name = folder.replace("text_encoder", "tokenizer")
                parts[name] = transformers.CLIPTokenizer.from_pretrained(root / f"tokenizer{pad[:1]}")
        parts["scheduler"] = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
        if family in ("sd1", "sd2"):
            none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
            pipeline = diffusers.StableDiffusionPipeline(**parts, **none)
        else:
            parts |= {name: None for name in ("text_encoder", "tokenizer") if name not in parts}
            kind = (
                diffusers.StableDiffusionXLPipeline
                if family == "sdxl"
                else diffusers.StableDiffusionXLImg2ImgPipeline
            )
            pipeline = kind(**parts, add_watermarker=False)
        folders[family] = root / family
        pipeline.save_pretrained(folders[family])
    return folders


def tensors_of(folder, family: str) -> dict[str, dict[str, torch.Tensor]]:
    files = {name: next((folder / name).glob("*.safetensors")) for name in TINY[family]}
    found = {name: load_file(file) for name, file in files.items()}
    return {name: with_prefix(own) if name.startswith("text") else own for name, own in found.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """In names, precision and every bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_from_a_folder_to_a_file_and_back_no_bit_is_lost(folders, family, precision, tmp_path):
    before = tensors_of(folders[family], family)
    before = {name: {key: value.to(precision) for key, value in own.items()} for name, own in before.items()}
    save_single_file(tmp_path / "one.safetensors", family, before)
    file = load_file(tmp_path / "one.safetensors")
    for folder, component in FAMILIES[family].items():
        own = {name: tensor for name, tensor in file.items() if name.startswith(component.prefix)}
        assert same(from_single_file(component, own, before[folder]), before[folder])
    found = load_single_file(tmp_path / "one.safetensors", TINY[family])
    assert (found.family, found.others) == (family, set())
    for folder, network in found.components.items():
        assert same(network.state_dict(), {key: value.float() for key, value in before[folder].items()})
        assert not network.training

    after = {folder: network.to(precision).state_dict() for folder, network in found.components.items()}
    save_single_file(tmp_path / "two.safetensors", family, after)
    assert same(load_file(tmp_path / "two.safetensors"), file)


@pytest.mark.parametrize("family", TINY)
def test_diffusers_opens_the_file_that_is_written(folders, family, tmp_path):
    diffusers, file = pytest.importorskip("diffusers"), tmp_path / "one.safetensors"
    before = tensors_of(folders[family], family)
    save_single_file(file, family, before)
    kinds = {"sdxl": "StableDiffusionXLPipeline", "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline"}
    pipeline = getattr(diffusers, kinds.get(family, "StableDiffusionPipeline"))
    opened = pipeline.from_single_file(str(file), config=str(folders[family]), local_files_only=True)
    for folder, own in before.items():
        found = getattr(opened, folder).state_dict()
        assert same(with_prefix(found) if folder.startswith("text") else found, own), folder


@pytest.mark.parametrize("family", TINY)
@torch.no_grad()
def test_each_network_of_a_folder_answers_as_it_does_there(folders, family):
    torch.manual_seed(3)
    folder, config = folders[family], TINY[family]["unet"]
    x, time, context = (
        torch.randn(2, 4, 16, 8),
        torch.tensor([7.0, 500.0]),
        torch.randn(2, 77, config["cross_attention_dim"]),
    )
    added = {}
    if count := {"sdxl": 6, "sdxl-refiner": 5}.get(family):
        added = {"text_embeds": torch.randn(2, 18), "time_ids": 100 * torch.rand(2, count)}
    network = pytest.importorskip("diffusers").UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    expected = network(x, time, context, added_cond_kwargs=added).sample
    torch.testing.assert_close(load_unet(folder / "unet")(x, time, context, **added), expected, rtol=0, atol=1e-5)

    network = pytest.importorskip("diffusers").AutoencoderKL.from_pretrained(folder / "vae").eval()
    ours, picture = load_autoencoder(folder / "vae"), torch.rand(1, 3, 32, 16)
    mean = network.encode(picture).latent_dist.mean
    torch.testing.assert_close(ours.encode(picture)[0], mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.decode(mean), network.decode(mean).sample, rtol=0, atol=1e-5)
    assert ours.config["scaling_factor"] == (0.13025 if "xl" in family else 0.18215)

    ids = torch.from_numpy(np.random.default_rng(0).integers(0, len(VOCABULARY), (2, 77)))
    for name in TINY[family].keys() - {"unet", "vae"}:
        expected = theirs(name, TINY[family][name]).eval()
        expected = type(expected).from_pretrained(folder / name).eval()(ids, output_hidden_states=True)
        found = load_clip(folder / name)(ids)
        torch.testing.assert_close(found.states, expected.last_hidden_state, rtol=0, atol=1e-5)


@pytest.fixture
def file(folders, tmp_path):
    """Writes the single file of a family, after a change."""

    def make(family, change=lambda tensors: None):
        path = tmp_path / "one.safetensors"
        save_single_file(path, family, tensors_of(folders[family], family))
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        return path

    return make


def test_what_is_written_has_the_historic_names_of_clip_and_the_other_spelling_is_read_too(file):
    """A converter fed with a folder of transformers 5 leaves `text_model.` out, and other programs then refuse it."""
    old, new = "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."

    def rename(tensors):
        for name in [name for name in tensors if name.startswith(old)]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    with safe_open(file("sd1"), "pt") as opened:
        assert all(name.startswith(old) for name in opened.keys() if name.startswith(new))  # noqa: SIM118
    usual = load_single_file(file("sd1"), TINY["sd1"]).components["text_encoder"].state_dict()
    renamed = load_single_file(file("sd1", rename), TINY["sd1"]).components["text_encoder"].state_dict()
    assert same(usual, renamed)


def test_what_else_a_file_holds_is_named_or_of_no_use(file):
    def add(tensors):
        tensors |= {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0), "alphas_cumprod": torch.rand(1000)}
        tensors["model_ema.diffusion_modelinput_blocks00weight"] = torch.zeros(2)
        encoder = "cond_stage_model.model."
        for name in [name for name in tensors if name.startswith(f"{encoder}transformer.resblocks.1.")]:
            tensors[name.replace(".1.", ".23.", 1)] = tensors[name].clone()  # the layer that it was trained without
        tensors |= {f"{encoder}text_projection": torch.rand(12, 12), f"{encoder}logit_scale": torch.tensor(4.6)}
        tensors["first_stage_model.loss.logvar"] = torch.tensor(0.0)

    found = load_single_file(file("sd2", add), TINY["sd2"])
    assert found.others == {"v_pred", "ztsnr", "alphas_cumprod", "model_ema.diffusion_modelinput_blocks00weight"}
    usual = load_single_file(file("sd2"), TINY["sd2"]).components
    assert all(same(found.components[name].state_dict(), usual[name].state_dict()) for name in usual)


def test_a_file_of_eight_bits_with_scales_is_read(file):
    """As fp8 of ComfyUI's older files, and as whole numbers of its newer ones."""
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q"

    def floats(tensors):
        tensors[f"{key}.weight"] = (tensors[f"{key}.weight"] * 4).to(torch.float8_e4m3fn)
        tensors |= {f"{key}.scale_weight": torch.tensor(0.25), "model.diffusion_model.scaled_fp8": torch.zeros(2)}

    def numbers(tensors):
        scale = tensors[f"{key}.weight"].abs().amax(1, keepdim=True) / 127
        tensors[f"{key}.weight"] = (tensors[f"{key}.weight"] / scale).round().to(torch.int8)
        tensors |= {
            f"{key}.weight_scale": scale,
            f"{key}.comfy_quant": torch.tensor(list(b'{"format": "int8_tensorwise"}')).byte(),
        }

    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    usual = load_single_file(file("sd1"), TINY["sd1"]).components["unet"].state_dict()[name]
    for change, error in ((floats, 0.07), (numbers, 0.005)):
        found = load_single_file(file("sd1", change), TINY["sd1"])
        weight = found.components["unet"].state_dict()[name]
        assert not found.others and 0 < (weight - usual).abs().max() < error * usual.abs().max()


@pytest.mark.parametrize("channels", [8, 9])
def test_how_many_channels_the_network_takes_is_seen_in_the_file(file, channels):
    def widen(tensors):
        tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.rand(8, channels, 3, 3)

    unet = load_single_file(file("sd1", widen), TINY["sd1"]).components["unet"]
    assert unet.config["in_channels"] == unet.conv_in.in_channels == channels


def test_whether_the_network_takes_a_guidance_scale_is_seen_in_the_file(file, tmp_path):
    projection = torch.rand(8, 6)
    path = file("sd1", lambda t: t.update({"model.diffusion_model.time_embedding.cond_proj.weight": projection}))
    parts = load_single_file(path, TINY["sd1"]).components
    assert parts["unet"].config["time_cond_proj_dim"] == 6
    assert torch.equal(parts["unet"].time_embedding.cond_proj.weight, projection)
    again = tmp_path / "again.safetensors"
    save_single_file(again, "sd1", {name: network.state_dict() for name, network in parts.items()})
    assert same(load_file(again), load_file(path))


def test_the_autoencoder_may_be_missing(file):
    def drop(tensors):
        for name in [name for name in tensors if name.startswith("first_stage_model.")]:
            del tensors[name]

    assert load_single_file(file("sdxl", drop), TINY["sdxl"]).components.keys() == TINY["sdxl"].keys() - {"vae"}


SPOILT = {
    "a tensor too few": (
        lambda t: t.pop("model.diffusion_model.out.0.bias"),
        r"unet of sd1 lacks conv_norm_out\.bias",
    ),
    "one too many": (
        lambda t: t.update({"model.diffusion_model.motion.weight": torch.ones(1)}),
        r"unet of sd1 has unexpected model\.diffusion_model\.motion\.weight",
    ),
    "another shape": (
        lambda t: t.update({"first_stage_model.quant_conv.bias": torch.ones(3)}),
        r"vae of sd1 has wrong shapes for quant_conv\.bias",
    ),
    "whole numbers": (
        lambda t: t.update({"first_stage_model.quant_conv.bias": torch.ones(8, dtype=torch.int8)}),
        r"vae of sd1 has whole numbers for quant_conv\.bias",
    ),
    "a first kernel of no channels": (
        lambda t: t.update({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, 0, 3, 3)}),
        r"unet of sd1 has wrong shapes for conv_in\.weight",
    ),
    "a first kernel of no size": (
        lambda t: t.update({"model.diffusion_model.input_blocks.0.0.weight": torch.tensor(1.0)}),
        r"unet of sd1 has wrong shapes for conv_in\.weight",
    ),
    "an attention of wide kernels": (
        lambda t: t.update({"first_stage_model.encoder.mid.attn_1.q.weight": torch.ones(12, 12, 3, 3)}),
        r"vae of sd1 has wrong shapes for encoder\.mid_block\.attentions\.0\.to_q\.weight",
    ),
    "no text encoder": (
        lambda t: [t.pop(name) for name in list(t) if name.startswith("cond_stage")],
        "no text encoder of Stable Diffusion",
    ),
    "no U-Net": (lambda t: [t.pop(name) for name in list(t) if name.startswith("model.")], "unet of sd1 lacks"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_does_not_fit_is_an_error_of_one_line_with_its_name(file, name):
    change, reason = SPOILT[name]
    path = file("sd1", change)
    with pytest.raises(UserError, match=reason) as caught:
        load_single_file(path, TINY["sd1"])
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize("shape", [(), (2,), (3,), (4, 12), (36, 12, 1)])
def test_a_tensor_of_openclip_that_does_not_fit_is_named(file, shape):
    prefix, name = "conditioner.embedders.0.model.", "transformer.resblocks.0.attn.in_proj_weight"
    with pytest.raises(UserError, match=r"text_encoder_2 of sdxl-refiner has wrong shapes for text_model\.encoder"):
        load_single_file(
            file("sdxl-refiner", lambda t: t.update({prefix + name: torch.ones(shape)})), TINY["sdxl-refiner"]
        )
    change = {f"{prefix}text_projection": torch.ones(shape)}
    with pytest.raises(
        UserError, match=r"text_encoder_2 of sdxl-refiner has wrong shapes for text_projection\.weight"
    ):
        load_single_file(file("sdxl-refiner", lambda t: t.update(change)), TINY["sdxl-refiner"])


def test_a_family_is_written_whole_or_not_at_all(folders, tmp_path):
    parts = tensors_of(folders["sdxl"], "sdxl")
    with pytest.raises(UserError, match="single file of sd1 has unet, vae, text_encoder, not"):
        save_single_file(tmp_path / "x.safetensors", "sd1", parts)
    with pytest.raises(UserError, match="unknown family 'sd3'"):
        save_single_file(tmp_path / "x.safetensors", "sd3", parts)
    assert not list(tmp_path.iterdir())


def test_former_names_of_the_autoencoder_are_read(folders, tmp_path):
    """Of Stable Diffusion 1's own folder."""
    tensors = load_file(folders["sd1"] / "vae" / "diffusion_pytorch_model.safetensors")
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in tensors.items():
        for now, then in former.items():
            name = name.replace(f".{now}.", f".{then}.")
        renamed[name] = tensor
    assert len(renamed.keys() - tensors.keys()) == 16
    config = json.loads((folders["sd1"] / "vae" / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(renamed, tmp_path / "diffusion_pytorch_model.safetensors")
    assert same(load_autoencoder(tmp_path).state_dict(), tensors)


@pytest.mark.parametrize("spelling", ["first program", "with its prefix", "diffusers", "a whole file"])
def test_an_autoencoder_of_a_file_is_read_in_every_spelling(file, folders, tmp_path, spelling):
    path, prefix = file("sd1"), "first_stage_model."
    tensors, own = load_file(path), load_file(next((folders["sd1"] / "vae").glob("*.safetensors")))
    ours = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    found = {"first program": ours, "with its prefix": {prefix + name: tensor for name, tensor in ours.items()}}
    save_file((found | {"diffusers": own, "a whole file": tensors})[spelling], tmp_path / "vae.safetensors")
    assert same(load_vae(tmp_path / "vae.safetensors", TINY["sd1"]["vae"]).state_dict(), own)


def test_a_file_of_another_network_is_no_autoencoder(folders):
    wrong = next((folders["sd1"] / "unet").glob("*.safetensors"))
    with pytest.raises(UserError, match="the VAE lacks") as error:
        load_vae(wrong, TINY["sd1"]["vae"])
    assert str(error.value).startswith(str(wrong))
