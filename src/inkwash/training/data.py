"""Which examples are in which batch, as a pure function of the step."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np


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
