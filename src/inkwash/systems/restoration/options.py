"""Which options a task takes, and which models a verb."""

from __future__ import annotations

from typing import Any

from inkwash.errors import UserError

NEEDS = {"mask": ("inpaint", "what to draw anew"), "outpaint": ("uncrop", "how far to draw on")}


def check_options(task: str, **given: Any) -> None:
    """UserError for a mask or an outpaint that the task lacks, or has no use for."""
    for name, value in given.items():
        own, what = NEEDS[name]
        if value is None and task == own:
            raise UserError(f"{task} needs {name}: {what}")
        if value is not None and task != own:
            raise UserError(f"{name} means nothing with the task {task}: leave it out, or take {own}")


def check_whole(facts: dict[str, Any]) -> None:
    """UserError for the facts of a stage in place of those of a cascade."""
    if "stages" not in facts:
        raise UserError("one stage of a cascade draws nothing alone: take the model of all of them")
