"""Tables of every shape, and what is wrong with them in one line."""

import json

import numpy as np
import pandas as pd
import pytest

from inkwash.errors import UserError
from inkwash.systems.series.data import read_series
from inkwash.systems.series.features import seasonality, time_features, unit


def csv(tmp_path, text):
    file = tmp_path / "data.csv"
    file.write_text(text)
    return file


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
