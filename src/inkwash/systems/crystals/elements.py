"""Elements and formulas, in a few lines, so that an option can be checked before anything heavy is imported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from inkwash.errors import UserError, unknown

# by atomic number; the first is none
TABLE = """
X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = TABLE.split()
TOKEN = re.compile(r"([A-Z][a-z]?|\(|\))(\d*)")


def number(symbol: str) -> int:
    """The atomic number. UserError for a symbol that is none."""
    if symbol not in SYMBOLS[1:]:
        near = {each.lower(): each for each in SYMBOLS[1:]}.get(symbol.lower())
        raise (
            UserError(f"unknown element '{symbol}': did you mean {near}?")
            if near
            else unknown("element", symbol, SYMBOLS[1:])
        )
    return SYMBOLS.index(symbol)


def parse_formula(formula: str) -> dict[str, int]:
    """ "Ba(TiO3)2" as {"Ba": 1, "Ti": 2, "O": 6}. UserError for what is no formula of whole numbers."""
    tokens = TOKEN.findall(formula)
    if not tokens or "".join(map("".join, tokens)) != formula:
        raise UserError(f"formula '{formula[:60]}': symbols and whole numbers are needed, as BaTiO3 or Ba(TiO3)2")
    groups: list[Counter[str]] = [Counter()]
    for symbol, digits in tokens:
        count = int(digits or 1)
        if symbol == "(":
            groups.append(Counter())
        elif symbol == ")":
            group = groups.pop()
            if not groups:
                raise UserError(f"formula '{formula[:60]}': a bracket that was not opened")
            groups[-1].update({each: count * of for each, of in group.items()})
        else:
            number(symbol)
            groups[-1][symbol] += count
        if (symbol == "(" and digits) or count < 1:
            raise UserError(f"formula '{formula[:60]}': '{symbol}{digits}' cannot be counted")
    if len(groups) > 1:
        raise UserError(f"formula '{formula[:60]}': a bracket that is not closed")
    return dict(groups[0])


def parse_prototype(prototype: str) -> tuple[int, ...]:
    """ "ABX3" as (1, 1, 3): so many atoms of each of its elements, in order of size."""
    tokens = re.findall(r"([A-Z])(\d*)", prototype)
    letters = [letter for letter, _ in tokens]
    if not tokens or "".join(map("".join, tokens)) != prototype or len({*letters}) < len(letters):
        raise UserError(f"prototype '{prototype[:60]}': letters, each once, and whole numbers are needed, as ABX3")
    counts = sorted(int(digits or 1) for _, digits in tokens)
    if counts[0] < 1:
        raise UserError(f"prototype '{prototype[:60]}': an element of no atoms")
    return tuple(counts)


def parse_elements(elements: str) -> tuple[str, ...]:
    """ "Ba,Ti,O" or "Ba Ti O" as symbols, each once. UserError for what is none."""
    symbols = tuple(dict.fromkeys(filter(None, re.split(r"[,;\s]+", elements))))
    if not symbols:
        raise UserError("elements: none in it; write them as Ba,Ti,O")
    for symbol in symbols:
        number(symbol)
    return symbols


def fits(symbols: Iterable[str], prototype: tuple[int, ...]) -> bool:
    """Whether atoms are so many of each of their elements, or a multiple of that: Ba2Ti2O6 and (1, 1, 3)."""
    counts = sorted(Counter(symbols).values())
    times = sum(counts) // sum(prototype)
    return counts == [times * count for count in prototype]
