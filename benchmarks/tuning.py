"""Few-step tables: how near they bring a model's samples to its own in many steps, beside the untuned solvers.

    python benchmarks/tuning.py --data data/emoji

Two models: the shipped `emoji`, and a perceptron that this script trains in a minute or two to draw curves of a day
(24 values, `curves`). Tables are learned as `inkwash tune` learns them. What is compared the tuning has not seen:
other seeds, and for emoji other prompts of the validation split. All start from the same noise. It prints the tables
of docs/tuning.md and writes docs/results/tuning.json; about 25 minutes on one core.
"""

import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import common
import inkwash
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.systems.pictures import emoji_data
from inkwash.training.fit import fit
from inkwash.training.settings import Settings
from inkwash.training.tune import Problem, baselines, distance, roll_out, tune

RESULT = ROOT / "docs" / "results" / "tuning.json"
STEPS = (4,) if QUICK else (4, 6, 8, 10)
FINE = 10 if QUICK else 100
TUNING, COMPARISON = (16, 20) if QUICK else (1024, 2000)  # curves


def curves(count: int, seed: int) -> np.ndarray:
    """(count, 24) float32: a day's demand by the hour. A base level, a morning and an evening peak of random height
    and hour; on two days of seven one broad peak at noon instead."""
    rng = np.random.default_rng(seed)
    hour = np.arange(24)[None]

    def bump(centre: Any, width: Any, height: Any) -> np.ndarray:
        return height * np.exp(-(((hour - centre) / width) ** 2) / 2)

    def draw(mean: float, std: float) -> np.ndarray:
        return rng.normal(mean, std, (count, 1))

    work = bump(draw(8, 0.7), 1.5, draw(1.5, 0.3)) + bump(draw(19, 1.0), 2.0, draw(2.0, 0.4))
    rest = bump(draw(13, 1.5), 4.0, draw(1.6, 0.4))
    day = np.where(rng.random((count, 1)) < 5 / 7, work, rest) + draw(0, 0.2) + rng.normal(0, 0.05, (count, 24))
    return ((day - 0.7) / 0.8).astype(np.float32)


class Perceptron(nn.Module):
    """The clean curve from the noisy one and the time."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(24 + 16, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 24),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        angles = time[:, None] / 1000 * torch.pi * 2.0 ** torch.arange(8)
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], 1))


def perceptron() -> diffusion.Denoiser:
    """The denoiser of curves, trained with the project's own loss and loop on cosine noise."""
    torch.manual_seed(0)
    network = Perceptron()
    denoiser = diffusion.Denoiser(network, diffusion.Gaussian(diffusion.cosine()), "v")
    data = torch.from_numpy(curves(20_000, seed=1))

    def batch(k: int) -> torch.Tensor:
        return data[torch.randint(len(data), (256,), generator=torch.Generator().manual_seed(k))]

    with tempfile.TemporaryDirectory() as folder:
        loss = lambda x0, generator: denoiser.loss(x0, generator=generator)  # noqa: E731
        fit(network, loss, batch, folder, Settings(steps=20 if QUICK else 8000, batch_size=256, learning_rate=1e-3))
    return denoiser


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| of two sets of as many vectors, each pair of different ones counted."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).sum())

    n = len(x)
    return 2 * mean(x, y) / n**2 - (mean(x, x) + mean(y, y)) / (n * (n - 1))


def compare(problem: Problem, fresh: Problem, grid: diffusion.Grid, real: np.ndarray | None) -> dict[str, Any]:
    """Tables learned on `problem`, and on `fresh` their distance to its trajectory beside that of untuned solvers."""
    trajectory, reference = roll_out(problem, grid), roll_out(fresh, grid)
    last = reference.states[-1]
    result: dict[str, Any] = {"tables": {}, "steps": {}}
    if real is not None:
        result["energy distance, many steps"] = energy_distance(np.asarray(last), real)
        result["energy distance, real"] = energy_distance(curves(len(real), seed=3), real)
    for steps in STEPS:
        begun = time.process_time()
        table = tune(problem, trajectory, steps)
        seconds = time.process_time() - begun
        ends = baselines(fresh, reference, steps)
        walk = diffusion.Grid(grid.process, table.times)
        ends["tuned"] = fresh.sample(table.sampler(), walk, x=reference.states[0])
        errors = {name: distance(x, last) for name, x in ends.items()}
        best = min((name for name in errors if name != "tuned"), key=errors.__getitem__)
        gain = each(ends[best], last) - each(ends["tuned"], last)
        row: dict[str, Any] = {
            "distance": errors,
            "best untuned": best,
            "mean of the paired difference": float(gain.mean()),
            "its standard error": float(gain.std(ddof=1) / len(gain) ** 0.5),
            "cpu seconds of tuning": seconds,
        }
        if real is not None:
            row["energy distance"] = {n: energy_distance(np.asarray(ends[n]), real) for n in (best, "tuned")}
        result["steps"][str(steps)] = row
        result["tables"][str(steps)] = asdict(table)
        print(steps, "best untuned:", best, errors[best], "tuned:", errors["tuned"], flush=True)
    return result


def each(x: Any, y: Any) -> np.ndarray:
    """Root mean square difference of each sample."""
    return np.sqrt((np.asarray(x - y) ** 2).reshape(len(x), -1).mean(1))


def table(report: dict[str, Any]) -> str:
    """Markdown: a row for each number of steps."""
    lines = []
    for name, unit in (("emoji", "standard deviations of the latents"), ("curves", "standard deviations")):
        if name not in report:
            continue
        lines += ["", f"{name} ({unit}):", "", "| steps | euler, uniform | best untuned | | tuned | difference |"]
        lines += ["|---:|---:|---:|---|---:|---:|"]
        digits = 3 if name == "emoji" else 4
        for steps, row in report[name]["steps"].items():
            d, best = row["distance"], row["best untuned"]
            gain = f"{row['mean of the paired difference']:.{digits}f} ± {row['its standard error']:.{digits}f}"
            cells = (f"{d['euler, uniform']:.{digits}f}", f"{d[best]:.{digits}f}", best, f"{d['tuned']:.{digits}f}")
            lines.append(f"| {steps} | {' | '.join(cells)} | {gain} |")
    return "\n".join(lines)


def energies(report: dict[str, Any]) -> str:
    """Markdown: energy distances of `curves` to real ones, a row for each number of steps."""
    found = report["curves"]
    lines = ["| steps | best untuned | tuned | 100 steps | real |", "|---:|---:|---:|---:|---:|"]
    ends = f"{found['energy distance, many steps']:.4f} | {found['energy distance, real']:.4f}"
    for steps, row in found["steps"].items():
        d = row["energy distance"]
        lines.append(f"| {steps} | {d[row['best untuned']]:.4f} | {d['tuned']:.4f} | {ends} |")
    return "\n".join(lines)


def emoji_problems(data: Path, pictures: int) -> tuple[Problem, Problem, diffusion.Grid]:
    """What is tuned on, and what is compared on: prompts of the validation split that the tuning did not see."""
    model = inkwash.load("emoji")
    emoji = emoji_data.load(data)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(emoji.split == "validation"))
    both = [
        model.problem_of(emoji.name[some].tolist(), emoji.style[some].tolist(), range(first, first + len(some)))
        for some, first in ((rows[:pictures], 0), (rows[pictures : pictures + pictures // 2], 10_000))
    ]
    return *both, diffusion.uniform(model.denoiser.process, FINE)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, default=common.emoji())
    parser.add_argument("--pictures", type=int, default=4 if QUICK else 48)
    parser.add_argument("--only", choices=["emoji", "curves"])
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    report = common.load(RESULT)
    report |= {"command": "python benchmarks/tuning.py", "trajectory": f"dpmpp_2m, uniform, {FINE} steps"}
    if options.only != "emoji":
        denoiser = perceptron()
        seeds = range(TUNING), range(10_000, 10_000 + COMPARISON)
        problems = [Problem(denoiser, (24,), some, device="cpu") for some in seeds]
        grid = diffusion.uniform(denoiser.process, FINE)
        found = compare(*problems, grid, curves(COMPARISON, seed=2))
        report["curves"] = {"samples": {"tuning": TUNING, "comparison": COMPARISON}, **found}
    if options.only != "curves":
        found = compare(*emoji_problems(options.data, options.pictures), None)
        split = {"tuning": options.pictures, "comparison": options.pictures // 2, "split": "validation"}
        report["emoji"] = {"pictures": split, "sha256": inkwash.load("emoji").hash, **found}
    common.save(RESULT, report)
    print(table(report), energies(report), sep="\n\n")


if __name__ == "__main__":
    main()
