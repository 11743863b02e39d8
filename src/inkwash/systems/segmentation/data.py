"""Pictures and masks of one's own: found in a folder, read, and parted into what is learned from and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.codecs.picture_files import (
    Array,
    is_hidden,
    is_picture,
    orientation,
    read_pages,
    says_of_range,
    stem_of,
)
from inkwash.errors import UserError
from inkwash.systems import coco, splits
from inkwash.systems.segmentation import annotated
from inkwash.systems.segmentation.masks import (
    by_colour,
    describe,
    joined,
    kind_of,
    palettes_differ,
    read_masks,
    to_objects,
)
from inkwash.systems.splits import (
    PARTS,
    check_group,
    digest,
    group_of,
    parted_by_folders,
    parts_by_folder,
    parts_by_name,
    read_list,
    some,
)
from inkwash.weights.files import files_below

MASK_FOLDERS = ("masks", "labels")
SUFFIXES = ("_mask", "_masks", "_label", "_labels", "_cp_masks")  # the last: Cellpose's
MOST_CLASSES = 255


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
    its kin beside NAME.png; `ID/images/NAME.png` and `ID/masks/` with a file for each object; a JSON of COCO; or
    labelme's. A list, index.csv or split.csv with the columns name and split, is followed.

    classes: their names, by the order of their values; needed where masks of few values are not objects.
    group: a pattern whose first bracket is the slide or patient in a file's name, or a column of the list.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: a folder of pictures and masks is needed")
    files = [file for file in files_below(folder) if not is_hidden(file, folder)]
    content = [(file, coco.load(file)) for file in files if file.suffix.lower() == ".json"]
    of_coco = [pair for pair in content if coco.is_coco(pair[1])]
    labelme = [pair for pair in content if annotated.is_labelme(pair[1])]
    if of_coco or labelme:
        entries, names, parts = read_annotated(folder, of_coco, labelme, classes, note)
        known = {name for name, *_ in entries}
        if lone := sorted({stem_of(file.name) for file in files if is_picture(file)} - known):
            note(f"{some(lone)} have no annotation in the JSON, and are left out")
    else:
        entries, names, parts = read_pairs(folder, files, classes, note)
    if not any(labels.any() for *_, labels, _ in entries):
        raise UserError(f"{folder}: all {len(entries)} masks are empty")
    if twice := [name for name, count in Counter(name for name, *_ in entries).items() if count > 1]:
        raise UserError(f"two pictures are called {twice[0]}, one of them a slice of a stack; rename one")
    listed, groups = read_list(folder, group, [stem for _, stem, *_ in entries], note)
    listed = listed or {stem: PARTS[part] for stem, part in parts.items()}
    examples = [
        Example(name, picture, labels, kinds, digest(picture), group_of(stem, group, groups))
        for name, stem, picture, labels, kinds in entries
    ]
    check_group(group, groups, [(one.group, stem) for one, (_, stem, *_) in zip(examples, entries, strict=True)])
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
) -> tuple[list[Entry], list[str], dict[str, str]]:
    """Pictures whose masks are files; then the part of each, where their folders say it."""
    pairs, lone = objects_apart(folder, files)
    if pairs:
        note(f"{len(pairs)} pictures with a file for each object")
    else:
        pairs, lone = find_pairs(folder, files, note)
    if lone:
        note(f"{some(lone)} have no mask, and are left out")
    if turned := [picture.name for picture, _ in pairs if orientation(picture) > 1]:
        note(f"{some(turned)} are turned as their EXIF says: their masks must lie the same way")
    pictures = {path: read_pages(path) for path, _ in pairs}
    masks = {path: joined(path) if path.is_dir() else read_masks(path) for _, path in pairs}
    if palettes_differ([mask for own in masks.values() for mask in own]):
        note("the masks' palettes differ: they are read by their colours, and black is where nothing is")
        masks = {path: [by_colour(mask) for mask in own] for path, own in masks.items()}
    if parts := parts_by_folder(folder, [path for path, _ in pairs]):
        note(parted_by_folders(parts))
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
    return entries, names, {stem_of(picture.name): part for picture, part in parts.items()}


def check_classes(names: Sequence[str]) -> None:
    """UserError for a name that comes twice, and for too many."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"class '{twice[0]}' is named twice: give each class a name of its own")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{len(names)} classes; {MOST_CLASSES} at most are possible: name those that count")


def objects_apart(folder: Path, files: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pictures with the folders of their masks, and the names of pictures without, where all lie as in the 2018 Data
    Science Bowl: ID/images/ has one picture, and ID/masks/ a file for each object. Nothing where one does not."""
    places: dict[Path, dict[str, list[Path]]] = {}
    for file in filter(is_picture, files):
        places.setdefault(file.parent.parent, {}).setdefault(file.parent.name.lower(), []).append(file)
    found, lone = list[tuple[Path, Path]](), list[str]()
    for place in sorted(places):
        pictures, masks = (places[place].pop(name, []) for name in ("images", "masks"))
        if place == folder or places[place] or len(pictures) != 1:
            return [], []
        name = stem_of(pictures[0].name)
        if name in {stem_of(file.name) for file in masks}:
            return [], []
        if masks:
            found.append((pictures[0], masks[0].parent))
        else:
            lone.append(name)
    return found, lone


def find_pairs(folder: Path, files: Sequence[Path], note: Note) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pictures with their masks, and the names of pictures without; masks without a picture are said. UserError where
    there is no pair, and for two pictures, or two masks, of one name."""
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
    if names := sorted(masks.keys() - pictures.keys()):
        shown = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        note(f"{len(names)} masks ({shown}) have no picture that is read here, and are left out")
    return found, sorted(pictures.keys() - masks.keys())


def read_annotated(
    folder: Path, of_coco: Sequence[Any], labelme: Sequence[Any], classes: Sequence[str], note: Note
) -> tuple[list[Entry], list[str], dict[str, str]]:
    """Pictures whose objects are in JSON: one of COCO, or one for each part; then which part each is of."""
    parts, listed = parts_by_name(folder, [path for path, _ in of_coco]), dict[str, str]()
    if (len(of_coco) > 1 and not parts) or (of_coco and labelme):
        raise coco.several(folder, [path for path, _ in [*of_coco, *labelme]])
    if of_coco:
        found, known = list[annotated.Annotated](), list[str]()
        for path, content in of_coco:
            own, names = annotated.read_coco(path, content, note)
            if any("score" in one for one in content["annotations"]):
                raise UserError(f"{path}: annotations with a score are a model's answers, no truth: take it away")
            if known and names != known:
                raise UserError(f"{path}: other categories than {of_coco[0][0]}; make them the same")
            found, known = found + own, names
            listed |= {stem_of(one.path.name): parts[path] for one in own if parts}
    else:
        found = [annotated.read_labelme(path, content, note) for path, content in labelme]
        known = sorted({name for one in found for name, _ in one.objects})
    if not listed and (told := parts_by_folder(folder, [one.path for one in found])):
        note(parted_by_folders(told))
        listed = {stem_of(path.name): part for path, part in told.items()}
    if classes and (strange := [name for name in classes if name not in known]):
        raise UserError(f"class '{strange[0]}' is not in the annotations; there are {', '.join(known)}")
    if classes:
        found = [one._replace(objects=[pair for pair in one.objects if pair[0] in classes]) for one in found]
    used = {name for one in found for name, _ in one.objects}
    if not classes and (empty := [name for name in known if name not in used]):
        shown = ", ".join(empty[:5]) + ", ..." * (len(empty) > 5)
        note(f"{len(empty)} classes have no object, and are left out: {shown}")
    names = list(classes) or [name for name in known if name in used]
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
    drawn = sum(len(kinds) - 1 for *_, kinds in entries)
    if lost := sum(len(one.objects) for one in found) - drawn:
        note(f"{lost} objects are left out: they lie below others, or cover half of no pixel")
    return entries, names, listed


def split(data: Data, folder: Path) -> tuple[list[Example], list[Example], list[Example]]:
    """See `splits.split`. UserError also for a class that is in no picture to learn from."""
    training, choices, table = splits.split(data.examples, data.listed, folder)
    for number, name in enumerate(data.classes, 1):
        if not any((one.kinds[np.unique(one.labels)] == number).any() for one in training):
            raise UserError(
                f"{folder}: class '{name}' is in no picture of the training part; add some, or leave it out"
            )
    return training, choices, table
