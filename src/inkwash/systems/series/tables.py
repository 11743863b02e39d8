"""Tables of results as files: CSV, workbooks and Parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.progress import Monitor, Note

MODULES = {".xlsx": "openpyxl", ".parquet": "pyarrow"}
MOST_ROWS = 2**20 - 1  # of a sheet, below its line of names
YEARS = range(1900, 10_000)  # in which Excel has dates, to the millisecond


def check_format(ending: str, rows: int) -> None:
    """UserError, before any work, for a table of so many rows that cannot be written with this ending."""
    if ending in MODULES:
        require(f"a table in {ending}", MODULES[ending])
    if ending == ".xlsx" and rows > MOST_ROWS:
        raise UserError(f"{rows} rows: a sheet of .xlsx has {MOST_ROWS} at most; take csv or parquet")


def write_table(table: pd.DataFrame, file: Path, monitor: Monitor) -> None:
    """By the file's ending; `monitor` is told what a format cannot hold. UserError for another ending."""
    check_format(file.suffix, len(table))
    if file.suffix == ".csv":
        table.to_csv(file, index=False)
    elif file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    elif file.suffix == ".xlsx":
        write_workbook(table, file, monitor)
    else:
        raise UserError(f"{file}: tables are written as .csv, .xlsx or .parquet")


def write_workbook(table: pd.DataFrame, file: Path, monitor: Monitor) -> None:
    """One sheet under a line of names. Excel has no zones: time stamps are those of the clock in their zone; and no
    years outside 1900 to 9999, nor parts of milliseconds: a column that has one is written as texts. A text that
    begins with = is no formula."""
    from openpyxl.utils.exceptions import IllegalCharacterError

    for name in table.select_dtypes("datetimetz"):
        monitor.tell(Note(f"{name}: a workbook has no zones; its stamps are the local time of {table[name].dt.tz}"))
        table = table.assign(**{name: table[name].dt.tz_localize(None)})
    for name in table.select_dtypes("datetime"):
        lacks = {
            f"dates before {YEARS[0]}": not table[name].dt.year.isin(YEARS).all(),
            "parts of milliseconds": (table[name] != table[name].dt.floor("ms")).any(),
        }
        if any(lacks.values()):
            words = " and no ".join(what for what, is_there in lacks.items() if is_there)
            monitor.tell(Note(f"{name}: a workbook has no {words}; they are written as texts"))
            table = table.assign(**{name: table[name].astype(str)})
    with pd.ExcelWriter(file, engine="openpyxl") as writer:
        try:
            table.to_excel(writer, index=False)
        except IllegalCharacterError:
            raise UserError("a name in the table has a control character, as no workbook can: take csv") from None
        for row in next(iter(writer.sheets.values())).iter_rows():
            for cell in row:
                if cell.data_type in ("f", "e"):  # what begins with =, and #N/A: here they are names of series
                    cell.data_type = "s"
