"""Reading and writing safetensors: the one place where weights enter and leave."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from inkwash.errors import UserError

if sys.platform != "win32":
    import fcntl

WEIGHTS = "model.safetensors"  # of a model of one network

if TYPE_CHECKING:  # to draw with the ONNX runtime, torch is not needed
    from torch import Tensor, nn


@contextmanager
def atomic(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` to write into; it becomes `path` only if the block succeeds.

    durable: only when it would survive a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, for writers that choose a format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{get_ident()}{path.suffix}")
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class Locked(UserError):
    """Another process works there."""


@contextmanager
def lock(file: Path, held: str) -> Iterator[None]:
    """Holds a lock on `file`, which the system lets go when the process ends, however it ends. Locked, with the
    text `held`, where another process, or another thread, has it."""
    if os.path.lexists(file) and (file.is_symlink() or not file.is_file() or file.stat().st_size):  # ours is empty
        raise UserError(f"{file}: this file is not inkwash's, which would take it away; choose another folder")
    try:
        opened = file.open("a+b")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; see whose it is, or choose another folder") from None
    with opened:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(opened.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(opened.fileno()), os.stat(file)):  # who had it took the file away
                raise FileNotFoundError(file)
        except OSError:
            raise Locked(held) from None
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows lets no open file go
                file.unlink(missing_ok=True)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their paths. Links to folders are followed, but to none twice, and
    to none that holds this one."""
    found, seen = list[Path](), set(map(str, Path(os.path.realpath(folder)).parents))
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(parent, name) for name in names]
    return sorted(found)


def check_ours(path: Path, mark: str) -> None:
    """UserError for a file that is there and does not hold `mark`, as what we write does: it is not replaced."""
    ours = path.is_file() and (not path.stat().st_size or mark.encode() in path.read_bytes())
    if os.path.lexists(path) and not ours:  # a link to nowhere is somebody's, too
        raise UserError(
            f"{path}: this file is not inkwash's and would be lost; move it away, or choose another folder"
        )


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, lie on the disk."""
    if path.is_dir() and os.name == "nt":  # there a folder cannot be opened, and its names are written with the file
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        if sys.platform == "darwin":  # where fsync leaves it to the drive
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_json(path: Path, content: Any) -> None:
    with atomic(path) as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_tensors(path: str | Path, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, all or those of these names, and the metadata of a safetensors file.

    Nothing but safetensors is opened: a missing, truncated or foreign file is a UserError.
    """
    return _open(path, "pt", names)


def load_names(path: str | Path) -> set[str]:
    """The names of the tensors of a safetensors file; its head is read alone."""
    with _opened(path, "np") as file:
        return set(file.keys())


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as NumPy arrays, floating ones in float32, without torch."""
    arrays: dict[str, np.ndarray] = _open(path, "np")[0]
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def check_weights(path: str | Path) -> None:
    """UserError for what is no whole safetensors file; its head is read alone."""
    load_names(path)


def _open(
    path: str | Path, framework: str, names: Collection[str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    with _opened(path, framework) as file:
        tensors = {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}
        return tensors, file.metadata() or {}


@contextmanager
def _opened(path: str | Path, framework: str) -> Iterator[Any]:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        # Only now: the length of a header, which comes first in a sound file, may look like either mark.
        with path.open("rb") as file:
            magic = file.read(4)
        if magic.startswith((b"PK\x03\x04", b"\x80")):
            raise UserError(
                f"{path}: only safetensors are loaded: a pickle can run code; "
                "convert it with safetensors.torch.save_file where you trust it"
            ) from None
        raise UserError(f"{path}: not a whole safetensors file ({error}); fetch or save it again") from None


def save_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    exact: Collection[str] = (),
) -> None:
    """Writes a safetensors file, atomically; floating tensors as float16.

    exact: names of tensors that are no weights but say something of data: they stay as they are. So does a tensor
    whose largest value float16 does not have (above 65,504), or has with few digits left (below 0.00006): what took
    days to train is not refused for that.
    """
    import torch
    from safetensors.torch import save_file

    stored = {}
    for name, tensor in tensors.items():
        # A copy each: safetensors refuses tensors that share memory (tied weights).
        value = tensor.detach().cpu()
        if name not in exact and value.is_floating_point() and value.numel():
            float16, largest = torch.finfo(torch.float16), float(value.abs().max())
            if largest == 0 or float16.smallest_normal <= largest <= float16.max:
                value = value.half()
        stored[name] = value.clone(memory_format=torch.contiguous_format)
        numbers = stored[name].float() if "float8" in str(stored[name].dtype) else stored[name]  # torch cannot tell
        if not numbers.isfinite().all():
            raise UserError(f"{path}: '{name}' is not finite as {stored[name].dtype}; nothing was written")
    try:
        with atomic(path) as temporary:
            save_file(stored, temporary, dict(metadata or {}))
    except SafetensorError as error:
        raise UserError(f"cannot write {path} ({error}): make room and run again") from None


def load_into(
    module: nn.Module,
    path: str | Path,
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> dict[str, str]:
    """Fills `module` from a safetensors file, or the shards that its index lists, and returns the metadata; each name
    and shape must agree, after `convert` if there is one."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in weight_files(Path(path)):
        more, metadata = load_tensors(file)
        tensors |= more
    fill(module, convert(tensors) if convert else tensors, str(path))
    return metadata


def weight_files(path: Path) -> list[Path]:
    """The files that hold what is called `path`: itself; those beside it that its index lists, into which diffusers
    and transformers cut what is large; or the same in float16, where that is all there is."""
    for variant in ("", ".fp16"):
        file = path.with_name(f"{path.stem}{variant}{path.suffix}")
        index = path.with_name(f"{path.name}.index{variant}.json")
        if file.is_file():
            return [file]
        if index.is_file():
            try:
                names = set(json.loads(index.read_bytes())["weight_map"].values())
                return [path.with_name(name) for name in sorted(names)]  # `with_name` refuses what lies elsewhere
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reason = f"not the index of a model's files ({error}); fetch or save it again"
                raise UserError(f"{index}: {reason}") from None
    return [path]


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str, assign: bool = False) -> None:
    """Fills `module`, with copies or with the tensors themselves (`assign`); UserError, which begins with `source`,
    unless every name, shape and kind of number agrees."""
    expected = module.state_dict()
    common = expected.keys() & tensors.keys()
    for problem, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unexpected", tensors.keys() - expected.keys()),
        ("has wrong shapes for", {n for n in common if expected[n].shape != tensors[n].shape}),
        # whole numbers are weights that somebody has quantised, and none without their scales
        (
            "has whole numbers for",
            {n for n in common if expected[n].is_floating_point() and not tensors[n].is_floating_point()},
        ),
    ):
        if names:
            first = ", ".join(sorted(names)[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{source} {problem} {first}{more}: it is not of this {type(module).__name__}")
    module.load_state_dict(tensors, assign=assign)
