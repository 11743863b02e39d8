"""Boxes as Pascal VOC has them: an XML for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from inkwash.codecs.picture_files import size_of, stem_of
from inkwash.errors import UserError
from inkwash.systems import coco
from inkwash.systems.detection.annotations import (
    Annotations,
    Box,
    Note,
    Picture,
    by_stem,
    check_classes,
    counted_from_zero,
    from_voc,
    named,
    pictures_of_lists,
    says,
)

LISTS = {part: f"ImageSets/Main/{part}.txt" for part in ("test", "val", "train")}
MASKS = {"SegmentationClass", "SegmentationObject"}  # folders of masks, called as its pictures
KEPT = {"name", "bndbox", "difficult"}  # of an object


def annotation(path: Path) -> Any:
    """The root of a file of Pascal VOC's, without namespaces; None for another XML. UserError for a broken one."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # two of them for encodings
        if not isinstance(error, OSError) and b"<annotation" not in path.read_bytes():
            return None
        raise UserError(f"{path}: not XML that can be read ({error}); save it again, as UTF-8") from None
    for one in root.iter():
        one.tag = one.tag.rpartition("}")[2]
    return root if root.tag == "annotation" else None


def read(folder: Path, files: Sequence[Path], xmls: Sequence[Any], note: Note) -> Annotations:
    """xmin to xmax are pixels, counted from 1; see `counted_from_zero`."""
    known = by_stem(folder, [file for file in files if file.parent.name not in MASKS])
    found, rest = [], set[str]()
    for path, root in xmls:
        name = (root.findtext("filename") or "").strip()
        file = coco.place(path, name) if name else None
        file = file or known.get(stem_of(name or path.stem)) or known.get(stem_of(path.stem))
        if file is None:
            raise UserError(f"{path}: its picture {name or path.stem} is nowhere in {folder}")
        try:
            width, height = (round(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
        except (ValueError, OverflowError):
            raise UserError(f"{path}: its size is no number of pixels") from None
        if width and height:
            coco.check_size(file, (width, height), path)
        rows = [object_of(one, path) for one in root.iter("object")]
        rest |= {part.tag for one in root.iter("object") for part in one if len(part) or says(part.text or "")}
        found.append((file, size_of(file), rows))
    zero = counted_from_zero([row[0] for *_, rows in found for row in rows], note)
    pictures = [
        Picture(file, size, [Box(from_voc(corners, zero), label, False, hard) for corners, label, hard in rows])
        for file, size, rows in found
    ]
    stems = [stem_of(picture.file.name) for picture in pictures]
    if (twice := coco.first_twice(stems)) is not None:
        raise UserError(f"{folder}: {twice} has two files of annotations; leave one there")
    lone = known.keys() - set(stems)
    if lone:
        note(f"{len(lone)} pictures have no annotation, and are left out: {', '.join(sorted(lone)[:3])}")
    classes = named([box.label for picture in pictures for box in picture.boxes])
    check_classes(classes, folder)
    listed = pictures_of_lists(folder, LISTS, note)
    return Annotations(pictures, classes, list(range(1, len(classes) + 1)), listed, sorted(rest - KEPT))


def object_of(one: Any, path: Path) -> tuple[list[float], str, bool]:
    """Corners as they are, class, difficult."""
    try:
        corners = [float(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        label = one.findtext("name").strip()
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: an object without a name, or without the four numbers of its box") from None
    if len(one.findall("bndbox")) > 1:
        raise UserError(f"{path}: an object '{label}' of several boxes; make each an object of its own")
    try:
        return corners, label, coco.flag(one.findtext("difficult"))
    except ValueError as error:
        raise UserError(f"{path}: difficult is {error}") from None
