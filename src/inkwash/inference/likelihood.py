"""How likely data are: the variational bound of the reverse chain, and the exact density of the probability flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from inkwash.diffusion.arrays import Array, like, namespace, no_grad, numpy
from inkwash.diffusion.denoiser import Condition, Denoise
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.guides import needs_torch
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Gaussian, Normal
from inkwash.diffusion.samplers import eps_from_x0

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
                bound = bound - process.transition(x, t, s, process.delta(x0)).kl(model)
    if model.deterministic:
        model = Normal(model.mean, t.sigma)
    bound = bound + (model.log_prob(x0) if bin_width is None else _log_bin(model, x0, bin_width))
    return bound.reshape(len(x0), -1).sum(1)


def normal_cdf(x: Array) -> Array:
    """The distribution function of the standard normal."""
    if namespace(x) is np:
        return np.vectorize(math.erfc, otypes=[np.float64])(x / -math.sqrt(2)) / 2
    return namespace(x).erfc(x / -math.sqrt(2)) / 2  # torch's ndtr has lost its lower tail in float32


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
    probes: int | None = 1,
    sigma_max: float = 80.0,
    sigma_min: float = 1e-3,
    tolerance: float = 1e-5,
) -> tuple[torch.Tensor, int]:
    """log p(x_0) of each sample by the probability flow, in nats: (batch,); and the calls of the denoiser.

    In y = x / alpha and l = log(sigma / alpha) the flow is dy / dl = r eps with r = exp(l), and along it
    d log p / dl = -r div eps. It is followed from r = `sigma_min`, where y = x_0, to r = `sigma_max`, both clipped to
    what the schedule reaches, and there y ~ N(0, r^2). So what is scored is data with a noise of `sigma_min`; and as
    this prior knows nothing of the data's mean m, one score is off by about |m| / sigma_max, their mean by half its
    square. The divergence is exact, one gradient for each dimension, or estimated with so many `probes`, vectors of
    signs from `seeds` (Hutchinson); the solver is SciPy's RK45. Score SDE (2011.13456), appendix D.2.

    Raises DiffusionError for data that are no torch tensor, a flow that is not finite, and without SciPy.
    """
    needs_torch(x0, "log_likelihood")
    import torch

    try:
        from scipy.integrate import solve_ivp
    except ImportError:
        raise DiffusionError("log_likelihood needs SciPy: pip install scipy") from None
    if probes is None:
        basis = torch.eye(x0[0].numel()).to(x0)
        vectors = [row.reshape(x0.shape[1:]).expand(x0.shape) for row in basis]
    else:
        signs = Noise(seeds, x0.shape[1:], "probes", device=x0.device)
        vectors = [signs.normal().sign().to(x0) for _ in range(probes)]
    start, end = max(sigma_min, process.at(0.0).edm_sigma), min(sigma_max, process.at(1.0).edm_sigma)

    def slope(log_r: float, flat: np.ndarray) -> np.ndarray:
        t = process.at(min(process.schedule.sigma_to_t(math.exp(log_r)), 1.0))
        with torch.enable_grad():
            y = like(flat, x0).reshape(len(x0), -1)[:, :-1].reshape(x0.shape).requires_grad_()
            eps = eps_from_x0(t.alpha * y, denoise(t.alpha * y, t, condition).x0, t)
            along = [v * torch.autograd.grad(eps, y, v, retain_graph=True)[0] for v in vectors]
        divergence = torch.stack(along).flatten(2).sum(2).sum(0) / (probes or 1)
        change = math.exp(log_r) * torch.cat([eps.detach().flatten(1), -divergence[:, None]], 1)
        if not bool(change.isfinite().all()):
            raise DiffusionError(f"log_likelihood: at sigma / alpha = {math.exp(log_r):.4g} the flow is not finite")
        return numpy(change).astype(np.float64).reshape(-1)

    flat = numpy(torch.cat([x0.flatten(1), 0 * x0.flatten(1)[:, :1]], 1)).astype(
        np.float64
    )  # y, and the change of log p
    found = solve_ivp(slope, (math.log(start), math.log(end)), flat.reshape(-1), rtol=tolerance, atol=tolerance)
    if not found.success:
        raise DiffusionError(f"log_likelihood: {found.message}")
    state = like(found.y[:, -1], x0).reshape(flat.shape)
    return Normal(0.0, end).log_prob(state[:, :-1]).sum(1) - state[:, -1], int(found.nfev)
