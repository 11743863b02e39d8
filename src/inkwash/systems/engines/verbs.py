"""The verb of engines: from requests to pictures."""

from __future__ import annotations

from collections.abc import Iterator

from inkwash.codecs.png import KEY, write_png
from inkwash.progress import Progress
from inkwash.systems.base import Context, Note, Result, seeded
from inkwash.systems.engines.model import Engine
from inkwash.systems.engines.request import Generate
from inkwash.systems.pictures import formats
from inkwash.systems.pictures.data import is_animated
from inkwash.systems.pictures.verbs import grid_of


def generate(requests: list[Generate], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        for name in ("image", "mask"):
            if (given := getattr(request, name)) is not None and is_animated(context.open(given)):
                context.tell(Note(f"{name}: it has several frames or pages: the first is taken"))
        yield from generate_images(of, seeded(request), context.model(request.model), context)


def generate_images(of: int, request: Generate, engine: Engine, context: Context) -> Iterator[Result]:
    pictures, parts, told = [], request.subrequests(), set[str]()
    for place, part in enumerate(parts):  # an engine says nothing on the way

        def beat(trouble: str, done: int = place) -> None:
            if trouble and trouble not in told:
                told.add(trouble)
                context.tell(Note(f"the engine {engine.name} {trouble}; it is asked again"))
            context.tell(Progress(done, len(parts)))

        files = {name: getattr(part, name) and context.open(getattr(part, name)) for name in ("image", "mask")}
        picture = engine.generate(
            part.prompt, seed=part.seed, width=part.width, height=part.height, **files, beat=beat
        )
        context.tell(Progress(place + 1, len(parts)))
        pictures.append(picture)
        path = context.folder / f"{of}-{place}"
        yield Result(of, place, formats.write(picture, "png", path), {}, picture.info[KEY])
    if len(parts) > 1:
        file = context.folder / f"{of}-grid.png"
        write_png(grid_of(pictures), file, [picture.info[KEY] for picture in pictures])
        yield Result(of, None, {"-grid.png": file})
