"""The few array functions that NumPy and torch do not share under one spelling, and states of named fields."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial, reduce
from operator import add, mul
from typing import Any

import numpy as np

from inkwash.diffusion.errors import DiffusionError, require

Array = Any  # a NumPy array or a torch tensor: the core does the same arithmetic on both


def namespace(x: Array) -> Any:
    """The module, numpy or torch, that `x` belongs to. It never imports torch."""
    torch = sys.modules.get("torch")
    return torch if torch and isinstance(x, torch.Tensor) else np


def on_host(x: Array) -> bool:
    """Whether `x` lies in the memory of the host: to look at what an accelerator has, the host waits for it."""
    return namespace(x) is np or bool(x.device.type == "cpu")


def require_all(holds: Array, message: str, detail: Callable[[], str] = str) -> None:
    """Raises DiffusionError unless all of it holds, with `detail()` at the {} of the message.

    Of what an accelerator has it waits for nothing: there a RuntimeError ends the run when the host next waits.
    """
    holds = holds if isinstance(holds, bool) else holds.all()
    if not on_host(holds):
        with contextlib.suppress(NotImplementedError):  # a device that cannot is waited for
            namespace(holds)._assert_async(holds, message.replace("{}", ""))
            return
    if not holds:
        raise DiffusionError(message.replace("{}", detail()))


def no_grad(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Switches gradients off while `x` is a torch tensor; does nothing for NumPy."""
    module = namespace(x)
    return contextlib.nullcontext() if module is np else module.no_grad()


def cast(x: Array, dtype: Any) -> Array:
    """`x` in another dtype; gradients pass."""
    return np.asarray(x, dtype) if namespace(x) is np else x.to(dtype)


def linear_combination(values: Sequence[Array], weights: Sequence[Array]) -> Array:
    """sum_j weights_j values_j; all weights are floats, or the first is an array.

    Torch takes twice as long to multiply by a number as to add with one as a factor.
    """
    if namespace(values[0]) is np or not isinstance(weights[0], float):
        return reduce(add, map(mul, weights, values))
    total = values[0] if weights[0] == 1.0 else _zero().add(values[0], alpha=weights[0])
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = total.add(value, alpha=weight)
    return total


@cache
def _zero() -> Array:
    import torch

    return torch.zeros((), device="cpu")  # without dimensions it takes on the dtype and device of what is added


def host(x: Array) -> Array:
    """`x` in the memory of the host, without its graph."""
    return x if namespace(x) is np else x.detach().cpu()


def numpy(x: Array) -> np.ndarray:
    """`x` as a NumPy array."""
    return np.asarray(host(x))


def double(xp: Any, device: Any) -> Any:
    """float64 of numpy or torch, or the best that the device has: mps has no more than float32."""
    return xp.float32 if getattr(device, "type", "") == "mps" else xp.float64


def like(value: Any, x: Array, dtype: Any = None) -> Array:
    """`value` as an array of the kind and on the device of `x`, in its dtype unless another is given; gradients
    pass."""
    if namespace(x) is not np and namespace(value) is not np:
        return value.to(x.device, dtype or x.dtype)
    return namespace(x).asarray(value, dtype=dtype or x.dtype, device=x.device)


def mask_like(mask: Array, x: Array) -> Array:
    """A mask over the first axes of `x`, broadcast to its shape."""
    xp = namespace(x)
    mask = like(mask, x, xp.bool)
    return xp.broadcast_to(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x.shape)


def mask_of(mask: Any, x: Array, of: str = "") -> Array:
    """A mask of the state `x` as an array of its kind, on its device; None where there is none.

    Raises DiffusionError unless it is of true and false, or 1 and 0, over the first axes of x.
    """
    if mask is None:
        return None
    mask = namespace(x).asarray(mask, device=x.device)
    given, shape = tuple(mask.shape), tuple(x.shape)
    axes = f"mask{of} has the shape {given}, the state {shape}: the mask must have the state's first axes"
    require(given and given == shape[: len(given)], f"{axes}, the batch among them")
    require_all((mask == 0) | (mask == 1), f"mask{of}: true and false, or 1 and 0, are needed")
    return mask


def per_sample(values: Array, x: Array) -> Array:
    """(batch,) as (batch, 1, ..., 1), to go with `x`."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def pick(x: Array, index: Array) -> Array:
    """x[..., index]: of each row along the last axis the element that the whole number `index` names."""
    xp = namespace(x)
    along = xp.take_along_axis if xp is np else xp.take_along_dim
    return along(x, index[..., None], -1)[..., 0]


def widened(x: Array, dtype: str | None = None) -> Array:
    """Real numbers in `dtype`, or in float32 or better; tokens in int64; what is neither as it is."""
    name = name_of(x.dtype)
    if "int" not in name and "float" not in name:
        return x
    wide = "int64" if "int" in name else dtype or ("float64" if name == "float64" else "float32")
    return cast(x, getattr(namespace(x), wide))


def finite(x: Array) -> bool:
    """Whether every value is finite. A finite sum says so at once; a sum may also overflow, and then all are looked
    at."""
    return math.isfinite(x.sum().item()) or bool(namespace(x).isfinite(x).all())


def norm(x: Array) -> Array:
    """The Euclidean length of each sample: (batch, 1, ..., 1)."""
    return per_sample((x.reshape(len(x), -1) ** 2).sum(1) ** 0.5, x)


def quantile(x: Array, q: float) -> Array:
    """Of each row of (batch, n), between neighbours linearly, as NumPy does; torch's own takes 2^24 numbers at
    most."""
    if namespace(x) is np:
        return np.quantile(x, q, 1).astype(x.dtype)
    place = q * (x.shape[1] - 1)
    low, high = (x.kthvalue(1 + k, 1).values for k in (math.floor(place), math.ceil(place)))
    return low + (place % 1) * (high - low)


def constant(values: Any) -> Callable[[Any, Any, Any], Array]:
    """A function of (namespace, dtype, device) to `values` as an array of these: each device is sent them once."""

    @cache
    def on_device(xp: Any, dtype: Any, device: Any) -> Array:
        return xp.asarray(values, dtype=dtype, device=device)

    return on_device


def interpolation(table: np.ndarray) -> Callable[[Array], Array]:
    """The piecewise linear curve through `table` at 0, 1/n, 2/n, ..., 1, a function of arrays of places."""
    values_on, last = constant(table), len(table) - 1

    def curve(t: Array) -> Array:
        xp, device = namespace(t), getattr(t, "device", None)
        values = values_on(xp, double(xp, device), device)
        position = t * last
        left = xp.clip(xp.floor(position), 0, last - 1)
        share = position - left
        left = cast(left, xp.int64)
        return values[left] * (1 - share) + values[left + 1] * share

    return curve


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, arrays within them element by element."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, partial) and isinstance(b, partial):
        return same([a.func, a.args, a.keywords], [b.func, b.args, b.keywords])
    if getattr(a, "ndim", 0) or getattr(b, "ndim", 0):
        return namespace(a) is namespace(b) and np.array_equal(numpy(a), numpy(b))
    return bool(a == b)


def is_tokens(x: Array) -> bool:
    """Whether a state is of whole numbers."""
    return "int" in name_of(x.dtype)


@cache
def name_of(dtype: Any) -> str:
    """ "float32" of a dtype of NumPy or torch; quickly, since a dtype takes its time to spell its name."""
    return str(dtype).rpartition(".")[2].rstrip("'>")


def split(state: Any) -> dict[str, Any]:
    """A state of named fields as a dict; the only field of a bare state is called ""."""
    return dict(state) if isinstance(state, dict) else {"": state}


def merge(fields: dict[str, Any]) -> Any:
    """A state again: what `split` has split."""
    return fields.get("", fields)


def each(value: Any, names: Iterable[str], default: Any = None) -> dict[str, Any]:
    """A value for each field: those of a dict, or `default`; else one for all.

    Raises DiffusionError for a value of a field that is not there.
    """
    if not isinstance(value, dict):
        return dict.fromkeys(names, value)
    names = [*names]
    for name in value.keys() - {*names}:
        require(False, f"there is no field '{name}', only {names if names != [''] else 'a bare state'}")
    return {name: value.get(name, default) for name in names}


def by_field(f: Callable[..., Any], *states: Any) -> Any:
    """f of the corresponding fields of states, as a state."""
    fields = [split(state) for state in states]
    return merge({name: f(*(state[name] for state in fields)) for name in fields[0]})
