"""A forecaster as a predictor of gluonts (extra `gluonts`), so that its Evaluator and its users' code work on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from gluonts.dataset import Dataset
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor

from inkwash.errors import UserError
from inkwash.systems.series.data import Series
from inkwash.systems.series.model import Forecaster


class InkwashPredictor(Predictor):  # type: ignore[misc]  # gluonts has no types
    """`predict` yields a SampleForecast for each entry of a data set.

    An entry whose target is (D, T) holds all series of the model, and its forecast has samples (S, H, D). Entries
    with a target (T,) are taken D at a time, in the order of the model's series, and forecast together.

    >>> predictor = InkwashPredictor(Forecaster.load("exchange"))
    >>> forecasts, truths = make_evaluation_predictions(test, predictor, num_samples=100)
    """

    def __init__(self, forecaster: Forecaster, seed: int = 0, **options: Any) -> None:
        super().__init__(prediction_length=forecaster.config.horizon)
        self.forecaster, self.seed, self.options = forecaster, seed, options

    def predict(self, dataset: Dataset, num_samples: int = 100, **kwargs: Any) -> Iterator[SampleForecast]:
        """Raises UserError for entries that are not the model's series."""
        names, pending = self.forecaster.config.names, []
        for entry in dataset:
            target = np.asarray(entry["target"], np.float64)
            if target.ndim == 2:
                paths = self._paths(target.T, entry["start"], num_samples)
                yield SampleForecast(paths, entry["start"] + target.shape[1], entry.get("item_id"))
                continue
            pending.append((entry, target))
            if len(pending) == len(names):
                paths = self._paths(np.stack([values for _, values in pending], axis=1), entry["start"], num_samples)
                for i, (single, values) in enumerate(pending):
                    yield SampleForecast(paths[..., i], single["start"] + len(values), single.get("item_id"))
                pending = []
        if pending:
            raise UserError(
                f"the model knows {len(names)} series; {len(pending)} entries of the data set are left over"
            )

    def _paths(self, values: np.ndarray, start: Any, samples: int) -> np.ndarray:
        config = self.forecaster.config
        if values.shape[1] != len(config.names):
            raise UserError(f"the model knows {len(config.names)} series, the entry has {values.shape[1]}")
        first = start.to_timestamp() if isinstance(start, pd.Period) else pd.Timestamp(start)
        index = (
            pd.date_range(first, periods=len(values), freq=config.freq) if config.freq else pd.RangeIndex(len(values))
        )
        frame = pd.DataFrame(values, index, config.names)
        series = Series(frame, frame[[]], config.freq)
        paths: np.ndarray = self.forecaster.paths(
            series, [len(values)], self.prediction_length, samples, self.seed, **self.options
        )[0]
        return paths
