"""What draws: one process for each device. It takes jobs from the store until its server goes away.

It tells the server on standard output, a line of JSON each, what happens: steps, previews, pictures, how it is. What
counts is in the store; if a line is lost, nothing is.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import os
import re
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError, OperationalError

from inkwash.codecs.png import KEY, encode_png
from inkwash.diffusion.errors import DiffusionError
from inkwash.errors import UserError
from inkwash.studio.catalogue import Ask, Catalogue
from inkwash.studio.store import LEASE, Store, full

IDLE = 600.0  # seconds after which a model that nobody asks for leaves the memory
WARM = 3  # models in memory at once
STALLED = 300.0  # seconds without a step after which the lease is not renewed: the worker is held to hang
PATHS = re.compile(
    r"(?<!\S)(?:[A-Za-z]:)?(?:[/\\][^/\\\s:]+)*[/\\](?=[^/\\\s])"
)  # what leads to a file: nobody's business
EVERY = 0.05  # seconds between two messages about steps, and two looks whether the job was cancelled


class Lost(Exception):
    """The job is not this worker's any more."""


class Warm:
    """Models that stay in memory: the last few asked for, less when there is no room, none that idle."""

    def __init__(self, load: Callable[[str], Any], most_memory: float) -> None:
        self.load, self.most_memory = load, most_memory
        self.models: OrderedDict[str, tuple[Any, float]] = OrderedDict()

    def get(self, name: str) -> Any:
        painter = self.models.pop(name)[0] if name in self.models else None
        while painter is None and len(self.models) >= WARM:
            self.models.popitem(last=False)
        painter = painter or self.load(name)
        self.models[name] = painter, time.monotonic()
        return painter

    def tidy(self) -> bool:
        """Lets models go that idle, and all but the last if there is too little room; whether there is enough now."""
        before = len(self.models)
        for name, (_, used) in list(self.models.items()):
            if time.monotonic() - used > IDLE:
                del self.models[name]
        if memory() > self.most_memory:
            while len(self.models) > 1:
                self.models.popitem(last=False)
        if len(self.models) < before:
            gc.collect()
        return memory() <= self.most_memory


def memory() -> float:
    """What this process takes, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the most it ever took
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)


class Worker:
    """Draws jobs one after the other. `tell` is called with each message; `over` is set when it shall stop."""

    def __init__(self, store: Store, models: Warm, name: str, tell: Callable[[dict[str, Any]], None]) -> None:
        self.store, self.models, self.name, self.tell = store, models, name, tell
        self.over = threading.Event()
        self.job: str | None = None
        self.active = time.monotonic()  # when the last step was
        self.busy = 0.0  # seconds of the job in which its model drew

    def step(self) -> bool:
        """Draws the next job; False if there is none."""
        job = self.store.claim(self.name)
        if job is None:
            return False
        self.job, self.active, self.busy = job.id, time.monotonic(), 0.0
        self.say(job, "started")
        try:
            self.draw(job)
        except Lost:
            pass
        except (UserError, DiffusionError) as error:
            told = PATHS.sub("", str(error))
            if told != str(error):  # the log says where it is
                traceback.print_exc()
            self.store.fail(self.name, job.id, told)
        except MemoryError:
            self.store.fail(self.name, job.id, "there is not enough memory for it")
        except (BrokenPipeError, DBAPIError) as error:  # the server has gone, or the table cannot be written
            if not full(error):
                raise
            self.back_off(job)
        except Exception as error:  # a mistake of ours: the job fails, the worker goes on, the log has the rest
            if full(error):
                self.back_off(job)
            else:
                traceback.print_exc()
                self.store.fail(self.name, job.id, "it failed by a mistake of the studio's; its log says more")
        finally:
            self.job = None
            self.say(job, "left", seconds=self.busy, **self.state())
        return True

    def say(self, job: Row[Any], event: str, **facts: Any) -> None:
        self.tell({"job": job.id, "user": job.user_id, "event": event, **facts})

    def state(self) -> dict[str, Any]:
        return {"memory": memory(), "models": list(self.models.models)}

    def back_off(self, job: Row[Any]) -> None:
        """The disk is full: the job waits in the queue until there is room."""
        self.say(job, "disk full")
        time.sleep(2)
        try:
            self.store.release(self.name)
        except OperationalError:
            traceback.print_exc()  # the lease will run out instead

    def draw(self, job: Row[Any]) -> None:
        """The pictures of the job that are not there yet: after a crash, those that are stay."""
        self.store.room()  # rather than draw what cannot be kept
        ask = Ask(**job.ask)
        painter = self.models.get(ask.model)
        there = self.store.places(job.id)
        for place in range(ask.n):
            if place not in there:
                self.picture(job, ask, painter, place)

    def picture(self, job: Row[Any], ask: Ask, painter: Any, place: int) -> None:
        last = 0.0

        def progress(done: int, steps: int) -> None:
            nonlocal last
            self.active = now = time.monotonic()
            if now - last >= EVERY:
                last = now
                if self.over.is_set() or not self.store.holds(self.name, job.id):
                    raise Lost
                self.say(job, "step", place=place, step=done, steps=steps)

        def preview(picture: Image.Image) -> None:
            picture.thumbnail((256, 256))
            self.say(job, "preview", place=place, picture=base64.b64encode(encode_png(picture)).decode())

        assert ask.seed is not None
        begun = time.monotonic()
        picture = painter.generate(
            ask.prompt,
            style=ask.style,
            seed=ask.seed + place,
            negative=ask.negative,
            sampler=ask.sampler,
            steps=ask.steps,
            guidance=ask.guidance,
            size=ask.size,
            transparent=ask.transparent,
            image=self.source(ask.image, job),
            mask=self.source(ask.mask, job),
            strength=ask.strength,
            border=ask.border,
            progress=progress,
            preview=preview if ask.previews else None,
            previews=ask.previews,
        )
        self.busy += time.monotonic() - begun
        recipe = {**picture.info[KEY], "model": ask.model}  # a folder's path is nobody's business
        facts = {"width": picture.width, "height": picture.height, "prompt": ask.prompt, "recipe": recipe}
        if not self.store.add(self.name, job, place, encode_png(picture, recipe), facts):
            raise Lost
        self.say(job, "picture", place=place)

    def source(self, upload: str | None, job: Row[Any]) -> Image.Image | None:
        if upload is None:
            return None
        content = self.store.uploaded(upload, job.user_id)
        if content is None:
            raise UserError("the picture to begin from is not there any more; send it again")
        return self.store.files.opened(self.store.files.read(content))

    def breathe(self) -> None:
        """Renews the lease of the job at hand, in a thread of its own, as long as there are steps."""
        while not self.over.wait(LEASE / 4):
            job = self.job
            if job is not None and time.monotonic() - self.active < STALLED:
                try:
                    self.store.renew(self.name, job)
                except OperationalError:
                    traceback.print_exc()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="inkwash.studio.worker")
    parser.add_argument("name")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=2000, help="MB")
    parser.add_argument("--model", action="append", default=[])
    options = parser.parse_args(arguments)

    lines, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no message
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock:
            print(json.dumps(message), file=lines, flush=True)

    import inkwash

    catalogue = Catalogue(options.model)
    models = Warm(
        lambda name: inkwash.load(catalogue.folders[name], options.device, threads=options.threads),
        options.memory * 1e6,
    )
    worker, wake = Worker(Store(options.home), models, options.name, tell), threading.Event()

    def listen() -> None:
        for _ in sys.stdin:  # a line for each new job
            wake.set()
        worker.over.set()  # the server has gone
        wake.set()

    for task in (worker.breathe, listen):
        threading.Thread(target=task, daemon=True).start()
    models.get(Ask().model)
    tell({"event": "ready", **worker.state()})
    try:
        while not worker.over.is_set():
            wake.clear()
            drew = worker.step()
            room = models.tidy()
            if drew and not room:
                return  # what is left are fragments; the server starts a new process, which has none
            if not drew:
                wake.wait(1.0)
    except BrokenPipeError:  # the server has gone
        return


if __name__ == "__main__":
    main()
