"""The folder of a run: which recipe is trained there, and whether it is finished (run.json)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inkwash.errors import UserError
from inkwash.training.fit import FREE
from inkwash.weights.files import atomic, check_ours

NAME = "run.json"


def describe(recipe: Any) -> dict[str, Any]:
    """A recipe as a flat dict, its keys as "fit.steps"."""
    return _flatten("", json.loads(json.dumps(asdict(recipe), default=str)))


def _flatten(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    tables = [_flatten(f"{name}.{key}".strip("."), inner) for key, inner in value.items()]
    return {key: value for table in tables for key, value in table.items()}


def is_begun(folder: Path) -> bool:
    """Whether there is a checkpoint, of the training or of one that comes before it."""
    return any(next(folder.glob(f"{parent}checkpoints/step-*.json"), None) for parent in ("", "*/"))


def is_finished(folder: Path, recipe: dict[str, Any]) -> bool:
    """Whether this recipe has been trained to its end in the folder. UserError where another is trained there: only
    `steps` and the keys that change no weights may differ."""
    if not is_begun(folder) or not (folder / NAME).exists():
        return False
    check_ours(folder / NAME, '"recipe"')
    run = json.loads((folder / NAME).read_text(encoding="utf-8"))
    before, free = run["recipe"], {f"fit.{key}" for key in FREE}
    changed = [key for key in sorted(before.keys() | recipe.keys()) if before.get(key) != recipe.get(key)]
    if changes := [key for key in changed if ".".join(key.split(".")[-2:]) not in free]:
        what = ", ".join(f"{key} = {before.get(key)}, not {recipe.get(key)}" for key in changes)
        state = "a finished run" if run["finished"] else "a run"
        raise UserError(f"{folder} holds {state} with {what}: choose another folder with --out")
    return bool(run["finished"]) and not any(key.endswith("fit.steps") for key in changed)


def save(folder: Path, recipe: dict[str, Any], finished: bool) -> None:
    """Writes what `is_finished` reads."""
    check_ours(folder / NAME, '"recipe"')
    with atomic(folder / NAME) as file:
        file.write_text(json.dumps({"finished": finished, "recipe": recipe}, indent=1) + "\n", encoding="utf-8")
