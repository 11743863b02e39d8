"""What people save as a table, as a pandas DataFrame of texts (CSV in any form) or of values (workbooks, Parquet)."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import closing
from io import BytesIO, StringIO
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd

from inkwash.errors import UserError, unknown
from inkwash.extras import require
from inkwash.systems import tables
from inkwash.systems.series.cells import is_missing, is_number, parse_number
from inkwash.systems.series.clock import INDEX, across, is_clock, is_value, months_across

SOURCE = "inkwash source"  # of a DataFrame's attributes: the file that it was read from
SEPARATOR = "inkwash separator"  # and the sign between its cells
ENCODING = "inkwash encoding"
SKIPPED = "inkwash skipped"  # and what else it holds, in words
AS_IT_IS: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}  # marks of missing values are texts
WORKBOOKS = (".xls", ".xlsb", ".xlsm", ".ods", ".numbers")
# a first line of dates and numbers alone
VALUE = r"[\d\s+-]*\d[.,:/-]\d[\d\s.,:/+-]*"
# lists as SAP and Markdown frame them: | a | b |, with rules between
FRAMED = re.compile(r"\|(.*)\|")
RULE = re.compile(r"[|+]?[-=:|+ ]*-{3}[-=:|+ ]*")
HEAD, FOOT = 200, 50  # lines within which a table begins, and remarks end it
BETWEEN = 10  # lines of units and facts, at most, below the names
LINE = re.compile(r'(?:[^"\r\n]|"[^"]*"|"(?![^"]*"))+')  # a cell in quotes may have several
COMMENT = ("#", "%", "!", "//")  # begins lines above
COMMENTED = re.compile(r"(?: *#+ *(?=\w))?")  # and now and then the line of names
FILLED = re.compile(r'[^\s,;|"]')
# names of units alone, as loggers write them below the names
UNITS = re.compile(
    r"[\[(].*[\])]|[^\w]*|°[CFK]|deg ?[CFT]?|[mck]?m|m/s|km/h|mph|kn|hpa|mbar|k?wh?|[va]|volts|eur|usd|s|h", re.I
)
REMARK = re.compile(
    r"(?:sources?|quellen?|data sources?|notes?|anm\.?|hinweise?|last updated|stand|fuente|fonte|注|"
    r"(?:数据|资料)?来源) ?[:：].*|data from .*|(?:©|\(c\)|copyright).*",
    re.I | re.S,
)
FOOTNOTE = re.compile(r"(?:\*+ ?\w|\d+\)).*", re.S)


def as_table(data: Any, decimal: str | None = None, sheet: str | None = None) -> pd.DataFrame:
    """A file, or what Python has in its place: pandas, polars, pyarrow, NumPy, a dict of columns. An index of texts
    is a column, all columns are called by texts. `decimal`: the sign before decimals, `sheet`: the sheet of a
    workbook, if the user says them. UserError, in one line, for what is none, or empty."""
    if isinstance(data, str | Path):
        source = str(data)
        frame = read_file(Path(data), decimal, sheet)
        frame.attrs[SOURCE] = source
    else:
        frame = as_frame(data)
    if isinstance(frame.index, pd.MultiIndex) or (is_number(frame.index) and is_clock(str(frame.index.name))):
        frame = frame.reset_index()
    elif not isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex) and not is_number(frame.index):
        frame = frame.rename_axis(frame.index.name or INDEX).reset_index()
    frame = frame.set_axis([column_name(name) for name in frame], axis=1)
    source = frame.attrs.get(SOURCE, "the table")
    if (twice := frame.columns.duplicated()).any():
        raise UserError(f"{source}: two columns are called '{frame.columns[twice][0]}'; leave one out")
    if not len(frame):
        raise UserError(f"{source}: the table is empty")
    return frame


def column_name(name: Any) -> str:
    """As a text; of several levels, as yfinance has them, those that say something."""
    return " ".join(str(level) for level in name if str(level)) if isinstance(name, tuple) else str(name)


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


def read_file(path: Path, decimal: str | None, sheet: str | None) -> pd.DataFrame:
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
    return read_workbook(path, sheet) if ending == ".xlsx" else read_text(path, decimal)


def read_workbook(path: Path, name: str | None) -> pd.DataFrame:
    """The sheet of that name, or the only one that holds a table. UserError where several do."""
    require(path.name, "openpyxl")
    from openpyxl import load_workbook

    try:
        with closing(load_workbook(path, read_only=True, data_only=True)) as book:
            sheets = {sheet.title: read_cells(sheet) for sheet in book.worksheets}
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(f"{path}: not a workbook ({one_line(error)})") from None
    full = {key: sheet.dropna(how="all").dropna(axis=1, how="all") for key, sheet in sheets.items()}
    full = {key: sheet for key, sheet in full.items() if sheet.size}
    if name is not None and name not in full:
        raise unknown(f"sheet of {path}", name, list(full))
    if not full:
        raise UserError(f"{path}: the workbook is empty")
    rows = {key: [["" if pd.isna(cell) else str(cell).strip() for cell in row] for row in sheet.to_numpy()]
            for key, sheet in full.items()}  # fmt: skip
    found = {key: find_names(each[:HEAD]) for key, each in rows.items()}
    tables = [name] if name else [key for key in full if found[key]] or list(full)
    if len(tables) > 1:
        raise UserError(f"{path}: the workbook has the sheets {', '.join(tables)}: say by --sheet which")
    (key,) = tables
    check_formulas(path, key)
    header, first = found[key] or (0, 1)
    end = len(rows[key]) - count_footers(rows[key][first:][-FOOT:], len(rows[key][0]))
    names = [COMMENTED.sub("", rows[key][header][0], 1), *rows[key][header][1:]]
    check_names(path, names)
    sheet = full[key].iloc[first:end].set_axis(names, axis=1).reset_index(drop=True).infer_objects()
    sheet.attrs[SKIPPED] = [f"sheet {key}"] if len(full) > 1 else []
    sheet.attrs[SKIPPED] += skipped(header, first - header - 1, len(rows[key]) - end)
    return sheet


def read_cells(sheet: Any) -> pd.DataFrame:
    """The values of a sheet; errors are texts as #DIV/0!."""
    sheet.reset_dimensions()  # some programs write wrong ones
    cells = [[np.nan if cell is None or cell == "" else cell for cell in row] for row in sheet.values]
    return pd.DataFrame(cells, dtype=object)


def check_formulas(path: Path, name: str) -> None:
    """UserError for a formula of a sheet whose result no program has worked out, as libraries write it."""
    from openpyxl import load_workbook

    with ZipFile(path) as archive:
        if b'fullCalcOnLoad="1"' not in archive.read("xl/workbook.xml"):
            return
    with closing(load_workbook(path, read_only=True)) as book:
        cells = (cell for row in book[name].iter_rows() for cell in row)
        if formula := next((cell for cell in cells if cell.data_type == "f"), None):
            raise UserError(
                f"{path}: {formula.coordinate} of sheet {name} is a formula without a result: open the workbook in a "
                "spreadsheet program and save it there"
            )


def find_names(rows: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """The row of the names and the first row of values, of a table with titles above and perhaps units between: of
    the rows that may be names of as many columns, one that names a clock, else the last. None where there is none."""
    rows = rows[: len(rows) - count_footers(rows[-FOOT:], 0)]
    for first, row in enumerate(rows):
        following = rows[first : first + 3]
        if not all(holds_values(each, len(row)) for each in following) or is_fact(following):
            continue
        found = [k for k in range(max(0, first - BETWEEN), first) if len(rows[k]) == len(row) and is_names(rows[k])]
        found = [k for k in found if not rows[k][0].startswith(COMMENT) or is_comment(rows[k:first][:3])]
        return (max(found, key=lambda k: (*likely(rows[k]), k)), first) if found else None
    return None


def holds_values(row: Sequence[str], width: int) -> bool:
    return len(row) == width and any(map(is_value, row)) and not is_names(row)


def is_fact(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has no number, and a word where the others have a value: it is a fact of the table."""
    head, *rest = rows
    return bool(
        head[0]
        and not is_value(head[0])
        and all(is_value(row[0]) for row in rest)
        and all(parse_number(cell) is None for cell in head)
    )


def is_comment(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows, two at most, are all comments."""
    return len(rows) < 3 and all(row[0].startswith(COMMENT) for row in rows)


def is_names(row: Sequence[str]) -> bool:
    """Whether cells, of which the first and the last ones may be empty, are all names, or dates across, or numbers
    behind a name of a clock."""
    names = trimmed(row)
    values = {name for name in names if is_value(name)}
    if not names or not all(names[1:]):
        return False
    if is_clock(names[0]) and all(map(parse_number, values)):
        return True
    return values <= {*across(names), *months_across(names)}


def trimmed(row: Sequence[str]) -> list[str]:
    """Without empty cells at the end."""
    return list(row[: max((k for k, cell in enumerate(row, 1) if cell), default=0)])


def likely(row: Sequence[str]) -> tuple[bool, bool, bool, int]:
    """What speaks for a row of names rather than of titles or units, the strongest first."""
    names = trimmed(row)
    is_title = names[0].lower() == "title"  # above the facts of a series of the Office for National Statistics
    is_time = any(is_clock(COMMENTED.sub("", name, count=1)) for name in names)
    are_units = 2 * sum(UNITS.fullmatch(name) is not None for name in names) >= len(names)
    return (
        not names[0].startswith(COMMENT),
        len({*names}) == len(names),
        (is_title or is_time) and not are_units,
        len(names),
    )


def count_footers(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many rows at the end of a table of so many columns are remarks."""
    return next((k for k, row in enumerate(reversed(rows)) if not is_footer(row, width)), len(rows))


def is_footer(row: Sequence[str], width: int) -> bool:
    """Whether a row begins as a remark, or holds no value, nor ids beside the mark of a missing one."""
    filled = [cell for cell in row if cell]
    marks = [is_missing(cell) for cell in filled]
    return width != 1 and bool(
        not filled
        or REMARK.fullmatch(filled[0])
        or (FOOTNOTE.fullmatch(filled[0]) and len(filled) < width)
        or (not any(map(is_value, filled)) and (marks[0] or not any(marks)))
    )


def skipped(above: int, between: int, below: int) -> list[str]:
    """What was left out of a file, in words."""
    places = {"above the names": above, "between names and values": between, "below the table": below}
    return [f"left out {count} line{'s' * (count > 1)} {place}" for place, count in places.items() if count]


def check_names(path: Path, names: list[str]) -> None:
    """The first one may be empty: it is then called `INDEX`. UserError for others, and for values in their place."""
    names[:] = [re.sub(r"^(\d{4}) \[YR\1\]$", r"\1", name) for name in names]  # the World Bank's years
    if names[0] in ("", "Unnamed: 0"):
        names[0] = INDEX
    if names.count(INDEX) > 1:
        raise UserError(f"{path}: a column is called '{INDEX}', as the first one without a name is; give that a name")
    values = {name for name in names if re.fullmatch(VALUE, name)} - {*across(names)}
    if is_clock(names[0]) and names[0] != INDEX and all(map(parse_number, values)):
        values = set()  # levels of quantiles
    if values or not re.search(r"[^\W\d]", "".join(names)):
        shown = ", ".join(names[:8])
        raise UserError(f"{path}: the first line, '{shown}', holds values; put a line of names before it")
    if "" in names:
        raise UserError(f"{path}: column {names.index('') + 1} has no name; give it one")


def read_text(path: Path, decimal: str | None) -> pd.DataFrame:
    """CSV with any of the signs and encodings that `tables` knows; cells stay texts, unless all but dates are plain
    numbers. UserError, in one line, if it cannot be read for sure."""
    raw, encoding, delimiter, quoting, left_out = plain_csv(path)
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
            return strip(data, delimiter, encoding, left_out)
    return strip(pd.read_csv(BytesIO(raw[start:]), dtype=str, **options), delimiter, encoding, left_out)


def strip(data: pd.DataFrame, separator: str, encoding: str, left_out: list[str]) -> pd.DataFrame:
    """Without empty rows, and spaces around cells."""
    data = data.dropna(how="all").reset_index(drop=True)
    for name in data.columns[[data[name].dtype == object for name in data]]:
        data[name] = data[name].map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    data.attrs |= {SEPARATOR: separator, ENCODING: encoding, SKIPPED: left_out}
    return data


def plain_csv(path: Path) -> tuple[bytes, str, str, Any, list[str]]:
    """A table in UTF-8 without frames, titles and remarks, the encoding that it had, the sign between its cells,
    their quoting, and what was left out."""
    text, encoding = tables.read_text(path)
    is_list = re.search(r"(?m)^[ \t]*\|.*\|[ \t]*$", text[:10_000])
    lines = [line for line in map(str.strip, StringIO(text)) if line and not RULE.fullmatch(line)] if is_list else []
    framed = [k for k, line in enumerate(lines) if FRAMED.fullmatch(line)]
    if len(framed) > 1 and len(framed) == framed[-1] - framed[0] + 1:
        inner = [FRAMED.sub(r"\1", lines[k]) for k in framed]
        left_out = skipped(framed[0], 0, len(lines) - framed[-1] - 1)
        return "\n".join(inner).encode(), encoding, "|", csv.QUOTE_NONE, left_out
    body, delimiter = tables.skip_hint(text)
    quoting: Any = csv.QUOTE_MINIMAL
    signs = [delimiter] if body != text else [*"\t;|,"]
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        delimiter, quoting = tables.dialect(path, text.encode())
        quoting = csv.QUOTE_MINIMAL if re.search(r'(?m)^"[^"\t\r\n]*"\t"', text[:10_000]) else quoting
        signs = [delimiter]
    body, delimiter, left_out = cut(body, delimiter, signs, quoting)
    return body.encode(), encoding, delimiter, quoting, left_out


def cut(text: str, delimiter: str, signs: Sequence[str], quoting: Any) -> tuple[str, str, list[str]]:
    """A table without what stands above its names, between names and values, and below: these lines are empty then,
    so that the others keep their numbers. The sign between its cells is `delimiter`, if its first line then has the
    names, else the first of `signs` that makes a table, else spaces. As it is if none does."""
    head = list(islice((line for line in LINE.finditer(text) if FILLED.search(line[0])), HEAD))
    split = {
        sign: [split_line(line[0], sign, quoting) for line in head] for sign in dict.fromkeys([delimiter, *signs])
    }
    if levels := count_levels(split[delimiter]):
        names = [column_name(each) for each in zip(*split[delimiter][: levels + 1], strict=True)]
        names[0] = split[delimiter][levels][0]
        line = delimiter.join(f'"{name}"' for name in names)
        return cut(line + text[head[levels].end() :], delimiter, [delimiter], quoting)
    if has_row_names(split[delimiter]):
        return cut(text[: head[0].start()] + delimiter + text[head[0].start() :], delimiter, signs, quoting)
    found = {sign: find_names(rows) for sign, rows in split.items()}
    able = [sign for sign in signs if (place := found[sign]) and len(split[sign][place[0]]) > 1]
    if found[delimiter] != (0, 1) and able:
        delimiter = able[0]
    if not able and (spaced := from_spaces(text, head)):
        return cut(spaced, "\t", ["\t"], csv.QUOTE_NONE)
    if (place := found[delimiter]) is None:
        return text, delimiter, []
    header, first = place
    start = max(head[first - 1].end(), text.find("\n", len(text) - 10_000))
    foot = [line.span() for line in re.finditer(r"[^\r\n]+", text[start:]) if FILLED.search(line[0])][-FOOT:]
    foot = [(start + begin, start + end) for begin, end in foot]
    ends = [split_line(text[begin:end], delimiter, quoting) for begin, end in foot]
    if any(text[begin:end].count('"') % 2 for begin, end in foot):  # a cell of several lines
        ends = []
    below = count_footers(ends, len(split[delimiter][header]))
    begin, end = head[header].span()
    begin += len(head[header][0]) - len(COMMENTED.sub("", head[header][0], count=1))
    empty = [(0, begin), (end, head[first].start()), *foot[len(foot) - below :]]
    for begin, end in sorted((span for span in empty if text[slice(*span)].strip("\r\n")), reverse=True):
        text = text[:begin] + re.sub(r"[^\r\n]", "", text[begin:end]) + text[end:]
    return text, delimiter, skipped(header, first - header - 1, below)


def from_spaces(text: str, head: Sequence[re.Match[str]]) -> str:
    """A table with spaces between its cells as one with tabs; "" if it is none."""
    rows = [split_spaces(line[0]) for line in head]
    if has_row_names(rows):
        rows[0].insert(0, "")
    found = find_names(rows)
    if found is None or len(names := rows[found[0]]) < (2 if is_clock(names[0].lstrip("#")) else 3):
        return ""
    return "\n".join("\t".join(split_spaces(line)) for line in text.splitlines())


def split_spaces(line: str) -> list[str]:
    """The cells of a line, with no space behind the sign of a comment."""
    return split_line(re.sub(r"^ *(#+) +(?=\w)", r"\1", line), " ", csv.QUOTE_MINIMAL)


def count_levels(rows: Sequence[Sequence[str]]) -> int:
    """How many lines of names stand above that of the index alone, as pandas writes columns of several levels; 0 if
    there is none."""
    end = next((k for k, row in enumerate(rows[:5]) if len(row) > 1 and row[0] and not any(row[1:])), 0)
    above = rows[:end]
    are_levels = all(len(row) == len(rows[end]) and all(row[1:]) and not any(map(is_value, row[1:])) for row in above)
    return end if end > 1 and are_levels and is_clock(rows[end][0]) and any(map(is_value, rows[end + 1])) else 0


def has_row_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows begin with their number, without a name for it above, as R writes them."""
    return (
        len(rows) > 2
        and len(rows[0]) + 1 == len(rows[1]) == len(rows[2])
        and [rows[1][0], rows[2][0]] == ["1", "2"]
        and not any(map(is_value, rows[0]))
    )


def split_line(line: str, delimiter: str, quoting: Any) -> list[str]:
    """The cells of a line, without spaces around."""
    line = line.strip(" ") if delimiter == " " else line
    try:
        rows = [*csv.reader([line], delimiter=delimiter, quoting=quoting, skipinitialspace=True)]
    except csv.Error:  # a cell without end
        return [line]
    return [cell.strip() for row in rows for cell in row]


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
