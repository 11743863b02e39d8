"""Boxes as other tools write them: COCO's JSON, YOLO's text, Pascal VOC's XML, and a table; read."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from inkwash.codecs.picture_files import is_hidden, is_picture, size_of, stem_of
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
    parts_of,
    pictures_of_lists,
    text_of,
)
from inkwash.systems.splits import some
from inkwash.weights.files import files_below

COLUMNS = ("image", "label", "xmin", "ymin", "xmax", "ymax")
OTHER = {"filename": "image", "class": "label"}  # names of columns in TensorFlow's tables
SIZES = {"width": "image width", "height": "image height"}  # which there are beside its `filename`
LISTS = {part: f"{part}.txt" for part in ("test", "val", "train")}
VOC_LISTS = {part: f"ImageSets/Main/{part}.txt" for part in ("test", "val", "train")}
PARTS = ("train", "val", "test")
MASKS = {"SegmentationClass", "SegmentationObject"}  # Pascal VOC's folders of masks, called as its pictures
KEPT = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult"}  # of COCO's annotations
KEPT_OF_VOC = {"name", "bndbox", "difficult"}
NOTHING = ("", "0", "Unspecified", "None", "[]", "{}", "False")  # what says no more of a box
NO_PLACE = ("", "~", "null")  # in YAML


def read(folder: Path, note: Note) -> Annotations:
    """The boxes of a folder, whichever of the four formats they are in. UserError where there is none, or more than
    one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: a folder of pictures and boxes is needed")
    files = [file for file in files_below(folder) if not is_hidden(file, folder)]
    content = [(file, coco.load(file)) for file in files if file.suffix.lower() == ".json"]
    of_coco = [pair for pair in content if coco.is_coco(pair[1])]
    yamls = [file for file in files if file.suffix.lower() in (".yaml", ".yml") and names_of(file)]
    xmls = [
        (file, root) for file in files if file.suffix.lower() == ".xml" and (root := annotation(file)) is not None
    ]
    tables = [file for file in files if file.suffix.lower() == ".csv" and is_table(file)]
    kinds = {"COCO's JSON": of_coco, "YOLO's data.yaml": yamls, "Pascal VOC's XML": xmls, "a table of boxes": tables}
    there = [kind for kind, found in kinds.items() if found]
    if len(there) > 1:
        raise UserError(f"{folder}: boxes in several formats: {' and '.join(there)}; leave one there")
    if not there:
        raise UserError(
            f"{folder}: no boxes found for {sum(map(is_picture, files))} pictures; looked for COCO's JSON, YOLO's "
            f"data.yaml with labels/, Pascal VOC's XML, and a CSV of the columns {', '.join(COLUMNS)}"
        )
    for several in (of_coco, yamls, tables):
        if len(several) > 1:
            paths = [one[0] if isinstance(one, tuple) else one for one in several]
            shown = ", ".join(path.name for path in paths[:3])
            raise UserError(f"{folder}: several files of annotations: {shown}; leave one there")
    if of_coco:
        found = read_coco(*of_coco[0])
        known = {stem_of(picture.file.name) for picture in found.pictures}
        if lone := sorted({stem_of(file.name) for file in files if is_picture(file)} - known):
            note(f"{some(lone)} have no annotation in the JSON, and are left out")
        return found
    if yamls:
        return read_yolo(folder, yamls[0], note)
    return read_voc(folder, files, xmls, note) if xmls else read_table(folder, files, tables[0], note)


def read_coco(path: Path, content: Any) -> Annotations:
    """bbox is x, y, width, height from the picture's corner. Ids of categories may have gaps."""
    known, pictures = coco.read(path, content), []
    for key, file in known.files.items():
        boxes = []
        for one in known.owners[key]:
            try:
                x, y, width, height = (float(value) for value in one["bbox"])
                hard = coco.flag(one.get("difficult"))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{coco.broken(path, error)}, in annotation {one.get('id')}") from None
            label = known.categories[one["category_id"]].strip()
            boxes.append(Box((x, y, x + width, y + height), label, one["iscrowd"], hard))
        pictures.append(Picture(file, known.sizes[key], boxes))
    ids, classes = [*known.categories], [name.strip() for name in known.categories.values()]
    check_classes(classes, path)
    rows = [one for own in known.owners.values() for one in own]
    return Annotations(pictures, classes, ids, {}, others(rows, KEPT))


def others(rows: Sequence[dict[Any, Any]], kept: set[str]) -> list[str]:
    """The keys of rows, beside those that are kept, that say anything."""
    return sorted({str(key) for row in rows for key, value in row.items() if key not in kept and says(value)})


def says(value: Any) -> bool:
    return str(value).strip() not in NOTHING


def names_of(path: Path) -> Any:
    """The names of a YOLO data set's classes, a list or a dict; None for another YAML."""
    content = content_of(path)
    return content.get("names") if isinstance(content, dict) else None


def content_of(path: Path) -> Any:
    """All of it as text: `no` and `010` are names of classes as well. UserError for a broken one that has names."""
    text = text_of(path, "replace")
    if "names" not in text:
        return None
    try:
        return yaml.load(text_of(path), Loader=yaml.BaseLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None


def class_names(path: Path, given: Any) -> list[str]:
    """UserError for what is neither a list of names nor names by their numbers from 0."""
    numbered = isinstance(given, dict) and all(str(key).isdecimal() for key in given)
    if numbered and sorted(map(int, given)) != list(range(len(given))):
        raise UserError(
            f"{path}: its names are numbered {sorted(map(int, given))[:9]}; from 0, without gaps, is needed"
        )
    names = [given[key] for key in sorted(given, key=int)] if numbered else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: names: a list of the classes, or a name for each number, is needed")
    names = [name.strip() for name in names]
    check_classes(names, path)
    return names


def read_yolo(folder: Path, path: Path, note: Note) -> Annotations:
    """A line for each box: class from 0, then the middle, width and height as shares of the picture's; or the corners
    of a polygon, around which the box lies. A picture without a file of labels has no objects."""
    content = content_of(path)
    names = class_names(path, content["names"])
    parts = {
        part: yolo_pictures(folder, path, content, part) for part in PARTS if content.get(part, "") not in NO_PLACE
    }
    files = [file for found in parts.values() for file in found]
    files = list(dict.fromkeys(files)) or pictures_below(path.parent)
    by_stem(folder, files)
    labels = {file: labels_of(file, folder) for file in files}
    missing = [file for file, text in labels.items() if not text.is_file()]
    if len(missing) == len(files):
        raise UserError(f"{path}: none of its {len(files)} pictures has labels; looked for {labels[files[0]]}")
    if missing:
        note(f"{len(missing)} pictures have no file of labels, and are taken for pictures without objects")
    below = {text.parent for text in labels.values() if "labels" in text.parts}
    if lone := sorted({text for place in below for text in place.glob("*.txt")} - {*labels.values()}):
        note(f"{len(lone)} files of labels, such as {lone[0].name}, are of no picture that is read")
    polygons, poses = 0, "kpt_shape" in content
    pictures = []
    for file in files:
        size = size_of(file)
        lines = [] if file in missing else text_of(labels[file]).splitlines()
        rows = [(f"{labels[file]}, line {n}", line.split()) for n, line in enumerate(lines, 1) if line.strip()]
        rows = [(where, words[:5]) for where, words in rows] if poses else rows  # the joints of a pose follow its box
        polygons += sum(len(words) > 6 for _, words in rows)
        pictures.append(Picture(file, size, [yolo_box(where, words, names, size) for where, words in rows]))
    if polygons:
        note(f"{polygons} objects are polygons: the boxes around them are taken")
    stems = {part: sorted({stem_of(file.name) for file in found}) for part, found in parts.items()}
    first = stems.get("train")  # of a set that nobody has parted the others are the same
    stems = {part: own for part, own in stems.items() if part == "train" or own != first}
    listed = parts_of(stems, note) if len(stems) > 1 else {}
    return Annotations(pictures, names, list(range(1, len(names) + 1)), listed, ["keypoints"] * poses)


def within(folder: Path, path: Path) -> Path | None:
    """The path, where it lies in the folder. Others are not looked at, for a file that somebody sent may name any."""
    own, top = (Path(os.path.abspath(one)) for one in (path, folder))
    return folder / own.relative_to(top) if own.is_relative_to(top) else None


def yolo_pictures(folder: Path, path: Path, content: dict[str, Any], part: str) -> list[Path]:
    """The pictures of a part: folders, or lists of files, below data.yaml's `path`, or beside it; in the folder."""
    places = content[part] if isinstance(content[part], list) else [content[part]]
    found = []
    for place in map(str, places):
        roots = [path.parent / str(content.get("path") or "."), path.parent]
        tries = [root / name for root in roots for name in (place, place.removeprefix("../"))]
        inner = [own for one in tries if (own := within(folder, one))]
        where = next((one for one in inner if os.path.exists(one)), None)
        if where is None:
            raise UserError(
                f"{path}: {part}: {place[:100]} is not there, in {folder}; looked for {str(tries[-1])[:200]}"
            )
        if where.is_dir():
            found += pictures_below(where)
            continue
        for line in filter(None, map(str.strip, text_of(where).splitlines())):
            own = within(folder, where.parent / line)
            if own is None or not os.path.isfile(own):
                raise UserError(f"{where}: {line[:100]} is not there, in {folder}")
            found.append(own)
    return found


def pictures_below(folder: Path) -> list[Path]:
    return [file for file in files_below(folder) if is_picture(file) and not is_hidden(file, folder)]


def labels_of(picture: Path, folder: Path) -> Path:
    """Where YOLO looks for the labels of a picture: the last folder `images`, of those within the data's own, is
    `labels`; else beside it."""
    parts = [*picture.relative_to(folder).parts]
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        parts[place] = "labels"
    return folder.joinpath(*parts).with_suffix(".txt")


def yolo_box(where: str, words: Sequence[str], names: Sequence[str], size: tuple[int, int]) -> Box:
    try:
        kind, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise UserError(f"{where}: not numbers: {' '.join(words)[:60]}") from None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise UserError(f"{where}: {len(words)} numbers; a class, the middle, width and height are needed")
    if not 0 <= kind < len(names):
        raise UserError(f"{where}: class {kind}; data.yaml names {len(names)}, from 0")
    if max(values) > 2:  # a little beyond 1 a box passes the edge
        raise UserError(f"{where}: {max(values):g}: absolute numbers; YOLO has shares of the picture, from 0 to 1")
    if len(values) == 4:
        x, y, width, height = values
        values = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = ([round(value * side, 4) for value in values[i::2]] for i, side in enumerate(size))
    if len(values) == 4:
        return Box((xs[0], ys[0], xs[1], ys[1]), names[kind])
    x0, y0, x1, y1 = (float(end(side)) for end in (np.min, np.max) for side in (xs, ys))  # min(1, nan) would be 1
    return Box((x0, y0, x1, y1), names[kind])


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


def read_voc(folder: Path, files: Sequence[Path], xmls: Sequence[Any], note: Note) -> Annotations:
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
        rows = [voc_object(one, path) for one in root.iter("object")]
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
    listed = pictures_of_lists(folder, VOC_LISTS, note)
    return Annotations(pictures, classes, list(range(1, len(classes) + 1)), listed, sorted(rest - KEPT_OF_VOC))


def voc_object(one: Any, path: Path) -> tuple[list[float], str, bool]:
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


def is_table(path: Path) -> bool:
    try:
        head = next(csv.reader(io.StringIO(text_of(path, "replace"), newline="")), [])
    except csv.Error:
        return False
    return {*COLUMNS} <= {*columns_of(head)}


def columns_of(head: Sequence[str]) -> list[str]:
    """As they are called here; where both names of one are there, each keeps its own."""
    names = [name.strip() for name in head]
    other = OTHER | (SIZES if "filename" in names else {})
    return [name if other.get(name) in names else other.get(name, name) for name in names]


def rows_of(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of a table, but for empty ones. UserError where a row has more values than there are columns."""
    rows = []
    try:
        reader = csv.reader(io.StringIO(text_of(path), newline=""))
        names = columns_of(next(reader))
        if twice := coco.first_twice(name for name in names if name in COLUMNS):
            raise UserError(f"{path}: two columns are called {twice}; leave one")
        for given in reader:
            values = [value.strip() for value in given]
            if len(values) > len(names):
                raise UserError(f"{path}, line {reader.line_num}: {len(values)} values for {len(names)} columns")
            if any(values):
                rows.append((reader.line_num, dict.fromkeys(names, "") | dict(zip(names, values, strict=False))))
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error})") from None
    return rows


def read_table(folder: Path, files: Sequence[Path], path: Path, note: Note) -> Annotations:
    """A row for each box: picture, class, and its corners as Pascal VOC has them; columns `difficult` and `crowd`
    where there are such. A picture in a row without a class, or in train.txt, val.txt or test.txt alone, has no
    objects."""
    known, rows, table = by_stem(folder, files), dict[str, list[Any]](), rows_of(path)
    for number, row in table:
        own = rows.setdefault(stem_of(row["image"]), [])
        if row["image"] and not any(row[name] for name in COLUMNS[1:]):
            continue
        if not row["image"] or not row["label"]:
            raise UserError(f"{path}, line {number}: a box without its {'class' if row['image'] else 'picture'}")
        try:
            corners = [float(row[name]) for name in COLUMNS[2:]]
            flags = [coco.flag(row.get(name)) for name in ("crowd", "difficult")]
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: numbers are needed for {', '.join(COLUMNS[2:])}, 0 or 1 for flags ({error})"
            ) from None
        own.append((corners, row["label"], *flags))
    listed = pictures_of_lists(folder, LISTS, note)
    for stem in listed:
        rows.setdefault(stem, [])
    if missing := [stem for stem in rows if stem not in known]:
        shown = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise UserError(f"{path}: {len(missing)} of its {len(rows)} pictures are not in {folder}: {shown}")
    if lone := sorted(known.keys() - rows.keys()):
        note(f"{len(lone)} pictures have no row, and are left out: {', '.join(lone[:3])}{', ...' * (len(lone) > 3)}")
    for width, height, image in {tuple(row.get(name, "") for name in (*SIZES.values(), "image")) for _, row in table}:
        if width.isdecimal() and height.isdecimal():
            coco.check_size(known[stem_of(image)], (int(width), int(height)), path)
    zero = counted_from_zero([row[0] for own in rows.values() for row in own], note)
    pictures = [
        Picture(known[stem], size_of(known[stem]), [Box(from_voc(corners, zero), *more) for corners, *more in own])
        for stem, own in rows.items()
    ]
    classes = named([box.label for picture in pictures for box in picture.boxes])
    check_classes(classes, path)
    rest = others([row for _, row in table], {*COLUMNS, *SIZES.values(), "crowd", "difficult"})
    return Annotations(pictures, classes, list(range(1, len(classes) + 1)), listed, rest)
