"""What files of proteins say of themselves: PDB in remarks, mmCIF in an item, the JSON of a run in each row."""

from __future__ import annotations

import json
import re
from pathlib import Path

from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.base import Recorded

REMARK = "REMARK 999 RECIPE "
WIDTH = 80 - len(REMARK)
# of mmCIF, in quotes or between semicolons
ITEM = re.compile(r"""^_inkwash\.recipe\s+(?:'(.*)'|"(.*)"|;(.*?)\n;)\s*$""", re.M | re.S)


def recipe_lines(recipe: str) -> list[str]:
    """A recipe (JSON without spaces between its signs) as lines of a PDB, of which programs take off spaces."""
    text = recipe.replace(" ", r"\u0020")
    return [f"{REMARK}{text[start : start + WIDTH]}" for start in range(0, len(text), WIDTH)]


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
    found = "".join(line.removeprefix(REMARK).rstrip() for line in text.splitlines() if line.startswith(REMARK))
    return Recorded(dict(json.loads(found)), ".pdb", atom_lines(text), "atoms") if found else None


def of_mmcif(text: str) -> Recorded | None:
    if (found := ITEM.search(text)) is None:
        return None
    recipe = next(filter(None, found.groups())).replace("\n", "")
    return Recorded(dict(json.loads(recipe)), ".cif", atom_lines(text), "atoms")


def atom_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]


def of_json(text: str) -> Recorded | None:
    try:
        rows = json.loads(text)
        recipe = rows[0].pop("recipe")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # another's
    for row in rows[1:]:
        row.pop("recipe")
    return Recorded(dict(recipe), ".json", rows, "numbers")
