"""How likely data are: the variational bound of the reverse chain, and the exact density of the probability flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from inkwash.diffusion.arrays import Array, combine, namespace, no_grad, normal_cdf
from inkwash.diffusion.denoiser import Condition, Denoise
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import needs_torch
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Gaussian, Normal
from inkwash.diffusion.samplers import noise_in

if TYPE_CHECKING:
    import torch


def bits_per_dimension(log_likelihood: Array, dimensions: int) -> Array:
    """-log_likelihood / (dimensions log 2), from nats."""
    return -log_likelihood / (dimensions * math.log(2))


def variational_bound(
    denoise: Denoise,
    grid: Grid,
    x0: Array,
    noise: Noise,
    condition: Condition | None = None,
    bin_width: float | None = None,
) -> Array:
    """A lower bound on log p(x_0) of each sample under the chain that `ancestral` walks, in nats: (batch,).

    -KL(q(x_T), prior) - sum over steps KL(q(x_s | x_t, x_0), p(x_s | x_t)) + log p(x_0 | last x), each x_t drawn once
    (DDPM, 2006.11239, equation 5; Improved DDPM where a spread is predicted). The grid's last time stands for data.
    At clean data, sigma_s = 0, where `ancestral` returns the mean alone, the last term has the variance sigma_t^2,
    all the noise between the two: DDPM's beta_1. With `bin_width` x_0 lies on a lattice in [-1, 1], 2 / 255 for
    pictures of 8 bits, and the last term is the probability of its bin (DDPM, equation 13), whose outermost bins
    reach to infinity; without, it is a density.
    """
    process, first = grid.process, grid[0]
    bound = -process.marginal(x0, first).kl(process.marginal(0 * x0, first._replace(alpha=0.0)))
    with no_grad(x0):
        for t, s in pairwise(grid):
            x = process.noise(x0, t, process.eps(noise))
            model = process.transition(x, t, s, denoise(x, t, condition))
            if s is not grid[-1]:
                bound = bound - process.transition(x, t, s, process.known(x0)).kl(model)
    if model.sharp:
        model = Normal(model.mean, t.sigma)
    bound = bound + (model.log_prob(x0) if bin_width is None else _log_bin(model, x0, bin_width))
    return bound.reshape(len(x0), -1).sum(1)


def _log_bin(model: Normal, x0: Array, width: float) -> Array:
    """log P(x_0 - width / 2 < X < x_0 + width / 2), the outermost bins of [-1, 1] open."""
    xp, outer = namespace(x0), abs(x0) > 1 - width / 4
    off = x0 - model.mean
    off = xp.where(outer, xp.sign(x0) * off, abs(off))  # counted from the tail that keeps its digits
    beyond = xp.where(outer, 0.0, normal_cdf((-width / 2 - off) / model.std))
    return xp.log(xp.clip(normal_cdf((width / 2 - off) / model.std) - beyond, 1e-37, None))


def log_likelihood(
    denoise: Denoise,
    process: Gaussian,
    x0: torch.Tensor,
    seeds: Sequence[int],
    condition: Condition | None = None,
    *,
    probes: int = 1,
    highest: float = 80.0,
    lowest: float = 1e-3,
    tolerance: float = 1e-4,
) -> tuple[torch.Tensor, int]:
    """log p(x_0) of each sample by the probability flow, in nats: (batch,); and the calls of the denoiser.

    In y = x / alpha and l = log(sigma / alpha) the flow is dy / dl = r eps with r = exp(l), and along it
    d log p / dl = -r div eps. It is followed from r = `lowest`, where y = x_0, to r = `highest`, both clipped to what
    the schedule reaches, and there y ~ N(0, r^2). So what is scored is data with a noise of `lowest`; and as this
    prior knows nothing of the data's mean m, one score is off by about |m| / highest, their mean by half its square.
    The divergence is estimated with `probes` vectors of signs, from `seeds` (Hutchinson); the solver is an adaptive
    Runge-Kutta of order 5. Score SDE (2011.13456), appendix D.2.

    Raises DiffusionError for data that are no torch tensor, and for a flow that is not finite.
    """
    needs_torch(x0, "log_likelihood")
    import torch

    signs = Noise(seeds, x0.shape[1:], "probes", lambda z: torch.from_numpy(np.sign(z)).to(x0))
    vectors = [signs.normal() for _ in range(probes)]
    start, end = max(lowest, process.at(0.0).ratio), min(highest, process.at(1.0).ratio)
    calls = 0

    def slope(log_r: float, state: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        t = process.at(min(process.schedule.time(math.exp(log_r)), 1.0))
        with torch.enable_grad():
            y = state[:, :-1].reshape(x0.shape).detach().requires_grad_()
            eps = noise_in(t.alpha * y, denoise(t.alpha * y, t, condition).clean, t)
            along = [v * torch.autograd.grad(eps, y, v, retain_graph=True)[0] for v in vectors]
        divergence = torch.stack(along).mean(0).flatten(1).sum(1, keepdim=True)
        return math.exp(log_r) * torch.cat([eps.detach().flatten(1), -divergence], 1)

    state = torch.cat([x0.flatten(1), 0 * x0.flatten(1)[:, :1]], 1)  # y, and the change of log p
    state = rk45(slope, state, math.log(start), math.log(end), tolerance)
    return Normal(0.0, end).log_prob(state[:, :-1]).sum(1) - state[:, -1], calls


# Dormand & Prince 1980: where to look, with which weights, and the difference to the embedded fourth order.
STAGES = (
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
)
ERROR = [71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40]


def rk45(f: Callable[[float, Array], Array], y: Array, start: float, end: float, tolerance: float) -> Array:
    """Integrates dy / dt = f(t, y) from start to end, the error of a step at most tolerance * (1 + |y|) in each
    element. Dormand & Prince 1980, with first same as last.

    Raises DiffusionError where f is not finite, or so rough that no step is small enough.
    """
    t, h, slope = start, (end - start) / 20, f(start, y)
    while t != end:
        h = math.copysign(min(abs(h), abs(end - t)), h)
        slopes = [slope]
        for weights in STAGES:
            reached = y + combine(slopes, weights) * h
            slopes.append(f(t + h * sum(weights), reached))
        error = float((abs(combine(slopes, ERROR) * h) / (tolerance * (1 + abs(y)))).max())
        if not math.isfinite(error) or t + h == t:
            raise DiffusionError(f"rk45: at {t:.6g} the slope is not finite, or too rough for the tolerance")
        if error <= 1:
            t, y, slope = (end if h == end - t else t + h), reached, slopes[-1]
        h *= min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
    return y
