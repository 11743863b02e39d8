"""Numbers beside crystals, in tables and in facts: read, or refused or named where they may be meant so."""

from __future__ import annotations

import re
from math import inf
from sys import float_info
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.crystals.cif import NUMBER

NAMES = ("material_id", "name", "id", "formula")  # what a crystal is called, by the first of these that is there
GAPS = {"", "nan", "na", "n/a", "none", "null", "-", "?"}
# Numbers as people write them and float() does not read: −1.5, <0.1, 1.234,5, 1 234, 1d-3, 1.5(2), 1.5±0.2, 1.5 eV;
# none of them are 225 Fm-3m, -43m, 2D, 10.1000/x
DRESSED = re.compile(
    r"[<>~≈≤≥=+\-−–\s]*(\d+|\d*[.,]\d+|\d{1,3}([.,'’\s]\d{3})+([.,]\d+)?)([eEdD][+\-−]?\d+)?"
    r"(\(\d+\))?(\s*(±|\+/-|\+-)\s*[\d.,]+)?"
    r"(\s*%|\s+(°C|K|[mk]?eV|[GMk]?Pa|kbar|Å|A|[np]m|k?J|kcal|k?g|Å?[³3]|S|T|μ_?B|[uμµ]B)([/^·*]\S+)?|(eV|meV|GPa|Å)\S*)?"
)


def numbers(source: str, cells: list[str], delimiter: str) -> list[float | None]:
    """A column as numbers, None for gaps; nothing for a column of words, as at least half of its cells are, or of
    gaps alone. A comma stands before decimals where it does not part the cells. UserError for words among numbers,
    and for numbers written with more than digits: units, commas in quotes, uncertainties."""
    comma = delimiter != ","
    texts = [cell.replace(",", ".") if comma else cell for cell in cells if cell.lower() not in GAPS]
    parsed = [float(text) if NUMBER.fullmatch(text) else None for text in texts]
    dressed = [text for text, value in zip(texts, parsed, strict=True) if value is None and DRESSED.fullmatch(text)]
    if dressed and 2 * (len(dressed) + len(parsed) - parsed.count(None)) > len(parsed):
        raise UserError(f"{source}: '{dressed[0][:40]}' is no plain number; write 1.5, a unit in the column's name")
    if (huge := [text for text, value in zip(texts, parsed, strict=True) if value in (inf, -inf)])[:1]:
        raise UserError(f"{source}: '{huge[0][:40]}' is too large for a number")
    if 2 * parsed.count(None) >= len(parsed):
        return []
    if (wrong := [text for text, value in zip(texts, parsed, strict=True) if value is None])[:1]:
        raise UserError(f"{source}: '{wrong[0][:40]}' is no number among numbers; write 1.5, or leave the cell empty")
    if comma and any("," in cell for cell in cells) and any("." in cell for cell in cells):
        raise UserError(f"{source}: commas and points before decimals: write all as 1.5")
    values = iter(parsed)
    return [None if cell.lower() in GAPS else next(values) for cell in cells]


def scalars(facts: Any) -> dict[str, float]:
    """The finite numbers among facts, by their names."""
    found = facts.items() if isinstance(facts, dict) else ()
    return {
        str(key): float(value)
        for key, value in found
        # numpy's whole numbers, too; what is larger than floats is no number here
        if isinstance(value, (int, float, np.integer, np.floating))
        and not isinstance(value, bool)
        and -float_info.max <= value <= float_info.max
    }


def texts_of_numbers(facts: Any) -> str:
    """What to say of texts among facts that may be meant as numbers, as "1.5 eV" is, or ""."""
    found = facts.items() if isinstance(facts, dict) else ()
    names = [
        str(key)
        for key, value in found
        if isinstance(value, str) and DRESSED.fullmatch(value) and key not in NAMES and str(key)[0:1] != "@"
    ]
    return f"no numbers, so passed over: {', '.join(names)}; write 1.5, without a unit or quotes" if names else ""
