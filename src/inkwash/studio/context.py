"""Where a verb runs in a studio: what it tells goes to the server, what it opens are its user's uploads."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Row

import inkwash
from inkwash.codecs.png import encode_png
from inkwash.errors import UserError
from inkwash.progress import Progress
from inkwash.studio import runs
from inkwash.studio.catalogue import named
from inkwash.studio.store import TURN, Store
from inkwash.systems.base import File, Note, Preview

INTERVAL = 0.05  # seconds between two messages about progress, and two looks whether the job was cancelled
POLL = 0.5  # seconds between two looks whether a training shall make way
SIDE = 512  # of a preview, in pixels


@cache
def paths(home: Path) -> re.Pattern[str]:
    """The folders before the name of a file: those that a studio knows wherever they stand, others after a blank."""
    system = (sys.prefix, sys.base_prefix, tempfile.gettempdir())
    folders = (home, Path(inkwash.__path__[0]), Path.home(), Path.cwd(), *map(Path, system))
    known = {str(form) for folder in folders for form in (folder, folder.resolve()) if len(form.parts) > 1}
    roots = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return re.compile(rf"(?:{roots}|(?<!\S)(?:[A-Za-z]:)?)(?:[/\\][^/\\\s:]+)*[/\\](?=[^/\\\s])")


def without_paths(text: str, home: Path) -> str:
    """The text, of files only their names: where they lie here is nobody's business."""
    return paths(home).sub("", text)


class LeaseLost(Exception):
    """The job is not this worker's any more."""


class JobContext:
    """The `Context` of a job of a `Worker`.

    stop_reason   why the verb was told to stop: "stop", "pause", "turn" for others' work, "over" for the worker's end
    """

    precision = runtime = None
    local = False  # files come as uploads alone

    def __init__(self, worker: Any, job: Row[Any]) -> None:
        self.worker, self.job = worker, job
        self.store: Store = worker.store
        self.device, self.threads, self.previews = worker.device, worker.threads, job.previews
        self.root = self.store.runs / job.id
        if not job.lasting:
            shutil.rmtree(self.root, ignore_errors=True)  # of a worker that died over it
            self.root /= worker.name  # one that leaves the job removes nothing of the next one's
        else:
            runs.fetch(self.store, job.id)
        self.inputs: Path = self.root / "in"
        self.folder: Path = self.root / "out"
        for folder in (self.inputs, self.folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.part = job.part
        self.stop_reason: str | None = None
        self.started = self.polled = time.monotonic()
        self.first: tuple[float, int, int] | None = None  # when this stage was first told of; done and total then
        self.last = 0.0

    def next_part(self, part: int) -> None:
        self.part, self.first, self.last = part, None, 0.0

    def model(self, name: str) -> Any:
        folder = self.worker.catalogue.folder_for(self.job, name)
        with named(name, folder):
            return self.worker.models.get(folder)

    def open(self, file: File | tuple[File, ...]) -> Path:
        """Where the file, or the folder, lies, under the names that its owner gave."""
        if isinstance(file, File):
            path = self.inputs / file.sha256[:16]
            self._link(file, path / Path(file.name).name)
            return path / Path(file.name).name
        path = self.inputs / hashlib.sha256(repr(file).encode()).hexdigest()[:16]
        for one in file:
            self._link(one, path / one.name)
        return path

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)

    def _link(self, file: File, path: Path) -> None:
        row = self.store.upload_of(file.sha256, self.job.user_id)
        if row is None:
            raise UserError(f"{file.name} is not there any more; send it again")
        assert self.inputs in path.resolve().parents
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            self.store.files.fetch(row.sha256, row.suffix, path)

    def tell(self, event: Progress | Preview | Note) -> None:
        """LeaseLost for a job that was cancelled, or given to another."""
        self.worker.active = now = time.monotonic()
        if isinstance(event, Note):
            if self.stop_reason in (None, "stop"):  # else it only says that it was stopped
                self.store.note(self.worker.name, self.job.id, without_paths(event.text, self.store.home)[:500])
        elif isinstance(event, Preview):
            picture = event.image.copy()
            picture.thumbnail((SIDE, SIDE))
            self.say("preview", picture=base64.b64encode(encode_png(picture)).decode())
        elif now - self.last >= INTERVAL:
            self.last = now
            self.check()
            self.say(
                "progress",
                done=event.done,
                total=event.total,
                text=event.text,
                seconds_left=self.seconds_left(event, now),
            )

    def check(self) -> None:
        over = self.worker.stopping.is_set() and not self.job.lasting  # which then ends at a checkpoint
        if over or not self.store.holds(self.worker.name, self.job.id):
            raise LeaseLost

    def say(self, event: str, **facts: Any) -> None:
        self.worker.notify(self.job, event, place=self.part, **facts)

    def seconds_left(self, event: Progress, now: float) -> float | None:
        """Until the whole job is done, as fast as this part goes; None before anything can be said."""
        if self.first is None or event.done < self.first[1] or event.total != self.first[2]:  # a stage begins
            self.first = now, event.done, event.total
        then, before, _ = self.first
        if event.done <= before:
            return None
        parts_left: int = self.job.parts - self.part - 1
        return (now - then) / (event.done - before) * (event.total - event.done + event.total * parts_left)

    def stopped(self) -> bool:
        self.worker.active = now = time.monotonic()
        if (
            self.job.lasting
            and self.stop_reason is None
            and (now - self.polled >= POLL or self.polled == self.started)
        ):
            self.polled = now
            self.stop_reason = self._stop_reason(now)
        return self.stop_reason is not None

    def _stop_reason(self, now: float) -> str | None:
        if self.worker.stopping.is_set() or self.worker.draining.is_set():
            return "over"
        if (wanted := self.store.wanted(self.job.id)) is not None:
            return wanted
        return "turn" if now - self.started >= TURN and not self.store.is_next(self.job.id) else None

    def close(self) -> None:
        """Removes the folder, unless the job may go on there: of one that is another's now only the own part."""
        row = self.store.job(self.job.id)
        if row is None or row.status in ("done", "cancelled") or (row.status == "failed" and not row.lasting):
            runs.remove(self.store, self.job)
        elif not row.lasting:
            shutil.rmtree(self.root, ignore_errors=True)
