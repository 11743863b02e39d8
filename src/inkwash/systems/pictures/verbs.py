"""The verbs of pictures: from requests to results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inkwash.codecs.pixels import on_white
from inkwash.codecs.png import KEY, GeneratedImage, write_gif, write_png
from inkwash.errors import UserError
from inkwash.progress import Progress
from inkwash.systems import report
from inkwash.systems.base import Context, Note, Preview, Result, on_progress, seeded
from inkwash.systems.pictures import formats
from inkwash.systems.pictures import request as ask
from inkwash.systems.pictures.data import image_grid, is_animated
from inkwash.systems.pictures.training_pictures import Nearest
from inkwash.systems.train import Task, Train
from inkwash.systems.train import train as train_by

TASKS = {
    "pictures": Task("inkwash.systems.pictures.train"),
    "icons": Task("inkwash.systems.pictures.train_icons"),
    "autoencoder": Task("inkwash.systems.pictures.train_autoencoder", "vae"),
    "upsampler": Task("inkwash.systems.pictures.train_upsampler", "upsampler"),
    "student": Task("inkwash.systems.pictures.train_student"),
    "text-encoder": Task("inkwash.systems.pictures.train_text_encoder", "text-encoder"),
}


def generate(requests: list[ask.Generate], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        pipeline = context.model(request.model)
        tell_notes(request, pipeline, context)
        draw = generate_images if request.to is None else interpolation
        yield from draw(of, seeded(request), pipeline, context)


def tell_notes(request: ask.Generate, pipeline: Any, context: Context) -> None:
    """What of its words and pictures cannot be used."""
    for prompt in filter(None, (request.prompt, request.negative, request.to)):
        if (note := pipeline.prompt_warning(prompt)) is not None:
            context.tell(Note(note))
    for name in ("image", "mask"):
        if (given := getattr(request, name)) is not None and is_animated(context.open(given)):
            context.tell(Note(f"{name}: it has several frames or pages: the first is taken"))


OPTIONS = (
    "style", "seed", "negative", "sampler", "steps", "grid", "guidance", "size", "transparent", "weight", "colors",
)  # fmt: skip


def generate_images(of: int, request: ask.Generate, pipeline: Any, context: Context) -> Iterator[Result]:
    pictures, parts = [], request.subrequests()
    for place, part in enumerate(parts):  # each alone: none depends on its neighbours

        def progress(done: int, steps: int, done_before: int = place) -> None:
            context.tell(Progress(done_before * steps + done, len(parts) * steps))

        def preview(picture: Image.Image, place: int = place) -> None:
            context.tell(Preview(of, place, picture))

        picture = generate_image(part, pipeline, context, progress, preview)
        files = formats.write(picture, part.format, context.folder / f"{of}-{place}")
        pictures.append(picture)
        recipe = formats.recipe_of(picture, part.format)
        nearest = {"nearest": recipe["nearest"]} if "nearest" in recipe else {}
        if nearest:
            context.tell(Note(f"{f'seed {part.seed}: ' if len(parts) > 1 else ''}{Nearest(**recipe['nearest'])}"))
        yield Result(of, place, files, nearest, recipe)
    if len(parts) > 1:
        file = context.folder / f"{of}-grid.png"
        write_png(grid_of(pictures), file, [picture.info[KEY] for picture in pictures])
        yield Result(of, None, {"-grid.png": file})


def generate_image(
    request: ask.Generate,
    pipeline: Any,
    context: Context,
    progress: Callable[[int, int], None],
    preview: Callable[[Image.Image], None] | None = None,
) -> GeneratedImage:
    """The picture of a request for one."""
    inputs = {
        name: getattr(request, name) and context.open(getattr(request, name)) for name in ("image", "mask", "like")
    }
    options = {name: getattr(request, name) for name in (*OPTIONS, "strength", "outpaint")}
    picture: GeneratedImage = pipeline.generate(
        request.prompt, **inputs, **options, progress=progress,
        preview=preview if context.previews else None, previews=context.previews,
    )  # fmt: skip
    return picture


def sprite(rows: Sequence[tuple[str, ask.Generate]], context: Context) -> Result:
    """The icons of a table's rows, by their names, as one SVG of <symbol>s, and a contact sheet of them."""
    pictures = []
    for i, (name, request) in enumerate(rows):
        tell_notes(request, context.model(request.model), context)

        def progress(done: int, steps: int, done_before: int = i) -> None:
            context.tell(Progress(done_before * steps + done, len(rows) * steps))

        pictures.append(generate_image(request, context.model(request.model), context, progress))
        if (nearest := pictures[-1].info[KEY].get("nearest")) is not None:
            context.tell(Note(f"{name}: {Nearest(**nearest)}"))
    files = formats.write_sprite(formats.names_of_symbols(rows), pictures, context.folder / "sprite")
    return Result(0, None, files)


def interpolation(of: int, request: ask.Generate, pipeline: Any, context: Context) -> Iterator[Result]:
    """An animation from one prompt to another, and the grid of its pictures."""
    options = {name: getattr(request, name) for name in OPTIONS}
    options["like"] = request.like and context.open(request.like)
    frames = pipeline.interpolate(request.prompt, request.to, request.n, **options, progress=on_progress(context))
    animation, grid = context.folder / f"{of}.gif", context.folder / f"{of}-grid.png"
    ping_pong, recipes = [*frames, *frames[-2:0:-1]], [frame.info[KEY] for frame in frames]
    recipe = {name: value for name, value in recipes[0].items() if name not in ("frame", "nearest")}
    write_gif(ping_pong, animation, recipe)
    write_png(grid_of(frames), grid, recipes)
    yield Result(of, 0, {".gif": animation, "-grid.png": grid}, recipe=recipe)


def grid_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """The pictures on one page, about as wide as high; on white."""
    stacked = on_white(np.stack([np.asarray(p) for p in pictures]))
    return Image.fromarray(image_grid(stacked, int(np.ceil(len(pictures) ** 0.5))))


def export(requests: list[ask.Export], context: Context) -> Iterator[Result]:
    from inkwash.systems.pictures.export import export as write

    for of, request in enumerate(requests):
        for file in write(request.model):
            yield Result(of, None, {file.name: file})


def train(requests: list[Train], context: Context) -> Iterator[Result]:
    return train_by(requests, context, TASKS, default_recipe)


# for pictures of one's own: a network for 64 x 64 pictures that a laptop trains in hours
NETWORK = {
    "block_out_channels": [64, 128, 192],
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "attention_head_dim": 6,
    "norm_num_groups": 4,
}
WORDS = {  # where they have captions
    "down_block_types": ["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
}


def default_recipe(data: Path) -> Any:
    """The recipe for a folder of pictures of one's own, which teaches words where they have captions."""
    from inkwash.systems.pictures.folder import Folder, picture_files, read_captions
    from inkwash.systems.pictures.train import Recipe
    from inkwash.training.settings import Settings

    words = any(read_captions(data, picture_files(data)))
    settings = Settings(steps=20_000, batch_size=32, warmup=100, channels_last=True)
    return Recipe("pictures", data, settings, NETWORK | (WORDS if words else {}), words=words, folder=Folder())


def evaluate(requests: list[ask.Evaluate], context: Context) -> Iterator[Result]:
    grid = context.folder / "nearest.png"
    if grid.exists() and not (context.folder / report.NAME).exists():
        raise UserError(f"{grid}: this file would be lost; move it away, or choose another folder with --out")
    return report.evaluate(requests, context, measure)


def measure(request: ask.Evaluate, pipeline: Any, context: Context) -> report.Report:
    from inkwash.systems.pictures import emoji_data, icons_data

    folder = icons_data.FOLDER if pipeline.config.distance_field else emoji_data.FOLDER
    names = ("split", "per_row", "seed", "size", "sampler", "steps", "guidance")
    settings: dict[str, Any] = {name: getattr(request, name) for name in names}
    if request.data is None and not context.local:
        raise UserError(f"data: none here; send the folder that `inkwash data {folder.name}` makes")
    data = folder if request.data is None else context.open(request.data)
    result: report.Report = pipeline.evaluate(data, context.folder, progress=on_progress(context), **settings)
    return result
