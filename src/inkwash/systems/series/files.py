"""What people save as a table, as a pandas DataFrame of texts (CSV in any form) or of values (workbooks, Parquet)."""

from __future__ import annotations

import csv
import re
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems import tables
from inkwash.systems.series.cells import is_number
from inkwash.systems.series.clock import INDEX, across, is_clock

SOURCE = "inkwash source"  # of a DataFrame's attributes: the file that it was read from
SEPARATOR = "inkwash separator"  # and the sign between its cells
ENCODING = "inkwash encoding"
AS_IT_IS: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}  # marks of missing values are texts
WORKBOOKS = (".xls", ".xlsb", ".xlsm", ".ods", ".numbers")
# a first line of dates and numbers alone
VALUE = r"[\d\s+-]*\d[.,:/-]\d[\d\s.,:/+-]*"
# lists as SAP and Markdown frame them: | a | b |, with rules between
FRAMED = re.compile(r"\|(.*)\|")
RULE = re.compile(r"[|+]?[-=:|+ ]*-{3}[-=:|+ ]*")


def as_table(data: Any, decimal: str | None = None) -> pd.DataFrame:
    """A file, or what Python has in its place: pandas, polars, pyarrow, NumPy, a dict of columns. An index of texts
    is a column, all columns are called by texts. `decimal`: the sign before decimals, if the user says it. UserError,
    in one line, for what is none, or empty."""
    if isinstance(data, str | Path):
        source = str(data)
        frame = read_file(Path(data), decimal)
        frame.attrs[SOURCE] = source
    else:
        frame = as_frame(data)
    if isinstance(frame.index, pd.MultiIndex) or (is_number(frame.index) and is_clock(str(frame.index.name))):
        frame = frame.reset_index()
    elif not isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex) and not is_number(frame.index):
        frame = frame.rename_axis(frame.index.name or INDEX).reset_index()
    frame = frame.rename(columns=str)
    source = frame.attrs.get(SOURCE, "the table")
    if (twice := frame.columns.duplicated()).any():
        raise UserError(f"{source}: two columns are called '{frame.columns[twice][0]}'; leave one out")
    if not len(frame):
        raise UserError(f"{source}: the table is empty")
    return frame


def as_frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.Series):
        return data.to_frame(data.name if data.name is not None else "value")
    if isinstance(data, pd.DataFrame):
        return data
    if hasattr(data, "to_pandas"):  # polars, pyarrow
        return as_frame(data.to_pandas())
    if isinstance(data, dict) or hasattr(data, "__array__"):
        try:
            return pd.DataFrame(data)
        except ValueError as error:
            raise UserError(f"the table: {one_line(error)}") from None
    raise UserError(f"the table: {type(data).__name__} is none; give a file, a DataFrame, an array or a dict of them")


def read_file(path: Path, decimal: str | None) -> pd.DataFrame:
    """By its ending: .xlsx, .parquet, else text."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    ending = path.suffix.lower()
    if ending == ".parquet":
        require(path.name, "pyarrow")
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise UserError(f"{path}: not a table in Parquet ({one_line(error)})") from None
    if ending in WORKBOOKS:
        raise UserError(f"{path}: {ending} is not read; save it as .xlsx or as CSV")
    return read_workbook(path) if ending == ".xlsx" else read_text(path, decimal)


def read_workbook(path: Path) -> pd.DataFrame:
    """The one sheet of a workbook that holds anything."""
    require(path.name, "openpyxl")
    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object, **AS_IT_IS)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"{path}: not a workbook ({one_line(error)})") from None
    full = {name: sheet.dropna(how="all").dropna(axis=1, how="all") for name, sheet in sheets.items()}
    full = {name: sheet for name, sheet in full.items() if sheet.size}
    if len(full) != 1:
        what = f"has the sheets {', '.join(full)}: leave one, or save one as CSV" if full else "is empty"
        raise UserError(f"{path}: the workbook {what}")
    (sheet,) = full.values()
    names = ["" if pd.isna(name) else str(name).strip() for name in sheet.iloc[0]]
    check_names(path, names)
    return sheet.iloc[1:].set_axis(names, axis=1).reset_index(drop=True).infer_objects()


def check_names(path: Path, names: list[str]) -> None:
    """The first one may be empty: it is then called `INDEX`. UserError for others, and for values in their place."""
    if names[0] in ("", "Unnamed: 0"):
        names[0] = INDEX
    if names.count(INDEX) > 1:
        raise UserError(f"{path}: a column is called '{INDEX}', as the first one without a name is; give that a name")
    if {name for name in names if re.fullmatch(VALUE, name)} - {*across(names)} or not re.search(
        r"[^\W\d]", "".join(names)
    ):
        shown = ", ".join(names[:8])
        raise UserError(f"{path}: the first line, '{shown}', holds values; put a line of names before it")
    if "" in names:
        raise UserError(f"{path}: column {names.index('') + 1} has no name; give it one")


def read_text(path: Path, decimal: str | None) -> pd.DataFrame:
    """CSV with any of the signs and encodings that `tables` knows; cells stay texts, unless all but dates are plain
    numbers. UserError, in one line, if it cannot be read for sure."""
    raw, encoding, delimiter, quoting = plain_csv(path)
    rows = tables.read_rows(path, raw, delimiter, quoting)
    names = next(rows, [])
    if not names:
        raise UserError(f"{path}: not a table in CSV, it is empty")
    check_names(path, names)
    for _ in rows:  # each must be as long as the first
        pass
    options = AS_IT_IS | {"sep": delimiter, "quoting": quoting, "skipinitialspace": True, "encoding": "utf-8"}
    options |= {"header": 0, "names": names, "usecols": range(len(names)), "index_col": False, "low_memory": False}
    empty_lines = re.match(rb"(?:[ \t" + re.escape(delimiter.encode()) + rb"]*(?:\r\n|\r|\n))*", raw)
    start = empty_lines.end() if empty_lines else 0
    clocks = [name for name in names if is_clock(name)]
    # texts need many times the memory of numbers; but 007 would lose its zeros, and 1.234 may be more than a thousand
    if delimiter == "," and decimal != "," and not re.search(rb'[,\n] *"?0\d', raw):
        data = pd.read_csv(BytesIO(raw[start:]), dtype=dict.fromkeys(clocks, str), **options)
        texts = [name for name in names if not is_number(data[name])]
        if not any(data[name].astype(str).str.contains(r"\d,\d").any() for name in texts):
            return strip(data, delimiter, encoding)
    return strip(pd.read_csv(BytesIO(raw[start:]), dtype=str, **options), delimiter, encoding)


def strip(data: pd.DataFrame, separator: str, encoding: str) -> pd.DataFrame:
    """Without empty rows, and spaces around cells."""
    data = data.dropna(how="all").reset_index(drop=True)
    for name in data.columns[[data[name].dtype == object for name in data]]:
        data[name] = data[name].map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    data.attrs |= {SEPARATOR: separator, ENCODING: encoding}
    return data


def plain_csv(path: Path) -> tuple[bytes, str, str, Any]:
    """A table in UTF-8 without frames, the encoding that it had, the sign between its cells, and their quoting."""
    text, encoding = tables.read_text(path)
    if text.lstrip()[:1] in ("|", "-", "+"):
        lines = [line.strip() for line in StringIO(text) if line.strip() and not RULE.fullmatch(line.strip())]
        if all(map(FRAMED.fullmatch, lines)):
            return "\n".join(FRAMED.sub(r"\1", line) for line in lines).encode(), encoding, "|", csv.QUOTE_NONE
    text, delimiter = tables.skip_hint(text)
    raw = text.encode()
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return raw, encoding, *tables.dialect(path, raw)
    return raw, encoding, delimiter, csv.QUOTE_MINIMAL


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
