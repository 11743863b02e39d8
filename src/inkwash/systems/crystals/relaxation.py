"""Crystals relaxed and judged by a potential that had no part in making them: CHGNet, or any calculator of ASE."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.extras import require
from inkwash.systems.crystals.cache import cached
from inkwash.systems.crystals.data import Crystal, to_atoms, wrap

STEPS, FORCE = 100, 0.1  # of the relaxation: at most so many; it has converged below this force, eV/A
FAILURES = (ValueError, ArithmeticError, RuntimeError, IndexError)  # of a judge, with what is no crystal


class Judge(NamedTuple):
    """A calculator of ASE, and its name, by which what it says is cached; without one, nothing is."""

    calculator: Any
    name: str = ""


class Relaxed(NamedTuple):
    """What relaxing a crystal, atoms and cell, has brought.

    crystal    as it is afterwards, its atoms in the same order
    energy     of it, eV an atom
    drop       by how much the energy has fallen, eV an atom
    force      the largest on an atom before, eV/A
    rmsd       how far atoms have moved within the cell, the root mean square in A; see `displacement`
    volume     by how much the cell's has changed: 0.1 is a tenth larger
    steps      that it took
    converged  whether forces and stress fell below the limit in these
    """

    crystal: Crystal
    energy: float
    drop: float
    force: float
    rmsd: float
    volume: float
    steps: int
    converged: bool


def chgnet() -> Judge:
    """CHGNet (Deng et al. 2023), whose weights lie in its package. UserError where it is not installed.

    An atom without neighbours within its 6 A is an error for it, not an energy.
    """
    require("judging crystals by CHGNet", "chgnet")
    with quiet():
        from chgnet.model import CHGNet, CHGNetCalculator

        model = CHGNet.load(use_device="cpu", verbose=False)
        return Judge(CHGNetCalculator(model, use_device="cpu", on_isolated_atoms="error"), f"chgnet-{model.version}")


@contextlib.contextmanager
def quiet() -> Any:
    """Without what packages print and warn of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def energies(
    crystals: Sequence[Crystal],
    judge: Judge,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """(n,) energies of crystals as they are, eV an atom; NaN where the judge fails."""
    file = cache_file(folder, judge, "energies")
    found = cached(crystals, lambda crystal: energy(crystal, judge), file, f"energies by {judge.name}", progress)
    return np.array([np.nan if x is None else x for x in found], float)


def energy(crystal: Crystal, judge: Judge) -> float | None:
    atoms = to_atoms(crystal)
    atoms.calc = judge.calculator
    with quiet():
        try:
            value = float(atoms.get_potential_energy()) / len(atoms)
        except FAILURES:
            return None
    return value if np.isfinite(value) else None


def relax_all(
    crystals: Sequence[Crystal],
    judge: Judge,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Relaxed | None]:
    """`relax` of each crystal; what is known of it in the cache's folder is not computed again."""
    file = cache_file(folder, judge, "relaxed")
    what = f"at most {STEPS} steps to {FORCE} eV/A by {judge.name}"

    def compute(crystal: Crystal) -> list[Any] | None:
        relaxed = relax(crystal, judge)
        if relaxed is None:
            return None
        arrays = [relaxed.crystal.lattice, relaxed.crystal.coordinates]
        return [*(np.round(x, 8).tolist() for x in arrays), *relaxed[1:]]

    out: list[Relaxed | None] = []
    for crystal, found in zip(crystals, cached(crystals, compute, file, what, progress), strict=True):
        if found is None:
            out.append(None)
            continue
        lattice, coordinates, *figures = found
        after = crystal._replace(lattice=np.array(lattice), coordinates=np.array(coordinates), properties={})
        out.append(Relaxed(after, *figures))
    return out


def cache_file(folder: Path | None, judge: Judge, of: str) -> Path | None:
    if folder is None or not judge.name:
        return None
    return folder / f"{of}-{re.sub(r'[^A-Za-z0-9.-]', '_', judge.name)}.jsonl"


def relax(crystal: Crystal, judge: Judge, steps: int = STEPS, fmax: float = FORCE) -> Relaxed | None:
    """The crystal relaxed by FIRE (Bitzek et al. 2006), atoms and cell together; None where the judge fails, as with
    atoms that have left all others."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    atoms = to_atoms(crystal)
    atoms.calc = judge.calculator
    with quiet():
        try:
            before = float(atoms.get_potential_energy())
            force = float(np.linalg.norm(atoms.get_forces(), axis=-1).max())
            optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
            converged = bool(optimiser.run(fmax=fmax, steps=steps))
            after = float(atoms.get_potential_energy())
        except FAILURES:
            return None
    lattice, coordinates = atoms.cell.array, atoms.get_scaled_positions(wrap=False)
    volume = float(np.linalg.det(lattice) / np.linalg.det(crystal.lattice)) - 1
    figures = [after, before, force, volume]
    if not np.isfinite(figures).all():
        return None
    return Relaxed(
        Crystal(lattice, wrap(coordinates), crystal.numbers),
        after / len(atoms),
        (before - after) / len(atoms),
        force,
        displacement(coordinates - crystal.coordinates, lattice),
        volume,
        int(optimiser.nsteps),
        converged,
    )


def displacement(moved: np.ndarray, lattice: np.ndarray) -> float:
    """The root mean square, in A, of (N, 3) fractional moves less their mean, measured in the relaxed lattice: what a
    change of the cell alone does is not in it, nor a shift of the whole."""
    moved = (moved - moved.mean(0)) @ lattice
    return float(np.sqrt((moved**2).sum(-1).mean()))


class ElementReference(NamedTuple):
    """Numbers for elements, eV: a judge's energy less theirs is an energy of formation.

    numbers  (E,), atomic numbers
    values   (E,), eV an atom
    """

    numbers: np.ndarray
    values: np.ndarray

    def formation(self, crystals: Sequence[Crystal], energies: np.ndarray) -> np.ndarray:
        """(n,), eV an atom, of energies (n,) an atom; NaN for a crystal of an element that is not in it."""
        known = [bool(np.isin(crystal.numbers, self.numbers).all()) for crystal in crystals]
        out: np.ndarray = np.where(known, energies - fractions(crystals, self.numbers) @ self.values, np.nan)
        return out


def fit_elements(
    crystals: Sequence[Crystal], energies: np.ndarray, values: np.ndarray, ridge: float = 1e-3
) -> ElementReference:
    """The element numbers mu with which a judge's energies tell values of formation best: the least
    sum of (energy - value - sum_z x_z mu_z)^2 + ridge |mu|^2, x_z the fraction of atoms that are z."""
    numbers = np.unique(np.concatenate([crystal.numbers for crystal in crystals]))
    x = fractions(crystals, numbers)
    mu = np.linalg.solve(x.T @ x + ridge * np.eye(len(numbers)), x.T @ (energies - values))
    return ElementReference(numbers, mu)


def fractions(crystals: Sequence[Crystal], numbers: np.ndarray) -> np.ndarray:
    """(n, E), which fraction of each crystal's atoms is of each of the elements."""
    return np.array([(crystal.numbers[:, None] == numbers).mean(0) for crystal in crystals])


def cross_validate(
    crystals: Sequence[Crystal], energies: np.ndarray, values: np.ndarray, folds: int = 5
) -> np.ndarray:
    """(n,), what `fit_elements` says of each crystal when it is fitted to the other folds; NaN where these lack one
    of its elements."""
    out = np.empty(len(crystals))
    for fold in range(folds):
        held = np.arange(len(crystals)) % folds == fold
        inside, outside = ([crystals[i] for i in np.flatnonzero(mask).tolist()] for mask in (~held, held))
        out[held] = fit_elements(inside, energies[~held], values[~held]).formation(outside, energies[held])
    return out
