"""The folder of a studio: its tables and its files, and how they are written so that both survive any crash."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, func, select, update

from inkwash.errors import UserError
from inkwash.studio import sqlite
from inkwash.studio.buckets import Bucket, parse
from inkwash.studio.dialects import now
from inkwash.studio.files import Files
from inkwash.studio.tables import counter, metadata
from inkwash.weights.files import sync

if TYPE_CHECKING:  # it needs what not everyone has installed
    from inkwash.studio.postgresql import PostgreSQL

RESERVE = 20_000_000  # bytes of the disk that files leave free, so that the tables can still be written
LOCK_TIMEOUT = 5.0  # seconds that a command waits for another program's lock on the database


def new_id() -> str:
    """A new name for a row: 128 random bits, which nobody guesses."""
    return secrets.token_hex(16)


class Database:
    """Tables, and files in a folder. Any number of processes may have it open.

    files/    by content: what went in and what was made
    models/   a folder for each model that a training made
    runs/     a folder for each job that is being worked on, or goes on later

    url           of a PostgreSQL database; the tables are SQLite's, in the folder, if it is empty
    bucket        of S3-compatible storage, its URL: files and models are there, and in the folder only copies
    lock_timeout  seconds to wait for another program's lock
    postgresql    the database there, which other servers may work with; None of SQLite
    has_erased    whether what was erased may still stand in the write-ahead log: see `truncate_log`

    A new database is made only where no file would be lost by that. UserError for a folder, or a database, that
    cannot be used.
    """

    def __init__(self, home: Path, lock_timeout: float = LOCK_TIMEOUT, url: str = "", bucket: str = "") -> None:
        self.home, self.models_folder, self.runs, self.url = home, home / "models", home / "runs", url
        self.path, self.has_erased = home / "studio.db", True
        if bucket and parse(bucket) and not url:  # before anything is made
            raise UserError("--files: servers that share it need a database that they share, too; give --store")
        with folder_errors(home):
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.exists() and not (home / "files").exists():
                with suppress(FileNotFoundError):  # as it was called when all were pictures
                    (home / "pictures").rename(home / "files")
            if not url:
                sqlite.check_folder(home)
            self.bucket = Bucket(bucket, home / "files") if bucket else None
            self.files = self.bucket or Files(home / "files")
            for folder in (self.models_folder, self.runs, home / "empty"):
                folder.mkdir(exist_ok=True, mode=0o700)
            self.postgresql = open_postgresql(url, home, lock_timeout, self.bucket) if url else None
            self.backend = self.postgresql or sqlite.SQLite(self.path, self.files, lock_timeout)
            sync(home)
        self.engine, self.reading, self.writing = self.backend.engine, self.backend.reading, self.backend.writing

    def check(self) -> None:
        """DatabaseUnusable, StorageUnusable: see the backend's `check`, and the bucket's."""
        self.backend.check()
        if self.bucket is not None:
            self.bucket.check()

    @property
    def is_busy(self) -> bool:
        """Whether another program's lock was waited for in vain, and nothing could be written since."""
        return self.backend.is_busy

    def is_full(self) -> bool:
        return shutil.disk_usage(self.home).free < RESERVE

    def check_disk(self) -> None:
        """OSError ENOSPC if there is no room left for files."""
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.home))

    def truncate_log(self) -> None:
        """Lets what was erased go from the write-ahead log, too; `has_erased` stays if others read in it."""
        self.has_erased = not self.backend.truncate_log()

    def clock(self) -> float:
        """What time it is for the database: see `now`."""
        with self.reading() as tx:
            return now(tx)

    def set_back(self) -> None:
        """Times that lie ahead, as of a clock that was wrong, become now; what expires keeps its lifetime."""
        with self.writing() as tx:
            present = now(tx)
            for table in metadata.sorted_tables:
                if "expires" in table.c:
                    end = present + table.c.expires - table.c.created
                    tx.execute(update(table).where(table.c.created > present).values(expires=end))
                for name in {"created", "changed", "started", "deleted"} & {*table.c.keys()}:
                    tx.execute(update(table).where(table.c[name] > present).values({name: present}))


def open_postgresql(url: str, home: Path, lock_timeout: float, bucket: Bucket | None) -> PostgreSQL:
    """UserError if what that needs is not installed, or the database cannot be used with this folder."""
    from inkwash.extras import require

    require("a studio on PostgreSQL", "psycopg")
    from inkwash.studio.postgresql import PostgreSQL

    return PostgreSQL(url, home, lock_timeout, bucket)


@contextmanager
def folder_errors(folder: Path, other: str = "another with --home") -> Iterator[None]:
    """UserError for a folder in which files cannot be written. other: what to choose instead."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or ''}: {error.strerror or error}"
        raise UserError(
            f"cannot use the folder {folder}: {what}; see whose it is and what is in its way, or choose {other}"
        ) from None


def tick(tx: Connection) -> int:
    """A number larger than all before: what is newer by it was written later, whatever clocks said. Who has it is
    alone with it until the transaction ends: so take it last."""
    query = update(counter).values(value=counter.c.value + 1).returning(counter.c.value)
    return int(tx.execute(query).scalar_one())


def stamp(tx: Connection) -> dict[str, Any]:
    """What every change of a job writes, too."""
    version = tick(tx)
    return {"changed": now(tx), "version": version}


def owned_by(table: Any, user: str | None) -> Any:
    """Rows of this user; anyone's where no user is given."""
    return True if user is None else table.c.user_id == user


def count_rows(tx: Connection, table: Any, *which: Any) -> int:
    return tx.scalar(select(func.count()).select_from(table).where(*which)) or 0


def page(tx: Connection, query: Any, table: Any, user: str, before: str | None, limit: int) -> list[Row[Any]]:
    """Newest first. The mark is found whatever has become of it since it was listed."""
    if before is not None:
        mark = select(table.c.serial).where(table.c.id == before, table.c.user_id == user)
        query = query.where(table.c.serial < mark.scalar_subquery())
    return list(tx.execute(query.order_by(table.c.serial.desc()).limit(limit)))
