"""Pinned npm packages, of which data sets are built: fetched, verified and read."""

import importlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inkwash.errors import UserError
from inkwash.weights.files import digest

Progress = Callable[[int, int, str], None]  # pictures done, pictures in all, style


class Package(NamedTuple):
    """A pinned npm package."""

    name: str
    version: str
    sha256: str  # of its tarball
    licence: str
    credit: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def tarball(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def fetch(package: Package, cache: Path) -> Path:
    """The tarball of `package` in `cache`, fetched with `npm pack` when it is not there, and verified."""
    path = cache / package.tarball
    if not path.exists():
        npm = shutil.which("npm")  # the full name: on Windows it is npm.cmd
        if npm is None:
            raise UserError("the packages are fetched with npm, which is not installed: install Node.js")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [npm, "pack", str(package), "--silent", "--pack-destination", folder]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except subprocess.CalledProcessError as error:
                reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise UserError(f"npm could not fetch {package} ({reason}): check the network") from None
            os.replace(Path(folder) / package.tarball, path)
    if digest(path) != package.sha256:
        raise UserError(f"{path} is not the pinned {package} (SHA-256 differs): delete it and run again")
    return path


def members(tarball: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an npm tarball, without the folder they all lie in."""
    with tarfile.open(tarball) as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                yield member.name.removeprefix("package/"), file.read()


def read_json(tarball: Path, *names: str) -> list[Any]:
    contents = {name: data for name, data in members(tarball) if name in names}
    return [json.loads(contents[name]) for name in names]


def require(module: str, data: str) -> None:
    """UserError when `module`, which building or reading the `data` needs, is not installed."""
    try:
        importlib.import_module(module)
    except ImportError:
        raise UserError(f"the {data} data need {module}: pip install 'inkwash[data]'") from None


def read_manifest(out: Path, new: dict[str, Any]) -> dict[str, Any]:
    """The manifest of earlier work on the same pins, or the new one."""
    try:
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        return dict(manifest) if manifest["pins"] == new["pins"] else new
    except (OSError, ValueError, KeyError):
        return new


def is_finished(out: Path, manifest: dict[str, Any], style: str) -> bool:
    """Whether the file of a style is the one that the manifest describes."""
    path = out / f"{style}.parquet"
    return style in manifest["styles"] and path.exists() and digest(path) == manifest["styles"][style]["sha256"]


def describe_style(out: Path, style: str, package: Package, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a manifest says of a style, whose rows lie in its file."""
    return {
        "file": f"{style}.parquet",
        "sha256": digest(out / f"{style}.parquet"),
        "source": str(package),
        "source_sha256": package.sha256,
        "licence": package.licence,
        "pictures": len(rows),
        "splits": Counter(row["split"] for row in rows),
    }
