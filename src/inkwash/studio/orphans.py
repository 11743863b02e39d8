"""What a crash leaves in a bucket: files whose row was never written, or whose removal was cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from anyio import to_thread
from sqlalchemy import ARRAY, Connection, Text, any_, literal, select

from inkwash.studio.dialects import alone, try_alone
from inkwash.studio.library import Library, may_go_on, not_deleted
from inkwash.studio.tables import files, jobs, models, results, uploads

LOG = logging.getLogger("inkwash.studio")
FIRST, EVERY = 3600.0, 86400.0  # seconds
AGE = timedelta(days=1)  # before which a row may still be written, by the storage's own clock
PARTS = [
    (kind, f"{i:x}") for kind in ("models", "runs", "files", "thumbnails") for i in range(16)
]  # by their first digits


async def watch(library: Library, stopped: Callable[[], bool]) -> None:
    """Sweeps a bucket once a day; the first time an hour after the start, which it shall not slow down."""
    if library.bucket is None:
        return
    await asyncio.sleep(FIRST)
    while True:
        try:
            if gone := await to_thread.run_sync(sweep, library, stopped):
                LOG.warning("files without a row", extra={"facts": {"removed": len(gone)}})
        except Exception as error:  # the storage is away, say: tomorrow it may be there
            LOG.error("sweep", extra={"facts": {"why": str(error)}})
        await asyncio.sleep(EVERY)


def sweep(library: Library, stopped: Callable[[], bool] = lambda: False) -> list[str]:
    """Removes from the library's bucket what no row names and is older than a day; what that was. One server does it
    at a time."""
    bucket, gone = library.bucket, list[str]()
    if bucket is None:
        return gone
    before = bucket.now() - AGE
    for folder, digit in PARTS:
        with library.writing() as tx:
            if stopped() or not try_alone(tx, "sweep"):
                break
            old = list(bucket.old(folder, before, digit))
            if without_rows(tx, folder, old):
                alone(tx, "files")  # from now on nobody can name what had no row
                for name in without_rows(tx, folder, old):
                    bucket.remove_object(name)
                    gone.append(name)
    return gone


def without_rows(tx: Connection, folder: str, found: Sequence[tuple[str, str]]) -> list[str]:
    """Of objects, given by what a row would call them and by their names, the names of those that no row has."""
    ids = any_(literal([id for id, _ in found], ARRAY(Text)))
    if folder == "models":
        queries = [select(models.c.id).where(models.c.id == ids, models.c.deleted.is_(None))]
    elif folder == "runs":
        queries = [select(jobs.c.id).where(jobs.c.id == ids, may_go_on())]
    else:
        of_results = select(files.c.sha256).join(results).where(files.c.sha256 == ids, not_deleted())
        queries = [of_results, select(uploads.c.sha256).where(uploads.c.sha256 == ids)]
    named = {id for query in queries for id in tx.execute(query).scalars()}
    return [name for id, name in found if id not in named]
