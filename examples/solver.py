"""A solver of one's own, beside Euler's: Heun's rule, of second order, on data whose exact flow is known."""

from itertools import pairwise

import numpy as np

from inkwash import diffusion

MEAN, VARIANCE = np.array([1, -2], np.float32), 0.25  # the data: a Gaussian in the plane


def denoise(x, t, condition=None):
    """E[x_0 | x_t]."""
    gain = VARIANCE * t.alpha / (VARIANCE * t.alpha**2 + t.sigma**2)
    return diffusion.Prediction(MEAN + gain * (x - t.alpha * MEAN))


@diffusion.sampler()
def heun(x, grid, noise):
    """x / alpha as a function of sigma / alpha has the slope eps: the mean of both ends is taken."""
    for t, s in pairwise(grid):
        prediction = yield diffusion.ModelCall(x, t)
        reached = diffusion.ddim_step_x0(x, prediction.x0, t, s)
        if t.alpha and s.sigma:  # else one end of the slope is not finite
            eps = diffusion.eps_from_x0(x, prediction.x0, t)
            there = yield diffusion.ModelCall(reached, s)
            mean = (eps + diffusion.eps_from_x0(reached, there.x0, s)) / 2
            reached = diffusion.ddim_step_eps(x, mean, t, s)
        x = yield diffusion.StepResult(reached, t, s, prediction)
    return x


noise = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
for steps in (20, 40, 80):
    grid = diffusion.exponential(diffusion.Gaussian(diffusion.cosine()), steps)
    t = grid[0]
    exact = MEAN + (noise - t.alpha * MEAN) * (VARIANCE / (VARIANCE * t.alpha**2 + t.sigma**2)) ** 0.5
    ends = [diffusion.sample(denoise, (2,), solver, grid, range(100), x=noise) for solver in (diffusion.euler, heun)]
    print(f"{steps} steps: Euler is {abs(ends[0] - exact).max():.5f} away, Heun {abs(ends[1] - exact).max():.5f}")
