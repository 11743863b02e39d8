"""The pictures that a user names: a file, or a folder of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from inkwash.errors import UserError
from inkwash.systems.segmentation.data import MASK_FOLDERS, SUFFIXES, is_hidden
from inkwash.systems.segmentation.formats import Array, is_picture, read_pages
from inkwash.weights.files import files_below

RESULT = re.compile(r"(.+)-(?:overlay|mask|probability|uncertainty|samples|classes)(-\d+)?")  # what `segment` writes


def picture_files(path: Path, name: str = "") -> list[tuple[str, Path]]:
    """(name, file) of each picture; of a folder, whatever lies below it but for masks and results. name: of a
    single file, as its owner calls it.

    UserError for none, and for two of one name, whose results would have one, too.
    """
    if path.is_file():
        return [(Path(name or path.name).stem, path)]
    files = [file for file in files_below(path) if is_picture(file) and file.is_file() and not is_mask(file, path)]
    if not files:
        raise UserError(f"{path}: no pictures there")
    names = [file.stem for file in files]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        same = [file.relative_to(path).as_posix() for file in files if file.stem == twice[0]]
        raise UserError(f"two pictures are called {twice[0]}: {same[0]} and {same[1]}; rename one")
    return list(zip(names, files, strict=True))


def is_mask(file: Path, folder: Path) -> bool:
    """Whether a file is no picture to segment: a mask, a result of an earlier run, or hidden."""
    if (ours := RESULT.fullmatch(file.stem)) and file.with_name(f"{ours[1]}-uncertainty{ours[2] or ''}.png").exists():
        return True
    inside = {part.lower() for part in file.relative_to(folder).parts[:-1]} & {*MASK_FOLDERS}
    return bool(inside) or is_hidden(file, folder) or file.stem.lower().endswith(SUFFIXES)


def slices(name: str, pages: list[Array]) -> Iterator[tuple[str, Array]]:
    """Each slice of a picture with its name."""
    for i, page in enumerate(pages):
        yield (name if len(pages) == 1 else f"{name}-{i + 1}"), page


def pictures_of(path: Path) -> list[tuple[str, Array]]:
    """All slices of all pictures."""
    return [one for name, file in picture_files(path) for one in slices(name, read_pages(file))]
