"""`inkwash train`: which task a recipe is for, and what the command line changes in it."""

import tomllib
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from inkwash.errors import UserError, unknown

# for `inkwash train pictures`: a network for 64 x 64 pictures that a laptop trains in hours
PICTURES = {
    "block_out_channels": [64, 128, 192],
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "attention_head_dim": 6,
    "norm_num_groups": 4,
}


# the module that trains each task, and where in the run's folder lies what comes out
TASKS = {
    "pictures": ("inkwash.systems.pictures.train", "model"),
    "autoencoder": ("inkwash.systems.pictures.train_autoencoder", "vae"),
    "upsampler": ("inkwash.systems.pictures.train_upsampler", "upsampler"),
    "student": ("inkwash.systems.pictures.train_student", "model"),
    "series": ("inkwash.systems.series.train", "model"),
    "language": ("inkwash.systems.language.train", "model"),
    "reader": ("inkwash.systems.language.train_reader", "model"),
    "text-encoder": ("inkwash.training.distill", "text-encoder"),
}


# tasks for which data of one's own are enough
OWN = {"pictures": "pictures", "text": "language"}


def run(name: str, data: Path | None, out: Path | None, changes: dict[str, Any]) -> Path:
    """Trains by the recipe file `name`, or for "pictures" and "text" on `data`; the folder of what was trained."""
    file, task = Path(name), OWN.get(name, "")
    if task:
        if data is None:
            wanted = "a folder of pictures" if task == "pictures" else "a text file, or a table"
            raise UserError(f"inkwash train {name} needs --data, {wanted}")
    else:
        if not file.is_file():
            raise unknown("recipe", name, [*OWN, *(str(p) for p in Path("recipes").glob("*.toml"))])
        try:
            task = str(tomllib.loads(file.read_text(encoding="utf-8")).get("task"))
        except ValueError as error:
            raise UserError(f"{file} is not valid TOML: {error}") from None
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if task == "text-encoder" and data is not None:
        raise UserError("--data is for pictures: a text encoder's recipe names its captions itself")
    out = out or Path("runs") / (f"text-{data.stem}" if data is not None and name == "text" else file.stem)

    from inkwash.cli.commands import writable
    from inkwash.training.fit import Settings
    from inkwash.training.recipe import load_recipe

    place, made = TASKS[task]
    trainer = import_module(place)
    if name == "pictures":
        settings = Settings(**{"steps": 20_000, "batch_size": 32, "channels_last": True, **changes})
        recipe = trainer.Recipe("pictures", data, settings, PICTURES, words=False)
    elif name == "text":
        recipe = trainer.usual(data)
        recipe = replace(recipe, fit=replace(recipe.fit, **changes))
        recipe = replace(recipe, reader_steps=min(recipe.reader_steps, recipe.fit.steps))
    else:
        recipe = load_recipe(file, trainer.Recipe)
        recipe = replace(recipe, fit=replace(recipe.fit, **changes), **({} if data is None else {"data": data}))
    writable(out)
    if (out / made).exists() and not any((out / name).exists() for name in ("checkpoints", "log.csv")):
        raise UserError(f"{out / made}: it is there, and no training here made it; choose another folder with --out")
    trainer.train(recipe, out)
    return out / made
