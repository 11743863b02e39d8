"""The models of a studio: those that ship, the folders named when it was started, and what its users trained."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from inkwash.errors import UserError, unknown
from inkwash.studio.errors import APIError
from inkwash.studio.hashes import hash_so_far
from inkwash.studio.library import Library, size_of
from inkwash.studio.schemas import Limits, Model
from inkwash.systems import available, makes, system_of, systems
from inkwash.systems.base import System, Verb, limits
from inkwash.version import __version__
from inkwash.weights.files import files_below
from inkwash.weights.shipped import SNAPSHOT, describe, is_checkpoint, is_model, locate, reference, shipped

HASHING = 10.0  # seconds that one who asks waits for a model to be read


class Catalogue:
    """Names of models, and where they lie. A user's own are theirs alone.

    aliases: what else shared models may be called by those who ask; whoever has a model of this name means that.
    """

    def __init__(
        self, library: Library, more: Sequence[str | Path] = (), aliases: Mapping[str, str] | None = None
    ) -> None:
        self.library, self.shared, self.aliases = library, shared_models(more), aliases or {}
        self.hashes: dict[str, str] = {}  # of shared models, as far as they are read

    def real_name(self, name: str, user: str) -> str:
        """Of the model that is meant; `name` itself where there is none."""
        meant = name not in self.aliases or self.library.model(name, user) is not None
        return name if meant else self.aliases[name]

    def folder(self, name: str, user: str) -> Path:
        """APIError for a model that this user does not see."""
        if name in self.shared:
            return self.shared_folder(name)
        row = self.library.model(name, user)
        if row is None:
            names = [*self.shared, *(model.name for model in self.library.models(user))]
            raise APIError(404, str(unknown("model", name[:60], names)), "model_not_found", "model")
        return self.library.folder_of(row)

    def folder_for(self, job: Row[Any], name: str) -> Path:
        """The folder of a model that the job names; not of another that has its name here, or since. APIError for one
        that was deleted."""
        hashes = None if job.needs is None else json.loads(job.needs)["models"]
        if hashes is not None and name in hashes:
            return self.shared_folder(self.offered()[hashes[name]])
        if hashes is None and name in self.shared:
            return self.shared_folder(name)
        row = self.library.model_of(name, job)
        if row is None:
            raise APIError(404, f"the model '{name[:60]}' was deleted", "model_not_found", "model")
        return self.library.folder_of(row)

    def shared_folder(self, name: str) -> Path:
        """APIError for a shared model that was moved away since the studio started."""
        if not self.shared[name].exists():
            raise APIError(404, f"the model '{name}' is not where it was any more", "model_not_found", "model")
        return self.shared[name]

    def hash(self, name: str, until: float = 0.0) -> str | None:
        """Of a shared model; None while it is read, no longer than until this moment of time.monotonic()."""
        found = self.hashes.get(name) or hash_so_far(self.shared[name], until)
        if found is not None:
            self.hashes[name] = found
        return found

    def hashes_of(self, names: Iterable[str]) -> dict[str, str]:
        """Those of shared models among these, by which workers elsewhere know them; APIError for one that is still
        read."""
        found = {name: self.hash(name, time.monotonic() + HASHING) for name in sorted(names) if name in self.shared}
        for name, hash in found.items():
            if hash is None:
                raise APIError(503, f"the model {name} is still being read; try again soon", "model_not_read", wait=5)
        return {name: hash for name, hash in found.items() if hash is not None}

    def offered(self) -> dict[str, str]:
        """The names of shared models by their hashes, as far as they are read."""
        return {hash: name for name in self.shared if (hash := self.hash(name)) is not None}

    def of_system(self, system: str, user: str) -> dict[str, Path]:
        """The models of one system that this user sees, and where they lie, or will when they are fetched."""
        own = (row for row in self.library.models(user) if row.system == system)
        trained = {row.name: self.library.models_folder / row.id for row in own}
        shared = {name: path for name, path in self.shared.items() if card(path)["system"] == system}
        return {name: path for name, path in shared.items() if path.exists()} | trained

    def card_of(self, row: Row[Any]) -> dict[str, Any]:
        """The `card` of a model that a user has trained. It is not fetched for that, but after an upgrade."""
        is_here = self.library.bucket is None or (self.library.models_folder / row.id).exists()
        if is_here or row.card is None or row.card["version"] != __version__:
            return card(self.library.folder_of(row))
        limits = {
            verb: {name: Limits(**one) for name, one in found.items()} for verb, found in row.card["limits"].items()
        }
        return {name: value for name, value in row.card.items() if name != "version"} | {"limits": limits}

    def cards(self, user: str) -> Iterator[dict[str, Any]]:
        """Of all models that this user sees."""
        yield from (card(folder) for folder in self.shared.values() if folder.exists())
        for row in self.library.models(user):
            with suppress(UserError):  # as below
                yield self.card_of(row)

    def models(self, user: str) -> list[Model]:
        found = []
        for name, folder in self.shared.items():
            if folder.exists():
                aliases = tuple(alias for alias, model in self.aliases.items() if model == name)
                found.append(Model(name=name, owned=False, aliases=aliases, **card(folder)))
        for row in self.library.models(user):
            with suppress(UserError):  # one of a system that is not installed any more
                facts = self.card_of(row)
                found.append(Model(name=row.name, owned=True, created=row.created, job=row.job_id, **facts))
        return found


def shared_models(more: Sequence[str | Path]) -> dict[str, Path]:
    """The models that ship, those at these places, and those of other tools below these folders. UserError for a
    place without one, and for one that has another's name."""
    found = {name: folder for name, folder in shipped().items() if describe(folder)["system"] in systems()}
    for place in more:
        below = [] if is_model(Path(place)) or not Path(place).is_dir() else checkpoints_below(Path(place))
        for path in below or [locate(place)]:
            path = path.absolute() if path.is_file() else path.resolve()  # a file's link has its name
            if path in found.values():
                continue
            names = possible_names(path)
            name = next((name for name in names if name not in found), None)
            if name is None:
                raise UserError(f"--model {path}: there is a model '{names[-1]}' already; rename the folder")
            card(path)  # which says what cannot be used
            found[name] = path
    return found


def checkpoints_below(folder: Path) -> list[Path]:
    """What of other tools can be drawn below their folder of models."""
    files = files_below(folder)
    places = [file.parent if file.name == "model_index.json" else file for file in files]
    found = []
    for place in filter(is_checkpoint, places):
        with suppress(UserError):  # a VAE, say
            card(place)
            found.append(place)
    return found


def possible_names(path: Path) -> list[str]:
    """What a model may be called, the best first: a file by its name without the ending, a download of a hub by its
    id, other folders by their names."""
    if path.is_file():
        return [path.stem, path.name, f"{path.parent.name}/{path.name}"]
    name = reference(path) if SNAPSHOT.search(path.as_posix()) else path.name
    return list(dict.fromkeys([name.rpartition("/")[2], name]))


@contextmanager
def named(model: str | None, folder: Path | None) -> Iterator[None]:
    """What is wrong with the files of a model says its name: where they lie here is nobody's business."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(folder), str(model))) from None


def parse_aliases(texts: Sequence[str], shared: Collection[str]) -> dict[str, str]:
    """What NAME=MODEL says, by name. UserError for another form, a name that is taken, and a model not there."""
    found: dict[str, str] = {}
    for text in texts:
        parts = re.fullmatch(r"([\w.:-]{1,100})=(.+)", text)
        if parts is None:
            raise UserError(f"--alias {text}: NAME=MODEL is needed, the name of letters, digits, and . : _ -")
        name, model = parts.groups()
        if name in shared or name in found:
            raise UserError(f"--alias {text}: there is a model '{name}' already; choose another name")
        if model not in shared:
            raise UserError(f"--alias {text}: {unknown('model', model, shared)}")
        found[name] = model
    return found


def offered_verbs(system: System) -> dict[str, Verb]:
    """The verbs that a studio has: not those that write into the model's own folder."""
    return {name: verb for name, verb in system.verbs.items() if verb.out != "MODEL"}


@cache
def card(folder: Path) -> dict[str, Any]:
    """What the files of a model, which do not change, say of it."""
    system = system_of(folder)
    narrowed = {name: limits(verb, folder) for name, verb in offered_verbs(system).items() if not missing(system)}
    return {
        "system": system.name,
        "makes": makes(folder),
        "about": about(folder),
        "bytes": size_of(folder),
        "limits": {
            verb: {name: Limits(**limit._asdict()) for name, limit in found.items()}
            for verb, found in narrowed.items()
        },
    }


def kept_card(folder: Path) -> dict[str, Any] | None:
    """The `card` as JSON, and of which version it is; None of a system that is not here."""
    with suppress(UserError):
        found = card(folder)
        limits = {
            verb: {name: one.model_dump(mode="json") for name, one in narrowed.items()}
            for verb, narrowed in found["limits"].items()
        }
        return {**found, "limits": limits, "version": __version__}
    return None


def about(folder: Path) -> str:
    """What the card of a model (card.md) says of it first, as plain text; "" without a card."""
    file = folder / "card.md"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(r"^# .*\n\s*^(\w.*(?:\n\w.*)*)", text, re.MULTILINE)
    return re.sub(r"\[(.*?)\]\(.*?\)|`", r"\1", found[1]).replace("\n", " ")[:500] if found else ""


def missing(system: System) -> str:
    """What must be installed for it, "" if nothing."""
    try:
        available(system)
    except UserError as error:
        return str(error)
    return ""
