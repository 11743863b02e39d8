"""Coordinates become atoms: O by geometry, and of a motif its own."""

from pathlib import Path

import numpy as np
import pytest

from inkwash.systems.protein import files
from inkwash.systems.protein.atoms import C_O, own_atoms, place_oxygens, to_atoms
from inkwash.systems.protein.chains import bonded
from tests.systems.protein import made
from tests.systems.protein.made import read

TARGETS = Path(__file__).parents[4] / "shared" / "data" / "proteins" / "motif_targets"


def test_oxygens_lie_where_ideal_geometry_has_them():
    rng = np.random.default_rng(0)
    atoms, oxygens = made.backbone(40, rng.uniform(-150, -50, 40), rng.uniform(-60, 160, 40))
    placed = place_oxygens(atoms)
    assert np.abs(placed[:-1] - oxygens[:-1]).max() < 1e-6
    last = made.extend(*atoms[-1], C_O, 120.4, 140.0 + 180.0)
    assert np.abs(placed[-1] - last).max() < 1e-6


def test_a_modified_residue_keeps_only_its_backbone(tmp_path):
    text = made.lines(3, names=("ALA", "MSE", "LEU"))
    text.insert(8, made.atom("SE", "MSE", "A", 2, (5, 5, 5)))
    text.append(made.atom("CB", "LEU", "A", 3, (6, 6, 6)))
    text.append(made.atom("OXT", "LEU", "A", 3, (7, 7, 7)))
    chain = read(made.save(tmp_path / "mse.pdb", text))[0]["A"]
    atoms = to_atoms(chain.coordinates, None, {i: own_atoms(chain, i) for i in (1, 2)})
    names = {i: atoms.atom_name[atoms.res_id == i].tolist() for i in (1, 2, 3)}
    assert names == {1: ["N", "CA", "C", "O"], 2: ["N", "CA", "C", "O"], 3: ["N", "CA", "C", "O", "CB"]}


@pytest.mark.skipif(not TARGETS.is_dir(), reason="the motif targets are not here")
def test_oxygens_of_native_chains_are_found_again():
    errors = []
    for file in sorted((TARGETS / "protdiff").glob("*.pdb")):
        for chain in files.read_chains(file).values():
            placed = place_oxygens(chain.coordinates)[:-1]
            native = np.array([residue.coord[residue.atom_name == "O"][0] for residue in chain.atoms[:-1]])
            errors.append(np.linalg.norm(placed - native, axis=1)[bonded(chain)])
    assert len(errors) == 6
    assert np.concatenate(errors).mean() < 0.05
    assert np.concatenate(errors).max() < 0.2
