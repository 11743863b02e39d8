"""Energies above the hull of a person's own entries."""

import json

import pytest

from inkwash.errors import UserError
from inkwash.systems.crystals.hull import Hull
from tests.systems.crystals.toy import rocksalt


def hull_of(folder, entries):
    (folder / "entries.json").write_text(json.dumps(entries))
    return Hull(folder / "entries.json")


def test_the_hull_is_the_line_between_its_entries(tmp_path):
    entries = [
        {"composition": {"Na": 1}, "energy": -1.0},
        {"composition": {"Cl": 2}, "energy": -4.0},
        {"composition": {"Na": 1, "Cl": 1}, "energy": -6.0, "correction": -1.0},
    ]
    hull = hull_of(tmp_path, entries)
    assert hull.above(rocksalt(), -3.0) == pytest.approx(0.5)  # NaCl lies at -3.5 eV an atom
    assert hull.above(rocksalt(), -4.0) == pytest.approx(-0.5)
    assert hull.above(rocksalt("Na", "Br"), -3.0) is None
    assert hull_of(tmp_path, dict(enumerate(entries[:2]))).above(rocksalt(), -1.5) == pytest.approx(0)


NUMBERLESS = [
    '[{"composition": {"Na": 1}, "energy": NaN}]',
    '[{"composition": {"Na": 1}, "energy": 1, "correction": 1e999}]',
    '[{"composition": {"Na": -1}, "energy": 1}]',
    '[{"composition": {"Na": NaN}, "energy": 1}]',
]


@pytest.mark.parametrize(
    "text", ["{", "[]x", '[{"energy": 1}]', '[{"composition": {"Qq": 1}, "energy": 1}]', "[1]", *NUMBERLESS]
)
def test_a_hull_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "hull.json").write_text(text)
    with pytest.raises(UserError, match=r"hull\.json"):
        Hull(tmp_path / "hull.json")
