"""Denoisers: `(x_t, t, condition) -> Prediction` of the clean state, from a network that may predict something else.

No sampler ever sees what the network predicts: the parametrization is how the network is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from inkwash.diffusion.arrays import Array, cast, namespace
from inkwash.diffusion.process import Gaussian
from inkwash.diffusion.schedule import Point

if TYPE_CHECKING:
    import torch

Condition = Mapping[str, Array]


class Prediction(NamedTuple):
    """What is clean, seen from x_t: E[x_0 | x_t], and the variance of the reverse step where it is learned."""

    clean: Array
    variance: Array | None = None


Denoise = Callable[[Array, Point, Condition | None], Prediction]


class Parametrization(NamedTuple):
    """What a network predicts of x_t = alpha x_0 + sigma eps.

    `clean(x, t, output)` turns the output into x_0, `target(x0, eps, t)` is what the output should be, and
    `factor(t)` is the squared error of the output for a unit squared error of x_0.
    """

    clean: Callable[[Array, Point, Array], Array]
    target: Callable[[Array, Array, Point], Array]
    factor: Callable[[Point], Array]


PARAMETRIZATIONS = {
    # the noise (DDPM, 2006.11239); at alpha = 0 it says nothing of x_0
    "eps": Parametrization(
        clean=lambda x, t, out: (x - t.sigma * out) / t.alpha,
        target=lambda x0, eps, t: eps,
        factor=lambda t: t.snr,
    ),
    # the clean state itself
    "clean": Parametrization(
        clean=lambda x, t, out: out,
        target=lambda x0, eps, t: x0,
        factor=lambda t: 1.0,
    ),
    # v = alpha eps - sigma x_0 (progressive distillation, 2202.00512)
    "v": Parametrization(
        clean=lambda x, t, out: (t.alpha * x - t.sigma * out) / (t.alpha**2 + t.sigma**2),
        target=lambda x0, eps, t: t.alpha * eps - t.sigma * x0,
        factor=lambda t: ((t.alpha**2 + t.sigma**2) / t.sigma) ** 2,
    ),
    # u = eps - x_0, the velocity of a rectified flow (2209.03003)
    "flow": Parametrization(
        clean=lambda x, t, out: (x - t.sigma * out) / (t.alpha + t.sigma),
        target=lambda x0, eps, t: eps - x0,
        factor=lambda t: ((t.alpha + t.sigma) / t.sigma) ** 2,
    ),
}

Weight = Callable[[Point, Parametrization], Array]


def simple(t: Point, parametrization: Parametrization) -> Array:
    """Weight 1 on the squared error of what the network predicts (L_simple, DDPM equation 14)."""
    return 1.0


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) on the squared error of x_0, whatever the network predicts (Hang et al. 2023, 2303.09556)."""

    def weight(t: Point, parametrization: Parametrization) -> Array:
        return namespace(t.t).clip(t.snr, None, gamma) / parametrization.factor(t)

    return weight


def uniform_times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """`count` times in float64 on the CPU, uniform in (0, 1), stratified over the batch (VDM, 2107.00630, I.1)."""
    import torch

    device = None if generator is None else generator.device
    offset = torch.rand((), generator=generator, device=device).cpu()
    times = (offset + torch.arange(count, dtype=torch.float64) / count) % 1
    return times.clamp(min=1e-5)  # at t = 0 nothing is left to predict


def thousands(t: Point) -> Array:
    """The time as most networks are told it: 0 to 1000."""
    return 1000.0 * t.t


@dataclass(frozen=True)
class Denoiser:
    """A network, the process it undoes and what it predicts: one of PARAMETRIZATIONS.

    The network is called as `network(x, time, **condition)`, time of shape (batch,). It may be a torch module or
    any function of arrays, an ONNX session for one. `time(point)` gives the number by which the network knows a
    time; for one trained on a table of T betas that is T t - 1.

    Raises ValueError for an unknown parametrization.
    """

    network: Callable[..., Array]
    process: Gaussian
    parametrization: str = "eps"
    time: Callable[[Point], Array] = thousands

    def __post_init__(self) -> None:
        if self.parametrization not in PARAMETRIZATIONS:
            raise ValueError(f"parametrization '{self.parametrization}': one of {', '.join(PARAMETRIZATIONS)}")

    def _output(self, x: Array, t: Point, condition: Condition | None) -> Array:
        """The network's answer in the state's own dtype, whatever the network computes in."""
        xp, times = namespace(x), self.time(t)
        device = {"device": x.device}
        if isinstance(times, (int, float)):
            times = xp.full((x.shape[0],), times, dtype=x.dtype, **device)
        output = self.network(x, cast(times, x.dtype).reshape(-1), **(condition or {}))
        return cast(output, x.dtype)

    def __call__(self, x: Array, t: Point, condition: Condition | None = None) -> Prediction:
        """E[x_0 | x_t]; `x` is (batch, ...), `t` a point of floats, `condition` a dict of arrays, batch first."""
        clean = PARAMETRIZATIONS[self.parametrization].clean
        return Prediction(clean(x, t, self._output(x, t, condition)))

    def loss(
        self,
        x0: torch.Tensor,
        condition: Condition | None = None,
        weight: Weight = simple,
        times: Callable[[int, torch.Generator | None], torch.Tensor] = uniform_times,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """E over t and eps of weight(t) |output - target|^2, a mean over all elements (DDPM, algorithm 1)."""
        import torch

        form = PARAMETRIZATIONS[self.parametrization]
        t = times(len(x0), generator).reshape(-1, *[1] * (x0.ndim - 1))
        point = Point(*(part.to(x0) for part in self.process.at(t)))  # computed in float64 on the CPU
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        output = self._output(self.process.noise(x0, point, eps), point, condition)
        error: Any = (output - form.target(x0, eps, point)) ** 2
        loss: torch.Tensor = (weight(point, form) * error).mean()
        return loss
