"""Processes: what noise does to one field, and the one-step way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inkwash.diffusion.arrays import Array, combine, namespace
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.schedule import Point, Schedule

if TYPE_CHECKING:
    from inkwash.diffusion.denoiser import Prediction
    from inkwash.diffusion.noise import Noise


@dataclass(frozen=True)
class Normal:
    """N(mean, std^2), independent in every element: the transition of a Gaussian process.

    `std` is a float, or an array that broadcasts against `mean` where the variance is learned.
    """

    mean: Array
    std: Array

    def sample(self, noise: Noise) -> Array:
        """mean + std * noise. Where std is the number 0, nothing is drawn."""
        if isinstance(self.std, float) and self.std == 0:
            return self.mean
        return combine([noise.normal(), self.mean], [self.std, 1.0])

    def log_prob(self, x: Array) -> Array:
        """Elementwise log density, in nats; the caller sums over the elements it needs.

        Raises DiffusionError where std is the number 0: a deterministic step has no density.
        """
        return -(((x - self.mean) / self.std) ** 2) / 2 - self._log_std() - math.log(2 * math.pi) / 2

    def kl(self, other: Normal) -> Array:
        """KL(self, other) elementwise, in nats:
        log(std' / std) + (std^2 + (mean - mean')^2) / (2 std'^2) - 1/2."""
        spread = (self.std / other.std) ** 2 + ((self.mean - other.mean) / other.std) ** 2
        return other._log_std() - self._log_std() + spread / 2 - 0.5

    def _log_std(self) -> Array:
        if not isinstance(self.std, float):
            return namespace(self.std).log(self.std)
        if self.std == 0:
            raise DiffusionError("a deterministic transition (std = 0) has no density: take a sampler with noise")
        return math.log(self.std)


@dataclass(frozen=True)
class Gaussian:
    """x_t = alpha(t) x_0 + sigma(t) noise, over any schedule."""

    schedule: Schedule

    def at(self, t: Array) -> Point:
        """What a step needs to know of time t."""
        return self.schedule.at(t)

    def prior(self, t: Point, noise: Noise) -> Array:
        """A state at the noisy end t: sigma(t) times standard normal noise."""
        return t.sigma * noise.normal()

    def noise(self, x0: Array, t: Point, eps: Array) -> Array:
        """q(x_t | x_0) for given standard normal noise `eps` of the shape of `x0`."""
        return t.alpha * x0 + t.sigma * eps

    def renoise(self, x: Array, s: Point, t: Point, eps: Array) -> Array:
        """q(x_t | x_s), from s up to a noisier t: (alpha_t / alpha_s) x + sqrt(v) eps, v as in `transition`."""
        return (t.alpha / s.alpha) * x + math.sqrt(added_variance(t, s)) * eps

    def transition(self, x: Array, t: Point, s: Point, prediction: Prediction) -> Normal:
        """q(x_s | x_t, x_0 = clean), s < t (DDPM, 2006.11239, equations 6 and 7, for any alpha and sigma).

        With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2 (the noise added between s and t):
        mean = (a sigma_s^2 x_t + alpha_s v clean) / sigma_t^2, variance = v sigma_s^2 / sigma_t^2. A prediction that
        carries a spread w has the variance v (sigma_s / sigma_t)^(2 - 2 w): w = 1 is DDPM's larger choice, and the
        step to sigma_s = 0 stays without noise.
        """
        ratio, added, shrink = t.alpha / s.alpha, added_variance(t, s), s.sigma / t.sigma
        mean = combine([x, prediction.clean], [ratio * shrink**2, s.alpha * added / t.sigma**2])
        power = 1.0 if prediction.spread is None or not shrink else 1 - prediction.spread
        return Normal(mean, math.sqrt(added) * shrink**power)


def added_variance(t: Point, s: Point) -> float:
    """The variance of the noise added between s and a noisier t: sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2."""
    return float(max(t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2, 0.0))
