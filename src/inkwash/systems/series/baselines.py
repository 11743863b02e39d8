"""Simple forecasts, which a model must beat before it is of use.

Each is a function of the history (T, D), the horizon, the number of paths and a random generator: paths (S, H, D).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from inkwash.systems.series import metrics

Forecast = Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]
WINDOWS = (30, 60, 120, 250, 500, 1000)


def spans(values: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Of series (T, D), NaN where nothing was observed, those that begin and end together: the first row, the row
    after the last, and which (D,) they are. Series without a value are left out."""
    observed = ~np.isnan(values)
    ends = np.where(observed.any(0), [observed.argmax(0), len(values) - observed[::-1].argmax(0)], 0)
    for first, end in np.unique(ends, axis=1).T.tolist():
        if end:
            yield first, end, (ends == [[first], [end]]).all(0)


def last_value(history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """What is will stay: one path, many times."""
    return np.broadcast_to(history[-1], (samples, horizon, history.shape[1]))


def seasonal_naive(
    history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator, season: int = 1
) -> np.ndarray:
    """What was a season ago, plus what that rule has missed by in the past, sampled season by season."""
    ahead = np.arange(horizon) % season
    errors = history[season:] - history[:-season]
    starts = rng.integers(0, max(len(errors) - season, 0) + 1, (samples, -(-horizon // season)))
    sampled = np.take(errors, (starts[..., None] + np.arange(season)).clip(max=len(errors) - 1), axis=0)
    # the errors of later seasons add to those of earlier ones
    added = sampled.cumsum(1).reshape(samples, -1, history.shape[1])[:, :horizon]
    return np.asarray(history[len(history) - season + ahead] + added)


def random_walk(
    history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator, window: int = 60
) -> np.ndarray:
    """A random walk without drift: of its last `window` steps (`changes`), all series of a day together."""
    steps, integrate = changes(history)
    steps = steps[-window:] - steps[-window:].mean(0)
    return integrate(steps[rng.integers(0, len(steps), (samples, horizon))])


def changes(history: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The steps (T - 1, D) of a history, and a function from steps (S, H, D) after it to paths. Steps are log returns
    where all values are positive, else differences."""
    positive = bool((history > 0).all())
    level = np.log(history) if positive else history

    def integrate(steps: np.ndarray) -> np.ndarray:
        paths = level[-1] + steps.cumsum(1)
        return np.asarray(np.exp(paths) if positive else paths)

    return np.diff(level, axis=0), integrate


def choose_random_walk(history: np.ndarray, horizon: int, seed: int = 0, tries: int = 20) -> tuple[Forecast, int]:
    """The random walk whose window was the best one on the last `tries` horizons of the history; and that window."""
    starts = [len(history) - horizon * (k + 1) for k in range(tries)]
    starts = [end for end in starts if end > 2 * horizon]
    fitting = [w for w in WINDOWS if not starts or w < min(starts)] or [WINDOWS[0]]
    truth = np.stack([history[end : end + horizon] for end in starts]) if starts else np.empty((0,))

    def score(window: int) -> float:
        rng = np.random.default_rng(seed)
        paths = np.stack([random_walk(history[:end], horizon, 100, rng, window) for end in starts])
        return metrics.scores(paths, truth)["crps_sum"]

    best = min(fitting, key=score) if starts else fitting[0]
    return partial(random_walk, window=best), best


def vector_autoregression(history: np.ndarray, horizon: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A vector autoregression (statsmodels) of the steps (`changes`), at most five lags by AIC, with normal
    innovations."""
    from statsmodels.tsa.api import VAR

    steps, integrate = changes(history)
    moving = steps.std(0) > 0
    fitted = VAR(steps[:, moving]).fit(maxlags=5, ic="aic")
    lags = fitted.k_ar  # none where AIC finds that nothing follows from the past
    sampled = np.zeros((samples, horizon, history.shape[1]))
    sampled[..., moving] = np.stack(
        [
            fitted.simulate_var(steps=horizon + lags, initial_values=steps[len(steps) - lags :, moving], rng=rng)[
                lags:
            ]
            for _ in range(samples)
        ]
    )
    return integrate(sampled)


def default_baselines(season: int) -> dict[str, Forecast]:
    """Those that need no training, by name."""
    rules: dict[str, Forecast] = {"last value": last_value, "random walk": random_walk}
    if season > 1:
        rules["a season ago"] = partial(seasonal_naive, season=season)
    return rules


def rolling_forecasts(
    forecast: Forecast, values: np.ndarray, starts: list[int], horizon: int, samples: int, seed: int = 0
) -> np.ndarray:
    """A baseline from several starts: (W, S, H, D)."""
    return np.stack([forecast(values[:end], horizon, samples, np.random.default_rng([seed, end])) for end in starts])
