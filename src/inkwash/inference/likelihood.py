"""How likely data are: the variational bound of the reverse chain, and the exact density of the probability flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from inkwash.diffusion import DiffusionError, Gaussian, Grid, Noise, Normal, eps_from_x0
from inkwash.diffusion.arrays import Array, finite, host, namespace, no_grad
from inkwash.diffusion.denoiser import Condition, Denoise
from inkwash.diffusion.errors import require
from inkwash.diffusion.guides import check_process, needs_torch, trained_process
from inkwash.diffusion.options import COUNT, POSITIVE, check, checked

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
    (DDPM, 2006.11239, equation 5; Improved DDPM where a variance is predicted). The grid's last time stands for data.
    At clean data, sigma_s = 0, where `ancestral` returns the mean alone, the last term has the variance sigma_t^2,
    all the noise between the two: DDPM's beta_1. With `bin_width` x_0 lies on a lattice in [-1, 1], 2 / 255 for
    pictures of 8 bits, and the last term is the probability of its bin (DDPM, equation 13), whose outermost bins
    reach to infinity; without, it is a density.

    Raises DiffusionError for data or noise that do not belong to the grid's process, and a denoiser of another one.
    """
    process, first = grid.process, grid[0]
    check_process(trained_process(denoise), process)
    process.check(host(x0))
    if bin_width is not None:
        require(isinstance(process, Gaussian), "bin_width: tokens lie in no bins; leave it out")
        check("variational_bound", {"bin_width": bin_width}, {"bin_width": POSITIVE})
    bound = -process.marginal(x0, first).kl(process.marginal(0 * x0, first._replace(alpha=0.0)))
    with no_grad(x0):
        for t, s in pairwise(grid):
            eps = process.eps(noise)
            require(eps.shape == x0.shape, f"noise of shape {tuple(eps.shape)} for data of shape {tuple(x0.shape)}")
            x = process.project(process.noise(x0, t, eps), None)
            model = process.transition(x, t, s, denoise(x, t, condition))
            if s is not grid[-1]:
                bound = bound - process.transition(x, t, s, process.delta(x0)).kl(model)
    if model.deterministic:
        model = replace(model, std=t.sigma)
    bound = bound + (model.log_prob(x0) if bin_width is None else _log_bin(model, x0, bin_width))
    return bound.reshape(len(x0), -1).sum(1)


def _log_bin(model: Normal, x0: Array, width: float) -> Array:
    """log P(x_0 - width / 2 < X < x_0 + width / 2), the outermost bins of [-1, 1] open."""
    xp, outer = namespace(x0), abs(x0) > 1 - width / 4
    off = x0 - model.mean
    off = xp.where(outer, xp.sign(x0) * off, abs(off))  # counted from the tail that keeps its digits
    beyond = xp.where(outer, 0.0, normal_cdf((-width / 2 - off) / model.std))
    return xp.log(xp.clip(normal_cdf((width / 2 - off) / model.std) - beyond, 1e-37, None))


def normal_cdf(x: Array) -> Array:
    """The distribution function of the standard normal."""
    if namespace(x) is np:
        return np.vectorize(math.erfc, otypes=[np.float64])(x / -math.sqrt(2)) / 2
    return namespace(x).erfc(x / -math.sqrt(2)) / 2  # torch's ndtr has lost its lower tail in float32


@checked(sigma_max=POSITIVE, sigma_min=POSITIVE, tolerance=POSITIVE)
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
    tolerance: float = 1e-4,
) -> tuple[torch.Tensor, int]:
    """log p(x_0) of each sample by the probability flow, in nats: (batch,) in float64; and the calls of the denoiser.

    In y = x / alpha and l = log(sigma / alpha) the flow is dy / dl = r eps with r = exp(l), and along it
    d log p / dl = -r div eps. It is followed from r = `sigma_min`, where y = x_0, to r = `sigma_max`, both clipped to
    what the schedule reaches, and there y ~ N(0, r^2). So what is scored is data with a noise of `sigma_min`; and as
    this prior knows nothing of the data's mean m, one score is off by about |m| / sigma_max, their mean by half its
    square. Score SDE (2011.13456), appendix D.2.

    probes: vectors of signs, from `seeds`, that estimate the divergence (Hutchinson 1989): without bias, and
        scattered by 1 / sqrt(probes). None: one basis vector for each dimension, which is exact and asks for no
        random numbers; a call of the denoiser then costs a backward pass for each dimension.
    tolerance: `rtol` and `atol` of SciPy's RK45, whose state is the batch as one float64 vector: the steps are those
        that the batch needs as a whole.

    Raises DiffusionError for data that are no torch tensor, a process that is not `Gaussian` or not the denoiser's, a
    flow that is not finite or too rough for the tolerance, and without SciPy.
    """
    needs_torch(x0, "log_likelihood")
    require(type(process) is Gaussian, f"log_likelihood: of Gaussian processes, not {type(process).__name__}")
    check_process(trained_process(denoise), process)
    process.check(host(x0))
    try:
        from scipy.integrate import solve_ivp
    except ImportError:
        raise DiffusionError("log_likelihood needs SciPy: pip install 'inkwash[likelihood]'") from None
    import torch

    y0 = x0.double()
    if probes is None:
        vectors = [basis.expand_as(y0) for basis in torch.eye(x0[0].numel()).to(y0).reshape(-1, *x0.shape[1:])]
    else:
        check("log_likelihood", {"probes": probes}, {"probes": COUNT})
        require(len(seeds) == len(x0), f"{len(seeds)} seeds for {len(x0)} samples: one for each is needed")
        noise = Noise(seeds, x0.shape[1:], "probes", device=x0.device, dtype="float64")
        vectors = [noise.normal().sign() for _ in range(probes)]
    start, end = max(sigma_min, process.at(0.0).edm_sigma), min(sigma_max, process.at(1.0).edm_sigma)
    require(start < end, f"log_likelihood: sigma_max = {end:.6g} must be above sigma_min = {start:.6g}")
    calls = 0

    def slope(log_r: float, state: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        t = process.at(process.schedule.sigma_to_t(math.exp(log_r)))
        with torch.enable_grad():
            y = torch.from_numpy(state.reshape(len(x0), -1)[:, :-1]).to(y0).reshape(x0.shape).requires_grad_()
            eps = eps_from_x0(t.alpha * y, denoise(t.alpha * y, t, condition).x0, t)
            slopes = [v * torch.autograd.grad(eps, y, v, retain_graph=True)[0] for v in vectors]
        divergence = torch.stack(slopes).sum(0).flatten(1).sum(1, keepdim=True) / (1 if probes is None else probes)
        moved = math.exp(log_r) * torch.cat([eps.detach().flatten(1), -divergence], 1)
        require(finite(moved), f"log_likelihood: at sigma / alpha = {math.exp(log_r):.6g} the flow is not finite")
        return moved.cpu().numpy().reshape(-1)

    state = torch.cat([y0.flatten(1), 0 * y0.flatten(1)[:, :1]], 1).cpu().numpy()  # y, and the change of log p
    flow = solve_ivp(slope, (math.log(start), math.log(end)), state.reshape(-1), rtol=tolerance, atol=tolerance)
    require(flow.success, f"log_likelihood: the flow is too rough for the tolerance ({flow.message})")
    reached = torch.from_numpy(flow.y[:, -1].reshape(state.shape)).to(y0)
    return Normal(0.0, end).log_prob(reached[:, :-1]).sum(1) - reached[:, -1], calls
