"""The verb of checkpoints: from requests to pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from PIL import Image

from inkwash.codecs.png import KEY, write_png
from inkwash.errors import UserError
from inkwash.progress import Progress
from inkwash.systems.base import Context, Note, Preview, Result, is_blank, options, seeded
from inkwash.systems.checkpoints.request import Generate
from inkwash.systems.checkpoints.settings import settings_of
from inkwash.systems.checkpoints.stable_diffusion import check_refiner
from inkwash.systems.checkpoints.wildcards import NAME
from inkwash.systems.pictures import formats
from inkwash.systems.pictures.data import is_animated
from inkwash.systems.pictures.verbs import grid_of

OPTIONS = (
    "seed", "negative", "sampler", "steps", "grid", "guidance", "rescale", "size", "width", "height", "clip_skip",
    "weighting", "seed_like", "strength", "image_guidance", "refiner_start", "hires", "hires_strength",
    "hires_steps", "hires_upscaler",
)  # fmt: skip
FILES = ("image", "mask", "wildcards", "vae")


def generate(requests: list[Generate], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        request = with_settings(request, context)
        model = context.model(request.model)
        for name in ("image", "mask"):
            if (given := getattr(request, name)) is not None and is_animated(context.open(given)):
                context.tell(Note(f"{name}: it has several frames or pages: the first is taken"))
        refiner = None if request.refiner is None else context.model(request.refiner)
        add_embeddings(model, refiner, request, context)
        yield from generate_images(of, seeded(request), model, refiner, context)


def add_embeddings(model: Any, refiner: Any, request: Generate, context: Context) -> None:
    """Their words, instead of those of a request before."""
    if refiner is not None:
        check_refiner(model, refiner)
    for each in filter(None, (refiner, model)):
        each.embeddings = {}
    for path in map(context.open, request.embedding):
        if path.stem in model.embeddings:
            raise UserError(f"embedding: two files are called {path.stem}: rename one, as prompts call them so")
        model.add_embedding(path)
        if refiner is not None and refiner is not model:
            try:
                refiner.add_embedding(path)
            except UserError as error:
                context.tell(Note(f"the refiner reads {path.stem} as plain words: {error}"))


def with_settings(request: Generate, context: Context) -> Generate:
    """The request, and what it does not say as the picture does whose settings it takes."""
    if request.settings is None:
        return request
    found, notes = settings_of(context.open(request.settings))
    defaults = {name: option.default for name, option in options(Generate).items()}
    missing = {
        name: value for name, value in found.items() if name != "model" and getattr(request, name) == defaults[name]
    }
    if request.size is not None:
        missing = {name: value for name, value in missing.items() if name not in ("width", "height")}
    if request.image is None:
        missing.pop("strength", None)
    elif "hires" in missing:
        missing = {name: value for name, value in missing.items() if not name.startswith("hires")}
        notes = [*notes, "its second pass is not taken beside an image to begin from"]
    if request.guidance == 1 and not is_blank(missing.get("negative", "")):
        del missing["negative"]
        notes = [*notes, "its negative prompt is not taken with a guidance of 1"]
    for note in [*notes, *([f"it was drawn by the model {found['model']}"] if found.get("model") else [])]:
        context.tell(Note(f"{request.settings.name}: {note}"))
    try:
        return dataclasses.replace(request, settings=None, **missing)
    except UserError as error:
        raise UserError(f"{request.settings.name}: {error}") from None


def generate_images(of: int, request: Generate, model: Any, refiner: Any, context: Context) -> Iterator[Result]:
    pictures, parts = [], request.subrequests()
    weights = request.adapter_weight or (1.0,) * len(request.adapter)
    adapters = [(context.open(file), weight) for file, weight in zip(request.adapter, weights, strict=True)]
    given: dict[str, Any] = {
        name: [dataclasses.asdict(file) for file in getattr(request, name)] for name in ("adapter", "embedding")
    } | {"adapter_weight": [*request.adapter_weight]}
    given = {name: value for name, value in given.items() if value}
    unused = set(model.embeddings)
    if request.wildcards and not NAME.search(f"{request.prompt} {request.negative}"):
        context.tell(Note("wildcards: no __name__ in the prompt asks for one"))
    for place, part in enumerate(parts):  # each alone: none depends on its neighbours

        def progress(done: int, steps: int, done_before: int = place) -> None:
            context.tell(Progress(done_before * steps + done, len(parts) * steps))

        def preview(picture: Image.Image, place: int = place) -> None:
            context.tell(Preview(of, place, picture))

        files = {name: getattr(part, name) and context.open(getattr(part, name)) for name in FILES}
        picture = model.generate(
            part.prompt, **files, **{name: getattr(part, name) for name in OPTIONS}, adapters=adapters,
            refiner=refiner, tiling=part.tiling or "", dora_norm=part.dora_norm or "changed", progress=progress,
            preview=preview if context.previews else None, previews=context.previews,
            tell=(lambda text: context.tell(Note(text))) if place == 0 else None,
        )  # fmt: skip
        picture.info[KEY] |= given
        pictures.append(picture)
        unused -= picture.info[KEY]["embeddings"].keys()
        recipe = formats.recipe_of(picture, part.format)
        yield Result(of, place, formats.write(picture, part.format, context.folder / f"{of}-{place}"), {}, recipe)
    for name in sorted(unused):
        context.tell(Note(f"no prompt calls the embedding {name}"))
    if len(parts) > 1:
        file = context.folder / f"{of}-grid.png"
        write_png(grid_of(pictures), file, [picture.info[KEY] for picture in pictures])
        yield Result(of, None, {"-grid.png": file})
