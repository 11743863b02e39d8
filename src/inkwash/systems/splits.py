"""Pictures of one's own, parted into what is learned from, what choices are made by, and what is measured on."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from inkwash.codecs.picture_files import Array, normalised, stem_of
from inkwash.errors import UserError

LISTS = ("index.csv", "split.csv")
SEPARATORS = (",", ";", "\t")  # of tables; beside the last two, commas are decimal
PARTS = {"train": "train", "val": "table", "valid": "table", "validation": "table", "test": "table"}
SAME = {"valid": "val", "validation": "val"}  # two names of one part
PART_NAME = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])")
CHOICES, TABLE = 0.1, 0.2  # shares of the pictures that choices are made by, and that figures are measured on
ALIKE, THUMBNAIL = 0.95, 24  # correlation of thumbnails from which on pictures are near-duplicates, and their side
SPLIT = {"train", "val", "test"}
FEWEST = 3
MOST_NAMED = 5


class Grouped(Protocol):
    """An example: what a list may call it, and the slide or patient that it belongs to."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...


Example = TypeVar("Example", bound=Grouped)


def read_list(
    folder: Path, group: str, stems: Sequence[str], note: Callable[[str], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Which part a list gives each name to, "train" or "table", and the column `group` of each; see `read_parts`."""
    listed, groups = read_parts(folder, group, stems, note)
    return {name: PARTS[part] for name, part in listed.items()}, groups


def read_parts(
    folder: Path, group: str, stems: Sequence[str], note: Callable[[str], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """What a list calls the part of each name, one of PARTS, and the column `group` of each, where there is one.
    stems: of the pictures that are there; what is only there, or only in the list, is said."""
    file = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if file is None:
        return {}, {}
    try:
        rows = rows_of(file)
        if not rows or "name" not in rows[0]:
            raise UserError(f"{file}: a column 'name' is needed, and 'split' or one to group by")
        if "split" not in rows[0] and group not in rows[0]:
            there = ", ".join(filter(None, rows[0]))
            note(f"{file.name} has no column 'split', and is not followed; there are {there}")
            return {}, {}
        names = {stem_of(row["name"]): row for row in rows if row["name"]}
        listed = {
            name: row["split"].strip().lower() for name, row in names.items() if (row.get("split") or "").strip()
        }
    except UserError:  # is a ValueError
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: not a table ({error})") from None
    if strange := {part for part in listed.values() if part not in PARTS}:
        raise UserError(f"{file}: split '{min(strange)}': train, val or test is needed")
    groups = (
        {name: (row[group] or "").strip() or name for name, row in names.items()}
        if group and group in rows[0]
        else {}
    )
    if lone := sorted({*stems} - names.keys()):
        note(f"{some(lone)} are not in {file.name}")
    if lone := sorted(names.keys() - {*stems}):
        note(f"{file.name}: {some(lone)} are not among those that are read")
    return listed, groups


def rows_of(file: Path) -> list[dict[str, str]]:
    """Of a list with a column "name", whose columns a comma, a semicolon or a tab parts, as Excel's do."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    lines = lines[1:] if lines and lines[0].lower().startswith("sep=") else lines
    tables = (list(csv.DictReader(lines, delimiter=own)) for own in SEPARATORS)
    found = [rows for rows in tables if rows and "name" in rows[0]]
    return found[0] if found else list(csv.DictReader(lines))


def parts_by_name(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Which part, "train", "val" or "test", each of several files is of by its name, or by that of its folder in
    `folder`; {} where not all say it, or two say the same."""
    names = {file: [file.stem, *[file.parent.name] * (file.parent != folder)] for file in files}
    told = {
        file: SAME.get(match[1], match[1])
        for file, own in names.items()
        if (match := next(filter(None, map(PART_NAME.search, map(str.lower, own))), None))
    }
    return told if len(files) > 1 and len({*told.values()}) == len(files) else {}


def parts_by_folder(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Which part each picture is of where all lie, in `folder`, in folders of these names; {} where one does not, or
    where there are not train and another."""
    found = {
        file: {SAME.get(part.lower(), part.lower()) for part in file.relative_to(folder).parts[:-1]} & SPLIT
        for file in files
    }
    told = {file: min(own) for file, own in found.items() if len(own) == 1}
    parts = {*told.values()}
    return told if len(told) == len(files) and "train" in parts and len(parts) > 1 else {}


def parted_by_folders(parts: dict[Path, str]) -> str:
    return f"their folders are called {', '.join(sorted({*parts.values()}))}, and part them where no list does"


def some(names: Sequence[str]) -> str:
    """How many pictures, and what the first are called."""
    return f"{len(names)} pictures ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def group_of(stem: str, group: str, groups: dict[str, str]) -> str:
    """The slide or patient of a file; the file itself where nothing says so."""
    if stem in groups:
        return groups[stem]
    try:
        found = re.search(group, stem) if group and not groups else None
        return (found[1] or stem) if found else stem
    except (re.error, IndexError):
        raise UserError(f"group '{group}': a pattern with one bracket is needed, such as '(.*)_'") from None


def check_group(group: str, groups: dict[str, str], pairs: Sequence[tuple[str, str]]) -> None:
    """UserError for a group that no file has; pairs: (group, stem) of each."""
    if group and not groups and all(own == stem for own, stem in pairs):
        raise UserError(
            f"group '{group}' is in no file's name, nor a column of a list: give a pattern such as '(.*)_'"
        )


def digest(picture: Array) -> str:
    """Tells a picture's numbers from others'."""
    return hashlib.sha256(f"{picture.shape}{picture.dtype}".encode() + picture.tobytes()).hexdigest()[:12]


def split(
    all_examples: Sequence[Example], listed: dict[str, str], folder: Path
) -> tuple[list[Example], list[Example], list[Example]]:
    """(what is learned from, what choices are made by, what is measured on): by the list where there is one, else
    seven tenths, a tenth and a fifth, by a hash of the groups, which stay whole.

    UserError for fewer than three groups.
    """
    examples = [one for one in all_examples if listed.get(one.name) != "table"]
    table = [one for one in all_examples if listed.get(one.name) == "table"]
    groups = sorted({one.group for one in examples}, key=lambda name: hashlib.sha256(name.encode()).digest())
    if both := {one.group for one in table} & {*groups}:
        raise UserError(
            f"{folder}: the list has '{min(both)}' to learn from and to measure on; a group must stay whole"
        )
    chosen = max(1, round(CHOICES * len(groups)))
    measured = 0 if listed else max(1, round(TABLE * len(groups)))
    if len(groups) <= chosen + measured:
        least = FEWEST - (not measured)
        raise UserError(
            f"{folder}: {len(groups)} pictures, or groups of them, to learn from, to choose by and to measure on: "
            f"{least} at least are needed"
        )
    choices = {*groups[:chosen]}
    held_out = {*groups[chosen : chosen + measured]}
    table += [one for one in examples if one.group in held_out]
    training = [one for one in examples if one.group not in choices | held_out]
    return training, [one for one in examples if one.group in choices], table


def note_near_duplicates(
    parts: Sequence[Sequence[Any]], picture_of: Callable[[Any], Array], note: Callable[[str], None]
) -> None:
    """Says of the first MOST_NAMED `near_duplicates` that they are."""
    for one, other in near_duplicates(parts, picture_of)[:MOST_NAMED]:
        note(f"near-duplicates on both sides of the split: {one} and {other}; --group keeps what belongs together")


def near_duplicates(parts: Sequence[Sequence[Any]], picture_of: Callable[[Any], Array]) -> list[tuple[str, str]]:
    """Names of pictures of different parts whose thumbnails correlate above ALIKE: a split that leaks."""
    small = [np.stack([thumbnail(picture_of(one)) for one in part]) if part else None for part in parts]
    found = []
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            if (first := small[i]) is not None and (second := small[j]) is not None:
                alike = np.argwhere(first @ second.T > ALIKE).tolist()
                found += [(parts[i][a].name, parts[j][b].name) for a, b in alike]
    return found


def thumbnail(picture: Array) -> Array:
    """A small grey picture as a vector of mean 0 and length 1."""
    grey = normalised(picture).mean(-1)
    small = np.asarray(Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), float)
    centred = small.reshape(-1) - small.mean()
    vector: Array = centred / max(float(np.linalg.norm(centred)), 1e-9)
    return vector


def unseen(examples: Sequence[Any], listed: dict[str, str], models: Sequence[Any], note: Any) -> list[Any]:
    """Pictures that no model has learned from or was chosen by, known by their digests; where a list says which are
    to measure on, those of them. What is left out is said."""
    seen = {digest for model in models for digest in (*model.config["train"], *model.config["choices"])}
    left = [one for one in examples if one.digest not in seen and listed.get(one.name, "table") == "table"]
    if len(left) < len(examples):
        note(
            f"{len(examples) - len(left)} of {len(examples)} pictures are left out: the models have seen them, "
            "or the list has them to train on"
        )
    if not left:
        raise UserError("the models have seen all of these pictures: give some that were not trained on")
    return left
