"""Sample paths of the steps to come, as tables and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.systems.series import metrics

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Forecast:
    """Sample paths (S, H, D) of D series over the next H steps."""

    samples: np.ndarray
    index: pd.Index
    names: list[str]

    @property
    def mean(self) -> pd.DataFrame:
        """(H, D)."""
        return pd.DataFrame(self.samples.mean(0), self.index, self.names)

    def quantile(self, level: float) -> pd.DataFrame:
        """(H, D), by gluonts' rule (`metrics.quantile`)."""
        if not 0 <= level <= 1:
            raise UserError(f"quantile {level}: a level from 0 to 1 is needed")
        return pd.DataFrame(metrics.quantile(self.samples, level), self.index, self.names)

    def to_dataframe(self, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
        """A row for each step and series: time, series, mean, and a column for each level."""
        statistics = {"mean": self.mean} | {level_name(level): self.quantile(level) for level in levels}
        columns = {name: frame.to_numpy().ravel() for name, frame in statistics.items()}
        steps, series = np.repeat(self.index, len(self.names)), self.names * len(self.index)
        return pd.DataFrame({"time": steps, "series": series, **columns})

    def plot(
        self,
        file: str | Path,
        history: pd.DataFrame | None = None,
        truth: pd.DataFrame | None = None,
        levels: Sequence[float] = LEVELS,
        **marks: Any,
    ) -> None:
        """A fan chart, as PNG or SVG; see `plot.fan`."""
        from inkwash.systems.series.plot import fan

        fan(self.quantile, Path(file), history, truth, levels, **marks)


def level_name(level: float) -> str:
    """Its shortest decimals, all of them, so that 0.9999999 is no 1 and has a column of its own."""
    return np.format_float_positional(level, trim="-")


def confine(paths: np.ndarray, integer: bool, minimum: float | None) -> np.ndarray:
    """Paths of whole numbers, none of them below a minimum; a minimum of 0.5 is one of 1 for whole numbers."""
    if minimum is not None and not np.isfinite(minimum):
        raise UserError(f"minimum = {minimum}: a finite number is needed")
    if integer:
        paths = paths.round()
        minimum = None if minimum is None else np.ceil(minimum)
    return paths if minimum is None else paths.clip(minimum)
