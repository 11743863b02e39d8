"""z moved to what is asked, where the answer is known."""

import torch

from inkwash.systems.crystals.latent import STRENGTH, descend, matched
from inkwash.systems.crystals.vae_networks import CrystalVAE


def network(properties=1):
    torch.manual_seed(0)
    model = CrystalVAE(4, properties, 8, 1, 5, latent=3).double().eval()
    torch.nn.init.zeros_(model.to_atoms[2].weight)  # says the same of every z
    return model


def test_adam_finds_the_bottom_of_a_bowl_and_leaves_snapshots_on_the_way():
    goal = torch.tensor([[1.0, -2], [0.5, 3]])
    found = descend(torch.zeros(2, 2), lambda z: (z - goal).square().sum(1), 600, 0.05, snapshots=3)
    distances = [(z - goal).norm().item() for z in found]
    assert len(found) == 3 and distances == sorted(distances, reverse=True)
    torch.testing.assert_close(found[-1], goal, atol=1e-3, rtol=0)


def test_every_row_goes_its_own_way():
    energy = lambda z: z.square().sum(1)  # noqa: E731
    z = torch.tensor([[1.0, 2], [5, -7]])
    (both,), (alone,) = descend(z, energy, 30, 0.1), descend(z[1:], energy, 30, 0.1)
    assert torch.equal(both[1:], alone)
    assert z.tolist() == [[1, 2], [5, -7]]


def test_of_a_linear_property_z_is_the_posterior_one():
    """min |z - drawn|^2 / 2 + g s / 2 (w z - y)^2 is drawn + g s w (y - w drawn) / (1 + g s |w|^2)."""
    model = network()
    weights = torch.tensor([[0.5, -1.0, 0.2]]).double()
    model.to_properties = torch.nn.Linear(3, 1, bias=False).double()
    model.to_properties.weight.data = weights
    drawn, wanted = torch.tensor([[0.1, 0.4, -1.0]]).double(), torch.tensor([[1.5]]).double()
    found = matched(model, drawn, torch.ones(1, 5, dtype=torch.bool), wanted, None, None, 2.0)
    strength = 2 * STRENGTH
    move = strength * weights * (wanted - drawn @ weights.T) / (1 + strength * weights.square().sum())
    torch.testing.assert_close(found, drawn + move, atol=2e-2, rtol=0)


def test_where_nothing_is_asked_z_stays():
    drawn = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double()
    nothing = torch.full((4, 1), torch.nan).double()
    found = matched(network(), drawn, torch.ones(4, 5, dtype=torch.bool), nothing, None, None, 1.0)
    torch.testing.assert_close(found, drawn)


def test_the_composition_comes_nearer_to_a_formula_and_to_what_is_allowed():
    model = network(0)
    torch.nn.init.normal_(model.to_composition[2].weight, std=2.0)
    drawn = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()
    mask, none = torch.ones(6, 5, dtype=torch.bool), torch.empty(6, 0).double()

    def shares(z):
        return model.to_composition(z).softmax(-1)

    kinds = torch.tensor([[1, 1, 1, 1, 2]]).expand(6, -1)
    formula = matched(model, drawn, mask, none, kinds, None, 1.0)
    assert (shares(formula).log().gather(1, kinds).sum(1) > shares(drawn).log().gather(1, kinds).sum(1)).all()
    allowed = torch.tensor([True, False, False, True])
    some = matched(model, drawn, mask, none, None, allowed, 1.0)
    assert (shares(some)[:, allowed].sum(1) > shares(drawn)[:, allowed].sum(1)).all()
