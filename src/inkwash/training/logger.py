"""What a training leaves for people: a CSV log, TensorBoard, samples; and notes for its monitor."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from weakref import WeakSet

import numpy as np
from PIL import Image

from inkwash.progress import CONSOLE, Monitor, Note, Preview, Progress
from inkwash.weights.files import atomic, check_ours

HEADER = "step,loss,gradient_norm,learning_rate,seconds\n"
NOTED: WeakSet[Monitor] = WeakSet()  # who knows that there is no TensorBoard
HELD_OUT, HELD_OUT_HEADER = "held_out.csv", "step,loss\n"


class Logger(ExitStack):
    """The log of one training, from step `start` (0: none is done) to `steps`, with `batch` examples in each.

    log_bytes: of log.csv, when the checkpoint was written from which the training goes on.
    """

    def __init__(self, folder: Path, start: int, steps: int, batch: int, log_bytes: int, monitor: Monitor) -> None:
        super().__init__()
        self.folder, self.start, self.steps, self.batch, self.monitor = folder, start, steps, batch, monitor
        self.callback(CONSOLE.close)
        path = folder / "log.csv"
        check_ours(path, HEADER)
        self.csv = self.enter_context(path.open("a", encoding="utf-8"))
        # Rows written after the checkpoint we resume from would come twice.
        self.csv.truncate(min(log_bytes, path.stat().st_size))
        if not path.stat().st_size:
            self.csv.write(HEADER)
            self.csv.flush()
        _keep_until(folder / HELD_OUT, start)
        self.board = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            if monitor not in NOTED:  # once, of however many trainings a run is made
                self.log("no TensorBoard log (pip install tensorboard to have one); the losses are in log.csv")
                NOTED.add(monitor)
        else:
            self.board = self.enter_context(SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1))
        self.loss: float | None = None
        self.begun = time.monotonic()

    @property
    def log_bytes(self) -> int:
        return (self.folder / "log.csv").stat().st_size

    def log(self, text: str) -> None:
        """A line for the monitor."""
        self.monitor.tell(Note(text))

    def log_steps(self, first: int, rows: Sequence[tuple[float, float, float]], seconds: float) -> None:
        """Note that the steps from `first` (from 1) are done: of each its loss, norm of the gradient and learning
        rate; and how long one took."""
        for step, (loss, norm, rate) in enumerate(rows, first):
            self.csv.write(f"{step},{loss:.9g},{norm:.9g},{rate:.9g},{seconds:.3f}\n")
            if self.board:
                self.board.add_scalar("loss", loss, step)
                self.board.add_scalar("gradient norm", norm, step)
                self.board.add_scalar("learning rate", rate, step)
            # The loss shown is a running mean: single losses are mostly the noise of their times t.
            self.loss = loss if self.loss is None else self.loss + 0.02 * (loss - self.loss)
        self.csv.flush()
        done = first + len(rows) - 1
        pace = (time.monotonic() - self.begun) / (done - self.start)
        self.monitor.tell(Progress(done, self.steps, f"loss {self.loss:.4f}, {self.batch / pace:.3g} examples/s"))

    def held_out(self, step: int, loss: float) -> None:
        """Note the loss of examples that nothing was learned from."""
        with (self.folder / HELD_OUT).open("a", encoding="utf-8") as file:
            file.write(f"{'' if file.tell() else HELD_OUT_HEADER}{step},{loss:.9g}\n")
        self.log(f"step {step}: held-out loss {loss:.4g}")
        if self.board:
            self.board.add_scalar("held-out loss", loss, step)

    def sample(self, step: int, samples: Image.Image | np.ndarray | str) -> None:
        """Save a grid of samples as preview-STEP.png and show it; a text is logged."""
        if isinstance(samples, str):
            self.log(f"step {step}: {samples}")
            if self.board:
                self.board.add_text("preview", samples, step)
            return
        picture = samples if isinstance(samples, Image.Image) else Image.fromarray(samples)
        with atomic(self.folder / f"preview-{step:08d}.png") as file:
            picture.save(file)
        self.monitor.tell(Preview(0, 0, picture))
        if self.board:
            pixels = np.asarray(picture.convert("RGB"))
            self.board.add_image("preview", pixels, step, dataformats="HWC")


def _keep_until(path: Path, last: int) -> None:
    """Takes the rows of later steps out of a log of held-out losses: they come again."""
    check_ours(path, HELD_OUT_HEADER)
    rows = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    steps = [row.partition(",")[0] for row in rows]
    kept = [f"{row}\n" for row, step in zip(rows, steps, strict=True) if step.isdecimal() and int(step) <= last]
    if len(kept) < len(rows):
        with atomic(path) as file:
            file.write_text("".join([HELD_OUT_HEADER, *kept]), encoding="utf-8")
