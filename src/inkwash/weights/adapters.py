"""Which adapter a file holds (LoRA and its kin), and for which family, by its modules' names and sizes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from inkwash.weights.headers import Tensor

# how the names of its matrices end, after a module's: those of kohya, diffusers, PEFT and XLabs, then of LyCORIS
LORA = re.compile(r"(?:[._]lora\d?[._](?:linear_layer\.)?)(down|up|mid|A|B)(?:\.\w+)?(?:\.weight)?")
LYCORIS = re.compile(r"\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|oft_blocks|oft_diag|dora_scale)")
# what stands before a module's own name where that has dots
COMPONENT = re.compile(r"(?:base_model\.model\.)?(?:model\.)?(?:transformer|diffusion_model|unet)\.")
DORA = "lora_magnitude_vector"  # of PEFT
FLUX, FLUX2, CHROMA, HUNYUAN, QWEN = "Flux 1", "Flux 2 klein 4B", "Chroma", "HunyuanVideo", "Qwen-Image"
KLEIN, DEV, QWEN21, KREA = "Flux 2 klein 9B", "Flux 2 dev", "Qwen-Image 2.1", "Krea 2"
FLUX3, AURA, LTX, LTX13, LTX2 = "Flux 3 klein", "AuraFlow", "LTX-Video 2B", "LTX-Video 13B", "LTX-2"
COSMOS, ANIMA, SVD = "Cosmos Predict2 2B", "Anima", "Stable Video Diffusion"

UNET = r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)_\w*attn2_to_[kv]"
JOINT = r"(?<!single_)(?<!joint_)(?<!_\d_)transformer_blocks_\d+_"
SINGLE = r"single_transformer_blocks_\d+_"
DOUBLE = r"double_blocks_\d+_(?:img|txt)_"
LAYER = r"(?:layers|noise_refiner|context_refiner)_\d+_"
BLOCK = r"(?<!transformer_)(?<!double_)(?<!single_)(?<!joint_)(?<!down_)(?<!up_)(?<!input_)(?<!output_)blocks_\d+_"


def _flux2(name: str, width: int) -> list[tuple[tuple[str, ...], str, int | None, int]]:
    return [
        ((name,), JOINT + "ff(?:_context)?_linear_in", 6 * width, width),
        ((name,), SINGLE + "attn_to_qkv_mlp_proj", 9 * width, width),
        ((name,), DOUBLE + "mlp_0", 6 * width, width),
        ((name,), r"single_blocks_\d+_linear1", 9 * width, width),
    ]


# the families that have such a module (dots as underscores), with its outputs and inputs
MODULES: list[tuple[tuple[str, ...], str, int | None, int]] = [
    (("SD 1",), UNET, None, 768),
    (("SD 2", SVD), UNET, None, 1024),
    (("SD 2",), r"te_text_model_encoder_layers_\d+_self_attn_[qkv]_proj", 1024, 1024),
    ((SVD,), UNET.replace("attn2", "temporal_transformer_blocks_0_attn1"), None, 320),
    (("SDXL",), UNET, None, 2048),
    (("SDXL refiner",), UNET, None, 1280),
    (("SD 3 or 3.5 medium",), JOINT + "attn_(?:to|add)_[qkv](?:_proj)?", 1536, 1536),
    (("SD 3 or 3.5 medium",), r"joint_blocks_\d+_(?:x|context)_block_attn_qkv", 4608, 1536),
    (("SD 3.5 large",), JOINT + "attn_(?:to|add)_[qkv](?:_proj)?", 2432, 2432),
    (("SD 3.5 large",), r"joint_blocks_\d+_(?:x|context)_block_attn_qkv", 7296, 2432),
    ((FLUX, CHROMA, HUNYUAN, FLUX2), DOUBLE + "attn_qkv", 9216, 3072),
    ((FLUX, CHROMA, HUNYUAN), r"single_blocks_\d+_linear1", 21504, 3072),
    ((FLUX, CHROMA), DOUBLE + "mlp_0", 12288, 3072),
    ((FLUX,), DOUBLE + "mod_lin", 18432, 3072),
    ((FLUX,), r"single_blocks_\d+_modulation_lin", 9216, 3072),
    ((FLUX,), r"double_blocks_\d+_processor_qkv", 9216, 3072),
    ((FLUX, CHROMA, HUNYUAN, FLUX2, QWEN), JOINT + "attn_(?:to|add)_[qkv](?:_proj)?", 3072, 3072),
    ((FLUX, CHROMA, HUNYUAN, FLUX3, AURA), SINGLE + "attn_to_[qkv]", 3072, 3072),
    ((FLUX, CHROMA, HUNYUAN), SINGLE + "proj_mlp", 12288, 3072),
    ((FLUX, CHROMA, HUNYUAN), JOINT + "ff(?:_context)?_net_0_proj", 12288, 3072),
    ((FLUX, HUNYUAN), JOINT + "norm1(?:_context)?_linear", 18432, 3072),
    *_flux2(FLUX2, 3072),
    *_flux2(KLEIN, 4096),
    *_flux2(DEV, 6144),
    ((KLEIN,), DOUBLE + "attn_qkv", 12288, 4096),
    ((DEV,), DOUBLE + "attn_qkv", 18432, 6144),
    ((KLEIN, QWEN21), JOINT + "attn_to_[qkv]", 4096, 4096),
    ((DEV, KREA), JOINT + "attn_to_q", 6144, 6144),
    ((DEV,), JOINT + "attn_to_[kv]", 6144, 6144),
    ((KREA,), JOINT + "attn_to_[kv]", 1536, 6144),
    ((KREA,), BLOCK + "attn_w[qo]", 6144, 6144),
    ((KREA,), BLOCK + "attn_w[kv]", 1536, 6144),
    ((FLUX3,), r"(?:content_)?mode_blocks_image_\d+_(?:attn_to_)?[qkv](?:_proj)?", 3072, 3072),
    ((QWEN,), JOINT + "(?:img|txt)_mlp_net_0_proj", 12288, 3072),
    ((QWEN,), JOINT + "(?:img|txt)_mod_1", 18432, 3072),
    ((QWEN21,), JOINT + "img_mlp_(?:proj|gate_layer)", 12288, 4096),
    (("Z-Image",), LAYER + "attention_to_[qkv]", 3840, 3840),
    (("Z-Image",), LAYER + "attention_qkv", 11520, 3840),
    (("Z-Image",), LAYER + "feed_forward_w1", 10240, 3840),
    (("Lumina 2",), LAYER + "attn_to_q", 2304, 2304),
    (("Lumina 2",), LAYER + "attention_qkv", 3840, 2304),
    ((COSMOS, ANIMA), BLOCK + "self_attn_[qkv]_proj", 2048, 2048),
    (("Cosmos Predict2 14B",), BLOCK + "self_attn_[qkv]_proj", 5120, 5120),
    (("Cosmos Predict2 14B",), JOINT + "attn1_to_[qkv]", 5120, 5120),
    *(
        ((f"Wan {name}",), BLOCK + attention, width, width)
        for name, width in (("1.3B", 1536), ("14B", 5120), ("5B", 3072))
        for attention in ("(?:self|cross)_attn_[qkvo]", "attn[12]_to_[qkv]")
    ),
    ((LTX, COSMOS, ANIMA), JOINT + "attn(?:1_to_[qkv]|2_to_q)", 2048, 2048),
    ((LTX,), JOINT + "attn2_to_[kv]", 2048, 2048),
    ((COSMOS, ANIMA), JOINT + "attn2_to_[kv]", 2048, 1024),
    ((LTX13, LTX2), JOINT + "attn[12]_to_[qkv]", 4096, 4096),
    ((LTX2,), JOINT + "audio_attn[12]_to_[qkv]", 2048, 2048),
    ((FLUX, CHROMA), "x_embedder", 3072, 64),
    ((HUNYUAN,), DOUBLE + "mlp_fc1", 12288, 3072),
    ((HUNYUAN,), r"context_embedder_token_refiner_\w+", None, 3072),
    ((AURA,), r"joint_transformer_blocks_\d+_attn_(?:to|add)_[qkv](?:_proj)?", 3072, 3072),
    (("HiDream-I1",), r"(?:double|single)_stream_blocks_\d+_block_attn1_to_[qkv]", 2560, 2560),
    ((HUNYUAN,), DOUBLE + "mod_linear", 18432, 3072),
]
PATTERNS: dict[int, list[tuple[tuple[str, ...], re.Pattern[str], int | None]]] = {}
for _names, _pattern, _out, _inner in MODULES:
    PATTERNS.setdefault(_inner, []).append((_names, re.compile(f"(?:.*_)?{_pattern}"), _out))


class Adapter(NamedTuple):
    """rank: the most frequent, 0 where there is none. families: those that it can be for; none where two of its
    modules do not agree, or fewer than two tell."""

    kind: str
    rank: int
    modules: int
    families: tuple[str, ...]


def adapter_of(tensors: Mapping[str, Tensor]) -> Adapter | None:
    """None for what holds no whole pair of matrices."""
    names = "\n".join(tensors)
    if not any(word in names for word in ("lora", "hada_", "lokr_", "oft_")):  # most checkpoints: nothing is matched
        return None
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in tensors:
        start = max(name.rfind("lora") - 1, 0) if name.endswith(("weight", "_A", "_B", "vector")) else name.rfind(".")
        if part := _part(name[start:]):
            modules.setdefault(name[:start], {})[part] = tensors[name].shape
    parts = {part for module in modules.values() for part in module}
    pairs = {name: size for name, module in modules.items() if (size := _size(module))}
    if not pairs and not parts & {"oft_blocks", "oft_diag"}:
        return None
    ranks = Counter(
        module["down"][0] for module in modules.values() if "up" in module and len(module.get("down", ())) > 1
    )
    ranks += Counter(module["hada_w1_b"][0] for module in modules.values() if len(module.get("hada_w1_b", ())) == 2)
    rank = ranks.most_common(1)[0][0] if ranks else 0
    return Adapter(_kind(modules, parts), rank, len(modules), _families(pairs))


@lru_cache(1000)
def _part(ending: str) -> str:
    """Which matrix a name with this ending is; nothing for one of no adapter."""
    if DORA in ending:
        return DORA
    found = LORA.fullmatch(ending) or LYCORIS.fullmatch(ending)
    return {"A": "down", "B": "up"}.get(found[1], found[1]) if found else ""


def _kind(modules: Mapping[str, Mapping[str, tuple[int, ...]]], parts: set[str]) -> str:
    wide = any(len(module.get("down", ())) == 4 and module["down"][-1] > 1 for module in modules.values())
    kinds = (
        ("LoKr", any(part.startswith("lokr_") for part in parts)),
        ("LoHa", any(part.startswith("hada_") for part in parts)),
        ("OFT", bool(parts & {"oft_blocks", "oft_diag"})),
        ("LoCon", wide),
        ("LoRA", "down" in parts),
    )
    kind = next(kind for kind, is_one in kinds if is_one)
    return f"{kind} with DoRA" if parts & {"dora_scale", DORA} else kind


def _size(module: Mapping[str, tuple[int, ...]]) -> tuple[int, int] | None:
    """Outputs and inputs of the matrix that it changes; None where they do not follow."""
    if (up := module.get("up")) and (down := module.get("down")) and len(up) > 1 and len(down) > 1:
        return up[0], down[1]
    if "hada_w1_a" in module and "hada_w1_b" in module and "hada_w2_a" in module and "hada_w2_b" in module:
        first, second = module["hada_w1_a"], module["hada_w1_b"]
        return (first[0], second[1]) if len(first) == len(second) == 2 else None
    sides = []
    for number in "12":
        whole = module.get(f"lokr_w{number}")
        left, right = module.get(f"lokr_w{number}_a"), module.get(f"lokr_w{number}_b")
        if whole and len(whole) > 1:
            sides.append(whole[:2])
        elif left and right and len(right) > 1:
            sides.append((left[0], right[1]))
    return (sides[0][0] * sides[1][0], sides[0][1] * sides[1][1]) if len(sides) == 2 else None


def _families(sizes: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    candidates: set[str] | None = None
    seen = 0
    for name, (outputs, inputs) in sizes.items():
        module = COMPONENT.sub("", name, count=1).replace(".", "_")
        for families, pattern, out in PATTERNS.get(inputs, ()):
            if out in (None, outputs) and pattern.fullmatch(module):
                candidates, seen = set(families) if candidates is None else candidates & set(families), seen + 1
                break
    return tuple(sorted(candidates)) if candidates and seen > 1 else ()
