"""Samplers: coroutines that walk down a grid.

A sampler yields `ModelCall(x, t)` and is sent the `Prediction` of the clean state; after each step it yields
`StepResult(x, t, s, ...)` and is sent x back, changed by a hook or not. It only multiplies and adds states by Python
floats, so the same function runs on NumPy arrays and torch tensors; what it remembers is a local variable. To add
one, write a function. Those that use predictions of earlier steps are in `multistep`.

Two ways to walk from t to s recur. Holding the clean prediction still gives `ddim_step_x0`; holding
eps = (x - alpha x_0) / sigma still gives `ddim_step_eps`. Alone they are the same step; they differ in what is
averaged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any, NamedTuple

from inkwash.diffusion.arrays import Array, linear_combination, namespace, norm
from inkwash.diffusion.categorical import Categorical
from inkwash.diffusion.errors import require
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.options import COUNT, NOT_NEGATIVE, POSITIVE, UNIT, Range, checked
from inkwash.diffusion.process import Normal, Prediction, Torus, added_variance
from inkwash.diffusion.schedule import NoiseLevel


class ModelCall(NamedTuple):
    """What is clean, seen from `x` at time `t`? The reply is a `Prediction`. `s`: where the step goes, if it is
    said."""

    x: Array
    t: NoiseLevel
    s: NoiseLevel | None = None


class StepResult(NamedTuple):
    """The state has come from `t` to `x` at `s`. The reply is the state to go on with.

    `transition` is the distribution that `x` was drawn from, None for a deterministic sampler.
    """

    x: Array
    t: NoiseLevel
    s: NoiseLevel
    prediction: Prediction
    transition: Any = None


Walk = Generator[ModelCall | StepResult, Any, Array]
Sampler = Callable[[Array, Grid, Noise], Walk]


def sampler(tokens: bool = False, **ranges: Range) -> Callable[[Callable[..., Walk]], Callable[..., Walk]]:
    """Checks a sampler's options, and, unless it is made for `tokens`, that it is not given any."""

    def decorate(f: Callable[..., Walk]) -> Callable[..., Walk]:
        @functools.wraps(f)
        def start(x: Array, grid: Grid, noise: Noise, *args: Any, **options: Any) -> Walk:
            numbers = not isinstance(grid.process, Categorical)
            require(
                tokens or numbers,
                f"{f.__name__}: a sampler of numbers, given tokens; take ancestral, repaint, unmask",
            )
            return f(x, grid, noise, *args, **options)

        made: Callable[..., Walk] = checked(**ranges)(start)
        return made

    return decorate


def ddim_step_x0(x: Array, x0: Array, t: NoiseLevel, s: NoiseLevel) -> Array:
    """x_s = (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s / sigma_t) x_0: the probability flow
    d(x / sigma) = x_0 d(alpha / sigma) for a constant x_0. Finite at alpha_t = 0 and at sigma_s = 0."""
    shrink = s.sigma / t.sigma
    return linear_combination([x, x0], [shrink, s.alpha - shrink * t.alpha])


def ddim_step_eps(x: Array, eps: Array, t: NoiseLevel, s: NoiseLevel) -> Array:
    """x_s = (alpha_s / alpha_t) x_t + (sigma_s - sigma_t alpha_s / alpha_t) eps: the probability flow
    d(x / alpha) = eps d(sigma / alpha) for a constant eps. Finite where alpha_t is not 0."""
    grow = s.alpha / t.alpha
    return linear_combination([x, eps], [grow, s.sigma - grow * t.sigma])


def eps_from_x0(x: Array, x0: Array, t: NoiseLevel) -> Array:
    """eps = (x - alpha x_0) / sigma."""
    return linear_combination([x, x0], [1 / t.sigma, -t.alpha / t.sigma])


def ddim_transition(x: Array, x0: Array, t: NoiseLevel, s: NoiseLevel, eta: float) -> Normal:
    """N(alpha_s x_0 + sqrt(sigma_s^2 - std^2) eps, std^2), eps = (x_t - alpha_t x_0) / sigma_t: DDIM's step (Song et
    al. 2021, 2010.02502, equations 12 and 16).

    std = eta sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) sigma_s / sigma_t: 0 at eta = 0, q(x_s | x_t, x_0) at
    eta = 1.
    """
    std = eta * math.sqrt(added_variance(t, s)) * s.sigma / t.sigma
    kept = math.sqrt(max(s.sigma**2 - std**2, 0.0)) / t.sigma
    return Normal(linear_combination([x, x0], [kept, s.alpha - kept * t.alpha]), std)


@sampler(tokens=True)
def ancestral(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Draws x_s from the process's own transition q(x_s | x_t, x_0 = prediction).

    DDPM, algorithm 2 (Ho et al. 2020, 2006.11239), on any grid, with the variance that the prediction carries.
    """
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t, s)
        transition = grid.process.transition(x, t, s, prediction)
        x = yield StepResult(transition.sample(noise), t, s, prediction, transition)
    return x


@sampler(eta=UNIT)
def ddim(x: Array, grid: Grid, noise: Noise, eta: float = 0.0) -> Walk:
    """`ddim_transition`: deterministic at eta = 0, the ancestral sampler at eta = 1 (2010.02502)."""
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t, s)
        if eta:
            transition = ddim_transition(x, prediction.x0, t, s, eta)
            x = yield StepResult(transition.sample(noise), t, s, prediction, transition)
        else:
            x = yield StepResult(ddim_step_x0(x, prediction.x0, t, s), t, s, prediction)
    return x


@sampler()
def euler(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Euler's rule for the probability flow d(x / alpha) = eps d(sigma / alpha).

    EDM (Karras et al. 2022, 2206.00364), algorithm 1 without its correction; on a rectified flow this is
    x_s = x_t + (s - t) velocity, and on every schedule it is DDIM with eta = 0.
    """
    return (yield from ddim(x, grid, noise))


@sampler(eta=UNIT)
def euler_ancestral(x: Array, grid: Grid, noise: Noise, eta: float = 1.0) -> Walk:
    """Euler's rule down to less noise than s has, then the missing noise drawn anew.

    k-diffusion's name for DDIM with eta: in x / alpha, with r = sigma / alpha, its step is
    x_0 + sqrt(r_s^2 - up^2) eps + up noise, up = eta r_s sqrt(r_t^2 - r_s^2) / r_t.
    """
    return (yield from ddim(x, grid, noise, eta))


@sampler(s_churn=NOT_NEGATIVE, s_t=Range(0, pair=True), s_noise=POSITIVE)
def heun(
    x: Array,
    grid: Grid,
    noise: Noise,
    s_churn: float = 0.0,
    s_t: tuple[float, float] = (0.0, math.inf),
    s_noise: float = 1.0,
) -> Walk:
    """Heun's second-order rule in x / alpha: Euler's guess, then the mean of the slopes at both ends.

    EDM, algorithm 2 (Karras et al. 2022, 2206.00364). s_churn > 0 first adds noise at levels sigma / alpha within s_t
    = (S_tmin, S_tmax): the level rises by the factor 1 + min(s_churn / steps, sqrt(2) - 1), the noise is `s_noise`
    times as strong. Two calls a step; one where an end is noise alone or clean data."""
    gamma = min(s_churn / (len(grid) - 1), math.sqrt(2) - 1)
    for start, s in pairwise(grid):
        t = start
        if gamma and s_t[0] <= t.edm_sigma <= s_t[1] and t.alpha:
            t = grid.at_sigma(t.edm_sigma * (1 + gamma))
            x = grid.process.renoise(x, start, t, s_noise * noise.normal())
        prediction = yield ModelCall(x, t)
        reached = ddim_step_x0(x, prediction.x0, t, s)
        if t.alpha and s.sigma:
            again = yield ModelCall(reached, s)
            slopes = [eps_from_x0(x, prediction.x0, t), eps_from_x0(reached, again.x0, s)]
            reached = ddim_step_eps(x, linear_combination(slopes, [0.5, 0.5]), t, s)
        x = yield StepResult(reached, t, s, prediction)
    return x


@sampler()
def dpm2(x: Array, grid: Grid, noise: Noise) -> Walk:
    """The midpoint rule in x / alpha, the middle at sigma / alpha = sqrt(r_t r_s): DPM-Solver-2.

    Lu et al. 2022 (2206.00927), algorithm 1; in EDM's terms Karras et al. 2022 (2206.00364). Calls as in `heun`.
    """
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        reached = ddim_step_x0(x, prediction.x0, t, s)
        if t.alpha and s.sigma:
            middle = grid.at_sigma(math.sqrt(t.edm_sigma * s.edm_sigma))
            halfway = ddim_step_x0(x, prediction.x0, t, middle)
            again = yield ModelCall(halfway, middle)
            reached = ddim_step_eps(x, eps_from_x0(halfway, again.x0, middle), t, s)
        x = yield StepResult(reached, t, s, prediction)
    return x


def flow_step(x: Array, x0: Array, eps: Array, t: NoiseLevel, s: NoiseLevel) -> Array:
    """x_s = x_t + (alpha_s - alpha_t) x_0 + (sigma_s - sigma_t) eps: dx = x_0 d alpha + eps d sigma for constants; on
    a rectified flow x_t + (s - t) velocity."""
    return linear_combination([x, x0, eps], [1.0, s.alpha - t.alpha, s.sigma - t.sigma])


@sampler()
def flow_heun(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Heun's rule for the velocity dx = x_0 d alpha + eps d sigma: Euler's guess, then the mean of both ends.

    The usual Heun of flow matching (2209.03003). Two calls a step, also from noise alone; one in the step to clean
    data.
    """
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        reached = ddim_step_x0(x, prediction.x0, t, s)
        if s.sigma:
            again = yield ModelCall(reached, s)
            x0 = linear_combination([prediction.x0, again.x0], [0.5, 0.5])
            noises = [eps_from_x0(x, prediction.x0, t), eps_from_x0(reached, again.x0, s)]
            reached = flow_step(x, x0, linear_combination(noises, [0.5, 0.5]), t, s)
        x = yield StepResult(reached, t, s, prediction)
    return x


@sampler()
def flow_midpoint(x: Array, grid: Grid, noise: Noise) -> Walk:
    """The midpoint rule for the velocity dx = x_0 d alpha + eps d sigma, the middle at (t + s) / 2. Two calls a step,
    from noise alone and to clean data too."""
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        middle = grid.at((t.t + s.t) / 2)
        halfway = ddim_step_x0(x, prediction.x0, t, middle)
        again = yield ModelCall(halfway, middle)
        reached = flow_step(x, again.x0, eps_from_x0(halfway, again.x0, middle), t, s)
        x = yield StepResult(reached, t, s, prediction)
    return x


@sampler(eta=UNIT)
def dpmpp_sde(x: Array, grid: Grid, noise: Noise, eta: float = 1.0) -> Walk:
    """DPM-Solver++ for the reverse SDE, the midpoint rule in lambda: `ddim_transition` to the middle, and from the
    start to s with what is clean seen from there (2211.01095, appendix; k-diffusion's dpmpp_sde).

    Its noise is a Brownian path (`Noise.between`): more steps of the same seed make the same picture, refined.
    """
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        transition = ddim_transition(x, prediction.x0, t, s, eta)
        if t.alpha and s.sigma:
            middle = grid.at_sigma(math.sqrt(t.edm_sigma * s.edm_sigma))
            halfway = ddim_transition(x, prediction.x0, t, middle, eta)
            again = yield ModelCall(brownian(halfway, noise, t, middle), middle)
            transition = ddim_transition(x, again.x0, t, s, eta)
        reached = brownian(transition, noise, t, s)
        x = yield StepResult(reached, t, s, prediction, None if transition.deterministic else transition)
    return x


def brownian(transition: Normal, noise: Noise, t: NoiseLevel, s: NoiseLevel) -> Array:
    """A draw from the transition from t to s with the noise of the Brownian path between their SNRs."""
    return transition.mean if transition.deterministic else transition.shifted(noise.between(t.snr, s.snr))


def langevin(x: Array, t: NoiseLevel, noise: Noise, steps: int, size: Callable[[Array, Array], Any]) -> Walk:
    """`steps` steps x + h score + sqrt(2 h) z at one level, h = size(score, z) and score = (alpha x_0 - x) /
    sigma^2."""
    for _ in range(steps):
        prediction = yield ModelCall(x, t)
        score, z = (t.alpha * prediction.x0 - x) / t.sigma**2, noise.normal()
        h = size(score, z)
        x = x + h * score + (2 * h) ** 0.5 * z
    return x


@sampler(corrections=Range(0, whole=True), signal_to_noise=Range(0, 1, above=True))
def predictor_corrector(
    x: Array, grid: Grid, noise: Noise, corrections: int = 1, signal_to_noise: float = 0.16
) -> Walk:
    """An ancestral step, then `corrections` steps of Langevin dynamics at the new time.

    x + h score + sqrt(2 h) z with score = (alpha x_0 - x) / sigma^2 and h = 2 a (r |z| / |score|)^2, r =
    `signal_to_noise`, norms of each sample. Score SDE (Song et al. 2021, 2011.13456), algorithms 3 to 5; as there, h
    is times a = alpha_t^2 / alpha_s^2 for the step from t to s, which is 1 where alpha is. On a torus, where noise
    alone has no score, it is 2 (r sigma_s)^2, which is the same where |score| is what is usual, |z| / sigma_s.
    """
    periodic = isinstance(grid.process, Torus)
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        transition = grid.process.transition(x, t, s, prediction)
        x = transition.sample(noise)
        if corrections and s.sigma:

            def size(score: Array, z: Array, t: NoiseLevel = t, s: NoiseLevel = s) -> Any:
                usual = s.sigma if periodic else t.alpha / s.alpha * norm(z) / norm(score)
                return 2 * (signal_to_noise * usual) ** 2

            x, transition = (yield from langevin(x, s, noise, corrections, size)), None
        x = yield StepResult(x, t, s, prediction, transition)
    return x


@sampler(corrections=COUNT, step=POSITIVE)
def annealed_langevin(x: Array, grid: Grid, noise: Noise, corrections: int = 10, step: float = 0.1) -> Walk:
    """`corrections` steps of Langevin dynamics with h = step sigma^2 at each level, x / alpha going on to the next;
    at the last the clean prediction (NCSN, Song & Ermon 2019, 1907.05600, algorithm 1).

    Raises DiffusionError if the grid begins where alpha = 0: there x / alpha is not finite.
    """
    require(grid[0].alpha, f"annealed_langevin: at t = {grid[0].t:.4g} alpha is 0; begin the grid below it")
    for t, s in pairwise(grid):
        h = step * t.sigma**2
        x = yield from langevin(x, t, noise, corrections, lambda score, z, h=h: h)  # type: ignore[misc]
        prediction = yield ModelCall(x, t)
        reached = (s.alpha / t.alpha) * x if s.sigma else s.alpha * prediction.x0
        x = yield StepResult(reached, t, s, prediction)
    return x


@sampler()
def consistency(x: Array, grid: Grid, noise: Noise) -> Walk:
    """x_s = alpha_s x_0 + sigma_s noise, drawn anew: multistep consistency sampling (Song et al. 2023, 2303.01469,
    algorithm 1), which latent consistency models use (LCM, 2310.04378)."""
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t, s)
        transition = grid.process.marginal(prediction.x0, s)
        drawn = transition.sample(noise)
        x = yield StepResult(drawn, t, s, prediction, None if transition.deterministic else transition)
    return x


@sampler(tokens=True, jump_length=COUNT, n_resample=COUNT)
def repaint(x: Array, grid: Grid, noise: Noise, jump_length: int = 10, n_resample: int = 10) -> Walk:
    """The ancestral sampler that goes back up by `jump_length` steps after every `jump_length`, so that each is
    walked `n_resample` times.

    With the hook `known_region` the drawn part then comes to agree with the known one. RePaint (Lugmayr et al. 2022,
    2201.09865), algorithm 1 and section 4.2.
    """
    for first in range(0, len(grid) - 1, jump_length):
        leg = grid.levels[first : first + jump_length + 1]
        for again in range(n_resample):
            if again:
                x = grid.process.renoise(x, leg[-1], leg[0], grid.process.eps(noise))
            for t, s in pairwise(leg):
                prediction = yield ModelCall(x, t)
                transition = grid.process.transition(x, t, s, prediction)
                x = yield StepResult(transition.sample(noise), t, s, prediction, transition)
    return x


@sampler()
def ddim_inversion(x: Array, grid: Grid, noise: Noise) -> Walk:
    """Up the grid instead of down: from clean data to the noise that `ddim` would lead back to them, nearly.

    x_t = (alpha_t / alpha_s) x_s + (sigma_t - sigma_s alpha_t / alpha_s) eps, with eps asked for at the noisier end
    t, since at sigma = 0 there is none. DDIM (2010.02502), section 4.3. The state to start from is the driver's `x`.

    Raises DiffusionError if the grid begins where alpha = 0: pure noise remembers nothing.
    """
    left = f"ddim_inversion: at t = {grid[0].t:.4g} nothing is left of x; begin the grid below it"
    require(grid[0].alpha, left)
    for s, t in pairwise(reversed(grid.levels)):
        prediction = yield ModelCall(x, t)
        x = yield StepResult(ddim_step_eps(x, eps_from_x0(x, prediction.x0, t), s, t), s, t, prediction)
    return x


@sampler(tokens=True, steps=COUNT)
def unmask(x: Array, grid: Grid, noise: Noise, steps: int | None = None, by_confidence: bool = False) -> Walk:
    """Opens the masked positions in `steps` calls, equally many in each, however fine the grid is.

    Which ones: at random, or, `by_confidence`, those of which the network is surest (after MaskGIT, Chang et al.
    2022, 2202.04200, which looks at the symbol it has drawn and so prefers likely ones). Symbols opened in one call
    are drawn independently; with a call for each position, the default, samples are exact for an exact network. At
    random, that is the absorbing chain in continuous time, walked from one opening to the next (Zheng et al. 2024,
    2409.02908). Positions that are open at the start stay.

    Raises DiffusionError for a process without a mask.
    """
    process, xp = grid.process, namespace(x)
    masks = isinstance(process, Categorical) and process.mask is not None
    require(masks, "unmask: the process has no mask; take `ancestral`")
    masked_at_first = (x == process.mask).reshape(len(x), -1).sum(1)
    steps = steps or max(int(masked_at_first.max()), 1)
    order = noise.uniform().reshape(len(x), -1)
    levels = [grid.at((grid[0].t * (steps - i) + grid[-1].t * i) / steps) for i in range(steps + 1)]
    for left, (t, s) in zip(reversed(range(steps)), pairwise(levels), strict=True):
        prediction = yield ModelCall(x, t)
        clean = process.clean(x, prediction)
        drawn = clean.sample(noise)
        masked = (x == process.mask).reshape(len(x), -1)
        score = xp.amax(clean.probabilities, -1).reshape(masked.shape) if by_confidence else order
        rank = xp.argsort(xp.argsort(-xp.where(masked, score, -1.0)))  # 0 is opened first
        count = masked.sum(1) - masked_at_first * left // steps
        opened = (masked & (rank < count[:, None])).reshape(x.shape)
        x = yield StepResult(xp.where(opened, drawn, x), t, s, prediction)
    return x
