"""Noise as a function of (seed, field, draw number): the same picture alone and in a batch, on any device."""

from __future__ import annotations

import hashlib
import math
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from inkwash.diffusion.arrays import Array, mask_like, numpy
from inkwash.diffusion.errors import DiffusionError


def _word(value: int) -> np.ndarray:
    """value mod 2^64 as an array without axes, with which NumPy is quickest."""
    return np.array(value % 2**64, np.uint64)


SHIFT, LOW, UNUSED = _word(32), _word(2**32 - 1), _word(11)
FACTORS = [(_word(m), _word(m % 2**32), _word(m >> 32)) for m in (0xD2E7470EE14C6C93, 0xCA5A826395121157)]
KEY_STEPS = _word(0x9E3779B97F4A7C15), _word(0xBB67AE8584CAA73B)
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
        if not hasattr(seeds, "__len__") or not len(seeds):
            raise DiffusionError(f"seeds = {seeds!r}: one whole number for each sample is needed, as [3] or range(3)")
        if dtype not in ("float32", "float64"):
            raise DiffusionError(f"dtype = {dtype!r}: noise is 'float32' or 'float64'")
        self.seeds, self.shape = [_whole(seed) for seed in seeds], (len(seeds), *shape)
        if mask is not None and tuple(mask.shape) != self.shape[: mask.ndim]:
            of = f" of field '{field}'" if field else ""
            raise DiffusionError(
                f"mask{of} has the shape {tuple(mask.shape)}, the state {self.shape}: the mask must have the state's "
                "first axes, the batch among them"
            )
        self.field, self.stream, self.mask = field, stream, mask
        self.device, self.dtype, self._draws = device, dtype, 0
        real = np.ones(self.shape, bool) if mask is None else mask_like(numpy(mask), np.empty(self.shape))
        real = real.reshape(len(self.seeds), math.prod(shape))
        order = np.argsort(real.sum(1), kind="stable")  # rows of as many numbers are drawn together
        self._places = None if mask is None else np.arange(real.size).reshape(real.shape)[order][real[order]]
        self._sorted_seeds, self._counts = np.array(self.seeds, np.uint64)[order], real.sum(1)[order]
        self._rows = self._split(_hash(field, stream) if stream else _hash(field))
        self._motion_rows: list[_Rows] = []
        self._path: dict[float, Any] = {}

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
        self._draws += 1
        below = np.nextafter(np.ones((), self.dtype), np.zeros((), self.dtype))  # the largest below 1
        return self._out([np.minimum(rows.uniform(self._draws - 1).astype(self.dtype), below) for rows in self._rows])

    def normal(self) -> Array:
        """The next draw: independent standard normal numbers, by the transform of Box and Muller:
        sqrt(-2 log u) cos(2 pi v), sqrt(-2 log u) sin(2 pi v)."""
        self._draws += 1
        return self._out([rows.normal(self._draws - 1, self.dtype) for rows in self._rows])

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
        if not 0 <= a < b < math.inf:
            raise DiffusionError(f"between({a}, {b}): 0 <= a < b < inf is needed")
        (a_leaf, start), (b_leaf, end) = self._motion(a), self._motion(b)
        own = a_leaf == b_leaf
        return self._out([self._standard(f"{a}/{b}") if own else (end - start) / math.sqrt(b - a)])

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
        """The standard normal numbers of the Brownian motion at `key`, float64."""
        self._motion_rows = self._motion_rows or self._split(_hash(self.field, self.stream, "path"))
        return np.concatenate([np.empty(0), *(rows.normal(_hash(key), "float64") for rows in self._motion_rows)])

    def _split(self, tag: int) -> list[_Rows]:
        """Rows of as many numbers, as many together as fit the cache."""
        parts: list[_Rows] = []
        for count in np.unique(self._counts[self._counts > 0]).tolist():
            seeds, size = self._sorted_seeds[self._counts == count], max(1, 4 * COUNTERS // (count + 3))
            parts += [_Rows(seeds[i : i + size], tag, count) for i in range(0, len(seeds), size)]
        return parts

    def _out(self, numbers: Sequence[np.ndarray]) -> Array:
        """Numbers in their places, 0 where there is no element, on the device."""
        values = np.concatenate([np.empty(0, self.dtype), *numbers], dtype=self.dtype, casting="same_kind")
        if self._places is not None:
            values, drawn = np.zeros(math.prod(self.shape), self.dtype), values
            values[self._places] = drawn
        if self.device is None:
            return values.reshape(self.shape)
        import torch

        return torch.from_numpy(values.reshape(self.shape)).to(self.device)


class _Rows:
    """Rows of `count` numbers each, with the keys (seeds[i], tag)."""

    def __init__(self, seeds: np.ndarray, tag: int, count: int) -> None:
        self._seeds, self._tag, self._count, self._half = seeds, tag, count, (count + 1) // 2
        self._first, self._ahead = 0, np.empty(0)

    def uniform(self, draw: int) -> np.ndarray:
        return self._unit(draw).swapaxes(0, 1).reshape(len(self._seeds), -1)[:, : self._count].reshape(-1)

    def normal(self, draw: int, dtype: str) -> np.ndarray:
        radius, turn = self._unit(draw)  # u and v; in place, for half the time
        np.sqrt(np.multiply(np.log(radius, out=radius), -2, out=radius), out=radius)
        np.subtract(0.5, turn, out=turn)
        turn *= np.pi
        np.sin(turn, out=turn)  # cos(pi v), then the double angle: half the time of np.cos and np.sin
        cos = turn * turn
        sin = np.subtract(1, cos)
        turn *= np.sqrt(sin, out=sin)
        turn *= 2
        cos *= 2
        cos -= 1
        out = np.empty((len(radius), 2, self._half), dtype)
        np.multiply(radius, cos, out=out[:, 0], casting="same_kind")
        np.multiply(radius, turn, out=out[:, 1], casting="same_kind")
        return out.reshape(len(radius), -1)[:, : self._count].reshape(-1)

    def _unit(self, draw: int) -> np.ndarray:
        """Numbers in (0, 1], so that their logarithm is finite: (2, rows, half). Few words are made ahead, for 1, 4,
        16... draws, as long as these follow one another."""
        last, counters, kept = self._first + len(self._ahead), (self._half + 1) // 2, min(4, 2 * self._half)
        if not self._first <= draw < last:
            most = COUNTERS // (len(self._seeds) * counters) if draw == last else 0
            draws = max(1, min(4 * len(self._ahead), most))
            self._first, self._ahead = draw, philox(self._seeds, self._tag, draw, draws, counters, kept)
        words = self._ahead[draw - self._first][:, : 2 * self._half].reshape(-1, 2, self._half).swapaxes(0, 1)
        u: np.ndarray = np.right_shift(words, UNUSED, order="C").astype(np.float64)
        u += 0.5
        u *= 2.0**-53
        return u


def philox(seeds: np.ndarray, tag: int, draw: int, draws: int, counters: int, kept: int = 4) -> np.ndarray:
    """The words of Philox 4x64-10 with keys (seeds[i], tag) at the counters (1, draw + n, 0, 0), (2, draw + n, 0, 0)
    and so on, those of np.random.Philox: (draws, len(seeds), kept * counters), all 4 of a counter or the first 2.
    Salmon et al. 2011."""
    words = np.empty((draws, len(seeds), counters, kept), np.uint64)
    if draws * len(seeds) * (50 - counters) < 2500:  # a row costs NumPy as much to begin as this for 50 counters
        generator = np.random.Philox(key=np.array([0, tag], np.uint64))
        state: Any = generator.state
        for n, i in np.ndindex(draws, len(seeds)):
            state["state"]["counter"][1], state["state"]["key"][0] = draw + n, seeds[i]
            generator.state = state
            words[n, i] = generator.random_raw(4 * counters).reshape(-1, 4)[:, :kept]
        return words.reshape(draws, len(seeds), -1)
    x0, x1, x2, x3, spare, *work = np.empty((8, draws, len(seeds), counters), np.uint64)
    number, key = np.arange(1, counters + 1, dtype=np.uint64), seeds[:, None].copy()
    whole, low, high = FACTORS[0]
    x0[:] = (np.arange(draws, dtype=np.uint64) + _word(draw)).reshape(-1, 1, 1) ^ key  # the first round, written out
    x1[:] = 0
    x2[:] = number * high + (number * low >> SHIFT) >> SHIFT ^ _word(tag)
    x3[:] = number * whole
    for i in range(1, 10):
        key += KEY_STEPS[0]
        if i < 9 or kept == 4:  # only the last two words need it at last
            _multiply(x0, *FACTORS[0], spare, *work)
            x0 ^= x3
            x0 ^= _word(tag + i * int(KEY_STEPS[1]))
        _multiply(x2, *FACTORS[1], x3, *work)
        x2 ^= x1
        x2 ^= key
        x0, x1, x2, x3, spare = x2, x3, x0, spare, x1
    np.stack([x0, x1, x2, x3][:kept], -1, out=words)
    return words.reshape(draws, len(seeds), -1)


def _multiply(
    x: np.ndarray, y: np.ndarray, y_low: np.ndarray, y_high: np.ndarray, product: np.ndarray, *work: np.ndarray
) -> None:
    """The low words of x y into `product`, the high ones, from products of half words, into x."""
    low, middle, cross = work
    np.multiply(x, y, out=product)
    np.bitwise_and(x, LOW, out=low)
    x >>= SHIFT
    np.multiply(low, y_low, out=middle)
    middle >>= SHIFT
    np.multiply(x, y_low, out=cross)
    cross += middle
    low *= y_high
    low += np.bitwise_and(cross, LOW, out=middle)
    low >>= SHIFT
    cross >>= SHIFT
    x *= y_high
    x += cross
    x += low


def child_seed(seed: int, *path: int | str) -> int:
    """The seed of a child of `seed`, e.g. of particle k: the first 8 bytes, lowest first, of the SHA-256 of
    "seed/path[0]/path[1]...". Raises DiffusionError for a seed that is none."""
    return _hash("/".join(map(str, (_whole(seed), *path))))


def _hash(*names: str) -> int:
    """64 bits of the names together, which byte 255 keeps apart: it is in no name."""
    return int.from_bytes(hashlib.sha256(b"\xff".join(name.encode() for name in names)).digest()[:8], "little")


def _whole(seed: Any) -> int:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise DiffusionError(f"seed {seed!r}: a whole number from 0 to 2^64 - 1 is needed")
    return int(seed)
