"""What can be asked of models of crystals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, MaxLen

from inkwash.errors import UserError, unknown
from inkwash.systems.base import File, Help, Limit, Media, Request
from inkwash.systems.crystals.elements import parse_elements, parse_formula, parse_prototype

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Generate crystals: exactly n that are valid and distinct, as CIF, extxyz and a table."""

    formula: Annotated[
        str | None, MaxLen(200), Help("The composition: BaTiO3. Its structure is predicted; cells may have several.")
    ] = None
    elements: Annotated[str | None, MaxLen(480), Help("Of these elements alone: Ba,Ti,O.")] = None
    prototype: Annotated[
        str | None, MaxLen(100), Help("How many atoms of each element: ABX3, whatever these elements are.")
    ] = None
    atoms: Annotated[int | None, Ge(1), Le(10_000), Help("How many atoms a cell has.")] = None
    minimise: Annotated[str | None, MaxLen(200), Help("A property that should be low: heat_ref.")] = None
    target: Annotated[
        tuple[str, ...], Help("A property and its value: gap=1.5; again for more. The model's card lists them.")
    ] = ()
    relax: Annotated[bool, Help("Relax each by CHGNet: lower energy, other cell; and tell its energy.")] = False
    hull: Annotated[
        File | None,
        Media("application/json"),
        Help("Entries of pymatgen (JSON) whose hull the relaxed energies are set against; needs --relax."),
    ] = None
    n: Annotated[int, Ge(1), Le(10_000), Help("How many crystals.")] = 1
    seed: Annotated[
        int | None, Ge(0), Le(2**64 - 1), Help("The same seed gives the same crystal; random if left out.")
    ] = None
    steps: Annotated[int | None, Ge(1), Le(10_000), Help("Steps of the sampler; more take longer.")] = None
    symprec: Annotated[
        float, Gt(0), Le(1), Help("How far, in angstrom, atoms may be from a symmetry that is found (spglib).")
    ] = 0.1
    keep_duplicates: Annotated[bool, Help("Keep crystals that match another of the run.")] = False
    model: Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.")] = "perov"

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = parse_formula(self.formula) if self.formula else {}
        elements = parse_elements(self.elements) if self.elements is not None else ()
        prototype = parse_prototype(self.prototype) if self.prototype is not None else ()
        if self.formula == "":
            raise UserError("formula: nothing in it; write it as BaTiO3")
        if counts and (elements or prototype):
            raise UserError("a formula says its elements and its prototype: leave --elements and --prototype out")
        if elements and len(prototype) > len(elements):
            raise UserError(
                f"prototype {self.prototype} has {len(prototype)} elements, but {len(elements)} may be used"
            )
        for what, unit in ((self.formula, sum(counts.values())), (self.prototype, sum(prototype))):
            if unit and self.atoms and self.atoms % unit:
                raise UserError(f"atoms = {self.atoms}: no multiple of the {unit} of {what}")
        if self.hull is not None and not self.relax:
            raise UserError("hull means nothing without --relax, which gives the energies: add it, or leave hull out")
        if self.minimise in self.targets():
            raise UserError(f"{self.minimise} cannot be minimised and have a value: leave one out")

    def targets(self) -> dict[str, float]:
        """The values of properties. UserError for what is no name and number, and for a property given twice."""
        found: dict[str, float] = {}
        for text in self.target:
            name, sign, value = (part.strip() for part in text.rpartition("="))  # names may have one, too
            if not name or not sign or not NUMBER.fullmatch(value):
                raise UserError(f"target '{text[:60]}': a name and a number are needed, as gap=1.5")
            if name in found:
                raise UserError(f"target {name} is there twice: leave one out")
            found[name] = float(value)
        return found

    def check(self, limits: Mapping[str, Limit]) -> None:
        """UserError for a property that the model was not taught; `limits["minimise"]` has those that it was. And for
        a formula of more atoms than it has seen, before anything is made of so many."""
        unit, most = sum(parse_formula(self.formula).values()) if self.formula else 0, limits["atoms"].high
        if most is not None and unit > most:
            raise UserError(f"{self.formula}: {unit} atoms: this model has seen cells of up to {most:g}")
        for name in self.targets():
            if name not in (known := limits["minimise"].choices):
                raise unknown("property", name, known)

    def basename(self) -> str:
        return self.formula or "crystal"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure generated crystals beside real ones and beside random elements on the same prototype."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "perov"
    data: Annotated[
        File | tuple[File, ...],
        Media("folder"),
        Help("The crystals that the model was trained on a part of: a file or a folder, as for training."),
    ]
    test: Annotated[
        File | tuple[File, ...] | None, Media("folder"), Help("Held-out crystals, instead of a fifth of the data.")
    ] = None
    samples: Annotated[int, Ge(2), Le(100_000), Help("How many crystals are generated.")] = 200
    relax: Annotated[int, Ge(0), Le(100_000), Help("How many of each are relaxed by CHGNet; 0: none.")] = 0
    predict: Annotated[int, Ge(0), Le(100_000), Help("Of how many held-out compositions to predict crystals.")] = 0
    minimise: Annotated[str | None, MaxLen(200), Help("A property: how low it is where it was minimised.")] = None
    seed: Annotated[int, Ge(0), Le(2**64 - 1), Help("Of the crystals.")] = 0
    steps: Annotated[int | None, Ge(1), Le(10_000), Help("Steps of the sampler, instead of the model's own.")] = None
