"""The verbs of crystals: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.codecs.png import write_png
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context, Result, on_progress, recipe, seeded
from inkwash.systems.crystals import generation, output, recorded, relaxation
from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.elements import SYMBOLS, parse_elements, parse_formula
from inkwash.systems.crystals.generation import DRAWS, Generated, Sample
from inkwash.systems.crystals.hull import Hull
from inkwash.systems.crystals.novelty import composition_is_known, distances_to_training
from inkwash.systems.crystals.picture import picture_of
from inkwash.systems.crystals.predictor import Predictor
from inkwash.systems.crystals.request import Evaluate, Generate
from inkwash.systems.crystals.train import default_recipe
from inkwash.systems.crystals.validity import composition_is_valid
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training

TASKS = {
    "crystals": Task("inkwash.systems.crystals.train"),
    "predictor": Task("inkwash.systems.crystals.predictor"),
}


def generate(requests: list[Generate], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        require("crystals generate", "spglib", "ase")
        hull = None if request.hull is None else Hull(context.open(request.hull))
        judge = relaxation.chgnet() if request.relax else None
        model, request = context.model(request.model), seeded(request)
        if request.formula is not None and find_spec("smact") and not is_neutral(request.formula):
            context.tell(Note(f"{request.formula}: no usual oxidation states make it neutral; drawn all the same"))
        generated = generation.generate(
            model, request.n, request.seed,
            keep_duplicates=request.keep_duplicates, judge=judge, progress=on_progress(context), **wanted(request),
        )  # fmt: skip
        tell_shortfall(request, generated, context)
        rows = table(request, generated.samples, model.folder, hull, context)
        results = []
        for place, (sample, row) in enumerate(zip(generated.samples, rows, strict=True)):
            facts = recipe("crystals", "generate", replace(request, n=1, seed=sample.seed), model, context, request)
            files = write(sample, request.symprec, facts, context.folder / f"{of}-{place}", context)
            results.append(Result(of, place, files, row, facts))
        if rows:
            whole = whole_run(of, generated, rows, recipe("crystals", "generate", request, model, context), context)
            if request.n == 1:  # one result with all its files
                (one,) = results
                results = [one._replace(files=one.files | whole.files, row=one.row | whole.row)]
            else:
                results.append(whole)
        yield from results


def table(
    request: Generate, samples: Sequence[Sample], folder: Path | None, hull: Hull | None, context: Context
) -> list[output.Row]:
    """A line for each crystal. A column whose package is missing is left out, with a note."""
    rows = [output.describe(sample, request.symprec) for sample in samples]
    columns = by_model([sample.final for sample in samples], folder, context)
    known = None if folder is None else composition_is_known([sample.final for sample in samples], folder)
    has_smact = can_judge_compositions(context)
    for place, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        row |= {"composition_valid": composition_is_valid(sample.final.numbers)} if has_smact else {}
        row |= {} if known is None else {"composition_in_training": bool(known[place])}
        row |= {name: output.rounded(values[place]) for name, values in columns.items()}
        if hull is not None and sample.relaxed is not None:
            row["energy_above_hull"] = output.rounded(hull.above(sample.final, sample.relaxed.energy))
            if row["energy_above_hull"] is None:
                context.tell(Note(f"{row['formula']}: the hull's entries lack one of its elements alone"))
    return rows


def by_model(crystals: Sequence[Crystal], folder: Path | None, context: Context) -> dict[str, np.ndarray]:
    """The columns of what lies in a model's folder: properties that its predictor expects, with how far its networks
    disagree, and the distance to the training crystals. What is not there is left out; without matminer, with a
    note."""
    columns: dict[str, np.ndarray] = {}
    if not crystals or folder is None:
        return columns
    if (predictor := Predictor.load(folder, context.device or "cpu")) is not None:
        for name, (mean, spread) in predictor.predict(crystals).items():
            columns |= {f"predicted_{name}": mean, f"predicted_{name}_spread": spread}
    try:
        if (found := distances_to_training(crystals, folder)) is not None:
            columns |= dict(zip(("structure_to_training", "composition_to_training"), found, strict=True))
    except UserError as error:
        context.tell(Note(f"left out, the distance to the training crystals: {error}"))
    return columns


def wanted(request: Generate) -> dict[str, Any]:
    """What of a request the model draws by."""
    return {
        "formula": request.formula,
        "elements": () if request.elements is None else parse_elements(request.elements),
        "prototype": request.prototype,
        "atoms": request.atoms,
        "minimise": request.minimise,
        "target": request.targets(),
        "steps": request.steps,
    }


def can_judge_compositions(context: Context) -> bool:
    """Whether smact is installed; a note of what is left out where it is not."""
    try:
        require("the column composition_valid", "smact")
    except UserError as error:
        context.tell(Note(f"left out: {error}"))
        return False
    return True


def is_neutral(formula: str) -> bool:
    counts = parse_formula(formula)
    return composition_is_valid([SYMBOLS.index(symbol) for symbol, count in counts.items() for _ in range(count)])


def tell_shortfall(request: Generate, generated: Generated, context: Context) -> None:
    """A note where fewer were found than were asked for."""
    if len(generated.samples) < request.n:
        hint = ""
        if any("matching" in reason for reason in generated.refused):
            hint = "; --keep-duplicates keeps those that match another"
        context.tell(Note(f"fewer than the {request.n} asked for, after {DRAWS} draws for each{hint}: {generated}"))


def write(sample: Sample, symprec: float, facts: dict[str, Any], stem: Path, context: Context) -> dict[str, Path]:
    """The files of one crystal: without symmetry, with it, as it was before it was relaxed, and a picture."""
    comment = recorded.comment(facts)
    files = {ending: stem.with_name(f"{stem.name}{ending}") for ending in (".cif", "-sym.cif", "-unrelaxed.cif")}
    output.write_cif(files[".cif"], sample.final, comment)
    if not output.write_symmetrised(files["-sym.cif"], sample.final, symprec, comment):
        del files["-sym.cif"]
        context.tell(Note(f"seed {sample.seed}: with the symmetry found it would be another crystal; not written"))
    if sample.relaxed is None:
        del files["-unrelaxed.cif"]
    else:
        output.write_cif(files["-unrelaxed.cif"], sample.crystal, f"{comment}, before it was relaxed")
    files[".png"] = stem.with_name(f"{stem.name}.png")
    write_png(picture_of(sample.final), files[".png"], facts)
    return files


def whole_run(
    of: int, generated: Generated, rows: list[output.Row], facts: dict[str, Any], context: Context
) -> Result:
    """What belongs to all crystals of a request: an extxyz, a table, and what was drawn and refused."""
    files = {ending: context.folder / f"{of}{ending}" for ending in (".extxyz", ".csv")}
    output.write_extxyz(files[".extxyz"], [sample.final for sample in generated.samples], rows, facts)
    output.write_table(files[".csv"], rows)
    row = {"drawn": generated.drawn, "refused": dict(generated.refused), "text": str(generated)}
    return Result(of, None, files, row, facts)


def measure(request: Evaluate, model: Any, context: Context) -> report.Report:
    """What is dear to compute is kept beside the report, for the next one."""
    from inkwash.systems.crystals.evaluate import evaluate

    return evaluate(
        model, context.open(request.data), request.samples, request.relax, request.seed, request.steps,
        test=None if request.test is None else context.open(request.test), predict=request.predict,
        minimise=request.minimise, cache=context.folder, progress=on_progress(context),
    )  # fmt: skip


train = partial(run_training, tasks=TASKS, default=default_recipe)
evaluate = partial(report.evaluate, measure=measure)
