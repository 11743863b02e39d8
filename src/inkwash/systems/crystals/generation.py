"""Exactly so many crystals that are sound, as requested, and distinct, of a model that draws whatever it draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.crystals import relaxation
from inkwash.systems.crystals.data import MIN_DISTANCE, MIN_VOLUME, Crystal, from_structure, to_structure
from inkwash.systems.crystals.elements import SYMBOLS, fits, parse_formula, parse_prototype
from inkwash.systems.crystals.matching import Seen
from inkwash.systems.crystals.relaxation import Judge, Relaxed
from inkwash.systems.crystals.validity import shortest_distance, volume

DRAWS = 20  # for each crystal that is wanted, at most


class Sample(NamedTuple):
    """A crystal that was kept: as it was drawn of this seed, Niggli-reduced, and what relaxing it has brought, whose
    crystal is reduced, too."""

    seed: int
    crystal: Crystal
    relaxed: Relaxed | None = None

    @property
    def final(self) -> Crystal:
        return self.crystal if self.relaxed is None else self.relaxed.crystal


class Generated(NamedTuple):
    """What was kept, in the order of their seeds; how many were drawn for that; and how many of these were refused,
    for what."""

    samples: list[Sample]
    drawn: int
    refused: Counter[str]

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {reason}" for reason, count in self.refused.most_common())
        kept = len(self.samples)
        text = f"{kept} crystal{'s' * (kept != 1)} of {self.drawn} drawn"
        return text + (f"; refused: {refused}" if refused else "")


def generate(
    model: Any,
    n: int = 1,
    seed: int = 0,
    *,
    keep_duplicates: bool = False,
    judge: Judge | Any = None,
    progress: Callable[[int, int], None] | None = None,
    **wanted: Any,
) -> Generated:
    """n crystals that are sound and distinct, the first of the seeds seed, seed + 1, ... that are, so the same in any
    batch; fewer where 20 n draws do not give as many.

    Sound: atoms at least 0.5 A apart, a cell of 0.1 cubic angstrom or more. Distinct: none matches another by
    pymatgen's StructureMatcher (stol 0.5, angle_tol 10, ltol 0.3), before and after relaxing.

    wanted  what `CrystalModel.generate` takes: formula, elements, prototype, atoms, minimise, target, steps
    judge   each crystal is relaxed by it: a calculator of ASE, or `relaxation.chgnet()`
    """
    judge = judge if judge is None or isinstance(judge, Judge) else Judge(judge)
    kept, refused, drawn = list[Sample](), Counter[str](), 0
    seen, seen_relaxed = Seen(), Seen()
    while len(kept) < n and drawn < DRAWS * n:
        missing, rate = n - len(kept), max(len(kept), 1) / drawn if drawn else 1.0
        count = min(ceil(missing / rate), 4 * n, DRAWS * n - drawn)
        report = None if progress is None or judge else share_of(progress, len(kept), missing)
        for crystal in model.generate(count, (seed + drawn) % 2**64, progress=report, **wanted):
            if len(kept) == n:
                break
            sample = Sample((seed + drawn) % 2**64, crystal)
            drawn += 1
            try:
                sample = sample._replace(crystal=reduced(crystal))
                check_wanted(sample.crystal, **wanted)
                if not keep_duplicates:
                    check_new(sample.crystal, seen, "matching another")
                if judge is not None:
                    sample = sample._replace(relaxed=relaxed_by(judge, sample.crystal))
                    if not keep_duplicates:
                        check_new(sample.final, seen_relaxed, "matching another once relaxed")
            except Refused as reason:
                refused[str(reason)] += 1
                continue
            kept.append(sample)
            if progress is not None and judge is not None:
                progress(len(kept), n)
    return Generated(kept, drawn, refused)


class Refused(Exception):
    """A crystal that is not kept, and why, in words that follow a number."""


def share_of(progress: Callable[[int, int], None], kept: int, missing: int) -> Callable[[int, int], None]:
    """Progress of a batch that may bring the missing ones, as progress of all."""
    return lambda done, total: progress(kept * total + missing * done, (kept + missing) * total)


def reduced(crystal: Crystal) -> Crystal:
    """The same crystal, Niggli-reduced. Refused where it is none."""
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.coordinates).all()):
        raise Refused("not finite")
    if volume(crystal) < MIN_VOLUME:
        raise Refused("without volume")
    if shortest_distance(crystal) < MIN_DISTANCE:
        raise Refused("with overlapping atoms")
    try:
        return from_structure(to_structure(crystal), crystal.properties, crystal.name)
    except UserError:
        raise Refused("unreadable") from None


def check_wanted(
    crystal: Crystal,
    *,
    formula: str | None = None,
    elements: Any = (),
    prototype: str | None = None,
    atoms: int | None = None,
    **_: Any,
) -> None:
    """Refused where a crystal has other atoms than requested."""
    symbols = [SYMBOLS[number] for number in crystal.numbers]
    if prototype is not None and not fits(symbols, parse_prototype(prototype)):
        raise Refused("of another prototype")
    if formula is not None and not is_multiple(Counter(symbols), parse_formula(formula)):
        raise Refused("of another composition")
    if (elements and not {*symbols} <= {*elements}) or atoms not in (None, len(symbols)):
        raise Refused("of other atoms")


def is_multiple(counts: Counter[str], unit: dict[str, int]) -> bool:
    """Whether atoms are those of a formula unit, once or several times."""
    times = counts.total() // sum(unit.values())
    return counts == Counter({symbol: times * count for symbol, count in unit.items()})


def check_new(crystal: Crystal, seen: Seen, reason: str) -> None:
    """Refused where a crystal matches one that was seen; from now on this one was, too."""
    if crystal in seen:
        raise Refused(reason)
    seen.add(crystal)


def relaxed_by(judge: Judge, crystal: Crystal) -> Relaxed:
    """Refused where the judge fails, or what it leads to is no crystal."""
    relaxed = relaxation.relax(crystal, judge)
    if relaxed is None:
        raise Refused("that could not be relaxed")
    return relaxed._replace(crystal=reduced(relaxed.crystal))
