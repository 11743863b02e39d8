"""Networks whose weights lie in their files until they are used."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from inkwash.networks.offload import Part, by_layer, by_turns, layers, place
from inkwash.networks.unet import UNet, load_unet, save_unet
from tests.networks.test_stable_diffusion import TINY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny U-Net in float16."""
    torch.manual_seed(0)
    unet = UNet(**TINY["sd1"]["unet"])
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("unet")
    save_unet(unet, folder)
    return folder


@torch.no_grad()
def answer(unet):
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, 4, 16, 8, generator=generator), torch.randn(2, 7, 12, generator=generator)
    return unet(x, torch.tensor([7.0, 500.0]), context)


def precisions(network):
    return {parameter.dtype for parameter in network.parameters()}


def test_the_answer_is_that_of_a_network_loaded_as_a_whole_and_layers_are_in_memory_only_while_they_run(folder):
    unet, seen = load_unet(folder, mapped=True), []
    undo = by_layer(Part(unet), CPU)
    for layer in layers(unet):  # after the hook that places
        layer.register_forward_pre_hook(
            lambda *_: seen.append(sum(p.dtype == torch.float32 for p in unet.parameters()))
        )
    assert torch.equal(answer(unet), answer(load_unet(folder)))
    assert len(seen) >= len(layers(unet)) and set(seen) == {1, 2}  # a weight, or it and a bias
    assert precisions(unet) == {torch.float16}
    undo()
    with pytest.raises(RuntimeError, match="dtype"):
        answer(unet)


def test_a_layer_that_fails_leaves_no_weights_behind(folder):
    unet = load_unet(folder, mapped=True)
    by_layer(Part(unet), CPU)
    with pytest.raises(RuntimeError):
        unet.conv_in(torch.ones(1, 5, 8, 8))
    assert precisions(unet) == {torch.float16}
    assert torch.equal(answer(unet), answer(load_unet(folder)))


def test_one_group_at_a_time(folder):
    a, b, c = (load_unet(folder, mapped=True) for _ in range(3))
    undo = by_turns([[Part(a), Part(b)], [Part(c)]], CPU)
    expected = answer(load_unet(folder))
    for network, others in ((a, [c]), (c, [a, b]), (b, [c])):
        assert torch.equal(answer(network), expected) and precisions(network) == {torch.float32}
        assert all(precisions(other) == {torch.float16} for other in others)
    undo()
    assert precisions(a) == precisions(b) == precisions(c) == {torch.float16}


def test_in_the_precision_of_autocast_no_number_changes_and_vectors_stay_float32(folder):
    unet, whole = load_unet(folder, mapped=True), load_unet(folder)
    place(layers(unet), Part(unet, torch.bfloat16), CPU)
    assert {p.dtype for p in unet.parameters() if p.ndim > 1} == {torch.bfloat16}
    assert {p.dtype for p in unet.parameters() if p.ndim == 1} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(answer(unet), answer(whole))


def test_parameters_are_the_same_objects_before_and_after(folder):
    """What holds one, as an adapter does, need not look for it anew."""
    unet = load_unet(folder, mapped=True)
    before = [(id(parameter), parameter.data_ptr()) for parameter in unet.parameters()]
    place(layers(unet), Part(unet, torch.float32), CPU)()
    assert before == [(id(parameter), parameter.data_ptr()) for parameter in unet.parameters()]


class Changed(nn.Module):
    """As an adapter changes a weight when it is used: in its precision, which is seen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, value):
        self.seen.append(value.dtype)
        return (value.float() * 1.0001 + 0.1).to(value.dtype)


@pytest.mark.parametrize("way", ["layer", "turns"])
def test_a_weight_that_is_changed_when_it_is_used_is_changed_in_the_precision_it_is_used_in(folder, way):
    whole, unet, changed = load_unet(folder), load_unet(folder, mapped=True), Changed()
    if way == "layer":
        by_layer(Part(unet), CPU)
    else:
        by_turns([[Part(unet)]], CPU)
    parametrize.register_parametrization(whole.conv_in, "weight", Changed())
    parametrize.register_parametrization(unet.conv_in, "weight", changed)
    changed.seen.clear()
    assert torch.equal(answer(unet), answer(whole)) and changed.seen == [torch.float32]
    parametrize.remove_parametrizations(unet.conv_in, "weight", leave_parametrized=False)
    assert torch.equal(answer(unet), answer(load_unet(folder)))


@pytest.mark.parametrize("awake", [False, True])
def test_weights_that_others_replace_are_never_lost(folder, awake):
    """Merged adapters: before a network's turn, or while it has it."""
    a, b, whole = load_unet(folder, mapped=True), load_unet(folder, mapped=True), load_unet(folder)
    by_turns([[Part(a)], [Part(b)]], CPU)
    answer(a if awake else b)
    for network in (a, whole):
        weight = network.conv_in.weight
        weight.data = weight.data * 2
    expected = answer(whole)
    for _ in range(2):
        assert torch.equal(answer(a), expected)
        answer(b)
