"""What a backtest says of each series, and how calibrated it says that a forecast is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import binom

from inkwash.errors import UserError
from inkwash.systems.series import metrics
from inkwash.systems.series.backtest import ALL, measure
from inkwash.systems.series.data import read_series
from inkwash.systems.series.evaluate import truths

STARTS = [40, 50, 60]


def backtest(values, spread=1.0, seed=0):
    """Of 20 paths about the truth over 10 steps, in three windows."""
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=len(values))).add_prefix("x")
    truth = np.stack([np.nan_to_num(values[start : start + 10]) for start in STARTS])
    noise = np.random.default_rng(seed).normal(0, spread, (3, 20, *truth.shape[1:]))
    return measure(read_series(frame), STARTS, truth[:, None] + noise, seed)


@pytest.fixture
def values():
    return 50 + np.random.default_rng(1).normal(0, 1, (70, 3)).cumsum(0)


def test_the_table_has_each_forecast_and_series_and_agrees_with_the_whole(values):
    values[45, 0] = np.nan
    found = backtest(values)
    table = found.table().set_index(["forecast", "series"])
    assert list(table.columns) == ["n", "MASE", "sMAPE", "WQL", "scaled CRPS", "within 80 %", "within 90 %"]
    assert table["n"].loc["this model"].to_dict() == {"x0": 29, "x1": 30, "x2": 30, ALL: 89}
    whole = {row["forecast"]: row["value"] for row in found.rows if row["metric"] == "crps"}
    assert table["WQL"].xs(ALL, level="series").to_dict() == pytest.approx(whole)
    # of the last value there is one path: each of its quantiles is the value, and CRPS the absolute error
    last = table.loc["last value"]
    np.testing.assert_allclose(last["MASE"], last["scaled CRPS"])
    errors = [np.abs(values[start : start + 10, 1] - values[start - 1, 1]) for start in STARTS]
    scales = [np.abs(values[7:start, 1] - values[: start - 7, 1]).mean() for start in STARTS]  # a week of days
    by_hand = np.mean([error.mean() / scale for error, scale in zip(errors, scales, strict=True)])
    assert last["MASE"]["x1"] == pytest.approx(by_hand)
    n = table["n"].loc["this model"].drop(ALL)
    mean = (table["MASE"].loc["this model"].drop(ALL) * n).sum() / n.sum()
    assert table["MASE"]["this model", ALL] == pytest.approx(mean)


def test_few_series_are_printed_many_are_not(values):
    few, many = backtest(values), backtest(np.tile(values, 4)[:, :11])
    assert all(f"| {name} | 30 |" in few.markdown() for name in ("x0", "x1", "x2"))
    assert "| x0 |" not in many.markdown() and f"| {ALL} | 330 |" in many.markdown()
    assert len(many.table()) == 4 * 12
    assert ALL not in backtest(values[:, :1]).markdown()


def test_what_would_divide_by_zero_is_no_number_and_is_said(values):
    values[:, 0] = 0.0
    values[:, 1] = 5.0
    values[60:, 2] = np.nan
    found = backtest(values, spread=0.0)
    table = found.table().set_index(["forecast", "series"]).loc["this model"]
    assert table.loc["x0", ["MASE", "sMAPE", "WQL", "scaled CRPS"]].isna().all()
    assert np.isnan(table.loc["x1", "MASE"]) and table.loc["x1", ["sMAPE", "WQL"]].to_list() == [0, 0]
    assert table.loc["x2"].notna().all() and table.loc[ALL, "MASE"] == table.loc["x2", "MASE"]
    assert found.notes == [
        "MASE and scaled CRPS leave out 60 of 60 values of x0, x1: nothing changes before them.",
        "sMAPE leaves out 30 of 30 values of x0: they and their medians are 0.",
        "WQL of x0 is not defined: there is no value but 0.",
    ]
    assert found.markdown().endswith("\n\n".join(found.notes))


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of each chart that is written."""
    axes, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *how, **more: axes.append(self.axes[0]) or save(self, *how, **more)
    )
    return axes


def test_a_reliability_diagram_shows_shares_and_the_band_of_chance(values, drawn, tmp_path):
    found = backtest(values)
    found.plot(tmp_path / "calibration.png")
    (axis,) = drawn
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == ["all values", "x0", "x1", "x2", "calibrated"]
    truth = np.stack([values[start : start + 10] for start in STARTS])
    noise = np.random.default_rng(0).normal(0, 1.0, (3, 20, 10, 3))
    expected = metrics.shares_below(truth[:, None] + noise, truth)
    for k in range(3):
        np.testing.assert_allclose(lines[f"x{k}"].get_data(), [metrics.LEVELS, expected[:, k]])
    np.testing.assert_allclose(lines["all values"].get_ydata(), expected.mean(1))
    for count, band in zip((90, 3), axis.collections, strict=True):
        corners = band.get_paths()[0].vertices
        at_half = corners[np.isclose(corners[:, 0], 0.5), 1]
        assert [at_half.min(), at_half.max()] == pytest.approx(binom.ppf([0.025, 0.975], count, 0.5) / count)


def test_many_series_and_a_single_one_have_no_lines_of_their_own(values, drawn, tmp_path):
    for number, columns in enumerate((np.tile(values, 4)[:, :11], values[:, :1])):
        backtest(columns).plot(tmp_path / f"{number}.png")
        assert [line.get_label() for line in drawn[number].lines] == ["all values", "calibrated"]


def test_windows_that_overlap_count_as_fewer(values):
    series = read_series(pd.DataFrame(values, pd.date_range("2024-01-01", periods=70)).add_prefix("x"))
    for starts, windows in (([40, 50, 60], 3), ([50, 55, 60], 2), ([20, 40, 60], 3), ([60], 1)):
        assert measure(series, starts, np.zeros((len(starts), 2, 10, 3)), 0).windows == windows


def test_names_are_no_markup_of_the_chart(values, drawn, tmp_path):
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=70), ["_a", "$b^$", "c" * 40])
    measure(read_series(frame), STARTS, np.zeros((3, 2, 10, 3)), 0).plot(tmp_path / "a.svg")
    texts = [text.get_text() for text in drawn[0].get_legend().get_texts()]
    assert texts[1:4] == [" _a", r"\$b^\$", "c" * 27 + "…"]


def test_a_table_shorter_than_its_season_has_no_forecast_of_it(values):
    """Weeks, of which no year lies before the first window."""
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=70, freq="W")).add_prefix("x")
    for first in (40, 52, 53):
        found = measure(read_series(frame), [first, 60], np.zeros((2, 2, 10, 3)), 0)
        assert ("a season ago" in found.table()["forecast"].to_list()) == (first == 53)
        assert any("No forecast repeats the season" in note for note in found.notes) == (first != 53)


def test_values_that_are_all_zero_have_no_score_and_not_an_infinite_one():
    frame = pd.DataFrame(np.zeros((70, 2)), pd.date_range("2024-01-01", periods=70)).add_prefix("x")
    found = measure(read_series(frame), STARTS, np.ones((3, 2, 10, 2)), 0)
    assert {row["value"] for row in found.rows if row["metric"] in ("crps", "nd", "crps_sum", "nd_sum")} == {None}
    assert "this model minus it" not in {row["metric"] for row in found.rows}


def test_a_series_is_not_scored_before_it_begins(values):
    """Its model knows nothing of it there."""
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=70)).add_prefix("x")
    frame.iloc[:45, 1] = np.nan
    counts = measure(read_series(frame), [40, 50, 60], np.zeros((3, 2, 10, 3)), 0).table().set_index("series")["n"]
    assert counts["x0"].unique() == [30] and counts["x1"].unique() == [20]


@pytest.mark.parametrize("starts", [[], [0, 10], [-5], [61]])
def test_windows_lie_in_the_table(starts, values):
    series = read_series(pd.DataFrame(values).add_prefix("x"))
    with pytest.raises(UserError, match="they must lie in the table of 70 steps, after 1 at least"):
        truths(series, starts, 10)
    with pytest.raises(UserError, match="there is nothing to score"):
        truths(replace(series, values=series.values.assign(**dict.fromkeys(series.names, np.nan))), [60], 10)
