"""What can be asked of verbs, over HTTP: the fields of their requests as schemas, and the requests themselves."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from inkwash.errors import UserError
from inkwash.studio.catalogue import missing, offered_verbs
from inkwash.studio.errors import invalid
from inkwash.studio.schemas import NOT_BOOL, SystemCard, VerbCard, VerbField
from inkwash.systems import systems
from inkwash.systems.base import File, Option, Request, System, Verb, options

MAX_TEXT = 500  # of a text that has no bound of its own, in characters
MAX_NAME, MAX_PART = 300, 200  # bytes of a file's path, and of each part of it: file systems take 255
FORBIDDEN = "\\:" if os.name == "nt" else "\\"  # in a name
MAX_ITEMS = 20_000  # files of a folder, or values of an option


class Strict(BaseModel):
    """Refuses unknown fields: the first alone, since to make an error of each of very many takes seconds."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def leave_one_unknown(cls, values: Any) -> Any:
        if not isinstance(values, dict) or len(values) <= len(cls.model_fields):
            return values
        known = {name: value for name, value in values.items() if name in cls.model_fields}
        first = next(name for name in values if name not in cls.model_fields)
        return {**known, first: values[first]}


class FileReference(Strict):
    """A file that one has sent: POST /api/uploads."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    name: str = Field(max_length=300, description="The path within its folder, if it is of one.")


class Needs(NamedTuple):
    """What a worker must have for a job.

    options  that are not at their defaults: others of a newer version it need not know
    models   shared ones that it names, with their hashes; workers may call them otherwise
    """

    system: str
    verb: str
    options: list[str]
    models: dict[str, str]


def lack(needs: str, hashes: Container[str]) -> list[str]:
    """What of a job's `Needs`, as JSON, is not here, where there are models with these hashes, in words."""
    job = Needs(**json.loads(needs))
    system = systems().get(job.system)
    verb = system.verbs.get(job.verb) if system else None
    if verb is None or not {*job.options} <= options(verb.request).keys():
        return [f"{job.system} {job.verb} of another version, or what that is installed with"]
    return [f"the model {name} ({hash[:10]})" for name, hash in job.models.items() if hash not in hashes]


def chosen(request: Request) -> list[str]:
    """The options that are not at their defaults."""
    fields = options(type(request)).values()
    return sorted(option.name for option in fields if getattr(request, option.name) != option.default)


def model_names(request: Request) -> list[str]:
    """Of all models that the request names."""
    named = (request.model_name(), getattr(request, "refiner", None), *getattr(request, "beside", ()))
    return [name for name in named if name is not None]


def system_card(system: System) -> SystemCard:
    cards = [
        VerbCard(
            name=name,
            help=inspect.getdoc(verb.request) or "",
            lasting=verb.lasting,
            fields=tuple(map(verb_field, options(verb.request).values())),
        )
        for name, verb in offered_verbs(system).items()
    ]
    problem = missing(system)
    facts = {"name": system.name, "help": system.help, "command": system.command}
    return SystemCard(**facts, available=not problem, missing=problem, verbs=tuple(cards))


def verb_field(option: Option) -> VerbField:
    required = option.default is dataclasses.MISSING
    facts = option._asdict() | {
        "kind": "folder" if option.media == "folder" else option.kind.__name__.lower(),
        "default": None if required else option.default,
        "low": None if math.isinf(option.low) else option.low,
        "high": None if math.isinf(option.high) else option.high,
    }
    return VerbField(**facts, required=required, low_open=option.exclusive[0], high_open=option.exclusive[1])


def schema(system: System, name: str, verb: Verb, partial: bool = False) -> type[BaseModel]:
    """The body by which a verb is asked: its request's fields, and no others. partial: any of them may be left out,
    and what else is there is passed over, as in a recipe."""
    found = options(verb.request).values()
    fields: dict[str, Any] = {o.name: (type_of(o), None if partial else default_of(o)) for o in found}
    title = f"{system.name}_{name}".title().replace("_", "")
    kind: Any = {"__config__": ConfigDict(protected_namespaces=())} if partial else {"__base__": Strict}
    return create_model(title, **kind, __doc__=inspect.getdoc(verb.request), **fields)


def default_of(option: Option) -> Any:
    if option.default is dataclasses.MISSING:
        return ...
    return list(option.default) if isinstance(option.default, tuple) else option.default


def type_of(option: Option) -> Any:
    """The type of a field for pydantic."""
    kind: Any = Literal[option.choices] if option.choices else FileReference if option.kind is File else option.kind
    bounds: dict[str, Any] = {}
    if option.kind in (int, float):
        bounds["gt" if option.exclusive[0] else "ge"] = None if math.isinf(option.low) else option.low
        bounds["lt" if option.exclusive[1] else "le"] = None if math.isinf(option.high) else option.high
        if option.kind is float:
            bounds["allow_inf_nan"] = False
    elif option.kind is str and not option.choices:
        bounds["max_length"] = option.longest or MAX_TEXT
    kind = Annotated[kind, Field(**bounds)]
    if option.kind in (int, float):
        kind = Annotated[kind, NOT_BOOL]
    if option.media == "folder":
        kind = (
            FileReference | Annotated[list[FileReference], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
        )
    if option.many:
        kind = Annotated[list[kind], Field(max_length=MAX_ITEMS, fail_fast=True)]
    return Annotated[kind | None if option.optional else kind, Field(description=option.help)]


def parse_request(verb: Verb, values: Mapping[str, Any]) -> Request:
    """The request of a job. APIError for values that do not go together."""
    fields = options(verb.request)
    given = {name: as_files(value) if fields[name].kind is File else value for name, value in values.items()}
    with api_errors(verb):
        return verb.request(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


def as_files(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(as_files, value))
    return value if value is None else File(str(value["sha256"]), str(value["name"]))


@contextmanager
def api_errors(verb: Verb) -> Iterator[None]:
    """A UserError as APIError, which names the parameter if the line does."""
    try:
        yield
    except UserError as error:
        named = re.match(r"(?:unknown |the )?(\w+)", str(error))
        raise invalid(str(error), named[1] if named and named[1] in options(verb.request) else None) from None


def to_json(request: Request) -> dict[str, Any]:
    """The fields, as JSON gives them back."""
    facts: dict[str, Any] = json.loads(json.dumps(request.facts()))
    return facts


def files_of(request: Request) -> Iterator[tuple[Option, tuple[File, ...]]]:
    """The files that a request names, by the option that takes them."""
    for option in options(type(request)).values():
        value = getattr(request, option.name) if option.kind is File else None
        if value is not None:
            yield option, value if isinstance(value, tuple) else (value,)


def check_name(name: str, param: str) -> None:
    """APIError for a name that leads out of a folder, or that some system does not take."""
    parts, shown = name.split("/"), f"{param}: {name[:60]!r}"  # whose signs that nobody sees are written out
    wrong = next((sign for sign in name if sign in FORBIDDEN or not sign.isprintable()), None)
    if wrong is not None:
        raise invalid(f"{shown} has the sign {wrong!r}, which no name of a file may have here; rename it", param)
    if len(name.encode()) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in parts):
        raise invalid(f"{shown} is too long: {MAX_NAME} bytes, and {MAX_PART} of each part, are possible", param)
    if any(part.strip(" .") == "" for part in parts):
        raise invalid(f"{shown} is no name of a file; send a relative one, without ..", param)


def check_names(files: tuple[File, ...], param: str) -> None:
    """APIError for names of a folder that cannot lie beside each other."""
    names = [file.name for file in files]
    for name in names:
        check_name(name, param)
    inner = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if len(set(names)) < len(names) or inner & set(names):
        raise invalid(f"{param}: two files of the folder have the same name", param)
