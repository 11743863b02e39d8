"""`inkwash train`: which task a recipe is for, and what the command line changes in it."""

import tomllib
from dataclasses import replace
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


def run(name: str, data: Path | None, out: Path | None, changes: dict[str, Any]) -> Path:
    """Trains by the recipe file `name`, or for "pictures" on the folder `data`; the folder of the model."""
    file = Path(name)
    if name == "pictures":
        if data is None:
            raise UserError("inkwash train pictures needs --data, a folder of pictures")
        task = "pictures"
    else:
        if not file.is_file():
            raise unknown("recipe", name, ["pictures", *(str(p) for p in Path("recipes").glob("*.toml"))])
        try:
            task = str(tomllib.loads(file.read_text(encoding="utf-8")).get("task"))
        except ValueError as error:
            raise UserError(f"{file} is not valid TOML: {error}") from None
    out = out or Path("runs") / file.stem

    from inkwash.cli.commands import writable
    from inkwash.training.fit import Settings
    from inkwash.training.recipe import load_recipe

    if task == "pictures":
        from inkwash.systems.pictures.model import Pictures
        from inkwash.systems.pictures.train import Recipe

        if name == "pictures":
            settings = Settings(**{"steps": 20_000, "batch_size": 32, "channels_last": True, **changes})
            recipe = Recipe("pictures", data or Path(), settings, PICTURES, words=False)
        else:
            recipe = load_recipe(file, Recipe)
            recipe = replace(recipe, data=data or recipe.data, fit=replace(recipe.fit, **changes))
        writable(out)
        Pictures.fit(recipe, out)
        return out / "model"
    if task == "text-encoder":
        from inkwash.training import distill

        if data is not None:
            raise UserError("--data is for pictures: a text encoder's recipe names its captions itself")
        lesson = load_recipe(file, distill.Recipe)
        writable(out)
        distill.distill(replace(lesson, fit=replace(lesson.fit, **changes)), out)
        return out / "text-encoder"
    if task == "autoencoder":
        from inkwash.systems.pictures import train_autoencoder

        plan = load_recipe(file, train_autoencoder.Recipe)
        writable(out)
        train_autoencoder.train(replace(plan, data=data or plan.data, fit=replace(plan.fit, **changes)), out)
        return out / "vae"
    if task == "upsampler":
        from inkwash.systems.pictures import train_upsampler

        growth = load_recipe(file, train_upsampler.Recipe)
        writable(out)
        train_upsampler.train(replace(growth, data=data or growth.data, fit=replace(growth.fit, **changes)), out)
        return out / "upsampler"
    if task == "student":
        from inkwash.systems.pictures import train_student

        course = load_recipe(file, train_student.Recipe)
        writable(out)
        train_student.train(replace(course, data=data or course.data, fit=replace(course.fit, **changes)), out)
        return out / "model"
    raise unknown("task", task, ["pictures", "autoencoder", "upsampler", "student", "text-encoder"])
