"""Files in S3-compatible storage, which servers on many machines share; nothing of it is seen half written."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.studio.errors import StorageUnusable, is_disk_full
from inkwash.studio.files import CONTENT, Content, Files
from inkwash.studio.sqlite import MARK
from inkwash.weights.files import atomic, digest

FILES = "INKWASH_FILES"  # the variable of the environment with the URL of the bucket
LOG = logging.getLogger("inkwash.studio")
UNUSABLE = "the studio's storage cannot be worked with"
CLOCK = "clock"  # an object that is written to see that this can be done, and what time it is there
ARCHIVE = re.compile(r"([0-9a-f]{32})\.zip")  # of a model, or of a training's checkpoint
ARCHIVES = ("models", "runs")
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[\w-][\w.-]*)*)/?", re.ASCII)
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 15  # seconds that one waits until it is reached, and until it says more
TRIES = 2
RATE = (
    10**6
)  # bytes a second at least that are written: while it is waited for leave to write, no time-out of theirs runs
CALLS = 8  # at once, of a process: however slow it is, others have threads and connections to the database left
TURN = 2.0  # seconds that one waits for one of these
BLOCK = 2**22  # bytes that are read at once
SIGNED = 300  # seconds in which a download must begin whose address is signed


class Bucket(Files):
    """Files by content, as in a folder, and models as archives, below `url`, s3://BUCKET/PREFIX. Who may write there
    and where it is say the variables of Amazon's own tools (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on).

    folder      where files are staged
    failure     why it could not be worked with when that was last tried
    is_claimed  whether it was found to be the database's
    """

    is_here = False  # what is staged is put elsewhere, and nobody waits for this disk

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(folder)
        self.url, self.root = url, parse(url)
        require("--files", "s3fs")
        from s3fs import S3FileSystem

        limits = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT, "signature_version": "s3v4"}
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        self.storage = S3FileSystem(config_kwargs={**limits, "retries": {"total_max_attempts": 1}}, **options)
        self.storage.retries = TRIES  # of its own, which would be times those of the library below it
        self.calls = threading.BoundedSemaphore(CALLS)
        self.failure: str | None = None
        self.is_claimed = False

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """StorageUnusable in place of what the storage says, but for an object that is not there, or is already."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not self.calls.acquire(timeout=TURN):
            raise StorageUnusable("the studio's storage is slow, and too many wait for it already")
        try:
            try:
                yield
            except FileNotFoundError:
                if self.is_claimed and not self._call("exists", MARK):  # nothing is
                    raise OSError("the bucket is gone, or all that was in it") from None
                raise
        except (FileNotFoundError, FileExistsError):
            raise
        except (OSError, BotoCoreError, ClientError, ValueError) as error:  # the last of an endpoint that is none
            if is_disk_full(error):  # this machine's
                raise
            if self.failure is None:  # where it is, users are not told
                LOG.warning("the storage %s cannot be worked with: %s", self.url, one_line(error))
            self.failure = one_line(error)
            raise StorageUnusable(UNUSABLE) from None
        finally:
            self.calls.release()
        self.failure = None

    def check(self) -> None:
        """StorageUnusable if it still cannot be read, or written."""
        if (failure := self.failure) is not None and not (self.has(MARK) and self.now()):
            self.failure = failure
            raise StorageUnusable(UNUSABLE)

    def key(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _call(self, verb: str, name: str, *arguments: Any, size: int = 0, **options: Any) -> Any:
        """What the storage says of an object, within a time: not each of its own waits has a bound."""
        return getattr(self.storage, verb)(self.key(name), *arguments, timeout=time_limit(size), **options)

    def has(self, name: str) -> bool:
        with self._checked():
            return bool(self._call("exists", name))

    def put(self, name: str, source: Path | bytes, mode: str = "overwrite") -> None:
        """FileNotFoundError for a file that is not there."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with self._checked():
            try:
                if isinstance(source, bytes):
                    self._call("pipe_file", name, source, size=size, mode=mode)
                else:
                    self.storage.put_file(str(source), self.key(name), timeout=time_limit(size))
            except FileNotFoundError as error:  # no such bucket
                raise OSError(*error.args) from None

    def get(self, name: str, target: Path) -> None:
        """FileNotFoundError for an object that is not there."""
        with atomic(target) as file, self._checked():
            self.storage.get_file(self.key(name), str(file))

    def remove_object(self, name: str) -> None:
        """Now, or, if the storage cannot be worked with, when it is swept: others wait for who removes."""
        if self.failure is None:
            with suppress(FileNotFoundError, StorageUnusable), self._checked():
                self._call("rm_file", name)

    # files by content

    def name(self, sha256: str, suffix: str) -> str:
        assert CONTENT.fullmatch(f"{sha256}{suffix}")
        return f"files/{sha256[:2]}/{sha256}{suffix}"

    def thumbnail_name(self, sha256: str) -> str:
        return f"thumbnails/{sha256[:2]}/{sha256}.webp"

    @contextmanager
    def stage(self, source: Path | IO[bytes] | bytes, suffix: str, link: bool = False) -> Iterator[Content]:
        """The content of `source`, in the storage before any row names it: a crash leaves what `sweep` removes."""
        with super().stage(source, suffix, link) as content:
            self.put(self.name(content.sha256, suffix), content.path)
            yield content

    def commit(self, content: Content) -> None:
        """Who removes is shut out now; whoever had removed the same content meanwhile has it put again."""
        if not self.has(name := self.name(content.sha256, content.suffix)):
            self.put(name, content.path)

    def read(self, sha256: str, suffix: str) -> bytes:
        with self._checked():
            return bytes(self._call("cat_file", self.name(sha256, suffix)))

    def blocks(self, sha256: str, suffix: str, size: int) -> Iterator[bytes]:
        for start in range(0, size, BLOCK):
            with self._checked():
                block = self._call("cat_file", self.name(sha256, suffix), start=start, end=min(start + BLOCK, size))
            yield block

    def address(self, endpoint: str, sha256: str, suffix: str, media: str, disposition: str) -> str:
        """At which the file can be fetched for a while, from storage that is reached at `endpoint`."""
        from s3fs import S3FileSystem

        storage = S3FileSystem(endpoint_url=endpoint, config_kwargs={"signature_version": "s3v4"})
        said = {"ResponseContentType": media, "ResponseContentDisposition": disposition}
        return str(storage.sign(self.key(self.name(sha256, suffix)), expiration=SIGNED, **said))

    def fetch(self, sha256: str, suffix: str, target: Path) -> None:
        self.get(self.name(sha256, suffix), target)
        if digest(target) != sha256:
            target.unlink()
            raise StorageUnusable(f"the studio's storage has another content under the name {sha256[:16]}...")

    def thumbnail(self, sha256: str) -> bytes | None:
        with suppress(FileNotFoundError), self._checked():
            return bytes(self._call("cat_file", self.thumbnail_name(sha256)))
        return None

    def save_thumbnail(self, sha256: str, data: bytes) -> None:
        self.put(self.thumbnail_name(sha256), data)

    def remove(self, sha256: str, suffix: str) -> None:
        self.remove_object(self.name(sha256, suffix))
        self.remove_object(self.thumbnail_name(sha256))

    # models

    def tag(self, name: str) -> str | None:
        """By which what was put under a name is told from what is put there later; None if nothing was."""
        with suppress(FileNotFoundError), self._checked():
            return str(self._call("info", name)["ETag"])
        return None

    def put_folder(self, name: str, folder: Path) -> None:
        """A folder as an archive, which is not compressed: weights hardly are smaller for it. FileNotFoundError for
        one that is not there."""
        if not folder.is_dir():
            raise FileNotFoundError(folder)
        archive = self.folder / f".staged-{secrets.token_hex(16)}"
        try:
            with zipfile.ZipFile(archive, "x") as packed:
                for path in folder.rglob("*"):
                    packed.write(path, path.relative_to(folder))
            self.put(name, archive)
        finally:
            archive.unlink(missing_ok=True)

    def get_folder(self, name: str, folder: Path) -> None:
        """FileNotFoundError for an archive that is not there; a folder that is there stays."""
        with TemporaryDirectory(prefix=".copy-", dir=folder.parent) as scratch:
            self.get(name, archive := Path(scratch) / "archive.zip")
            with zipfile.ZipFile(archive) as packed:  # which checks each file's sum
                packed.extractall(whole := Path(scratch) / "whole")
            with suppress(OSError):  # another was faster
                whole.rename(folder)

    # whose it is, and what nobody's is

    def claim(self, id: str, has_files: bool) -> None:
        """UserError for storage that cannot be used, or is another database's; what is empty is marked as this one's.

        has_files: whether the database names some, or others that have it open have a bucket.
        """
        try:
            if not self.has(MARK):
                self._check_empty(has_files)
                with suppress(FileExistsError):  # two begin in the same moment
                    self.put(MARK, id.encode(), mode="create")
            self.put(CLOCK, b"")
            with self._checked():
                found = self._call("cat_file", MARK).decode(errors="replace").strip()
        except (StorageUnusable, FileNotFoundError) as error:
            raise UserError(
                f"--files {self.url}: {self.failure or error}; see that the bucket is there and may be written, by "
                "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        self.is_claimed = found == id
        if not self.is_claimed:
            raise UserError(
                f"--files {self.url}: it has the files of another database; give that with --store, or another prefix"
            )

    def _check_empty(self, has_files: bool) -> None:
        with self._checked():
            if not self.storage.exists(self.root.partition("/")[0]):  # some make one when something is put there
                raise OSError("there is no such bucket")
        if has_files:
            raise UserError(f"its files are not in {self.url}; give their address with --files, or their --home")
        if any(self.old("files", None)) or any(self.old("models", None)):
            raise UserError(f"--files {self.url}: it has files that are not of this database; give another prefix")

    def now(self) -> Any:
        """What time it is by the clock that objects are dated by."""
        self.put(CLOCK, b"")
        with self._checked():
            return self._call("info", CLOCK)["LastModified"]

    def old(self, folder: str, before: Any, digit: str = "") -> Iterator[tuple[str, str]]:
        """Ids (a SHA-256, a model's) and names of the studio's own objects there that are older, and begin with this
        digit; None: of all."""
        with self._checked():
            try:
                found = self._call("find", folder, prefix=digit, detail=True)
            except FileNotFoundError:
                found = {}
        for path, facts in found.items():
            name, last = path.removeprefix(f"{self.root}/"), path.rpartition("/")[2]
            shape, place = (ARCHIVE, folder) if folder in ARCHIVES else (CONTENT, f"{folder}/{last[:2]}")
            match = shape.fullmatch(last)
            if match and name == f"{place}/{last}" and (before is None or facts["LastModified"] < before):
                yield match[1], name


def parse(url: str) -> str:
    """BUCKET/PREFIX. UserError, which repeats no password, for what is no address of a bucket."""
    if "@" in url:
        raise UserError("--files: keys stand in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, never in the address")
    found = ADDRESS.fullmatch(url)
    if found is None:
        raise UserError(
            f"--files {url[:80]}: s3://BUCKET/PREFIX is needed; without it files are in a folder, --home, which "
            "several servers may share"
        )
    return f"{found[1]}{found[2]}"


def time_limit(size: int) -> float:
    """Seconds in which so many bytes are written, or something small is asked."""
    return TRIES * (CONNECT_TIMEOUT + READ_TIMEOUT) + size / RATE


def one_line(error: Exception) -> str:
    """What the storage says, without what its address may have of a password."""
    said = " ".join(str(error).split()) or ("it takes too long" if isinstance(error, TimeoutError) else repr(error))
    return re.sub(r"//[^/@\s]*@", "//", said)[:300]
