"""Workers as processes: what they print, and how they end."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

LOG = logging.getLogger("inkwash.studio")
STOP_TIMEOUT = 3.0  # seconds that a worker has to end when it is not waited for


async def log_output(lines: asyncio.StreamReader, worker: str) -> None:
    """What a worker prints beside its messages goes to the log."""
    with suppress(ValueError):  # a line without end
        while line := await lines.readline():
            LOG.warning(
                "worker says", extra={"facts": {"worker": worker, "line": line.decode(errors="replace").rstrip()}}
            )


def say(process: Any, word: str) -> None:
    """A line to a worker, if there is one."""
    if process is not None and process.returncode is None:
        with suppress(BrokenPipeError, ConnectionResetError):  # just ended; the next one looks by itself
            process.stdin.write(f"{word}\n".encode())


async def stop(process: Any, seconds: float) -> None:
    """Asks a worker to end, by closing its input; kills it if it does not in so many seconds."""
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
