"""The few array functions that NumPy and torch do not share under one spelling."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from functools import cache, reduce
from operator import add, mul
from typing import Any

import numpy as np

Array = Any  # a NumPy array or a torch tensor: the core does the same arithmetic on both


def namespace(x: Array) -> Any:
    """The module, numpy or torch, that `x` belongs to. It never imports torch."""
    return sys.modules["torch"] if type(x).__module__.startswith("torch") else np


def no_grad(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Switches gradients off while `x` is a torch tensor; does nothing for NumPy."""
    module = namespace(x)
    return contextlib.nullcontext() if module is np else module.no_grad()


def cast(x: Array, dtype: Any) -> Array:
    """`x` in another dtype; gradients pass."""
    return np.asarray(x, dtype) if namespace(x) is np else x.to(dtype)


def combine(values: Sequence[Array], weights: Sequence[Array]) -> Array:
    """sum_j weights_j values_j; all weights are floats, or the first is an array.

    Torch takes twice as long to multiply by a number as to add with one as a factor.
    """
    if namespace(values[0]) is np or not isinstance(weights[0], float):
        return reduce(add, map(mul, weights, values))
    total = _zero()
    for value, weight in zip(values, weights, strict=True):
        total = total.add(value, alpha=weight)
    return total


@cache
def _zero() -> Array:
    import torch

    return torch.zeros((), device="cpu")  # without dimensions it takes on the dtype and device of what is added


def numpy(x: Array) -> np.ndarray:
    """`x` as a NumPy array on the CPU."""
    return np.asarray(x if namespace(x) is np else x.detach().cpu())


def like(value: Any, x: Array, dtype: Any = None) -> Array:
    """`value` as an array of the kind and on the device of `x`, in its dtype unless another is given."""
    return namespace(x).asarray(value, dtype=dtype or x.dtype, device=x.device)


def mask_like(mask: Array, x: Array) -> Array:
    """A mask over the first axes of `x`, broadcast to its shape."""
    xp = namespace(x)
    mask = like(mask, x, xp.bool)
    return xp.broadcast_to(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x.shape)


def pick(x: Array, index: Array) -> Array:
    """x[..., index]: of each row along the last axis the element that the whole number `index` names."""
    xp = namespace(x)
    along = xp.take_along_axis if xp is np else xp.take_along_dim
    return along(x, index[..., None], -1)[..., 0]


def finite(x: Array) -> bool:
    """Whether every value is finite. A finite sum says so at once; a sum may also overflow, and then all are looked
    at."""
    return math.isfinite(x.sum().item()) or bool(namespace(x).isfinite(x).all())


def normal_cdf(x: Array) -> Array:
    """The distribution function of the standard normal."""
    if namespace(x) is np:
        return np.vectorize(math.erfc, otypes=[np.float64])(x / -math.sqrt(2)) / 2
    return namespace(x).erfc(x / -math.sqrt(2)) / 2  # torch's ndtr has lost its lower tail in float32


def norm(x: Array) -> Array:
    """The Euclidean length of each sample: (batch, 1, ..., 1)."""
    return ((x.reshape(len(x), -1) ** 2).sum(1) ** 0.5).reshape(-1, *[1] * (x.ndim - 1))


def interpolate(t: Array, table: np.ndarray) -> Array:
    """Values at `t` of the piecewise linear curve through `table` at 0, 1/n, 2/n, ..., 1."""
    xp = namespace(t)
    values = xp.asarray(table, device=getattr(t, "device", None))
    position = t * (len(table) - 1)
    left = xp.clip(xp.floor(position), 0, len(table) - 2)
    share = position - left
    left = cast(left, xp.int64)
    return values[left] * (1 - share) + values[left + 1] * share
