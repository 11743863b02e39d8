"""Pictures of one's own: found in a folder, read, parted, and cut into squares to learn from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from inkwash.codecs.picture_files import is_hidden, is_picture, opaque, stem_of
from inkwash.errors import UserError
from inkwash.progress import Progress, free_memory
from inkwash.systems.restoration.degradations import TASKS, make_small
from inkwash.systems.restoration.levels import Array, white_of
from inkwash.systems.restoration.photos import Photo, read_photo
from inkwash.systems.splits import (
    LISTS,
    PARTS,
    check_group,
    digest,
    group_of,
    parted_by_folders,
    parts_by_folder,
    read_list,
)
from inkwash.systems.splits import split as split_examples
from inkwash.weights.files import files_below

if TYPE_CHECKING:
    from torch import Tensor

RESULT = re.compile(rf"(.+)-(?:x\d|{'|'.join(TASKS)})(?:-(?:\d+|spread|invented))*")  # beside a picture


class Example(NamedTuple):
    """A picture, (H, W, 3) uint8, from black to white whatever its file's range; digest: of its numbers there; group:
    what stays on one side of the split."""

    name: str
    picture: Array
    digest: str
    group: str


class Pictures(NamedTuple):
    """listed: which part a list gives each name to, {} without a list."""

    examples: list[Example]
    listed: dict[str, str]


Note = Callable[[str], None]
Degrade = Callable[[Array, np.random.Generator], dict[str, Array]]


def read_pictures(
    folder: Path, group: str = "", note: Note = lambda _: None, tell: Callable[[Progress], None] = lambda _: None
) -> Pictures:
    """All pictures below a folder. A list, index.csv or split.csv with the columns name and split, is followed;
    without one folders called train, val and test.

    group: as of segmentation's data. Raises UserError where there is none, for two of one name, for one that is not
    read, and where they need more memory than is free.
    """
    files, others = picture_files(folder)
    note_left_out([file for file in others if file.name not in LISTS], note)
    listed, groups = read_list(folder, group, [stem_of(file.name) for file in files], note)
    if not listed and (parts := parts_by_folder(folder, files)):
        note(parted_by_folders(parts))
        listed = {stem_of(file.name): PARTS[part] for file, part in parts.items()}
    examples, taken, free, dark = list[Example](), 0, free_memory(), list[str]()
    for done, file in enumerate(files, 1):
        pixels = on_white(read_photo(file))
        taken += 3 * pixels.shape[0] * pixels.shape[1]
        if taken > free / 2:
            raise UserError(
                f"{folder}: {done} of {len(files)} pictures take {taken / 1e9:.1f} GB, {free / 1e9:.1f} are free: "
                "give fewer, or smaller ones"
            )
        if pixels.dtype == np.uint16 and white_of(pixels) < 65535:
            dark.append(file.name)
        stem = stem_of(file.name)
        examples.append(Example(stem, to_bytes(pixels), digest(pixels), group_of(stem, group, groups)))
        tell(Progress(done, len(files), "pictures are read"))
    check_group(group, groups, [(one.group, one.name) for one in examples])
    if dark:
        note(
            f"{len(dark)} pictures of 16 bits use a small part of their range, and are scaled: {', '.join(dark[:3])}"
        )
    return Pictures(examples, {name: listed[name] for name in (one.name for one in examples) if name in listed})


def picture_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """All pictures below a folder, and what else lies there but hidden files and links to nowhere: what `upscale` and
    `edit` made of them earlier, too. UserError for none, and for two of one name, whose results would have one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: a folder of pictures is needed")
    everything = [file for file in files_below(folder) if file.is_file() and not is_hidden(file, folder)]
    pictures = {(file.parent, file.stem) for file in everything if is_picture(file)}
    files = [
        file
        for file in everything
        if is_picture(file) and not ((ours := RESULT.fullmatch(file.stem)) and (file.parent, ours[1]) in pictures)
    ]
    if not files:
        raise UserError(f"{folder}: no pictures there; PNG, JPEG, WebP, TIFF, BMP and GIF are read")
    names: dict[str, Path] = {}
    for file in files:
        stem = stem_of(file.name)
        if stem in names:
            same = [one.relative_to(folder).as_posix() for one in (names[stem], file)]
            raise UserError(f"two pictures are called {stem}: {same[0]} and {same[1]}; rename one")
        names[stem] = file
    taken = {*files}
    return files, [file for file in everything if file not in taken]


def note_left_out(files: Sequence[Path], note: Note) -> None:
    """Says of what lies beside pictures that it is none, or comes from an earlier run."""
    if files:
        some = ", ".join(file.name for file in files[:3])
        note(f"{len(files)} files are no pictures, or come from an earlier run, and are left out: {some}")


def on_white(photo: Photo) -> Array:
    """The pixels, where they are transparent laid on white."""
    if photo.alpha is None:
        return photo.pixels
    alpha = photo.alpha if photo.pixels.ndim == 2 else photo.alpha[..., None]
    return opaque(photo.pixels, alpha, premultiplied=False, numbers=False)


def to_bytes(pixels: Array) -> Array:
    """(H, W) or (H, W, 3) -> (H, W, 3) uint8."""
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
    return colours if colours.dtype == np.uint8 else (colours * (255 / white_of(pixels))).round().astype(np.uint8)


def split(pictures: Pictures, folder: Path) -> tuple[list[Example], list[Example], list[Example]]:
    """(what is learned from, what choices are made by, what is measured on), as segmentation parts its pictures."""
    return split_examples(pictures.examples, pictures.listed, folder)


def loader(
    examples: Sequence[Example], size: int, batch_size: int, seed: int, degrade: Degrade, zoom: float = 1.0
) -> Callable[[int], dict[str, Tensor]]:
    """Batch k: {"x": (batch_size, 3, size, size) from -1 to 1} and what `degrade`, (square from 0 to 1, generator),
    makes of each; see `square`."""
    import torch

    from inkwash.training.data import batches

    order = batches(len(examples), batch_size, seed)

    def batch(k: int) -> dict[str, Tensor]:
        made = []
        for place, row in enumerate(order(k).tolist()):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, k, place))))
            x = square(examples[row].picture, size, rng, zoom)
            made.append({"x": to_planes(x)} | degrade(x, rng))
        return {key: torch.from_numpy(np.stack([one[key] for one in made])) for key in made[0]}

    return batch


def square(picture: Array, size: int, rng: np.random.Generator, zoom: float = 1.0) -> Array:
    """(size, size, 3) float64 from 0 to 1, cut out at random, up to `zoom` times larger and then made small, turned
    and mirrored; a smaller picture is mirrored beyond its edges."""
    largest = max(1.0, min(zoom, min(picture.shape[:2]) / size))
    side = round(size * math.exp(rng.uniform(0, math.log(largest))))
    cut = window(picture, side, lambda most: int(rng.integers(0, most + 1)))
    if side > size:
        cut = np.asarray(Image.fromarray(cut).resize((size, size), Image.Resampling.BICUBIC))
    cut = cut.swapaxes(0, 1) if rng.random() < 0.5 else cut
    for axis in (0, 1):
        cut = np.flip(cut, axis) if rng.random() < 0.5 else cut
    return cut / 255.0


def window(picture: Array, size: int, place: Callable[[int], int] = lambda most: most // 2) -> Array:
    """A square (size, size, 3), from the middle, or from where `place` says of so many places."""
    rows, columns = (max(0, size - side) for side in picture.shape[:2])
    if rows or columns:
        picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
    top, left = (place(side - size) for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]


def to_planes(picture: Array) -> Array:
    """(H, W, 3) from 0 to 1 -> float32 (3, H, W) from -1 to 1."""
    return np.ascontiguousarray((2 * picture - 1).transpose(2, 0, 1), np.float32)


def for_upscaling(factor: int, names: Sequence[str]) -> Degrade:
    """{"low": (3, size / factor, size / factor)}."""
    return lambda picture, rng: {"low": to_planes(make_small(picture, factor, names, rng))}


def for_editing(weights: dict[str, float]) -> Degrade:
    """{"source": (3, size, size), "missing": (1, size, size), "drawn": the same}: of a task drawn by its weight."""
    names, shares = list(weights), np.array(list(weights.values())) / sum(weights.values())

    def degrade(picture: Array, rng: np.random.Generator) -> dict[str, Array]:
        source, missing = TASKS[names[int(rng.choice(len(names), p=shares))]].degrade(picture, rng)
        hole = np.zeros(picture.shape[:2], bool) if missing is None else missing
        drawn = np.ones_like(hole) if missing is None else missing
        return {"source": to_planes(source), "missing": hole[None].astype(np.float32), "drawn": drawn[None]}

    return degrade
