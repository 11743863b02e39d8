"""Samplers: coroutines that walk down a grid.

A sampler yields `Ask(x, t)` and is sent the `Prediction` of the clean state; after each step it yields
`Step(x, t, s, ...)` and is sent x back, changed by a hook or not. It only multiplies and adds states by Python
floats, so the same function runs on NumPy arrays and torch tensors; what it remembers is a local variable. To add
one, write a function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any, NamedTuple

from inkwash.diffusion.arrays import Array
from inkwash.diffusion.denoiser import Prediction
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Normal
from inkwash.diffusion.schedule import Point


class Ask(NamedTuple):
    """What is clean, seen from `x` at time `t`? The reply is a `Prediction`."""

    x: Array
    t: Point


class Step(NamedTuple):
    """The state has come from `t` to `x` at `s`. The reply is the state to go on with.

    `transition` is the distribution that `x` was drawn from, None for a deterministic sampler.
    """

    x: Array
    t: Point
    s: Point
    prediction: Prediction
    transition: Normal | None = None


Walk = Generator[Ask | Step, Any, Array]
Sampler = Callable[[Array, Grid, Noise], Walk]


def ancestral(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Draws x_s from the process's own transition q(x_s | x_t, x_0 = clean).

    DDPM, algorithm 2 (Ho et al. 2020, 2006.11239), on any grid.
    """
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        transition = grid.process.transition(x, t, s, prediction)
        x = yield Step(transition.sample(noise), t, s, prediction, transition)
    return x


def ddim(x: Array, grid: Grid, noise: Noise, eta: float = 0.0) -> Walk:
    """x_s = alpha_s clean + sqrt(sigma_s^2 - std^2) eps + std noise, eps = (x_t - alpha_t clean) / sigma_t.

    std = eta * sqrt((sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2)) sigma_s / sigma_t: deterministic at eta = 0, the
    ancestral sampler at eta = 1. DDIM, equations 12 and 16 (Song et al. 2021, 2010.02502).
    """
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        added = max(t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2, 0.0)
        std = eta * math.sqrt(added) * s.sigma / t.sigma
        kept = math.sqrt(max(s.sigma**2 - std**2, 0.0)) / t.sigma
        mean = kept * x + (s.alpha - kept * t.alpha) * prediction.clean
        transition = Normal(mean, std) if std else None
        x = yield Step(transition.sample(noise) if transition else mean, t, s, prediction, transition)
    return x


def euler(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Euler's rule for the probability-flow ODE d(x / alpha) = eps d(sigma / alpha).

    x_s / alpha_s = x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) eps, written without the quotients that
    are infinite at alpha = 0. EDM (Karras et al. 2022, 2206.00364), algorithm 1 without its correction; on a
    rectified flow this is x_s = x_t + (s - t) velocity, and on every schedule it is DDIM with eta = 0.
    """
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        shrink = s.sigma / t.sigma
        x = yield Step(shrink * x + (s.alpha - shrink * t.alpha) * prediction.clean, t, s, prediction)
    return x


def dpmpp_2m(x: Array, grid: Grid, noise: Noise) -> Walk:
    """DPM-Solver++(2M), second order with one call a step (Lu et al. 2022, 2211.01095, algorithm 2).

    With lambda = log(alpha / sigma), h = lambda_s - lambda_t and r the last h over this one:
    x_s = sigma_s / sigma_t x_t - alpha_s (exp(-h) - 1) D, D = (1 + 1 / (2 r)) clean - 1 / (2 r) previous clean.
    At an infinite h, at either end, D falls back to the clean prediction.
    """
    before, width_before = None, math.inf
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        clean, width = prediction.clean, (s.log_snr - t.log_snr) / 2
        gain = s.alpha - t.alpha * s.sigma / t.sigma  # -alpha_s (exp(-h) - 1)
        target = clean
        if math.isfinite(width) and math.isfinite(width_before):
            target = clean + width / (2 * width_before) * (clean - before)
        x = yield Step((s.sigma / t.sigma) * x + gain * target, t, s, prediction)
        before, width_before = clean, width
    return x
