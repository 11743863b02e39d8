"""Samplers: coroutines that walk down a grid.

A sampler yields `Ask(x, t)` and is sent the `Prediction` of the clean state; after each step it yields
`Step(x, t, s, ...)` and is sent x back, changed by a hook or not. It only multiplies and adds states by Python
floats, so the same function runs on NumPy arrays and torch tensors; what it remembers is a local variable. To add
one, write a function. Those that use predictions of earlier steps are in `multistep`.

Two ways to walk from t to s recur. Holding the clean prediction still gives `toward`; holding
eps = (x - alpha clean) / sigma still gives `along`. Alone they are the same step; they differ in what is averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any, NamedTuple

from inkwash.diffusion.arrays import Array, combine, namespace, norm
from inkwash.diffusion.categorical import Categorical
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Normal, Prediction, Torus, added_variance
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


def toward(x: Array, clean: Array, t: Point, s: Point) -> Array:
    """x_s = (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s / sigma_t) clean: the probability flow
    d(x / sigma) = clean d(alpha / sigma) for a constant `clean`. Finite at alpha_t = 0 and at sigma_s = 0."""
    shrink = s.sigma / t.sigma
    return combine([x, clean], [shrink, s.alpha - shrink * t.alpha])


def along(x: Array, eps: Array, t: Point, s: Point) -> Array:
    """x_s = (alpha_s / alpha_t) x_t + (sigma_s - sigma_t alpha_s / alpha_t) eps: the probability flow
    d(x / alpha) = eps d(sigma / alpha) for a constant `eps`. Finite where alpha_t is not 0."""
    grow = s.alpha / t.alpha
    return combine([x, eps], [grow, s.sigma - grow * t.sigma])


def noise_in(x: Array, clean: Array, t: Point) -> Array:
    """eps = (x - alpha clean) / sigma."""
    return combine([x, clean], [1 / t.sigma, -t.alpha / t.sigma])


def ancestral(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Draws x_s from the process's own transition q(x_s | x_t, x_0 = clean).

    DDPM, algorithm 2 (Ho et al. 2020, 2006.11239), on any grid, with the variance that the prediction carries.
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
        std = eta * math.sqrt(added_variance(t, s)) * s.sigma / t.sigma
        kept = math.sqrt(max(s.sigma**2 - std**2, 0.0)) / t.sigma
        mean = combine([x, prediction.clean], [kept, s.alpha - kept * t.alpha])
        transition = Normal(mean, std) if std else None
        x = yield Step(transition.sample(noise) if transition else mean, t, s, prediction, transition)
    return x


def euler(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Euler's rule for the probability flow d(x / alpha) = eps d(sigma / alpha).

    EDM (Karras et al. 2022, 2206.00364), algorithm 1 without its correction; on a rectified flow this is
    x_s = x_t + (s - t) velocity, and on every schedule it is DDIM with eta = 0.
    """
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        x = yield Step(toward(x, prediction.clean, t, s), t, s, prediction)
    return x


def euler_ancestral(x: Array, grid: Grid, noise: Noise, eta: float = 1.0) -> Walk:
    """Euler's rule down to less noise than s has, then the missing noise drawn anew.

    k-diffusion's name for DDIM with eta: in x / alpha, with r = sigma / alpha, its step is
    clean + sqrt(r_s^2 - up^2) eps + up noise, up = eta r_s sqrt(r_t^2 - r_s^2) / r_t.
    """
    return (yield from ddim(x, grid, noise, eta))


def heun(
    x: Array,
    grid: Grid,
    noise: Noise,
    churn: float = 0.0,
    between: tuple[float, float] = (0.0, math.inf),
    boost: float = 1.0,
) -> Walk:
    """Heun's second-order rule in x / alpha: Euler's guess, then the mean of the slopes at both ends.

    EDM, algorithm 2 (Karras et al. 2022, 2206.00364). churn > 0 first adds noise at levels sigma / alpha within
    `between`: the level rises by the factor 1 + min(churn / steps, sqrt(2) - 1), the noise is `boost` times as
    strong. Two calls a step; one where an end is noise alone or clean data.
    """
    gamma = min(churn / (len(grid) - 1), math.sqrt(2) - 1)
    for start, s in pairwise(grid):
        t = start
        if gamma and between[0] <= t.ratio <= between[1] and t.alpha:
            t = grid.at_ratio(t.ratio * (1 + gamma))
            x = grid.process.renoise(x, start, t, boost * noise.normal())
        prediction = yield Ask(x, t)
        reached = toward(x, prediction.clean, t, s)
        if t.alpha and s.sigma:
            again = yield Ask(reached, s)
            slopes = [noise_in(x, prediction.clean, t), noise_in(reached, again.clean, s)]
            reached = along(x, combine(slopes, [0.5, 0.5]), t, s)
        x = yield Step(reached, t, s, prediction)
    return x


def dpm2(x: Array, grid: Grid, noise: Noise) -> Walk:
    """The midpoint rule in x / alpha, the middle at sigma / alpha = sqrt(r_t r_s): DPM-Solver-2 in EDM's terms.

    Karras et al. 2022 (2206.00364); Lu et al. 2022 (2206.00927), algorithm 1. Calls as in `heun`.
    """
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        reached = toward(x, prediction.clean, t, s)
        if t.alpha and s.sigma:
            middle = grid.at_ratio(math.sqrt(t.ratio * s.ratio))
            halfway = toward(x, prediction.clean, t, middle)
            again = yield Ask(halfway, middle)
            reached = along(x, noise_in(halfway, again.clean, middle), t, s)
        x = yield Step(reached, t, s, prediction)
    return x


def predictor_corrector(
    x: Array, grid: Grid, noise: Noise, corrections: int = 1, signal_to_noise: float = 0.16
) -> Walk:
    """An ancestral step, then `corrections` steps of Langevin dynamics at the new time.

    x + h score + sqrt(2 h) z with score = (alpha clean - x) / sigma^2 and h = 2 (r |z| / |score|)^2, r =
    `signal_to_noise`, norms of each sample. Score SDE (Song et al. 2021, 2011.13456), algorithms 3 to 5; as there, h
    is times alpha_s^2 / alpha_t^2, which is 1 where alpha is. On a torus, where noise alone has no score, it is
    2 (r sigma_s)^2, which is the same where |score| is what is usual, |z| / sigma_s.
    """
    periodic = isinstance(grid.process, Torus)
    for t, s in pairwise(grid):
        prediction = yield Ask(x, t)
        transition = grid.process.transition(x, t, s, prediction)
        x = transition.sample(noise)
        for _ in range(corrections if s.sigma else 0):
            again = yield Ask(x, s)
            score, z = (s.alpha * again.clean - x) / s.sigma**2, noise.normal()
            usual = s.sigma if periodic else t.alpha / s.alpha * norm(z) / norm(score)
            h = 2 * (signal_to_noise * usual) ** 2
            x = x + h * score + (2 * h) ** 0.5 * z
        x = yield Step(x, t, s, prediction, transition if not (corrections and s.sigma) else None)
    return x


def repaint(x: Array, grid: Grid, noise: Noise, jump: int = 10, repeats: int = 10) -> Walk:
    """The ancestral sampler that goes back up by `jump` steps after every `jump`, so that each is walked `repeats`
    times.

    With the hook `known_region` the drawn part then comes to agree with the known one. RePaint (Lugmayr et al. 2022,
    2201.09865), algorithm 1 and section 4.2.
    """
    for first in range(0, len(grid) - 1, jump):
        leg = grid.points[first : first + jump + 1]
        for again in range(repeats):
            if again:
                x = grid.process.renoise(x, leg[-1], leg[0], noise.normal())
            for t, s in pairwise(leg):
                prediction = yield Ask(x, t)
                transition = grid.process.transition(x, t, s, prediction)
                x = yield Step(transition.sample(noise), t, s, prediction, transition)
    return x


def ddim_inversion(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Up the grid instead of down: from clean data to the noise that `ddim` would lead back to them, nearly.

    x_t = (alpha_t / alpha_s) x_s + (sigma_t - sigma_s alpha_t / alpha_s) eps, with eps asked for at the noisier end
    t, since at sigma = 0 there is none. DDIM (2010.02502), section 4.3. The state to start from is the driver's `x`.

    Raises DiffusionError if the grid begins where alpha = 0: pure noise remembers nothing.
    """
    if grid[0].alpha == 0:
        raise DiffusionError(f"ddim_inversion: at t = {grid[0].t:.4g} nothing is left of x; begin the grid below it")
    for s, t in pairwise(reversed(grid.points)):
        prediction = yield Ask(x, t)
        x = yield Step(along(x, noise_in(x, prediction.clean, t), s, t), s, t, prediction)
    return x


def unmask(x: Array, grid: Grid, noise: Noise, calls: int | None = None, confident: bool = False) -> Walk:
    """Opens the masked positions in `calls` calls, equally many in each, however fine the grid is.

    Which ones: at random, or, if `confident`, those of which the network is surest (after MaskGIT, Chang et al. 2022,
    2202.04200, which looks at the symbol it has drawn and so prefers likely ones). Symbols opened in one call are
    drawn independently; with a call for each position, the default, samples are exact for an exact network. At
    random, that is the absorbing chain in continuous time, walked from one opening to the next (Zheng et al. 2024,
    2409.02908).
    Positions that are open at the start stay.

    Raises DiffusionError for a process without a mask, and for calls < 1.
    """
    process, xp = grid.process, namespace(x)
    if not isinstance(process, Categorical) or process.mask is None:
        raise DiffusionError("unmask: the process has no mask; take `ancestral`")
    flat = (x == process.mask).reshape(len(x), -1)
    closed = flat.sum(1)
    calls = max(int(closed.max()), 1) if calls is None else calls
    if calls < 1:
        raise DiffusionError(f"unmask: calls = {calls}; at least 1 is needed")
    keys = noise.uniform().reshape(flat.shape)
    times = [grid[0].t + (grid[-1].t - grid[0].t) * i / calls for i in range(calls + 1)]
    for i in range(calls):
        t, s = grid.at(times[i]), grid.at(times[i + 1])
        prediction = yield Ask(x, t)
        law = process.clean(x, prediction)
        drawn = law.sample(noise)
        flat = (x == process.mask).reshape(len(x), -1)
        score = xp.amax(law.probabilities, -1).reshape(flat.shape) if confident else keys
        rank = xp.argsort(xp.argsort(xp.where(flat, score, -1.0) * -1))
        goal = flat.sum(1) - closed * (calls - 1 - i) // calls
        chosen = (flat & (rank < goal[:, None])).reshape(x.shape)
        x = yield Step(xp.where(chosen, drawn, x), t, s, prediction)
    return x
