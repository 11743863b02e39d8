"""Tables of text as people save them, CSV and TSV: read strictly, or refused in one line."""

from __future__ import annotations

import csv
import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Literal

from inkwash.errors import UserError

SIGNS = {",": "comma", ";": "semicolon", "\t": "tab"}
UNCLOSED = "look for a quotation mark that is not closed"
MAX_BYTES = 10**9  # unpacked: a small file may hold any number of zeros


def read_utf8(file: Path) -> bytes:
    """What a text file holds, unpacked if it is gzipped, without a byte order mark. UserError for one that cannot be
    read, or is not UTF-8."""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1).removeprefix(BOM_UTF8)
        raw.decode()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{file}: more than {MAX_BYTES / 1e9:g} GB of text; send less")
    if b"\0" in raw:
        raise UserError(f"{file}: not UTF-8 at byte {raw.index(0)}; save it as UTF-8 text")
    return raw


def dialect(file: Path, raw: bytes) -> tuple[str, Literal[0, 3]]:
    """The sign between cells, and how cells are quoted, of csv's: a .tsv has tabs and quotes nothing; in any other
    table it is a tab or a semicolon if the heading has one, else a comma."""
    if file.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t", csv.QUOTE_NONE
    heading = BytesIO(raw).readline().decode()
    return next((sign for sign in "\t;" if sign in heading), ","), csv.QUOTE_MINIMAL


def read_rows(file: Path, raw: bytes) -> Iterator[list[str]]:
    """The names of the columns, then the cells of each row, without spaces around; empty rows are left out.

    Only the first column may lack a name: row numbers, as pandas writes them. Raises UserError for a row of more or
    fewer cells than there are names, a cell that may be several rows, and a quotation mark out of place.
    """
    delimiter, quoting = dialect(file, raw)
    lines = TextIOWrapper(BytesIO(raw), "utf-8", newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            place = f"{file}, line {reader.line_num}"
            if not any(cells):
                continue
            sign = SIGNS[delimiter]
            swallowed = [cell for cell in cells if delimiter in cell and ("\n" in cell or "\r" in cell)]
            if swallowed:  # rows, by an open quotation
                raise UserError(f"{place}: a cell of several lines with a {sign}; {UNCLOSED}")
            if not names:
                names = cells
                if "" in names[1:]:
                    raise UserError(f"{place}: column {names.index('', 1) + 1} has no name; give it one")
                if twice := [name for name in names if names.count(name) > 1]:
                    raise UserError(f"{place}: two columns are called '{twice[0]}'; leave one out")
            elif len(cells) != len(names):
                raise UserError(
                    f"{place}: more or fewer cells than the first line has ({len(cells)}, not {len(names)}); put "
                    f"what has a {sign} in it in quotes"
                )
            yield cells
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}; {UNCLOSED}") from None
