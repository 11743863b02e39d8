"""The log of the studio."""

import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inkwash.errors import UserError

BACKUPS = 2  # of the log


class Log(logging.handlers.RotatingFileHandler):
    """Says once that it cannot be written, as when the disk is full: no traceback for each line."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            print(f"inkwash: cannot write the log {self.baseFilename}: {sys.exception()}", file=sys.stderr)
        self.failed = True


@contextmanager
def logging_to(home: Path, log: str | None, usual: str = "studio.log") -> Iterator[None]:
    """Everything that is logged, a line of JSON each, in a file that stays small, or on standard error."""
    from inkwash.studio.app import JSONFormatter
    from inkwash.weights.files import check_ours

    file = Path(log or home / usual)
    places = (file, *(Path(f"{file}.{i}") for i in range(1, BACKUPS + 1)))
    handler: logging.Handler
    try:
        for one in places if log not in (None, "", "-") else ():
            if one.is_file():  # it would be renamed when it is large, and deleted in the end
                check_ours(one, '{"time"')
        handler = logging.StreamHandler() if log == "-" else Log(file, maxBytes=10**7, backupCount=BACKUPS)
    except OSError as error:
        raise UserError(f"cannot write the log {file}: {error.strerror}; give another --log, or - for here") from None
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with suppress(OSError):  # the disk is full, as was said
            handler.close()
