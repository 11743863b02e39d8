"""Mistakes that a person can mend: one line that says what is wrong and what to do."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in what was asked for. The command line prints its one line and exits with 2."""


def remedy(error: BaseException) -> str | None:
    """What to do about a disk that takes no more, or nothing at all; None for another error."""
    number = getattr(error, "errno", None)
    if number == errno.EROFS:
        return "name another folder"
    return "make room" if number in (errno.ENOSPC, errno.EDQUOT) else None


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest valid names first."""
    valid = sorted(valid)
    near = get_close_matches(name.lower(), valid, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from: {', '.join(valid) or '(there is none)'}"
    return UserError(f"unknown {kind} '{name}': {hint}")
