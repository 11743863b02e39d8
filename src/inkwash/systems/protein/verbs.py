"""The verbs of proteins: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.codecs.png import write_png
from inkwash.diffusion import DiffusionError
from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context, Result, on_progress, recipe, seeded
from inkwash.systems.protein import contigs, output
from inkwash.systems.protein.files import read_chains
from inkwash.systems.protein.picture import picture_of
from inkwash.systems.protein.request import Sample, Scaffold
from inkwash.systems.protein.scaffold import around_motif
from inkwash.systems.protein.train import Recipe
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training
from inkwash.training.recipe import load_recipe
from inkwash.weights.shipped import RECIPES

TASKS = {"backbone": Task("inkwash.systems.protein.train")}


class Ended(Exception):
    """Who asked wants no more."""


def scaffold(requests: list[Scaffold], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model = context.model(request.model)
        motif, lengths = read_motif(request, context.open(request.motif), model.config, context)
        request = seeded(request)
        made = list[output.Row]()
        for place in range(request.n):
            one = replace(request, n=1, seed=(request.seed + place) % 2**64)
            report = partial(_progress, context, place, request.n)
            try:
                built = around_motif(
                    model, motif, lengths, one.seed,
                    method=one.method, count=one.count(), steps=one.steps, progress=report,
                )  # fmt: skip
            except Ended:
                break
            except DiffusionError as error:
                context.tell(Note(f"seed {one.seed}: the filter died, and nothing is made of it ({error})"))
                continue
            if verdict := built.found.verdict():
                context.tell(Note(f"seed {one.seed}: {verdict}"))
            row = output.scaffold_row(built, motif, one.seed, one.method)
            made.append(output.scaffold_facts(built, motif, row))
            files = {kind: context.folder / f"{of}-{place}{kind}" for kind in (f".{request.format}", ".png")}
            facts = recipe("protein", "scaffold", one, model, context)
            output.write_scaffold(files[f".{request.format}"], built, motif, facts)
            write_png(picture_of(built.coordinates, built.indices.tolist()), files[".png"], facts)
            if request.n == 1:
                files |= write_tables(of, made, facts, context)
            yield Result(of, place, files, row, facts)
        if made and request.n > 1:
            yield of_the_run(of, made, recipe("protein", "scaffold", request, model, context), context)
        if not made and not context.stopped():
            raise UserError("no scaffold could be made: every filter died; another length or contig may help")


def read_motif(
    request: Scaffold, path: Path, config: dict[str, Any], context: Context
) -> tuple[contigs.Motif, tuple[int, int]]:
    """The motif that is asked for, and the fewest and most residues of a chain; what was chosen is told."""

    def note(text: str) -> None:
        context.tell(Note(text.replace(path.name, request.motif.name)))

    try:
        named = contigs.header(path)
    except UserError:  # of a header that is not followed
        if request.contig is None:
            raise
        named = None
    if request.contig is None and named is None:
        raise UserError(
            f"{request.motif.name}: no contig in it (REMARK 999): give one, --contig 10-30/A163-181/10-30"
        )
    if request.contig is not None and named is not None:
        note(f"{request.motif.name}: its own contig, {named[0]}, is not followed, since another is given")
    contig, length = (request.contig, "") if request.contig is not None else named or ("", "")
    length = request.length or length
    lengths = contigs.parse_length(length) if length else None
    chains = read_chains(path, note)
    motif = contigs.find_motif(contigs.parse_contig(contig, note), chains, request.motif.name, note)
    lengths = contigs.choose_lengths(motif, lengths, config["max_length"], note, config["shortest"])
    residues = f"{motif.labels[0]} ({motif.residues[0]}) to {motif.labels[-1]} ({motif.residues[-1]})"
    total = f"{lengths[0]}" if lengths[0] == lengths[1] else f"{lengths[0]} to {lengths[1]}"
    note(f"the motif: {len(motif.labels)} residues, {residues}; chains of {total} residues")
    return motif, lengths


def _progress(context: Context, place: int, n: int, done: int, total: int) -> None:
    context.tell(Progress(place * total + done, n * total, f"scaffold {place + 1} of {n}" if n > 1 else ""))
    if context.stopped():
        raise Ended


def of_the_run(of: int, made: list[output.Row], facts: dict[str, Any], context: Context) -> Result:
    """What belongs to all of them."""
    return Result(of, None, write_tables(of, made, facts, context), {"text": in_words(made)}, facts)


def write_tables(of: int, made: list[output.Row], facts: dict[str, Any], context: Context) -> dict[str, Path]:
    """The table, all that was measured beside the recipe, and a chart of the filters, by their endings."""
    kinds = [".csv", ".json", *(["-ess.png"] if "ess" in made[0] else [])]
    files = {ending: context.folder / f"{of}{ending}" for ending in kinds}
    long = ("motif", "ess", "weights", "verdict")
    output.write_csv([{key: value for key, value in row.items() if key not in long} for row in made], files[".csv"])
    output.write_json([row | {"recipe": facts} for row in made], files[".json"])
    if "-ess.png" in files:
        output.plot_ess(made, files["-ess.png"])
    return files


def in_words(made: list[output.Row]) -> str:
    """What came out, in a sentence."""
    several = f"{len(made)} backbone{'s' * (len(made) != 1)}"
    sound = np.mean([row["bonds_sound"] for row in made])
    text = (
        f"{several}: {100 * sound:.1f} % of bonds sound (CA-CA 3.7 to 3.9 A), {sum(row['breaks'] for row in made):g} "
    )
    text += f"breaks, {sum(row['clashes'] for row in made):g} clashes"
    if "junctions" in made[0]:
        joined = sum(row["junctions"] for row in made)
        text += f"; {sum(row['junctions_sound'] for row in made)} of {joined} bonds at the motif's ends sound"
    if "alive" in made[0]:
        text += f"; {sum(row['alive'] for row in made)} of {len(made)} filters alive"
    return text


def sample(requests: list[Sample], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        model, (low, high) = context.model(request.model), contigs.parse_length(request.length)
        model.check_lengths([low, high])
        request = seeded(request)
        seeds = [(request.seed + place) % 2**64 for place in range(request.n)]
        lengths = [contigs.draw_gaps([(low, high)], low, high, seed)[0] for seed in seeds]
        made = list[output.Row]()
        for place, coordinates in enumerate(model.sample(lengths, request.seed, request.steps, on_progress(context))):
            one = replace(request, n=1, seed=seeds[place])
            files = {kind: context.folder / f"{of}-{place}{kind}" for kind in (f".{request.format}", ".png")}
            facts = recipe("protein", "sample", one, model, context, request)
            output.write_backbone(files[f".{request.format}"], coordinates, facts)
            write_png(picture_of(coordinates), files[".png"], facts)
            made.append(output.backbone_row(coordinates, seeds[place]))
            if request.n == 1:
                files |= write_tables(of, made, facts, context)
            yield Result(of, place, files, made[-1], facts)
        if request.n > 1:
            yield of_the_run(of, made, recipe("protein", "sample", request, model, context), context)


def default_recipe(data: Path) -> Recipe:
    """For chains of the user's: the recipe of the shipped model."""
    return load_recipe(RECIPES / "backbone.toml", Recipe, data=data)


train = partial(run_training, tasks=TASKS, default=default_recipe)
