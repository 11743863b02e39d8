"""Learned tables: on data whose best denoiser is known they beat every untuned solver, on samples not seen before."""

import json
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest

from inkwash import diffusion
from inkwash.diffusion import DiffusionError, Grid, Prediction, sample, uniform
from inkwash.errors import UserError
from inkwash.training.tune import (
    Problem,
    SolverTable,
    baselines,
    distance,
    load_solver_table,
    nearest,
    roll_out,
    save_tables,
    shortest,
    table_sampler,
    tune,
)
from tests.diffusion import oracle

FLOW = diffusion.Gaussian(diffusion.rectified_flow())
POINTS = np.random.default_rng(0).normal(size=(40, 5)) * [2, 1, 0.5, 0.3, 0.2] + [1, -1, 0, 0, 0]


def denoise(x, t, condition=None):
    """E[x_0 | x_t] for normal clouds around POINTS, wide enough to overlap: of narrow ones, a few samples that end in
    another cloud than the trajectory's would make up the distance."""
    width = 0.3
    v = t.sigma**2 + (width * t.alpha) ** 2
    score = -((x[:, None] - t.alpha * POINTS) ** 2).sum(-1) / (2 * v)
    share = np.exp(score - score.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    gain = t.alpha * width**2 / v
    return Prediction((share @ POINTS * (1 - gain * t.alpha) + gain * x).astype(x.dtype))


def test_a_table_of_multistep_weights_is_that_multistep_solver():
    """DPM-Solver++(2M): D = clean + (clean - previous clean) / (2 r)."""
    grid = Grid(FLOW, np.linspace(0.95, 0.05, 9) ** 1.2)
    lambdas = [level.lambda_ for level in grid]
    widths = [b - a for a, b in pairwise(lambdas)]
    table = [[1.0]] + [[1 + h / (2 * before), -h / (2 * before)] for before, h in pairwise(widths)]
    x = np.random.default_rng(0).normal(size=(4, 5))
    run = lambda sampler: sample(denoise, (5,), sampler, grid, range(4), x=x, dtype="float64")  # noqa: E731
    np.testing.assert_allclose(run(partial(table_sampler, weights=table)), run(diffusion.dpmpp_2m), rtol=1e-10)
    ones = partial(table_sampler, weights=[[1.0]] * 8)
    np.testing.assert_allclose(run(ones), run(diffusion.euler), rtol=1e-10)
    for wrong in ([[1.0]] * 7, [[1.0, 0.0], *[[1.0]] * 7], [[1.0]] * 7 + [[]]):
        with pytest.raises(DiffusionError, match="8 rows are needed"):
            run(partial(table_sampler, weights=wrong))


@pytest.mark.parametrize("steps", [4, 6, 8])
def test_a_tuned_table_beats_every_untuned_solver_on_new_seeds(steps):
    problem = Problem(denoise, (5,), range(512))
    fine = uniform(FLOW, 64)
    reported = []
    table = tune(problem, roll_out(problem, fine), steps, progress=lambda done, total: reported.append((done, total)))
    fresh = Problem(denoise, (5,), range(1000, 1300))
    reference = roll_out(fresh, fine)
    walk = fresh.sample(table.sampler(), Grid(FLOW, table.times), x=reference.states[0])
    best = min(distance(x, reference.states[-1]) for x in baselines(fresh, reference, steps).values())
    assert distance(walk, reference.states[-1]) < 0.7 * best
    assert reported[-1][0] <= reported[-1][1]
    assert [done for done, _ in reported] == list(range(1, len(reported) + 1))


def test_for_one_gaussian_few_steps_are_nearly_exact():
    """Its flow is linear, so each step has weights without error, and a table finds them."""
    problem = Problem(oracle.denoise, (1,), range(64))
    grid = Grid(FLOW, np.linspace(0.99, 0.02, 41))
    trajectory = roll_out(problem, grid)
    table = tune(problem, trajectory, 3)
    fresh = Problem(oracle.denoise, (1,), range(500, 600))
    start = np.random.default_rng(0).normal(size=(100, 1))
    end = fresh.sample(table.sampler(), Grid(FLOW, table.times), x=start)
    exact = oracle.flow(start, grid[0], grid[-1])
    euler = fresh.sample(diffusion.euler, uniform(FLOW, 3, 0.99, 0.02), x=start)
    assert distance(end, exact) < 0.05 * distance(euler, exact)


def test_the_shortest_path_is_that_of_all_paths():
    cost = np.triu(np.random.default_rng(0).random((8, 8)), 1)
    cost[cost == 0] = np.inf
    for steps in (1, 2, 4, 7):
        inner = (p for p in product(range(1, 7), repeat=steps - 1) if all(a < b for a, b in pairwise(p)))
        paths = [[0, *p, 7] for p in inner]
        best = min(paths, key=lambda path: sum(cost[a, b] for a, b in pairwise(path)))
        assert shortest(cost, steps) == best


def test_nearest_points_of_a_fine_grid():
    assert nearest(uniform(FLOW, 10), Grid(FLOW, [1.0, 0.72, 0.31, 0.0])) == [0, 3, 7, 10]


@pytest.mark.parametrize("steps", [1, 33])
def test_too_few_or_too_many_steps_are_refused(steps):
    problem = Problem(denoise, (5,), range(4))
    with pytest.raises(UserError, match="choose a number from 2 to 32"):
        tune(problem, roll_out(problem, uniform(FLOW, 64)), steps)


def test_tables_are_kept_and_what_does_not_fit_is_refused(tmp_path):
    file = tmp_path / "tables.json"
    with pytest.raises(UserError, match=r"there is no .*tables.json; tune it"):
        load_solver_table(file, "a", 2, "tune it")
    two, three = (
        SolverTable([1.0, 0.5, 0.0], [[1.0], [0.9, 0.1]], 0.1),
        SolverTable([1.0, 0.6, 0.2, 0.0], [[1.0]] * 3, 0.05),
    )
    save_tables({"hash": "a", "tables": {"3": vars(three)}}, file)
    save_tables({"hash": "a", "tables": {"2": vars(two)}}, file)
    assert load_solver_table(file, "a", 2, "") == two and load_solver_table(file, "a", 3, "") == three
    assert list(json.loads(file.read_text())["tables"]) == ["2", "3"]
    with pytest.raises(UserError, match="tables for 2, 3 steps; tune it"):
        load_solver_table(file, "a", 4, "tune it")
    with pytest.raises(UserError, match="other weights"):
        load_solver_table(file, "b", 2, "")
    save_tables({"hash": "b", "tables": {"2": vars(two)}}, file)
    assert list(json.loads(file.read_text())["tables"]) == ["2"]  # those of the old weights are gone
    for damage in ("{", "[]", '{"hash": "b", "tables": {"2": {"times": []}}}'):
        file.write_text(damage)
        with pytest.raises(UserError, match="broken"):
            load_solver_table(file, "b", 2, "")
