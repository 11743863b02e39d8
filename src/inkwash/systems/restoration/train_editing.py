"""Training of a model that edits photographs: one for all tasks, which is not told them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from inkwash.errors import UserError, unknown
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.restoration.data import for_editing
from inkwash.systems.restoration.degradations import TASKS
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.train import Shared, side_of, train_model
from inkwash.training.recipe import load_recipe
from inkwash.weights.shipped import RECIPES


@dataclass(frozen=True, kw_only=True)
class Recipe(Shared):
    """A recipe file of task "editing".

    tasks    those that are learned
    weights  how often each of them is drawn, beside the others: 1 where nothing is said
    """

    task: Literal["editing"]
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    weights: dict[str, float] = field(default_factory=dict)


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model, the best so far by the pictures for choices."""
    side_of(recipe, 1)
    weights = weights_of(recipe)
    total = sum(weights.values())
    words = ", ".join(f"{name} ({TASKS[name].words}) {weight / total:.0%}" for name, weight in weights.items())
    facts = {"tasks": list(weights), "samples": 4, "degradation": words}
    train_model(recipe, Editor, {"missing": True}, facts, for_editing(weights), folder, monitor)


def weights_of(recipe: Recipe) -> dict[str, float]:
    """The weight of each task. UserError for a name that is none, and a weight that is not above 0."""
    if strange := [name for name in (*recipe.tasks, *recipe.weights) if name not in TASKS]:
        raise unknown("task", strange[0], TASKS)
    found = {name: recipe.weights.get(name, 1.0) for name in TASKS if name in recipe.tasks}
    if not found or min(found.values()) <= 0:
        raise UserError("tasks: one at least is needed, and weights above 0; leave a task out that is not wanted")
    return found


def default_recipe(data: Path) -> Recipe:
    """For pictures of one's own, at the size at which they are, in less time."""
    recipe = load_recipe(RECIPES / "retouch.toml", Recipe, data=data)
    return replace(recipe, zoom=1.0, fit=replace(recipe.fit, steps=5000))
