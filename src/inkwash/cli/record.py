"""What the rows of a table have made in a folder (results.jsonl), so that it is neither made again nor lost."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import inkwash
from inkwash.cli.context import digest, moved
from inkwash.errors import UserError
from inkwash.systems.base import Request

MARK = '"inkwash"'


class Record:
    """A line of JSON for each row: its name, what was asked for, the model's hash, and its files with their SHA-256.

    The line is written before the files are moved to their places. So a row is there if its files are those of its
    last line, whenever a process is killed; and a file that no line of its row knows is not ours.
    """

    def __init__(self, folder: Path) -> None:
        from inkwash.weights.files import check_ours

        self.folder, self.file = folder, folder / "results.jsonl"
        check_ours(self.file, MARK)
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        self.separator = (
            "\n" if text and not text.endswith("\n") else ""
        )  # what a killed process half wrote ends here
        self.last: dict[str, dict[str, Any]] = {}
        self.ours: set[tuple[str, str]] = set()
        for line in text.splitlines():
            with suppress(ValueError):
                self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        self.last[entry["name"]] = entry
        self.ours.update(entry["files"].items())

    def made(self, name: str, request: Request, hash: str | None) -> list[Path]:
        """The files of the row, if they are there and are what is asked for."""
        entry = self.last.get(name, {"files": {}})
        same = entry.get("request") == as_json(request) and entry.get("hash") == hash
        files = {self.folder / file: of for file, of in entry["files"].items()}
        return [*files] if same and all(content(file) == of for file, of in files.items()) else []

    def free(self, name: str) -> None:
        """UserError for a place where something lies that is not ours."""
        place = self.folder / name
        if place.exists() and (name, content(place)) not in self.ours:
            raise UserError(f"{place}: it is there already; move it away, or give the row another name")

    def keep(self, name: str, request: Request, hash: str | None, files: dict[str, Path]) -> None:
        """Moves what the row has made to its place; files: by the names that they will have."""
        for file in files:
            self.free(file)
        entry = {"inkwash": inkwash.__version__, "name": name, "request": as_json(request), "hash": hash}
        entry["files"] = {file: content(path) for file, path in files.items()}
        if files:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(f"{self.separator}{json.dumps(entry, ensure_ascii=False)}\n")
            self.separator = ""
            self._take(entry)
        for file, path in files.items():
            if (self.folder / file).is_dir():
                shutil.rmtree(self.folder / file)
            moved(path, self.folder / file)


def as_json(request: Request) -> Any:
    return json.loads(json.dumps(request.facts()))


def content(path: Path) -> str | None:
    """SHA-256 of a file, or of what lies in a folder; None if nothing is there."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256(repr([(str(file.relative_to(path)), digest(file)) for file in files]).encode()).hexdigest()
    return digest(path) if path.exists() else None
