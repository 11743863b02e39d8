"""How good crystals are: beside real ones, beside ones that take no learning, and by independent judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.crystals import matching, measures, prediction, validity
from inkwash.systems.crystals.baselines import random_crystals
from inkwash.systems.crystals.data import Crystal, split, to_structure
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.measures import Progress, Work
from inkwash.systems.crystals.predictor import Predictor
from inkwash.systems.crystals.relaxation import Judge, chgnet
from inkwash.systems.report import Report, Row, row

OURS, HELD_OUT, TRAINING = "this model", "held-out crystals", "training crystals"
PAPER_SOURCE = "CDVAE (its paper, more than four times the data, 10,000 samples)"
# of Xie et al. 2021, by the beginning of the data's name
PAPER = {
    "perov": {
        "structure valid": 1.0, "composition valid": 0.9859, "COV-R": 0.9945, "COV-P": 0.9846,
        "Wasserstein density": 0.1258, "Wasserstein elements": 0.0628, "match": 0.9752, "RMSE": 0.0156,
    },
    "carbon": {
        "structure valid": 1.0, "COV-R": 0.9980, "COV-P": 0.8308, "Wasserstein density": 0.1407,
        "match": 0.5522, "RMSE": 0.1251,
    },
}  # fmt: skip


def evaluate(
    model: Any,
    data: str | Path,
    samples: int = 200,
    relax: int = 0,
    seed: int = 0,
    steps: int | None = None,
    *,
    test: str | Path | None = None,
    predict: int = 0,
    minimise: str | None = None,
    judge: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """The report of a model on the data of which it was trained on a part: `samples` crystals that it makes, beside
    the fifth of the data that it has not seen, a sample of its training data and `baselines.random_crystals`.

    test      a file of crystals that are held out, instead of a fifth of the data
    relax     so many of each are relaxed by the judge, the first that are valid
    predict   so many held-out compositions, of which the structure is predicted; twenty times for a tenth of them
    minimise  a property of the data: how many crystals for which it was minimised have a low one, by the judge
    judge     a calculator of ASE; CHGNet by default, if it is installed
    cache     a folder in which fingerprints and relaxed crystals are kept

    UserError for data of less than 20 crystals, and a property that they do not have.
    """
    predictor = None if model.folder is None else Predictor.load(model.folder, str(model.device))
    given = None if judge is None else Judge(judge)
    work = Work(cache, given, progress, 3 + bool(relax) + bool(predict) + bool(minimise), predictor)
    crystals = read(Path(data), work)
    if len(crystals) < 20:
        raise UserError(f"{Path(data).name}: {len(crystals)} crystals; a table needs 20 or more")
    training, _, held_out = split(crystals)
    if test is not None:
        held_out = read(Path(test), work)
    if minimise is not None and sum(minimise in crystal.properties for crystal in training) < 20:
        raise UserError(f"minimise: {Path(data).name} has no 20 values of '{minimise}' to learn a judgement from")
    if (relax or minimise) and judge is None and work.has("relaxing", "chgnet"):
        work.judge = chgnet()
    rng = np.random.default_rng(seed)
    with work.stage("generating") as tell:
        generated = model.generate(samples, seed, steps=steps, progress=tell)
    chosen = [training[i] for i in rng.choice(len(training), min(samples, len(training)), replace=False)]
    name = "random elements" if len({int(z) for c in training for z in c.numbers}) > 1 else "random coordinates"
    baseline = random_crystals(training, samples, seed)
    sets = {OURS: generated, HELD_OUT: held_out[:samples], name: baseline}
    with work.stage("validity and matches"):
        rows = [each for source, of in sets.items() for each in measures.valid(of, source, work)]
        rows += [each for source, of in sets.items() for each in measures.same(of, training, source)]
    with work.stage("fingerprints") as tell:
        compared = {OURS: generated, TRAINING: chosen, name: baseline}
        rows += measures.distributions(compared, held_out, training, work, tell)
    if relax and work.judge:
        with work.stage("relaxing") as tell:
            rows += measures.relaxations(sets, training, relax, work, tell)
    if predict:
        with work.stage("structure prediction") as tell:
            rows += prediction.structure_predictions(model, held_out, training, predict, seed, steps, tell)
            rows += prediction.reconstructions(model, held_out, predict, seed)
    if minimise and work.judge:
        with work.stage("minimising") as tell:
            rows += prediction.optimisation(model, minimise, sets, training, samples, seed, steps, work, tell)
    return Report(
        title=title(samples, work),
        system="crystals",
        model={"engine": model.config.get("engine")},
        data={"name": Path(data).name, "split": "a fifth" if test is None else Path(test).name},
        seeds=[seed],
        cpu_seconds=work.seconds,
        rows=[*rows, *paper_rows(Path(data).name, rows)],
        examples=[example(crystal) for crystal in generated[:20]],
    )


def read(path: Path, work: Work) -> list[Crystal]:
    """The crystals of a file; what is left out of them is noted, without the place of the file on this machine."""
    return read_crystals(path, lambda note: work.notes.append(note.replace(str(path), path.name)))


def title(samples: int, work: Work) -> str:
    judge = work.judge.name or "the calculator given" if work.judge else "nobody"
    text = (
        f"{samples} crystals, unfiltered; judged by {judge}. Compositions are standardised by the training data's "
        "own mean and spread; COV rises with the sizes of both sets, so the row to compare with is that of as many "
        "training crystals. Unique, novel and space groups are of valid crystals, relaxed ones the first valid."
    )
    return " ".join([text, *(f"{note}." for note in work.notes)])


def example(crystal: Crystal) -> dict[str, Any]:
    if not validity.structure_is_valid(crystal):
        return {"atoms": len(crystal.numbers), "valid": False}
    formula = to_structure(crystal).composition.reduced_formula
    return {"formula": formula, "atoms": len(crystal.numbers), "space group": matching.space_group(crystal)[1]}


def paper_rows(name: str, rows: Sequence[Row]) -> list[Row]:
    """The paper's own figures of such data, beside those of ours that have the same metric."""
    out = []
    for metric, value in next((of for data, of in PAPER.items() if name.lower().startswith(data)), {}).items():
        ours = [each for each in rows if each["metric"] == metric]
        place = next((each["of"] for each in ours if each["of"] == "reconstruction"), ours[0]["of"] if ours else "")
        if ours and (metric not in ("match", "RMSE") or place == "reconstruction"):
            out.append(row(metric, value, source=PAPER_SOURCE, of=place))
    return out
