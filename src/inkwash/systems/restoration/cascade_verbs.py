"""The verbs of cascades: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from inkwash.codecs.png import write_png
from inkwash.progress import Progress
from inkwash.systems.base import Context, Result, recipe, seeded
from inkwash.systems.picture_folders import room_on_disk
from inkwash.systems.restoration.cascade_request import Generate
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training

TASKS = {"cascade": Task("inkwash.systems.restoration.cascade_train")}


def generate(requests: list[Generate], context: Context) -> Iterator[Result]:
    """A PNG of each picture: drawn alone, so that none depends on its neighbours."""
    for of, asked in enumerate(requests):
        request = seeded(asked)
        model = context.model(request.model)
        classes = model.config["classes"]
        for place in range(request.n):
            if context.stopped():
                return

            def progress(done: int, steps: int, place: int = place, n: int = request.n) -> None:
                context.tell(Progress(place * steps + done, n * steps))

            own = replace(request, n=1, seed=request.seed + place, kind=request.kind or classes[place % len(classes)])
            (picture,) = model.generate(own.kind, 1, own.seed, own.steps, own.noise_level, own.truncated, progress)
            facts = recipe("cascade", "generate", own, model, context) | {"runtime": model.runtime}
            file = context.folder / f"{of}-{place}.png"
            with room_on_disk(context):
                write_png(Image.fromarray(picture), file, facts)
            yield Result(of, place, {".png": file}, {"kind": own.kind, "seed": own.seed}, facts)


def cascade_recipe(data: Path) -> Any:
    from inkwash.systems.restoration.cascade_train import default_recipe

    return default_recipe(data)


train = partial(run_training, tasks=TASKS, default=cascade_recipe)
