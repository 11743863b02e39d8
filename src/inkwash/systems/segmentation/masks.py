"""Files of masks: binary, a number for each object, or a value or colour for each class; which it is, is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import ndimage

from inkwash.codecs.picture_files import TIFF, Array, check_whole, decoded, is_picture, opened, read_tiff
from inkwash.errors import UserError

Kind = Literal["binary", "objects", "classes"]
COLOURS = 255  # of a mask, at most
FEW = 16  # values that may be classes if nobody says so
VOID = 255  # of a palette: the border of objects in PASCAL VOC
PACKED, GREY = np.array([65536, 256, 1]), 0x010101  # what makes a number of a colour; of grey
SCATTERED = 1.5  # regions of a value: more, and it is a class
JOINED = np.ones((3, 3), bool)  # pixels that touch at a corner are of one region


class Mask(NamedTuple):
    """values (H, W) int64, 0 where nothing is; coloured: whether they are packed colours, or a palette's numbers;
    palette: the packed colours of these."""

    values: Array
    coloured: bool
    palette: dict[int, int] | None = None


def read_masks(path: Path) -> list[Mask]:
    """A mask for each slice of the file. UserError for JPEG, whose values are blurred, and for too many colours."""
    if path.suffix.lower() in TIFF:
        pages, coloured = read_tiff(path, numbers=True), False
    else:
        with opened(path) as picture:
            if picture.format in ("JPEG", "WEBP"):
                raise UserError(
                    f"{path}: a mask as {picture.format}, whose values are blurred; save it as PNG or TIFF"
                )
            check_whole(path, picture)
            palette = palette_of(picture) if picture.mode == "P" else None
            page = numbers_of(decoded(path, picture))
            if (
                palette
                and page.ndim == 2
                and not all(palette[number] == GREY * number for number in np.unique(page).tolist())
            ):
                mask = to_mask(page, True, path)
                return [
                    mask._replace(palette={number: palette[number] for number in np.unique(mask.values).tolist()})
                ]
            pages, coloured = [page], False
    return [to_mask(page, coloured, path) for page in pages]


def joined(folder: Path) -> list[Mask]:
    """The one mask of a folder's files, each of one object."""
    files = sorted(file for file in folder.iterdir() if is_picture(file))
    values = np.zeros(0, np.int64)
    for number, file in enumerate(files, 1):
        own = read_masks(file)
        if len(own) > 1 or len(np.unique(own[0].values)) > 2:
            raise UserError(f"{file}: more than one object; {folder} is to have a file for each")
        values = values if values.size else np.zeros_like(own[0].values)
        if own[0].values.shape != values.shape:
            raise UserError(f"{file}: of another size than {files[0].name}; make them the same")
        values[own[0].values > 0] = number
    return [Mask(values, False)]


def palette_of(picture: Any) -> list[int]:
    """The packed colours of its numbers."""
    table = np.array(picture.getpalette("RGB")).reshape(-1, 3)
    return [*(table @ PACKED).tolist(), *[-1] * (256 - len(table))]


def palettes_differ(masks: Sequence[Mask]) -> bool:
    """Whether a number of a palette is one colour here and another there, or is 0 where black is not: tools that
    reduce the colours of each file by itself write such."""
    known: dict[int, int] = {}
    differ = any(known.setdefault(*pair) != pair[1] for mask in masks for pair in (mask.palette or {}).items())
    return differ or (known.get(0, 0) != 0 and 0 in known.values())


def by_colour(mask: Mask) -> Mask:
    """With the packed colours of its palette for numbers."""
    if mask.palette is None:
        return mask
    table = np.zeros(max(mask.palette) + 1, np.int64)
    table[list(mask.palette)] = list(mask.palette.values())
    return Mask(table[mask.values], True)


def numbers_of(picture: Any) -> Array:
    """Of Pillow's picture: (H, W), or colours (H, W, 3). What is transparent is 0; black on nothing is not."""
    page = np.asarray(picture)
    if picture.mode[0] in "IF":
        return np.where(page == picture.info.get("transparency"), 0, page)
    both = picture.convert("RGBA")
    if picture.mode in ("1", "L", "P") and not page[np.asarray(both)[..., 3] == 0].any():
        return page
    page = np.asarray(both)
    shown = page[..., 3:] > 0
    if not shown.all() and not (page[..., :3] * shown).any():
        return shown[..., 0]
    return page[..., :3] * shown


def to_mask(page: Array, coloured: bool, path: Path) -> Mask:
    if page.ndim == 3 and (page == page[..., :1]).all():
        page = page[..., 0]
    if page.dtype.kind == "f" and not ((np.abs(page) < 2**53) & (page == page.round())).all():
        raise UserError(
            f"{path}: a mask of fractions; save whole numbers: 0 where nothing is, and one for each object"
        )
    values = page.astype(np.int64)
    if values.ndim == 3:
        values, coloured = values @ PACKED, True
    if (values < 0).any():
        raise UserError(f"{path}: a mask with numbers below 0; save 0 where nothing is")
    found = np.unique(values)
    if coloured and VOID in found and found[-1] == VOID and (found > 0).sum() > 1 and found[-2] < VOID // 2:
        values, found = np.where(values == VOID, 0, values), found[:-1]
    if coloured and len(found) > COLOURS:
        raise UserError(
            f"{path}: a mask of {len(found)} colours; save one for each class, or a value for each object"
        )
    return Mask(values, coloured)


def regions(values: Array) -> tuple[Array, int]:
    """(H, W) numbers of connected regions of anything, from 1; and how many there are."""
    labels, count = ndimage.label(values, structure=JOINED)
    return labels.astype(np.int32), int(count)


def parts(mask: Mask) -> int:
    """Connected regions of one value each, looked for only where that value is."""
    compact = np.unique(mask.values, return_inverse=True)[1].reshape(mask.values.shape) + 1
    compact[mask.values == 0] = 0
    boxes = ndimage.find_objects(compact.astype(np.int32))
    return sum(regions(compact[box] == number)[1] for number, box in enumerate(boxes, 1) if box is not None)


def kind_of(masks: Sequence[Mask], named: bool) -> tuple[Kind, list[int]]:
    """What the masks of a data set are, and the values of their classes: one value everywhere is "binary"; values of
    one region each are "objects", unless they are colours that come again; all else is "classes".

    named: their user names classes, so several values are these. UserError for many values, each in many places.
    """
    found = [np.unique(mask.values)[1 if (mask.values == 0).any() else 0 :] for mask in masks]
    values = np.unique(np.concatenate([*found, np.zeros(0, np.int64)])).astype(np.int64).tolist()
    if len(values) <= 1 or (not named and all(len(own) <= 1 for own in found) and set(values) <= {1, 255}):
        return "binary", values
    if named:
        return "classes", values
    coloured = any(mask.coloured for mask in masks)
    count = sum(map(len, found))
    scattered = sum(map(parts, masks)) > SCATTERED * count
    again = coloured and len(values) <= FEW and len(masks) > 1 and count > len(values)
    if not (scattered or again):
        return "objects", values
    if len(values) > FEW:
        raise UserError(
            f"the masks have {len(values)} values, each in many places: neither classes nor objects (edges that were "
            "smoothed look so); save 0 where nothing is, and one value for each class, or for each object"
        )
    return "classes", values


def to_objects(mask: Mask, kind: Kind, values: Sequence[int], path: Path) -> tuple[Array, Array]:
    """(labels (H, W) int32: 0, or the number of an object; kinds (n + 1,) uint8: the class of each, that of number 0
    is 0). Of classes, and of binary masks, each region is an object.

    UserError for values that are no class.
    """
    if kind != "classes":
        found = mask.values > 0
        labels = regions(found)[0]
        if kind == "objects":
            labels[found] = np.unique(mask.values[found], return_inverse=True)[1].reshape(-1) + 1
        return labels, np.minimum(np.arange(labels.max() + 1), 1).astype(np.uint8)
    labels, kinds = np.zeros_like(mask.values, np.int32), [0]
    if strange := set(np.unique(mask.values).tolist()) - {0, *values}:
        raise UserError(f"{path}: value {min(strange)} is none of the classes' ({', '.join(map(str, values))})")
    for number, value in enumerate(values, 1):
        own, count = regions(mask.values == value)
        labels[own > 0] = own[own > 0] + len(kinds) - 1
        kinds += [number] * count
    return labels, np.array(kinds, np.uint8)


def describe(kind: Kind, values: Sequence[int], files: int, note: Callable[[str], None]) -> None:
    """Says what was found."""
    if kind == "binary":
        note(f"{files} masks, binary: each region is an object, so objects that touch count as one")
    elif kind == "objects":
        note(f"{files} masks with a number for each object")
    else:
        names = ", ".join(f"#{value:06x}" if value > 65535 else str(value) for value in values)
        note(f"{files} masks of {len(values)} classes, by the values {names}: each region is an object")
