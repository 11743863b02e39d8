"""Denoisers: `(x_t, t, condition) -> Prediction` of the clean state, from a network that may predict something else.

No sampler ever sees what the network predicts: the parametrization is how the network is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from inkwash.diffusion.arrays import Array, cast, combine, mask_like, namespace
from inkwash.diffusion.categorical import Categorical
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.losses import LossAware, Objective, Times, Weight, d3pm_bound, simple, uniform_times
from inkwash.diffusion.process import Gaussian, Prediction
from inkwash.diffusion.schedule import Point

if TYPE_CHECKING:
    import torch

Condition = Mapping[str, Array]


Denoise = Callable[[Array, Point, Condition | None], Prediction]


class Parametrization(NamedTuple):
    """What a network predicts of x_t = alpha x_0 + sigma eps.

    `clean(x, t, output)` turns the output into x_0, `target(x0, eps, t)` is what the output should be, `factor(t)` is
    the squared error of the output for a unit squared error of x_0, and the network sees `scale(t) x_t` (None: x_t).
    """

    clean: Callable[[Array, Point, Array], Array]
    target: Callable[[Array, Array, Point], Array]
    factor: Callable[[Point], Array]
    scale: Callable[[Point], Array] | None = None


def edm(data_std: float = 0.5) -> Parametrization:
    """The preconditioning of EDM (Karras et al. 2022, 2206.00364, table 1), for any alpha and sigma.

    With d = data_std and m^2 = alpha^2 d^2 + sigma^2, the variance of x_t: the network sees x_t / m, and
    clean = (alpha d^2 / m^2) x_t + (sigma d / m) output. Input and target have variance 1 at every t, and an error of
    the network fades with the noise. At alpha = 1 it is EDM's own; weight `simple` is then EDM's.
    """
    d = data_std

    def total(t: Point) -> Array:  # m^2
        return (t.alpha * d) ** 2 + t.sigma**2

    return Parametrization(
        clean=lambda x, t, out: combine([x, out], [t.alpha * d**2 / total(t), t.sigma * d / total(t) ** 0.5]),
        target=lambda x0, eps, t: (t.sigma * x0 - (t.alpha * d**2) * eps) / (d * total(t) ** 0.5),
        factor=lambda t: total(t) / (t.sigma * d) ** 2,
        scale=lambda t: total(t) ** -0.5,
    )


PARAMETRIZATIONS = {
    # the noise (DDPM, 2006.11239); at alpha = 0 it says nothing of x_0
    "eps": Parametrization(
        clean=lambda x, t, out: combine([x, out], [1 / t.alpha, -t.sigma / t.alpha]),
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
        clean=lambda x, t, out: combine([x, out], [t.alpha, -t.sigma]) / (t.alpha**2 + t.sigma**2),
        target=lambda x0, eps, t: t.alpha * eps - t.sigma * x0,
        factor=lambda t: ((t.alpha**2 + t.sigma**2) / t.sigma) ** 2,
    ),
    # the score, grad log p(x_t) = -eps / sigma (Score SDE, 2011.13456); like eps, nothing at alpha = 0
    "score": Parametrization(
        clean=lambda x, t, out: combine([x, out], [1 / t.alpha, t.sigma**2 / t.alpha]),
        target=lambda x0, eps, t: eps / -t.sigma,
        factor=lambda t: (t.alpha / t.sigma**2) ** 2,
    ),
    # u = eps - x_0, the velocity of a rectified flow (2209.03003)
    "flow": Parametrization(
        clean=lambda x, t, out: combine([x, out], [1 / (t.alpha + t.sigma), -t.sigma / (t.alpha + t.sigma)]),
        target=lambda x0, eps, t: eps - x0,
        factor=lambda t: ((t.alpha + t.sigma) / t.sigma) ** 2,
    ),
    "edm": edm(),
}


def thousands(t: Point) -> Array:
    """The time as most networks are told it: 0 to 1000."""
    return 1000.0 * t.t


def log_ratio(t: Point) -> Array:
    """The time as EDM's networks are told it: log(sigma / alpha) / 4."""
    ratio = t.sigma / t.alpha
    return namespace(ratio).log(ratio) / 4


@dataclass(frozen=True)
class Denoiser:
    """A network, the process it undoes and what it predicts: a Parametrization, or the name of one.

    The network is called as `network(x, time, **condition)`, time of shape (batch,). It may be a torch module or
    any function of arrays, an ONNX session for one. `time(point)` gives the number by which the network knows a
    time; for one trained on a table of T betas that is T t - 1.

    A network that also learns the variance of a chain of `variance_steps` equal steps answers with twice the channels
    (axis 1): what it predicts, and v from -1 to 1, the spread being (v + 1) / 2 (Improved DDPM, Nichol & Dhariwal
    2021, 2102.09672, equation 15). Its loss is theirs, L_simple + 0.001 L_vlb.

    Raises DiffusionError for an unknown parametrization.
    """

    network: Callable[..., Array]
    process: Gaussian
    parametrization: str | Parametrization = "eps"
    time: Callable[[Point], Array] = thousands
    variance_steps: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.parametrization, str) and self.parametrization not in PARAMETRIZATIONS:
            known = ", ".join(PARAMETRIZATIONS)
            raise DiffusionError(f"parametrization '{self.parametrization}': one of {known} is needed")

    @property
    def form(self) -> Parametrization:
        """The parametrization itself."""
        named = self.parametrization
        return PARAMETRIZATIONS[named] if isinstance(named, str) else named

    def _output(self, x: Array, t: Point, condition: Condition | None) -> tuple[Array, Array | None]:
        """The network's answer in the state's own dtype, whatever the network computes in; and the spread."""
        times, scale, seen, xp = self.time(t), self.form.scale, self.process.settle(x), namespace(x)
        dtype = xp.float32 if "int" in str(x.dtype) else x.dtype  # tokens are told times, and answered, in float32
        if isinstance(times, (int, float)):
            times = xp.full((x.shape[0],), times, dtype=dtype, device=x.device)
        else:
            times = cast(times, dtype).reshape(-1)
        output = self.network(seen if scale is None else seen * scale(t), times, **(condition or {}))
        output = output if output.dtype == dtype else cast(output, dtype)
        if self.variance_steps is None:
            return output, None
        channels = x.shape[1]
        return output[:, :channels], (output[:, channels:] + 1) / 2

    def __call__(self, x: Array, t: Point, condition: Condition | None = None) -> Prediction:
        """E[x_0 | x_t]; `x` is (batch, ...), `t` a point of floats, `condition` a dict of arrays, batch first.

        Raises DiffusionError at alpha = 0 for a network that predicts the noise or the score.
        """
        form = self.form
        if t.alpha == 0 and form.factor(t) == 0:
            raise DiffusionError(
                f"at t = {t.t:.4g} there is noise alone, and what this network predicts says nothing of what is "
                "clean: begin the grid at a smaller t, or train a network that predicts v"
            )
        output, spread = self._output(x, t, condition)
        return Prediction(form.clean(x, t, output), spread)

    def loss(
        self,
        x0: torch.Tensor,
        condition: Condition | None = None,
        weight: Weight = simple,
        times: Times = uniform_times,
        generator: torch.Generator | None = None,
        mask: Array | None = None,
    ) -> torch.Tensor:
        """E over t and eps of weight(t) |output - target|^2, a mean over all elements (DDPM, algorithm 1).

        mask: which elements there are, over the first axes of x0; the mean is over those of each sample.

        With `times` a `LossAware` it is the same mean, estimated with fewer draws where little is to be learned.
        """
        import torch

        self.process.check(x0)
        drawn = times(len(x0), generator)  # float64 on the CPU, as is the schedule

        def at(t: torch.Tensor) -> Point:
            return Point(*(part.to(x0) for part in self.process.at(t.reshape(-1, *[1] * (x0.ndim - 1)))))

        point = at(drawn)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        eps = self.process.confine(eps, mask)
        xt = self.process.noise(x0, point, eps)
        output, spread = self._output(xt, point, condition)
        target = self.form.target(*self.process.truth(x0, xt, point, eps), point)
        error = weight(point, self.form) * (self.process.confine(output, mask) - target) ** 2
        if self.variance_steps is not None:
            clean = self.form.clean(xt, point, output.detach())  # only the spread learns from the bound
            earlier = at((drawn - 1 / self.variance_steps).clamp(min=5e-6))
            bound = _bound((x0 - clean) ** 2, spread, point, earlier) * (earlier.t > 1e-5)
            error = error + 0.001 * self.variance_steps * bound
        real = torch.ones_like(error) if mask is None else mask_like(mask, error).to(error)
        each = (error * real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)
        if isinstance(times, LossAware):
            each = times.reweight(drawn, each)
        loss: torch.Tensor = each.mean()
        return loss


@dataclass(frozen=True)
class TokenDenoiser(Denoiser):
    """A `Denoiser` whose network answers with logits (batch, positions..., symbols)."""

    process: Categorical  # type: ignore[assignment]
    parametrization: str | Parametrization = "clean"

    def loss(  # type: ignore[override]
        self,
        x0: torch.Tensor,
        condition: Condition | None = None,
        objective: Objective | None = None,
        times: Times = uniform_times,
        generator: torch.Generator | None = None,
        mask: Array | None = None,
    ) -> torch.Tensor:
        """E over t and x_t of the objective (None: `d3pm_bound`), a mean over all positions that there are.

        Raises DiffusionError for tokens outside the vocabulary.
        """
        import torch

        self.process.check(x0)
        drawn = times(len(x0), generator).reshape(-1, *[1] * (x0.ndim - 1))
        t = Point(*(part.to(x0.device, torch.float32) for part in self.process.at(drawn)))
        xt = self.process.noise(x0, t, torch.rand(x0.shape, generator=generator, device=x0.device))
        prediction = Prediction(self._output(xt, t, condition)[0])
        each = (objective or d3pm_bound())(self.process, x0, xt, t, prediction)
        loss: torch.Tensor = each.mean() if mask is None else each[mask_like(mask, each)].mean()
        return loss


def _bound(error: Array, spread: Array, t: Point, s: Point) -> Array:
    """KL(q(x_s | x_t, x_0), p(x_s | x_t)) in nats, elementwise: one term of the variational bound.

    With `error` = |x_0 - clean|^2 the squared distance of the two means is (SNR(s) - SNR(t)) error, in units of q's
    variance, and p's variance is (sigma_t / sigma_s)^(2 spread) in the same units.
    """
    shrink = s.sigma / t.sigma
    return (shrink ** (2 * spread) * (1 + (s.snr - t.snr) * error) - 1) / 2 - spread * namespace(error).log(shrink)
