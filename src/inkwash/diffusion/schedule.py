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
from inkwash.diffusion.errors import DiffusionError


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
    def ratio(self) -> float:
        """sigma / alpha of a point of floats; infinite at alpha = 0."""
        return math.inf if self.alpha == 0 else self.sigma / self.alpha

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
    decay, time = _linear(beta_min, beta_max)
    return Schedule(
        alpha=lambda t: namespace(t).exp(decay(t) / -2),
        sigma=lambda t: namespace(t).sqrt(-namespace(t).expm1(-decay(t))),
        time=lambda ratio: time(math.log1p(ratio**2)),
    )


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """The alpha of `linear_beta` with less noise, sigma = 1 - alpha^2: the sub-VP SDE of Score SDE (2011.13456)."""
    decay, time = _linear(beta_min, beta_max)
    return Schedule(
        alpha=lambda t: namespace(t).exp(decay(t) / -2),
        sigma=lambda t: -namespace(t).expm1(-decay(t)),
        time=lambda ratio: time(2 * math.asinh(ratio / 2)),  # 1 / alpha - alpha = 2 sinh(-log alpha)
    )


def _linear(beta_min: float, beta_max: float) -> tuple[Callable[[Array], Array], Callable[[float], float]]:
    """-2 log alpha(t) for betas that grow linearly, and its inverse."""
    slope = beta_max - beta_min

    def decay(t: Array) -> Array:
        return t * beta_min + t**2 * (slope / 2)

    def time(y: float) -> float:
        return 2 * y / (beta_min + math.sqrt(beta_min**2 + 2 * slope * y))

    return decay, time


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


def sigmoid(start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """Variance preserving with alpha^2(t) = (S(end) - S(u(t))) / (S(end) - S(start)), u(t) = start + t (end - start).

    S(u) = 1 / (1 + exp(-u / tau)). Jabri et al. 2023, 2212.11972, algorithm 1.
    """

    def squashed(t: Array) -> Array:
        return 1 / (1 + namespace(t).exp((start + t * (end - start)) / -tau))

    low, high = float(squashed(0.0)), float(squashed(1.0))

    def time(ratio: float) -> float:
        value = low + (high - low) * ratio**2 / (1 + ratio**2)
        return (tau * math.log(value / (1 - value)) - start) / (end - start)

    return _preserving(lambda t: (squashed(t) - low) / (high - low), time)


def sqrt(offset: float = 1e-4) -> Schedule:
    """Variance preserving with alpha^2(t) = 1 - sqrt(offset + (1 - offset) t).

    Diffusion-LM (Li et al. 2022, 2205.14217), appendix A, where t + offset stands under the root and runs over 1. It
    does not begin clean: sigma(0) = offset^(1/4), 0.1 for the usual offset.
    """

    def time(ratio: float) -> float:
        return max((ratio**2 / (1 + ratio**2)) ** 2 - offset, 0.0) / (1 - offset)

    return _preserving(lambda t: namespace(t).sqrt(offset + (1 - offset) * t), time)


def _preserving(variance: Callable[[Array], Array], time: Callable[[float], float]) -> Schedule:
    """alpha^2 + sigma^2 = 1, from sigma^2(t); rounding never leaves [0, 1]."""

    def clipped(t: Array) -> Array:
        return namespace(t).clip(namespace(t).asarray(variance(t)), 0, 1)

    return Schedule(
        lambda t: namespace(t).sqrt(1 - clipped(t)),
        lambda t: namespace(t).sqrt(clipped(t)),
        time,
    )


def variance_exploding(smallest: float = 0.01, largest: float = 50.0) -> Schedule:
    """alpha = 1, sigma^2(t) = smallest^2 ((largest / smallest)^(2 t) - 1): geometric noise levels.

    The variance of the SDE from which it comes, Score SDE (2011.13456); the paper leaves the -1 out,
    which matters near `smallest` only and makes t = 0 clean.
    """
    log = math.log(largest / smallest)
    return Schedule(
        alpha=lambda t: 1 - 0 * t,
        sigma=lambda t: smallest * namespace(t).sqrt(namespace(t).expm1(2 * log * t)),
        time=lambda ratio: math.log1p((ratio / smallest) ** 2) / (2 * log),
    )


def edm_schedule(largest: float = 80.0) -> Schedule:
    """alpha = 1, sigma = largest * t: time is the noise level itself. EDM (Karras et al. 2022, 2206.00364), table
    1."""
    return Schedule(lambda t: 1 - 0 * t, lambda t: largest * t, lambda ratio: ratio / largest)


def rectified_flow(shift: float = 1.0) -> Schedule:
    """A straight line from data to noise, alpha = 1 - u, sigma = u, with u = shift t / (1 + (shift - 1) t).

    Flow matching (Lipman et al. 2023, 2210.02747), rectified flow (Liu et al. 2023, 2209.03003). A model of pictures
    m times as large needs shift = sqrt(m): the resolution shift of Stable Diffusion 3 (2403.03206), equation 23.
    """

    def sigma(t: Array) -> Array:
        return shift * t / (1 + (shift - 1) * t)

    return Schedule(lambda t: (1 - t) / (1 + (shift - 1) * t), sigma, lambda ratio: ratio / (shift + ratio))


def scaled_linear(beta_min: float = 0.00085, beta_max: float = 0.012, count: int = 1000) -> Schedule:
    """`betas` whose square roots grow linearly: the table of latent diffusion (2112.10752) and Stable Diffusion."""
    return betas(np.linspace(beta_min**0.5, beta_max**0.5, count) ** 2)


def zero_terminal_snr(table: Sequence[float] | np.ndarray) -> np.ndarray:
    """A table of betas rescaled so that its last entry is noise alone, alpha = 0 (Lin et al. 2024, 2305.08891,
    algorithm 1).

    alpha is shifted and stretched: the first entry keeps its value, the last becomes 0.
    """
    alpha = np.sqrt(np.cumprod(1 - np.asarray(table, np.float64)))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return 1 - np.concatenate([alpha[:1], alpha[1:] / alpha[:-1]]) ** 2


def betas(table: Sequence[float] | np.ndarray) -> Schedule:
    """Variance preserving from any table of T betas, as trained checkpoints use.

    alpha^2(i / T) = (1 - beta_1) ... (1 - beta_i), so table index i = 0, ..., T - 1 lies at t = (i + 1) / T and
    t = 0 is clean data; between table entries sigma / alpha is linear in t. DDPM (Ho et al. 2020, 2006.11239).
    The last beta may be 1 (`zero_terminal_snr`); before it, it is alpha / sigma that is linear.

    Raises DiffusionError unless 0 < beta < 1 for every other entry.
    """
    values = np.asarray(table, dtype=np.float64)
    terminal = values.ndim == 1 and len(values) > 1 and values[-1] == 1
    inner = values[:-1] if terminal else values
    if inner.ndim != 1 or not len(inner) or not ((inner > 0) & (inner < 1)).all():
        raise DiffusionError("betas: a table of numbers between 0 and 1, both excluded, is needed")
    ratios = np.sqrt(np.expm1(-np.concatenate([[0.0], np.cumsum(np.log1p(-inner))])))  # sigma / alpha; 0 at t = 0
    above, below = ratios, np.ones_like(ratios)  # sigma / alpha = above / below
    if terminal:
        above, below = np.append(ratios, ratios[-1]), np.append(below, 0.0)
    times = np.arange(len(ratios)) / len(values)

    def length(t: Array) -> Array:
        return namespace(t).sqrt(interpolate(t, above) ** 2 + interpolate(t, below) ** 2)

    def time(ratio: float) -> float:
        if terminal and ratio > ratios[-1]:
            return 1 - float(ratios[-1]) / ratio / len(values)
        return float(np.interp(ratio, ratios, times))

    return Schedule(
        alpha=lambda t: interpolate(t, below) / length(t),
        sigma=lambda t: interpolate(t, above) / length(t),
        time=time,
    )
