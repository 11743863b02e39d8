"""Chains of proteins: N, CA and C of each residue, read, selected and split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.protein.chains import Note, listed

BREAK = 4.2  # angstrom between successive CA: a chain that is longer there is broken
CHOICES, TABLE = 0.1, 0.3  # shares of the hash below which a chain is for choices, for the table


class Chain(NamedTuple):
    """name: of the PDB entry and the chain, 1ABC_A. atoms: (L, 3, 3) float32, N, CA and C of each residue, in
    angstrom. sequence: a letter a residue; "" if there is none."""

    name: str
    atoms: np.ndarray
    sequence: str = ""


def load_chains(path: str | Path, note: Note | None = None) -> list[Chain]:
    """Of a folder of PDB and mmCIF files; or of an .npz with `names` (chains,), `offsets` (chains + 1,), `ncac`
    (residues, 3, 3) in angstrom and perhaps `seq` (residues,) as ASCII codes.

    UserError for what is neither, and for arrays that do not fit together. `note` hears which files cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return load_folder(path, note)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names, offsets, atoms = arrays["names"], arrays["offsets"], arrays["ncac"]
            letters = arrays.get("seq")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no .npz of chains, nor a folder of PDB and mmCIF files ({error})") from None
    fits = atoms.shape[1:] == (3, 3) and len(offsets) == len(names) + 1 and offsets[0] == 0
    if not (fits and offsets[-1] == len(atoms) and (np.diff(offsets) > 0).all() and np.isfinite(atoms).all()):
        raise UserError(f"{path}: names, offsets and ncac do not fit together; offsets say where each chain begins")
    if letters is not None and len(letters) != len(atoms):
        raise UserError(f"{path}: {len(letters)} letters in seq for {len(atoms)} residues")
    return [
        Chain(
            str(name), atoms[a:b].astype(np.float32), "" if letters is None else bytes(letters[a:b]).decode("ascii")
        )
        for name, a, b in zip(names, offsets[:-1], offsets[1:], strict=True)
    ]


def load_folder(folder: Path, note: Note | None = None) -> list[Chain]:
    """All chains of the PDB and mmCIF files of a folder and those below it, named after file and chain; NaN where
    an atom is missing. Files that cannot be read are left out, and said.

    Raises UserError where none can be read.
    """
    from inkwash.systems.protein.files import read_chains, structure_files

    found, faults = list[Chain](), dict[str, str]()
    for file in structure_files(folder):
        try:
            chains = read_chains(file)
        except UserError as error:
            faults[str(file.relative_to(folder))] = str(error)
        else:
            found += [
                Chain(f"{file.stem}_{name}", chain.coordinates.astype(np.float32), chain.sequence)
                for name, chain in chains.items()
            ]
    if faults:
        first = f"of the first: {next(iter(faults.values()))}"
        if not found:
            raise UserError(f"{folder}: none of its files can be read; {first}")
        if note:
            note(f"left out, {counted(len(faults), 'file')} that cannot be read: {listed([*faults])}; {first}")
    return found


def usable(chains: Sequence[Chain], shortest: int, longest: int, note: Note | None = None) -> list[Chain]:
    """Those of so many residues that are whole and compact; of the others `note` hears how many they are, why, and
    the first names."""
    faults: dict[str, list[str]] = {}
    for chain in chains:
        faults.setdefault(fault(chain, shortest, longest), []).append(chain.name)
    for reason, names in faults.items() if note else ():
        if reason and note:
            note(f"left out, {reason}: {counted(len(names), 'chain')}, {listed(names)}")
    return [chain for chain in chains if not fault(chain, shortest, longest)]


def counted(number: int, what: str) -> str:
    """ "1 chain", "2 chains"."""
    return f"{number} {what}{'s' * (number != 1)}"


def radius_of_gyration(ca: np.ndarray) -> float:
    """Of the points (L, 3): sqrt(mean |x - mean x|^2)."""
    return float(np.sqrt(((ca - ca.mean(0)) ** 2).sum(1).mean()))


def compact(chain: Chain) -> bool:
    """Whether a chain is whole, and compact: see `fault`."""
    return not fault(chain)


def fault(chain: Chain, shortest: int = 1, longest: int = 10**9) -> str:
    """Why a chain is not learned from; "" of one that is.

    The radius of gyration of its CA is to be below 1.3 times the usual one of a globule, 2.2 N^0.38 angstrom
    (Skolnick et al. 1997), since a model of rods makes rods.
    """
    ca = chain.atoms[:, 1].astype(float)
    if not shortest <= len(ca) <= longest:
        return f"fewer than {shortest} residues" if len(ca) < shortest else f"more than {longest} residues"
    if not np.isfinite(chain.atoms).all():
        return "N, CA or C of a residue missing"
    if len(ca) > 1 and np.linalg.norm(np.diff(ca, axis=0), axis=1).max() >= BREAK:
        return f"broken, CA {BREAK} A or more apart"
    return "" if radius_of_gyration(ca) < 1.3 * 2.2 * len(ca) ** 0.38 else "not compact"


def split(chains: Sequence[Chain]) -> tuple[list[Chain], list[Chain], list[Chain]]:
    """(training, choices, table): seven tenths, a tenth, a fifth, by a hash of names, whatever else is in the list.

    Chains of one PDB entry, or of one sequence, are of one family, which stays together; its first name is hashed.
    """
    families = _families(chains)
    first: dict[int, str] = {}
    for family, chain in zip(families, chains, strict=True):
        first[family] = min(first.get(family, chain.name), chain.name)
    parts: tuple[list[Chain], list[Chain], list[Chain]] = ([], [], [])
    for family, chain in zip(families, chains, strict=True):
        share = int.from_bytes(hashlib.sha256(first[family].encode()).digest()[:8], "big") / 2**64
        parts[1 if share < CHOICES else 2 if share < TABLE else 0].append(chain)
    return parts


def _families(chains: Sequence[Chain]) -> list[int]:
    """The number of each chain's family."""
    parent = list(range(len(chains)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]  # from left to right: halves the path, then walks it
        return i

    seen: dict[tuple[str, str], int] = {}
    for i, chain in enumerate(chains):
        keys = [("entry", chain.name.rsplit("_", 1)[0])] + [("sequence", chain.sequence)] * bool(chain.sequence)
        for key in keys:
            parent[root(i)] = root(seen.setdefault(key, i))
    return [root(i) for i in range(len(chains))]


def windows(chains: Sequence[Chain], shortest: int, longest: int, seed: int = 0) -> list[Chain]:
    """A compact stretch of each chain that is longer than `longest`, of random length and place, if one is found in
    ten trials: short chains are rare."""
    rng, found = np.random.default_rng(seed), list[Chain]()
    for chain in chains:
        for _ in range(10 if len(chain.atoms) > longest else 0):
            length = int(rng.integers(shortest, longest + 1))
            start = int(rng.integers(0, len(chain.atoms) - length + 1))
            window = Chain(chain.name, chain.atoms[start : start + length], chain.sequence[start : start + length])
            if compact(window):
                found.append(window)
                break
    return found


def points(chain: Chain, atoms: int) -> np.ndarray:
    """What the model's state holds of a chain: centred points (atoms L, 3) in nm, residue by residue; `atoms` 3, or 1
    for CA alone."""
    chosen = chain.atoms[:, 1:2] if atoms == 1 else chain.atoms
    x = chosen.reshape(-1, 3).astype(np.float64) / 10
    centred: np.ndarray = x - x.mean(0)
    return centred.astype(np.float32)


def batches_by_length(lengths: np.ndarray, size: int, seed: int, spread: int = 4) -> Callable[[int], np.ndarray]:
    """A function from the step to the rows of its batch: chains of lengths within `spread` of that of one chosen
    uniformly, so many that the pairs of residues are those of `size` chains of 64."""

    def batch(step: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step))))
        length = lengths[rng.integers(len(lengths))]
        near = np.flatnonzero(abs(lengths - length) <= spread)
        rows: np.ndarray = rng.choice(near, max(1, round(size * 64**2 / int(length) ** 2)))
        return rows

    return batch
