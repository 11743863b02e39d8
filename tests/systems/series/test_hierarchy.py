"""Sums over a hierarchy: exact on each path, as wide as theory says, and named and written as what they are."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.series import hierarchy
from inkwash.systems.series.data import Layout, read_series
from inkwash.systems.series.forecast import Forecast
from inkwash.systems.series.roles import JOINT


def layout_of(*ids, items=("region", "shop")):
    return Layout("day", items, {JOINT.join(each): each for each in ids}, "sold")


SHOPS = layout_of(("North", "a"), ("North", "b"), ("South", "c"), ("South", "d"), ("West", "e"))


def forecast_of(samples, layout):
    return Forecast(samples, pd.RangeIndex(samples.shape[1]), list(layout.ids))


def test_each_region_is_the_sum_of_its_shops_on_every_path_and_the_total_of_all():
    samples = np.random.default_rng(0).lognormal(3, 2, (50, 4, 5))
    summed, _ = hierarchy.with_sums(forecast_of(samples, SHOPS), SHOPS)
    assert summed.names == ["total", "region=North total", "region=South total", *SHOPS.ids]
    paths = dict(zip(summed.names, np.moveaxis(summed.samples, 2, 0), strict=True))
    np.testing.assert_array_equal(summed.samples[..., 3:], samples)
    np.testing.assert_array_equal(paths["region=North total"], paths["North / a"] + paths["North / b"])
    np.testing.assert_array_equal(paths["region=South total"], paths["South / c"] + paths["South / d"])
    above = paths["region=North total"] + paths["region=South total"] + paths["West / e"]
    np.testing.assert_allclose(paths["total"], above, rtol=1e-14)


def test_the_band_of_a_sum_of_independent_series_is_as_wide_as_their_squares_and_not_as_their_sum():
    """sqrt(25) times the band of one; the sum of the bands is 25 times as wide."""
    layout = Layout()
    samples = np.random.default_rng(0).standard_normal((20_000, 1, 25))
    forecast = Forecast(samples, pd.RangeIndex(1), [str(k) for k in range(25)])
    summed, _ = hierarchy.with_sums(forecast, layout)
    width = (summed.quantile(0.95) - summed.quantile(0.05)).iloc[0]
    one = 2 * 1.6449
    assert width["total"] == pytest.approx(5 * one, rel=0.03)
    assert width.drop("total").sum() == pytest.approx(25 * one, rel=0.03)


def test_columns_that_cross_have_sums_each_and_in_pairs():
    """Two regions by two products by two sizes: 1 total, 6 by one column, 12 by two."""
    layout = layout_of(*((r, p, s) for r in "NS" for p in "xy" for s in "12"), items=("region", "product", "size"))
    found = hierarchy.sums(list(layout.ids), layout)
    assert len(found) == 19 and len({tuple(each.members) for each in found}) == 19
    by_name = {each.name: each for each in found}
    assert by_name["product=y total"].members == [2, 3, 6, 7]
    assert by_name["region=N / size=2 total"] == ("region=N / size=2 total", ("N", "total", "2"), [1, 3])


def test_what_is_nested_has_no_sum_twice_and_none_of_one():
    """A shop lies in one region, and one region is all there is of its country."""
    layout = layout_of(("A", "N", "1"), ("A", "N", "2"), ("B", "S", "3"), items=("country", "region", "shop"))
    found = hierarchy.sums(list(layout.ids), layout)
    assert [(each.name, each.members) for each in found] == [("total", [0, 1, 2]), ("country=A total", [0, 1])]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=2, unique=True), st.integers(0, 99)
)
def test_any_levels_add_up(ids, seed):
    layout = layout_of(*ids)
    samples = np.random.default_rng(seed).integers(-1000, 1000, (3, 2, len(ids))).astype(float)
    summed, _ = hierarchy.with_sums(forecast_of(samples, layout), layout)
    for k, each in enumerate(hierarchy.sums(list(layout.ids), layout)):
        region, shop = each.ids
        of = [i for i, (r, s) in enumerate(ids) if region in (r, "total") and shop in (s, "total")]
        np.testing.assert_array_equal(summed.samples[..., k], samples[..., of].sum(-1))


def test_they_are_written_in_the_columns_of_the_ids():
    summed, layout = hierarchy.with_sums(forecast_of(np.ones((3, 1, 5)), SHOPS), SHOPS)
    table = layout.write(summed.to_dataframe([0.5]))
    assert list(table.columns) == ["region", "shop", "day", "mean", "0.5"]
    assert table[["region", "shop", "mean"]].values.tolist()[:4] == [
        ["total", "total", 5.0], ["North", "total", 2.0], ["South", "total", 2.0], ["North", "a", 1.0]
    ]  # fmt: skip


def test_a_wide_table_has_the_total_alone():
    series = read_series(pd.DataFrame({"x": [1.0, 2], "y": [3.0, 4]}, pd.date_range("2024", periods=2)), freq="D")
    summed, layout = hierarchy.with_sums(Forecast(np.ones((2, 1, 2)), pd.RangeIndex(1), series.names), series.layout)
    assert layout.write(summed.to_dataframe([])).values.tolist() == [[0, "total", 2], [0, "x", 1], [0, "y", 1]]


def test_of_the_past_a_sum_is_there_where_all_of_its_series_are():
    values = pd.DataFrame({"North / a": [1.0, np.nan, 3], "North / b": [1.0, 1, 1], "South / c": [np.nan, 5, 5]})
    layout = layout_of(("North", "a"), ("North", "b"), ("South", "c"))
    past = hierarchy.history_with_sums(values, layout)
    np.testing.assert_array_equal(past["region=North total"], [2, np.nan, 4])
    np.testing.assert_array_equal(past["total"], [np.nan, np.nan, 9])
    assert list(past.columns[-3:]) == list(values.columns)


@pytest.mark.parametrize("name", ["total", " Total"])
def test_a_total_that_is_there_would_count_twice(name):
    with pytest.raises(UserError, match="is a total already and would count twice"):
        hierarchy.sums(["x", name], Layout())
    with pytest.raises(UserError, match=r"'North / .*otal' is a total already"):
        hierarchy.sums([f"North / {name}", "North / a"], layout_of(("North", name), ("North", "a")))


def test_one_series_has_no_sums():
    with pytest.raises(UserError, match=r"sums of one series \('x'\)"):
        hierarchy.sums(["x"], Layout())
