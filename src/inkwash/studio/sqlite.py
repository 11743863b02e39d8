"""A studio's tables in a file, by SQLite: nothing to install, one machine, one server."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError

from inkwash.errors import UserError
from inkwash.studio.errors import APIError, DatabaseUnusable, busy
from inkwash.studio.files import Files, contents, models_in
from inkwash.studio.tables import migrate, name_key, sha256

REMEDY = "stop it, and make a new one of its files with `inkwash studio recover`, or put a backup in its place"
MARK = "studio.id"  # a file in a folder whose tables are in PostgreSQL: which database it is
PRAGMAS = ("journal_mode=wal", "synchronous=full", "fullfsync=on", "foreign_keys=on", "secure_delete=on")
DAMAGED = "is damaged"
UNUSABLE = {  # by SQLite's primary result code
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read",
}


def unusable(error: BaseException) -> str | None:
    """What is wrong with a database for SQLite to say this, "is damaged"; None if it says something else."""
    return UNUSABLE.get(result_code(error))


def result_code(error: BaseException) -> int:
    """SQLite's primary result code; -1 of what is none of its errors."""
    return int(getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlite_errorcode", -1)) & 0xFF


class SQLite:
    """The file, at `path`; any number of processes may have it open.

    lock_timeout  seconds to wait for another program's lock
    is_busy       whether another program's lock was waited for in vain, and nothing could be written since
    """

    def __init__(self, path: Path, files: Files, lock_timeout: float) -> None:
        self.path, self.files, self.lock_timeout = path, files, lock_timeout
        self.is_busy, self.damaged, self.lock = False, False, threading.Lock()
        if not path.exists():
            path.touch(mode=0o600)
        self.opened = path.stat()
        # SQLite makes none of its own where that file has vanished
        url = URL.create("sqlite", database=path.absolute().as_uri(), query={"mode": "rw", "uri": "true"})
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
            raise UserError(f"{path}: {error}") from None

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
            if result_code(error) == sqlite3.SQLITE_BUSY:
                self.is_busy = True
                raise busy() from None
            if (problem := unusable(error)) is None:
                raise
            self.damaged = self.damaged or problem == DAMAGED
            self.check()
            why = error.orig if isinstance(error, DBAPIError) else error
            message = f"the studio's database {problem} ({why}); see that its folder and files are the studio's"
            raise DatabaseUnusable(message, "database_unusable") from error

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

    def truncate_log(self) -> bool:
        """Lets what was erased go from the write-ahead log, too; False if others read in it."""
        with self.lock, self._checked(), closing(self.engine.raw_connection()) as raw:
            raw.detach()  # no other shall wait as shortly
            cursor = raw.cursor()
            cursor.execute("pragma busy_timeout=50")  # who writes waits, too
            cursor.execute("pragma wal_checkpoint(truncate)")
            ((is_blocked, _, _),) = cursor.fetchall()
        return not is_blocked

    def _configure(self, connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.create_function("file_size", 2, self.files.size)  # for steps of the migration, as the next two
        connection.create_function("sha256", 1, sha256)
        connection.create_function("name_key", 1, name_key)
        for pragma in (f"busy_timeout={round(1000 * self.lock_timeout)}", *PRAGMAS):
            connection.execute(f"pragma {pragma}")


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


def check_folder(home: Path) -> None:
    """UserError for a folder whose tables are elsewhere, or lost, or another program's."""
    check_not_postgresqls(home)
    check_not_lost(home)
    check_not_foreign(home / "studio.db")


def check_not_postgresqls(home: Path) -> None:
    if (home / MARK).exists():
        raise UserError(f"{home}: its database is PostgreSQL's; give its address with --store, or in INKWASH_STORE")


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
