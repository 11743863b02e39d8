"""The folder of a run: which recipe is trained there, and whether it is finished (run.json)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from inkwash.errors import UserError
from inkwash.training import distributed
from inkwash.training.settings import FREE
from inkwash.weights.files import atomic, check_ours, digest, files_below, lock

NAME = "run.json"
CONTENT = "sha256:"


def describe(recipe: Any) -> dict[str, Any]:
    """A recipe as a flat dict, its keys as "fit.steps"; files and folders that it names by their content."""
    return _flatten("", json.loads(json.dumps(asdict(recipe), default=_content)))


def _content(path: Path) -> str:
    """Tells a file from others, and a folder by its files' names too, wherever they lie; where nothing is, the path
    itself, for the training to say."""
    try:
        files = [path] if path.is_file() else [file for file in files_below(path) if file.is_file()]
        known = [(file.relative_to(path).as_posix(), digest(file)) for file in files]
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return f"{CONTENT}{sha256(repr(known).encode()).hexdigest()[:12]}" if known else str(path)


def _flatten(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    tables = [_flatten(f"{name}.{key}".strip("."), inner) for key, inner in value.items()]
    return {key: value for table in tables for key, value in table.items()}


def checkpoints(folder: Path) -> set[Path]:
    """Those of the training, or of one that comes before it."""
    return {file for parent in ("", "*/") for file in folder.glob(f"{parent}checkpoints/step-*.json")}


def seconds(folder: Path) -> float:
    """How long has been trained there over all starts, as the newest checkpoints say: of the training and of
    those that come before it."""
    newest = {file.parent: file for file in sorted(checkpoints(folder))}
    return sum(map(_seconds, newest.values()))


def _seconds(file: Path) -> float:
    """0 of a checkpoint that is damaged, or of an older version, or was just replaced by a newer one."""
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def is_finished(folder: Path, recipe: dict[str, Any]) -> bool:
    """Whether this recipe has been trained to its end in the folder. UserError where another is trained there: only
    `steps` and the keys that change no weights may differ."""
    if not checkpoints(folder) or not (folder / NAME).exists():
        return False
    check_ours(folder / NAME, '"recipe"')
    try:
        run = json.loads((folder / NAME).read_text(encoding="utf-8"))
        before, finished = dict(run["recipe"]), bool(run["finished"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / NAME}: broken ({error}); delete it, and the same command goes on") from None
    free = {f"fit.{key}" for key in FREE}
    changed = [key for key in sorted(before.keys() | recipe.keys()) if before.get(key) != recipe.get(key)]
    if changes := [key for key in changed if ".".join(key.split(".")[-2:]) not in free]:
        what = ", ".join(_difference(key, before.get(key), recipe.get(key)) for key in changes)
        state = "a finished run" if finished else "a run"
        raise UserError(f"{folder} holds {state} with {what}: choose another folder with --out")
    return finished and not any(key.endswith("fit.steps") for key in changed)


def _difference(key: str, before: Any, now: Any) -> str:
    both = all(str(value).startswith(CONTENT) for value in (before, now))
    return f"another content of {key}" if both else f"{key} = {before}, not {now}"


@contextmanager
def noted(folder: Path, recipe: dict[str, Any]) -> Iterator[None]:
    """Writes what `is_finished` reads, and holds the folder. If the block fails before it trained anything, what was
    noted before stays. Locked where another process trains in the folder. Of processes that train together the first
    one does this for all."""
    if distributed.rank() > 0:
        yield
        return
    with lock(
        folder / ".inkwash.lock", f"{folder}: another training works there; wait for it, or choose another with --out"
    ):
        file, begun = folder / NAME, checkpoints(folder)
        before = file.read_bytes() if file.exists() else None
        _save(file, recipe, finished=False)
        try:
            yield
        except BaseException:
            if checkpoints(folder) == begun:
                if before is None or not begun:
                    file.unlink()
                else:
                    with atomic(file) as temporary:
                        temporary.write_bytes(before)
            raise
        _save(file, recipe, finished=True)


def _save(file: Path, recipe: dict[str, Any], finished: bool) -> None:
    check_ours(file, '"recipe"')
    with atomic(file) as temporary:
        text = json.dumps({"finished": finished, "recipe": recipe}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
