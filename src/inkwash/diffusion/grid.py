"""Grids: the descending times at which a sampler steps. To add one, write a function that returns a `Grid`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from inkwash.diffusion.process import Gaussian
from inkwash.diffusion.schedule import Point


class Grid:
    """Descending times in [0, 1] with the point of the process at each; any table of times will do.

    Raises ValueError for fewer than two times, or times that do not descend within [0, 1].
    """

    def __init__(self, process: Gaussian, times: Iterable[float]) -> None:
        self.process = process
        self.points = tuple(process.at(float(t)) for t in times)
        t = [point.t for point in self.points]
        if len(t) < 2 or not t[0] <= 1 or not t[-1] >= 0 or any(a <= b for a, b in pairwise(t)):
            raise ValueError("grid: at least two times are needed, descending from at most 1 to at least 0")

    def at(self, t: float) -> Point:
        """The point at any time, for solvers that look between two steps."""
        return self.process.at(t)

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
    """Noise levels sigma / alpha = (h + i / (steps - 1) (l - h))^rho, h and l the rho-th roots of the ends, then 0.

    The ends are clipped to what the schedule reaches. EDM (Karras et al. 2022, 2206.00364), equation 5.
    """
    last = process.at(1.0)
    reach = highest if last.alpha == 0 else min(highest, last.sigma / last.alpha)
    ramp = np.linspace(reach ** (1 / rho), lowest ** (1 / rho), _checked(steps)) ** rho
    times = (min(process.schedule.time(float(ratio)), 1.0) for ratio in ramp)  # rounding may step over the end
    return Grid(process, [*times, 0.0])


def _checked(steps: int, most: int | None = None) -> int:
    if steps < 1 or (most is not None and steps > most):
        raise ValueError(f"steps = {steps}: a whole number from 1{f' to {most}' if most else ''} is needed")
    return steps
