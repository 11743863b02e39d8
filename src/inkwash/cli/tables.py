"""Tables of requests (--csv), as people's spreadsheets write them: what each row asks for, and what its results are
called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from inkwash.errors import UserError, unknown
from inkwash.extras import require
from inkwash.systems.base import File, Option, Request, options
from inkwash.systems.tables import SIGNS, read_cells, read_text, skip_hint

BOOLEANS = {"yes": True, "true": True, "1": True, "是": True, "no": False, "false": False, "0": False, "否": False}
NAME = "name"  # the column that is no option: what the results of a row are called
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # a column that a pandas table is saved with
WHOLE = {"float": 2**24, "double": 2**53}  # from which on Arrow's columns of these kinds round whole numbers
SPREADSHEET = re.compile(r'#[A-Z/0]+[!?]|#N/A|#NV|Err:\d+|=[\w"($].*', re.S)  # errors as it saves them; formulas
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|results\.jsonl", re.I)
SHOWN = 60  # signs of a cell in a message
LONGEST = 220  # bytes of a name, so that with endings no file system has too many


class Table:
    """A file of rows under a line of option names.

    Raises UserError for a file that cannot be read, and for a column that is no option or is there twice.
    """

    def __init__(self, file: Path, request: type[Request]) -> None:
        self.file, self.fields = file, options(request)
        if file.suffix.lower() == ".parquet":
            self.encoding, self.delimiter = "UTF-8", ","
            rows = read_parquet(file)
        else:
            text, self.encoding = read_text(file)
            text, self.delimiter = skip_hint(text)
            rows = read_cells(file, text, self.delimiter)
        _, names = next(rows, (0, [""]))
        while names and not names[-1]:  # as spreadsheets write columns that were emptied
            names.pop()
        self.names = [name.lower().replace("-", "_") for name in names]
        if not self.names:
            raise UserError(f"{file}: no column of an option's name in its first line")
        for i, name in enumerate(self.names):
            if not name:
                raise UserError(f"{file}: column {i + 1} has no name in the first line; name an option, or remove it")
            if name not in (*self.fields, NAME):
                raise unknown(f"column of {file}", names[i][:SHOWN], [*self.fields, NAME])
            if name in self.names[:i]:
                raise UserError(f"{file}: two columns are called '{name}'; leave one out")
        self.rows = list(rows)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
        """Line numbers and the options of each row, or what is wrong with it. Empty cells are left out."""
        for number, cells in self.rows:
            try:
                yield number, self._values(cells)
            except UserError as error:
                yield number, error

    def _values(self, cells: list[str]) -> dict[str, Any]:
        width = len(self.names)
        if len(cells) < width or any(cells[width:]):
            sign = SIGNS[self.delimiter]
            raise UserError(f"more or fewer cells than the first line has; put what has a {sign} in it in quotes")
        for name, text in zip(self.names, cells, strict=False):
            if SPREADSHEET.fullmatch(text):
                what = "a formula" if text[0] == "=" else "an error"
                say = f"'{text[:SHOWN]}' is {what} of a spreadsheet: write there what it should say"
                raise UserError(f"column {name}: {say}")
        return {
            name: text if name == NAME else self._value(self.fields[name], text)
            for name, text in zip(self.names, cells, strict=False)
            if text
        }

    def _value(self, option: Option, text: str) -> Any:
        """What a cell says; a path is one from the table's folder."""
        value: Any = text
        try:
            if option.kind is File:
                value = self.file.parent / text
            elif option.kind is bool:
                value = BOOLEANS[text.lower()]
            elif option.kind in (int, float):
                value = number(option.kind, text if self.delimiter == "," else text.replace(",", "."))
        except (ValueError, KeyError):
            needed = {bool: "neither yes nor no", int: "no whole number", float: "no number"}[option.kind]
            raise UserError(f"column {option.name}: '{text[:SHOWN]}' is {needed}") from None
        return [value] if option.many else value


def read_parquet(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The names of the columns, then the cells of each row, as `read_cells` gives those of the same CSV."""
    if not file.exists():
        raise UserError(f"{file}: no such file")
    require(str(file), "pyarrow")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            columns = [name for name in table.schema_arrow.names if not PANDAS_INDEX.fullmatch(name)]
            yield 1, [name.strip() for name in columns]
            for field in table.schema_arrow:
                if field.name in columns and not is_plain(field.type):
                    raise UserError(f"{file}: column {field.name} is of {field.type}; write text and numbers alone")
            batches = table.iter_batches(1024, columns=columns)
            rows = chain.from_iterable(zip(*map(list, batch), strict=True) for batch in batches)
            for line, values in enumerate(rows, 2):
                if any(cells := [cell(file, line, value) for value in values]):
                    yield line, cells
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: no parquet that can be read ({str(error).splitlines()[0]:.80})") from None


def is_plain(kind: Any) -> bool:
    """Whether the cells of a column of Arrow's are text or numbers."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return is_plain(kind.value_type)
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    numbers = types.is_boolean(kind) or types.is_integer(kind) or str(kind) in WHOLE
    return texts or numbers or types.is_null(kind)


def cell(file: Path, line: int, scalar: Any) -> str:
    """A value of Arrow's as a CSV would have it: the shortest number of its width, a whole one without a point, as
    pandas writes one with empty cells beside it."""
    value, kind = scalar.as_py(), str(scalar.type)
    if value is None or value != value:
        return ""
    if not isinstance(value, float):
        return str(value).strip()
    if value.is_integer() and abs(value) >= WHOLE[kind]:
        raise UserError(f"{file}, line {line}: {value:.0f} is not exact in a column of {kind}: write whole numbers")
    return str(int(value)) if value.is_integer() else str(scalar.cast("string"))


def number(kind: type, text: str) -> float:
    """The number of a cell. A whole one may be 7.0, as spreadsheets write it; but not 7.000, which may be thousands.
    ValueError for any other text."""
    pattern = r"[+-]?\d+(\.00?)?" if kind is int else r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
    if not re.fullmatch(pattern, text, re.I):
        raise ValueError(text)
    return int(text.partition(".")[0]) if kind is int else float(text)


def row_names(rows: Mapping[int, tuple[str | None, Request]]) -> dict[int, str]:
    """What the results of each row are called: by its column, or as the command line calls them; and if several rows
    would be called the same, by the options in which they differ ("a-fox-7-steps-10")."""
    alike: dict[str, list[Request]] = {}
    for name, request in rows.values():
        if name is None:
            alike.setdefault(request.stem(), []).append(request)
    differing = {stem: differing_options(requests) for stem, requests in alike.items()}
    names = {
        line: "-".join(filter(None, [request.stem(), *differences(request, differing[request.stem()])]))
        if name is None
        else safe_name(name.removesuffix(f".{getattr(request, 'format', 'png')}"))
        for line, (name, request) in rows.items()
    }
    return {line: name.encode()[:LONGEST].decode(errors="ignore") for line, name in names.items()}


def safe_name(text: str) -> str:
    """What a file may be called on any system: its words and points, none of these at its ends. UserError for one of
    which nothing is left, or that is Windows' own or the record's."""
    name = re.sub(r"[^\w.-]+", "-", text).strip(".")
    if not re.search(r"\w", name) or RESERVED.fullmatch(name):
        raise UserError(f"column {NAME}: {text[:40]!r} cannot be the name of a file on every system; give another")
    return name


def differing_options(requests: Sequence[Request]) -> list[str]:
    """Those that not all of these requests have in common."""
    first = requests[0]
    return [
        name
        for name in options(type(first))
        if any(getattr(other, name) != getattr(first, name) for other in requests)
    ]


def differences(request: Request, names: Iterable[str]) -> Iterator[str]:
    """What these options are in this request."""
    for name in names:
        value = getattr(request, name)
        if not (value is None or value is False or value in ("", ())):
            parts = ["" if value is True else value] if not isinstance(value, tuple) else value
            text = " ".join(Path(part.name).stem if isinstance(part, File) else str(part) for part in parts)
            text = Path(text).name if name in ("model", "refiner") else text  # and not where it lies
            yield "-".join(re.findall(r"[\w.]+", f"{name.replace('_', ' ')} {text}"))[:30].rstrip("-.")
