"""Handedness: distances, and what is made of them, are the same in a mirror; the sign of a dihedral is not.

Proteins' helices wind to the right. A chain that is a mirror image as a whole is mended by one reflection; one whose
helices wind both ways is not, so that is counted chain by chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from inkwash.systems.protein.geometry import Array, alpha_carbons, dihedrals

HELIX = (30.0, 80.0)  # degrees of the dihedral of four CA: about 50 in alpha and 3-10 helices
TURN = 4  # successive dihedrals of that kind, so of seven CA, make a helix


def windings(chain: Array) -> Array:
    """(L - 3,): of each four CA 1 where they wind to the right as in a helix, -1 to the left, 0 otherwise."""
    found = dihedrals(alpha_carbons(chain))
    return np.where((abs(found) > HELIX[0]) & (abs(found) < HELIX[1]), np.sign(found), 0).astype(np.int64)


def helices(chain: Array) -> tuple[int, int]:
    """How many helices of seven or more CA wind to the right, and to the left."""
    runs = [(way, len(list(run))) for way, run in groupby(windings(chain).tolist())]
    right, left = (sum(way == sign and length >= TURN for way, length in runs) for sign in (1, -1))
    return right, left


def right_share(chains: Sequence[Array]) -> float:
    """Of all helical dihedrals the share that winds to the right: 0.93 in native chains; NaN without any."""
    found = np.concatenate([windings(chain) for chain in chains])
    return float((found == 1).sum() / (found != 0).sum()) if found.any() else float("nan")


def is_mixed(chain: Array) -> bool:
    """Whether the chain has helices of both hands, which no reflection mends."""
    return all(helices(chain))


def mirrored(chain: Array) -> Array:
    """The chain's mirror image."""
    return np.asarray(chain * np.array([1.0, 1.0, -1.0]), chain.dtype)
