"""The noise that other tools draw from a seed, so that a recipe of theirs begins, and goes on, from the same numbers.

"a1111"      A1111's and Forge's default: each picture from a generator of its own on an NVIDIA card, whose numbers go
             on in the steps of ancestral samplers.
"a1111-cpu"  the same with the source set to "CPU": torch's generator there.
"comfyui"    all pictures of a batch from one generator on the CPU; the steps of ancestral samplers from one on the
             NVIDIA card, which begins anew from the same seed.

Verified: Philox 4x32-10 against the test vectors of its paper's code (Salmon et al. 2011, Random123), and the first
numbers of `torch.randn` on a card as they are published for seed 0; the CPU's by torch itself. Not verified: pictures
beside those tools, nor a card of our own, whose sines and logarithms differ in the last digits. A card draws tensors
of more numbers than it runs threads (40,960 on a T4) in another order, for which nothing is done here, nor in A1111
with the source "NV": noise for SDXL at 1024 x 1024, 65,536 numbers, is that of cards that run as many threads.
Brownian paths, which DPM++ SDE, 2M SDE and 3M SDE take from the package torchsde, are not drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inkwash import diffusion
from inkwash.errors import UserError, unknown

TOOLS = ("a1111", "a1111-cpu", "comfyui")
UNSCALED = ("ddim", "unipc")  # samplers that A1111 begins with the noise itself, not sigma times it
FACTORS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)[:, None]
KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)[:, None]
LOW, HALF = np.uint64(2**32 - 1), np.uint64(32)


def philox(counters: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Philox 4x32-10 (Salmon et al. 2011, section 3.3): counters (4, N) of 32 bits, a key of two -> words (4, N)."""
    words, keys = counters.astype(np.uint64), np.array(key, np.uint64)[:, None]
    for _ in range(10):
        products = words[[0, 2]] * FACTORS
        high, low = (products >> HALF)[::-1], (products & LOW)[::-1]
        mixed = high ^ words[[1, 3]] ^ keys
        words = np.stack([mixed[0], low[0], mixed[1], low[1]])
        keys = (keys + KEY_STEPS) & LOW
    return words.astype(np.uint32)


def cuda_randn(seed: int, count: int, draw: int = 0) -> np.ndarray:
    """float32 (count,): what the draw-th `torch.randn` of so many numbers after `manual_seed(seed)` gives on a card
    with as many threads.

    Number i is the first of thread i: the words of counter (draw, 0, i, 0) with the seed as key, and the sine of Box
    and Muller's transform with u = (word 0 + 1/2) / 2^32 and 2 pi v, v likewise of word 1 (cuRAND's).
    """
    counters = np.zeros((4, count), np.uint64)
    counters[0], counters[2] = draw, np.arange(count)
    words = philox(counters, (seed & 0xFFFFFFFF, seed >> 32)).astype(np.float32)
    scale = np.float32(2.0**-32)
    u = (words[0] * scale + scale / 2).astype(np.float64)
    angle = (words[1] * np.float32(2 * math.pi * 2.0**-32) + np.float32(math.pi * 2.0**-32)).astype(np.float64)
    normal: np.ndarray = (np.sqrt(-2 * np.log(u)) * np.sin(angle)).astype(np.float32)
    return normal


class OtherNoise:
    """The draws of another tool, (len(seeds), *shape) each, in the order in which a sampler asks for them: `first`,
    then `normal`. Of "comfyui" pictures of one seed are a batch, which it draws at once; of other seeds each is drawn
    alone. UserError for a tool that is not known."""

    def __init__(self, tool: str, seeds: Sequence[int], shape: Sequence[int], device: Any = None) -> None:
        if tool not in TOOLS:
            raise unknown("seed_like", tool, TOOLS)
        batched = tool == "comfyui" and len(set(seeds)) == 1
        self.tool, self.device, self.draws = tool, device, 0
        self.seeds = list(seeds[:1] if batched else seeds)
        self.shape = (len(seeds) // len(self.seeds), *shape)
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def first(self) -> Tensor:
        """The noise that the state begins as."""
        drawn = self._card(0) if self.tool == "a1111" else self._cpu()
        self.draws = 0 if self.tool == "comfyui" else 1
        return drawn

    def normal(self) -> Tensor:
        """The next noise of a sampler's step."""
        drawn = self._cpu() if self.tool == "a1111-cpu" else self._card(self.draws)
        self.draws += 1
        return drawn

    def between(self, a: float, b: float) -> Tensor:
        raise UserError(
            "seed_like: this sampler draws a Brownian path, which those tools have from torchsde; take one without, "
            "as euler_ancestral, or leave seed_like out"
        )

    def uniform(self) -> Tensor:
        raise UserError("seed_like: this sampler draws uniform numbers, which those tools do not; take another")

    def _card(self, draw: int) -> Tensor:
        count = math.prod(self.shape)
        drawn = [torch.from_numpy(cuda_randn(seed, count, draw)).reshape(self.shape) for seed in self.seeds]
        return torch.cat(drawn).to(self.device)

    def _cpu(self) -> Tensor:
        return torch.cat([torch.randn(self.shape, generator=each) for each in self.generators]).to(self.device)


def first_state(tool: str, sampler: Any, grid: diffusion.Grid, noise: Tensor) -> Tensor:
    """The state that a tool begins with: sigma times the noise; A1111's DDIM and UniPC, and ComfyUI where the steps
    begin at the most noise that there is, with the noise itself."""
    most = grid.process.at(1.0).lambda_ >= grid[0].lambda_ - 1e-5
    whole = most if tool == "comfyui" else sampler in UNSCALED
    return noise if whole else grid[0].sigma * noise


def drawing_from(noise: OtherNoise, sampler: Callable[..., Any]) -> Callable[..., Any]:
    """The sampler with this noise in place of the driver's."""
    return lambda x, grid, _: sampler(x, grid, noise)
