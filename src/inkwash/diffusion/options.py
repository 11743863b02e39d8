"""Options: their ranges are checked here and nowhere else, and what has options is equal by value and pickles."""

from __future__ import annotations

import functools
import inspect
import math
import reprlib
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar

from inkwash.diffusion.arrays import same
from inkwash.diffusion.errors import DiffusionError

F = TypeVar("F", bound=Callable[..., Any])


class Range(NamedTuple):
    """The numbers from `low` to `high`, without `low` itself if `above`; or a `pair` of them, in ascending order."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False
    pair: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a pair of ascending numbers" if self.pair else "a number"
        least = "" if self.low == -math.inf else f" {'above' if self.above else 'from'} {self.low:g}"
        return kind + least + ("" if self.high == math.inf else f" to {self.high:g}")

    def holds(self, value: Any) -> bool:
        if self.pair:
            two = isinstance(value, (tuple, list)) and len(value) == 2
            return two and all(map(self._replace(pair=False).holds, value)) and bool(value[0] <= value[1])
        number = isinstance(value, Integral if self.whole else Real) and not isinstance(value, bool)
        return number and bool(self.low <= value <= self.high) and not (self.above and value == self.low)


REAL, UNIT, COUNT = Range(-1e12, 1e12), Range(0, 1), Range(1, whole=True)
POSITIVE, NOT_NEGATIVE = Range(0, 1e12, above=True), Range(0, 1e12)


def check(name: str, options: dict[str, Any], ranges: dict[str, Range]) -> None:
    """Raises DiffusionError for the first option out of its range."""
    for key, allowed in ranges.items():
        if key in options and not allowed.holds(options[key]):
            raise DiffusionError(f"{name}: {key} = {options[key]!r}; {allowed} is needed")


def checked(kind: type[Bound] | None = None, /, **ranges: Range) -> Callable[[F], Any]:
    """A function that first checks its options; `ranges` are kept as its attribute. What one makes that makes
    functions is then a `Bound` of that kind."""

    def decorate(f: F) -> Any:
        signature = inspect.signature(f)
        unused = {name for name, option in signature.parameters.items() if option.default is None}

        @functools.wraps(f)
        def wrapper(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options)
            check(f.__name__, {k: v for k, v in given.arguments.items() if v is not None or k not in unused}, ranges)
            made = f(*args, **options)
            if kind is None:
                return made
            given.apply_defaults()
            return kind(wrapper, made, given.arguments)

        wrapper.ranges = ranges  # type: ignore[attr-defined]
        return wrapper

    return decorate


class Bound:
    """What a maker has made of its arguments; it pickles, is equal, and shows itself, as maker and arguments."""

    def __init__(self, maker: Callable[..., Any], made: Any, arguments: dict[str, Any]) -> None:
        self.maker, self.made, self.arguments = maker, made, arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.made(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "made":
            raise AttributeError(name)
        return getattr(self.made, name)

    def __reduce__(self) -> Any:
        return functools.partial(self.maker, **self.arguments), ()

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Bound) and self.maker is other.maker and same(self.arguments, other.arguments)

    def __hash__(self) -> int:
        return hash(self.maker)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={_shown(value)}" for key, value in self.arguments.items())
        return f"{self.maker.__name__}({arguments})"


def _shown(value: Any) -> str:
    """A value in a call, functions by their names."""
    if isinstance(value, functools.partial):
        options = [f"{key}={_shown(option)}" for key, option in value.keywords.items()]
        return f"partial({', '.join([*map(_shown, (value.func, *value.args)), *options])})"
    value = value.tolist() if getattr(value, "ndim", 0) == 1 else value
    return getattr(value, "__name__", None) or (repr if isinstance(value, Bound) else reprlib.repr)(value)


maker = functools.partial(checked, Bound)
