"""Space groups by name, in the setting that fits the cell, against pymatgen's own tables of operations."""

import json
from pathlib import Path

import numpy as np
import pymatgen.symmetry
import pytest
from pymatgen.core.operations import SymmOp
from pymatgen.symmetry.groups import SpaceGroup

from inkwash.errors import UserError
from inkwash.systems.crystals.symmetry import operations, parse

NAME, HALL = "symmetry_space_group_name_h-m", "space_group_name_hall"
CUBIC = np.eye(3) * 16.0


def metric(ops):
    """Of a cell that these operations carry onto itself, and that has no more symmetry than it must."""
    rotations = np.array([op.rotation_matrix for op in ops])
    cell = np.random.default_rng(0).normal(size=(3, 3)) + 3 * np.eye(3)
    return (np.swapaxes(rotations, 1, 2) @ (cell @ cell.T) @ rotations).mean(0)


def as_set(rotations, translations):
    rows = zip(rotations, translations, strict=True)
    return {(*r.round().astype(int).ravel(), *(np.round(24 * t).astype(int) % 24)) for r, t in rows}


def compared(tag, name, ops):
    """Whether the operations of a name are these: "same", "other", or "refused"."""
    try:
        rotations, translations, _ = operations({tag: name}, metric(ops))
    except UserError:
        return "refused"
    expected = [op.rotation_matrix for op in ops], [op.translation_vector for op in ops]
    return "same" if as_set(rotations, translations) == as_set(*expected) else "other"


SHORT = ["P1", "P-1", "P2_1/c", "C2/c", "P2_12_12_1", "Pnma", "Cmcm", "I4/mmm", "P4_2/mnm", "R3", "P6_3mc", "Pa-3"]


@pytest.mark.parametrize("name", SHORT)
def test_short_names_mean_what_pymatgen_means(name):
    assert compared(NAME, name, [*SpaceGroup(name).symmetry_ops]) == "same"


def test_names_with_their_setting_mean_what_the_table_of_cod_means():
    """Five hundred settings: unique axes, cell choices, origins, rhombohedral axes."""
    file = Path(pymatgen.symmetry.__path__[0]) / "symm_ops.json"
    verdicts = {"universal_h_m": [], "hall": []}
    for entry in json.loads(file.read_text()):
        if "(" not in entry["universal_h_m"]:  # axes of one's own, which the table does not name
            ops = [SymmOp.from_xyz_str(line) for line in entry["symops"]]
            verdicts["universal_h_m"].append(compared(NAME, entry["universal_h_m"], ops))
            verdicts["hall"].append(compared(HALL, entry["hall"], ops))
    for found in verdicts.values():
        assert "other" not in found and found.count("same") > 510


@pytest.mark.parametrize(
    ("line", "rotation", "translation"),
    [
        ("x, y, z", np.eye(3), (0, 0, 0)),
        ("-X+1/2,Y,0.25-Z", np.diag([-1, 1, -1]), (0.5, 0, 0.25)),
        ("x-y, x, z+.333", [[1, -1, 0], [1, 0, 0], [0, 0, 1]], (0, 0, 1 / 3)),
        ("y,+x,2/3+z,-1", [[0, 1, 0], [1, 0, 0], [0, 0, 1]], (0, 0, 2 / 3)),
    ],
)
def test_operations_are_read_as_they_are_written(line, rotation, translation):
    found = parse(line)
    np.testing.assert_allclose(found[0], rotation)
    np.testing.assert_allclose(found[1], translation, atol=1e-12)


@pytest.mark.parametrize("line", ["x,y", "x,y,w", "x,y,2x", "x,x,z", "x,y,z+1/0", "x,y,z,t", "x y z", "", "x,,z"])
def test_what_is_no_operation_is_refused(line):
    with pytest.raises(UserError, match="is no symmetry operation"):
        parse(line)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({NAME: "F d -3 m"}, "F d -3 m, has two origins; write :1 or :2 after its name"),
        ({"space_group_it_number": "227"}, "number 227, has two origins"),
        ({NAME: "P n c b"}, "two origins"),
        ({NAME: "Foo"}, "Foo, is none that is known here; write its operations"),
        ({HALL: "-P 1 (x,y,2*z)", NAME: "P -1"}, "is none that is known here"),
        ({NAME: "P b n m", "symmetry_int_tables_number": "63"}, "P b n m and number 63, is none"),
        ({"symmetry_int_tables_number": "many"}, "number is 'many'"),
        ({NAME: "P 6/m m m"}, "its cell does not have the symmetry of P 6/m m m"),
    ],
)
def test_what_says_too_little_or_does_not_fit_is_refused(block, words):
    with pytest.raises(UserError, match=words):
        operations(block, CUBIC)


def test_nothing_said_is_p_1_and_question_marks_are_nothing():
    for block in ({}, {NAME: "?", "space_group_it_number": "."}):
        rotations, translations, remark = operations(block, CUBIC)
        assert rotations.tolist() == [np.eye(3).tolist()] and not translations.any()
        assert remark == "no symmetry that can be read, taken as P 1"
    assert operations({NAME: "P 1"}, CUBIC)[2] == ""


def test_operations_that_the_cell_has_not_are_followed_and_said():
    oblique = np.array([[16.0, 4, 0], [4, 16, 0], [0, 0, 16]])
    rotations, _, remark = operations({"symmetry_equiv_pos_as_xyz": ["x,y,z", "x,-y,z"]}, oblique)
    assert len(rotations) == 2 and remark == "its symmetry is followed, but its cell does not have it"


def test_magnetic_operations_are_those_times_the_centrings():
    block = {
        "space_group_symop_magn_operation_xyz": ["x,y,z,+1", "-x,-y,-z,+1"],
        "space_group_symop_magn_centering_xyz": ["x,y,z,+1", "x+1/2,y+1/2,z+1/2,-1"],
    }
    rotations, translations, _ = operations(block, CUBIC)
    expected = [np.eye(3), -np.eye(3)] * 2, [np.zeros(3)] * 2 + [np.full(3, 0.5)] * 2
    assert as_set(rotations, translations) == as_set(*expected)
