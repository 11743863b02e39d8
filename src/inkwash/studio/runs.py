"""The folders in which jobs work, and the checkpoints of trainings, for the next machine that goes on with them."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

if TYPE_CHECKING:
    from inkwash.studio.library import Library

SENT = "sent"  # a file in such a folder: which archive it was the last to be, or to come from


def archive_of(job: str) -> str:
    return f"runs/{job}.zip"


def send(library: Library, job: str) -> None:
    """Puts what a training has learned where other machines find it."""
    if library.bucket is not None:
        folder = library.runs / job
        library.bucket.put_folder(archive_of(job), folder / "out")
        (folder / SENT).write_text(library.bucket.tag(archive_of(job)) or "", encoding="utf-8")


def fetch(library: Library, job: str) -> None:
    """What another machine was the last to learn; what this one has learned since it sent or fetched that stays."""
    tag = None if library.bucket is None else library.bucket.tag(archive_of(job))
    folder = library.runs / job
    if library.bucket is None or tag is None:
        return
    with suppress(FileNotFoundError):
        if (folder / SENT).read_text(encoding="utf-8") == tag:
            return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    library.bucket.get_folder(archive_of(job), folder / "out")
    (folder / SENT).write_text(tag, encoding="utf-8")


def remove(library: Library, job: Row[Any]) -> None:
    """Of a job that does not go on."""
    shutil.rmtree(library.runs / job.id, ignore_errors=True)
    if library.bucket is not None and job.lasting:
        library.bucket.remove_object(archive_of(job.id))
