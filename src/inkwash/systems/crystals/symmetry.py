"""The symmetry of a CIF: its own operations, or those of its space group in the setting that it names.

A name of a group with two origins, or with two sets of axes, says too little unless it says which: what does not fit
the cell is dropped, and what still may be meant in several ways is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError

OPERATIONS = ("symmetry_equiv_pos_as_xyz", "space_group_symop_operation_xyz", "space_group_symop_magn_operation_xyz")
CENTRINGS = "space_group_symop_magn_centering_xyz"
HALL = ("space_group_name_hall", "symmetry_space_group_name_hall")
NAMES = ("symmetry_space_group_name_h-m", "symmetry_space_group_name_h_m", "space_group_name_h-m_alt")
NUMBERS = ("space_group_it_number", "symmetry_int_tables_number")
TERM = re.compile(r"([+-]?)(?:(\d+)/(\d+)|(\d+\.?\d*|\.\d+)|([xyz]))")
# what names of a group add of its setting: F d -3 m :2, F d -3 m Z (ICSD: S and Z are origins), R -3 m H
SETTING = re.compile(r"\s*(?::\s*([12hr])|\s([hrsz])|\(?origin\s+choice\s+([12])\)?)$")
OLD = {"abm2": "aem2", "aba2": "aea2", "cmca": "cmce", "cmma": "cmme", "ccca": "ccce"}  # before 1992
TOLERANCE = 0.02  # of lengths and cosines of a cell, beside the symmetry that it should have
HOW = "write its operations (_symmetry_equiv_pos_as_xyz)"


class Group(NamedTuple):
    """A space group in one setting, as spglib's table has it."""

    hall: int
    number: int
    choice: str
    names: frozenset[str]
    symbol: str  # Hall's


def operations(block: Mapping[str, Any], metric: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """(rotations (n, 3, 3), translations (n, 3)) on fractional coordinates, and what should be said, of a block's
    items by their names in small letters; metric: of its cell, (3, 3). UserError for what cannot be followed."""
    for tag in OPERATIONS:
        if (lines := listed(block.get(tag))) and lines[0] not in ("?", "."):
            found = [parse(line) for line in lines]
            found = [
                (r @ q, r @ u + t) for r, t in found for q, u in map(parse, listed(block.get(CENTRINGS, "x,y,z")))
            ]
            rotations, translations = (np.array(each) for each in zip(*found, strict=True))
            strange = "" if fits(rotations, metric) else "its symmetry is followed, but its cell does not have it"
            return rotations, translations, strange
    hall, name, number = (
        next((text for tag in tags if (text := said(block, tag))), "") for tags in (HALL, NAMES, NUMBERS)
    )
    if not (hall or name or number):
        return np.eye(3)[None], np.zeros((1, 3)), "no symmetry that can be read, taken as P 1"
    meant = hall or name or f"number {number}"
    group = the_one(candidates(hall, name, number), meant, metric)
    return *table(group.hall), ""


def said(block: Mapping[str, Any], tag: str) -> str:
    text = next(iter(listed(block.get(tag))), "")
    return "" if text in ("?", ".") else text.strip()


def listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def parse(line: str) -> tuple[np.ndarray, np.ndarray]:
    """(rotation, translation) of "1/2+x, -y, z+.25". UserError for what is no symmetry operation."""
    axes = re.sub(r"\s", "", line.lower()).split(",")
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    whole = len(axes) == 3 or (len(axes) == 4 and re.fullmatch(r"[+-]?1", axes[3]) is not None)  # magnetic ones
    for i, axis in enumerate(axes[:3]):
        whole = whole and re.fullmatch(f"(?:{TERM.pattern})+", axis) is not None
        for minus, above, below, decimal, letter in TERM.findall(axis):
            sign = -1 if minus == "-" else 1
            if letter:
                rotation[i, "xyz".index(letter)] += sign
            else:
                whole = whole and below not in ("0", "00")
                translation[i] += sign * (float(decimal) if decimal else int(above) / max(int(below), 1))
    if not whole or abs(abs(np.linalg.det(rotation)) - 1) > 1e-6:
        raise UserError(f"'{line[:40]}' is no symmetry operation; write it as x, -y, z+1/2")
    exact = np.round(24 * translation) / 24  # 0.333 is a third
    return rotation, np.where(np.abs(translation - exact) < 2e-3, exact, translation)


def fits(rotations: np.ndarray, metric: np.ndarray) -> bool:
    """Whether a cell of this metric is carried onto itself."""
    lengths = np.sqrt(np.diag(metric))
    scaled = (np.swapaxes(rotations, 1, 2) @ metric @ rotations - metric) / np.outer(lengths, lengths)
    return bool(np.abs(scaled).max() < TOLERANCE)


def candidates(hall: str, name: str, number: str) -> list[Group]:
    """The settings that may be meant by what is said. UserError for none."""
    found = list(groups())
    if hall:
        found = [group for group in found if group.symbol == re.sub(r"[\s_]", "", hall.lower())]
    elif name:
        setting = SETTING.search(name.lower())
        word = re.sub(r"[\s_]", "", (name.lower()[: setting.start()] if setting else name.lower()))
        found = [group for group in found if OLD.get(word, word) in group.names]
        if setting:
            choice = "".join(filter(None, setting.groups())).translate(str.maketrans("sz", "12")).upper()
            found = [group for group in found if group.choice == choice or group.choice.startswith(choice)]
    if number and not hall:
        try:
            found = [group for group in found if group.number == int(float(number))]
        except ValueError:
            raise UserError(f"its space group's number is '{number}'; {HOW}") from None
    if not found:
        text = hall or " and number ".join(filter(None, (name, number)))
        raise UserError(f"its space group, {text}, is none that is known here; {HOW}")
    if not (hall or name):  # the tables' own setting, with both of its axes or origins
        found = [group for group in found if group is found[0] or group.choice in ("1", "2", "H", "R")]
    return found


def the_one(found: Sequence[Group], name: str, metric: np.ndarray) -> Group:
    """The setting that fits the cell; of several unique axes that do the tables' own."""
    fitting = [group for group in found if fits(table(group.hall)[0], metric)]
    if not fitting:
        raise UserError(f"its cell does not have the symmetry of {name}: mend one of them, or {HOW}")
    if {group.choice[:1] for group in fitting} >= {"1", "2"} or (
        len(fitting) > 1 and fitting[0].choice == fitting[1].choice
    ):
        raise UserError(f"its space group, {name}, has two origins; write :1 or :2 after its name, or {HOW}")
    return fitting[0]


@cache
def groups() -> tuple[Group, ...]:
    """All settings of all space groups."""
    import spglib

    found = []
    for hall in range(1, 531):
        with warnings.catch_warnings(action="ignore"):  # spglib's, of its own settings
            facts: Any = spglib.get_spacegroup_type(hall)
        words = {*facts.international.split(" = ")[-1:], facts.international_full}
        short = facts.international_full.split()
        if 3 <= facts.number <= 15:  # P 1 21/c 1 is P 21/c
            words.add("".join([short[0], *(part for part in short[1:] if part != "1")]))
        names = {re.sub(r"[\s_]", "", word.lower()) for word in words}
        if facts.number >= 195:
            names |= {name.replace("-3", "3") for name in names}  # F d 3 m is F d -3 m
        found.append(
            Group(hall, facts.number, facts.choice, frozenset(names), re.sub(r"\s", "", facts.hall_symbol.lower()))
        )
    return tuple(found)


@cache
def table(hall: int) -> tuple[np.ndarray, np.ndarray]:
    import spglib

    with warnings.catch_warnings(action="ignore"):
        facts: Any = spglib.get_symmetry_from_database(hall)
    return facts["rotations"].astype(float), facts["translations"]
