"""CIF, read block by block: each number, symbol and symmetry as it stands there, or refused in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.crystals import symmetry
from inkwash.systems.crystals.data import Crystal, from_structure
from inkwash.systems.crystals.elements import SYMBOLS
from inkwash.systems.crystals.symmetry import listed

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Fe, Fe3+, O2-, Fe+3, Fe0+; a label without a type beside it: Fe1, Fe_1, O1W, Fe3+, but neither NA1 nor Mg/Fe1
TYPE = re.compile(r"([A-Za-z]{1,2})(\d*\.?\d*[+-]?|[+-]\d*\.?\d*)")
LABEL = re.compile(r"([A-Z][a-z]?)([\d_'*(#+-]\S*)?")
SAME_PLACE = 0.1  # angstrom: images of an atom that are nearer are one, on an element of symmetry
Block = Mapping[str, Any]  # items by their names in small letters, without the first "_", "." as "_"


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
    from pymatgen.core.structure import Structure

    block = parse(text)
    cell = cell_of(block)
    rotations, translations, remark = symmetry.operations(block, cell.metric_tensor)
    remarks, symbols, places, labels = [remark], list[str](), list[np.ndarray](), list[str]()
    for label, symbol, place in atoms_of(block):
        found = images(place, rotations, translations, cell.matrix)
        for other, there in zip(labels, places, strict=True):
            if near(found - there, cell.matrix).any():
                raise UserError(f"more than one whole atom at the same place: {other} and {label}")
        places += list(found)
        symbols += [symbol] * len(found)
        labels += [label] * len(found)
    if {"D", "T"} & {*symbols}:
        remarks.append("heavy hydrogen, taken as H")
        symbols = ["H" if symbol in "DT" else symbol for symbol in symbols]
    remarks.append(beside_formula(block, symbols))
    structure = Structure(cell, symbols, places).get_sorted_structure()
    return from_structure(structure, properties, name), "; ".join(filter(None, remarks))


def parse(text: str) -> Block:
    """The items of a block. UserError for what is none."""
    from pymatgen.io.cif import CifFile

    text = re.sub(r"^(\s*)(data_|loop_)", lambda found: found[1] + found[2].lower(), text, flags=re.I | re.M)
    try:
        (block,) = CifFile.from_str(text).data.values()
    except Exception as error:  # pymatgen raises whatever it stumbles over
        raise UserError(f"no CIF ({in_a_line(error)})") from None
    return {key.lower().lstrip("_").replace(".", "_"): value for key, value in block.data.items()}


def column(block: Block, name: str, rows: int) -> list[str]:
    """A column of the atoms, [] where there is none. UserError for one that is shorter than another."""
    found = listed(block.get(f"atom_site_{name}"))
    if found and rows and len(found) != rows:
        raise UserError(f"{rows} atoms, but {len(found)} values of _atom_site_{name}")
    return found


def atoms_of(block: Block) -> Iterator[tuple[str, str, np.ndarray]]:
    """(label, element, place) of each atom that is listed. UserError for one that is not one whole atom at a known
    place."""
    x = column(block, "fract_x", 0)
    if not x:
        raise UserError("no fractional coordinates in it (_atom_site_fract_x)")
    axes = [x, column(block, "fract_y", len(x)), column(block, "fract_z", len(x))]
    types, labels = column(block, "type_symbol", len(x)), column(block, "label", len(x))
    if not types and not labels:
        raise UserError("its atoms have neither symbols nor labels (_atom_site_type_symbol)")
    occupancies = column(block, "occupancy", len(x))
    hydrogens, flags = column(block, "attached_hydrogens", len(x)), column(block, "calc_flag", len(x))
    for i in range(len(x)):
        label = labels[i] if labels else f"{types[i]}, the {i + 1}th"
        if flags and flags[i].lower() == "dum":  # a point that somebody has drawn, no atom
            continue
        for axis, values in zip("xyz", axes, strict=True):
            if (value := values[i] if values else "") in ("", "?", "."):
                raise UserError(f"atom {label} has no position ({axis} is '{value}'); leave it out or find it")
        occupancy = occupancy_of(label, occupancies[i] if occupancies else "1")
        symbol = element(types[i]) if types and types[i] not in ("?", ".") else element_of_label(label, block)
        if hydrogens and hydrogens[i] not in ("?", ".", "0"):
            raise UserError(
                f"atom {label} has {hydrogens[i]} hydrogens without positions; leave them out or find them"
            )
        if abs(occupancy - 1) > 1e-3:
            raise UserError(f"partial occupancy ({label}: {occupancy:g}); order it first, one element for each site")
        yield label, symbol, np.array([thirds(number(values[i], f"a position of {label}")) for values in axes])


def thirds(x: float) -> float:
    """0.3333 as a third and 0.6667 as two, as they are meant."""
    return next((third for third in (1 / 3, 2 / 3) if abs(x / third - 1) <= 1e-4), x)


def occupancy_of(label: str, text: str) -> float:
    if text == "?":
        return 1.0
    if not NUMBER.fullmatch(re.sub(r"\(\d+\)$", "", text)) or text[0] == "-":
        raise UserError(f"atom {label} has the occupancy '{text}'; write a number, 1 for a whole atom")
    return number(text, "")


def element(symbol: str) -> str:
    """Of a type as CIF has it, "Fe3+"; D and T are hydrogen's. UserError for another: Va is no vanadium."""
    found = TYPE.fullmatch(symbol)
    name = found[1].capitalize() if found else ""
    if name not in (*SYMBOLS[1:], "D", "T"):
        raise UserError(f"'{symbol}' is no element")
    return name


def element_of_label(label: str, block: Block) -> str:
    """Of a label, where no types stand beside: "Fe1". UserError for one that may mean another (NA1, Wat, T1), and for
    an element that the formula lacks."""
    found = LABEL.fullmatch(label)
    name = found[1] if found else ""
    formula = formula_of(block)
    if name not in (*SYMBOLS[1:], "D") or (formula and name.replace("D", "H") not in formula):
        raise UserError(f"its label '{label}' says no element of its own; write _atom_site_type_symbol beside it")
    return name


def images(place: np.ndarray, rotations: np.ndarray, translations: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """All places that symmetry carries an atom to, (n, 3); those that are nearly one are one, between them."""
    sums: list[np.ndarray] = []
    starts: list[np.ndarray] = []
    counts: list[int] = []
    for there in (rotations @ place + translations) % 1:
        shifts = there - np.array(starts).reshape(-1, 3)
        hits = np.flatnonzero(near(shifts, matrix))
        if len(hits):
            sums[hits[0]] = sums[hits[0]] + shifts[hits[0]] - np.round(shifts[hits[0]])
            counts[hits[0]] += 1
        else:
            starts.append(there)
            sums.append(np.zeros(3))
            counts.append(1)
    return np.array([start + sum / count for start, sum, count in zip(starts, sums, counts, strict=True)])


def near(shifts: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Which of these differences of fractional coordinates, (n, 3), are of the same place."""
    return np.asarray(np.linalg.norm((shifts - np.round(shifts)) @ matrix, axis=-1) < SAME_PLACE)


def formula_of(block: Block) -> dict[str, float]:
    """The elements of _chemical_formula_sum with their numbers, {} where it is not there or no formula."""
    text = symmetry.said(block, "chemical_formula_sum")
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", text)
    if not parts or re.sub(r"[\s,]", "", text) != "".join(map("".join, parts)):
        return {}
    found: dict[str, float] = {}
    for symbol, count in parts:
        symbol = "H" if symbol in "DT" else symbol
        found[symbol] = found.get(symbol, 0) + float(count or 1)
    return found


def beside_formula(block: Block, symbols: list[str]) -> str:
    """What to say of a formula that is not that of the atoms, or ""."""
    formula = formula_of(block)
    if missing := sorted({*formula} - {*symbols}):
        return f"its formula has {', '.join(missing)}, of which it has no atoms"
    if not formula:
        return ""
    ratios = [symbols.count(symbol) / formula.get(symbol, np.inf) for symbol in {*symbols}]
    return "" if max(ratios) - min(ratios) < 0.05 * max(ratios) else "its atoms are not those of its formula"


def cell_of(block: Block) -> Any:
    """A pymatgen Lattice. UserError for lengths (angstrom) and angles (degrees) of which no cell can be built."""
    from pymatgen.core.lattice import Lattice

    lengths = [next(iter(listed(block.get(f"cell_length_{axis}"))), None) for axis in "abc"]
    angles = [next(iter(listed(block.get(f"cell_angle_{name}"))), None) for name in ("alpha", "beta", "gamma")]
    if None in (*lengths, *angles):
        raise UserError("a length or an angle of its cell is missing")
    a, b, c = (number(str(text), "its cell") for text in lengths)
    alpha, beta, gamma = (number(str(text), "its cell") for text in angles)
    fits = alpha < beta + gamma and beta < alpha + gamma and gamma < alpha + beta and alpha + beta + gamma < 360
    if min(a, b, c) <= 0 or min(alpha, beta, gamma) <= 0 or not fits:
        raise UserError(f"lengths {[a, b, c]} and angles {[alpha, beta, gamma]} make no cell with a volume")
    return Lattice.from_parameters(a, b, c, alpha, beta, gamma)


def number(text: str, what: str) -> float:
    """3.905(2), whose last digit is uncertain by 2, as a number."""
    if not NUMBER.fullmatch(digits := re.sub(r"\(\d+\)?$", "", text)):
        raise UserError(f"'{text}' is no number ({what}); write 0.5")
    return float(digits)
