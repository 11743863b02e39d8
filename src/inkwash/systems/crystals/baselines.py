"""What a model of crystals has to beat: crystals that take no learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inkwash.systems.crystals.data import Crystal


def random_crystals(training: Sequence[Crystal], n: int, seed: int = 0) -> list[Crystal]:
    """n crystals of the training data, each with other elements of these data at random for its own and the volume of
    another one of as many atoms; where the data have one element only, with its atoms at random places instead."""
    rng = np.random.default_rng(seed)
    elements = np.unique(np.concatenate([crystal.numbers for crystal in training]))
    out = []
    for i in rng.integers(len(training), size=n):
        crystal = training[i]
        sized = [other for other in training if len(other.numbers) == len(crystal.numbers)]
        volume = np.linalg.det(sized[rng.integers(len(sized))].lattice)
        lattice = crystal.lattice * (volume / np.linalg.det(crystal.lattice)) ** (1 / 3)
        crystal = Crystal(lattice, crystal.coordinates, crystal.numbers)
        kinds, places = np.unique(crystal.numbers, return_inverse=True)
        if len(elements) > 1:
            crystal = crystal._replace(numbers=rng.choice(elements, len(kinds), replace=False)[places])
        else:
            crystal = crystal._replace(coordinates=rng.random(crystal.coordinates.shape))
        out.append(crystal)
    return out


def substitute(numbers: np.ndarray, training: Sequence[Crystal], n: int, rng: np.random.Generator) -> list[Crystal]:
    """n crystals of these atoms: each on the sites of a random crystal of the training data with as many atoms of
    each of its elements, whichever those are; none where the data have no such crystal."""
    kinds, counts = np.unique(numbers, return_counts=True)
    fits = [crystal for crystal in training if np.array_equal(counts_of(crystal), np.sort(counts))]
    return [place(kinds, counts, fits[rng.integers(len(fits))], rng) for _ in range(n)] if fits else []


def place(kinds: np.ndarray, counts: np.ndarray, crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The crystal with `kinds` for its own elements, each for one of which there are as many."""
    own, own_counts = np.unique(crystal.numbers, return_counts=True)
    numbers = np.empty_like(crystal.numbers)
    for count in np.unique(counts):
        for before, after in zip(own[own_counts == count], rng.permutation(kinds[counts == count]), strict=True):
            numbers[crystal.numbers == before] = after
    return Crystal(crystal.lattice, crystal.coordinates, numbers)


def counts_of(crystal: Crystal) -> np.ndarray:
    """How many atoms there are of each element, ascending."""
    return np.sort(np.unique(crystal.numbers, return_counts=True)[1])
