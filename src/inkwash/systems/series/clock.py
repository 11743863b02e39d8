"""Columns as time stamps: dates as people write them, numbers that are dates, offsets, zones and steps."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import timedelta, timezone
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import Day, Tick

from inkwash.errors import UserError
from inkwash.systems.series.cells import is_number, parse_number

INDEX = "index"  # what a column without a name is called: pandas writes its own so
# columns that hold a part of a date, by the part
PARTS = {
    "year": ("year", "jahr", "année", "annee", "año", "ano", "yr", "yyyy", "yy", "jahre", "years", "年", "年份"),
    "quarter": ("quarter", "quartal", "trimestre", "qtr", "quartale", "季度"),
    "month": (
        "month",
        "monat",
        "mois",
        "mes",
        "月",
        "月份",
        "mo",
        "mnth",
        "period",
        "monate",
        "months",
        "mês",
        "mese",
        "maand",
        "månad",
    ),
    "week": ("week", "woche", "kw", "semaine", "semana", "周"),
    "day": ("day", "tag", "jour", "dia", "día", "dy", "日"),
    "hour": ("hour", "hr", "hh", "stunde", "heure", "hora", "小时"),
    "minute": ("minute", "minuten"),
}
TIME_COLUMNS = (
    *(
        "time",
        "timestamp",
        "date",
        "datetime",
        "ds",
        "start",
        "period",
        "time_period",
        "datum",
        "zeit",
        "zeitstempel",
    ),
    *("zeitpunkt", "fecha", "日期", "时间", "ts", "epoch", "unixtime", "unix", "yyyymm", "yyyymmdd", "date/time"),
    *("date_time", "date time", "weekday", "dayofweek", "day_of_week", "month_of_year", "wochentag"),
    *(name for names in PARTS.values() for name in names),
    INDEX,
)
WORDS = {
    "date",
    "datum",
    "fecha",
    "timestamp",
    "datetime",
    "日期",
    "时间",
    "yearmonth",
    "yearweek",
    "yyyyww",
}  # within a longer name
# how dates are written, a whole column alike; months by names as in English
DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%Y-%m", "%Y/%m", "%Y年%m月", "%Y年", "%m/%Y", "%m.%Y"),
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d %Y", "%b %Y"),
    *("%b-%Y", "%Y %b", "%Y-%b", "%Y-%b-%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y"),
    *("%y-%m-%d", "%y/%m/%d", "%y.%m.%d", "%d-%b-%y", "%y-%b-%d", "%d %b %y", "%b-%y"),
)
TIMES = (" %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
EPOCHS = {9: "s", 10: "s", 13: "ms", 16: "us", 19: "ns"}
SERIAL = (20_000, 80_000)  # days of a spreadsheet, from 1954 to 2119
ROUNDED = 0.07  # of a month, in years of two decimals
QUARTERS = r"(?:19|20)\d\d[1-4]"  # 20241, of which a whole column is no days of a spreadsheet
YEARS = (1800, 2100)  # of mere digits that nothing calls a time
FIRST_FULL_YEAR, LAST_FULL_YEAR = 1678, 2261  # of pandas' nanoseconds
LAST_YEAR = 2040  # of two digits; from 69 on they are years of the last century
ORDERS = ("dmy", "mdy", "ymd")
WRITE_DATES = "write dates as 2024-01-31"
TIME_OF_DAY = r"\d{1,2}(?::\d\d(?::\d\d)?|\.\d\d\.\d\d)(?: ?[AaPp][Mm])?"
# by their hours east of Greenwich
ZONE_NAMES = {
    name: hours
    for hours, names in {
        **{0: "Z UTC GMT WET", 1: "WEST CET MEZ", 2: "CEST MESZ EET", 3: "EEST MSK", 8: "HKT SGT", 9: "JST KST"},
        **{10: "AEST", 11: "AEDT", 12: "NZST", 13: "NZDT", -4: "EDT", -5: "EST CDT", -6: "MDT", -7: "MST PDT"},
        **{-8: "PST AKDT", -9: "AKST", -10: "HST"},
    }.items()
    for name in names.split()
}
# names of several zones, with the name of the other half of the year that says which
SHARED_NAMES = {"CST": ("CDT", -6), "BST": ("GMT", 1)}
OFFSET = (
    rf"(?<=:\d\d)(\.\d+)? ?({'|'.join([*ZONE_NAMES, *SHARED_NAMES, 'IST'])}|[+-]\d\d(?::?\d\d)?)(?:\[[\w/+-]+\])?$"
)
MIDNIGHT = r"(?<=\d[ T])24:00(?::00)?"  # of the end of a day
INTERVAL = r"(?<=:\d\d) ?[-–] ?\d{1,4}[-./]\d.*"  # from one time to another
ISO = re.compile(r"\d{4}-\d\d(-\d\d([T ].*)?)?")
QUARTER = re.compile(
    r"(?P<y>\d{4})[-/ .:]?Q(?P<q>[1-4])|Q(?P<q2>[1-4])[-/ .:]?(?P<y2>\d{4})|"
    r"(?P<q3>[1-4])\. ?Quartal (?P<y3>\d{4})|(?P<y4>\d{4})年第?(?P<q4>[1-4一二三四])季度",
    re.I,
)
MONTH = re.compile(r"(?P<y>\d{4})[-: ]?M(?P<m>\d{1,2})", re.I)
WEEK = re.compile(r"(?P<y>\d{4})-?W(?P<w>\d\d)(?:-?(?P<d>[1-7]))?")
YEAR_QUARTER = r"(\d{4})[./ -]([1-4])"  # 2024.1 in a column that is called like one of quarters
WEEK_NAMES = {*PARTS["week"], "yearweek", "yyyyww"}
# 202405, 2024/05, KW 05/2024 in a column that is called like one of weeks
YEAR_WEEK = r"(?:KW|W|Week|Woche)? ?(?:((?:19|20)\d\d)[-/. ]?(?:KW|W)?(\d\d?)|(\d\d?)[-/. ](\d{4}))"
MONTHS = {
    word: month
    for month, words in {
        "Jan": "january januar jänner jän janvier janv enero ene janeiro gennaio januari",
        "Feb": "february februar février févr fevrier febrero fevereiro fev febbraio februari",
        "Mar": "march märz mär mrz maerz mars marzo março maart mrt",
        "Apr": "april avril avr abril abr aprile",
        "May": "mai mayo maio maggio mei maj",
        "Jun": "june juni juin junio junho giugno",
        "Jul": "july juli juillet juil julio julho luglio",
        "Aug": "august août aout agosto ago augustus augusti",
        "Sep": "september sept septembre septiembre setembro settembre",
        "Oct": "october oktober okt octobre octubre outubro ottobre",
        "Nov": "november novembre noviembre novembro",
        "Dec": "december dezember dez décembre déc decembre diciembre dic dezembro dicembre",
    }.items()
    for word in [month.lower(), *words.split()]
}
# whose summer time is looked for in offsets that change, and in clocks that lack an hour and have one twice
ZONES = (
    *("Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver"),
    *("America/Los_Angeles", "America/Halifax", "America/St_Johns", "America/Santiago", "Australia/Sydney"),
    *("Australia/Adelaide", "Pacific/Auckland", "Asia/Jerusalem"),
)
MANY = 12  # stamps in order under one reading alone say which it is


class Reading(NamedTuple):
    """A column as time stamps, NaT where there is none; how its dates are written, "" where that is plain."""

    stamps: pd.Series
    written: str = ""
    order: str = ""


def is_clock(name: str) -> bool:
    """Whether a column is called like one of time stamps; Index is one of prices."""
    word = name.strip().lower()
    return (word in TIME_COLUMNS and (word != INDEX or name == INDEX)) or bool(WORDS & words(name))


def words(name: str) -> set[str]:
    return set(re.split(r"[^\w]|_", name.strip().lower()))


def to_timestamps(column: pd.Series, source: str, dates: str | None = None) -> Reading:
    """The whole column. UserError for what is none, what can be read in two ways, and stamps of which only some say
    their offset. The order of days and months is that of `dates`, or the one of which the other rows leave no doubt:
    it alone can be read, makes steps without a gap, or leads forward in time."""
    place = f"{source}: column '{column.name}'"
    found = [each for each in readings(column, digits=True) if dates in (None, each.order)]
    possible = complete(found)
    if not possible:
        best = max(found, key=lambda each: each.stamps.notna().sum(), default=None)
        row = 0 if best is None else int(best.stamps.isna().to_numpy().argmax())
        raise UserError(
            f"{place}, row {row + 1}: '{column.iloc[row]}' is no time stamp that can be read"
            f"{f' with dates = {dates}' if dates else ''}; {WRITE_DATES}, or give the column another name if it is "
            "no time"
        )
    for is_so in (is_regular, is_in_order):
        if len(possible) > 1:
            possible = [each for each in possible if is_so(each.stamps)] or possible
    if len(possible) > 1:
        if {each.order for each in possible} <= {*ORDERS}:
            cure = f"{WRITE_DATES}, or say the order by --dates, one of {', '.join(ORDERS)}"
            raise UserError(f"{place}: '{column.iloc[0]}' may have the day or the month first; {cure}")
        raise UserError(f"{place}: '{column.iloc[0]}' may be several dates; {WRITE_DATES}")
    reading = possible[0]
    if reading.written == "mmm-yy" and not (is_regular(reading.stamps) and reading.stamps.dt.year.nunique() > 1):
        raise UserError(f"{place}: '{column.iloc[0]}' may be a day of a month or a month; {WRITE_DATES}")
    if is_season(reading.stamps):
        raise UserError(f"{place}: '{column.iloc[0]}' may be a season of two years or a month; {WRITE_DATES}")
    if re.search(r"\byy\b", reading.written) and reading.stamps.dt.year.max() > LAST_YEAR:
        row = int(reading.stamps.to_numpy().argmax())
        raise UserError(f"{place}, row {row + 1}: '{column.iloc[row]}' may be of either century; {WRITE_DATES}")
    return reading._replace(stamps=with_offsets(column, reading.stamps, place))


def across(names: Sequence[str]) -> list[str]:
    """Names of columns that are a clock together, as tables with a column for each year, month or day have them."""
    dates = [name for name in names if re.search(r"\d{4}|\d+[-./]\d+[-./]\d+", name)]
    try:
        stamps = to_timestamps(pd.Series(dates), "") if len(dates) > 2 else None
    except UserError:
        return []
    if stamps is None or not stamps.stamps.dt.year.between(*YEARS).all():
        return []
    return dates if is_regular(stamps.stamps) or is_in_order(stamps.stamps) else []


def months_across(names: Sequence[str]) -> dict[str, int]:
    """Names of columns that are all months of a year, or all its quarters, with their number; empty if not all are
    there, each once."""
    for numbered, count in ((month_number, 12), (quarter_number, 4)):
        found = {name: number for name in names if (number := numbered(name))}
        if sorted(found.values()) == [*range(1, count + 1)]:
            return found
    return {}


def month_number(text: str) -> int:
    """1 to 12 of Jan, Januar, 1月, 01 or M01; 0 of anything else."""
    word = text.strip().lower().rstrip(".")
    if found := re.fullmatch(r"m?(0?[1-9]|1[0-2])(?:\.0|月|月份)?", word):
        return int(found[1])
    return [*{month: None for month in MONTHS.values()}].index(MONTHS[word]) + 1 if word in MONTHS else 0


def quarter_number(text: str) -> int:
    """1 to 4 of Q1, 1Q, Qtr 1, 1. Quartal or 第一季度; 0 of anything else."""
    found = re.fullmatch(
        r"(?:Q|Qtr\.? ?|T)([1-4])|([1-4])(?:Q|\. ?Quartal)|第?([1-4一二三四])季度", text.strip(), re.I
    )
    number = next(filter(None, found.groups())) if found else "0"
    return "一二三四".find(number) + 1 or int(number)


def is_value(cell: str) -> bool:
    """Whether a cell is a number or has the words and digits of a date, rather than those of a name or a remark."""
    if parse_number(cell) is not None or {*"=_"} & {*cell}:  # 2020=100 is a unit
        return not {*"=_"} & {*cell}
    text = re.sub(r"(?<=\d)T(?=\d\d:)|(?<=\d)[年月日时分秒]|第?[1-4一二三四]季度", " ", cell)
    in_dates = {*MONTHS, "de"}
    in_dates |= {"q", "m", "w", "kw", "quartal"} if re.search(r"\d{4}", text) else set()
    in_dates |= {"am", "pm", "uhr", *map(str.lower, ZONE_NAMES)} if ":" in text else set()
    return bool(re.search(r"\d", text)) and {*re.findall(r"[^\W\d_]+", text.lower())} <= in_dates


def complete(found: list[Reading]) -> list[Reading]:
    """Those that leave nothing out."""
    return [each for each in found if each.stamps.notna().all()]


def readings(column: pd.Series, digits: bool) -> list[Reading]:
    """A column in each way of writing that its first cell allows; local time where offsets stand. Mere digits are
    dates only if `digits`."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return [Reading(column)]
    if isinstance(column.dtype, pd.PeriodDtype):
        return [Reading(column.dt.to_timestamp())]
    if pd.api.types.is_bool_dtype(column):
        return []
    text = as_text(column).str.replace(r"^(\d+)\.0$", r"\1", regex=True)  # as pandas writes a column with gaps
    for names, form in ((WEEK_NAMES, YEAR_WEEK), (set(PARTS["quarter"]), YEAR_QUARTER)):
        if names & words(str(column.name)) and text.str.fullmatch(form, flags=re.I).all():
            text = text.str.replace(form, as_week if form == YEAR_WEEK else r"\1Q\2", regex=True, flags=re.I)
    first = text.iloc[0]
    if digits and text.str.fullmatch(r"\d{4,10}(?:\.\d+)?").all() and text.str.contains(".", regex=False).any():
        return from_fractions(text.astype(float))
    if re.fullmatch(r"\d*", first):
        return from_digits(text) if digits else []
    text = text.str.replace(INTERVAL, "", regex=True)
    ends_day = text.str.contains(MIDNIGHT)
    text = text.str.replace(OFFSET, r"\1", regex=True).str.replace(MIDNIGHT, "00:00", regex=True)
    if not ISO.fullmatch(first) and re.search(r"[^\W\d_]|,", first):
        text = text.map({cell: in_english(cell) for cell in text.unique()})
    found: list[Reading] = []
    for form in ["ISO8601", *formats(text.iloc[0])]:
        stamps = pd.to_datetime(text, format=form, errors="coerce")
        stamps = stamps.mask(ends_day, stamps + pd.Timedelta(days=1)) if ends_day.any() else stamps
        if pd.notna(stamps.iloc[0]) and not any(stamps.equals(other.stamps) for other in found):
            found.append(Reading(stamps, *described(form)))
    return found


def formats(text: str) -> list[str]:
    """Those of a date, and of a time of day if it has one."""
    date, time = re.fullmatch(r"(.*?)( \d+:\d.*)?", text, re.S).groups("")  # type: ignore[union-attr]

    def fitting(forms: tuple[str, ...], part: str) -> list[str]:
        return [form for form in forms if pd.notna(pd.to_datetime(part, format=form, errors="coerce"))]

    times = fitting(TIMES, time) if time else [""]
    return [form + end for form in fitting(DATES, date) for end in times]


def as_week(found: re.Match[str]) -> str:
    """2024-W05 of `YEAR_WEEK`."""
    return f"{found[1] or found[4]}-W{found[2] or found[3]:0>2}"


def described(form: str) -> tuple[str, str]:
    """A format as people write it, "" if it is ISO 8601; and the order of its parts, if day and month are numbers."""
    if form == "ISO8601":
        return "", "ymd"
    date = form.partition(" %H")[0].partition(" %I")[0]
    order = "".join(re.findall("%([dmy])", date.lower()))
    for sign, word in {"%d": "dd", "%m": "mm", "%Y": "yyyy", "%y": "yy", "%b": "mmm"}.items():
        date = date.replace(sign, word)
    return date if "%" not in date else "", order if len(order) == 3 else ""


def from_digits(text: pd.Series) -> list[Reading]:
    """Years, 20241 (a quarter), 202401, 20240131 and longer, (parts of) seconds since 1970, days of a spreadsheet."""
    size = len(text.iloc[0])
    text = text.where(text.str.len() == size)
    numbers = pd.to_numeric(text, errors="coerce")
    found = []
    if size in DIGITS:
        found = [Reading(pd.to_datetime(text, format=DIGITS[size], errors="coerce"), *described(DIGITS[size]))]
    if size in EPOCHS:
        stamps = pd.to_datetime(numbers.fillna(0), unit=EPOCHS[size], utc=True, errors="coerce")
        found.append(Reading(stamps.where(numbers.notna()), f"{EPOCHS[size]} since 1970"))
    if size == 5 and text.str.fullmatch(QUARTERS).all():
        quarters = text.map(lambda cell: in_english(f"{cell[:4]}Q{cell[4]}"))
        found = [Reading(pd.to_datetime(quarters, format="%Y-%m"), "yyyyq")]
    elif size == 5 and numbers.between(*SERIAL).all():
        found = [Reading(pd.to_datetime(numbers, unit="D", origin="1899-12-30"), "days of a spreadsheet")]
    return [each for each in found if each.stamps.notna().any()]


def from_fractions(numbers: pd.Series) -> list[Reading]:
    """Years and their twelfths or quarters, as R's `time` writes them; days of a spreadsheet with their hours;
    seconds since 1970. None where they do not lead on, as prices."""
    months = (12 * numbers).round()
    if numbers.between(*SERIAL).all():
        found = Reading(pd.to_datetime(numbers, unit="D", origin="1899-12-30").dt.round("s"), "days of a spreadsheet")
    elif numbers.between(1e8, 1e10).all():
        found = Reading(pd.to_datetime(numbers, unit="s", utc=True).dt.round("ms"), "s since 1970")
    elif numbers.between(*YEARS).all() and (12 * numbers - months).abs().max() < ROUNDED:
        first = (months // 12).astype(int).astype(str) + "-" + (months % 12 + 1).astype(int).astype(str)
        found = Reading(pd.to_datetime(first, format="%Y-%m"), "yyyy + m/12")
    else:
        return []
    return [found] if is_regular(found.stamps) or is_in_order(found.stamps) else []


def in_english(text: str) -> str:
    """Months of other languages and 2024M01 as English ones, quarters and weeks by their first day."""
    if found := QUARTER.fullmatch(text):
        year, quarter = (next(filter(None, (found[f"{key}{n}"] for n in ("", 2, 3, 4)))) for key in "yq")
        return f"{year}-{3 * int('一二三四'.find(quarter) + 1 or quarter) - 2:02}"
    if found := MONTH.fullmatch(text):
        return f"{found['y']}-{found['m']:0>2}"
    if found := WEEK.fullmatch(text):
        try:
            return f"{pd.Timestamp.fromisocalendar(int(found['y']), int(found['w']), int(found['d'] or 1)):%Y-%m-%d}"
        except ValueError:  # week 53 of a year of 52
            return text
    text = re.sub(r"\b(?:de|del|Uhr)\b|(?<=\d)(?:er|st|nd|rd|th)\b|(?<=\d)\.(?= *[^\W\d_])|,", " ", text)
    text = re.sub(r"([^\W\d_]+)\.?", lambda word: MONTHS.get(word[1].lower(), word[0]), text)
    return " ".join(text.split())


def as_text(column: pd.Series) -> pd.Series:
    """Cells as texts, whole numbers without a point."""
    if is_number(column) and column.notna().all() and (column % 1 == 0).all() and (column.abs() < 2**63).all():
        column = column.astype("Int64")
    return column.astype(str).str.strip()


def is_clock_of_digits(column: pd.Series) -> bool:
    """Whether numbers of 8 digits and more are dates or moments: many that nothing calls so, by their steps."""
    if len(column) < MANY or not re.fullmatch(r"\d{8,}", as_text(column.iloc[:1]).iloc[0]):
        return False
    return any(
        each.stamps.dt.year.between(*YEARS).all()
        and (is_regular(each.stamps) or (each.written == "yyyymmdd" and is_in_order(each.stamps)))
        for each in complete(from_digits(as_text(column)))
    )


def with_offsets(column: pd.Series, stamps: pd.Series, place: str) -> pd.Series:
    """Local stamps in the zone that their offsets from UTC show: the offset itself where there is one, the first of
    `ZONES` that has all of them, else UTC. Without offsets, as they are. UserError where only some have one."""
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return stamps
    offsets = as_text(column).str.extract(OFFSET)[1]
    if offsets.isna().all():
        return stamps
    if offsets.isna().any():
        names = ", ".join(sorted(offsets.fillna("none").unique()))
        raise UserError(f"{place}: offsets from UTC differ ({names}): write all time stamps in one zone")
    for name in (distinct := set(offsets)):
        if name == "IST" or (name in SHARED_NAMES and SHARED_NAMES[name][0] not in distinct):
            raise UserError(f"{place}: {name} is the name of several zones: write offsets from UTC, as +01:00")
    deltas = {offset: parse_offset(offset) for offset in distinct}
    moments = (stamps - offsets.map(deltas)).dt.tz_localize("UTC")
    if len(set(deltas.values())) == 1:
        (delta,) = set(deltas.values())
        return moments.dt.tz_convert(timezone(delta)) if delta else moments
    shown = [moments.dt.tz_convert(zone) for zone in ZONES]
    return next((each for each in shown if each.dt.tz_localize(None).equals(stamps)), moments)


def parse_offset(text: str) -> timedelta:
    if text in ZONE_NAMES or text in SHARED_NAMES:
        return timedelta(hours=ZONE_NAMES[text] if text in ZONE_NAMES else SHARED_NAMES[text][1])
    digits = text[1:].replace(":", "").ljust(4, "0")
    delta = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -delta if text[0] == "-" else delta


def is_regular(stamps: pd.Series) -> bool:
    """Whether stamps are equally far apart, without a gap: in time, or in months."""
    index = pd.DatetimeIndex(stamps).unique().sort_values()
    months = 12 * index.year + index.month
    steps = set(np.diff(months))
    same_day = len(set(index.day)) == 1 and len(steps) == 1 and 0 not in steps
    return len(index) >= 3 and (bool(same_day) or pd.infer_freq(index) is not None)


def is_season(stamps: pd.Series) -> bool:
    """Whether months are thirteen apart, as 2001/02, 2002/03 are, which are seasons of two years."""
    months = 12 * stamps.dt.year + stamps.dt.month
    return set(months.unique()[1:] - months.unique()[:-1]) == {13}


def is_in_order(stamps: pd.Series) -> bool:
    """Whether many of them, each counted where it comes first, lead forward or back in time."""
    index = pd.DatetimeIndex(stamps).unique()
    return len(index) >= MANY and (index.is_monotonic_increasing or index.is_monotonic_decreasing)


def find_parts(names: Collection[str]) -> dict[str, str]:
    """The columns that together are a date, by its parts: a year with its quarter, week, or month (and day, and
    hour). Empty if there is no more than a year."""
    found = {part: name for part, words in PARTS.items() for name in names if name.strip().lower() in words}
    if {"MM", "DD", "hh", "mm"} <= {*names}:  # of buoys: elsewhere mm are millimetres
        found |= {"month": "MM", "day": "DD", "minute": "mm"}
    wanted = next((part for part in ("month", "quarter", "week") if part in found), None)
    if "year" not in found or wanted is None:
        return {}
    rest = ["day", "hour", "minute"] if wanted == "month" and "day" in found else []
    return {part: found[part] for part in ["year", wanted, *rest[: 3 if "hour" in found else 1]] if part in found}


def join_parts(data: pd.DataFrame, parts: dict[str, str]) -> pd.Series:
    """Texts that `to_timestamps` reads: 2024-01-31, 2024-01-31 13:00, 2024Q1, 2024-W05, Jan 2024."""
    cell = {part: as_text(data[name]).str.removesuffix(".0") for part, name in parts.items()}
    filled = data[parts["year"]].ffill()  # of months of one year, the first may have it for all
    cell["year"] = as_text(filled).str.removesuffix(".0")
    if "quarter" in cell:
        text = cell["year"] + "Q" + cell["quarter"].str.upper().str.removeprefix("Q")
    elif "week" in cell:
        text = cell["year"] + "-W" + cell["week"].str.upper().str.removeprefix("W").str.zfill(2)
    else:
        month = cell["month"].str.replace(r"^M(?=\d)", "", regex=True)
        month = month.where(month.str.contains(r"\D"), month.str.zfill(2))
        text = cell["year"] + "-" + month
        text = text + "-" + cell["day"].str.zfill(2) if "day" in cell else text
        minute = cell["minute"].str.zfill(2) if "minute" in cell else "00"
        text = text + " " + cell["hour"].str.zfill(2) + ":" + minute if "hour" in cell else text
    return text.rename(", ".join(parts.values()))


def add_time_of_day(stamps: pd.Series, column: pd.Series, source: str) -> pd.Series:
    """Dates with the times of day, 13:00, or the hours, 13, of another column."""
    text = as_text(column).str.replace(r"\.(?=\d\d)", ":", regex=True)
    times = pd.to_timedelta(text + ":00", errors="coerce")  # 13:00
    for form in ("%H:%M:%S", "%I:%M %p", "%I:%M:%S %p"):
        clock = pd.to_datetime(text.str.upper(), format=form, errors="coerce")
        times = times.fillna(clock - clock.dt.normalize())
    hours = pd.to_numeric(text, errors="coerce")  # at gaps pandas would round what lies in the memory, and may warn
    times = times.fillna(pd.to_timedelta(hours.fillna(0), unit="h").where(hours.notna()))
    if (wrong := times.isna()).any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(f"{source}: column '{column.name}', row {row + 1}: '{column.iloc[row]}' is no time of day")
    return stamps + times


def is_time_of_day(column: pd.Series) -> bool:
    """Whether all cells are times as 13:00; in a column that is called so, 13.00 or hours, too."""
    text = as_text(column)
    if text.str.fullmatch(TIME_OF_DAY).all():
        return True
    if is_clock(str(column.name)) and text.str.fullmatch(r"\d{1,2}\.\d\d").all():
        return True
    hours = pd.to_numeric(text, errors="coerce")
    return str(column.name).lower() in PARTS["hour"] and bool((hours.between(0, 24) & (hours % 1 == 0)).all())


def local_clock(index: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    """Irregular stamps in the zone of `ZONES` in which they are regular: local ones, an hour or less apart, whose
    clock shows just these, without an hour in spring, with one twice in autumn; moments of UTC that are all
    midnights there. None if there is none."""
    if len(index) < 3 or (index.is_unique and pd.infer_freq(index)):
        return None
    if index[0] > index[-1]:
        back = local_clock(index[::-1])
        return None if back is None else back[::-1]
    if index.tz is not None:
        shown = [index.tz_convert(zone) for zone in ZONES if str(index.tz) == "UTC"]
        return next((local for local in shown if local.equals(local.normalize())), None)
    step = pd.Series(index[1:] - index[:-1]).mode().iloc[0]
    if not pd.Timedelta(0) < step <= pd.Timedelta(hours=1):
        return None
    starts = [index[0].tz_localize(zone, ambiguous=True, nonexistent="shift_forward") for zone in ZONES]
    shown = [pd.date_range(start, periods=len(index), freq=step) for start in starts]
    return next((local for local in shown if local.tz_localize(None).equals(index)), None)


def check_years(index: pd.Index, source: str) -> None:
    """UserError for stamps that nanoseconds do not reach: before 1678 and after 2261."""
    if isinstance(index, pd.DatetimeIndex):
        outside = (index.year < FIRST_FULL_YEAR) | (index.year > LAST_FULL_YEAR)
        if outside.any():
            raise UserError(
                f"{source}: the time stamp {index[outside][0]} does not lie in {FIRST_FULL_YEAR} to "
                f"{LAST_FULL_YEAR}: leave its rows out, or count the rows without time stamps"
            )


def date_range(start: Any, freq: Any, **end: Any) -> pd.DatetimeIndex:
    """pandas' own, but in a zone whose clock jumps, days and longer steps go on at the same local time: what the
    clock leaves out is the next time that it shows."""
    step = to_offset(freq)
    if start.tzinfo is None or (isinstance(step, Tick) and not isinstance(step, Day)):
        return pd.date_range(start, freq=step, **end)
    end = {key: value.tz_localize(None) if key == "end" else value for key, value in end.items()}
    local = pd.date_range(start.tz_localize(None), freq=step, **end)
    return local.tz_localize(start.tzinfo, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward")
