"""Samplers that reuse the predictions of earlier steps: high order for one call of the network a step.

All rest on one exact integral. In lambda = log(alpha / sigma), with h = lambda_s - lambda_t, the probability flow is

    x_s = (sigma_s / sigma_t) x_t + sigma_s * integral of exp(lambda) clean d lambda          (data; DPM-Solver++)
    x_s = (alpha_s / alpha_t) x_t - alpha_s * integral of exp(-lambda) eps d lambda           (noise; DEIS)

so a step is `toward` a weighted mean of the clean predictions, or `along` one of the noise. A polynomial through the
last predictions gives the weights (`mean_weights`). Where an end is infinite (noise alone, clean data) the last
prediction is held.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from inkwash.diffusion.arrays import Array
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Normal
from inkwash.diffusion.samplers import Ask, Step, Walk, along, noise_in, toward

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # on [0, 1]


def mean_weights(nodes: list[float], tilt: float) -> list[float]:
    """c_j with sum_j c_j f(u_j) = the mean of f over [0, 1] under a density proportional to exp(tilt u), for every
    polynomial f of a lower degree than there are nodes u_j."""
    density = WEIGHTS * np.exp(tilt * (NODES - (tilt > 0)))
    powers = np.arange(len(nodes))[:, None]
    moments = (NODES**powers) @ density / density.sum()
    weights: list[float] = np.linalg.solve(np.array(nodes) ** powers, moments).tolist()
    return weights


def mean(values: list[Array], weights: list[float]) -> Array:
    """sum_j weights_j values_j."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return total


def _checked(order: int, most: int, name: str) -> None:
    if not 1 <= order <= most:
        raise DiffusionError(f"{name}: order = {order}; it is defined for 1 to {most}")


def lms(x: Array, grid: Grid, noise: Noise, order: int = 4) -> Walk:
    """Linear multistep: Adams-Bashforth of order 1 to 4 in x / alpha, eps a polynomial in sigma / alpha.

    PNDM's multistep part (Liu et al. 2022, 2202.09778) with exact coefficients for unequal steps, as in k-diffusion;
    DEIS (2204.13902) calls it rho-AB.
    """
    _checked(order, 4, "lms")
    past: list[tuple[float, Array]] = []  # (sigma / alpha, eps), the latest first
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        reached = toward(x, prediction.clean, t, s)
        if t.alpha:
            past = [(t.ratio, noise_in(x, prediction.clean, t)), *past][:order]
            nodes = [(ratio - t.ratio) / (s.ratio - t.ratio) for ratio, _ in past]
            reached = along(x, mean([eps for _, eps in past], mean_weights(nodes, 0.0)), t, s)
        x = yield Step(reached, t, s, prediction)
    return x


def deis(x: Array, grid: Grid, noise: Noise, order: int = 3) -> Walk:
    """Exponential integrator with eps a polynomial in log(sigma / alpha), order 1 to 3: DEIS, log-rho.

    Zhang & Chen 2023 (2204.13902), equation 15.
    """
    _checked(order, 3, "deis")
    past: list[tuple[float, Array]] = []  # (lambda, eps), the latest first
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        reached, h = toward(x, prediction.clean, t, s), (s.log_snr - t.log_snr) / 2
        if t.alpha:
            past = [(t.log_snr / 2, noise_in(x, prediction.clean, t)), *past][:order]
        if math.isfinite(h):
            nodes = [(place - t.log_snr / 2) / h for place, _ in past]
            reached = along(x, mean([eps for _, eps in past], mean_weights(nodes, -h)), t, s)
        x = yield Step(reached, t, s, prediction)
    return x


def dpmpp_2m(x: Array, grid: Grid, noise: Noise, eta: float = 0.0) -> Walk:
    """DPM-Solver++(2M), second order with one call a step (Lu et al. 2022, 2211.01095, algorithm 2).

    With r the last h over this one: x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D,
    D = clean + (clean - previous clean) / (2 r). eta > 0 draws noise: with q = exp(-h),
    x_s = (sigma_s / sigma_t) q^eta x_t + alpha_s (1 - q^(1 + eta)) D + sigma_s sqrt(1 - q^(2 eta)) noise.
    """
    before, width_before = None, math.inf
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        clean, width = prediction.clean, (s.log_snr - t.log_snr) / 2
        target = clean
        if math.isfinite(width) and math.isfinite(width_before):
            target = clean + width / (2 * width_before) * (clean - before)
        if eta:
            q = s.sigma * t.alpha / (s.alpha * t.sigma)
            centre = (s.sigma / t.sigma * q**eta) * x + (s.alpha * (1 - q ** (1 + eta))) * target
            transition = Normal(centre, s.sigma * math.sqrt(1 - q ** (2 * eta)))
            x = yield Step(transition.sample(noise), t, s, prediction, transition)
        else:
            x = yield Step(toward(x, target, t, s), t, s, prediction)
        before, width_before = clean, width
    return x


def dpmpp_2m_sde(x: Array, grid: Grid, noise: Noise) -> Walk:
    """SDE-DPM-Solver++(2M), the reverse SDE at second order in the drift (2211.01095, appendix; eta = 1)."""
    return (yield from dpmpp_2m(x, grid, noise, eta=1.0))


def dpmpp_3m(x: Array, grid: Grid, noise: Noise) -> Walk:
    """DPM-Solver++(3M): the clean prediction a parabola in lambda through the last three.

    Lu et al. 2022 (2211.01095) with the exact weights. Public implementations weigh the second divided difference as
    if it were the second derivative, which is twice that, and lose the third order.
    """
    past: list[tuple[float, Array]] = []  # (lambda, clean), the latest first
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        target, h = prediction.clean, (s.log_snr - t.log_snr) / 2
        if t.alpha:
            past = [(t.log_snr / 2, target), *past][:3]
        if math.isfinite(h):
            nodes = [(place - t.log_snr / 2) / h for place, _ in past]
            target = mean([clean for _, clean in past], mean_weights(nodes, h))
        x = yield Step(toward(x, target, t, s), t, s, prediction)
    return x


def dpmpp_2s(x: Array, grid: Grid, noise: Noise) -> Walk:
    """DPM-Solver++(2S), second order without memory: two steps of the grid at a time, t -> m -> s.

    D = clean_t + (clean_m - clean_t) / (2 r) with r = (lambda_m - lambda_t) / (lambda_s - lambda_t) leads from t to s
    (2211.01095, algorithm 1). A step that is left over, or whose end is infinite, is of first order.
    """
    points = list(grid)
    for i in range(0, len(points) - 1, 2):
        t, m = points[i : i + 2]
        prediction = yield Ask(x, t)
        halfway = yield Step(toward(x, prediction.clean, t, m), t, m, prediction)
        if i + 2 == len(points):
            return halfway
        s = points[i + 2]
        middle = yield Ask(halfway, m)
        h, first = s.log_snr - t.log_snr, m.log_snr - t.log_snr
        if math.isfinite(h):
            target = prediction.clean + h / (2 * first) * (middle.clean - prediction.clean)
            reached = toward(x, target, t, s)
        else:
            reached = toward(halfway, middle.clean, m, s)
        x = yield Step(reached, m, s, middle)
    return x


def unipc(x: Array, grid: Grid, noise: Noise, order: int = 2) -> Walk:
    """UniPC of order 1 to 3, B(h) = exp(h) - 1: a multistep predictor, and a corrector that costs no call.

    Once the network has been asked at the predicted state, its answer improves the step that led there, and the
    next step sets out from the improved state. Zhao et al. 2023 (2302.04867), algorithms 5 to 8; as there, a
    predictor through two points and a corrector through one take 1/2 in place of the exact mean.
    """
    _checked(order, 3, "unipc")
    past: list[tuple[float, Array]] = []  # (lambda, clean), the latest first
    left, origin, reached = None, x, None  # where the last step began, from which state, and to which it led
    for i, (t, s) in enumerate(pairwise(grid)):
        prediction = yield Ask(x, t)
        clean = prediction.clean
        unchanged = x is reached  # what a hook has put into the state is not to be corrected away
        if left is not None and unchanged and math.isfinite(h := (t.log_snr - left.log_snr) / 2):
            nodes = [(place - left.log_snr / 2) / h for place, _ in past]
            weights = [0.5, 0.5] if len(past) == 1 else mean_weights([*nodes, 1.0], h)
            x = toward(origin, mean([*(value for _, value in past), clean], weights), left, t)
        if t.alpha:
            past = [(t.log_snr / 2, clean), *past][: min(order, len(grid) - 1 - i)]
        target = clean
        if math.isfinite(h := (s.log_snr - t.log_snr) / 2):
            nodes = [(place - t.log_snr / 2) / h for place, _ in past]
            weights = [1 - 0.5 / nodes[1], 0.5 / nodes[1]] if len(past) == 2 else mean_weights(nodes, h)
            target = mean([value for _, value in past], weights)
        left, origin, reached = t, x, toward(x, target, t, s)
        x = yield Step(reached, t, s, prediction)
    return x
