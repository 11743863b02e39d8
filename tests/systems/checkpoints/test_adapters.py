"""Adapters in whole pictures, beside diffusers and PEFT on the same files; what is told and recorded of them."""

import copy
import hashlib
import os
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inkwash import diffusion
from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.networks.adapters import Use, adapted, load_adapter
from inkwash.systems.checkpoints.adapters import AdapterFile, adapted_networks
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from tests.networks.test_adapters import ALONE, SPELLINGS, pairs, write
from tests.networks.test_stable_diffusion import folders  # noqa: F401

PROMPT, NEGATIVE, STEPS, GUIDANCE = "the cats", "a red fox", 4, 5.0
FEW = {"steps": 2, "seed": 7}
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "v_proj", "out_proj")


@pytest.fixture(scope="module")
def both(folders):  # noqa: F811
    """(diffusers' pipeline, ours) of a family, each loaded once."""
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("peft")

    @cache
    def load(family):
        kind = diffusers.StableDiffusionXLPipeline if family == "sdxl" else diffusers.StableDiffusionPipeline
        theirs = kind.from_pretrained(folders[family])
        theirs.set_progress_bar_config(disable=True)
        theirs.scheduler = diffusers.EulerDiscreteScheduler(**STABLE, use_karras_sigmas=True)
        components = StableDiffusion.load(folders[family]).components
        return theirs, StableDiffusion(components, NoiseTable.of(STABLE))

    return load


@pytest.fixture
def model(both):
    return both("sd1")[1]


def attention(model):
    """The layers that most adapters are of."""
    return [
        (component, name)
        for component, network in adapted_networks(model.components).items()
        for name, _ in network.named_modules()
        if name.endswith(ATTENTION)
    ]


def some(model, layers=None, size=0.3):
    """Matrices for them, each of its own numbers and small enough to leave a picture."""
    found = pairs(adapted_networks(model.components), layers or attention(model))
    return {key: (size * down, size * up) for key, (down, up) in found.items()}


def noise():
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def their_picture(pipeline):
    options = {"negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "num_inference_steps": STEPS}
    return pipeline(PROMPT, **options, height=64, width=64, latents=noise(), output_type="latent").images


def our_picture(model, *uses, merged=True):
    grid = diffusion.karras(model.process, STEPS)
    options = {"negative": NEGATIVE, "sampler": "euler", "grid": grid, "guidance": GUIDANCE, "size": (64, 64)}
    with adapted(adapted_networks(model.components), uses, merged=merged):
        return model.sample_states([PROMPT], [0], **options, noise=noise())


def error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def sdxl_of_kohya(component, layer):
    return SPELLINGS["kohya, of SDXL"](component, layer)


KOHYA = {"sd1": ALONE["kohya"], "sd2": ALONE["kohya"], "sdxl": sdxl_of_kohya}


@pytest.mark.parametrize("family", KOHYA)
def test_a_picture_is_that_of_diffusers_and_peft_merged_and_unmerged(both, family, tmp_path):
    theirs, ours = both(family)
    layers = [layer for i, layer in enumerate(attention(ours)) if layer[0] != "unet" or i % 3 == 0]
    file = write(tmp_path / "one.safetensors", KOHYA[family], some(ours, layers, 0.4))
    adapter = load_adapter(file, adapted_networks(ours.components))
    encoders = [name for name in adapted_networks(ours.components) if name != "unet"]
    base = our_picture(ours)
    assert error(base, their_picture(theirs)) < 1e-4
    beside = their_picture_with(theirs, tmp_path, one={"unet": 0.7} | dict.fromkeys(encoders, 0.4))
    fusing = copy.deepcopy(theirs)
    fusing.load_lora_weights(str(tmp_path), weight_name=file.name)
    fusing.fuse_lora(lora_scale=0.7, components=["unet", *encoders])
    fused = their_picture(fusing)
    assert error(beside, base) > 0.01 and error(fused, beside) > 1e-3
    for merged in (True, False):
        assert error(our_picture(ours, Use(adapter, 0.7, 0.4), merged=merged), beside) < 1e-4
        assert error(our_picture(ours, Use(adapter, 0.7, 0.7), merged=merged), fused) < 1e-4
    assert torch.equal(our_picture(ours), base)


def their_picture_with(pipeline, folder, **weights):
    """Each file in a folder by its weight, in a copy of the pipeline."""
    pipeline = copy.deepcopy(pipeline)
    for name in weights:
        pipeline.load_lora_weights(str(folder), weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters(list(weights), list(weights.values()))
    return their_picture(pipeline)


def test_several_adapters_add_up_as_in_diffusers(both, tmp_path):
    theirs, ours = both("sd1")
    networks, layers = adapted_networks(ours.components), attention(ours)
    convolutions = [("unet", name) for name, _ in networks["unet"].named_modules() if name.endswith("conv1")]
    uses, weights = [], {"one": 0.6, "two": -0.8}
    for name, some_layers in (("one", layers), ("two", [*layers[::2], *convolutions])):
        file = write(tmp_path / f"{name}.safetensors", ALONE["kohya"], some(ours, some_layers), alpha=len(uses) + 4.0)
        uses.append(Use(load_adapter(file, networks), weights[name], weights[name]))
    expected = their_picture_with(theirs, tmp_path, **weights)
    assert error(our_picture(ours, uses[0]), expected) > 0.01
    for merged in (True, False):
        assert error(our_picture(ours, *uses, merged=merged), expected) < 1e-4


def test_dora_is_that_of_diffusers_by_the_norm_of_the_changed_weight(both, tmp_path):
    """As PEFT writes it; kohya's spelling of it diffusers passes over."""
    theirs, ours = both("sd1")
    networks, tensors, kohya = adapted_networks(ours.components), {}, {}
    found = some(ours, [layer for layer in attention(ours) if layer[0] == "unet"])
    for i, ((_, layer), (down, up)) in enumerate(found.items()):
        weight = networks["unet"].get_submodule(layer).weight.detach()
        magnitude = weight.norm(dim=1) * (1 + torch.rand(len(weight), generator=torch.Generator().manual_seed(i)))
        parts = {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector": magnitude}
        tensors |= {f"unet.{layer}.{name}": part for name, part in parts.items()}
        parts = {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": magnitude[:, None]}
        kohya |= {f"lora_unet_{layer.replace('.', '_')}.{name}": part for name, part in parts.items()}
    save_file(tensors, tmp_path / "one.safetensors")
    save_file(kohya, tmp_path / "two.safetensors")
    expected = their_picture_with(theirs, tmp_path, one=1.0)
    for name, merged in (("one", True), ("one", False), ("two", True)):
        use = Use(load_adapter(tmp_path / f"{name}.safetensors", networks), 1.0, 1.0)
        assert error(our_picture(ours, use, merged=merged), expected) < 1e-4
    with adapted(networks, [use], "original"):
        other = our_picture(ours)  # as ComfyUI has it
    assert error(other, expected) > 0.003


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_what_diffusers_saves_is_read_with_its_alphas(both, family, tmp_path):
    """They stand in the header alone, where other files have tensors for them."""
    theirs, ours = copy.deepcopy(both(family)[0]), both(family)[1]
    peft = pytest.importorskip("peft")
    networks, saved = adapted_networks(ours.components), {}
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    options = {"target_modules": ["to_q", "to_out.0", "q_proj"], "init_lora_weights": False}
    torch.manual_seed(2)
    for name in networks:
        patterns = {"alpha_pattern": {layer: 2}} if name == "unet" else {}
        config = peft.LoraConfig(r=3, lora_alpha=7, **options, **patterns)
        network = peft.inject_adapter_in_model(config, getattr(theirs, name))
        saved[f"{name}_lora_layers"] = peft.get_peft_model_state_dict(network)
        saved[f"{name}_lora_adapter_metadata"] = config.to_dict()
    assert theirs.unet.get_submodule(layer).scaling == {"default": 2 / 3}
    expected = their_picture(theirs)
    theirs.save_lora_weights(tmp_path, **saved)
    adapter = load_adapter(tmp_path / "pytorch_lora_weights.safetensors", networks)
    assert adapter.matched == adapter.total and not adapter.notes
    assert error(our_picture(ours), expected) > 0.01
    assert error(our_picture(ours, Use(adapter, 1.0, 1.0)), expected) < 1e-4


PEFT = {
    "LoRA": ("LoraConfig", {"lora_alpha": 7}),
    "rank-stabilised LoRA": ("LoraConfig", {"lora_alpha": 7, "use_rslora": True}),
    "DoRA": ("LoraConfig", {"lora_alpha": 7, "use_dora": True}),
    "LoHa": ("LoHaConfig", {"alpha": 7}),
    "LoHa with cores": ("LoHaConfig", {"alpha": 7, "use_effective_conv2d": True}),
    "LoKr": ("LoKrConfig", {"alpha": 7}),
    "LoKr, both factored": ("LoKrConfig", {"alpha": 7, "decompose_both": True, "decompose_factor": 4}),
    "LoKr with cores": ("LoKrConfig", {"alpha": 7, "use_effective_conv2d": True}),
    "LoKr, whole": ("LoKrConfig", {"alpha": 7, "r": 64}),
}


@pytest.mark.parametrize("kind", PEFT)
@torch.no_grad()
def test_what_peft_saves_is_read_as_peft_computes_it(model, kind, tmp_path):
    peft = pytest.importorskip("peft")
    config, options = PEFT[kind]
    unet = model.components["unet"]
    torch.manual_seed(3)
    layers = ["conv1", "attn1.to_q", "ff.net.2"]
    options = {"r": 2, "init_weights": False, "target_modules": layers} | options
    if config == "LoraConfig":
        options["init_lora_weights"] = options.pop("init_weights")
    theirs = peft.get_peft_model(copy.deepcopy(unet), getattr(peft, config)(**options)).eval()
    for name, parameter in theirs.named_parameters():
        if "lokr" in name or "hada" in name or ("lora_" in name and "magnitude" not in name):
            parameter.normal_(std=0.5)
        elif "magnitude" in name:
            parameter.mul_(1.5)
    theirs.save_pretrained(tmp_path)
    x, time, context = torch.randn(2, 4, 8, 8), torch.tensor([7.0, 500.0]), torch.randn(2, 77, 12)
    expected, base = theirs(x, time, context), unet(x, time, context)
    adapter = load_adapter(tmp_path / "adapter_model.safetensors", {"unet": unet})
    assert adapter.matched == adapter.total and not adapter.notes
    assert error(expected, base) > 0.01
    for merged in (True, False):
        with adapted({"unet": unet}, [Use(adapter, 1.0, 1.0)], merged=merged):
            assert error(unet(x, time, context), expected) < 1e-5


@pytest.fixture
def lora(model, tmp_path):
    return write(tmp_path / "fox.safetensors", ALONE["kohya"], some(model))


def test_a_recipe_names_each_adapter_and_makes_the_same_picture(model, lora):
    plain = model.generate(PROMPT, **FEW)
    picture = model.generate(PROMPT, adapters=[(lora, 0.7, 0.4)], **FEW)
    recipe = picture.info[KEY]
    sha256 = hashlib.sha256(lora.read_bytes()).hexdigest()
    count = len(load_file(lora))
    said = f"weight 0.7, of text encoders 0.4, {count} of {count} keys, SHA-256 {sha256}"
    assert recipe["adapters"] == {"fox.safetensors": said}
    assert (recipe["dora_norm"], recipe["merge_adapters"]) == (None, True)
    assert plain.info[KEY]["adapters"] is None and plain.info[KEY]["merge_adapters"] is None
    again = model.generate(PROMPT, adapters=[AdapterFile(lora, 0.7, 0.4)], **FEW)
    assert again.tobytes() == picture.tobytes() != plain.tobytes()
    assert model.generate(PROMPT, **FEW).tobytes() == plain.tobytes()
    assert model.generate(PROMPT, adapters=[(lora, 0.0)], **FEW).tobytes() == plain.tobytes()


def test_each_weight_and_each_way_changes_the_picture_as_it_should(model, lora):
    made = [
        np.asarray(model.generate(PROMPT, adapters=[use], **FEW), float)
        for use in (str(lora), (lora, 1.0), (lora, 0.5), (lora, 1.0, 0.0), (lora, -1.0))
    ]
    assert np.array_equal(made[0], made[1])
    assert all(np.abs(made[i] - made[k]).max() > 1 for i in range(1, 5) for k in range(1, i))
    unmerged = model.generate(PROMPT, adapters=[lora], merge_adapters=False, **FEW)
    assert unmerged.info[KEY]["merge_adapters"] is False
    assert np.abs(np.asarray(unmerged, float) - made[0]).max() <= 1


def test_a_new_weight_reads_no_file_and_a_new_file_is_read(model, lora, monkeypatch):
    from inkwash.systems.checkpoints import adapters

    read = []
    monkeypatch.setattr(adapters, "load_adapter", lambda path, *rest: read.append(path) or load_adapter(path, *rest))
    for weight in (1.0, 0.5):
        model.generate(PROMPT, adapters=[(lora, weight)], **FEW)
    assert read == [lora]
    write(lora, ALONE["kohya"], some(model, size=0.5))
    os.utime(lora, ns=(1, 1))
    model.generate(PROMPT, adapters=[lora], **FEW)
    assert read == [lora, lora]


def test_a_stopped_picture_leaves_the_checkpoint_as_it_was(model, lora):
    before = {name: value.clone() for name, value in model.components["unet"].state_dict().items()}

    def stop(*_):
        raise KeyboardInterrupt

    for merged in (True, False):
        with pytest.raises(KeyboardInterrupt):
            model.generate(PROMPT, adapters=[lora], merge_adapters=merged, progress=stop, **FEW)
        after = model.components["unet"].state_dict()
        assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_it_is_told_how_many_keys_fit_and_how_dora_is_read(model, lora):
    tensors, count = load_file(lora), len(load_file(lora))
    assert model.adapter_notes([lora]) == [f"fox.safetensors: {count} of {count} keys fit"]
    save_file(tensors | {"odd.lora_up.weight": torch.ones(1)}, lora)
    notes = [f"{count} of {count + 1} keys fit", "what fits no layer is passed over: 'odd.lora_up.weight'"]
    assert model.adapter_notes([lora]) == [f"fox.safetensors: {note}" for note in notes]
    key = next(name for name in tensors if name.startswith("lora_unet_")).split(".")[0]
    out = len(tensors[f"{key}.lora_up.weight"])
    mine = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{key}.")}
    save_file(mine | {f"{key}.dora_scale": torch.ones(out, 1)}, lora)
    assert model.adapter_notes([lora])[1:] == [
        "fox.safetensors: DoRA, of whose two norms that of the changed weight is taken"
    ]
    assert model.adapter_notes([(lora, 1, 0.5)], "original")[1:] == [
        "fox.safetensors: it changes no text encoder, so that its weight for those means nothing",
        "fox.safetensors: DoRA, of whose two norms that of the original weight, as in ComfyUI is taken",
    ]
    pictures = [model.generate(PROMPT, adapters=[lora], dora_norm=norm, **FEW) for norm in ("changed", "original")]
    assert [picture.info[KEY]["dora_norm"] for picture in pictures] == ["changed", "original"]


def test_each_of_several_pictures_has_the_adapters(model, lora):
    given = [lora, str(lora), [lora], (one for one in [lora])]
    made = [model.generate(PROMPT, adapters=one, n=2, **FEW) for one in given]
    assert all([[*picture.info[KEY]["adapters"]] for picture in two] == 2 * [[lora.name]] for two in made)
    assert len({tuple(picture.tobytes() for picture in two) for two in made}) == 1


def test_a_few_step_adapter_chooses_what_is_not_given(model, lora):
    fast = lora.rename(lora.with_name("lcm-lora-sdv1-5.safetensors"))
    recipe = model.generate(PROMPT, adapters=[fast], seed=7).info[KEY]
    chosen = [recipe[name] for name in ("sampler", "grid", "steps", "guidance")]
    assert chosen == ["consistency", "trailing", 4, 1.0]
    how = "sampler consistency, grid trailing, 4 steps, guidance 1"
    assert model.adapter_notes([fast])[1:] == [f"{fast.name}: this LCM adapter is sampled as it wants: {how}"]
    given = {"sampler": "euler", "steps": 2, "guidance": 7.0}
    recipe = model.generate(PROMPT, adapters=[fast], seed=7, **given).info[KEY]
    assert {name: recipe[name] for name in given} == given
    wants = "sampler consistency, not euler; 4 to 8 steps, not 2; guidance 1 to 2, not 7"
    assert model.adapter_notes([fast], **given)[1:] == [f"{fast.name}: this LCM adapter wants {wants}"]
    off = model.generate(PROMPT, adapters=[(fast, 0.0, 1.0)], steps=2, seed=7).info[KEY]
    assert off["sampler"] == "dpmpp_2m" and off["guidance"] == 7.0


def test_two_files_of_one_name_are_refused_as_recipes_know_them_by_it(model, lora):
    other = lora.with_name("other") / lora.name
    other.parent.mkdir()
    shutil.copy(lora, other)
    with pytest.raises(UserError, match="two adapters have this file's name: rename one"):
        model.generate(PROMPT, adapters=[lora, other], **FEW)


@pytest.mark.parametrize(
    ("adapters", "options", "message"),
    [
        ([("{}", 11.0)], {}, "fox.safetensors: weight 11.0: choose a number from -10 to 10"),
        ([("{}", 1.0, float("nan"))], {}, "fox.safetensors: weight nan"),
        (["{}", ("{}", 0.5)], {}, "fox.safetensors: named twice"),
        (["{}x"], {}, "fox.safetensorsx: no such file"),
        (["{}"], {"dora_norm": "both"}, "unknown dora_norm 'both'"),
        (["{}"], {"dora_norm": "original"}, "it means nothing without a DoRA among the adapters"),
    ],
)
def test_what_cannot_be_asked_for(model, lora, adapters, options, message):
    def named(part):
        return part.format(lora) if isinstance(part, str) else part

    files = [tuple(map(named, one)) if isinstance(one, tuple) else named(one) for one in adapters]
    for ask in (model.generate, None):
        with pytest.raises(UserError, match=message) as caught:
            model.generate(PROMPT, adapters=files, **FEW, **options) if ask else model.adapter_notes(files, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_adapter_makes_the_same_picture_in_every_way_of_offloading(folders, tmp_path, precision):  # noqa: F811
    """A weight in bfloat16 is the changed weight rounded, not the rounded one changed."""
    torch.manual_seed(0)
    file, tensors = tmp_path / "fox.safetensors", {}
    for name, layer in StableDiffusion.load(folders["sd1"]).components["unet"].named_modules():
        if name.endswith("attn2.to_v"):
            key, (rows, columns) = f"lora_unet_{name.replace('.', '_')}", layer.weight.shape
            tensors |= {
                f"{key}.lora_down.weight": torch.randn(2, columns),
                f"{key}.lora_up.weight": torch.randn(rows, 2),
            }
    save_file(tensors, file)
    plain, *pictures = [
        StableDiffusion.load(folders["sd1"], precision=precision, offload=offload)
        .generate(PROMPT, steps=2, seed=7, adapters=[file] if used else [])
        .tobytes()
        for offload, used in (("none", False), ("none", True), ("network", True), ("layer", True))
    ]
    assert len({*pictures}) == 1 and plain not in pictures
    model = StableDiffusion.load(folders["sd1"], precision=precision, offload="none")
    assert model.generate(PROMPT, steps=2, seed=7, adapters=[file]).tobytes() == pictures[0]
    assert model.generate(PROMPT, steps=2, seed=7).tobytes() == plain  # after it the weights are as they were
