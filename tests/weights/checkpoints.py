"""Headers of checkpoints as the tools write them: names and shapes from the classes of diffusers and transformers on
torch's meta device, in the published sizes, and the same under the names of single files."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import torch

from inkwash.weights.headers import Tensor

Shapes = dict[str, tuple[int, ...]]


class Network(NamedTuple):
    """A published network. of: its class; original: what turns its names into those of single files; convert: of
    CONVERTERS, the function of diffusers that goes the other way."""

    family: str
    of: str
    config: dict[str, Any]
    original: str = ""
    convert: str = ""


CONVERTERS = {
    "chroma": "convert_chroma_transformer_checkpoint_to_diffusers",
    "cosmos": "convert_cosmos_transformer_checkpoint_to_diffusers",
    "flux2": "convert_flux2_transformer_checkpoint_to_diffusers",
    "flux3": "convert_flux3_transformer_checkpoint_to_diffusers",
    "flux": "convert_flux_transformer_checkpoint_to_diffusers",
    "hunyuan_video": "convert_hunyuan_video_transformer_to_diffusers",
    "krea2": "convert_krea2_transformer_checkpoint_to_diffusers",
    "ldm_unet": "convert_ldm_unet_checkpoint",
    "ldm_vae": "convert_ldm_vae_checkpoint",
    "ltx2": "convert_ltx2_transformer_to_diffusers",
    "ltx": "convert_ltx_transformer_checkpoint_to_diffusers",
    "lumina2": "convert_lumina2_to_diffusers",
    "minimax_h3": "convert_minimax_h3_transformer_checkpoint_to_diffusers",
    "sd3": "convert_sd3_transformer_checkpoint_to_diffusers",
    "wan": "convert_wan_transformer_to_diffusers",
    "z_image": "convert_z_image_transformer_checkpoint_to_diffusers",
}
UNET = {"cross_attention_dim": 768, "block_out_channels": (320, 640, 1280, 1280)}
SD2 = UNET | {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "transformer_layers_per_block": (1, 2, 10),
}
REFINER = {
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 1280,
    "attention_head_dim": (6, 12, 24, 24),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2560,
    "transformer_layers_per_block": 4,
}
SD3_MEDIUM = {"num_attention_heads": 24, "num_layers": 2, "caption_projection_dim": 1536, "pos_embed_max_size": 192}
SD35 = SD3_MEDIUM | {"dual_attention_layers": (0,), "qk_norm": "rms_norm", "pos_embed_max_size": 384}
SD35_LARGE = SD35 | {"num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192}
SD35_LARGE |= {"dual_attention_layers": ()}
FLUX = {"num_layers": 1, "num_single_layers": 1}
DEV = FLUX | {"guidance_embeds": True}
KLEIN_4 = FLUX | {"num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False}
KLEIN_9 = FLUX | {"num_attention_heads": 32, "joint_attention_dim": 12288, "guidance_embeds": False}
WAN_SMALL = {"num_layers": 1, "num_attention_heads": 12, "ffn_dim": 8960}
WAN_IMAGE = {"num_layers": 1, "in_channels": 36}
WAN_5B = {"num_layers": 1, "num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48}
COSMOS = {"num_layers": 1, "num_attention_heads": 16, "extra_pos_embed_type": None}
LTX_13B = {"num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096}
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
KL_16 = KL | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
WAN_22_VAE = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}

NETWORKS = (
    Network("SD 1", "UNet2DConditionModel", UNET, "unet", "ldm_unet"),
    Network("SD 1 inpainting", "UNet2DConditionModel", UNET | {"in_channels": 9}, "unet"),
    Network("SD 1 pix2pix", "UNet2DConditionModel", UNET | {"in_channels": 8}, "unet"),
    Network("SD 2", "UNet2DConditionModel", SD2, "unet", "ldm_unet"),
    Network("SD 2 inpainting", "UNet2DConditionModel", SD2 | {"in_channels": 9}, "unet"),
    Network("SD 2 depth", "UNet2DConditionModel", SD2 | {"in_channels": 5}, "unet"),
    Network("SDXL", "UNet2DConditionModel", XL, "unet", "ldm_unet"),
    Network("SDXL inpainting", "UNet2DConditionModel", XL | {"in_channels": 9}, "unet"),
    Network("SDXL pix2pix", "UNet2DConditionModel", XL | {"in_channels": 8}, "unet"),
    Network("SDXL refiner", "UNet2DConditionModel", REFINER, "unet", "ldm_unet"),
    Network("Stable Video Diffusion", "UNetSpatioTemporalConditionModel", {"num_attention_heads": (5, 10, 20, 20)}),
    Network("SD 3 medium", "SD3Transformer2DModel", SD3_MEDIUM, "sd3", "sd3"),
    Network("SD 3.5 medium", "SD3Transformer2DModel", SD35, "sd3", "sd3"),
    Network("SD 3.5 large or large turbo", "SD3Transformer2DModel", SD35_LARGE, "sd3"),
    Network("Chroma", "ChromaTransformer2DModel", FLUX, "chroma", "chroma"),
    Network(
        "Flux 1 dev (also Krea, Kontext)",
        "FluxTransformer2DModel",
        DEV,
        "flux",
        "flux",
    ),
    Network("Flux 1 schnell", "FluxTransformer2DModel", FLUX, "flux"),
    Network("Flux 1 Fill", "FluxTransformer2DModel", DEV | {"in_channels": 384, "out_channels": 64}, "flux"),
    Network(
        "Flux 1 Canny or Depth", "FluxTransformer2DModel", DEV | {"in_channels": 128, "out_channels": 64}, "flux"
    ),
    Network("Flux 2 dev", "Flux2Transformer2DModel", FLUX, "flux2", "flux2"),
    Network("Flux 2 klein 9B", "Flux2Transformer2DModel", KLEIN_9, "flux2"),
    Network("Flux 2 klein 4B", "Flux2Transformer2DModel", KLEIN_4, "flux2"),
    Network("Flux 3 klein", "Flux3Transformer2DModel", FLUX, "flux3", "flux3"),
    Network("Qwen-Image 2.1", "QwenImage21Transformer2DModel", {"num_layers": 1}),
    Network("Qwen-Image (also Edit)", "QwenImageTransformer2DModel", {"num_layers": 1}),
    Network("Qwen-Image Layered", "QwenImageTransformer2DModel", {"num_layers": 1, "use_additional_t_cond": True}),
    Network(
        "Z-Image (also Turbo)",
        "ZImageTransformer2DModel",
        {"n_layers": 1},
        "z-image",
        "z_image",
    ),
    Network(
        "Lumina 2",
        "Lumina2Transformer2DModel",
        {"num_layers": 1, "cap_feat_dim": 2304},
        "lumina2",
        "lumina2",
    ),
    Network("Krea 2", "Krea2Transformer2DModel", {"num_layers": 1}, "krea2", "krea2"),
    Network(
        "Cosmos Predict2 2B",
        "CosmosTransformer3DModel",
        COSMOS,
        "cosmos",
        "cosmos",
    ),
    Network("Cosmos Predict2 14B", "CosmosTransformer3DModel", COSMOS | {"num_attention_heads": 40}, "cosmos"),
    Network("Wan 2.1 text-to-video 1.3B", "WanTransformer3DModel", WAN_SMALL, "wan", "wan"),
    Network("Wan 2.1 or 2.2 text-to-video 14B", "WanTransformer3DModel", {"num_layers": 1}, "wan"),
    Network(
        "Wan 2.1 image-to-video 14B",
        "WanTransformer3DModel",
        WAN_IMAGE | {"image_dim": 1280, "added_kv_proj_dim": 5120},
        "wan",
        "wan",
    ),
    Network("Wan 2.2 image-to-video 14B", "WanTransformer3DModel", WAN_IMAGE, "wan"),
    Network("Wan 2.2 5B", "WanTransformer3DModel", WAN_5B, "wan"),
    Network("LTX-Video 2B", "LTXVideoTransformer3DModel", {}, "ltx", "ltx"),
    Network("LTX-Video 13B", "LTXVideoTransformer3DModel", LTX_13B, "ltx"),
    Network("LTX-2", "LTX2VideoTransformer3DModel", {"num_layers": 1}, "ltx2", "ltx2"),
    Network("HunyuanVideo", "HunyuanVideoTransformer3DModel", FLUX, "hunyuan", "hunyuan_video"),
    Network(
        "HiDream-I1",
        "HiDreamImageTransformer2DModel",
        FLUX | {"patch_size": 2, "in_channels": 16, "caption_channels": [4096, 4096], "llama_layers": [0]},
        "hidream",
    ),
    Network("AuraFlow", "AuraFlowTransformer2DModel", {}, "auraflow"),
    Network("Sana 1.6B", "SanaTransformer2DModel", {"num_layers": 1}),
    Network("Ideogram 4", "Ideogram4Transformer2DModel", {"num_layers": 1}),
    Network("ERNIE-Image", "ErnieImageTransformer2DModel", {"num_layers": 1}),
    Network(
        "MiniMax-H3",
        "MiniMaxH3Transformer3DModel",
        {"num_layers": 1},
        "minimax",
        "minimax_h3",
    ),
    Network("SD 1, SD 2 or SDXL", "AutoencoderKL", KL, "vae", "ldm_vae"),
    Network("SD 3 or Flux 1", "AutoencoderKL", KL_16, "vae", "ldm_vae"),
    Network("Flux 2", "AutoencoderKLFlux2", {}),
    Network("Wan 2.1 or Qwen-Image", "AutoencoderKLWan", {}),
    Network("Wan 2.1 or Qwen-Image", "AutoencoderKLQwenImage", {}),
    Network("Wan 2.2 5B", "AutoencoderKLWan", WAN_22_VAE),
    Network("Qwen-Image 2.1", "AutoencoderKLQwenImage21", {}),
    Network("HunyuanVideo", "AutoencoderKLHunyuanVideo", {}),
    Network("LTX-Video or LTX-2", "AutoencoderKLLTXVideo", {}),
    Network("LTX-Video or LTX-2", "AutoencoderKLLTX2Video", {}),
    Network("TAESD of SD 1, SD 2 or SDXL", "AutoencoderTiny", {}),
    Network("TAESD of SD 3 or Flux 1", "AutoencoderTiny", {"latent_channels": 16}),
)

RENAMES: dict[str, list[tuple[str, str]]] = {
    "flux": [
        (r"^time_text_embed\.timestep_embedder\.linear_1", "time_in.in_layer"),
        (r"^time_text_embed\.timestep_embedder\.linear_2", "time_in.out_layer"),
        (r"^time_text_embed\.text_embedder\.linear_1", "vector_in.in_layer"),
        (r"^time_text_embed\.text_embedder\.linear_2", "vector_in.out_layer"),
        (r"^time_text_embed\.guidance_embedder\.linear_1", "guidance_in.in_layer"),
        (r"^time_text_embed\.guidance_embedder\.linear_2", "guidance_in.out_layer"),
        (r"^context_embedder", "txt_in"),
        (r"^x_embedder", "img_in"),
        (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (r"^proj_out", "final_layer.linear"),
        (r"^(single_)transformer_blocks\.(\d+)\.norm\.linear", r"single_blocks.\2.modulation.lin"),
        (r"^(single_)transformer_blocks\.(\d+)\.(attn\.to_[qkv]|proj_mlp)\.", r"single_blocks.\2.linear1."),
        (r"^(single_)transformer_blocks\.(\d+)\.proj_out", r"single_blocks.\2.linear2"),
        (r"^(single_)transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"single_blocks.\2.norm.query_norm.scale"),
        (r"^(single_)transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"single_blocks.\2.norm.key_norm.scale"),
        (r"^transformer_blocks", "double_blocks"),
        (r"\.norm1\.linear", ".img_mod.lin"),
        (r"\.norm1_context\.linear", ".txt_mod.lin"),
        (r"\.attn\.to_[qkv]\.", ".img_attn.qkv."),
        (r"\.attn\.add_[qkv]_proj\.", ".txt_attn.qkv."),
        (r"\.attn\.norm_q\.weight", ".img_attn.norm.query_norm.scale"),
        (r"\.attn\.norm_k\.weight", ".img_attn.norm.key_norm.scale"),
        (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
        (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
        (r"\.attn\.to_out\.0", ".img_attn.proj"),
        (r"\.attn\.to_add_out", ".txt_attn.proj"),
        (r"\.ff\.net\.0\.proj", ".img_mlp.0"),
        (r"\.ff\.net\.2", ".img_mlp.2"),
        (r"\.ff_context\.net\.0\.proj", ".txt_mlp.0"),
        (r"\.ff_context\.net\.2", ".txt_mlp.2"),
    ],
    "sd3": [
        (r"^pos_embed\.pos_embed", "pos_embed"),
        (r"^pos_embed\.proj", "x_embedder.proj"),
        (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
        (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
        (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (r"^proj_out", "final_layer.linear"),
        (r"^transformer_blocks", "joint_blocks"),
        (r"\.norm1\.linear", ".x_block.adaLN_modulation.1"),
        (r"\.norm1_context\.linear", ".context_block.adaLN_modulation.1"),
        (r"\.(attn2?)\.to_[qkv]\.", r".x_block.\1.qkv."),
        (r"\.attn\.add_[qkv]_proj\.", ".context_block.attn.qkv."),
        (r"\.(attn2?)\.norm_([qk])\.", r".x_block.\1.ln_\2."),
        (r"\.attn\.norm_added_([qk])\.", r".context_block.attn.ln_\1."),
        (r"\.(attn2?)\.to_out\.0", r".x_block.\1.proj"),
        (r"\.attn\.to_add_out", ".context_block.attn.proj"),
        (r"\.ff\.net\.0\.proj", ".x_block.mlp.fc1"),
        (r"\.ff\.net\.2", ".x_block.mlp.fc2"),
        (r"\.ff_context\.net\.0\.proj", ".context_block.mlp.fc1"),
        (r"\.ff_context\.net\.2", ".context_block.mlp.fc2"),
    ],
    "flux3": [
        (r"^timestep_embedder\.linear_1", "time_in.in_layer"),
        (r"^timestep_embedder\.linear_2", "time_in.out_layer"),
        (r"^context_embedder", "txt_in"),
        (r"^x_embedders", "emb_in"),
        (r"^norm_out\.linear", "final_layer.image.adaLN_modulation.1"),
        (r"^proj_out", "final_layer.image.linear"),
        (r"^mode_blocks", "content_mode_blocks"),
        (r"^single_transformer_blocks", "single_blocks"),
        (r"(modulations\.\w+)\.linear", r"\1.lin"),
        (r"\.attn\.to_([qkv])", r".\1_proj"),
        (r"\.attn\.to_out\.0", ".attn_out"),
        (r"\.attn\.norm_q\.weight", ".norm.query_norm.scale"),
        (r"\.attn\.norm_k\.weight", ".norm.key_norm.scale"),
        (r"\.ff\.linear_in", ".mlp_in"),
        (r"\.ff\.linear_out", ".mlp_out"),
    ],
    "z-image": [
        (r"^all_(x_embedder|final_layer)\.2-1", r"\1"),
        (r"\.attention\.to_[qkv]\.", ".attention.qkv."),
        (r"\.attention\.to_out\.0", ".attention.out"),
        (r"\.attention\.norm_([qk])", r".attention.\1_norm"),
    ],
    "lumina2": [
        (r"^time_caption_embed\.caption_embedder", "cap_embedder"),
        (r"^time_caption_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_caption_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^norm_out\.linear_1", "final_layer.adaLN_modulation.1"),
        (r"^norm_out\.linear_2", "final_layer.linear"),
        (r"^(context_refiner\.\d+)\.norm([12])\.", r"\1.attention_norm\2."),
        (r"\.norm1\.linear", ".adaLN_modulation.1"),
        (r"\.norm1\.norm", ".attention_norm1"),
        (r"\.norm2\.", ".attention_norm2."),
        (r"\.attn\.to_[qkv]\.", ".attention.qkv."),
        (r"\.attn\.to_out\.0", ".attention.out"),
        (r"\.attn\.norm_([qk])", r".attention.\1_norm"),
        (r"\.linear_([123])\.", r".w\1."),
    ],
    "krea2": [
        (r"^img_in\.", "first."),
        (r"^time_embed\.linear_1", "tmlp.0"),
        (r"^time_embed\.linear_2", "tmlp.2"),
        (r"^time_mod_proj", "tproj.1"),
        (r"^txt_in\.norm\.weight", "txtmlp.0.scale"),
        (r"^txt_in\.linear_1", "txtmlp.1"),
        (r"^txt_in\.linear_2", "txtmlp.3"),
        (r"^text_fusion", "txtfusion"),
        (r"^transformer_blocks", "blocks"),
        (r"^final_layer\.linear", "last.linear"),
        (r"^final_layer\.norm\.weight", "last.norm.scale"),
        (r"^final_layer\.scale_shift_table", "last.modulation.lin"),
        (r"\.attn\.to_([qkv])\.", r".attn.w\1."),
        (r"\.attn\.to_out\.0\.", ".attn.wo."),
        (r"\.attn\.to_gate\.", ".attn.gate."),
        (r"\.attn\.norm_([qk])\.weight", r".attn.qknorm.\1norm.scale"),
        (r"\.ff\.", ".mlp."),
        (r"\.norm1\.weight", ".prenorm.scale"),
        (r"\.norm2\.weight", ".postnorm.scale"),
        (r"\.scale_shift_table", ".mod.lin"),
    ],
    "cosmos": [
        (r"^time_embed\.t_embedder", "t_embedder.1"),
        (r"^time_embed\.norm", "t_embedding_norm"),
        (r"^patch_embed\.proj", "x_embedder.proj.1"),
        (r"^norm_out\.linear_([12])", r"final_layer.adaln_modulation.\1"),
        (r"^proj_out", "final_layer.linear"),
        (r"^transformer_blocks", "blocks"),
        (r"\.norm1\.linear_([12])", r".adaln_modulation_self_attn.\1"),
        (r"\.norm2\.linear_([12])", r".adaln_modulation_cross_attn.\1"),
        (r"\.norm3\.linear_([12])", r".adaln_modulation_mlp.\1"),
        (r"\.attn1\.", ".self_attn."),
        (r"\.attn2\.", ".cross_attn."),
        (r"\.to_([qkv])\.", r".\1_proj."),
        (r"\.to_out\.0", ".output_proj"),
        (r"\.norm_([qk])", r".\1_norm"),
        (r"\.ff\.net\.0\.proj", ".mlp.layer1"),
        (r"\.ff\.net\.2", ".mlp.layer2"),
        (r"^", "net."),
    ],
    "wan": [
        (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
        (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
        (r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
        (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
        (r"^condition_embedder\.time_proj", "time_projection.1"),
        (r"^condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
        (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
        (r"^condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
        (r"^condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
        (r"^scale_shift_table", "head.modulation"),
        (r"^proj_out", "head.head"),
        (r"\.scale_shift_table", ".modulation"),
        (r"\.attn2\.add_k_proj", ".cross_attn.k_img"),
        (r"\.attn2\.add_v_proj", ".cross_attn.v_img"),
        (r"\.attn2\.norm_added_k", ".cross_attn.norm_k_img"),
        (r"\.attn1\.", ".self_attn."),
        (r"\.attn2\.", ".cross_attn."),
        (r"\.to_([qkv])\.", r".\1."),
        (r"\.to_out\.0\.", ".o."),
        (r"\.ffn\.net\.0\.proj", ".ffn.0"),
        (r"\.ffn\.net\.2", ".ffn.2"),
        (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
    ],
    "ltx": [
        (r"^proj_in", "patchify_proj"),
        (r"^time_embed\.", "adaln_single."),
        (r"\.norm_([qk])\.", r".\1_norm."),
    ],
    "ltx2": [
        (r"^(audio_)?proj_in", r"\1patchify_proj"),
        (r"^(audio_)?time_embed\.", r"\1adaln_single."),
        (r"^av_cross_attn_(video|audio)_scale_shift", r"av_ca_\1_scale_shift_adaln_single"),
        (r"^av_cross_attn_video_a2v_gate", "av_ca_a2v_gate_adaln_single"),
        (r"^av_cross_attn_audio_v2a_gate", "av_ca_v2a_gate_adaln_single"),
        (r"\.(video|audio)_a2v_cross_attn_scale_shift_table", r".scale_shift_table_a2v_ca_\1"),
        (r"\.norm_([qk])\.", r".\1_norm."),
    ],
    "hidream": [],
    "minimax": [
        (r"^proj_in\.", "video_patch_proj."),
        (r"^audio_proj_in\.", "audio_patch_proj."),
    ],
    "auraflow": [
        (r"^joint_transformer_blocks", "double_layers"),
        (r"\.attn\.add_([qkv])_proj", r".attn.w1\1"),
        (r"^context_embedder", "cond_seq_linear"),
    ],
}
RENAMES["chroma"] = [
    (r"(distilled_guidance_layer\.layers\.\d+)\.linear_1", r"\1.in_layer"),
    (r"(distilled_guidance_layer\.layers\.\d+)\.linear_2", r"\1.out_layer"),
    (r"(distilled_guidance_layer\.norms\.\d+)\.weight", r"\1.scale"),
    *RENAMES["flux"],
]
RENAMES["flux2"] = [
    (r"^time_guidance_embed\.timestep_embedder\.linear_1", "time_in.in_layer"),
    (r"^time_guidance_embed\.timestep_embedder\.linear_2", "time_in.out_layer"),
    (r"^time_guidance_embed\.guidance_embedder\.linear_1", "guidance_in.in_layer"),
    (r"^time_guidance_embed\.guidance_embedder\.linear_2", "guidance_in.out_layer"),
    (r"^((double|single)_stream_modulation\w*)\.linear", r"\1.lin"),
    (r"^single_transformer_blocks\.(\d+)\.attn\.to_qkv_mlp_proj", r"single_blocks.\1.linear1"),
    (r"^single_transformer_blocks\.(\d+)\.attn\.to_out\.", r"single_blocks.\1.linear2."),
    (r"\.ff\.linear_in", ".img_mlp.0"),
    (r"\.ff\.linear_out", ".img_mlp.2"),
    (r"\.ff_context\.linear_in", ".txt_mlp.0"),
    (r"\.ff_context\.linear_out", ".txt_mlp.2"),
    *RENAMES["flux"],
]
RENAMES["hunyuan"] = [
    (r"^x_embedder", "img_in"),
    (r"^context_embedder\.proj_in", "txt_in.input_embedder"),
    (r"^time_text_embed\.text_embedder\.linear_1", "vector_in.in_layer"),
]

RESNET = [
    (r"\.norm1", ".in_layers.0"),
    (r"\.conv1", ".in_layers.2"),
    (r"\.time_emb_proj", ".emb_layers.1"),
    (r"\.norm2", ".out_layers.0"),
    (r"\.conv2", ".out_layers.3"),
    (r"\.conv_shortcut", ".skip_connection"),
]
UNET_NAMES = [
    (r"^conv_in", "input_blocks.0.0"),
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
]


def rename_unet(name: str, shapes: Shapes) -> str:
    for pattern, new in UNET_NAMES:
        name = re.sub(pattern, new, name)
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    if found:
        side, part, rest = found[1], found[3], found[5]
        level, index = int(found[2]), int(found[4])
        if part == "downsamplers":
            name = f"input_blocks.{3 * level + 3}.0.op.{rest.removeprefix('conv.')}"
        elif part == "upsamplers":
            after = 2 if f"up_blocks.{level}.attentions.0.norm.weight" in shapes else 1
            name = f"output_blocks.{3 * level + 2}.{after}.{rest}"
        else:
            block = (
                f"input_blocks.{3 * level + index + 1}" if side == "down" else f"output_blocks.{3 * level + index}"
            )
            name = f"{block}.{int(part == 'attentions')}.{rest}"
    if re.match(r"(input|output)_blocks\.\d+\.0\.|middle_block\.[02]\.", name) and "blocks.0.0" not in name[:16]:
        for pattern, new in RESNET:
            name = re.sub(pattern, new, name)
    return "model.diffusion_model." + name


def rename_vae(name: str) -> str:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.", lambda m: f"decoder.up.{3 - int(m[1])}.block.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{3 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"mid_block\.attentions\.0", "mid.attn_1", name)
    for pattern, new in (("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"), ("group_norm", "norm"),
                         ("to_out.0", "proj_out"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v")):  # fmt: skip
        name = name.replace(pattern, new)
    return "first_stage_model." + name


@cache
def published(network: int) -> Shapes:
    """Names and shapes of a network as diffusers has it."""
    import diffusers
    from diffusers.models import autoencoders, transformers

    _, of, config, *_ = NETWORKS[network]
    kind = next(getattr(module, of) for module in (diffusers, transformers, autoencoders) if hasattr(module, of))
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(**config).state_dict().items()}


def single_file(network: int) -> Shapes:
    """The same under the names of a single file: tensors that become one lie under each other."""
    shapes, how = published(network), NETWORKS[network].original
    renamed: Shapes = {}
    for name, shape in shapes.items():
        if how == "unet":
            name = rename_unet(name, shapes)
        elif how == "vae":
            name = rename_vae(name)
            shape = (*shape, 1, 1) if ".attn_1." in name and len(shape) == 2 else shape
        else:
            for pattern, new in RENAMES[how]:
                name = re.sub(pattern, new, name)
        renamed[name] = (renamed[name][0] + shape[0], *shape[1:]) if name in renamed else shape
    return renamed


def tensors(shapes: Shapes, dtype: str = "F16") -> dict[str, Tensor]:
    return {name: Tensor(dtype, shape) for name, shape in shapes.items()}
