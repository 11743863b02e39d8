"""Which examples are in which batch, as a pure function of the step; and batches of rows that differ in length."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from inkwash.training.placement import fixed_shapes, place


def batches(n: int, batch_size: int, seed: int = 0) -> Callable[[int], np.ndarray]:
    """A function from the step to the indices (batch_size,) int64 of its examples among 0 ... n - 1.

    Batch k is the slice [k * batch_size, (k + 1) * batch_size) of one endless stream: a fresh permutation of
    all examples for each epoch. So every example comes once an epoch, batches run across the end of an epoch,
    `batch_size` may exceed `n`, and resuming needs no state.
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"batches need n >= 1 and batch_size >= 1, not {n} and {batch_size}")

    @lru_cache(maxsize=2)  # a batch across the end of an epoch needs both
    def order(epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch)))).permutation(n)

    def batch(step: int) -> np.ndarray:
        start, end = step * batch_size, (step + 1) * batch_size
        epochs = range(start // n, (end - 1) // n + 1)
        stream = np.concatenate([order(epoch) for epoch in epochs])
        offset = start - epochs.start * n
        return stream[offset : offset + batch_size]

    return batch


def whole_batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The rows in batches of this size, without what is left over; fewer rows are one smaller batch."""
    size = min(batch_size, len(rows)) or 1
    return [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]


class Ragged:
    """Rows of different lengths (rows,) that lie one after the other in a table: where those of a batch lie in it."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        self.longest = int(lengths.max())
        self.lengths, self.starts = place((lengths, lengths.cumsum() - lengths), device)

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (B, L) into the table and their mask (B, L); where it is False the index is 0.

        L is the length of the longest of these rows; of all, where shapes should not change.
        """
        lengths = self.lengths[rows]
        longest = self.longest if fixed_shapes(rows.device) else int(lengths.max())
        position = torch.arange(longest, device=rows.device)
        mask = position < lengths[:, None]
        return torch.where(mask, self.starts[rows][:, None] + position, 0), mask
