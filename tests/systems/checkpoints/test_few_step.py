"""Few-step adapters by what their makers call them."""

from pathlib import Path

import pytest

from inkwash import diffusion
from inkwash.systems.checkpoints.few_step import FEW_STEP, Sampling, few_step_of

HUB = "models--latent-consistency--lcm-lora-sdxl/snapshots/a18548dd4956b174ec5b0d78d340c8dae0a129cd"


@pytest.mark.parametrize(
    ("name", "maker", "sampling"),
    [
        ("lcm-lora-sdv1-5.safetensors", "LCM", ("consistency", "trailing", 4, 1.0)),
        ("LCM_LoRA_Weights_SD15.safetensors", "LCM", ("consistency", "trailing", 4, 1.0)),
        (f"{HUB}/pytorch_lora_weights.safetensors", "LCM", ("consistency", "trailing", 4, 1.0)),
        ("lcm-lora-sdxl/pytorch_lora_weights.safetensors", "LCM", ("consistency", "trailing", 4, 1.0)),
        ("sdxl_lightning_2step_lora.safetensors", "Lightning", ("euler", "trailing", 2, 1.0)),
        ("sdxl_lightning_8step_lora.safetensors", "Lightning", ("euler", "trailing", 8, 1.0)),
        ("sd_xl_turbo_lora_v1.safetensors", "Turbo", ("euler_ancestral", "trailing", 1, 1.0)),
        ("sd_xl_turbo_lora_v1-64dim.safetensors", "Turbo", ("euler_ancestral", "trailing", 1, 1.0)),
        ("Hyper-SD15-1step-lora.safetensors", "Hyper-SD", ("ddim", "trailing", 1, 1.0)),
        ("Hyper-SDXL-4steps-lora.safetensors", "Hyper-SD", ("ddim", "trailing", 4, 1.0)),
        ("Hyper-SDXL-12steps-CFG-lora.safetensors", "Hyper-SD", ("ddim", "trailing", 12, 5.0)),
        ("dmd2_sdxl_4step_lora_fp16.safetensors", "DMD2", ("consistency", "trailing", 4, 1.0)),
    ],
)
def test_each_is_known_by_its_makers_name(name, maker, sampling):
    found = few_step_of(Path("/models/loras", name), {})
    assert found.name == maker and found.sampling == sampling and not found.mismatches(found.sampling)
    titled = few_step_of(Path("renamed.safetensors"), {"modelspec.title": Path(name).stem})
    assert titled == (None if "pytorch" in name else found)


@pytest.mark.parametrize(
    "name",
    [
        "turbo_car.safetensors",
        "lightning_bolts_sdxl_lora.safetensors",
        "hyperrealism-lora.safetensors",
        "lcm-lora-sdxl/style.safetensors",  # only a file without a name of its own is called after its folder
        "pytorch_lora_weights.safetensors",
    ],
)
def test_others_are_not_taken_for_one(name):
    assert few_step_of(Path(name), {"ss_output_name": "turbo"}) is None


def test_what_it_wants_is_said_where_it_is_given_otherwise():
    found = few_step_of(Path("Hyper-SDXL-8steps-CFG-lora.safetensors"), {})
    assert found.mismatches(Sampling("euler", "karras", 25, 9.0)) == [
        "sampler ddim, not euler",
        "grid trailing or sgm_uniform, not karras",
        "8 steps, not 25",
        "guidance 5 to 8, not 9",
    ]
    assert found.mismatches(Sampling("ddim", "sgm_uniform", 8, 6.0)) == []


def test_every_sampler_and_grid_that_is_wanted_there_is():
    for _, few_step in FEW_STEP:
        assert few_step.sampler in diffusion.SAMPLERS and set(few_step.grids) <= diffusion.GRIDS.keys()
