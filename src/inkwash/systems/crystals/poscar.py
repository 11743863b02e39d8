"""POSCAR, as VASP 5 and 4 write it: what pymatgen would pass over or read as something else is refused."""

from __future__ import annotations

import re
import warnings

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.crystals.cif import NUMBER, in_a_line
from inkwash.systems.crystals.data import Crystal, from_structure
from inkwash.systems.crystals.elements import SYMBOLS


def crystal_of(lines: list[str], name: str) -> Crystal:
    from pymatgen.io.vasp.inputs import Poscar

    counts, names = lines[5].split() if len(lines) > 5 else [], lines[0].split() if lines else []
    is_version_4 = all(count.isdigit() for count in counts)  # whose files keep the elements in the title, if anywhere
    if is_version_4 and len(names) == len(counts) and all(name in SYMBOLS[1:] for name in names):
        lines, is_version_4 = [*lines[:5], " ".join(names), *lines[5:]], False
    lines = with_factor(lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = Poscar.from_str("\n".join(lines), read_velocities=False)
        except Exception as error:  # pymatgen raises whatever it stumbles over
            raise UserError(f"no POSCAR ({in_a_line(error)})") from None
    if not read.true_names:
        raise UserError(f"no elements are named; write them in a line above '{' '.join(counts)}', as Ba Ti O")
    if not is_version_4:
        check(lines, len(read.structure))
    return from_structure(read.structure, {}, name)


def with_factor(lines: list[str]) -> list[str]:
    """With a factor of length in place of a volume, which is written as a negative factor and which pymatgen takes
    Cartesian places times."""
    try:
        factor, matrix = float(lines[1]), np.array([line.split()[:3] for line in lines[2:5]], float)
    except (ValueError, IndexError):
        return lines  # no POSCAR, which the reader will say
    volume = abs(float(np.linalg.det(matrix))) if matrix.shape == (3, 3) else 0.0
    if factor >= 0 or not volume:
        return lines
    return [lines[0], repr((-factor / volume) ** (1 / 3)), *lines[2:]]


def check(lines: list[str], atoms: int) -> None:
    """UserError for names, positions, or a line of numbers that pymatgen passes over."""
    names, counts = lines[5].split(), lines[6].split()
    if len(names) != len(counts):
        raise UserError(f"{len(names)} elements ({' '.join(names)}), but {len(counts)} numbers of atoms")
    mode = 8 if lines[7].strip()[:1] in ("s", "S") else 7
    if is_position(lines[mode]):
        raise UserError(f"'{lines[mode].strip()}' where Direct or Cartesian should stand")
    if any(map(is_position, lines[mode + 1 + atoms : mode + 2 + atoms])):
        raise UserError(f"more positions than its {atoms} atoms ({' '.join(counts)})")
    symbols = [name for name, count in zip(names, counts, strict=True) for _ in range(int(count))]
    for line, symbol in zip(lines[mode + 1 :], symbols, strict=False):
        own = [word for word in line.split()[3:] if word in SYMBOLS[1:] and word != "F"]  # F is false, too
        if own and own[-1] != re.split("[^A-Za-z]", symbol)[0]:
            raise UserError(f"'{line.strip()}' is {symbol} by the line of its elements ({' '.join(names)})")


def is_position(line: str) -> bool:
    return len(cells := line.split()[:3]) == 3 and all(map(NUMBER.fullmatch, cells))
