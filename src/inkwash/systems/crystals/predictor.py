"""What a crystal's properties are likely to be: a few small networks that agree, or do not. They lie beside a model
that makes crystals, which learns nothing from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.crystals.data import Crystal, split
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.model import PAIRS, CrystalModel
from inkwash.systems.crystals.networks import PeriodicNetwork
from inkwash.systems.crystals.train import Recipe as ModelRecipe
from inkwash.systems.crystals.train import describe, encode, knows, loader, take
from inkwash.systems.crystals.vae_networks import mlp, pooled
from inkwash.training.data import whole_batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Depth, Width
from inkwash.training.settings import Settings
from inkwash.weights.files import load_into, save_json, save_tensors
from inkwash.weights.shipped import load_json

MEMBERS = 3
WEIGHTS, FACTS = "predictor.safetensors", "predictor.json"
Batch = dict[str, Any]


class Regressor(nn.Module):
    """Crystals -> properties (B, P), standardised: the mean of what the atoms are, through one hidden layer."""

    def __init__(self, elements: int, properties: int, width: int, layers: int) -> None:
        super().__init__()
        self.kinds = nn.Embedding(elements, width)
        self.body = PeriodicNetwork(width, layers, context=1)
        self.head = mlp(width, width, properties)

    def forward(self, batch: Batch) -> Tensor:
        none = torch.zeros_like(batch["lattice"][:, 0, :1])
        kinds, mask = self.kinds(batch["kinds"]), batch["mask"]
        features, _ = self.body(kinds, batch["coordinates"], batch["lattice"], mask, none)
        properties: Tensor = self.head(pooled(features, mask))
        return properties


class Predictor:
    """An ensemble of regressors.

    config: elements, atoms and properties as of a `CrystalModel`; width, layers and members of the networks.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.elements, self.properties = list(config["elements"]), dict(config["properties"])
        self.counts = {int(atoms): count for atoms, count in config["atoms"].items()}
        sizes = (len(self.elements), len(self.properties), config["width"], config["layers"])
        self.network = nn.ModuleList(Regressor(*sizes) for _ in range(config["members"]))

    @torch.no_grad()
    def predict(self, crystals: Sequence[Crystal]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Of each property, in its own unit, the mean over the members, (n,), and their standard deviation, (n,): how
        far they disagree, which is less than how wrong they may be.

        Raises UserError for a crystal of more atoms than were seen, or of another element.
        """
        of: Any = self
        for place, crystal in enumerate(crystals, 1):
            if not knows(of, crystal):
                seen = f"up to {max(self.counts)} atoms of {', '.join(sorted(self.elements))}"
                raise UserError(f"crystal {place} {crystal.name}: the predictor has seen {seen} only")
        device, size = next(self.network.parameters()).device, max(1, PAIRS // max(self.counts) ** 2)
        found = np.zeros((len(self.network), len(crystals), len(self.properties)))
        for start in range(0, len(crystals), size):
            batch = {key: value.to(device) for key, value in encode(of, crystals[start : start + size]).items()}
            for row, member in zip(found, self.network, strict=True):
                row[start : start + size] = member(batch).numpy(force=True)
        scales = [(facts["mean"], facts["std"]) for facts in self.properties.values()]
        return {
            name: (mean + std * found[..., j].mean(0), std * found[..., j].std(0, ddof=min(1, len(found) - 1)))
            for j, (name, (mean, std)) in enumerate(zip(self.properties, scales, strict=True))
        }

    def save(self, folder: Path) -> None:
        """Writes predictor.safetensors, in float16, and predictor.json."""
        save_tensors(folder / WEIGHTS, self.network.state_dict())
        save_json(folder / FACTS, self.config)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Predictor | None:
        """The predictor in a model's folder, None where there is none. UserError for one that is broken."""
        if not (folder / FACTS).is_file():
            return None
        facts = load_json(folder / FACTS)
        try:
            predictor = cls(facts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / FACTS}: broken ({error}); train the predictor again") from None
        load_into(predictor.network, folder / WEIGHTS)
        predictor.network.eval().to(device)
        return predictor


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "predictor".

    data   what the model was trained on; see `read_crystals`. It is parted in the same way
    model  its folder, or its shipped name; the predictor is written into a copy of it
    """

    task: Literal["predictor"]
    data: Path
    model: Path
    fit: Settings
    width: Width = 48
    layers: Depth = 2


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes the model with its predictor into folder/model."""
    model = CrystalModel.load(recipe.model)
    crystals = read_crystals(recipe.data, lambda text: monitor.tell(Note(text)))
    training_set, held_out, _ = split(crystals)
    same = ModelRecipe("crystals", recipe.data, recipe.fit, width=recipe.width, layers=recipe.layers)
    facts = describe(same, training_set)
    if not facts["properties"]:
        raise UserError(f"{recipe.data}: no column of numbers beside the crystals, so there is nothing to predict")
    config = {name: facts[name] for name in ("elements", "atoms", "properties")}
    torch.manual_seed(recipe.fit.seed)
    predictor = Predictor(config | {"width": recipe.width, "layers": recipe.layers, "members": MEMBERS})
    of: Any = predictor
    table = encode(of, training_set)
    known = encode(of, [crystal for crystal in held_out if knows(of, crystal)])
    seeds = [replace(recipe.fit, seed=(recipe.fit.seed + i) % 2**64) for i in range(MEMBERS)]
    loaders = [loader(replace(same, fit=settings), table) for settings in seeds]  # each has an order of its own
    rows = whole_batches(np.arange(len(known["mask"])), recipe.fit.batch_size) if len(known["mask"]) else []

    def save(folder: Path) -> None:
        model.save(folder)
        predictor.save(folder)

    fit(
        predictor.network,
        lambda batches, _: torch.stack([*map(error, predictor.network, batches)]).mean(),
        lambda k: [batch(k) for batch in loaders], folder, recipe.fit, None, save, folder / "model", monitor,
        held_out=[[take(known, part)] * MEMBERS for part in rows],
    )  # fmt: skip


def error(member: nn.Module, batch: Batch) -> Tensor:
    """The mean absolute error of the standardised properties that are known."""
    wanted = batch["properties"]
    there = ~wanted.isnan()
    absolute = torch.where(there, member(batch) - wanted.nan_to_num(), 0).abs()
    mean: Tensor = absolute.sum() / there.sum().clamp(min=1)
    return mean
