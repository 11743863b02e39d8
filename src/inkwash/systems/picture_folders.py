"""Pictures that a user names, a file or a folder of them, one after the other; and what is written for them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

from inkwash.codecs.picture_files import Array, is_hidden, is_picture, is_writable, read_pages, says_of_range
from inkwash.codecs.png import KEY
from inkwash.errors import UserError, remedy
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context, File
from inkwash.weights.files import atomic, files_below

Row = dict[str, Any]
COLOURS = (
    (255, 210, 0),
    (0, 200, 255),
    (255, 90, 160),
    (120, 255, 90),
    (255, 140, 60),
    (170, 130, 255),
)  # of classes
MOST_NAMED = 3  # pictures that could not be read


def picture_files(
    path: Path, name: str = "", leave_out: Callable[[Path, Path], bool] = lambda file, folder: False
) -> list[tuple[str, Path]]:
    """(name, file) of each picture; of a folder, whatever lies below it but for hidden files, links to nowhere
    and what is left out. name: of a single file, as its owner calls it.

    UserError for none, for a name that no text can hold, and for two of one, whose results would have one, too.
    """
    if path.is_file():
        own = Path(name or path.name).stem
        check_names(path, [own])
        return [(own, path)]
    files = [
        file
        for file in files_below(path)
        if is_picture(file) and file.is_file() and not (is_hidden(file, path) or leave_out(file, path))
    ]
    if not files:
        raise UserError(f"{path}: no pictures there")
    names = [file.stem for file in files]
    check_names(path, names)
    if twice := sorted({one for one in names if names.count(one) > 1}):
        same = [file.relative_to(path).as_posix() for file in files if file.stem == twice[0]]
        raise UserError(f"two pictures are called {twice[0]}: {same[0]} and {same[1]}; rename one")
    return list(zip(names, files, strict=True))


def check_names(path: Path, names: Sequence[str]) -> None:
    """UserError for a name that no text can hold."""
    if strange := [name for name in names if not is_writable(name)]:
        raise UserError(f"{path}: a picture is called {strange[0]!r}: rename it, in letters of UTF-8")


def slices(name: str, pages: list[Array]) -> Iterator[tuple[str, Array]]:
    """Each slice of a picture with its name."""
    for i, page in enumerate(pages):
        yield (name if len(pages) == 1 else f"{name}-{i + 1}"), page


def leave_out_faulty(error: UserError, faulty: list[str], files: int, context: Context) -> None:
    """Of several pictures one that cannot be read, or written as asked, is said and left out; where none can, the
    error is raised."""
    faulty.append(str(error))
    if len(faulty) == files:
        raise error
    context.tell(Note(f"left out: {error}"))


def check_all_done(faulty: list[str]) -> None:
    """UserError, when all others are done, for those that were left out."""
    if faulty:
        raise UserError(f"left out, and the other pictures are done: {'; '.join(faulty[:MOST_NAMED])}")


def says_what_is_left_out(path: Path, taken: set[Path], context: Context) -> None:
    """Of a folder the pictures that are none to be read."""
    others = [] if path.is_file() else files_below(path)
    if names := [
        file.name for file in others if is_picture(file) and not is_hidden(file, path) and file not in taken
    ]:
        some = ", ".join(names[:MOST_NAMED])
        context.tell(
            Note(f"{len(names)} files are masks, come from an earlier run, or lead nowhere: left out: {some}")
        )


def pages_of(
    pictures: File | tuple[File, ...],
    context: Context,
    faulty: list[str],
    leave_out: Callable[[Path, Path], bool] = lambda file, folder: False,
) -> Iterator[tuple[File, str, Array, Callable[[int, int], None]]]:
    """(file, name, picture, whom to tell how far it is) of each slice of each picture, until no more is wanted.
    faulty: gets what is wrong with those that cannot be read, for `check_all_done`."""
    path = context.open(pictures)
    given = {one.name: one for one in pictures} if isinstance(pictures, tuple) else {}
    files = picture_files(path, "" if isinstance(pictures, tuple) else pictures.name, leave_out)
    names = {stem for stem, _ in files}
    says_what_is_left_out(path, {file for _, file in files}, context)
    for number, (stem, file) in enumerate(files):
        if context.stopped():
            return
        own = given[file.relative_to(path).as_posix()] if isinstance(pictures, tuple) else pictures
        try:
            pages = read_pages(file)
        except UserError as error:
            leave_out_faulty(error, faulty, len(files), context)
            continue
        says_of_range(pages, own.name, lambda text: context.tell(Note(text)))
        for name, page in slices(stem, pages):
            if name != stem and name in names:
                raise UserError(f"two pictures are called {name}, one of them a slice of {file.name}; rename one")
            yield own, name, page, partial(on_picture, context, number, len(files), name)


def on_picture(context: Context, number: int, of: int, name: str, step: int, steps: int) -> None:
    context.tell(Progress(number * steps + step, of * steps, name))


@contextmanager
def room_on_disk(context: Context) -> Iterator[None]:
    """UserError where the disk is full, or takes nothing."""
    try:
        yield
    except OSError as error:
        if (todo := remedy(error)) is None:
            raise
        raise UserError(f"cannot write in {context.folder} ({error.strerror}): {todo} and run again") from None


def with_recipe(recipe: Row) -> PngImagePlugin.PngInfo:
    """What makes the result anew, as text in its PNG. Neither a mask nor boxes drawn on a picture are a generated
    picture, and they are not labelled as one."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, json.dumps(recipe, ensure_ascii=False))
    return info


def save(picture: Any, file: Path, **options: Any) -> None:
    with atomic(file) as temporary:
        picture.save(temporary, **options)


def write_csv(rows: Sequence[Row], file: Path, columns: Sequence[str] = ()) -> None:
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    with atomic(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, names)
        table.writeheader()
        table.writerows(rows)


def write_json(content: Any, file: Path) -> None:
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
