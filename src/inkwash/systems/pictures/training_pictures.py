"""Which training picture a drawing of one colour is most like, and who made it.

Compared are distance fields of 32 pixels less their mean, by the cosine between their principal components: the
axes x_i of training fields of length 1 along which E[<f, x_i>^2] is largest. COMPONENTS of them, a byte each, find
for real icons the nearest of all, or one at most .01 less like, and leave out the wobble of lines.

A drawing is called a copy if it is more like a training picture than so many (QUANTILE) of the pictures of that
style are like their nearest in another set: sets have the same plus or square, and filled shapes are more alike.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.pictures.distance_fields import average, limit
from inkwash.weights.files import load_arrays, save_tensors

if TYPE_CHECKING:
    from inkwash.systems.pictures.icons_data import Icons

FILE = "training_pictures.safetensors"  # in a model's folder
GZIP = b"\x1f\x8b"  # with which what it packs begins
SIDE = 32  # pixels of the fields that are compared
COMPONENTS = 80
QUANTILE = 0.95


class Credit(NamedTuple):
    """A training picture: its set and name ("tabler:rocket"), its style, and whose it is."""

    icon: str
    style: str
    licence: str
    author: str


class Nearest(NamedTuple):
    """The training picture most like a drawing, their cosine, and whether the drawing is as good as a copy of it."""

    icon: str
    style: str
    licence: str
    author: str
    similarity: float
    copy: bool

    def __str__(self) -> str:
        if self.copy:
            return (
                f"this is nearly {self.icon} ({self.similarity:.2f}): its licence ({self.licence}) and author "
                f"({self.author}) apply"
            )
        return f"nearest training picture: {self.icon} ({self.similarity:.2f}; {self.licence}, {self.author})"


@dataclass(frozen=True)
class TrainingPictures:
    """What to compare a drawing with.

    basis       float32 (side^2, K): the axes, orthonormal
    codes       int8 (N, K): each training picture along the axes, times a factor of its own
    thresholds  by style: the cosine with a picture of it above which a drawing is a copy
    """

    basis: np.ndarray
    codes: np.ndarray
    credits: list[Credit]
    thresholds: dict[str, float]

    @cached_property
    def directions(self) -> np.ndarray:
        """The codes as vectors of length 1."""
        return unit(self.codes)

    def nearest(self, field: np.ndarray) -> Nearest | None:
        """Of a field (side, side) of any multiple of the pixels that are compared; None for one without a shape."""
        code = unit(centred(field[None], math.isqrt(len(self.basis))) @ self.basis)
        if not code.any():
            return None
        cosines = self.directions @ code[0]
        credit = self.credits[int(cosines.argmax())]
        similarity = min(float(cosines.max()), 1.0)
        return Nearest(*credit, round(similarity, 4), similarity > self.thresholds[credit.style])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, K) made float32 of length 1, but for those of length 0."""
    vectors = vectors.astype(np.float32)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def centred(fields: np.ndarray, side: int) -> np.ndarray:
    """Fields (N, height, width) -> (N, side^2), cut off as a network learns them, less their mean."""
    small = average(fields, fields.shape[-1] // side).clip(-limit(side), limit(side)).reshape(len(fields), -1)
    return np.asarray(small - small.mean(1, keepdims=True), np.float32)


def index(icons: Icons, side: int = SIDE) -> TrainingPictures:
    """Of the icons that are trained on."""
    rows = np.flatnonzero(icons.split == "train")
    columns = (icons.icon, icons.style, icons.licence, icons.author)
    credits = [Credit(*(str(column[row]) for column in columns)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: group(credits[i]))
    credits, fields = [credits[i] for i in order], unit(centred(icons.fields[rows[order]], side))
    basis = np.linalg.eigh(fields.T @ fields)[1][:, : -COMPONENTS - 1 : -1].astype(np.float16).astype(np.float32)
    lengths = fields @ basis
    codes = np.round(lengths * (127 / np.maximum(abs(lengths).max(1, keepdims=True), 1e-6))).astype(np.int8)
    sets, styles = (np.array(column) for column in zip(*(group(one)[:2] for one in credits), strict=True))
    across = nearest_across(unit(codes), sets)
    thresholds = {
        style: float(np.quantile(across[styles == style], QUANTILE)) for style in sorted({*styles.tolist()})
    }
    return TrainingPictures(basis, codes, credits, thresholds)


def nearest_across(directions: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """The cosine of each (N, K) with the nearest of another set; 1 where there is none."""
    found = []
    for some in np.array_split(np.arange(len(sets)), len(sets) // 256 + 1):
        cosines = directions[some] @ directions.T
        found.append(np.where(sets[some, None] != sets, cosines, -2).max(1))
    nearest = np.concatenate(found)
    return np.where(nearest < -1.5, 1.0, nearest)


def group(credit: Credit) -> tuple[str, str, str, str]:
    """What many pictures share: set, style, licence and author."""
    return (credit.icon.partition(":")[0], *credit[1:])


def save(pictures: TrainingPictures, folder: Path) -> None:
    """Writes FILE into the folder of a model. By torch alone."""
    import torch

    groups = []
    for (of_set, style, licence, author), members in groupby(pictures.credits, group):
        names = [one.icon.removeprefix(f"{of_set}:") for one in members]
        groups.append({"set": of_set, "style": style, "licence": licence, "author": author, "icons": names})
    facts = json.dumps({"thresholds": pictures.thresholds, "pictures": groups}, ensure_ascii=False).encode()
    arrays = {"basis": pictures.basis, "codes": pack(pictures.codes.T.tobytes()), "facts": pack(facts)}
    save_tensors(folder / FILE, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def pack(content: bytes) -> np.ndarray:
    return np.frombuffer(gzip.compress(content, mtime=0), np.uint8)


def unpack(packed: np.ndarray) -> bytes:
    """What `pack` took; of older folders as it is."""
    content = packed.tobytes()
    return gzip.decompress(content) if content.startswith(GZIP) else content


def load(folder: Path) -> TrainingPictures | None:
    """What `save` wrote; None where it lies not. UserError for a file that is broken."""
    if not (folder / FILE).exists():
        return None
    arrays = load_arrays(folder / FILE)
    try:
        facts = json.loads(unpack(arrays["facts"]))
        credits = [
            Credit(f"{one['set']}:{name}", one["style"], one["licence"], one["author"])
            for one in facts["pictures"]
            for name in one["icons"]
        ]
        codes, (pixels, axes) = arrays["codes"], arrays["basis"].shape
        if codes.ndim == 1:  # in older folders they are as they are
            codes = np.frombuffer(unpack(codes), np.int8).reshape(axes, -1).T
        if (*codes.shape, pixels) != (len(credits), axes, math.isqrt(pixels) ** 2):
            raise ValueError(f"{codes.shape} numbers for {len(credits)} pictures and {axes} axes of {pixels}")
        thresholds = {one.style: float(facts["thresholds"][one.style]) for one in credits}
        return TrainingPictures(arrays["basis"], codes, credits, thresholds)
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{folder / FILE}: broken ({error}); save the model again, or take the file away") from None
