"""What each part of CDVAE that is easily skipped is for: the whole, and the whole without each, on Perov-5.

    pip install '.[crystals]'
    python benchmarks/cdvae.py --data perov5_val.csv.gz    # docs/crystals.md says where it comes from

Each is trained for as many steps by the recipe perov-cdvae, on the training part. Of the validation part each crystal
is encoded and decoded again: how many match (StructureMatcher, stol 0.5, angle_tol 10, ltol 0.3), how far their atoms
are off (RMS, in units of (volume / atoms)^(1/3), of those that match), and how many have the right elements. Beside
them as many are drawn from the prior: how many have no two atoms within 0.5 A.

Every row is kept in the report as soon as it is there: run it again to go on.
"""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import common
from common import QUICK, ROOT
from inkwash.systems.crystals.data import split
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.matching import rms_distance
from inkwash.systems.crystals.model import CrystalModel
from inkwash.systems.crystals.optimise import reconstruct
from inkwash.systems.crystals.train import Recipe, knows, train
from inkwash.systems.crystals.vae_networks import Options
from inkwash.systems.crystals.validity import structure_is_valid
from inkwash.training.recipe import load_recipe
from inkwash.weights.shipped import recipes

PARTS = ("nearest_image", "toward_composition", "teacher_forcing", "scaled_lengths", "integer_composition")
ROWS = {"the whole": Options()} | {f"without {part}": Options(**{part: False}) for part in PARTS}
QUIET = SimpleNamespace(tell=lambda event: None, stopped=lambda: False)


def measure(recipe: Recipe, options: Options, folder: Path) -> dict[str, Any]:
    """Trains, or goes on, and judges."""
    start = time.process_time()
    train(replace(recipe, cdvae=options), folder, QUIET)
    trained, model = time.process_time(), CrystalModel.load(folder / "model")
    _, held_out, _ = split(read_crystals(recipe.data, note=lambda text: None))
    truth = [crystal for crystal in held_out if knows(model, crystal)]
    again = reconstruct(model, truth, **({"steps": 2, "corrections": 1} if QUICK else {}))
    drawn = model.generate(len(truth), steps=2 if QUICK else None)
    off = [rms_distance(one, other) for one, other in zip(again, truth, strict=True)]
    matched = [distance for distance in off if distance is not None]
    right = [sorted(one.numbers) == sorted(other.numbers) for one, other in zip(again, truth, strict=True)]
    return {
        "n": len(truth),
        "match": len(matched) / len(truth),
        "rms": float(np.mean(matched)) if matched else None,
        "elements": float(np.mean(right)),
        "valid": float(np.mean([structure_is_valid(crystal) for crystal in drawn])),
        "cpu_seconds": {"training": trained - start, "judging": time.process_time() - trained},
    }


def data(given: Path | None) -> Path:
    """The user's file; in a quick run forty cubes of two elements."""
    if not QUICK:
        if given is None:
            raise SystemExit("--data: the file perov5_val.csv.gz is needed")
        return given
    from ase import Atoms
    from ase.io import write

    sides = np.random.default_rng(0).uniform(3, 4, 40)
    cells = [
        Atoms("CsCl", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=side * np.eye(3), pbc=True)
        for side in sides
    ]
    write(ROOT / "cubes.extxyz", cells)
    return ROOT / "cubes.extxyz"


def markdown(report: dict[str, Any]) -> str:
    lines = [
        "| | match | RMS | elements right | drawn: no overlap |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in report.items():
        rms = "" if row["rms"] is None else f"{row['rms']:.4f}"
        lines.append(f"| {name} | {row['match']:.1%} | {rms} | {row['elements']:.1%} | {row['valid']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=3 if QUICK else 9000, help="of training, for each row")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/cdvae-ablation", help="where the trainings lie")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/cdvae-ablation.json")
    args = parser.parse_args()
    common.needs("pymatgen", "spglib")
    recipe = load_recipe(recipes()["perov-cdvae"], Recipe, data=data(args.data))
    size = min(recipe.fit.batch_size, 8) if QUICK else recipe.fit.batch_size
    recipe = replace(recipe, fit=replace(recipe.fit, steps=args.steps, batch_size=size))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report = common.load(args.out)
    for name, options in ROWS.items():
        if name not in report:
            report[name] = measure(recipe, options, args.runs / name.replace(" ", "-"))
            common.save(args.out, report)
            print(name, report[name], flush=True)
    print(markdown(report))


if __name__ == "__main__":
    main()
