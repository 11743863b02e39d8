"""The models of a studio: those that ship, the folders named when it was started, and what its users trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from inkwash.errors import UserError, unknown
from inkwash.studio.errors import APIError
from inkwash.studio.library import Library, size_of
from inkwash.studio.schemas import Limits, Model
from inkwash.systems import available, makes, system_of, systems
from inkwash.systems.base import System, Verb, limits
from inkwash.weights.shipped import describe, locate, shipped


class Catalogue:
    """Names of models, and where they lie. A user's own are theirs alone.

    aliases: what else shared models may be called by those who ask; whoever has a model of this name means that.
    """

    def __init__(
        self, library: Library, more: Sequence[str | Path] = (), aliases: Mapping[str, str] | None = None
    ) -> None:
        self.library, self.shared, self.aliases = library, shared_models(more), aliases or {}

    def real_name(self, name: str, user: str) -> str:
        """Of the model that is meant; `name` itself where there is none."""
        meant = name not in self.aliases or self.library.model(name, user) is not None
        return name if meant else self.aliases[name]

    def folder(self, name: str, user: str) -> Path:
        """APIError for a model that this user does not see."""
        if name in self.shared:
            return self.shared[name]
        row = self.library.model(name, user)
        if row is None:
            names = [*self.shared, *(model.name for model in self.library.models(user))]
            raise APIError(404, str(unknown("model", name[:60], names)), "model_not_found", "model")
        return self.library.folder_of(row)

    def folder_for(self, job: Row[Any], name: str) -> Path:
        """The folder of a model that the job names; not of another that has its name since. APIError for one that was
        deleted."""
        if name in self.shared:
            return self.shared[name]
        row = self.library.model_of(name, job)
        if row is None:
            raise APIError(404, f"the model '{name[:60]}' was deleted", "model_not_found", "model")
        return self.library.folder_of(row)

    def of_system(self, system: str, user: str) -> dict[str, Path]:
        """The models of one system that this user sees, and where they lie."""
        trained = {row.name: self.library.folder_of(row) for row in self.library.models(user) if row.system == system}
        return {name: path for name, path in self.shared.items() if system_of(path).name == system} | trained

    def models(self, user: str) -> list[Model]:
        found = [Model(name=name, owned=False, **card(folder)) for name, folder in self.shared.items()]
        for row in self.library.models(user):
            with suppress(UserError):  # one of a system that is not installed any more
                facts = card(self.library.folder_of(row))
                found.append(Model(name=row.name, owned=True, created=row.created, job=row.job_id, **facts))
        return found


def shared_models(more: Sequence[str | Path]) -> dict[str, Path]:
    """The models that ship, and these folders. UserError for one that is none, or has another's name."""
    found = {name: folder for name, folder in shipped().items() if describe(folder)["system"] in systems()}
    for path in map(locate, more):
        if path in found.values():
            continue
        name = path.resolve().name
        if name in found:
            raise UserError(f"--model {path}: there is a model '{name}' already; rename the folder")
        system_of(path)
        found[name] = path.resolve()
    return found


def parse_aliases(texts: Sequence[str], shared: Mapping[str, Path]) -> dict[str, str]:
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
