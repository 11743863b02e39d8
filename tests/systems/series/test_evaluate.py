"""Which forecasts a model is set beside."""

import numpy as np
import pandas as pd
import pytest

from inkwash.systems.series import baselines
from inkwash.systems.series.data import read_series
from inkwash.systems.series.evaluate import baseline_rules


@pytest.mark.parametrize("others", [{}, {"b": 5.0}])
def test_a_single_series_that_moves_has_no_vector_autoregression(others):
    index = pd.date_range("2024-01-01", periods=60)
    table = pd.DataFrame({"a": np.random.default_rng(0).normal(size=60)} | others, index)
    found = baseline_rules(read_series(table), table.to_numpy(), 40, 5)
    assert "vector autoregression" not in found
    last = found["last value"](table.to_numpy()[:40], 5, 10, np.random.default_rng(0))
    assert last[0, :, 0].tolist() == [table["a"].iloc[39]] * 5
    table["c"] = table["a"].to_numpy()[::-1]
    assert "vector autoregression" in baseline_rules(read_series(table), table.to_numpy(), 40, 5)


def test_steps_of_which_nothing_follows_have_a_vector_autoregression_without_lags():
    """AIC takes none; then it is the mean of the steps and their joint noise."""
    rng = np.random.default_rng(1)
    steps = rng.normal([1.0, -2.0], size=(4000, 2))
    paths = baselines.vector_autoregression(steps.cumsum(0), 3, 500, rng)
    np.testing.assert_allclose((paths - steps.sum(0)).mean(0), np.outer([1, 2, 3], [1, -2]), atol=0.3)
