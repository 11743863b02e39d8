"""The joint diffusion: what the network is shown in training and in sampling, and what it is asked for."""

import math

import pytest
import torch

from inkwash.systems.crystals import joint
from inkwash.systems.crystals.lattice import matrix

ELEMENTS, PROPERTIES, ATOMS = 3, 2, 4


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = joint.JointNetwork(ELEMENTS, PROPERTIES, 16, 2).eval()
    cells = crystals(32)
    network.set_scale(cells["lattice"], cells["mask"].sum(1))
    return network


def crystals(n, sizes=(4, 2)):
    random = torch.Generator().manual_seed(1)
    sides = torch.cat([3 + torch.rand(n, 3, generator=random), 80 + 20 * torch.rand(n, 3, generator=random)], 1)
    mask = torch.arange(ATOMS) < torch.tensor([sizes[i % len(sizes)] for i in range(n)])[:, None]
    return {
        "lattice": matrix(sides),
        "coordinates": torch.rand(n, ATOMS, 3, generator=random) * mask[..., None],
        "kinds": torch.randint(ELEMENTS, (n, ATOMS), generator=random) * mask,
        "mask": mask,
        "properties": torch.randn(n, PROPERTIES, generator=random),
    }


class Watch:
    """Notes what the network is called with."""

    def __init__(self, network, monkeypatch):
        self.calls, forward = [], network.forward

        def watched(x, time, **condition):
            self.calls.append((x, time, condition))
            return forward(x, time, **condition)

        monkeypatch.setattr(network, "forward", watched)


def test_standardised_lattices_have_mean_0_and_spread_1_and_come_back(network):
    cells, count = crystals(32), crystals(32)["mask"].sum(1)
    numbers = network.encode(cells["lattice"], count)
    assert torch.allclose(numbers.mean(0), torch.zeros(6), atol=1e-4)
    assert torch.allclose(numbers.std(0, correction=0), torch.ones(6), atol=1e-4)
    assert torch.allclose(network.decode(numbers, count), cells["lattice"], atol=1e-4)


def test_the_volume_of_an_atom_counts_not_that_of_the_cell(network):
    """A cube of twice the side with eight times the atoms is as far from the mean."""
    cube = 3 * torch.eye(3)[None]
    small, large = (network.encode(k * cube, torch.tensor([2 * k**3])) for k in (1, 2))
    assert torch.allclose(small, large, atol=1e-5)


def test_a_number_that_is_one_in_all_crystals_keeps_a_spread(network):
    network.set_scale((3 * torch.eye(3)).expand(5, 3, 3), torch.full((5,), 2))
    assert torch.allclose(network.std, torch.full((6,), 0.02))


def test_the_crystal_as_a_whole_is_not_moved(network):
    batch = crystals(6)
    x = {"lattice": torch.randn(6, 6), "coordinates": batch["coordinates"], "kinds": batch["kinds"]}
    time = dict.fromkeys(x, torch.full((6,), 500.0))
    answer = network(x, time, {"coordinates": batch["mask"]}, batch["properties"])
    assert torch.allclose(answer["coordinates"].sum(1), torch.zeros(6, 3), atol=1e-5)
    assert (answer["coordinates"][~batch["mask"]] == 0).all()
    assert answer["coordinates"][batch["mask"]].abs().max() > 1e-3


def test_a_property_that_is_not_said_is_not_the_mean(network):
    batch = crystals(2)
    x = {"lattice": torch.zeros(2, 6), "coordinates": batch["coordinates"], "kinds": batch["kinds"]}
    time, mask = dict.fromkeys(x, torch.full((2,), 500.0)), {"coordinates": batch["mask"]}
    said, unsaid = (network(x, time, mask, torch.full((2, 2), value))["lattice"] for value in (0.0, torch.nan))
    assert (said - unsaid).abs().max() > 1e-4


def test_a_quarter_of_the_training_crystals_comes_with_its_kinds(network, monkeypatch):
    watch, mask_symbol = Watch(network, monkeypatch), ELEMENTS
    batch = crystals(2000)
    joint.joint_loss(network, batch, torch.Generator().manual_seed(0))
    x, time, _ = watch.calls[0]
    known = time["kinds"] == 0
    assert known.float().mean() == pytest.approx(0.25, abs=0.03)
    assert (time["kinds"] == time["lattice"])[~known].all()
    assert (x["kinds"][known] == batch["kinds"][known]).all()
    share = ((x["kinds"] == mask_symbol) & batch["mask"])[~known].sum() / batch["mask"][~known].sum()
    assert share == pytest.approx(0.173, abs=0.02)  # the mean of 0.1 t / (1 - 0.9 t)


def test_the_loss_of_kinds_is_the_bound_whatever_the_schedule(network, monkeypatch):
    """A network that knows nothing of the kinds needs log 3 nats for each of those that are not known."""
    monkeypatch.setattr(joint, "WEIGHTS", {"lattice": 0.0, "coordinates": 0.0, "kinds": 1.0})
    torch.nn.init.zeros_(network.to_kinds.weight)
    torch.nn.init.zeros_(network.to_kinds.bias)
    found = joint.joint_loss(network, crystals(20_000), torch.Generator().manual_seed(0)).item()
    assert found == pytest.approx(0.75 * math.log(ELEMENTS), rel=0.03)


def test_properties_are_left_out_alone_and_together():
    dropped = joint.dropped(torch.zeros(20_000, 2), torch.Generator().manual_seed(0)).isnan()
    none, both = (dropped.sum(1) == 0).float().mean(), dropped.all(1).float().mean()
    assert none == pytest.approx(0.8**3, abs=0.01)
    assert both == pytest.approx(0.2 + 0.8 * 0.2**2, abs=0.01)


def test_gaps_in_the_properties_stay_gaps():
    gaps = torch.tensor([[torch.nan, 1.0]]).expand(500, 2)
    assert joint.dropped(gaps, torch.Generator().manual_seed(0))[:, 0].isnan().all()


def test_what_lies_in_the_padding_changes_no_loss(network):
    batch = crystals(8)
    dirty = batch | {"coordinates": batch["coordinates"].masked_fill(~batch["mask"][..., None], 0.3)}
    losses = [joint.joint_loss(network, each, torch.Generator().manual_seed(3)) for each in (batch, dirty)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)


def nothing_asked(n):
    return torch.full((n, PROPERTIES), torch.nan)


def test_given_kinds_are_no_field_and_come_out_as_they_went_in(network, monkeypatch):
    watch, kinds = Watch(network, monkeypatch), torch.tensor([[2, 0, 0, 1]] * 3)
    mask = torch.ones(3, ATOMS, dtype=torch.bool)
    state = joint.sample(network, [1, 2, 3], mask, nothing_asked(3), kinds=kinds, steps=3)
    assert torch.equal(state["kinds"], kinds)
    assert all("kinds" not in x and torch.equal(condition["kinds"], kinds) for x, _, condition in watch.calls)


def test_only_allowed_kinds_are_drawn(network):
    mask = torch.ones(40, ATOMS, dtype=torch.bool)
    allowed = torch.tensor([True, False, True])
    state = joint.sample(network, range(40), mask, nothing_asked(40), allowed=allowed, steps=3)
    assert sorted(set(state["kinds"].flatten().tolist())) == [0, 2]


def test_guidance_goes_on_beyond_what_the_network_says(network, monkeypatch):
    """At scale 2 the network is asked with and without the properties."""
    watch, mask = Watch(network, monkeypatch), torch.ones(2, ATOMS, dtype=torch.bool)
    asked = torch.tensor([[1.5, torch.nan]] * 2)
    joint.sample(network, [1, 2], mask, asked, steps=2, guidance=2.0)
    seen = watch.calls[0][2]["properties"]
    assert torch.equal(seen[:2, 0], asked[:, 0])
    assert seen[2:].isnan().all()


def test_samples_are_cells_with_volume_and_coordinates_in_them(network):
    state = joint.sample(network, range(20), torch.ones(20, ATOMS, dtype=torch.bool), nothing_asked(20), steps=5)
    assert (torch.linalg.det(state["lattice"]) > 0.1).all()
    assert ((state["coordinates"] >= 0) & (state["coordinates"] < 1)).all()
    assert (state["kinds"] < ELEMENTS).all()
