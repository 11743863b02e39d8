"""Reading series: a pandas DataFrame, wide or long, a CSV file, or gluonts' JSON lines, put on one clock."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from inkwash.errors import UserError, unknown
from inkwash.systems import tables

SOURCE = "inkwash source"  # of a table's attributes: the file that it was read from
INDEX = "index"  # what a column without a name is called: pandas writes its own so
TIME_COLUMNS = (
    *("time", "timestamp", "date", "datetime", "ds", "month", "week", "day", "hour", "year", "quarter", "start"),
    *("datum", "zeit", "日期", "时间", INDEX),
)
# how dates are written, a whole column alike; what is not here (two digits for a year) cannot be told for sure
DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%Y-%m", "%Y/%m", "%Y年%m月", "%m/%Y", "%d.%m.%Y"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %Y", "%b-%Y"),
    *("%d %B %Y", "%B %d, %Y", "%B %Y"),
)
TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d"}
WRITE_DATES = "write dates as 2024-01-31"
TIME_OF_DAY = r"\d{1,2}:\d\d(?::\d\d)?(?: ?[AaPp][Mm])?"
OFFSET = r"(?<=:\d\d)(\.\d+)? ?(Z|UTC|[+-]\d\d(?::?\d\d)?)$"
QUARTER = r"(?:(?P<y>\d{4})-?Q(?P<q>[1-4])|Q(?P<q2>[1-4])[ -](?P<y2>\d{4}))"
# cells that are meant as numbers: 100,130.00, €100, 12 %, (5)
LIKE_A_NUMBER = r"\W*\d[\d.,'\s]*\W*"
# a comma or a point in a number, and where it may also part thousands
DECIMAL = {sign: re.compile(rf"[+-]?\d*[{sign}]\d+") for sign in ",."}
THOUSANDS = {sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}[{sign}]\d{{3}}") for sign in ",."}
# as gluonts' files and older tables write them
OLD_FREQUENCIES = {"H": "h", "T": "min", "M": "ME", "Q": "QE", "Y": "YE"}


@dataclass(frozen=True)
class Series:
    """D series side by side on one clock.

    values  (T, D): a row for each step, NaN where nothing was observed; its index holds the time stamps, or whole
            numbers if there are none
    feat_dynamic_real  (T + ahead, C): covariates that are known in advance, on the same clock; C may be 0
    freq    a pandas frequency; "" where there are no time stamps
    note    what was taken for what, and what was left out
    """

    values: pd.DataFrame
    feat_dynamic_real: pd.DataFrame
    freq: str
    note: str = ""

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.values.columns]

    def future_index(self, steps: int) -> pd.Index:
        """The stamps of the next steps."""
        last = self.values.index[-1]
        if not self.freq:
            return pd.RangeIndex(last + 1, last + 1 + steps)
        return pd.date_range(last, periods=steps + 1, freq=self.freq)[1:]

    def before(self, end: int) -> Series:
        """The first `end` steps, with all covariates."""
        return Series(self.values.iloc[:end], self.feat_dynamic_real, self.freq, self.note)


def read_series(
    data: str | Path | pd.DataFrame | Series,
    *,
    time: str | None = None,
    freq: str | None = None,
    target: Sequence[str] = (),
    item: str | None = None,
    feat_dynamic_real: Sequence[str] = (),
) -> Series:
    """Series from a table.

    data: wide, a column for each series, or long, a row for each item and time. A CSV file (also .gz), or gluonts'
        JSON lines (.json, .jsonl, .gz) of {"start", "target"}, one line a series.
    time: the column of time stamps, or the index; found by itself if left out. freq: a pandas frequency ("D", "B",
        "h", "MS"); inferred if left out. target: the columns to forecast; all numbers if left out. item: in a long
        table the column that names the series. feat_dynamic_real: columns of covariates that are known in advance;
        rows after the last target may hold what is to come.

    Raises UserError for what is missing, irregular, duplicated or no number.
    """
    if isinstance(data, Series):
        return data
    if is_json_lines(data):
        return read_json_lines(Path(data), freq)
    data = read_table(data, time, item)
    source = data.attrs.get(SOURCE, "the table")
    for name in [*([time] if time else []), *target, *([item] if item else []), *feat_dynamic_real]:
        if name not in data.columns:
            raise unknown(f"column of {source}", name, list(data.columns))
    everything = data
    stamps, data = time_column(data, time, source)
    item = item or item_column(data, stamps, [*target, *feat_dynamic_real], source)
    left_out = [c for c in everything.columns if c not in (stamps.name, item, *feat_dynamic_real)]
    if item is not None:
        data, stamps, target, feat_dynamic_real, value = pivot(data, stamps, item, target, feat_dynamic_real, source)
        left_out.remove(value)
    columns = list(target) or number_columns(data, feat_dynamic_real, source)
    columns = [c for c in columns if c not in feat_dynamic_real]
    if not columns:
        raise UserError(f"{source}: no column of numbers to forecast; name one with --target")
    frame = pd.DataFrame({c: to_numbers(data[c], source) for c in [*columns, *feat_dynamic_real]}).set_axis(stamps)
    frame, freq = to_regular_index(frame, freq, source)
    observed = frame[columns].notna().any(axis=1).to_numpy()
    if not observed.any():
        raise UserError(f"{source}: {', '.join(map(str, columns[:3]))}: no value is there")
    end = len(observed) - int(observed[::-1].argmax())  # rows after it hold only covariates
    covariates = frame[list(feat_dynamic_real)] if feat_dynamic_real else frame.iloc[:end][[]]
    left_out = [c for c in left_out if c not in columns]
    clock = f"time = {stamps.name or INDEX}, every {freq}" if freq else "no time stamps, rows are counted"
    note = f"read {Path(source).name}: {clock}; series {shortened(columns)}"
    note += f"; covariates {shortened(feat_dynamic_real)}" if feat_dynamic_real else ""
    note += f"; left out {shortened(left_out)}" if left_out else ""
    return Series(frame.iloc[:end][columns], covariates, freq, note)


def shortened(names: Sequence[str]) -> str:
    """The first eight of them."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def is_json_lines(data: Any) -> bool:
    return isinstance(data, str | Path) and str(data).endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz"))


def read_table(data: str | Path | pd.DataFrame, time: str | None = None, item: str | None = None) -> pd.DataFrame:
    """A table whose columns are called by texts; of a file, the items and what may be a clock are read as such. An
    index of texts is a column. UserError, in one line, for one that cannot be read, and for an empty one."""
    if not isinstance(data, pd.DataFrame):
        source = str(data)
        data = read_csv(Path(data), [name for name in (time, item) if name])
        data.attrs[SOURCE] = source
    if not isinstance(data.index, pd.DatetimeIndex | pd.PeriodIndex) and not is_number(data.index):
        data = data.rename_axis(data.index.name or INDEX).reset_index()
    data = data.rename(columns=str)
    if INDEX in data and data[INDEX].astype(str).tolist() in [[str(i + k) for i in range(len(data))] for k in (0, 1)]:
        data = data.drop(columns=INDEX)  # row numbers
    if not len(data):
        raise UserError(f"{data.attrs.get(SOURCE, 'the table')}: the table is empty")
    return data


def read_csv(path: Path, texts: Collection[str] = ()) -> pd.DataFrame:
    """A CSV or TSV file; see `tables.read_rows`. UserError, in one line, if it cannot be read for sure."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    raw = tables.read_utf8(path)
    delimiter, quoting = tables.dialect(path, raw)
    rows = tables.read_rows(path, raw)
    names = next(rows, [])
    if not names:
        raise UserError(f"{path}: not a table in CSV, it is empty")
    if names[0] in ("", "Unnamed: 0"):
        names[0] = INDEX
    if any(re.fullmatch(r"[\d\s+-]*\d[.,:/-]\d[\d\s.,:/+-]*", name) for name in names) or not re.search(
        r"[^\W\d]", "".join(names)
    ):
        raise UserError(f"{path}: the first line, '{shortened(names)}', holds values; put a line of names before it")
    texts = [name for name in names if name in texts or is_clock(name)]
    comma = decimal_comma(path, names, rows, texts) if delimiter == ";" else False
    for _ in rows:  # each must be as long as the first
        pass
    data = pd.read_csv(
        io.BytesIO(raw), sep=delimiter, quoting=quoting, skipinitialspace=True, encoding="utf-8", header=0,
        names=names, index_col=False, dtype=dict.fromkeys(texts, str), low_memory=False,
    ).dropna(how="all")  # fmt: skip
    for name in data.columns.difference(texts) if comma else []:
        column = data[name].astype(str).str.replace(r"^\s*([+-]?\d*),(\d+)\s*$", r"\1.\2", regex=True)
        numbers = pd.to_numeric(column, errors="coerce")
        data[name] = numbers if (numbers.notna() == data[name].notna()).all() else column.where(data[name].notna())
    return data


def decimal_comma(path: Path, names: list[str], rows: Iterator[list[str]], texts: Collection[str]) -> bool:
    """Whether numbers have a comma before their decimals. UserError where that cannot be told."""
    found = dict.fromkeys(",.", "")
    certain = dict.fromkeys(",.", False)
    numbers = [i for i, name in enumerate(names) if name not in texts]
    for cells in rows:
        for sign, pattern in DECIMAL.items():
            for cell in (cells[i] for i in numbers if sign in cells[i]):
                if pattern.fullmatch(cell):
                    found[sign] = found[sign] or cell
                    certain[sign] = certain[sign] or not THOUSANDS[sign].fullmatch(cell)
    if found[","] and found["."]:
        raise UserError(f"{path}: '{found[',']}' has a comma, '{found['.']}' a point: write all numbers as 1234.56")
    for sign, cell in found.items():
        if cell and not certain[sign]:
            raise UserError(f"{path}: '{cell}' may be a thousandfold: write numbers as 1234.56, and , between cells")
    return bool(found[","])


def is_clock(name: str) -> bool:
    """Whether a column is called like one of time stamps."""
    return name.lower() in TIME_COLUMNS


def is_number(column: pd.Series | pd.Index) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def number_columns(data: pd.DataFrame, used: Collection[str], source: str) -> list[str]:
    """The columns of numbers. UserError for one that is meant as such, and has a cell that is none."""
    return [c for c in data.columns if c not in used and (is_number(data[c]) or is_meant_as_numbers(data[c], source))]


def is_meant_as_numbers(column: pd.Series, source: str) -> bool:
    """Whether most cells of a column of texts look like numbers; UserError if one is none."""
    cells = column.dropna()
    if not (column.dtype == object or pd.api.types.is_string_dtype(column)) or not len(cells):
        return False
    if cells.astype(str).str.strip().str.fullmatch(LIKE_A_NUMBER).mean() <= 0.5 or complete(column):
        return False
    to_numbers(column, source)
    return True


def to_numbers(column: pd.Series, source: str) -> np.ndarray:
    """float64 (T,); UserError for the first value that is no number, and for an infinite one."""
    values: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isnan(values) & column.notna().to_numpy() | np.isinf(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{source}: column '{column.name}', row {row + 1}: '{column.iloc[row]}' is no number; mend it, leave the "
            "cell empty, or name other columns with --target"
        )
    return values


def time_column(data: pd.DataFrame, time: str | None, source: str) -> tuple[pd.Index, pd.DataFrame]:
    """The time stamps (or row numbers, if there are none), and the table without them. UserError for a column that is
    called like a clock, or is one for the most part, and cannot be read."""
    index = data.index
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex) and time is None:
        return index.tz_localize(None), data.reset_index(drop=True)
    if time is None:
        clocks = [c for c in data.columns if is_clock(c)]
        texts = [c for c in data.columns if c not in clocks and not is_number(data[c])]
        time = next((c for c in [*clocks, *texts] if complete(data[c])), None)
        partly = [c for c in texts if any(each.notna().mean() > 0.5 for each in readings(data[c]))]
        time = time or next(iter([*clocks, *partly]), None)
    if time is None:
        return pd.RangeIndex(len(data)), data.reset_index(drop=True)
    stamps = to_timestamps(data[time], source)
    return pd.DatetimeIndex(stamps, name=time), data.drop(columns=time).reset_index(drop=True)


def to_timestamps(column: pd.Series, source: str) -> pd.Series:
    """Local time stamps of a whole column. UserError for what is none, what can be read in two ways, and stamps of
    several zones. Days and months are told apart by their order only where just one is regular, without a gap."""
    place = f"{source}: column '{column.name}'"
    zones = as_text(column).str.extract(OFFSET)[1]
    if zones.nunique(dropna=False) > 1:
        names = ", ".join(sorted(zones.fillna("none").unique()))
        raise UserError(f"{place}: offsets from UTC differ ({names}): write all time stamps in one zone")
    if not (possible := complete(column)):
        best = max(readings(column), key=lambda each: each.notna().sum(), default=None)
        row = 0 if best is None else int(best.isna().to_numpy().argmax())
        raise UserError(
            f"{place}, row {row + 1}: '{column.iloc[row]}' is no time stamp that can be read; {WRITE_DATES}, or give "
            "the column another name if it is no time"
        )
    if len(possible) > 1:
        possible = [each for each in possible if is_regular(each)]
    if len(possible) != 1:
        raise UserError(f"{place}: '{column.iloc[0]}' may have the day or the month first; {WRITE_DATES}")
    return possible[0]


def complete(column: pd.Series) -> list[pd.Series]:
    """The readings of a column that leave nothing out."""
    return [each for each in readings(column) if each.notna().all()]


def readings(column: pd.Series) -> list[pd.Series]:
    """A column as time stamps in each way of writing that its first cell allows, NaT where there is none. Mere digits
    are dates only where the column is called so."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return [column.dt.tz_localize(None)]
    if isinstance(column.dtype, pd.PeriodDtype):
        return [column.dt.to_timestamp()]
    if pd.api.types.is_bool_dtype(column):
        return []
    text = as_text(column)
    first = text.iloc[0]
    if re.fullmatch(r"\d*", first):
        formats = [DIGITS[len(first)]] if is_clock(str(column.name)) and len(first) in DIGITS else []
        text = text.where(text.str.len() == len(first))
    else:
        text = text.str.replace(OFFSET, r"\1", regex=True)
        parts = text.str.extract(f"^{QUARTER}$").fillna("")
        months = (3 * pd.to_numeric(parts["q"] + parts["q2"]) - 2).astype("Int64").astype(str)
        text = (parts["y"] + parts["y2"] + "-" + months).where(parts["q"] + parts["q2"] != "", text)
        formats = ["ISO8601", *(date + time for date in DATES for time in TIMES)]
        formats = [each for each in formats if pd.notna(pd.to_datetime(text.iloc[0], format=each, errors="coerce"))]
    found: list[pd.Series] = []
    for each in formats:
        stamps = pd.to_datetime(text, format=each, errors="coerce")
        if not any(stamps.equals(other) for other in found):
            found.append(stamps)
    return found


def as_text(column: pd.Series) -> pd.Series:
    """Cells as texts, whole numbers without a point."""
    if is_number(column) and column.notna().all() and (column % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(str).str.strip()


def is_regular(stamps: pd.Series) -> bool:
    """Whether stamps are equally far apart, without a gap."""
    index = pd.DatetimeIndex(stamps).unique().sort_values()
    return len(index) >= 3 and pd.infer_freq(index) is not None


def item_column(data: pd.DataFrame, stamps: pd.Index, used: Sequence[str], source: str) -> str | None:
    """The column that names the series of a long table: its stamps repeat, and one column of texts tells them
    apart. UserError for times of day, which tell no series apart."""
    if not stamps.has_duplicates:
        return None
    text_columns = [c for c in data.columns if not is_number(data[c]) and c not in used]
    unique = [c for c in text_columns if not pd.MultiIndex.from_arrays([stamps, data[c]]).has_duplicates]
    if len(unique) == 1 and as_text(data[unique[0]]).str.fullmatch(TIME_OF_DAY).all():
        raise UserError(
            f"{source}: the dates stand in '{stamps.name}', the times of day in '{unique[0]}': join them in one "
            "column, as 2024-01-31 13:00"
        )
    return unique[0] if len(unique) == 1 else None


def pivot(
    data: pd.DataFrame,
    stamps: pd.Index,
    item: str,
    target: Sequence[str],
    feat_dynamic_real: Sequence[str],
    source: str,
) -> tuple[pd.DataFrame, pd.Index, list[str], list[str], str]:
    """A long table as a wide one: a column for each item; covariates become one column each, or one an item. And the
    name of the column of values."""
    value = list(target) or number_columns(data, {item, *feat_dynamic_real}, source)
    if len(value) != 1:
        raise UserError(f"{source}: a long table with the columns {', '.join(map(str, value))}: name one by --target")
    index = pd.MultiIndex.from_arrays([stamps, data[item].astype(str)])
    if (twice := index.duplicated()).any():
        stamp, name = index[twice][0]
        raise UserError(f"{source}: '{name}' has two rows for {stamp}: keep one of them")
    data = data.set_index(index)
    values = data[value[0]].unstack()
    frames, names = [values], []
    for name in feat_dynamic_real:
        by_item = data[name].unstack()
        if (by_item.nunique(axis=1) <= 1).all():  # the same for all: one column
            by_item = by_item.bfill(axis=1).iloc[:, :1].set_axis([name], axis=1)
        else:
            by_item.columns = [f"{name} of {c}" for c in by_item.columns]
        frames.append(by_item)
        names += list(by_item.columns)
    wide = pd.concat(frames, axis=1)
    return wide.reset_index(drop=True), wide.index, list(values.columns), names, value[0]


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
    grid = pd.date_range(index[0], index[-1], freq=step)
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
        if not len(index.difference(pd.date_range(index[0], index[-1], freq=step))):
            return to_offset(step)
    row = int((gaps != typical).to_numpy().argmax())
    raise UserError(
        f"{source}: the time stamps are irregular: after {index[row]} comes {index[row + 1]}, most are {typical} "
        "apart; resample the table to equal steps, or give --freq"
    )


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
    names = ("time", "freq", "target", "item", "feat_dynamic_real")
    return {name: value for name in names if (value := getattr(options, name, None))}
