"""Cross-validation over time: a model trained anew before each of several windows of the past."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note, Preview, Progress
from inkwash.systems.base import check_seed
from inkwash.systems.series.backtest import Backtest, measure, rolling_starts
from inkwash.systems.series.data import read_series, shortened
from inkwash.systems.series.evaluate import truths
from inkwash.systems.series.train import fit_forecaster, say_what_was_read
from inkwash.training.settings import Settings


class Within:
    """Who follows the training before a window: it counts windows, as the many steps and notes of trainings would
    hide how far the whole is."""

    def __init__(self, monitor: Monitor, done: int, windows: int) -> None:
        self.monitor, self.progress, self.stopped = monitor, Progress(done, windows, "windows"), monitor.stopped

    def tell(self, event: Progress | Preview | Note) -> None:
        if isinstance(event, Progress):
            self.monitor.tell(self.progress)


def cross_validate(
    data: Any,
    horizon: int,
    windows: int = 10,
    stride: int | None = None,
    samples: int = 100,
    seed: int = 0,
    *,
    mode: str = "improved",
    context: int | None = None,
    lags: list[int] | None = None,
    settings: Settings | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    monitor: Monitor = CONSOLE,
    alone: bool = False,
    holidays: Sequence[str] = (),
    **columns: Any,
) -> Backtest:
    """Forecasts of the last `windows` rolling windows of a table, `stride` steps apart (the horizon if left out),
    each by a forecaster that `fit_forecaster` trains on what lies before the window (Tashman 2000,
    10.1016/S0169-2070(00)00065-0: rolling origin, recalibrated), beside simple ones from the same starts.

    A series is scored in the windows before which it has a value (`truths`). Options: see `fit_forecaster`, and
    `Forecaster.forecast`. A run that `monitor` stops, or a window for which no model can be trained, gives the
    windows so far. Raises UserError as `fit_forecaster` does, and for windows that reach back too far.
    """
    check_seed(seed)
    if samples < 1:
        raise UserError(f"samples = {samples}: at least one is needed")
    series = read_series(data, **columns)
    starts = rolling_starts(len(series.values), horizon, windows, stride, 1)
    say_what_was_read(series, monitor)
    truth, paths = truths(series, starts, horizon), np.zeros((windows, samples, horizon, len(series.names)))
    done, clock = 0, time.process_time()
    for window, start in enumerate(starts):
        known = series.values.iloc[:start].notna().any().to_numpy()
        if not known.any():
            raise UserError(
                f"window {window + 1} of {windows} begins at step {start}, before any value: take fewer windows"
            )
        if not known.all():
            missing = shortened([name for name, is_known in zip(series.names, known, strict=True) if not is_known])
            monitor.tell(Note(f"window {window + 1} does not score {missing}: no value lies before it"))
        before = replace(series.before(start), values=series.values.iloc[:start, known], note="")
        try:
            forecaster = fit_forecaster(
                before, horizon, mode=mode, context=context, lags=lags, settings=settings,
                monitor=Within(monitor, window, windows), alone=alone, holidays=holidays,
            )  # fmt: skip
            if monitor.stopped():
                break
            how = (sampler, steps) if alone or forecaster.diffuses else (None, None)
            if how != (sampler, steps):
                monitor.tell(Note("the diffusion model has no weight here: sampler and steps change nothing"))
            paths[window][..., known] = forecaster.paths(
                before, [start], horizon, samples, seed, *how, window=window, alone=alone
            )[0]
        except UserError as error:
            problem = f"window {window + 1} of {windows}, which begins at step {start}: {error}"
            if not done:
                raise UserError(problem) from None
            monitor.tell(Note(problem))
            break
        done += 1
        monitor.tell(Progress(done, windows, "windows"))
    if done < windows:
        if not done:
            raise UserError("stopped before the first window was forecast: there is nothing to score")
        monitor.tell(Note(f"stopped: these are {done} of {windows} windows"))
    return measure(
        series, starts[:done], paths[:done], seed, truth[:done],
        model={"trained": "anew before each window", "mode": mode, "sampler": sampler, "steps": steps},
        cpu_seconds={"to train the models and draw from them": time.process_time() - clock},
    )  # fmt: skip
