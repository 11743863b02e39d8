"""What is left of a picture that was made larger, or edited: files, in the kind that was read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.codecs.png import COMPOSITE, xmp_packet
from inkwash.systems.restoration.levels import Array
from inkwash.systems.restoration.photos import SUFFIX, Photo, grey_png, write_photo

Row = dict[str, Any]


def write_samples(
    samples: Sequence[Photo], kind: str, spread: Array, target: Path, recipe: Row, invented: Array | None = None
) -> dict[str, Path]:
    """The files of a picture by their endings: ".png" of one sample; of several "-1.png", ..., and "-spread.png",
    black where all are the same and white where they differ most. TARGET.png, ...; invented: which pixels are a
    model's, unless all are written as "-invented.png", and their box into the metadata of all."""
    invented = None if invented is None or invented.all() else invented
    box = None if invented is None else box_of(invented)
    packet, several = xmp_packet(COMPOSITE, box), len(samples) > 1
    files = {}
    for place, photo in enumerate(samples, 1):
        ending = f"-{place}{SUFFIX[kind]}" if several else SUFFIX[kind]
        files[ending] = target.with_name(target.name + ending)
        write_photo(photo, files[ending], recipe, packet)
    maps = {"-spread.png": spread / max(float(spread.max()), 1e-9)} if several else {}
    maps |= {} if invented is None else {"-invented.png": invented.astype(float)}
    for ending, values in maps.items():
        files[ending] = target.with_name(target.name + ending)
        grey_png(values, files[ending], recipe)
    return files


def box_of(where: Array) -> tuple[int, int, int, int]:
    """Left, top, width and height of the smallest box around what is true."""
    rows, columns = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def invented_facts(where: Array) -> Row:
    """What a recipe says of the part that is a model's."""
    return {"box": list(box_of(where)), "share": round(float(where.mean()), 6)}
