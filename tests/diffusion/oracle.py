"""Data whose best denoiser is known: Gaussian, with its probability flow, or a finite set of points."""

import numpy as np
import torch

from inkwash import diffusion
from inkwash.diffusion import Gaussian, Prediction

MEAN, VARIANCE = 0.7, 0.3

TABLE = np.linspace(1e-4, 0.02, 1000)  # DDPM's betas
PROCESSES = {
    name: Gaussian(schedule)
    for name, schedule in {
        "linear_beta": diffusion.linear_beta(),
        "scaled_linear": diffusion.scaled_linear(),
        "cosine": diffusion.cosine(),
        "cosine, shift 10": diffusion.cosine(shift=10.0),
        "sigmoid": diffusion.sigmoid(),
        "sqrt": diffusion.sqrt(),
        "variance_exploding": diffusion.variance_exploding(),
        "sub_vp": diffusion.sub_vp(),
        "edm": diffusion.edm_schedule(),
        "rectified_flow": diffusion.rectified_flow(),
        "rectified_flow, shift 3": diffusion.rectified_flow(3.0),
        "betas": diffusion.betas(TABLE),
        "betas, zero terminal SNR": diffusion.betas(diffusion.zero_terminal_snr(TABLE)),
    }.items()
}


def denoise(x, t, condition=None):
    """E[x_0 | x_t] for x_0 ~ N(MEAN, VARIANCE)."""
    gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
    return Prediction(MEAN + gain * (x - t.alpha * MEAN))


def flow(x, t, s):
    """Where the probability-flow ODE carries x from time t to time s."""
    spread = [np.sqrt(p.alpha**2 * VARIANCE + p.sigma**2) for p in (s, t)]
    return s.alpha * MEAN + spread[0] / spread[1] * (x - t.alpha * MEAN)


def finite(data, counts=1):
    """The denoiser of a finite data set (n, ...), where point i stands counts[i] times: the mean of its points, each
    weighted by p(x_t | point)."""

    def denoise(x, t, condition=None):
        xp = torch if isinstance(x, torch.Tensor) else np
        points = xp.asarray(data, dtype=x.dtype).reshape(len(data), -1)
        score = -((x.reshape(len(x), 1, -1) - t.alpha * points) ** 2).sum(-1) / (2 * t.sigma**2)
        weight = xp.asarray(counts, dtype=x.dtype) * xp.exp(score - xp.amax(score, 1)[:, None])
        return Prediction((weight @ points / weight.sum(1)[:, None]).reshape(x.shape))

    return denoise
