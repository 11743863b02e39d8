"""Small data for the tests of this room."""

from pathlib import Path

import numpy as np

from inkwash.systems.protein.data import Chain

REAL = Path(__file__).parents[4] / "shared/data/proteins/cgdms_small_chains_train.npz"


def globule(length: int, seed: int = 0) -> np.ndarray:
    """(L, 3, 3): a random compact walk of bonds of 3.8 angstrom, N and C beside each CA."""
    rng = np.random.default_rng(seed)
    ca = [np.zeros(3)]
    while len(ca) < length:
        steps = rng.normal(size=(20, 3)) - 0.1 * (ca[-1] - np.mean(ca, 0))
        ca.append(min((ca[-1] + 3.8 * s / np.linalg.norm(s) for s in steps), key=np.linalg.norm))
    side = rng.normal(size=(2, length, 3))
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    return np.stack([ca + 1.46 * side[0], np.array(ca), ca + 1.52 * side[1]], 1).astype(np.float32)


def chains(count: int, shortest: int = 20, longest: int = 30) -> list[Chain]:
    lengths = np.random.default_rng(1).integers(shortest, longest + 1, count)
    return [Chain(f"{i:04d}_A", globule(int(length), i), "") for i, length in enumerate(lengths)]


def save(path: Path, of: list[Chain]) -> Path:
    offsets = np.cumsum([0] + [len(chain.atoms) for chain in of])
    atoms = np.concatenate([chain.atoms for chain in of])
    np.savez(path, names=np.array([chain.name for chain in of]), offsets=offsets, ncac=atoms)
    return path
