"""How alike two structures are: superposition, RMSD, and TM-score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from inkwash.systems.protein.geometry import Array, alpha_carbons


def superpose(moving: Array, fixed: Array, by: Array | None = None) -> Array:
    """`moving`, turned and shifted as a rigid body onto `fixed` (points, 3) so that the sum of squared distances is
    least, without reflection (Kabsch 1976). by: which points count for that; all of them by default."""
    moving, fixed = np.asarray(moving, np.float64), np.asarray(fixed, np.float64)
    chosen = slice(None) if by is None else by
    centre, target = moving[chosen].mean(0), fixed[chosen].mean(0)
    u, _, vt = np.linalg.svd((moving[chosen] - centre).T @ (fixed[chosen] - target))
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    return np.asarray((moving - centre) @ (u @ vt) + target)


def deviations(moving: Array, fixed: Array) -> Array:
    """(points,) angstroms between each two points after superposition; chains (L, 3, 3) count each atom."""
    moving, fixed = moving.reshape(-1, 3), fixed.reshape(-1, 3)
    return np.asarray(np.linalg.norm(superpose(moving, fixed) - fixed, axis=-1))


def rmsd(moving: Array, fixed: Array) -> float:
    """The root of the mean squared deviation, after superposition."""
    return float(np.sqrt((deviations(moving, fixed) ** 2).mean()))


def mean_distance(moving: Array, fixed: Array) -> float:
    """The mean of the deviations after the same superposition, which some papers report as RMSD (Wu et al. 2023,
    2306.17775): never more than the RMSD."""
    return float(deviations(moving, fixed).mean())


def tm_score(chain: Array, reference: Array) -> float:
    """TM-align's score of two chains, 0 to 1, in units of the reference's length: above 0.5 the fold is the same
    (Zhang and Skolnick 2005). Which residues correspond is found, not given; reflections are not tried."""
    return _tm_scores(chain, reference)[1]


def _tm_scores(a: Array, b: Array) -> tuple[float, float]:
    """In units of the length of a, and of b."""
    from tmtools import tm_align

    a, b = alpha_carbons(a), alpha_carbons(b)
    found = tm_align(a, b, "A" * len(a), "A" * len(b))  # of sequences it only prints the alignment
    return float(found.tm_norm_chain1), float(found.tm_norm_chain2)


def pairwise_tm(chains: Sequence[Array]) -> Array:
    """(n (n - 1) / 2,): the TM-score of every pair, the mean over the two lengths. Low values are diverse chains."""
    return np.array([np.mean(_tm_scores(a, b)) for a, b in combinations(chains, 2)])


def nearest(
    chains: Sequence[Array], training: Sequence[Array], progress: Callable[[int, int], None] | None = None
) -> Array:
    """(n,): each chain's largest TM-score, in units of its own length, to a training chain. Low values are new."""
    out = []
    for chain in chains:
        out.append(max(_tm_scores(chain, other)[0] for other in training))
        if progress is not None:
            progress(len(out), len(chains))
    return np.array(out)
