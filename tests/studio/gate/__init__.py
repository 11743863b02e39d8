"""A toy system whose pictures wait at a gate: a test sees when one is begun, and says when it is done."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from PIL import Image

from inkwash.progress import Preview
from inkwash.systems.base import Help, Progress, Request, Result, System, Verb


@dataclass(frozen=True, kw_only=True)
class Draw(Request):
    """Draw, one after the other, when their gates are open."""

    model: Annotated[str, Help("A model.")] = "toy"
    n: Annotated[int, Ge(1), Le(100), Help("How many.")] = 1
    seed: Annotated[int, Ge(0), Help("The first of them.")] = 0

    def subrequests(self):
        return [replace(self, n=1, seed=self.seed + place) for place in range(self.n)]


@dataclass(frozen=True, kw_only=True)
class Train(Request):
    """Learn until the gate is open; it goes on where it was."""

    model: Annotated[str, Help("A model.")] = "toy"


class Toy:
    def __init__(self, folder):
        self.weights = (folder / "model.safetensors").read_text()

    @classmethod
    def load(cls, folder, *options):
        return cls(folder)


def gate():
    return Path(os.environ["GATE"])


def wait(name, context):
    """Until the gate of this name is open; what happens is written down."""
    with (gate() / "begun").open("a") as file:
        file.write(f"{name}\n")
    while not (gate() / f"open-{name}").exists():
        if context.worker.draining.is_set():
            (gate() / "draining").touch()
        context.tell(Progress(1, 2))
        if context.stopped():
            return
        time.sleep(0.02)


def draw(requests, context):
    for of, request in enumerate(requests):
        model = context.model(request.model)
        context.tell(Preview(of, 0, Image.new("RGB", (8, 8), "red")))
        wait(request.seed, context)
        file = context.folder / f"{request.seed}.txt"
        file.write_text(f"{request.seed} {model.weights}")
        yield Result(of, 0, {".txt": file}, {"weights": model.weights}, {"seed": request.seed})


def train(requests, context):
    for of, _ in enumerate(requests):
        file = context.folder / "checkpoint"
        before = int(file.read_text()) if file.exists() else 0
        wait("train", context)
        file.write_text(str(before + 1))
        yield Result(of, 0, {".txt": file}, {"times": before + 1}, {})


SYSTEM = System(
    name="gate",
    help="A toy.",
    verbs={"draw": Verb(Draw, "gate:draw"), "train": Verb(Train, "gate:train", lasting=True)},
    load="gate:Toy.load",
)
