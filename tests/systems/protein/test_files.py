"""Structures are read as they are, what was chosen is said, and what is written is read again."""

from pathlib import Path

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.protein import files
from tests.systems.protein import made

TARGETS = Path(__file__).parents[4] / "shared" / "data" / "proteins" / "motif_targets"
SECOND = ("GLY", "PRO")


def read(path):
    notes = []
    return files.read_chains(path, notes.append), notes


def test_a_helix_is_read_as_it_was_made(tmp_path):
    chains, notes = read(made.save(tmp_path / "helix.pdb", made.lines(6, chain="P", first=254)))
    chain = chains["P"]
    assert (chain.labels, chain.sequence) == (("254", "255", "256", "257", "258", "259"), "AVLSKE")
    assert np.allclose(chain.coordinates, made.backbone(6)[0], atol=6e-4)
    assert (chain.b_factors == 20).all()
    assert files.bonded(chain).all()
    assert not notes


def test_both_formats_hold_the_same(tmp_path):
    chain = read(made.save(tmp_path / "a.pdb", made.lines(5)))[0]["A"]
    atoms = files.to_atoms(chain.coordinates, chain.residues, {1: files.own_atoms(chain, 1)})
    files.write(tmp_path / "b.cif", atoms)
    files.write(tmp_path / "b.pdb", atoms, ["made by hand"])
    for name in ("b.cif", "b.pdb"):
        (again,), notes = read(tmp_path / name)[0].values(), read(tmp_path / name)[1]
        assert (again.labels, again.residues) == (tuple("12345"), chain.residues)
        assert np.allclose(again.coordinates, chain.coordinates, atol=6e-4)
        assert again.b_factors.tolist() == [0, 1, 0, 0, 0]
        assert not notes
    assert "REMARK 999 made by hand" in (tmp_path / "b.pdb").read_text()
    (tmp_path / "nameless").write_bytes((tmp_path / "b.cif").read_bytes())
    assert [*read(tmp_path / "nameless")[0]] == ["A"]


def test_names_in_mmcif_are_the_authors_as_in_pdb(tmp_path):
    keys = (
        "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_seq_id "
        "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id "
        "pdbx_PDB_model_num"
    )
    rows, atoms = [], made.backbone(3)[0]
    for i, (number, code) in enumerate((("52", "?"), ("52", "A"), ("53", "?"))):
        for name, place in zip(files.BACKBONE, atoms[i], strict=True):
            where = " ".join(f"{x:.3f}" for x in place)
            rows.append(f"ATOM {len(rows) + 1} {name[0]} {name} . SER B {i + 1} {code} {where} 1.0 7.5 {number} P 1")
    rows.append("HETATM 99 O O . HOH C . ? 9 9 9 1.0 30.0 301 P 1")
    text = ["data_1ABC", "#", "loop_", *(f"_atom_site.{key}" for key in keys.split()), *rows]
    (tmp_path / "a.cif").write_text("\n".join(text) + "\n#\n")
    chains, notes = read(tmp_path / "a.cif")
    assert [*chains] == ["P"]
    assert chains["P"].labels == ("52", "52A", "53")
    assert np.allclose(chains["P"].coordinates, atoms, atol=6e-4)
    assert chains["P"].b_factors.tolist() == [7.5] * 3
    assert not notes
    with (tmp_path / "a.cif").open("a") as file:
        file.write("data_SECOND\n_entry.id x\n")
    assert read(tmp_path / "a.cif")[1] == ["a.cif: 2 blocks of data; the first is taken"]


def test_oxygens_lie_where_ideal_geometry_has_them():
    rng = np.random.default_rng(0)
    atoms, oxygens = made.backbone(40, rng.uniform(-150, -50, 40), rng.uniform(-60, 160, 40))
    placed = files.place_oxygens(atoms)
    assert np.abs(placed[:-1] - oxygens[:-1]).max() < 1e-6
    last = made.extend(*atoms[-1], files.C_O, 120.4, 140.0 + 180.0)
    assert np.abs(placed[-1] - last).max() < 1e-6


def test_insertion_codes_name_residues_of_their_own(tmp_path):
    atoms, _ = made.backbone(4)
    names = [("52", " "), ("52", "A"), ("52", "B"), ("53", " ")]
    text = [
        made.atom(name, "SER", "H", number, place, code)
        for (number, code), residue in zip(names, atoms, strict=True)
        for name, place in zip(files.BACKBONE, residue, strict=True)
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


def test_of_several_models_the_first_is_read_and_said(tmp_path):
    first, second = made.lines(2), [line.replace(" ALA ", " GLY ") for line in made.lines(2)]
    text = ["MODEL        1", *first, "ENDMDL", "MODEL        2", *second, "ENDMDL"]
    chains, notes = read(made.save(tmp_path / "nmr.pdb", text))
    assert chains["A"].sequence == "AV"
    assert notes == ["nmr.pdb: 2 models; the first is taken"]


def test_modified_residues_are_of_the_chain_and_ligands_are_not(tmp_path):
    text = made.lines(4, names=("ALA", "MSE", "SEP", "LEU"))
    text = [line.replace("ATOM  ", "HETATM") if "MSE" in line or "SEP" in line else line for line in text]
    text += [made.atom(name, "GLY", "A", 301, place, record="HETATM")
             for name, place in zip(files.BACKBONE, made.backbone(1)[0][0] + 30, strict=True)]  # fmt: skip
    text += [made.atom("ZN", "ZN", "A", 302, (9, 9, 9), record="HETATM")]
    text += [made.atom("O", "HOH", "A", 303, (8, 8, 8), record="HETATM")]
    chains, notes = read(made.save(tmp_path / "het.pdb", text))
    assert (chains["A"].residues, chains["A"].sequence) == (("ALA", "MET", "SER", "LEU"), "AMSL")
    assert notes == [
        "het.pdb: chain A: MSE is read as MET, SEP is read as SER",
        "het.pdb: left out: GLY, ZN (no part of a chain of amino acids)",
    ]


def test_a_modified_residue_keeps_only_its_backbone(tmp_path):
    text = made.lines(3, names=("ALA", "MSE", "LEU"))
    text.insert(8, made.atom("SE", "MSE", "A", 2, (5, 5, 5)))
    text.append(made.atom("CB", "LEU", "A", 3, (6, 6, 6)))
    text.append(made.atom("OXT", "LEU", "A", 3, (7, 7, 7)))
    chain = read(made.save(tmp_path / "mse.pdb", text))[0]["A"]
    atoms = files.to_atoms(chain.coordinates, None, {i: files.own_atoms(chain, i) for i in (1, 2)})
    names = {i: atoms.atom_name[atoms.res_id == i].tolist() for i in (1, 2, 3)}
    assert names == {1: ["N", "CA", "C", "O"], 2: ["N", "CA", "C", "O"], 3: ["N", "CA", "C", "O", "CB"]}


def test_ca_alone_is_read_and_written(tmp_path):
    text = [line for line in made.lines(5) if line[12:16].strip() == "CA"]
    chain = read(made.save(tmp_path / "trace.pdb", text))[0]["A"]
    assert np.isnan(chain.coordinates[:, [0, 2]]).all()
    assert files.bonded(chain).all()
    files.write(tmp_path / "out.pdb", files.to_atoms(chain.coordinates[:, 1:2]))
    again = read(tmp_path / "out.pdb")[0]["A"]
    assert np.array_equal(again.coordinates, chain.coordinates, equal_nan=True)


def test_a_break_is_found(tmp_path):
    text = [line for line in made.lines(6) if " 4 " not in line[20:28]]
    chain = read(made.save(tmp_path / "gap.pdb", text))[0]["A"]
    assert chain.labels == tuple("12356")
    assert files.bonded(chain).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no PDB or mmCIF file that can be read"),
        ("this is no structure\n", "no PDB or mmCIF file that can be read"),
        ("data_x\n_entry.id x\n", "no PDB or mmCIF file that can be read"),
        (made.atom("ZN", "ZN", "A", 1, (0, 0, 0), record="HETATM") + "\nEND\n", "no amino acids in it"),
        (made.lines(1)[0].replace("0.000", "  nan", 1) + "\nEND\n", "coordinates that are not numbers"),
    ],
)
def test_what_is_no_protein_is_refused_in_one_line(tmp_path, text, reason):
    (tmp_path / "bad.pdb").write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        files.read_chains(tmp_path / "bad.pdb")
    assert "\n" not in str(caught.value)
    assert "bad.pdb" in str(caught.value)


def test_two_chains_of_one_name_are_refused(tmp_path):
    path = made.save(tmp_path / "dimer.pdb", made.lines(4) + made.lines(4, names=SECOND))
    with pytest.raises(UserError, match=r"dimer\.pdb: A1 is there 2 times"):
        files.read_chains(path)


def test_atoms_of_a_residue_belong_to_it_wherever_they_stand(tmp_path):
    text = made.lines(4)
    text.append(text.pop(5))
    assert np.allclose(read(made.save(tmp_path / "a.pdb", text))[0]["A"].coordinates, made.backbone(4)[0], atol=6e-4)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pdb: No such file"):
        files.read_chains(tmp_path / "none.pdb")


@pytest.mark.skipif(not TARGETS.is_dir(), reason="the motif targets are not here")
def test_oxygens_of_native_chains_are_found_again():
    errors = []
    for file in sorted((TARGETS / "protdiff").glob("*.pdb")):
        for chain in files.read_chains(file).values():
            placed = files.place_oxygens(chain.coordinates)[:-1]
            native = np.array([residue.coord[residue.atom_name == "O"][0] for residue in chain.atoms[:-1]])
            errors.append(np.linalg.norm(placed - native, axis=1)[files.bonded(chain)])
    assert len(errors) == 6
    assert np.concatenate(errors).mean() < 0.05
    assert np.concatenate(errors).max() < 0.2


@pytest.mark.parametrize(
    ("start", "reason"), [(b"\xef\xbb\xbf", "begins with a byte order mark"), (b"\x1f\x8b\x08", "packed by gzip")]
)
def test_a_file_whose_first_bytes_would_spoil_it_is_refused(tmp_path, start, reason):
    path = made.save(tmp_path / "a.pdb", made.lines(4))
    path.write_bytes(start + path.read_bytes())
    with pytest.raises(UserError, match="a.pdb: " + reason):
        files.read_chains(path)


def test_packed_files_of_a_folder_are_not_passed_over(tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    kept = [made.save(tmp_path / "a.pdb", made.lines(4)), made.save(below / "b.CIF", [])]
    assert files.structure_files(tmp_path) == kept
    (below / "c.pdb.gz").touch()
    with pytest.raises(UserError, match=r"c\.pdb\.gz: packed"):
        files.structure_files(tmp_path)
