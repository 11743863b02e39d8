"""Pictures on disk, each under the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from inkwash.weights.files import atomic, digest, sync

THUMBNAIL = 256  # the longer side, in pixels


class Files:
    """A folder of pictures by content: the same bytes are kept once. Names are hashes, never what a user wrote.

    Who saves, removes or sweeps does so within the store's write transaction, which makes file and row one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.thumbnails = folder, folder.with_name("thumbnails")
        folder.mkdir(exist_ok=True)

    def path(self, content: str) -> Path:
        assert re.fullmatch("[0-9a-f]{64}", content)
        return self.folder / content[:2] / f"{content}.png"

    def small(self, content: str) -> Path:
        return self.thumbnails / content[:2] / f"{content}.webp"

    def save(self, data: bytes) -> str:
        """Writes the bytes and waits until they, and the names that lead to them, lie on the disk; their SHA-256."""
        content = hashlib.sha256(data).hexdigest()
        path = self.path(content)
        if path.exists():
            sync(path.parent)  # a crash may have come between its name and this
        else:
            with atomic(path, durable=True) as file:
                file.write_bytes(data)
        sync(self.folder)
        return content

    def read(self, content: str) -> bytes:
        return self.path(content).read_bytes()

    @staticmethod
    def opened(data: bytes) -> Image.Image:
        return Image.open(BytesIO(data))

    def thumbnail(self, content: str) -> bytes | None:
        path = self.small(content)
        return path.read_bytes() if path.exists() else None

    def save_thumbnail(self, content: str, data: bytes) -> None:
        with atomic(self.small(content)) as file:
            file.write_bytes(data)

    def remove(self, content: str) -> None:
        self.path(content).unlink(missing_ok=True)
        self.small(content).unlink(missing_ok=True)

    def sweep(self, kept: set[str], deleted: Mapping[str, float]) -> list[Path]:
        """What a crash left half written, or half deleted, goes. A whole file that no row names, as when the database
        was lost or is older, moves to `lost+found`; which these are. What is not of this studio's making stays.

        deleted: when the contents that rows say are gone were deleted. One made again since then is not meant.
        """
        lost = self.folder.with_name("lost+found")
        moved = []
        for folder, suffix in ((self.folder, ".png"), (self.thumbnails, ".webp")):
            shape = re.compile(rf"(\.)?([0-9a-f]{{64}})(?(1)\.\d+-\d+){suffix}")  # with a dot, as `atomic` names it
            for file in list(folder.glob("*/*")):
                name = shape.fullmatch(file.name)
                if not name or file.parent.name != name[2][:2] or file.is_symlink() or not file.is_file():
                    continue
                half, content = name.groups()
                if half or (content not in kept and file.stat().st_mtime <= deleted.get(content, 0.0)):
                    file.unlink()
                elif content not in kept and (suffix == ".webp" or digest(file) == content):
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
