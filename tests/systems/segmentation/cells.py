"""Drawn pictures of cells whose masks are known."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def cells(number, size=48, count=5, colour=False):
    """(picture uint8, labels int32): bright discs that do not touch on a dark, noisy ground."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for _ in range(20 * count):
        if labels.max() == count:
            break
        radius, (a, b) = rng.uniform(3.5, 5.5), rng.uniform(4, size - 4, 2)
        disc = (x - a) ** 2 + (y - b) ** 2 <= radius**2
        near = (x - a) ** 2 + (y - b) ** 2 <= (radius + 2) ** 2
        if not labels[near].any():
            labels[disc] = labels.max() + 1
    picture = (20 + 10 * rng.random(labels.shape) + 150 * (labels > 0)).astype(np.uint8)
    if colour:
        picture = np.stack([255 - picture, 255 - picture // 2, np.full_like(picture, 240)], -1)
    return picture, labels


def save(array, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)
    return file


def folder(path: Path, count=8, kind="objects", size=48):
    """images/ and masks/ of so many pictures."""
    for i in range(count):
        picture, labels = cells(i, size)
        save(picture, path / "images" / f"cell_{i}.png")
        mask = labels.astype(np.uint8) if kind == "objects" else (255 * (labels > 0)).astype(np.uint8)
        save(mask, path / "masks" / f"cell_{i}.png")
    return path


def deep_png(path: Path):
    """Of 16 bits a colour, which Pillow reads as 8."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + np.full((3, 3), 200, ">u2").tobytes() for _ in range(3))
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 16, 2, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path
