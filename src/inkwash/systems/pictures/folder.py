"""Pictures of one's own, from a folder, to learn from."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.pictures.data import load_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def read_folder(folder: Path, size: int, monitor: Monitor = CONSOLE) -> np.ndarray:
    """All pictures below a folder, cut to a centred square and resized: uint8 (N, size, size, 3), on white.

    What cannot be read is skipped and named. Raises UserError for a folder that is missing or has none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures")
    pictures = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            picture = load_image(path).convert("RGBA")
        except UserError as error:
            monitor.tell(Note(f"skipped {error}"))
            continue
        white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        pictures.append(np.asarray(ImageOps.fit(white, (size, size), Image.Resampling.LANCZOS)))
    if not pictures:
        raise UserError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    return np.stack(pictures)


def split_by_content(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the pictures to learn from, and of those held out: every 20th by the order of the SHA-256 of
    their pixels, whatever their files are called, with all its copies. Of fewer than 200 different ones none."""
    hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures]
    different, which = np.unique(hashes, return_inverse=True)
    held_out = (which % 20 == 0) & (len(different) >= 200)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
