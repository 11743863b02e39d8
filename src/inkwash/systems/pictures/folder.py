"""Pictures of one's own, from a folder, with their captions, to learn from."""

import hashlib
import json
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note, Progress
from inkwash.systems.pictures.data import HEIF, is_animated, load_image, require_reader
from inkwash.systems.pictures.prompts import spell_emoji, unknown_tokens
from inkwash.systems.tables import read_rows, read_utf8
from inkwash.weights.files import files_below

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", *HEIF}
TABLES = {"metadata.csv", "metadata.jsonl"}  # of captions, as Hugging Face's imagefolder has them
COLUMNS = ("file_name", "text")


@dataclass(frozen=True)
class Folder:
    """The table [folder] of a recipe: the data are a folder of pictures of one's own.

    flip     half of the pictures are mirrored, each time anew
    resize   how one that is not square becomes so: its middle is cut out, or all of it is laid on white
    """

    flip: bool = False
    resize: Literal["crop", "pad"] = "crop"


class Pictures(NamedTuple):
    """uint8 (N, size, size, 3), on white, and the captions of each: none, one or several."""

    pictures: np.ndarray
    captions: list[list[str]]


def read_folder(folder: Path, size: int, resize: str = "crop", monitor: Monitor = CONSOLE) -> Pictures:
    """All pictures below a folder, made square and resized, with their captions.

    What cannot be read is skipped and named; what else is not as it was in its file is counted. Raises UserError for
    a folder that is missing or has none, and for captions that cannot be read.
    """
    files = picture_files(folder)
    captions, pictures, learned = read_captions(folder, files, monitor), [], []
    changed: dict[str, list[tuple[float, Path]]] = defaultdict(list)
    for done, (file, own) in enumerate(zip(files, captions, strict=True), 1):
        try:
            picture, changes = read_square(file, size, resize)
        except UserError as error:
            monitor.tell(Note(f"skipped {error}"))
        else:
            pictures.append(picture)
            learned.append(own)
            for change, share in changes.items():
                changed[change].append((share, file))
        monitor.tell(Progress(done, len(files), "pictures are read"))
    if not pictures:
        raise UserError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    for change, found in changed.items():
        share, file = max(found)
        text = CHANGES[change].format(share=share)
        monitor.tell(Note(f"{len(found)} of {len(pictures)} pictures are {text} ({file.relative_to(folder)})"))
    return Pictures(np.stack(pictures), learned)


CHANGES = {
    "enlarged": "smaller than the model's: they are enlarged, up to {share:.1f} times",
    "animated": "animated: the first frame is taken",
    "transparent": "transparent: they are laid on white, and the model will know no opacity",
    "crop": "not square: what lies beside the middle is cut off, up to {share:.0%}; --resize pad keeps all, on white",
    "pad": "not square: white is laid beside them, up to {share:.0%} of all; --resize crop cuts out the middle",
}


def read_square(file: Path, size: int, resize: str) -> tuple[np.ndarray, dict[str, float]]:
    """A picture on white, uint8 (size, size, 3), and which of `CHANGES` befell how large a share of it."""
    picture, changes = load_image(file), {}
    if is_animated(file):
        changes["animated"] = 1.0
    if picture.mode == "RGBA":
        if (clear := float(np.mean(np.asarray(picture.getchannel("A")) < 255))) > 0:
            changes["transparent"] = clear
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    if (scale := size / (max if resize == "pad" else min)(picture.size)) > 1:
        changes["enlarged"] = scale
    if picture.width != picture.height:
        changes[resize] = 1 - min(picture.size) / max(picture.size)
    if resize == "pad":
        square = ImageOps.pad(picture, (size, size), Image.Resampling.LANCZOS, color="white")
    else:
        square = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(square), changes


def picture_files(folder: Path) -> list[Path]:
    """The pictures below a folder, by name; hidden ones are passed over, and what macOS adds to archives. UserError
    where a package is missing that reads one of them."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures")
    files = [file for file in visible_files(folder) if file.suffix.lower() in SUFFIXES]
    first = {file.suffix.lower(): file for file in reversed(files)}
    for file in first.values():
        require_reader(file)
    return files


def visible_files(folder: Path) -> list[Path]:
    def hidden(part: str) -> bool:
        return part.startswith(".") or part == "__MACOSX"

    return [file for file in files_below(folder) if not any(map(hidden, file.relative_to(folder).parts))]


def read_captions(folder: Path, files: Sequence[Path], monitor: Monitor | None = None) -> list[list[str]]:
    """The captions of each file: what metadata.csv or metadata.jsonl, here or below, says of it, and each line of the
    text beside it (cat.txt of cat.png). Where no file has any, and they lie in two folders or more, the folders'
    names. Texts beside no picture and other files are counted. UserError for texts and tables that cannot be read."""
    named: dict[str, list[str]] = {path_key(file): [] for file in files}
    others = visible_files(folder)
    tables = [file for file in others if file.name.lower() in TABLES]
    for table in tables:
        for name, text in read_table(table):
            file = table.parent / name.replace("\\", "/")
            if path_key(file) not in named:
                raise UserError(f"{file}: no such picture, which {table.name} names")
            named[path_key(file)].append(text)
    texts = [file for file in others if file.suffix.lower() == ".txt"]
    if monitor and (unread := sorted({*others} - {*files} - {*texts} - {*tables})):
        endings = ", ".join(sorted({file.suffix.lower() or file.name for file in unread})[:6])
        text = f"{len(unread)} files are passed over, neither pictures nor captions: {endings}"
        monitor.tell(Note(f"{text} ({unread[0].relative_to(folder)})"))
    text_of = {path_key(text.with_suffix("")): text for text in texts}
    beside = [text_of.get(path_key(file.with_suffix(""))) for file in files]
    if monitor and (alone := sorted({*texts} - {*beside})):
        first = alone[0].relative_to(folder)
        monitor.tell(Note(f"{len(alone)} texts are passed over: no picture is called as they are ({first})"))
    captions = [
        plain([*named[path_key(file)], *(read_text(text).splitlines() if text else ())])
        for file, text in zip(files, beside, strict=True)
    ]
    names = ["" if file.parent == folder else file.parent.name.replace("_", " ") for file in files]
    if not any(captions) and len({*names} - {""}) > 1:
        return [plain([name]) for name in names]
    return captions


def path_key(file: Path) -> str:
    """A path without "..", its accents as one sign each: macOS writes them as two."""
    return unicodedata.normalize("NFC", os.path.normpath(file))


def plain(texts: list[str]) -> list[str]:
    """Without what is empty, with single spaces, and emoji by their names, as prompts have them."""
    return [" ".join(spell_emoji(text).split()) for text in texts if text.strip()]


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file}: captions are read as UTF-8, which this is not: save it as such") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None


def read_table(table: Path) -> list[tuple[str, str]]:
    """The lines of a table of captions: `COLUMNS` of each. UserError for one that lacks them."""
    rows: list[Any]
    if table.suffix.lower() == ".csv":
        names, *cells = [*read_rows(table, read_utf8(table))] or [[]]
        rows = [dict(zip(names, row, strict=True)) for row in cells]
    else:
        try:
            rows = [json.loads(line) for line in read_text(table).split("\n") if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UserError(f"{table}: its lines are not JSON ({error})") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not all(is_text(row.get(column)) for column in COLUMNS):
            raise UserError(f"{table}, entry {number}: a file_name and a text are needed")
    return [(row["file_name"], row["text"]) for row in rows]


def is_text(value: Any) -> bool:
    """Whether it is a text of whole signs: JSON may have halves of them."""
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def describe_captions(captions: list[list[str]]) -> str:
    """How many pictures have captions, and which are the most common ones."""
    counts = Counter(caption for own in captions for caption in own)
    without = sum(not own for own in captions)
    some = ", ".join(f"{text[:40]} ({count})" for text, count in counts.most_common(4))
    more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
    rest = f"; {without} of {len(captions)} pictures have none, and are learned without words" if without else ""
    return f"captions: {some}{more}{rest}"


def check_captions(captions: list[list[str]], tokenizer: Any, monitor: Monitor) -> None:
    """Says how many captions, each counted once, have words that the tokenizer does not know, and how many nothing
    else. UserError where it knows nothing of any."""
    texts = sorted({text for own in captions for text in own})
    found = {text: unknown_tokens(text, tokenizer) for text in texts}
    nothing = [text for text, (_, any_word) in found.items() if not any_word]
    if len(nothing) == len(texts):
        raise UserError(f"the text encoder knows nothing of any caption ({texts[0][:40]}): write English or Chinese")
    in_part = [text for text, (unknown, any_word) in found.items() if unknown and any_word]
    for several, share in ((nothing, "nothing"), (in_part, "not all")):
        if several:
            text = f"{len(several)} of {len(texts)} captions: the text encoder knows {share} of them"
            monitor.tell(Note(f"{text} ({several[0][:40]})"))


def split_by_content(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the pictures to learn from, and of those held out: every 20th by the order of the SHA-256 of
    their pixels, whatever their files are called, with all its copies. Of fewer than 200 different ones none."""
    hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures]
    different, which = np.unique(hashes, return_inverse=True)
    held_out = (which % 20 == 0) & (len(different) >= 200)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
