"""How fast each solver's error falls with the steps, on every schedule.

    python benchmarks/order.py

It takes about half a minute, prints the table of docs/core.md and writes docs/results/order.json.

Data are N(0.7, 0.3), for which the best denoiser and the probability flow are known in closed form. Three states walk
from sigma / alpha = 10 (or what the schedule reaches) down to 0.7 and to 0.15 in 128, 256 and 512 steps, in float64;
the order is minus the slope of log(largest error) over log(steps). The steps are equal in smooth u, log(sigma /
alpha) being linear in u^2 (3 - 2 u): a multistep method begins, and UniPC also ends, with steps of a lower order, and
at the ends of such a grid steps are so small that these do not hide the order of the rest.

That is the order in the limit. In use there are fewer steps, and their grids are not so kind. So the further columns
are fitted to 10, 14, 20, 28 and 40 steps of `exponential` and of `karras` between the ends of Stable Diffusion's
table (the last step to clean data, which is of first order, is left out), begun at noise, and begun in the middle, at
sigma / alpha = 1, as an edit of a picture is: there a multistep method has no history where the state already
matters. On a rectified flow they are uniform in t, from 1 or 0.5 to 0.02.

The last row is DPM-Solver++(3M) as diffusers 0.42.1 has it: there the second divided difference of the predictions,
half of their second derivative, stands where the whole belongs, and the third order is lost.
"""

import math
import platform
from functools import partial
from itertools import pairwise

import numpy as np

import common
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.diffusion import Gaussian, Grid, ModelCall, Noise, NoiseLevel, Prediction, StepResult, ddim_step_x0
from inkwash.diffusion.samplers import Sampler, Walk

RESULT = ROOT / "docs" / "results" / "order.json"
MEAN, VARIANCE = 0.7, 0.3
STEPS = (8, 16, 32) if QUICK else (128, 256, 512)
NOISIEST, CLEANEST = 10, (0.7, 0.15)  # sigma / alpha; at one end errors of two signs may cancel
TABLE = np.linspace(1e-4, 0.02, 1000)  # DDPM's betas


def published_3m(x: np.ndarray, grid: Grid, noise: Noise) -> Walk:
    """See the last row."""
    past: list[tuple[float, np.ndarray]] = []  # (lambda, x_0), the latest first
    for t, s in pairwise(grid):
        prediction = yield ModelCall(x, t)
        place, h = t.lambda_, s.lambda_ - t.lambda_
        past = [(place, prediction.x0), *past][:3]
        reached = ddim_step_x0(x, prediction.x0, t, s)
        if len(past) > 1:
            (_, m0), (before, m1) = past[:2]
            first = (m0 - m1) * h / (place - before)
            if len(past) == 2:
                reached = ddim_step_x0(x, m0 + first / 2, t, s)
            else:
                earlier, m2 = past[2]
                r0, r1 = (place - before) / h, (before - earlier) / h
                second = (first - (m1 - m2) / r1) / (r0 + r1)
                slope, fall = first + r0 * second, math.expm1(-h)
                reached = reached + s.alpha * ((fall / h + 1) * slope - ((fall + h) / h**2 - 0.5) * second)
        x = yield StepResult(reached, t, s, prediction)
    return x


SOLVERS: dict[str, Sampler] = {
    "euler": diffusion.euler,
    "ddim": diffusion.ddim,
    "heun": diffusion.heun,
    "dpm2": diffusion.dpm2,
    "flow_heun": diffusion.flow_heun,
    "flow_midpoint": diffusion.flow_midpoint,
    "dpm_solver_2m": diffusion.dpm_solver_2m,
    "lms, order 2": partial(diffusion.lms, order=2),
    "lms, order 3": partial(diffusion.lms, order=3),
    "lms, order 4": diffusion.lms,
    "deis, order 2": partial(diffusion.deis, order=2),
    "deis, order 3": diffusion.deis,
    "dpmpp_2s": diffusion.dpmpp_2s,
    "dpmpp_2m": diffusion.dpmpp_2m,
    "dpmpp_3m": diffusion.dpmpp_3m,
    "unipc, order 1": partial(diffusion.unipc, order=1),
    "unipc, order 2": diffusion.unipc,
    "unipc, order 3": partial(diffusion.unipc, order=3),
    "3M as in diffusers": published_3m,
}
SCHEDULES = {
    "linear_beta": diffusion.linear_beta(),
    "scaled_linear": diffusion.scaled_linear(),
    "cosine": diffusion.cosine(),
    "sigmoid": diffusion.sigmoid(),
    "sqrt": diffusion.sqrt(),
    "variance_exploding": diffusion.variance_exploding(),
    "sub_vp": diffusion.sub_vp(),
    "edm": diffusion.edm_schedule(),
    "flow": diffusion.rectified_flow(),
    "flow, shift 3": diffusion.rectified_flow(3.0),
    "betas": diffusion.betas(TABLE),
    "zero-SNR betas": diffusion.betas(diffusion.zero_terminal_snr(TABLE)),
}


FEW = (10, 14, 20, 28, 40)
SD, FLOW = Gaussian(diffusion.scaled_linear()), Gaussian(diffusion.rectified_flow())


def without_last(grid: Grid) -> Grid:
    return Grid(grid.process, grid.times[:-1])


FEW_GRIDS = {
    "exponential": lambda steps: without_last(diffusion.exponential(SD, steps + 1)),
    "exponential, from the middle": lambda steps: without_last(diffusion.exponential(SD, steps + 1, sigma_max=1.0)),
    "karras": lambda steps: without_last(diffusion.karras(SD, steps + 1)),
    "karras, from the middle": lambda steps: without_last(diffusion.karras(SD, steps + 1, sigma_max=1.0)),
    "flow": lambda steps: diffusion.uniform(FLOW, steps, 1.0, 0.02),
    "flow, from the middle": lambda steps: diffusion.uniform(FLOW, steps, 0.5, 0.02),
}


def denoise(x: np.ndarray, t: NoiseLevel, condition: object = None) -> Prediction:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, VARIANCE)."""
    gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
    return Prediction(MEAN + gain * (x - t.alpha * MEAN))


def flow(x: np.ndarray, t: NoiseLevel, s: NoiseLevel) -> np.ndarray:
    """Where the probability flow carries x from t to s: the same quantile of the marginal there."""
    before, after = (np.sqrt(p.alpha**2 * VARIANCE + p.sigma**2) for p in (t, s))
    return s.alpha * MEAN + after / before * (x - t.alpha * MEAN)


def errors(sampler: Sampler, schedule: diffusion.Schedule) -> list[float]:
    """The largest error of three states at both ends, for each number of steps."""
    x, process = np.array([[-1.5, 0.2, 2.0]]), Gaussian(schedule)
    noisiest = min(NOISIEST, 0.99 * process.at(1.0).edm_sigma)
    found = []
    for steps in STEPS:
        u = np.linspace(0, 1, steps + 1)
        off = []
        for cleanest in CLEANEST:
            sigmas = noisiest * (cleanest / noisiest) ** (u**2 * (3 - 2 * u))
            off.append(error(sampler, Grid(process, schedule.sigma_to_t(sigmas)), x))
        found.append(max(off))
    return found


def error(sampler: Sampler, grid: Grid, x: np.ndarray) -> float:
    """The largest error at the end of the grid."""
    end = diffusion.sample(denoise, x.shape[1:], sampler, grid, [0], x=x, dtype="float64")
    return float(abs(end - flow(x, grid[0], grid[-1])).max())


def few_errors(sampler: Sampler, name: str) -> list[float]:
    """The largest error of three states at the end of a grid of few steps."""
    grids = [FEW_GRIDS[name](steps) for steps in FEW]
    starts = (grid[0].sigma * np.array([[-1.5, 0.2, 2.0]]) for grid in grids)
    return [error(sampler, grid, x) for grid, x in zip(grids, starts, strict=True)]


def slope(steps: tuple[int, ...], found: list[float]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(found), 1)[0])


def measure() -> dict[str, object]:
    found = {name: {key: errors(sampler, s) for key, s in SCHEDULES.items()} for name, sampler in SOLVERS.items()}
    few = {name: {key: few_errors(sampler, key) for key in FEW_GRIDS} for name, sampler in SOLVERS.items()}
    return {
        "command": "python benchmarks/order.py",
        "environment": {"python": platform.python_version(), "numpy": np.__version__},
        "data": f"N({MEAN}, {VARIANCE})",
        "sigma / alpha": {"from": NOISIEST, "to": CLEANEST},
        "steps": STEPS,
        "largest error": found,
        "fitted order": {name: {k: slope(STEPS, e) for k, e in row.items()} for name, row in found.items()},
        "few steps": FEW,
        "largest error, few steps": few,
        "fitted order, few steps": {name: {k: slope(FEW, e) for k, e in row.items()} for name, row in few.items()},
    }


def table(report: dict) -> str:
    """The report as the Markdown table of docs/core.md."""
    lines = [
        f"| fitted order | all {len(SCHEDULES)} schedules, smooth grid | {' | '.join(FEW_GRIDS)} |",
        f"|---|{'---:|' * (1 + len(FEW_GRIDS))}",
    ]
    for name, row in report["fitted order"].items():
        low, high = min(row.values()), max(row.values())
        limit = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
        few = report["fitted order, few steps"][name]
        lines.append(f"| {name} | {limit} | {' | '.join(f'{few[key]:.1f}' for key in FEW_GRIDS)} |")
    return "\n".join(lines)


def error_table(report: dict) -> str:
    """The largest errors after 20 steps, as a Markdown table."""
    lines = [f"| error at 20 steps | {' | '.join(FEW_GRIDS)} |", f"|---|{'---:|' * len(FEW_GRIDS)}"]
    for name, row in report["largest error, few steps"].items():
        lines.append(f"| {name} | {' | '.join(f'{row[key][FEW.index(20)]:.1e}' for key in FEW_GRIDS)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    common.parser(__doc__).parse_args()
    report = measure()
    common.save(RESULT, report)
    print(table(report), error_table(report), sep="\n\n")
    print(f"\n{RESULT}")
