"""The pictures that a user names: a file, or a folder of them, without its masks."""

from __future__ import annotations

import re
from pathlib import Path

from inkwash.codecs.picture_files import Array, read_pages
from inkwash.systems.picture_folders import picture_files, slices
from inkwash.systems.segmentation.data import MASK_FOLDERS, SUFFIXES

RESULT = re.compile(r"(.+)-(?:overlay|mask|probability|uncertainty|samples|classes)(-\d+)?")  # what `segment` writes


def is_mask(file: Path, folder: Path) -> bool:
    """Whether a file is no picture to segment: a mask, or a result of an earlier run."""
    if (ours := RESULT.fullmatch(file.stem)) and file.with_name(f"{ours[1]}-uncertainty{ours[2] or ''}.png").exists():
        return True
    inside = {part.lower() for part in file.relative_to(folder).parts[:-1]} & {*MASK_FOLDERS}
    return bool(inside) or file.stem.lower().endswith(SUFFIXES)


def pictures_of(path: Path) -> list[tuple[str, Array]]:
    """All slices of all pictures."""
    return [one for name, file in picture_files(path, "", is_mask) for one in slices(name, read_pages(file))]
