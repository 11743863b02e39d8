"""What a checkpoint is by its headers alone, and what is refused by its right name."""

import json

import pytest

from inkwash.errors import UserError
from inkwash.systems.checkpoints.facts import Facts, read_facts
from inkwash.weights.single_file import FAMILIES
from tests.networks.test_stable_diffusion import folders  # noqa: F401
from tests.weights.test_scan import FLUX, LORA, marks, write

PREFIX = "model.diffusion_model."


def single(family, channels=4, marked=()):
    """The header of a file of all networks, of which one tensor each is there."""
    tensors = {component.prefix + "x": ("F16", (2,)) for component in FAMILIES[family].values()}
    first = {f"{PREFIX}input_blocks.0.0.weight": ("F16", (320, channels, 3, 3))}
    return tensors | first | {name: ("F16", (1,)) for name in marked}


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        (single("sd1"), Facts("SD 1", 512, 0, False, 4)),
        (single("sd1", 9), Facts("SD 1", 512, 5, False, 4)),
        (single("sd2", 8), Facts("SD 2", 768, 4, False, 4)),
        (single("sdxl", marked=["v_pred", "ztsnr"]), Facts("SDXL", 1024, 0, True, 3)),
        (single("sdxl-refiner"), Facts("SDXL refiner", 1024, 0, False, 4)),
    ],
)
def test_single_files(tmp_path, tensors, facts):
    assert read_facts(write(tmp_path / "m.safetensors", tensors)) == facts


def test_folders(folders):  # noqa: F811
    found = {family: read_facts(folder) for family, folder in folders.items()}
    assert {family: one.family for family, one in found.items()} == {
        "sd1": "Stable Diffusion", "sd2": "Stable Diffusion", "sdxl": "SDXL", "sdxl-refiner": "SDXL refiner",
    }  # fmt: skip
    assert {one.side for one in found.values()} == {64} and [one.levels for one in found.values()] == [4, 4, 3, 4]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (FLUX, "Flux 1 schnell, which cannot be drawn here"),
        (LORA, "a LoRA for SD 1, and no checkpoint"),
        (marks("VAE", "SD 1, SD 2 or SDXL"), "a VAE for SD 1, SD 2 or SDXL, and no checkpoint"),
        (marks("ControlNet", "SD 1"), "a ControlNet for SD 1"),
        (marks("diffusion model", "SD 1"), "the diffusion model of SD 1 alone, without its text encoders"),
        (single("sdxl", marked=["edm_mean", "edm_std"]), "edm_mean says that it has EDM's noise"),
        ({"x": ("F16", (2, 2))}, "unknown"),
        ({name: value for name, value in single("sd1").items() if PREFIX not in name}, "and no U-Net"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, tensors, message):
    file = write(tmp_path / "m.safetensors", tensors)
    with pytest.raises(UserError, match=message) as error:
        read_facts(file)
    assert str(error.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(20), "a pickle"),
        ((2**60).to_bytes(8, "little") + b"{" + bytes(20), "half-downloaded or broken"),
        (b"no model at all", "neither safetensors nor GGUF"),
    ],
)
def test_broken_files_are_one_line(tmp_path, content, message):
    file = tmp_path / "m.safetensors"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_facts(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]},
            "FluxPipeline, which",
        ),
        ({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}, "is missing"),
    ],
)
def test_folders_that_cannot_be_drawn_are_named(tmp_path, index, message):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        read_facts(tmp_path)
