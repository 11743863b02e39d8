"""Tokens: a process that replaces symbols, how it is learned, and how it is undone position by position.

A state is whole numbers, (batch, positions...). Everything follows from q(x_t | x_s) = a [x_t = x_s] + (1 - a)
limit(x_t), a = alpha_t / alpha_s: a symbol stays, or is drawn anew from `limit`. D3PM (Austin et al. 2021,
2107.03006) with uniform and absorbing noise; MDLM (Sahoo et al. 2024, 2406.07524) is the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inkwash.diffusion.arrays import Array, cast, like, mask_like, namespace, pick
from inkwash.diffusion.denoiser import Condition, Denoiser, Parametrization, Prediction
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid
from inkwash.diffusion.losses import Times, uniform_times
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Process
from inkwash.diffusion.samplers import Ask, Step, Walk
from inkwash.diffusion.schedule import Point, Schedule

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Choice:
    """A symbol at each position: probabilities (batch, positions..., symbols)."""

    probabilities: Array
    sharp = False

    def sample(self, noise: Noise) -> Array:
        """Symbols by inverting the distribution function at uniform noise; one of probability 0 is never drawn."""
        below = namespace(self.probabilities).cumsum(self.probabilities, -1)
        return (below < (noise.uniform() * below[..., -1])[..., None]).sum(-1)

    def log_prob(self, x: Array) -> Array:
        """Elementwise, in nats; -inf for what cannot be."""
        return _log(pick(self.probabilities, x))

    def take(self, rows: Array) -> Choice:
        """The law of other samples of the batch."""
        return Choice(self.probabilities[rows])

    def kl(self, other: Choice) -> Array:
        """KL(self, other) of each position, in nats: sum p log(p / q)."""
        p, q = self.probabilities, other.probabilities
        xp = namespace(p)
        ratio = xp.where(p > 0, p, 1) / xp.clip(xp.where(p > 0, q, 1), 1e-37, None)
        return (p * xp.log(ratio)).sum(-1)


def _log(p: Array) -> Array:
    xp = namespace(p)
    return xp.where(p > 0, xp.log(xp.where(p > 0, p, 1)), -np.inf)


@dataclass(frozen=True)
class Categorical(Process):
    """A symbol is still there at time t with probability alpha(t); else it was drawn from `limit`.

    limit: the probabilities of all symbols at t = 1, as in `masked` and `uniform`, or those of the data (DiGress). Of
    the schedule only alpha counts: 1 - t for `rectified_flow`, which is absorbing D3PM's and MDLM's own. A prediction
    is logits (batch, positions..., symbols). Discrete time is a grid of equal steps.

    Raises DiffusionError for a limit that is no distribution.
    """

    limit: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.limit) < 2 or min(self.limit) < 0 or abs(sum(self.limit) - 1) > 1e-6:
            raise DiffusionError("categorical: limit must be two or more probabilities that add up to 1")

    @classmethod
    def masked(cls, schedule: Schedule, symbols: int) -> Categorical:
        """Symbols 0 to symbols - 1 give way to a mask, which is number `symbols`."""
        return cls(schedule, (*[0.0] * symbols, 1.0))

    @classmethod
    def uniform(cls, schedule: Schedule, symbols: int) -> Categorical:
        """Symbols give way to any symbol."""
        return cls(schedule, (1 / symbols,) * symbols)

    @property
    def mask(self) -> int | None:
        """The number of the mask, where there is one."""
        return self.limit.index(1.0) if 1.0 in self.limit else None

    def at(self, t: Array) -> Point:
        """alpha, and sigma = 1 - alpha, at time t."""
        kept = self.schedule.at(t).alpha
        return Point(float(t) if isinstance(t, int) else t, kept, 1 - kept)

    def check(self, x: Array) -> None:
        """Raises DiffusionError for what is not a symbol."""
        if "int" not in str(x.dtype):
            raise DiffusionError(f"tokens are whole numbers (int64), not {x.dtype}")
        if int(x.min()) < 0 or int(x.max()) >= len(self.limit):
            wrong = int(x.min()) if int(x.min()) < 0 else int(x.max())
            raise DiffusionError(f"token {wrong} is outside the vocabulary, 0 to {len(self.limit) - 1}")

    def eps(self, noise: Noise) -> Array:
        """Uniform numbers."""
        return noise.uniform()

    def answer(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Logits of each symbol at each position."""
        return (*shape, len(self.limit))

    def prior(self, t: Point, noise: Noise) -> Array:
        """Symbols drawn from the limit."""
        return self._limit_at(noise.uniform())

    def noise(self, x0: Array, t: Point, eps: Array) -> Array:
        """q(x_t | x_0) for given uniform numbers `eps`."""
        return self._replaced(x0, t.alpha, eps)

    def renoise(self, x: Array, s: Point, t: Point, eps: Array) -> Array:
        """q(x_t | x_s), from s up to a noisier t."""
        return self._replaced(x, t.alpha / s.alpha, eps)

    def _replaced(self, x: Array, kept: Array, eps: Array) -> Array:
        xp = namespace(x)
        rest = (eps - kept) / (1 - kept) if not isinstance(kept, float) or kept < 1 else 0 * eps
        return xp.where(eps < kept, x, self._limit_at(xp.clip(rest, 0, 1 - 2**-24)))

    def _limit_at(self, u: Array) -> Array:
        """The symbols at which the limit's distribution function first exceeds u."""
        xp = namespace(u)
        below = like(np.cumsum(self.limit)[:-1], u)
        return xp.searchsorted(below, u, side="right")

    def marginal(self, x0: Array, t: Point) -> Choice:
        """q(x_t | x_0) = alpha [x_t = x_0] + (1 - alpha) limit."""
        return Choice(self._toward(self._one_hot(x0), t.alpha))

    def known(self, x0: Array) -> Prediction:
        """The prediction of who knows x_0."""
        return Prediction(_log(self._one_hot(x0)))

    def clean(self, x: Array, prediction: Prediction) -> Choice:
        """p(x_0 | x_t) from the logits. With masks: never the mask, and what is open is known (MDLM's SUBS)."""
        xp, logits = namespace(x), prediction.clean
        if self.mask is not None:
            logits = xp.where(self._one_hot(x * 0 + self.mask) > 0, -np.inf, logits)
        p = xp.exp(logits - xp.amax(logits, -1)[..., None])
        p = p / p.sum(-1)[..., None]
        return Choice(p if self.mask is None else xp.where((x == self.mask)[..., None], p, like(self._one_hot(x), p)))

    def transition(self, x: Array, t: Point, s: Point, prediction: Prediction) -> Choice:
        """p(x_s | x_t) = sum over x_0 of q(x_s | x_t, x_0) p(x_0 | x_t) (D3PM, equation 4).

        With a = alpha_t / alpha_s and r(x_0) = p(x_0 | x_t) / q(x_t | x_0) it is
        (a [x_s = x_t] + (1 - a) limit(x_t)) (alpha_s r(x_s) + (1 - alpha_s) limit(x_s) sum r).
        """
        xp, p = namespace(x), self.clean(x, prediction).probabilities
        here, limit, stay = like(self._one_hot(x), p), like(self.limit, p), t.alpha / s.alpha
        seen = (here * limit).sum(-1)[..., None]  # limit(x_t)
        chance = t.alpha * here + (1 - t.alpha) * seen  # q(x_t | x_0) for each x_0
        r = xp.where(p > 0, p / xp.where(chance > 0, chance, 1), 0)
        law = (stay * here + (1 - stay) * seen) * (s.alpha * r + (1 - s.alpha) * limit * r.sum(-1)[..., None])
        return Choice(law / law.sum(-1)[..., None])

    def _one_hot(self, x: Array) -> Array:
        xp = namespace(x)
        symbols = like(np.arange(len(self.limit)), x)
        return cast(x[..., None] == symbols, xp.float32)

    def _toward(self, p: Array, kept: Array) -> Array:
        kept = kept if isinstance(kept, float) else kept[..., None]
        return kept * p + (1 - kept) * like(self.limit, p)


Objective = Callable[[Categorical, Array, Array, Point, Prediction], Array]


def cross_entropy(weight: Callable[[Point], Array] = lambda t: 1.0) -> Objective:
    """weight(t) times -log p(x_0 | x_t) at each position; 0 where x_t is not masked, if there are masks."""

    def objective(process: Categorical, x0: Array, xt: Array, t: Point, prediction: Prediction) -> Array:
        p = pick(process.clean(xt, prediction).probabilities, x0)
        return -weight(t) * namespace(p).log(namespace(p).clip(p, 1e-37, None))

    return objective


def d3pm_bound(steps: int = 1000) -> Objective:
    """steps KL(q(x_s | x_t, x_0), p(x_s | x_t)) at each position, s = t - 1 / steps: the variational bound in nats of
    a chain of so many equal steps, the last, -log p(x_0 | x_1), included (D3PM, 2107.03006, equation 1).

    With masks it is `cross_entropy` with the weight steps (alpha_s - alpha_t) / (1 - alpha_t), and for many steps
    that of MDLM, -alpha' / (1 - alpha). Times within the last step count as its upper end.
    """

    def objective(process: Categorical, x0: Array, xt: Array, t: Point, prediction: Prediction) -> Array:
        earlier = process.at(namespace(t.t).clip(t.t - 1 / steps, 0, None))
        s, t = (Point(*(part[..., None] for part in point)) for point in (earlier, t))
        truth = process.transition(xt, t, s, process.known(x0))
        return steps * truth.kl(process.transition(xt, t, s, prediction))

    return objective


@dataclass(frozen=True)
class TokenDenoiser(Denoiser):
    """A `Denoiser` whose network answers with logits (batch, positions..., symbols)."""

    process: Categorical  # type: ignore[assignment]
    parametrization: str | Parametrization = "clean"

    def loss(  # type: ignore[override]
        self,
        x0: torch.Tensor,
        condition: Condition | None = None,
        objective: Objective | None = None,
        times: Times = uniform_times,
        generator: torch.Generator | None = None,
        mask: Array | None = None,
    ) -> torch.Tensor:
        """E over t and x_t of the objective (None: `d3pm_bound`), a mean over all positions that there are.

        Raises DiffusionError for tokens outside the vocabulary.
        """
        import torch

        self.process.check(x0)
        drawn = times(len(x0), generator).reshape(-1, *[1] * (x0.ndim - 1))
        t = Point(*(part.to(x0.device, torch.float32) for part in self.process.at(drawn)))
        xt = self.process.noise(x0, t, torch.rand(x0.shape, generator=generator, device=x0.device))
        prediction = Prediction(self._output(xt, t, condition)[0])
        each = (objective or d3pm_bound())(self.process, x0, xt, t, prediction)
        loss: torch.Tensor = each.mean() if mask is None else each[mask_like(mask, each)].mean()
        return loss


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
