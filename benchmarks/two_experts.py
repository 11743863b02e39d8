"""Pictures on which two experts differ, by a coin: do samples show both, where an ensemble shows their mean?

    python benchmarks/two_experts.py [--work FOLDER]

Two kinds of discord: "grown", where one expert's masks are 2 pixels larger and the other's 2 smaller than what is
drawn; and "one of two", where each expert has left out one of two cells. Each training picture has one mask, of the
expert that a coin has chosen; of a test picture both are known. A diffusion model, and five plain networks with the
same number of updates in all, are trained on each. The figure is the generalised energy distance of n samples to the
two truths, in its unbiased form (d = 1 - IoU), a mean over test pictures with 95 % of bootstrapped ones; of the plain
networks each is a sample, five at most. It takes about 50 minutes on one thread, goes on where it was stopped in
FOLDER (runs/two-experts), prints its table and writes docs/results/two_experts.json.
"""

import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import common
from common import QUICK, ROOT
from inkwash.systems.report import bootstrap, markdown_table, row
from inkwash.systems.segmentation.metrics import energy_distance
from inkwash.systems.segmentation.model import SegmentationModel
from inkwash.systems.segmentation.train import Recipe, train
from inkwash.training.settings import Settings

common.needs("skimage")
RESULT = ROOT / "docs" / "results" / "two_experts.json"
KINDS = ("grown", "one of two")
SIZE, TRAINED, TESTED = (32, 8, 2) if QUICK else (64, 240, 40)
STEPS = 4 if QUICK else 1500  # of the diffusion model; the plain networks share them
COUNTS = (2, 4, 8, 16)


def picture(number: int, kind: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture of two discs, and the masks of both experts."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    half, radii = SIZE / 2, rng.uniform(0.11, 0.16, 2) * SIZE
    middles = [(half / 2 + rng.uniform(-2, 2) + half * side, half + rng.uniform(-0.2, 0.2) * SIZE) for side in (0, 1)]
    away = [np.hypot(x - a, y - b) - radius for (a, b), radius in zip(middles, radii, strict=True)]
    seen = np.minimum(*away) < 0
    drawn = 40 + 140 * seen + rng.normal(0, 12, seen.shape)
    grown = [np.minimum(*away) < by for by in (2, -2)]
    return drawn.clip(0, 255).astype(np.uint8), grown if kind == "grown" else [one < 0 for one in away]


def write(folder: Path, kind: str) -> None:
    """The training pictures, each with the mask of one expert."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(TRAINED):
        drawn, experts = picture(number, kind)
        mask = experts[np.random.default_rng((1, number)).integers(2)]
        Image.fromarray(drawn).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(255 * mask.astype(np.uint8)).save(folder / "masks" / f"{number:03d}.png")


def trained(work: Path, kind: str, engine: str) -> SegmentationModel:
    """The last model, not the best by IoU, which has no meaning where two truths differ."""
    data, folder = work / kind.replace(" ", "-"), work / f"{kind.replace(' ', '-')}-{engine}"
    if not data.is_dir():
        write(data, kind)
    members = 5 if engine == "plain" else 1
    settings = Settings(STEPS // members or 1, 8, 2e-3, warmup=50, lr_decay="cosine", ema_decay=0.99)
    settings = replace(settings, preview_every=10**6, checkpoint_minutes=1.0)
    own = {"engine": engine, "members": members, "size": SIZE, "scale": 1.0, "distance": False}
    recipe = Recipe("segmentation", data, settings, **own)
    train(recipe, folder)
    return SegmentationModel.load(folder / "model")


def distances(model: SegmentationModel, kind: str, count: int) -> list[float]:
    """Of so many samples, for each test picture."""
    found = []
    for number in range(10_000, 10_000 + TESTED):
        drawn, experts = picture(number, kind)
        samples = model.draw(drawn, count, seed=number)[:count, 0] > 0.5
        found.append(energy_distance(list(samples), experts))
    return found


def main(work: Path) -> list[dict[str, Any]]:
    rows = []
    for kind in KINDS:
        for engine, source in (("segdiff", "diffusion"), ("plain", "five plain networks")):
            model = trained(work, kind, engine)
            for count in COUNTS:
                values = distances(model, kind, count)
                keys = {"discord": kind, "samples of": source}
                rows.append(row(f"{count} samples", float(np.mean(values)), bootstrap(values), TESTED, **keys))
    return rows


if __name__ == "__main__":
    options = common.parser(__doc__)
    options.add_argument("--work", type=Path, default=ROOT / "runs" / "two-experts")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    report = {
        "command": "python benchmarks/two_experts.py",
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch")},
            "machine": platform.machine(),
        },
        "rows": main(arguments.work),
    }
    common.save(RESULT, report)
    print(markdown_table(report["rows"]), RESULT, sep="\n\n")
