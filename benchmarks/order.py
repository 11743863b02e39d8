"""How fast each solver's error falls with the steps, and what a step costs outside the network.

    python benchmarks/order.py

It takes a few seconds, prints the tables of docs/core.md and writes docs/results/order.json.

Order. Data are N(0.7, 0.3), for which the best denoiser and the probability flow are known in closed form. Three
states walk from sigma / alpha = 20 down to 0.05 in 32, 64, 128 and 256 equal steps of log-SNR, in float64; the order
is minus the slope of log(largest error) over log(steps).

Cost. One state of the size that the emoji model walks with, float32, on a rectified flow; the network is the
identity, so that all the time is the core's own. One thread.
"""

import json
import platform
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from inkwash import diffusion
from inkwash.diffusion import Denoiser, Gaussian, Grid, Point, Prediction

RESULT = Path(__file__).parents[1] / "docs" / "results" / "order.json"

SOLVERS = {"euler": diffusion.euler, "ddim": diffusion.ddim, "dpmpp_2m": diffusion.dpmpp_2m}
SAMPLERS = {**SOLVERS, "ddim, eta = 1": partial(diffusion.ddim, eta=1.0), "ancestral": diffusion.ancestral}
SCHEDULES = {
    "linear_beta": diffusion.linear_beta(),
    "cosine": diffusion.cosine(),
    "rectified_flow": diffusion.rectified_flow(),
    "betas (DDPM's 1,000)": diffusion.betas(np.linspace(1e-4, 0.02, 1000)),
}
MEAN, VARIANCE = 0.7, 0.3
STEPS = (32, 64, 128, 256)
NOISIEST, CLEANEST = 20, 0.05  # sigma / alpha: between them the log-SNR is finite
SHAPE = (48, 16, 16)
REPEATS, LENGTH = 5, 100  # of the timing: runs, steps in a run


def denoise(x: np.ndarray, t: Point, condition: object = None) -> Prediction:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, VARIANCE)."""
    gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
    return Prediction(MEAN + gain * (x - t.alpha * MEAN))


def flow(x: np.ndarray, t: Point, s: Point) -> np.ndarray:
    """Where the probability-flow ODE carries x from t to s: the same quantile of the marginal there."""
    before, after = (np.sqrt(p.alpha**2 * VARIANCE + p.sigma**2) for p in (t, s))
    return s.alpha * MEAN + after / before * (x - t.alpha * MEAN)


def errors(sampler: diffusion.samplers.Sampler, schedule: diffusion.Schedule) -> list[float]:
    """The largest error of three states, for each number of steps."""
    x = np.array([[-1.5, 0.2, 2.0]])
    found = []
    for steps in STEPS:
        times = [schedule.time(ratio) for ratio in np.geomspace(NOISIEST, CLEANEST, steps + 1)]
        grid = Grid(Gaussian(schedule), times)
        end = diffusion.sample(denoise, x.shape[1:], sampler, grid, [0], x=x)
        found.append(float(abs(end - flow(x, grid[0], grid[-1])).max()))
    return found


def microseconds(sampler: diffusion.samplers.Sampler, device: str | None) -> list[float]:
    """Time per step of each repeat, on NumPy arrays (device None) or torch tensors."""
    process = Gaussian(diffusion.rectified_flow())
    identity = Denoiser(lambda x, time: x, process, "clean")
    grid = diffusion.uniform(process, LENGTH)
    found = []
    for repeat in range(REPEATS + 1):  # the first warms up
        start = time.perf_counter()
        diffusion.sample(identity, SHAPE, sampler, grid, [repeat], device=device)
        found.append((time.perf_counter() - start) / LENGTH * 1e6)
    return found[1:]


def measure() -> dict[str, object]:
    torch.set_num_threads(1)
    orders = {
        name: {schedule: errors(sampler, SCHEDULES[schedule]) for schedule in SCHEDULES}
        for name, sampler in SOLVERS.items()
    }
    return {
        "command": "python benchmarks/order.py",
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": 1,
        },
        "order": {
            "data": f"N({MEAN}, {VARIANCE})",
            "sigma / alpha": [NOISIEST, CLEANEST],
            "steps": STEPS,
            "largest error": orders,
            "fitted order": {
                name: {s: -float(np.polyfit(np.log(STEPS), np.log(found), 1)[0]) for s, found in row.items()}
                for name, row in orders.items()
            },
        },
        "microseconds per step outside the network": {
            "state": [1, *SHAPE],
            "steps in a run": LENGTH,
            "repeats": {
                name: {"numpy": microseconds(sampler, None), "torch": microseconds(sampler, "cpu")}
                for name, sampler in SAMPLERS.items()
            },
        },
    }


def tables(report: dict) -> str:
    """The report as the two Markdown tables of docs/core.md."""
    orders = report["order"]["fitted order"]
    lines = [f"| fitted order | {' | '.join(SCHEDULES)} |", f"|---|{'---:|' * len(SCHEDULES)}"]
    lines += [f"| {name} | {' | '.join(f'{row[s]:.2f}' for s in SCHEDULES)} |" for name, row in orders.items()]
    lines += ["", "| microseconds a step | NumPy | torch |", "|---|---:|---:|"]
    for name, row in report["microseconds per step outside the network"]["repeats"].items():
        lines.append(f"| {name} | {median(row['numpy']):.0f} | {median(row['torch']):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    report = measure()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(tables(report))
    print(f"\n{RESULT}")
