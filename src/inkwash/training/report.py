"""What a person sees of a training: a progress bar or plain lines, a CSV log, TensorBoard."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inkwash.weights.files import atomic, check_ours

HEADER = "step,loss,gradient_norm,learning_rate,seconds\n"
LINE_EVERY = 30.0  # seconds, where there is no terminal for a bar

console = Console(stderr=True)
say = partial(console.print, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Report:
    """The log of one training; use it through `reporting`."""

    def __init__(self, folder: Path, start: int, steps: int, batch: int, log_bytes: int, stack: ExitStack):
        self.folder, self.start, self.steps, self.batch = folder, start, steps, batch
        path = folder / "log.csv"
        check_ours(path, HEADER)
        self.csv = stack.enter_context(path.open("a", buffering=1, encoding="utf-8"))
        # Rows written after the checkpoint we resume from would come twice.
        self.csv.truncate(min(log_bytes, path.stat().st_size))
        if not path.stat().st_size:
            self.csv.write(HEADER)
        self.board = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            say("no TensorBoard log (pip install tensorboard to have one); the losses are in log.csv")
        else:
            self.board = stack.enter_context(SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1))
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.bar = stack.enter_context(bar)
        self.task = self.bar.add_task("", total=steps, completed=start)
        self.loss: float | None = None
        self.begun = self.told = time.monotonic()

    @property
    def log_bytes(self) -> int:
        return (self.folder / "log.csv").stat().st_size

    def step(self, step: int, loss: float, norm: float, rate: float, seconds: float) -> None:
        """Note that step number `step` (from 1) is done."""
        self.csv.write(f"{step},{loss:.9g},{norm:.9g},{rate:.9g},{seconds:.3f}\n")
        if self.board:
            self.board.add_scalar("loss", loss, step)
            self.board.add_scalar("gradient norm", norm, step)
            self.board.add_scalar("learning rate", rate, step)
        # The loss shown is a running mean: single losses are mostly the noise of their times t.
        self.loss = loss if self.loss is None else self.loss + 0.02 * (loss - self.loss)
        now = time.monotonic()
        pace = (now - self.begun) / (step - self.start)
        text = f"loss {self.loss:.4f}, {self.batch / pace:.3g} examples/s"
        self.bar.update(self.task, completed=step, description=text)
        if not console.is_terminal and (now - self.told > LINE_EVERY or step == self.steps):
            self.told = now
            say(f"step {step} of {self.steps}: {text}, {duration(pace * (self.steps - step))} left")

    def picture(self, step: int, picture: Image.Image | np.ndarray) -> None:
        """Save a grid of samples as preview-STEP.png."""
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        with atomic(self.folder / f"preview-{step:08d}.png") as file:
            picture.save(file)
        if self.board:
            pixels = np.asarray(picture.convert("RGB"))
            self.board.add_image("preview", pixels, step, dataformats="HWC")


@contextmanager
def reporting(folder: Path, start: int, steps: int, batch: int, log_bytes: int) -> Iterator[Report]:
    """A Report that closes its files and its bar, whatever happens."""
    with ExitStack() as stack:
        yield Report(folder, start, steps, batch, log_bytes, stack)
