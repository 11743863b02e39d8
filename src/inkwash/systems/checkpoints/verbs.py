"""The verb of checkpoints: from requests to pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from inkwash.codecs.png import KEY, write_png
from inkwash.progress import Progress
from inkwash.systems.base import Context, Note, Preview, Result, seeded
from inkwash.systems.checkpoints.request import Generate
from inkwash.systems.pictures import formats
from inkwash.systems.pictures.data import is_animated
from inkwash.systems.pictures.verbs import grid_of

OPTIONS = (
    "seed", "negative", "sampler", "steps", "grid", "guidance", "rescale", "size", "width", "height", "clip_skip",
    "strength", "image_guidance",
)  # fmt: skip
FILES = ("image", "mask")


def generate(requests: list[Generate], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model = context.model(request.model)
        for note in notes(request, model, context):
            context.tell(Note(note))
        yield from generate_images(of, seeded(request), model, context)


def notes(request: Generate, model: Any, context: Context) -> Iterator[str]:
    """What of its words and pictures cannot be used."""
    for prompt in filter(None, (request.prompt, request.negative)):
        if (note := model.prompt_warning(prompt)) is not None:
            yield note
    for name in FILES:
        if (given := getattr(request, name)) is not None and is_animated(context.open(given)):
            yield f"{name}: it has several frames or pages: the first is taken"


def generate_images(of: int, request: Generate, model: Any, context: Context) -> Iterator[Result]:
    pictures, parts = [], request.subrequests()
    for place, part in enumerate(parts):  # each alone: none depends on its neighbours

        def progress(done: int, steps: int, done_before: int = place) -> None:
            context.tell(Progress(done_before * steps + done, len(parts) * steps))

        def preview(picture: Image.Image, place: int = place) -> None:
            context.tell(Preview(of, place, picture))

        files = {name: getattr(part, name) and context.open(getattr(part, name)) for name in FILES}
        picture = model.generate(
            part.prompt, **files, **{name: getattr(part, name) for name in OPTIONS}, progress=progress,
            preview=preview if context.previews else None, previews=context.previews,
        )  # fmt: skip
        pictures.append(picture)
        recipe = formats.recipe_of(picture, part.format)
        yield Result(of, place, formats.write(picture, part.format, context.folder / f"{of}-{place}"), {}, recipe)
    if len(parts) > 1:
        file = context.folder / f"{of}-grid.png"
        write_png(grid_of(pictures), file, [picture.info[KEY] for picture in pictures])
        yield Result(of, None, {"-grid.png": file})
