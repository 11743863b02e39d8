"""The verb that all systems share: training by a recipe file, or on the user's data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge, Le

from inkwash.errors import UserError, unknown
from inkwash.systems.base import Context, File, Help, Media, Note, Request, Result
from inkwash.training.recipe import load_recipe, paths_of, read_toml
from inkwash.weights.shipped import shipped

if TYPE_CHECKING:
    from inkwash.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Train(Request):
    """Train a model by a recipe, or on data of your own; or go on with a run that was stopped."""

    recipe: Annotated[File | None, Help("A recipe file (.toml); none for data of your own.", argument=True)] = None
    data: Annotated[
        File | tuple[File, ...] | None, Media("folder"), Help("The training data, instead of the recipe's.")
    ] = None
    steps: Annotated[int | None, Ge(1), Le(10**9), Help("Steps, instead of the recipe's.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe is None and self.data is None:
            raise UserError("neither a recipe nor data of your own: give one of them")

    def basename(self) -> str:
        named = self.recipe or (self.data[0] if isinstance(self.data, tuple) else self.data)
        assert named is not None
        return PurePath(named.name).stem


# how its `Verb` is run, in every system
TRAIN: dict[str, Any] = {
    "plan": "inkwash.systems.plans:training",
    "lasting": True,
    "out": "runs/STEM",
    "takes": ("out", "device", "precision", "threads"),
}


class Task(NamedTuple):
    """What a recipe is for: the module that has its `Recipe` and `train`, and where in the run's folder the model
    lies.

    train(recipe, folder, monitor) trains by `training.fit.fit`, or goes on with the run in the folder.
    """

    module: str
    model: str = "model"


def train(
    requests: list[Train], context: Context, tasks: dict[str, Task], default: Callable[[Path], Any] | None = None
) -> Iterator[Result]:
    """Trains in the context's folder; `default` makes a recipe for data without one.

    A folder holds one run, whose recipe lies in run.json. Requested again it goes on; the recipe must be the same
    then, but for the keys that change no weights, and `steps`. Once it is finished nothing is done.
    """
    from inkwash.training import run
    from inkwash.training.fit import Stopped

    (request,) = requests
    recipe = requested(request, context, tasks, default)
    description = run.describe(recipe)
    model = context.folder / tasks[recipe.task].model
    status = model / "training.json"
    if model.exists() and not run.checkpoints(context.folder):
        raise UserError(f"{model}: it is there, and no training here made it; choose another folder with --out")
    if run.is_finished(context.folder, description) and status.exists():
        trained = json.loads(status.read_text(encoding="utf-8"))["step"]  # fewer where more were of no use
        on = recipe.fit.lr_decay == "none" and trained == recipe.fit.steps
        more = "more --steps train it on, " if on else ""
        context.tell(Note(f"{model} is finished: {more}another --out begins another run"))
    else:
        try:
            with run.noted(context.folder, description):
                import_module(tasks[recipe.task].module).train(recipe, context.folder, context)
        except Stopped as stop:
            context.tell(Note(f"{stop}{'; the model so far can be used' if status.exists() else ''}"))
    if status.exists():
        yield Result(0, None, {}, json.loads(status.read_text(encoding="utf-8")), model=model)


def requested(request: Train, context: Context, tasks: dict[str, Task], default: Callable[[Path], Any] | None) -> Any:
    """The recipe, with the options of the request and the context."""
    data = None if request.data is None else context.open(request.data)
    if request.recipe is not None:
        file = context.open(request.recipe)
        task = task_of(file)
        if task not in tasks:
            raise unknown("task", task, tasks)
        schema: Any = import_module(tasks[task].module).Recipe
        if data is not None and "data" not in {field.name for field in fields(schema)}:
            raise UserError(f"--data: a recipe of task '{task}' names its own")
        recipe = load_recipe(file, schema, **({} if data is None else {"data": data}))
        for key, path in () if context.local else paths_of(recipe):
            if path != data and str(path) not in shipped():
                raise UserError(f"{key} = '{path}' in the recipe is a place on this machine: leave it out, send data")
    elif default is None or data is None:
        raise UserError("a recipe is needed: data alone does not say what to train here")
    else:
        recipe = default(data)
    fit = recipe.fit if request.steps is None else replace(recipe.fit, steps=request.steps)
    return replace(recipe, fit=on_machine(fit, context))


def on_machine(settings: Settings, context: Context) -> Settings:
    """The settings of a training, with what the context says of the machine."""
    machine = {name: getattr(context, name) for name in ("device", "precision", "threads")}
    return replace(settings, **{name: value for name, value in machine.items() if value is not None})


def task_of(file: Path) -> str:
    """What a recipe file is for. UserError for one that is missing or no TOML."""
    return str(read_toml(file).get("task"))
