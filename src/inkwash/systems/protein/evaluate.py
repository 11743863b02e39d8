"""How good a model's backbones are, beside native chains that were held out, their mirror images, and random ones."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.progress import Note
from inkwash.systems import report
from inkwash.systems.base import Context, idle, on_progress
from inkwash.systems.protein import chirality, geometry, mpnn
from inkwash.systems.protein.data import load_chains, split, usable
from inkwash.systems.protein.geometry import Array, alpha_carbons
from inkwash.systems.protein.random_chains import random_chain
from inkwash.systems.protein.request_design import Evaluate
from inkwash.systems.protein.structures import nearest, pairwise_tm
from inkwash.systems.report import Report, Row, bootstrap, row, wilson
from inkwash.weights.files import check_ours, save_json

OURS, NATIVE, MIRRORED, RANDOM = "this model", "native, held out", "native, mirrored", "random compact chains"
LENGTHS, SAMPLES, SHORTEST = (50, 64, 80, 100), 100, 40
OPINIONS, MARK = "proteinmpnn.json", "ProteinMPNN's opinions"  # in the folder of the report
NEAR = 5  # residues: native chains of so nearly a length are its own
JUDGED, CONTROLS, PAIRED, COMPARED = (
    120,
    40,
    40,
    20,
)  # chains of a source: native for ProteinMPNN, others, TM, novelty
TITLE = (
    "Backbones beside native chains that were held out, their mirror images, and random compact chains. Intervals: "
    "chains drawn with replacement. Native chains may have been in ProteinMPNN's training set; its score predicts "
    "only moderately which proteins can be made, by CA it hardly sees handedness, and what it is surest of may be "
    "mere glycine. Random chains are new and diverse, too."
)

Chains = Sequence[Array]
Figure = Callable[[Array], Any]  # of a chain: the numbers that are pooled


def of_backbone(name: str, low: float, high: float) -> Figure:
    return lambda chain: geometry.within(geometry.backbone(chain)[name], low, high)


def bonds(chain: Array) -> Array:
    return geometry.distances(alpha_carbons(chain))


# what is pooled over all chains of a source: a share where the numbers are yes or no
CA_FIGURES: dict[str, dict[str, Figure]] = {
    "handedness": {
        "helical dihedrals to the right": lambda chain: (winds := chirality.windings(chain))[winds != 0] == 1,
        "chains with helices of both hands": lambda chain: [chirality.is_mixed(chain)],
    },
    "CA": {
        "bonds of 3.7-3.9 A": lambda chain: geometry.within(bonds(chain), *geometry.SOUND),
        "bond, A": bonds,
        "bond off 3.8 A by": lambda chain: abs(bonds(chain) - 3.8),
        "breaks, > 4.2 A": lambda chain: bonds(chain) > geometry.BREAK,
        "pairs < 3.5 A, %": lambda chain: 100 * (geometry.pair_distances(chain) < geometry.CLASH[0]),
        "pairs < 4.0 A, %": lambda chain: 100 * (geometry.pair_distances(chain) < geometry.CLASH[1]),
        "chains without break or pair < 3.5 A": lambda chain: [geometry.is_sound(chain)],
        "angles of 80-150 degrees": lambda chain: geometry.within(geometry.angles(alpha_carbons(chain)), 80, 150),
    },
    "shape": {
        "Rg / 2.2 N^0.38": lambda chain: [geometry.radius_ratio(chain)],
        "contact order": lambda chain: [geometry.contact_order(chain)],
        "helix by P-SEA": lambda chain: [letter == "a" for letter in geometry.secondary_structure(chain)],
        "strand by P-SEA": lambda chain: [letter == "b" for letter in geometry.secondary_structure(chain)],
    },
}
BACKBONE_FIGURES: dict[str, dict[str, Figure]] = {
    "N, CA, C": {
        "N-CA of 1.41-1.51 A": of_backbone("N-CA", 1.41, 1.51),
        "CA-C of 1.47-1.57 A": of_backbone("CA-C", 1.47, 1.57),
        "C-N of 1.28-1.38 A": of_backbone("C-N", 1.28, 1.38),
        "N-CA-C of 101-121 degrees": of_backbone("N-CA-C", 101, 121),
        "phi < 0": lambda chain: geometry.backbone(chain)["phi"] < 0,
        "trans, omega beyond 150 degrees": lambda chain: abs(geometry.backbone(chain)["omega"]) > 150,
    }
}


def measure(request: Evaluate, model: Any, context: Context) -> Report:
    if request.targets is not None:
        from inkwash.systems.protein.evaluate_targets import measure_targets

        idle(request, ["data", "samples", "length"], "with --targets")
        found: Report = measure_targets(request, model, context)
        return found
    idle(request, ["filters", "particles", "method"], "without --targets")
    if request.data is None:
        raise UserError("data: give the chains that the model was trained on, of which a fifth was held out")
    return measure_backbones(request, model, context.open(request.data), context)


evaluate = partial(report.evaluate, measure=measure)


def measure_backbones(request: Evaluate, model: Any, data: Path, context: Context) -> Report:
    """The report of backbones without a motif."""
    low, high = model.config["shortest"], model.config["max_length"]
    chosen = request.length or [length for length in LENGTHS if low <= length <= high] or [high]
    lengths = [chosen[i % len(chosen)] for i in range(request.samples or SAMPLES)]
    model.check_lengths(lengths)
    training, native = reference_chains(data, low, high, lambda text: context.tell(Note(text)))
    seconds: dict[str, float] = {}
    with timed(seconds, "sampling"):
        ours = model.sample(lengths, request.seed, request.steps, on_progress(context))
    sources = {
        OURS: ours,
        NATIVE: native,
        MIRRORED: list(map(chirality.mirrored, native)),
        RANDOM: [random_chain(length, request.seed + i) for i, length in enumerate(lengths)],
    }
    with timed(seconds, "geometry"):
        rows = geometry_rows(sources) + radius_rows(ours, native)
    with timed(seconds, "ProteinMPNN"):
        rows += mpnn_rows(sources, request.seed, context)
    with timed(seconds, "TM-score"):
        rows += likeness_rows(sources, training, on_progress(context))
    return Report(
        title=TITLE,
        system="protein",
        rows=rows,
        seeds=[request.seed],
        cpu_seconds=seconds,
        model={"steps": request.steps or model.config["steps"], "sampler": model.config["sampler"]},
        data={"split": f"{len(native)} held-out chains, {len(training)} to train on"},
    )


def reference_chains(
    data: Path, shortest: int, longest: int, note: Callable[[str], None] | None = None
) -> tuple[list[Array], list[Array]]:
    """Compact chains of the model's lengths as its training splits them: those it was trained on, and of the fifth
    that was held out for tables those of 40 residues or more, in an order of chance. `note` hears which files cannot
    be read.

    Raises UserError where fewer than two are left of either.
    """
    training, _, table = split(usable(load_chains(data, note), shortest, longest))
    native = [chain.atoms for chain in table if len(chain.atoms) >= min(SHORTEST, longest)]
    if min(len(training), len(native)) < 2:
        raise UserError(
            f"{data}: {len(training)} compact chains to train on and {len(native)} held out; give all that the model "
            "was trained on"
        )
    order = np.random.default_rng(0).permutation(len(native))
    return [chain.atoms for chain in training], [native[i] for i in order]


def geometry_rows(sources: dict[str, Chains]) -> list[Row]:
    rows = []
    for topics, whole in ((CA_FIGURES, False), (BACKBONE_FIGURES, True)):
        for topic, figures in topics.items():
            for source, chains in sources.items():
                if not whole or all(chain.shape[1] == 3 for chain in chains):
                    rows += [
                        pooled(name, figure, chains, of=topic, source=source) for name, figure in figures.items()
                    ]
    return rows


def pooled(name: str, figure: Figure, chains: Chains, **keys: Any) -> Row:
    """The mean over all numbers of all chains; its interval draws chains, since numbers of one chain are alike. NaN
    without any."""
    values = [np.asarray(figure(chain), np.float64) for chain in chains]
    groups = np.repeat(np.arange(len(chains)), list(map(len, values)))
    numbers = np.concatenate(values)
    if not len(numbers):
        return row(name, float("nan"), n=len(chains), **keys)
    present = np.unique(groups, return_inverse=True)[1]  # of chains without helices there is nothing to draw
    return row(name, float(numbers.mean()), bootstrap(numbers, present), len(chains), **keys)


def radius_rows(ours: Chains, native: Chains) -> list[Row]:
    """The mean radius of gyration at each length, beside native chains of nearly that length, each brought to it by
    N^0.38."""
    rows = []
    for length in sorted({len(chain) for chain in ours}):
        near = [chain for chain in native if abs(len(chain) - length) <= NEAR]
        own = [chain for chain in ours if len(chain) == length]
        radii = [
            [geometry.radius_ratio(chain) * geometry.expected_radius(length) for chain in chains]
            for chains in (own, near)
        ]
        for source, values in zip((OURS, NATIVE), radii, strict=True):
            if values:
                interval = bootstrap(values)
                rows.append(row("Rg, A", float(np.mean(values)), interval, len(values), length=length, source=source))
        if near:
            ratio = float(np.mean(radii[0]) / np.mean(radii[1]))
            rows.append(row("Rg over native's", ratio, length=length, source=OURS))
    return rows


def mpnn_rows(sources: dict[str, Chains], seed: int, context: Context) -> list[Row]:
    """The score, the share of chains inside the native 5-95 % range, how far two designs agree, and how much of them
    is alanine and glycine; by CA of all sources, and by N, CA and C of those that have them. None, and a note,
    without the package.

    By N, CA and C a score below the range is as bad as one above: mirror images get sure designs of glycine.
    """
    try:
        require("the score of ProteinMPNN, which is left out,", "proteinmpnn")
    except UserError as error:
        context.tell(Note(str(error)))
        return []
    check_ours(context.folder / OPINIONS, MARK)
    known = load_opinions(context.folder / OPINIONS)
    rows = []
    for weights in ("ca", "vanilla"):
        whole = {
            source: chains[: JUDGED if source in (OURS, NATIVE) else CONTROLS]
            for source, chains in sources.items()
            if weights == "ca" or all(chain.shape[1] == 3 for chain in chains)
        }
        total, found = sum(map(len, whole.values())), dict[str, list[list[float]]]()
        for source, chains in whole.items():
            found[source] = []
            for chain in chains:
                found[source].append(opinion(chain, seed, weights, known, context.folder / OPINIONS))
                on_progress(context)(sum(map(len, found.values())), total)
        keys: dict[str, Any] = {"of": f"ProteinMPNN, {weights}"}
        low, high = np.quantile([score for score, *_ in found[NATIVE]], (0.05, 0.95))
        for source, opinions in found.items():
            scores, agreements, plain = np.array(opinions).T
            inside = geometry.within(scores, low, high)
            n, keys["source"] = len(scores), source
            rows += [
                row("score", float(scores.mean()), bootstrap(scores), n, **keys),
                row("inside native 5-95 %", float(inside.mean()), wilson(int(inside.sum()), n), n, **keys),
                row("two designs agree", float(agreements.mean()), bootstrap(agreements), n, **keys),
                row("A and G of designs", float(plain.mean()), bootstrap(plain), n, **keys),
            ]
        keys["source"] = NATIVE
        rows += [row("score, 5 %", float(low), **keys), row("score, 95 %", float(high), **keys)]
    return rows


def load_opinions(file: Path) -> dict[str, list[float]]:
    """What an evaluation has asked of ProteinMPNN before, which takes most of its time."""
    return json.loads(file.read_text(encoding="utf-8"))[MARK] if file.is_file() else {}


def opinion(chain: Array, seed: int, weights: mpnn.Weights, known: dict[str, list[float]], file: Path) -> list[float]:
    """`mpnn.opinion`, which is asked once."""
    content = np.asarray(chain, np.float32).tobytes() + f"{chain.shape} {seed} {weights}".encode()
    key = hashlib.sha256(content).hexdigest()
    if key not in known:
        known[key] = list(mpnn.opinion(chain, seed, weights))
        save_json(file, {MARK: known})
    return known[key]


def likeness_rows(sources: dict[str, Chains], training: Chains, progress: Callable[[int, int], None]) -> list[Row]:
    """Diversity, the mean TM-score of pairs, and novelty, the largest TM-score to a training chain."""
    rows = []
    for source, chains in sources.items():
        if source == MIRRORED:
            continue
        pairs = pairwise_tm(chains[:PAIRED])
        largest = nearest(chains[:COMPARED], training, progress)
        new = largest < 0.5
        keys: dict[str, Any] = {"of": "novelty", "source": source}
        rows += [
            row("mean TM-score of pairs", float(pairs.mean()), n=len(pairs), of="diversity", source=source),
            row(
                "TM-score to the nearest training chain", float(largest.mean()), bootstrap(largest), len(new), **keys
            ),
            row("new, below 0.5", float(new.mean()), wilson(int(new.sum()), len(new)), len(new), **keys),
        ]
    return rows


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    clock = time.process_time()
    yield
    seconds[name] = time.process_time() - clock
