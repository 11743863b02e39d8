"""The verb that all systems share: training by a recipe file, or on data of one's own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path, PurePath
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Le

from inkwash.errors import UserError, unknown
from inkwash.systems.base import Context, File, Help, Media, Note, Request, Result


@dataclass(frozen=True, kw_only=True)
class Train(Request):
    """Train a model by a recipe, or on data of your own; or go on with a run that was stopped."""

    recipe: Annotated[File | None, Help("A recipe file (.toml); none for data of your own.", argument=True)] = None
    data: Annotated[
        File | tuple[File, ...] | None, Media("folder"), Help("The training data, instead of the recipe's.")
    ] = None
    steps: Annotated[int | None, Ge(1), Le(10**9), Help("Steps, instead of the recipe's.")] = None

    def called(self) -> str:
        named = self.recipe or (self.data[0] if isinstance(self.data, tuple) else self.data)
        return "training" if named is None else PurePath(named.name).stem


# how its `Verb` is run, in every system
TRAIN: dict[str, Any] = {
    "plan": "inkwash.systems.plans:training",
    "lasting": True,
    "out": "runs/STEM",
    "takes": ("out", "device", "precision", "threads"),
}


class Task(NamedTuple):
    """What a recipe is for: the module that has its `Recipe` and `train`, and where in the run's folder the result
    lies.

    train(recipe, folder, monitor) trains by `training.fit.fit`, or goes on with the run in the folder.
    """

    module: str
    made: str = "model"


def train(
    requests: list[Train], context: Context, tasks: dict[str, Task], own: Callable[[Path], Any] | None = None
) -> Iterator[Result]:
    """Trains in the context's folder; `own` makes a recipe for data without one.

    A folder holds one run, whose recipe lies in run.json. When it is asked again it goes on; what is asked must be
    the same then, but for the keys that change no weights, and `steps`. Once it is finished nothing is done.
    """
    from inkwash.training import run
    from inkwash.training.fit import Stopped

    (request,) = requests
    recipe = requested(request, context, tasks, own)
    asked = run.describe(recipe) | ({} if request.data is None else {"data": content(request.data)})
    made = context.folder / tasks[recipe.task].made
    so_far = made / "training.json"
    if made.exists() and not run.is_begun(context.folder):
        raise UserError(f"{made}: it is there, and no training here made it; choose another folder with --out")
    if run.is_finished(context.folder, asked) and so_far.exists():
        more = "more --steps train it on, " if recipe.fit.lr_decay == "none" else ""
        context.tell(Note(f"{made} is finished: {more}another --out begins another run"))
    else:
        run.note(context.folder, asked, finished=False)
        try:
            import_module(tasks[recipe.task].module).train(recipe, context.folder, context)
            run.note(context.folder, asked, finished=True)
        except Stopped as stop:
            context.tell(Note(f"{stop}{'; the model so far can be used' if so_far.exists() else ''}"))
        finally:
            if not run.is_begun(context.folder):
                (context.folder / run.NAME).unlink()
    if so_far.exists():
        yield Result(0, None, {}, json.loads(so_far.read_text(encoding="utf-8")), model=made)


def requested(request: Train, context: Context, tasks: dict[str, Task], own: Callable[[Path], Any] | None) -> Any:
    """The recipe, with what the request and the context say of it."""
    from inkwash.training.recipe import load_recipe

    data = None if request.data is None else context.open(request.data)
    if request.recipe is not None:
        file = context.open(request.recipe)
        task = task_of(file)
        if task not in tasks:
            raise unknown("task", task, tasks)
        recipe: Any = load_recipe(file, import_module(tasks[task].module).Recipe)
        if data is not None and "data" not in {field.name for field in fields(recipe)}:
            raise UserError(f"--data: a recipe of task '{task}' names its own")
        recipe = recipe if data is None else replace(recipe, data=data)
    elif own is None or data is None:
        raise UserError("a recipe is needed, or data of your own: --data" if own else "a recipe is needed")
    else:
        recipe = own(data)
    given = {"steps": request.steps, "threads": context.threads}
    given |= {"device": context.device, "precision": context.precision}
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(recipe, fit=replace(recipe.fit, **changes))


def content(data: File | tuple[File, ...]) -> str:
    """Tells data from other data, wherever they lie."""
    files = [data.sha256] if isinstance(data, File) else [(file.name, file.sha256) for file in data]
    return sha256(repr(files).encode()).hexdigest()[:12]


def task_of(file: Path) -> str:
    """What a recipe file is for. UserError for one that is missing or no TOML."""
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8")).get("task"))
    except OSError as error:
        raise UserError(f"cannot read the recipe {file}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is not valid TOML: {error}") from None
