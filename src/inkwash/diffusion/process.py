"""Processes: what noise does to one field, and the one-step way back.

`Gaussian` adds noise to any array, `Torus` to coordinates that wrap, `ZeroCoM` to point sets without a place; tokens
have their own module, `categorical`. docs/process.md shows how to write another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from inkwash.diffusion.arrays import Array, finite, like, linear_combination, mask_like, name_of, namespace
from inkwash.diffusion.arrays import on_host, require_all
from inkwash.diffusion.errors import DiffusionError, require
from inkwash.diffusion.options import POSITIVE, check
from inkwash.diffusion.schedule import NoiseLevel, Schedule

if TYPE_CHECKING:
    from inkwash.diffusion.noise import Noise


class Prediction(NamedTuple):
    """What is clean, seen from x_t: E[x_0 | x_t]; of tokens, the logits of each symbol.

    `variance` places the variance of the reverse step, on a scale of logarithms, between the least it can be (0, that
    of q(x_s | x_t, x_0)) and the most (1, the noise added between s and t); None is 0. See `Gaussian.transition`.
    `extra` holds by-products of the network, batch first (class scores, logits), for guides, hooks and losses.
    """

    x0: Array
    variance: Array | None = None
    extra: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Normal:
    """N(mean, std^2), independent in every element: the transition of a Gaussian process.

    `std` is a float, or an array that broadcasts against `mean` where the variance is learned.
    """

    mean: Array
    std: Array

    def sample(self, noise: Noise) -> Array:
        """mean + std * noise. Where std is the number 0, nothing is drawn."""
        return self.mean if self.deterministic else self.shifted(noise.normal())

    def shifted(self, z: Array) -> Array:
        """mean + std z, for standard normal numbers z."""
        return linear_combination([z, self.mean], [self.std, 1.0])

    def log_prob(self, x: Array) -> Array:
        """Elementwise log density, in nats; the caller sums over the elements it needs.

        Raises DiffusionError where std is the number 0: a deterministic step has no density.
        """
        return -(((x - self.mean) / self.std) ** 2) / 2 - self._log_std() - math.log(2 * math.pi) / 2

    @property
    def deterministic(self) -> bool:
        """Whether all is in one point, without a density."""
        return isinstance(self.std, float) and self.std == 0

    def take(self, rows: Array) -> Self:
        """The distribution of other samples of the batch."""
        std = self.std if isinstance(self.std, float) else self.std[rows]
        return replace(self, mean=self.mean[rows], std=std)

    def kl(self, other: Normal) -> Array:
        """KL(self, other) elementwise, in nats:
        log(std' / std) + (std^2 + (mean - mean')^2) / (2 std'^2) - 1/2."""
        spread = (self.std / other.std) ** 2 + ((self.mean - other.mean) / other.std) ** 2
        return other._log_std() - self._log_std() + spread / 2 - 0.5

    def _log_std(self) -> Array:
        if not isinstance(self.std, float):
            return namespace(self.std).log(self.std)
        if self.deterministic:
            raise DiffusionError("a deterministic transition (std = 0) has no density: take a sampler with noise")
        return math.log(self.std)


@dataclass(frozen=True)
class WrappedNormal(Normal):
    """A normal distribution wound around a circle: density(x) = sum_k N(x + k period; mean, std^2)."""

    period: float = 1.0

    def shifted(self, z: Array) -> Array:
        """(mean + std z) modulo the period, in [0, period)."""
        return wrap(super().shifted(z), self.period)

    def log_prob(self, x: Array) -> Array:
        """Elementwise log density on the circle, in nats."""
        std, rest, images = self._images(x)
        more = namespace(x).log(sum(weight for _, weight in images))
        return Normal(0.0, std).log_prob(rest) + more

    def score(self, x: Array) -> Array:
        """d log density / dx, elementwise: -(the mean distance over the images) / std^2."""
        std, rest, images = self._images(x)
        total = sum(weight for _, weight in images)
        return -(rest + sum(shift * weight for shift, weight in images) / total) / std**2

    def kl(self, other: Normal) -> Array:
        """Not defined: Raises DiffusionError, since it has no closed form."""
        raise DiffusionError("wrapped normal distributions: their KL divergence has no closed form")

    def _images(self, x: Array) -> tuple[Array, Array, list[tuple[float, Array]]]:
        """std; the offset of x from the mean, wound to the nearest; and of each image its shift and its weight beside
        the nearest. From std = period on the circle is uniform to 6e-9, so larger ones count as that."""
        xp, p = namespace(x), self.period
        std = min(self.std, p) if isinstance(self.std, float) else xp.clip(self.std, None, p)
        rest = x - self.mean
        rest = rest - p * xp.round(rest / p)
        shifts = [k * p for k in range(-6, 7)]
        return std, rest, [(d, xp.exp(-(2 * d * rest + d**2) / (2 * std**2))) for d in shifts]


@dataclass(frozen=True)
class ZeroCoMNormal(Normal):
    """N(mean, std^2) among point sets (batch, points, dimensions) whose centre of mass is at 0."""

    def log_prob(self, x: Array, mask: Array | None = None) -> Array:
        """Its sum over a sample is the log density, in nats, in the space of centred sets, which has a point less:
        the normaliser counts (n - 1) / n times in each of n elements. `mask` as of the state."""
        real = mask_like(namespace(x).ones(x.shape[:2]) if mask is None else mask, x)
        points = real.sum(1)[:, None]
        per_element = (self._log_std() + math.log(2 * math.pi) / 2) * (points - 1) / points
        return (-(((x - self.mean) / self.std) ** 2) / 2 - per_element) * real


def wrap(x: Array, period: float) -> Array:
    """x modulo the period, in [0, period); rounding never reaches the period itself."""
    x = x % period
    return namespace(x).where(x >= period, 0 * x, x)


def centred(x: Array, mask: Array | None = None) -> Array:
    """Point sets (batch, points, dimensions) minus their centres of mass; masked points are 0 and do not count."""
    if mask is None:
        return x - x.mean(1)[:, None]
    real = mask_like(mask, x)
    x = x * real
    return (x - (x.sum(1) / namespace(x).clip(real.sum(1), 1, None))[:, None]) * real


@dataclass(frozen=True)
class Process:
    """What noise does to one field; the parts that most kinds of state share.

    A process also has `eps(noise)`, the random numbers that `noise` and `renoise` take; `prior`, `noise`, `renoise`,
    `marginal` and `transition`; and `delta(x0)`, the prediction of who knows x_0.

    Raises DiffusionError for a schedule that is none.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        kind = f"schedule = {self.schedule!r}: a schedule is needed, cosine() for one"
        require(isinstance(self.schedule, Schedule), kind)

    def at(self, t: Array) -> NoiseLevel:
        """What a step needs to know of time t."""
        return self.schedule.at(t)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the clean prediction for a state of this shape."""
        return shape

    def project(self, x: Array, mask: Array | None) -> Array:
        """A state or a prediction, brought back into the space it moves in: 0 where the mask is false."""
        return x if mask is None else namespace(x).where(mask_like(mask, x), x, 0)

    def postprocess(self, x: Array) -> Array:
        """A finished sample as its reader expects it."""
        return x

    def merge(self, x: Array, known: Array, where: Array) -> Array:
        """`x` with the `known` values where `where` is true."""
        return namespace(x).where(where, known, x)

    def take(self, rows: Any) -> Self:
        """The process of other samples of the batch."""
        return self

    def log_known(self, law: Any, known: Array, where: Array) -> Array:
        """The log density of the known part of a state under `law`, (batch,), up to a constant of the process."""
        return namespace(known).where(where, law.log_prob(known), 0.0).reshape(len(known), -1).sum(1)


@dataclass(frozen=True)
class Gaussian(Process):
    """x_t = alpha(t) x_0 + sigma(t) noise, over any schedule."""

    def check(self, x: Array) -> None:
        """Raises DiffusionError for data that do not belong to this process: what is not real and finite."""
        require("float" in name_of(x.dtype), f"real numbers (float32) are needed, not {x.dtype}")
        require_all(finite(x) if on_host(x) else namespace(x).isfinite(x), "a value is not finite")

    def eps(self, noise: Noise) -> Array:
        """Standard normal numbers."""
        return noise.normal()

    def distribution(self, mean: Array, std: Array) -> Normal:
        """The normal distribution of this space."""
        return Normal(mean, std)

    def marginal(self, x0: Array, t: NoiseLevel) -> Normal:
        """q(x_t | x_0)."""
        return self.distribution(t.alpha * x0, t.sigma)

    def target(self, x0: Array, xt: Array, t: NoiseLevel, eps: Array) -> tuple[Array, Array]:
        """What is to be learned at x_t: the clean state and the noise."""
        return x0, eps

    def delta(self, x0: Array) -> Prediction:
        """The prediction of who knows x_0."""
        return Prediction(x0)

    def prior(self, t: NoiseLevel, noise: Noise) -> Array:
        """A state at the noisy end t: sigma(t) times standard normal noise."""
        return t.sigma * noise.normal()

    def noise(self, x0: Array, t: NoiseLevel, eps: Array) -> Array:
        """q(x_t | x_0) for given standard normal noise `eps` of the shape of `x0`."""
        return t.alpha * x0 + t.sigma * eps

    def renoise(self, x: Array, s: NoiseLevel, t: NoiseLevel, eps: Array) -> Array:
        """q(x_t | x_s), from s up to a noisier t: (alpha_t / alpha_s) x + sqrt(v) eps, v as in `transition`."""
        return (t.alpha / s.alpha) * x + math.sqrt(added_variance(t, s)) * eps

    def transition(self, x: Array, t: NoiseLevel, s: NoiseLevel, prediction: Prediction) -> Normal:
        """q(x_s | x_t, x_0 = clean), s < t (DDPM, 2006.11239, equations 6 and 7, for any alpha and sigma).

        With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2 (the noise added between s and t):
        mean = (a sigma_s^2 x_t + alpha_s v clean) / sigma_t^2, variance = v sigma_s^2 / sigma_t^2. A prediction that
        carries a variance w has v (sigma_s / sigma_t)^(2 - 2 w): w = 1 is DDPM's larger choice, and the step to
        sigma_s = 0 stays without noise.
        """
        ratio, added, shrink = t.alpha / s.alpha, added_variance(t, s), s.sigma / t.sigma
        mean = linear_combination([x, prediction.x0], [ratio * shrink**2, s.alpha * added / t.sigma**2])
        power = 1.0 if prediction.variance is None or not shrink else 1 - prediction.variance
        return self.distribution(mean, math.sqrt(added) * shrink**power)


@dataclass(frozen=True)
class Torus(Gaussian):
    """x_t = x_0 + sigma(t) noise modulo the period: angles, or coordinates in a periodic cell.

    Noise is added, and steps are walked, on the line that is wound around the circle, and a sample is wrapped when it
    is done, so every sampler of a Gaussian is one of the torus. The network sees x_t in [0, period) and predicts the
    noise or the score, which do not change by a period; its clean prediction x_t + sigma^2 score is where x_0 lies as
    seen from x_t, perhaps outside the cell. What it learns is the score of the wrapped normal distribution (DiffCSP,
    Jiao et al. 2023, 2309.04475). alpha must be 1: a schedule like `variance_exploding`, up to sigma near the period.

    Raises DiffusionError for a schedule that shrinks.
    """

    period: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        still = self.at(1.0).alpha == 1
        require(still, "torus: what wraps cannot shrink; alpha must be 1 (variance_exploding, edm_schedule)")
        check("torus", vars(self), {"period": POSITIVE})

    def check(self, x: Array) -> None:
        """Raises DiffusionError for coordinates outside [0, period)."""
        super().check(x)
        wrong = f"coordinates{{}} lie outside the cell [0, {self.period:g}); wrap them first"
        ends = lambda: f" from {float(x.min()):.4g} to {float(x.max()):.4g}"  # noqa: E731
        require_all((x >= 0) & (x < self.period), wrong, ends)

    def prior(self, t: NoiseLevel, noise: Noise) -> Array:
        """Uniform on the cell, which sigma(t) near the period is nearly."""
        return self.postprocess(noise.uniform() * self.period)

    def noise(self, x0: Array, t: NoiseLevel, eps: Array) -> Array:
        """q(x_t | x_0) for given standard normal noise, in the cell."""
        return self.postprocess(x0 + t.sigma * eps)

    def distribution(self, mean: Array, std: Array) -> WrappedNormal:
        """The normal distribution wound around the circle."""
        return WrappedNormal(mean, std, self.period)

    def target(self, x0: Array, xt: Array, t: NoiseLevel, eps: Array) -> tuple[Array, Array]:
        """-sigma times the score of q(x_t | x_0), which is the mean noise of all images of x_0; and x_0 from it."""
        eps = -t.sigma * self.distribution(x0, t.sigma).score(xt)
        return xt - t.sigma * eps, eps

    def postprocess(self, x: Array) -> Array:
        """In the cell."""
        return wrap(x, self.period)


@dataclass(frozen=True)
class ZeroCoM(Gaussian):
    """A Gaussian process of point sets (batch, points, dimensions) with their centre of mass at 0.

    The driver centres what a step leads to and what is predicted, so the state never leaves that space; sets of fewer
    points are padded and masked. E(n) diffusion (Hoogeboom et al. 2022, 2203.17003). Where a part of a set is known
    (`known_region`, `particles`), its place is not: only its shape counts, and each sample finds the place by itself.
    """

    def check(self, x: Array) -> None:
        """Raises DiffusionError for point sets that are not centred, or no point sets."""
        super().check(x)
        require(x.ndim == 3, f"the shape {tuple(x.shape)} is not (batch, points, dimensions)")
        least = 1e-3 * x.shape[1] * namespace(x).clip(abs(x).max(), 1, None)
        require_all(abs(x.sum(1)) <= least, "the centre of mass is not at 0: subtract it (`centred`)")

    def distribution(self, mean: Array, std: Array) -> ZeroCoMNormal:
        """The normal distribution among centred point sets."""
        return ZeroCoMNormal(mean, std)

    def project(self, x: Array, mask: Array | None) -> Array:
        """Centred, over the points that there are."""
        return centred(x, mask)

    def merge(self, x: Array, known: Array, where: Array) -> Array:
        """`x` with its part where `where` is true in the shape of `known`, at the place where that part of `x` is."""
        part = like(where, x)
        offset = (part * (x - known)).sum(1) / namespace(x).clip(part.sum(1), 1, None)
        return namespace(x).where(where, known + offset[:, None], x)

    def log_known(self, law: Any, known: Array, where: Array) -> Array:
        """The log density of the shape of the known part, (batch,), up to a constant: its place is free."""
        return super().log_known(law, self.merge(law.mean, known, where), where)


def added_variance(t: NoiseLevel, s: NoiseLevel) -> float:
    """The variance of the noise added between s and a noisier t: sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2."""
    return float(max(t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2, 0.0))
