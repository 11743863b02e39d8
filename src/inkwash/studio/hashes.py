"""Hashes of other tools' checkpoints. Files of gigabytes take a while: they are read one after the other in threads
that hold nobody up, once for each size and time of change."""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from inkwash.errors import UserError
from inkwash.systems.checkpoints.facts import files_of, hash_of

READING = Lock()  # one checkpoint at a time


def hash_so_far(path: Path, until: float) -> str | None:
    """The hash of a checkpoint (`hash_of`); None if it is not known by this moment of time.monotonic(): who asks
    again later gets it."""
    with suppress(OSError, UserError):  # it was moved away; TimeoutError is an OSError
        stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(path))
        return begun(path, stamps).result(max(0.0, until - time.monotonic())) if stamps else None
    return None


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
