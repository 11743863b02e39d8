"""Tokens: a process that replaces symbols.

A state is whole numbers, (batch, positions...). Everything follows from q(x_t | x_s) = a [x_t = x_s] + (1 - a)
limit(x_t), a = alpha_t / alpha_s: a symbol stays, or is drawn anew from `limit`. D3PM (Austin et al. 2021,
2107.03006) with uniform and absorbing noise; MDLM (Sahoo et al. 2024, 2406.07524) is the latter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np

from inkwash.diffusion.arrays import Array, cast, constant, is_tokens, like, namespace, pick, require_all, widened
from inkwash.diffusion.errors import require
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.options import COUNT, checked
from inkwash.diffusion.process import Prediction, Process
from inkwash.diffusion.schedule import NoiseLevel, Schedule


@dataclass(frozen=True)
class CategoricalDistribution:
    """A symbol at each position: probabilities (batch, positions..., symbols)."""

    probabilities: Array
    deterministic = False

    def sample(self, noise: Noise) -> Array:
        """Symbols by inverting the distribution function at uniform noise; one of probability 0 is never drawn."""
        return invert(self.probabilities, noise.uniform())

    def log_prob(self, x: Array) -> Array:
        """Elementwise, in nats; -inf for what cannot be."""
        return _log(pick(self.probabilities, x))

    def take(self, rows: Array) -> CategoricalDistribution:
        """The distribution of other samples of the batch."""
        return CategoricalDistribution(self.probabilities[rows])

    def kl(self, other: CategoricalDistribution) -> Array:
        """KL(self, other) of each position, in nats: sum p log(p / q)."""
        p, q = self.probabilities, other.probabilities
        xp = namespace(p)
        ratio = xp.where(p > 0, p, 1) / xp.clip(xp.where(p > 0, q, 1), 1e-37, None)
        return (p * xp.log(ratio)).sum(-1)


def invert(p: Array, u: Array) -> Array:
    """The symbols at which the distribution function of `p` (..., symbols) first reaches u > 0 of its total."""
    below = namespace(p).cumsum(p, -1)
    return (below < (u * below[..., -1])[..., None]).sum(-1)


def _log(p: Array) -> Array:
    xp = namespace(p)
    return xp.where(p > 0, xp.log(xp.where(p > 0, p, 1)), -np.inf)


@dataclass(frozen=True)
class Categorical(Process):
    """A symbol is still there at time t with probability alpha(t); else it was drawn from `limit`.

    limit: the probabilities of all symbols at t = 1, as in `masked` and `uniform`, or those of the data (DiGress); or
    a tuple of them for each sample of the batch; or these as a torch tensor (batch, symbols), such as a network has
    predicted, which stays on its device. Of the schedule only alpha counts: 1 - t for `rectified_flow`, which
    is absorbing D3PM's and MDLM's own. A prediction is logits (batch, positions..., symbols). Discrete time is a grid
    of equal steps.

    Raises DiffusionError for a limit that is no distribution.
    """

    limit: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._on_device:
            shape = tuple(self.limit.shape)
            require(
                len(shape) == 2 and shape[1] > 1, f"categorical: limit has the shape {shape}, not (batch, symbols)"
            )
            law = (self.limit >= 0).all(-1) & (abs(self.limit.sum(-1) - 1) <= 1e-5)
            require_all(law, "categorical: limit must be probabilities that add up to 1")
            return
        try:
            limit = np.atleast_2d(np.asarray(self.limit, np.float64))
        except (TypeError, ValueError):
            limit = np.empty((0, 0))
        law = limit.ndim == 2 and limit.shape[1] > 1 and (limit >= 0).all() and (abs(limit.sum(1) - 1) <= 1e-6).all()
        require(law, "categorical: limit must be two or more probabilities that add up to 1")
        rows = tuple(map(tuple, limit.tolist()))
        object.__setattr__(self, "limit", rows if np.ndim(self.limit) == 2 else rows[0])

    @classmethod
    @checked(symbols=COUNT)
    def masked(cls, schedule: Schedule, symbols: int) -> Categorical:
        """Symbols 0 to symbols - 1 give way to a mask, which is number `symbols`."""
        return cls(schedule, (*[0.0] * symbols, 1.0))

    @classmethod
    @checked(symbols=COUNT)
    def uniform(cls, schedule: Schedule, symbols: int) -> Categorical:
        """Symbols give way to any symbol."""
        return cls(schedule, (1 / symbols,) * symbols)

    @property
    def _on_device(self) -> bool:
        """Whether the limits are a tensor."""
        return namespace(self.limit) is not np

    @property
    def symbols(self) -> int:
        """How many there are, the mask among them."""
        return int(np.shape(self.limit)[-1])

    @property
    def mask(self) -> int | None:
        """The number of the mask, where there is one."""
        return self.limit.index(1.0) if not self._on_device and 1.0 in self.limit else None

    def at(self, t: Array) -> NoiseLevel:
        """alpha, and sigma = 1 - alpha, at time t."""
        level = self.schedule.at(t)
        return level._replace(sigma=1 - level.alpha)

    def take(self, rows: Any) -> Self:
        """The process of other samples of the batch."""
        if np.ndim(self.limit) == 1:
            return self
        return replace(self, limit=self.limit[rows] if self._on_device else tuple(self.limit[i] for i in rows))

    def check(self, x: Array) -> None:
        """Raises DiffusionError for what is not a symbol, and for a batch of another size than that of the limits."""
        require(is_tokens(x), f"tokens are whole numbers (int64), not {x.dtype}")
        x = widened(x)  # 257 is no number of uint8
        outside = f"token{{}} is outside the vocabulary, 0 to {self.symbols - 1}"
        require_all((x >= 0) & (x < self.symbols), outside, lambda: f" {int(x.min() if x.min() < 0 else x.max())}")
        self._limit(x)

    def eps(self, noise: Noise) -> Array:
        """Uniform numbers."""
        return noise.uniform()

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Logits of each symbol at each position."""
        return (*shape, self.symbols)

    def prior(self, t: NoiseLevel, noise: Noise) -> Array:
        """Symbols drawn from the limit."""
        u = noise.uniform()
        return invert(self._limit(u), u)

    def noise(self, x0: Array, t: NoiseLevel, eps: Array) -> Array:
        """q(x_t | x_0) for given uniform numbers `eps`."""
        return self._replaced(x0, t.alpha, eps)

    def renoise(self, x: Array, s: NoiseLevel, t: NoiseLevel, eps: Array) -> Array:
        """q(x_t | x_s), from s up to a noisier t."""
        return self._replaced(x, t.alpha / s.alpha, eps)

    def _replaced(self, x: Array, kept: Array, eps: Array) -> Array:
        xp = namespace(x)
        rest = (eps - kept) / (1 - kept) if not isinstance(kept, float) or kept < 1 else 0 * eps
        return xp.where(eps < kept, x, invert(self._limit(eps), xp.clip(rest, 1e-12, 1 - 2**-24)))

    def _limit(self, x: Array) -> Array:
        """The limit beside x (batch, positions...): (batch or 1, 1, ..., symbols)."""
        fits = np.ndim(self.limit) == 1 or len(self.limit) == len(x)
        require(fits, f"categorical: {len(self.limit)} limits for {len(x)} samples; one each is needed")
        dtype = namespace(x).float32 if is_tokens(x) else x.dtype
        limit = cast(self.limit, dtype) if self._on_device else _limit_on(self.limit)(namespace(x), dtype, x.device)
        return limit.reshape(-1, *[1] * (x.ndim - 1), self.symbols)

    def marginal(self, x0: Array, t: NoiseLevel) -> CategoricalDistribution:
        """q(x_t | x_0) = alpha [x_t = x_0] + (1 - alpha) limit."""
        kept = t.alpha if isinstance(t.alpha, float) else t.alpha[..., None]
        return CategoricalDistribution(kept * self._one_hot(x0) + (1 - kept) * self._limit(x0))

    def delta(self, x0: Array) -> Prediction:
        """The prediction of who knows x_0."""
        return Prediction(_log(self._one_hot(x0)))

    def clean(self, x: Array, prediction: Prediction) -> CategoricalDistribution:
        """p(x_0 | x_t) from the logits. With masks: never the mask, and what is open is known (MDLM's SUBS)."""
        xp, logits = namespace(x), prediction.x0
        if self.mask is not None:
            logits = xp.where(xp.arange(self.symbols, device=x.device) == self.mask, -np.inf, logits)
        p = xp.exp(logits - xp.amax(logits, -1)[..., None])
        p = p / p.sum(-1)[..., None]
        if self.mask is not None:
            p = xp.where((x == self.mask)[..., None], p, like(self._one_hot(x), p))
        return CategoricalDistribution(p)

    def transition(self, x: Array, t: NoiseLevel, s: NoiseLevel, prediction: Prediction) -> CategoricalDistribution:
        """p(x_s | x_t) = sum over x_0 of q(x_s | x_t, x_0) p(x_0 | x_t) (D3PM, equation 4).

        With a = alpha_t / alpha_s and r(x_0) = p(x_0 | x_t) / q(x_t | x_0) it is
        (a [x_s = x_t] + (1 - a) limit(x_t)) (alpha_s r(x_s) + (1 - alpha_s) limit(x_s) sum r). An x_t that cannot be,
        an open symbol where all are masked, stays.
        """
        xp, p = namespace(x), self.clean(x, prediction).probabilities
        here, limit, stay = like(self._one_hot(x), p), like(self._limit(x), p), t.alpha / s.alpha
        seen = (here * limit).sum(-1)[..., None]  # limit(x_t)
        chance = t.alpha * here + (1 - t.alpha) * seen  # q(x_t | x_0) for each x_0
        r = xp.where(p > 0, p / xp.where(chance > 0, chance, 1), 0)
        law = (stay * here + (1 - stay) * seen) * (s.alpha * r + (1 - s.alpha) * limit * r.sum(-1)[..., None])
        total = law.sum(-1)[..., None]
        return CategoricalDistribution(xp.where(total == 0, here, law / xp.where(total == 0, 1, total)))

    def _one_hot(self, x: Array) -> Array:
        xp = namespace(x)
        return cast(x[..., None] == xp.arange(self.symbols, device=x.device), xp.float32)


_limit_on = lru_cache(maxsize=64)(constant)
