"""What engines take if nothing is asked for; no more is known of their models."""

from pathlib import Path

from inkwash.systems.base import Limit

SIDE = 1024  # of a picture that is drawn from words alone


def limits(_: Path) -> dict[str, Limit]:
    return {"width": Limit(default=SIDE), "height": Limit(default=SIDE)}
