"""What happens on the way of long work, who hears of it, and the console that shows it."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

STEERING = r"[\x00-\x1f\x7f-\x9f]"  # Unicode's Cc
LINE_EVERY = 30.0  # seconds, where there is no terminal for a bar


class Progress(NamedTuple):
    """So many are done of all. `text` is how it goes: the loss of a training."""

    done: int
    total: int
    text: str = ""


class Note(NamedTuple):
    """A line that the user should read."""

    text: str


class Preview(NamedTuple):
    """What a result looks like on its way: a PIL image."""

    of: int
    place: int
    image: Any


class Monitor(Protocol):
    """Who follows long work, and may end it."""

    def tell(self, event: Progress | Preview | Note) -> None:
        """What happens on the way. It may raise, to end the work at once."""

    def stopped(self) -> bool:
        """Whether to end now: a training keeps its checkpoint and the model so far."""


class Console:
    """A `Monitor` on standard error: a bar with the time that is left, or a line now and then where no terminal is.

    From the first time that `stopped` is asked, SIGINT and SIGTERM make it true; a second one acts as it always did.
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.signal = 0  # the number of the one that came
        self.handlers: dict[int, Any] = {}
        self.begun = self.last = Progress(0, 0)
        self.begun_at = self.shown_at = 0.0

    def tell(self, event: Progress | Preview | Note) -> None:
        if isinstance(event, Note):
            say(event.text)
        elif isinstance(event, Progress) and (self.bar or sys.stderr.isatty()):
            self.bar = self.bar or progress_bar()
            self.bar.update(self.bar.task_ids[0], completed=event.done, total=event.total, description=event.text)
            if event.done >= event.total:
                self._clear()
        elif isinstance(event, Progress):
            self._line(event)

    def _line(self, event: Progress) -> None:
        now = time.monotonic()
        if event.total != self.last.total or event.done < self.last.done:
            self.begun, self.begun_at, self.shown_at = event, now, now
        self.last = event
        ended = event.done >= event.total and self.shown_at > self.begun_at
        if event.done > self.begun.done and (now - self.shown_at > LINE_EVERY or ended):
            self.shown_at = now
            left = (now - self.begun_at) / (event.done - self.begun.done) * (event.total - event.done)
            how = f"{event.text}, " if event.text else ""
            print(f"inkwash: {event.done} of {event.total}: {how}{duration(left)} left", file=sys.stderr)

    def stopped(self) -> bool:
        if not self.handlers and threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self._catch) for number in (signal.SIGINT, signal.SIGTERM)}
        return bool(self.signal)

    def _catch(self, number: int, _frame: object) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _clear(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def close(self) -> None:
        """Takes the bar away, and listens to signals no more."""
        self._clear()
        self._restore()
        self.signal, self.handlers = 0, {}


CONSOLE = Console()  # of this process


def say(text: str) -> None:
    """A line on standard error, without signs that steer a terminal: it may say what a stranger's file says."""
    print(f"inkwash: {re.sub(STEERING, '?', ' '.join(text.split()))}", file=sys.stderr)


def progress_bar() -> Any:
    """A bar on standard error, with the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", total=None)
    bar.start()
    return bar


def free_memory(group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that this process may still take; inf where the system does not say."""
    free = math.inf
    if os.path.exists("/proc/meminfo"):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, int(limit) - used + int(stat["inactive_file"]))  # files that were read make room when asked
    return free


def peak_memory() -> float:
    """The most that this process took so far, in bytes; nan where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # the resource module would count what the program that started this one had taken
        return 1024.0 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    if sys.platform == "win32":
        return math.nan
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
