"""Which forecasts a model is set beside."""

import numpy as np
import pandas as pd
import pytest

from inkwash.systems.series.data import read_series
from inkwash.systems.series.evaluate import baseline_paths


@pytest.mark.parametrize("others", [{}, {"b": 5.0}])
def test_a_single_series_that_moves_has_no_vector_autoregression(others):
    index = pd.date_range("2024-01-01", periods=60)
    table = pd.DataFrame({"a": np.random.default_rng(0).normal(size=60)} | others, index)
    found = baseline_paths(read_series(table), 40, [40, 45], 5, 10)
    assert (
        "vector autoregression" not in found and found["last value"][0, 0, :, 0].tolist() == [table["a"].iloc[39]] * 5
    )
    two = baseline_paths(read_series(table.assign(c=table["a"].to_numpy()[::-1])), 40, [40, 45], 5, 10)
    assert "vector autoregression" in two
