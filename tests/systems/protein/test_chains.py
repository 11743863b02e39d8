"""Which residues make a chain: alternate places, insertion codes, modified residues, ligands and breaks."""

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.protein import files
from inkwash.systems.protein.chains import BACKBONE, bonded
from tests.systems.protein import made
from tests.systems.protein.made import read

SECOND = ("GLY", "PRO")


def test_insertion_codes_name_residues_of_their_own(tmp_path):
    atoms, _ = made.backbone(4)
    names = [("52", " "), ("52", "A"), ("52", "B"), ("53", " ")]
    text = [
        made.atom(name, "SER", "H", number, place, code)
        for (number, code), residue in zip(names, atoms, strict=True)
        for name, place in zip(BACKBONE, residue, strict=True)
    ]
    chain = read(made.save(tmp_path / "antibody.pdb", text))[0]["H"]
    assert chain.labels == ("52", "52A", "52B", "53")
    assert np.allclose(chain.coordinates, atoms, atol=6e-4)


def test_of_alternate_places_the_fuller_is_taken_and_said(tmp_path):
    text = made.lines(3)
    near, far = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    text[5:6] = [
        made.atom("CA", "SER", "A", 2, near, altloc="A", occupancy=0.4),
        made.atom("CA", "THR", "A", 2, far, altloc="B", occupancy=0.6),
    ]
    text[4], text[6] = (line.replace("VAL", "THR") for line in (text[4], text[6]))
    chains, notes = read(made.save(tmp_path / "two.pdb", text))
    assert chains["A"].coordinates[1, 1].tolist() == list(far)
    assert chains["A"].residues[1] == "THR"
    assert len(chains["A"].labels) == 3
    assert notes == ["two.pdb: A2: of alternate places the one of the highest occupancy is taken"]


def test_places_of_the_same_occupancy_are_the_first(tmp_path):
    text = made.lines(1)
    text[1:2] = [
        made.atom("CA", "ALA", "A", 1, place, altloc=letter, occupancy=0.5)
        for letter, place in (("A", (1, 2, 3)), ("B", (4, 5, 6)))
    ]
    assert read(made.save(tmp_path / "two.pdb", text))[0]["A"].coordinates[0, 1].tolist() == [1, 2, 3]


def test_modified_residues_are_of_the_chain_and_ligands_are_not(tmp_path):
    text = made.lines(4, names=("ALA", "MSE", "SEP", "LEU"))
    text = [line.replace("ATOM  ", "HETATM") if "MSE" in line or "SEP" in line else line for line in text]
    text += [made.atom(name, "GLY", "A", 301, place, record="HETATM")
             for name, place in zip(BACKBONE, made.backbone(1)[0][0] + 30, strict=True)]  # fmt: skip
    text += [made.atom("ZN", "ZN", "A", 302, (9, 9, 9), record="HETATM")]
    text += [made.atom("O", "HOH", "A", 303, (8, 8, 8), record="HETATM")]
    chains, notes = read(made.save(tmp_path / "het.pdb", text))
    assert (chains["A"].residues, chains["A"].sequence) == (("ALA", "MET", "SER", "LEU"), "AMSL")
    assert notes == [
        "het.pdb: chain A: MSE is read as MET, SEP is read as SER",
        "het.pdb: left out: GLY, ZN (no part of a chain of amino acids)",
    ]


def test_a_break_is_found(tmp_path):
    text = [line for line in made.lines(6) if " 4 " not in line[20:28]]
    chain = read(made.save(tmp_path / "gap.pdb", text))[0]["A"]
    assert chain.labels == tuple("12356")
    assert bonded(chain).tolist() == [True, True, False, True]


def test_two_chains_of_one_name_are_refused(tmp_path):
    path = made.save(tmp_path / "dimer.pdb", made.lines(4) + made.lines(4, names=SECOND))
    with pytest.raises(UserError, match=r"dimer\.pdb: A1 is there 2 times"):
        files.read_chains(path)


def test_atoms_of_a_residue_belong_to_it_wherever_they_stand(tmp_path):
    text = made.lines(4)
    text.append(text.pop(5))
    assert np.allclose(read(made.save(tmp_path / "a.pdb", text))[0]["A"].coordinates, made.backbone(4)[0], atol=6e-4)
