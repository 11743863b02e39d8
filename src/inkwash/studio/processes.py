"""Workers as processes: what they print, and how they end."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

LOG = logging.getLogger("inkwash.studio")


async def log_output(lines: asyncio.StreamReader, worker: str) -> None:
    """What a worker prints beside its messages goes to the log."""
    with suppress(ValueError):  # a line without end
        while line := await lines.readline():
            LOG.warning(
                "worker says", extra={"facts": {"worker": worker, "line": line.decode(errors="replace").rstrip()}}
            )


async def stop(process: Any) -> None:
    """Asks a worker to end, by closing its input; kills it if it does not."""
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 3)
    except TimeoutError:
        process.kill()
        await process.wait()
