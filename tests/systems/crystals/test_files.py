"""Files as the field writes them: each is read as pymatgen or ASE reads it, or refused in one line."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from ase.io import write as write_ase
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.vasp.inputs import Poscar

from inkwash.errors import UserError
from inkwash.systems.crystals.data import Crystal, from_structure, to_atoms, to_structure
from inkwash.systems.crystals.files import read_crystals

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PEROVSKITE = Structure(
    Lattice.from_parameters(3.9, 4.0, 4.2, 90, 91, 92),
    ["Ba", "Ti", "O", "O", "O"],
    [[0.01, 0, 0], [0.5, 0.5, 0.52], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)
CIF = """data_{name}
_cell_length_a 3.905(2)
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{atoms}
"""
P1, CSCL = "_symmetry_space_group_name_H-M 'P 1'", "Cs1 Cs 0 0 0 1\nCl1 Cl 0.5 0.5 0.5(1) 1"
POSCAR = "{title}\n1.0\n4 0 0\n0 4 0\n0 0 4\n{names}1 1\n{select}Direct\n0 0 0 {first}\n0.5 0.5 0.5 {second}\n"


def cif(atoms=CSCL, symmetry=P1, name="x"):
    return CIF.format(atoms=atoms, symmetry=symmetry, name=name)


def poscar(title="a title", names="", select="", first="", second=""):
    return POSCAR.format(title=title, names=names, select=select, first=first, second=second)


@pytest.fixture
def saved(tmp_path):
    def save(text, name):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return save


def assert_same(crystal: Crystal, structure: Structure):
    assert sorted(crystal.numbers) == sorted(site.specie.Z for site in structure)
    assert abs(np.linalg.det(crystal.lattice)) == pytest.approx(structure.volume, rel=1e-5)
    matcher = StructureMatcher(1e-3, 1e-3, 0.1, primitive_cell=False, scale=False)
    assert matcher.fit(to_structure(crystal), structure)


@pytest.mark.parametrize("structure", [ROCKSALT, PEROVSKITE], ids=["rock salt", "perovskite"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.cif", lambda s, file: s.to(str(file), fmt="cif")),
        ("sym.cif", lambda s, file: s.to(str(file), fmt="cif", symprec=1e-4, angle_tolerance=-1)),
        ("ase.cif", lambda s, file: write_ase(file, s.to_ase_atoms(), format="cif")),
        ("POSCAR", lambda s, file: s.to(str(file), fmt="poscar")),
        ("CONTCAR_relaxed", lambda s, file: write_ase(file, s.to_ase_atoms(), format="vasp", direct=False)),
        ("b.vasp", lambda s, file: Poscar(s).write_file(str(file))),
        ("c.extxyz", lambda s, file: write_ase(file, s.to_ase_atoms(), format="extxyz")),
        ("d.json", lambda s, file: file.write_text(s.to_json())),
        ("e.json", lambda s, file: file.write_text(json.dumps({"first": s.as_dict()}))),
        ("f.json", lambda s, file: file.write_text(json.dumps([{"structure": s.as_dict(), "gap": 1.5}]))),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # spglib's, of its own setting
def test_what_others_write_is_the_same_crystal_here(structure, name, write, tmp_path):
    write(structure, tmp_path / name)
    (crystal,) = read_crystals(tmp_path / name)
    assert_same(crystal, structure)


def test_entries_of_pymatgen_bring_their_numbers(tmp_path):
    entry = ComputedStructureEntry(PEROVSKITE, -40.5, data={"gap": 1.5, "phase": "cubic"}, entry_id="mp-1")
    (tmp_path / "entries.json").write_text(json.dumps([entry.as_dict()]))
    (crystal,) = read_crystals(tmp_path / "entries.json")
    assert crystal.name == "mp-1" and crystal.properties["energy"] == -40.5 and crystal.properties["gap"] == 1.5
    assert "phase" not in crystal.properties


def test_json_loads_no_class_that_it_names(tmp_path):
    facts = PEROVSKITE.as_dict()
    facts["sites"][0]["properties"] = {"x": {"@module": "os", "@class": "system", "command": "false"}}
    (tmp_path / "a.json").write_text(json.dumps(facts))
    assert_same(read_crystals(tmp_path / "a.json")[0], PEROVSKITE)


def test_frames_of_an_extxyz_are_crystals_and_their_numbers_properties(tmp_path):
    frames = [to_atoms(from_structure(PEROVSKITE)) for _ in range(2)]
    frames[1].info = {"gap": 1.5, "source": "me", "relaxed": True, "material_id": "m7"}
    write_ase(tmp_path / "a.extxyz", frames, format="extxyz")
    first, second = read_crystals(tmp_path / "a.extxyz")
    assert (first.name, first.properties) == ("a-1", {}) and (second.name, second.properties) == ("m7", {"gap": 1.5})
    write_ase(tmp_path / "b.xyz", frames[0], format="xyz")
    with pytest.raises(UserError, match="no cell of three directions"):
        read_crystals(tmp_path / "b.xyz")
    frames[0].pbc = [True, True, False]
    write_ase(tmp_path / "c.extxyz", frames[:1], format="extxyz")
    with pytest.raises(UserError, match="periodic in 2 of three directions"):
        read_crystals(tmp_path / "c.extxyz")


def test_every_block_of_a_cif_is_read_also_of_the_same_name(saved):
    text = "data_journal\n_title\n;\ndata_of the authors\n;\n" + cif() + cif("K1 K 0 0 0 1")
    assert [crystal.numbers.tolist() for crystal in read_crystals(saved(text, "a.cif"))] == [[55, 17], [19]]


def test_symmetry_of_a_cif_is_followed_and_its_lack_is_said(saved):
    notes = []
    (crystal,) = read_crystals(
        saved(cif("O1 O 0.5 0.5 0 1", "_symmetry_Int_Tables_number 221"), "a.cif"), notes.append
    )
    assert crystal.numbers.tolist() == [8, 8, 8] and not notes
    read_crystals(saved(cif(symmetry=""), "b.cif"), notes.append)
    read_crystals(saved(cif("D1 D 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 ?"), "c.cif"), notes.append)
    read_crystals(saved(cif(symmetry=P1 + "\n_chemical_formula_sum 'Cs1 Cl1 H2'"), "d.cif"), notes.append)
    assert [note.split(": ", 1)[1] for note in notes] == [
        "no symmetry that can be read, taken as P 1",
        "heavy hydrogen, taken as H",
        "its formula has H, of which it has no atoms",
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.cif", cif("Cs1 Cs 0 0 0 0.5"), "partial occupancy"),
        ("a.cif", cif("Cs1 Cs 0 0 ? 1"), "atom Cs1 has no position"),
        ("a.cif", cif("Cs1 Cs . . . 1"), "atom Cs1 has no position"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nK1 K 0 0 0 1"), "at the same place"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nK1 K 0 0 0.1 1"), "0.39 A apart"),
        ("a.cif", cif("X1 X 0 0 0 1"), "is no element"),
        ("a.cif", cif().replace("_c 3.905", "_c 0"), "no cell with a volume"),
        ("a.cif", cif().replace("_gamma 90", "_gamma 200"), "no cell with a volume"),
        ("a.cif", cif().replace("_cell_length_b 3.905\n", ""), "length or an angle of its cell is missing"),
        ("a.cif", cif().replace("_fract_", "_Cartn_"), "no fractional coordinates"),
        ("a.cif", cif("Cs1 Cs 0 0"), "no CIF"),
        ("a.cif", "data_x\n_title 1\n", "no atoms in it"),
        ("a.cif", "", "no atoms in it"),
        ("POSCAR", poscar(), "no elements are named; write them in a line above '1 1'"),
        ("POSCAR", poscar(select="Selective\n", first="T T F", second="F F F"), "no elements are named"),
        ("POSCAR", poscar(names="Cs Qq\n"), "'Qq' is no element"),
        ("POSCAR", poscar(names="Cs Cl\n").replace("0 0 4\n", "0 4 0\n"), "volume of 0"),
        ("POSCAR", "\n".join(poscar(names="Cs Cl\n").split("\n")[:-2]), "no POSCAR"),
        ("POSCAR", "", "no POSCAR"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nO1 O 0.5 0 0 0,5"), "atom O1 has the occupancy '0,5'"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nO1 O 0.5 0 0 ."), "atom O1 has the occupancy"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nO1 O 0.5 0 0 -1"), "atom O1 has the occupancy '-1'"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nVa1 Va 0.5 0 0 1"), "'Va' is no element"),
        ("a.cif", cif("Cs1 Cs 0 0 0 1\nWat1 Wat 0.5 0 0 1"), "'Wat' is no element"),
        ("POSCAR", poscar(names="Cs Cl O\n"), r"3 elements \(Cs Cl O\), but 2 numbers"),
        ("POSCAR", poscar(names="Cs Cl\n") + "0.5 0 0\n", "more positions than its 2 atoms"),
        (
            "POSCAR",
            poscar(names="Cs Cl\n", select="S\n", first="T T T", second="F F F") + "0 0 .1 T T T\n",
            "more pos",
        ),
        ("POSCAR", poscar(title="Cs Cl") + "0.5 0 0\n", "more positions than its 2 atoms"),
        ("POSCAR", poscar(names="Cs Cl\n", first="Cl", second="Cs"), "'0 0 0 Cl' is Cs by the line of its elements"),
        ("POSCAR", poscar(names="Cs Cl\n").replace("Direct\n", "") + "0 0 .2\n", "'0 0 0' where Direct"),
        (
            "a.json",
            json.dumps(Structure(Lattice(np.eye(3) * 4, (True, True, False)), ["K"], [[0, 0, 0]]).as_dict()),
            "periodic in 2 of three directions",
        ),
        ("a.csv", f'cif,gap,gap\n"{cif()}",1,2\n', "two columns are called 'gap'"),
        ("a.csv", f'cif;gap;volume\n"{cif()}";1,5;1.234\n', r"commas \(gap\) and points \(volume\)"),
        ("a.json", '{"lattice": [1], "sites": []}', "no structure of pymatgen"),
        ("a.json", "[1, 2", "no JSON"),
        ("a.json", '{"x": 1}', "'x' is no structure of pymatgen"),
        ("a.json", '{"lattice": {}, "sites": []}', "no structure of pymatgen"),
        ("a.csv", "name,energy\na,1\n", "no column 'cif'; its columns are name, energy"),
        ("a.csv", "", "its columns are none"),
        ("a.txt", "", "no file of crystals by its name"),
        ("a.xyz", "nonsense", "no extxyz"),
    ],
)
def test_what_is_no_crystal_is_refused_in_one_line(saved, name, text, words):
    with pytest.raises(UserError, match=words) as error:
        read_crystals(saved(text, name))
    assert "\n" not in str(error.value) and name in str(error.value)


def test_elements_of_old_poscars_are_found_where_they_are(saved):
    named = [poscar("Cs Cl"), poscar(first="Cs", second="Cl"), poscar(names="Cs_sv Cl/74a\n")]
    named += [
        poscar(names="Cs Cl\n", first="Cs", second="Cl"),
        poscar("x", "Cs_sv Cl\n", "S\n", "T F F Cs", "F F F Cl"),
    ]
    for text in named:
        assert read_crystals(saved(text, "a.vasp"))[0].numbers.tolist() == [55, 17]
    scaled = poscar(names="Cs Cl\n").replace("\n1.0\n", "\n-125\n")
    assert read_crystals(saved(scaled, "a.vasp"))[0].lattice[0, 0] == pytest.approx(5)


def test_columns_of_numbers_are_properties_with_their_gaps(tmp_path):
    rows = ['m1;"{}";1,5;;2;Pm-3m', 'm2;"{}";-3;7e-2;n/a;P1', 'm3;"{}";,5;;;P1']
    table = "material_id;cif;heat;gap;id_2;group\n" + "\n".join(row.format(cif()) for row in rows)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(table)
    crystals = read_crystals(tmp_path / "a.csv.gz")
    assert [crystal.name for crystal in crystals] == ["m1", "m2", "m3"]
    assert [crystal.properties for crystal in crystals] == [
        {"heat": 1.5, "id_2": 2.0}, {"heat": -3.0, "gap": 0.07}, {"heat": 0.5}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "delimiter", "words"),
    [
        (["1.5", "high", "2"], ",", "'high' is no number among numbers"),
        (["1.5", "1,5", "2"], ";", "commas and points"),
        (["1.5", "inf", "2"], ",", "'inf' is no number"),
        (["1e400", "1", "2"], ",", "'1e400' is too large"),
        (["1.5 eV", "2 eV"], ",", "'1.5 eV' is no plain number"),
        (["300 K", ""], ",", "'300 K' is no plain number"),
        (['"1,5"', '"2,5"'], ",", "'1,5' is no plain number"),
        (["1.234,5", "1.300,2"], ";", "is no plain number"),
        (["\N{MINUS SIGN}1.5", "\N{MINUS SIGN}2", "1"], ",", "1.5' is no plain number"),
        (["1.5(2)", "<2.5", "1.5±0.2"], ",", "is no plain number"),
        (["1 234", "2 345"], ";", "'1 234' is no plain number"),
        (["1.5D-3", "2.5d-3"], ",", "'1.5D-3' is no plain number"),
    ],
)
def test_a_column_that_could_be_read_wrong_is_refused(tmp_path, cells, delimiter, words):
    rows = "\n".join(delimiter.join((f'"{cif()}"', cell)) for cell in cells)
    (tmp_path / "a.csv").write_text(f"cif{delimiter}gap\n{rows}\n")
    with pytest.raises(UserError, match=words):
        read_crystals(tmp_path / "a.csv")


@pytest.mark.parametrize("cell", ["225 Fm-3m", "62 Pnma", "-43m", "2D", "10.1000/x", "1.2.3", "2024-01-01", "mp-12"])
def test_words_that_begin_as_numbers_are_no_property(saved, cell):
    (crystal,) = read_crystals(saved(f'cif,words,gap\n"{cif()}",{cell},1\n', "a.csv"))
    assert crystal.properties == {"gap": 1.0}


def test_whole_numbers_beside_a_frame_are_properties_and_what_no_float_holds_is_none(saved):
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=-2 gap=1 done=T\nK 0 0 0\n'
    (crystal,) = read_crystals(saved(frame, "a.extxyz"))
    assert crystal.properties == {"energy": -2.0, "gap": 1.0}
    structure = Structure(Lattice.cubic(4), ["K"], [[0, 0, 0]]).as_dict()
    (crystal,) = read_crystals(saved(json.dumps({"structure": structure, "id_2": 10**400, "gap": 1}), "a.json"))
    assert crystal.properties == {"gap": 1.0}


FRAME = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 {}\nK 0 0 0\n'


@pytest.mark.parametrize(
    "tail", ["gap=1,5", "gap=-1,5e0", 'gap="1,5"', "gap=,5", '"band gap"=1,5 run=a', "run=a gap=1,5"]
)
def test_a_comma_before_decimals_beside_a_frame_is_refused(saved, tail):
    with pytest.raises(UserError, match=r"gap = [-,15e0]*: no plain number; write 1.5"):
        read_crystals(saved(FRAME.format(tail), "a.extxyz"))
    notes = []
    both = FRAME.format("gap=2") + FRAME.format(tail)
    (crystal,) = read_crystals(saved(both, "b.extxyz"), notes.append)
    assert crystal.properties == {"gap": 2.0} and "b.extxyz, frame 2: " in notes[0]


@pytest.mark.parametrize(
    "tail", ["gap=1.5 levels=[1,5]", '"band gap"=1.5', 'gap=1.5 note="a=1,b"', "gap=1.5 x={1 5}"]
)
def test_arrays_and_words_with_commas_are_none(saved, tail):
    (crystal,) = read_crystals(saved(FRAME.format(tail), "a.extxyz"))
    assert [*crystal.properties.values()] == [1.5]


def test_names_with_spaces_go_through_all_files(saved, tmp_path):
    (from_table,) = read_crystals(saved(f'cif,band gap (eV)\n"{cif()}",1.5\n', "a.csv"))
    write_ase(tmp_path / "b.extxyz", to_atoms(from_table), format="extxyz")
    (from_frame,) = read_crystals(tmp_path / "b.extxyz")
    assert from_table.properties == from_frame.properties == {"band gap (eV)": 1.5}


def test_documents_of_a_database_may_lie_under_data(saved):
    structure = Structure(Lattice.cubic(4), ["K"], [[0, 0, 0]]).as_dict()
    answer = {"data": [{"material_id": "mp-1", "structure": structure, "band_gap": 1.2}], "meta": {"total": 1}}
    (crystal,) = read_crystals(saved(json.dumps(answer), "a.json"))
    assert crystal.name == "mp-1" and crystal.properties == {"band_gap": 1.2}


@pytest.mark.parametrize("rows", ["Direct\n0 0 0\n0.5 0.25 0.5\n", "Cartesian\n0 0 0\n2 1 2\n"])
def test_a_volume_in_place_of_the_factor_scales_places_too(saved, rows):
    text = f"t\n-125\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\n{rows}"
    (crystal,) = read_crystals(saved(text, "a.vasp"))
    expected = Structure(Lattice.cubic(5), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.25, 0.5]])
    assert_same(crystal, expected)


def test_texts_that_may_be_meant_as_numbers_are_named(saved):
    notes = []
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 gap="1.5 eV" run=a1\nK 0 0 0\n'
    read_crystals(saved(frame, "a.extxyz"), notes.append)
    structure = Structure(Lattice.cubic(4), ["K"], [[0, 0, 0]]).as_dict()
    item = {"structure": structure, "@version": "2024.5", "id": "12", "data": {"gap": "1.5", "run": "a1"}}
    read_crystals(saved(json.dumps(item), "a.json"), notes.append)
    assert [note.split(": ", 1)[1][:33] for note in notes] == ["no numbers, so passed over: gap; "] * 2


def test_a_folder_and_a_zip_of_it_give_all_that_can_be_used_and_say_the_rest(tmp_path):
    folder = tmp_path / "mine"
    (folder / "below").mkdir(parents=True)
    (folder / "a.cif").write_text(cif())
    (folder / "below" / "POSCAR").write_text(poscar(names="K Cl\n"))
    (folder / "b.cif").write_text(cif("Cs1 Cs 0 0 0 0.5"))
    (folder / "copy.cif").write_text(cif())
    (folder / "c.json").write_text("{")
    (folder / "._a.cif").write_text("of the system")
    (folder / "readme.txt").write_text("words")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    for path in (folder, tmp_path / "mine.zip"):
        notes = []
        crystals = read_crystals(path, notes.append)
        assert [crystal.name for crystal in crystals] == ["a", "below", "copy"]
        assert len(notes) == 3 and f"{path}/b.cif: partial occupancy" in notes[0] and "c.json: no JSON" in notes[1]
        assert notes[2] == "1 of 3 crystals stand there a second time, atom for atom"
        with pytest.raises(UserError, match="1 more that cannot be used"):
            read_crystals(path)


def test_folders_and_zips_without_crystals_are_refused(tmp_path):
    with pytest.raises(UserError, match="no file of crystals in it"):
        read_crystals(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="cannot read"):
        read_crystals(tmp_path / "a.zip")
    with pytest.raises(UserError, match="no such file"):
        read_crystals(tmp_path / "b.cif")
