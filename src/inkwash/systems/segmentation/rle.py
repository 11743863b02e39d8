"""Run-length encoding of masks as COCO has it: lengths of runs of 0 and 1 by turns, down the columns, the first of 0;
as a list, or packed into letters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from inkwash.errors import UserError

Array = np.ndarray


def encode(mask: Array) -> str:
    """The packed counts of a mask (H, W)."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return pack([int(end - start) for start, end in pairwise([0, *edges.tolist(), len(flat)])])


def decode(counts: str | Sequence[int], height: int, width: int) -> Array:
    """The mask (height, width) of packed or listed counts. UserError where they do not fill it."""
    runs = unpack(counts) if isinstance(counts, str) else list(counts)
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise UserError(f"a mask of run lengths has {sum(runs)} pixels, its picture {height * width}; write it again")
    values = np.arange(len(runs)) % 2 == 1
    mask: Array = np.repeat(values, runs).reshape(width, height).T
    return mask


def pack(runs: Sequence[int]) -> str:
    """Each run, from the fourth on less the one two before it, in digits of 5 bits from the lowest; the sixth bit
    says that more follow, the highest of the last digit is the sign. Letters from "0" (48)."""
    letters = []
    for i, run in enumerate(runs):
        value, more = run - (runs[i - 2] if i > 2 else 0), True
        while more:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            letters.append(chr(48 + digit + 32 * more))
    return "".join(letters)


def unpack(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        digit = ord(letter) - 48
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (1 << shift) if digit & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
