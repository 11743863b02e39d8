"""What a training leaves for people: a CSV log, TensorBoard, samples; and notes for its monitor."""

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from inkwash.progress import CONSOLE, Monitor, Note, Preview, Progress
from inkwash.weights.files import atomic, check_ours

HEADER = "step,loss,gradient_norm,learning_rate,seconds\n"


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
        self.csv = self.enter_context(path.open("a", buffering=1, encoding="utf-8"))
        # Rows written after the checkpoint we resume from would come twice.
        self.csv.truncate(min(log_bytes, path.stat().st_size))
        if not path.stat().st_size:
            self.csv.write(HEADER)
        self.board = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.log("no TensorBoard log (pip install tensorboard to have one); the losses are in log.csv")
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

    def step(self, step: int, loss: float, norm: float, rate: float, seconds: float) -> None:
        """Note that step number `step` (from 1) is done."""
        self.csv.write(f"{step},{loss:.9g},{norm:.9g},{rate:.9g},{seconds:.3f}\n")
        if self.board:
            self.board.add_scalar("loss", loss, step)
            self.board.add_scalar("gradient norm", norm, step)
            self.board.add_scalar("learning rate", rate, step)
        # The loss shown is a running mean: single losses are mostly the noise of their times t.
        self.loss = loss if self.loss is None else self.loss + 0.02 * (loss - self.loss)
        pace = (time.monotonic() - self.begun) / (step - self.start)
        self.monitor.tell(Progress(step, self.steps, f"loss {self.loss:.4f}, {self.batch / pace:.3g} examples/s"))

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
