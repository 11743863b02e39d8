"""The simplest baseline of backbones: random compact chains with sound bonds."""

from __future__ import annotations

import numpy as np

from inkwash.systems.protein.geometry import CLASH, Array, expected_radius

BOND = 3.8  # angstrom, CA to CA
ANGLES = (85.0, 145.0)  # degrees at a CA: of 98 % of native ones
WIDE = 1.07  # times 2.2 N^0.38: the mean radius of gyration of native compact chains
TRIALS, BACK = 30, 6  # places tried for a residue, and how many are taken back where none will do


def random_chain(length: int, seed: int) -> Array:
    """(L, 1, 3) angstroms: CA of a walk that avoids itself, no two residues three or more apart within 4 angstroms,
    in a ball whose radius of gyration is that of native chains; bonds are 3.8, angles are uniform over the native
    range, dihedrals over all."""
    rng = np.random.default_rng(seed)
    reach = WIDE * expected_radius(length) * (5 / 3) ** 0.5
    chain = [rng.normal(size=3)]
    while len(chain) < length:
        for _ in range(TRIALS):
            place = _next(chain, rng)
            if np.linalg.norm(place) < reach and _is_free(place, chain):
                chain.append(place)
                break
        else:
            del chain[max(1, len(chain) - BACK) :]
    return np.array(chain)[:, None]


def _is_free(place: Array, chain: list[Array]) -> bool:
    others = np.array(chain[:-2])
    return bool(not len(others) or (((others - place) ** 2).sum(1) >= CLASH[1] ** 2).all())


def _next(chain: list[Array], rng: np.random.Generator) -> Array:
    """A place for the next CA: at a random angle, in a random direction about the last bond."""
    across = rng.normal(size=3)
    if len(chain) == 1:
        return np.asarray(chain[-1] + BOND * across / np.linalg.norm(across))
    bond = (chain[-1] - chain[-2]) / BOND
    across -= (across @ bond) * bond
    angle = np.radians(rng.uniform(*ANGLES))
    return np.asarray(chain[-1] + BOND * (-np.cos(angle) * bond + np.sin(angle) * across / np.linalg.norm(across)))
