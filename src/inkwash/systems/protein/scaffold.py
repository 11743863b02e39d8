"""Scaffolds: of a set of centred points a part is given by its shape, the motif, and the rest is drawn around it.

It works for any denoiser of centred points: points of atoms here, of anything elsewhere. What is drawn depends on the
motif's shape alone, never on where it lay in the chain that it was taken from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from inkwash.diffusion import Grid, Prediction, ZeroCoM, ancestral, known_region, sample
from inkwash.diffusion.arrays import by_field, like, namespace, numpy
from inkwash.diffusion.guides import trained_process
from inkwash.errors import UserError, unknown
from inkwash.inference.particles import particles
from inkwash.systems.protein.chains import BACKBONE, listed
from inkwash.systems.protein.contigs import Motif, draw_gaps

METHODS = ("smcdiff", "tds", "replacement", "fixed")
FILTERS = METHODS[:2]  # those of many particles
NM = 10.0  # angstrom: models compute in nm
PAIRS = 64 * 192**2  # of points, in a call of the network: 64 chains of 64 residues take about 0.5 GB
ALIVE = 0.25  # a median ESS above this share of the particles


class Scaffold(NamedTuple):
    """One sample, and what its filter of K particles says of it.

    points     (N, D), the motif's being exactly those that were given
    weights    (K,), those by which it was drawn in the end
    ess        (steps,), the effective number of particles before each resampling
    ancestors  (steps, K), which particle of the step before each one descends from
    """

    points: np.ndarray
    weights: np.ndarray
    ess: np.ndarray
    ancestors: np.ndarray

    @property
    def first_ancestors(self) -> int:
        """How many of the particles at the start have descendants at the end."""
        alive = np.arange(len(self.weights))
        for parents in self.ancestors[::-1]:
            alive = parents[alive]
        return len(set(alive.tolist()))

    @property
    def alive(self) -> bool:
        """Whether the median ESS is above a quarter of the particles, and two first ancestors or more are left."""
        return bool(np.median(self.ess) > ALIVE * len(self.weights)) and self.first_ancestors >= 2

    def verdict(self) -> str:
        """In words; "" of a filter that lived, and of a method without one."""
        count, left = len(self.weights), self.first_ancestors
        if count == 1 or self.alive:
            return ""
        weighed = np.median(self.ess) > ALIVE * count
        why = "the particles are all kin, one draw" if weighed else "this model hardly makes such a motif"
        return (
            f"the filter died: median ESS {np.median(self.ess):.1f} of {count}, {left} first "
            f"ancestor{'s' * (left != 1)} left; {why}, and more particles or another length may help"
        )


def scaffold(
    denoise: Callable[..., Any],
    motif: np.ndarray,
    indices: Sequence[int] | np.ndarray,
    points: int,
    grid: Grid,
    seeds: Sequence[int] = (0,),
    *,
    method: str = "smcdiff",
    count: int = 64,
    threshold: float = 0.5,
    condition: Any = None,
    progress: Callable[[int, int], None] | None = None,
    device: Any = None,
) -> list[Scaffold]:
    """One scaffold of N = `points` points for each seed, each from its own filter of `count` particles.

    denoise: of point sets (batch, N, D) whose centre of mass is 0; the process of the grid is a `ZeroCoM`. It should
        not mind how a set is turned, as the motif keeps its orientation.
    motif: (M, D), in the units of the denoiser, wherever it lies; indices: (M,), which of the N points they are.
    method: "smcdiff" (Trippe et al. 2023, 2206.04119): one noised path of the motif for each filter, put into all
            particles, which are weighted by how well it agrees with their next step. Exact for many particles where
            steps are many.
        "tds" (Wu et al. 2023, 2306.17775): each particle's motif goes to the given one by itself, the others are
            moved by the gradient of its likelihood, whatever its place, and weights make both good. Exact for many
            particles in any number of steps; needs torch and a network that has gradients.
        "replacement" (2011.13456): the noised motif is put in after each step. "fixed": the clean one. Neither has
            weights, and both are biased at any cost: they are here to be compared with.
    threshold: particles are resampled when their effective number falls below this share.
    condition, progress, device: as in `sample`.

    >>> found = scaffold(denoise, motif, range(20, 30), 64, uniform(process, 200), seeds=[7])[0]
    >>> found.points, found.verdict()

    Raises UserError for a motif that does not fit, and DiffusionError where every particle has weight 0.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not isinstance(grid.process, ZeroCoM):
        raise UserError(f"scaffolds are of centred points: a grid of ZeroCoM is needed, not of {grid.process!r}")
    motif, where = np.asarray(motif, float), np.asarray(indices)
    centre, y, mask = _known(motif, where, points)
    denoise = in_batches(denoise, max(1, PAIRS // points**2))
    shape, options = (points, motif.shape[1]), {"progress": progress, "device": device}
    if method in FILTERS:
        exact = {"bridge": True, "gradients": True} if method == "tds" else {}
        found = particles(
            denoise, shape, grid, seeds, condition, known_region=(y, mask), count=count, threshold=threshold,
            **exact, **options,
        )  # fmt: skip
        states, weights, ess, ancestors = found.x, found.weights, found.ess.T, found.ancestors.swapaxes(0, 1)
    else:
        paste = known_region if method == "replacement" else fixed_region
        hook = paste(grid.process, y[None], mask[None])
        states = sample(denoise, shape, ancestral, grid, seeds, condition, hooks=[hook], **options)
        steps = len(grid) - 1
        weights, ess = np.ones((len(seeds), 1)), np.ones((len(seeds), steps))
        ancestors = np.zeros((len(seeds), steps, 1), int)
    x = numpy(states).astype(float)
    x += (centre - x[:, where].mean(1))[:, None]
    x[:, where] = motif
    return [Scaffold(*row) for row in zip(x, weights, ess, ancestors, strict=True)]


def fixed_region(process: Any, x0: np.ndarray, mask: np.ndarray) -> Callable[[Any, Any], Any]:
    """A hook: after each step, where `mask` is true the state is the known `x0` as it is, without noise."""

    def paste(step: Any, noise: Any) -> Any:
        return process.merge(step.x, like(x0, step.x), like(mask, step.x, namespace(step.x).bool))

    return paste


def in_batches(denoise: Callable[..., Any], size: int) -> Callable[..., Any]:
    """The denoiser of one state, called for so many samples at a time. Of each batch only the states are kept for
    gradients, and the network is called again for them, so that memory does not grow with the particles."""

    def batched(x: Any, t: Any, condition: Any = None) -> Any:
        def of_part(part: Any, first: int) -> Any:
            rows = {key: value[first : first + size] for key, value in (condition or {}).items()}
            return denoise(part, t, rows)

        if len(x) <= size:
            return denoise(x, t, condition)
        call: Any = of_part
        if getattr(x, "requires_grad", False):
            from torch.utils.checkpoint import checkpoint

            call = partial(checkpoint, of_part, use_reentrant=False)
        parts = [call(x[i : i + size], i) for i in range(0, len(x), size)]
        join = lambda *values: namespace(x).concatenate(values)  # noqa: E731
        return Prediction(*(None if own[0] is None else by_field(join, *own) for own in zip(*parts, strict=True)))

    batched.process = trained_process(denoise)  # type: ignore[attr-defined]
    return batched


def _known(motif: np.ndarray, where: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The motif's centre; the centred motif among zeros, (points, D); and where it is, (points, 1)."""
    if motif.ndim != 2 or not len(motif) or not np.isfinite(motif).all():
        raise UserError(f"a motif of shape {motif.shape}: finite coordinates (points, dimensions) are needed")
    fits = where.shape == (len(motif),) and where.dtype.kind in "iu" and len(set(where.tolist())) == len(where)
    if not (fits and where.min() >= 0 and where.max() < points):
        raise UserError(f"indices: {len(motif)} different whole numbers from 0 to {points - 1} are needed")
    if len(motif) == points:
        raise UserError(f"all of the {points} points are the motif's: nothing is left to draw")
    centre, y, mask = motif.mean(0), np.zeros((points, motif.shape[1])), np.zeros((points, 1), bool)
    y[where], mask[where] = motif - centre, True
    return centre, y, mask


class Built(NamedTuple):
    """A scaffold of a motif of residues.

    coordinates  (L, atoms, 3) angstrom, the motif's being exactly those of its file
    indices      (M,), which residues are the motif's
    contig       with the numbers that were drawn: "14/A163-181/22"
    found        what the filter says
    """

    coordinates: np.ndarray
    indices: np.ndarray
    contig: str
    found: Scaffold


def around_motif(
    model: Any,
    motif: Motif,
    lengths: tuple[int, int],
    seed: int,
    *,
    method: str = "smcdiff",
    count: int = 64,
    steps: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """One scaffold of a `BackboneModel`, of a number of residues from `lengths` (see `contigs.choose_lengths`).

    Raises UserError for a motif without the atoms that the model has.
    """
    size, per_residue = len(motif.labels), model.config["atoms"]
    places = motif.coordinates if per_residue == len(BACKBONE) else motif.coordinates[:, 1:2]
    if lacking := [label for label, atoms in zip(motif.labels, places, strict=True) if np.isnan(atoms).any()]:
        raise UserError(
            f"{listed(lacking)}: not all of N, CA and C are in the file, and this model is of whole backbones; "
            "give a file that has them"
        )
    gaps = draw_gaps(motif.gaps, lengths[0] - size, lengths[1] - size, seed)
    indices, total = motif.indices(gaps), size + sum(gaps)
    rows = (indices[:, None] * per_residue + np.arange(per_residue)).reshape(-1)
    (found,) = scaffold(
        model.denoiser, places.reshape(-1, 3) / NM, rows, per_residue * total, model.grid(steps), [seed],
        method=method, count=count, progress=progress, device=model.device,
    )  # fmt: skip
    coordinates = NM * found.points.reshape(total, per_residue, 3)
    coordinates[indices] = places
    return Built(coordinates, indices, motif.contig(gaps), found)
