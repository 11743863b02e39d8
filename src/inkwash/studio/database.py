"""The folder of a studio: its database and its files, and how they are written so that both survive any crash."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Row, create_engine, event, func, select, update
from sqlalchemy.exc import DBAPIError

from inkwash.errors import UserError
from inkwash.studio.errors import DAMAGED, APIError, DatabaseUnusable, busy, is_locked, unusable
from inkwash.studio.files import Files, contents, models_in
from inkwash.studio.tables import counter, metadata, migrate, name_key
from inkwash.weights.files import sync

RESERVE = 20_000_000  # bytes of the disk that files leave free, so that the tables can still be written
LOCK_TIMEOUT = 5.0  # seconds that a command waits for another program's lock on the database
REMEDY = "stop it, and make a new one of its files with `inkwash studio recover`, or put a backup in its place"
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

    A new database is made only where no file would be lost by that. UserError for a folder, or a database in it, that
    cannot be used.
    """

    def __init__(self, home: Path, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.lock_timeout, self.is_busy, self.has_erased = lock_timeout, False, True
        self.home, self.models_folder, self.runs = home, home / "models", home / "runs"
        self.path, self.lock, self.damaged = home / "studio.db", threading.Lock(), False
        with folder_errors(home):
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.exists() and not (home / "files").exists():
                with suppress(FileNotFoundError):  # as it was called when all were pictures
                    (home / "pictures").rename(home / "files")
            check_not_lost(home)
            check_not_foreign(self.path)
            if not self.path.exists():
                self.path.touch(mode=0o600)
            self.files = Files(home / "files")
            for folder in (self.models_folder, self.runs, home / "empty"):
                folder.mkdir(exist_ok=True, mode=0o700)
            self.opened = self.path.stat()
            sync(home)
        # SQLite makes none of its own where that file has vanished
        url = URL.create("sqlite", database=self.path.absolute().as_uri(), query={"mode": "rw", "uri": "true"})
        self.engine = create_engine(url, pool_size=20, max_overflow=40, hide_parameters=True)
        event.listen(self.engine, "connect", self._configure)
        event.listen(self.engine, "begin", _begin)
        try:
            with self.writing() as tx:
                migrate(tx)
            with suppress(sqlite3.Error):  # it takes twice the room of the database: a later start does it
                self._erase_free_pages()
        except (APIError, UserError) as error:
            self.engine.dispose()
            raise UserError(f"{self.path}: {error}") from None

    def _erase_free_pages(self) -> None:
        """Once: what was deleted before `secure_delete` was on may stand in pages that no row uses."""
        with self.lock, self._checked(), closing(self.engine.raw_connection()) as raw:
            cursor = raw.cursor()
            if cursor.execute("pragma user_version").fetchone() == (0,):
                cursor.execute("vacuum")
                cursor.execute("pragma user_version=1")

    def check(self) -> None:
        """DatabaseUnusable for a database that is not the one that was opened, or was found to be damaged."""
        try:
            is_same = os.path.samestat(self.path.stat(), self.opened)
        except OSError:
            is_same = False
        if not is_same:
            message = "the studio's database was removed or replaced while it ran; stop it, and put the database back"
            raise DatabaseUnusable(message, "database_lost")
        if self.damaged:
            raise DatabaseUnusable(f"the studio's database is damaged; {REMEDY}", "database_damaged")

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """APIError in place of what SQLite says of a database that another program has locked, or that it cannot
        work with."""
        self.check()
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            if is_locked(error):
                self.is_busy = True
                raise busy() from None
            if (problem := unusable(error)) is None:
                raise
            self.damaged = self.damaged or problem == DAMAGED
            self.check()
            why = error.orig if isinstance(error, DBAPIError) else error
            message = f"the studio's database {problem} ({why}); see that its folder and files are the studio's"
            raise DatabaseUnusable(message, "database_unusable") from error

    def is_full(self) -> bool:
        return shutil.disk_usage(self.home).free < RESERVE

    def check_disk(self) -> None:
        """OSError ENOSPC if there is no room left for files."""
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.home))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._checked(), self.engine.connect() as connection, connection.begin():
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
            connect = self.engine.connect
            with self._checked(), connect().execution_options(writes=True) as connection, connection.begin():
                self.is_busy = False
                yield connection
                self.check()  # rather than acknowledge what is written into a file that has no name any more
        finally:
            self.lock.release()

    def truncate_log(self) -> None:
        """Lets what was erased go from the write-ahead log, too; `has_erased` stays if others read in it."""
        with self.lock, self._checked(), closing(self.engine.raw_connection()) as raw:
            raw.detach()  # no other shall wait as shortly
            cursor = raw.cursor()
            cursor.execute("pragma busy_timeout=50")  # who writes waits, too
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


def has_content(database: Path) -> bool:
    """Whether there is a database, or something else in its place; an empty file is none."""
    return database.exists() and (not database.is_file() or database.stat().st_size > 0)


def check_not_lost(home: Path) -> None:
    """UserError for a folder with files of a studio, or its journal, whose database is not there, or is empty."""
    path, journal = home / "studio.db", home / "studio.db-wal"
    if has_content(path):
        return
    files, models = sum(1 for _ in contents(home / "files")), sum(1 for _ in models_in(home / "models"))
    if files or models or (journal.is_file() and journal.stat().st_size):
        raise UserError(
            f"{path} is {'empty' if path.exists() else 'lost'}, and {files} files and {models} models are there; "
            "put it back with `inkwash studio restore`, or make a new one of these with `inkwash studio recover`"
        )
    for folder in ("files", "models", "runs"):
        if any((home / folder).glob("*")):
            raise UserError(
                f"{home} has no database of a studio, and a folder '{folder}' that may be another program's: "
                "choose another with --home"
            )


def check_not_foreign(path: Path) -> None:
    """UserError for a database of another program, which stays as it is."""
    tables = set()
    if path.is_file():
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as ours,
        ):
            tables = {name for (name,) in ours.execute("select name from sqlite_master where type = 'table'")}
    if tables and not {"migrations", "users", "jobs"} <= tables:
        raise UserError(f"{path}: it is another program's database; choose another folder with --home")


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
