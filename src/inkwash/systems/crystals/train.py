"""Training of a model of crystals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.diffusion.process import wrap
from inkwash.errors import UserError, unknown
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.crystals.data import Crystal, split
from inkwash.systems.crystals.elements import SYMBOLS
from inkwash.systems.crystals.engines import ENGINES
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.model import CrystalModel, new_network
from inkwash.systems.crystals.novelty import save_compositions
from inkwash.systems.crystals.vae_networks import Options
from inkwash.training.build import build
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Depth, Width
from inkwash.training.settings import Settings

FEWEST = 10  # crystals that anything can be learned from
LOW = 0.02  # the quantile of a property that `minimise` asks for
TOGETHER = 16  # batches whose crystals are parted by size
PADDED = ("coordinates", "kinds", "mask")


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "crystals".

    data        see `read_crystals`; seven tenths are learned from, on a tenth the held-out loss is measured
    engine      joint or cdvae; see `engines`
    cdvae       what is the second one's own
    properties  columns of the data that the model can be conditioned on; none given: all
    """

    task: Literal["crystals"]
    data: Path
    fit: Settings
    engine: str = "joint"
    properties: list[str] | None = None
    width: Width = 64
    layers: Depth = 4
    cdvae: Options | None = None


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model."""
    crystals = read_crystals(recipe.data, lambda text: monitor.tell(Note(text)))
    training_set, held_out, _ = split(crystals)
    torch.manual_seed(recipe.fit.seed)
    facts = describe(recipe, training_set)
    model = CrystalModel(build(lambda: new_network(facts), {}, "the recipe"), facts)
    known = [crystal for crystal in held_out if knows(model, crystal)]
    if len(known) < len(held_out):
        strange = "have an element or a size that is not in the training part"
        monitor.tell(Note(f"{len(held_out) - len(known)} of {len(held_out)} held-out crystals {strange}: left out"))
    table, held_out_table = encode(model, training_set), encode(model, known)
    network: Any = model.network
    network.set_scale(table["lattice"], table["mask"].sum(1))
    batch, held_out_batches = loader(recipe, table), []
    if known:
        rows = whole_batches(np.arange(len(known)), recipe.fit.batch_size)
        held_out_batches = [take(held_out_table, part) for part in rows]

    def preview(_: nn.Module, step: int) -> str:
        return " / ".join(map(one_line, model.generate(3)))

    def save(target: Path) -> None:
        model.save(target)
        save_compositions(training_set, target)

    fit(
        model.network, model.engine.loss(model.network), batch, folder, recipe.fit,
        preview, save, folder / "model", monitor, held_out=held_out_batches,
    )  # fmt: skip


def describe(recipe: Recipe, crystals: Sequence[Crystal]) -> dict[str, Any]:
    """What a model of these crystals knows of them: see `CrystalModel`."""
    if recipe.engine not in ENGINES:
        raise unknown("engine", recipe.engine, ENGINES)
    if len(crystals) < FEWEST:
        raise UserError(f"{recipe.data}: {len(crystals)} crystals to learn from; at least {FEWEST} are needed")
    numbers = sorted({int(number) for crystal in crystals for number in crystal.numbers})
    columns = list(dict.fromkeys(name for crystal in crystals for name in crystal.properties))
    for name in recipe.properties or ():
        if name not in columns:
            raise unknown(f"property of {recipe.data}", name, columns)
    sizes = Counter(len(crystal.numbers) for crystal in crystals)
    own: dict[str, Any] = {}
    if recipe.engine == "cdvae":
        own = {"atoms": max(sizes)} | asdict(recipe.cdvae or Options())
    elif recipe.cdvae is not None:
        raise UserError(
            f"[cdvae] means nothing to the engine {recipe.engine}: leave it out, or choose engine = 'cdvae'"
        )
    return {
        "engine": recipe.engine,
        "elements": [SYMBOLS[number] for number in numbers],
        "atoms": {str(size): sizes[size] for size in sorted(sizes)},
        "properties": {
            name: statistics([crystal.properties[name] for crystal in crystals if name in crystal.properties])
            for name in (columns if recipe.properties is None else recipe.properties)
        },
        "network": {"width": recipe.width, "layers": recipe.layers} | own,
        "steps": ENGINES[recipe.engine].steps,
        "guidance": 5.0,
    }


def statistics(values: list[float]) -> dict[str, float]:
    """Mean, spread, and the lowest, low and highest value of a property; where all are one, the spread is 1."""
    numbers = {"mean": np.mean(values), "std": np.std(values) or 1.0, "low": np.quantile(values, LOW)}
    return {key: float(value) for key, value in (numbers | {"min": min(values), "max": max(values)}).items()}


def knows(model: CrystalModel, crystal: Crystal) -> bool:
    """Whether the model has its elements and room for its atoms."""
    symbols = {SYMBOLS[number] for number in crystal.numbers}
    return symbols <= {*model.elements} and len(crystal.numbers) <= max(model.counts)


def encode(model: CrystalModel, crystals: Sequence[Crystal]) -> dict[str, Tensor]:
    """Padded tables: lattice (n, 3, 3), coordinates (n, N, 3), kinds (n, N), mask (n, N) and standardised properties
    (n, P), NaN where there is none."""
    kind = {SYMBOLS.index(symbol): i for i, symbol in enumerate(model.elements)}
    n, most = len(crystals), max(model.counts)
    coordinates, kinds = torch.zeros(n, most, 3), torch.zeros(n, most, dtype=torch.long)
    mask, lattice = torch.zeros(n, most, dtype=torch.bool), torch.zeros(n, 3, 3)
    properties = torch.full((n, len(model.properties)), torch.nan)
    for i, crystal in enumerate(crystals):
        size = len(crystal.numbers)
        lattice[i] = torch.tensor(crystal.lattice)
        coordinates[i, :size] = wrap(torch.tensor(crystal.coordinates, dtype=torch.float32), 1.0)
        kinds[i, :size] = torch.tensor([kind[int(number)] for number in crystal.numbers])
        mask[i, :size] = True
        for j, (name, facts) in enumerate(model.properties.items()):
            if name in crystal.properties:
                properties[i, j] = (crystal.properties[name] - facts["mean"]) / facts["std"]
    return {"lattice": lattice, "coordinates": coordinates, "kinds": kinds, "mask": mask, "properties": properties}


def loader(recipe: Recipe, table: dict[str, Tensor]) -> Callable[[int], dict[str, Any]]:
    """Batch k of the training crystals; half of them, by chance, inverted: x -> -x, as good a crystal in the same
    cell; and which share of the training it is, "done"."""
    order = by_size(batches(len(table["mask"]), recipe.fit.batch_size, recipe.fit.seed), table["mask"].sum(1).numpy())
    total = recipe.fit.steps * recipe.fit.grad_accumulation

    def batch(k: int) -> dict[str, Any]:
        chosen = take(table, order(k))
        inverted = torch.rand(len(chosen["mask"]), generator=torch.Generator().manual_seed(k)) < 0.5
        there = inverted[:, None, None] & chosen["mask"][..., None]
        coordinates = wrap(torch.where(there, -chosen["coordinates"], chosen["coordinates"]), 1.0)
        return chosen | {"coordinates": coordinates, "done": k / total}

    return batch


def by_size(order: Callable[[int], np.ndarray], sizes: np.ndarray) -> Callable[[int], np.ndarray]:
    """The same batches, but of `TOGETHER` at a time the crystals are parted by size, so that little is padded."""
    if sizes.min() == sizes.max():
        return order

    def sorted_order(k: int) -> np.ndarray:
        group = k // TOGETHER
        rows = np.stack([order(group * TOGETHER + i) for i in range(TOGETHER)])
        rows = rows.reshape(-1)[np.argsort(sizes[rows.reshape(-1)], kind="stable")].reshape(rows.shape)
        batch: np.ndarray = rows[np.random.default_rng(group).permutation(TOGETHER)[k % TOGETHER]]
        return batch

    return sorted_order


def take(table: dict[str, Tensor], rows: np.ndarray) -> dict[str, Tensor]:
    """These crystals, padded to the largest of them."""
    chosen = {key: values[torch.from_numpy(rows)] for key, values in table.items()}
    longest = int(chosen["mask"].sum(1).max())
    return {key: values[:, :longest] if key in PADDED else values for key, values in chosen.items()}


def one_line(crystal: Crystal) -> str:
    """Its formula and the lengths of its cell."""
    counts = Counter(crystal.numbers.tolist())
    formula = "".join(f"{SYMBOLS[number]}{count if count > 1 else ''}" for number, count in counts.items())
    return f"{formula}: {', '.join(f'{length:.2f}' for length in np.linalg.norm(crystal.lattice, axis=1))} A"


def default_recipe(file: Path) -> Recipe:
    """For `inkwash train crystals`: the recipe for crystals of the user's."""
    settings = Settings(20_000, 64, 1e-3, warmup=300, lr_decay="cosine", ema_decay=0.999)
    return Recipe("crystals", file, settings)
