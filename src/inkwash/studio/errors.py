"""What is answered in place of what was asked for."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError


class APIError(Exception):
    """What a client asked for cannot be: an HTTP status, one line, and for programs a code and the parameter."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.wait = status, message, code, param, wait


class DatabaseUnusable(APIError):
    """Nothing can be read from the database, or written into it: it is lost, damaged, or another's."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(503, message, code)


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
    return UNUSABLE.get(_code(error))


def _code(error: BaseException) -> int:
    """SQLite's primary result code; -1 of what is none of its errors."""
    return int(getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlite_errorcode", -1)) & 0xFF


def invalid(message: str, param: str | None = None) -> APIError:
    return APIError(422, message, "invalid_value", param)


def no_such(what: str) -> APIError:
    """The same whether it does not exist or is another's."""
    return APIError(404, f"there is no such {what}", "not_found")


def busy() -> APIError:
    """What another program's lock makes of what would be written; the same may be asked again."""
    message = "another program has the studio's database locked; try again soon, or end that program"
    return APIError(503, message, "busy", wait=2)


def is_locked(error: BaseException) -> bool:
    """Whether it says that another program has locked the database."""
    return _code(error) == sqlite3.SQLITE_BUSY


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that there is no room on the disk."""
    return _code(error) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
