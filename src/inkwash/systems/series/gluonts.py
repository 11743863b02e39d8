"""A forecaster as a predictor of gluonts (extra `gluonts`), so that its Evaluator and its users' code work on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
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
    with a target (T,) are taken D at a time, in the order of the model's series, and forecast together: they must
    begin and end at the same steps. A model with covariates takes them, (C, T + H), from `feat_dynamic_real` of an
    entry, in the order of its own; of entries taken together, from the first.

    The n-th window of a call of `predict` has the noise of `Forecaster.paths(window=n)`.

    >>> predictor = InkwashPredictor(Forecaster.load("exchange"))
    >>> forecasts, truths = make_evaluation_predictions(test, predictor, num_samples=100)
    """

    def __init__(self, forecaster: Forecaster, seed: int = 0, **options: Any) -> None:
        super().__init__(prediction_length=forecaster.config.horizon)
        self.forecaster, self.seed, self.options = forecaster, int(seed), options

    def serialize(self, path: Path) -> None:
        """Writes the model, the seed and the options into a folder, for gluonts' `Predictor.deserialize`."""
        super().serialize(path)
        self.forecaster.save(path / "forecaster")
        (path / "predictor.json").write_text(json.dumps({"seed": self.seed} | self.options))

    @classmethod
    def deserialize(cls, path: Path, device: str = "cpu", **kwargs: Any) -> InkwashPredictor:
        options = json.loads((path / "predictor.json").read_text())
        return cls(Forecaster.load(path / "forecaster", str(device or "cpu")), **options)

    def predict(self, dataset: Dataset, num_samples: int = 100, **kwargs: Any) -> Iterator[SampleForecast]:
        """Raises UserError for entries that are not the model's series, or not on its clock."""
        names, pending, window = self.forecaster.config.names, [], 0
        for entry in dataset:
            target = np.asarray(entry["target"], np.float64)
            if np.isinf(target).any() or not isinstance(entry["start"], pd.Period):
                raise UserError(
                    f"an entry from {entry['start']}: its start must be a Period, its target finite or NaN"
                )
            if target.ndim == 2:
                paths = self._paths(target.T, entry, num_samples, window)
                yield SampleForecast(paths, entry["start"] + target.shape[1], entry.get("item_id"))
                window += 1
                continue
            pending.append((entry, target))
            first, values = pending[0]
            if entry["start"] != first["start"] or len(target) != len(values):
                raise UserError(
                    f"series that are forecast together must begin and end alike: one has {len(values)} steps from "
                    f"{first['start']}, another {len(target)} from {entry['start']}; fill the shorter one with NaN"
                )
            if len(pending) == len(names):
                paths = self._paths(np.stack([values for _, values in pending], axis=1), first, num_samples, window)
                for i, (single, values) in enumerate(pending):
                    yield SampleForecast(paths[..., i], single["start"] + len(values), single.get("item_id"))
                pending, window = [], window + 1
        if pending:
            raise UserError(
                f"the model knows {len(names)} series; {len(pending)} entries of the data set are left over"
            )

    def _paths(self, values: np.ndarray, entry: dict[str, Any], samples: int, window: int) -> np.ndarray:
        config, start = self.forecaster.config, entry["start"]
        if values.shape[1] != len(config.names):
            raise UserError(f"the model knows {len(config.names)} series, the entry has {values.shape[1]}")
        if config.freq and start.freqstr != to_period_freq(config.freq):
            raise UserError(
                f"the entry has the frequency '{start.freqstr}', the model was trained on '{config.freq}'"
            )
        start = start.to_timestamp()
        covariates = np.asarray(entry.get("feat_dynamic_real", np.empty((0, 0))), np.float64)
        if len(covariates) != len(config.feat_dynamic_real):
            raise UserError(
                f"the model takes {len(config.feat_dynamic_real)} covariates, feat_dynamic_real of the entry has "
                f"{len(covariates)}"
            )
        steps = max(len(values), covariates.shape[1])
        index = pd.date_range(start, periods=steps, freq=config.freq) if config.freq else pd.RangeIndex(steps)
        frame = pd.DataFrame(values, index[: len(values)], config.names)
        known = pd.DataFrame(covariates.T, index[: covariates.shape[1]], config.feat_dynamic_real)
        if not len(covariates):
            known = frame[[]]
        series = Series(frame, known, config.freq)
        self.forecaster.warn(series)
        paths: np.ndarray = self.forecaster.paths(
            series, [len(values)], self.prediction_length, samples, self.seed, window=window, **self.options
        )[0]
        return paths


def to_period_freq(freq: str) -> str:
    """The frequency of periods for one of time stamps: "M" for "MS"."""
    return str(pd.date_range("2000-01-01", periods=2, freq=freq).to_period().freqstr)
