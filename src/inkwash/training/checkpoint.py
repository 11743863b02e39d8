"""Checkpoints: one safetensors file of tensors and one JSON file that commits it. No pickles.

A checkpoint is written to temporary files, flushed to the disk and renamed; the JSON comes last and holds
the SHA-256 of the tensors, so a checkpoint exists whole or not at all, whenever the process is killed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inkwash.errors import UserError

KEPT = 2


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)` fills a file beside `path`, which then takes its place in one move."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(notes: Path) -> None:
    notes.unlink()
    notes.with_suffix(".safetensors").unlink(missing_ok=True)


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step` and keep the one before it; older ones are removed.

    Raises UserError when it cannot be written (a full disk); the checkpoints before it are then untouched.
    """
    path = folder / f"step-{step:08d}.safetensors"
    notes = path.with_suffix(".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        write_atomically(path, lambda file: save_file(contiguous, file))
        text = json.dumps({"step": step, "sha256": _digest(path), **facts}, indent=1)
        write_atomically(notes, lambda file: file.write_text(text, encoding="utf-8"))
    except (OSError, SafetensorError) as error:
        reason = f"cannot write the checkpoint of step {step} in {folder} ({error})"
        raise UserError(f"{reason}: make room and run again; earlier checkpoints are untouched") from error
    for old in sorted(folder.glob("step-*.json"))[:-KEPT]:
        _remove(old)


def latest(folder: Path, say: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint as (tensor file, facts); None when there is none.

    A damaged one is reported through `say`, removed, and the one before it is taken.
    Raises UserError when there are checkpoints and all are damaged.
    """
    found = sorted(folder.glob("step-*.json"), reverse=True)
    for notes in found:
        path = notes.with_suffix(".safetensors")
        try:
            facts = json.loads(notes.read_text(encoding="utf-8"))
            if facts["sha256"] == _digest(path):
                for damaged in found[: found.index(notes)]:
                    _remove(damaged)
                return path, facts
        except (OSError, ValueError, KeyError):
            pass
        say(f"the checkpoint {path.name} is damaged; falling back to the one before it")
    if found:
        raise UserError(f"every checkpoint in {folder} is damaged: delete that folder to start again")
    return None


def read(path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by kind and name: `ema/conv.weight` is `["ema"]["conv.weight"]`."""
    kinds: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            kind, name = key.split("/", 1)
            kinds.setdefault(kind, {})[name] = file.get_tensor(key)
    return kinds
