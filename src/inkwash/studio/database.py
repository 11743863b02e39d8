"""The folder of a studio: its database and its files, and how they are written so that both survive any crash."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, create_engine, event, func, select, update
from sqlalchemy.exc import OperationalError

from inkwash.errors import UserError
from inkwash.studio.errors import APIError, busy, is_locked
from inkwash.studio.files import Files
from inkwash.studio.tables import counter, metadata, migrate, name_key
from inkwash.weights.files import sync

RESERVE = 20_000_000  # bytes of the disk that files leave free, so that the tables can still be written
LOCK_TIMEOUT = 5.0  # seconds that a command waits for another program's lock on the database
PRAGMAS = ("journal_mode=wal", "synchronous=full", "fullfsync=on", "foreign_keys=on", "secure_delete=on")


def new_id() -> str:
    """A new name for a row: 128 random bits, which nobody guesses."""
    return secrets.token_hex(16)


class Database:
    """Tables and files in one folder. Any number of processes may have it open.

    files/    by content: what went in and what was made
    models/   a folder for each model that a training made
    runs/     a folder for each job that is being worked on, or goes on later

    lock_timeout  seconds to wait for another program's lock
    is_busy       whether another program's lock was waited for in vain, and nothing could be written since
    has_erased    whether what was erased may still stand in the write-ahead log: see `truncate_log`
    """

    def __init__(self, home: Path, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.lock_timeout, self.is_busy, self.has_erased = lock_timeout, False, True
        self.home, self.models_folder, self.runs = home, home / "models", home / "runs"
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"cannot make the folder {home}: {error.strerror}; choose another with --home") from None
        if not (home / "files").exists():
            with suppress(FileNotFoundError):  # as it was called when all were pictures
                (home / "pictures").rename(home / "files")
        self.files, self.lock = Files(home / "files"), threading.Lock()
        for folder in (self.models_folder, self.runs):
            folder.mkdir(exist_ok=True)
        sync(home)
        self.engine = create_engine(
            f"sqlite:///{home / 'studio.db'}", pool_size=20, max_overflow=40, hide_parameters=True
        )
        event.listen(self.engine, "connect", self._configure)
        event.listen(self.engine, "begin", _begin)
        try:
            with self.writing() as tx:
                migrate(tx)
        except APIError as error:
            raise UserError(error.message) from None

    def is_full(self) -> bool:
        return shutil.disk_usage(self.home).free < RESERVE

    def check_disk(self) -> None:
        """OSError ENOSPC if there is no room left for files."""
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.home))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._noticing_locks(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction alone with the database; when the block is left, what it wrote lies on the disk. APIError
        "busy" where another program has it locked: as long as it has, one thread at a time waits for it."""
        was_busy = self.is_busy
        # one thread of this process at a time: they would otherwise wait for SQLite by sleeping, some for seconds
        if not self.lock.acquire(blocking=not was_busy):
            raise busy()
        try:
            if self.is_busy and not was_busy:  # the thread before this one has waited already
                raise busy()
            connect = self.engine.connect().execution_options(writes=True)
            with self._noticing_locks(), connect as connection, connection.begin():
                self.is_busy = False
                yield connection
        finally:
            self.lock.release()

    @contextmanager
    def _noticing_locks(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            if not is_locked(error):
                raise
            self.is_busy = True
            raise busy() from None

    def truncate_log(self) -> None:
        """Lets what was erased go from the write-ahead log, too; `has_erased` stays if others read in it."""
        with self.lock, closing(self.engine.raw_connection()) as raw:
            cursor = raw.cursor()
            cursor.execute("pragma wal_checkpoint(truncate)")
            ((is_blocked, _, _),) = cursor.fetchall()
            self.has_erased = bool(is_blocked)

    def set_back(self) -> None:
        """Times that lie ahead, as of a clock that was wrong, become now; what expires keeps its lifetime."""
        now = time.time()
        with self.writing() as tx:
            for table in metadata.sorted_tables:
                if "expires" in table.c:
                    end = now + table.c.expires - table.c.created
                    tx.execute(update(table).where(table.c.created > now).values(expires=end))
                for name in {"created", "changed", "started", "deleted"} & {*table.c.keys()}:
                    tx.execute(update(table).where(table.c[name] > now).values({name: now}))

    def _configure(self, connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.create_function("file_size", 2, self.files.size)  # for steps of the migration, as the next two
        connection.create_function("sha256", 1, sha256)
        connection.create_function("name_key", 1, name_key)
        for pragma in (f"busy_timeout={round(1000 * self.lock_timeout)}", *PRAGMAS):
            connection.execute(f"pragma {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tick(tx: Connection) -> int:
    """A number larger than all before: what is newer by it was written later, whatever clocks said."""
    query = update(counter).values(value=counter.c.value + 1).returning(counter.c.value)
    return int(tx.execute(query).scalar_one())


def stamp(tx: Connection) -> dict[str, Any]:
    """What every change of a job writes, too."""
    return {"changed": time.time(), "version": tick(tx)}


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
