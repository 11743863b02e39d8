"""What a network is trained on: weights of the squared error, and the times at which it is drawn.

A weight is a function `(t, parametrization)` on the squared error of the network's output. Most papers weigh the
error of x_0 or of eps; divided by the parametrization's `factor` it is the same loss, whatever the network predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from inkwash.diffusion.arrays import Array, namespace, pick
from inkwash.diffusion.categorical import Categorical
from inkwash.diffusion.process import Gaussian, Prediction
from inkwash.diffusion.schedule import Point

if TYPE_CHECKING:
    import torch

    from inkwash.diffusion.denoiser import Parametrization

Weight = Callable[[Point, "Parametrization"], Array]
Times = Callable[[int, "torch.Generator | None"], "torch.Tensor"]


def simple(t: Point, form: Parametrization) -> Array:
    """Weight 1 on the squared error of what the network predicts (L_simple, DDPM equation 14)."""
    return 1.0


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) on the squared error of x_0 (Hang et al. 2023, 2303.09556)."""
    return lambda t, form: namespace(t.t).clip(t.snr, None, gamma) / form.factor(t)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weight:
    """1 / (k + SNR)^gamma on the squared error of eps (P2, Choi et al. 2022, 2204.00227)."""
    return lambda t, form: (k + t.snr) ** -gamma * t.snr / form.factor(t)


def edm_weight(data_std: float = 0.5) -> Weight:
    """(sigma^2 + d^2) / (sigma d)^2 on the squared error of x_0 at alpha = 1, d = data_std; elsewhere sigma is the
    ratio sigma / alpha (EDM, 2206.00364, table 1)."""
    return lambda t, form: (1 / data_std**2 + t.snr) / form.factor(t)


def flow_weight(t: Point, form: Parametrization) -> Array:
    """Weight 1 on the squared error of the velocity eps - x_0 (2210.02747), whatever the network predicts."""
    return ((t.alpha + t.sigma) / t.sigma) ** 2 / form.factor(t)


def vlb(process: Gaussian, steps: int = 1000) -> Weight:
    """The variational bound: steps / 2 (SNR(t - 1 / steps) - SNR(t)) on the squared error of x_0, in nats.

    Variational diffusion models (Kingma et al. 2021, 2107.00630), equation 14; the step to clean data, where the SNR
    is infinite, is left out, as are times within it.
    """

    def weight(t: Point, form: Parametrization) -> Array:
        xp = namespace(t.t)
        s = process.at(xp.clip(t.t - 1 / steps, 1 / steps, None))
        return xp.clip(s.snr - t.snr, 0, None) * (steps / 2) / form.factor(t)

    return weight


def uniform_times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """`count` times in float64 on the CPU, uniform in (0, 1), stratified over the batch (VDM, 2107.00630, I.1)."""
    import torch

    device = None if generator is None else generator.device
    offset = torch.rand((), generator=generator, device=device).cpu()
    times = (offset + torch.arange(count, dtype=torch.float64) / count) % 1
    return times.clamp(min=1e-5)  # at t = 0 nothing is left to predict


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Times:
    """Times 1 / (1 + exp(-u)), u ~ N(mean, std^2): most in the middle (Stable Diffusion 3, 2403.03206, equation
    19)."""
    return _normal(mean, std, lambda u: u.sigmoid())


def log_normal(process: Gaussian, mean: float = -1.2, std: float = 1.2) -> Times:
    """Times at which log(sigma / alpha) ~ N(mean, std^2), as EDM trains (2206.00364, table 1)."""
    return _normal(mean, std, lambda u: u.exp().apply_(process.schedule.time).clamp(1e-5, 1.0))


def _normal(mean: float, std: float, time: Callable[[torch.Tensor], torch.Tensor]) -> Times:
    def times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        import torch

        return time(mean + std * torch.special.ndtri(uniform_times(count, generator)))

    return times


class LossAware:
    """Times drawn with p(t) proportional to the root of the mean squared loss there, in `bins` equal parts of (0, 1).

    The noisy bound then needs fewer draws for the same mean (Improved DDPM, 2102.09672, section 3.3). It remembers
    the last `history` losses of each bin and draws uniformly until every bin has as many; give one object to each
    training.
    """

    def __init__(self, bins: int = 100, history: int = 10) -> None:
        self._losses: list[list[float]] = [[] for _ in range(bins)]
        self._history = history

    def probabilities(self) -> Array:
        """Of each bin: (bins,), float64; a thousandth of all draws stays uniform."""
        bins = len(self._losses)
        if min(map(len, self._losses)) < self._history:
            return np.full(bins, 1 / bins)
        root = np.square(self._losses).mean(1) ** 0.5
        return 0.999 * root / root.sum() + 0.001 / bins

    def __call__(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """`count` times; see `uniform_times`."""
        u, p = uniform_times(count, generator), self.probabilities()
        times = np.interp(u, np.append(0.0, np.cumsum(p)), np.linspace(0, 1, len(p) + 1))
        return u.new_tensor(times).clamp(min=1e-5)

    def reweight(self, t: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """The losses (batch,) at times t over bins * p(t), which leaves their mean unbiased; and remembers them."""
        bins = (t * len(self._losses)).long().clamp(max=len(self._losses) - 1).tolist()
        density = self.probabilities()[bins] * len(self._losses)
        for i, loss in zip(bins, losses.tolist(), strict=True):
            self._losses[i] = [*self._losses[i], loss][-self._history :]
        return losses / losses.new_tensor(density)


Objective = Callable[[Categorical, Array, Array, Point, Prediction], Array]


def cross_entropy(weight: Callable[[Point], Array] = lambda t: 1.0) -> Objective:
    """weight(t) times -log p(x_0 | x_t) at each position; 0 where x_t is not masked, if there are masks."""

    def objective(process: Categorical, x0: Array, xt: Array, t: Point, prediction: Prediction) -> Array:
        p = pick(process.clean(xt, prediction).probabilities, x0)
        return -weight(t) * namespace(p).log(namespace(p).clip(p, 1e-37, None))

    return objective


def d3pm_bound(steps: int = 1000) -> Objective:
    """steps KL(q(x_s | x_t, x_0), p(x_s | x_t)) at each position, s = t - 1 / steps: the variational bound in nats of
    a chain of so many equal steps, the last, -log p(x_0 | x_1), included (D3PM, 2107.03006, equation 1).

    With masks it is `cross_entropy` with the weight steps (alpha_s - alpha_t) / (1 - alpha_t), and for many steps
    that of MDLM, -alpha' / (1 - alpha). Times within the last step count as its upper end.
    """

    def objective(process: Categorical, x0: Array, xt: Array, t: Point, prediction: Prediction) -> Array:
        earlier = process.at(namespace(t.t).clip(t.t - 1 / steps, 0, None))
        s, t = (Point(*(part[..., None] for part in point)) for point in (earlier, t))
        truth = process.transition(xt, t, s, process.known(x0))
        return steps * truth.kl(process.transition(xt, t, s, prediction))

    return objective
