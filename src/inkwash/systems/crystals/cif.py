"""CIF, read block by block: what pymatgen would pass over or read as something else is said or refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from inkwash.errors import UserError
from inkwash.systems.crystals.data import Crystal, from_structure
from inkwash.systems.crystals.elements import SYMBOLS

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def in_a_line(error: Exception) -> str:
    """What another package says of a file, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each block of a CIF. A line "data_..." within a text between semicolons begins none."""
    name, lines, within = "", list[str](), False
    for line in text.splitlines():
        within ^= line.startswith(";")
        if not within and line.lower().startswith("data_"):
            if lines:
                yield name, "\n".join(lines)
            name, lines = line[5:].strip(), []
        if lines or line.lower().startswith("data_"):
            lines.append(line)
    if lines:
        yield name, "\n".join(lines)


def crystal_of(text: str, properties: dict[str, float], name: str) -> tuple[Crystal, str]:
    """The crystal of one block, and what should be said: that it has no symmetry, or that its formula has other
    elements than its atoms."""
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            parser = CifParser.from_str(text)
            (block,) = parser.as_dict().values()
            check_numbers(block)
            structures = parser.parse_structures(primitive=False)
        except UserError:
            raise
        except Exception as error:  # pymatgen raises whatever it stumbles over
            reason = mistake([str(each.message) for each in caught])
            raise UserError(reason or f"no CIF ({in_a_line(error)})") from None
    said = " ".join(str(each.message) for each in caught)
    remarks = ["no symmetry that can be read, taken as P 1"] if "Defaulting to P1" in said else []
    symbols = block.get("_atom_site_type_symbol", block.get("_atom_site_label", []))
    if any(re.match(r"[DT](?![a-z])", symbol) for symbol in symbols):
        remarks.append("heavy hydrogen, taken as H")
    if "Missing elements" in said and "PMG structure" in said:
        missing = re.search(r"Missing elements (.*?) from", said)
        remarks.append(f"its formula has {missing[1] if missing else 'elements'}, of which it has no atoms")
    elif "Incorrect stoichiometry" in said:
        remarks.append("its atoms are not those of its formula")
    return from_structure(structures[0], properties, name), "; ".join(remarks)


def check_numbers(block: dict[str, Any]) -> None:
    """UserError for a position that is not known, which would be read as 0, an occupancy that would be read as 1 or
    0, a symbol that would be read as another, and for a cell that cannot be."""
    for axis in "xyz":
        for label, value in zip(
            block.get("_atom_site_label", []), block.get(f"_atom_site_fract_{axis}", []), strict=False
        ):
            if value in ("?", "."):
                raise UserError(f"atom {label} has no position ({axis} is '{value}'); leave it out or find it")
    for label, value in zip(block.get("_atom_site_label", []), block.get("_atom_site_occupancy", []), strict=False):
        if value != "?" and not (NUMBER.fullmatch(re.sub(r"\(\d+\)$", "", value)) and value[0] != "-"):
            raise UserError(f"atom {label} has the occupancy '{value}'; write a number, 1 for a whole atom")
    for symbol in block.get("_atom_site_type_symbol", []):
        letters = re.split("[^A-Za-z]", symbol)[0].capitalize()
        if letters not in (*SYMBOLS[1:], "D", "T"):  # Va would be read as vanadium, Wat as oxygen
            raise UserError(f"'{symbol}' is no element")
    lengths = [block.get(f"_cell_length_{axis}") for axis in "abc"]
    angles = [block.get(f"_cell_angle_{name}") for name in ("alpha", "beta", "gamma")]
    check_cell(list(map(bracketless, lengths)), list(map(bracketless, angles)))


def bracketless(text: str | None) -> float:
    """3.905(2), whose last digit is uncertain by 2, as a number."""
    if text is None:
        raise UserError("a length or an angle of its cell is missing")
    if not NUMBER.fullmatch(digits := re.sub(r"\(\d+\)$", "", text)):
        raise UserError(f"'{text}' is no number of a cell")
    return float(digits)


def check_cell(lengths: list[float], angles: list[float]) -> None:
    """UserError for lengths (angstrom) and angles (degrees) of which no cell can be built."""
    a, b, c = angles
    if min(lengths) <= 0 or not (0 < a < b + c and 0 < b < a + c and 0 < c < a + b and a + b + c < 360):
        raise UserError(f"lengths {lengths} and angles {angles} make no cell with a volume")


def mistake(messages: list[str]) -> str:
    """pymatgen's reason in our words, or ""."""
    said = " ".join(messages)
    if "exceeded tolerance" in said:
        return "more than one whole atom at the same place"
    if "_atom_site_fract_x" in said:
        return "no fractional coordinates in it (_atom_site_fract_x)"
    return ""
