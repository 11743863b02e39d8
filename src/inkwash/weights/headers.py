"""What a file of weights says of itself in its first bytes: its tensors' names, types and shapes. No weight is read.

Read are safetensors and GGUF. A pickle can run code when it is opened: it is named, and never opened.
"""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from inkwash.errors import UserError

LARGEST = 100_000_000  # bytes of a header: of a safetensors file by the format itself, of a GGUF file by us
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# GGUF's types of tensors by number: name, numbers in a block, bytes of a block
QUANTS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 30: ("BF16", 1, 2),
}  # fmt: skip
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
AGAIN = "fetch it again"


class Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


class Entries(Mapping[str, Tensor]):
    """Tensors as a safetensors header has them: made when they are asked for, as few are of thousands."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        return Tensor(entry["dtype"], tuple(entry["shape"]))

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Header(NamedTuple):
    """size: bytes of the weights; sizes: those of each type."""

    format: str  # "safetensors", "GGUF"
    tensors: Mapping[str, Tensor]
    metadata: dict[str, str]
    size: int
    sizes: dict[str, int]


class Pickle(UserError):
    """A file that only unpickling would read."""


def read_header(path: Path) -> Header:
    """UserError, in one line without the path, for what has no whole header or fewer bytes than its header says."""
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):  # a pipe would keep us waiting
            raise UserError("no regular file")
        with path.open("rb") as file:
            return _read(file, status.st_size)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})") from None


def _read(file: BinaryIO, size: int) -> Header:
    start = file.read(8)
    if not size:
        raise UserError(f"empty: {AGAIN}")
    if start[:4] == b"GGUF":
        file.seek(4)
        return _read_gguf(file, size)
    length = int.from_bytes(start, "little")
    if len(start) == 8 and length <= min(LARGEST, size - 8):
        head = file.read(length)
        if head[:1] == b"{":
            return _read_safetensors(head, size)
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        raise Pickle("a pickle, which can run code: not opened; convert it to safetensors where you trust it")
    if len(start) == 8 and file.seek(8) and file.read(1) == b"{":
        raise UserError(f"a header of {length:,} bytes in a file of {size:,}: half-downloaded or broken, {AGAIN}")
    raise UserError("neither safetensors nor GGUF")


def _read_safetensors(head: bytes, size: int) -> Header:
    offset = 8 + len(head)
    try:
        entries: dict[str, Any] = json.loads(head)
        metadata = {str(key): str(value) for key, value in (entries.pop("__metadata__", None) or {}).items()}
        sizes, end = dict[str, int](), 0
        for entry in entries.values():  # of large files there are thousands: nothing here that is not needed
            dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if len(shape) > 8 or sum(shape) < 0:  # the sum refuses texts, of which a product would fill the memory
                raise ValueError
            if not 0 <= first <= last or prod(shape) * BITS.get(dtype, 0) > 8 * (last - first):
                raise ValueError
            sizes[dtype] = sizes.get(dtype, 0) + last - first
            end = max(end, last)
        end = int(end)
        if not all(isinstance(dtype, str) for dtype in sizes):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"its header is broken ({type(error).__name__}): {AGAIN}") from None
    _check_size(offset + end, size)
    return Header("safetensors", Entries(entries), metadata, end, sizes)


def _check_size(expected: int, size: int) -> None:
    if size < expected:
        raise UserError(f"half-downloaded: {size:,} of {expected:,} bytes; {AGAIN}")


def _read_gguf(file: BinaryIO, size: int) -> Header:
    def take(count: int) -> bytes:
        if count > min(size, LARGEST) - file.tell():  # before anything is allocated
            raise EOFError
        return file.read(count)

    def number(code: str) -> Any:
        return struct.unpack(code, take(struct.calcsize(code)))[0]

    def string() -> str:
        return take(number("<Q")).decode("utf-8", "replace")

    try:
        if (version := number("<I")) not in (2, 3):
            raise UserError(f"GGUF of version {version}: 2 and 3 are read")
        count, fields = number("<Q"), number("<Q")
        metadata = {string(): _read_field(number("<I"), number, string, file, size) for _ in range(fields)}
        tensors, sizes, end = dict[str, Tensor](), dict[str, int](), 0
        for _ in range(count):
            name = string()
            shape = tuple(number("<Q") for _ in range(_at_most(number("<I"), 8)))[::-1]
            kind, start = number("<I"), number("<Q")
            dtype, block, width = QUANTS.get(kind, (f"type {kind}", 1, 0))
            original = metadata.get(f"comfy.gguf.orig_shape.{name}")
            tensors[name] = Tensor(dtype, tuple(original) if isinstance(original, list) else shape)
            stored = prod(shape) // block * width
            sizes[dtype] = sizes.get(dtype, 0) + stored
            end = max(end, start + stored)
        alignment = _at_most(int(metadata.get("general.alignment", 32)), 1 << 20)
        offset = -(-file.tell() // alignment) * alignment
    except EOFError:
        raise UserError(f"half-downloaded or broken: it ends within its header; {AGAIN}") from None
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"its header is broken ({type(error).__name__}): {AGAIN}") from None
    _check_size(offset + end, size)
    told = {key: str(value) for key, value in metadata.items() if not isinstance(value, list)}
    return Header("GGUF", tensors, told, end, sizes)


def _at_most(value: int, largest: int) -> int:
    if not 0 <= value <= largest:
        raise ValueError(value)
    return value


def _read_field(
    kind: int,
    number: Callable[[str], Any],
    string: Callable[[], str],
    file: BinaryIO,
    size: int,
) -> Any:
    """A value of GGUF's metadata. Of a list only a short one of numbers, as shapes are; others are passed over."""
    if kind in NUMBERS:
        return number(NUMBERS[kind])
    if kind == STRING:
        return string()
    if kind != ARRAY:
        raise ValueError(kind)
    inner, count = number("<I"), number("<Q")
    if inner in NUMBERS:
        width = struct.calcsize(NUMBERS[inner])
        if count * width > size - file.tell():
            raise EOFError
        if count <= 8:
            return [number(NUMBERS[inner]) for _ in range(count)]
        file.seek(count * width, 1)
    elif inner in (STRING, ARRAY):
        for _ in range(count):
            _read_field(inner, number, string, file, size)
    else:
        raise ValueError(inner)
    return []
