"""Files on disk, each under the SHA-256 of its bytes, with its own ending."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePath
from typing import IO, NamedTuple

from PIL import Image

from inkwash.weights.files import atomic, digest, sync

THUMBNAIL = 256  # the longer side, in pixels
MEDIA = {  # what a browser may be told; all else is a row of bytes, and nothing here can run
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".toml": "text/plain",
    ".cif": "text/plain",
    ".pdb": "text/plain",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".zip": "application/zip",
    ".pdf": "application/pdf",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".glb": "model/gltf-binary",
    ".ply": "model/ply",
    ".stl": "model/stl",
}
BYTES = "application/octet-stream"


class Content(NamedTuple):
    """A file that lies beside its place, whole, and waits for its row: see `Files.staged`."""

    sha256: str
    suffix: str
    bytes: int
    place: Path

    @property
    def media(self) -> str:
        return MEDIA.get(self.suffix, BYTES)


def lay(source: Path, place: Path, link: bool = True) -> None:
    """The file at a second place, where the file system can do that, or a copy of it, whole or not at all."""
    if link:
        with suppress(OSError):
            os.link(source, place)
            return
    with atomic(place) as half:
        shutil.copyfile(source, half)


def suffix_of(name: str) -> str:
    """The ending by which a file is kept, ".csv"; none for one that is long or strange."""
    suffix = PurePath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,10}", suffix) else ""


class Files:
    """A folder of files by content: the same bytes are kept once. Names are hashes, never what a user wrote.

    Who keeps, removes or sweeps does so within the store's write transaction, which makes file and row one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.thumbnails = folder, folder.with_name("thumbnails")
        folder.mkdir(exist_ok=True)

    def path(self, sha256: str, suffix: str) -> Path:
        assert re.fullmatch("[0-9a-f]{64}", sha256) and re.fullmatch(r"(\.[a-z0-9]{1,10})?", suffix)
        return self.folder / sha256[:2] / f"{sha256}{suffix}"

    def small(self, sha256: str) -> Path:
        return self.thumbnails / sha256[:2] / f"{sha256}.webp"

    def size(self, sha256: str, suffix: str) -> int:
        """In bytes; 0 for a file that is not there."""
        path = self.path(sha256, suffix)
        return path.stat().st_size if path.exists() else 0

    @contextmanager
    def staged(self, source: Path | IO[bytes] | bytes, suffix: str, link: bool = False) -> Iterator[Content]:
        """The content of `source` on the disk, synced, for `keep`; what was not kept goes when the block is left.

        link: nobody writes into the file at `source` any more, so that it need not be copied.
        """
        place = self.folder / f".staged-{secrets.token_hex(16)}"
        try:
            if isinstance(source, Path):
                lay(source, place, link)
            else:
                with place.open("xb") as file:
                    shutil.copyfileobj(BytesIO(source) if isinstance(source, bytes) else source, file)
            sync(place)
            yield Content(digest(place), suffix, place.stat().st_size, place)
        finally:
            place.unlink(missing_ok=True)

    def keep(self, content: Content) -> None:
        """Gives staged content its name, and waits until that lies on the disk."""
        path = self.path(content.sha256, content.suffix)
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            content.place.replace(path)
        sync(path.parent)  # also of one that is there: a crash may have come between its name and this
        sync(self.folder)

    def read(self, sha256: str, suffix: str) -> bytes:
        return self.path(sha256, suffix).read_bytes()

    def thumbnail(self, sha256: str) -> bytes | None:
        path = self.small(sha256)
        return path.read_bytes() if path.exists() else None

    def save_thumbnail(self, sha256: str, data: bytes) -> None:
        with atomic(self.small(sha256)) as file:
            file.write_bytes(data)

    def remove(self, sha256: str, suffix: str) -> None:
        self.path(sha256, suffix).unlink(missing_ok=True)
        self.small(sha256).unlink(missing_ok=True)

    def sweep(self, kept: set[str], deleted: Mapping[str, float]) -> list[Path]:
        """What a crash left half written, or half deleted, goes. A whole file that no row names, as when the database
        was lost or is older, moves to `lost+found`; which these are. What is not of this studio's making stays.

        deleted: when the contents that rows say are gone were deleted. One made again since then is not meant.
        """
        for file in self.folder.glob(".staged-*"):
            if re.fullmatch(r"\.staged-[0-9a-f]{32}", file.name) and file.is_file():
                file.unlink()
        lost = self.folder.with_name("lost+found")
        moved = []
        for folder in (self.folder, self.thumbnails):
            # with a dot and numbers it is half a file, as `atomic` names it
            shape = re.compile(r"(\.)?([0-9a-f]{64})(?(1)\.\d+-\d+)((?:\.[a-z0-9]{1,10})?)")
            for file in list(folder.glob("*/*")):
                name = shape.fullmatch(file.name)
                if not name or file.parent.name != name[2][:2] or file.is_symlink() or not file.is_file():
                    continue
                half, content, suffix = name.groups()
                if folder == self.thumbnails and suffix != ".webp":
                    continue
                if half or (content not in kept and file.stat().st_mtime <= deleted.get(content, 0.0)):
                    file.unlink()
                elif content not in kept and (folder == self.thumbnails or digest(file) == content):
                    with suppress(OSError):  # such as a lost+found that is the system's: then it stays where it is
                        lost.mkdir(exist_ok=True, mode=0o700)
                        moved.append(file.replace(lost / file.name))
        return moved


def thumbnail(data: bytes) -> bytes:
    """A small WebP of a picture."""
    picture, small = Image.open(BytesIO(data)), BytesIO()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    picture.save(small, format="WEBP", quality=85)
    return small.getvalue()
