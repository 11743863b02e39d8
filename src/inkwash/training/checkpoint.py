"""Checkpoints: one safetensors file of tensors and one JSON file that commits it. No pickles.

Both are written to temporary files, flushed to the disk and renamed. The JSON comes last and holds the
SHA-256 of the tensors, so a checkpoint exists whole or not at all, whenever the process is killed.
"""

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from inkwash.errors import UserError, remedy
from inkwash.weights import files
from inkwash.weights.files import atomic, digest

KEEP = 2
OURS = re.compile(r"(\.)?step-\d{8,}(?(1)\.\d+-\d+)\.(safetensors|json)")


class Writer(ThreadPoolExecutor):
    """Writes checkpoints into `folder` in a thread of its own, while the training goes on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(1)
        self.folder, self.pending = folder, Future[None]()
        self.pending.set_result(None)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Begins to write the checkpoint of `step`, once the one before is written; the tensors may then change."""
        self.wait()
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        self.pending = self.submit(save, self.folder, step, copies, facts)

    def wait(self) -> None:
        """Until all is written. Raises UserError for what could not be."""
        self.pending.result()


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step`, tensors on the CPU, and keep the one before it; earlier ones, and what is half
    written, go.

    Raises UserError when it cannot be written (a full disk); the checkpoints before it are then untouched.
    """
    path = folder / f"step-{step:08d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder, path.stem)  # what a killed process left half-written takes room
        with atomic(path, durable=True) as temporary:
            save_file(dict(tensors), temporary)
            checksum = digest(temporary)
        with atomic(path.with_suffix(".json"), durable=True) as temporary:
            text = json.dumps({"step": step, "sha256": checksum, **facts}, indent=1)
            temporary.write_text(text, encoding="utf-8")
        _prune(folder, path.stem)
    except (OSError, SafetensorError) as error:
        reason = f"cannot write the checkpoint of step {step} in {folder} ({error})"
        raise UserError(
            f"{reason}: {remedy(error) or 'make room'} and run again; earlier checkpoints are untouched"
        ) from error


def latest(folder: Path, log: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint as (tensor file, facts); None when there is none.

    A damaged one is reported through `log`, and the one before it is taken.
    Raises UserError when there are checkpoints and all are damaged.
    """
    found = sorted(folder.glob("step-*.json"), reverse=True)
    for notes in found:
        path = notes.with_suffix(".safetensors")
        try:
            facts = json.loads(notes.read_text(encoding="utf-8"))
            if facts["sha256"] == digest(path):
                return path, facts
        except (OSError, ValueError, KeyError, TypeError):
            pass
        log(f"the checkpoint {path.name} is damaged: falling back to the one before it")
    if found:
        raise UserError(f"every checkpoint in {folder} is damaged: delete that folder to start again")
    return None


def load(path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by kind and name: `ema/conv.weight` is `["ema"]["conv.weight"]`."""
    kinds: dict[str, dict[str, Tensor]] = {}
    for key, tensor in files.load_tensors(path)[0].items():
        kind, name = key.split("/", 1)
        kinds.setdefault(kind, {})[name] = tensor
    return kinds


def _prune(folder: Path, last: str) -> None:
    """Remove all but the newest checkpoints up to `last`: those after it were damaged and passed over.

    Nothing but checkpoints, whole or half written as `atomic` names them: other files in the folder are not ours.
    """
    ours = [path for path in folder.iterdir() if OURS.fullmatch(path.name) and path.is_file()]
    kept = sorted(path.stem for path in ours if path.suffix == ".json" and path.stem <= last)[-KEEP:]
    # The JSON goes first: tensors without it are no checkpoint.
    for path in sorted(ours, key=lambda path: path.suffix):
        if path.stem not in kept:
            path.unlink()
