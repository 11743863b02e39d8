"""Noise as a function of (seed, field, draw number): the same picture alone and in a batch, on any device."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from inkwash.diffusion.arrays import Array, mask_like, numpy
from inkwash.diffusion.errors import DiffusionError


class Noise:
    """Draws of shape (len(seeds), *shape) for one field, in the order in which a sampler asks for them.

    Row i of draw n depends on (seeds[i], field, n) and on nothing else: the words are those of Philox 4x64 with
    key (seed, field) at counter n * 2^64, the transform is ours, so neither a batch, nor a device, nor a version
    of NumPy or torch changes a picture (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    mask: which elements there are, (len(seeds), ...) over the first axes of the shape; the others draw nothing and
        are 0, so padding does not change a sample either.

    Raises DiffusionError for a seed that is not a whole number from 0 to 2^64 - 1.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        field: str = "",
        convert: Callable[[np.ndarray], Array] = lambda x: x,
        mask: Array | None = None,
    ) -> None:
        for seed in seeds:
            if int(seed) != seed or not 0 <= seed < 2**64:
                raise DiffusionError(f"seed {seed}: a whole number from 0 to 2^64 - 1 is needed")
        tag = int.from_bytes(hashlib.sha256(field.encode()).digest()[:8], "little")
        self._streams = [np.random.Philox(key=np.array([seed, tag], np.uint64)) for seed in seeds]
        self._states = [stream.state for stream in self._streams]
        self._shape = tuple(shape)
        self._convert = convert
        self._draws = 0
        self.mask = mask
        self._real = None if mask is None else mask_like(numpy(mask), np.empty((len(seeds), *shape)))

    def _words(self, rows: slice, count: int) -> np.ndarray:
        """This draw, of some samples: (rows, count) of 64 random bits."""
        streams, states = self._streams[rows], self._states[rows]
        words = np.empty((len(streams), count), np.uint64)
        for row, stream, state in zip(words, streams, states, strict=True):
            state["state"]["counter"][1] = self._draws
            stream.state = state
            row[:] = stream.random_raw(count)
        return words

    def _draw(self, law: Callable[[Callable[[int], np.ndarray], int], np.ndarray]) -> Array:
        """The next draw: `law(uniform, count)` makes `count` numbers a sample, uniform(n) gives (rows, n) of them."""

        def numbers(rows: slice, count: int) -> np.ndarray:
            def uniform(n: int) -> np.ndarray:
                return ((self._words(rows, n) >> np.uint64(11)) + 0.5) * 2.0**-53  # in (0, 1]: a logarithm is finite

            return law(uniform, count)

        if self._real is None:
            out = numbers(slice(None), math.prod(self._shape)).reshape(-1, *self._shape)
        else:
            out = np.zeros(self._real.shape, np.float32)
            for i, real in enumerate(self._real):
                out[i][real] = numbers(slice(i, i + 1), int(real.sum()))[0]
        self._draws += 1
        return self._convert(out)

    def uniform(self) -> Array:
        """Independent numbers, uniform in (0, 1), float32."""
        below = np.float32(1 - 2**-24)  # the largest below 1
        return self._draw(lambda uniform, count: np.minimum(uniform(count).astype(np.float32), below))

    def normal(self) -> Array:
        """Independent standard normal numbers, float32, by the transform of Box and Muller:
        sqrt(-2 log u) cos(2 pi v), sqrt(-2 log u) sin(2 pi v)."""
        return self._draw(_normal)


def _normal(uniform: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    half = (count + 1) // 2
    u = uniform(2 * half)
    radius, v = np.sqrt(-2 * np.log(u[:, :half])), u[:, half:]
    turn = np.sin(np.pi * (0.5 - v))  # cos(pi v), then the double angle: half the time of np.cos and np.sin
    cos, sin = 2 * turn**2 - 1, 2 * turn * np.sqrt(1 - turn**2)
    return np.concatenate([radius * cos, radius * sin], axis=1, dtype=np.float32, casting="same_kind")[:, :count]
