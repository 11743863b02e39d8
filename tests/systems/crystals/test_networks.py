"""What must not change anything, and what must change the outputs with it."""

import itertools
import math

import pytest
import torch

from inkwash.systems.crystals.lattice import matrix
from inkwash.systems.crystals.networks import PeriodicNetwork, harmonics, images, pair_features, products

WIDTH, ATOMS = 16, 5


@pytest.fixture(params=[0, 4], ids=["distances", "angles"])
def network(request):
    torch.manual_seed(0)
    return PeriodicNetwork(WIDTH, 2, 3, moments=request.param).double().eval()


@pytest.fixture
def crystals():
    """Two crystals of five and three atoms, one in a narrow cell."""
    random = torch.Generator().manual_seed(1)
    mask = torch.arange(ATOMS) < torch.tensor([[5], [3]])
    sides = torch.tensor([[4.0, 5, 6, 80, 95, 110], [2.4, 2.5, 9, 88, 90, 119]], dtype=torch.float64)
    return {
        "kinds": torch.randn(2, ATOMS, WIDTH, generator=random, dtype=torch.float64),
        "coordinates": torch.rand(2, ATOMS, 3, generator=random, dtype=torch.float64),
        "lattice": matrix(sides),
        "mask": mask,
        "context": torch.randn(2, 3, generator=random, dtype=torch.float64),
    }


def same(one, other):
    return all(torch.allclose(a, b, atol=1e-9) for a, b in zip(one, other, strict=True))


def test_an_atom_named_by_another_image_changes_nothing(network, crystals):
    shifts = torch.randint(-3, 4, (2, ATOMS, 3), generator=torch.Generator().manual_seed(2))
    assert same(network(**crystals | {"coordinates": crystals["coordinates"] + shifts}), network(**crystals))


def test_moving_the_crystal_changes_nothing(network, crystals):
    moved = crystals["coordinates"] + torch.tensor([0.3, -0.77, 0.11], dtype=torch.float64)
    assert same(network(**crystals | {"coordinates": moved % 1}), network(**crystals))


def test_turning_the_crystal_changes_nothing(network, crystals):
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    assert same(network(**crystals | {"lattice": crystals["lattice"] @ turn}), network(**crystals))


def test_atoms_that_change_places_change_their_outputs(network, crystals):
    order = torch.tensor([2, 0, 1, 3, 4])  # the padding stays
    mixed = {key: value if key in ("lattice", "context") else value[:, order] for key, value in crystals.items()}
    assert same(network(**mixed), [output[:, order] for output in network(**crystals)])


def test_padding_changes_nothing_and_is_zero(network, crystals):
    padded_keys = ("kinds", "coordinates", "mask")
    alone = network(**{key: value[1:, :3] if key in padded_keys else value[1:] for key, value in crystals.items()})
    padded = network(**crystals)
    assert same(alone, [output[1:, :3] for output in padded])
    assert all((output[1, 3:] == 0).all() for output in padded)


def test_an_inverted_crystal_has_the_opposite_directions_and_the_same_distances(crystals):
    numbers, directions = pair_features(images(crystals["coordinates"], crystals["lattice"]))
    inverted, opposite = pair_features(images(-crystals["coordinates"], crystals["lattice"]))
    assert torch.allclose(opposite, -directions, atol=1e-9)
    assert torch.allclose(inverted[..., -16:], numbers[..., -16:], atol=1e-9)
    assert torch.allclose(numbers[..., -16:].transpose(1, 2), numbers[..., -16:], atol=1e-9)


def test_a_pair_is_continuous_where_the_nearest_image_changes(network, crystals):
    """Half a cell away two images are equally near: a step across moves the outputs no more than the step."""
    at, outputs = crystals["coordinates"].clone(), []
    for half in (0.5 - 1e-7, 0.5 + 1e-7):
        at[:, 1] = at[:, 0] + half
        outputs.append(network(**crystals | {"coordinates": at}))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*outputs, strict=True))


def test_an_atom_alone_sees_its_own_images():
    """In a cube of 3 angstrom the six neighbours at 3 and the twelve at 3 sqrt 2 are where the bumps say."""
    numbers, _ = pair_features(images(torch.zeros(1, 1, 3), 3 * torch.eye(3)[None]))
    shells = numbers[0, 0, 0, -16:]
    cutoff, step = 4.5, 6 / 15
    expected = torch.zeros(16)
    for image in itertools.product((-1, 0, 1), repeat=3):
        d = 3 * math.hypot(*image)
        if 0 < d < cutoff:
            bumps = torch.exp(-(((step * torch.arange(16) - d) / step) ** 2) / 2)
            expected += bumps * (0.5 + 0.5 * math.cos(math.pi * d / cutoff))
    assert torch.allclose(shells, expected, atol=1e-5)


def test_directions_to_the_corners_of_a_cube_around_an_atom_cancel():
    corners = torch.tensor([*itertools.product((0.25, 0.75), repeat=3)], dtype=torch.float64)
    at = torch.cat([torch.full((1, 3), 0.5, dtype=torch.float64), corners])[None]
    _, directions = pair_features(images(at, 4 * torch.eye(3, dtype=torch.float64)[None]))
    assert directions[0, 0].sum(0).abs().max() < 1e-9
    assert directions[0, 0, 1].abs().max() > 0.1


def test_scalar_products_of_harmonics_are_the_legendre_polynomials_of_the_angle():
    """Two atoms 1 angstrom from a third, in a wide cell: 1, cos and (3 cos^2 - 1) / 2, times their shells."""
    for angle in (60.0, 90.0, 109.5, 180.0):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        at = torch.tensor([[[0.0, 0, 0], [0.05, 0, 0], [0.05 * cos, 0.03 * sin, 0.04 * sin]]], dtype=torch.float64)
        sums = harmonics(images(at, 20 * torch.eye(3, dtype=torch.float64)[None]))
        found = products(sums[0, 0, 1], sums[0, 0, 2]) / products(sums[0, 0, 1], sums[0, 0, 1])
        each = torch.tensor([1, cos, (3 * cos**2 - 1) / 2], dtype=torch.float64)
        assert torch.allclose(found, each.repeat_interleave(16), atol=1e-9)


def test_only_angles_tell_a_straight_from_a_bent_molecule_at_its_middle():
    """One layer, the middle atom: its two neighbours are as far in both."""
    bent = torch.tensor([[[0.0, 0, 0], [0.05, 0, 0], [0, 0.05, 0]]], dtype=torch.float64)
    straight = torch.tensor([[[0.0, 0, 0], [0.05, 0, 0], [-0.05, 0, 0]]], dtype=torch.float64)
    lattice, mask = 20 * torch.eye(3, dtype=torch.float64)[None], torch.ones(1, 3, dtype=torch.bool)
    for moments in (0, 4):
        torch.manual_seed(0)
        network = PeriodicNetwork(WIDTH, 1, 3, moments).double()
        with torch.no_grad():
            network.layers[0].pair.weight[:, :24] = 0  # the waves, which see places in the cell
        kinds, context = torch.ones(1, 3, WIDTH).double(), torch.ones(1, 3).double()
        one, other = (network(kinds, at, lattice, mask, context)[0][0, 0] for at in (bent, straight))
        assert torch.allclose(one, other, atol=1e-9) == (moments == 0)
