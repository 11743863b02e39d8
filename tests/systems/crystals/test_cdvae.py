"""What CDVAE's noise, targets and sampler must be, by exact cases."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import Prediction
from inkwash.systems.crystals import cdvae
from inkwash.systems.crystals.lattice import matrix
from inkwash.systems.crystals.vae_networks import CrystalVAE

KINDS, ATOMS = 4, 5
UNIFORM = (1 / KINDS,) * KINDS
SIDES = torch.tensor([[4.0, 5, 6, 80, 85, 75], [3.1, 3.2, 4, 95, 100, 110]])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CrystalVAE(KINDS, 2, 16, 1, ATOMS, latent=8).eval()


@pytest.fixture
def batch():
    """Crystals of five and of three atoms; of the second one property is not known."""
    random = torch.Generator().manual_seed(1)
    mask = torch.arange(ATOMS) < torch.tensor([[5], [3]])
    return {
        "kinds": torch.randint(KINDS, (2, ATOMS), generator=random) * mask,
        "coordinates": torch.rand(2, ATOMS, 3, generator=random) * mask[..., None],
        "lattice": matrix(SIDES),
        "mask": mask,
        "properties": torch.tensor([[0.5, -1.0], [0.2, torch.nan]]),
    }


@pytest.mark.parametrize("sigma", [0.01, 0.3, 5.0])
def test_a_kind_is_drawn_from_onehot_plus_sigma_composition(sigma):
    composition = torch.tensor([[0.2, 0.2, 0.6, 0.0], [0.0, 0.5, 0.25, 0.25]])
    process = cdvae.denoiser(lambda: None, composition).process["kinds"]
    kinds, t = torch.tensor([[0, 2], [3, 1]]), math.log(sigma / 0.01) / math.log(500)
    drawn = process.marginal(kinds, process.at(t)).probabilities
    wanted = torch.eye(4)[kinds] + sigma * composition[:, None]
    torch.testing.assert_close(drawn, wanted / wanted.sum(-1, keepdim=True))
    level = process.at(t)
    assert level.alpha / level.sigma == pytest.approx(1 / sigma)  # the weight of the loss of kinds


def test_the_nearest_image_of_nine_tenths_of_a_cube_lies_behind():
    lattice = 4 * torch.eye(3)[None]
    vector = cdvae.nearest_image(torch.tensor([[[3.6, 0.4, -6.0]]]), lattice)
    torch.testing.assert_close(vector.abs(), torch.tensor([[[0.4, 0.4, 2.0]]]))
    assert vector[0, 0, 0] < 0 < vector[0, 0, 1]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(2, 9)] * 3), st.tuples(*[st.floats(65, 89)] * 3), st.tuples(*[st.floats(-20, 20)] * 3))
def test_no_image_is_nearer_than_the_nearest(lengths, angles, difference):
    from pymatgen.core import Lattice

    reduced = Lattice.from_parameters(*lengths, *angles).get_niggli_reduced_lattice().matrix
    lattice, vector = torch.tensor(np.array(reduced)), torch.tensor([[difference]], dtype=torch.float64)
    found = cdvae.nearest_image(vector, lattice[None])[0, 0]
    steps = torch.linalg.solve(lattice.T, vector[0, 0] - found)
    torch.testing.assert_close(steps, steps.round(), atol=1e-6, rtol=0)
    near = torch.tensor([*itertools.product(range(-3, 4), repeat=3)], dtype=torch.float64) @ lattice
    assert found.norm() <= (found + near).norm(dim=-1).min() + 1e-9


def term(network, batch, seed=0):
    """A `Term` of the coordinates, with the noise of all levels."""
    denoise = cdvae.denoiser(network, UNIFORM)
    clean = {"coordinates": batch["coordinates"] @ batch["lattice"], "kinds": batch["kinds"]}
    x, t, eps = denoise.draw(clean, torch.tensor([0.8, 0.3]).double(), torch.Generator().manual_seed(seed))
    output = torch.randn(x["coordinates"].shape, generator=torch.Generator().manual_seed(seed + 1))
    form = denoise.form("coordinates")
    parts = [state["coordinates"] for state in (clean, x, t, eps)]
    return diffusion.Term(denoise.process["coordinates"], form, *parts, output, Prediction(output))


def test_the_error_of_coordinates_is_the_papers(network, batch):
    """sigma^2 / 2 |output / sigma - vector / sigma^2|^2 where the output is the score times sigma."""
    noisy, lattice = term(network, batch), batch["lattice"]
    vector, sigma = cdvae.nearest_image(noisy.x0 - noisy.x, lattice), noisy.t.sigma
    wanted = sigma[..., 0] ** 2 / 2 * ((-noisy.output) / sigma - vector / sigma**2).square().sum(-1)
    found = cdvae.coordinates_error(lattice, network.options)(noisy)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    exact = noisy._replace(output=-vector / sigma)
    assert cdvae.coordinates_error(lattice, network.options)(exact).abs().max() < 1e-6


def test_an_atom_named_by_another_image_has_the_same_error(network, batch):
    noisy, lattice = term(network, batch), batch["lattice"]
    shifted = noisy._replace(x=noisy.x + torch.tensor([2.0, -1, 3]) @ lattice[:, None])
    error = cdvae.coordinates_error(lattice, network.options)
    torch.testing.assert_close(error(shifted), error(noisy), rtol=1e-3, atol=1e-3)


def test_without_the_nearest_image_the_error_is_of_the_noise_itself(network, batch):
    noisy = term(network, batch)
    plain = cdvae.coordinates_error(batch["lattice"], cdvae.Options(nearest_image=False))(noisy)
    torch.testing.assert_close(plain, diffusion.square(noisy).sum(-1) / 2)
    assert not torch.allclose(plain, cdvae.coordinates_error(batch["lattice"], network.options)(noisy))


def seen_lattice(network, batch, **more):
    """The cell in which the decoder is trained."""
    seen = []
    forward = network.forward
    network.forward = lambda x, time, z, lattice, mask: (seen.append(lattice), forward(x, time, z, lattice, mask))[1]
    cdvae.vae_loss(network, batch | more, torch.Generator().manual_seed(3))
    return seen[0]


def test_the_true_cell_is_given_in_the_first_half_of_the_training_only(network, batch):
    assert torch.equal(seen_lattice(network, batch, done=0.49), batch["lattice"])
    said = seen_lattice(network, batch, done=0.5)
    assert not torch.allclose(said, batch["lattice"], atol=0.1)
    assert torch.equal(seen_lattice(network, batch), said)  # a held-out loss is that of the end
    network.options = cdvae.Options(latent=8, teacher_forcing=False)
    assert torch.equal(seen_lattice(network, batch, done=0.1), said)


def test_cell_and_composition_are_not_learned_through_the_noise_that_they_shape(network, batch):
    """With its own terms gone, the loss is flat in a head."""
    for head in (network.to_lattice, network.to_composition):
        torch.nn.init.zeros_(head[2].weight)
    before = [head[2].bias.clone().requires_grad_() for head in (network.to_lattice, network.to_composition)]
    total = cdvae.vae_loss(network, batch, torch.Generator().manual_seed(3))
    lattice, composition = torch.autograd.grad(total, [network.to_lattice[2].bias, network.to_composition[2].bias])
    wanted = network.lattice_numbers(batch["lattice"], batch["mask"].sum(1))
    torch.testing.assert_close(lattice, 10 * 2 * (before[0] - wanted).mean(0) / 6)
    shares = torch.stack([
        torch.bincount(kinds[mask], minlength=KINDS) / mask.sum()
        for kinds, mask in zip(batch["kinds"], batch["mask"], strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(composition, (before[1].softmax(-1) - shares).mean(0))


def test_an_unknown_property_is_not_learned(network, batch):
    def gradient(properties):
        total = cdvae.vae_loss(network, batch | {"properties": properties}, torch.Generator().manual_seed(3))
        return torch.autograd.grad(total, network.to_properties[2].bias)[0]

    nothing = gradient(torch.full((2, 2), torch.nan))
    assert torch.equal(nothing, torch.zeros(2))
    one = gradient(torch.tensor([[torch.nan, 1.0], [torch.nan, torch.nan]]))
    assert one[0] == 0 != one[1]


def test_five_atoms_in_fifths_are_one_one_three_whatever_is_drawn():
    for u in (np.full(5, 0.01), np.full(5, 0.99)):
        kinds = cdvae.integer_composition(np.array([0.2, 0.01, 0.61, 0.18]), 5, u)
        assert np.bincount(kinds, minlength=4).tolist() == [1, 0, 3, 1]


def test_what_is_missing_is_drawn_from_what_was_rounded_away():
    p = np.array([0.45, 0.45, 0.1])  # of one atom none reaches a half
    drawn = [cdvae.integer_composition(p, 1, np.array([u]))[0] for u in (0.1, 0.4499, 0.4501, 0.8999, 0.9001)]
    assert drawn == [0, 0, 1, 1, 2]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(1e-3, 1), min_size=2, max_size=8), st.integers(1, 24), st.integers(0, 2**32))
def test_starting_kinds_are_as_many_as_atoms_and_no_farther_from_the_shares_than_rounding(weights, count, seed):
    p = torch.tensor(weights, dtype=torch.float64)
    p = p / p.sum()
    mask = torch.ones(1, count, dtype=torch.bool)
    kinds = cdvae.starting_kinds(p[None], mask, [seed], whole=True)[0]
    counts, rounded = np.bincount(kinds, minlength=len(p)), np.round(count * p.numpy())
    assert counts.sum() == count
    wrong = counts - rounded
    assert (wrong <= 0).all() if rounded.sum() >= count else (wrong >= 0).all()


def test_without_rounding_each_atom_is_drawn_by_itself():
    p = torch.tensor([[0.2, 0.2, 0.6]]).double().expand(4000, -1)
    mask = torch.ones(4000, 5, dtype=torch.bool)
    kinds = cdvae.starting_kinds(p, mask, range(4000), whole=False)
    counts = torch.stack([(kinds == k).sum(1) for k in range(3)], 1).double()
    assert (counts.mean(0) - 5 * p[0]).abs().max() < 0.06
    assert (counts.var(0) - 5 * p[0] * (1 - p[0])).abs().max() < 0.08  # binomial


def test_of_a_denoiser_that_knows_the_crystal_the_sampler_gives_it_in_so_many_calls():
    truth, calls = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0)), []
    which = torch.tensor([[2, 0, 1]])
    denoise = cdvae.denoiser(lambda: None, UNIFORM)

    def knowing(x, t, condition):
        calls.append(x["kinds"])
        return {"coordinates": Prediction(truth), "kinds": Prediction(10.0 * torch.eye(KINDS)[which])}

    times = diffusion.exponential(denoise.process["coordinates"], 5).times
    x = {"coordinates": torch.zeros(1, 3, 3), "kinds": torch.full((1, 3), 3)}
    state = diffusion.sample(
        knowing, {"coordinates": (3, 3), "kinds": (3,)},
        {"coordinates": lambda *a: diffusion.annealed_langevin(*a, corrections=4, step=0.5),
         "kinds": lambda *a: cdvae.most_likely(*a, corrections=4)},
        {name: diffusion.Grid(process, times) for name, process in denoise.process.items()}, [0], x=x, device="cpu",
    )  # fmt: skip
    assert torch.equal(state["coordinates"], truth) and torch.equal(state["kinds"], which)
    assert len(calls) == 5 * 5
    assert torch.equal(calls[0], x["kinds"]) and all(torch.equal(seen, which) for seen in calls[1:])


def test_a_crystal_is_the_same_alone_and_beside_larger_ones(network):
    network.decoder.directions.weight.data *= 0.01  # the dynamics of an untrained network are chaotic
    mask = torch.arange(ATOMS) < torch.tensor([[5], [3], [4]])
    none = torch.full((3, 2), torch.nan)
    together = cdvae.sample(network, [7, 8, 9], mask, none, steps=4)
    alone = cdvae.sample(network, [8], mask[1:2, :3], none[:1], steps=4)
    torch.testing.assert_close(together["lattice"][1], alone["lattice"][0])
    assert torch.equal(together["kinds"][1, :3], alone["kinds"][0])
    apart = (together["coordinates"][1, :3] - alone["coordinates"][0] + 0.5) % 1 - 0.5
    assert apart.abs().max() < 1e-3


def test_kinds_that_are_given_stay_and_others_are_among_the_allowed(network):
    mask, none = torch.ones(3, ATOMS, dtype=torch.bool), torch.full((3, 2), torch.nan)
    kinds = torch.tensor([[0, 1, 2, 2, 2]]).expand(3, -1)
    assert torch.equal(cdvae.sample(network, [1, 2, 3], mask, none, kinds=kinds, steps=2)["kinds"], kinds)
    allowed = torch.tensor([False, True, False, True])
    drawn = cdvae.sample(network, [1, 2, 3], mask, none, allowed=allowed, steps=2)["kinds"]
    assert {*drawn.flatten().tolist()} <= {1, 3}


def test_of_carbon_alone_all_is_carbon():
    torch.manual_seed(0)
    network = CrystalVAE(1, 0, 16, 1, 3, latent=4).eval()
    mask = torch.ones(2, 3, dtype=torch.bool)
    state = cdvae.sample(network, [1, 2], mask, torch.empty(2, 0), steps=2)
    assert not state["kinds"].any()
    assert ((state["coordinates"] >= 0) & (state["coordinates"] < 1)).all()
