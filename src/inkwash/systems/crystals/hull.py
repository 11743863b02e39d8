"""Energy above the hull of entries that a person brings."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from inkwash.errors import UserError
from inkwash.systems.crystals.data import Crystal, to_structure
from inkwash.systems.tables import read_text


class Hull:
    """Entries of pymatgen, in JSON: a list or a dictionary of them. Their energies, eV a cell with its corrections,
    must be of the kind that the judge has learned: CHGNet's are the Materials Project's corrected GGA and GGA+U.

    UserError for a file that is none.
    """

    def __init__(self, file: Path) -> None:
        from pymatgen.analysis.phase_diagram import PDEntry
        from pymatgen.core.composition import Composition

        try:
            content = json.loads(read_text(file).text)
            items = list(content.values()) if isinstance(content, dict) and "energy" not in content else content
            items = items if isinstance(items, list) else [items]
            self.entries = [PDEntry(Composition(composition_of(item)), total_energy(item)) for item in items]
        except UserError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{file}: no entries of pymatgen, each with a composition and an energy ({error})"
            ) from None
        self.diagram = cache(self._diagram)

    def above(self, crystal: Crystal, energy: float) -> float | None:
        """eV an atom above the hull, below 0 beneath it, of a crystal with an energy in eV an atom; None where the
        entries lack an element of it."""
        from pymatgen.analysis.phase_diagram import PDEntry

        composition = to_structure(crystal).composition
        diagram = self.diagram(frozenset(map(str, composition.elements)))
        if diagram is None:
            return None
        entry = PDEntry(composition, energy * len(crystal.numbers))
        return float(diagram.get_e_above_hull(entry, allow_negative=True))

    def _diagram(self, elements: frozenset[str]) -> Any:
        """The phase diagram of these elements alone; None where one of them has no entry of itself."""
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        inside = [entry for entry in self.entries if {*map(str, entry.composition.elements)} <= elements]
        alone = {str(entry.composition.elements[0]) for entry in inside if len(entry.composition.elements) == 1}
        return PhaseDiagram(inside) if alone == elements else None


def composition_of(entry: dict[str, Any]) -> dict[str, float]:
    """Of an entry: its own, or that of its structure."""
    if "composition" in entry:
        return {str(symbol): float(amount) for symbol, amount in entry["composition"].items()}
    amounts: dict[str, float] = {}
    for site in entry["structure"]["sites"]:
        for species in site["species"]:
            amounts[species["element"]] = amounts.get(species["element"], 0) + species["occu"]
    return amounts


def total_energy(entry: dict[str, Any]) -> float:
    """eV of the whole composition, its correction counted."""
    return float(entry["energy"]) + float(entry.get("correction") or 0.0)
