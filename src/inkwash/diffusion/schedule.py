"""Schedules: how much signal, alpha(t), and how much noise, sigma(t), there is at time t.

Time runs from t = 0 (data) to t = 1 (noise) and `x_t = alpha(t) x_0 + sigma(t) noise`. A schedule is these two
formulas; a sampler sees it only as `NoiseLevel`s. To add one, write a function that returns them, under `schedule`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from inkwash.diffusion.arrays import Array, double, interpolation, namespace, require_all
from inkwash.diffusion.errors import require
from inkwash.diffusion.options import COUNT, NOT_NEGATIVE, POSITIVE, REAL, Bound, Range, checked


class NoiseLevel(NamedTuple):
    """One time with what a Gaussian process needs there.

    In sampling the numbers are Python floats, so that a step keeps the dtype of the state; in training they are
    arrays of shape (batch, 1, ..., 1). `s` is the level that a step leads to, for networks of two times.
    """

    t: Array
    alpha: Array
    sigma: Array
    s: NoiseLevel | None = None

    def map(self, f: Callable[[Array], Array]) -> NoiseLevel:
        """The level with f of its numbers."""
        return NoiseLevel(f(self.t), f(self.alpha), f(self.sigma), self.s and self.s.map(f))

    @property
    def snr(self) -> Array:
        """Signal-to-noise ratio, alpha^2 / sigma^2; infinite at sigma = 0."""
        if isinstance(self.sigma, float) and self.sigma == 0:
            return math.inf
        return (self.alpha / self.sigma) ** 2

    @property
    def edm_sigma(self) -> float:
        """sigma / alpha, the noise level of EDM, of a level of floats; infinite at alpha = 0."""
        return math.inf if self.alpha == 0 else self.sigma / self.alpha

    @property
    def lambda_(self) -> float:
        """log(alpha / sigma) of a level of floats: -inf at alpha = 0, +inf at sigma = 0."""
        if self.alpha == 0:
            return -math.inf
        return math.inf if self.sigma == 0 else math.log(self.alpha / self.sigma)


class Formulas(NamedTuple):
    """alpha(t) and sigma(t) on arrays of times. Grids that are given no ends go from `sigma_max` to `sigma_min`, of
    sigma / alpha: EDM's own, or those of a table."""

    alpha: Callable[[Array], Array]
    sigma: Callable[[Array], Array]
    sigma_min: float = 0.002
    sigma_max: float = 80.0


class Schedule(Bound):
    """The formulas that a function has made of its options: see `schedule`."""

    def at(self, t: Array) -> NoiseLevel:
        """The level at `t`: of Python floats for a number, of arrays for an array.

        Raises DiffusionError for a time that is not from 0 to 1.
        """
        t = float(t) if isinstance(t, Real) else t
        inside = (t >= 0) & (t <= 1)
        needed = "t{}: from 0 (data) to 1 (noise) is needed; of entry i of T, (i + 1) / T"
        require_all(inside, needed, lambda: f" = {t if isinstance(t, float) else t[~inside].reshape(-1)[0].item()}")
        level = NoiseLevel(t, self.made.alpha(t), self.made.sigma(t))
        return level.map(float) if isinstance(t, float) else level

    def sigma_to_t(self, sigma: Array) -> Array:
        """The time at which sigma / alpha is that number, of each number of an array: searched among 64 parts of
        [0, 1], then of the part, and so on, to the last bit. 0 and 1 where it is never so low or so high."""
        xp, device = namespace(sigma), getattr(sigma, "device", None)
        wanted = xp.asarray(sigma, dtype=double(xp, device), device=device)[..., None]
        require_all(wanted == wanted, "sigma_to_t: a noise level is not a number (NaN)")
        wanted = xp.clip(wanted, None, xp.finfo(wanted.dtype).max)
        t, width, parts = xp.zeros_like(wanted), 1.0, xp.arange(65, device=device) / 64
        for _ in range(9):
            level = self.at(t + width * parts)
            below = (level.sigma < wanted * level.alpha).sum(-1)[..., None]
            t, width = t + width / 64 * xp.clip(below - 1, 0, 63), width / 64
        t = xp.where((t > 0) | (below > 0), t + width, 0.0)[..., 0]
        return t if np.ndim(sigma) else float(t)


def schedule(**ranges: Range) -> Callable[[Callable[..., Formulas]], Callable[..., Schedule]]:
    """Makes a function from options to `Formulas` one to a `Schedule`, which pickles and is equal by its options.

    Raises DiffusionError for an option out of its range, and where sigma / alpha does not grow with t.
    """

    def decorate(f: Callable[..., Formulas]) -> Callable[..., Schedule]:
        def growing(*args: Any, **options: Any) -> Formulas:
            formulas, t = f(*args, **options), np.linspace(0.01, 1, 9)
            alpha, sigma = np.broadcast_arrays(formulas.alpha(t), formulas.sigma(t))
            grows = (sigma[1:] * alpha[:-1] > sigma[:-1] * alpha[1:]).all()
            require(grows, f"{f.__name__}: sigma / alpha does not grow with t")
            return formulas

        made: Callable[..., Schedule] = checked(Schedule, **ranges)(functools.wraps(f)(growing))
        return made

    return decorate


@schedule(beta_min=NOT_NEGATIVE, beta_max=POSITIVE)
def linear_beta(beta_min: float = 0.1, beta_max: float = 20.0) -> Formulas:
    """Variance preserving with beta(t) = beta_min + t (beta_max - beta_min).

    log alpha(t) = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2, sigma^2 = 1 - alpha^2.
    Score SDE (Song et al. 2021, 2011.13456), equation 33: DDPM's linear betas (Ho et al. 2020, 2006.11239) in
    continuous time. For a checkpoint trained on 1,000 betas take `betas` and the table itself.
    """
    decay = _linear(beta_min, beta_max)
    return Formulas(
        lambda t: namespace(t).exp(decay(t) / -2), lambda t: namespace(t).sqrt(-namespace(t).expm1(-decay(t)))
    )


@schedule(beta_min=NOT_NEGATIVE, beta_max=POSITIVE)
def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Formulas:
    """The alpha of `linear_beta` with less noise, sigma = 1 - alpha^2: the sub-VP SDE of Score SDE (2011.13456)."""
    decay = _linear(beta_min, beta_max)
    return Formulas(lambda t: namespace(t).exp(decay(t) / -2), lambda t: -namespace(t).expm1(-decay(t)))


def _linear(beta_min: float, beta_max: float) -> Callable[[Array], Array]:
    """-2 log alpha(t) for betas that grow linearly."""
    return lambda t: t * beta_min + t**2 * ((beta_max - beta_min) / 2)


@schedule(offset=NOT_NEGATIVE, shift=POSITIVE)
def cosine(offset: float = 0.008, shift: float = 1.0) -> Formulas:
    """Variance preserving with alpha(t) = cos(u(t)) / cos(u(0)), u(t) = (t + offset) / (1 + offset) pi / 2.

    Improved DDPM (Nichol & Dhariwal 2021, 2102.09672), equation 17, without its clipping of betas: alpha(1) = 0.
    shift: how many times sigma / alpha is that of the cosine alone at each t, d / 64 for pictures of d x d pixels:
    neighbours that are alike tell each other through more noise (simple diffusion, Hoogeboom et al. 2023,
    2301.11093).
    """
    scale = math.pi / 2 / (1 + offset)
    start = offset * scale

    def plain_sigma(t: Array) -> Array:  # cos^2 u(0) - cos^2 u, as a product: exact where sigma is small
        sin = namespace(t).sin
        return namespace(t).sqrt(sin(t * scale) * sin(t * scale + 2 * start)) / math.cos(start)

    def norm(t: Array) -> Array:
        return namespace(t).sqrt(1 + (shift**2 - 1) * plain_sigma(t) ** 2)

    return Formulas(
        lambda t: namespace(t).sin((1 - t) * scale) / math.cos(start) / norm(t),
        lambda t: shift * plain_sigma(t) / norm(t),
    )


@schedule(start=REAL, end=REAL, tau=POSITIVE)
def sigmoid(start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Formulas:
    """Variance preserving with alpha^2(t) = (S(end) - S(u(t))) / (S(end) - S(start)), u(t) = start + t (end - start).

    S(u) = 1 / (1 + exp(-u / tau)). Jabri et al. 2023, 2212.11972, algorithm 1.
    """

    def squashed(t: Array) -> Array:
        return 1 / (1 + namespace(t).exp((start + t * (end - start)) / -tau))

    low, high = float(squashed(0.0)), float(squashed(1.0))
    require(low != high, f"sigmoid: start = {start} and end = {end} must differ")
    return _preserving(lambda t: (squashed(t) - low) / (high - low))


@schedule(offset=Range(0, 0.999))
def sqrt(offset: float = 1e-4) -> Formulas:
    """Variance preserving with alpha^2(t) = 1 - sqrt(offset + (1 - offset) t).

    Diffusion-LM (Li et al. 2022, 2205.14217), appendix A, where t + offset stands under the root and runs over 1. It
    does not begin clean: sigma(0) = offset^(1/4), 0.1 for the usual offset.
    """
    return _preserving(lambda t: namespace(t).sqrt(offset + (1 - offset) * t))


def _preserving(variance: Callable[[Array], Array]) -> Formulas:
    """alpha^2 + sigma^2 = 1, from sigma^2(t); rounding never leaves [0, 1]."""

    def clipped(t: Array) -> Array:
        return namespace(t).clip(namespace(t).asarray(variance(t)), 0, 1)

    return Formulas(lambda t: namespace(t).sqrt(1 - clipped(t)), lambda t: namespace(t).sqrt(clipped(t)))


@schedule(sigma_min=POSITIVE, sigma_max=POSITIVE)
def variance_exploding(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Formulas:
    """alpha = 1, sigma^2(t) = sigma_min^2 ((sigma_max / sigma_min)^(2 t) - 1): geometric noise levels.

    The variance of the SDE from which it comes, Score SDE (2011.13456); the paper leaves the -1 out,
    which matters near `sigma_min` only and makes t = 0 clean.
    """
    require(
        sigma_min < sigma_max, f"variance_exploding: sigma_max = {sigma_max} must be above sigma_min = {sigma_min}"
    )
    log = math.log(sigma_max / sigma_min)

    def sigma(t: Array) -> Array:
        return sigma_min * namespace(t).sqrt(namespace(t).expm1(2 * log * t))

    return Formulas(lambda t: 1 - 0 * t, sigma, sigma_min, sigma_max)


@schedule(sigma_max=POSITIVE)
def edm_schedule(sigma_max: float = 80.0) -> Formulas:
    """alpha = 1, sigma = sigma_max * t: time is the noise level itself. EDM (Karras et al. 2022, 2206.00364), table
    1."""
    return Formulas(lambda t: 1 - 0 * t, lambda t: sigma_max * t, 0.002, sigma_max)


@schedule(shift=POSITIVE)
def rectified_flow(shift: float = 1.0) -> Formulas:
    """A straight line from data to noise, alpha = 1 - u, sigma = u, with u = shift t / (1 + (shift - 1) t).

    Flow matching (Lipman et al. 2023, 2210.02747), rectified flow (Liu et al. 2023, 2209.03003). A model of pictures
    m times as large needs shift = sqrt(m): the resolution shift of Stable Diffusion 3 (2403.03206), equation 23.
    """

    return Formulas(lambda t: (1 - t) / (1 + (shift - 1) * t), lambda t: shift * t / (1 + (shift - 1) * t))


@checked(beta_min=POSITIVE, beta_max=POSITIVE, count=COUNT)
def scaled_linear(beta_min: float = 0.00085, beta_max: float = 0.012, count: int = 1000) -> Schedule:
    """`betas` whose square roots grow linearly: the table of latent diffusion (2112.10752) and Stable Diffusion."""
    return betas(np.linspace(beta_min**0.5, beta_max**0.5, count) ** 2)


@checked(tokens=COUNT)
def flux_shift(tokens: int) -> float:
    """The shift of `rectified_flow` for Flux.1's pictures of so many tokens, (height / 16) (width / 16): exp(mu), mu
    linear in the tokens, 0.5 at 256 and 1.15 at 4096."""
    return math.exp(0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256))


def zero_terminal_snr(table: Sequence[float] | np.ndarray) -> np.ndarray:
    """A table of betas rescaled so that its last entry is noise alone, alpha = 0 (Lin et al. 2024, 2305.08891,
    algorithm 1).

    alpha is shifted and stretched: the first entry keeps its value, the last becomes 0.
    """
    alpha = np.sqrt(np.cumprod(1 - np.asarray(table, np.float64)))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return 1 - np.concatenate([alpha[:1], alpha[1:] / alpha[:-1]]) ** 2


@schedule()
def betas(table: Sequence[float] | np.ndarray) -> Formulas:
    """Variance preserving from any table of T betas, as trained checkpoints use.

    alpha^2(i / T) = (1 - beta_1) ... (1 - beta_i), so table index i = 0, ..., T - 1 lies at t = (i + 1) / T and
    t = 0 is clean data; between table entries sigma / alpha is linear in t. DDPM (Ho et al. 2020, 2006.11239).
    The last beta may be 1 (`zero_terminal_snr`); before it, it is alpha / sigma that is linear.

    Raises DiffusionError unless 0 < beta < 1 for every other entry.
    """
    values = np.asarray(table, dtype=np.float64)
    terminal = values.ndim == 1 and len(values) > 1 and values[-1] == 1
    inner = values[:-1] if terminal else values
    fits = inner.ndim == 1 and len(inner) and ((inner > 0) & (inner < 1)).all()
    require(fits, "betas: a table of numbers between 0 and 1, both excluded, is needed")
    sigmas = np.sqrt(np.expm1(-np.concatenate([[0.0], np.cumsum(np.log1p(-inner))])))  # sigma / alpha; 0 at t = 0
    above, below = sigmas, np.ones_like(sigmas)  # sigma / alpha = above / below
    if terminal:
        above, below = np.append(sigmas, sigmas[-1]), np.append(below, 0.0)

    sigma_of, alpha_of = interpolation(above), interpolation(below)  # up to a common factor

    def parts(t: Array) -> tuple[Array, Array]:
        sigma, alpha = sigma_of(t), alpha_of(t)
        length = namespace(t).sqrt(sigma**2 + alpha**2)
        return alpha / length, sigma / length

    return Formulas(lambda t: parts(t)[0], lambda t: parts(t)[1], float(sigmas[1]), float(sigmas[-1]))


_all = (
    linear_beta,
    sub_vp,
    cosine,
    sigmoid,
    sqrt,
    variance_exploding,
    edm_schedule,
    rectified_flow,
    scaled_linear,
    betas,
)
SCHEDULES: dict[str, Callable[..., Schedule]] = {f.__name__: f for f in _all}
