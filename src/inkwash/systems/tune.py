"""The verb that all systems share whose models have a `problem`: what one call of `sample` solves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from inkwash.errors import UserError
from inkwash.systems.base import Context, Help, Request, Result, on_progress

if TYPE_CHECKING:
    from inkwash.diffusion import Gaussian, Grid
    from inkwash.diffusion.samplers import Sampler

TABLES = "tables.json"  # beside the weights


@dataclass(frozen=True, kw_only=True)
class Tune(Request):
    """Learn how to sample a model in few steps; then `--sampler tuned --steps 6`."""

    model: Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.", argument=True)]
    steps: Annotated[tuple[int, ...], Ge(2), Le(50), Help("Steps of a table; again for more.")] = (6,)
    samples: Annotated[int, Ge(8), Le(10_000), Help("Samples to learn from.")] = 48
    seed: Annotated[int, Ge(0), Le(2**64 - 1), Help("Of the choice of samples, and of their noise.")] = 0


TUNE: dict[str, Any] = {"lasting": True, "out": "MODEL"}  # how its `Verb` is run, in every system


def tune(requests: list[Any], context: Context) -> Iterator[Result]:
    """`model.problem`, (request, data) -> (Problem, Grid), says what is sampled, and in which many steps at first."""
    from inkwash.systems.report import markdown_table, row
    from inkwash.training import tune as solver
    from inkwash.weights.files import check_ours

    for of, request in enumerate(requests):
        check_ours(file := context.folder / TABLES, '"tables"')
        model, data = context.model(request.model), getattr(request, "data", None)
        problem, grid = model.problem(request, data and context.open(data))
        trajectory = solver.roll_out(problem, grid, on_progress(context))
        rows, tables, half = [], {}, len(problem.seeds) // 2
        for steps in request.steps:
            table = solver.tune(problem, trajectory, steps, progress=on_progress(context))
            tables[str(steps)] = asdict(table)
            errors = {
                name: solver.distance(x[half:], trajectory.states[-1][half:])
                for name, x in solver.baselines(problem, trajectory, steps).items()
            }
            best = min(errors, key=lambda name: errors[name])
            for sampler, error in ((f"{best} (the best untuned)", errors[best]), ("tuned", table.error)):
                rows.append(row("distance", error, n=len(problem.seeds) - half, steps=steps, sampler=sampler))
        solver.save_tables({"hash": model.hash, "tables": tables}, file)
        text = f"Root mean square distance to the model's own samples in {len(grid) - 1} steps."
        text += f"\n\n{markdown_table(rows)}"
        yield Result(of, None, {file.name: file}, {"text": text, "rows": rows})


def tuned(folder: Path | None, digest: str | None, steps: int, process: Gaussian) -> tuple[Sampler, Grid]:
    """The learned sampler of so many steps, and its grid. UserError where there is none for these weights."""
    from inkwash.diffusion import Grid
    from inkwash.training.tune import load_solver_table

    if folder is None:
        raise UserError("sampler tuned: save the model first, and tune it there")
    found = load_solver_table(folder / TABLES, digest, steps, f"make one: inkwash tune {folder} --steps {steps}")
    return found.sampler(), Grid(process, tuple(found.times))
