"""The context of a verb on the command line: files lie where they are, progress is a bar, results go to a folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import inkwash
from inkwash.errors import UserError
from inkwash.progress import Console, Preview, Progress
from inkwash.systems import check_device
from inkwash.systems.base import File, Note, Option, Result
from inkwash.weights.shipped import locate


class Local(Console):
    """The `Context` of a command line. `paths` says where the content of each file is."""

    local, previews = True, 0

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        precision: str | None = None,
        runtime: str | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check_device(device)
        self.started = time.monotonic()
        self.folder, self.device, self.precision = folder, device, precision
        self.runtime, self.threads = runtime, threads
        self.paths: dict[Any, Path] = {}
        self.models: dict[str, Any] = {}
        self.expected = ""  # how long it will take: shown when work begins, not before a mistake

    def tell(self, event: Progress | Preview | Note) -> None:
        if isinstance(event, Progress) and self.expected:
            super().tell(Note(self.expected))
            self.expected = ""
        super().tell(event)

    def model(self, name: str) -> Any:
        from inkwash.weights.graph import default_threads

        if name not in self.models:
            # one thread: two wait for each other by spinning, beside another busy process forty times as long
            threads = self.threads or default_threads()
            device, precision = self.device or "cpu", self.precision or "float32"
            self.models[name] = inkwash.load(name, device, precision, self.runtime, threads)
            if (file := locate(name) / "training.json").is_file():
                facts = json.loads(file.read_text(encoding="utf-8"))
                if facts["step"] < facts["steps"]:
                    text = f"{name} is not finished: {facts['step']} of {facts['steps']} steps of its training"
                    self.tell(Note(text))
        return self.models[name]

    def open(self, file: File | tuple[File, ...]) -> Path:
        return self.paths[file]

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)

    def file(self, path: Path, option: Option) -> File | tuple[File, ...]:
        """The value of an option for the file, or the folder, at this path. UserError for one that is not there."""
        value: File | tuple[File, ...]
        if path.is_dir() and option.media == "folder":
            from inkwash.weights.files import files_below

            inner, contents = [file for file in files_below(path) if file.is_file()], []
            for done, file in enumerate(inner, 1):
                contents.append(File(digest(file), file.relative_to(path).as_posix()))
                self.tell(Progress(done, len(inner), "files are known by their content"))
            value = tuple(contents)
            if not value:
                raise UserError(f"{path}: an empty folder")
        elif path.is_file():
            value = File(digest(path), path.name)
        else:
            missing = "no such file or folder" if option.media == "folder" else "no such file"
            raise UserError(f"{path}: {missing} ({option.name}: {option.help.rstrip('.')})")
        self.paths[value] = path
        return value


def digest(path: Path) -> str:
    """SHA-256 of a file's content. UserError for one that cannot be read."""
    from inkwash.weights.files import digest

    try:
        return digest(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def make_writable(folder: Path) -> None:
    """Makes the folder, or says at once, before any work, why nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; choose another with --out") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write to {folder}: no permission; choose another folder with --out")


def file_name(stem: str, ending: str) -> str:
    """Of an ending like ".png" or "-mask.png", or "" of a folder; or of a name of its own like "cells-mask.png",
    which a dash parts."""
    return f"{stem}{ending}" if not stem or ending.startswith((".", "-")) or not ending else f"{stem}-{ending}"


def save_files(result: Result, stem: str, out: Path, single: bool) -> list[Path]:
    """Moves the files of a result to `out`, a folder or (`single`) the file itself; where they are then."""
    folder = out.parent if single else out
    targets = [folder / file_name(stem, ending) for ending in result.files]
    return move_all([*result.files.values()], [out, *targets[1:]] if single and targets else targets)


def save_texts(texts: list[str], file: Path) -> Path:
    """A line for each."""
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return file


def move_unused(source: Path, target: Path) -> Path:
    """Moves a file or a folder; see `move_all`."""
    return move_all([source], [target])[0]


def move_all(sources: Sequence[Path], targets: Sequence[Path]) -> list[Path]:
    """Moves files to `targets`, or all of them to the first of target-2, target-3, ... of which none exists: nothing
    is overwritten, what came while they were made no more than what was there before. UserError for a folder among
    several that is there already: it and the files beside it lead to one another by their names."""
    folders = [source.is_dir() for source in sources]
    if len(sources) > 1 and (
        there := [path for path, own in zip(targets, folders, strict=True) if own and path.exists()]
    ):
        raise UserError(f"{there[0]} is there already; choose another folder with --out")
    free = unused_paths(targets, folders)
    try:
        return [move(source, path) for source, path in zip(sources, free, strict=True)]
    except BaseException:
        release(free)
        raise


def unused_paths(paths: Sequence[Path], folders: Sequence[bool]) -> list[Path]:
    """`paths`, or the first of path-2, path-3, ... of which none exists. They are there from now on, and empty, so
    that another process that asks takes the next."""
    for i in count(1):
        taken = list[Path]()
        for path, folder in zip(paths, folders, strict=True):
            free = path if i == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}")
            try:
                free.mkdir() if folder else free.touch(exist_ok=False)
            except OSError as error:
                release(taken)
                if isinstance(error, FileExistsError):
                    break
                raise UserError(f"cannot write {free}: {error.strerror}; choose another with --out") from None
            taken.append(free)
        else:
            return taken
    raise AssertionError


def release(taken: Sequence[Path]) -> None:
    """Removes what was only reserved: what is not empty is no longer our place."""
    for path in taken:
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            elif not path.stat().st_size:
                path.unlink()


def move(source: Path, target: Path) -> Path:
    """Moves a file or a folder, whole or not at all."""
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.move(source, half)
        os.replace(half, target)
    except BaseException as error:
        shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(f"cannot write {target}: {error.strerror or error}; choose another with --out") from None
    return target


def json_line(result: Result, files: list[Path]) -> str:
    """A result as a line of JSON."""
    facts = {"of": result.of, "place": result.place, "files": [str(file) for file in files], "row": result.row}
    return json.dumps(facts | {"recipe": result.recipe}, ensure_ascii=False, default=str)
