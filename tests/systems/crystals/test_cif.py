"""CIFs as databases and people write them, each crystal known by hand; what could be read wrong is refused."""

import re
from collections import Counter

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from inkwash.errors import UserError
from inkwash.systems.crystals.cif import crystal_of
from inkwash.systems.crystals.data import to_structure
from inkwash.systems.crystals.elements import SYMBOLS
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.matching import matcher

SITE = "label type_symbol fract_x fract_y fract_z"
BARE = "label fract_x fract_y fract_z"  # without types
FCC = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+0.5,y+0.5,z\nx+.5,y,z+0.5\nx,0.5+y,0.5+z\n"
P1 = "_symmetry_space_group_name_H-M 'P 1'\n"


def cell(a, b=None, c=None, alpha=90, beta=90, gamma=90):
    values = {"length_a": a, "length_b": b or a, "length_c": c or a}
    values |= {"angle_alpha": alpha, "angle_beta": beta, "angle_gamma": gamma}
    return "data_x\n" + "".join(f"_cell_{name} {value}\n" for name, value in values.items())


def atoms(*rows, columns=SITE):
    return "loop_\n" + "".join(f"_atom_site_{name}\n" for name in columns.split()) + "\n".join(rows) + "\n"


def read(text):
    """What a cell has, "Cl4 Na4", and what is said."""
    crystal, remark = crystal_of(text, {}, "x")
    counts = Counter(SYMBOLS[number] for number in crystal.numbers)
    return " ".join(f"{symbol}{count}" for symbol, count in sorted(counts.items())), remark


def refusal(text):
    with pytest.raises(UserError) as error:
        crystal_of(text, {}, "x")
    assert "\n" not in str(error.value)
    return str(error.value)


def group(name, number=None):
    return f"_symmetry_space_group_name_H-M '{name}'\n" + (
        f"_symmetry_Int_Tables_number {number}\n" if number else ""
    )


HEXAGONAL, OBLIQUE = cell(4.5, 4.5, 11.8, gamma=120), cell(5, 6, 7, beta=103)
IRON = atoms("Fe1 Fe 0.1 0.2 0.3")
BISMUTH = atoms("Bi1 Bi 0 0 0")
CUBIC, COPPER, CARBON = cell(3.567), atoms("Cu1 Cu 0 0 0"), atoms("C1 C 0 0 0")
UNLOOPED = "".join(f"_atom_site_{n} {v}\n" for n, v in zip(SITE.split(), ["Po1", "Po", "0", "0", "0"], strict=True))
FILES = {
    "of ICSD": (
        cell("5.6402(2)") + group("F m -3 m", 225) + FCC
        + atoms("Na1 Na1+ 4 a 0 0 0 . 1. 0", "Cl1 Cl1- 4 b 0.5 0.5 0.5 . 1. 0",
                columns="label type_symbol symmetry_multiplicity Wyckoff_symbol fract_x fract_y fract_z "
                "B_iso_or_equiv occupancy attached_hydrogens"),
        "Cl4 Na4",
    ),
    "of COD, without types": (
        "#----\n# COD\n" + cell(5.64) + "_publ_author_name 'X, Y'\n"
        + FCC.replace("symmetry_equiv_pos_as", "space_group_symop_operation")
        + atoms("Na1 0.00000 0.0 0.0", "Cl1 0.50000 0.5 0.5", columns=BARE),
        "Cl4 Na4",
    ),
    "of VESTA": (
        cell(3.905) + "_space_group_name_H-M_alt 'P m -3 m'\n_space_group_IT_number 221\n"
        + atoms("Sr1 1.0 0.0 0.0 0.0 Biso 1.0 Sr", "Ti1 1.0 0.5 0.5 0.5 Biso 1.0 Ti", "O1 1.0 0.5 0.5 0.0 Biso 1.0 O",
                columns="label occupancy fract_x fract_y fract_z adp_type B_iso_or_equiv type_symbol"),
        "O3 Sr1 Ti1",
    ),
    "operations in capitals": (CUBIC + FCC.replace("x,", "X,").replace("y,", "Y,") + COPPER, "Cu4"),
    "tags in capitals": ((CUBIC + FCC + COPPER).upper(), "Cu4"),
    "tags with points": ((CUBIC + FCC + COPPER).replace("_cell_", "_cell.").replace("_site_", "_site."), "Cu4"),
    "an atom without a loop": (CUBIC + P1 + UNLOOPED, "Po1"),
    "a point that is no atom": (
        CUBIC + P1 + atoms("O1 O 0 0 0 d", "Q1 . .3 .3 .3 dum", columns=f"{SITE} calc_flag"),
        "O1",
    ),
    "origin 1": (CUBIC + group("F d -3 m :1", 227) + CARBON, "C8"),
    "origin 2": (CUBIC + group("F d -3 m :2", 227) + CARBON, "C16"),
    "ICSD's origin 1": (CUBIC + group("F d -3 m S") + CARBON, "C8"),
    "ICSD's origin 2": (CUBIC + group("F d -3 m Z") + atoms("C1 C 0.125 0.125 0.125"), "C8"),
    "an old name": (CUBIC + group("F d 3 m (origin choice 1)") + CARBON, "C8"),
    "Hall's symbol alone": (CUBIC + "_space_group_name_Hall 'F 4d 2 3 -1d'\n" + CARBON, "C8"),
    "rhombohedral axes, unsaid": (cell(4.7, alpha=57, beta=57, gamma=57) + group("R -3 m") + BISMUTH, "Bi1"),
    "hexagonal axes, unsaid": (HEXAGONAL + group("R -3 m") + BISMUTH, "Bi3"),
    "hexagonal axes, ICSD's": (HEXAGONAL + group("R -3 m H") + BISMUTH, "Bi3"),
    "P21/n": (OBLIQUE + group("P 21/n", 14) + IRON, "Fe4"),
    "P 1 21/n 1": (OBLIQUE + group("P 1 21/n 1") + IRON, "Fe4"),
    "I2/a": (OBLIQUE + group("I 2/a") + IRON, "Fe8"),
    "Pbnm": (
        cell(5.3, 5.4, 7.6) + group("P b n m", 62) + atoms("Gd1 Gd 0.98 0.06 0.25", "Fe1 Fe 0 0.5 0"),
        "Fe4 Gd4",
    ),
    "Cmca, now Cmce": (cell(3.3, 10.4, 4.4) + group("C m c a") + atoms("P1 P 0 0.1 0.08"), "P8"),
    "three digits of a third": (
        cell(3.2, 3.2, 5.2, gamma=120) + group("P 63/m m c") + atoms("Mg1 Mg 0.333 0.667 0.25"),
        "Mg2",
    ),
    "uncertainties": (cell("4.0012(15)") + P1 + atoms("O1 O 0.1234(5) -0.02(1) 1.0"), "O1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_field_is_the_crystal_that_it_is(name, tmp_path):
    text, expected = FILES[name]
    assert read(text) == (expected, "")
    (tmp_path / "a.cif").write_text(text)
    (crystal,) = read_crystals(tmp_path / "a.cif")
    assert len(crystal.numbers) == sum(map(int, re.findall(r"\d+", expected)))


@pytest.mark.parametrize("name", ["origin 1", "ICSD's origin 2", "an old name", "Hall's symbol alone"])
def test_diamond_is_diamond_by_each_of_its_origins(name):
    diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0, 0, 0]])  # its origin 1
    crystal, _ = crystal_of(FILES[name][0], {}, "x")
    assert matcher().get_rms_dist(to_structure(crystal), diamond)[0] < 1e-6


def test_an_atom_near_an_axis_stands_on_it():
    crystal, _ = crystal_of(FILES["three digits of a third"][0], {}, "x")
    shift = (crystal.coordinates[1] - crystal.coordinates[0]) % 1
    assert sorted(np.minimum(shift, 1 - shift).round(9)) == [round(1 / 3, 9), round(1 / 3, 9), 0.5]


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf", "utf-16", "latin-1", "crlf"])
def test_encodings_and_ends_of_lines(text, tmp_path):
    content = cell(4) + P1 + "_publ_author_name 'Müller'\n" + atoms("O1 O 0 0 0")
    if text == "crlf":
        raw = content.replace("\n", "\r\n").encode()
    else:
        raw = text + content.encode() if isinstance(text, bytes) else content.encode(text)
    (tmp_path / "a.cif").write_bytes(raw)
    assert read_crystals(tmp_path / "a.cif")[0].numbers.tolist() == [8]


@pytest.mark.parametrize(
    ("label", "symbol"),
    [
        ("Na1", "Na"),
        ("O1W", "O"),
        ("C1'", "C"),
        ("Fe3+", "Fe"),
        ("O2-", "O"),
        ("Ho1", "Ho"),
        ("C", "C"),
        ("Fe_2", "Fe"),
    ],
)
def test_labels_that_say_an_element_are_read(label, symbol):
    assert read(cell(4) + P1 + atoms(f"{label} 0 0 0", columns=BARE)) == (f"{symbol}1", "")


@pytest.mark.parametrize(
    "label", ["1", "M1", "Wat", "OW1", "NA1", "HO1", "T1", "X", "Mg/Fe1", "Va1", "OH1", "CO", "Na,K", "fe1", "?"]
)
def test_labels_that_say_none_of_their_own_are_refused(label):
    text = cell(4) + P1 + atoms(f"{label} 0 0 0", columns=BARE)
    assert refusal(text) == f"its label '{label}' says no element of its own; write _atom_site_type_symbol beside it"
    assert refusal(cell(4) + P1 + atoms(f"{label} ? 0 0 0")).startswith("its label")


def test_a_label_of_an_element_that_the_formula_lacks_is_refused():
    text = cell(4) + P1 + "_chemical_formula_sum 'H2 O'\n" + atoms("W1 0 0 0", columns=BARE)
    assert "its label 'W1' says no element of its own" in refusal(text)


@pytest.mark.parametrize(
    ("type", "symbol"), [("Fe+3", "Fe"), ("Fe3+", "Fe"), ("FE", "Fe"), ("Fe0+", "Fe"), ("O2-", "O")]
)
def test_types_with_their_charge_are_read(type, symbol):
    assert read(cell(4) + P1 + atoms(f"M1 {type} 0 0 0")) == (f"{symbol}1", "")


@pytest.mark.parametrize("type", ["O-H", "Wat", "OH2", "0.8Nb", "Va", "M", "Nb,Zr"])
def test_types_that_are_no_element_are_refused(type):
    assert refusal(cell(4) + P1 + atoms(f"M1 {type} 0 0 0")) == f"'{type}' is no element"


@pytest.mark.parametrize("row", ["D1 D 0 0 0", "T1 T 0 0 0"])
def test_heavy_hydrogen_is_hydrogen_and_said(row):
    assert read(cell(4) + P1 + atoms(row)) == ("H1", "heavy hydrogen, taken as H")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (cell("4,0") + P1 + atoms("O1 O 0 0 0"), "'4,0' is no number"),
        (cell(4) + P1 + atoms("O1 O 0,5 0 0"), "'0,5' is no number (a position of O1)"),
        (cell(4) + P1 + atoms("O1 O 1/3 0 0"), "'1/3' is no number (a position of O1)"),
        (cell(4) + P1 + atoms("O1 O 0 0", columns="label type_symbol fract_x fract_y"), "atom O1 has no position (z"),
        (cell(4) + P1 + atoms("0 0 0", columns="fract_x fract_y fract_z"), "neither symbols nor labels"),
        (
            cell(4) + P1 + atoms("O1 O 0 0 0 2", columns=f"{SITE} attached_hydrogens"),
            "atom O1 has 2 hydrogens without positions",
        ),
        (
            cell(4) + P1 + atoms("Fe1 Fe2+ 0 0 0 0.5", "Fe2 Fe3+ 0 0 0 0.5", columns=f"{SITE} occupancy"),
            "partial occupancy (Fe1: 0.5)",
        ),
        (cell(4) + P1 + atoms("Fe1 Fe 0 0 0", "O1 O 0.001 0 1"), "at the same place: Fe1 and O1"),
        (cell(4) + FCC.replace("x,y,z\n", "x,y,z,w\n") + atoms("Cu1 Cu 0 0 0"), "is no symmetry operation"),
        (CUBIC + group("F d -3 m") + CARBON, "has two origins"),
        (HEXAGONAL + group("R -3 m :R") + BISMUTH, "does not have the symmetry of R -3 m :R"),
        (OBLIQUE + group("P 1 1 21/b") + IRON, "does not have the symmetry"),
        (cell(4) + P1 + atoms("Po1 Po 0 0 0", columns=f"x {SITE}"), "no CIF"),
    ],
)  # fmt: skip
def test_what_would_be_read_as_something_else_is_refused(text, words):
    assert words in refusal(text)


def test_a_formula_that_is_not_that_of_the_atoms_is_said():
    def said(formula):
        return read(cell(4) + P1 + f"_chemical_formula_sum '{formula}'\n" + atoms("K1 K 0 0 0", "F1 F .5 .5 .5"))[1]

    assert said("F K") == said("K2 F2") == said("?") == said("no formula") == ""
    assert said("K F H2") == "its formula has H, of which it has no atoms"
    assert said("K F2") == said("K") == "its atoms are not those of its formula"
