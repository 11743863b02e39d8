"""How scaffolds fare around the motifs of a benchmark: whether filters live, and whether what they make is sound."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.diffusion import DiffusionError
from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context
from inkwash.systems.protein import contigs, geometry
from inkwash.systems.protein.chirality import helices
from inkwash.systems.protein.files import read_chains, structure_files
from inkwash.systems.protein.request_design import Evaluate
from inkwash.systems.protein.scaffold import FILTERS, around_motif
from inkwash.systems.protein.structures import pairwise_tm, rmsd
from inkwash.systems.report import Report, Row, bootstrap, row, wilson
from inkwash.weights.files import check_ours, save_json

PER_TARGET, STEPS, PARTICLES = 4, 100, 64
CACHE, MARK = "scaffolds.json", "first_ancestors"  # in the folder of the report: each scaffold as soon as it is made
ALIVE = "alive if their median ESS is above a quarter of that and two first ancestors or more are left"
SOUND = (
    "Sound: no break (CA-CA > 4.2 A), no CA three or more residues apart within 3.5 A, and bonds at the motif's ends "
    "of 3.7 to 3.9 A."
)
Target = tuple[contigs.Motif, tuple[int, int]]  # and the fewest and most residues of a chain
Facts = dict[str, Any]


def measure_targets(request: Evaluate, model: Any, context: Context) -> Report:
    """The report of scaffolds around the motifs of a folder's files. What a run in this folder has made with the same
    model, method, particles, steps and seed is not made again."""
    method, steps = request.method or "smcdiff", request.steps or STEPS
    if method not in FILTERS and request.particles is not None:
        raise UserError(f"particles means nothing with the method {method}, which has one: leave it out")
    count = (request.particles or PARTICLES) if method in FILTERS else 1
    seeds = [(request.seed + i) % 2**64 for i in range(request.filters or PER_TARGET)]
    targets = read_targets(context.open(request.targets or ()), model.config, context)
    file = context.folder / CACHE
    check_ours(file, MARK)
    saved: dict[str, Facts] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    made: dict[str, list[Facts]] = {name: [] for name in targets}
    todo = [(name, seed) for name in targets for seed in seeds]
    for done, (name, seed) in enumerate(todo):
        key = f"{name} {model.hash} {method} {count} {steps} {seed}"
        if key not in saved:
            report = on_steps(context, done, len(todo), name)
            saved[key] = scaffold_facts(model, targets[name], seed, method, count, steps, report)
            save_json(file, saved)
        made[name].append(saved[key])
    rows = total_rows(made, method in FILTERS)
    for name, (motif, _) in targets.items():
        rows += target_rows(name, motif, made[name], method in FILTERS)
    each = f"each of its own filter of {count} particles, {ALIVE}" if method in FILTERS else "which weighs nothing"
    return Report(
        title=f"Scaffolds by {method}, {len(seeds)} a motif, {steps} steps, {each}. {SOUND}",
        system="protein",
        rows=rows,
        seeds=[request.seed],
        model={"steps": steps, "method": method, "particles": count},
    )


def read_targets(folder: Path, config: Facts, context: Context) -> dict[str, Target]:
    """By file, the motifs of a folder whose chains the model can make; of the others it is told why not.

    Raises UserError where none is left.
    """
    found: dict[str, Target] = {}
    for file in structure_files(folder):
        try:
            if file.stem in found:
                raise UserError(f"{file}: another target is called so, too; rename one")
            named = contigs.header(file)
            if named is None:
                raise UserError(f"{file.name}: no contig in it (REMARK 999)")
            contig, length = named
            motif = contigs.find_motif(contigs.parse_contig(contig), read_chains(file), file.name)
            lengths = contigs.parse_length(length) if length else None
            found[file.stem] = (
                motif,
                contigs.choose_lengths(motif, lengths, config["max_length"], shortest=config["shortest"]),
            )
        except UserError as error:
            context.tell(Note(f"left out, {file.stem}: {error}"))
    if not found:
        raise UserError(f"{folder}: none of its motifs fits; the notes say why")
    return found


def scaffold_facts(
    model: Any, target: Target, seed: int, method: str, count: int, steps: int, progress: Callable[[int, int], None]
) -> Facts:
    """One scaffold and its filter, as JSON holds them. Where every particle has weight 0 the filter has died."""
    motif, lengths = target
    try:
        built = around_motif(model, motif, lengths, seed, method=method, count=count, steps=steps, progress=progress)
    except DiffusionError as error:
        return {"failed": str(error), "alive": False, "median_ess": 0.0, "first_ancestors": 0}
    chain, filtered = built.coordinates, built.found
    right, left = helices(chain)
    joined = geometry.junctions(chain, np.isin(np.arange(len(chain)), built.indices))
    own, given = chain[built.indices], motif.coordinates if chain.shape[1] == 3 else motif.coordinates[:, 1:2]
    return {
        "alive": count == 1 or filtered.alive,
        "median_ess": float(np.median(filtered.ess)),
        "first_ancestors": filtered.first_ancestors,
        "bonds": geometry.within(geometry.distances(geometry.alpha_carbons(chain)), *geometry.SOUND).tolist(),
        "junctions": joined.tolist(),
        "sound": geometry.is_sound(chain) and bool(joined.all()),
        "right": right,
        "left": left,
        "motif_rmsd": rmsd(own, given),
        "alpha_carbons": np.round(geometry.alpha_carbons(chain), 3).tolist(),
    }


def target_rows(name: str, motif: contigs.Motif, made: Sequence[Facts], filtered: bool) -> list[Row]:
    """The figures of one motif."""
    whole = [facts for facts in made if "failed" not in facts]
    keys: Facts = {"target": name, "residues": len(motif.labels), "segments": len(motif.sizes)}
    filters = {
        "alive": [facts["alive"] for facts in made],
        "median ESS": [facts["median_ess"] for facts in made],
        "first ancestors": [facts["first_ancestors"] for facts in made],
    }
    values: dict[str, Any] = (filters if filtered else {}) | {
        "sound": [bool(facts.get("sound")) for facts in made],
        "junction bonds sound": [sound for facts in whole for sound in facts["junctions"]],
        "bonds of 3.7-3.9 A": [sound for facts in whole for sound in facts["bonds"]],
        "motif RMSD, A": [facts["motif_rmsd"] for facts in whole],
        "TM of pairs": pairwise_tm([np.array(facts["alpha_carbons"])[:, None] for facts in whole]),
    }
    return [row(metric, float(np.mean(v)), n=len(made), **keys) for metric, v in values.items() if len(v)]


def total_rows(made: dict[str, list[Facts]], filtered: bool) -> list[Row]:
    """The figures of all motifs together, called otherwise than those of one: they are tables of their own."""
    flat = [facts for of in made.values() for facts in of]
    n, rows = len(made), []
    tests = {"with a filter alive": lambda facts: facts["alive"], "with one alive and sound": is_success}
    for metric, test in (tests if filtered else {"with a sound scaffold": is_success}).items():
        hits = sum(any(map(test, of)) for of in made.values())
        rows.append(row(metric, hits / n, wilson(hits, n), n, of="targets"))
    if filtered:
        hits = sum(facts["alive"] for facts in flat)
        rows.append(row("filters alive", hits / len(flat), wilson(hits, len(flat)), len(flat), of="filters"))
    for metric, key in (("sound junction bonds", "junctions"), ("sound bonds", "bonds")):
        found = [facts[key] for facts in flat if facts.get(key)]
        if found:
            values, groups = np.concatenate(found), np.repeat(np.arange(len(found)), list(map(len, found)))
            rows.append(row(metric, float(values.mean()), bootstrap(values, groups), len(found), of="scaffolds"))
    right, left = (sum(facts.get(way, 0) for facts in flat) for way in ("right", "left"))
    if right + left:
        rows.append(
            row(
                "helices to the right",
                right / (right + left),
                wilson(right, right + left),
                right + left,
                of="helices",
            )
        )
    return rows


def is_success(facts: Facts) -> bool:
    return bool(facts["alive"] and facts.get("sound"))


def on_steps(context: Context, done: int, total: int, name: str) -> Callable[[int, int], None]:
    """The context as a function of one filter's steps."""
    return lambda step, steps: context.tell(Progress(done * steps + step, total * steps, name))
