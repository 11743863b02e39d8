"""Files of crystals, as the field writes them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from inkwash.errors import UserError
from inkwash.systems.crystals.data import Crystal, from_structure
from inkwash.systems.tables import read_cells, read_text, skip_hint

NAMES = ("material_id", "name", "id")  # columns that say what a crystal is called
GAPS = {"", "nan", "na", "n/a", "none", "null", "-", "?"}


class Found(NamedTuple):
    """A crystal on its way: the text of a CIF, what is known of it, and where it stands."""

    content: Any
    properties: dict[str, float]
    name: str
    source: str

    def crystal(self) -> Crystal:
        return from_structure(parse_cif(self.content), self.properties, self.name)


def read(path: Path) -> Iterator[Found]:
    yield from read_csv(path)


def parse_cif(text: str) -> Any:
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CifParser.from_str(text).parse_structures(primitive=False)[0]


def read_csv(path: Path) -> Iterator[Found]:
    """The rows of a table with a column `cif`. Columns of numbers are properties; empty cells are gaps."""
    text, delimiter = skip_hint(read_text(path).text)
    (_, names), *rows = read_cells(path, text, delimiter)
    if "cif" not in names:
        raise UserError(f"{path}: no column 'cif'; its columns are {', '.join(filter(None, names))}")
    label = next((name for name in NAMES if name in names), None)
    columns = {
        name: numbers(path, name, [(line, row[i]) for line, row in rows])
        for i, name in enumerate(names)
        if name and name not in (*NAMES, "cif", "formula")
    }
    for i, (line, row) in enumerate(rows):
        known = {name: column[i] for name, column in columns.items() if column and column[i] is not None}
        yield Found(row[names.index("cif")], known, row[names.index(label)] if label else "", f"{path}, line {line}")


def numbers(path: Path, name: str, cells: list[tuple[int, str]]) -> list[float | None]:
    """A column as numbers, None for gaps; nothing for a column of words."""
    found: list[float | None] = []
    for _, cell in cells:
        if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell):
            found.append(float(cell))
        elif cell.lower() in GAPS:
            found.append(None)
        else:
            return []
    return found
