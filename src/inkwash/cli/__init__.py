"""The command line. Every command imports what it needs when it runs: `inkwash --help` loads no torch."""

import errno
import sys
import warnings
from typing import Any

from inkwash.errors import UserError, remedy
from inkwash.progress import say

NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES)  # of one that was typed, wherever it is first looked at


def application() -> Any:
    """The application, with the commands of all systems."""
    from inkwash.cli import again, commands, studio, verbs  # noqa: F401, some add their own

    if not commands.app.registered_groups[2:]:  # the data sets and the studio are there already
        verbs.add_commands(commands.app)
    return commands.app


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; a user's mistake is one line on standard error, and exit code 2."""
    warnings.filterwarnings(
        "ignore", "Image size", category=RuntimeWarning
    )  # Pillow's, of what it reads none the less
    try:
        from inkwash.cli.commands import SHORTCUTS, expand_command, expand_generate, expand_recipe, expand_shortcut

        arguments = sys.argv[1:] if arguments is None else arguments
        arguments = expand_shortcut(arguments) if arguments and arguments[0] in SHORTCUTS else arguments
        arguments = expand_command(arguments)
        arguments = expand_recipe(arguments) if arguments[1:2] == ["train"] else arguments
        arguments = expand_generate(arguments) if arguments[:1] == ["generate"] else arguments
        return int(application()(arguments, standalone_mode=False) or 0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if (text := message(error)) is not None:
            return _mistake(text)
        # the parser's own errors; typer does not export their classes
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())  # type: ignore[attr-defined]
            return 0
        if hasattr(error, "format_message"):
            return _mistake(error.format_message())
        raise


def message(error: Exception) -> str | None:
    """What a user may mend, in words; None for a mistake of ours."""
    if isinstance(error, ModuleNotFoundError):
        from inkwash.extras import missing

        return str(missing(error))
    if isinstance(error, MemoryError):
        return "not enough memory for all that is asked: ask for less"
    if isinstance(error, OSError) and error.errno in NO_PATH and error.filename is not None:
        return f"{str(error.filename)[:100]}: {error.strerror}; name another"
    if isinstance(error, OSError) and (todo := remedy(error)):
        return f"cannot write {error.filename or 'any more'}: {error.strerror}; {todo}, and run the same again"
    # by name: their modules are too slow for --help
    names = ("DiffusionError", "DatabaseUnusable", "StorageUnusable")
    known = isinstance(error, UserError) or type(error).__name__ in names
    return str(error) if known else None


def _mistake(text: str) -> int:
    say(text)
    return 2
