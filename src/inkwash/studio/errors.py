"""What is answered in place of what was asked for."""

from __future__ import annotations

import errno

from sqlalchemy.exc import OperationalError


class APIError(Exception):
    """What a client asked for cannot be: an HTTP status, one line, and for programs a code and the parameter."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.wait = status, message, code, param, wait


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
    return isinstance(error, OperationalError) and "database is locked" in str(error.orig)


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that there is no room on the disk."""
    if isinstance(error, OperationalError):
        return "disk is full" in str(error.orig)
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
