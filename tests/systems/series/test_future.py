"""Plans: covariates of the steps to come in a table of their own, read as the data are, and set beside each other."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from inkwash.errors import UserError
from inkwash.systems.series import transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.forecast import Forecast
from inkwash.systems.series.future import differences, in_words, with_future
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.train import IMPROVED, fit_forecaster

KNOWN = ["price", "open"]


def frame(steps=60, freq="D", start="2024-01-01", tz=None):
    rng = np.random.default_rng(0)
    price, opened = rng.integers(8, 13, steps).astype(float), rng.integers(0, 2, steps).astype(float)
    sales = 100 - 5 * price + 30 * opened + rng.normal(0, 1, steps)
    index = pd.date_range(start, periods=steps, freq=freq, tz=tz)
    return pd.DataFrame({"day": index, "sales": sales, "price": price, "open": opened})


def plan(after, steps=4, **columns):
    index = pd.date_range(after["day"].iloc[-1], periods=steps + 1, freq=after.attrs.get("freq", "D"))[1:]
    return pd.DataFrame({"day": index, "price": [9.0, 10, 11, 12][:steps], "open": 1.0} | columns)


def series(table, **how):
    return read_series(table, target=["sales"], feat_dynamic_real=KNOWN, **how)


def test_a_plan_is_what_rows_after_the_data_would_be():
    """In any order, longer than needed, with other columns, and instead of what the data say of these steps."""
    data, table = frame(), plan(frame())
    whole = series(pd.concat([data, table]))
    other = series(pd.concat([data, table.assign(price=7.0)]))
    for given in (
        table,
        table.iloc[[2, 0, 3, 1]],
        table[["open", "day", "price"]],
        table.assign(sales=np.nan, x="a"),
        table.assign(sales="n/a"),
    ):
        for base in (series(data), other):
            found = with_future(base, given, KNOWN).feat_dynamic_real
            pd.testing.assert_frame_equal(found, whole.feat_dynamic_real, check_freq=False, check_names=False)


def test_it_is_read_as_the_data_are(tmp_path):
    """German dates and decimal commas, and names that say what the clock is."""
    data, table = frame(), plan(frame(), price=[9.5, 10.25, 11, 12])
    for name, each in (("data", data), ("plan", table)):
        each = each.assign(day=each["day"].dt.strftime("%d.%m.%Y"))
        each.to_csv(tmp_path / f"{name}.csv", sep=";", decimal=",", index=False)
    base = series(tmp_path / "data.csv")
    found = with_future(base, tmp_path / "plan.csv", KNOWN)
    assert found.feat_dynamic_real["price"].iloc[-4:].tolist() == [9.5, 10.25, 11, 12]
    assert "plan.csv: time = day (dd.mm.yyyy), every D from 2024-03-01 to 2024-03-04" in found.note
    slashed = table.iloc[:1].assign(day="01/03/2024")
    with pytest.raises(UserError, match="--dates"):
        with_future(base, slashed, KNOWN)
    assert with_future(base, slashed, KNOWN, dates="dmy").feat_dynamic_real["price"].iloc[-1] == 9.5
    table.loc[1, "price"] = -7
    for missing, value in (((), -7), (("-7",), np.nan)):
        found = with_future(base, table, KNOWN, missing=missing).feat_dynamic_real["price"].iloc[-4:].to_numpy()
        np.testing.assert_array_equal(found, [9.5, value, 11, 12])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (plan(frame()).iloc[1:], "the step of 2024-03-01 00:00:00 is missing"),
        (pd.concat([frame()[["day", *KNOWN]].iloc[-1:], plan(frame())]), "2024-02-29 00:00:00 is no step to come"),
        (plan(frame(), day=pd.date_range("2023-03-01", periods=4)), "2023-03-01 00:00:00 is no step to come"),
        (plan(frame()).drop(columns="price"), "unknown column of the table 'price'"),
        (plan(frame(), sales=[np.nan, 3.0, np.nan, np.nan]), "'sales' is what is to be forecast"),
        (plan(frame(), day=pd.date_range("2024-03-01", periods=4, tz="UTC")), "an offset from UTC"),
        (plan(frame(), day="2024-03-01"), "two rows have the time stamp|the same for all|repeat"),
        (plan(frame(), price=["a", "b", "c", "d"]), "price"),
        (plan(frame()).drop(columns="day"), "no column of time stamps"),
    ],
)
def test_a_plan_of_other_steps_or_columns_is_refused(table, says):
    with pytest.raises(UserError, match=says):
        with_future(series(frame()), table, KNOWN)


@pytest.mark.parametrize("table", [plan(frame()).drop(index=2), plan(frame(), price=[9.0, 10, np.nan, 12])])
def test_a_step_that_is_missing_within_is_named(table):
    found = with_future(series(frame()), table, KNOWN)
    transforms.check_covariates(found, 62)
    with pytest.raises(UserError, match=r"missing at 2024-03-03 00:00:00: add rows"):
        transforms.check_covariates(found, 64)


def test_without_a_known_column_a_plan_means_nothing():
    with pytest.raises(UserError, match="name those of the plan with --feat-dynamic-real"):
        with_future(read_series(frame(), target=["sales"]), plan(frame()), [])


def test_rows_that_are_counted_go_on():
    data, table = frame().drop(columns="day"), plan(frame()).drop(columns="day")
    found = with_future(series(data), table, KNOWN)
    assert found.feat_dynamic_real.index.tolist() == [*range(64)]
    with pytest.raises(UserError, match="it has time stamps, the data have none"):
        with_future(series(data), plan(frame()), KNOWN)


def test_months_and_zones_are_those_of_the_data():
    monthly = frame(freq="MS")
    table = plan(monthly, day=pd.date_range("2029-01-01", periods=4, freq="MS"))
    assert len(with_future(series(monthly), table, KNOWN).feat_dynamic_real) == 64
    hours = frame(freq="h", tz="Europe/Berlin")
    ahead = pd.date_range(hours["day"].iloc[-1], periods=5, freq="h")[1:]
    for stamps in (ahead, ahead.tz_convert("UTC"), ahead.tz_localize(None)):
        found = with_future(series(hours), plan(hours, day=stamps), KNOWN)
        assert (found.feat_dynamic_real.index[-4:] == ahead).all()


@pytest.fixture(scope="module")
def long():
    """Two items; the price is each one's own, `open` is the same for both."""
    shops = [frame().assign(shop=name, price=frame()["price"] + k) for k, name in enumerate(("east", "west"))]
    return pd.concat(shops)


def test_in_a_long_table_each_item_has_its_own(long):
    base = series(long)
    table = pd.concat([plan(frame(), shop="west", price=[1.0, 2, 3, 4]), plan(frame(), shop="east")])
    found = with_future(base, table, KNOWN).feat_dynamic_real
    assert [*found.columns] == ["price of east", "price of west", "open"]
    assert found.iloc[-4:].to_numpy().tolist() == [[9, 1, 1], [10, 2, 1], [11, 3, 1], [12, 4, 1]]
    with pytest.raises(UserError, match="'price of west' is not there"):
        with_future(base, plan(frame(), shop="east"), KNOWN)
    with pytest.raises(UserError, match="'open' differs between the series at 2024-03-01"):
        with_future(base, table.assign(open=(table["shop"] == "west").astype(float)), KNOWN)
    shared = read_series(long, target=["sales"], feat_dynamic_real=["open"], item="shop")
    assert with_future(shared, plan(frame()), ["open"]).feat_dynamic_real["open"].tolist()[-4:] == [1.0] * 4


@pytest.fixture(scope="module")
def forecaster():
    made = fit_forecaster(
        frame(200), 4, context=20, settings=replace(IMPROVED, steps=2, batch_size=8), alone=True,
        target=["sales"], feat_dynamic_real=KNOWN,
    )  # fmt: skip
    return Forecaster(made.network, replace(made.config, weights={"exponential smoothing": 0.8, "last season": 0.2}))


def test_plans_share_their_noise_and_differ_by_their_effect(forecaster):
    """-5 for each unit of the price, and nothing at all from the same plan."""
    data = frame(200)
    base, cheap = (plan(data, price=price) for price in ([10.0] * 4, [8.0] * 4))
    how = {"samples": 60, "target": ["sales"], "feat_dynamic_real": KNOWN}
    found = {
        name: forecaster.forecast(data, future=each, **how)
        for name, each in (("base", base), ("again", base), ("cheap", cheap))
    }
    same, (other,) = (
        differences({k: found[k] for k in ("base", "again")})[0],
        differences({k: found[k] for k in ("base", "cheap")}),
    )
    assert (same["mean"], same["low"], same["high"]) == (0, 0, 0)
    assert other["mean"] == pytest.approx(10, abs=0.5) and other["low"] < 10 < other["high"]
    assert other["high"] - other["low"] < 0.2 * np.ptp(found["base"].samples[:, 0, 0])  # their noise is the same


def test_differences_are_of_paths_step_by_step():
    rng = np.random.default_rng(0)
    first = rng.normal(0, 100, (500, 3, 2))
    apart = rng.normal([1.0, -2.0], [0.1, 0.2], (500, 1, 2))
    paths = [Forecast(each, pd.RangeIndex(3), ["a", "b"]) for each in (first, first + apart)]
    rows = differences(dict(zip(("base", "plan"), paths, strict=True)))
    for row, name, middle, deviation in zip(rows, "ab", (1, -2), (0.1, 0.2), strict=True):
        assert (row["series"], row["plan"], row["beside"]) == (name, "plan", "base")
        band = middle + 1.645 * deviation * np.arange(-1, 2)
        np.testing.assert_allclose([row["low"], row["mean"], row["high"]], band, atol=0.3 * deviation)
    assert in_words(rows).startswith("a: plan is +") and in_words(rows * 5).endswith("and 2 more: --json has them")


def test_values_beyond_those_of_training_are_said(forecaster):
    data, how = frame(200), {"samples": 4, "target": ["sales"], "feat_dynamic_real": KNOWN}
    with pytest.warns(transforms.ForeignSeries, match=r"'price' is 20 in steps to come, training saw 8 to 12"):
        forecaster.forecast(data, future=plan(data, price=[10.0, 20, 10, 10]), **how)
    forecaster.forecast(data, future=plan(data, price=[8.0, 12, 8, 12]), **how)  # a warning is an error


def test_a_plan_that_is_too_short_is_refused(forecaster):
    with pytest.raises(UserError, match=r"missing at 2024-07-22 00:00:00: add rows"):
        forecaster.forecast(
            frame(200), future=plan(frame(200), 3), samples=2, target=["sales"], feat_dynamic_real=KNOWN
        )
