"""Adapters out of files in every spelling, and onto networks: merged, unmerged, and off again."""

import json
import math
import re
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from inkwash.errors import UserError
from inkwash.networks.adapters import Adapter, Use, adapted, layers_of, load_adapter, spellings
from inkwash.networks.stable_diffusion import CLASSES, CONFIGS
from inkwash.networks.weight_changes import Change
from inkwash.weights.single_file import FAMILIES, to_single_file, unet_sources
from tests.networks.test_stable_diffusion import TINY, on_meta

RANK, ALPHA = 2, 5.0


def networks_of(family):
    """Tiny ones with random weights."""
    torch.manual_seed(0)
    parts = {name: CLASSES[name](**config).eval() for name, config in TINY[family].items() if name != "vae"}
    for network in parts.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return parts


@pytest.fixture(scope="module")
def sd1():
    return networks_of("sd1")


@pytest.fixture(scope="module")
def sdxl():
    return networks_of("sdxl")


def some_layers(networks):
    """Of each network, one of each way of being named."""
    endings = ("attn1.to_q", "attn2.to_out.0", "ff.net.0.proj", "proj_in", "conv1", "conv_shortcut", "time_emb_proj")
    endings += ("downsamplers.0.conv", "upsamplers.0.conv", "q_proj", "out_proj", "mlp.fc1", "text_projection")
    endings += ("conv_in", "time_embedding.linear_1", "conv_out")
    return [
        (component, next(layers))
        for component, network in networks.items()
        for ending in endings
        if any(name.endswith(ending) for name in layers_of(network))
        for layers in [(name for name in reversed(layers_of(network)) if name.endswith(ending))]
    ]


def pairs(networks, layers=None):
    """Random matrices of rank RANK for some layers."""
    torch.manual_seed(1)
    found = {}
    for component, layer in layers or some_layers(networks):
        shape = networks[component].get_submodule(layer).weight.shape
        down = torch.randn(RANK, *shape[1:])
        up = torch.randn(shape[0], RANK, *[1] * (len(shape) - 2))
        found[component, layer] = (down, up)
    return found


KOHYA = ("lora_down.weight", "lora_up.weight", "alpha")
PEFT = ("lora_A.weight", "lora_B.weight", None)


@cache
def original_names():
    return unet_sources([name for name in on_meta("sdxl", "unet") if name.endswith(".weight")])


def original(layer):
    """As the first programs name the layers of SDXL's U-Net."""
    return original_names()[f"{layer}.weight"].name.removesuffix(".weight")


def under(prefixes, endings, name=lambda component, layer: layer, dots=True):
    def spell(component, layer):
        text = name(component, layer)
        return prefixes[component] + (text if dots else text.replace(".", "_")), endings

    return spell


TE = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
DOTTED = {name: f"{name}." for name in ("unet", "text_encoder", "text_encoder_2")}
SPELLINGS = {
    "kohya and OneTrainer": under({"unet": "lora_unet_"} | TE, KOHYA, dots=False),
    "kohya, of SDXL": under(
        {"unet": "lora_unet_"} | TE, KOHYA, lambda c, layer: original(layer) if c == "unet" else layer, dots=False
    ),
    "LyCORIS": under({"unet": "lycoris_"} | TE, KOHYA, dots=False),
    "ComfyUI": under(
        {
            "unet": "diffusion_model.",
            "text_encoder": "text_encoders.clip_l.transformer.",
            "text_encoder_2": "text_encoders.clip_g.transformer.",
        },
        KOHYA,
        lambda c, layer: original(layer) if c == "unet" else layer,
    ),
    "diffusers and PEFT": under(DOTTED, PEFT),
    "diffusers, with a name of PEFT's": under(DOTTED, ("lora_A.default.weight", "lora_B.default.weight", None)),
    "PEFT, each network": under({name: f"{prefix}base_model.model." for name, prefix in DOTTED.items()}, KOHYA),
    "diffusers before": under(DOTTED, ("lora.down.weight", "lora.up.weight", "alpha")),
    "text encoders of diffusers before": under(
        DOTTED, ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight", "alpha")
    ),
    "text encoders of transformers 5": under(DOTTED, PEFT, lambda c, layer: layer.removeprefix("text_model.")),
}


def write(path, spell, found, alpha=ALPHA, metadata=None):
    """A file of these pairs; alpha as its spelling has it."""
    tensors, configs = {}, {}
    for (component, layer), (down, up) in found.items():
        name, (first, second, scale) = spell(component, layer)
        tensors |= {f"{name}.{first}": down, f"{name}.{second}": up}
        if scale:
            tensors[f"{name}.{scale}"] = torch.tensor(alpha)
        else:
            configs |= {f"{component}.r": RANK, f"{component}.lora_alpha": alpha}
    metadata = metadata or ({"lora_adapter_metadata": json.dumps(configs)} if configs else {})
    save_file(tensors, path, metadata)
    return path


def same(one: Adapter, other: Adapter) -> bool:
    return one.changes.keys() == other.changes.keys() and all(
        change.scale == other.changes[key].scale
        and change.parts.keys() == other.changes[key].parts.keys()
        and all(torch.equal(part, other.changes[key].parts[name]) for name, part in change.parts.items())
        for key, change in one.changes.items()
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_gives_the_same_changes_bit_for_bit(sdxl, spelling, tmp_path):
    found = pairs(sdxl)
    adapter = load_adapter(write(tmp_path / "one.safetensors", SPELLINGS[spelling], found), sdxl)
    expected = {key: Change("LoRA", {"down": a, "up": b}, ALPHA / RANK) for key, (a, b) in found.items()}
    assert len(found) > 15 and adapter.matched == adapter.total and not adapter.notes
    assert same(adapter, Adapter(expected, 0, 0, (), {}))


ALONE = {  # where there is one text encoder
    "kohya": under({"unet": "lora_unet_", "text_encoder": "lora_te_"}, KOHYA, dots=False),
    "PEFT": under(dict.fromkeys(("unet", "text_encoder"), "base_model.model."), KOHYA),
    "PEFT, bare": under(dict.fromkeys(("unet", "text_encoder"), ""), KOHYA),
}


@pytest.mark.parametrize("spelling", ALONE)
def test_the_only_text_encoder_needs_no_number(sd1, sdxl, spelling, tmp_path):
    found = pairs(sd1)
    adapter = load_adapter(write(tmp_path / "one.safetensors", ALONE[spelling], found), sd1)
    assert adapter.changes.keys() == found.keys() and adapter.matched == adapter.total
    encoder = pairs(sdxl, [("text_encoder", "text_model.encoder.layers.0.mlp.fc1")])  # of which one, it does not say
    with pytest.raises(UserError, match="0 of 3 keys fit"):
        load_adapter(write(tmp_path / "two.safetensors", ALONE[spelling], encoder), sdxl)


def test_attention_processors_of_diffusers_before_are_read(sd1, tmp_path):
    layers = [f"mid_block.attentions.0.transformer_blocks.0.attn2.{name}" for name in ("to_k", "to_out.0")]
    found = pairs(sd1, [("unet", layer) for layer in layers])
    block, _ = layers[0].rsplit(".", 1)
    tensors = {}
    for (_, layer), (down, up) in found.items():
        name = layer.removeprefix(f"{block}.").removesuffix(".0")
        tensors |= {f"unet.{block}.processor.{name}_lora.{k}.weight": x for k, x in (("down", down), ("up", up))}
    encoder = pairs(sd1, [("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj")])
    ((down, up),) = encoder.values()
    name = "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora"
    tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    save_file(tensors, tmp_path / "one.safetensors")
    adapter = load_adapter(tmp_path / "one.safetensors", sd1)
    expected = {key: Change("LoRA", {"down": a, "up": b}, 1.0) for key, (a, b) in (found | encoder).items()}
    assert same(adapter, Adapter(expected, 0, 0, (), {}))
    assert adapter.notes == ("it says no alpha: its rank is taken, as other tools do",)


@pytest.mark.parametrize("family", CONFIGS)
def test_no_two_layers_of_the_real_networks_have_one_spelling(family):
    for folder in CONFIGS[family].keys() - {"vae"}:
        layers = [name.removesuffix(".weight") for name in on_meta(family, folder) if name.endswith(".weight")]
        names = spellings(folder, layers)
        assert all(names[layer.replace(".", "_")] == layer for layer in layers)
        if folder == "unet":
            sources = unet_sources([f"{layer}.weight" for layer in layers])
            others = {s.name.removesuffix(".weight").replace(".", "_"): n for n, s in sources.items()}
            assert len(others) == len(layers)
            assert all(names[name] == layer.removesuffix(".weight") for name, layer in others.items())


def test_each_kind_is_read_from_its_keys(sd1, tmp_path):
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    out, inner = sd1["unet"].get_submodule(layer).weight.shape
    a, b = torch.randn(out, RANK), torch.randn(RANK, inner)
    kinds = {
        "LoHa": ({"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": a + 1, "hada_w2_b": b + 1}, ALPHA / RANK),
        "LoKr": ({"lokr_w1": torch.randn(2, 2), "lokr_w2": torch.randn(out // 2, inner // 2)}, 1.0),
        "difference": ({"diff": torch.randn(out, inner)}, 1.0),
        "LoRA": ({"lora_up.weight": a, "lora_down.weight": b, "dora_scale": torch.rand(out, 1)}, ALPHA / RANK),
    }
    for kind, (parts, scale) in kinds.items():
        tensors = {f"lora_unet_{layer.replace('.', '_')}.{name}": part for name, part in parts.items()}
        tensors[f"lora_unet_{layer.replace('.', '_')}.alpha"] = torch.tensor(ALPHA)
        save_file(tensors, tmp_path / "one.safetensors")
        ((key, change),) = load_adapter(tmp_path / "one.safetensors", sd1).changes.items()
        assert (key, change.kind, change.scale) == (("unet", layer), kind, scale)
        assert len(change.parts) == len(parts)


def test_norms_and_biases_are_changed_by_their_differences(sd1, tmp_path):
    norm, linear = "conv_norm_out", "time_embedding.linear_1"
    unet = sd1["unet"]
    parts = {
        f"lora_unet_{norm}.w_norm": torch.randn_like(unet.get_submodule(norm).weight),
        f"lora_unet_{norm}.b_norm": torch.randn_like(unet.get_submodule(norm).bias),
        "lora_unet_time_embedding_linear_1.diff_b": torch.randn_like(unet.get_submodule(linear).bias),
    }
    save_file(parts, tmp_path / "one.safetensors")
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    names = (f"{norm}.weight", f"{norm}.bias", f"{linear}.bias")
    uses = [Use(load_adapter(tmp_path / "one.safetensors", sd1), 0.5, 0.0)]
    for merged in (True, False):
        with adapted(sd1, uses, merged=merged):
            places = [name.rpartition(".") for name in names]
            values = [getattr(unet.get_submodule(layer), kind).clone() for layer, _, kind in places]
        for value, name, part in zip(values, names, parts.values(), strict=True):
            torch.testing.assert_close(value, before[name] + 0.5 * part)


class Layers(nn.ModuleDict):
    """One of each kind of layer that is changed."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(
            {
                "linear": nn.Linear(4, 4),
                "wide": nn.Conv2d(4, 4, 3, stride=2, padding=1),
                "narrow": nn.Conv2d(4, 4, 1),
                "norm": nn.GroupNorm(2, 4),
            }
        )

    def forward(self, x):
        x = self["norm"](self["narrow"](self["wide"](x)))
        return self["linear"](x.flatten(2).transpose(1, 2))


def a_change(kind, layer, seed, dora):
    generator = torch.Generator().manual_seed(seed)
    weight = layer.weight

    def random(*shape):
        return torch.randn(shape, generator=generator) / 2

    if weight.ndim == 1:
        return Change("difference", {"diff": random(4), "diff_b": random(4)}, 1.0)
    kernel = weight.shape[2:]
    sides = {"a": (4, 2), "b": (2, 4 * math.prod(kernel))}
    parts = {
        "LoRA": {"down": random(2, 4, *kernel), "up": random(4, 2, *[1] * len(kernel))},
        "LoHa": {f"hada_w{n}_{side}": random(*sides[side]) for n in (1, 2) for side in sides},
        "LoKr": {"lokr_w1": random(2, 2), "lokr_w2": random(2, 2, *kernel)},
        "difference": {"diff": random(*weight.shape), "diff_b": random(4)},
    }[kind]
    if dora:
        parts["dora_scale"] = 1 + random(4, *[1] * (weight.ndim - 1)).abs()
    return Change(kind, parts, 0.75)


def adapter_with(**layers):
    return Adapter({("unet", name): change for name, change in layers.items()}, 0, 0, (), {})


KIND = st.tuples(st.sampled_from(["LoRA", "LoHa", "LoKr", "difference"]), st.integers(0, 99), st.booleans())
WEIGHTS = st.floats(-2, 2).map(lambda x: round(x, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(KIND, WEIGHTS), min_size=1, max_size=3), st.sampled_from(["changed", "original"]))
def test_merged_equals_unmerged_equals_the_changed_weights_and_nothing_stays(several, dora_norm):
    network = Layers()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(5))
    before, parameters = {n: v.clone() for n, v in network.state_dict().items()}, dict(network.named_parameters())
    uses, by_hand = [], {name: value.clone() for name, value in before.items()}
    for (kind, seed, dora), weight in several:
        changes = {name: a_change(kind, layer, seed, dora) for name, layer in layers_of(network).items()}
        uses.append(Use(adapter_with(**changes), weight, -9.0))
        for name, change in changes.items():
            for part in ("weight", "bias"):
                key = f"{name}.{part}"
                if (added := change.delta(part, before[key], dora_norm)) is not None:
                    by_hand[key] += weight * added
    expected = torch.func.functional_call(network, by_hand, x)
    found = []
    for merged in (True, False):
        with torch.no_grad(), adapted({"unet": network}, uses, dora_norm, merged):
            found.append(network(x))
        assert all(one is parameters[name] for name, one in network.named_parameters())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("merged", [True, False])
def test_what_fails_within_leaves_nothing_changed(merged):
    network = Layers()
    before, kinds = {n: v.clone() for n, v in network.state_dict().items()}, [type(x) for x in network.modules()]
    change = a_change("LoRA", network["wide"], 0, False)
    broken = Change("LoRA", {"down": torch.randn(2, 3), "up": torch.randn(4, 2)}, 1.0)
    with (
        pytest.raises(RuntimeError),
        adapted({"unet": network}, [Use(adapter_with(wide=change), 1, 1)], merged=merged),
    ):
        network(torch.randn(1, 3, 6, 6))
    several = [Use(adapter_with(wide=change, linear=broken), 1, 1)]
    with pytest.raises(ValueError, match="4 x 3 for 4 x 4"), adapted({"unet": network}, several, merged=merged):
        network(torch.randn(1, 4, 6, 6))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [type(x) for x in network.modules()] == kinds


@pytest.mark.parametrize("merged", [True, False])
def test_gradients_are_those_of_the_changed_weights(merged):
    network, x = Layers(), torch.randn(1, 4, 6, 6, requires_grad=True)
    change = a_change("LoRA", network["wide"], 0, False)
    weight = network["wide"].weight.detach()
    by_hand = F.conv2d(x, weight + change.delta("weight", weight), network["wide"].bias, 2, 1)
    (expected,) = torch.autograd.grad(by_hand.square().sum(), x)
    with adapted({"unet": network}, [Use(adapter_with(wide=change), 1, 1)], merged=merged):
        (found,) = torch.autograd.grad(network["wide"](x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_the_precision_of_a_weight_stays_and_the_sum_is_reckoned_in_float32():
    network = Layers().to(torch.bfloat16)
    small = Change("difference", {"diff": torch.full((4, 4), 2.0**-12)}, 1.0)
    before = network["linear"].weight.detach().clone()
    with adapted({"unet": network}, [Use(adapter_with(linear=small), 1, 1)] * 64):
        after = network["linear"].weight.detach().clone()
    assert after.dtype == torch.bfloat16
    assert torch.equal(after, (before.float() + 64 * 2.0**-12).to(torch.bfloat16))  # one alone would be lost


def test_autocast_does_not_round_the_change():
    network = Layers()
    change = a_change("LoRA", network["linear"], 0, False)
    weight = network["linear"].weight.detach()
    uses, expected = [Use(adapter_with(linear=change), 1, 1)], weight + change.delta("weight", weight)
    with torch.autocast("cpu", torch.bfloat16), adapted({"unet": network}, uses, merged=False):
        assert torch.equal(network["linear"].weight, expected)


def test_each_network_has_its_weight(sd1, tmp_path):
    adapter = load_adapter(write(tmp_path / "one.safetensors", ALONE["kohya"], pairs(sd1)), sd1)
    before = {name: {k: v.clone() for k, v in network.state_dict().items()} for name, network in sd1.items()}

    def changed(component):
        state = sd1[component].state_dict()
        return {key.removesuffix(".weight") for key in state if not torch.equal(state[key], before[component][key])}

    with adapted(sd1, [Use(adapter, 0.0, 1.0)]):
        assert not changed("unet")
        assert changed("text_encoder") == {layer for name, layer in adapter.changes if name == "text_encoder"}
    with adapted(sd1, [Use(adapter, 1.0, 0.0)]):
        assert not changed("text_encoder")
        assert changed("unet") == {layer for name, layer in adapter.changes if name == "unet"}


@pytest.mark.parametrize(("more", "root"), [({}, RANK), ({"use_rslora": True}, math.sqrt(RANK))])
def test_pefts_configuration_gives_each_layer_its_scale(sd1, tmp_path, more, root):
    layers = {"mid_block.attentions.0.proj_in": 4, "mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 6}
    layers |= {"time_embedding.linear_1": 10}
    found = pairs(sd1, [("unet", layer) for layer in layers])
    config = {"lora_alpha": 4, "alpha_pattern": {"attn1.to_q": 6, "^time_embedding.linear_1": 10}} | more
    header = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in config.items()})}
    file = write(tmp_path / "one.safetensors", SPELLINGS["diffusers and PEFT"], found, metadata=header)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    spell, plain = under({"unet": "base_model.model."}, PEFT), {"format": "pt"}
    for path in (file, write(tmp_path / "adapter_model.safetensors", spell, found, metadata=plain)):
        scales = {layer: change.scale for (_, layer), change in load_adapter(path, sd1).changes.items()}
        assert scales == {layer: alpha / root for layer, alpha in layers.items()}


def test_alpha_0_means_the_rank(sd1, tmp_path):
    path = write(tmp_path / "one.safetensors", ALONE["kohya"], pairs(sd1), alpha=0.0)
    assert {change.scale for change in load_adapter(path, sd1).changes.values()} == {1.0}


def test_what_fits_no_layer_is_counted_and_named(sd1, tmp_path):
    found = pairs(sd1)
    path = write(tmp_path / "one.safetensors", ALONE["kohya"], found)
    more = {"lora_unet_motion.lora_down.weight": torch.ones(2, 3), "odd": torch.ones(1)}
    save_file(load_file(path) | more, path)
    adapter = load_adapter(path, sd1)
    assert (adapter.matched, adapter.total) == (3 * len(found), 3 * len(found) + 2)
    assert adapter.notes == ("what fits no layer is passed over: 'lora_unet_motion.lora_down.weight' and 1 more",)


Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
DOWN, UP = f"{Q}.lora_down.weight", f"{Q}.lora_up.weight"
PAIR = {DOWN: torch.ones(2, 16), UP: torch.ones(16, 2)}
REFUSED = {
    "nothing fits": ({f"{Q}x.lora_down.weight": torch.ones(2, 16)}, "0 of 1 keys fit; name an adapter"),
    "OFT": ({f"{Q}.oft_blocks": torch.ones(4, 4, 4)}, "an adapter with OFT .*, which is not read"),
    "BOFT": ({f"{Q}.oft_blocks": torch.ones(2, 4, 4, 4)}, "an adapter with BOFT"),
    "PEFT's BOFT": ({"base_model.model.x.boft_R": torch.ones(2, 4, 4, 4)}, "an adapter with BOFT"),
    "PEFT's OFT": ({"base_model.model.x.oft_R.weight": torch.ones(2, 4)}, "an adapter with OFT"),
    "GLoRA": ({f"{Q}.{n}.weight": torch.ones(2, 2) for n in ("a1", "a2", "b1", "b2")}, "an adapter with GLoRA"),
    "AdaLoRA": (PAIR | {f"{Q}.lora_E": torch.ones(2, 1)}, "an adapter with AdaLoRA"),
    "biases": (PAIR | {f"{Q}.lora_B.bias": torch.ones(16)}, "an adapter with biases"),
    "biases of kohya": (PAIR | {f"{Q}.lora_up.bias": torch.ones(16)}, "an adapter with biases"),
    "scalars": (PAIR | {f"{Q}.scalar": torch.tensor(2.0)}, "an adapter with scalars"),
    "half a pair": ({DOWN: torch.ones(2, 16)}, "1 of 1 layers do not fit, as .*'up' is missing"),
    "two kinds": (PAIR | {f"{Q}.diff": torch.ones(16, 16)}, "has diff, down, up, which is of no kind"),
    "alpha alone": (PAIR | {"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "conv_in has alpha, which is of no kind"),
    "another shape": (PAIR | {UP: torch.ones(8, 2)}, "8 x 16 for 16 x 16"),
    "too many inputs": (PAIR | {DOWN: torch.ones(2, 17)}, "16 x 17 for 16 x 16"),
    "ranks that differ": (PAIR | {UP: torch.ones(16, 3)}, "matrices do not fit each other"),
    "of rank 0": ({DOWN: torch.ones(0, 16), UP: torch.ones(16, 0)}, "the rank or alpha of mid_block"),
    "two alphas": (PAIR | {f"{Q}.alpha": torch.ones(2)}, "the rank or alpha of mid_block"),
    "a number for a matrix": (PAIR | {DOWN: torch.tensor(1.0)}, "the rank or alpha"),
    "a magnitude of another layer": (PAIR | {f"{Q}.dora_scale": torch.ones(8, 1)}, "magnitude 8 x 1 for 16 x 16"),
    "whole numbers": (PAIR | {UP: torch.ones(16, 2, dtype=torch.int8)}, "has whole numbers"),
    "not finite": (PAIR | {UP: torch.full((16, 2), torch.inf)}, "is not finite"),
    "a bias where there is none": (PAIR | {f"{Q}.diff_b": torch.ones(16)}, "it has no bias"),
    "two spellings": (
        PAIR | {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 16)},
        "are both of unet.mid_block",
    ),
    "a name of two lines": ({"x\ny.oft_blocks": torch.ones(4, 4, 4)}, r"an adapter with OFT \('x.ny.oft_blocks'\)"),
    "a name that ends in one": ({f"{DOWN}\n": torch.ones(2, 16)}, "no adapter, but nothing that is known"),
    "an embedding": ({"emb_params": torch.ones(2, 768)}, "no adapter, but embedding SD 1"),
    "something else": ({"weight": torch.ones(2)}, "no adapter, but nothing that is known"),
}


def refusal(path, networks):
    with pytest.raises(UserError) as caught:
        load_adapter(path, networks)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(f"{path}: ")
    return text


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(sd1, name, tmp_path):
    tensors, message = REFUSED[name]
    save_file(tensors, tmp_path / "one.safetensors")
    assert re.search(message, refusal(tmp_path / "one.safetensors", sd1))


def lora_of(sizes, form="lora_unet_{}.lora_{}.weight"):
    found = {}
    for name, (out, inner) in sizes.items():
        found |= {form.format(name, "down"): torch.ones(4, inner), form.format(name, "up"): torch.ones(out, 4)}
    return found


SDXL_BLOCK = "input_blocks_{}_1_transformer_blocks_0_attn2_to_{}"
SD_BLOCK = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_{}"
OTHERS = {  # what an adapter is said to be for; its modules
    "SDXL": {SDXL_BLOCK.format(n, k): (640, 2048) for n in (3, 6) for k in "kv"},
    "SD 2 or Stable Video Diffusion": {SD_BLOCK.format(k): (320, 1024) for k in "kv"},
    "Flux 1, which is not drawn": {f"double_blocks_{n}_img_mod_lin": (18432, 3072) for n in (0, 1)},
}


@pytest.mark.parametrize("right", OTHERS)
def test_an_adapter_for_another_family_is_named_with_its_right_one(right, tmp_path):
    with torch.device("meta"):
        networks = {"unet": CLASSES["unet"](**CONFIGS["sd1"]["unet"])}
    save_file(lora_of(OTHERS[right]), path := tmp_path / "one.safetensors")
    text, count = refusal(path, networks), len(OTHERS[right])
    fits = f"{count} of {count} layers do not fit, as" if right.startswith("SD 2") else f"0 of {2 * count} keys fit"
    assert text.startswith(f"{path}: {fits}")
    assert text.endswith(f": it is for {right}; the checkpoint is SD 1; name an adapter for this checkpoint")


def test_xlabs_adapters_are_for_flux(sd1, tmp_path):
    sizes = {f"double_blocks.{n}.processor.qkv_lora{k}": (9216, 3072) for n in (0, 1) for k in (1, 2)}
    save_file(lora_of(sizes, "{}.{}.weight"), path := tmp_path / "one.safetensors")
    assert "0 of 8 keys fit: it is for Flux 1, which is not drawn" in refusal(path, sd1)


def test_networks_given_as_adapters_are_named(sd1, tmp_path):
    whole = to_single_file(FAMILIES["sd1"]["vae"], on_meta("sd1", "vae"))
    small = {name: torch.empty(tensor.shape, dtype=torch.float8_e4m3fn) for name, tensor in whole.items()}
    vae = {name.removeprefix("first_stage_model."): tensor for name, tensor in small.items()}
    save_file(vae, path := tmp_path / "vae.safetensors")
    assert refusal(path, sd1).endswith("no adapter, but VAE SD 1, SD 2 or SDXL: name a LoRA or one of its kin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(60), "a pickle, which can run code"),
        ((2**60).to_bytes(8, "little") + b"{", "a header of"),
        (b"", "empty"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_none(sd1, tmp_path, content, message):
    path = tmp_path / "one.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert message in refusal(path, sd1)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("[", "lora_adapter_metadata is broken"),
        ('{"unet.alpha_pattern": {".*to_q": 4}}', "alpha_pattern '.*to_q' is no layer's name"),
        ('{"unet.lora_alpha": "much"}', "the rank or alpha of mid_block"),
        ('{"unet.lora_alpha": Infinity}', "the rank or alpha of mid_block"),
        ('{"unet.alpha_pattern": ["to_q", 4]}', "lora_adapter_metadata is broken"),
        ("[1]", "lora_adapter_metadata is broken"),
    ],
)
def test_a_broken_configuration_is_not_passed_over(sd1, tmp_path, header, message):
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 16), f"{key}.lora_B.weight": torch.ones(16, 2)}
    save_file(tensors, path := tmp_path / "one.safetensors", {"lora_adapter_metadata": header})
    assert message in refusal(path, sd1)


def test_a_norm_that_there_is_not(sd1):
    with pytest.raises(UserError, match="unknown dora_norm 'both'"), adapted(sd1, [], "both"):
        pass
