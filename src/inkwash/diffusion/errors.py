"""The core's one exception: it names the argument and the step, and says what to do."""

from typing import Any


class DiffusionError(ValueError):
    """Something was asked of the core that has no answer, or a network gave a value that is none."""


def require(holds: Any, message: str) -> None:
    """Raises DiffusionError with the message unless it holds."""
    if not holds:
        raise DiffusionError(message)
