"""The pictures that a user names: a file, or a folder of them, without its masks."""

from __future__ import annotations

from pathlib import Path

from inkwash.codecs.picture_files import Array, read_pages
from inkwash.systems.picture_folders import picture_files, slices
from inkwash.systems.segmentation.data import MASK_FOLDERS, SUFFIXES


def is_mask(file: Path, folder: Path) -> bool:
    inside = {part.lower() for part in file.relative_to(folder).parts[:-1]} & {*MASK_FOLDERS}
    return bool(inside) or file.stem.lower().endswith(SUFFIXES)


def pictures_of(path: Path) -> list[tuple[str, Array]]:
    """All slices of all pictures."""
    return [one for name, file in picture_files(path, "", is_mask) for one in slices(name, read_pages(file))]
