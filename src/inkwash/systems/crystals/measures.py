"""Figures of sets of crystals: whether they are valid, new, spread as real ones are, and near a minimum of energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.crystals import matching, validity
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.fingerprints import (
    CUTOFFS,
    composition_fingerprints,
    coverage,
    fingerprints,
    standardise,
)
from inkwash.systems.crystals.relaxation import Judge, Relaxed, relax_all
from inkwash.systems.crystals.train import knows
from inkwash.systems.report import Row, bootstrap, row, wilson

Progress = Callable[[int, int], None]
NEAR = 0.3  # angstrom from the relaxed crystal
COVERAGES = {"": CUTOFFS, " of structures": (CUTOFFS[0], np.inf), " of compositions": (np.inf, CUTOFFS[1])}


@dataclass
class Work:
    """What all parts of a table share: where values are cached, who judges, the model's own predictor, what was left
    out, and the time."""

    cache: Path | None
    judge: Judge | None
    progress: Progress | None
    stages: int
    predictor: Any = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    done: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Takes the time of a part; gives what its progress is told to."""
        clock, before = time.process_time(), self.done

        def tell(i: int, of: int) -> None:
            if self.progress is not None:
                self.progress(before * of + i, self.stages * of)

        yield tell
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - clock
        self.done += 1

    def has(self, purpose: str, module: str) -> bool:
        """Whether a package is there; a note of what is left out where it is not."""
        try:
            require(purpose, module)
        except UserError as error:
            if (note := f"Left out: {error}") not in self.notes:
                self.notes.append(note)
            return False
        return True


def share(metric: str, hits: Sequence[bool] | np.ndarray, **keys: Any) -> Row:
    """Of how many it is so, with Wilson's interval."""
    n, found = len(hits), int(np.sum(hits))
    return row(metric, found / n, wilson(found, n), n, **keys) if n else row(metric, np.nan, n=0, **keys)


def mean(metric: str, values: Sequence[float] | np.ndarray, **keys: Any) -> Row:
    n = len(values)
    return (
        row(metric, float(np.mean(values)), bootstrap(values), n, **keys) if n else row(metric, np.nan, n=0, **keys)
    )


def valid(crystals: Sequence[Crystal], source: str, work: Work) -> list[Row]:
    """How many can be crystals at all."""
    keys: dict[str, Any] = {"source": source, "of": "all"}
    structures = [validity.structure_is_valid(crystal) for crystal in crystals]
    rows = [share("structure valid", structures, **keys)]
    if work.has("whether a composition is valid", "smact"):
        compositions = [validity.composition_is_valid(crystal.numbers) for crystal in crystals]
        rows += [share("composition valid", compositions, **keys)]
        rows += [share("valid", np.logical_and(structures, compositions), **keys)]
    return rows


def same(crystals: Sequence[Crystal], training: Sequence[Crystal], source: str) -> list[Row]:
    """Copies, and how symmetric they are."""
    keys: dict[str, Any] = {"source": source, "of": "valid"}
    crystals = valid_ones(crystals)
    groups = np.array([matching.space_group(crystal)[1] for crystal in crystals])
    return [
        share("unique", matching.unique(crystals), **keys),
        share("novel", matching.novel(crystals, training), **keys),
        share("space group above 1", groups > 1, **keys),
        share("space group above 25", groups > 25, **keys),
    ]


def distributions(
    sets: dict[str, list[Crystal]],
    held_out: Sequence[Crystal],
    training: Sequence[Crystal],
    work: Work,
    tell: Progress,
) -> list[Row]:
    """How far the valid crystals of each set are, as a set, from the held-out ones."""
    usable = {source: valid_ones(crystals) for source, crystals in sets.items()}
    reference = quantities(work, held_out)
    rows = [
        wasserstein(f"Wasserstein {name}", values, reference[name], source=source, of="beside held-out ones")
        for source, crystals in usable.items()
        for name, values in quantities(work, crystals).items()
        if name in reference
    ]
    if not work.has("COV", "matminer"):
        return rows
    scale = composition_fingerprints(training)
    parts = [partial(tell_part, tell, place, len(sets) + 1) for place in range(len(sets) + 1)]
    known = standardise(fingerprints(held_out, work.cache, parts[0]), scale)
    for part, (source, crystals) in zip(parts[1:], usable.items(), strict=True):
        found = standardise(fingerprints(crystals, work.cache, part), scale)
        missed = np.zeros(len(sets[source]) - len(crystals), bool)  # what is not valid covers nothing
        for name, cutoffs in COVERAGES.items():
            recall, precision = coverage(known, found, cutoffs)
            rows.append(share(f"COV-R{name}", recall, source=source, of="held-out crystals"))
            rows.append(share(f"COV-P{name}", np.concatenate([precision, missed]), source=source, of="the set"))
    return rows


def valid_ones(crystals: Sequence[Crystal]) -> list[Crystal]:
    return [crystal for crystal in crystals if validity.structure_is_valid(crystal)]


def quantities(work: Work, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
    """Numbers of which the paper compares distributions, (n,) each."""
    found = {
        "density": np.array([validity.density(crystal) for crystal in crystals]),
        "elements": np.array([len(np.unique(crystal.numbers)) for crystal in crystals], float),
    }
    return found | {f"predicted {name}": values for name, values in predicted(work, crystals).items()}


def predicted(work: Work, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
    """What the model's own predictor says of crystals, (n,) for each property, NaN of crystals that it does not know;
    empty where the model has none."""
    known = [i for i, crystal in enumerate(crystals) if work.predictor and knows(work.predictor, crystal)]
    if not known:
        return {}
    out = {}
    for name, (means, _) in work.predictor.predict([crystals[i] for i in known]).items():
        out[name] = np.full(len(crystals), np.nan)
        out[name][known] = means
    return out


def wasserstein(metric: str, values: np.ndarray, reference: np.ndarray, **keys: Any) -> Row:
    """The Wasserstein distance of two samples of a number; its interval from samples of the first, drawn with
    replacement."""
    from scipy.stats import wasserstein_distance

    values, reference = values[np.isfinite(values)], reference[np.isfinite(reference)]
    if not len(values) or not len(reference):
        return row(metric, np.nan, n=0, **keys)
    rng = np.random.default_rng(0)
    again = [wasserstein_distance(rng.choice(values, len(values)), reference) for _ in range(200)]
    low, high = np.quantile(again, [0.025, 0.975])
    return row(metric, wasserstein_distance(values, reference), (low, high), len(values), **keys)


def relaxations(
    sets: dict[str, list[Crystal]], training: Sequence[Crystal], count: int, work: Work, tell: Progress
) -> list[Row]:
    """What relaxing the first valid crystals of each set brings. A crystal at which the judge fails has not
    converged, and has no other figure."""
    assert work.judge is not None
    rows: list[Row] = []
    relaxed: dict[str, list[Relaxed]] = {}
    for place, (source, crystals) in enumerate(sets.items()):
        chosen = valid_ones(crystals)[:count]
        found = relax_all(chosen, work.judge, work.cache, partial(tell_part, tell, place, len(sets) + 1))
        relaxed[source] = some = [each for each in found if each is not None]
        keys: dict[str, Any] = {"source": source, "of": "relaxed"}
        rows.append(share("converged", [each is not None and each.converged for each in found], **keys))
        near = [each is not None and each.rmsd <= NEAR for each in found]
        rows.append(share(f"moved at most {NEAR} A", near, **keys))
        for metric, values in {
            "RMSD, A": [each.rmsd for each in some],
            "drop, eV/atom": [each.drop for each in some],
            "change of volume": [abs(each.volume) for each in some],
            "largest force, eV/A": [each.force for each in some],
        }.items():
            rows.append(mean(metric, values, **keys))
            rows.append(row(f"median {metric}", np.median(values) if values else np.nan, n=len(values), **keys))
    return rows + beside_data(relaxed, training, count, work)


def tell_part(tell: Progress, place: int, parts: int, done: int, total: int) -> None:
    """Tells how far a part is as how far the whole is."""
    tell(place * total + done, parts * total)


def beside_data(relaxed: dict[str, list[Relaxed]], training: Sequence[Crystal], count: int, work: Work) -> list[Row]:
    """By how much the energy of relaxed crystals lies above the lowest of the training data's own crystals of their
    composition, relaxed by the same judge: of those compositions that are among the first `count` such crystals. (It
    is no energy above the hull, which knows of other compositions, and of other crystals.)"""
    assert work.judge is not None
    kinds = {matching.kind_of(each.crystal) for some in relaxed.values() for each in some}
    pool = [crystal for crystal in training if matching.kind_of(crystal) in kinds][:count]
    lowest: dict[Any, float] = {}
    for each in relax_all(pool, work.judge, work.cache):
        if each is not None:
            kind = matching.kind_of(each.crystal)
            lowest[kind] = min(each.energy, lowest.get(kind, np.inf))
    rows = []
    for source, some in relaxed.items():
        above = [each.energy - lowest[kind] for each in some if (kind := matching.kind_of(each.crystal)) in lowest]
        keys: dict[str, Any] = {"source": source, "of": "of a composition in the data"}
        rows.append(mean("above the data's lowest, eV/atom", above, **keys))
        rows.append(row("median above", np.median(above) if above else np.nan, n=len(above), **keys))
    return rows
