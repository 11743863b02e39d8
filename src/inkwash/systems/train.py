"""The verb that all systems share: training by a recipe file, or on the user's data."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, NamedTuple

from annotated_types import Ge, Gt, Le

from inkwash.errors import UserError, remedy, unknown
from inkwash.progress import Preview, Progress, duration
from inkwash.systems.base import Context, File, Help, Media, Note, Request, Result
from inkwash.training import distributed
from inkwash.training.recipe import load_recipe, paths_of, read_toml
from inkwash.training.settings import Settings
from inkwash.weights.shipped import shipped


@dataclass(frozen=True, kw_only=True)
class Train(Request):
    """Train a model by a recipe, or on data of your own; or go on with a run that was stopped."""

    recipe: Annotated[File | None, Help("A recipe file (.toml); none for data of your own.", argument=True)] = None
    data: Annotated[
        File | tuple[File, ...] | None, Media("folder"), Help("The training data, instead of the recipe's.")
    ] = None
    steps: Annotated[int | None, Ge(1), Le(10**9), Help("Steps, instead of the recipe's.")] = None
    batch_size: Annotated[int | None, Ge(1), Le(10**9), Help("Examples at once, instead of the recipe's.")] = None
    lr: Annotated[float | None, Gt(0), Le(1000), Help("The learning rate, instead of the recipe's.")] = None
    minutes: Annotated[
        float | None, Gt(0), Le(525_600), Help("End after so many, preparation counted; the same command goes on.")
    ] = None

    # the key of a recipe that an option stands for
    KEYS: ClassVar[dict[str, str]] = {"steps": "fit.steps", "batch_size": "fit.batch_size", "lr": "fit.learning_rate"}

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


class TimeOver(Exception):
    """The time of a training was over before the first step of this start."""

    def __init__(self) -> None:
        super().__init__("stopped before the first step")


class TimedMonitor:
    """The `Monitor` of a training, which ends when the context's user says so or after `minutes`: at its next step,
    for it asks; in what comes before, which does not ask, where that tells how far it is. Of processes that train
    together the first one tells."""

    def __init__(self, context: Context, minutes: float | None) -> None:
        self.context, self.minutes, self.asked = context, minutes, False
        self.end = math.inf if minutes is None else context.started + 60 * minutes

    def over(self) -> bool:
        return time.monotonic() >= self.end

    def reason(self) -> str:
        """Why it has ended, if for its time; where results stay in their folder, what to do."""
        if self.minutes is None or not self.over():
            return ""
        return f" ({duration(60 * self.minutes)} are over){'; the same command goes on' * self.context.local}"

    def tell(self, event: Progress | Preview | Note) -> None:
        if distributed.rank() == 0:
            self.context.tell(event)
        if self.over() and not self.asked and distributed.world_size() == 1:  # several end together, in a training
            raise TimeOver

    def stopped(self) -> bool:
        self.asked = True
        return self.context.stopped() or self.over()


def train(
    requests: list[Train], context: Context, tasks: dict[str, Task], default: Callable[[Path], Any] | None = None
) -> Iterator[Result]:
    """Trains in the context's folder; `default` makes a recipe for data without one.

    A folder holds one run, whose recipe lies in run.json. Requested again it goes on; the recipe must be the same
    then, but for the keys that change no weights, and `steps`. Once it is finished nothing is done. Of processes that
    train together (`training.distributed`) the first one says what there is, and what it made.
    """
    from inkwash.training import run
    from inkwash.training.fit import Stopped
    from inkwash.training.memory import device_errors

    (request,) = requests
    monitor, leads = TimedMonitor(context, request.minutes), distributed.rank() == 0
    recipe = requested(request, context, tasks, default)
    description = run.describe(recipe)
    model = context.folder / tasks[recipe.task].model
    for made in (model, context.folder / "best"):  # where some rooms keep the best so far, which becomes the model
        if made.exists() and not run.checkpoints(context.folder):
            raise UserError(f"{made}: it is there, and no training here made it; choose another folder with --out")
    data, inside = getattr(recipe, "data", None), context.folder.resolve()
    if data is not None and data.resolve() in (inside, *inside.parents):
        raise UserError(
            f"{context.folder} lies in {data}, and would become a part of these data: choose another --out"
        )
    if run.is_finished(context.folder, description) and (trained := trained_of(model)):
        # fewer steps where more were of no use
        on = recipe.fit.lr_decay == "none" and trained["step"] == recipe.fit.steps
        more = "more --steps train it on, " if on else ""
        if leads:
            context.tell(Note(f"{model} is finished: {more}another --out begins another run"))
    else:
        try:
            with run.noted(context.folder, description), device_errors():  # its tables may be too large too
                import_module(tasks[recipe.task].module).train(recipe, context.folder, monitor)
        except (Stopped, TimeOver) as stop:
            if leads:
                usable = "; the model so far can be used" if trained_of(model) else ""
                context.tell(Note(f"{stop}{monitor.reason()}{usable}"))
        except OSError as error:
            if (todo := remedy(error)) is None:
                raise
            what = f"cannot write in {context.folder} ({error.strerror})"
            raise UserError(f"{what}: {todo} and run again; earlier checkpoints are untouched") from None
    if leads and (trained := trained_of(model)):
        yield Result(0, None, {}, trained, model=model)


def trained_of(model: Path) -> dict[str, Any]:
    """How far the training of a model is, by its training.json; empty where that is not there, or damaged: a training
    that goes on writes it anew."""
    try:
        facts: dict[str, Any] = json.loads((model / "training.json").read_text(encoding="utf-8"))
        return facts if "step" in facts else {}
    except (OSError, ValueError, TypeError):
        return {}


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
    for option, key in request.KEYS.items():
        if (value := getattr(request, option)) is not None and value is not False:
            recipe = with_key(recipe, key, value, option)
    return on_machine(recipe, context)


def with_key(part: Any, key: str, value: Any, option: str) -> Any:
    """The recipe, or a part of it, with another value of "fit.steps". UserError for a key that it does not have."""
    first, _, rest = key.partition(".")
    if not hasattr(part, first):
        raise UserError(f"{option} means nothing with this recipe, which has no {first}: leave it out")
    return replace(part, **{first: with_key(getattr(part, first), rest, value, option) if rest else value})


def on_machine(part: Any, context: Context) -> Any:
    """The settings of a training, or all those in a recipe, with what the context says of the machine."""
    if isinstance(part, Settings):
        machine = {name: getattr(context, name) for name in ("device", "precision", "threads")}
        return replace(part, **{name: value for name, value in machine.items() if value is not None})
    inner = {name: on_machine(value, context) for name, value in vars(part).items() if is_dataclass(value)}
    return replace(part, **inner)


def task_of(file: Path) -> str:
    """What a recipe file is for. UserError for one that is missing or no TOML."""
    return str(read_toml(file).get("task"))
