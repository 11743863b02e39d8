"""Times of training where the loss is: fewer draws for the same mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from inkwash.diffusion import uniform_times
from inkwash.diffusion.options import COUNT, check

if TYPE_CHECKING:
    import torch


@dataclass
class LossAware:
    """Times drawn with p(t) proportional to the root of the mean squared loss there, in `bins` equal parts of (0, 1).

    The noisy bound then needs fewer draws for the same mean (Improved DDPM, 2102.09672, section 3.3). It keeps
    the last `history` losses of each bin and draws uniformly until every bin has as many; give one object to each
    training.
    """

    bins: int = 100
    history: int = 10
    _losses: list[list[float]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        check("LossAware", vars(self), {"bins": COUNT, "history": COUNT})
        self._losses = self._losses or [[] for _ in range(self.bins)]

    def probabilities(self) -> np.ndarray:
        """Of each bin: (bins,), float64; a thousandth of all draws stays uniform."""
        bins = self.bins
        if min(map(len, self._losses)) < self.history:
            return np.full(bins, 1 / bins)
        root = np.square(self._losses).mean(1) ** 0.5
        return np.asarray(0.999 * root / root.sum() + 0.001 / bins)

    def __call__(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """`count` times; see `uniform_times`."""
        u, p = uniform_times(count, generator), self.probabilities()
        times = np.interp(u, np.append(0.0, np.cumsum(p)), np.linspace(0, 1, len(p) + 1))
        return u.new_tensor(times).clamp(min=1e-5)

    def reweight(self, t: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """The losses (batch,) at times t over bins * p(t), which leaves their mean unbiased; and keeps them."""
        bins = (t * self.bins).long().clamp(max=self.bins - 1).tolist()
        density = self.probabilities()[bins] * self.bins
        for i, loss in zip(bins, losses.tolist(), strict=True):
            self._losses[i] = [*self._losses[i], loss][-self.history :]
        return losses / losses.new_tensor(density)
