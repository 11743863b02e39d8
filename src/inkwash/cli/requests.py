"""From options to a request, and where its results go."""

from __future__ import annotations

import dataclasses
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inkwash.cli.context import Local, make_writable
from inkwash.errors import UserError
from inkwash.systems import system_of
from inkwash.systems.base import File, Plan, Request, System, Verb, narrow, options, plan
from inkwash.weights.shipped import locate

SAME_FORMAT = {"jpg": "jpeg", "tif": "tiff"}  # endings of a format, beside its name
UNTYPED = (".feather", ".jsonl", ".parquet")  # endings of files that Python's list of types lacks


def plan_of(verb: Verb, request: Request, out: Path | None, context: Local) -> Plan:
    model, folder = getattr(request, "model", None), None
    if model is not None:
        folder = locate(model)
    elif verb.lasting:
        folder = out or default_out(verb, request)
    return plan(verb, request, folder, context.device, context.threads)


def build(system: System, verb: Verb, given: dict[str, Any], context: Local) -> Request:
    """The request of these options, files by their content. UserError for a model that is not there or is of another
    system, and for options that it does not have."""
    fields, values = options(verb.request), {}
    for key, value in given.items():
        option = fields[key]
        if option.kind is File:
            value = tuple(context.file(one, option) for one in value) if option.many else context.file(value, option)
        values[key] = tuple(value) if option.many and isinstance(value, list) else value
    for option in fields.values():
        if option.default is dataclasses.MISSING and option.name not in values:
            raise UserError(
                f"missing {'' if option.argument else '--'}{option.name.replace('_', '-')}: {option.help}"
            )
    request = verb.request(**values)
    if (model := request.model_name()) is not None:
        folder = locate(model)
        other = system_of(folder)
        if other.name != system.name:
            word = other.command or f"{other.name} {next(iter(other.verbs))}"
            raise UserError(f"{model} is a model of {other.name}: inkwash {word} --model {model}")
        narrow(verb, request, folder)
    return request


def default_out(verb: Verb, request: Request) -> Path:
    """Where the results go if --out is not given."""
    if verb.out == "MODEL":
        return locate(request.model)  # type: ignore[attr-defined]  # such a verb has one
    return Path(verb.out.replace("STEM", request.stem()))


@contextmanager
def ready(folder: Path) -> Iterator[None]:
    """Makes the folder; if nothing lies in it when the block ends, it is removed again, with the parents that were
    made for it."""
    fresh = [path for path in (folder, *folder.parents) if not path.exists()]
    make_writable(folder)
    try:
        yield
    finally:
        for path in fresh:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def is_file(verb: Verb, out: Path) -> bool:
    """Whether --out names a file and not a folder. UserError for a format that is not written."""
    suffix = out.suffix.lower()
    is_known = suffix in (*verb.endings, *UNTYPED) or any(mimetypes.guess_type(out.name))
    if out.is_dir() or verb.lasting or not is_known:
        return False
    if suffix not in verb.endings:
        wanted = f"a {verb.endings[0]} file or a folder" if verb.endings else "a folder"
        raise UserError(f"--out {out}: no {suffix} file is written; give {wanted}")
    return True


def with_format(verb: Verb, given: dict[str, Any], out: Path) -> dict[str, Any]:
    """The options, and the format that the file's ending says. UserError for one that another was given with."""
    option, ending = options(verb.request).get("format"), out.suffix.lower()[1:]
    ending = SAME_FORMAT.get(ending, ending)
    if option is None or ending not in option.choices:
        return given
    if given.get("format", ending) != ending:
        raise UserError(f"--out {out}: its ending is not of the format {given['format']}: leave one of them out")
    return given | {"format": ending}
