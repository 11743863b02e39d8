"""What is dear to compute of a crystal, kept in a file of lines of JSON, by the crystal's content."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.systems.crystals.data import Crystal
from inkwash.weights.files import check_ours

MARK = '"of crystals": '  # in the first line of every such file


def content(crystal: Crystal) -> str:
    """SHA-256 of a crystal's atoms and cell to a millionth; names and properties are no part of it."""
    arrays = [np.round(x, 6) + 0.0 for x in (crystal.lattice, crystal.coordinates)]  # there is no -0.0
    data = [np.asarray(x, "<f8").tobytes() for x in (*arrays, crystal.numbers)]
    return sha256(b"".join(data)).hexdigest()


def cached(
    crystals: Sequence[Crystal],
    compute: Callable[[Crystal], Any],
    file: Path | None,
    what: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """`compute` of each crystal: of those that stand in the file what stands there, of others anew, each written down
    as soon as it is known. What it returns must be JSON. `what`: names the computation; a file of another is refused.
    """
    known = read(file, what) if file is not None else {}
    out = []
    for done, crystal in enumerate(crystals, 1):
        key = content(crystal)
        if key not in known:
            known[key] = compute(crystal)
            if file is not None:
                append(file, what, {"crystal": key, "value": known[key]})
        out.append(known[key])
        if progress is not None:
            progress(done, len(crystals))
    return out


def head(what: str) -> str:
    return f"{{{MARK}{json.dumps(what)}}}\n"


def read(file: Path, what: str) -> dict[str, Any]:
    check_ours(file, head(what).strip())
    known = {}
    for line in file.read_text(encoding="utf-8").splitlines()[1:] if file.exists() else []:
        try:
            entry = json.loads(line)
            known[entry["crystal"]] = entry["value"]
        except (ValueError, KeyError, TypeError):  # the line at which a run was ended
            continue
    return known


def append(file: Path, what: str, entry: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        # A line of its own even after one that a run left unended.
        lines.write(("\n" if lines.tell() else head(what)) + json.dumps(entry) + "\n")
