"""Which network a file holds, by the names and shapes of its tensors.

A family is named by at least two tensors, and by nothing else: not by the file's name or folder. What fits none is
unknown, which is better than a wrong name. docs/checkpoints.md lists the keys, and how each was verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from inkwash.weights.headers import Tensor

Shape = tuple[int | None, ...] | None  # None: a dimension of any size; instead of a shape, any shape
Marks = Mapping[str, Shape]

# what tools put before the names of a network's tensors
PREFIXES = (
    "", "model.diffusion_model.", "diffusion_model.", "net.", "model.", "transformer.", "text_model.",
    "first_stage_model.", "vae.", "model.language_model.", "language_model.model.", "transformer.text_model.",
    "control_model.",
)  # fmt: skip

MODEL, VAE, PREVIEW, ENCODER, VISION = "diffusion model", "VAE", "preview decoder", "text encoder", "image encoder"
CONTROL, IP_ADAPTER, EMBEDDING, UPSCALER = "ControlNet", "IP-Adapter", "embedding", "upscaler"

# companions, each a family below
SD_VAE, SIXTEEN_VAE, FLUX2_VAE, WAN_VAE = "SD 1, SD 2 or SDXL", "SD 3 or Flux 1", "Flux 2", "Wan 2.1 or Qwen-Image"
WAN22_VAE, QWEN21_VAE, LTX_VAE, HUNYUAN_VAE = "Wan 2.2 5B", "Qwen-Image 2.1", "LTX-Video or LTX-2", "HunyuanVideo"
CLIP_L, CLIP_H, CLIP_G, T5, UMT5 = "CLIP-L", "OpenCLIP-H", "OpenCLIP-bigG", "T5-XXL", "UMT5-XXL"
QWEN_06, QWEN_4, QWEN_8, QWEN_25_VL = "Qwen3 0.6B", "Qwen3 4B", "Qwen3 8B", "Qwen2.5-VL 7B"
QWEN_VL_4, QWEN_VL_8, GEMMA, LLAMA = "Qwen3-VL 4B", "Qwen3-VL 8B", "Gemma 2 2B", "Llama 3.1 8B"
MISTRAL = "Mistral Small 24B"


class Family(NamedTuple):
    """marks: of one of these, every tensor is there in its shape; absent: none of these is there."""

    name: str
    kind: str
    marks: tuple[Marks, ...]
    absent: tuple[str, ...] = ()
    vae: str = ""
    encoders: tuple[str, ...] = ()


LABELS = ("label_emb.0.0.weight", "add_embedding.linear_1.weight", "class_embedding.linear_1.weight")
TO_K = "transformer_blocks.0.attn2.to_k.weight"


def _sd(name: str, channels: int, context: int, encoder: str) -> Family:
    original: Marks = {
        "input_blocks.0.0.weight": (320, channels, 3, 3),
        f"input_blocks.1.1.{TO_K}": (320, context),
        "output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
    }
    diffusers: Marks = {
        "conv_in.weight": (320, channels, 3, 3),
        f"down_blocks.0.attentions.0.{TO_K}": (320, context),
        "up_blocks.3.resnets.2.conv_shortcut.weight": (320, 640, 1, 1),
    }
    # Stable Zero123 is an SD 1 with cc_projection
    return Family(name, MODEL, (original, diffusers), (*LABELS, "cc_projection.weight"), SD_VAE, (encoder,))


def _xl(name: str, channels: int, depth: int, sampling: Marks | None = None) -> Family:
    """depth: transformer blocks at the lowest level; sampling: tensors that say how it is sampled."""
    block = "transformer_blocks.{}.norm1.weight"
    original: Marks = {
        "input_blocks.0.0.weight": (320, channels, 3, 3),
        f"input_blocks.4.1.{TO_K}": (640, 2048),
        "label_emb.0.0.weight": (1280, 2816),
        f"input_blocks.7.1.{block.format(depth - 1)}": (1280,),
    }
    diffusers: Marks = {
        "conv_in.weight": (320, channels, 3, 3),
        f"down_blocks.1.attentions.0.{TO_K}": (640, 2048),
        "add_embedding.linear_1.weight": (1280, 2816),
        f"down_blocks.2.attentions.0.{block.format(depth - 1)}": (1280,),
    }
    deeper = block.format(depth)
    absent = (f"input_blocks.7.1.{deeper}", f"down_blocks.2.attentions.0.{deeper}", "encoder_hid_proj.weight")
    marks = tuple({**network, **(sampling or {})} for network in (original, diffusers))
    return Family(name, MODEL, marks, absent, SD_VAE, (CLIP_L, CLIP_G))


def _sd3(name: str, width: int, positions: int, dual: bool) -> Family:
    original = {"x_embedder.proj.weight": (width, 16, 2, 2), "pos_embed": (1, positions, width)}
    diffusers = {"pos_embed.proj.weight": (width, 16, 2, 2), "pos_embed.pos_embed": (1, positions, width)}
    second = ("joint_blocks.0.x_block.attn2.qkv.weight", "transformer_blocks.0.attn2.to_q.weight")
    if dual:
        original, diffusers = original | {second[0]: (3 * width, width)}, diffusers | {second[1]: (width, width)}
    original |= {"joint_blocks.0.context_block.adaLN_modulation.1.bias": (6 * width,)}
    diffusers |= {"transformer_blocks.0.attn.add_q_proj.bias": (width,)}
    return Family(name, MODEL, (original, diffusers), () if dual else second, SIXTEEN_VAE, (CLIP_L, CLIP_G, T5))


GUIDANCE = ("guidance_in.in_layer.weight", "time_text_embed.guidance_embedder.linear_1.weight")


def _flux(name: str, channels: int, guided: bool = True) -> Family:
    original: dict[str, Shape] = {
        "img_in.weight": (3072, channels),
        "vector_in.in_layer.weight": (3072, 768),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    }
    diffusers: dict[str, Shape] = {
        "x_embedder.weight": (3072, channels),
        "time_text_embed.text_embedder.linear_1.weight": (3072, 768),
        "single_transformer_blocks.0.proj_mlp.bias": (12288,),
    }
    if guided:
        original, diffusers = original | {GUIDANCE[0]: (3072, 256)}, diffusers | {GUIDANCE[1]: (3072, 256)}
    nunchaku = {key: shape for key, shape in diffusers.items() if "proj_mlp" not in key}
    nunchaku = {**nunchaku, "single_transformer_blocks.0.mlp_fc1.qweight": None}
    # newer files of ComfyUI end the names of norms otherwise
    renamed = {key.replace("norm.scale", "norm.weight"): shape for key, shape in original.items()}
    marks = (original, renamed, diffusers, nunchaku)
    return Family(name, MODEL, marks, () if guided else GUIDANCE, SIXTEEN_VAE, (CLIP_L, T5))


def _flux2(name: str, width: int, context: int, encoder: str) -> Family:
    modulation = "double_stream_modulation_img.{}.weight"
    original = {modulation.format("lin"): (6 * width, width), "txt_in.weight": (width, context)}
    diffusers = {modulation.format("linear"): (6 * width, width), "context_embedder.weight": (width, context)}
    return Family(name, MODEL, (original, diffusers), (), FLUX2_VAE, (encoder,))


WAN_IMAGE = ("img_emb.proj.0.bias", "condition_embedder.image_embedder.norm1.bias")
WAN_OTHERS = (
    "vace_patch_embedding.weight", "control_adapter.conv.weight", "face_adapter.fuser_blocks.0.k_norm.weight",
    "casual_audio_encoder.encoder.final_linear.weight", "audio_proj.audio_proj_glob_1.layer.bias",
    "patch_embedding_mask.weight", "patch_embedding_pose.weight", "patch_embedding_global.weight",
    "ref_conv.weight", "face_adapter.0.norm_k.weight", "motion_encoder.motion_synthesis_weight",
)  # fmt: skip


def _wan(name: str, width: int, channels: int, image: bool = False, vae: str = WAN_VAE) -> Family:
    patch: Marks = {"patch_embedding.weight": (width, channels, 1, 2, 2)}
    original: Marks = {**patch, "head.modulation": (1, 2, width), "text_embedding.0.weight": (width, 4096)}
    diffusers: Marks = {
        **patch,
        "scale_shift_table": (1, 2, width),
        "condition_embedder.text_embedder.linear_1.weight": (width, 4096),
    }
    if image:
        original, diffusers = {**original, WAN_IMAGE[0]: (1280,)}, {**diffusers, WAN_IMAGE[1]: (1280,)}
    absent = WAN_OTHERS if image else (*WAN_IMAGE, *WAN_OTHERS)
    return Family(name, MODEL, (original, diffusers), absent, vae, (UMT5,))


def _ltx(name: str, width: int, last: int) -> Family:
    """last: the number of its last block."""
    table = f"transformer_blocks.{last}.scale_shift_table"
    original = {"patchify_proj.weight": (width, 128), "adaln_single.linear.weight": (6 * width, width)}
    diffusers = {"proj_in.weight": (width, 128), "time_embed.linear.weight": (6 * width, width)}
    absent = (
        f"transformer_blocks.{last + 1}.scale_shift_table", "audio_patchify_proj.weight", "audio_proj_in.weight",
    )  # fmt: skip
    marks = (original | {table: (6, width)}, diffusers | {table: (6, width)})
    return Family(name, MODEL, marks, absent, LTX_VAE, (T5,))


def _qwen3(name: str, width: int, vision: bool = False) -> Family:
    visual = ("visual.deepstack_merger_list.0.norm.weight", "model.visual.deepstack_merger_list.0.norm.weight")
    marks: Marks = {"embed_tokens.weight": (151936, width), "layers.0.self_attn.q_norm.weight": (128,)}
    llama: Marks = {"token_embd.weight": (151936, width), "blk.0.attn_q_norm.weight": (128,)}  # llama.cpp's names
    if vision:
        return Family(name, ENCODER, tuple({**marks, key: None} for key in visual))
    return Family(name, ENCODER, (marks, llama), visual)


def _clip(name: str, width: int, layers: int) -> Family:
    def layer(n: int) -> str:
        return f"encoder.layers.{n}.mlp.fc1.weight"

    embedded = "embeddings.token_embedding.weight"
    mark: Marks = {embedded: (49408, width), layer(layers - 1): (4 * width, width)}
    open_clip: Marks = {
        "token_embedding.weight": (49408, width),
        f"transformer.resblocks.{layers - 1}.mlp.c_fc.weight": (4 * width, width),
    }
    absent = (layer(layers), f"transformer.resblocks.{layers}.mlp.c_fc.weight")
    return Family(name, ENCODER, (mark, open_clip), absent)


def _t5(name: str, words: int) -> Family:
    mark: Marks = {
        "shared.weight": (words, 4096),
        "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096),
    }
    llama: Marks = {"token_embd.weight": (words, 4096), "enc.blk.23.ffn_up.weight": (10240, 4096)}
    only = {key.replace("shared", "encoder.embed_tokens"): shape for key, shape in mark.items()}
    return Family(name, ENCODER, (mark, only, llama))


def _kl(name: str, channels: int, quantised: bool) -> Family:
    """An autoencoder of Stable Diffusion's kind, with 4 or 16 channels. Those of several families are alike."""
    both: Marks = {
        "encoder.conv_out.weight": (2 * channels, 512, 3, 3),
        "decoder.conv_in.weight": (512, channels, 3, 3),
    }
    extra: Marks = {"quant_conv.weight": (2 * channels, 2 * channels, 1, 1)} if quantised else {}
    last = ({"decoder.up.3.block.2.conv2.bias": (512,)}, {"decoder.up_blocks.0.resnets.2.conv2.bias": (512,)})
    absent = ("bn.running_mean", *(() if quantised else ("quant_conv.weight",)))
    return Family(name, VAE, tuple({**both, **extra, **each} for each in last), absent)


def _control(name: str, original: Marks, diffusers: Marks) -> Family:
    """A ControlNet is a copy of half a U-Net with what reads the condition, so it comes before the U-Nets."""
    hint = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
    zero = ("zero_convs.0.0.weight", "controlnet_down_blocks.0.weight")
    convolution: Shape = (320, 320, 1, 1)
    return Family(
        name,
        CONTROL,
        (
            {**original, hint[0]: (16, 3, 3, 3), zero[0]: convolution},
            {**diffusers, hint[1]: (16, 3, 3, 3), zero[1]: convolution},
        ),
    )


def _ip_adapter(name: str, first: int, width: int, context: int) -> Family:
    keys: Marks = {f"ip_adapter.{first}.to_{x}_ip.weight": (width, context) for x in "kv"}
    projections = ("image_proj.proj.weight", "image_proj.latents", "image_proj.proj.0.weight")
    return Family(name, IP_ADAPTER, tuple({**keys, projection: None} for projection in projections))


FAMILIES: tuple[Family, ...] = (
    _control("SD 1", {f"input_blocks.1.1.{TO_K}": (320, 768)}, {f"down_blocks.0.attentions.0.{TO_K}": (320, 768)}),
    _control("SD 2", {f"input_blocks.1.1.{TO_K}": (320, 1024)}, {f"down_blocks.0.attentions.0.{TO_K}": (320, 1024)}),
    _control("SDXL", {LABELS[0]: (1280, 2816)}, {LABELS[1]: (1280, 2816)}),
    Family(
        "SD 3 or 3.5 medium",
        CONTROL,
        ({"controlnet_blocks.0.weight": (1536, 1536), "pos_embed_input.proj.weight": (1536, None, 2, 2)},),
    ),
    Family(
        "SD 3.5 large",
        CONTROL,
        ({"controlnet_blocks.0.weight": (2432, 2432), "pos_embed_input.proj.weight": (2432, None, 2, 2)},),
    ),
    Family(
        "Qwen-Image",
        CONTROL,
        (
            {
                "controlnet_blocks.0.weight": (3072, 3072),
                "controlnet_x_embedder.weight": (3072, None),
                "txt_norm.weight": (3584,),
            },
        ),
    ),
    Family(
        "Flux 1",
        CONTROL,
        (
            {
                "controlnet_blocks.0.weight": (3072, 3072),
                "controlnet_x_embedder.weight": (3072, None),
                "context_embedder.weight": (3072, 4096),
            },
        ),
    ),
    Family(
        "Z-Image",
        CONTROL,
        ({"control_all_x_embedder.2-1.weight": (3840, None), "control_layers.0.before_proj.weight": (3840, 3840)},),
    ),
    _ip_adapter("SD 1", 1, 320, 768),
    _ip_adapter("SDXL", 1, 640, 2048),
    Family(
        "ESRGAN",
        UPSCALER,
        (
            {"model.0.weight": (64, None, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
            {"conv_first.weight": (64, None, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
        ),
    ),
    Family("SDXL", EMBEDDING, ({"clip_l": (None, 768), "clip_g": (None, 1280)},)),
    _sd("SD 1", 4, 768, CLIP_L),
    _sd("SD 1 inpainting", 9, 768, CLIP_L),
    _sd("SD 1 pix2pix", 8, 768, CLIP_L),
    _sd("SD 2", 4, 1024, CLIP_H),
    _sd("SD 2 inpainting", 9, 1024, CLIP_H),
    _sd("SD 2 depth", 5, 1024, CLIP_H),
    # SDXL's network; how it is to be sampled is said by tensors without a network
    _xl("Playground 2.5", 4, 10, {"edm_mean": None, "edm_std": None}),
    _xl("SDXL v-prediction of EDM (CosXL)", 4, 10, {"edm_vpred.sigma_max": None}),
    _xl("SDXL v-prediction, zero terminal SNR", 4, 10, {"v_pred": None, "ztsnr": None}),
    _xl("SDXL v-prediction", 4, 10, {"v_pred": None}),
    _xl("SDXL", 4, 10),
    _xl("SDXL inpainting", 9, 10),
    _xl("SDXL pix2pix", 8, 10),
    _xl("SSD-1B", 4, 4),
    _xl("Segmind Vega", 4, 2),
    Family(
        "SDXL refiner",
        MODEL,
        (
            {"input_blocks.0.0.weight": (384, 4, 3, 3), "label_emb.0.0.weight": (1536, 2560)},
            {"conv_in.weight": (384, 4, 3, 3), "add_embedding.linear_1.weight": (1536, 2560)},
        ),
        (),
        SD_VAE,
        (CLIP_G,),
    ),
    Family(
        "Stable Video Diffusion",
        MODEL,
        (
            {
                "input_blocks.0.0.weight": (320, 8, 3, 3),
                "label_emb.0.0.weight": (1280, 768),
                "input_blocks.1.1.time_stack.0.attn1.to_q.weight": (320, 320),
            },
            {
                "conv_in.weight": (320, 8, 3, 3),
                "add_embedding.linear_1.weight": (1280, 768),
                "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight": (320, 320),
            },
        ),
    ),
    Family(
        "Stable Cascade prior",
        MODEL,
        ({"clf.1.weight": (64, None, 1, 1), "clip_txt_mapper.weight": (None, 1280)},),
    ),
    _sd3("SD 3 medium", 1536, 36864, False),
    _sd3("SD 3.5 medium", 1536, 147456, True),
    _sd3("SD 3.5 large or large turbo", 2432, 36864, False),
    Family(
        "Chroma",
        MODEL,
        (
            {
                "distilled_guidance_layer.in_proj.bias": (5120,),
                "img_in.weight": (3072, 64),
                "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
            },
            {
                "distilled_guidance_layer.in_proj.bias": (5120,),
                "img_in.weight": (3072, 64),
                "double_blocks.0.img_attn.norm.key_norm.weight": (128,),
            },
            {
                "distilled_guidance_layer.in_proj.bias": (5120,),
                "x_embedder.weight": (3072, 64),
                "single_transformer_blocks.0.proj_mlp.bias": (12288,),
            },
        ),
        ("vector_in.in_layer.weight", "time_text_embed.text_embedder.linear_1.weight"),
        SIXTEEN_VAE,
        (T5,),
    ),
    _flux("Flux 1 dev (also Krea, Kontext)", 64),
    _flux("Flux 1 Fill", 384),
    _flux("Flux 1 Canny or Depth", 128),
    _flux("Flux 1 schnell", 64, guided=False),
    _flux2("Flux 2 dev", 6144, 15360, MISTRAL),
    _flux2("Flux 2 klein 9B", 4096, 12288, QWEN_8),
    _flux2("Flux 2 klein 4B", 3072, 7680, QWEN_4),
    Family(
        "Flux 3 klein",
        MODEL,
        (
            {"early_stream_modulations.image.lin.weight": (9216, 3072), "txt_in.weight": (3072, 20480)},
            {"early_stream_modulations.image.linear.weight": (9216, 3072), "context_embedder.weight": (3072, 20480)},
        ),
        (),
        FLUX2_VAE,
        (QWEN_VL_4,),
    ),
    Family(
        "Qwen-Image 2.1",
        MODEL,
        ({"txt_in.text_norm.weight": (4096,), "img_in.weight": (4096, 64)},),
        (),
        QWEN21_VAE,
        (QWEN_VL_8,),
    ),
    Family(
        "Qwen-Image (also Edit)",
        MODEL,
        ({"txt_norm.weight": (3584,), "img_in.weight": (3072, 64), "transformer_blocks.0.img_mod.1.bias": (18432,)},),
        ("time_text_embed.addition_t_embedding.weight",),
        WAN_VAE,
        (QWEN_25_VL,),
    ),
    Family(
        "Qwen-Image Layered",
        MODEL,
        (
            {
                "txt_norm.weight": (3584,),
                "img_in.weight": (3072, 64),
                "time_text_embed.addition_t_embedding.weight": (2, 3072),
            },
        ),
        (),
        WAN_VAE,
        (QWEN_25_VL,),
    ),
    Family(
        "Z-Image (also Turbo)",
        MODEL,
        (
            {"cap_embedder.1.weight": (3840, 2560), "cap_pad_token": None, "x_embedder.weight": (3840, 64)},
            {"cap_embedder.1.weight": (3840, 2560), "cap_pad_token": None, "all_x_embedder.2-1.weight": (3840, 64)},
        ),
        ("siglip_embedder.0.weight", "dec_net.cond_embed.weight", "__ming_image__"),
        SIXTEEN_VAE,
        (QWEN_4,),
    ),
    Family(
        "Lumina 2",
        MODEL,
        (
            {"cap_embedder.1.weight": (2304, 2304), "noise_refiner.0.attention.k_norm.weight": (96,)},
            {
                "time_caption_embed.caption_embedder.1.weight": (2304, 2304),
                "noise_refiner.0.attn.norm_k.weight": (96,),
            },
        ),
        ("clip_text_pooled_proj.0.weight",),
        SIXTEEN_VAE,
        (GEMMA,),
    ),
    Family(
        "Krea 2",
        MODEL,
        (
            {"txtfusion.projector.weight": (1, 12), "first.weight": (6144, 64)},
            {"text_fusion.projector.weight": (1, 12), "img_in.weight": (6144, 64)},
        ),
        (),
        WAN_VAE,
        (QWEN_VL_4,),
    ),
    Family(
        "Anima",
        MODEL,
        (
            {
                "x_embedder.proj.1.weight": (2048, 68),
                "blocks.0.mlp.layer1.weight": (8192, 2048),
                "llm_adapter.blocks.0.cross_attn.q_proj.weight": None,
            },
        ),
        (),
        WAN_VAE,
        (QWEN_06,),
    ),
    *(
        Family(
            f"Cosmos Predict2 {size}",
            MODEL,
            (
                {"x_embedder.proj.1.weight": (width, 68), "blocks.0.mlp.layer1.weight": (4 * width, width)},
                {
                    "patch_embed.proj.weight": (width, 68),
                    "transformer_blocks.0.ff.net.0.proj.weight": (4 * width, width),
                    "transformer_blocks.0.norm1.linear_1.weight": (256, width),
                },
            ),
            ("llm_adapter.blocks.0.cross_attn.q_proj.weight", "learnable_pos_embed.pos_emb_h"),
            WAN_VAE,
        )
        for size, width in (("2B", 2048), ("14B", 5120))
    ),
    _wan("Wan 2.1 text-to-video 1.3B", 1536, 16),
    _wan("Wan 2.1 or 2.2 text-to-video 14B", 5120, 16),
    _wan("Wan 2.1 image-to-video 14B", 5120, 36, image=True),
    _wan("Wan 2.2 image-to-video 14B", 5120, 36),
    _wan("Wan 2.2 5B", 3072, 48, vae=WAN22_VAE),
    Family(
        "LTX-2",
        MODEL,
        (
            {"audio_patchify_proj.weight": (2048, 128), "patchify_proj.weight": (4096, 128)},
            {"audio_proj_in.weight": (2048, 128), "proj_in.weight": (4096, 128)},
        ),
        (),
        LTX_VAE,
    ),
    _ltx("LTX-Video 2B", 2048, 27),
    _ltx("LTX-Video 13B", 4096, 47),
    Family(
        "HunyuanVideo",
        MODEL,
        (
            {
                "txt_in.input_embedder.weight": (3072, 4096),
                "img_in.proj.weight": (3072, 16, 1, 2, 2),
                "vector_in.in_layer.weight": (3072, 768),
            },
            {
                "context_embedder.proj_in.weight": (3072, 4096),
                "x_embedder.proj.weight": (3072, 16, 1, 2, 2),
                "time_text_embed.text_embedder.linear_1.weight": (3072, 768),
            },
        ),
        (),
        HUNYUAN_VAE,
        (CLIP_L, LLAMA),
    ),
    Family(
        "HiDream-I1",
        MODEL,
        (
            {
                "caption_projection.0.linear.weight": (2560, 4096),
                "double_stream_blocks.0.block.adaLN_modulation.1.bias": (30720,),
            },
        ),
        (),
        SIXTEEN_VAE,
        (CLIP_L, CLIP_G, T5, LLAMA),
    ),
    Family(
        "AuraFlow",
        MODEL,
        (
            {"double_layers.0.attn.w1q.weight": (3072, 3072), "cond_seq_linear.weight": (3072, 2048)},
            {
                "joint_transformer_blocks.0.attn.add_q_proj.weight": (3072, 3072),
                "context_embedder.weight": (3072, 2048),
            },
        ),
        (),
        SD_VAE,
    ),
    Family(
        "Sana 1.6B",
        MODEL,
        (
            {"blocks.0.cross_attn.q_linear.weight": (2240, 2240), "y_embedder.y_proj.fc1.weight": (2240, 2304)},
            {"patch_embed.proj.weight": (2240, 32, 1, 1), "caption_projection.linear_1.weight": (2240, 2304)},
        ),
        (),
        "",
        (GEMMA,),
    ),
    Family(
        "Ideogram 4",
        MODEL,
        ({"embed_image_indicator.weight": (2, 4608), "input_proj.weight": (4608, 128)},),
        (),
        FLUX2_VAE,
    ),
    Family(
        "ERNIE-Image",
        MODEL,
        (
            {
                "layers.0.mlp.linear_fc2.weight": (3072, 8192),
                "text_proj.weight": (3072, 2560),
                "x_embedder.proj.weight": (3072, 128, 1, 1),
            },
        ),
        (),
        FLUX2_VAE,
    ),
    Family(
        "MiniMax-H3",
        MODEL,
        (
            {"video_patch_proj.weight": (5376, 96), "audio_patch_proj.weight": (5376, 32)},
            {"proj_in.weight": (5376, 96), "audio_proj_in.weight": (5376, 32)},
        ),
    ),
    # networks beside the model
    _kl(SD_VAE, 4, True),
    _kl(SIXTEEN_VAE, 16, False),
    Family(
        FLUX2_VAE,
        VAE,
        ({"bn.running_mean": (128,), "encoder.conv_out.weight": (64, 512, 3, 3)},),
    ),
    Family(
        WAN_VAE,
        VAE,
        (
            {"decoder.middle.0.residual.0.gamma": (384, 1, 1, 1), "encoder.conv1.weight": (96, 3, 3, 3, 3)},
            {"decoder.mid_block.resnets.0.norm1.gamma": (384, 1, 1, 1), "encoder.conv_in.weight": (96, 3, 3, 3, 3)},
        ),
    ),
    Family(
        WAN22_VAE,
        VAE,
        (
            {"decoder.middle.0.residual.0.gamma": (1024, 1, 1, 1), "encoder.conv1.weight": (160, 12, 3, 3, 3)},
            {
                "decoder.mid_block.resnets.0.norm1.gamma": (1024, 1, 1, 1),
                "encoder.conv_in.weight": (160, 12, 3, 3, 3),
            },
        ),
    ),
    Family(
        QWEN21_VAE,
        VAE,
        (
            {"encoder.conv_in.weight": (96, 4, 3, 3), "quant_conv.weight": (128, 128, 1, 1)},
            {"encoder.conv1.weight": (96, 4, 1, 3, 3), "decoder.middle.0.residual.0.gamma": (1152, 1, 1, 1)},
        ),
    ),
    Family(
        HUNYUAN_VAE,
        VAE,
        ({"encoder.conv_in.conv.weight": (128, 3, 3, 3, 3), "quant_conv.weight": (32, 32, 1, 1, 1)},),
    ),
    Family(
        LTX_VAE,
        VAE,
        (
            {"encoder.conv_in.conv.weight": (128, 48, 3, 3, 3), "per_channel_statistics.mean-of-means": (128,)},
            {"encoder.conv_in.conv.weight": (128, 48, 3, 3, 3), "latents_mean": (128,)},
        ),
    ),
    *(
        Family(
            f"TAESD of {name}",
            PREVIEW,
            (
                {"encoder.layers.14.weight": (channels, 64, 3, 3), "decoder.layers.0.weight": (64, channels, 3, 3)},
                {"taesd_encoder.14.weight": (channels, 64, 3, 3), "taesd_decoder.1.weight": (64, channels, 3, 3)},
                {"1.weight": (64, channels, 3, 3), "3.conv.0.weight": (64, 64, 3, 3), "19.weight": (3, 64, 3, 3)},
                {"0.weight": (64, 3, 3, 3), "1.conv.0.weight": (64, 64, 3, 3), "14.weight": (channels, 64, 3, 3)},
            ),
        )
        for name, channels in ((SD_VAE, 4), (SIXTEEN_VAE, 16))
    ),
    _clip(CLIP_L, 768, 12),
    # of both, only some files hold the last layer, which is not used
    _clip(CLIP_H, 1024, 24),
    _clip(CLIP_G, 1280, 32),
    _t5(T5, 32128),
    _t5(UMT5, 256384),
    _qwen3(QWEN_06, 1024),
    _qwen3(QWEN_4, 2560),
    _qwen3(QWEN_8, 4096),
    _qwen3(QWEN_VL_4, 2560, vision=True),
    _qwen3(QWEN_VL_8, 4096, vision=True),
    Family(
        QWEN_25_VL,
        ENCODER,
        (
            {"embed_tokens.weight": (152064, 3584), "layers.0.self_attn.k_proj.bias": (512,)},
            {"token_embd.weight": (152064, 3584), "blk.0.attn_k.bias": (512,)},
        ),
    ),
    Family(
        GEMMA,
        ENCODER,
        ({"embed_tokens.weight": (256000, 2304), "layers.0.post_feedforward_layernorm.weight": (2304,)},),
    ),
    Family(
        LLAMA,
        ENCODER,
        ({"embed_tokens.weight": (128256, 4096), "layers.0.mlp.gate_proj.weight": (14336, 4096)},),
    ),
    Family(
        MISTRAL,
        ENCODER,
        ({"embed_tokens.weight": (131072, 5120), "layers.0.mlp.gate_proj.weight": (32768, 5120)},),
    ),
    *(
        Family(
            f"CLIP's image encoder {name}",
            VISION,
            (
                {
                    "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
                    f"vision_model.encoder.layers.{layers - 1}.mlp.fc1.weight": (inner, width),
                },
            ),
            (f"vision_model.encoder.layers.{layers}.mlp.fc1.weight",),
        )
        for name, width, inner, layers in (
            ("ViT-L", 1024, 4096, 24),
            ("ViT-H", 1280, 5120, 32),
            ("ViT-bigG", 1664, 8192, 48),
        )
    ),
)


def find(tensors: Mapping[str, Tensor], key: str) -> Tensor | None:
    return next((tensors[prefix + key] for prefix in PREFIXES if prefix + key in tensors), None)


def fits(tensors: Mapping[str, Tensor], marks: Marks) -> bool:
    """Whether each of these tensors is there in its shape."""
    for key, shape in marks.items():
        tensor = find(tensors, key)
        if tensor is None:
            return False
        if shape is not None and (
            len(shape) != len(tensor.shape)
            or any(n not in (None, m) for n, m in zip(shape, tensor.shape, strict=True))
        ):
            return False
    return True


def family_of(tensors: Mapping[str, Tensor]) -> Family | None:
    """The first family whose marks fit."""
    for family in FAMILIES:
        if any(fits(tensors, marks) for marks in family.marks) and not any(find(tensors, k) for k in family.absent):
            return family
    return None
