"""What a structure predictor made of designed sequences, beside the backbones that they were designed for.

scTM          TM-score by TM-align, in units of the backbone's length
scRMSD        RMSD of the CA of all residues
motif RMSD    of the motif alone, superposed by itself: N, CA and C where both files have them, else CA; and beside it
              the mean of the same distances, which some papers report under this name
pLDDT         mean of what the predictor writes as B-factors, 0 to 100

A design succeeds with scTM > 0.5, scRMSD < 2 A and, where there is a motif, motif RMSD < 1 A; a backbone with one of
its designs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.base import Context, Result
from inkwash.systems.protein.chains import listed
from inkwash.systems.protein.design import Backbone, read_backbones, write_csv
from inkwash.systems.protein.files import read_chains, structure_files
from inkwash.systems.protein.geometry import alpha_carbons
from inkwash.systems.protein.predicted import predictions
from inkwash.systems.protein.request_design import Score
from inkwash.systems.protein.structures import mean_distance, rmsd, tm_score
from inkwash.systems.report import Report, Row, bootstrap, row, wilson

SAME_FOLD, CLOSE, MOTIF_CLOSE = 0.5, 2.0, 1.0  # TM-score; angstroms
TITLE = (
    "Predictions of designed sequences beside their backbones. A design succeeds with scTM > 0.5, scRMSD < 2 A (CA) "
    "and motif RMSD < 1 A (N, CA, C where there), a backbone with one of its designs."
)


def run(requests: list[Score], context: Context) -> Iterator[Result]:
    """The verb `score`."""
    for of, request in enumerate(requests):
        note = lambda text: context.tell(Note(text))  # noqa: E731
        backbones = read_backbones(context.open(request.designs), note)
        rows = score(context.open(request.predicted), backbones, note, lambda *at: context.tell(Progress(*at)))
        found = Report(title=TITLE, system="protein", rows=summarize(rows))
        files = {".csv": context.folder / f"score-{of}.csv", ".json": context.folder / f"score-{of}.json"}
        write_csv(rows, files[".csv"])
        found.save(files[".json"])
        yield Result(of, None, files, {"text": found.markdown(), "rows": found.rows}, request.facts())


def score(
    folder: Path,
    backbones: Sequence[Backbone],
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """A row for each predicted design.

    Raises UserError where no file is a prediction, and where one does not fit its backbone.
    """
    named = {backbone.name: backbone for backbone in backbones}
    files = predictions(structure_files(folder), named, note)
    if absent := sorted(named.keys() - {backbone for backbone, _ in files}):
        note(f"no prediction for {len(absent)} of {len(named)} backbones: {listed(absent)}")
    rows = []
    for done, ((name, number), file) in enumerate(sorted(files.items())):
        rows.append({"name": f"{name}-{number}", "backbone": name, **compare(file, named[name])})
        progress(done + 1, len(files))
    return rows


def compare(file: Path, backbone: Backbone) -> dict[str, Any]:
    """The figures of one prediction. UserError where it is of another chain."""
    chains = read_chains(file)
    (predicted, *others) = chains.values()
    if others or len(predicted.labels) != len(backbone.chain):
        sizes = " + ".join(str(len(chain.labels)) for chain in chains.values())
        raise UserError(f"{file}: {sizes} residues; its backbone {backbone.name} has {len(backbone.chain)}")
    for i in np.flatnonzero(backbone.motif):
        if predicted.sequence[i] != backbone.sequence[i]:
            raise UserError(
                f"{file}: {predicted.sequence[i]} at residue {i + 1}, where the motif of {backbone.name} has "
                f"{backbone.sequence[i]}; it is of another design"
            )
    whole = backbone.chain.shape[1] == 3 and not np.isnan(predicted.coordinates).any()
    chain = predicted.coordinates if whole else predicted.coordinates[:, 1:2]
    figures: dict[str, Any] = {
        "scTM": tm_score(chain, backbone.chain),
        "scRMSD": rmsd(alpha_carbons(chain), alpha_carbons(backbone.chain)),
        "pLDDT": plddt(predicted.b_factors) if predicted.b_factors.any() else None,
        "motif_RMSD": None,
        "motif_mean_distance": None,
        "motif_atoms": None,
    }
    success = figures["scTM"] > SAME_FOLD and figures["scRMSD"] < CLOSE
    if backbone.motif.any():
        own, theirs = ((x if whole else alpha_carbons(x)[:, None])[backbone.motif] for x in (chain, backbone.chain))
        figures["motif_RMSD"], figures["motif_mean_distance"] = rmsd(own, theirs), mean_distance(own, theirs)
        figures["motif_atoms"] = "N CA C" if whole else "CA"
        success = success and figures["motif_RMSD"] < MOTIF_CLOSE
    return figures | {"success": bool(success)}


def plddt(b_factors: np.ndarray) -> float:
    """Mean, 0 to 100; some predictors write shares of 1."""
    return float(b_factors.mean() * (100 if b_factors.max() <= 1 else 1))


def summarize(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """Means of all designs, and shares of backbones of whose designs one meets each threshold."""
    out = []
    for metric in ("scTM", "scRMSD", "motif_RMSD", "motif_mean_distance", "pLDDT"):
        found = [(own[metric], own["backbone"]) for own in rows if own[metric] is not None]
        if found:
            values, of = zip(*found, strict=True)
            interval = bootstrap(values, np.unique(of, return_inverse=True)[1])
            out.append(row(metric.replace("_", " "), float(np.mean(values)), interval, len(values), of="designs"))
    backbones: dict[str, list[dict[str, Any]]] = {}
    for own in rows:
        backbones.setdefault(own["backbone"], []).append(own)
    tests: dict[str, Callable[[dict[str, Any]], bool]] = {
        f"scTM > {SAME_FOLD}": lambda own: own["scTM"] > SAME_FOLD,
        f"scRMSD < {CLOSE:g} A": lambda own: own["scRMSD"] < CLOSE,
        f"motif RMSD < {MOTIF_CLOSE:g} A": lambda own: own["motif_RMSD"] < MOTIF_CLOSE,
        "success": lambda own: own["success"],
    }
    for name, test in tests.items():
        counted = [g for g in backbones.values() if not name.startswith("motif") or g[0]["motif_RMSD"] is not None]
        if counted:
            hits = sum(any(map(test, group)) for group in counted)
            out.append(row(name, hits / len(counted), wilson(hits, len(counted)), len(counted), of="backbones"))
    return out
