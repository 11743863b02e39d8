"""Noise as a function of (seed, field, draw number): the same picture alone and in a batch, on any device."""

from __future__ import annotations

import hashlib
import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inkwash.diffusion.arrays import Array, mask_like, mask_of, numpy
from inkwash.diffusion.errors import require


LOW, HALF = np.uint64(2**32 - 1), np.uint64(32)
FACTORS = np.array([0xD2E7470EE14C6C93, 0xCA5A826395121157], np.uint64).reshape(2, 1, 1)
KEY_STEPS = np.array([0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B], np.uint64).reshape(2, 1, 1)
COUNTERS = 16384  # worked on together: their words stay in the cache
LAMBDA_MAX, LEAF = 32.0, 2.0**-10  # the tree of `between`


class Noise:
    """Draws of shape (len(seeds), *shape) for one field, in the order in which a sampler asks for them.

    Row i of draw n depends on (seeds[i], field, stream, n) and on nothing else: the words are those of Philox 4x64
    with key (seed, hash of field and stream) at counter n * 2^64, the transform is ours, so neither a batch, nor a
    device, nor a version of NumPy or torch changes a picture (Salmon et al. 2011, "Parallel random numbers: as easy
    as 1, 2, 3").

    stream: names another sequence of draws for the same seeds and field.
    mask: which elements there are, (len(seeds), ...) over the first axes of the shape; the others draw nothing and
        are 0, so padding does not change a sample either.
    device: None for NumPy arrays, else the torch device on which the draws are put.
    dtype: "float32", or "float64" for the same numbers before rounding.

    Two are equal if they were made alike and have drawn as often: the next draws are the same.

    Raises DiffusionError for a seed that is not a whole number from 0 to 2^64 - 1, and for another dtype.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        field: str = "",
        *,
        stream: str = "",
        mask: Array | None = None,
        device: Any = None,
        dtype: str = "float32",
    ) -> None:
        some = hasattr(seeds, "__len__") and len(seeds)
        require(some, f"seeds = {seeds!r}: one whole number for each sample is needed, as [3] or range(3)")
        require(
            dtype in ("float32", "float64"),
            f"dtype = {dtype!r}: states are float32 or float64, and so is their noise",
        )
        self.seeds, self.shape = [_whole(seed) for seed in seeds], (len(seeds), *shape)
        self.field, self.stream, self.mask = field, str(stream), mask
        self.device, self.dtype, self._draws = device, dtype, 0
        self._key = _hash(field, self.stream) if self.stream else _hash(field)
        self._path: dict[float, Any] = {}
        self._places, real = None, np.full((len(seeds), 1), math.prod(shape))
        if mask is not None:
            of, state = f" of field '{field}'" if field else "", np.empty(self.shape)
            real = mask_like(mask_of(numpy(mask), state, of), state).reshape(len(seeds), -1)
        counts = real.sum(1)
        order = np.argsort(counts, kind="stable")  # rows of as many numbers are drawn together
        if mask is not None:
            self._places = np.arange(real.size).reshape(real.shape)[order][real[order]]
        words = np.array(self.seeds, np.uint64)
        self._rows = [(words[counts == count], count) for count in np.unique(counts[counts > 0]).tolist()]

    def _value(self) -> dict[str, Any]:
        value = {name: getattr(self, name) for name in ("seeds", "shape", "field", "stream", "dtype", "_draws")}
        mask = None if self.mask is None else numpy(self.mask).astype(bool).tolist()
        return {**value, "device": str(self.device), "mask": mask}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Noise) and self._value() == other._value()

    def __repr__(self) -> str:
        return f"Noise({', '.join(f'{name}={reprlib.repr(value)}' for name, value in self._value().items())})"

    def uniform(self) -> Array:
        """The next draw: independent numbers, uniform in (0, 1)."""
        below = np.nextafter(np.ones((), self.dtype), np.zeros((), self.dtype))  # the largest below 1
        return self._draw(lambda u: np.minimum(u.reshape(len(u), -1).astype(self.dtype), below))

    def normal(self) -> Array:
        """The next draw: independent standard normal numbers, by the transform of Box and Muller:
        sqrt(-2 log u) cos(2 pi v), sqrt(-2 log u) sin(2 pi v)."""
        return self._draw(box_muller)

    def between(self, a: float, b: float) -> Array:
        """(B(b) - B(a)) / sqrt(b - a), 0 <= a < b < inf: standard normal, and the same picture on every grid.

        B is a Brownian motion on the signal-to-noise ratio SNR = (alpha / sigma)^2, a function of (seed, field,
        stream) for each element. There all grids see the same motion: in the reverse SDE (eta = 1) a step from t to s
        adds to (alpha / sigma^2) x_t noise of variance SNR_s - SNR_t. It counts as no draw, and may be asked for in
        any order.

        B is drawn at the knots of a dyadic tree over lambda = log(SNR) / 2 in (-32, 32), with leaves 1/1024 wide (the
        outermost reach to SNR 0 and inf), and in its leaf by a Brownian bridge to the very point; every number is
        keyed by the SNR it stands at. So for a, b, c in three leaves, up to rounding,

            sqrt(c - a) between(a, c) = sqrt(b - a) between(a, b) + sqrt(c - b) between(b, c),

        and the two on the right are independent. Where a and b share a leaf, the numbers are keyed by (a, b), and
        independent of B.

        Raises DiffusionError for other a and b.
        """
        a, b = float(a), float(b)
        require(0 <= a < b < math.inf, f"between({a}, {b}): 0 <= a < b < inf is needed")
        (a_leaf, start), (b_leaf, end) = self._motion(a), self._motion(b)
        own = a_leaf == b_leaf
        return self._out(self._standard(f"{a}/{b}") if own else (end - start) / math.sqrt(b - a))

    def _motion(self, snr: float) -> tuple[float, Any]:
        """Where the leaf of `snr` begins, and B(snr). What was drawn on the way to the last point is kept."""
        path: dict[float, Any] = {0.0: 0.0, math.inf: 0.0}
        left, right, low, high = 0.0, math.inf, -LAMBDA_MAX, LAMBDA_MAX
        while True:
            inside, middle = high - low <= LEAF, (low + high) / 2
            knot = snr if inside else math.exp(2 * middle)
            if knot in self._path:
                path[knot] = self._path[knot]
            elif knot not in path:  # a Brownian bridge; without a right end, an increment
                share = (knot - left) / (right - left)
                std = math.sqrt((knot - left) * (1 - share))
                path[knot] = path[left] + share * (path[right] - path[left]) + std * self._standard(str(knot))
            if inside:
                self._path = path
                return left, path[snr]
            low, left, high, right = (middle, knot, high, right) if knot <= snr else (low, left, middle, knot)

    def _standard(self, key: str) -> np.ndarray:
        """The standard normal numbers of the Brownian motion at `key`, float64, one row after the other."""
        return self._numbers(_hash(self.field, self.stream, "path"), _hash(key), box_muller)

    def _draw(self, transform: Callable[[np.ndarray], np.ndarray]) -> Array:
        self._draws += 1
        return self._out(self._numbers(self._key, self._draws - 1, transform))

    def _numbers(self, key: int, draw: int, transform: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """`transform` of pairs (rows, 2, half) of uniform numbers, as many rows together as fit the cache."""
        parts = [np.empty(0, self.dtype)]
        for seeds, count in self._rows:
            half = (count + 1) // 2
            size = max(1, COUNTERS // (half // 2 + 1))
            for i in range(0, len(seeds), size):
                words = philox(seeds[i : i + size], key, draw, (half + 1) // 2)[:, : 2 * half]
                u = ((words >> np.uint64(11)) + 0.5) * 2.0**-53  # (0, 1]: their logarithm is finite
                parts.append(transform(u.reshape(-1, 2, half))[:, :count].reshape(-1))
        return np.concatenate(parts)

    def _out(self, numbers: np.ndarray) -> Array:
        """Numbers in their places, 0 where there is no element, on the device."""
        values = numbers.astype(self.dtype, copy=False)
        if self._places is not None:
            values, drawn = np.zeros(math.prod(self.shape), self.dtype), values
            values[self._places] = drawn
        if self.device is None:
            return values.reshape(self.shape)
        import torch

        return torch.from_numpy(values.reshape(self.shape)).to(self.device)


def box_muller(u: np.ndarray) -> np.ndarray:
    """Standard normal numbers (rows, 2 half) of pairs of uniform ones (rows, 2, half)."""
    radius, sin = np.sqrt(-2 * np.log(u[:, 0])), np.sin(np.pi * (0.5 - u[:, 1]))  # sin is cos(pi v)
    square = sin**2  # of the double angle by its half: half the time of np.cos and np.sin
    return np.concatenate([radius * (2 * square - 1), radius * (2 * sin * np.sqrt(1 - square))], 1)


def philox(seeds: np.ndarray, tag: int, draw: int, counters: int) -> np.ndarray:
    """The words of Philox 4x64-10 with keys (seeds[i], tag) at the counters (1, draw, 0, 0), (2, draw, 0, 0) and so
    on, those of np.random.Philox: (len(seeds), 4 counters). Salmon et al. 2011."""
    if len(seeds) * (50 - counters) < 2500:  # a row costs NumPy as much to begin as this for 50 counters
        words = np.empty((len(seeds), 4 * counters), np.uint64)
        generator = np.random.Philox(key=np.array([0, tag], np.uint64), counter=np.array([0, draw, 0, 0], np.uint64))
        state: Any = generator.state
        for i, seed in enumerate(seeds):
            state["state"]["key"][0], generator.state = seed, state
            words[i] = generator.random_raw(4 * counters)
        return words
    x, y = np.zeros((2, 2, len(seeds), counters), np.uint64)  # words 0 and 2, words 1 and 3
    x[0], y[0] = np.arange(1, counters + 1, dtype=np.uint64), draw
    keys = np.stack([seeds, np.full(len(seeds), tag, np.uint64)])[..., None]
    for _ in range(10):
        high, low = _times(x, FACTORS)
        x, y, keys = high[::-1] ^ y ^ keys, low[::-1], keys + KEY_STEPS
    return np.stack([x[0], y[0], x[1], y[1]], -1).reshape(len(seeds), -1)


def _times(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The high and the low words of x y, from products of half words."""
    x_low, x_high, y_low, y_high = x & LOW, x >> HALF, y & LOW, y >> HALF
    cross = (x_low * y_low >> HALF) + x_high * y_low
    return x_high * y_high + (cross >> HALF) + ((cross & LOW) + x_low * y_high >> HALF), x * y


def child_seed(seed: int, *path: int | str) -> int:
    """The seed of a child of `seed`, e.g. of particle k: the first 8 bytes, lowest first, of the SHA-256 of
    "seed/path[0]/path[1]...". Raises DiffusionError for a seed that is none."""
    return _hash("/".join(map(str, (_whole(seed), *path))))


def _hash(*names: str) -> int:
    """64 bits of the names together, which byte 255 keeps apart: it is in no name."""
    return int.from_bytes(hashlib.sha256(b"\xff".join(name.encode() for name in names)).digest()[:8], "little")


def _whole(seed: Any) -> int:
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    require(whole and 0 <= seed < 2**64, f"seed {seed!r}: a whole number from 0 to 2^64 - 1 is needed")
    return int(seed)
