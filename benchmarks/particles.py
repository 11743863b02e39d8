"""What particles bring, and where they fall short: samples given a part, on data whose chain is known exactly.

    python benchmarks/particles.py

It takes a few minutes on one thread, prints its tables and writes docs/results/particles.json.

First table: the data are a mixture of three Gaussians in the plane, (u, y), and y is known. The chain that
`ancestral` walks with the exact denoiser in so many steps is integrated on a lattice, step by step, and so is its u
given y: the truth. It is not the data's; few steps make another chain.

Second table: two Gaussians on a line, one of them with a share of 1 %, and a reward that makes both as likely. The
truth is again that of the chain, integrated.

A value stands with its standard error over the filters. ESS is the median over filters of the lowest, as a share of
the particles; `disagreement` is the variance of the filters' means over what their own weights say.
"""

import platform
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import torch

import common
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.diffusion import Gaussian, Grid, Prediction, ancestral, known_region, sample, uniform
from inkwash.inference import disagreement, particles

RESULT = ROOT / "docs" / "results" / "particles.json"
PROCESS = Gaussian(diffusion.linear_beta())
MEANS = np.array([[-1.2, -0.8], [0.2, 0.7], [1.5, -0.2]])
SHARES = np.array([0.3, 0.4, 0.3])
VARIANCE = 0.09
KNOWN = 0.3  # y
FILTERS = 6 if QUICK else 200
POINTS = 21 if QUICK else 101  # of a lattice, in each direction
SIDES, RARE, SLOPE = np.array([[-1.0], [1.0]]), np.array([0.99, 0.01]), np.log(99) / 2


def mixture(means: np.ndarray, shares: np.ndarray, variance: float) -> Callable[..., Prediction]:
    """E[x_0 | x_t] of a mixture of Gaussians of one variance in each direction."""

    def denoise(x: Any, t: Any, condition: Any = None) -> Prediction:
        xp = torch if isinstance(x, torch.Tensor) else np
        centres, prior = xp.asarray(means, dtype=x.dtype), xp.asarray(np.log(shares), dtype=x.dtype)
        total = t.alpha**2 * variance + t.sigma**2
        score = prior - ((x[:, None] - t.alpha * centres) ** 2).sum(-1) / (2 * total)
        weight = xp.exp(score - xp.amax(score, -1)[:, None])
        weight = weight / weight.sum(-1)[:, None]
        gain = t.alpha * variance / total
        return Prediction((1 - t.alpha * gain) * (weight @ centres) + gain * x)

    return denoise


def conditional(grid: Grid, y: float, reach: float = 4.0, points: int = POINTS) -> tuple[float, float]:
    """Mean and variance of u given y, of the chain of `grid`: by integrals over a lattice."""
    line, denoise = np.linspace(-reach, reach, points), mixture(MEANS, SHARES, VARIANCE)
    plane = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(-(plane**2).sum(1) / (2 * grid[0].sigma ** 2))
    for t, s in pairwise(grid.levels[:-1]):
        law = PROCESS.transition(plane, t, s, denoise(plane, t))
        along = [np.exp(-(((line[:, None] - law.mean[:, i]) / law.std) ** 2) / 2) for i in (0, 1)]
        mass = ((along[0] * (mass / mass.sum())) @ along[1].T).reshape(-1)
    t = grid[-2]
    clean = denoise(plane, t).x0
    mass *= np.exp(-((y - clean[:, 1]) ** 2) / (2 * t.sigma**2))
    mass /= mass.sum()
    mean = float(mass @ clean[:, 0])
    return mean, float(mass @ (clean[:, 0] - mean) ** 2)


def of_data(y: float) -> tuple[float, float]:
    """Mean and variance of u given y, of the data."""
    weight = SHARES * np.exp(-((y - MEANS[:, 1]) ** 2) / (2 * VARIANCE))
    weight /= weight.sum()
    mean = float(weight @ MEANS[:, 0])
    return mean, float(weight @ MEANS[:, 0] ** 2 - mean**2 + VARIANCE)


def tilted(grid: Grid, points: int = 1001) -> float:
    """P(x > 0) of the chain tilted by the reward."""
    line, denoise = np.linspace(-5, 5, points)[:, None], mixture(SIDES, RARE, VARIANCE)
    mass = np.exp(-(line[:, 0] ** 2) / (2 * grid[0].sigma ** 2))
    for t, s in pairwise(grid.levels[:-1]):
        law = PROCESS.transition(line, t, s, denoise(line, t))
        mass = np.exp(-(((line - law.mean[:, 0]) / law.std) ** 2) / 2) @ (mass / mass.sum())
    clean = denoise(line, grid[-2]).x0[:, 0]
    mass *= np.exp(SLOPE * clean)
    return float(mass[clean > 0].sum() / mass.sum())


def reward(x: Any, t: Any) -> Any:
    return SLOPE * x[:, 0]


def summary(of: dict[str, Any], found: Any, statistic: Callable[[Any], Any]) -> dict[str, Any]:
    """The mean and the variance of a statistic with their standard errors, and what the filters say of themselves."""
    w = found.weights
    h = np.asarray(statistic(found.states.reshape(-1, *found.states.shape[2:])), float).reshape(w.shape)
    first, second, verdict = (w * h).sum(1), (w * h**2).sum(1), disagreement(found, statistic)
    mean = first.mean()
    spread = second - 2 * mean * first + mean**2
    return {
        **of,
        "mean": [float(mean), float(first.std(ddof=1) / len(w) ** 0.5)],
        "variance": [float(spread.mean()), float(spread.std(ddof=1) / len(w) ** 0.5)],
        "ESS": float(np.median(found.ess.min(0)) / w.shape[1]),
        "disagreement": float(verdict.ratio[0]),
    }


def given_a_part() -> list[dict[str, Any]]:
    rows, denoise = [], mixture(MEANS, SHARES, VARIANCE)
    known = np.array([0.0, KNOWN]), np.array([False, True])
    for steps in (10,) if QUICK else (10, 20, 60):
        grid = uniform(PROCESS, steps)
        mean, variance = conditional(grid, KNOWN)
        rows.append({"what": f"**{steps} steps: the chain**", "mean": [mean, 0], "variance": [variance, 0]})
        hook = known_region(PROCESS, known[0][None], known[1][None])
        u = sample(denoise, (2,), ancestral, grid, range(4000), hooks=[hook])[:, 0].astype(float)
        square, n = (u - u.mean()) ** 2, len(u) ** 0.5
        means = [float(u.mean()), float(u.std() / n)], [float(square.mean()), float(square.std() / n)]
        rows.append({"what": "replacement (`known_region`)", "mean": means[0], "variance": means[1]})
        for bridge in (False, True):
            for count in (16,) if QUICK else (16, 64, 256):
                found = particles(denoise, (2,), grid, range(FILTERS), count=count, known_region=known, bridge=bridge)
                name = f"{'`bridge=True`' if bridge else 'SMCDiff'}, {count} particles"
                rows.append(summary({"what": name}, found, lambda x: x[:, :1]))
    mean, variance = of_data(KNOWN)
    return [*rows, {"what": "the data", "mean": [mean, 0], "variance": [variance, 0]}]


def of_two_modes() -> list[dict[str, Any]]:
    grid, denoise = uniform(PROCESS, 60), mixture(SIDES, RARE, VARIANCE)
    share = tilted(grid)
    rows = [{"what": "**60 steps: the chain**", "mean": [share, 0]}]
    for gradients in (False, True):
        for count in (16,) if QUICK else (16, 64, 256, 1024):
            found = particles(
                denoise, (1,), grid, range(FILTERS // 2), count=count, twist=reward, gradients=gradients, device="cpu"
            )
            lost = float(((found.weights * (found.states[..., 0] > 0).numpy()).sum(1) < 0.01).mean())
            name = f"{'TDS' if gradients else 'twist without gradients'}, {count} particles"
            rows.append(summary({"what": name, "lost": lost}, found, lambda x: (x > 0)[:, :1]))
    return rows


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return f"{value[0]:.3f}" + (f" ± {value[1]:.3f}" if value[1] else "")
        return value if isinstance(value, str) else "" if value is None else f"{value:.2f}"

    lines = [f"| {' | '.join(columns.values())} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell(row.get(key)) for key in columns)} |" for row in rows)])


PART = {"what": "u given y", "mean": "mean", "variance": "variance", "ESS": "ESS", "disagreement": "disagreement"}
MODES = {"what": "the rare mode", "mean": "share", "lost": "lost", "ESS": "ESS", "disagreement": "disagreement"}


def tables(report: dict[str, Any]) -> str:
    return table(report["given a part"], PART) + "\n\n" + table(report["two modes"], MODES)


if __name__ == "__main__":
    common.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    report = {
        "command": "python benchmarks/particles.py",
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch")},
            "machine": platform.machine(),
        },
        "filters": FILTERS,
        "given a part": given_a_part(),
        "two modes": of_two_modes(),
    }
    common.save(RESULT, report)
    print(tables(report))
    print(f"\n{RESULT}")
