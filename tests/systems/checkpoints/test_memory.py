"""What of a checkpoint will lie in memory, told before anything is loaded."""

import json
import shutil
import struct
import subprocess
import sys

import pytest
import torch

from inkwash.errors import UserError
from inkwash.networks.stable_diffusion import CONFIGS
from inkwash.systems.checkpoints.memory import OFFLOADS, plan
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from inkwash.weights.single_file import FAMILIES, to_single_file
from tests.networks.test_stable_diffusion import SIZES, folders, on_meta  # noqa: F401

GB = 10**9


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Single files of the real names and shapes; of their weights, in float16, there is only a hole."""
    made = {}
    for family in ("sd1", "sdxl"):
        with torch.device("meta"):
            parts = [to_single_file(FAMILIES[family][name], on_meta(family, name)) for name in CONFIGS[family]]
        header, end = {}, 0
        for name, tensor in (pair for part in parts for pair in part.items()):
            first, end = end, end + 2 * tensor.numel()
            header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [first, end]}
        made[family], text = tmp_path_factory.mktemp(family) / "model.safetensors", json.dumps(header).encode()
        with made[family].open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
    return made


def parameters(family, *names):
    return sum(SIZES[family, name][1] for name in names)


def test_weights_are_counted_in_float32_and_to_the_byte(real):
    found = plan(real["sdxl"], available=100 * GB)
    encoders, unet, vae = (
        4 * parameters("sdxl", *names) for names in (("text_encoder", "text_encoder_2"), ("unet",), ("vae",))
    )
    assert [(stage.name, stage.weights) for stage in found.stages] == [
        ("text encoder", encoders), ("U-Net", unet), ("VAE", vae)
    ]  # fmt: skip
    assert (found.family, found.offload, found.width, found.height) == ("SDXL", "none", 1024, 1024)
    assert found.peak > encoders + unet + vae
    halved = plan(real["sdxl"], precision="bfloat16", available=100 * GB)  # but vectors, of 1.4 million
    assert 0 < halved.stages[1].weights - unet / 2 < 4e6
    assert [stage.weights for stage in halved.stages[::2]] == [encoders, vae]


def test_the_first_way_that_fits_is_chosen_and_each_needs_less(real):
    peaks, ways = [], []
    for available in range(60 * GB, 4 * GB, -GB // 2):
        found = plan(real["sdxl"], available=available)
        assert found.peak <= OFFLOADS[found.offload] * available
        if not ways or found.offload != ways[-1]:
            ways.append(found.offload)
            peaks.append(found.peak)
        if available < 7 * GB:
            break
    assert ways == ["none", "network", "layer"] and peaks == sorted(peaks, reverse=True)


@pytest.mark.parametrize(("family", "limit"), [("sd1", 8), ("sdxl", 14)])
def test_the_promise_of_the_usual_sizes(real, family, limit):
    """Real sizes on a machine of 24 GB; benchmarks/checkpoints.py measures them."""
    assert plan(real[family], available=24 * GB).peak < limit * GB


def test_what_would_fit_is_said_where_nothing_does(real):
    with pytest.raises(
        UserError, match=r"1024 x 2048 pixels need \d+\.\d GB .* here are 3\.0: choose (\d+ x \d+)"
    ) as e:
        plan(real["sdxl"], 1024, 2048, available=3 * GB)
    assert "\n" not in str(e.value)
    width, height = map(int, str(e.value).split("choose ")[1].split(" or")[0].split(" x "))
    assert plan(real["sdxl"], width, height, available=3 * GB).offload == "layer"
    with pytest.raises(UserError):
        plan(real["sdxl"], width + 32, height + 64, available=3 * GB)
    with pytest.raises(UserError, match="choose a machine that has as much"):
        plan(real["sdxl"], available=GB // 2)


def test_what_is_dequantised_as_a_whole_is_in_memory_as_a_whole(real, tmp_path):
    """The same file, but that one tensor has a scale: then there is no other way than the first."""
    file = tmp_path / "scaled.safetensors"
    with real["sd1"].open("rb") as source:
        length = struct.unpack("<Q", source.read(8))[0]
        header = json.loads(source.read(length))
    unet = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    header[f"{unet}.scale_weight"] = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    text = json.dumps(header).encode()
    with file.open("wb") as target:
        target.write(struct.pack("<Q", len(text)) + text)
        target.truncate(real["sd1"].stat().st_size + len(text))
    assert plan(file, available=8 * GB).offload == "none" and plan(real["sd1"], available=8 * GB).offload == "network"
    with pytest.raises(UserError, match=r"512 x 512 pixels need 6\.\d GB"):
        plan(file, available=5 * GB)


def test_larger_pictures_and_more_of_them_need_more(real):
    def peak(*size):
        return plan(real["sd1"], *size, available=10**15).peak

    assert peak(512, 512) < peak(512, 768) < peak(1024, 1024) < peak(4096, 4096, 4) - GB
    assert peak(512, 512, 8) > peak(512, 512) + GB


def test_the_text_says_what_lies_where(real):
    assert plan(real["sd1"], available=24 * GB).text == (
        "SD 1, 512 x 512: all in memory: text encoder 0.5 + 0.1 working, U-Net 3.4 + 0.5 working, VAE 0.3 + 1.2 "
        "working; peak 6.2 of 24.0 GB"
    )
    assert "a layer at a time: text encoder" in plan(real["sd1"], available=3 * GB).text


def test_a_folder_is_planned_too_and_its_size_is_its_own(folders):  # noqa: F811
    found = plan(folders["sdxl"], available=10 * GB)
    assert (found.width, found.height, found.offload) == (64, 64, "none")
    network = StableDiffusion.load(folders["sdxl"]).components["unet"]
    assert found.stages[1].weights == 4 * sum(parameter.numel() for parameter in network.parameters())


def test_no_torch_is_loaded(real):
    code = "import sys; from inkwash.systems.checkpoints.memory import plan\n"
    code += "print(plan(sys.argv[1]).text, 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, real["sd1"]], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("SD 1, 512 x 512") and run.stdout.endswith("False\n")


def test_what_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.safetensors: empty"):
        plan(tmp_path / "empty.safetensors")
    with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
        plan(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match=r"model_index\.json"):
        plan(tmp_path)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_way_draws_the_same_picture_to_the_last_bit(folders, family):  # noqa: F811
    states = {}
    for offload in OFFLOADS:
        model = StableDiffusion.load(folders[family], offload=offload)
        states[offload] = model.sample_states(["the cats"], [7], steps=2, negative="a fox")
        assert model.weights.arranged == offload
    assert torch.equal(states["none"], states["network"]) and torch.equal(states["none"], states["layer"])


def test_the_way_is_chosen_size_by_size(folders, monkeypatch):  # noqa: F811
    from inkwash.systems.checkpoints import memory

    model = StableDiffusion.load(folders["sd1"])
    before = model.sample_states(["the cats"], [7], steps=2)
    assert model.weights.arranged == "none"
    small = plan(folders["sd1"], 64, 64, available=GB)
    monkeypatch.setattr(memory, "memory", lambda: small.peak / 0.7)
    assert torch.equal(model.sample_states(["the cats"], [7], steps=2), before)
    assert model.weights.arranged == "network"
    with pytest.raises(UserError, match="4096 x 4096 pixels need"):
        model.sample_states(["the cats"], [7], steps=2, size=(4096, 4096))


def test_a_file_that_is_written_to_after_it_was_loaded_is_not_drawn_from(folders, tmp_path):  # noqa: F811
    folder = tmp_path / "model"
    shutil.copytree(folders["sd1"], folder)
    model = StableDiffusion.load(folder, offload="layer")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    with pytest.raises(UserError, match="it has changed since it was loaded"):
        model.generate("the cats", steps=2)


def test_an_unknown_way_is_refused(folders):  # noqa: F811
    with pytest.raises(UserError, match="offload"):
        StableDiffusion.load(folders["sd1"], offload="disk")
