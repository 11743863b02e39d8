"""Tables of every shape, and what is wrong with them in one line."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from inkwash.errors import UserError
from inkwash.systems.series.data import read_series
from inkwash.systems.series.features import seasonality, time_features, unit


def csv(tmp_path, text):
    file = tmp_path / "data.csv"
    file.write_text(text, encoding="utf-8")
    return file


def table(dates, *columns, name="date", sign=","):
    """A CSV of dates and of columns, 1, 2, 3... where none are given."""
    columns = columns or (range(1, len(dates) + 1),)
    heading = sign.join([name, *"abc"[: len(columns)]])
    return "\n".join([heading, *(sign.join(map(str, row)) for row in zip(dates, *columns, strict=True))]) + "\n"


def strftime(form, freq, periods=30, start="2023-03-01"):
    return pd.date_range(start, periods=periods, freq=freq).strftime(form).tolist()


def test_a_wide_table_and_a_gap(tmp_path):
    series = read_series(
        csv(tmp_path, "day,a,b,note\n2024-01-01,1,2,x\n2024-01-02,3,,y\n2024-01-05,5,6,z\n2024-01-06,7,8,z\n")
    )
    assert (series.names, series.freq) == (["a", "b"], "D")
    assert np.isnan(series.values["a"]).tolist() == [False, False, True, True, False, False]
    assert series.future_index(2).tolist() == list(pd.to_datetime(["2024-01-07", "2024-01-08"]))


def test_a_long_table_becomes_wide():
    days = pd.date_range("2024-01-01", periods=5)
    long = pd.DataFrame({"ds": [*days, *days[1:]], "shop": ["x"] * 5 + ["y"] * 4, "sales": range(9)})
    series = read_series(long.sample(frac=1, random_state=0))
    assert series.names == ["x", "y"]
    assert series.values["x"].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(series.values["y"].iloc[0]) and series.values["y"].iloc[1:].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("freq", "found"),
    [("D", "D"), ("B", "B"), ("h", "h"), ("MS", "MS"), ("ME", "ME"), ("W-WED", "W-WED"), ("30min", "30min")],
)
def test_the_frequency_is_found_in_spite_of_gaps(freq, found):
    index = pd.date_range("2024-01-03", periods=60, freq=freq)
    kept = index.delete([7, 20, 21])
    series = read_series(pd.DataFrame({"x": range(57)}, kept))
    assert series.freq == found
    assert len(series.values) == 60 and series.values["x"].isna().sum() == 3


def test_years_and_no_times_at_all(tmp_path):
    series = read_series(csv(tmp_path, "year,x\n1990,1\n1991,2\n1992,4\n1993,5\n"))
    assert series.freq.startswith("Y") and series.names == ["x"]
    bare = read_series(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    assert bare.freq == "" and bare.future_index(2).tolist() == [3, 4]


def test_covariates_that_are_known_in_advance():
    index = pd.date_range("2024-01-01", periods=6)
    table = pd.DataFrame({"x": [1, 2, 3, 4, np.nan, np.nan], "holiday": [0, 0, 1, 0, 0, 1]}, index)
    series = read_series(table, feat_dynamic_real=["holiday"])
    assert len(series.values) == 4 and series.feat_dynamic_real["holiday"].tolist() == [0, 0, 1, 0, 0, 1]


def test_json_lines_of_gluonts(tmp_path):
    file = tmp_path / "data.json"
    file.write_text("\n".join(json.dumps({"start": "2024-01-01 00:00", "target": [1, 2, 3 + i]}) for i in range(2)))
    series = read_series(file, freq="H")
    assert series.names == ["0", "1"] and series.freq == "h" and series.values["1"].tolist() == [1, 2, 4]
    with pytest.raises(UserError, match="give --freq"):
        read_series(file)


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("", {}, "not a table in CSV"),
        ("time,x\n", {}, "empty"),
        ("time,x\n2024-01-01,1\n2024-01-01,2\n2024-01-02,3\n", {}, "two rows have the time stamp 2024-01-01"),
        ("time,x\n2024-01-01,1\n2024-01-02,2\n2024-01-03,2\n2024-01-03 07:13,2\n", {}, "irregular: after 2024-01-03"),
        ("time,x\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", {"freq": "W"}, "does not lie on the frequency"),
        ("time,x\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", {"freq": "often"}, "no frequency"),
        ("time,x\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", {"target": ["y"]}, "unknown column"),
        ("time,x\n2024-01-01,1\n2024-01-02,two\n2024-01-03,3\n", {"target": ["x"]}, "row 2: 'two' is no number"),
        ("time,x\n2024-01-01,1\nsoon,2\n2024-01-03,3\n", {"time": "time"}, "row 2: 'soon' is no time stamp"),
        ("time,x\n2024-01-01,\n2024-01-02,\n2024-01-03,\n", {"target": ["x"]}, "no value is there"),
        ("time,x\n2024-01-01,inf\n2024-01-02,1\n2024-01-03,1\n", {}, "'inf' is no number"),
        ("time,note\n2024-01-01,a\n2024-01-02,b\n2024-01-03,c\n", {}, "no column of numbers"),
        ("time,x\n2024-01-01,1\n2024-01-02,2\n", {}, "too few to tell their frequency"),
    ],
)  # fmt: skip
def test_bad_tables(tmp_path, text, how, message):
    with pytest.raises(UserError, match=message):
        read_series(csv(tmp_path, text), **how)


@pytest.mark.parametrize(
    ("form", "freq"),
    [
        ("%d.%m.%Y", "D"),
        ("%d/%m/%Y", "MS"),  # read month first, most of them would be days of January
        ("%m/%d/%Y", "MS"),
        ("%d-%m-%Y %H:%M", "h"),
        ("%Y%m%d", "D"),
        ("%Y%m", "MS"),
        ("%Y年%m月%d日", "D"),
        ("%m/%Y", "MS"),
        ("%d %b %Y", "D"),
        ("%m/%d/%Y %I:%M:%S %p", "h"),
        ("%Y-%m-%dT%H:%M:%S+02:00", "h"),  # the local time is kept
        ("%Y-%m-%d %H:%M:%S UTC", "h"),
    ],
)
def test_dates_as_people_write_them(tmp_path, form, freq):
    series = read_series(csv(tmp_path, table(strftime(form, freq))))
    assert series.names == ["a"] and series.freq == freq and len(series.values) == 30
    zone = {"%Y-%m-%dT%H:%M:%S+02:00": "UTC+02:00", "%Y-%m-%d %H:%M:%S UTC": "UTC"}.get(form)
    expected = pd.date_range("2023-03-01", periods=30, freq=freq, tz=zone)
    assert series.values.index.equals(expected) and series.values.index.hour.equals(expected.hour)


@pytest.mark.parametrize("form", ["{0.year}Q{0.quarter}", "{0.year}-Q{0.quarter}", "Q{0.quarter} {0.year}"])
def test_quarters(tmp_path, form):
    quarters = pd.date_range("2000-01-01", periods=9, freq="QS")
    series = read_series(csv(tmp_path, table([form.format(each) for each in quarters])))
    assert series.values.index.equals(quarters)


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (
            strftime("%d/%m/%Y", "D", 12, "2023-01-01"),  # or the first of each month
            "'01/01/2023' may have the day or the month first; write dates as 2024-01-31",
        ),
        (["01/02/2019", "01/02/2019", "03/04/2020", "06/05/2021"], "may have the day or the month first"),
        (strftime("%b-%y", "MS", 3), "'Mar-23' may be a day of a month or a month"),
        (strftime("%y-%m", "MS"), "row 1: '23-03' is no time stamp"),
        ([170406720 + 60 * k for k in range(3, 9)] + [1], "row 7: '1' is no time stamp"),
        ([*strftime("%d.%m.%Y", "D"), "2023-04-01"], "row 31: '2023-04-01' is no time stamp"),
        ([*strftime("%Y-%m-%d", "D"), "soon"], "row 31: 'soon' is no time stamp"),
        (["2024-03-31 01:00+01:00", "2024-03-31 03:00"], r"offsets from UTC differ \(\+01:00, none\)"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "frame"])
def test_dates_that_cannot_be_read_for_sure(tmp_path, dates, message, kind):
    frame = pd.DataFrame({"date": dates, "x": range(len(dates))})
    with pytest.raises(UserError, match=message):
        read_series(frame if kind == "frame" else csv(tmp_path, frame.to_csv(index=False)))


def test_dates_of_a_column_with_a_name_of_its_own_are_no_less_read(tmp_path):
    dates = [*strftime("%Y-%m-%d", "D"), "soon"]
    with pytest.raises(UserError, match="column 'Tag', row 31: 'soon'"):
        read_series(csv(tmp_path, table(dates, name="Tag")))
    series = read_series(csv(tmp_path, table(dates[:-1], name="Tag")))
    assert series.freq == "D"
    bare = read_series(csv(tmp_path, table(range(1000, 1030), name="size")))
    assert bare.names == ["size", "a"] and not bare.freq


def test_decimal_commas(tmp_path):
    text = table(
        strftime("%d.%m.%Y", "D", 3), ["100,13", "7", "-0,5"], ["1,000", "2,000", ""], name="Datum", sign=";"
    )
    series = read_series(csv(tmp_path, text))
    np.testing.assert_array_equal(series.values, [[100.13, 1], [7, 2], [-0.5, np.nan]])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,5", "1.5", "1"], "'1,5' has a comma, '1.5' a point"),
        (["1,000", "12,500", "1"], "'1,000' may be a thousandfold"),
        (["1.000", "12.500", "1"], "'1.000' may be a thousandfold"),
        (["1,5", "x", "1"], "row 2: 'x' is no number"),
    ],
)
def test_numbers_that_cannot_be_read_for_sure(tmp_path, cells, message):
    with pytest.raises(UserError, match=message):
        read_series(csv(tmp_path, table(strftime("%Y-%m-%d", "D", 3), cells, sign=";")))


@pytest.mark.parametrize("bad", ["x", "n.m.", '"1,13.00"', "€5", "5%", "(5", "5 kg"])
def test_a_cell_that_is_no_number_hides_no_column(tmp_path, bad):
    text = table(strftime("%Y-%m-%d", "D", 4), [1, 2, bad, 4], [1, 2, 3, 4])
    with pytest.raises(UserError, match=r"column 'a', row 3: '.*' is no number; .* --target"):
        read_series(csv(tmp_path, text))
    assert read_series(csv(tmp_path, text), target=["b"]).names == ["b"]


def test_what_a_table_was_taken_for_is_said(tmp_path):
    series = read_series(csv(tmp_path, "day,a,note,b\n2024-01-01,1,x,1\n2024-01-02,2,,2\n2024-01-03,3,,3\n"))
    assert series.note == (
        "read data.csv: time = day, every D from 2024-01-01 to 2024-01-03; series a, b; left out note (texts)"
    )
    bare = read_series(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    assert bare.note == "read the table: no time stamps, rows are counted; series x"


@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
def test_row_numbers_are_no_series(tmp_path, first):
    frame = pd.DataFrame({"date": strftime("%Y-%m-%d", "D", 5), "x": range(5)})
    assert read_series(csv(tmp_path, frame.to_csv(index_label=first))).names == ["x"]
    indexed = read_series(csv(tmp_path, frame.set_index("date").to_csv(index_label=first)))
    assert indexed.names == ["x"] and indexed.freq == "D"
    assert read_series(frame.set_index("date")).freq == "D"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table(strftime("%Y-%m-%d", "D", 3)).partition("\n")[2], "the first line, '2023-03-01, 1', holds values"),
        ("date,a\n2024-01-01,1,2\n", r"line 2: more or fewer cells than the first line has \(3, not 2\)"),
        ("date,a,b\n2024-01-01,1\n", "line 2: more or fewer cells"),
        ("date,a\n2024-01-01,1,\n", "line 2: more or fewer cells"),
        ("date,a,\n2024-01-01,1,5\n", "column 3 has no name"),
        ("date,,a\n2024-01-01,,5\n", "column 2 has no name"),
        ("date,a,a\n2024-01-01,1,1\n", "two columns are called 'a'"),
        ('date,a\n2024-01-01,"1\n2024-01-02,2\n2024-01-03,3\n', "quotation mark that is not closed"),
    ],
)
def test_tables_that_would_be_read_awry(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_series(csv(tmp_path, text))


def test_dates_and_times_of_day_are_joined(tmp_path):
    text = "date,time,n\n" + "".join(f"2024-01-0{d},{h:02}:00,{d * h}\n" for d in (1, 2) for h in range(24))
    series = read_series(csv(tmp_path, text))
    assert series.freq == "h" and series.names == ["n"] and series.values.loc["2024-01-02 13:00", "n"] == 26


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "gbk"])
def test_another_encoding_is_read(tmp_path, encoding):
    name = {"latin-1": "Tür", "gbk": "价格"}.get(encoding, "a")
    (tmp_path / "data.csv").write_bytes(table(strftime("%Y-%m-%d", "D")).replace(",a", f",{name}").encode(encoding))
    series = read_series(tmp_path / "data.csv")
    assert series.names == [name] and series.values.loc["2023-03-05", name] == 5


def test_a_byte_order_mark_and_tabs(tmp_path):
    file = tmp_path / "data.tsv.gz"
    file.write_bytes(gzip.compress(table(strftime("%Y-%m-%d", "D"), sign="\t").encode("utf-8-sig")))
    assert read_series(file).freq == "D"


def test_features_of_the_time():
    index = pd.date_range("2024-01-01", periods=48, freq="h")  # a Monday
    found = time_features(index, "h")
    assert found.shape == (48, 4)
    np.testing.assert_allclose(found[6], [0, 1, 1, 0], atol=1e-12)  # six o'clock: a quarter of the day
    np.testing.assert_allclose(found[24 + 6, 2], np.cos(2 * np.pi / 7))
    assert time_features(pd.date_range("2024-01-01", periods=3), "D", year=True).shape == (3, 4)


@pytest.mark.parametrize(
    ("freq", "kind", "steps"),
    [
        ("h", "h", 24),
        ("30min", "min", 48),
        ("B", "B", 5),
        ("D", "D", 7),
        ("MS", "M", 12),
        ("QE", "Q", 4),
        ("", "", 1),
    ],
)
def test_seasons(freq, kind, steps):
    assert (unit(freq), seasonality(freq)) == (kind, steps)


@pytest.mark.parametrize("start", ["1500-01-01", "2300-01-01"])
def test_years_that_nanoseconds_do_not_have_are_refused(start):
    index = pd.DatetimeIndex(np.arange(np.datetime64(start), np.datetime64(start) + 60).astype("M8[s]"))
    with pytest.raises(UserError, match=f"the time stamp {start} 00:00:00 does not lie in 1678 to 2261"):
        read_series(pd.DataFrame({"x": np.arange(60.0)}, index))
    with pytest.raises(UserError, match="60 steps after 2261-12-31 00:00:00 lie beyond 2261: take a smaller horizon"):
        last = pd.date_range(end="2261-12-31", periods=30, freq="YE")
        read_series(pd.DataFrame({"x": np.arange(30.0)}, last)).future_index(60)
