"""Reading series: a table, wide or long, of a file or of Python's, or gluonts' JSON lines, put on one clock."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from inkwash.errors import UserError, unknown
from inkwash.systems.series import cells, clock, roles
from inkwash.systems.series.files import ENCODING, SEPARATOR, SKIPPED, SOURCE, as_table

# as gluonts' files and older tables write them
OLD_FREQUENCIES = {"H": "h", "T": "min", "M": "ME", "Q": "QE", "Y": "YE"}


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
        try:
            return clock.date_range(last, self.freq, periods=steps + 1)[1:]
        except (pd.errors.OutOfBoundsDatetime, OverflowError):
            raise UserError(
                f"{steps} steps after {last} lie beyond {clock.LAST_FULL_YEAR}: take a smaller horizon"
            ) from None

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
    sheet: str | None = None,
    missing: Sequence[Any] = (),
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
        sheet: of a workbook, where several hold a table. missing: cells that stand for a missing value besides the
        usual marks, and then no others: else numbers of nines, as -999, that lie far from all others, are taken for
        missing where they are repeated.

    Raises UserError for what is missing, irregular, duplicated, ambiguous or no number.
    """
    if isinstance(data, Series):
        return data
    check_choices(dates, decimal)
    if is_json_lines(data):
        refuse_columns(str(data), {"time": time, "target": target, "item": item, "dates": dates, "decimal": decimal,
                                   "sheet": sheet, "missing": missing})  # fmt: skip
        return read_json_lines(Path(data), freq)
    table = as_table(data, decimal, sheet)
    if time is not None and time not in table and time == table.index.name:
        table = table.reset_index()
    source = table.attrs.get(SOURCE, "the table")
    if sheet and not source.lower().endswith(".xlsx"):
        refuse_columns(source, {"sheet": sheet})
    items, feats = [item] if isinstance(item, str) else list(item or ()), list(feat_dynamic_real)
    named = [*target, *items, *feats]
    for name in [*([time] if time else []), *named]:
        if name not in table.columns:
            raise unknown(f"column of {source}", name, list(table.columns))
    if twice := [name for name, count in Counter([*filter(None, [time]), *named]).items() if count > 1]:
        raise UserError(
            f"{source}: column '{twice[0]}' is named twice by --time, --target, --item or "
            "--feat-dynamic-real: it can be one of them"
        )
    notes = list(table.attrs.get(SKIPPED, []))
    table, sums = roles.drop_sums(table, time)
    notes += sums
    if not time and not named:
        table, turned = roles.months_down(table, source)
        notes += [turned] if turned else []
    if not time and not set(named) & {*clock.across(list(table))}:
        table = roles.dates_down(table)
    data = table if clock.INDEX in (time, *named) else roles.drop_row_numbers(table)
    words = [str(word) for word in missing]
    kinds = {name: cells.kind(column) for name, column in cells.blank(data, words, data).items()}
    stamps = roles.find_stamps(data, kinds, time, named, dates, source)
    clock.check_years(stamps.index, source)
    data = data.drop(columns=stamps.columns).reset_index(drop=True)
    items = items or roles.find_items(data, kinds, stamps.index, target, feats, source)
    values = list(target) or roles.number_columns(data, kinds, [*items, *feats], items)
    values = [name for name in values if name not in feats]
    if not values:
        raise UserError(f"{source}: no column of numbers to forecast; name one with --target")
    candidates = [data[name] for name in data if kinds[name] in ("numbers", "mixed") and name not in items]
    written = data
    data = cells.blank(data, words, [*values, *feats])
    decimal = cells.decimal_sign(candidates, data.attrs.get(SEPARATOR, ""), decimal, source)
    numbers = {name: cells.to_numbers(data[name], decimal, source) for name in [*values, *feats]}
    frame = pd.DataFrame({name: column.values for name, column in numbers.items()})
    frame, sides = give_sides(frame, data, kinds, source)
    notes += sides + [
        f"{name}: {', '.join(column.sides)} as signs" for name, column in numbers.items() if column.sides
    ]
    if words:
        frame, counts = remove_named(frame, written, [word for word in words if not cells.is_missing(word)], decimal)
        notes += [f"'{word}' taken for missing, {times(count)}" for word, count in counts.items()]
    frame = frame.set_axis(stamps.index)
    layout = Layout(stamps.name or "time")
    names = values
    if items:
        frame, names, feats, layout = pivot(frame, data[items], values, feats, layout, source)
    if not words:
        frame, sentinels = remove_sentinels(frame)
        emptied = [name for name in names if name not in target and not items and frame[name].isna().all()]
        if len(emptied) < len(names):  # instruments that never were there
            names = [name for name in names if name not in emptied]
            sentinels += [f"left out {shortened(emptied)} (no values)"] if emptied else []
        notes += sentinels
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
    left_out = [
        f"{name} ({roles.why_no_series(table, kinds, name, items) or 'not named'})"
        for name in table
        if name not in used
    ]
    encoding = table.attrs.get(ENCODING, "UTF-8")
    parts = [
        f"read {Path(source).name}{f' in {encoding}' * (encoding != 'UTF-8')}: {describe_clock(series, stamps)}",
        f"series {shortened(with_units(values, numbers))}",
        f"covariates {shortened(feat_dynamic_real)}" if feat_dynamic_real else "",
        f"decimal {cells.SIGN[decimal]}" if any(column.has_sign for column in numbers.values()) else "",
        describe_gaps(series, numbers),
        *notes,
        f"left out {shortened(left_out)}" if left_out else "",
    ]
    parts[1] += f" by {roles.JOINT.join(items)}: {shortened(series.names)}" if items else ""
    return replace(series, note="; ".join(filter(None, parts)))


def give_sides(
    frame: pd.DataFrame, data: pd.DataFrame, kinds: dict[str, str], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """Amounts with the sign of the column of debits and credits beside them, unless they have it; and that in words.
    UserError for an amount without a mark among others."""
    notes = []
    for mark in [name for name in data if kinds[name] == "texts" and name not in frame]:
        position, signs = list(data).index(mark), cells.side_signs(data[mark])
        near = sorted(frame, key=lambda name: abs(list(data).index(name) - position))
        if signs is None or not near:
            continue
        amounts = frame[near[0]].to_numpy()
        signed = amounts * signs
        if not (signed > 0).any() or not (signed < 0).any():  # as their marks say already, if from the other side
            continue
        if (unmarked := np.isnan(signs) & (np.abs(amounts) > 0)).any():
            row = int(unmarked.argmax()) + 1
            raise UserError(
                f"{source}: column '{mark}', row {row}: neither debit nor credit stands there; fill it in"
            )
        frame = frame.assign(**{near[0]: np.where(amounts == 0, 0.0, signed)})
        debit = data[mark][signs < 0].iloc[0]
        notes.append(f"{near[0]} with the sign of {mark}, {debit} as -")
    return frame, notes


def remove_named(
    frame: pd.DataFrame, written: pd.DataFrame, words: Sequence[str], decimal: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Numbers without those that stand for a missing value, and how often each stood there, in texts as well."""
    texts = [written[name].astype(str).str.strip() for name in frame if not cells.is_number(written[name])]
    counts = {}
    for word in words:
        number = cells.parse_number(word)
        hits = frame == (number.value(decimal) if number else None)
        counts[word] = int(hits.to_numpy().sum() + sum((column == word).sum() for column in texts))
        frame = frame.mask(hits)
    return frame, counts


def remove_sentinels(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Numbers without those that stand for a missing value as -999 does, if they are repeated; and all that was
    found, in words."""
    notes = []
    for code, counts in cells.find_sentinels(frame).items():
        place = f"{code:.12g} in {shortened(list(counts))}"
        if sum(counts.values()) > 1:
            frame = frame.assign(**{name: frame[name].mask(frame[name] == code) for name in counts})
            notes.append(f"{place} taken for missing, {times(sum(counts.values()))} (--missing none keeps it)")
        else:
            notes.append(f"{place} stands once, far from the others (--missing {code:.12g} takes it for missing)")
    return frame, notes


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def check_choices(dates: str | None, decimal: str | None) -> None:
    if dates is not None and dates not in clock.ORDERS:
        raise unknown("order of dates", dates, clock.ORDERS)
    if decimal is not None and decimal not in cells.SIGN:
        raise unknown("decimal sign", decimal, list(cells.SIGN))


def shortened(names: Sequence[str]) -> str:
    """The first eight of them."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def with_units(names: Sequence[str], numbers: dict[str, cells.Column]) -> list[str]:
    return [f"{name} in {unit}" if (unit := numbers[name].unit) else name for name in names]


def describe_clock(series: Series, stamps: roles.Stamps) -> str:
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
    return (f"{gaps} gap{'s' * (gaps > 1)}" if gaps else "") + (f" (marked {shown})" if gaps and marks else "")


def is_json_lines(data: Any) -> bool:
    return isinstance(data, str | Path) and str(data).endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz"))


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
        raise UserError(
            f"{source}: row {int(missing.argmax()) + 1}: no {roles.JOINT.join(ids)} stands there; fill it in"
        )
    texts = ids.apply(clock.as_text)
    names = texts.iloc[:, 0].str.cat([texts[name] for name in texts.columns[1:]], sep=roles.JOINT)
    parted = {roles.JOINT.join(row): tuple(row) for row in texts.drop_duplicates().itertuples(index=False)}
    layout = replace(layout, items=tuple(ids.columns), ids=parted, value=values[0])
    stamps = frame.index
    if not isinstance(stamps, pd.DatetimeIndex) and stamps.is_unique:
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
    if freq and not isinstance(index, pd.DatetimeIndex):
        raise UserError(f"{source}: freq = {freq}, but there is no column of time stamps; name it with --time")
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise UserError(
            f"{source}: two rows have the time stamp {twice}: keep one of them, or name the column that tells the "
            "series apart with --item"
        )
    frame = frame.sort_index()
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex):
        return frame, ""
    if freq is not None:
        try:
            step = to_offset(OLD_FREQUENCIES.get(freq, freq))
            if step.n < 1:
                raise ValueError(freq)
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
    series = parse_json_lines(raw, str(path), freq)
    clock_words = describe_clock(series, roles.Stamps(series.values.index, [], "start"))
    return replace(series, note=f"read {path.name}: {clock_words}; series {shortened(series.names)}")


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
    names = ("time", "freq", "target", "item", "feat_dynamic_real", "dates", "decimal", "sheet", "missing")
    return {name: value for name in names if (value := getattr(options, name, None))}
