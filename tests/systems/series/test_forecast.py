"""Tables of sample paths: no level is lost, no path out of range."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.series.forecast import Forecast, confine, level_name


def test_levels_that_lie_close_have_columns_of_their_own():
    paths = np.arange(10_000_001.0).reshape(-1, 1, 1)
    table = Forecast(paths, pd.RangeIndex(1), ["x"]).to_dataframe([0.9999999, 1, 0.5])
    assert table.columns.to_list() == ["time", "series", "mean", "0.9999999", "1", "0.5"]
    assert table.iloc[0, 3:].to_list() == [9_999_999, 10_000_000, 5_000_000]


@given(st.floats(0, 1))
def test_a_level_is_read_back_from_its_name(level):
    assert float(level_name(level)) == level


@pytest.mark.parametrize("minimum", [np.nan, np.inf, -np.inf])
def test_a_minimum_is_a_number(minimum):
    with pytest.raises(UserError, match="a finite number is needed"):
        confine(np.zeros((2, 1, 1)), False, minimum)
