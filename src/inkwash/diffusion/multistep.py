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
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from inkwash.diffusion.arrays import Array, combine
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Normal
from inkwash.diffusion.samplers import Ask, Step, Walk, along, noise_in, toward
from inkwash.diffusion.schedule import Point

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # on [0, 1]
POWERS = NODES ** np.arange(4)[:, None]

Past = list[tuple[float, Array]]  # (place, value), the latest first


def mean_weights(nodes: list[float], tilt: float) -> list[float]:
    """c_j with sum_j c_j f(u_j) = the mean of f over [0, 1] under a density proportional to exp(tilt u), for every
    polynomial f of a lower degree than there are nodes u_j."""
    moments = [1 / (k + 1) for k in range(len(nodes))]
    if tilt:
        moments = (POWERS[: len(nodes)] @ (WEIGHTS * np.exp(tilt * (NODES - (tilt > 0))))).tolist()
    weights = []
    for i, node in enumerate(nodes):  # the mean of its Lagrange polynomial, from those of 1, u, u^2, ...
        means = moments
        for other in nodes[:i] + nodes[i + 1 :]:  # times (u - other) / (node - other)
            means = [(high - other * low) / (node - other) for low, high in pairwise(means)]
        weights.append(means[0] / moments[0])
    return weights


def polynomial(past: Past, h: float, tilt: float) -> tuple[list[Array], list[float]]:
    """The values in `past`, and the weights with which they make the mean, as in `mean_weights`, of the polynomial
    through them over the step of length h that begins at the first place."""
    return [value for _, value in past], mean_weights([(place - past[0][0]) / h for place, _ in past], tilt)


def leap(x: Array, past: Past, t: Point, s: Point, exact: bool = True) -> Array:
    """`toward` the mean of the polynomial in lambda through `past`, in one sum; its plain mean unless `exact`."""
    h, shrink = (s.log_snr - t.log_snr) / 2, s.sigma / t.sigma
    values, weights = polynomial(past, h, h if exact else 0.0)
    return combine([x, *values], [shrink, *((s.alpha - shrink * t.alpha) * weight for weight in weights)])


def _checked(order: int, most: int, name: str) -> None:
    if not 1 <= order <= most:
        raise DiffusionError(f"{name}: order = {order}; it is defined for 1 to {most}")


def lms(x: Array, grid: Grid, noise: Noise, order: int = 4) -> Walk:
    """Linear multistep: Adams-Bashforth of order 1 to 4 in x / alpha, eps a polynomial in sigma / alpha.

    PNDM's multistep part (Liu et al. 2022, 2202.09778) with exact coefficients for unequal steps, as in k-diffusion;
    DEIS (2204.13902) calls it rho-AB.
    """
    _checked(order, 4, "lms")
    past: Past = []  # sigma / alpha, eps
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        reached = toward(x, prediction.clean, t, s)
        if t.alpha:
            past = [(t.ratio, noise_in(x, prediction.clean, t)), *past][:order]
            reached = along(x, combine(*polynomial(past, s.ratio - t.ratio, 0.0)), t, s)
        x = yield Step(reached, t, s, prediction)
    return x


def deis(x: Array, grid: Grid, noise: Noise, order: int = 3) -> Walk:
    """Exponential integrator with eps a polynomial in log(sigma / alpha), order 1 to 3: DEIS, log-rho.

    Zhang & Chen 2023 (2204.13902).
    """
    _checked(order, 3, "deis")
    past: Past = []  # lambda, eps
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        reached, h = toward(x, prediction.clean, t, s), (s.log_snr - t.log_snr) / 2
        if t.alpha:
            past = [(t.log_snr / 2, noise_in(x, prediction.clean, t)), *past][:order]
        if math.isfinite(h):
            reached = along(x, combine(*polynomial(past, h, -h)), t, s)
        x = yield Step(reached, t, s, prediction)
    return x


def dpmpp_2m(x: Array, grid: Grid, noise: Noise, eta: float = 0.0) -> Walk:
    """DPM-Solver++(2M), second order with one call a step (Lu et al. 2022, 2211.01095, algorithm 2).

    With r the last h over this one: x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D,
    D = clean + (clean - previous clean) / (2 r). eta > 0 draws noise: with q = exp(-h),
    x_s = (sigma_s / sigma_t) q^eta x_t + alpha_s (1 - q^(1 + eta)) D + sigma_s sqrt(1 - q^(2 eta)) noise.
    """
    before, width_before = x, math.inf
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        clean, width = prediction.clean, (s.log_snr - t.log_snr) / 2
        more = width / (2 * width_before) if math.isfinite(width) else 0.0  # 1 / (2 r)
        q = s.sigma * t.alpha / (s.alpha * t.sigma)
        share = s.alpha * (1 - q ** (1 + eta))  # of D
        centre = combine([x, clean, before], [s.sigma / t.sigma * q**eta, share * (1 + more), -share * more])
        transition = Normal(centre, s.sigma * math.sqrt(1 - q ** (2 * eta))) if eta else None
        x = yield Step(transition.sample(noise) if transition else centre, t, s, prediction, transition)
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
    past: Past = []  # lambda, clean
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        if t.alpha:
            past = [(t.log_snr / 2, prediction.clean), *past][:3]
        reached = leap(x, past, t, s) if past and s.sigma else toward(x, prediction.clean, t, s)
        x = yield Step(reached, t, s, prediction)
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
            target = combine([prediction.clean, middle.clean], [1 - h / (2 * first), h / (2 * first)])
            reached = toward(x, target, t, s)
        else:
            reached = toward(halfway, middle.clean, m, s)
        x = yield Step(reached, m, s, middle)
    return x


def tabled(x: Array, grid: Grid, noise: Noise, table: Sequence[Sequence[float]]) -> Walk:
    """A multistep rule whose weights are data: `toward` sum_j c_j clean_j, row i of `table` the c of step i, the
    newest first.

    Every multistep rule for the clean prediction is such a table; others are learned, and need not add up to 1.

    Raises DiffusionError for a table with another number of steps than the grid, or an empty or too long row.
    """
    if len(table) != len(grid) - 1 or not all(1 <= len(row) <= i + 1 for i, row in enumerate(table)):
        raise DiffusionError(f"tabled: {len(grid) - 1} rows are needed, row i of 1 to i + 1 weights")
    past: list[Array] = []
    for (t, s), row in zip(pairwise(grid), table, strict=True):
        prediction = yield Ask(x, t)
        past, shrink = [prediction.clean, *past][: max(map(len, table))], s.sigma / t.sigma
        share = s.alpha - shrink * t.alpha
        reached = combine([x, *past[: len(row)]], [shrink, *(share * weight for weight in row)])
        x = yield Step(reached, t, s, prediction)
    return x


def unipc(x: Array, grid: Grid, noise: Noise, order: int = 2) -> Walk:
    """UniPC of order 1 to 3, B(h) = exp(h) - 1: a multistep predictor, and a corrector that costs no call.

    Once the network has been asked at the predicted state, its answer improves the step that led there, and the
    next step sets out from the improved state. Zhao et al. 2023 (2302.04867); as there, a
    predictor through two points and a corrector through one take 1/2 in place of the exact mean.
    """
    _checked(order, 3, "unipc")
    past: Past = []  # lambda, clean
    left, origin, reached = grid[0], x, None  # where the last step began, from which state, and to which it led
    for i, (t, s) in enumerate(pairwise(grid)):
        prediction = yield Ask(x, t)
        latest = t.log_snr / 2, prediction.clean
        if past and x is reached:  # what a hook has put into the state is not to be corrected away
            x = leap(origin, [*past, latest], left, t, exact=len(past) > 1)
        if t.alpha:
            past = [latest, *past][: min(order, len(grid) - 1 - i)]
        left, origin = t, x
        exact = len(past) > 2
        reached = leap(x, past, t, s, exact) if past and s.sigma else toward(x, prediction.clean, t, s)
        x = yield Step(reached, t, s, prediction)
    return x
