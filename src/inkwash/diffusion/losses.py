"""What a network is trained on: objectives, weights, and the distributions of times at which it is trained.

An objective is a function of a `Term` to errors, elementwise or one a sample; a weight a function
`(t, parametrization)` on them. Most papers weigh the squared error of x_0 or of eps; divided by the parametrization's
`factor` it is the same loss, whatever the network predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from inkwash.diffusion.arrays import Array, double, like, namespace, numpy, on_host, pick
from inkwash.diffusion.options import COUNT, POSITIVE, REAL, maker
from inkwash.diffusion.parametrization import Parametrization
from inkwash.diffusion.process import Gaussian, Prediction, Process
from inkwash.diffusion.schedule import NoiseLevel

if TYPE_CHECKING:
    import torch


class Term(NamedTuple):
    """One field of a training batch: what was clean, what the network saw of it at t, and what it answered."""

    process: Any
    form: Parametrization
    x0: Array
    x: Array
    t: NoiseLevel
    eps: Array
    output: Array
    prediction: Prediction


Objective = Callable[[Term], Array]
Weight = Callable[[NoiseLevel, Parametrization], Array]
Times = Callable[[int, "torch.Generator | None"], "torch.Tensor"]


def square(term: Term) -> Array:
    """|output - target|^2, elementwise: the objective of a Gaussian process (DDPM, 2006.11239, equation 14)."""
    x0, eps = term.process.target(term.x0, term.x, term.t, term.eps)
    return (term.output - term.form.target(x0, eps, term.t)) ** 2


def absolute(term: Term) -> Array:
    """|output - target|, elementwise: samples are less diverse (Palette, 2111.05826, section 5)."""
    x0, eps = term.process.target(term.x0, term.x, term.t, term.eps)
    return abs(term.output - term.form.target(x0, eps, term.t))


def cross_entropy(term: Term) -> Array:
    """-log p(x_0 | x_t) of tokens, at each position; 0 where x_t is not masked, if there are masks. With the weight
    -alpha' / (1 - alpha) it is MDLM's bound (2406.07524)."""
    p = pick(term.process.clean(term.x, term.prediction).probabilities, term.x0)
    return -namespace(p).log(namespace(p).clip(p, 1e-37, None))


@maker()
def symbols_cross_entropy(symbols: torch.Tensor, logits: str = "logits") -> Objective:
    """-log p(symbol | x_t) at each position (batch, positions...) of a Gaussian state of their vectors, as CDCD
    trains (Dieleman et al. 2022, 2211.15089). The network's by-product `logits` is (batch, positions..., symbols)."""

    def objective(term: Term) -> Array:
        from torch.nn.functional import cross_entropy

        extra: Any = term.prediction.extra
        return cross_entropy(extra[logits].movedim(-1, 1), symbols, reduction="none")

    return objective


@maker(steps=COUNT)
def d3pm_bound(steps: int = 1000) -> Objective:
    """steps KL(q(x_s | x_t, x_0), p(x_s | x_t)) at each position, s = t - 1 / steps: the variational bound in nats of
    a chain of so many equal steps, the last, -log p(x_0 | x_1), included (D3PM, 2107.03006, equation 1).

    With masks it is `cross_entropy` with the weight steps (alpha_s - alpha_t) / (1 - alpha_t), and for many steps
    that of MDLM, -alpha' / (1 - alpha). Times within the last step count as its upper end.
    """

    def objective(term: Term) -> Array:
        process, x, t = term.process, term.x, term.t
        s = process.at(namespace(t.t).clip(t.t - 1 / steps, 0, None))
        s, t = (level.map(lambda part: part[..., None]) for level in (s, t))
        truth = process.transition(x, t, s, process.delta(term.x0))
        return steps * truth.kl(process.transition(x, t, s, term.prediction))

    return objective


def unit(t: NoiseLevel, form: Parametrization) -> Array:
    """Weight 1 (L_simple, DDPM)."""
    return 1.0


@maker(gamma=POSITIVE)
def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) on the squared error of x_0 (Hang et al. 2023, 2303.09556)."""
    return lambda t, form: namespace(t.t).clip(t.snr, None, gamma) / form.factor(t)


@maker(gamma=REAL, k=POSITIVE)
def p2(gamma: float = 1.0, k: float = 1.0) -> Weight:
    """1 / (k + SNR)^gamma on the squared error of eps (P2, Choi et al. 2022, 2204.00227)."""
    return lambda t, form: (k + t.snr) ** -gamma * t.snr / form.factor(t)


@maker(data_std=POSITIVE)
def edm_weight(data_std: float = 0.5) -> Weight:
    """(sigma^2 + d^2) / (sigma d)^2 on the squared error of x_0 at alpha = 1, d = data_std; elsewhere sigma is the
    ratio sigma / alpha (EDM, 2206.00364, table 1)."""
    return lambda t, form: (1 / data_std**2 + t.snr) / form.factor(t)


def flow_weight(t: NoiseLevel, form: Parametrization) -> Array:
    """Weight 1 on the squared error of the velocity eps - x_0 (2210.02747), whatever the network predicts."""
    return ((t.alpha + t.sigma) / t.sigma) ** 2 / form.factor(t)


@maker(steps=COUNT)
def vlb(process: Gaussian, steps: int = 1000) -> Weight:
    """The variational bound: steps / 2 (SNR(t - 1 / steps) - SNR(t)) on the squared error of x_0, in nats.

    Variational diffusion models (Kingma et al. 2021, 2107.00630), equation 14; the step to clean data, where the SNR
    is infinite, is left out, as are times within it.
    """

    def weight(t: NoiseLevel, form: Parametrization) -> Array:
        xp = namespace(t.t)
        s = process.at(xp.clip(t.t - 1 / steps, 1 / steps, None))
        return xp.clip(s.snr - t.snr, 0, None) * (steps / 2) / form.factor(t)

    return weight


def uniform_times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """`count` times in float64 on the generator's device, uniform in (0, 1), stratified over the batch (VDM,
    2107.00630, I.1)."""
    import torch

    device = None if generator is None else generator.device
    offset = torch.rand((), generator=generator, device=device)
    times = (offset + torch.arange(count, dtype=double(torch, device), device=device) / count) % 1
    return times.clamp(min=1e-5)  # at t = 0 nothing is left to predict


@maker(mean=REAL, std=POSITIVE)
def logit_normal(mean: float = 0.0, std: float = 1.0) -> Times:
    """Times 1 / (1 + exp(-u)), u ~ N(mean, std^2): most in the middle (Stable Diffusion 3, 2403.03206, equation
    19)."""
    return _normal(mean, std, lambda u: u.sigmoid())


@maker(mean=REAL, std=POSITIVE)
def log_normal(process: Process, mean: float = -1.2, std: float = 1.2) -> Times:
    """Times at which log(sigma / alpha) ~ N(mean, std^2), as EDM trains (2206.00364, table 1)."""

    def time(u: torch.Tensor) -> torch.Tensor:
        sigma = u.exp()
        t = process.schedule.sigma_to_t(numpy(sigma) if on_host(sigma) else sigma)  # NumPy is faster on a CPU
        times: torch.Tensor = like(t, sigma).clamp(min=1e-5)
        return times

    return _normal(mean, std, time)


def _normal(mean: float, std: float, time: Callable[[torch.Tensor], torch.Tensor]) -> Times:
    def times(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        import torch

        return time(mean + std * torch.special.ndtri(uniform_times(count, generator)))

    return times
