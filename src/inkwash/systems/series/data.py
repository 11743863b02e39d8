"""Reading series: a table, wide or long, of a file or of Python's, or gluonts' JSON lines, put on one clock."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from inkwash.errors import UserError, unknown
from inkwash.systems.series import cells, clock
from inkwash.systems.series.clock import INDEX
from inkwash.systems.series.files import SEPARATOR, SOURCE, as_table

# as gluonts' files and older tables write them
OLD_FREQUENCIES = {"H": "h", "T": "min", "M": "ME", "Q": "QE", "Y": "YE"}
# columns of whole numbers that name something, and those that count if they rise by one
IDS = re.compile(r"(.*[ _.-])?([iI][dD]|uuid|UUID|sku|SKU|编号)|.*[a-z]I[dD]")
COUNTERS = re.compile(r"(.*[ _.-])?(no|nr|nummer|number|row|idx|key|序号)\.?|t|i|n|#|step|obs", re.I)
JOINT = " / "  # between the ids of one series
MOST_IDS = 3
CONSTANT = "one value a series"


@dataclass(frozen=True)
class Layout:
    """How the table was written, and its results are.

    time    the column of time stamps
    items   in a long table the columns that name the series
    ids     their cells, by the name of the series
    value   the column of values
    is_local  stamps had no offset from UTC, though they follow a zone's clock
    """

    time: str = "time"
    items: tuple[str, ...] = ()
    ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    value: str = ""
    is_local: bool = False

    def write(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of the columns time, series and more as the one that was read: its ids, its name of the time."""
        if self.is_local:
            table = table.assign(time=table["time"].dt.tz_localize(None))
        if not self.items:
            return table
        ids = [self.ids.get(name, (name,)) for name in table["series"]]
        named = pd.DataFrame(ids, table.index, list(self.items))
        return pd.concat([named, table.drop(columns="series").rename(columns={"time": self.time})], axis=1)

    def write_values(self, values: pd.DataFrame) -> pd.DataFrame:
        """Values (T, D) as such a table; of a wide one the time and a column for each series."""
        if not self.items:
            return self.write(values.rename_axis("time").reset_index())
        long = values.rename_axis("time").reset_index().melt("time", var_name="series", value_name=self.value)
        return self.write(long)


@dataclass(frozen=True)
class Series:
    """D series side by side on one clock.

    values  (T, D): a row for each step, NaN where nothing was observed; its index holds the time stamps, or whole
            numbers if there are none
    feat_dynamic_real  (T + ahead, C): covariates that are known in advance, on the same clock; C may be 0
    freq    a pandas frequency; "" where there are no time stamps
    note    what was taken for what, and what was left out
    layout  how the table was written
    """

    values: pd.DataFrame
    feat_dynamic_real: pd.DataFrame
    freq: str
    note: str = ""
    layout: Layout = Layout()

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.values.columns]

    def future_index(self, steps: int) -> pd.Index:
        """The stamps of the next steps."""
        last = self.values.index[-1]
        if not self.freq:
            return pd.RangeIndex(last + 1, last + 1 + steps)
        return clock.date_range(last, self.freq, periods=steps + 1)[1:]

    def before(self, end: int) -> Series:
        """The first `end` steps, with all covariates."""
        return replace(self, values=self.values.iloc[:end])


def read_series(
    data: Any,
    *,
    time: str | None = None,
    freq: str | None = None,
    target: Sequence[str] = (),
    item: str | Sequence[str] = (),
    feat_dynamic_real: Sequence[str] = (),
    dates: str | None = None,
    decimal: str | None = None,
) -> Series:
    """Series from a table.

    data: wide, a column for each series, or long, a row for each item and time. A CSV file with any signs between its
        cells and in any common encoding (also .gz), .xlsx, .parquet; gluonts' JSON lines (.json, .jsonl, .gz) of
        {"start", "target"}, one line a series; a DataFrame of pandas or polars, an array (T, D), a dict of arrays.
    time: the column of time stamps, or the index; found by itself if left out. freq: a pandas frequency ("D", "B",
        "h", "MS"); inferred if left out. target: the columns to forecast; all numbers if left out. item: in a long
        table the column or columns that name the series. feat_dynamic_real: columns of covariates that are known in
        advance; rows after the last target may hold what is to come. dates: "dmy", "mdy" or "ymd", the order of the
        parts of a date; decimal: "," or ".", the sign before decimals: both only where the table leaves it open.

    Raises UserError for what is missing, irregular, duplicated, ambiguous or no number.
    """
    if isinstance(data, Series):
        return data
    check_choices(dates, decimal)
    if is_json_lines(data):
        refuse_columns(str(data), {"time": time, "target": target, "item": item, "dates": dates, "decimal": decimal})
        return read_json_lines(Path(data), freq)
    table = as_table(data)
    if time is not None and time not in table and time == table.index.name:
        table = table.reset_index()
    source = table.attrs.get(SOURCE, "the table")
    items, feats = [item] if isinstance(item, str) else list(item or ()), list(feat_dynamic_real)
    named = [*target, *items, *feats]
    for name in [*([time] if time else []), *named]:
        if name not in table.columns:
            raise unknown(f"column of {source}", name, list(table.columns))
    data = drop_row_numbers(table)
    kinds = {name: cells.kind(data[name]) for name in data.columns}
    stamps = find_stamps(data, kinds, time, named, dates, source)
    data = data.drop(columns=stamps.columns).reset_index(drop=True)
    items = items or find_items(data, kinds, stamps.index, [*target, *feats], source)
    values = [name for name in target or number_columns(data, kinds, [*items, *feats], items) if name not in feats]
    if not values:
        raise UserError(f"{source}: no column of numbers to forecast; name one with --target")
    columns = [data[name] for name in data if kinds[name] in ("numbers", "mixed") and name not in items]
    decimal = cells.decimal_sign(columns, data.attrs.get(SEPARATOR, ""), decimal, source)
    numbers = {name: cells.to_numbers(data[name], decimal, source) for name in [*values, *feats]}
    frame = pd.DataFrame({name: column.values for name, column in numbers.items()}).set_axis(stamps.index)
    layout = Layout(stamps.name or "time")
    names = values
    if items:
        frame, names, feats, layout = pivot(frame, data[items], values, feats, layout, source)
    if isinstance(frame.index, pd.DatetimeIndex) and (local := clock.local_clock(frame.index)) is not None:
        layout = replace(layout, is_local=frame.index.tz is None)
        frame = frame.set_axis(local)
    frame, freq = to_regular_index(frame, freq, source)
    observed = frame[names].notna().any(axis=1).to_numpy()
    if not observed.any():
        raise UserError(f"{source}: {', '.join(map(str, names[:3]))}: no value is there")
    end = len(observed) - int(observed[::-1].argmax())  # rows after it hold only covariates
    covariates = frame[feats] if feats else frame.iloc[:end][[]]
    series = Series(frame.iloc[:end][names], covariates, freq, layout=layout)
    used = {*stamps.columns, *items, *values, *feat_dynamic_real}
    left_out = [f"{name} ({why_no_series(table, kinds, name, items)})" for name in table if name not in used]
    said = f"read {Path(source).name}: {describe(series, stamps)}; series {shortened(described(values, numbers))}"
    said += f" by {JOINT.join(items)}: {shortened(series.names)}" if items else ""
    said += f"; covariates {shortened(feat_dynamic_real)}" if feat_dynamic_real else ""
    if any(column.has_sign for column in numbers.values()):
        said += f"; decimal {cells.SIGN[decimal]}"
    said += describe_gaps(series, numbers)
    said += f"; left out {shortened(left_out)}" if left_out else ""
    return replace(series, note=said)


def check_choices(dates: str | None, decimal: str | None) -> None:
    if dates is not None and dates not in clock.ORDERS:
        raise unknown("order of dates", dates, clock.ORDERS)
    if decimal is not None and decimal not in cells.SIGN:
        raise unknown("decimal sign", decimal, list(cells.SIGN))


def shortened(names: Sequence[str]) -> str:
    """The first eight of them."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def described(names: Sequence[str], numbers: dict[str, cells.Column]) -> list[str]:
    return [f"{name} in {unit}" if (unit := numbers[name].unit) else name for name in names]


def describe(series: Series, stamps: Stamps) -> str:
    """The clock in words."""
    if not series.freq:
        return "no time stamps, rows are counted"
    index = series.values.index
    written = f" ({stamps.written})" if stamps.written else ""
    first, last = (str(stamp.tz_localize(None)).removesuffix(" 00:00:00") for stamp in (index[0], index[-1]))
    zone = f", {index.tz}" if index.tz is not None else ""
    zone += ", as its summer time shows" if series.layout.is_local else ""
    return f"time = {stamps.name}{written}, every {series.freq} from {first} to {last}{zone}"


def describe_gaps(series: Series, numbers: dict[str, cells.Column]) -> str:
    """How many values are missing, and which marks stand for some of them."""
    gaps = int(series.values.isna().to_numpy().sum())
    marks = sum((column.marks for column in numbers.values()), Counter())
    shown = ", ".join(f"'{mark}' {count}" for mark, count in marks.most_common(4))
    said = f"; {gaps} gap{'s' * (gaps > 1)}" if gaps else ""
    return said + (f" (marked {shown})" if marks else "")


def is_json_lines(data: Any) -> bool:
    return isinstance(data, str | Path) and str(data).endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz"))


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
    one = data[columns[0]] if len(columns) == 1 else clock.join_parts(data, clock.find_parts(columns))
    reading = clock.to_timestamps(one, source, dates)
    stamps = reading.stamps
    if stamps.duplicated().any() and stamps.equals(stamps.dt.normalize()) and stamps.dt.tz is None:
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
    texts = [name for name in free if name not in clocks and kinds[name] in ("times", "texts", "mixed")]
    parts = clock.find_parts(clocks)

    def shares(name: str) -> list[float]:
        return [each.stamps.notna().mean() for each in clock.readings(data[name], clock.is_clock(name))]

    if found := next((name for name in dates if 1.0 in shares(name)), None):
        return [found]
    if parts:
        return list(parts.values())
    names = [*years, *(name for name in clocks if name == INDEX), *texts]
    if found := next((name for name in names if 1.0 in shares(name)), None):
        return [found]
    partly = [name for name in clocks if not (cells.kind(data[name]) == "numbers" and is_count(data[name]))]
    partly += [name for name in texts if max(shares(name), default=0) > 0.5]
    return partly[:1]


def is_count(column: pd.Series) -> bool:
    """Whether numbers rise by one."""
    numbers = pd.to_numeric(clock.as_text(column), errors="coerce")
    return len(numbers) > 1 and bool((numbers.diff().iloc[1:] == 1).all())


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
    data: pd.DataFrame, kinds: dict[str, str], stamps: pd.Index, used: Sequence[str], source: str
) -> list[str]:
    """The columns that name the series of a long table: its stamps repeat, and they tell its rows apart, by as few
    columns and into as few series as can be; texts before whole numbers. UserError where several do so."""
    if not stamps.has_duplicates:
        return []
    free = [name for name in data if name not in used]
    texts = [name for name in free if kinds[name] in ("texts", "mixed") or IDS.fullmatch(name)]
    whole = [name for name in free if name not in texts and kinds[name] == "numbers" and is_whole(data[name])]
    codes = {name: pd.factorize(data[name])[0] for name in [*texts, *whole]}
    few = [name for name in whole if 2 * codes[name].max() < len(data)][:8]
    for names in (texts[:8], [*texts, *few][:8]):
        for size in range(1, MOST_IDS + 1):
            found = {
                each: count for each in combinations(names, size)
                if set(each) < set(free) and (count := count_series(stamps, [codes[name] for name in each]))
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


def pivot(
    frame: pd.DataFrame, ids: pd.DataFrame, values: Sequence[str], feats: Sequence[str], layout: Layout, source: str
) -> tuple[pd.DataFrame, list[str], list[str], Layout]:
    """A long table as a wide one: a column for each item; covariates become one column each, or one an item. And the
    names of both."""
    if len(values) != 1:
        raise UserError(
            f"{source}: a long table with the columns {', '.join(map(str, values))}: name one by --target"
        )
    if (missing := ids.isna().any(axis=1)).any():
        raise UserError(f"{source}: row {int(missing.argmax()) + 1}: no {JOINT.join(ids)} stands there; fill it in")
    texts = ids.apply(clock.as_text)
    names = texts.iloc[:, 0].str.cat([texts[name] for name in texts.columns[1:]], sep=JOINT)
    parted = {JOINT.join(row): tuple(row) for row in texts.drop_duplicates().itertuples(index=False)}
    layout = replace(layout, items=tuple(ids.columns), ids=parted, value=values[0])
    stamps = frame.index
    if not isinstance(stamps, pd.DatetimeIndex):
        stamps = names.groupby(names).cumcount()
    index = pd.MultiIndex.from_arrays([stamps, names])
    if (twice := index.duplicated()).any():
        stamp, name = index[twice][0]
        raise UserError(f"{source}: '{name}' has two rows for {stamp}: keep one of them")
    frame = frame.set_axis(index)
    wide = frame[values[0]].unstack()
    frames, covariates = [wide], []
    for name in feats:
        by_item = frame[name].unstack()
        if (by_item.nunique(axis=1) <= 1).all():  # the same for all: one column
            by_item = by_item.bfill(axis=1).iloc[:, :1].set_axis([name], axis=1)
        else:
            by_item.columns = [f"{name} of {c}" for c in by_item.columns]
        frames.append(by_item)
        covariates += list(by_item.columns)
    return pd.concat(frames, axis=1), list(wide.columns), covariates, layout


def to_regular_index(frame: pd.DataFrame, freq: str | None, source: str) -> tuple[pd.DataFrame, str]:
    """The table in order with a row for each step (NaN where there was none), and its frequency."""
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex):
        if freq:
            raise UserError(f"{source}: freq = {freq}, but there is no column of time stamps; name it with --time")
        return frame, ""
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise UserError(
            f"{source}: two rows have the time stamp {twice}: keep one of them, or name the column that tells the "
            "series apart with --item"
        )
    frame = frame.sort_index()
    index = frame.index
    if freq is not None:
        try:
            step = to_offset(OLD_FREQUENCIES.get(freq, freq))
        except ValueError:
            raise UserError(
                f"freq = {freq}: no frequency; take D, B, W, MS, h or 30min, as pandas writes them"
            ) from None
    else:
        step = infer_frequency(index, source)
    grid = clock.date_range(index[0], step, end=index[-1])
    stray = index.difference(grid)
    if len(stray):
        raise UserError(
            f"{source}: the time stamp {stray[0]} does not lie on the frequency {step.freqstr} that begins at "
            f"{index[0]}: resample the table, or give another --freq"
        )
    return frame.reindex(grid), step.freqstr


def infer_frequency(index: pd.DatetimeIndex, source: str) -> Any:
    """The frequency on which all the stamps lie, gaps allowed."""
    if len(index) < 3:
        raise UserError(f"{source}: {len(index)} rows are too few to tell their frequency: give --freq")
    if (found := pd.infer_freq(index)) is not None:
        return to_offset(found)
    gaps = pd.Series(index[1:] - index[:-1])
    typical = gaps.mode().iloc[0]
    days = typical / pd.Timedelta(days=1)
    longer = ["YS", "YE"] if days > 300 else ["QS", "QE"] if days > 80 else ["MS", "ME"] if days > 27 else []
    working = ["B"] if days == 1 and (index.dayofweek < 5).all() else []
    if days == 7:
        longer = [f"W-{index[0].strftime('%a').upper()}"]
    for step in [*working, *longer, to_offset(typical)]:
        if not len(index.difference(clock.date_range(index[0], step, end=index[-1]))):
            return to_offset(step)
    row = int((gaps != typical).to_numpy().argmax())
    raise UserError(
        f"{source}: the time stamps are irregular: after {index[row]} comes {index[row + 1]}, most are {typical} "
        "apart; resample the table to equal steps, or give --freq"
    )


def refuse_columns(source: str, options: dict[str, Any]) -> None:
    """UserError for what is said of columns where a file has none."""
    if given := [name for name, value in options.items() if value]:
        raise UserError(f"{given[0]} means nothing with {source}: leave it out")


def read_json_lines(path: Path, freq: str | None) -> Series:
    """gluonts' JSON lines of one split."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not freq:
        raise UserError(f"{path}: JSON lines do not say their frequency: give --freq")
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return parse_json_lines(raw, str(path), freq)


def parse_json_lines(raw: bytes, source: str, freq: str) -> Series:
    """Series of equal start from JSON lines of {"start": ..., "target": [...]}; item_id names them."""
    try:
        rows = [json.loads(line) for line in io.BytesIO(raw) if line.strip()]
        columns = {
            str(row.get("item_id", i)): pd.Series(
                np.array(row["target"], np.float64),
                pd.date_range(row["start"], periods=len(row["target"]), freq=OLD_FREQUENCIES.get(freq, freq)),
            )
            for i, row in enumerate(rows)
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{source}: not gluonts' JSON lines ({error})") from None
    if not columns:
        raise UserError(f"{source}: no series there")
    frame = pd.DataFrame(columns)
    frame, freq = to_regular_index(frame, freq, source)
    return Series(frame, frame[[]], freq)


def read_rolling_archive(archive: str | Path) -> tuple[Series, list[int], int]:
    """gluonts' archive of rolling windows (train/, test/, metadata/): the longest series, where each window begins,
    and the horizon."""
    path = Path(archive)
    if not path.is_file():
        raise UserError(f"{path}: no such file; docs/forecasting.md says where it comes from")
    splits: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            name, content = Path(member.name), tar.extractfile(member) if member.isfile() else None
            if content is not None and name.suffix == ".json" and not name.name.startswith("."):
                splits[name.parent.name] = content.read()
    metadata = json.loads(splits["metadata"])
    rows = [json.loads(line) for line in splits["test"].splitlines()]
    lengths = [len(row["target"]) for row in rows]
    longest = [row for row, length in zip(rows, lengths, strict=True) if length == max(lengths)]
    trained = max(len(json.loads(line)["target"]) for line in splits["train"].splitlines())
    horizon, freq = min(lengths) - trained, str(metadata.get("freq") or metadata["time_granularity"])
    lines = b"\n".join(json.dumps({"start": r["start"], "target": r["target"]}).encode() for r in longest)
    starts = sorted({length - horizon for length in lengths})
    return parse_json_lines(lines, str(path), freq), starts, horizon


def column_options(options: Any) -> dict[str, Any]:
    """What a request or a recipe says of the table's columns, as `read_series` takes it."""
    names = ("time", "freq", "target", "item", "feat_dynamic_real", "dates", "decimal")
    return {name: value for name in names if (value := getattr(options, name, None))}
