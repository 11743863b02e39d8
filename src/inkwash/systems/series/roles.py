"""What each column and row of a table is: time stamps, ids of series, series, sums of others, or something else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.systems.series import cells, clock
from inkwash.systems.series.clock import INDEX

# columns of whole numbers that name something, and those that count if they rise by one
IDS = re.compile(r"(.*[ _.-])?([iI][dD]|uuid|UUID|sku|SKU|编号)|.*[a-z]I[dD]")
COUNTERS = re.compile(r"(.*[ _.-])?(no|nr|nummer|number|row|idx|index|key|序号)\.?|t|i|n|#|step|obs", re.I)
JOINT = " / "  # between the ids of one series
MOST_IDS = 3
CONSTANT = "one value a series"
# rows of sums in a column of times, and the thirteenth month of a bureau of statistics
TOTAL = re.compile(
    r"(?:(?:grand|sub)[- ]?)?totals?\b.*|.*[^\w](?:total|gesamt|summe)|(?:zwischen|gesamt)?summe\b.*|"
    r"(?:ins)?gesamt\b.*|sum|average|avg\.?|mean|mittelwert|durchschnitt|mittel|promedio|moyenne|annual|ytd|"
    r"[合总小]计.*|总和|平均.*|m13|q05|s0[123]|\*+",
    re.I,
)
# columns of sums beside those of months
ANNUAL = re.compile(
    r"(?:annual|year|full[- ]year|total|sum|mean|avg|average|ave|jahr|gesamt|summe|mittel|half ?[12]|h[12]|q[1-4]|"
    r"j-d|d-n|djf|mam|jja|son|全年|合计|年均|平均)\.?",
    re.I,
)
YEAR = r"(?:1[89]|20)\d\d(?:\.0)?"
# years, quarters and months in one column, as the Office for National Statistics has them
SPANS = {
    "years": YEAR,
    "quarters": r"\d{4}[- ]?Q[1-4]",
    "months": r"\d{4}[-/ ]?(?:M?\d\d|[^\W\d_]{3,9})|[^\W\d_]{3,9}[- ]\d{4}",
}


class Stamps(NamedTuple):
    """The stamps of all rows (or their numbers), the columns that they come from, and how these were written."""

    index: pd.Index
    columns: list[str]
    name: str = ""
    written: str = ""


def find_stamps(
    data: pd.DataFrame, kinds: dict[str, str], time: str | None, named: Sequence[str], dates: str | None, source: str
) -> Stamps:
    """The index, the column `time` or the one that is called like a clock or is one; year and month, date and time of
    day where they are columns of their own. UserError for one that is a clock for the most part."""
    index = data.index
    free = [name for name in data if name not in named]
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) and time is None:
        if dates:
            raise UserError(f"{source}: dates = {dates}, but its time stamps are no texts: leave it out")
        stamps = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
        return Stamps(stamps, [], str(index.name or INDEX))
    columns = [time] if time else find_time(data, kinds, free)
    if not columns:
        if dates:
            raise UserError(f"{source}: dates = {dates}, but there is no column of time stamps; name it with --time")
        return Stamps(pd.RangeIndex(len(data)), [])
    if len(columns) == 1 and clock.readings(pd.Series(columns), digits=True):
        raise UserError(f"{source}: the first line, with '{columns[0]}', holds values; put a line of names before it")
    one = data[columns[0]] if len(columns) == 1 else clock.join_parts(data, clock.find_parts(columns))
    if not clock.readings(one, digits=True) and (counts := count_steps(one)) is not None:
        return Stamps(pd.Index(counts), columns, ", ".join(columns))
    reading = clock.to_timestamps(one, source, dates)
    stamps = reading.stamps
    if (
        stamps.duplicated().any()
        and reading.written != "yyyy"
        and stamps.equals(stamps.dt.normalize())
        and stamps.dt.tz is None
    ):
        times = [name for name in free if name not in columns and clock.is_time_of_day(data[name])]
        if times:
            stamps = clock.add_time_of_day(stamps, data[times[0]], source)
            columns = [*columns, times[0]]
    name = ", ".join(columns)
    return Stamps(pd.DatetimeIndex(stamps, name=name), columns, name, reading.written)


def find_time(data: pd.DataFrame, kinds: dict[str, str], free: Sequence[str]) -> list[str]:
    """The column of time stamps, or several that hold parts of them; none if there is none."""
    clocks = [name for name in free if clock.is_clock(name)]
    years = [name for name in clocks if name.lower() in clock.PARTS["year"]]
    dates = [name for name in clocks if name not in years and name != INDEX]
    dates = [name for name in dates if data[name].nunique() > 1] or dates  # not the day of the export
    texts = [name for name in free if name not in clocks and kinds[name] in ("times", "texts", "mixed")]
    parts = clock.find_parts(free)

    def shares(name: str) -> list[float]:
        return [each.stamps.notna().mean() for each in clock.readings(data[name], clock.is_clock(name))]

    if found := next((name for name in dates if 1.0 in shares(name)), None):
        return [found]
    if parts:
        return list(parts.values())
    names = [*years, *(name for name in clocks if name == INDEX), *texts]
    if found := next((name for name in names if 1.0 in shares(name)), None):
        return [found]
    digits = [name for name in free if name not in clocks and kinds[name] == "numbers"]
    if found := next((name for name in digits if clock.is_clock_of_digits(data[name])), None):
        return [found]
    partly = [name for name in clocks if not (cells.kind(data[name]) == "numbers" and is_count(data[name]))]
    partly += [name for name in texts if max(shares(name), default=0) > 0.5]
    return partly[:1]


def is_count(column: pd.Series) -> bool:
    """Whether numbers rise by one."""
    numbers = pd.to_numeric(clock.as_text(column), errors="coerce")
    return len(numbers) > 1 and bool((numbers.diff().iloc[1:] == 1).all())


def count_steps(column: pd.Series) -> np.ndarray | None:
    """From 0 on, steps that are numbered from the same number on in each series of a long table, as those of the M4
    competition; None of anything else."""
    numbers = pd.to_numeric(clock.as_text(column), errors="coerce").to_numpy(np.float64)
    counts = numbers - numbers[0]
    is_next, is_first = np.diff(counts) == 1, counts[1:] == 0
    return counts.astype(np.int64) if is_first.any() and (is_next | is_first).all() else None


def dates_down(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose dates run across, as statistics offices write theirs, as a long one: columns `time`, `value`.
    As it is if anything else in it may be a time."""
    dates = clock.across(list(table))
    ids = [name for name in table if name not in dates]
    if (
        not dates
        or isinstance(table.index, pd.DatetimeIndex | pd.PeriodIndex)
        or any(
            clock.complete(clock.readings(table[name], clock.is_clock(name)))
            or (clock.is_clock(name) and name != INDEX and not holds_names(table[name]))
            for name in ids
        )
    ):
        return table
    texts = [name for name in ids if not cells.is_number(table[name])]
    long = table.fillna(dict.fromkeys(texts, "")).melt(ids, dates, var_name="time", value_name="value")
    if any("\\" in name for name in ids):  # Eurostat's geo\TIME_PERIOD, where flags stand behind values: 5.1 p
        long["value"] = long["value"].astype(str).str.replace(r" [a-z]+$", "", regex=True)
    long.attrs = table.attrs
    return long.rename(columns={name: "series" for name in ids if clock.is_clock(name) and name != INDEX})


def holds_names(column: pd.Series) -> bool:
    """Whether no cell of a column is a time, or a part of one."""
    return not any(clock.is_value(cell) or clock.month_number(cell) for cell in column.astype(str).unique())


def drop_sums(table: pd.DataFrame, time: str | None) -> tuple[pd.DataFrame, list[str]]:
    """A table without rows that are sums of others, and what was left out, in words: those that are called so, or
    called nothing, where the others have a time; years and quarters among months."""
    notes = []
    texts = [] if clock.across(list(table)) else [name for name in table if may_hold_sums(table[name])]
    for name in texts:
        column = table[name].astype(str).str.strip()
        sums = column.isin([cell for cell in column.unique() if TOTAL.fullmatch(cell)])
        if sums.any() and not (name == time or (clock.is_clock(name) and name != INDEX) or is_times(column[~sums])):
            clocks = [other for other in table if clock.is_clock(other) and table[other].isna().any()]
            sums &= table[clocks].isna().any(axis=1)
        if sums.any() and not sums.all():
            notes.append(f"left out {count_rows(sums)} of '{column[sums].iloc[0]}'")
            table = table[~sums]
        named = table[name].notna().to_numpy()
        end = len(named) - int(named[::-1].argmax())
        if end < len(named) and name.lower() not in clock.PARTS["year"] and is_times(table[name].dropna()):
            notes.append(f"left out {count_rows(~named[end:])} without {name} at the end")
            table = table.iloc[:end]
        spans = (
            table[name].astype(str).str.strip().map(find_span) if find_span(str(table[name].iloc[0])) else pd.Series()
        )
        if "" not in (kinds := {*spans}) and len(kinds) > 1:
            finest = max(kinds, key=[*SPANS].index)
            notes.append(f"left out {' and '.join(sorted(kinds - {finest}))} beside {finest}")
            table = table[spans == finest]
    return table.reset_index(drop=True) if notes else table, notes


def may_hold_sums(column: pd.Series) -> bool:
    """Whether it is of texts, or of times, of which a sum has none."""
    return not isinstance(column.dtype, pd.PeriodDtype) and column.dtype.kind in "OM"


def count_rows(rows: Any) -> str:
    return f"{rows.sum()} row{'s' if rows.sum() > 1 else ''}"


def is_times(column: pd.Series) -> bool:
    return len(column) > 0 and bool(clock.complete(clock.readings(column, False)))


def find_span(cell: str) -> str:
    return next((span for span, form in SPANS.items() if re.fullmatch(form, cell)), "")


def months_down(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, str]:
    """A table of a row a year and a column a month (or quarter), or of a row a month and a column a year, as a long
    one with columns `time` and `value`, and what was turned, in words. As it is if any other column holds numbers."""
    data = drop_row_numbers(table)
    if isinstance(data.index, pd.DatetimeIndex | pd.PeriodIndex):
        return table, ""
    long = year_a_row(data, source)
    shown = "a row a year and a column a month"
    if long is None:
        long, shown = month_a_row(data), "a row a month and a column a year"
    if long is None:
        return table, ""
    number = long["month"].astype(str)
    are_months = long["month"].nunique() == 12
    time = long["year"] + ("-" + number.str.zfill(2) if are_months else "Q" + number)
    turned = long.drop(columns=["year", "month"]).assign(time=time)
    turned.attrs = table.attrs
    shown += " are one clock" if are_months else " are one clock, of quarters"
    sums = [name for name in data if ANNUAL.fullmatch(name) and not is_years(data[name])]
    return turned, shown + (f", left out {', '.join(sums)}" if sums else "")


def year_a_row(data: pd.DataFrame, source: str) -> pd.DataFrame | None:
    """Columns `year` (text), `month` (1 to 12, or 1 to 4 of a quarter), `value` and ids. UserError for months of no
    year, or of two. None if it is another table."""
    months = clock.months_across(list(data))
    rest = [name for name in data if name not in months]
    years = [name for name in rest if is_years(data[name])]
    ids = [name for name in rest if name not in years and not ANNUAL.fullmatch(name)]
    if not months or not all(cells.kind(data[name]) == "texts" and not is_times(data[name]) for name in ids):
        return None
    first, *_, last = months
    if not years and not any(map(str.isdigit, months)):
        raise UserError(f"{source}: {first} to {last} are of a year that is not named: add a column of years")
    if len(years) != 1:
        return None
    if [*months.values()] != sorted(months.values()):
        raise UserError(f"{source}: its years begin with {first} and may be named by either of two: write dates")
    long = data.melt([*years, *ids], [*months], var_name="month", value_name="value")
    year = clock.as_text(long[years[0]]).str[:4]
    return long[[*ids, "value"]].assign(year=year, month=long["month"].map(months))


def is_years(column: pd.Series) -> bool:
    return bool(clock.as_text(column).str.fullmatch(YEAR).all())


def month_a_row(data: pd.DataFrame) -> pd.DataFrame | None:
    """The same of the months of a year below each other, sums left out."""
    years = [name for name in data if re.fullmatch(YEAR, name)]
    rest = [name for name in data if name not in years and not ANNUAL.fullmatch(name)]
    if len(years) < 2 or len(rest) != 1:
        return None
    name = data[rest[0]].astype(str).str.strip()
    is_sum = name.map(lambda cell: bool(ANNUAL.fullmatch(cell)))
    months = clock.months_across(name[~is_sum].tolist())
    if not months or len(months) != (~is_sum).sum():
        return None
    long = data.assign(month=name.map(months))[~is_sum].melt("month", years, var_name="year", value_name="value")
    return long.assign(year=long["year"].str[:4])


def drop_row_numbers(data: pd.DataFrame) -> pd.DataFrame:
    """Without a column of no name that counts the rows from 0 or 1."""
    counts = INDEX in data and is_count(data[INDEX]) and str(data[INDEX].iloc[0]) in ("0", "1")
    return data.drop(columns=INDEX) if counts else data


def number_columns(data: pd.DataFrame, kinds: dict[str, str], used: Sequence[str], items: Sequence[str]) -> list[str]:
    """The columns to forecast: all of numbers, those with a cell that is none among them, but dates, ids and counts;
    in a long table none that are the same all along, if there are others."""
    numbers = [name for name in data if name not in used and kinds[name] in ("numbers", "mixed")]
    reasons = {name: why_no_series(data, kinds, name, items) for name in numbers}
    return [name for name in numbers if not reasons[name]] or [name for name in numbers if reasons[name] == CONSTANT]


def why_no_series(data: pd.DataFrame, kinds: dict[str, str], name: str, items: Sequence[str]) -> str:
    """What a column is instead; "" if it is a series."""
    if name not in kinds:
        return "row numbers"
    column = data[name]
    if kinds[name] not in ("numbers", "mixed"):
        return kinds[name]
    if not (cells.is_number(column) and column.notna().any()) and not cells.distinct(column):
        return "no values"
    if kinds[name] == "numbers" and (IDS.fullmatch(name) or COUNTERS.fullmatch(name) or clock.is_clock(name)):
        if is_count(column):
            return "row numbers"
        if clock.is_clock(name):
            return "part of a date"
        if IDS.fullmatch(name) and is_whole(column):
            return "ids"
    if items and (data.groupby(list(items))[name].nunique() <= 1).all():
        return CONSTANT
    return ""


def is_whole(column: pd.Series) -> bool:
    numbers = pd.to_numeric(clock.as_text(column), errors="coerce")
    return bool((numbers % 1 == 0).all())


def find_items(
    data: pd.DataFrame,
    kinds: dict[str, str],
    stamps: pd.Index,
    target: Sequence[str],
    feats: Sequence[str],
    source: str,
) -> list[str]:
    """The columns that name the series of a long table: its stamps repeat, and they tell its rows apart, by as few
    columns and into as few series as can be; texts before whole numbers. UserError where several do so."""
    if not stamps.has_duplicates:
        return []
    free = [name for name in data if name not in (*target, *feats) and not clock.is_clock(name)]
    texts = [name for name in free if kinds[name] in ("texts", "mixed") or IDS.fullmatch(name)]
    whole = [name for name in free if name not in texts and kinds[name] == "numbers" and is_whole(data[name])]
    codes = {name: pd.factorize(data[name])[0] for name in [*texts, *whole]}
    few = [name for name in whole if 2 * codes[name].max() < len(data)][:8]
    for names in (texts[:8], [*texts, *few][:8]):
        for size in range(1, MOST_IDS + 1):
            found = {
                each: count for each in combinations(names, size)
                if set(each) < {*free, *target} and (count := count_series(stamps, [codes[name] for name in each]))
            }  # fmt: skip
            if found:
                return list(choose_items(found, codes, source))
    return []


def count_series(stamps: pd.Index, codes: Sequence[np.ndarray]) -> int:
    """How many series these ids make of a long table; 0 if they are no ids of one: a series would have two values at
    once, most have a single one, or they interrupt each other (as kinds of weather do)."""
    ids = pd.MultiIndex.from_arrays(codes).factorize()[0]
    position = pd.Series(stamps.factorize(sort=True)[0])
    if pd.MultiIndex.from_arrays([position, ids]).has_duplicates or 2 * (ids.max() + 1) > len(ids):
        return 0
    spans = position.groupby(ids).agg(lambda rows: rows.max() - rows.min() + 1)
    repeated = stamps.duplicated(keep=False).mean()
    return int(ids.max() + 1) if len(ids) / spans.sum() > (0.3 if repeated > 0.5 else 0.8) else 0


def choose_items(found: dict[tuple[str, ...], int], codes: dict[str, np.ndarray], source: str) -> tuple[str, ...]:
    """The ids that make the fewest series. UserError where others make as many, and not the same."""
    best = min(found, key=lambda names: found[names])
    for other in found:
        both = pd.MultiIndex.from_arrays([codes[name] for name in dict.fromkeys([*best, *other])]).nunique()
        if found[other] == found[best] < both:
            named = " or ".join(JOINT.join(names) for names in (best, other))
            raise UserError(f"{source}: the series may be named by {named}: say by --item which")
    return best
