"""`inkwash train --queue FILE`: trainings one after the other, each with a budget, in calls of any length."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import typer
from annotated_types import Gt

from inkwash.cli import message
from inkwash.cli.context import Local
from inkwash.cli.verbs import Clock, run_one
from inkwash.errors import UserError, unknown
from inkwash.progress import duration, say
from inkwash.systems import available, check_device, of_task
from inkwash.systems.base import Note, System, options
from inkwash.systems.train import Train, task_of
from inkwash.training import distributed, run
from inkwash.training.recipe import Count, load_recipe
from inkwash.weights.files import Locked
from inkwash.weights.shipped import find_recipe, queues, recipes

LAST = 5.0  # seconds: where no more are left no training is begun, which needs as many to prepare


@dataclass(frozen=True)
class Entry:
    """A table [[train]] of a queue: what `inkwash train` takes, and a budget.

    recipe   a name, or a file, seen from the queue's folder
    out      the folder of the run; that of `inkwash train` if left out
    minutes  of training in all calls together; None: until it is finished
    """

    recipe: str
    out: Path | None = None
    data: Path | None = None
    steps: Count | None = None
    minutes: Annotated[float | None, Gt(0)] = None
    device: str | None = None
    precision: str | None = None
    threads: Count | None = None


@dataclass(frozen=True)
class Queue:
    """The file."""

    train: list[Entry]


class Training(NamedTuple):
    entry: Entry
    system: System
    recipe: Path
    out: Path


class BudgetedContext(Local):
    """The `Context` of a training that also ends `budget` seconds after it first asked, as it does when it begins."""

    budget = math.inf
    end = math.inf  # when it is used

    def stopped(self) -> bool:
        if self.end == math.inf:
            self.end = time.monotonic() + self.budget
        return super().stopped() or time.monotonic() >= self.end


def load_queue(name: str) -> list[Training]:
    """The trainings of a queue, a file or the name of one that ships. UserError for a mistake in it."""
    file = Path(name) if Path(name).is_file() else queues().get(name)
    if file is None:
        raise unknown("queue", name, queues())
    trainings = dict[Path, Training]()
    for i, entry in enumerate(load_recipe(file, Queue).train):
        key = f"{file}: train[{i}]"
        recipe = find_recipe(entry.recipe, file.parent)
        try:
            if recipe is None:
                raise unknown("recipe", entry.recipe, recipes())
            system = of_task(task_of(recipe))
        except UserError as error:
            raise UserError(f"{key}.recipe: {error}") from None
        out = entry.out or Path(system.verbs["train"].out.replace("STEM", recipe.stem))
        if out.resolve() in trainings:
            raise UserError(f"{key}.out: another training of the queue has {out} already: choose another folder")
        trainings[out.resolve()] = Training(entry, system, recipe, out)
    return list(trainings.values())


def train_queue(name: str, minutes: float | None, machine: dict[str, Any]) -> None:
    """Trains what the queue holds, in its order, until `minutes` are over; what is finished, has used its own, or is
    trained by another process is passed. Exit code 2 if one of them failed."""
    end = time.monotonic() + 60 * (options(Train)["minutes"].check(minutes) or math.inf)
    if distributed.world_size() > 1:
        raise UserError("--queue trains with one process; give torchrun its recipes one by one")
    if machine["device"] is not None:
        check_device(machine["device"])  # once, and not by each training
    failed = False
    for training in load_queue(name):
        left, budget = end - time.monotonic(), 60 * (training.entry.minutes or math.inf)
        if left < LAST:
            say(f"the time is over; the same command goes on with {training.out}")
            break
        if (budget := budget - run.seconds(training.out)) < LAST:
            say(f"{training.out} has used its {duration(60 * (training.entry.minutes or 0))}")
            continue
        say(f"{training.out}: {training.entry.recipe}")
        try:
            train_one(training, None if left == math.inf else left / 60, budget, machine)
        except Locked as error:
            say(str(error))
        except Exception as error:
            if (text := message(error)) is None:
                raise
            failed = True
            say(f"{training.out} failed: {text}")
    if failed:
        raise typer.Exit(2)


def train_one(training: Training, minutes: float | None, budget: float, machine: dict[str, Any]) -> None:
    """As `inkwash train` does, for at most so many minutes, and seconds of training."""
    entry, verb = training.entry, training.system.verbs["train"]
    options_ = {"recipe": training.recipe, "data": entry.data, "steps": entry.steps, "minutes": minutes}
    given = {key: value for key, value in options_.items() if value is not None}
    machine = {key: getattr(entry, key) if value is None else value for key, value in machine.items()}
    available(training.system, "train")
    with TemporaryDirectory(prefix="inkwash-") as scratch:
        context = BudgetedContext(Path(scratch), **machine)
        context.budget = budget
        try:
            run_one(training.system, verb, given, training.out, context, False, Clock())
            if time.monotonic() >= context.end:
                context.tell(Note(f"{training.out} has used its {duration(60 * (entry.minutes or 0))}"))
        finally:
            context.close()
