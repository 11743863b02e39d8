"""Hashes of models, by which those of one name are told apart. Files of gigabytes take a while: they are read one
after the other in threads that hold nobody up, once for each size and time of change."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from inkwash.errors import UserError
from inkwash.systems.checkpoints import facts
from inkwash.weights.files import digest, files_below
from inkwash.weights.shipped import is_checkpoint

READING = Lock()  # one model at a time
UNHASHED = (".md", ".onnx", ".onnx.gz")  # what says something of a model, or was made of its weights


def hash_so_far(path: Path, until: float) -> str | None:
    """The hash of a model (`hash_of`); None if it is not known by this moment of time.monotonic(): who asks again
    later gets it."""
    with suppress(OSError, UserError):  # it was moved away; TimeoutError is an OSError
        stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(path))
        return begun(path, stamps).result(max(0.0, until - time.monotonic())) if stamps else None
    return None


def files_of(path: Path) -> list[Path]:
    """What a model draws by; of another tool's checkpoint its weights."""
    if is_checkpoint(path):
        return facts.files_of(path)
    return [file for file in files_below(path) if not file.name.endswith(UNHASHED)]


def hash_of(path: Path) -> str:
    """SHA-256 of a checkpoint, as other tools have it; of a folder that inkwash saved that of its files' hashes."""
    if is_checkpoint(path):
        return facts.hash_of(path)
    lines = [f"{digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files_of(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=1000)
def begun(path: Path, stamps: tuple[Any, ...]) -> Future[str]:
    future = Future[str]()
    Thread(target=read, args=(path, future), daemon=True).start()  # which no end of the studio waits for
    return future


def read(path: Path, future: Future[str]) -> None:
    with READING:
        try:
            future.set_result(hash_of(path))
        except Exception as error:
            future.set_exception(error)
