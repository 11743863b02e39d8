"""What the rows of a table have made in a folder (results.jsonl), so that it is neither made again nor lost."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import inkwash
from inkwash.cli.context import digest, move
from inkwash.errors import UserError
from inkwash.systems.base import Request
from inkwash.weights.shipped import reference

MARK = '"inkwash"'


class Record:
    """A line of JSON for each row: its name, its request, the model's hash, and its files with their SHA-256.

    The line is written before the files are moved. So a row is complete if its files are those of its
    last line, whenever a process is killed; and a file that no line of its row knows is not ours.
    """

    def __init__(self, folder: Path) -> None:
        from inkwash.weights.files import check_ours

        self.folder, self.file = folder, folder / "results.jsonl"
        check_ours(self.file, MARK)
        self.separator = ""
        self.last: dict[str, tuple[bytes, str | None, dict[str, str]]] = {}  # key of the request, hash, files
        self.ours: set[tuple[str, str]] = set()
        if self.file.exists():
            with self.file.open(
                encoding="utf-8", errors="replace", newline="\n"
            ) as lines:  # a prompt may have other signs that end lines
                for line in lines:
                    self.separator = "" if line.endswith("\n") else "\n"  # after what a killed process half wrote
                    with suppress(ValueError, KeyError, TypeError, AttributeError):  # half written, or not ours
                        self._add(json.loads(line))

    def _add(self, entry: dict[str, Any]) -> None:
        self.ours.update(entry["files"].items())
        self.last[entry["name"]] = key(entry["request"]), entry.get("hash"), entry["files"]

    def existing(self, name: str, request: Request) -> tuple[list[Path], str | None]:
        """The files of the row, if they are there by the same request; and the hash of the model that made them."""
        before, hash, entries = self.last.get(name, (b"", None, {}))
        files = {self.folder / file: checksum for file, checksum in entries.items()}
        same = bool(files) and before == key(facts(request))
        return ([*files] if same and all(content(file) == one for file, one in files.items()) else []), hash

    def check_free(self, name: str) -> None:
        """UserError for a name under which something lies that is not ours."""
        path = self.folder / name
        if os.path.lexists(path) and (name, content(path)) not in self.ours:
            raise UserError(f"{path}: it is there already; move it away, or give the row another name")

    def save(self, name: str, request: Request, hash: str | None, files: dict[str, Path]) -> None:
        """Notes the row and moves its files here; files: by the names that they will have."""
        for file in files:
            self.check_free(file)
        entry = {"inkwash": inkwash.__version__, "name": name, "request": facts(request), "hash": hash}
        entry["files"] = {file: content(path) for file, path in files.items()}
        if files:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(f"{self.separator}{json.dumps(entry, ensure_ascii=False)}\n")
            self.separator = ""
            self._add(entry)
        for file, path in files.items():
            if (self.folder / file).is_dir():
                shutil.rmtree(self.folder / file)
            move(path, self.folder / file)


def facts(request: Request) -> Any:
    """What was asked for, its models by the names that recipes have for them."""
    names = {"model": request.model_name(), "refiner": getattr(request, "refiner", None)}
    named = {option: reference(name) for option, name in names.items() if name is not None}
    return json.loads(json.dumps(request.facts() | named))


def key(facts: Any) -> bytes:
    """What tells a request from others, in little memory."""
    return sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def content(path: Path) -> str | None:
    """SHA-256 of a file, or of what lies in a folder; None if nothing is there."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256(repr([(str(file.relative_to(path)), digest(file)) for file in files]).encode()).hexdigest()
    return digest(path) if path.exists() else None
