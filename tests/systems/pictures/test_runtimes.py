"""The ONNX runtime draws what torch draws, without torch."""

import copy
import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import inkwash
from inkwash.cli import main
from inkwash.errors import UserError
from inkwash.networks.unet import UNet
from inkwash.systems.pictures import model
from inkwash.systems.pictures.export import export
from inkwash.systems.pictures.pipeline import Pipeline
from tests.models import random, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An exported model of latents, with an upsampler and a text encoder of its own."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny(latent=True, mean=True, upsampler=True, parametrization="flow", guidance=2.0).save(path)
    written = export(path)
    assert {file.relative_to(path).as_posix() for file in written} == {
        "unet/model.onnx.gz",
        "vae/encoder.onnx.gz",
        "vae/decoder.onnx.gz",
        "text_encoder/model.onnx.gz",
        "mean_predictor/model.onnx.gz",
        "upsampler/model.onnx.gz",
    }
    assert all(file.stat().st_size < 400_000 for file in written)  # graphs without weights
    return path


def test_pictures_and_states_are_those_of_torch(folder):
    theirs, ours = (inkwash.load(folder, runtime=runtime) for runtime in ("torch", "onnx"))
    assert inkwash.load(folder).runtime.name == ours.runtime.name != theirs.runtime.name and ours.hash == theirs.hash
    prompts, styles, seeds = ["a red fox", "猫", "x " * 50], ["flat", None, "noto"], [3, 4, 5]
    for key, value in theirs.condition(prompts, styles).items():
        np.testing.assert_allclose(ours.condition(prompts, styles)[key], value, atol=1e-4, err_msg=key)
    for sampler in ("dpmpp_2m", "ancestral"):
        one, other = (m.sample(prompts, styles, seeds, sampler=sampler, negative="a dog") for m in (theirs, ours))
        assert np.abs(one.astype(int) - other).max() <= 1
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 4), np.uint8)
    np.testing.assert_allclose(ours.encode(pictures), theirs.encode(pictures), atol=1e-4)
    large, other = (np.asarray(m.generate("a fox", seed=3, size=64)).astype(int) for m in (theirs, ours))
    assert np.abs(large - other).max() <= 2 and large.std() > 1


def test_no_torch_is_loaded(folder, tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None  # whoever imports it fails
from inkwash.cli import main
for size in ("16", "64"):
    assert main(["generate", "a red fox", "--model", {str(folder)!r}, "--size", size, "-o", {str(tmp_path)!r}]) == 0
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_again_takes_the_same_runtime(folder, tmp_path, capsys):
    for runtime in ("onnx", "torch"):
        file = tmp_path / f"{runtime}.png"
        assert main(["generate", "a fox", "--model", str(folder), "--runtime", runtime, "-o", str(file)]) == 0
        assert main(["again", str(file), "--inputs", str(folder.parent)]) == 0
        assert "\nthe same pixels" in capsys.readouterr().out


def test_graphs_run_on_the_weights_that_lie_beside_them(folder, tmp_path):
    """Other weights in the file, and nothing else changed: the picture follows."""
    import shutil

    shutil.copytree(folder, tmp_path / "m")
    before = np.asarray(inkwash.load(tmp_path / "m").generate("a fox", seed=1))
    changed = inkwash.load(folder, runtime="torch")
    with torch.no_grad():
        changed.unet.conv_out.weight *= 1.5
    changed.save(tmp_path / "m")
    after = inkwash.load(tmp_path / "m")
    assert "onnx" in after.runtime.name
    generated = np.asarray(after.generate("a fox", seed=1)).astype(int)
    assert (
        np.abs(generated - np.asarray(inkwash.load(tmp_path / "m", runtime="torch").generate("a fox", seed=1))).max()
        <= 1
    )
    assert (generated != before).any()


def test_a_model_that_shares_components_brings_its_own_graph_only(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "FOLDER", folder.parent)  # as if the other were a shipped one
    base = inkwash.load(folder, runtime="torch")
    unet = copy.deepcopy(base.unet)
    with torch.no_grad():
        unet.conv_out.weight *= 0.5
    shared = {name: path for name, path in base.folders.items() if name != "unet"}
    Pipeline(base.config, base.components | {"unet": unet}, base.runtime, folders=shared).save(tmp_path / "fast")
    assert export(tmp_path / "fast") == [tmp_path / "fast" / "unet" / "model.onnx.gz"]
    one, other = (inkwash.load(tmp_path / "fast", runtime=runtime) for runtime in ("torch", "onnx"))
    generated = [np.asarray(m.generate("a fox", style="flat", seed=2, size=64)).astype(int) for m in (one, other)]
    assert np.abs(generated[0] - generated[1]).max() <= 2
    before = np.asarray(inkwash.load(folder).generate("a fox", style="flat", seed=2, size=64))
    assert np.abs(generated[1] - before).max() > 2


def test_a_model_of_pixels_without_words_is_exported_too(tmp_path):
    words = tiny()
    config = {**words.unet.config, "class_embed_type": None, "cross_attention_dim": None}
    config |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    config |= {"mid_block_type": "UNetMidBlock2D", "projection_class_embeddings_input_dim": None}
    Pipeline(replace(words.config, styles=[]), {"unet": random(UNet(**config))}).save(tmp_path)
    assert export(tmp_path) == [tmp_path / "unet" / "model.onnx.gz"]
    one, other = (inkwash.load(tmp_path, runtime=runtime).generate("", seed=3) for runtime in ("torch", "onnx"))
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1 and np.asarray(one).std() > 5


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_another_component_is_put_in_by_its_folder(folder, tmp_path, runtime):
    """The picture and the hash are those of a model that was saved with it; and so it is saved."""
    import shutil

    shutil.copytree(folder, tmp_path / "other")
    other = inkwash.load(tmp_path / "other", runtime="torch")
    with torch.no_grad():
        other.vae.decoder.conv_out.bias += 0.5
    other.save(tmp_path / "other")

    def picture(pipeline):
        return np.asarray(pipeline.generate("a fox", style="flat", seed=3))

    swapped = inkwash.load(folder, runtime=runtime, vae=tmp_path / "other" / "vae")
    whole = inkwash.load(tmp_path / "other", runtime=runtime)
    np.testing.assert_array_equal(picture(swapped), picture(whole))
    assert (picture(swapped) != picture(inkwash.load(folder, runtime=runtime))).any()
    assert swapped.hash == whole.hash != inkwash.load(folder).hash
    if runtime == "onnx":
        with pytest.raises(UserError, match="load the model with runtime torch"):
            swapped.save(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()
    else:
        swapped.save(tmp_path / "saved")
        shutil.rmtree(tmp_path / "other")  # it is whole by itself
        np.testing.assert_array_equal(picture(inkwash.load(tmp_path / "saved", runtime="torch")), picture(swapped))


def test_errors_are_one_line_and_say_what_to_do(folder, tmp_path):
    import shutil

    with pytest.raises(UserError, match="unknown runtime 'onxn': did you mean onnx"):
        inkwash.load(folder, runtime="onxn")
    with pytest.raises(UserError, match="give --runtime torch for cpu, bfloat16"):
        inkwash.load(folder, precision="bfloat16", runtime="onnx")
    shutil.copytree(folder, tmp_path / "m")
    decoder = tmp_path / "m" / "vae" / "decoder.onnx.gz"
    whole = decoder.read_bytes()
    for content, fault in ((b"no graph", "is broken"), (whole[:-20], "is broken"), (gzip.compress(b"no"), "not fit")):
        decoder.write_bytes(content)
        with pytest.raises(UserError, match=rf"decoder\.onnx\.gz .*{fault} .*: run `inkwash export` again"):
            inkwash.load(tmp_path / "m").generate("a fox")
    decoder.with_suffix("").write_bytes(gzip.decompress(whole))  # as older folders have it
    decoder.unlink()
    older, newer = (np.asarray(inkwash.load(f).generate("a fox", seed=1)) for f in (tmp_path / "m", folder))
    assert (older == newer).all()
    decoder.with_suffix("").unlink()
    with pytest.raises(UserError, match=r"decoder\.onnx\.gz: no such file; write it with `inkwash export`"):
        inkwash.load(tmp_path / "m")
