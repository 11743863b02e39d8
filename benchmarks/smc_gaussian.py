"""Filters around a motif where all is known: a chain of 50 centred points, a random walk, and its exact denoiser.

    python benchmarks/smc_gaussian.py [--model FOLDER [--data CHAINS.npz]]

It takes some minutes on one thread, prints its tables and writes docs/results/smc_gaussian.json. Motifs are cut from
chains that are drawn from the walk, so an exact model makes them; each filter has 64 particles.

First table: how filters fare by the length of the motif, on the grid of ProtDiff's kind (linear betas, equal times)
and on that of the shipped model (Karras). ESS is the median over the steps of all filters, the last the median over
filters at the last step that draws noise; first ancestors are how many of the 64 particles of the start have
descendants at the end. 150 points are three a residue, as N, CA and C are. With --model also a learned model of
backbones, around motifs cut from its own samples; with --data, too, whether the variance of its steps, which is that
of the weights, is what chains that it was not trained on ask for.

Second table: what is drawn, beside the exact conditional. Deviations are of three points from their exact mean in
exact standard deviations: their root mean square over motifs (0, but for chance, if the mean is right: "by chance"
says how much that is) and their variance (1).
"""

import platform
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.diffusion import Grid, Prediction, ZeroCoM
from inkwash.systems.protein.scaffold import METHODS, Scaffold, scaffold

RESULT = ROOT / "docs" / "results" / "smc_gaussian.json"
POINTS, BOND, COUNT = 50, 0.38, 64  # nm
ATOMS = 3
STEPS = 10 if QUICK else 100
LENGTHS = (4, 30) if QUICK else (4, 13, 20, 30)
FILTERS = 2 if QUICK else 8
HELD_OUT = 24
MOTIFS, EACH = (2, 2) if QUICK else (10, 10)  # filters for each
LINEAR = ZeroCoM(diffusion.linear_beta())
EXPLODING = ZeroCoM(diffusion.variance_exploding(0.002, 30.0))
KARRAS = "Karras, 0.002 to 30 nm"
GRIDS: dict[str, Callable[[int], Grid]] = {
    "linear betas, equal times": lambda steps: diffusion.uniform(LINEAR, steps),
    KARRAS: lambda steps: diffusion.karras(EXPLODING, steps),
}


class Walk:
    """A centred random walk of so many points, whose bonds have the length `bond` (root mean square), in nm."""

    def __init__(self, points: int, bond: float) -> None:
        steps, centring = np.tril(np.ones((points, points)), -1)[:, : points - 1], np.eye(points) - 1 / points
        self.points, self.covariance = points, centring @ steps @ steps.T @ centring * bond**2 / 3
        values, self.vectors = np.linalg.eigh(self.covariance)
        self.values = np.clip(values, 0, None)

    def denoise(self, x: Any, t: Any, condition: Any = None) -> Prediction:
        """E[x_0 | x_t]."""
        gain = t.alpha * self.values / (t.alpha**2 * self.values + t.sigma**2)
        matrix = (self.vectors * gain) @ self.vectors.T
        own = torch.as_tensor(matrix, dtype=x.dtype) if torch.is_tensor(x) else matrix.astype(x.dtype)
        return Prediction(own @ x)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return (self.vectors * np.sqrt(self.values)) @ rng.standard_normal((self.points, 3))


RESIDUES = Walk(POINTS, BOND)
BACKBONES = Walk(ATOMS * POINTS, BOND / ATOMS**0.5)  # of the same extent, N, CA and C of each residue


def middle(length: int, points: int = POINTS) -> np.ndarray:
    """Where a motif of this length lies."""
    return (points - length) // 2 + np.arange(length)


def given(motif: np.ndarray, indices: np.ndarray, wanted: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the wanted points less the motif's centre, given the motif's shape."""
    of = np.isin(np.arange(POINTS), indices) / len(indices)
    part, rest, covariance = np.eye(POINTS)[indices] - of, np.eye(POINTS)[wanted] - of, RESIDUES.covariance
    gain = rest @ covariance @ part.T @ np.linalg.pinv(part @ covariance @ part.T, rcond=1e-9)
    return gain @ (motif - motif.mean(0)), np.sqrt(np.diag((rest - gain @ part) @ covariance @ rest.T))


def health(of: dict[str, Any], filters: list[Scaffold]) -> dict[str, Any]:
    """How filters of one kind fare."""
    ess = np.array([one.ess for one in filters])
    return {
        **of,
        "ESS": float(np.median(ess)),
        "lowest": float(np.median(ess.min(1))),
        "last": float(np.median(ess[:, -2])),
        "ancestors": float(np.median([one.first_ancestors for one in filters])),
        "alive": f"{sum(one.alive for one in filters)} of {len(filters)}",
    }


def by_length() -> list[dict[str, Any]]:
    kinds = [(name, method, RESIDUES) for name in GRIDS for method in METHODS[:2]]
    kinds.append((KARRAS, "smcdiff", BACKBONES))
    rows = []
    for name, method, walk in kinds:
        grid, atoms, device = GRIDS[name](STEPS), walk.points // POINTS, "cpu" if method == "tds" else None
        for length in LENGTHS:
            rng, indices, found = np.random.default_rng(0), middle(atoms * length, walk.points), list[Scaffold]()
            for seed in range(FILTERS):
                motif = walk.draw(rng)[indices]
                found += scaffold(
                    walk.denoise, motif, indices, walk.points, grid, [seed], method=method, count=COUNT, device=device
                )
            of = {"grid": name, "method": method, "points": walk.points, "length": length}
            rows.append(health(of, found))
    return rows


def of_model(folder: str) -> list[dict[str, Any]]:
    """The same of a learned model: motifs of its own samples, of as many residues."""
    import inkwash

    model, rows = inkwash.load(folder), []
    atoms, filters, grid = model.config["atoms"], max(2, FILTERS // 4), model.grid(STEPS)
    chains = model.sample([POINTS] * filters, seed=1000, noise_scale=1.0)  # of the chain that filters are of
    for length in LENGTHS:
        indices, found = middle(atoms * length, atoms * POINTS), list[Scaffold]()
        for seed, chain in enumerate(chains):
            motif = chain.reshape(-1, 3)[indices] / 10
            found += scaffold(
                model.denoiser, motif, indices, atoms * POINTS, grid, [seed], count=COUNT, device=model.device
            )
        of = {"grid": "the model's", "method": "smcdiff, learned", "points": atoms * POINTS, "length": length}
        rows.append(health(of, found))
    return rows


@torch.no_grad()
def calibration(folder: str, data: Path) -> list[dict[str, Any]]:
    """Of chains that training did not see, at each step: the squared distance of x_s from the mean of p(x_s | x_t),
    over the variance that the weights of filters take, both of a number; 1 if that is as large as it should be."""
    import inkwash
    from inkwash.systems.protein.data import load_chains, points, split, usable

    model, rows = inkwash.load(folder), []
    grid, facts = model.grid(STEPS), model.config
    chains = split(usable(load_chains(data), facts["shortest"], facts["max_length"]))[2][:HELD_OUT]
    generator = torch.Generator().manual_seed(0)
    for t, s in list(pairwise(grid.levels))[: -1 : STEPS // 10]:
        ratios = []
        for chain in chains:
            x0 = torch.from_numpy(points(chain, facts["atoms"])).expand(4, -1, -1)
            a, b = (grid.process.project(torch.randn(x0.shape, generator=generator), None) for _ in "ab")
            x = grid.process.noise(x0, s, a)
            noisier = grid.process.renoise(x, s, t, b)
            prediction = model.denoiser(noisier, t._replace(s=s), None)
            prediction = prediction._replace(x0=grid.process.project(prediction.x0, None))
            step = grid.process.transition(noisier, t, s, prediction)
            numbers = 4 * 3 * (x0.shape[1] - 1)
            ratios.append(float((((x - step.mean) / step.std) ** 2).sum() / numbers))
        mean, error = float(np.mean(ratios)), float(np.std(ratios, ddof=1) / len(ratios) ** 0.5)
        rows.append(
            {"noise": f"{t.edm_sigma:.3g}", "chains": len(ratios), "ratio": [mean, error], "most": max(ratios)}
        )
    return rows


def exactness() -> list[dict[str, Any]]:
    indices, wanted, grid = middle(13), [0, 12, 40], GRIDS[KARRAS]
    rows = []
    for steps in (10,) if QUICK else (50, 200):
        for method in METHODS:
            rng, z = np.random.default_rng(1), []
            for number in range(MOTIFS):
                motif = RESIDUES.draw(rng)[indices]
                mean, std = given(motif, indices, wanted)
                seeds, device = range(EACH * number, EACH * (number + 1)), "cpu" if method == "tds" else None
                found = scaffold(
                    RESIDUES.denoise, motif, indices, POINTS, grid(steps), seeds,
                    method=method, count=COUNT, device=device,
                )  # fmt: skip
                z.append((np.array([one.points[wanted] for one in found]) - motif.mean(0) - mean) / std[:, None])
            deviations = np.array(z)  # motifs, filters, points, directions
            error = float(np.sqrt((deviations.mean(1) ** 2).mean()))
            square = (deviations**2).mean((1, 2, 3))
            rows.append(
                {
                    "steps": steps,
                    "method": method,
                    "mean": error,
                    "chance": EACH**-0.5,
                    "variance": [float(square.mean()), float(square.std(ddof=1) / MOTIFS**0.5)],
                }
            )
    return rows


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return f"{value[0]:.2f} ± {value[1]:.2f}"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(columns.values())} |", f"|{'---|' * 2}{'---:|' * (len(columns) - 2)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell(row[key]) for key in columns)} |" for row in rows)])


HEALTH = {
    "grid": "grid", "method": "method", "points": "points", "length": "motif", "ESS": "median ESS of 64",
    "lowest": "lowest ESS", "last": "at the last noisy step", "ancestors": "first ancestors",
    "alive": "alive",
}  # fmt: skip
CALIBRATION = {
    "noise": "noise, nm", "chains": "chains", "ratio": "squared error over variance", "most": "of the worst chain"
}  # fmt: skip
EXACT = {
    "steps": "steps", "method": "method", "mean": "error of the mean", "chance": "by chance", "variance": "variance"
}  # fmt: skip


if __name__ == "__main__":
    options = common.parser(__doc__)
    options.add_argument("--model", help="also the filters of this model of backbones")
    options.add_argument("--data", type=Path, help="the chains it was trained on: are its variances right?")
    arguments = options.parse_args()
    if bool(arguments.data) > bool(arguments.model):
        options.error("--data is of a model: give --model too")
    torch.set_num_threads(1)
    report = {
        "command": "python benchmarks/smc_gaussian.py"
        + (" --model FOLDER" if arguments.model else "")
        + (" --data CHAINS.npz" if arguments.data else ""),
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch")},
            "machine": platform.machine(),
        },
        "by length": by_length() + (of_model(arguments.model) if arguments.model else []),
        "calibration": calibration(arguments.model, arguments.data) if arguments.data else [],
        "exactness": exactness(),
    }
    common.save(RESULT, report)
    columns = {"by length": HEALTH, "calibration": CALIBRATION, "exactness": EXACT}
    print(*(table(report[name], of) for name, of in columns.items()), RESULT, sep="\n\n")
