"""Series whose law is known, so that the best score there can be is known too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inkwash.systems.series.data import Series

Future = Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Simulated:
    """Series with a known law.

    future   (history (T, D), horizon, samples, rng) -> paths (S, H, D) of the law itself, given the history
    horizon  the one to forecast
    """

    series: Series
    future: Future
    horizon: int


def vector_autoregression(steps: int = 4000, dims: int = 8, seed: int = 0) -> Simulated:
    """x_t = A x_{t-1} + e_t with correlated normal noise: stationary, each series leaning on its neighbours."""
    rng = np.random.default_rng(seed)
    a = 0.7 * np.eye(dims) + 0.2 * np.eye(dims, k=1) - 0.15 * np.eye(dims, k=-1)
    cholesky = np.linalg.cholesky(0.5 + 0.5 * np.eye(dims))

    def step(past: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
        x: np.ndarray = past[:, -1] @ a.T + rng.standard_normal((len(past), dims)) @ cholesky.T
        return x

    return _simulated(step, np.zeros((1, dims)), steps, 24, "D", rng)


def switch(steps: int = 4000, dims: int = 4, seed: int = 0) -> Simulated:
    """x_t = 0.6 x_{t-1} + c_t + 0.2 e_t: a coin c_t of -1 or 1, the same for all series, makes two modes of each step
    that no normal distribution has."""
    rng = np.random.default_rng(seed)

    def step(past: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
        coin = 2.0 * rng.integers(0, 2, (len(past), 1)) - 1
        x: np.ndarray = 0.6 * past[:, -1] + coin + 0.2 * rng.standard_normal((len(past), dims))
        return x

    return _simulated(step, np.zeros((1, dims)), steps, 12, "D", rng)


def seasonal(steps: int = 24 * 7 * 40, dims: int = 8, seed: int = 0) -> Simulated:
    """Hourly: a day's and a week's shape, and deviations from it that come back after 1, 24 and 168 hours."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, dims)
    size = rng.uniform(0.5, 2.0, dims)

    def shape(t: int) -> np.ndarray:
        day = np.sin(2 * np.pi * t / 24 + phase) + 0.5 * np.sin(4 * np.pi * t / 24 + 2 * phase)
        week = np.where(t % 168 >= 120, 0.4, 1.0)
        return size * (10 + 3 * week * day)

    def step(past: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
        back = sum(c * (past[:, -lag] - shape(t - lag)) for c, lag in ((0.5, 1), (0.2, 24), (0.2, 168)))
        common = rng.standard_normal((len(past), 1))
        noise = 0.6 * common + 0.8 * rng.standard_normal((len(past), dims))
        x: np.ndarray = shape(t) + back + 0.3 * size * noise
        return x

    return _simulated(step, np.stack([shape(t) for t in range(168)]), steps, 24, "h", rng)


SETS = {"vector autoregression": vector_autoregression, "switch": switch, "seasonal": seasonal}


def _simulated(
    step: Callable[[np.ndarray, int, np.random.Generator], np.ndarray],
    start: np.ndarray,
    steps: int,
    horizon: int,
    freq: str,
    rng: np.random.Generator,
) -> Simulated:
    """Walks the law from `start` on; `step` draws the next value of each of (S, T, D) pasts of length t."""

    def future(history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator) -> np.ndarray:
        reach = len(start)
        past = np.repeat(history[None, -reach:], samples, axis=0)
        for h in range(horizon):
            past = np.concatenate([past, step(past[:, -reach:], len(history) + h, rng)[:, None]], axis=1)
        return past[:, reach:]

    values = np.concatenate([start, future(start, steps - len(start), 1, rng)[0]])
    frame = pd.DataFrame(
        values, pd.date_range("2020-01-06", periods=steps, freq=freq), [f"x{i}" for i in range(values.shape[1])]
    )
    return Simulated(Series(frame, frame[[]], freq), future, horizon)
