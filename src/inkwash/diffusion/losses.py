"""What a network is trained on: weights of the squared error, and the times at which it is drawn.

A weight is a function `(t, parametrization)` on the squared error of the network's output. Most papers weigh the
error of x_0 or of eps; divided by the parametrization's `factor` it is the same loss, whatever the network predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from inkwash.diffusion.arrays import Array, namespace
from inkwash.diffusion.process import Gaussian
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
    """1 / (k + SNR)^gamma on the squared error of eps (P2, Choi et al. 2022, 2204.00227, equation 8)."""
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

    def times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        import torch

        return torch.sigmoid(mean + std * torch.special.ndtri(uniform_times(count, generator)))

    return times


def log_normal(process: Gaussian, mean: float = -1.2, std: float = 1.2) -> Times:
    """Times at which log(sigma / alpha) ~ N(mean, std^2), as EDM trains (2206.00364, table 1)."""

    def times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        import torch

        ratios = torch.exp(mean + std * torch.special.ndtri(uniform_times(count, generator)))
        found = [min(process.schedule.time(ratio), 1.0) for ratio in ratios.tolist()]
        return torch.tensor(found, dtype=torch.float64).clamp(min=1e-5)

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

    def probabilities(self) -> Any:
        """Of each bin: (bins,), float64; a thousandth of all draws stays uniform."""
        import torch

        bins = len(self._losses)
        if any(len(losses) < self._history for losses in self._losses):
            return torch.full((bins,), 1 / bins, dtype=torch.float64)
        root = torch.tensor(self._losses, dtype=torch.float64).square().mean(1).sqrt()
        return 0.999 * root / root.sum() + 0.001 / bins

    def __call__(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """`count` times; see `uniform_times`."""
        import torch

        edges = torch.cat([torch.zeros(1, dtype=torch.float64), self.probabilities().cumsum(0)])
        u = uniform_times(count, generator).clamp(max=float(edges[-1]) - 1e-12)
        bin_ = torch.searchsorted(edges, u, right=True) - 1
        share = (u - edges[bin_]) / (edges[bin_ + 1] - edges[bin_])
        return ((bin_ + share) / len(self._losses)).clamp(min=1e-5)

    def reweight(self, t: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """The losses (batch,) at times t over bins * p(t), which leaves their mean unbiased; and remembers them."""
        bins = (t * len(self._losses)).long().clamp(max=len(self._losses) - 1)
        density = self.probabilities()[bins] * len(self._losses)
        for i, loss in zip(bins.tolist(), losses.detach().tolist(), strict=True):
            self._losses[i] = [*self._losses[i], loss][-self._history :]
        reweighted: torch.Tensor = losses / density.to(losses)
        return reweighted
