"""Grids: the descending times at which a sampler steps. To add one, write a function that returns a `Grid`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from inkwash.diffusion.errors import DiffusionError, require
from inkwash.diffusion.options import COUNT, POSITIVE, UNIT, Range, checked
from inkwash.diffusion.process import Process
from inkwash.diffusion.schedule import NoiseLevel


@dataclass(frozen=True)
class Grid:
    """Descending times in [0, 1] with the noise level of the process at each; any table of times will do.

    Raises DiffusionError for what is no process, fewer than two times, times that do not descend within [0, 1], and a
    schedule whose noise does not grow with t between them.
    """

    process: Any
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.process, Process):
            raise DiffusionError(f"grid: {self.process!r} is no process; of a schedule, take Gaussian(schedule)")
        t = tuple(map(float, self.times))
        object.__setattr__(self, "times", t)
        fits = len(t) > 1 and t[0] <= 1 and t[-1] >= 0
        require(fits, "grid: at least two times are needed, descending from at most 1 to at least 0")
        for step, (a, b) in enumerate(pairwise(self), 1):
            ends = f"from t = {a.t:.6g} to {b.t:.6g}"
            require(a.t > b.t, f"grid, step {step}: {ends}; the times must descend")
            falls = f"grid, step {step}: sigma / alpha does not fall {ends}; a schedule must be monotone in log-SNR"
            require(a.sigma * b.alpha > b.sigma * a.alpha, falls)

    @cached_property
    def levels(self) -> tuple[NoiseLevel, ...]:
        """The noise level at each time."""
        level = self.process.at(np.array(self.times))
        parts = np.broadcast_arrays(level.t, level.alpha, level.sigma)
        return tuple(NoiseLevel(*row) for row in zip(*(part.tolist() for part in parts), strict=True))

    def at(self, t: float) -> NoiseLevel:
        """The level at any time, for solvers that look between two steps."""
        level: NoiseLevel = self.process.at(t)
        return level

    def at_sigma(self, sigma: float) -> NoiseLevel:
        """The level where sigma / alpha is `sigma`, or t = 1 if the schedule does not reach it."""
        return self.at(self.process.schedule.sigma_to_t(sigma))

    def __iter__(self) -> Iterator[NoiseLevel]:
        return iter(self.levels)

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, i: int) -> NoiseLevel:
        return self.levels[i]


@checked(steps=COUNT, start=UNIT, end=UNIT)
def uniform(process: Process, steps: int, start: float = 1.0, end: float = 0.0) -> Grid:
    """`steps` equal steps in t, from `start` to `end`."""
    return Grid(process, tuple(np.linspace(start, end, steps + 1)))


@checked(steps=COUNT, table=COUNT, steps_offset=Range(0, whole=True))
def leading(process: Process, steps: int, table: int = 1000, steps_offset: int = 0) -> Grid:
    """Table indices o, k + o, 2 k + o, ... with k = table // steps and o = `steps_offset`, then clean data: DDIM's
    own spacing (2010.02502), and with o = 1 that of Stable Diffusion 1 and 2.

    It never visits the noisiest entry. Index i lies at t = (i + 1) / table.
    """
    indices = np.arange(_at_most(steps, table))[::-1] * (table // steps)
    most = table - 1 - indices[0]
    require(steps_offset <= most, f"leading: steps_offset = {steps_offset}: at most {most} is possible")
    indices = indices + steps_offset
    return Grid(process, (*((indices + 1) / table), 0.0))


@checked(steps=COUNT, table=COUNT)
def trailing(process: Process, steps: int, table: int = 1000) -> Grid:
    """Equal steps from the noisiest table entry down, rounded to entries (Lin et al. 2023, 2305.08891)."""
    indices = np.round(np.arange(_at_most(steps, table), 0, -1) * (table / steps))
    return Grid(process, (*(indices / table), 0.0))


@checked(steps=COUNT, rho=Range(0.1, 1000), sigma_max=Range(0, above=True), sigma_min=POSITIVE)
def karras(
    process: Process, steps: int, rho: float = 7.0, sigma_max: float | None = None, sigma_min: float | None = None
) -> Grid:
    """Noise levels sigma / alpha = (h + i / (steps - 1) (l - h))^rho, h and l the rho-th roots of the ends; then t =
    0.

    The ends are those of the schedule, `sigma_max` and `sigma_min`: of a table its own, else 80 and 0.002; they are
    clipped to what the schedule reaches. EDM (Karras et al. 2022, 2206.00364), equation 5.
    """

    def between(high: float, low: float, count: int) -> np.ndarray:
        return np.linspace(high ** (1 / rho), low ** (1 / rho), count) ** rho

    return _levels("karras", process, steps, sigma_max, sigma_min, between)


@checked(steps=COUNT, sigma_max=Range(0, above=True), sigma_min=POSITIVE)
def exponential(process: Process, steps: int, sigma_max: float | None = None, sigma_min: float | None = None) -> Grid:
    """Equal steps in log-SNR between two noise levels sigma / alpha, ends as in `karras`, then t = 0.

    DPM-Solver (Lu et al. 2022, 2206.00927).
    """
    return _levels("exponential", process, steps, sigma_max, sigma_min, np.geomspace)


@checked(steps=COUNT, a=Range(0.5, 100), b=Range(0.5, 100), table=Range(2, whole=True))
def beta(process: Process, steps: int, a: float = 0.6, b: float = 0.6, table: int | None = None) -> Grid:
    """Times at equal steps of the quantiles of a beta distribution: dense at both ends where a, b < 1.

    Beta sampling (Lee et al. 2024, 2407.12173). The distribution function is summed over x = sin^2 u, where its
    density sin^(2a - 1) u cos^(2b - 1) u is finite for a, b >= 1/2, and u = (3 - 2 w) w^2 pi / 2, where it is smooth.
    With a `table`, as in ComfyUI, quantile q is entry round(q (table - 1)), and steps that meet in one entry are one.
    """
    w = np.linspace(0, 1, 20_001)
    u = (3 - 2 * w) * w**2 * (np.pi / 2)
    density = np.sin(u) ** (2 * a - 1) * np.abs(np.cos(u)) ** (2 * b - 1) * w * (1 - w)
    cumulative = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    quantiles = np.interp(np.linspace(1, 0, steps + 1), cumulative / cumulative[-1], u)
    if table is not None:
        entries = np.rint(np.sin(quantiles[:-1]) ** 2 * (table - 1))
        return Grid(process, (*((np.unique(entries)[::-1] + 1) / table), 0.0))
    return Grid(process, (1.0, *(np.sin(quantiles[1:-1]) ** 2), 0.0))


@checked(steps=COUNT, table=COUNT)
def normal(process: Process, steps: int, table: int = 1000) -> Grid:
    """Equal steps over the table from its last entry to its first, then t = 0: "normal" of ComfyUI, "uniform" of
    A1111. Between two entries log (sigma / alpha) is linear."""
    return _entries(process, np.linspace(table - 1, 0, steps), table)


@checked(steps=COUNT, table=COUNT)
def sgm_uniform(process: Process, steps: int, table: int = 1000) -> Grid:
    """One equal step fewer than `normal` goes, the last one leading from above the first entry to t = 0, as in
    Stability AI's generative models."""
    return _entries(process, np.linspace(table - 1, 0, steps + 1)[:-1], table)


@checked(steps=COUNT, table=COUNT)
def simple(process: Process, steps: int, table: int = 1000) -> Grid:
    """Entries counted from the last, floor(i (table / steps)) for i = 0, 1, ..., then t = 0: "simple" of ComfyUI."""
    return _entries(process, table - 1 - np.floor(np.arange(_at_most(steps, table)) * (table / steps)), table)


@checked(steps=COUNT, table=Range(2, whole=True))
def ddim_uniform(process: Process, steps: int, table: int = 1000) -> Grid:
    """Entries 1, 1 + k, 1 + 2 k, ... with k = table // steps, as many as there are, so that there may be more steps,
    then t = 0: "ddim_uniform" of ComfyUI. `leading` with `steps_offset` 1 has exactly `steps`."""
    return _entries(process, np.arange(1, table, table // _at_most(steps, table))[::-1], table)


@checked(steps=COUNT, sigma_max=Range(0, above=True), sigma_min=POSITIVE)
def kl_optimal(process: Process, steps: int, sigma_max: float | None = None, sigma_min: float | None = None) -> Grid:
    """Equal steps of the arc tangent of sigma / alpha between two noise levels, ends as in `karras`, then t = 0.

    Align Your Steps (Sabour et al. 2024, 2404.14507), the optimum of its bound for Gaussian data of variance 1.
    """
    return _levels("kl_optimal", process, steps, sigma_max, sigma_min, _between_angles)


def _between_angles(high: float, low: float, count: int) -> np.ndarray:
    return np.tan(np.linspace(np.arctan(high), np.arctan(low), count))


@checked(steps=COUNT, threshold=Range(0, 1, above=True))
def linear_quadratic(process: Process, steps: int, threshold: float = 0.025) -> Grid:
    """Noise levels (1 - y) sigma_max of a flow, sigma / alpha of other schedules: y grows in equal steps to
    `threshold` in the first half of the steps, and as a parabola that goes on smoothly to 1 in the second.

    Movie Gen (Polyak et al. 2024, 2410.13720), in the form of Mochi 1.
    """
    linear = max(steps // 2, 1)
    i, j = np.arange(steps + 1), np.arange(steps + 1) - linear
    slope, rest = threshold / linear, max(steps - linear, 1)
    curve = (1 - threshold - slope * rest) / rest**2
    y = np.where(i < linear, slope * i, threshold + slope * j + curve * j**2)
    y = y if steps > 1 else np.array([0.0, 1.0])
    require(bool((np.diff(y) > 0).all()), f"linear_quadratic: threshold = {threshold} is too much for {steps} steps")
    schedule = Grid(process, (1.0, 0.0)).process.schedule
    highest = schedule.at(1.0).edm_sigma
    left = 1 - y[1:-1]
    sigmas = left * highest if np.isfinite(highest) else left / y[1:-1]
    return Grid(process, (1.0, *schedule.sigma_to_t(sigmas), 0.0))


ALIGNED = {
    "sd1": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@checked(steps=COUNT)
def align_your_steps(process: Process, steps: int, model: str = "sd1") -> Grid:
    """The noise levels sigma / alpha that Align Your Steps (Sabour et al. 2024, 2404.14507) found best for 10 steps
    of a kind of model ("sd1", "sdxl", "svd"); log-linear between them for other numbers of steps, then t = 0."""
    require(model in ALIGNED, f"align_your_steps: model = {model!r}; {', '.join(ALIGNED)} are there")
    levels = np.log(ALIGNED[model])
    between = np.interp(np.linspace(0, len(levels) - 1, steps + 1)[:-1], np.arange(len(levels)), levels)
    schedule = Grid(process, (1.0, 0.0)).process.schedule
    return Grid(process, (*schedule.sigma_to_t(np.exp(between)), 0.0))


def _entries(process: Process, indices: np.ndarray, table: int) -> Grid:
    """Entries of a table, then t = 0: entry i lies at t = (i + 1) / table, and one between two entries where
    log (sigma / alpha) is between theirs, or t is if there is no signal at the upper one."""
    schedule, times = Grid(process, (1.0, 0.0)).process.schedule, (indices + 1) / table
    for k in np.flatnonzero(indices % 1):
        low, high = (schedule.at((i + 1) / table).lambda_ for i in (np.floor(indices[k]), np.ceil(indices[k])))
        if np.isfinite(high):
            times[k] = schedule.sigma_to_t(np.exp(-low - indices[k] % 1 * (high - low)))
    return Grid(process, (*times, 0.0))


def _levels(
    name: str, process: Process, steps: int, high: float | None, low: float | None, between: Callable[..., np.ndarray]
) -> Grid:
    """`steps` noise levels between two ends, then t = 0, which is itself the lower end where it is not clean."""
    schedule = Grid(process, (1.0, 0.0)).process.schedule
    low = schedule.sigma_min if low is None else low
    high = min(schedule.sigma_max if high is None else high, schedule.at(1.0).edm_sigma)
    floor = schedule.at(0.0).edm_sigma
    ordered = high > max(low, floor)
    require(ordered, f"{name}: sigma_max = {high:.6g} must be above sigma_min = {max(low, floor):.6g}")
    sigmas = between(high, low, steps) if low > floor else between(high, floor, steps + 1)[:-1]
    return Grid(process, (*schedule.sigma_to_t(sigmas), 0.0))


def _at_most(steps: int, table: int) -> int:
    require(steps <= table, f"steps = {steps}: at most the table's {table} are possible")
    return steps


_all = (
    *(uniform, leading, trailing, karras, exponential, beta),
    *(normal, sgm_uniform, simple, ddim_uniform, kl_optimal, linear_quadratic, align_your_steps),
)
GRIDS: dict[str, Callable[..., Grid]] = {grid.__name__: grid for grid in _all}
