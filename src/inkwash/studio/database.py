"""The folder of a studio: its database and its files, and how they are written so that both survive any crash."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, create_engine, event, func, or_, select

from inkwash.errors import UserError
from inkwash.studio.files import Files
from inkwash.studio.tables import migrate, name_key
from inkwash.weights.files import sync

RESERVE = 20_000_000  # bytes of the disk that files leave free, so that the tables can still be written
PRAGMAS = ("journal_mode=wal", "synchronous=full", "fullfsync=on", "busy_timeout=30000", "foreign_keys=on")


def new_id() -> str:
    """A new name for a row: 128 random bits, which nobody guesses."""
    return secrets.token_hex(16)


class Database:
    """Tables and files in one folder. Any number of processes may have it open.

    files/    by content: what went in and what was made
    models/   a folder for each model that a training made
    runs/     a folder for each job that is being worked on, or goes on later
    """

    def __init__(self, home: Path) -> None:
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
        with self.writing() as tx:
            migrate(tx)

    def is_full(self) -> bool:
        return shutil.disk_usage(self.home).free < RESERVE

    def check_disk(self) -> None:
        """OSError ENOSPC if there is no room left for files."""
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.home))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction alone with the database; when the block is left, what it wrote lies on the disk."""
        # one thread of this process at a time: they would otherwise wait for SQLite by sleeping, some for seconds
        with self.lock, self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def _configure(self, connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.create_function("file_size", 2, self.files.size)  # for steps of the migration, as the next
        connection.create_function("name_key", 1, name_key)
        for pragma in PRAGMAS:
            connection.execute(f"pragma {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")


def owned_by(table: Any, user: str | None) -> Any:
    """Rows of this user; anyone's where no user is given."""
    return True if user is None else table.c.user_id == user


def count_rows(tx: Connection, table: Any, *which: Any) -> int:
    return tx.scalar(select(func.count()).select_from(table).where(*which)) or 0


def page(tx: Connection, query: Any, table: Any, user: str, before: str | None, limit: int) -> list[Row[Any]]:
    """Newest first. The mark is found whatever has become of it since it was listed."""
    if before is not None:
        mark = tx.execute(select(table).where(table.c.id == before, table.c.user_id == user)).first()
        if mark is None:
            return []
        older = and_(table.c.created == mark.created, table.c.id < mark.id)
        query = query.where(or_(table.c.created < mark.created, older))
    return list(tx.execute(query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)))
