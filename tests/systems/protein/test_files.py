"""Structures are read as they are, what was chosen is said, and what is written is read again."""

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.protein import files
from inkwash.systems.protein.atoms import own_atoms, to_atoms
from inkwash.systems.protein.chains import BACKBONE, bonded
from tests.systems.protein import made
from tests.systems.protein.made import read


def test_a_helix_is_read_as_it_was_made(tmp_path):
    chains, notes = read(made.save(tmp_path / "helix.pdb", made.lines(6, chain="P", first=254)))
    chain = chains["P"]
    assert (chain.labels, chain.sequence) == (("254", "255", "256", "257", "258", "259"), "AVLSKE")
    assert np.allclose(chain.coordinates, made.backbone(6)[0], atol=6e-4)
    assert (chain.b_factors == 20).all()
    assert bonded(chain).all()
    assert not notes


def test_both_formats_hold_the_same(tmp_path):
    chain = read(made.save(tmp_path / "a.pdb", made.lines(5)))[0]["A"]
    atoms = to_atoms(chain.coordinates, chain.residues, {1: own_atoms(chain, 1)})
    files.write(tmp_path / "b.cif", atoms)
    files.write(tmp_path / "b.pdb", atoms, {"seed": "7", "recipe": "long"})
    for name in ("b.cif", "b.pdb"):
        (again,), notes = read(tmp_path / name)[0].values(), read(tmp_path / name)[1]
        assert (again.labels, again.residues) == (tuple("12345"), chain.residues)
        assert np.allclose(again.coordinates, chain.coordinates, atol=6e-4)
        assert again.b_factors.tolist() == [0, 1, 0, 0, 0]
        assert not notes
    text = (tmp_path / "b.pdb").read_text()
    assert text.startswith("EXPDTA    THEORETICAL MODEL\nREMARK 999 SEED 7\nREMARK 999 RECIPE long\nATOM ")
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
        for name, place in zip(BACKBONE, atoms[i], strict=True):
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


def test_of_several_models_the_first_is_read_and_said(tmp_path):
    first, second = made.lines(2), [line.replace(" ALA ", " GLY ") for line in made.lines(2)]
    text = ["MODEL        1", *first, "ENDMDL", "MODEL        2", *second, "ENDMDL"]
    chains, notes = read(made.save(tmp_path / "nmr.pdb", text))
    assert chains["A"].sequence == "AV"
    assert notes == ["nmr.pdb: 2 models; the first is taken"]


def test_ca_alone_is_read_and_written(tmp_path):
    text = [line for line in made.lines(5) if line[12:16].strip() == "CA"]
    chain = read(made.save(tmp_path / "trace.pdb", text))[0]["A"]
    assert np.isnan(chain.coordinates[:, [0, 2]]).all()
    assert bonded(chain).all()
    files.write(tmp_path / "out.pdb", to_atoms(chain.coordinates[:, 1:2]))
    again = read(tmp_path / "out.pdb")[0]["A"]
    assert np.array_equal(again.coordinates, chain.coordinates, equal_nan=True)


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


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pdb: No such file"):
        files.read_chains(tmp_path / "none.pdb")


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
