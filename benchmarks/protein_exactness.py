"""Are scaffolds what they claim to be? Those of a learned model, beside the model's own chains that have the motif.

    python benchmarks/protein_exactness.py --model backbone --data CHAINS.npz

The model makes many chains of 32 residues without a motif. Those whose residues at a motif's place have its shape,
within 0.5 angstrom (RMSD of N, CA and C) and again within 0.25, are samples of what a scaffolder ought to draw, with
no filter in between; the two bounds show what the tolerance itself does. Beside them stand scaffolds around the same
motif, one of each filter, and four statistics of what is not the motif. TDS is exact for many particles in any number
of steps, SMCDiff only as steps grow, replacement never.

Motifs of 4, 5 and 6 residues come from native chains that were held out: the first whose shape at least three in
a hundred of the model's first chains have.

Everything is made in pieces that stay in --work, and the report is written after each: a run that is ended goes on
where it was, and a larger --chains or --filters adds to what is there; both are rounded up to whole pieces. A value
stands with its standard error; z is the difference from the chains that were kept, in standard errors of it. 10,000
chains in 200 steps take an hour on one core; a filter of 64 particles in 200 steps takes half a minute by SMCDiff and
a minute by TDS, for each motif.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
from common import QUICK, ROOT
from inkwash import diffusion, load
from inkwash.diffusion import Prediction, ancestral, sample
from inkwash.systems.protein.chirality import windings
from inkwash.systems.protein.data import compact, load_chains, split
from inkwash.systems.protein.geometry import Array, alpha_carbons
from inkwash.systems.protein.scaffold import scaffold
from inkwash.systems.protein.structures import rmsd
from inkwash.weights.files import atomic

RESULT = ROOT / "docs" / "results" / "protein_exactness.json"
LENGTH, PLACES = 32, {4: 6, 5: 13, 6: 20}  # residues; of motifs of each size the first residue
METHODS = ("tds", "smcdiff", "replacement")
TOLERANCES = (30.0, 5.0) if QUICK else (0.5, 0.25)  # angstrom
PIECE = {"free": 64, "tds": 2, "smcdiff": 2, "replacement": 64}  # chains that are made together
PILOT, SHARE = 512, 0.03  # chains among which a motif must be found, and how often
NM = 10.0  # angstrom


class Model:
    """A model's denoiser and grids; in a quick run the exact denoiser of random walks of `LENGTH` residues."""

    def __init__(self, name: str) -> None:
        if QUICK:
            process = diffusion.ZeroCoM(diffusion.variance_exploding(0.002, 30.0))
            self.denoise, self.hash = random_walk(3 * LENGTH), "quick"
            self.grid: Callable[[int], diffusion.Grid] = lambda steps: diffusion.karras(process, steps)
            return
        model = load(name)
        self.denoise, self.grid, self.hash = model.denoiser, model.grid, model.hash


def random_walk(points: int) -> Callable[..., Prediction]:
    """E[x_0 | x_t] of a centred random walk with steps of 0.15 nm in each direction."""
    centring = np.eye(points) - 1 / points
    covariance = centring @ np.minimum.outer(np.arange(points), np.arange(points)) @ centring * 0.15**2
    values, vectors = (torch.from_numpy(x) for x in np.linalg.eigh(covariance))

    def denoise(x: Any, t: Any, condition: Any = None) -> Prediction:
        x = torch.as_tensor(x)
        gain = t.alpha * values / (t.alpha**2 * values + t.sigma**2)
        return Prediction((vectors * gain @ vectors.T).to(x) @ x)

    return denoise


def free(model: Model, steps: int, first: int, count: int) -> dict[str, Array]:
    """Chains without a motif, (count, L, 3, 3) in angstrom."""
    seeds = range(first, first + count)
    x = sample(model.denoise, (3 * LENGTH, 3), ancestral, model.grid(steps), seeds, device=torch.device("cpu"))
    return {"chains": (NM * x.numpy()).reshape(count, LENGTH, 3, 3).astype(np.float32)}


def filtered(
    model: Model, method: str, steps: int, motif: Array, place: int, first: int, count: int, particles: int
) -> dict[str, Array]:
    """Scaffolds, and the median ESS of each filter."""
    rows = 3 * place + np.arange(3 * len(motif))
    found = scaffold(
        model.denoise, motif.reshape(-1, 3) / NM, rows, 3 * LENGTH, model.grid(steps),
        [10**9 + first + i for i in range(count)], method=method, count=particles, device=torch.device("cpu"),
    )  # fmt: skip
    chains = NM * np.stack([one.points for one in found]).reshape(count, LENGTH, 3, 3)
    return {"chains": chains.astype(np.float32), "ess": np.array([np.median(one.ess) for one in found])}


def choose_motifs(data: Path, chains: Array) -> dict[str, Array]:
    """For each size the first native segment that three in a hundred of these chains have at its place."""
    if QUICK:
        return {str(size): chains[0][place : place + size] for size, place in PLACES.items()}
    table = split([chain for chain in load_chains(data) if len(chain.atoms) <= 100 and compact(chain)])[2]
    found = {}
    for size, place in PLACES.items():
        own = chains[:PILOT, place : place + size]
        segments = (
            chain.atoms[start : start + size] for chain in table for start in range(5, len(chain.atoms) - size, 7)
        )
        near = (segment for segment in segments if share(own, segment) >= SHARE)
        if (segment := next(near, None)) is None:
            sys.exit(f"no native segment of {size} residues is like {SHARE:.0%} of the model's: train it longer")
        found[str(size)] = segment
    return found


def share(chains: Array, segment: Array) -> float:
    return float(np.mean([rmsd(chain, segment) < max(TOLERANCES) for chain in chains]))


def statistics(chain: Array, place: int, size: int) -> tuple[float, ...]:
    """Of what is not the motif, in angstrom and shares."""
    ca = alpha_carbons(chain)
    motif = np.isin(np.arange(LENGTH), np.arange(place, place + size))
    rest, turns = ca[~motif], np.delete(windings(chain), np.arange(place, max(place, place + size - 3)))
    near = np.linalg.norm(rest[:, None] - ca[motif], axis=-1) < 8
    return (
        float(np.sqrt(rest.var(0).sum())),
        float(np.linalg.norm(ca[-1] - ca[0])),
        float((turns == 1).mean()),
        float(near.sum()),
    )


NAMES = ("Rg of the rest, A", "end to end, A", "right-handed turns", "contacts with the motif")


def pieces(folder: Path, prefix: str, total: int, make: Callable[[int, int], dict[str, Array]]) -> Iterator[None]:
    """Makes those of the files that are not there yet, one at a time: as many pieces as hold `total`."""
    size = PIECE[prefix.split("-")[0]]
    for first in range(0, total, size):
        file = folder / f"{prefix}-{first:06d}.npz"
        if not file.exists():
            clock = time.process_time()
            made = make(first, size)
            with atomic(file) as temporary:
                np.savez(temporary, seconds=time.process_time() - clock, **made)
            yield


def gathered(folder: Path, prefix: str) -> dict[str, Array]:
    """What the pieces hold together."""
    found: dict[str, list[Array]] = {}
    for file in sorted(folder.glob(f"{prefix}-*.npz")):
        with np.load(file) as arrays:
            for name in arrays:
                found.setdefault(name, []).append(np.atleast_1d(arrays[name]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def summary(values: Array) -> dict[str, Any]:
    """Means and standard errors of the columns."""
    n = len(values)
    if n < 2:
        return {"n": n}
    return {"n": n, "mean": values.mean(0).tolist(), "error": (values.std(0, ddof=1) / n**0.5).tolist()}


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> list[float] | None:
    """How many standard errors of the difference the means are apart."""
    if min(ours["n"], theirs["n"]) < 2:
        return None
    a, b, c, d = (np.array(one[key]) for one in (ours, theirs) for key in ("mean", "error"))
    return ((a - c) / np.maximum(np.hypot(b, d), 1e-12)).tolist()


def report(folder: Path, steps: list[int], motifs: dict[str, Array], options: dict[str, Any]) -> dict[str, Any]:
    """The figures of all that is there."""
    rows: list[dict[str, Any]] = []
    for of in steps:
        whole = gathered(folder, f"free-{of}")
        for name, motif in motifs.items():
            size, place = len(motif), PLACES[int(name)]
            errors = np.array([rmsd(chain[place : place + size], motif) for chain in whole["chains"]])
            kept = {
                tolerance: summary(
                    np.array([statistics(chain, place, size) for chain in whole["chains"][errors < tolerance]])
                )
                for tolerance in TOLERANCES
            }
            keys = {"steps": of, "motif": size}
            rows += [
                keys | {"source": f"kept within {tolerance:g} A", "of": len(errors), **found}
                for tolerance, found in kept.items()
            ]
            for method in METHODS:
                found = gathered(folder, f"{method}-{of}-{name}")
                if found:
                    own = summary(np.array([statistics(chain, place, size) for chain in found["chains"]]))
                    z = {f"z, {tolerance:g} A": distance(own, theirs) for tolerance, theirs in kept.items()}
                    ess = float(np.median(found["ess"])) if method != "replacement" else None
                    rows.append(
                        keys
                        | {"source": method, **own, **z, "median ess": ess, "cpu_seconds": found["seconds"].sum()}
                    )
    return options | {"statistics": NAMES, "rows": rows}


def markdown(found: dict[str, Any]) -> str:
    """Each statistic with its standard error, and how many of these it is away from the chains kept within 0.5 A."""
    names = found["statistics"]
    lines = [f"| steps | motif | source | n | {' | '.join(names)} |", f"|---:|---:|---|---:|{'---:|' * len(names)}"]
    for row in found["rows"]:
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(row.get("mean", ()), row.get("error", ()), strict=True)]
        z = row.get(f"z, {max(TOLERANCES):g} A")
        cells = [f"{cell} ({x:+.1f})" for cell, x in zip(cells, z, strict=True)] if z else cells
        cells += [""] * (len(names) - len(cells))
        lines.append(f"| {row['steps']} | {row['motif']} | {row['source']} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="backbone", help="a shipped model or a folder")
    parser.add_argument("--data", type=Path, help="the chains that it was trained on")
    parser.add_argument(
        "--chains", type=int, default=24 if QUICK else 10_000, help="without a motif, of each number of steps"
    )
    parser.add_argument(
        "--filters", type=int, default=2 if QUICK else 200, help="of each method, motif and number of steps"
    )
    parser.add_argument("--particles", type=int, default=8 if QUICK else 64, help="of each filter")
    parser.add_argument("--steps", type=int, nargs="+", default=[6, 12] if QUICK else [200, 50])
    parser.add_argument("--motifs", type=int, nargs="+", choices=PLACES, default=[*PLACES], help="their residues")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "protein-exactness", help="where the pieces lie")
    given = parser.parse_args()
    if given.data is None and not QUICK:
        parser.error("--data is needed: motifs come from chains that were held out")
    torch.set_num_threads(1)
    model, folder = Model(given.model), given.work
    mark = folder / "run.json"
    facts = {"model": model.hash, "particles": given.particles}
    if mark.exists() and (before := json.loads(mark.read_text())) != facts:
        parser.error(f"{folder} holds pieces of another run, {before}: choose another --work")
    common.save(mark, facts)
    for _ in pieces(folder, f"free-{given.steps[0]}", given.chains, lambda a, n: free(model, given.steps[0], a, n)):
        pass
    chosen = folder / "motifs.npz"
    if not chosen.exists():
        with atomic(chosen) as temporary:
            np.savez(temporary, **choose_motifs(given.data, gathered(folder, f"free-{given.steps[0]}")["chains"]))
    with np.load(chosen) as arrays:
        motifs = {name: arrays[name] for name in arrays if int(name) in given.motifs}
    for steps in given.steps:
        for _ in pieces(folder, f"free-{steps}", given.chains, lambda a, n, s=steps: free(model, s, a, n)):
            pass
    jobs = [
        pieces(
            folder,
            f"{method}-{steps}-{name}",
            given.filters,
            lambda a, n, m=method, s=steps, k=name: filtered(
                model, m, s, motifs[k], PLACES[int(k)], a, n, given.particles
            ),
        )
        for method in METHODS
        for steps in given.steps
        for name in motifs
    ]
    while jobs:  # in turn, so that a run that is ended has something of each
        jobs = [job for job in jobs if next(job, job) is not job]
        found = report(folder, given.steps, motifs, facts | {"length": LENGTH})
        common.save(RESULT, found)
    print(markdown(found))


if __name__ == "__main__":
    main()
