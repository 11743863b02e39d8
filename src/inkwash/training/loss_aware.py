"""Times of training where the loss is: fewer draws for the same mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from inkwash.diffusion import uniform_times
from inkwash.diffusion.arrays import double
from inkwash.diffusion.options import COUNT, check


@dataclass
class LossAware:
    """Times drawn with p(t) proportional to the root of the mean squared loss there, in `bins` equal parts of (0, 1).

    The noisy bound then needs fewer draws for the same mean (Improved DDPM, 2102.09672, section 3.3). It keeps
    the last `history` losses of each bin, where they are made (those under no_grad are only measured), and draws
    uniformly until every bin has as many; give one object to each training. They are in no checkpoint: a training
    that goes on draws uniformly again at first.
    """

    bins: int = 100
    history: int = 10
    _losses: torch.Tensor = field(init=False, repr=False, compare=False)  # (bins, history), NaN where none is yet

    def __post_init__(self) -> None:
        check("LossAware", vars(self), {"bins": COUNT, "history": COUNT})
        self._losses = torch.full((self.bins, self.history), math.nan, dtype=torch.float64)

    def probabilities(self) -> torch.Tensor:
        """Of each bin: (bins,), float64; a thousandth of all draws stays uniform."""
        root = self._losses.square().mean(1).sqrt()
        return (0.999 * root / root.sum() + 0.001 / self.bins).nan_to_num(1 / self.bins)  # NaN are all or none

    def __call__(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """`count` times; see `uniform_times`."""
        u = uniform_times(count, generator)
        p = self.probabilities().to(u)
        ends = p.cumsum(0)
        bins = torch.searchsorted(ends, u).clamp(max=self.bins - 1)
        return ((bins + 1 + (u - ends[bins]) / p[bins]) / self.bins).clamp(1e-5, 1)

    def reweight(self, t: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """The losses (batch,) at times t over bins * p(t), which leaves their mean unbiased; and keeps them."""
        self._losses = past = self._losses.to(losses.device, double(torch, losses.device))
        bins = (t.to(losses.device) * self.bins).long().clamp(max=self.bins - 1)
        density = self.probabilities()[bins] * self.bins
        if torch.is_grad_enabled():
            self._losses = self._newest(past, bins, losses.detach().to(past))
        return losses / density.to(losses)

    def _newest(self, past: torch.Tensor, bins: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """Of each bin the last `history` of its past and its new losses, (bins, history)."""
        every = torch.arange(self.bins, device=bins.device)
        owners = torch.cat([every.repeat(self.history), bins])
        owners, order = owners.sort(stable=True)  # of each bin what it has, from the oldest, and then what is new
        ends = torch.searchsorted(owners, every, right=True)
        last = ends[:, None] + torch.arange(-self.history, 0, device=bins.device)
        return torch.cat([past.T.flatten(), losses])[order][last]
