"""Files on disk, each under the SHA-256 of its bytes, with its own ending."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import count
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

from PIL import Image

from inkwash.weights.files import atomic, digest, sync

THUMBNAIL = 256  # the longer side, in pixels
SVG = "image/svg+xml"
MEDIA = {  # what a browser may be told; all else is a row of bytes, and nothing here can run
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": SVG,
    ".ico": "image/x-icon",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".toml": "text/plain",
    ".cif": "chemical/x-cif",
    ".pdb": "chemical/x-pdb",
    ".extxyz": "chemical/x-xyz",
    ".fasta": "text/x-fasta",
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
BINARY = "application/octet-stream"
WITH_RECIPE = {"image/png", "image/webp", "image/gif", "image/x-icon", SVG}  # those of which it can be taken out


class Content(NamedTuple):
    """A file that lies beside its place, whole, and waits for its row: see `Files.stage`."""

    sha256: str
    suffix: str
    bytes: int
    path: Path

    @property
    def media(self) -> str:
        return MEDIA.get(self.suffix, BINARY)


def link_or_copy(source: Path, path: Path, link: bool = True) -> None:
    """The file at a second place, where the file system can do that, or a copy of it, whole or not at all."""
    if link:
        with suppress(OSError):
            os.link(source, path)
            return
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)


def link_folder(folder: Path, target: Path) -> None:
    """The files of a folder at a second place, on the disk, whole or not at all: who goes on with them writes anew,
    never into them."""
    with TemporaryDirectory(prefix=".move-", dir=target.parent) as scratch:
        copy = Path(scratch) / target.name
        shutil.copytree(folder, copy, copy_function=lambda one, other: link_or_copy(Path(one), Path(other)))
        for path in (copy, *copy.rglob("*")):
            sync(path)
        copy.replace(target)


def suffix_of(name: str) -> str:
    """The ending by which a file is kept, ".csv"; none for one that is long or strange."""
    suffix = PurePath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,10}", suffix) else ""


CONTENT = re.compile(r"([0-9a-f]{64})((?:\.[a-z0-9]{1,10})?)")
HALF = re.compile(r"\.([0-9a-f]{64})\.\d+-\d+(?:\.[a-z0-9]{1,10})?")  # as `atomic` names what it has not written yet
STAGED = re.compile(r"\.staged-[0-9a-f]{32}|\.\.staged-[0-9a-f]{32}\.\d+-\d+")


CUT_OFF = re.compile(  # what a crash left of a database, of access by this machine's programs, of a folder's copy
    r"\.studio\.\d+-\d+\.db(-journal|-wal|-shm)?|\.local\.\d+-\d+\.json|\.(copy|move|recover)-[a-z0-9_]{8}"
)


def named_by(shape: re.Pattern[str], folder: Path) -> Iterator[tuple[re.Match[str], Path]]:
    """The files of this shape that lie where their SHA-256 says; what else is in the folder is somebody's."""
    for file in folder.glob("[0-9a-f][0-9a-f]/*"):
        name = shape.fullmatch(file.name)
        is_link = file.is_symlink() or file.parent.is_symlink()
        if name and name[1][:2] == file.parent.name and not is_link and file.is_file():
            yield name, file


def contents(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """The files in it by content: SHA-256, suffix and path."""
    for name, file in named_by(CONTENT, folder):
        yield name[1], name[2], file


def models_in(folder: Path) -> Iterator[Path]:
    """The folders of models in it."""
    for model in folder.glob("*/system.json"):
        if not model.parent.is_symlink():
            yield model.parent


def set_aside(path: Path, lost: Path, name: str = "") -> Path:
    """Moves a file or a folder to `lost`, under a name that is free there; where it is now."""
    lost.mkdir(exist_ok=True, mode=0o700)
    name = name or path.name
    places = (lost / (name if i == 1 else f"{Path(name).stem}-{i}{Path(name).suffix}") for i in count(1))
    place = next(place for place in places if not os.path.lexists(place))
    move(path, place)
    return place


def move(source: Path, target: Path) -> None:
    """Moves a file or a folder, whole or not at all, to another file system, too: a studio's folder may be a link."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with TemporaryDirectory(prefix=".move-", dir=target.parent) as scratch:
            copy = Path(scratch) / target.name
            if source.is_dir():
                shutil.copytree(source, copy, symlinks=True)
            else:
                shutil.copy2(source, copy)
            for path in (copy, *copy.rglob("*")):
                sync(path)
            copy.replace(target)
        remove(source)


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_cut_off(home: Path) -> None:
    """What a crash left half written in the folder of a studio, or a backup, that nobody else writes to now."""
    for folder in (home, home / "models", home / "runs"):
        for path in list(folder.glob(".*")):
            if CUT_OFF.fullmatch(path.name):
                remove(path)
    for folder in (home / "files", home / "thumbnails"):
        for _, file in list(named_by(HALF, folder)):
            file.unlink()


def tighten(*paths: Path) -> None:
    """Takes from others what they may do with these files and folders of the studio's."""
    for path in paths:
        with suppress(OSError):  # it has just gone, or is another's
            mode = path.lstat().st_mode
            if os.name != "nt" and mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(mode & 0o700)


class Files:
    """A folder of files by content: the same bytes are kept once. Names are hashes, never what a user wrote.

    Who keeps, removes or sweeps does so within the store's write transaction, which makes file and row one.

    is_here  whether what is staged is what will be kept
    """

    is_here = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.thumbnails = folder, folder.with_name("thumbnails")
        folder.mkdir(exist_ok=True, mode=0o700)

    def path(self, sha256: str, suffix: str) -> Path:
        assert re.fullmatch("[0-9a-f]{64}", sha256) and re.fullmatch(r"(\.[a-z0-9]{1,10})?", suffix)
        return self.folder / sha256[:2] / f"{sha256}{suffix}"

    def thumbnail_path(self, sha256: str) -> Path:
        return self.thumbnails / sha256[:2] / f"{sha256}.webp"

    def size(self, sha256: str, suffix: str) -> int:
        """In bytes; 0 for a file that is not there."""
        path = self.path(sha256, suffix)
        return path.stat().st_size if path.exists() else 0

    @contextmanager
    def stage(self, source: Path | IO[bytes] | bytes, suffix: str, link: bool = False) -> Iterator[Content]:
        """The content of `source` on the disk, for `commit`; what was not kept goes when the block is left.

        link: nobody writes into the file at `source` any more, so that it need not be copied.
        """
        path = self.folder / f".staged-{secrets.token_hex(16)}"
        try:
            if isinstance(source, Path):
                link_or_copy(source, path, link)
            else:
                with path.open("xb") as file:
                    shutil.copyfileobj(BytesIO(source) if isinstance(source, bytes) else source, file)
            if self.is_here:
                sync(path)
            yield Content(digest(path), suffix, path.stat().st_size, path)
        finally:
            path.unlink(missing_ok=True)

    def commit(self, content: Content) -> None:
        """Gives staged content its name, and waits until that lies on the disk."""
        path = self.path(content.sha256, content.suffix)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        if not path.is_file():
            content.path.replace(path)
        sync(path.parent)  # also of one that is there: a crash may have come between its name and this
        sync(self.folder)

    def read(self, sha256: str, suffix: str) -> bytes:
        return self.path(sha256, suffix).read_bytes()

    def fetch(self, sha256: str, suffix: str, target: Path) -> None:
        """The file at a place of this machine. FileNotFoundError for one that is not there."""
        link_or_copy(self.path(sha256, suffix), target)

    def thumbnail(self, sha256: str) -> bytes | None:
        path = self.thumbnail_path(sha256)
        return path.read_bytes() if path.exists() else None

    def save_thumbnail(self, sha256: str, data: bytes) -> None:
        with atomic(self.thumbnail_path(sha256)) as file:
            file.write_bytes(data)

    def remove(self, sha256: str, suffix: str) -> None:
        self.path(sha256, suffix).unlink(missing_ok=True)
        self.thumbnail_path(sha256).unlink(missing_ok=True)

    def sweep(self, referenced: set[str], deleted: Mapping[str, float]) -> list[Path]:
        """What a crash left half written, or half deleted, goes. Whole files that no row names move to `lost+found`;
        which these are. What is not of this studio's making stays.

        deleted: when the contents that rows say are gone were deleted. One made again since then is not meant.
        """
        remove_cut_off(self.folder.parent)
        for file in self.folder.glob("*.staged-*"):
            if STAGED.fullmatch(file.name) and not file.is_symlink() and file.is_file():
                file.unlink()
        moved = []
        for folder in (self.folder, self.thumbnails):
            for content, _, file in list(contents(folder)):
                if content in referenced:
                    continue
                with suppress(OSError):  # one that others may not read, a lost+found that is the system's: it stays
                    if file.stat().st_mtime <= deleted.get(content, 0.0):
                        file.unlink()
                    elif folder == self.folder and digest(file) == content:
                        moved.append(set_aside(file, folder.with_name("lost+found")))
        return moved


def thumbnail(data: bytes) -> bytes:
    """A small WebP of a picture."""
    picture, file = Image.open(BytesIO(data)), BytesIO()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    picture.save(file, format="WEBP", quality=85)
    return file.getvalue()
