"""Cells of a table as numbers: decimal and thousands signs, units, brackets, and the marks of what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from inkwash.errors import UserError

MISSING = frozenset(
    [
        *(
            "",
            "-",
            "--",
            "---",
            "—",
            ".",
            "..",
            "...",
            "…",
            ":",
            "*",
            "?",
            "***",
            "****",
            "na",
            "n/a",
            "n.a.",
            "n.a",
            "nan",
            "<na>",
        ),
        *("nat", "#n/a", "#n/a n/a", "#nv", "#na", "null", "none", "nil", "\\n", "k.a.", "k. a.", "n.d.", "s.d."),
        *(
            "n.v.",
            "missing",
            "mm",
            "m",
            "nd",
            "unavailable",
            "unknown",
            "not available",
            "no data",
            "无",
            "缺失",
            "暂无",
            "空",
        ),
    ]
)
# spaces that do not break, full-width signs, and the minus and apostrophe of typesetters
PLAIN = str.maketrans(
    dict.fromkeys("\xa0\u2007\u2009\u202f\u3000", " ")
    | dict(zip("０１２３４５６７８９．，－＋％￥（）", "0123456789.,-+%¥()", strict=True))
    | dict.fromkeys("\u2212\u2013", "-")
    | {"\u2019": "'"}
)
CODES = "EUR|USD|GBP|CHF|JPY|CNY|RMB|INR|SEK|NOK|DKK|PLN"
UNIT = rf"[€$£¥₹₽₩฿₫₴₺₪%‰元]|(?:R|A|C|US|HK|NT|AU|CA)\$|kr\.?|zł|Kč|Fr\.?|{CODES}"
DEBIT, CREDIT = {"s", "soll", "d", "dr", "debit", "dbit"}, {"h", "haben", "c", "cr", "credit", "crdt"}
MARK = r"(?-i:S|H)|Soll|Haben|[CD]R\b\.?"
NUMBER = re.compile(
    rf"(\()? *([+-])? *({UNIT})? *([+-])? *(\d[\d.,' ]*|[.,]\d+)(E[+-]?\d+)? *({UNIT})? *([+-])? *(\))? *({MARK})?",
    re.I,
)
# 1234.5 and .5, or with the same sign between all thousands, by the sign before the decimals; 0100,1 is two codes
DIGITS = {
    sign: re.compile(
        rf"0\d+|(?:0|[1-9]\d*|[1-9]\d{{0,2}}([{other}' ])\d{{3}}(?:\1\d{{3}})*)(?:[{sign}]\d*)?|[{sign}]\d+"
    )
    for sign, other in (".,", ",.")
}
SIGN = {".": "point", ",": "comma"}


class Number(NamedTuple):
    """A cell that may be a number: `digits` with signs between them, of which `decimals` may be before decimals."""

    digits: str
    decimals: tuple[str, ...]
    negative: bool
    exponent: str
    unit: str
    mark: str  # of debit or credit

    def value(self, decimal: str) -> float | None:
        if decimal not in self.decimals:
            return None
        other = ",." if decimal == "." else ".,"
        digits = re.sub(rf"[{other[0]}' ]", "", self.digits).replace(decimal, ".")
        value = float(digits + self.exponent)
        return -value if self.negative else value


@lru_cache(2**18)
def parse_number(cell: str) -> Number | None:
    """Its parts, None where it is no number: +1, -1, 1-, 1+, (1), € 1, 1 %, 1E3, 1 H (credit), 1 DR (debit: -1)."""
    found = NUMBER.fullmatch(cell.translate(PLAIN).strip())
    if found is None:
        return None
    opened, first, before, second, digits, exponent, after, minus, closed, mark = found.groups()
    signs = [sign for sign in (first, second, minus, opened and "-") if sign]
    signs += ["-" if mark.lower().rstrip(".") in DEBIT else "+"] if mark else []
    digits = digits.strip()
    decimals = tuple(sign for sign, pattern in DIGITS.items() if pattern.fullmatch(digits))
    is_one = bool(opened) == bool(closed) and len(signs) < 2 and not (before and after) and decimals
    unit = before or after or ""
    return Number(digits, decimals, signs == ["-"], exponent or "", unit, mark or "") if is_one else None


def is_number(column: pd.Series | pd.Index) -> bool:
    """Whether all of it is real numbers by its type."""
    is_other = pd.api.types.is_bool_dtype(column) or pd.api.types.is_complex_dtype(column)
    return pd.api.types.is_numeric_dtype(column) and not is_other


def is_missing(cell: Any) -> bool:
    return cell.translate(PLAIN).strip().lower() in MISSING if isinstance(cell, str) else bool(pd.isna(cell))


def distinct(column: pd.Series) -> list[Any]:
    """The different cells of a column of objects, without those that are missing."""
    return [cell for cell in column.map(as_scalar).unique() if not is_missing(cell)]


def as_scalar(cell: Any) -> Any:
    """A number, a text, or what is missing, as it is; anything else as a text."""
    if isinstance(cell, Decimal):
        return float(cell)
    is_nothing = pd.api.types.is_scalar(cell) and pd.isna(cell)
    return cell if isinstance(cell, str | Real) or is_nothing else str(cell)


def kind(column: pd.Series) -> str:
    """What a column holds: "numbers" (or nothing), "texts", "mixed" of both, "times", "yes or no"."""
    if is_number(column):
        return "numbers"
    if pd.api.types.is_bool_dtype(column):
        return "yes or no"
    if pd.api.types.is_datetime64_any_dtype(column) or isinstance(column.dtype, pd.PeriodDtype):
        return "times"
    cells = distinct(column)
    if cells and {str(cell).lower() for cell in cells} <= {"true", "false"}:
        return "yes or no"
    found = {isinstance(cell, Real) or parse_number(str(cell)) is not None for cell in cells}
    return "mixed" if len(found) == 2 else "texts" if found == {False} else "numbers"


def decimal_sign(columns: Iterable[pd.Series], separator: str, given: str | None, source: str) -> str:
    """The sign before decimals, one for the whole table: the one with which every number can be read. UserError where
    there is none, or both will do and give other numbers. Where commas part the cells, 1.234 has a decimal point."""
    if given:
        return given
    only: dict[str, str] = {}
    unclear = ""
    for column in columns:
        for cell in distinct(column) if not is_number(column) else ():
            number = parse_number(cell) if isinstance(cell, str) else None
            if number is None:
                continue
            if len(number.decimals) == 1:
                only.setdefault(number.decimals[0], cell)
            elif "," in number.digits or ("." in number.digits and separator != ","):
                unclear = unclear or cell
    if len(only) == 2:
        raise UserError(f"{source}: '{only[',']}' has a comma, '{only['.']}' a point: write all numbers as 1234.56")
    if unclear and not only:
        raise UserError(
            f"{source}: '{unclear}' may be a thousandfold: say what stands before decimals, by --decimal . or "
            "--decimal ,"
        )
    return next(iter(only), ".")


class Column(NamedTuple):
    """Numbers, float64 (T,), their unit, how often each mark of a missing value stood there, whether there was a
    point or a comma in any text, and the marks of debit and credit."""

    values: np.ndarray
    unit: str
    marks: Counter[str]
    has_sign: bool = False
    sides: tuple[str, ...] = ()


def to_numbers(column: pd.Series, decimal: str, source: str) -> Column:
    """UserError for the first cell that is no number, has another unit than the first, or is infinite."""
    if is_number(column) or pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
        if (infinite := np.isinf(values)).any():
            raise not_a_number(column, int(infinite.argmax()), source)
        return Column(values, "", Counter())
    cells = column.map(as_scalar)
    yes_or_no = kind(column) == "yes or no"
    numbers: dict[Any, float] = {}
    sides: dict[str, Any] = {}
    unit: str | None = None
    has_sign = False
    for cell in distinct(column):
        parsed = parse_number(cell) if isinstance(cell, str) else None
        value = float(cell) if isinstance(cell, Real) else parsed.value(decimal) if parsed else None
        if yes_or_no:
            value = float(str(cell).lower() == "true")
        own_unit = parsed.unit if parsed else ""
        unit = own_unit if unit is None else unit
        if value is None or not np.isfinite(value) or own_unit != unit:
            raise not_a_number(column, int((cells == cell).to_numpy().argmax()), source, unit != own_unit)
        numbers[cell] = value
        if parsed and parsed.mark:
            sides.setdefault(parsed.mark, cell)
        has_sign = has_sign or (parsed is not None and bool({*parsed.digits} & {*".,"}))
    if len(sides) == 1 and {*sides} <= {"S", "H"}:  # seconds, hours
        (cell,) = sides.values()
        raise not_a_number(column, int((cells == cell).to_numpy().argmax()), source)
    marks = Counter(
        str(cell).strip() for cell in cells if isinstance(cell, str) and cell.strip() and is_missing(cell)
    )
    return Column(cells.map(numbers).to_numpy(np.float64), unit or "", marks, has_sign, tuple(sorted(sides)))


def not_a_number(column: pd.Series, row: int, source: str, other_unit: bool = False) -> UserError:
    why = "its unit is another than before; " if other_unit else ""
    return UserError(
        f"{source}: column '{column.name}', row {row + 1}: '{column.iloc[row]}' is no number; {why}mend it, say by "
        "--missing that it is a missing value, or name other columns with --target"
    )


def side_signs(column: pd.Series) -> np.ndarray | None:
    """-1 for the debits, 1 for the credits, NaN for nothing, of a column of marks of both and nothing else."""
    sides = column.astype(object).map(lambda cell: str(cell).strip().lower().rstrip("."))
    found = {side for side in sides.unique() if not is_missing(side)}
    is_named = re.search(
        r"s ?/ ?h|soll|haben|kennz|kz|debit|credit|sign|vorzeichen|\bd ?/? ?c\b", str(column.name), re.I
    )
    is_letter = found in ({"s", "h"}, {"d", "c"})
    if len(found) != 2 or not (found & DEBIT and found & CREDIT) or (is_letter and not is_named):
        return None
    return np.select([sides.isin(DEBIT), sides.isin(CREDIT)], [-1.0, 1.0], np.nan)


def blank(data: pd.DataFrame, missing: Sequence[str], names: Iterable[str]) -> pd.DataFrame:
    """Without the texts of these columns that stand for a missing value."""
    texts = [name for name in names if missing and not is_number(data[name])]
    return data.assign(**{name: data[name].mask(data[name].astype(str).str.strip().isin(missing)) for name in texts})


# what instruments and archives write for a missing value: nothing but nines, or the fill values of file formats
NINES = [float("9" * whole + "." + "9" * places) for whole in range(2, 9) for places in range(4)]
FILLS = [-32768.0, -(2.0**31), -(2.0**63), 1e20, 9.999e20, 9.96921e36, 9.96920996838687e36]
SENTINELS = np.array([*NINES, *(-code for code in NINES), *FILLS])


def find_sentinels(frame: pd.DataFrame) -> dict[float, dict[str, int]]:
    """Numbers of `SENTINELS` that lie far outside of all others of their column: how often they stand in which."""
    found: dict[float, dict[str, int]] = {}
    for name in frame:
        values = frame[name].dropna().to_numpy()
        if not len(values) or not np.isin([values.min(), values.max()], SENTINELS).any():
            continue
        is_code = np.isin(values, SENTINELS)
        for code in np.unique(values[is_code]):
            if is_far(code, values[~is_code]):
                found.setdefault(float(code), {})[str(name)] = int((values == code).sum())
    return found


def is_far(code: float, rest: np.ndarray) -> bool:
    """Whether a number lies further from the rest of its column than they spread: thrice as far if it is 99, which is
    most often a number like others; one below zero among none that are is far always."""
    if not len(rest):
        return code != 99
    low, high = rest.min(), rest.max()
    if code < 0:
        return bool(low - code > high - low or low >= 0)
    if code == 99:
        return bool(low < high and code - high > 3 * max(high - low, high))
    return bool(code - high > max(high - low, high))
