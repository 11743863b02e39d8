"""What a network predicts: the noise, the clean state, something between; and how its input is scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from inkwash.diffusion.arrays import Array, linear_combination, require_all
from inkwash.diffusion.options import POSITIVE, maker
from inkwash.diffusion.schedule import NoiseLevel


class Parametrization(NamedTuple):
    """What a network predicts of x_t = alpha x_0 + sigma eps: a x_0 + b eps, `weights(t)` = (a, b).

    With d = b alpha - a sigma, x_0 = (b x_t - sigma output) / d, and at the same x_t a squared error of x_0 is one of
    the output (d / sigma)^2 times as large. The network sees `c_in(t) x_t` (None: x_t).
    """

    weights: Callable[[NoiseLevel], tuple[Array, Array]]
    c_in: Callable[[NoiseLevel], Array] | None = None

    def target(self, x0: Array, eps: Array, t: NoiseLevel) -> Array:
        """What the output should be."""
        a, b = self.weights(t)
        return a * x0 + b * eps

    def factor(self, t: NoiseLevel) -> Array:
        """The squared error of the output for a unit squared error of x_0."""
        a, b = self.weights(t)
        return ((b * t.alpha - a * t.sigma) / t.sigma) ** 2

    def to_x0(self, x: Array, t: NoiseLevel, output: Array) -> Array:
        """x_0 of the output at x_t. Raises DiffusionError where the output says nothing of it."""
        a, b = self.weights(t)
        if isinstance(b, (int, float)) and b == 0:
            return output / a
        d = b * t.alpha - a * t.sigma
        alone = (
            "at t{} there is noise alone, and what this network predicts says nothing of what is clean: begin the "
            "grid at a smaller t, or train a network that predicts v"
        )
        require_all(d != 0, alone, lambda: f" = {t.t if isinstance(t.t, float) else t.t.max().item():.4g}")
        return linear_combination([x, output], [b / d, -t.sigma / d])


@maker(data_std=POSITIVE)
def edm(data_std: float = 0.5) -> Parametrization:
    """The preconditioning of EDM (Karras et al. 2022, 2206.00364, table 1), for any alpha and sigma.

    With d = data_std and m^2 = alpha^2 d^2 + sigma^2, the variance of x_t: the network sees x_t / m and predicts
    (sigma x_0 - alpha d^2 eps) / (d m), so x_0 = (alpha d^2 / m^2) x_t + (sigma d / m) output. Input and target have
    variance 1 at every t, and an error of the network fades with the noise. At alpha = 1 it is EDM's own; weight
    `unit` is then EDM's.
    """

    def m(t: NoiseLevel) -> Array:
        return ((t.alpha * data_std) ** 2 + t.sigma**2) ** 0.5

    return Parametrization(
        lambda t: (t.sigma / (data_std * m(t)), -t.alpha * data_std / m(t)), c_in=lambda t: 1 / m(t)
    )


PARAMETRIZATIONS = {
    "eps": Parametrization(lambda t: (0.0, 1.0)),  # the noise (DDPM, 2006.11239); at alpha = 0 nothing is said of x_0
    "x0": Parametrization(lambda t: (1.0, 0.0)),
    "v": Parametrization(lambda t: (-t.sigma, t.alpha)),  # (progressive distillation, 2202.00512)
    # grad log p(x_t) (Score SDE, 2011.13456); at sigma = 0, where a field of a finished joint state stands, x_0 is x
    "score": Parametrization(lambda t: (0.0, -1 / (t.sigma + 1e-30))),
    "flow": Parametrization(lambda t: (-1.0, 1.0)),  # the velocity of a rectified flow (2209.03003)
    "edm": edm(),
}
