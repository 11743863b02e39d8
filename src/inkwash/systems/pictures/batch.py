"""Many pictures from a table of prompts, row by row, and on from where an earlier run stopped."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inkwash.errors import UserError, unknown
from inkwash.systems.pictures.drawing import Drawing
from inkwash.systems.pictures.files import KEY, read_recipe, write_png

COLUMNS: dict[str, Callable[[str], Any]] = {
    "prompt": str,
    "style": str,
    "seed": int,
    "negative": str,
    "sampler": str,
    "steps": int,
    "guidance": float,
    "size": int,
    "name": str,
}


def rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Line numbers and what is asked for there, or what is wrong with it. Cells left empty are left out.

    Raises UserError for a file that cannot be read, has no column "prompt", or a column of another name.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            names = [name.strip() for name in table.fieldnames or []]
            table.fieldnames = names
            for name in names:
                if name not in COLUMNS:
                    raise unknown(f"column of {file}", name, COLUMNS)
            if "prompt" not in names:
                raise UserError(f"{file}: no column 'prompt' in its first line")
            for cells in table:
                yield table.line_num, read_row(cells, f"{file}, line {table.line_num}")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV file in UTF-8 ({error})") from None


def read_row(cells: dict[Any, Any], where: str) -> dict[str, Any] | UserError:
    if None in cells or None in cells.values():
        return UserError(f"{where}: more or fewer cells than the first line has; put texts with commas in quotes")
    asked = {}
    for name, text in cells.items():
        if text.strip():
            try:
                asked[name] = COLUMNS[name](text.strip())
            except ValueError:
                return UserError(f"{where}, column {name}: '{text}' is no number")
    return asked if "prompt" in asked else UserError(f"{where}, column prompt: empty")


def draw_table(
    painter: Drawing, file: Path, out: Path, done: Callable[[int, Path | UserError, bool], None]
) -> tuple[int, int, int]:
    """Draws every row into `out`; how many were drawn, had been drawn before, and are broken.

    A row without a seed has its line number for one. done: called for each line with its picture, or with what is
    wrong with it, and whether it was drawn now. A picture whose recipe is the one asked for is not drawn again.
    """
    counts = [0, 0, 0]
    taken: dict[Path, int] = {}
    for line, asked in rows(file):
        try:
            if isinstance(asked, UserError):
                raise asked
            asked = {"seed": line, **asked}
            path = out / f"{stem(asked)}.png"
            if path in taken:
                raise UserError(f"{file}, line {line}: {path.name} is line {taken[path]}'s already; give it a name")
            taken[path] = line
            fresh = not made(painter, path, asked)
            if fresh:
                asked.pop("name", None)
                picture = painter.generate(**asked)
                write_png(picture, path, picture.info[KEY])
            counts[0 if fresh else 1] += 1
            done(line, path, fresh)
        except UserError as error:
            counts[2] += 1
            where = f"{file}, line {line}"
            done(line, error if str(error).startswith(where) else UserError(f"{where}: {error}"), False)
    return counts[0], counts[1], counts[2]


def stem(asked: dict[str, Any]) -> str:
    """The file's name: the row's own, or its words, style and seed."""
    if "name" in asked:
        return re.sub(r"[^\w.-]+", "-", asked["name"].removesuffix(".png"))[:80]
    words = "-".join(re.findall(r"\w+", asked["prompt"].lower())[:6])[:60]
    return "-".join(filter(None, [words, asked.get("style"), str(asked["seed"])]))


def made(painter: Drawing, path: Path, asked: dict[str, Any]) -> bool:
    """Whether the file is this row's picture, by this model."""
    if not path.exists():
        return False
    try:
        recipe = read_recipe(path)
    except UserError as error:  # it is not ours, and not replaced
        raise UserError(f"{error}; move it away, or give the row another name") from None
    usual = {"style": None, "negative": "", "sampler": painter.info.sampler, "steps": painter.info.steps}
    usual |= {"guidance": painter.info.guidance, "size": painter.info.size, "hash": painter.hash}
    return all(recipe.get(key) == value for key, value in (usual | asked).items() if key != "name")
