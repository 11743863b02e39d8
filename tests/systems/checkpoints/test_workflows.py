"""ComfyUI's workflows, as it writes them into its pictures."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.checkpoints.canvas import shortened
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable, make_grid
from inkwash.systems.checkpoints.workflows import read_workflow


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


BASE = {  # ComfyUI's own first example
    "3": node("KSampler", seed=156680208700286, steps=20, cfg=8, sampler_name="euler", scheduler="normal", denoise=1,
              model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
    "4": node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly.ckpt"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="beautiful scenery, (purple:1.2)", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="text, watermark", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
}  # fmt: skip


def read(**changes):
    """Of the example with other nodes, or (input: value) of its sampler."""
    nodes = copy.deepcopy(BASE)
    for name, value in changes.items():
        if name.startswith("n"):
            nodes[name[1:]] = value
        else:
            nodes["3"]["inputs"][name] = value
    return read_workflow(json.dumps(nodes))


def test_the_first_example():
    options, notes = read()
    assert notes == [] and options == {
        "prompt": "beautiful scenery, (purple:1.2)", "negative": "text, watermark", "seed": 156680208700286,
        "steps": 20, "guidance": 8.0, "sampler": "euler", "grid": "normal", "width": 512, "height": 768,
        "model": "v1-5-pruned-emaonly.ckpt", "weighting": "comfyui", "seed_like": "comfyui",
    }  # fmt: skip


def test_adapters_are_tags_and_layers_are_skipped():
    options, notes = read(
        n10=node("LoraLoader", lora_name="a b.safetensors", strength_model=0.8, strength_clip=0.5, model=["4", 0]),
        n11=node("LoraLoaderModelOnly", lora_name="sub/c.safetensors", strength_model=-1, model=["10", 0]),
        n12=node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1]),
        n6=node("CLIPTextEncode", text="a fox", clip=["12", 0]),
        model=["11", 0],
    )
    assert options["prompt"] == "a fox<lora:a b:0.5:0.8><lora:c:0:-1>" and options["clip_skip"] == 1
    assert len(notes) == 1 and "SDXL" in notes[0] and options["model"] == "v1-5-pruned-emaonly.ckpt"


@pytest.mark.parametrize("strength", [10**400, float("nan"), -11, "0.5"])
def test_an_adapter_of_a_strength_that_is_none_is_named(strength):
    loader = node("LoraLoader", lora_name="a.safetensors", strength_model=strength, strength_clip=1, model=["4", 0])
    options, notes = read(n10=loader, model=["10", 0])
    assert notes == ["lora_name: 'a' is not taken"] and "<lora" not in options["prompt"]


def test_words_that_are_turned_to_zeros_are_none():
    options, notes = read(n7=node("ConditioningZeroOut", conditioning=["6", 0]))
    assert options["negative"] == "" and options["prompt"].startswith("beautiful")
    assert notes[0] == "negative: zeros, for which no words are taken"


def test_the_advanced_sampler():
    inputs = BASE["3"]["inputs"] | {"noise_seed": 7, "add_noise": "enable", "start_at_step": 0, "end_at_step": 10000}
    del inputs["seed"], inputs["denoise"]
    options, notes = read(n3=node("KSamplerAdvanced", **inputs))
    assert options["seed"] == 7 and notes == []
    cut = node("KSamplerAdvanced", **inputs | {"end_at_step": 15, "add_noise": "disable"})
    notes = read(n3=cut).notes
    assert notes == ["start_at_step 0, end_at_step 15: all steps are taken", "add_noise: disable is not taken"]


@pytest.mark.parametrize("denoise", [0.07, 0.3, 0.5, 0.6, 0.87, 0.99])
def test_part_of_the_noise_takes_as_many_steps_as_comfyui(denoise):
    """int(steps / denoise) levels, of which the last steps are taken."""
    loaded = node("VAEEncode", pixels=["20", 0], vae=["4", 2])
    options, notes = read(denoise=denoise, n5=loaded, n20=node("LoadImage", image="a.png"))
    assert options["steps"] == int(20 / denoise) and notes == [
        "the picture to begin from is not in the file: give it with image"
    ]
    process = diffusion.Gaussian(diffusion.betas(NoiseTable.of(STABLE).betas))
    grid = shortened(make_grid(process, "normal", options["steps"], 1000), options["strength"])
    assert len(grid) - 1 == 20


def test_what_cannot_be_taken_is_noted():
    second = node("KSampler", **BASE["3"]["inputs"] | {"latent_image": ["21", 0], "denoise": 0.5})
    upscaled = node("LatentUpscale", samples=["3", 0])
    assert read(n6=node("CLIPTextEncode", text="{a|b}", clip=["4", 1])).options["prompt"] == r"\{a|b\}"
    options, notes = read(n30=second, n21=upscaled)
    assert options["steps"] == 20 and "strength" not in options
    assert notes == ["node 30: a second pass of sampling is not taken", "node 21: LatentUpscale is not read"]
    options, notes = read(sampler_name="res_2s", scheduler=["9", 0], cfg="8", seed=["40", 0], denoise=0.5)
    assert {"sampler", "grid", "guidance", "seed", "strength"}.isdisjoint(options) and len(notes) == 5
    notes = read(
        n6=node("CLIPTextEncode", text=["41", 0], clip=["4", 1]), n41=node("PrimitiveString", value="a")
    ).notes
    assert notes == [
        "positive: its text is made by a node that is not read; set it",
        "node 41: PrimitiveString is not read",
    ]
    assert any(
        "batch_size: 4" in note for note in read(n5=node("EmptyLatentImage", width=8, height=8, batch_size=4)).notes
    )
    assert "the checkpoint is not named" in read(model=["99", 0]).notes[0]
    assert read(positive=["50", 0], n50=node("ConditioningSetMask", conditioning=["6", 0])).options["prompt"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"1": 2}',
        '{"nodes": [{"type": "KSampler"}]}',
        "[" * 10_000,
        '{"1": {"class_type": "A", "inputs": {}}}',
    ],
)
def test_what_is_no_workflow(text):
    with pytest.raises(UserError, match=r"a workflow|no workflow"):
        read_workflow(text)


LINKS = st.sampled_from([["3", 0], ["4", 0], ["6", 0]])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), LINKS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(st.sampled_from([*"345678"]), st.data())
def test_no_value_of_a_node_is_an_error(name, data):
    nodes = copy.deepcopy(BASE)
    for key in nodes[name]["inputs"]:
        nodes[name]["inputs"][key] = data.draw(JSON)
    try:
        options = read_workflow(json.dumps(nodes)).options
    except UserError:
        return
    assert isinstance(options["prompt"], str) and isinstance(options.get("steps", 1), int)
