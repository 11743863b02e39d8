"""Schedules: how much signal, alpha(t), and how much noise, sigma(t), there is at time t.

Time runs from t = 0 (data) to t = 1 (noise) and `x_t = alpha(t) x_0 + sigma(t) noise`. A schedule is three
formulas and holds no state; a sampler sees it only as `Point`s. To add one, write a function that returns a
`Schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from inkwash.diffusion.arrays import Array, interpolate, namespace


class Point(NamedTuple):
    """One time with what a Gaussian process needs there.

    In sampling the fields are Python floats, so that a step keeps the dtype of the state; in training they are
    arrays of shape (batch, 1, ..., 1).
    """

    t: Array
    alpha: Array
    sigma: Array

    @property
    def snr(self) -> Array:
        """Signal-to-noise ratio, alpha^2 / sigma^2; infinite at sigma = 0."""
        if isinstance(self.sigma, float) and self.sigma == 0:
            return math.inf
        return (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> float:
        """log(alpha^2 / sigma^2) of a point of floats: -inf at alpha = 0, +inf at sigma = 0."""
        if self.alpha == 0:
            return -math.inf
        return math.inf if self.sigma == 0 else 2 * math.log(self.alpha / self.sigma)


@dataclass(frozen=True)
class Schedule:
    """alpha(t), sigma(t) on arrays of times, and `time(ratio)`: the t at which sigma / alpha = ratio.

    sigma / alpha must grow with t.
    """

    alpha: Callable[[Array], Array]
    sigma: Callable[[Array], Array]
    time: Callable[[float], float]

    def at(self, t: Array) -> Point:
        """The point at `t`: of Python floats for a number, of arrays for an array."""
        if isinstance(t, (int, float)):
            return Point(float(t), float(self.alpha(float(t))), float(self.sigma(float(t))))
        return Point(t, self.alpha(t), self.sigma(t))


def linear_beta(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """Variance preserving with beta(t) = beta_min + t (beta_max - beta_min).

    log alpha(t) = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2, sigma^2 = 1 - alpha^2.
    Score SDE (Song et al. 2021, 2011.13456), equation 33: DDPM's linear betas (Ho et al. 2020, 2006.11239) in
    continuous time. For a checkpoint trained on 1,000 betas take `betas` and the table itself.
    """
    slope = beta_max - beta_min

    def decay(t: Array) -> Array:  # -2 log alpha
        return t * beta_min + t**2 * (slope / 2)

    def time(ratio: float) -> float:
        y = math.log1p(ratio**2)
        return 2 * y / (beta_min + math.sqrt(beta_min**2 + 2 * slope * y))

    return Schedule(
        alpha=lambda t: namespace(t).exp(decay(t) / -2),
        sigma=lambda t: namespace(t).sqrt(-namespace(t).expm1(-decay(t))),
        time=time,
    )


def cosine(offset: float = 0.008) -> Schedule:
    """Variance preserving with alpha(t) = cos(u(t)) / cos(u(0)), u(t) = (t + offset) / (1 + offset) pi / 2.

    Improved DDPM (Nichol & Dhariwal 2021, 2102.09672), equation 17, without its clipping of betas: alpha(1) = 0.
    """
    scale = math.pi / 2 / (1 + offset)
    start = offset * scale

    def sigma(t: Array) -> Array:  # cos^2 u(0) - cos^2 u, as a product: exact where sigma is small
        sin = namespace(t).sin
        return namespace(t).sqrt(sin(t * scale) * sin(t * scale + 2 * start)) / math.cos(start)

    def time(ratio: float) -> float:
        return (math.acos(math.cos(start) / math.hypot(1, ratio)) - start) / scale

    return Schedule(lambda t: namespace(t).sin((1 - t) * scale) / math.cos(start), sigma, time)


def rectified_flow() -> Schedule:
    """A straight line from data to noise: alpha(t) = 1 - t, sigma(t) = t.

    Flow matching (Lipman et al. 2023, 2210.02747), rectified flow (Liu et al. 2023, 2209.03003).
    """
    return Schedule(lambda t: 1 - t, lambda t: t, lambda ratio: ratio / (1 + ratio))


def betas(table: Sequence[float] | np.ndarray) -> Schedule:
    """Variance preserving from any table of T betas, as trained checkpoints use.

    alpha^2(i / T) = (1 - beta_1) ... (1 - beta_i), so table index i = 0, ..., T - 1 lies at t = (i + 1) / T and
    t = 0 is clean data; between table entries sigma / alpha is linear in t. DDPM (Ho et al. 2020, 2006.11239).

    Raises ValueError unless 0 < beta < 1 for every entry.
    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values > 0) & (values < 1)).all():
        raise ValueError("betas: a table of numbers between 0 and 1, both excluded, is needed")
    log_alpha_bar = np.concatenate([[0.0], np.cumsum(np.log1p(-values))])
    ratios = np.sqrt(np.expm1(-log_alpha_bar))  # sigma / alpha; 0 at t = 0
    times = np.linspace(0, 1, len(ratios))

    def alpha(t: Array) -> Array:
        return 1 / namespace(t).sqrt(1 + interpolate(t, ratios) ** 2)

    return Schedule(
        alpha,
        sigma=lambda t: interpolate(t, ratios) * alpha(t),
        time=lambda ratio: float(np.interp(ratio, ratios, times)),
    )
