"""How likely data are: the variational bound of the reverse chain, and the exact density of the probability flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from inkwash.diffusion.arrays import Array, namespace, normal_cdf
from inkwash.diffusion.denoiser import Condition, Denoise, Prediction
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import gradient
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
    (DDPM, 2006.11239, equation 5; Improved DDPM where a spread is predicted). The grid's last time stands for data:
    if it is t = 0, the last transition has the spread 1, the noise of the whole step. With `bin_width` x_0 lies on a
    lattice in [-1, 1], 2 / 255 for pictures of 8 bits, and the last term is the probability of its bin (DDPM,
    equation 13), whose outermost bins reach to infinity; without, it is a density.
    """
    process, first = grid.process, grid[0]

    def total(x: Array) -> Array:
        return x.reshape(len(x0), -1).sum(1)

    bound = -total(Normal(first.alpha * x0, first.sigma).kl(Normal(0.0, first.sigma)))
    last = len(grid) - 2
    for i, (t, s) in enumerate(pairwise(grid)):
        x = process.noise(x0, t, noise.normal())
        prediction = denoise(x, t, condition)
        model = process.transition(x, t, s, prediction)
        if i < last:
            bound = bound - total(process.transition(x, t, s, Prediction(x0)).kl(model))
            continue
        if s.sigma == 0:
            model = Normal(model.mean, math.sqrt(max(t.sigma**2, 0.0)) * s.alpha / max(t.alpha, 1e-12))
        bound = bound + total(model.log_prob(x0) if bin_width is None else _log_bin(model, x0, bin_width))
    return bound


def _log_bin(model: Normal, x0: Array, width: float) -> Array:
    """log P(x_0 - width / 2 < X < x_0 + width / 2), the outermost bins of [-1, 1] open."""
    xp = namespace(x0)
    above = normal_cdf((x0 + width / 2 - model.mean) / model.std)
    below = normal_cdf((x0 - width / 2 - model.mean) / model.std)
    edge = 1 - width / 4
    mass = xp.where(x0 > edge, 1.0, above) - xp.where(x0 < -edge, 0.0, below)
    return xp.log(xp.clip(mass, 1e-12, None))


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
    tolerance: float = 1e-5,
) -> tuple[torch.Tensor, int]:
    """log p(x_0) of each sample by the probability flow, in nats: (batch,); and the calls of the denoiser.

    In y = x / alpha and l = log(sigma / alpha) the flow is dy / dl = r eps with r = exp(l), and along it
    d log p / dl = -r div eps. It is followed from r = `lowest`, where y = x_0, to r = `highest` or what the schedule
    reaches, and there y ~ N(0, r^2). So what is scored is data with a noise of `lowest`, and the end is wrong by
    about (|data| / highest)^2 / 2. The divergence is estimated with `probes` vectors of signs, from `seeds`
    (Hutchinson); the solver is an adaptive Runge-Kutta of order 5. Score SDE (2011.13456), appendix D.2.

    Raises DiffusionError for data that are no torch tensor.
    """
    signs = Noise(seeds, x0.shape[1:], "probes")
    vectors = [namespace(x0).asarray(np.sign(signs.normal())).to(x0) for _ in range(probes)]
    end = min(highest, process.at(1.0 if process.at(1.0).alpha else 1 - 1e-6).ratio)
    calls = 0

    def slope(log_r: float, state: Any) -> Any:
        nonlocal calls
        ratio = math.exp(log_r)
        t = process.at(min(process.schedule.time(ratio), 1.0))
        calls += 1
        kept = []

        def inner(y: torch.Tensor) -> torch.Tensor:
            eps: torch.Tensor = noise_in(t.alpha * y, denoise(t.alpha * y, t, condition).clean, t)
            kept.append(eps.detach())
            return eps

        divergence = 0.0
        for vector in vectors:
            (product,) = gradient(lambda y, v=vector: inner(y) * v, state[0], "log_likelihood")  # type: ignore[misc]
            divergence = divergence + (product * vector).flatten(1).sum(1) / probes
        return [ratio * kept[0], -ratio * divergence]

    start = [x0, 0 * x0.flatten(1).sum(1)]
    y, change = rk45(slope, start, math.log(lowest), math.log(end), tolerance)
    prior: torch.Tensor = Normal(0.0, end).log_prob(y).flatten(1).sum(1)
    return prior - change, calls


# Dormand & Prince 1980: where to look, with which weights, and the difference to the embedded fourth order.
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def rk45(
    f: Callable[[float, list[Array]], list[Array]], y: list[Array], start: float, end: float, tolerance: float
) -> list[Array]:
    """Integrates dy / dt = f(t, y) from start to end; y is a list of arrays, the error of a step at most about
    tolerance * (1 + |y|) in the root mean square. Dormand & Prince 1980, with first same as last."""
    t, h, slope = start, (end - start) / 20, f(start, y)

    def moved(weights: Sequence[float], slopes: list[list[Array]], h: float) -> list[Array]:
        steps = [(h * w, k) for w, k in zip(weights, slopes, strict=False) if w]
        return [value + sum(w * k[i] for w, k in steps) for i, value in enumerate(y)]

    while (end - t) * h > 0:
        h = math.copysign(min(abs(h), abs(end - t)), h)
        slopes = [slope]
        for weights in STAGES[1:]:
            reached = moved(weights, slopes, h)
            slopes.append(f(t + h * sum(weights), reached))
        off = [a - b for a, b in zip(moved(ERROR, slopes, h), y, strict=True)]
        square = [((e / (tolerance * (1 + abs(value)))) ** 2).mean() for e, value in zip(off, y, strict=True)]
        error = math.sqrt(max(float(value) for value in square))
        if error <= 1:
            t, y, slope = (end if abs(end - t) <= abs(h) else t + h), reached, slopes[-1]
        h *= min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
    return y
