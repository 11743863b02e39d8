"""The adapters of a picture: their files and weights, and what a recipe and a person are told of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from inkwash.errors import UserError, unknown
from inkwash.networks.adapters import Adapter, Use, load_adapter
from inkwash.networks.weight_changes import DORA_NORMS
from inkwash.systems.checkpoints.facts import ENCODERS
from inkwash.systems.checkpoints.few_step import FewStep, Sampling, few_step_of
from inkwash.systems.checkpoints.options import MAX_WEIGHT
from inkwash.weights.files import digest

NORMS = {"changed": "that of the changed weight", "original": "that of the original weight, as in ComfyUI"}


class AdapterFile(NamedTuple):
    """weight: of the U-Net's changes, 1 as they were trained; text_weight: of the text encoders', the same unless it
    is given."""

    path: str | Path
    weight: float = 1.0
    text_weight: float | None = None


AdapterFiles = Iterable[AdapterFile | tuple[Any, ...] | str | Path]
Key = tuple[Path, int, int]


class LoadedAdapter(NamedTuple):
    path: Path
    adapter: Adapter
    sha256: str
    few_step: FewStep | None
    weight: float
    text_weight: float

    @property
    def use(self) -> Use:
        return Use(self.adapter, self.weight, self.text_weight)

    @property
    def has_dora(self) -> bool:
        return any(change.magnitude for change in self.adapter.changes.values())

    @property
    def text(self) -> str:
        """What a recipe says of it."""
        weights = f"weight {self.weight:g}, of text encoders {self.text_weight:g}"
        return f"{weights}, {self.adapter.matched} of {self.adapter.total} keys, SHA-256 {self.sha256}"


def as_file(file: AdapterFile | tuple[Any, ...] | str | Path) -> AdapterFile:
    return AdapterFile(*((file,) if isinstance(file, (str, Path)) else file))


def adapter_facts(files: AdapterFiles, used: Sequence[LoadedAdapter]) -> dict[str, Any]:
    """What a recipe says of the adapters of a picture, and the files and weights that ask for it again, those
    that were given: the prompt's tags are in the prompt."""
    facts: dict[str, Any] = {"adapters": {one.path.name: one.text for one in used} or None}
    if used:
        facts["adapter"] = [{"name": one.path.name, "sha256": one.sha256} for one in used]
        facts["adapter_weight"] = [as_file(file).weight for file in files]
    return facts


def adapted_networks(components: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Those of a checkpoint that adapters change."""
    return {name: components[name] for name in ("unet", *ENCODERS) if name in components}


def load_adapters(
    files: AdapterFiles,
    components: Mapping[str, Any],
    loaded: Mapping[Key, LoadedAdapter],
) -> dict[Key, LoadedAdapter]:
    """Adapters by their files as they are now; those that are loaded are not read again. UserError for a weight out
    of its range, a file named twice, and what `load_adapter` refuses."""
    found: dict[Key, LoadedAdapter] = {}
    for file in files:
        path, weight, text_weight = as_file(file)
        path, text_weight = Path(path), weight if text_weight is None else text_weight
        for value in (weight, text_weight):
            if not (math.isfinite(value) and abs(value) <= MAX_WEIGHT):
                raise UserError(f"{path}: weight {value}: choose a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
        if not path.is_file():
            raise UserError(f"{path}: no such file: name the file of an adapter")
        status = path.stat()
        key = (path.absolute(), status.st_size, status.st_mtime_ns)
        if key in found:
            raise UserError(f"{path}: named twice: name it once, with one weight")
        if any(one.path.name == path.name for one in found.values()):  # by which recipes know them
            raise UserError(f"{path}: two adapters have this file's name: rename one")
        if (one := loaded.get(key)) is None:
            adapter = load_adapter(path, adapted_networks(components))
            one = LoadedAdapter(path, adapter, digest(path), few_step_of(path, adapter.metadata), 0.0, 0.0)
        found[key] = one._replace(weight=float(weight), text_weight=float(text_weight))
    return found


def few_step_in(adapters: Sequence[LoadedAdapter]) -> FewStep | None:
    """How the first few-step adapter is sampled; None without one that counts."""
    return next((one.few_step for one in adapters if one.few_step and one.weight), None)


def check_dora_norm(adapters: Sequence[LoadedAdapter], dora_norm: str) -> None:
    """UserError for a norm that there is not, and for one that would change nothing."""
    if dora_norm not in NORMS:
        raise unknown("dora_norm", dora_norm, NORMS)
    if dora_norm != DORA_NORMS[0] and not any(one.has_dora for one in adapters):
        raise UserError(f"dora_norm {dora_norm}: it means nothing without a DoRA among the adapters: leave it out")


def describe_adapters(adapters: Sequence[LoadedAdapter], dora_norm: str, chosen: Sampling) -> list[str]:
    """What a person is to know, a line each: how many keys of each fit, how its DoRA is read, and how a few-step one
    is sampled, or wants to be."""
    found = []
    how = f"sampler {chosen.sampler}, grid {chosen.grid}, {chosen.steps} steps, guidance {chosen.guidance:g}"
    for one in adapters:
        found.append(f"{one.path.name}: {one.adapter.matched} of {one.adapter.total} keys fit")
        found += [f"{one.path.name}: {note}" for note in one.adapter.notes]
        if one.text_weight != one.weight and all(name == "unet" for name, _ in one.adapter.changes):
            found.append(f"{one.path.name}: it changes no text encoder, so that its weight for those means nothing")
        if one.has_dora:
            found.append(f"{one.path.name}: DoRA, of whose two norms {NORMS[dora_norm]} is taken")
        if one.few_step and one.weight:
            mismatches = one.few_step.mismatches(chosen)
            message = f"wants {'; '.join(mismatches)}" if mismatches else f"is sampled as it wants: {how}"
            found.append(f"{one.path.name}: this {one.few_step.name} adapter {message}")
    return found
