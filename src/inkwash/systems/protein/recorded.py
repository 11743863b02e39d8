"""What files of proteins say of themselves: PDB in remarks, mmCIF in an item, the JSON of a run in each row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.base import Recorded

REMARK = "REMARK 999 RECIPE "
WIDTH = 80 - len(REMARK)
ITEM = "_inkwash.recipe"


def add_recipe(file: Path, recipe: dict[str, Any]) -> None:
    """Writes what makes a structure anew into its file, PDB or mmCIF."""
    text = file.read_text(encoding="utf-8")
    # no spaces, which programs take off the ends of lines
    facts = json.dumps(recipe, separators=(",", ":")).replace(" ", r"\u0020")
    lines = [facts[start : start + WIDTH] for start in range(0, len(facts), WIDTH)]
    if file.suffix == ".cif":
        text += "\n".join([ITEM, f";{lines[0]}", *lines[1:], ";", "#", ""])
    else:
        head, line_break, rest = text.partition("\n")
        text = head + line_break + "".join(f"{REMARK}{line}\n" for line in lines) + rest
    file.write_text(text, encoding="utf-8")


def recorded(file: Path) -> Recorded | None:
    """UserError for a recipe that is broken."""
    suffix = file.suffix.lower()
    reader = {".pdb": of_pdb, ".ent": of_pdb, ".cif": of_mmcif, ".mmcif": of_mmcif, ".json": of_json}.get(suffix)
    if suffix == ".png":  # whose pixels are read as those of any picture
        recipe = read_recipe(file)
        return Recorded(recipe, ".png", [], "pixels") if recipe.get("system") == "protein" else None
    try:
        return None if reader is None else reader(file.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: its recipe is broken ({error})") from None


def of_pdb(text: str) -> Recorded | None:
    lines = text.splitlines()
    found = "".join(line.removeprefix(REMARK).rstrip() for line in lines if line.startswith(REMARK))
    atoms = [line.rstrip() for line in lines if not line.startswith("REMARK")]
    return Recorded(dict(json.loads(found)), ".pdb", atoms, "atoms") if found else None


def of_mmcif(text: str) -> Recorded | None:
    if (found := re.search(rf"^{ITEM}\n;(.*?)^;", text, re.M | re.S)) is None:
        return None
    return Recorded(dict(json.loads(found[1].replace("\n", ""))), ".cif", text[: found.start()], "atoms")


def of_json(text: str) -> Recorded | None:
    try:
        rows = json.loads(text)
        recipe = rows[0].pop("recipe")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # another's
    for row in rows[1:]:
        row.pop("recipe")
    return Recorded(dict(recipe), ".json", rows, "numbers")
