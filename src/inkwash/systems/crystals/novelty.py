"""Whether a model has seen the composition of a crystal, and how far that is from its training crystals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inkwash.systems.crystals.data import Crystal
from inkwash.systems.crystals.fingerprints import composition_fingerprints, distances, fingerprints, standardise

FILE = "training.safetensors"
COMPOSITIONS = "compositions.safetensors"


def save_compositions(crystals: Sequence[Crystal], folder: Path) -> None:
    """Writes into a model's folder what `composition_is_known` reads of its training crystals: the atoms of each
    formula unit, a byte each."""
    import torch

    from inkwash.weights.files import save_tensors

    units = sorted({unit_of(crystal.numbers) for crystal in crystals})
    rows = np.zeros((len(units), max(map(len, units))), np.uint8)
    for row, unit in zip(rows, units, strict=True):
        row[: len(unit)] = unit
    save_tensors(folder / COMPOSITIONS, {"units": torch.from_numpy(rows)})


def unit_of(numbers: np.ndarray) -> tuple[int, ...]:
    """The atomic numbers of the formula unit of these atoms, ascending: O Ti Ti O O O is one of two of O O Ti."""
    kinds, counts = np.unique(numbers, return_counts=True)
    return tuple(np.repeat(kinds, counts // np.gcd.reduce(counts)).tolist())


def composition_is_known(crystals: Sequence[Crystal], folder: Path) -> np.ndarray | None:
    """(n,), whether a training crystal has the composition of each, whatever its structure; None where the model's
    folder does not say."""
    if not (folder / COMPOSITIONS).is_file():
        return None
    from safetensors.numpy import load_file

    known = {tuple(row[row > 0].tolist()) for row in load_file(folder / COMPOSITIONS)["units"]}
    return np.array([unit_of(crystal.numbers) in known for crystal in crystals])


def save(crystals: Sequence[Crystal], folder: Path, cache: Path | None = None) -> None:
    """Writes into a model's folder what `distances_to_training` reads of its training crystals: 61 numbers in float16
    and the elements of each. The fingerprints take 0.1 s a crystal, unless they lie in the cache."""
    import torch

    from inkwash.weights.files import save_tensors

    found = fingerprints(crystals, cache)
    known = np.isfinite(found.structure).all(1)
    numbers = np.zeros((len(crystals), max(len(crystal.numbers) for crystal in crystals)), np.uint8)
    for row, crystal in zip(numbers, crystals, strict=True):
        row[: len(crystal.numbers)] = np.sort(crystal.numbers)
    structure, rows = torch.from_numpy(found.structure[known]).float(), torch.from_numpy(np.unique(numbers, axis=0))
    save_tensors(folder / FILE, {"structure": structure, "numbers": rows})


def distances_to_training(crystals: Sequence[Crystal], folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """(of the structure, of the composition), (n,) each: Euclidean, to the nearest training crystal, which may be
    another for each; the composition's in standard deviations of the training crystals. NaN where a crystal has no
    fingerprint; None where the model's folder has no fingerprints. UserError without matminer.
    """
    if not (folder / FILE).is_file():
        return None
    from safetensors.numpy import load_file

    training, found = load_file(folder / FILE), fingerprints(crystals)
    seen = [Crystal(np.eye(3), np.zeros((0, 3)), row[row > 0].astype(int)) for row in training["numbers"]]
    compositions = composition_fingerprints(seen)
    standard = standardise(found, compositions).composition
    trained = standardise(found._replace(composition=compositions), compositions).composition
    structure = distances(found.structure, training["structure"].astype(float)).min(1)
    return structure, distances(standard, trained).min(1)
