"""Where engines are. Whoever runs the program says so, by an option or in the environment; no file and no request
does, so that nobody else can send it anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from inkwash.errors import UserError

ADDRESSES, KEYS = "INKWASH_ENGINES", "INKWASH_ENGINE_KEYS"  # variables of the environment: words with blanks between
FORM = re.compile(r"(\w[\w.-]{0,99})=(https?://[\w.:[\]-]+(?:/[\w./~%-]*)?)#(\S{1,200})", re.ASCII)


class Address(NamedTuple):
    """Of an engine: its URL, to which /images/generations is added, and what it calls its model."""

    url: str
    model: str


def parse(texts: Iterable[str]) -> dict[str, Address]:
    """What NAME=URL#MODEL says, by name. UserError for another form, and a name that is given twice."""
    found: dict[str, Address] = {}
    for text in texts:
        start = re.match(r"[\w.-]{0,60}", text)
        shown = start[0] if start else ""  # what follows may have a password
        if "@" in text.partition("#")[0]:
            raise UserError(f"engine {shown}: no name or password stands in an address; put a key in {KEYS}")
        parts = FORM.fullmatch(text)
        if parts is None or not has_host(parts[2]):
            example = "qwen=http://host:8000/v1#Qwen/Qwen-Image"
            raise UserError(f"engine {shown}: NAME=URL#MODEL is needed, as {example}")
        name, url, model = parts.groups()
        if name in found:
            raise UserError(f"engine {name}: given twice; choose another name for one of them")
        found[name] = Address(url.rstrip("/"), model)
    return found


def has_host(url: str) -> bool:
    """Whether it leads to a host, and a port that there may be."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def known() -> dict[str, Address]:
    """The engines of the environment."""
    return parse(os.environ.get(ADDRESSES, "").split())


def keys(names: Collection[str]) -> dict[str, str]:
    """The keys of the environment, NAME=KEY each, by name. UserError, which shows none, for what is none."""
    found: dict[str, str] = {}
    for number, text in enumerate(os.environ.get(KEYS, "").split(), 1):
        name, _, key = text.partition("=")
        if name not in names or not re.fullmatch("[!-~]+", key):
            known = ", ".join(names) or "none"
            raise UserError(f"{KEYS}: word {number} is no NAME=KEY of an engine (known: {known})")
        if name in found:
            raise UserError(f"{KEYS}: {name} has two keys; leave one of them out")
        found[name] = key
    return found


def find(name: str, model: str) -> tuple[Address, str]:
    """The address of an engine, and its key, "" without one. UserError for an engine that is not known here, or
    draws by another model."""
    there = known()
    if name not in there:
        example = f"{name}=http://HOST:PORT/v1#{model}"
        raise UserError(f"the engine {name} is not known here: put its address in {ADDRESSES}, {example}")
    if there[name].model != model:
        raise UserError(f"the engine {name} is another here: it draws by {there[name].model}, not by {model}")
    return there[name], keys(there).get(name, "")
