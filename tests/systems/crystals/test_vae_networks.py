"""The cell that z says, and what its encoder must not see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.crystals.lattice import matrix, parameters
from inkwash.systems.crystals.vae_networks import CrystalVAE, pooled

COUNT = torch.tensor([1, 8])


def network(**options):
    torch.manual_seed(0)
    return CrystalVAE(3, 0, 16, 2, 8, latent=4, **options).double().eval()


def test_the_mean_over_atoms_leaves_out_the_padding():
    features = torch.tensor([[[1.0, 2], [3, 6], [99, 99]]])
    assert pooled(features, torch.tensor([[True, True, False]])).tolist() == [[2, 4]]


def test_lengths_are_said_over_the_cube_root_of_the_number_of_atoms():
    cube = matrix(torch.tensor([[4.0, 4, 4, 90, 90, 90]] * 2).double())
    said = network().lattice_numbers(cube, COUNT)  # before `set_scale` numbers are as they are
    torch.testing.assert_close(said[:, 0], torch.tensor([4.0, 2]).double())
    torch.testing.assert_close(said[:, 3:], torch.full((2, 3), 90.0).double())
    plain = network(scaled_lengths=False).lattice_numbers(cube, COUNT)
    torch.testing.assert_close(plain[:, 0], torch.tensor([4.0, 4]).double())


def test_numbers_that_are_all_one_are_only_shifted():
    sides = torch.tensor([[4.0, 4, 4, 90, 90, 90], [5, 5, 5, 90, 90, 90]]).double()
    model = network()
    model.set_scale(matrix(sides), torch.tensor([1, 1]))
    numbers = model.lattice_numbers(matrix(sides), torch.tensor([1, 1]))
    torch.testing.assert_close(numbers[:, :3], torch.tensor([[-1.0], [1]]).double().expand(2, 3))
    assert numbers[:, 3:].abs().max() < 1e-6


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(2, 12)] * 3), st.tuples(*[st.floats(60, 119)] * 3), st.booleans())
def test_a_cell_comes_back_from_its_numbers(lengths, angles, scaled):
    sides = torch.tensor([[*lengths, *angles]] * 2).double()
    model = network(scaled_lengths=scaled)
    model.set_scale(matrix(torch.tensor([[3.0, 4, 5, 70, 80, 90], [4, 6, 6, 80, 85, 95]]).double()), COUNT)
    lattice = matrix(sides)
    torch.testing.assert_close(model.lattice(model.lattice_numbers(lattice, COUNT), COUNT), lattice)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(-1000, 1000)] * 6))
def test_any_six_numbers_are_a_cell_with_room_in_it(numbers):
    lattice = network().lattice(torch.tensor([numbers] * 2).double(), COUNT)
    lengths = parameters(lattice)[:, :3]
    assert (torch.linalg.det(lattice) >= 0.049 * lengths.prod(-1)).all()
    assert (lengths > 0.99).all()


def test_the_encoder_sees_neither_padding_nor_place():
    model = network()
    random = torch.Generator().manual_seed(1)
    kinds, mask = torch.tensor([[0, 1, 2, 0]]), torch.tensor([[True, True, True, False]])
    places = torch.rand(1, 4, 3, generator=random, dtype=torch.float64)
    lattice = matrix(torch.tensor([[4.0, 5, 6, 80, 95, 100]]).double())
    mean, log_variance = model.encode(kinds, places, lattice, mask)
    shorter = model.encode(kinds[:, :3], places[:, :3], lattice, mask[:, :3])
    moved = model.encode(kinds[:, [1, 0, 2, 3]], (places[:, [1, 0, 2, 3]] + 0.3) % 1, lattice, mask)
    for other in (shorter, moved):
        torch.testing.assert_close(other, (mean, log_variance))


def test_the_decoder_turns_with_the_crystal_and_knows_no_place():
    model = network()
    random = torch.Generator().manual_seed(1)
    lattice = matrix(torch.tensor([[4.0, 5, 6, 80, 95, 100]]).double())
    x = torch.randn(1, 4, 3, generator=random, dtype=torch.float64)
    z = torch.randn(1, 4, generator=random, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=random, dtype=torch.float64))

    def answer(x, lattice):
        mask = {"coordinates": torch.ones(1, 4, dtype=torch.bool)}
        time = {"coordinates": torch.tensor([300.0])}
        return model({"coordinates": x, "kinds": torch.tensor([[0, 1, 2, 2]])}, time, z, lattice, mask)

    here = answer(x, lattice)
    turned, moved = answer(x @ turn, lattice @ turn), answer(x + 0.7 + lattice[:, 1], lattice)
    torch.testing.assert_close(turned["coordinates"], here["coordinates"] @ turn)
    torch.testing.assert_close(turned["kinds"], here["kinds"])
    torch.testing.assert_close(moved, here)


def test_a_part_that_is_unknown_is_refused():
    with pytest.raises(TypeError, match="nearest"):
        network(nearest=True)
