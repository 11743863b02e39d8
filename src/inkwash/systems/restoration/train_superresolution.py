"""Training of a model that makes pictures larger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from inkwash.errors import UserError, unknown
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.restoration.data import for_upscaling
from inkwash.systems.restoration.degradations import DEGRADATIONS, REDUCED, make_small_in_words
from inkwash.systems.restoration.train import Shared, side_of, train_model
from inkwash.systems.restoration.upscaler import Upscaler
from inkwash.training.recipe import load_recipe
from inkwash.weights.shipped import RECIPES


@dataclass(frozen=True, kw_only=True)
class Recipe(Shared):
    """A recipe file of task "superresolution".

    factor       how many times larger
    degradation  how the small pictures are made: one of area and bicubic at random, then what else is named of blur,
                 noise and jpeg, each to half of them
    """

    task: Literal["superresolution"]
    factor: Annotated[int, Ge(2), Le(8)] = 4
    degradation: list[str] = field(default_factory=lambda: list(DEGRADATIONS))


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model, the best so far by the pictures for choices."""
    side_of(recipe, recipe.factor)
    names = list(recipe.degradation)
    if strange := [name for name in names if name not in DEGRADATIONS]:
        raise unknown("degradation", strange[0], DEGRADATIONS)
    if not {*names} & {*REDUCED}:
        raise UserError(f"degradation: how pictures are made small is missing; name {' or '.join(REDUCED)}, too")
    facts = {
        "factor": recipe.factor,
        "samples": 1,
        "noise_level": 0.0,
        "degradations": names,
        "degradation": make_small_in_words(recipe.factor, names),
    }
    degrade = for_upscaling(recipe.factor, names)
    train_model(recipe, Upscaler, {"augmented": True}, facts, degrade, folder, monitor)


def default_recipe(data: Path) -> Recipe:
    """For pictures of one's own, at the size at which they are, in less time."""
    recipe = load_recipe(RECIPES / "photos.toml", Recipe, data=data)
    return replace(recipe, zoom=1.0, fit=replace(recipe.fit, steps=5000))
