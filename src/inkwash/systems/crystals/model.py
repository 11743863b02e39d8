"""A model of crystals: what of them can be asked, and drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.diffusion import Noise, child_seed
from inkwash.errors import UserError, unknown
from inkwash.systems.base import check_seed
from inkwash.systems.crystals.data import Crystal, wrap
from inkwash.systems.crystals.elements import SYMBOLS, fits, parse_formula, parse_prototype
from inkwash.systems.crystals.engines import ENGINES
from inkwash.systems.torch_model import TorchModel

PAIRS = 16_000  # of atoms that are computed together, at most
TRIES = 20  # draws for a prototype


def new_network(config: dict[str, Any]) -> nn.Module:
    """The untrained network of a model's facts."""
    engine, kinds, numbers = ENGINES[config["engine"]], len(config["elements"]), len(config["properties"])
    return engine.network(kinds, numbers, **config["network"])


class CrystalModel(TorchModel):
    """A model of crystals.

    >>> model = inkwash.load("perov")
    >>> model.generate(3, seed=7, formula="BaTiO3")

    config:
    engine      see `engines`
    elements    symbols, in the order of the kinds
    atoms       {number of atoms: how many training crystals have it}; numbers as text, as JSON has them
    properties  {name: {"mean", "std", "low", "min", "max"}} of the training crystals; low: the quantile at 2 %
    network     width, layers
    steps, guidance  of sampling, unless asked otherwise
    """

    system = "crystals"

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        self.network, self.config, self.engine = network, config, ENGINES[config["engine"]]
        self.elements, self.properties = list(config["elements"]), dict(config["properties"])
        self.counts = {int(atoms): count for atoms, count in config["atoms"].items()}

    @classmethod
    def build(cls, facts: dict[str, Any]) -> CrystalModel:
        facts["steps"], facts["guidance"]
        return cls(new_network(facts), facts)

    def facts(self) -> dict[str, Any]:
        return self.config

    def generate(
        self,
        n: int = 1,
        seed: int = 0,
        *,
        formula: str | None = None,
        elements: Sequence[str] = (),
        prototype: str | None = None,
        atoms: int | None = None,
        minimise: str | None = None,
        target: dict[str, float] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Crystal]:
        """n crystals, of the seeds seed, seed + 1, ...: each the same among any others. They are as they are drawn,
        also where atoms lie too close; their cells stand in the orientation of `Crystal`, not reduced.

        formula: these atoms, or a multiple of them that the training crystals have, exactly. elements: only these
        are drawn. prototype: ABX3 for three elements, 1 : 1 : 3; redrawn until it fits, at most 20 times, after which
        the last draw is given. atoms: in the cell. minimise: the property that should be low, as in the lowest 2 % of
        the training crystals. target: values that properties should have. guidance: how closely to follow the two; 1
        is as the network learned it.

        Raises UserError for what the model does not know, and for requests that contradict each other.
        """
        if n < 1:
            raise UserError(f"n = {n}: at least 1 crystal is needed")
        if steps is not None and steps < 1:
            raise UserError(f"steps = {steps}: at least 1 is needed")
        if formula is not None and (elements or prototype is not None):
            raise UserError("a formula says what the atoms are: leave out elements and prototype")
        check_seed(seed)
        seeds = [(seed + i) % 2**64 for i in range(n)]
        wanted = self._conditions(minimise, target or {})
        pattern = None if prototype is None else parse_prototype(prototype)
        unit = None if formula is None else parse_formula(formula)
        for symbol in (*elements, *(unit or ())):
            self._known(symbol)
        size = sum(unit.values()) if unit else sum(pattern or (1,))
        allowed = self._allowed(elements)
        sizes = self._sizes(seeds, size, atoms, formula or prototype or "")
        choice = len(self.elements) if allowed is None else int(allowed.sum())
        if choice < len(pattern or ()):
            raise UserError(f"{prototype} has {len(pattern or ())} elements; only {choice} can be drawn")
        how = {
            "allowed": allowed,
            "properties": wanted,
            "steps": steps or self.config["steps"],
            "guidance": (self.config["guidance"] if guidance is None else guidance) if minimise or target else 1.0,
        }
        made: dict[int, Crystal] = {}
        for attempt in range(1 if pattern is None else TRIES):
            rows = [i for i in range(n) if i not in made or (pattern and not self._fits(made[i], pattern))]
            if not rows:
                break
            draws = [child_seed(seeds[i], attempt) if attempt else seeds[i] for i in rows]
            drawn = self._draw(draws, [sizes[i] for i in rows], unit, how, progress)
            made |= dict(zip(rows, drawn, strict=True))
        return [made[i] for i in range(n)]

    def _draw(
        self,
        seeds: list[int],
        sizes: list[int],
        unit: dict[str, int] | None,
        how: dict[str, Any],
        progress: Callable[[int, int], None] | None,
    ) -> list[Crystal]:
        """One crystal of each seed and number of atoms; those of as many atoms together."""
        alike = defaultdict(list)
        for i, size in enumerate(sizes):
            alike[size].append(i)
        batches = [
            (size, rows[start : start + max(1, PAIRS // size**2)])
            for size, rows in sorted(alike.items())
            for start in range(0, len(rows), max(1, PAIRS // size**2))
        ]
        made: dict[int, Crystal] = {}
        for size, rows in batches:
            kinds = None if unit is None else self._kinds(unit, size).expand(len(rows), -1)
            done, more = len(made), len(rows)
            report = None
            if progress is not None:

                def report(step: int, of: int, done: int = done, more: int = more) -> None:
                    progress(done * of + step * more, len(seeds) * of)

            state = self.engine.sample(
                self.network,
                [seeds[i] for i in rows],
                torch.ones(len(rows), size, dtype=torch.bool, device=self.device),
                kinds=kinds,
                progress=report,
                **how | {"properties": how["properties"].expand(len(rows), -1)},
            )
            for row, crystal in zip(rows, self._crystals(state), strict=True):
                made[row] = crystal
        return [made[i] for i in range(len(seeds))]

    def _crystals(self, state: dict[str, Tensor]) -> list[Crystal]:
        numbers = np.array([SYMBOLS.index(symbol) for symbol in self.elements])
        lattice, coordinates = (state[key].double().numpy(force=True) for key in ("lattice", "coordinates"))
        kinds = numbers[state["kinds"].numpy(force=True)]
        return [Crystal(*of) for of in zip(lattice, wrap(coordinates), kinds, strict=True)]

    @staticmethod
    def _fits(crystal: Crystal, prototype: tuple[int, ...]) -> bool:
        return fits((SYMBOLS[number] for number in crystal.numbers), prototype)

    def _sizes(self, seeds: list[int], unit: int, atoms: int | None, of: str) -> list[int]:
        """How many atoms each crystal has: those asked for; else drawn, by the seed, from the training crystals'
        that are a multiple of the unit; where they have none, the unit itself."""
        most = max(self.counts)
        if atoms is not None and (atoms < 1 or atoms % unit):
            raise UserError(f"atoms = {atoms}: {f'a multiple of {unit}, of {of},' if of else 'at least 1'} is needed")
        if (atoms or unit) > most:
            raise UserError(f"{atoms or f'{of}: {unit}'} atoms: this model has seen cells of up to {most}")
        if atoms is not None:
            return [atoms] * len(seeds)
        choices = {size: count for size, count in sorted(self.counts.items()) if size % unit == 0} or {unit: 1}
        shares = np.cumsum([*choices.values()]) / sum(choices.values())
        uniform = Noise(seeds, (1,), "atoms", dtype="float64").uniform()[:, 0]
        sizes = np.array([*choices])
        return [int(size) for size in sizes[np.minimum(np.searchsorted(shares, uniform), len(sizes) - 1)]]

    def _allowed(self, elements: Sequence[str]) -> Tensor | None:
        """Which kinds may be drawn, (elements,); None for all."""
        if not elements:
            return None
        return torch.tensor([symbol in elements for symbol in self.elements], device=self.device)

    def _known(self, symbol: str) -> None:
        if symbol not in self.elements:
            raise UserError(
                f"this model has never seen the element '{symbol}'; it knows {', '.join(sorted(self.elements))}"
            )

    def _kinds(self, unit: dict[str, int], size: int) -> Tensor:
        """The kinds of a cell of so many atoms, (1, size)."""
        times = size // sum(unit.values())
        kinds = [self.elements.index(symbol) for symbol, count in unit.items() for _ in range(count * times)]
        return torch.tensor([kinds], device=self.device)

    def _conditions(self, minimise: str | None, target: dict[str, float]) -> Tensor:
        """The standardised properties that are asked for, (1, P), NaN where nothing is."""
        if minimise in target:
            raise UserError(f"{minimise} cannot be minimised and have a target, too: leave out one of them")
        for name in (*target, *([] if minimise is None else [minimise])):
            if name not in self.properties:
                raise unknown("property", name, self.properties)
        row = []
        for name, facts in self.properties.items():
            value = facts["low"] if name == minimise else target.get(name, np.nan)
            if name in target and not facts["min"] <= value <= facts["max"]:
                seen = f"{facts['min']:.4g} to {facts['max']:.4g}"
                raise UserError(f"{name} = {value:g} lies outside what this model has seen, {seen}")
            row.append((value - facts["mean"]) / facts["std"])
        return torch.tensor([row], dtype=torch.float32, device=self.device)
