"""What is saved is opened by diffusers, and by us, to the last bit."""

import json
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file

from inkwash.errors import UserError
from inkwash.networks import stable_diffusion as single_files
from inkwash.networks.clip import with_prefix
from inkwash.networks.stable_diffusion import save_single_file
from inkwash.networks.unet import UNet
from inkwash.systems.checkpoints.facts import hash_of, read_facts
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable
from inkwash.systems.checkpoints.saving import family_of, index_of, scheduler_of
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from inkwash.weights.single_file import FAMILIES, to_single_file
from tests.networks.test_stable_diffusion import TINY, folders, same, tensors_of  # noqa: F401

FEW = {"steps": 2, "seed": 7, "size": 64}


@pytest.fixture
def tiny(monkeypatch):
    """Single files are of tiny networks."""
    monkeypatch.setattr(single_files, "CONFIGS", TINY)


def single_tensors(family, networks):
    found = {}
    for name, component in FAMILIES[family].items():
        found |= to_single_file(component, networks[name])
    return {name: tensor.contiguous() for name, tensor in found.items()}


def half(folder, family):
    return {name: {key: t.half() for key, t in own.items()} for name, own in tensors_of(folder, family).items()}


@pytest.mark.parametrize("family", TINY)
def test_diffusers_opens_the_folder_that_is_made_of_a_file_and_no_bit_is_lost(folders, tiny, family, tmp_path):  # noqa: F811
    diffusers, before = import_module("diffusers"), half(folders[family], family)
    save_single_file(tmp_path / "one.safetensors", family, before)
    StableDiffusion.load(tmp_path / "one.safetensors", offload="none").save(tmp_path / "folder")
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "folder", dtype=torch.float16)
    kinds = {"sdxl": "StableDiffusionXLPipeline", "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline"}
    assert type(opened).__name__ == kinds.get(family, "StableDiffusionPipeline")
    for name, own in before.items():
        found = getattr(opened, name).state_dict()
        assert same(with_prefix(found) if name.startswith("text") else found, own), name
    text = "a photo of a Cat, isn't it 12 猫"
    loaded = StableDiffusion.load(tmp_path / "folder")
    for name in before.keys() - {"unet", "vae"}:
        tokenizer = name.replace("text_encoder", "tokenizer")
        ids = getattr(opened, tokenizer)(text, padding="max_length", max_length=77).input_ids
        assert loaded.components[tokenizer].tokenize([text])[0].tolist() == ids
    assert NoiseTable.of(opened.scheduler.config) == loaded.noise


def test_eight_bits_stay_eight_bits(folders, tiny, tmp_path):  # noqa: F811
    before = tensors_of(folders["sd1"], "sd1")
    before["unet"] = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in before["unet"].items()}
    save_file(single_tensors("sd1", before), tmp_path / "one.safetensors")
    StableDiffusion.load(tmp_path / "one.safetensors").save(tmp_path / "folder")
    found = load_file(tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors")
    assert found.keys() == before["unet"].keys()
    assert all(torch.equal(found[name].view(torch.uint8), t.view(torch.uint8)) for name, t in before["unet"].items())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_folder_saved_again_draws_the_same_picture(folders, family, tmp_path):  # noqa: F811
    model = StableDiffusion.load(folders[family])
    expected = model.generate("the cats", **FEW)
    model.save(tmp_path / "again")
    found = StableDiffusion.load(tmp_path / "again")
    assert found.generate("the cats", **FEW).tobytes() == expected.tobytes()
    assert model.generate("the cats", **FEW).tobytes() == expected.tobytes()  # which goes on as before
    scheduler = "scheduler/scheduler_config.json"
    assert json.loads((tmp_path / "again" / scheduler).read_text()) == json.loads(
        (folders[family] / scheduler).read_text()
    )


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("zero", [False, True])
def test_a_file_is_its_folder_with_the_marks_of_what_it_predicts(folders, tiny, family, zero, tmp_path):  # noqa: F811
    model = StableDiffusion.load(folders[family])
    model.noise = NoiseTable.of(STABLE | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": zero})
    model.save(tmp_path / "one.safetensors")
    found = StableDiffusion.load(tmp_path / "one.safetensors")
    assert found.noise == model.noise and read_facts(found.path).zero_snr == zero
    save_single_file(
        tmp_path / "two.safetensors", family, tensors_of(folders[family], family), ["v_pred", "ztsnr"][: 1 + zero]
    )
    assert hash_of(found.path) == hash_of(tmp_path / "two.safetensors")
    model.noise = NoiseTable.of({"trained_betas": [0.1, 0.2]})
    with pytest.raises(UserError, match="single file cannot say what noise"):
        model.save(tmp_path / "three.safetensors")
    assert not (tmp_path / "three.safetensors").exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"beta_schedule": "linear"},
        {"prediction_type": "sample"},
        {"trained_betas": [0.1, 0.2, 0.5]},
        {"num_train_timesteps": 50},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    ],
)
def test_diffusers_has_the_noise_that_is_said(facts):
    noise = NoiseTable.of(STABLE | facts)
    settings = scheduler_of(noise, None)
    assert NoiseTable.of(settings) == noise
    scheduler = import_module("diffusers").DDIMScheduler.from_config(settings)
    expected = torch.cumprod(1 - torch.tensor(noise.betas, dtype=torch.float64), 0).float()
    torch.testing.assert_close(scheduler.alphas_cumprod, expected, rtol=1e-4, atol=1e-6)


def test_what_draws_otherwise_is_of_another_class_of_diffusers(folders):  # noqa: F811
    model = StableDiffusion.load(folders["sd1"])
    names = []
    for change in ({"in_channels": 9}, {"in_channels": 8}, {"time_cond_proj_dim": 6}):
        parts = model.components | {"unet": UNet(**TINY["sd1"]["unet"] | change)}
        names.append(index_of(parts, "DDIMScheduler")["_class_name"])
    assert names == [
        "StableDiffusionInpaintPipeline", "StableDiffusionInstructPix2PixPipeline", "LatentConsistencyModelPipeline",
    ]  # fmt: skip
    assert all(hasattr(import_module("diffusers"), name) for name in names)


@pytest.mark.parametrize("family", TINY)
def test_the_family_of_a_file_is_seen_in_its_text_encoders(folders, family):  # noqa: F811
    assert family_of(StableDiffusion.load(folders[family]).components) == family


def test_what_is_there_already_is_not_written_over(folders, tmp_path):  # noqa: F811
    model = StableDiffusion.load(folders["sd1"])
    before, file = hash_of(model.path), tmp_path / "one.safetensors"
    file.write_text("mine", encoding="utf-8")
    for path in (model.path, model.path / "unet", file):
        with pytest.raises(UserError, match="it is there already"):
            model.save(path)
    with pytest.raises(UserError, match="it cannot be written: Not a directory"):
        model.save(file / "folder")
    assert hash_of(model.path) == before and file.read_text(encoding="utf-8") == "mine"
