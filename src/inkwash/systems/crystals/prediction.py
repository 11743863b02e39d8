"""Figures of what a model is asked for: the structure of a composition, a crystal again, and a low property."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from inkwash.systems.crystals import matching, validity
from inkwash.systems.crystals.baselines import substitute
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.elements import SYMBOLS
from inkwash.systems.crystals.measures import Progress, Work, mean, predicted, share
from inkwash.systems.crystals.relaxation import cross_validate, energies, fit_elements
from inkwash.systems.crystals.train import knows
from inkwash.systems.report import Row, row

PREDICTIONS = 20  # for each reference of METRe
CALIBRATION = 300  # training crystals to which the numbers of elements are fitted
PERCENTILES = (5, 10, 15)  # of the training data: who is below has a low property


def structure_predictions(
    model: Any,
    held_out: Sequence[Crystal],
    training: Sequence[Crystal],
    count: int,
    seed: int,
    steps: int | None,
    tell: Progress,
) -> list[Row]:
    """Of the first `count` held-out crystals the composition and the number of atoms are given: whether one
    prediction matches; and for a tenth of them METRe of twenty each. Beside them `baselines.substitute`."""
    references = [each for each in held_out if knows(model, each)][:count]
    if not references:
        return []
    subset = references[: max(count // 10, 1)]
    rng = np.random.default_rng(seed)
    models, sites = [], []
    for i, reference in enumerate(references):
        n = PREDICTIONS if i < len(subset) else 1
        formula = "".join(f"{SYMBOLS[z]}{n}" for z, n in Counter(reference.numbers.tolist()).items())
        # each composition has seeds of its own
        first = (seed + i * PREDICTIONS) % 2**64
        models.append(model.generate(n, first, formula=formula, atoms=len(reference.numbers), steps=steps))
        sites.append(substitute(reference.numbers, training, n, rng))
        tell(i + 1, len(references))
    rows: list[Row] = []
    for source, drawn in {"this model": models, "training crystals, other elements": sites}.items():
        rows += match_rows([some[0] if some else None for some in drawn], references, source, "one prediction")
        every = [crystal for some in drawn[: len(subset)] for crystal in some]
        best = matching.metre(every, subset)
        keys: dict[str, Any] = {"source": source, "of": f"{PREDICTIONS} predictions each"}
        rows.append(share("METRe", [each is not None for each in best], **keys))
        rows.append(mean("cRMSE", matching.corrected(best), **keys))
    return rows


def reconstructions(model: Any, held_out: Sequence[Crystal], count: int, seed: int) -> list[Row]:
    """Whether held-out crystals come back from their codes, of a model that has any."""
    if model.config["engine"] != "cdvae":
        return []
    from inkwash.systems.crystals.optimise import reconstruct

    references = [each for each in held_out if knows(model, each)][:count]
    return match_rows(reconstruct(model, references, seed), references, "this model", "reconstruction")


def match_rows(
    predictions: Sequence[Crystal | None], references: Sequence[Crystal], source: str, of: str
) -> list[Row]:
    """The match rate and RMSE of one prediction for each reference; None matches nothing."""
    pairs = zip(predictions, references, strict=True)
    found = [None if a is None else matching.rms_distance(a, b) for a, b in pairs]
    distances = [x for x in found if x is not None]
    keys: dict[str, Any] = {"source": source, "of": of}
    return [share("match", [x is not None for x in found], **keys), mean("RMSE", distances, **keys)]


def optimisation(
    model: Any,
    name: str,
    sets: dict[str, list[Crystal]],
    training: Sequence[Crystal],
    count: int,
    seed: int,
    steps: int | None,
    work: Work,
    tell: Progress,
) -> list[Row]:
    """How many crystals have a property below the 5th, 10th and 15th percentile of the training data's, by two
    judges: the work's, whose energies become energies of formation by one number for each element, fitted to training
    crystals, and the model's own predictor. Of `count` crystals for which it was minimised, each by itself (the
    paper's rate is of the best of ten), and of those for which it was not. What is not valid has not succeeded."""
    assert work.judge is not None
    known = [crystal for crystal in training if name in crystal.properties]
    limits = np.percentile([crystal.properties[name] for crystal in known], PERCENTILES)
    known = known[:CALIBRATION]
    values = np.array([crystal.properties[name] for crystal in known])
    energy = energies(known, work.judge, work.cache)
    fits = np.isfinite(energy)
    known, values, energy = [c for c, fit in zip(known, fits, strict=True) if fit], values[fits], energy[fits]
    reference = fit_elements(known, energy, values)
    rows = calibration(cross_validate(known, energy, values), values, name, work.judge.name)
    minimised = model.generate(count, seed, minimise=name, steps=steps, progress=tell)
    for source, crystals in {f"this model, {name} minimised": minimised, **sets}.items():
        opinions = {work.judge.name: reference.formation(crystals, energies(crystals, work.judge, work.cache))}
        if name in (own := predicted(work, crystals)):
            opinions["the model's predictor"] = own[name]
        usable = np.array([validity.structure_is_valid(crystal) for crystal in crystals])
        for judge, opinion in opinions.items():
            keys: dict[str, Any] = {"source": source, "judge": judge}
            for percentile, limit in zip(PERCENTILES, limits, strict=True):
                rows.append(share(f"SR{percentile}", usable & (opinion <= limit), **keys))  # NaN is not below
            rows.append(mean(f"mean {name}", opinion[np.isfinite(opinion) & usable], **keys))
    return rows


def calibration(said: np.ndarray, values: np.ndarray, name: str, judge: str) -> list[Row]:
    """How well the judge tells the property of crystals to which its numbers of elements were not fitted."""
    both = np.isfinite(said)
    keys: dict[str, Any] = {"judge": judge, "of": f"{name}, five folds of training crystals"}
    r = float(np.corrcoef(said[both], values[both])[0, 1])
    return [
        row("correlation", r, n=int(both.sum()), **keys),
        mean("mean error, eV/atom", np.abs(said - values)[both], **keys),
    ]
