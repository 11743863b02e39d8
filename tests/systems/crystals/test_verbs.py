"""Results of `crystals generate`: every file agrees with every other."""

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.io import read as read_ase
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from inkwash.cli.context import Local
from inkwash.extras import install_command
from inkwash.systems.base import File, Note
from inkwash.systems.crystals import novelty, relaxation, verbs
from inkwash.systems.crystals.data import from_atoms, from_structure, to_structure
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.matching import matcher
from inkwash.systems.crystals.predictor import Predictor
from inkwash.systems.crystals.recorded import recorded
from inkwash.systems.crystals.request import Generate
from inkwash.systems.crystals.validity import volume
from tests.systems.crystals.toy import OVERLAPPING, Drawer, perovskite, rocksalt

MODEL = [perovskite(), OVERLAPPING, rocksalt(), perovskite("Sr", shift=0.01)]


class Notes(Local):
    def __init__(self, folder, *crystals):
        super().__init__(folder)
        self.models, self.notes = {"toy": Drawer(*crystals)}, []

    def tell(self, event):
        if isinstance(event, Note):
            self.notes.append(event.text)


def run(folder, *crystals, **options):
    context = Notes(folder, *crystals)
    results = list(verbs.generate([Generate(model="toy", **options)], context))
    return results[:-1] or results, results[-1], context.notes  # of one crystal, all in one


def atoms_of(crystal):
    return Counter(crystal.numbers.tolist())


def test_cif_extxyz_and_table_have_the_same_atoms_in_the_same_cells(tmp_path):
    ones, whole, notes = run(tmp_path, *MODEL, n=3, seed=0)
    frames = read_ase(whole.files[".extxyz"], index=":")
    rows = list(csv.DictReader(whole.files[".csv"].read_text().splitlines()))
    assert len(ones) == len(frames) == len(rows) == 3 and not notes
    assert whole.place is None and whole.row["text"] == "3 crystals of 4 drawn; refused: 1 with overlapping atoms"
    for one, frame, row, drawn in zip(ones, frames, rows, (MODEL[0], MODEL[2], MODEL[3]), strict=True):
        (plain,), (symmetrised,) = (read_crystals(one.files[ending]) for ending in (".cif", "-sym.cif"))
        assert atoms_of(plain) == atoms_of(drawn) == Counter(frame.numbers.tolist())
        assert (
            int(row["atoms"]) == len(drawn.numbers) and int(row["seed"]) == one.recipe["seed"] == frame.info["seed"]
        )
        assert row["formula"] == frame.info["formula"] == one.row["formula"]
        np.testing.assert_allclose(plain.lattice, drawn.lattice, atol=1e-6)
        np.testing.assert_allclose(from_atoms(frame).lattice, drawn.lattice, atol=1e-6)
        order = np.lexsort(drawn.coordinates.round(4).T), np.lexsort(plain.coordinates.round(4).T)
        np.testing.assert_allclose(plain.coordinates[order[1]], drawn.coordinates[order[0]], atol=1e-6)
        assert matcher().fit(to_structure(symmetrised), to_structure(plain))
        assert (
            to_structure(symmetrised).composition.reduced_formula == to_structure(plain).composition.reduced_formula
        )
        assert float(row["volume_per_atom"]) == pytest.approx(frame.get_volume() / len(frame))


def test_columns_of_the_table(tmp_path):
    (first, second, third), _, _ = run(tmp_path, *MODEL, n=3, seed=0, symprec=0.01)
    assert first.row["formula"] == "BaTiO3" and second.row["formula"] == "Na4Cl4"
    assert (first.row["space_group"], first.row["space_group_number"]) == ("Pm-3m", 221)
    assert second.row["space_group_number"] == 225 and third.row["space_group_number"] == 99
    assert second.row["density"] == pytest.approx(2.16, abs=0.01)  # rock salt's, g/cm3
    assert first.row["composition_valid"] and first.row["structure_valid"]
    (_, _, loose), _, _ = run(tmp_path, *MODEL, n=3, seed=0, symprec=0.2)
    assert loose.row["space_group_number"] == 221


def test_the_symmetrised_file_has_the_space_group_of_the_table(tmp_path):
    lattice = Lattice.from_parameters(4.0, 4.0, 4.0, 90, 90, 93)  # within 5 degrees of cubic, but by 0.2 A
    sheared = from_structure(Structure(lattice, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    (one,), _, _ = run(tmp_path, sheared, n=1, seed=0)
    text = one.files["-sym.cif"].read_text()
    assert int(re.search(r"_symmetry_Int_Tables_number\s+(\d+)", text)[1]) == one.row["space_group_number"] == 65
    (symmetrised,) = read_crystals(one.files["-sym.cif"])
    assert len(symmetrised.numbers) == 4 and volume(symmetrised) == pytest.approx(2 * volume(sheared), rel=1e-4)


def test_a_recipe_makes_the_crystal_anew_and_stands_in_its_cif(tmp_path):
    ones, _, _ = run(tmp_path, *MODEL, n=3, seed=0)
    recipe = recorded(ones[1].files[".cif"]).recipe
    assert recipe == json.loads(json.dumps(ones[1].recipe)) and (recipe["seed"], recipe["n"]) == (2, 1)
    assert recipe["run"] == {"n": 3, "seed": 0}
    atoms = recorded(ones[1].files[".cif"]).content
    (again,), _, _ = run(tmp_path, *MODEL, n=1, seed=recipe["seed"])
    assert recorded(again.files[".cif"]).content == atoms and "run" not in again.recipe


def test_shortfall_is_said_with_what_to_do(tmp_path):
    ones, whole, notes = run(tmp_path, MODEL[0], n=2, seed=0)
    assert len(ones) == 1 and whole.row["refused"] == {"matching another": 39}
    assert whole.place is None and "text" not in ones[0].row
    assert notes[0].startswith("fewer than the 2 asked for") and "--keep-duplicates" in notes[0]


def test_nothing_at_all_is_said_and_leaves_nothing(tmp_path):
    context = Notes(tmp_path, OVERLAPPING)
    assert list(verbs.generate([Generate(model="toy", n=1, seed=0)], context)) == []
    assert "0 crystals of 20 drawn; refused: 20 with overlapping atoms" in context.notes[0]
    assert list(tmp_path.iterdir()) == []


def test_a_formula_that_is_not_neutral_is_warned_of_and_drawn(tmp_path):
    (one,), _, notes = run(tmp_path, perovskite("Na", "Cl", "Cl"), n=1, seed=0, formula="NaCl4")
    assert one.row["formula"] == "NaCl4" and not one.row["composition_valid"]
    assert notes == ["NaCl4: no usual oxidation states make it neutral; drawn all the same"]
    assert run(tmp_path, MODEL[0], n=1, seed=0, formula="BaTiO3")[2] == []


def test_without_smact_a_column_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr("inkwash.extras.find_spec", lambda name: None if name == "smact" else name)
    (one,), whole, notes = run(tmp_path, MODEL[0], n=1, seed=0, formula="BaTiO3")
    assert "composition_valid" not in one.row and "composition_valid" not in whole.files[".csv"].read_text()
    assert notes == [f"left out: the column composition_valid needs smact: {install_command('smact')}"]


def test_relaxed_crystals_are_what_is_written_and_what_they_were_lies_beside(tmp_path, monkeypatch):
    judge = relaxation.Judge(LennardJones(sigma=3.4, epsilon=1.0, rc=8.0))
    monkeypatch.setattr(relaxation, "chgnet", lambda: judge)
    argon = rocksalt("Ar", "Ar", 7.6)
    entries = [{"composition": {"Ar": 2}, "energy": -0.2, "correction": -0.02}]
    (tmp_path / "hull.json").write_text(json.dumps(entries))
    context, hull = Notes(tmp_path, argon), File("0", "hull.json")
    context.paths[hull] = tmp_path / "hull.json"
    (one,) = verbs.generate([Generate(model="toy", n=1, seed=0, relax=True, hull=hull)], context)
    assert list(one.files) == [".cif", "-sym.cif", "-unrelaxed.cif", ".png", ".extxyz", ".csv"] and not context.notes
    (after,), (before,) = (read_crystals(one.files[ending]) for ending in (".cif", "-unrelaxed.cif"))
    np.testing.assert_allclose(before.lattice, argon.lattice, atol=1e-6)
    (frame,) = read_ase(one.files[".extxyz"], index=":")
    np.testing.assert_allclose(from_atoms(frame).lattice, after.lattice, atol=1e-6)
    assert volume(after) < volume(before) and one.row["energy_drop_per_atom"] > 0
    assert one.row["energy_above_hull"] == pytest.approx(one.row["relaxed_energy_per_atom"] + 0.11, abs=1e-5)


def test_what_lies_beside_a_model_gives_columns(tmp_path, monkeypatch):
    facts = {"mean": 1.0, "std": 2.0}
    config = {"elements": ["Ba", "Ti", "O"], "atoms": {"5": 1}, "properties": {"gap": facts}}
    predictor = Predictor(config | {"width": 8, "layers": 1, "members": 3})
    (model := tmp_path / "model").mkdir()
    predictor.save(model)
    novelty.save([MODEL[0]], model)
    monkeypatch.setattr(Drawer, "folder", model)
    (one,), whole, notes = run(tmp_path, perovskite(shift=0.02), n=1, seed=0)
    mean, spread = Predictor.load(model).predict([perovskite(shift=0.02)])["gap"]
    assert one.row["predicted_gap"] == pytest.approx(mean[0], abs=1e-3)
    assert one.row["predicted_gap_spread"] == pytest.approx(spread[0], abs=1e-3) and spread[0] > 0
    assert one.row["composition_to_training"] == 0 and not notes
    assert read_ase(whole.files[".extxyz"]).info["predicted_gap"] == one.row["predicted_gap"]
    monkeypatch.setattr("inkwash.extras.find_spec", lambda name: None if name == "matminer" else name)
    (one,), _, notes = run(tmp_path, MODEL[0], n=1, seed=0)
    assert "structure_to_training" not in one.row and "needs matminer" in notes[0]
