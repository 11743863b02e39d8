"""The folders of models that a person has shown us, and what a scan of one prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from inkwash.errors import UserError
from inkwash.weights.families import MODEL
from inkwash.weights.files import files_below, save_json
from inkwash.weights.scan import INKWASH, Found, companions, memory, scan
from inkwash.weights.shipped import is_checkpoint, load_json

MODELS = (MODEL, "checkpoint", "diffusers folder", INKWASH)  # what draws by itself, or with companions
DRAWN = {
    "SD 1", "SD 1 inpainting", "SD 1 pix2pix", "SD 2", "SD 2 inpainting", "SDXL", "SDXL inpainting", "SDXL pix2pix",
    "SDXL v-prediction", "SDXL v-prediction, zero terminal SNR", "SDXL refiner",
}  # fmt: skip


def user_folder(kind: str) -> Path:
    """This person's folder for inkwash's "config" or "cache", where the system has such folders."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        variable, default = ("APPDATA", "Roaming") if kind == "config" else ("LOCALAPPDATA", "Local")
        default = f"AppData/{default}"
    elif sys.platform == "darwin":
        variable, default = "", "Library/Application Support" if kind == "config" else "Library/Caches"
    else:
        variable, default = ("XDG_CONFIG_HOME", ".config") if kind == "config" else ("XDG_CACHE_HOME", ".cache")
    given = os.environ.get(variable, "")
    return (Path(given) if os.path.isabs(given) else home / default) / "inkwash"


def _file() -> Path:
    return Path(os.path.realpath(user_folder("config") / "folders.json"))  # what a link leads to stays a link


def remembered() -> list[Path]:
    """The folders that were added, in that order."""
    file = _file()
    folders = load_json(file).get("folders") if os.path.isfile(file) else []
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise UserError(f"{file}: broken; delete it, and add the folders again")
    return [Path(folder) for folder in folders]


def remember(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise UserError(f"--add {folder}: no such folder")
    _save([*(one for one in remembered() if one != folder.absolute()), folder.absolute()])


def forget(folder: Path) -> None:
    folders = remembered()
    if folder.absolute() not in folders:
        raise UserError(
            f"--forget {folder}: not among those that were added: {', '.join(map(str, folders)) or 'none'}"
        )
    _save([one for one in folders if one != folder.absolute()])


def _save(folders: list[Path]) -> None:
    file = _file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_json(file, {"folders": [str(folder) for folder in folders]})
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; see whose it is") from None


def find(name: str) -> Path | None:
    """The checkpoint of this name, with or without its ending, in the folders that were added; None without one.
    UserError where there are several."""
    found = []
    for folder in filter(Path.is_dir, remembered()):
        for path in files_below(folder):
            place, stem = (path.parent, path.parent.name) if path.name == "model_index.json" else (path, path.stem)
            if name in (place.name, stem) and is_checkpoint(place):  # a folder has no ending: what follows a point
                found.append(place)
    if len(found) > 1:
        raise UserError(
            f"{name}: there are {len(found)} of this name: {', '.join(map(str, found[:5]))}; give one path"
        )
    return found[0] if found else None


def lines(folder: Path, hashes: bool) -> Iterator[str]:
    """What a scan of a folder prints: a line for each file. A folder that is gone, as on a disk that is not in, has
    one line."""
    if not os.path.isdir(folder):
        yield _clean(f"{folder}: no such folder")
        return
    found, total = scan(folder, user_folder("cache") / "headers.json", hashes), memory()
    yield _clean(f"{folder}: {len(found)} file{'s' * (len(found) != 1)}")
    for one in found:
        yield _clean("  " + _line(one, found, total))


def _line(one: Found, found: list[Found], total: int) -> str:
    notes = [note[:100] for note in one.notes]
    if one.problem:
        return f"{one.name}: {'; '.join([one.problem, *notes])}"
    what = f"{one.kind}, {one.family or 'unknown family'}" if one.kind != "unknown" else "unknown"
    parts = [what, f"{one.size / 1e9:.2f} GB", *notes]
    size = one.size
    for kind, family, fitting in companions(found, one):
        size += max((other.size for other in fitting), default=0)
        names = " or ".join(other.name for other in fitting[:2]) if fitting else "not found here"
        parts.append(f"needs {kind} {family} ({names})")
    if one.kind in MODELS:
        drawn = one.kind == INKWASH or (one.kind != MODEL and one.family in DRAWN)
        parts += [f"drawn: {'yes' if drawn else 'no'}", *([_fit(size, total)] if total else [])]
    return f"{one.name}: {'; '.join(parts)}"


def _fit(size: int, total: int) -> str:
    """Whether weights, as they are stored, leave a quarter of the memory to the computation."""
    verdict = "fits" if size < 0.75 * total else "tight" if size < total else "too large"
    return f"memory: {verdict} ({size / 1e9:.1f} of {total / 1e9:.1f} GB)"


def _clean(text: str) -> str:
    """A file's name and what it says of itself, without what would control a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
