"""Pictures and masks of one's own: found in a folder, read, and parted into what is learned from and what is not."""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.segmentation import annotated
from inkwash.systems.segmentation.formats import (
    Array,
    is_picture,
    normalised,
    orientation,
    read_pages,
    says_of_range,
)
from inkwash.systems.segmentation.masks import (
    by_colour,
    describe,
    kind_of,
    palettes_differ,
    read_masks,
    to_objects,
)
from inkwash.weights.files import files_below

MASK_FOLDERS = ("masks", "labels")
SUFFIXES = ("_mask", "_masks", "_label", "_labels")
LISTS = ("index.csv", "split.csv")
PARTS = {"train": "train", "val": "table", "valid": "table", "validation": "table", "test": "table"}
CHOICES, TABLE = 0.1, 0.2  # shares of the pictures that choices are made by, and that figures are measured on
ALIKE, THUMBNAIL = 0.95, 24  # correlation of thumbnails from which on pictures are near-duplicates, and their side
FEWEST, MOST_CLASSES = 3, 255


class Example(NamedTuple):
    """A picture, (H, W) or (H, W, 3) as in its file; labels (H, W) int32, 0 or the number of an object; kinds
    (n + 1,) uint8, the class of each object from 1, that of 0 is 0; digest: of its numbers; group: of `split`."""

    name: str
    picture: Array
    labels: Array
    kinds: Array
    digest: str
    group: str


class Data(NamedTuple):
    """What a folder holds. listed: which part a list gives each group or name to, {} without a list."""

    examples: list[Example]
    classes: list[str]
    listed: dict[str, str]


Note = Callable[[str], None]
Entry = tuple[str, str, Array, Array, Array]  # name, group, picture, labels, kinds


def read_data(folder: Path, classes: Sequence[str] = (), group: str = "", note: Note = lambda _: None) -> Data:
    """Pictures and masks of a folder: `images/` and `masks/` (or `labels/`) with the same names; NAME_mask.png and
    its kin beside NAME.png; a JSON of COCO; or labelme's. A list, index.csv or split.csv with the columns name and
    split, is followed.

    classes: their names, by the order of their values; needed where masks of few values are not objects.
    group: a pattern whose first bracket is the slide or patient in a file's name, or a column of the list.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: a folder of pictures and masks is needed")
    files = [file for file in files_below(folder) if not is_hidden(file, folder)]
    content = [(file, annotated.load(file)) for file in files if file.suffix.lower() == ".json"]
    coco = [pair for pair in content if annotated.is_coco(pair[1])]
    labelme = [pair for pair in content if annotated.is_labelme(pair[1])]
    if coco or labelme:
        entries, names = read_annotated(folder, coco, labelme, classes, note)
        known = {name for name, *_ in entries}
        if lone := sorted({stem_of(file.name) for file in files if is_picture(file)} - known):
            note(f"{some(lone)} have no annotation in the JSON, and are left out")
    else:
        entries, names = read_pairs(folder, files, classes, note)
    if not any(labels.any() for *_, labels, _ in entries):
        raise UserError(f"{folder}: all {len(entries)} masks are empty")
    if twice := [name for name, count in Counter(name for name, *_ in entries).items() if count > 1]:
        raise UserError(f"two pictures are called {twice[0]}, one of them a slice of a stack; rename one")
    listed, groups = read_list(folder, group, [stem for _, stem, *_ in entries], note)
    examples = [
        Example(name, picture, labels, kinds, digest(picture), group_of(stem, group, groups))
        for name, stem, picture, labels, kinds in entries
    ]
    if (
        group
        and not groups
        and all(example.group == stem for example, (_, stem, *_) in zip(examples, entries, strict=True))
    ):
        raise UserError(
            f"group '{group}' is in no file's name, nor a column of a list: give a pattern such as '(.*)_'"
        )
    return Data(
        examples,
        names,
        {
            example.name: listed[stem]
            for example, (_, stem, *_) in zip(examples, entries, strict=True)
            if stem in listed
        },
    )


def read_pairs(
    folder: Path, files: Sequence[Path], classes: Sequence[str], note: Note
) -> tuple[list[Entry], list[str]]:
    """Pictures whose masks are files."""
    pairs, lone = find_pairs(folder, files)
    if lone:
        note(f"{some(lone)} have no mask, and are left out")
    if turned := [picture.name for picture, _ in pairs if orientation(picture) > 1]:
        note(f"{some(turned)} are turned as their EXIF says: their masks must lie the same way")
    pictures = {path: read_pages(path) for path, _ in pairs}
    masks = {path: read_masks(path) for _, path in pairs}
    if palettes_differ([mask for own in masks.values() for mask in own]):
        note("the masks' palettes differ: they are read by their colours, and black is where nothing is")
        masks = {path: [by_colour(mask) for mask in own] for path, own in masks.items()}
    if parts := sorted({part for path, _ in pairs for part in path.relative_to(folder).parts[:-1]} & PARTS.keys()):
        note(f"the folders {', '.join(parts)} are not told apart: a list, index.csv, says what is to learn from")
    for picture, mask in pairs:
        pages, own = pictures[picture], masks[mask]
        says_of_range(pages, picture.name, note)
        if len(pages) != len(own):
            raise UserError(f"{mask}: {len(own)} slices, of {picture.name} there are {len(pages)}")
        if (size := pages[0].shape[1::-1]) != (other := own[0].values.shape[::-1]):
            raise UserError(f"{mask}: {other[0]} x {other[1]} pixels, but {picture.name} has {size[0]} x {size[1]}")
    kind, values = kind_of([mask for own in masks.values() for mask in own], bool(classes))
    describe(kind, values, len(masks), note)
    if classes and len(classes) != len(values):
        shown = ", ".join(map(str, values[:9]))
        raise UserError(f"{len(classes)} classes are named, the masks have {len(values)} values beside 0: {shown}")
    names = list(classes) or (["object"] if kind != "classes" else [f"class {value}" for value in values])
    check_classes(names)
    entries = list[Entry]()
    for picture, path in pairs:
        for i, (page, one) in enumerate(zip(pictures[picture], masks[path], strict=True)):
            name = stem_of(picture.name) + (f"-{i + 1}" if len(masks[path]) > 1 else "")
            entries.append((name, stem_of(picture.name), page, *to_objects(one, kind, values, path)))
    return entries, names


def check_classes(names: Sequence[str]) -> None:
    """UserError for a name that comes twice, and for too many."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"class '{twice[0]}' is named twice: give each class a name of its own")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{len(names)} classes; {MOST_CLASSES} at most are possible: name those that count")


def find_pairs(folder: Path, files: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pictures with their masks, and the names of pictures without. UserError where there is none, and for two
    pictures, or two masks, of one name."""
    images = [file for file in files if is_picture(file)]
    stems = {stem_of(file.name) for file in images}
    masks: dict[str, Path] = {}
    pictures: dict[str, Path] = {}
    for file in images:
        within = {part.lower() for part in file.relative_to(folder).parts[:-1]}
        own = stem_of(file.name)
        cut = [own[: -len(end)] for end in SUFFIXES if own.lower().endswith(end)]
        stem = next((name for name in cut if name in stems), None)
        is_mask = bool(within & {*MASK_FOLDERS}) or stem is not None
        place, name = (masks, stem or own) if is_mask else (pictures, own)
        if name in place:
            what = "masks" if is_mask else "pictures"
            raise UserError(f"two {what} are called {name}: {place[name].name} and {file.name}; rename one")
        place[name] = file
    found = [(pictures[name], masks[name]) for name in sorted(pictures) if name in masks]
    if not found:
        folders, beside = (" or ".join(names) for names in (MASK_FOLDERS, SUFFIXES))
        raise UserError(
            f"{folder}: no masks found for {len(pictures)} pictures; looked in {folders} for the names that images/ "
            f"has, for NAME{beside}.png beside NAME.png, and for JSON of COCO or labelme"
        )
    return found, sorted(pictures.keys() - masks.keys())


def read_annotated(
    folder: Path, coco: Sequence[Any], labelme: Sequence[Any], classes: Sequence[str], note: Note
) -> tuple[list[Entry], list[str]]:
    """Pictures whose objects are in JSON."""
    if len(coco) > 1 or (coco and labelme):
        files = ", ".join(path.name for path, _ in [*coco, *labelme][:3])
        raise UserError(f"{folder}: several files of annotations: {files}; leave one there")
    if coco:
        found, known = annotated.read_coco(coco[0][0], coco[0][1], note)
    else:
        found = [annotated.read_labelme(path, content, note) for path, content in labelme]
        known = sorted({name for one in found for name, _ in one.objects})
    if classes and (strange := [name for name in classes if name not in known]):
        raise UserError(f"class '{strange[0]}' is not in the annotations; there are {', '.join(known)}")
    if classes:
        found = [one._replace(objects=[pair for pair in one.objects if pair[0] in classes]) for one in found]
    names = list(classes) or known
    check_classes(names)
    stems = [stem_of(one.path.name) for one in found]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"two pictures are called {twice[0]}; rename one")
    entries = list[Entry]()
    for one in found:
        pages = read_pages(one.path)
        if len(pages) > 1:
            raise UserError(
                f"{one.path}: a stack of {len(pages)} slices, which annotations do not tell apart; save slices"
            )
        says_of_range(pages, one.path.name, note)
        entries.append((stem_of(one.path.name), stem_of(one.path.name), pages[0], *annotated.to_labels(one, names)))
    note(f"{len(entries)} pictures annotated, of the classes {', '.join(names)}")
    return entries, names


def some(names: Sequence[str]) -> str:
    """How many pictures, and what the first are called."""
    return f"{len(names)} pictures ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether it, or a folder on the way to it, begins with a dot, as what systems and editors keep there."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def stem_of(name: str) -> str:
    """What a picture is called, whatever its folder, its kind and the system that wrote its umlauts."""
    own = unicodedata.normalize("NFC", PureWindowsPath(name.strip()).name)
    return own.rpartition(".")[0] if is_picture(Path(own)) else own


def read_list(
    folder: Path, group: str, stems: Sequence[str] = (), note: Note = lambda _: None
) -> tuple[dict[str, str], dict[str, str]]:
    """Which part a list gives each name to, and the column `group` of each, where there is one. stems: of the
    pictures that are there; what is only there, or only in the list, is said."""
    file = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if file is None:
        return {}, {}
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
        if not rows or "name" not in rows[0]:
            raise UserError(f"{file}: a column 'name' is needed, and 'split' or one to group by")
        if "split" not in rows[0] and group not in rows[0]:
            note(f"{file.name} has no column 'split', and is not followed; there are {', '.join(rows[0])}")
            return {}, {}
        names = {stem_of(row["name"]): row for row in rows if row["name"]}
        listed = {
            name: row["split"].strip().lower() for name, row in names.items() if (row.get("split") or "").strip()
        }
    except UserError:  # is a ValueError
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: not a table ({error})") from None
    if strange := {part for part in listed.values() if part not in PARTS}:
        raise UserError(f"{file}: split '{min(strange)}': train, val or test is needed")
    groups = {name: row[group] or name for name, row in names.items()} if group and group in rows[0] else {}
    if lone := sorted({*stems} - names.keys()):
        note(f"{some(lone)} are not in {file.name}")
    if stems and (lone := sorted(names.keys() - {*stems})):
        note(f"{file.name}: {some(lone)} are not there with a mask")
    return {name: PARTS[part] for name, part in listed.items()}, groups


def group_of(stem: str, group: str, groups: dict[str, str]) -> str:
    """The slide or patient of a file; the file itself where nothing says so."""
    if stem in groups:
        return groups[stem]
    try:
        found = re.search(group, stem) if group and not groups else None
        return (found[1] or stem) if found else stem
    except (re.error, IndexError):
        raise UserError(f"group '{group}': a pattern with one bracket is needed, such as '(.*)_'") from None


def digest(picture: Array) -> str:
    """Tells a picture's numbers from others'."""
    return hashlib.sha256(f"{picture.shape}{picture.dtype}".encode() + picture.tobytes()).hexdigest()[:12]


def split(data: Data, folder: Path) -> tuple[list[Example], list[Example], list[Example]]:
    """(what is learned from, what choices are made by, what is measured on): by the list where there is one, else
    seven tenths, a tenth and a fifth, by a hash of the groups, which stay whole.

    UserError for fewer than three groups, and for a class that is in no picture to learn from.
    """
    examples = [one for one in data.examples if data.listed.get(one.name) != "table"]
    table = [one for one in data.examples if data.listed.get(one.name) == "table"]
    groups = sorted({one.group for one in examples}, key=lambda name: hashlib.sha256(name.encode()).digest())
    if both := {one.group for one in table} & {*groups}:
        raise UserError(
            f"{folder}: the list has '{min(both)}' to learn from and to measure on; a group must stay whole"
        )
    chosen = max(1, round(CHOICES * len(groups)))
    measured = 0 if data.listed else max(1, round(TABLE * len(groups)))
    if len(groups) <= chosen + measured:
        least = FEWEST - (not measured)
        raise UserError(
            f"{folder}: {len(groups)} pictures, or groups of them, to learn from, to choose by and to measure on: "
            f"{least} at least are needed"
        )
    choices = {*groups[:chosen]}
    held_out = {*groups[chosen : chosen + measured]}
    table += [one for one in examples if one.group in held_out]
    training = [one for one in examples if one.group not in choices | held_out]
    for number, name in enumerate(data.classes, 1):
        if not any((one.kinds[np.unique(one.labels)] == number).any() for one in training):
            raise UserError(
                f"{folder}: class '{name}' is in no picture of the training part; add some, or leave it out"
            )
    return training, [one for one in examples if one.group in choices], table


def near_duplicates(parts: Sequence[Sequence[Example]]) -> list[tuple[str, str]]:
    """Pictures of different parts whose thumbnails correlate above ALIKE: the split leaks there."""
    thumbnails = [[thumbnail(one.picture) for one in part] for part in parts]
    found = []
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            if thumbnails[i] and thumbnails[j]:
                likeness = np.stack(thumbnails[i]) @ np.stack(thumbnails[j]).T
                found += [(parts[i][a].name, parts[j][b].name) for a, b in np.argwhere(likeness > ALIKE).tolist()]
    return found


def thumbnail(picture: Array) -> Array:
    """A small grey picture as a vector of mean 0 and length 1."""
    grey = normalised(picture).mean(-1)
    small = np.asarray(Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), float)
    centred = small.reshape(-1) - small.mean()
    vector: Array = centred / max(float(np.linalg.norm(centred)), 1e-9)
    return vector
