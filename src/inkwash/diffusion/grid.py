"""Grids: the descending times at which a sampler steps. To add one, write a function that returns a `Grid`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.process import Gaussian
from inkwash.diffusion.schedule import Point


class Grid:
    """Descending times in [0, 1] with the point of the process at each; any table of times will do.

    Raises DiffusionError for fewer than two times, times that do not descend within [0, 1], and a schedule whose
    noise does not grow with t between them.
    """

    def __init__(self, process: Gaussian, times: Iterable[float]) -> None:
        self.process = process
        points = np.broadcast_arrays(*process.at(np.array([float(t) for t in times])))
        self.points = tuple(Point(*row) for row in zip(*(part.tolist() for part in points), strict=True))
        t = [point.t for point in self.points]
        if len(t) < 2 or not t[0] <= 1 or not t[-1] >= 0:
            raise DiffusionError("grid: at least two times are needed, descending from at most 1 to at least 0")
        for step, (a, b) in enumerate(pairwise(self.points), 1):
            if not a.t > b.t:
                raise DiffusionError(f"grid, step {step}: from t = {a.t:.6g} to {b.t:.6g}; the times must descend")
            if not a.sigma * b.alpha > b.sigma * a.alpha:
                raise DiffusionError(
                    f"grid, step {step}: sigma / alpha does not fall from t = {a.t:.6g} to {b.t:.6g}; a schedule "
                    "must be monotone in log-SNR"
                )

    def at(self, t: float) -> Point:
        """The point at any time, for solvers that look between two steps."""
        return self.process.at(t)

    def at_ratio(self, ratio: float) -> Point:
        """The point where sigma / alpha = ratio, or t = 1 if the schedule does not reach it."""
        return self.process.at(min(self.process.schedule.time(ratio), 1.0))

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, i: int) -> Point:
        return self.points[i]


def uniform(process: Gaussian, steps: int, start: float = 1.0, end: float = 0.0) -> Grid:
    """`steps` equal steps in t, from `start` to `end`."""
    return Grid(process, np.linspace(start, end, _checked(steps) + 1))


def leading(process: Gaussian, steps: int, table: int = 1000) -> Grid:
    """Table indices 0, k, 2k, ... with k = table // steps, then clean data: DDIM's own spacing (2010.02502).

    It never visits the noisiest entry. Index i lies at t = (i + 1) / table.
    """
    indices = np.arange(_checked(steps, table))[::-1] * (table // steps)
    return Grid(process, [*((indices + 1) / table), 0.0])


def trailing(process: Gaussian, steps: int, table: int = 1000) -> Grid:
    """Equal steps from the noisiest table entry down, rounded to entries (Lin et al. 2023, 2305.08891)."""
    indices = np.round(np.arange(_checked(steps, table), 0, -1) * (table / steps))
    return Grid(process, [*(indices / table), 0.0])


def karras(process: Gaussian, steps: int, rho: float = 7.0, highest: float = 80.0, lowest: float = 0.002) -> Grid:
    """Noise levels sigma / alpha = (h + i / (steps - 1) (l - h))^rho, h and l the rho-th roots of the ends.

    Then t = 0. The ends are clipped to what the schedule reaches. EDM (Karras et al. 2022, 2206.00364), equation 5.
    """

    def between(high: float, low: float, count: int) -> np.ndarray:
        return np.linspace(high ** (1 / rho), low ** (1 / rho), count) ** rho

    return _levels(process, steps, highest, lowest, between)


def log_snr(process: Gaussian, steps: int, highest: float = 80.0, lowest: float = 0.002) -> Grid:
    """Equal steps in log-SNR between two noise levels sigma / alpha, clipped as in `karras`, then t = 0.

    DPM-Solver (Lu et al. 2022, 2206.00927); elsewhere called exponential.
    """
    return _levels(process, steps, highest, lowest, np.geomspace)


def beta(process: Gaussian, steps: int, a: float = 0.6, b: float = 0.6) -> Grid:
    """Times at equal steps of the quantiles of a beta distribution: dense at both ends where a, b < 1.

    Beta sampling (Lee et al. 2024, 2407.12173). The distribution function is summed over x = sin^2 u, where its
    density sin^(2a - 1) u cos^(2b - 1) u is finite for a, b >= 1/2.
    """
    u = np.linspace(0, np.pi / 2, 20_001)
    density = np.sin(u) ** (2 * a - 1) * np.abs(np.cos(u)) ** (2 * b - 1)
    cumulative = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    quantiles = np.interp(np.linspace(1, 0, _checked(steps) + 1), cumulative / cumulative[-1], u)
    return Grid(process, [1.0, *(np.sin(quantiles[1:-1]) ** 2), 0.0])


def _levels(
    process: Gaussian, steps: int, highest: float, lowest: float, between: Callable[[float, float, int], np.ndarray]
) -> Grid:
    """`steps` noise levels between two ends, then t = 0, which is itself the lower end where it is not clean."""
    high, floor, count = min(highest, process.at(1.0).ratio), process.at(0.0).ratio, _checked(steps)
    ratios = between(high, lowest, count) if lowest > floor else between(high, floor, count + 1)[:-1]
    times = (min(process.schedule.time(float(ratio)), 1.0) for ratio in ratios)  # rounding may step over the end
    return Grid(process, [*times, 0.0])


def _checked(steps: int, most: int | None = None) -> int:
    if steps != int(steps) or steps < 1 or (most is not None and steps > most):
        raise DiffusionError(f"steps = {steps}: a whole number from 1{f' to {most}' if most else ''} is needed")
    return int(steps)
