"""Pictures for docs/proteins.md and docs/crystals.md: backbones beside native ones, a filter's particles, crystals
before and after they are relaxed.

    pip install '.[protein,crystals,judges]'
    python benchmarks/science_pictures.py --chains cgdms_small_chains_train.npz    # docs/proteins.md says from where

Nothing is chosen: the first twelve of seed 0, and the first twelve native chains of 64 to 80 residues that were held
out. It prints what each crystal releases when CHGNet relaxes it.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from PIL import Image

import common
import inkwash
from common import QUICK, ROOT
from inkwash.systems.crystals import picture as crystal
from inkwash.systems.crystals.generation import Sample, generate
from inkwash.systems.crystals.relaxation import Judge, chgnet
from inkwash.systems.protein import picture as backbone
from inkwash.systems.protein.data import compact, load_chains, split
from inkwash.systems.protein.scaffold import Scaffold, scaffold

common.needs("ase", "biotite")
matplotlib.use("Agg")
DOCS = ROOT / "docs"
SHOWN, COLUMNS, LENGTH, STEPS = (2, 2, 64, 4) if QUICK else (12, 6, 64, 100)
PARTICLES, MOTIF = 8 if QUICK else 64, range(25, 38)  # a motif of thirteen residues, of another chain of the model's
Tile = tuple[Image.Image, str]


def sheet(title: str, tiles: Sequence[Tile], file: Path) -> None:
    """Tiles in rows of COLUMNS, each under its words."""
    rows = -(-len(tiles) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(1.5 * COLUMNS, 1.7 * rows), squeeze=False)
    figure.suptitle(title, fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (picture, words) in zip(axes.flat, tiles, strict=False):
        axis.imshow(picture)
        axis.set_title(words, fontsize=6.5, pad=2)
    save(figure, file)


def save(figure: pyplot.Figure, file: Path) -> None:
    figure.tight_layout()
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def natives(file: Path | None) -> list[np.ndarray]:
    """Held-out chains of 64 to 80 residues; in a quick run random walks."""
    if QUICK:
        steps = np.random.default_rng(0).normal(size=(SHOWN, LENGTH, 3, 3))
        return list(steps.cumsum(1))
    held_out = split([chain for chain in load_chains(file) if len(chain.atoms) <= 100 and compact(chain)])[2]
    return [chain.atoms for chain in held_out if 64 <= len(chain.atoms) <= 80][:SHOWN]


def backbones(model: inkwash.systems.base.Model, chains: Path | None) -> None:
    made = [(backbone.picture_of(one), f"seed {i}") for i, one in enumerate(model.sample([LENGTH] * SHOWN, seed=0))]
    native = [(backbone.picture_of(one), f"native, {len(one)} residues") for one in natives(chains)]
    title = f"Above: backbones of {LENGTH} residues as they come. Below: native ones"
    sheet(title, made + native, DOCS / "backbones.png")


def filters(model: inkwash.systems.base.Model) -> None:
    """The effective particles of a filter and its first ancestors, step by step, by two methods."""
    motif = model.sample([LENGTH], seed=1000, noise_scale=1.0)[0][MOTIF.start : MOTIF.stop].reshape(-1, 3) / 10
    where = range(3 * MOTIF.start, 3 * MOTIF.stop)
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 2.8))
    for method, color in (("smcdiff", "#1f6f8b"), ("tds", "#c8553d")):
        options = {"method": method, "count": PARTICLES, "device": "cpu"}
        found = scaffold(model.denoiser, motif, where, 3 * LENGTH, model.grid(STEPS), [0], **options)[0]
        steps = np.arange(1, len(found.ess) + 1)
        left = [len(np.unique(lines)) for lines in lineages(found)]
        axes[0].plot(steps, found.ess, color=color, linewidth=1, label=method)
        axes[1].plot(steps, left, color=color, linewidth=1, label=method)
        print(f"{method}: median ESS {np.median(found.ess):.1f} of {PARTICLES}, {left[-1]} first ancestors")
    axes[0].axhline(PARTICLES / 2, color="grey", linewidth=0.5, linestyle=":")
    for axis, words in zip(axes, ("effective particles (ESS)", "first ancestors left"), strict=True):
        axis.set(xlabel="step", ylim=(0, 1.03 * PARTICLES))
        axis.set_title(f"{words}, of {PARTICLES}", fontsize=9)
        axis.legend(frameon=False, fontsize=8)
    save(figure, DOCS / "scaffold-filter.png")


def lineages(found: Scaffold) -> list[np.ndarray]:
    """After each step, the first ancestor of each particle."""
    first, lines = np.arange(PARTICLES), []
    for ancestors in found.ancestors:
        first = first[ancestors]
        lines.append(first)
    return lines


def crystals(judge: Judge | None) -> None:
    """As they are drawn, and as CHGNet relaxes them; in a quick run not relaxed."""
    options = {"steps": 3} if QUICK else {}
    samples = generate(inkwash.load("perov"), SHOWN, seed=0, judge=judge, **options).samples
    tiles = [tile(sample, relaxed) for relaxed in (False, True) for sample in samples]
    title = "Above: crystals of perov as they are drawn. Below: the same, relaxed by CHGNet, and the energy released"
    sheet(title, tiles, DOCS / "crystals.png")


def tile(sample: Sample, relaxed: bool) -> Tile:
    words = f"seed {sample.seed}"
    if relaxed and sample.relaxed:
        words = f"{sample.relaxed.drop:.2f} eV an atom" + ("" if sample.relaxed.converged else ", goes on")
        print(f"seed {sample.seed}: {words}")
    return crystal.picture_of(sample.final if relaxed else sample.crystal), words


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--chains", type=Path, help="the chains that `backbone` was trained on")
    given = options.parse_args()
    if given.chains is None and not QUICK:
        options.error("--chains is needed: native backbones are those that were held out")
    model = inkwash.load("backbone")
    backbones(model, given.chains)
    filters(model)
    crystals(None if QUICK else chgnet())


if __name__ == "__main__":
    main()
