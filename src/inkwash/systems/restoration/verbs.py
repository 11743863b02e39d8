"""The verbs of restoration: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inkwash.codecs.picture_files import is_writable, says_of_range
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.base import Context, Result, on_progress, recipe
from inkwash.systems.picture_folders import check_all_done, leave_out_faulty, on_picture, room_on_disk
from inkwash.systems.pictures.data import is_animated, load_mask, orientation, same_shape
from inkwash.systems.restoration.data import note_left_out, picture_files
from inkwash.systems.restoration.levels import Array, spread_of, white_of
from inkwash.systems.restoration.output import invented_facts, write_samples
from inkwash.systems.restoration.photos import Photo, format_for, read_photo, resized_alpha
from inkwash.systems.restoration.request import Edit, Upscale
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training

UPSCALERS = {"superresolution": Task("inkwash.systems.restoration.train_superresolution")}
EDITORS = {"editing": Task("inkwash.systems.restoration.train_editing")}
TASKS = UPSCALERS | EDITORS
WHITE = 0.9  # of a mask of a smoothed hole, somewhere
HEAD = 4096  # bytes of a file, among which the chunk of a WebP's pixels begins
FAINTEST = 0.1  # of a mask that means anything: one of numbers of classes, 0 and 1, is darker


def upscale(requests: list[Upscale], context: Context) -> Iterator[Result]:
    """For each picture its files."""
    for of, request in enumerate(requests):
        model = context.model(request.model)
        path, given = context.open(request.pictures), request.pictures
        owned = {one.name: one for one in given} if isinstance(given, tuple) else {}
        files = photo_files(path, context) if owned else [(Path(getattr(given, "name", "")).stem, path)]
        faulty = list[str]()
        for place, (stem, file) in enumerate(files):
            if context.stopped():
                return
            own: Any = owned[file.relative_to(path).as_posix()] if owned else given
            try:
                photo = read(file, own.name, context)
                with named(own.name):
                    kind = format_for(frame(photo, model.factor), request.format, request.consistent)
            except UserError as error:
                leave_out_faulty(error, faulty, len(files), context)
                continue
            options = (request.samples, request.seed, request.steps, request.consistent, request.noise_level)
            with named(own.name):
                made = model.upscale(photo.pixels, *options, partial(on_picture, context, place, len(files), stem))
            if request.format is None and kind == "png" and photo.format == "jpeg":
                context.tell(
                    Note(f"{own.name}: written as PNG, since a JPEG would not be consistent to the last bit")
                )
            photos = [enlarged_photo(photo, one) for one in made]
            spread = spread_of(made, white_of(photo.pixels))
            facts = recipe("superresolution", "upscale", replace(request, pictures=own), model, context)
            facts |= {"runtime": model.runtime}
            target = context.folder / f"{of}-{stem}-x{model.factor}"
            with room_on_disk(context):
                written = write_samples(photos, kind, spread, target, facts)
            row = row_of(stem, photos[0].pixels, len(photos), spread)
            named_files = {f"{stem}-x{model.factor}{ending}": file for ending, file in written.items()}
            yield Result(of, place, named_files, row, facts)
        check_all_done(faulty)


def edit(requests: list[Edit], context: Context) -> Iterator[Result]:
    """All samples of the picture, where they differ, and what was invented."""
    for of, request in enumerate(requests):
        model = context.model(request.model)
        photo = read(context.open(request.picture), request.picture.name, context)
        mask = None if request.mask is None else read_mask(photo, request, context)
        with named(request.picture.name):
            found = model.edit(
                photo.pixels, request.task, mask, request.outpaint, request.samples, request.seed, request.steps,
                on_progress(context),
            )  # fmt: skip
            photos = [edited_photo(photo, one, mask) for one in found.samples]
            kind = format_for(photos[0], request.format, lossless=True)
        facts = recipe("editing", "edit", request, model, context)
        facts |= {"invented": invented_facts(found.invented), "runtime": model.runtime}
        with room_on_disk(context):
            files = write_samples(photos, kind, found.spread, context.folder / str(of), facts, found.invented)
        row = row_of(Path(request.picture.name).stem, photos[0].pixels, len(photos), found.spread[found.invented])
        yield Result(of, 0, files, row, facts)


def photo_files(folder: Path, context: Context) -> list[tuple[str, Path]]:
    """(name, file) of each picture below a folder; what lies there beside them is said."""
    files, others = picture_files(folder)
    note_left_out(others, lambda text: context.tell(Note(text)))
    return [(file.stem, file) for file in files]


def read(file: Path, name: str, context: Context) -> Photo:
    """The photograph; of 16 bits that are hardly used it is said that they are scaled. UserError also for a name that
    no text can hold."""
    if not is_writable(name):
        raise UserError(f"a picture is called {name!r}: rename it, in letters of UTF-8")
    photo = read_photo(file)
    says_of_range([photo.pixels], name, lambda text: context.tell(Note(text)))
    return photo


@contextmanager
def named(name: str) -> Iterator[None]:
    """UserErrors with the name of the picture."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def read_mask(photo: Photo, request: Any, context: Context) -> Array:
    """See `mask_for`; what may be meant otherwise is said."""
    file, name = context.open(request.mask), request.mask.name
    mask = mask_for(photo, file, name)
    if is_blurred(file):
        context.tell(
            Note(f"{name} is a JPEG or lossy WebP, blurred at its edges: what is lighter than half is drawn")
        )
    if photo.orientation != orientation(file):
        context.tell(
            Note(f"{request.picture.name} and {name} are turned as the EXIF of each says: they must lie the same way")
        )
    if mask.max() < WHITE:
        context.tell(Note(f"{name} is nowhere white: what is drawn is mixed with the picture"))
    return mask


def mask_for(photo: Photo, file: Path, name: str) -> Array:
    """(H, W) from 0 to 1, of the photograph's size. UserError for one of another shape, all black or all white."""
    if is_animated(file):
        raise UserError(f"{name}: animated, or a stack; save the page that is meant")
    mask, (height, width) = load_mask(file), photo.pixels.shape[:2]
    if is_blurred(file):
        mask = mask.point([0] * 128 + [255] * 128)
    if not same_shape(mask.size, (width, height)):
        raise UserError(
            f"{name}: the mask has {mask.width} x {mask.height} pixels, the picture {width} x {height}: give one of "
            "the same shape"
        )
    if mask.size != (width, height):
        mask = mask.resize((width, height), Image.Resampling.BOX)
    values = np.asarray(mask) / 255.0
    if not values.any():
        raise UserError(f"{name}: the mask is black everywhere: make white what shall be drawn anew")
    if values.max() < FAINTEST:
        raise UserError(
            f"{name}: the mask's lightest pixel is {round(255 * values.max())} of 255, nearly black: make white what "
            "shall be drawn anew"
        )
    if values.all():
        raise UserError(f"{name}: no pixel of the mask is black: make black what shall stay")
    return values


def is_blurred(file: Path) -> bool:
    """Whether its values are not those that were drawn: a JPEG, or a WebP with a chunk of lossy pixels."""
    head = file.read_bytes()[:HEAD]
    return head.startswith(b"\xff\xd8") or (head[8:12] == b"WEBP" and b"VP8 " in head)


def frame(photo: Photo, factor: int) -> Photo:
    """A picture as large as the one that will be made of it, of no memory."""
    height, width, *more = photo.pixels.shape
    shape = (height * factor, width * factor)
    pixels = np.broadcast_to(photo.pixels.ravel()[:1], (*shape, *more))
    return photo._replace(
        pixels=pixels, alpha=None if photo.alpha is None else np.broadcast_to(pixels.ravel()[:1], shape)
    )


def enlarged_photo(photo: Photo, pixels: Array) -> Photo:
    """With opacity as large as the pixels."""
    alpha = None if photo.alpha is None else resized_alpha(photo.alpha, pixels.shape[:2])
    return photo._replace(pixels=pixels, alpha=alpha)


def edited_photo(photo: Photo, pixels: Array, mask: Array | None) -> Photo:
    """With its opacity, opaque beyond its edges and in holes; and its profile, unless that is of grey and colours
    were added."""
    alpha = photo.alpha
    if alpha is not None and mask is not None:
        alpha = np.maximum(alpha, (mask * np.iinfo(alpha.dtype).max).round().astype(alpha.dtype))
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        edges = [(most - side) // 2 for most, side in zip(pixels.shape[:2], alpha.shape, strict=True)]
        alpha = np.pad(alpha, [(edge, edge) for edge in edges], constant_values=np.iinfo(alpha.dtype).max)
    return photo._replace(pixels=pixels, alpha=alpha, icc=photo.icc if pixels.ndim == photo.pixels.ndim else b"")


def row_of(name: str, pixels: Array, samples: int, spread: Array) -> dict[str, Any]:
    """A line of the run's table."""
    height, width = pixels.shape[:2]
    row: dict[str, Any] = {"picture": name, "width": width, "height": height, "samples": samples}
    if samples > 1:
        row |= {"spread": round(float(spread.mean()), 5), "spread_most": round(float(spread.max()), 5)}
    return row


def upscaling_recipe(data: Path) -> Any:
    from inkwash.systems.restoration.train_superresolution import default_recipe

    return default_recipe(data)


def editing_recipe(data: Path) -> Any:
    from inkwash.systems.restoration.train_editing import default_recipe

    return default_recipe(data)


train_upscaler = partial(run_training, tasks=UPSCALERS, default=upscaling_recipe)
train_editor = partial(run_training, tasks=EDITORS, default=editing_recipe)
