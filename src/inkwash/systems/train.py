"""The verb that all systems share: training by a recipe file, or on data of one's own."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path, PurePath
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Le

from inkwash.errors import UserError, unknown
from inkwash.systems.base import Context, File, Help, Media, Request, Result


@dataclass(frozen=True, kw_only=True)
class Train(Request):
    """Train a model by a recipe, or on data of your own; or go on with a run that was stopped."""

    recipe: Annotated[File | None, Help("A recipe file (.toml); none for data of your own.", argument=True)] = None
    data: Annotated[
        File | tuple[File, ...] | None, Media("folder"), Help("The training data, instead of the recipe's.")
    ] = None
    steps: Annotated[int | None, Ge(1), Le(10**9), Help("Steps, instead of the recipe's.")] = None

    def stem(self) -> str:
        named = self.recipe or (self.data[0] if isinstance(self.data, tuple) else self.data)
        return "training" if named is None else PurePath(named.name).stem


# how its `Verb` is run, in every system
TRAIN: dict[str, Any] = {"lasting": True, "out": "runs/STEM", "takes": ("out", "device", "precision", "threads")}


class Task(NamedTuple):
    """What a recipe is for: the module that has its `Recipe` and `train`, and where in the run's folder the result
    lies."""

    module: str
    made: str = "model"


def train(
    requests: list[Train], context: Context, tasks: dict[str, Task], own: Callable[[Path], Any] | None = None
) -> Iterator[Result]:
    """Trains in the context's folder; `own` makes a recipe for data without one."""
    for of, request in enumerate(requests):
        data = None if request.data is None else context.open(request.data)
        if request.recipe is not None:
            file = context.open(request.recipe)
            task = task_of(file)
            if task not in tasks:
                raise unknown("task", task, tasks)
            module = import_module(tasks[task].module)
            from inkwash.training.recipe import load_recipe

            recipe: Any = load_recipe(file, module.Recipe)
            if data is not None and "data" not in {field.name for field in fields(recipe)}:
                raise UserError(f"--data: a recipe of task '{task}' names its own")
            recipe = recipe if data is None else replace(recipe, data=data)
        elif own is None or data is None:
            raise UserError("a recipe is needed, or data of your own: --data" if own else "a recipe is needed")
        else:
            recipe = own(data)
            task = recipe.task
            module = import_module(tasks[task].module)
        given = {"steps": request.steps, "threads": context.threads}
        given |= {"device": context.device, "precision": context.precision}
        changes = {name: value for name, value in given.items() if value is not None}
        made = context.folder / tasks[task].made
        if made.exists() and not any((context.folder / name).exists() for name in ("checkpoints", "log.csv")):
            raise UserError(f"{made}: it is there, and no training here made it; choose another folder with --out")
        module.train(replace(recipe, fit=replace(recipe.fit, **changes)), context.folder)
        yield Result(of, None, {}, model=made)


def task_of(file: Path) -> str:
    """What a recipe file is for. UserError for one that is missing or no TOML."""
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8")).get("task"))
    except OSError as error:
        raise UserError(f"cannot read the recipe {file}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is not valid TOML: {error}") from None
