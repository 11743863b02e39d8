from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from inkwash.systems.base import File, Help, Media, Request


@dataclass(frozen=True, kw_only=True)
class Scatter(Request):
    """Scatter points as a model has learned them."""

    model: Annotated[str, Help("A folder of a trained model.")]
    count: Annotated[int, Ge(1), Le(5000), Help("How many points.")] = 500
    sampler: Annotated[Literal["heun", "ddim", "ancestral", "tuned"] | None, Help("How to step.")] = None
    steps: Annotated[int, Ge(1), Le(1000), Help("How many steps.")] = 12
    shift: Annotated[File | None, Media("text/csv"), Help("x,y to move all of them by.")] = None
    seed: Annotated[int | None, Ge(0), Le(2**63), Help("The same seed, the same points.")] = None


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """How far the points lie from the circle, beside normal noise."""

    model: Annotated[str, Help("A folder of a trained model.", argument=True)]
    count: Annotated[int, Ge(1), Help("How many points.")] = 500
