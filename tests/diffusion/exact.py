"""What is known exactly, beside what the core draws: the table of docs/process.md.

python -m tests.diffusion.exact

writes docs/results/exact.json and prints the table; about three minutes on one core.
"""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from inkwash import diffusion
from inkwash.diffusion import ancestral, known_region, sample, uniform, unmask
from inkwash.inference import particles
from inkwash.weights.files import atomic
from tests.diffusion import test_categorical as tokens
from tests.diffusion import test_driver_joint as joint
from tests.diffusion import test_process_centred as points
from tests.diffusion import test_process_torus as torus
from tests.inference import test_particles as smc

RESULT = Path(__file__).parents[2] / "docs" / "results" / "exact.json"


def row(what: str, exact: float, values: np.ndarray) -> dict[str, object]:
    """The mean of `values`, one for each sample, beside the exact one, with its standard error."""
    values = np.asarray(values, float)
    return {"what": what, "exact": exact, "ours": values.mean(), "error": values.std(ddof=1) / len(values) ** 0.5}


def of_tokens(n: int = 40_000) -> list[dict[str, object]]:
    """The likeliest of the 27 texts, drawn."""
    best = int(tokens.DATA.argmax())
    text = tokens.TEXTS[best]
    rows = []
    for name in ("masked", "uniform"):
        process = tokens.PROCESSES[name]
        for steps in (4, 64):
            grid = uniform(process, steps)
            x = sample(tokens.exact(process), (3,), ancestral, grid, range(n))
            law = tokens.chain(process, grid)[best]
            rows.append(row(f"tokens, {name}: likeliest text, `ancestral`, {steps} steps", law, (x == text).all(1)))
    for confident in (False, True):
        walk = lambda *a, c=confident: unmask(*a, by_confidence=c)  # noqa: E731
        x = sample(tokens.exact(tokens.MASKED), (3,), walk, uniform(tokens.MASKED, 1), range(n))
        order = "surest first" if confident else "random order"
        rows.append(
            row(f"tokens, masked: the same, `unmask`, {order}, 3 calls", tokens.DATA[best], (x == text).all(1))
        )
    known = np.array([0, 1, 0]), np.array([False, True, False])
    given = tokens.DATA * (tokens.TEXTS[:, 1] == 1)
    best = int(given.argmax())
    x = particles(
        tokens.exact(tokens.MASKED), (3,), uniform(tokens.MASKED, 50), range(4000), count=16, known_region=known
    ).x
    law = given[best] / given.sum()
    rows.append(
        row("tokens, masked: likeliest text given the middle, `particles`", law, (x == tokens.TEXTS[best]).all(1))
    )
    return rows


def of_the_torus(n: int = 20_000) -> list[dict[str, object]]:
    """The probability of an interval across the edge of the cell."""
    grid = diffusion.exponential(torus.PROCESS, 150, sigma_max=0.7, sigma_min=0.002)
    places = (np.arange(200_000) + 0.5) / 200_000
    inside: Callable[[np.ndarray], np.ndarray] = lambda x: (x > 0.97) | (x < 0.06)  # noqa: E731
    law = float((torus.mixture(places, grid[-1])[0] * inside(places)).mean())
    return [
        row(f"torus, mixture: P(x > 0.97 or x < 0.06), `{name}`", law,
            inside(sample(torus.denoise, (1,), sampler, grid, range(n))[:, 0]))
        for name, sampler in torus.SAMPLERS.items()
    ]  # fmt: skip


def of_centred_points(n: int = 20_000) -> list[dict[str, object]]:
    grid, variance = uniform(points.PROCESS, 200), 1.0
    for t, s in pairwise(grid):  # a linear chain: its variance in any direction of the subspace, step by step
        law = points.PROCESS.transition(1.0, t, s, points.denoise(1.0, t))
        variance = law.mean**2 * variance + law.std**2
    x = sample(points.denoise, (4, 2), ancestral, grid, range(n))
    return [
        row("centred, 4 points: variance of a coordinate, 200 steps", variance * 3 / 4, x[:, 0, 0] ** 2),
        row("centred, 4 points: covariance of two points, 200 steps", -variance / 4, x[:, 0, 0] * x[:, 1, 0]),
    ]


def of_joint_states(n: int = 10_000) -> list[dict[str, object]]:
    """A coordinate whose sign says the token: how often they belong together, from a joint denoiser, and where each
    field is drawn by itself. Within a step fields are drawn independently: an error of the order of the step."""
    rows = []
    for name, process in joint.TOKENS.items():
        for steps in (25, 100, 400):
            grids = {"place": uniform(joint.PLACE, steps), "kind": uniform(process, steps)}
            state = sample(joint.joint(process), joint.SHAPE, ancestral, grids, range(n))
            what = f"joint, coordinate and {name} token: sign and token agree, {steps} steps"
            rows.append(row(what, 1.0, (state["place"] > 0) == (state["kind"] == 1)))
        alone = sample(joint.marginals(process), joint.SHAPE, ancestral, grids, range(n))
        rows.append(row("the same from two marginal denoisers", 0.5, (alone["place"] > 0) == (alone["kind"] == 1)))
    return rows


def of_particles(n: int = 600) -> list[dict[str, object]]:
    """Means over the unknown elements, and mean squares about the exact mean."""
    rows = []
    grid, part = uniform(smc.VP, 500), smc.PART
    for rho in (0.5, 0.9):
        mean, cov = smc.conditional(rho)
        want, spread = float(mean[part:].mean()), float(np.diag(cov)[part:].mean())
        hook = known_region(smc.VP, smc.MOTIF[None], smc.WHERE[None])
        found = {"replacement": sample(smc.denoiser(rho), (smc.SIZE,), ancestral, grid, range(4000), hooks=[hook])}
        for count in (4, 16, 64):
            known = smc.MOTIF, smc.WHERE
            found[f"SMCDiff, {count} particles"] = particles(
                smc.denoiser(rho), (smc.SIZE,), grid, range(n), count=count, known_region=known
            ).x
        for name, x in found.items():
            rows.append(row(f"Gaussian, correlation {rho}: mean, {name}", want, x[:, part:].mean(1)))
            rows.append(row("the same: variance", spread, ((x[:, part:] - mean[part:]) ** 2).mean(1)))
    noise, (mean, cov) = 0.4, smc.conditional(0.5, 0.4)
    y = torch.tensor(smc.MOTIF[:part], dtype=torch.float32)

    def twist(clean, t):
        return -((clean[:, :part] - y) ** 2).sum(1) / (2 * (noise**2 + t.sigma**2 / (t.alpha**2 + t.sigma**2)))

    for gradients in (False, True):
        found = particles(
            smc.denoiser(0.5), (smc.SIZE,), grid, range(n), count=16, twist=twist, gradients=gradients, device="cpu"
        )
        x = found.x.numpy()
        name = f"{'TDS' if gradients else 'twist without gradients'}, 16 particles"
        rows.append(row(f"Gaussian seen with noise 0.4: mean, {name}", float(mean.mean()), x.mean(1)))
        rows.append(row("the same: variance", float(np.trace(cov) / len(cov)), ((x - mean) ** 2).mean(1)))
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Markdown."""
    lines = ["| what | exact | ours | Monte-Carlo error | off by |", "|---|---:|---:|---:|---:|"]
    for r in rows:
        off = (r["ours"] - r["exact"]) / (r["error"] or math.inf)
        lines.append(f"| {r['what']} | {r['exact']:.4f} | {r['ours']:.4f} | {r['error']:.4f} | {off:+.1f} |")
    return "\n".join(lines)


def main() -> None:
    rows = [*of_tokens(), *of_the_torus(), *of_centred_points(), *of_joint_states(), *of_particles()]
    assert all(math.isfinite(r["ours"]) for r in rows)
    with atomic(RESULT) as file:
        report = {"command": "python -m tests.diffusion.exact", "rows": rows}
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
