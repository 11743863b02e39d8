import pytest

from inkwash.weights.adapters import adapter_of
from inkwash.weights.headers import Tensor
from tests.weights.checkpoints import NETWORKS, published, single_file

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers, about its own configurations
SPELLINGS = {
    "kohya": ("lora_unet_{}.lora_{}.weight", ("down", "up"), "_"),
    "diffusers": ("transformer.{}.lora_{}.weight", ("A", "B"), "."),
    "older diffusers": ("unet.{}.lora.{}.weight", ("down", "up"), "."),
    "BFL and others": ("diffusion_model.{}.lora_{}.weight", ("A", "B"), "."),
    "PEFT": ("base_model.model.{}.lora_{}.default.weight", ("A", "B"), "."),
    "older PEFT, bare": ("{}.lora_{}.weight", ("A", "B"), "."),
}
# for which an adapter of a network's every matrix is; where it is for none, its base is not told
BASES = {
    "SD 1": "SD 1",
    "SD 2": "SD 2 or Stable Video Diffusion",
    "SDXL": "SDXL",
    "SDXL refiner": "SDXL refiner",
    "Stable Video Diffusion": "Stable Video Diffusion",
    "SD 3 medium": "SD 3 or 3.5 medium",
    "SD 3.5 medium": "SD 3 or 3.5 medium",
    "SD 3.5 large or large turbo": "SD 3.5 large",
    "Chroma": "Chroma or Flux 1",
    "Flux 1 dev (also Krea, Kontext)": "Flux 1",
    "Flux 2 dev": "Flux 2 dev",
    "Flux 2 klein 9B": "Flux 2 klein 9B",
    "Flux 2 klein 4B": "Flux 2 klein 4B",
    "Flux 3 klein": "Flux 3 klein",
    "Qwen-Image 2.1": "Qwen-Image 2.1",
    "Qwen-Image (also Edit)": "Qwen-Image",
    "Z-Image (also Turbo)": "Z-Image",
    "Lumina 2": "Lumina 2",
    "Krea 2": "Krea 2",
    "Cosmos Predict2 2B": "Anima or Cosmos Predict2 2B",
    "Cosmos Predict2 14B": "Cosmos Predict2 14B",
    "Wan 2.1 text-to-video 1.3B": "Wan 1.3B",
    "Wan 2.1 or 2.2 text-to-video 14B": "Wan 14B",
    "Wan 2.2 5B": "Wan 5B",
    "LTX-Video 2B": "LTX-Video 2B",
    "LTX-Video 13B": "LTX-2 or LTX-Video 13B",
    "LTX-2": "LTX-2",
    "HunyuanVideo": "HunyuanVideo",
    "HiDream-I1": "HiDream-I1",
    "AuraFlow": "AuraFlow",
    "Sana 1.6B": "",
    "Ideogram 4": "",
    "ERNIE-Image": "",
}
# what their networks' attention alone leaves open
ATTENTION = {
    "Flux 1 dev (also Krea, Kontext)": "Chroma or Flux 1 or HunyuanVideo",
    "Chroma": "Chroma or Flux 1 or HunyuanVideo",
    "Qwen-Image (also Edit)": "Chroma or Flux 1 or Flux 2 klein 4B or HunyuanVideo or Qwen-Image",
    "Qwen-Image 2.1": "Flux 2 klein 9B or Qwen-Image 2.1",
}


def matrices(shapes):
    return {name.removesuffix(".weight"): s for name, s in shapes.items() if name.endswith(".weight") and len(s) == 2}


def lora(sizes, spelling, rank=4):
    form, (down, up), dot = SPELLINGS[spelling]
    header = {}
    for name, (outputs, inputs) in sizes.items():
        module = name.removeprefix("model.diffusion_model.").removeprefix("net.").replace(".", dot)
        header[form.format(module, down)] = Tensor("F16", (rank, inputs))
        header[form.format(module, up)] = Tensor("F16", (outputs, rank))
    return header


def base(header):
    return " or ".join(adapter_of(header).families)


@pytest.mark.parametrize("family", BASES)
def test_the_base_of_a_lora_is_told_in_each_spelling(family):
    number = next(n for n, network in enumerate(NETWORKS) if network.family == family)
    own = matrices(published(number))
    for spelling in set(SPELLINGS) - {"kohya"}:
        assert base(lora(own, spelling)) == BASES[family]
    attention = {name: size for name, size in own.items() if "attn" in name or "attention" in name}
    assert base(lora(attention, "diffusers")) == ATTENTION.get(family, BASES[family])
    if NETWORKS[number].convert:  # then its names are those of the single file, whole
        assert base(lora(matrices(single_file(number)), "kohya")) in (BASES[family], "Flux 1 or HunyuanVideo")


def test_two_modules_that_do_not_agree_leave_the_base_open():
    key = "lora_unet_down_blocks_0_attentions_{}_transformer_blocks_0_attn2_to_k"
    first, second = {key.format(0): (320, 768)}, {key.format(1): (320, 1024)}
    form = "{}.lora_{}.weight"
    header = {form.format(k, "down"): Tensor("F16", (4, s[1])) for k, s in (first | second).items()}
    header |= {form.format(k, "up"): Tensor("F16", (s[0], 4)) for k, s in (first | second).items()}
    assert base(header) == ""
    assert base({k: t for k, t in header.items() if "attentions_0" in k}) == ""  # one alone says too little


KEYS = [
    f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn2_to_k" for block in ("down_blocks_1", "up_blocks_1")
]


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("LoRA", {"lora_down.weight": (8, 768), "lora_up.weight": (640, 8), "alpha": ()}),
        ("LoRA with DoRA", {"lora_down.weight": (8, 768), "lora_up.weight": (640, 8), "dora_scale": (640, 1)}),
        ("LoRA with DoRA", {"lora_A.weight": (8, 768), "lora_B.weight": (640, 8), "lora_magnitude_vector": (640,)}),
        ("LoHa", {"hada_w1_a": (640, 8), "hada_w1_b": (8, 768), "hada_w2_a": (640, 8), "hada_w2_b": (8, 768)}),
        ("LoKr", {"lokr_w1": (8, 8), "lokr_w2_a": (80, 4), "lokr_w2_b": (4, 96)}),
        ("LoKr", {"lokr_w1_a": (8, 2), "lokr_w1_b": (2, 8), "lokr_w2": (80, 96)}),
        ("LoKr with DoRA", {"lokr_w1": (8, 8), "lokr_w2": (80, 96), "dora_scale": (1, 768)}),
    ],
)
def test_each_kind_gives_the_size_of_the_matrix_that_it_changes(kind, shapes):
    adapter = adapter_of({f"{key}.{part}": Tensor("F16", shape) for key in KEYS for part, shape in shapes.items()})
    assert (adapter.kind, adapter.families, adapter.modules) == (kind, ("SD 1",), 2)
    assert adapter.rank == (0 if kind.startswith("LoKr") else 8)


def test_a_lora_of_wide_convolutions_is_a_locon_and_oft_is_named():
    key = "lora_unet_down_blocks_0_resnets_0_conv1"
    wide = {
        f"{key}.lora_down.weight": Tensor("F16", (8, 320, 3, 3)),
        f"{key}.lora_up.weight": Tensor("F16", (320, 8, 1, 1)),
    }
    assert adapter_of(wide).kind == "LoCon"
    assert adapter_of({f"{key}.oft_blocks": Tensor("F16", (4, 8, 8))}).kind == "OFT"


def test_half_a_pair_and_whole_networks_are_no_adapters():
    for half in ("lora_down.weight", "lora_up.weight", "hada_w1_a", "lokr_w1"):
        assert adapter_of({f"{KEYS[0]}.{half}": Tensor("F16", (8, 768))}) is None
    assert adapter_of({name: Tensor("F16", shape) for name, shape in published(0).items()}) is None


def test_attention_processors_of_older_diffusers_and_of_xlabs_are_read():
    older = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_{}_lora.{}.weight"
    header = {older.format(k, "down"): Tensor("F16", (4, 768)) for k in "kv"}
    header |= {older.format(k, "up"): Tensor("F16", (1280, 4)) for k in "kv"}
    assert adapter_of(header).rank == 4
    xlabs = "double_blocks.{}.processor.qkv_lora{}.{}.weight"
    header = {xlabs.format(n, k, "down"): Tensor("F16", (16, 3072)) for n in range(3) for k in (1, 2)}
    header |= {xlabs.format(n, k, "up"): Tensor("F16", (9216, 16)) for n in range(3) for k in (1, 2)}
    assert base(header) == "Flux 1"
