"""Energy above the hull of entries that a person brings."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Any

from inkwash.errors import UserError
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.elements import SYMBOLS, number
from inkwash.systems.crystals.relaxation import quiet
from inkwash.systems.tables import read_text


class Hull:
    """Entries of pymatgen, in JSON: a list or a dictionary of them. Their energies, eV a cell with its corrections,
    must be of the kind that the judge has learned: CHGNet's are the Materials Project's corrected GGA and GGA+U.

    UserError for a file that is none.
    """

    def __init__(self, file: Path) -> None:
        try:
            content = json.loads(read_text(file).text)
            items = list(content.values()) if isinstance(content, dict) else content
            self.entries = [entry_of(composition_of(item), total_energy(item)) for item in items]
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{file}: no entries of pymatgen, each with a composition and an energy ({error})"
            ) from None
        self.diagram = cache(self._diagram)

    def above(self, crystal: Crystal, energy: float) -> float | None:
        """eV an atom above the hull, below 0 beneath it, of a crystal with an energy in eV an atom; None where the
        entries lack an element of it."""
        amounts = {SYMBOLS[z]: float(count) for z, count in Counter(crystal.numbers.tolist()).items()}
        diagram = self.diagram(frozenset(amounts))
        if diagram is None:
            return None
        entry = entry_of(amounts, energy * len(crystal.numbers))
        return float(diagram.get_e_above_hull(entry, allow_negative=True))

    def _diagram(self, elements: frozenset[str]) -> Any:
        """The phase diagram of these elements alone; None where one of them has no entry of itself."""
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        inside = [entry for entry in self.entries if {*map(str, entry.composition.elements)} <= elements]
        alone = {str(entry.composition.elements[0]) for entry in inside if len(entry.composition.elements) == 1}
        return PhaseDiagram(inside) if alone == elements else None


def entry_of(amounts: dict[str, float], energy: float) -> Any:
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core.composition import Composition

    with quiet():  # it warns of noble gases, which have no electronegativity
        return PDEntry(Composition(amounts), energy)


def composition_of(entry: dict[str, Any]) -> dict[str, float]:
    """Of an entry: its own, or that of its structure. UserError for what is no element."""
    amounts: dict[str, float] = {}
    for symbol, amount in entry["composition"].items() if "composition" in entry else species(entry["structure"]):
        number(symbol)
        if not 0 < amount < inf:
            raise UserError(f"an entry has {amount} of {symbol}; more than 0 is needed")
        amounts[symbol] = amounts.get(symbol, 0.0) + amount
    return amounts


def species(structure: dict[str, Any]) -> list[tuple[str, float]]:
    return [(each["element"], each["occu"]) for site in structure["sites"] for each in site["species"]]


def total_energy(entry: dict[str, Any]) -> float:
    """eV of the whole composition, its correction counted. UserError for an energy that is none."""
    energy = float(entry["energy"]) + float(entry.get("correction") or 0.0)
    if not isfinite(energy):
        raise UserError(f"an entry has the energy {energy:g}; leave it out")
    return energy
