"""Weights that stay in their file: the system reads a page of it when it is touched, and may take it away again."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from inkwash.errors import UserError
from inkwash.weights.files import check_weights
from inkwash.weights.headers import read_header

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
MAPPINGS: WeakKeyDictionary[mmap.mmap, int] = WeakKeyDictionary()  # those that some tensor still needs, by address


def map_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Each tensor is a view of the file, of which nothing is read
    before it is used; what is written into one never reaches the file.

    UserError as of `load_tensors`, and for a type of numbers that torch does not have.
    """
    import torch

    path = Path(path)
    check_weights(path)
    header = read_header(path)
    entries = header.tensors.entries  # type: ignore[attr-defined]  # of safetensors
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    MAPPINGS[view] = torch.frombuffer(view, dtype=torch.uint8).data_ptr()
    tensors = {}
    for name, entry in entries.items():
        if entry["dtype"] not in DTYPES:
            raise UserError(f"{path}: {name} has numbers of the type {entry['dtype']}, which is not read")
        dtype, offset = getattr(torch, DTYPES[entry["dtype"]]), start + entry["data_offsets"][0]
        if count := prod(entry["shape"]):
            data = view if offset % dtype.itemsize == 0 else bytearray(view[offset : offset + count * dtype.itemsize])
            flat = torch.frombuffer(data, dtype=dtype, count=count, offset=offset if data is view else 0)
        tensors[name] = (flat if count else torch.empty(0, dtype=dtype)).reshape(entry["shape"])
    return tensors, header.metadata


def release(tensor: Tensor) -> None:
    """Gives back the memory of the pages that are a tensor's alone, if it is a view of a file; they are read again
    when it is used. What was written into them is lost."""
    if tensor.device.type != "cpu" or not hasattr(mmap, "MADV_DONTNEED"):  # Windows takes pages away by itself
        return
    storage = tensor.untyped_storage()
    for view, address in list(MAPPINGS.items()):
        start = storage.data_ptr() - address
        if start >= 0 and start + storage.nbytes() <= len(view):
            first, last = -(-start // mmap.PAGESIZE), (start + storage.nbytes()) // mmap.PAGESIZE
            if first < last:
                view.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)


def trim() -> None:
    """Gives back what was freed: glibc keeps it where something in use lies above it."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library gives it back by itself
            ctypes.CDLL(None).malloc_trim(0)
