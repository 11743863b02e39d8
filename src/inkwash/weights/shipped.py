"""The models and recipes that ship with the package, and where a name leads."""

import json
import os
import re
from pathlib import Path
from typing import Any

from inkwash.errors import UserError, unknown

FOLDER = Path(__file__).parent
RECIPES, QUEUE = FOLDER.parent / "recipes", "queue"
TEXT_ENCODER = FOLDER / "text-encoder"  # of all shipped models of pictures
CHECKPOINTS = "checkpoints"  # the system of other tools' models
ENGINES = "engines"  # the system of models elsewhere, of which an address is known
SINGLE = (
    ".safetensors",
    ".sft",
    ".ckpt",
    ".pt",
    ".pth",
    ".bin",
    ".gguf",
)  # files of weights; some are refused by name
SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/[^/]+$")  # in the cache of Hugging Face


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
    """Where a model lies: a shipped name, a path to a folder that `save` wrote, or to another tool's checkpoint, a
    single file or a folder in the diffusers format; or a hub id (owner/name) that is in the cache of Hugging Face."""
    models = shipped()
    if str(name) in models:
        return models[str(name)]
    path = Path(name)
    if is_model(path):
        return path
    if path.exists():
        kind = "an unknown kind of file" if path.is_file() else "no model there, system.json is missing"
        raise UserError(f"{path}: {kind}; give a folder that inkwash saved, or another tool's checkpoint")
    if found := _cached(str(name)):
        return found
    raise unknown("model", str(name), models)


def is_model(path: Path) -> bool:
    return (path / "system.json").is_file() or is_checkpoint(path)


def is_checkpoint(path: Path) -> bool:
    """Whether another tool's weights lie there: in a file, or a folder in the diffusers format."""
    if path.is_file():
        return path.suffix.lower() in SINGLE
    return (path / "model_index.json").is_file() and not (path / "system.json").is_file()


def _cached(name: str) -> Path | None:
    """The folder of a hub id in the cache of Hugging Face; nothing is fetched. UserError where it is not there."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        raise UserError(
            f"no model '{name}' here: no such path, and it is not in the cache of Hugging Face, where "
            f"`hf download {name}` puts it"
        ) from None


def reference(name: str | Path) -> str:
    """What recipes and reports call a model: its shipped name, its hub id, the path of its folder below the current
    one, or for one elsewhere the folder's own name. Nothing of where things lie on the machine: nor below a folder
    that holds people's homes, whose names would be told."""
    if str(name) in shipped():
        return str(name)
    folder, here = Path(os.path.abspath(name)), Path.cwd()  # of a link its own name, by which it is found again
    if cached := SNAPSHOT.search(folder.as_posix()):
        return f"{cached[1]}/{cached[2]}"
    homes = (Path(here.anchor), *Path(os.path.expanduser("~")).parents)
    below = here in folder.parents and folder.parent != FOLDER and here not in homes
    return folder.relative_to(here).as_posix() if below else folder.name


def describe(folder: Path) -> dict[str, Any]:
    """The content of a model's system.json; of another tool's checkpoint no more than whose it is."""
    return {"system": CHECKPOINTS} if is_checkpoint(folder) else load_json(folder / "system.json")


def load_json(path: Path) -> dict[str, Any]:
    """UserError for a file that is missing or broken."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); save the model again") from None
