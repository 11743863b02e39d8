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
    """Nothing can be read from the database, or written into it: it is lost, damaged, or another's. why: what logs
    and commands say beside the message, but clients are not told, as it has the database's place and user."""

    def __init__(self, message: str, code: str, wait: float | None = None, why: str = "") -> None:
        super().__init__(503, message, code, wait=wait)
        self.args = (f"{message} ({why})" if why else message,)


class StorageUnusable(APIError):
    """Files cannot be read from the storage, or written into it."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message, "storage_unusable", wait=2)


def invalid(message: str, param: str | None = None) -> APIError:
    return APIError(422, message, "invalid_value", param)


def no_such(what: str) -> APIError:
    """The same whether it does not exist or is another's."""
    return APIError(404, f"there is no such {what}", "not_found")


def busy() -> APIError:
    """What another program's lock makes of what would be written; the same may be asked again."""
    message = "another program has the studio's database locked; try again soon, or end that program"
    return APIError(503, message, "busy", wait=2)


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that there is no room on the disk."""
    said = error.orig if isinstance(error, DBAPIError) else error
    by_database = getattr(said, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or is_state(error, "53100")
    return by_database or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def is_state(error: BaseException, *states: str) -> bool:
    """Whether PostgreSQL says that it is one of these (SQLSTATE, or how that begins)."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(said, "sqlstate", None) or "").startswith(states)
