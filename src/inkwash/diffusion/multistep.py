"""Samplers that reuse the predictions of earlier steps: high order for one call of the network a step.

All rest on one exact integral. In lambda = log(alpha / sigma), with h = lambda_s - lambda_t, the probability flow is

    x_s = (sigma_s / sigma_t) x_t + sigma_s * integral of exp(lambda) x_0 d lambda            (data; DPM-Solver++)
    x_s = (alpha_s / alpha_t) x_t - alpha_s * integral of exp(-lambda) eps d lambda           (noise; DEIS)

so a step is `ddim_step_x0` with a weighted mean of the clean predictions, or `ddim_step_eps` with one of the noise. A
polynomial through the last predictions gives the weights (`mean_weights`). Where an end is infinite (noise alone,
clean data) the last prediction is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from inkwash.diffusion.arrays import Array, linear_combination
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.options import UNIT, Range
from inkwash.diffusion.process import Normal
from inkwash.diffusion.samplers import ModelCall, StepResult, Walk, brownian, ddim_step_eps, ddim_step_x0
from inkwash.diffusion.samplers import eps_from_x0, sampler
from inkwash.diffusion.schedule import NoiseLevel

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # on [0, 1]
POWERS = NODES ** np.arange(4)[:, None]

Past = list[tuple[float, Array]]  # (place, value), the latest first


def mean_weights(past: Past, h: float, tilt: float) -> list[float]:
    """The weights with which the values in `past` make the mean of the polynomial through them, over the step of
    length h that begins at the first place, under a density proportional to exp(tilt u), u from 0 to 1 along it."""
    nodes = [(place - past[0][0]) / h for place, _ in past]
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


def polynomial_mean(past: Past, h: float, tilt: float) -> Array:
    """The values in `past` with their `mean_weights`."""
    return past[0][1] if len(past) == 1 else linear_combination([v for _, v in past], mean_weights(past, h, tilt))


def multistep(
    x: Array, grid: Grid, noise: Noise, variable: str, order: int, eta: float = 0.0, exact: bool = True
) -> Walk:
    """The step of `variable` with the polynomial through its last `order` values.

    "x0": the clean prediction in lambda; with eta the reverse SDE, whose integral is tilted by (1 + eta) h. "eps":
    the noise in lambda. "sigma": the noise in sigma / alpha (Adams-Bashforth), where there is no tilt. Unless
    `exact` the mean over the step is taken without it: of two values, the one in the middle.
    """
    past: Past = []
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        x0, h, transition = prediction.x0, s.lambda_ - t.lambda_, None
        in_sigma, inner = variable == "sigma" and t.alpha > 0, math.isfinite(h)
        if t.alpha:
            place = t.edm_sigma if in_sigma else t.lambda_
            past = [(place, x0 if variable == "x0" else eps_from_x0(x, x0, t)), *past][:order]
        if variable == "x0":
            weights = mean_weights(past, h, (1 + eta) * h) if inner else [1.0]
            transition = dpmpp_transition(x, [value for _, value in past] if inner else [x0], weights, t, s, eta)
            reached = brownian(transition, noise, t, s)
        elif in_sigma or inner:
            length = s.edm_sigma - t.edm_sigma if in_sigma else h
            reached = ddim_step_eps(x, polynomial_mean(past, length, -h if exact and not in_sigma else 0.0), t, s)
        else:
            reached = ddim_step_x0(x, x0, t, s)
        x = yield StepResult(reached, t, s, prediction, transition if eta and s.sigma else None)
    return x


def dpmpp_transition(
    x: Array, x0s: Sequence[Array], weights: Sequence[float], t: NoiseLevel, s: NoiseLevel, eta: float
) -> Normal:
    """With q = e^(-h): (sigma_s / sigma_t) q^eta x_t + alpha_s (1 - q^(1 + eta)) x_0 + sigma_s sqrt(1 - q^(2 eta)) z,
    the exact step of the reverse SDE for a constant x_0 = sum_j weights_j x0s_j, in one sum; at eta = 0 that of the
    flow (2211.01095)."""
    q = s.sigma * t.alpha / (s.alpha * t.sigma)
    share = s.alpha * (1 - q ** (1 + eta))
    mean = linear_combination([x, *x0s], [s.sigma / t.sigma * q**eta, *(share * weight for weight in weights)])
    return Normal(mean, s.sigma * math.sqrt(1 - q ** (2 * eta)))


@sampler(order=Range(1, 4, whole=True))
def lms(x: Array, grid: Grid, noise: Noise, order: int = 4) -> Walk:
    """Linear multistep: Adams-Bashforth of order 1 to 4 in x / alpha, eps a polynomial in sigma / alpha.

    PNDM's multistep part (Liu et al. 2022, 2202.09778) with exact coefficients for unequal steps, as in k-diffusion;
    DEIS (2204.13902) calls it rho-AB.
    """
    return (yield from multistep(x, grid, noise, "sigma", order))


@sampler(order=Range(1, 3, whole=True))
def deis(x: Array, grid: Grid, noise: Noise, order: int = 3) -> Walk:
    """Exponential integrator with eps a polynomial in log(sigma / alpha), order 1 to 3: DEIS, log-rho.

    Zhang & Chen 2023 (2204.13902).
    """
    return (yield from multistep(x, grid, noise, "eps", order))


@sampler()
def dpmpp_3m(x: Array, grid: Grid, noise: Noise) -> Walk:
    """DPM-Solver++(3M): the clean prediction a parabola in lambda through the last three.

    Lu et al. 2022 (2211.01095) with the exact weights. Public implementations weigh the second divided difference as
    if it were the second derivative, which is twice that, and lose the third order.
    """
    return (yield from multistep(x, grid, noise, "x0", 3))


@sampler(eta=UNIT)
def dpmpp_3m_sde(x: Array, grid: Grid, noise: Noise, eta: float = 1.0) -> Walk:
    """DPM-Solver++(3M) for the reverse SDE, with the exact weights, as in `dpmpp_3m`, and a Brownian path's noise, as
    in `dpmpp_sde`."""
    return (yield from multistep(x, grid, noise, "x0", 3, eta))


@sampler()
def dpm_solver_2m(x: Array, grid: Grid, noise: Noise) -> Walk:
    """DPM-Solver of second order in the noise, with one call a step: x_s = (alpha_s / alpha_t) x_t
    - sigma_s (exp(h) - 1) D, D = eps + (eps - previous eps) / (2 r), r the last h over this one (Lu et al. 2022,
    2206.00927, in its multistep form)."""
    return (yield from multistep(x, grid, noise, "eps", 2, exact=False))


@sampler(eta=UNIT)
def dpmpp_2m(x: Array, grid: Grid, noise: Noise, eta: float = 0.0) -> Walk:
    """DPM-Solver++(2M), second order with one call a step (Lu et al. 2022, 2211.01095, algorithm 2).

    x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D, D = x_0 + (x_0 - previous x_0) / (2 r), r the last h over
    this one. eta > 0 is the reverse SDE, see `dpmpp_transition`, with a Brownian path's noise, as in `dpmpp_sde`.
    """
    x0_before, h_before = x, math.inf
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        x0, h = prediction.x0, s.lambda_ - t.lambda_
        slope = h / (2 * h_before) if math.isfinite(h) else 0.0  # 1 / (2 r)
        transition = dpmpp_transition(x, [x0, x0_before], [1 + slope, -slope], t, s, eta)
        reached = brownian(transition, noise, t, s)
        x = yield StepResult(reached, t, s, prediction, transition if eta and s.sigma else None)
        x0_before, h_before = x0, h
    return x


@sampler(eta=UNIT)
def dpmpp_2m_sde(x: Array, grid: Grid, noise: Noise, eta: float = 1.0) -> Walk:
    """SDE-DPM-Solver++(2M), the reverse SDE at second order in the drift (2211.01095, appendix)."""
    return (yield from dpmpp_2m(x, grid, noise, eta))


@sampler()
def dpmpp_2s(x: Array, grid: Grid, noise: Noise) -> Walk:
    """DPM-Solver++(2S), second order without memory: two steps of the grid at a time, t -> m -> s.

    D = x0_t + (x0_m - x0_t) / (2 r) with r = (lambda_m - lambda_t) / (lambda_s - lambda_t) leads from t to s
    (2211.01095, algorithm 1). A step that is left over, or whose end is infinite, is of first order.
    """
    levels = list(grid)
    for t, m, s in zip(levels[::2], levels[1::2], [*levels[2::2], None], strict=False):
        prediction = yield ModelCall(x, t)
        halfway = yield StepResult(ddim_step_x0(x, prediction.x0, t, m), t, m, prediction)
        if s is None:
            return halfway
        middle = yield ModelCall(halfway, m)
        h = s.lambda_ - t.lambda_
        if math.isfinite(h):
            slope = h / (2 * (m.lambda_ - t.lambda_))  # 1 / (2 r)
            D = linear_combination([prediction.x0, middle.x0], [1 - slope, slope])
            reached = ddim_step_x0(x, D, t, s)
        else:
            reached = ddim_step_x0(halfway, middle.x0, m, s)
        x = yield StepResult(reached, m, s, middle)
    return x


@sampler(order=Range(1, 3, whole=True))
def unipc(x: Array, grid: Grid, noise: Noise, order: int = 2) -> Walk:
    """UniPC of order p = 1 to 3, B(h) = exp(h) - 1: a multistep predictor, and a corrector that costs no call.

    UniC: once the network has been asked at the predicted state, its answer D corrects the step that led there, and
    UniP sets out from the corrected state. Zhao et al. 2023 (2302.04867); as there, a UniP through two points and a
    UniC through one take a_1 = 1/2 in place of the exact mean.
    """

    def step(x: Array, Ds: Past, t: NoiseLevel, s: NoiseLevel, exact: bool) -> Array:
        h = s.lambda_ - t.lambda_
        return ddim_step_x0(x, polynomial_mean(Ds, h, h if exact else 0.0), t, s)

    Ds: Past = []  # (lambda, x_0), the latest first
    t_before, x_before, predicted = grid[0], x, None
    for i, (t, s) in enumerate(pairwise(grid)):
        prediction = yield ModelCall(x, t)
        D = (t.lambda_, prediction.x0)
        if Ds and x is predicted:  # UniC; what a hook has put into the state is not to be corrected away
            x = step(x_before, [*Ds, D], t_before, t, exact=len(Ds) > 1)
        if t.alpha:
            Ds = [D, *Ds][: min(order, len(grid) - 1 - i)]
        t_before, x_before = t, x
        inner = bool(Ds) and s.sigma > 0  # UniP; at the infinite ends of lambda the first order
        predicted = step(x, Ds, t, s, exact=len(Ds) > 2) if inner else ddim_step_x0(x, prediction.x0, t, s)
        x = yield StepResult(predicted, t, s, prediction)
    return x
