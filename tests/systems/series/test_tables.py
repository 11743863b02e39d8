"""Results as files, and what a workbook cannot hold."""

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.series.tables import MOST_ROWS, check_format, write_table
from tests.follower import Follower


def frame(time, names=("a", "b", "c")):
    return pd.DataFrame({"time": time, "series": list(names), "mean": [0.1, -1e300, 3.0], "0.05": [1 / 3, 2.0, -0.0]})


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet"])
def test_each_format_holds_the_same(ending, tmp_path):
    table, file, follower = (
        frame(pd.date_range("2024-01-31", periods=3, freq="h")),
        tmp_path / f"a{ending}",
        Follower(),
    )
    write_table(table, file, follower)
    read = {".csv": pd.read_csv, ".xlsx": pd.read_excel, ".parquet": pd.read_parquet}[ending](file)
    read["time"] = pd.to_datetime(read["time"]).astype("datetime64[ns]")
    pd.testing.assert_frame_equal(read, table, check_exact=True)
    assert follower.heard == []


def test_a_workbook_has_local_times_and_it_is_said(tmp_path):
    table, follower = frame(pd.date_range("2024-03-31 01:00", periods=3, freq="h", tz="Europe/Berlin")), Follower()
    write_table(table, tmp_path / "a.xlsx", follower)
    assert [f"{stamp:%H:%M}" for stamp in pd.read_excel(tmp_path / "a.xlsx")["time"]] == ["01:00", "03:00", "04:00"]
    assert follower.of(Note) == [
        Note("time: a workbook has no zones; its stamps are the local time of Europe/Berlin")
    ]
    assert table["time"].dt.tz is not None
    write_table(table, tmp_path / "a.parquet", follower)
    assert (pd.read_parquet(tmp_path / "a.parquet")["time"] == table["time"]).all() and len(follower.heard) == 1


def test_dates_that_excel_does_not_have_are_texts(tmp_path):
    table, follower = frame(pd.date_range("1899-12-30", periods=3)), Follower()
    write_table(table, tmp_path / "a.xlsx", follower)
    assert pd.read_excel(tmp_path / "a.xlsx")["time"].to_list() == ["1899-12-30", "1899-12-31", "1900-01-01"]
    assert [note.text for note in follower.of(Note)] == [
        "time: a workbook has no dates before 1900; they are written as texts"
    ]


def test_names_of_series_are_no_formulas(tmp_path):
    names = ["=1+1", "#N/A", "007"]
    write_table(frame(range(3), names), tmp_path / "a.xlsx", Follower())
    cells = [row[1] for row in openpyxl.load_workbook(tmp_path / "a.xlsx").active.iter_rows(min_row=2)]
    assert [(cell.value, cell.data_type) for cell in cells] == [(name, "s") for name in names]
    with pytest.raises(UserError, match="control character"):
        write_table(frame(range(3), ["a", "b\x01", "c"]), tmp_path / "b.xlsx", Follower())


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=5))
def test_numbers_of_a_workbook_are_those_of_the_forecast(tmp_path_factory, values):
    """To 16 digits, which is what openpyxl writes, and one more than Excel shows."""
    file = tmp_path_factory.mktemp("numbers") / "a.xlsx"
    write_table(pd.DataFrame({"mean": values}), file, Follower())
    cells = [row[0].value for row in openpyxl.load_workbook(file).active.iter_rows(min_row=2)]
    assert all(isinstance(cell, (int, float)) for cell in cells)
    np.testing.assert_allclose(cells, values, rtol=1e-15)


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    check_format(".xlsx", MOST_ROWS)
    check_format(".csv", MOST_ROWS + 1)
    with pytest.raises(UserError, match=r"1048576 rows: a sheet of .xlsx has 1048575 at most; take csv or parquet"):
        check_format(".xlsx", MOST_ROWS + 1)
    with pytest.raises(UserError, match=r"written as .csv, .xlsx or .parquet"):
        write_table(frame(range(3)), tmp_path / "a.ods", Follower())
    monkeypatch.setattr("inkwash.extras.find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"a table in .parquet needs pyarrow: pip install"):
        check_format(".parquet", 1)


def test_stamps_finer_than_a_workbook_has_are_texts(tmp_path):
    table, follower = frame(pd.date_range("2024-01-01", periods=3, freq="100us")), Follower()
    write_table(table, tmp_path / "a.xlsx", follower)
    assert (pd.to_datetime(pd.read_excel(tmp_path / "a.xlsx")["time"]) == table["time"]).all()
    (note,) = follower.of(Note)
    assert note.text == "time: a workbook has no parts of milliseconds; they are written as texts"
