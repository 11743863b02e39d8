"""Few-step tables: the times, and the weights of the last predictions, with which a trained model needs few steps.

A model's samples in many steps are its own teacher. The times of few steps are a shortest path through that
trajectory (as in GITS), moved about afterwards by a search without gradients; the weights of each step are least
squares on the trajectory's state at its end, from the state that the steps before have reached. It knows no kind of
data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash import diffusion
from inkwash.diffusion import GRIDS, SAMPLERS, Grid, ModelCall, NoiseLevel, StepResult, ddim_step_x0, sampler
from inkwash.diffusion.arrays import linear_combination, numpy
from inkwash.diffusion.errors import require
from inkwash.diffusion.multistep import mean_weights
from inkwash.errors import UserError
from inkwash.weights.files import atomic

ORDER = 3  # predictions that a step may weigh
# of a step's error, as its length in the shortest path: small ones punish the many small steps
POWERS = (0.4, 0.7, 1.0)
RIDGE = 1e-4

BASELINES = {name: SAMPLERS[name] for name in ("euler", "dpmpp_2m", "dpmpp_3m", "unipc", "deis")}
SPACINGS = {name: GRIDS[name] for name in ("uniform", "beta", "exponential", "karras")}


@sampler()
def table_sampler(x: Any, grid: Grid, noise: Any, weights: Sequence[Sequence[float]]) -> Any:
    """A multistep rule whose weights are data: `ddim_step_x0` with sum_j c_j x0_j, in step i the c of row i
    of `weights`, the newest first.

    Every multistep rule for the clean prediction is such a table; others are learned, and need not add up to 1.

    Raises DiffusionError for another number of rows than steps of the grid, or an empty or too long row.
    """
    fits = len(weights) == len(grid) - 1 and all(1 <= len(row) <= i + 1 for i, row in enumerate(weights))
    require(fits, f"table_sampler: {len(grid) - 1} rows are needed, row i of 1 to i + 1 weights")
    past: list[Any] = []
    for (t, s), row in zip(pairwise(grid), weights, strict=True):
        prediction = yield ModelCall(x, t)
        past = [prediction.x0, *past][: max(map(len, weights))]
        x = yield StepResult(ddim_step_x0(x, linear_combination(past[: len(row)], row), t, s), t, s, prediction)
    return x


@dataclass(frozen=True)
class SolverTable:
    """A solver of len(weights) steps: its times, and for each step the weights of the last clean predictions, newest
    first. `error` is its root mean square distance to the trajectory on the samples that chose it."""

    times: list[float]
    weights: list[list[float]]
    error: float

    def sampler(self) -> diffusion.samplers.Sampler:
        """The sampler `table_sampler` with these weights."""
        return partial(table_sampler, weights=self.weights)


class Trajectory(NamedTuple):
    """A sample's way in many steps: states and clean predictions at the points of its grid, samples in a batch."""

    grid: Grid
    states: list[Any]
    cleans: list[Any]


class Problem(NamedTuple):
    """What is sampled: a denoiser, the shape of a sample, seeds, and a condition with a row for each."""

    denoise: diffusion.denoiser.Denoise
    shape: tuple[int, ...]
    seeds: Sequence[int]
    condition: Any = None
    device: Any = None

    def sample(self, sampler: Any, grid: Grid, **options: Any) -> Any:
        """The states at the end of the grid, by the one driver."""
        return diffusion.sample(
            self.denoise, self.shape, sampler, grid, self.seeds, self.condition, device=self.device, **options
        )


def roll_out(problem: Problem, grid: Grid, progress: Callable[[int, int], None] | None = None) -> Trajectory:
    """The trajectory of DPM-Solver++(2M) down a fine grid."""
    states, cleans = [], []

    def recorded(x: Any, t: Any, condition: Any) -> Any:
        prediction = problem.denoise(x, t, condition)
        states.append(x)
        cleans.append(prediction.x0)
        return prediction

    last = problem._replace(denoise=recorded).sample(diffusion.dpmpp_2m, grid, progress=progress)
    return Trajectory(grid, [*states, last], cleans)


def tune(
    problem: Problem,
    trajectory: Trajectory,
    steps: int,
    search: int = 24,
    progress: Callable[[int, int], None] | None = None,
) -> SolverTable:
    """The best table of so many steps: weights from the first half of the samples, times chosen by the second.

    search: how many moved times are tried after the first candidates. Raises UserError for too few or too many steps.
    """
    most = (len(trajectory.grid) - 1) // 2
    if not 2 <= steps <= most:
        raise UserError(f"steps = {steps}: choose a number from 2 to {most}, half of the trajectory's")
    cost = step_errors(trajectory)
    knots = [shortest(cost**power, steps) for power in POWERS]
    knots += [nearest(trajectory.grid, grid(trajectory.grid.process, steps)) for grid in SPACINGS.values()]
    tries, total = 0, len(knots) + search + 2

    def attempt(points: list[int], ridge: float = RIDGE) -> tuple[float, list[int], list[list[float]]]:
        nonlocal tries
        weights, error = fit(problem, trajectory, points, ridge)
        tries += 1
        if progress is not None:
            progress(tries, total)
        return error, points, weights

    best = min((attempt(points) for points in knots if len(set(points)) == steps + 1), key=itemgetter(0))
    rng = np.random.default_rng(0)
    for _ in range(search):
        moved = list(best[1])
        moved[rng.integers(1, steps)] += int(rng.choice([-3, -2, -1, 1, 2, 3]))
        if all(a < b for a, b in pairwise(moved)):
            best = min(best, attempt(moved), key=itemgetter(0))
    for ridge in (RIDGE / 100, RIDGE * 100):
        best = min(best, attempt(best[1], ridge), key=itemgetter(0))
    return SolverTable([trajectory.grid[i].t for i in best[1]], best[2], best[0])


def step_errors(trajectory: Trajectory) -> np.ndarray:
    """(n, n): the mean square error of one `ddim_step_x0` from point i of the trajectory to point j > i."""
    n = len(trajectory.grid)
    cost = np.full((n, n), np.inf)
    for i in range(n - 1):
        for j in range(i + 1, n):
            reached = ddim_step_x0(trajectory.states[i], trajectory.cleans[i], trajectory.grid[i], trajectory.grid[j])
            cost[i, j] = float(((reached - trajectory.states[j]) ** 2).mean())
    return cost


def shortest(cost: np.ndarray, steps: int) -> list[int]:
    """The path of so many steps from the first point to the last with the least sum of costs."""
    total, back = cost[0], []
    for _ in range(steps - 1):
        through = total[:, None] + cost
        back.append(through.argmin(0))
        total = through.min(0)
    path = [len(cost) - 1]
    for origin in reversed(back):
        path.append(int(origin[path[-1]]))
    return [0, *reversed(path)]


def nearest(fine: Grid, grid: Grid) -> list[int]:
    """The points of the fine grid nearest in time to those of another, from the first to the last."""
    times = np.array([point.t for point in fine])
    inner = [int(abs(times - point.t).argmin()) for point in grid.levels[1:-1]]
    return [0, *inner, len(times) - 1]


def fit(problem: Problem, trajectory: Trajectory, points: list[int], ridge: float) -> tuple[list[list[float]], float]:
    """The weights of each step between these points, and the distance to the trajectory on the second half of the
    samples.

    A step leads to shrink x + share sum_j c_j clean_j (`table_sampler`); c is the least-squares solution on the first
    half, pulled towards second-order multistep weights by `ridge` times the mean square of the predictions.
    """
    half, table = len(problem.seeds) // 2, list[list[float]]()
    targets = [trajectory.states[i] for i in points[1:]]

    def fitting(x: Any, grid: Grid, noise: Any) -> Any:
        past: list[tuple[float, Any]] = []
        for (t, s), target in zip(pairwise(grid), targets, strict=True):
            prediction = yield ModelCall(x, t)
            past = [(t.lambda_, prediction.x0), *past][:ORDER]
            shrink = s.sigma / t.sigma
            share = s.alpha - shrink * t.alpha
            cleans = [clean for _, clean in past]
            mixture = (target[:half] - shrink * x[:half]) / share
            inner = np.array([[float((a[:half] * b[:half]).sum()) for b in cleans] for a in cleans])
            start = default_weights(past, t, s)
            right = np.array([float((a[:half] * mixture).sum()) for a in cleans]) - inner @ start
            inner += ridge * np.trace(inner) / len(inner) * np.eye(len(inner))
            weights = (start + np.linalg.solve(inner, right)).tolist()
            table.append(weights)
            x = linear_combination([x, *cleans], [shrink, *(share * weight for weight in weights)])
            x = yield StepResult(x, t, s, prediction)
        return x

    grid = Grid(trajectory.grid.process, tuple(trajectory.grid[i].t for i in points))
    reached = problem.sample(fitting, grid, x=trajectory.states[0])
    return table, distance(reached[half:], trajectory.states[-1][half:])


def default_weights(past: list[tuple[float, Any]], t: NoiseLevel, s: NoiseLevel) -> np.ndarray:
    """The weights of the second-order multistep rule; all on the newest where a log-SNR is infinite."""
    weights, h = np.eye(len(past))[0], s.lambda_ - t.lambda_
    finite = [entry for entry in past[:2] if np.isfinite(entry[0])]
    if np.isfinite(h) and finite and finite[0] is past[0]:
        weights[: len(finite)] = mean_weights(finite, h, h)
    return np.asarray(weights)


def baselines(problem: Problem, trajectory: Trajectory, steps: int) -> dict[str, Any]:
    """The final states of every untuned solver on every grid, in as many calls of the network."""
    return {
        f"{solver}, {name}": problem.sample(sampler, grid(trajectory.grid.process, steps), x=trajectory.states[0])
        for solver, sampler in BASELINES.items()
        for name, grid in SPACINGS.items()
    }


def distance(x: Any, y: Any) -> float:
    """Root mean square difference."""
    return float(np.sqrt(((numpy(x) - numpy(y)) ** 2).mean()))


def save_tables(tables: dict[str, Any], file: Path) -> None:
    """Writes {"hash": of the weights, "tables": {steps: a SolverTable's fields}}; tables of other numbers of steps
    that the file holds for the same weights stay."""
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        kept = before["tables"] if before["hash"] == tables["hash"] else {}
    except (OSError, ValueError, TypeError, KeyError):
        kept = {}
    merged = sorted({**kept, **tables["tables"]}.items(), key=lambda item: int(item[0]))
    with atomic(file) as temporary:
        temporary.write_text(json.dumps({**tables, "tables": dict(merged)}, indent=1) + "\n", encoding="utf-8")


def load_solver_table(file: Path, digest: str | None, steps: int, hint: str) -> SolverTable:
    """The table of so many steps for the weights with this hash. Raises UserError, which ends with the `hint` how to
    make one, where there is none, and for a file that is broken or was made for other weights."""
    if not file.is_file():
        raise UserError(f"sampler tuned: there is no {file}; {hint}")
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        tables = {int(n): SolverTable(**table) for n, table in saved["tables"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: broken ({error}); {hint}") from None
    if saved.get("hash") != digest:
        raise UserError(f"{file}: was learned for other weights; {hint}")
    if steps not in tables:
        raise UserError(f"sampler tuned: there are tables for {', '.join(map(str, tables))} steps; {hint}")
    return tables[steps]
