"""Checkpoints on the command line: as typed, with mistakes, and made anew."""

import json
import os
import shutil
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file

import inkwash
from inkwash import diffusion
from inkwash.cli import main
from inkwash.codecs.png import KEY, read_recipe
from inkwash.errors import UserError
from inkwash.systems import systems
from inkwash.systems.base import limits, options
from inkwash.systems.checkpoints.limits import ENDLESS
from inkwash.systems.checkpoints.request import Grid, Sampler
from inkwash.systems.pictures.model import SAMPLERS
from tests.networks.test_stable_diffusion import folders  # noqa: F401
from tests.weights.test_scan import FLUX, LORA, marks, write

FEW = ["--steps", "2", "--seed", "7"]


@pytest.fixture
def model(folders, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["sd1"], tmp_path / "tiny")
    return "tiny"


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    return file


def test_the_options_are_those_of_the_core():
    assert set(get_args(Grid)) == set(diffusion.GRIDS)
    assert set(get_args(Sampler)) == {name for name in SAMPLERS if not name.startswith("flow_")}


def test_generate_draws_and_again_makes_the_same_pixels(model, photo, capsys):
    assert main(["generate", "a cat", "--model", model, *FEW, "--width", "64", "--height", "96"]) == 0
    assert capsys.readouterr().out == "a-cat-7.png\n"
    with Image.open("a-cat-7.png") as picture:
        assert picture.size == (64, 96)
    assert read_recipe("a-cat-7.png")["system"] == "checkpoints"
    assert main(["again", "a-cat-7.png"]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out
    options = ["--model=tiny", "--image", str(photo), "--strength", "0.5", "--clip-skip", "1", "-n", "2"]
    assert main(["generate", "a cat", *options, *FEW, "--format", "webp", "-o", "out"]) == 0
    made, grid = capsys.readouterr().out.split()[1:]
    assert made == "out/a-cat-8.webp" and grid == "out/a-cat-grid.png"
    assert inkwash.load("tiny").hash == read_recipe(made)["hash"] and read_recipe(made)["clip_skip"] == 1
    assert main(["again", made]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out


def test_a_model_is_found_again_by_the_name_of_its_link(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "here" / "models").mkdir(parents=True)
    (tmp_path / "here" / "models" / "sd").symlink_to(tmp_path / model)
    monkeypatch.chdir(tmp_path / "here")
    assert main(["generate", "a cat", "--model", "models/sd", "--size", "64", *FEW]) == 0
    assert read_recipe("a-cat-7.png")["model"] == "models/sd"
    assert main(["again", "a-cat-7.png"]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out


def test_what_python_draws_the_command_line_draws(model, capsys):
    assert main(["generate", "a cat", "--model", model, *FEW, "--negative", "a dog", "--rescale", "0.7"]) == 0
    picture = inkwash.load(model).generate("a cat", steps=2, seed=7, negative="a dog", rescale=0.7)
    assert read_recipe("a-cat-7.png")["rescale"] == picture.info[KEY]["rescale"] == 0.7
    with Image.open("a-cat-7.png") as made:
        assert made.tobytes() == picture.tobytes()


def pixels(file):
    with Image.open(file) as picture:
        return picture.tobytes()


def test_each_way_to_read_prompts_and_seeds_is_followed(model, tmp_path, capsys):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "animal.txt").write_text("dog\ncat\n")
    torch.manual_seed(0)
    save_file({"emb_params": torch.randn(2, 12)}, tmp_path / "glow.safetensors")
    changes = [
        [], ["--weighting", "comfyui"], ["--weighting", "none"], ["--seed-like", "a1111"], ["--seed-like", "comfyui"],
        ["--embedding", "glow.safetensors"],
    ]  # fmt: skip
    prompt, made = "a (cat:1.5), glow", []
    for i, more in enumerate(changes):
        assert main(["generate", prompt, "--model", model, *FEW, *more, "-o", f"{i}.png"]) == 0
        made.append(pixels(f"{i}.png"))
        assert main(["again", f"{i}.png"]) == 0
        assert "\nthe same pixels" in capsys.readouterr().out, more
    assert [made.index(one) for one in made] == [*range(len(changes))]
    assert main(["generate", "a __animal__", "--model", model, *FEW, "--wildcards", "words", "-o", "w.png"]) == 0
    recipe = read_recipe("w.png")
    assert recipe["prompt"] in ("a dog", "a cat") and recipe["prompt_template"] == "a __animal__"


def test_adapters_a_second_pass_and_sides_that_meet_are_drawn_and_made_anew(model, tmp_path, capsys):
    layers = inkwash.load(model).components["unet"].state_dict()
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name in (
        f"down_blocks.0.attentions.0.transformer_blocks.0.attn{i}.to_{part}" for i in (1, 2) for part in "qv"
    ):
        outputs, inputs = layers[f"{name}.weight"].shape
        kohya = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{kohya}.lora_down.weight"] = torch.randn(2, inputs, generator=generator)
        tensors[f"{kohya}.lora_up.weight"] = torch.randn(outputs, 2, generator=generator)
    save_file(tensors, tmp_path / "ink.safetensors")
    adapter = ["--adapter", "ink.safetensors"]
    changes = [
        ("a cat", []), ("a cat", adapter), ("a cat", [*adapter, "--adapter-weight", "0.5"]),
        ("a cat <lora:ink:0.2>", adapter), ("a cat", ["--hires", "1.5"]),
        ("a cat", ["--hires", "1.5", "--hires-upscaler", "lanczos"]), ("a cat", ["--tiling", "xy"]),
        ("a cat", ["--hires", "1.5", "--hires-strength", "1"]), ("a cat", ["--hires", "1.5", "--hires-steps", "4"]),
    ]  # fmt: skip
    made = []
    for i, (prompt, more) in enumerate(changes):
        assert main(["generate", prompt, "--model", model, *FEW, *more, "-o", f"{i}.png"]) == 0, more
        made.append(pixels(f"{i}.png"))
        assert ("ink.safetensors: 8 of 8 keys fit" in capsys.readouterr().err) == ("--adapter" in more)
        assert main(["again", f"{i}.png"]) == 0
        assert "\nthe same pixels" in capsys.readouterr().out, more
    assert [made.index(one) for one in made] == [*range(len(changes))]
    with Image.open("4.png") as larger:
        assert larger.size == (96, 96)
    assert main(["generate", "a <lora:fox:1>", "--model", model, *adapter, *FEW]) == 2
    assert "<lora:fox> in the prompt: give its file as an adapter too; those given are ink" in capsys.readouterr().err


def test_another_vae_decodes_the_same_latents(folders, model, tmp_path, capsys):  # noqa: F811
    tensors, vae = load_file(next((folders["sd1"] / "vae").glob("*.safetensors"))), tmp_path / "other.safetensors"
    save_file(tensors | {"decoder.conv_out.bias": tensors["decoder.conv_out.bias"] + 0.5}, vae)
    how = ["generate", "a cat", "--model", model, *FEW]
    assert main([*how, "-o", "usual.png"]) == 0
    assert main([*how, "--vae", "other.safetensors", "-o", "other.png"]) == 0
    assert main(["again", "other.png"]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out
    assert read_recipe("other.png")["vae"]["name"] == "other.safetensors"
    with Image.open("other.png") as picture:
        assert ", VAE: other.safetensors, " in picture.info["parameters"]
    loaded = inkwash.load(model)
    state = loaded.sample_states(["a cat"], [7], steps=2)
    assert pixels("usual.png") == loaded.decode(state).tobytes()
    assert pixels("other.png") == loaded.with_vae(vae).decode(state).tobytes() != pixels("usual.png")
    assert main([*how, "--vae", "usual.png"]) == 2
    assert "usual.png" in capsys.readouterr().err


def test_a_refiner_is_a_model_of_its_own(folders, model, tmp_path, capsys):  # noqa: F811
    for name in ("sdxl", "sdxl-refiner"):
        shutil.copytree(folders[name], tmp_path / name)
    how = ["generate", "a cat", "--model", "sdxl", "--steps", "8", "--seed", "7", "--grid", "trailing"]
    refiner = ["--refiner", "sdxl-refiner"]
    for i, more in enumerate(([], refiner, [*refiner, "--refiner-start", "0.3"])):
        assert main([*how, *more, "-o", f"{i}.png"]) == 0
        assert main(["again", f"{i}.png"]) == 0
        assert "\nthe same pixels" in capsys.readouterr().out, more
    assert len({pixels(f"{i}.png") for i in range(3)}) == 3
    weights = tmp_path / "sdxl-refiner" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    assert main(["again", "1.png"]) == 0
    out = capsys.readouterr()
    assert "the model 'sdxl-refiner' has changed since" in out.err and "not the same pixels" in out.out
    assert main(["generate", "a cat", "--model", "sdxl", "--steps", "3", "--grid", "trailing", *refiner]) == 2
    assert "refiner_start = 0.8: of 3 steps none is the refiner's" in capsys.readouterr().err
    file = tmp_path / "sdxl-refiner" / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scaling_factor": 0.2}))
    assert main(["generate", "a cat", "--model", "sdxl", *refiner]) == 2
    assert "its noise or its latents are not those of the checkpoint" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "sdxl-refiner")
    assert main(["again", "1.png"]) == 2
    assert "sdxl-refiner, which is not here" in capsys.readouterr().err
    assert main(["generate", "a cat", "--model", model, *FEW, "--refiner", "nowhere"]) == 2
    assert "unknown model 'nowhere'" in capsys.readouterr().err


def test_settings_are_those_of_another_picture_where_none_are_given(model, tmp_path, capsys):
    text = "a (cat:1.2)\nNegative prompt: a dog\nSteps: 3, Sampler: Euler a, Schedule type: Karras, CFG scale: 5, "
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text + "Seed: 11, Size: 64x96, Model: other, Version: v1.10.1, Eta: 0.5")
    Image.new("RGB", (8, 8)).save(tmp_path / "web.png", pnginfo=info)
    assert main(["generate", "--model", model, "--settings", "web.png", "--guidance", "4", "-o", "one.png"]) == 0
    notes = capsys.readouterr().err
    assert "web.png: Eta: 0.5 is not taken" in notes and "it was drawn by the model other" in notes
    expected = inkwash.load(model).generate(
        "a (cat:1.2)", negative="a dog", steps=3, sampler="euler_ancestral", grid="karras", guidance=4.0, seed=11,
        width=64, height=96, seed_like="a1111",
    )  # fmt: skip
    assert pixels("one.png") == expected.tobytes()
    with Image.open("one.png") as made:
        assert (
            "Sampler: Euler a, Schedule type: Karras, CFG scale: 4, Seed: 11, Size: 64x96" in made.info["parameters"]
        )
    assert main(["again", "one.png"]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out
    (tmp_path / "t.csv").write_text("name\nrow\n")
    assert main(["generate", "--csv", "t.csv", "--model", model, "--settings", "one.png", "-o", "out"]) == 0
    assert pixels("out/row.png") == pixels("one.png")


def test_what_is_given_beside_settings_counts_though_it_is_the_usual(model, tmp_path, capsys):
    text = "a\nSteps: 2, Sampler: Euler, Seed: 3, Size: 64x64, Clip skip: 2, Emphasis: None"
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "web.png", pnginfo=info)
    options = [[], ["--weighting", "a1111"], ["--clip-skip", "0"]]
    for i, more in enumerate(options):
        assert main(["generate", "--model", model, "--settings", "web.png", *more, "-o", f"{i}.png"]) == 0
    found = [(recipe["weighting"], recipe["clip_skip"]) for recipe in map(read_recipe, ("0.png", "1.png", "2.png"))]
    assert found == [("none", 1), ("a1111", 1), ("none", 0)]
    capsys.readouterr()
    assert main(["generate", "--model", model, "--settings", "web.png", "--plan"]) == 0
    assert "without the settings of web.png" in capsys.readouterr().out


def test_a_second_pass_of_settings_is_not_taken_beside_an_image(model, photo, capsys):
    assert main(["generate", "a cat", "--model", model, *FEW, "--size", "64", "--hires", "2", "-o", "web.png"]) == 0
    both = ["--settings", "web.png", "--image", str(photo)]
    assert main(["generate", "--model", model, *both, "-o", "one.png"]) == 0
    assert "its second pass is not taken beside an image" in capsys.readouterr().err
    assert read_recipe("one.png")["hires"] is None and read_recipe("one.png")["seed"] == 7


def test_words_that_settings_shall_not_show_mean_nothing_without_guidance(model, capsys):
    assert (
        main(["generate", "a cat", "--model", model, *FEW, "--size", "64", "--negative", "b", "-o", "web.png"]) == 0
    )
    assert main(["generate", "--model", model, "--settings", "web.png", "--guidance", "1", "-o", "one.png"]) == 0
    assert "its negative prompt is not taken with a guidance of 1" in capsys.readouterr().err
    assert read_recipe("one.png")["negative"] == ""


def test_words_that_no_prompt_calls_are_named(model, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save_file({"emb_params": torch.full((1, 12), 0.1 * len(folder))}, tmp_path / folder / "ink.safetensors")
    (tmp_path / "one" / "a.txt").write_text("red")
    unused = ["--embedding", "one/ink.safetensors", "--wildcards", "one", "--size", "64", *FEW]
    notes = ("no prompt calls the embedding ink", "wildcards: no __name__ in the prompt")
    for prompt, more, said in (
        ("a cat", [], (True, True)),
        ("a __a__ cat, ink", [], (False, False)),
        ("a __a__ cat, ink", ["--weighting", "comfyui"], (True, False)),  # which writes embedding:ink
    ):
        assert main(["generate", prompt, "--model", model, *unused, *more, "-o", "out"]) == 0
        error = capsys.readouterr().err
        assert tuple(note in error for note in notes) == said
    two = ["--embedding", "one/ink.safetensors", "--embedding", "two/ink.safetensors"]
    assert main(["generate", "ink", "--model", model, *FEW, *two]) == 2
    assert "two files are called ink" in capsys.readouterr().err


def test_a_table_of_models_names_no_places(model, tmp_path, capsys):
    for name in ("one", "two"):
        shutil.copytree(model, tmp_path / "a-folder-of-a-long-name" / "and-another" / name)
    models = [tmp_path / "a-folder-of-a-long-name" / "and-another" / name for name in ("one", "two")]
    (tmp_path / "t.csv").write_text("prompt,model,refiner\n" + "".join(f"a,{one},{models[0]}\n" for one in models))
    options = ["--steps", "12", "--seed", "7", "--size", "64"]
    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")
    for made in (True, False):
        assert main(["checkpoints", "generate", "--csv", "../t.csv", *options, "--json", "-o", "out"]) == 0
        out = capsys.readouterr()
        assert ("2 made" in out.err) == made
        assert "and-another" not in out.out + (tmp_path / "here" / "out" / "results.jsonl").read_text()
    assert sorted(file.stem for file in (tmp_path / "here" / "out").glob("*.png")) == [
        "a-7-model-one",
        "a-7-model-two",
    ]
    weights = next((models[0] / "unet").glob("*.safetensors"))
    tensors = load_file(weights)
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, weights)  # the refiner of both
    assert main(["checkpoints", "generate", "--csv", "../t.csv", *options, "-o", "out"]) == 0
    assert "2 made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--image", 300 * "x"], "File name too long"),
        (["--settings", 300 * "x"], "File name too long"),
        (["--refiner", 300 * "x"], "File name too long"),
        (["--out", 300 * "x"], "File name too long"),
        (["--refiner", "emoji"], "refiner: it is no checkpoint"),
        (["--wildcards", ".", "--weighting", "none"], "wildcards means nothing with the weighting none"),
        (["--embedding", "photo.png"], "photo.png"),
        (["--settings", "photo.png"], "no settings in it"),
        (["--style", "flat"], "No such option"),
        (["--transparent"], "No such option"),
        (["--mask", "photo.png"], "mask means nothing without an image"),
        (["--image-guidance", "2", "--image", "photo.png"], "image_guidance means nothing with the model tiny"),
        (["--width", "64"], "width and height: give both"),
        (["--size", "63"], "size = 63: choose a multiple of 8 pixels, as 64"),
        (["--size", "64", "--width", "64", "--height", "64"], "width means nothing beside size"),
        (["--sampler", "tuned"], "unknown sampler 'tuned'"),
        (["--runtime", "onnx"], "drawn by torch"),
        (["--clip-skip", "12"], "clip_skip = 12"),
        (["--guidance", "0"], "guidance = 0"),
    ],
)
def test_mistakes_are_one_line(model, photo, capsys, given, message):
    assert main(["generate", "a cat", "--model", model, *FEW, *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not [*photo.parent.glob("a-cat*")]


@pytest.mark.parametrize("message", ["half-downloaded", "cannot be read"])
def test_a_broken_network_of_a_folder_is_named(model, tmp_path, capsys, message):
    file = tmp_path / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.unlink()
    if message == "half-downloaded":
        file.write_bytes(data[:-9])
    assert main(["generate", "a cat", "--model", model, *FEW]) == 2
    error = capsys.readouterr().err
    assert f"tiny/unet/diffusion_pytorch_model.safetensors: {message}" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (FLUX, "Flux 1 schnell, which cannot be drawn here"),
        (LORA, "a LoRA for SD 1, and no checkpoint"),
        (marks("VAE", "SD 1, SD 2 or SDXL"), "and no checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints_are_one_line(tmp_path, capsys, tensors, message):
    file = write(tmp_path / "m.safetensors", tensors)
    assert main(["generate", "a cat", "--model", str(file), *FEW]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_name_that_is_nowhere_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name, message in (("owner/name", "hf download owner/name"), ("nothing.safetensors", "unknown model")):
        assert main(["generate", "a cat", "--model", name]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_hub_id_in_the_cache_is_drawn(model, tmp_path, monkeypatch, capsys):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(model, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["generate", "a cat", "--model", "owner/name", *FEW]) == 0
    assert read_recipe("a-cat-7.png")["model"] == "owner/name"
    assert main(["again", "a-cat-7.png"]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out


def test_a_table_of_prompts(model, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("name,prompt,seed,width,height\none,a cat,7,64,64\ntwo,a dog,8,64,96\n")
    assert main(["generate", "--csv", "t.csv", "--model", model, "--steps", "2", "-o", "out"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["one.png", "two.png"]


def test_a_picture_of_a_program_is_made_again_with_its_adapters_and_embeddings(model, tmp_path, capsys):
    torch.manual_seed(0)
    loaded, tensors = inkwash.load(model), {}
    for name, layer in loaded.components["unet"].named_modules():
        if name.endswith("attn2.to_v"):
            key, (rows, columns) = f"lora_unet_{name.replace('.', '_')}", layer.weight.shape
            tensors |= {
                f"{key}.lora_down.weight": torch.randn(2, columns),
                f"{key}.lora_up.weight": torch.randn(rows, 2),
            }
    save_file(tensors, tmp_path / "fox.safetensors")
    save_file({"emb_params": torch.randn(2, 12)}, tmp_path / "inkstyle.safetensors")
    loaded.add_embedding(tmp_path / "inkstyle.safetensors")
    adapters = ((tmp_path / name, 0.7) for name in ("fox.safetensors",))  # which can be gone through but once
    made = loaded.generate("a cat, inkstyle <lora:fox:0.5>", n=2, steps=2, seed=7, adapters=adapters)
    made[1].save(tmp_path / "made.png")
    assert read_recipe("made.png")["adapters"]["fox.safetensors"].startswith("weight 0.5, of text encoders 0.5, ")
    assert read_recipe("made.png")["adapter_weight"] == [0.7]
    assert main(["again", "made.png"]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out


def test_a_plan_counts_what_is_asked(model, capsys):
    def plan(*more):
        assert main(["generate", "a cat", "--model", model, "--plan", "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    one = plan("--size", "64")
    assert plan("--size", "64", "-n", "3")["bytes"] == 3 * one["bytes"] > 0
    assert one["seconds"] > 0
    assert plan("--size", "64", "--hires", "2")["bytes"] == 4 * one["bytes"]
    assert main(["generate", "a cat", "--model", model, "--plan", "--size", "2048", "--hires", "3"]) == 2
    assert "hires = 3.0: 2048 x 2048 pixels would be 6144 x 6144, of at most 4096" in capsys.readouterr().err


def test_limits_are_those_of_the_checkpoint(model, tmp_path):
    verb = systems()["checkpoints"].verbs["generate"]
    found = limits(verb, tmp_path / model)
    assert set(found) <= set(options(verb.request)) and found["image_guidance"].absent and not found["mask"].absent
    assert not found["rescale"].absent
    file = tmp_path / "tiny" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rescale_betas_zero_snr": True}))
    narrowed = limits(verb, tmp_path / model)["grid"]
    assert narrowed.default == "trailing" and not set(ENDLESS) & set(narrowed.choices)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    loaded = inkwash.load(tmp_path / model)
    for grid in ENDLESS:
        with pytest.raises(UserError, match=f"grid = {grid}: this checkpoint's noise has no largest sigma"):
            loaded.generate("a cat", grid=grid)
