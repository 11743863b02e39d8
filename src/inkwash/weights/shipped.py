"""The models and recipes that ship with the package, and where a name leads."""

import json
import os
from pathlib import Path
from typing import Any

from inkwash.errors import UserError, unknown

FOLDER = Path(__file__).parent
RECIPES, QUEUE = FOLDER.parent / "recipes", "queue"
TEXT_ENCODER = FOLDER / "text-encoder"  # of all shipped models of pictures


def shipped() -> dict[str, Path]:
    """The folders of the shipped models, by name."""
    return {file.parent.name: file.parent for file in sorted(FOLDER.glob("*/system.json"))}


def recipes() -> dict[str, Path]:
    """The files that rebuild the shipped weights, by name: "emoji", and for an accelerator "gpu/emoji"."""
    return {name: file for name, file in _toml_files().items() if file.stem != QUEUE}


def find_recipe(name: str, folder: Path = Path()) -> Path | None:
    """The file of a recipe, by its path, seen from a folder, or by its name."""
    return folder / name if (folder / name).is_file() else recipes().get(name)


def queues() -> dict[str, Path]:
    """The lists of such recipes to be trained one after the other, by name: "gpu/queue"."""
    return {name: file for name, file in _toml_files().items() if file.stem == QUEUE}


def _toml_files() -> dict[str, Path]:
    files = sorted(RECIPES.glob("*.toml")) + sorted(RECIPES.glob("*/*.toml"))
    return {file.relative_to(RECIPES).with_suffix("").as_posix(): file for file in files}


def locate(name: str | Path) -> Path:
    """The folder of a model: a shipped name, or a path to a folder that `save` wrote."""
    models = shipped()
    if str(name) in models:
        return models[str(name)]
    folder = Path(name)
    if (folder / "system.json").is_file():
        return folder
    if folder.exists():
        raise UserError(f"{folder}: no model there, system.json is missing; give a folder that inkwash saved")
    raise unknown("model", str(name), models)


def reference(name: str | Path) -> str:
    """What recipes and reports call a model: its shipped name, the path of its folder below the current one, or for
    one elsewhere the folder's own name. Nothing of where things lie on the machine: nor below a folder that holds
    people's homes, whose names would be told."""
    if str(name) in shipped():
        return str(name)
    folder, here = Path(name).resolve(), Path.cwd()
    homes = (Path(here.anchor), *Path(os.path.expanduser("~")).parents)
    below = here in folder.parents and folder.parent != FOLDER and here not in homes
    return folder.relative_to(here).as_posix() if below else folder.name


def describe(folder: Path) -> dict[str, Any]:
    """The content of a model's system.json."""
    return load_json(folder / "system.json")


def load_json(path: Path) -> dict[str, Any]:
    """UserError for a file that is missing or broken."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); save the model again") from None
