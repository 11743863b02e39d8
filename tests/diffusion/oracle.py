"""Gaussian data, for which the best denoiser and the probability flow are known in closed form."""

import numpy as np

from inkwash.diffusion import Gaussian, Prediction, betas, cosine, linear_beta, rectified_flow

MEAN, VARIANCE = 0.7, 0.3

TABLE = np.linspace(1e-4, 0.02, 1000)  # DDPM's betas
PROCESSES = {
    "linear_beta": Gaussian(linear_beta()),
    "cosine": Gaussian(cosine()),
    "rectified_flow": Gaussian(rectified_flow()),
    "betas": Gaussian(betas(TABLE)),
}


def denoise(x, t, condition=None):
    """E[x_0 | x_t] for x_0 ~ N(MEAN, VARIANCE)."""
    gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
    return Prediction(MEAN + gain * (x - t.alpha * MEAN))


def flow(x, t, s):
    """Where the probability-flow ODE carries x from time t to time s."""
    spread = [np.sqrt(p.alpha**2 * VARIANCE + p.sigma**2) for p in (s, t)]
    return s.alpha * MEAN + spread[0] / spread[1] * (x - t.alpha * MEAN)
