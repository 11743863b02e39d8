import inspect
import re
from pathlib import Path

import diffusers.loaders.single_file_utils as single_file_utils
import pytest
import torch
import transformers
from diffusers import T2IAdapter  # noqa: F401  # the package as a whole, before its parts

from inkwash.weights.families import ENCODER, FAMILIES, MODEL, PREFIXES, VISION, family_of, find
from inkwash.weights.headers import Tensor
from tests.weights.checkpoints import CONVERTERS, NETWORKS, published, single_file, tensors

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers, about its own configurations
ALL = range(len(NETWORKS))
NAMES = [f"{network.family}-{number}" for number, network in enumerate(NETWORKS)]
SINGLE = [number for number in ALL if NETWORKS[number].original]


def named(header):
    family = family_of(header)
    return family.name if family else None


@pytest.mark.parametrize("number", ALL, ids=NAMES)
def test_a_network_of_diffusers_is_named(number):
    assert named(tensors(published(number))) == NETWORKS[number].family


@pytest.mark.parametrize("number", SINGLE, ids=[NAMES[n] for n in SINGLE])
def test_the_same_under_the_names_of_single_files_is_named_with_each_prefix(number):
    header = tensors(single_file(number))
    own = re.compile(r"(model\.diffusion_model|net|first_stage_model)\.")
    bare = {own.sub("", name, count=1) if own.match(name) else name: tensor for name, tensor in header.items()}
    for prefix in ("", "model.diffusion_model.", "diffusion_model."):
        assert named({prefix + name: tensor for name, tensor in bare.items()}) == NETWORKS[number].family
    assert named(header) == NETWORKS[number].family


@pytest.mark.parametrize("number", [n for n in SINGLE if NETWORKS[n].convert])
def test_those_names_are_what_diffusers_converts_to_its_own(number):
    network = NETWORKS[number]
    checkpoint = {name: torch.empty(shape, device="meta") for name, shape in single_file(number).items()}
    config = network.config
    if network.original in ("unet", "vae"):
        kind = getattr(__import__("diffusers"), network.of)
        config = {k: v.default for k, v in inspect.signature(kind.__init__).parameters.items()} | config
    converted = getattr(single_file_utils, CONVERTERS[network.convert])(checkpoint, config=config)
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == published(number)


def test_each_family_of_networks_is_among_the_cases():
    # in no class of diffusers: the tensors by which these are told were read in the code of the tools that load them
    others = {"SSD-1B", "Segmind Vega", "Playground 2.5", "Stable Cascade prior", "Anima"}
    others |= {family.name for family in FAMILIES if "v-prediction" in family.name}
    models = {family.name for family in FAMILIES if family.kind in (MODEL, "VAE", "preview decoder")}
    assert models - others == {network.family for network in NETWORKS}


PEERS = {
    "SD 1": "v1",
    "SD 1 inpainting": "inpainting",
    "SD 1 pix2pix": "instruct-pix2pix",
    "SD 2": "v2",
    "SD 2 inpainting": "inpainting_v2",
    "SD 3 medium": "sd3",
    "SD 3.5 medium": "sd35_medium",
    "Chroma": "chroma",
    "Flux 1 dev (also Krea, Kontext)": "flux-dev",
    "Flux 1 schnell": "flux-schnell",
    "Flux 1 Fill": "flux-fill",
    "Flux 1 Canny or Depth": "flux-depth",
    "Flux 2 dev": "flux-2-dev",
    "Flux 3 klein": "flux-3-image",
    "Z-Image (also Turbo)": "z-image-turbo",
    "Lumina 2": "lumina2",
    "Krea 2": "krea2",
    "Qwen-Image 2.1": "qwen-image-2.1",
    "Wan 2.1 text-to-video 1.3B": "wan-t2v-1.3B",
    "Wan 2.1 or 2.2 text-to-video 14B": "wan-t2v-14B",
    "Wan 2.1 image-to-video 14B": "wan-i2v-14B",
    "LTX-Video 13B": "ltx-video-0.9.7",
}


@pytest.mark.parametrize("family", PEERS)
def test_diffusers_own_detection_agrees(family):
    number = next(n for n in ALL if NETWORKS[n].family == family)
    shapes = single_file(number) if NETWORKS[number].original else published(number)
    checkpoint = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert single_file_utils.infer_diffusers_model_type(checkpoint) == PEERS[family]


MARKS = [(family, marks) for family in FAMILIES for marks in family.marks]


def some(shape):
    return Tensor("F16", tuple(7 if n is None else n for n in shape or ()))


def test_each_family_has_two_marks_and_neither_alone_nor_in_another_shape_does_it_suffice():
    for family, marks in MARKS:
        header = {key: some(shape) for key, shape in marks.items()}
        assert len(marks) > 1 and named(header) == family.name
        for key, shape in marks.items():
            assert named({key: header[key]}) is None
            assert named({name: tensor for name, tensor in header.items() if name != key}) != family.name
            if shape and None not in shape:
                other = Tensor("F16", (shape[0] + 1, *shape[1:]))
                assert named(header | {key: other}) != family.name
        for key in family.absent:
            assert named(header | {key: Tensor("F16", (1,))}) != family.name


def test_headers_that_share_one_key_with_a_family_are_not_named_after_it():
    first = {family.name: next(iter(family.marks[0].items())) for family in FAMILIES}
    known = {key for family, marks in MARKS for key in (*marks, *family.absent)}
    for number in ALL:
        small = {key: tensor for key, tensor in tensors(published(number)).items() if key in known}
        for family, (key, shape) in first.items():
            if family != NETWORKS[number].family and not find(small, key):
                assert named({**small, key: some(shape)}) != family


def test_no_prefix_makes_two_of_one_name():
    assert len(set(PREFIXES)) == len(PREFIXES)
    assert not [1 for family in FAMILIES for other in FAMILIES if family is not other and family[:2] == other[:2]]


T = transformers
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
QWEN3 = {"vocab_size": 151936, "head_dim": 128, "num_hidden_layers": 1}
QWEN25 = {"vocab_size": 152064, "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}
MISTRAL = {"vocab_size": 131072, "hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 1}
LLAMA = {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 1}
GEMMA = {"vocab_size": 256000, "hidden_size": 2304, "num_hidden_layers": 1}
VIT_L = {
    "num_attention_heads": 16,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
VIT_H = {
    "num_attention_heads": 16,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "patch_size": 14,
}
VIT_G = {
    "num_attention_heads": 16,
    "hidden_size": 1664,
    "intermediate_size": 8192,
    "num_hidden_layers": 48,
    "patch_size": 14,
}
ENCODERS = {
    "CLIP-L": (T.CLIPTextModel, T.CLIPTextConfig(**CLIP_L)),
    "OpenCLIP-H": (T.CLIPTextModelWithProjection, T.CLIPTextConfig(**CLIP_H)),
    "OpenCLIP-bigG": (T.CLIPTextModelWithProjection, T.CLIPTextConfig(**CLIP_G)),
    "T5-XXL": (T.T5EncoderModel, T.T5Config(vocab_size=32128, **XXL)),
    "UMT5-XXL": (T.UMT5EncoderModel, T.UMT5Config(vocab_size=256384, **XXL)),
    "Qwen3 0.6B": (T.Qwen3Model, T.Qwen3Config(hidden_size=1024, **QWEN3)),
    "Qwen3 4B": (T.Qwen3ForCausalLM, T.Qwen3Config(hidden_size=2560, **QWEN3)),
    "Qwen3 8B": (T.Qwen3Model, T.Qwen3Config(hidden_size=4096, **QWEN3)),
    "Qwen3-VL 4B": (
        T.Qwen3VLForConditionalGeneration,
        T.Qwen3VLConfig(text_config={"hidden_size": 2560, **QWEN3}),
    ),
    "Qwen3-VL 8B": (
        T.Qwen3VLForConditionalGeneration,
        T.Qwen3VLConfig(text_config={"hidden_size": 4096, **QWEN3}),
    ),
    "Qwen2.5-VL 7B": (
        T.Qwen2_5_VLForConditionalGeneration,
        T.Qwen2_5_VLConfig(text_config={**QWEN25, "num_hidden_layers": 1}),
    ),
    "Gemma 2 2B": (T.Gemma2Model, T.Gemma2Config(**GEMMA)),
    "Llama 3.1 8B": (T.LlamaForCausalLM, T.LlamaConfig(**LLAMA)),
    "Mistral Small 24B": (T.MistralModel, T.MistralConfig(**MISTRAL)),
    "CLIP's image encoder ViT-L": (T.CLIPVisionModelWithProjection, T.CLIPVisionConfig(**VIT_L)),
    "CLIP's image encoder ViT-H": (T.CLIPVisionModelWithProjection, T.CLIPVisionConfig(**VIT_H)),
    "CLIP's image encoder ViT-bigG": (T.CLIPVisionModelWithProjection, T.CLIPVisionConfig(**VIT_G)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_transformers_is_named(name):
    kind, config = ENCODERS[name]
    with torch.device("meta"):
        header = tensors({key: tuple(tensor.shape) for key, tensor in kind(config).state_dict().items()})
    assert named(header) == name
    if name == "CLIP-L":  # as transformers 4 wrote it
        assert named({f"text_model.{key}": tensor for key, tensor in header.items()}) == name


def test_each_encoder_is_among_the_cases():
    assert {family.name for family in FAMILIES if family.kind in (ENCODER, VISION)} == set(ENCODERS)


def test_how_an_sdxl_is_sampled_is_told_by_its_tensors():
    network = tensors(single_file(next(n for n in ALL if NETWORKS[n].family == "SDXL")))
    scalar = Tensor("F32", ())
    for keys, name in (
        (("v_pred",), "SDXL v-prediction"),
        (("v_pred", "ztsnr"), "SDXL v-prediction, zero terminal SNR"),
        (("edm_mean", "edm_std"), "Playground 2.5"),
        (("edm_vpred.sigma_max",), "SDXL v-prediction of EDM (CosXL)"),
    ):
        assert named(network | dict.fromkeys(keys, scalar)) == name


def test_smaller_kin_of_sdxl_are_told_by_their_depth():
    network = tensors(single_file(next(n for n in ALL if NETWORKS[n].family == "SDXL")))
    for name, depth in (("SSD-1B", 4), ("Segmind Vega", 2), (None, 3)):
        cut = {
            k: t
            for k, t in network.items()
            if not any(f"input_blocks.7.1.transformer_blocks.{n}." in k for n in range(depth, 10))
        }
        assert named(cut) == name


CONTROLS = {
    "SD 1": ("ControlNetModel", {"cross_attention_dim": 768}),
    "SD 2": ("ControlNetModel", {"cross_attention_dim": 1024}),
    "Flux 1": ("FluxControlNetModel", {"num_layers": 1, "num_single_layers": 1}),
    "Qwen-Image": ("QwenImageControlNetModel", {"num_layers": 1}),
    "SD 3 or 3.5 medium": (
        "SD3ControlNetModel",
        {"num_layers": 1, "num_attention_heads": 24, "caption_projection_dim": 1536},
    ),
    "SD 3.5 large": (
        "SD3ControlNetModel",
        {"num_layers": 1, "num_attention_heads": 38, "caption_projection_dim": 2432},
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_controlnet_is_named_after_the_model_that_it_steers(name):
    of, config = CONTROLS[name]
    with torch.device("meta"):
        network = getattr(__import__("diffusers"), of)(**config)
    header = tensors({key: tuple(tensor.shape) for key, tensor in network.state_dict().items()})
    family = family_of(header)
    assert family and (family.kind, family.name) == ("ControlNet", name)


def verified(family):
    """How the tensors of a family were checked here."""
    networks = [network for network in NETWORKS if network.family == family.name]
    if family.kind in (MODEL, "VAE", "preview decoder") and networks:
        return "diffusers" if any(n.convert for n in networks) or not networks[0].original else "diffusers' class"
    if family.kind == "ControlNet" and family.name in CONTROLS:
        return "diffusers"
    return "transformers" if family.name in ENCODERS else "read"


def test_the_page_lists_each_family_with_its_tensors():
    """Those of its first spelling."""
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        told = ", ".join(
            f"`{key}`" + ("" if shape is None else f" {written(shape)}") for key, shape in family.marks[0].items()
        )
        assert f"| {family.name} | {family.kind} | {told} | {verified(family)} |\n" in page


def written(shape):
    return " × ".join("any" if n is None else str(n) for n in shape)
