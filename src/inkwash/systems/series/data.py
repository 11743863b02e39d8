"""Reading series: a pandas DataFrame, wide or long, a CSV file, or gluonts' JSON lines, put on one clock."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from inkwash.errors import UserError, unknown

TIME_COLUMNS = ("time", "timestamp", "date", "datetime", "ds", "month", "week", "day", "hour", "year", "start")
# as gluonts' files and older tables write them
OLD_FREQUENCIES = {"H": "h", "T": "min", "M": "ME", "Q": "QE", "Y": "YE"}


@dataclass(frozen=True)
class Series:
    """D series side by side on one clock.

    values  (T, D): a row for each step, NaN where nothing was observed; its index holds the time stamps, or whole
            numbers if there are none
    feat_dynamic_real  (T + ahead, C): covariates that are known in advance, on the same clock; C may be 0
    freq    a pandas frequency; "" where there are no time stamps
    """

    values: pd.DataFrame
    feat_dynamic_real: pd.DataFrame
    freq: str

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
        return Series(self.values.iloc[:end], self.feat_dynamic_real, self.freq)


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
    source = "the table"
    if not isinstance(data, pd.DataFrame):
        source = str(data)
        if source.endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz")):
            return read_json_lines(Path(data), freq)
        data = read_csv(Path(data))
    if not len(data):
        raise UserError(f"{source}: the table is empty")
    for name in [*([time] if time else []), *target, *([item] if item else []), *feat_dynamic_real]:
        if name not in data.columns and name != data.index.name:
            raise unknown(f"column of {source}", name, [str(c) for c in data.columns])
    stamps, data = time_column(data, time, source)
    item = item or item_column(data, stamps, [*target, *feat_dynamic_real])
    if item is not None:
        data, stamps, target, feat_dynamic_real = pivot(data, stamps, item, target, feat_dynamic_real, source)
    columns = list(target) or [c for c in data.columns if c not in feat_dynamic_real and is_number(data[c])]
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
    return Series(frame.iloc[:end][columns], covariates, freq)


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file. UserError, in one line, if it cannot be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return pd.read_csv(path)
    except (ValueError, OSError, UnicodeError) as error:
        raise UserError(f"{path}: not a table in CSV ({' '.join(str(error).split())})") from None


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def to_numbers(column: pd.Series, source: str) -> np.ndarray:
    """float64 (T,); UserError for the first value that is no number, and for an infinite one."""
    values: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isnan(values) & column.notna().to_numpy() | np.isinf(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{source}: column '{column.name}', row {row + 1}: '{column.iloc[row]}' is no number; mend it or "
            "leave the cell empty"
        )
    return values


def time_column(data: pd.DataFrame, time: str | None, source: str) -> tuple[pd.Index, pd.DataFrame]:
    """The time stamps (or row numbers, if there are none), and the table without them."""
    index = data.index
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex) and (time is None or time == data.index.name):
        return index.tz_localize(None), data.reset_index(drop=True)
    if time is None:
        text_columns = [c for c in data.columns if not is_number(data[c])]
        likely = [c for c in data.columns if str(c).lower() in TIME_COLUMNS]
        time = next((c for c in [*likely, *text_columns] if is_time(data[c])), None)
    if time is None:
        return pd.RangeIndex(len(data)), data.reset_index(drop=True)
    stamps = to_timestamps(data[time])
    if stamps.isna().any():
        row = int(stamps.isna().to_numpy().argmax())
        raise UserError(f"{source}: column '{time}', row {row + 1}: '{data[time].iloc[row]}' is no time stamp")
    return pd.DatetimeIndex(stamps).tz_localize(None), data.drop(columns=time).reset_index(drop=True)


def to_timestamps(column: pd.Series) -> pd.Series:
    """Time stamps, NaT where there is none; whole numbers are years."""
    if is_number(column):
        return pd.to_datetime(column.astype("Int64").astype(str), format="%Y", errors="coerce")
    return pd.to_datetime(column, errors="coerce", format="mixed", utc=True).dt.tz_localize(None)


def is_time(column: pd.Series) -> bool:
    """Whether a column can be the clock: nearly all of it reads as times, or as years."""
    if is_number(column):
        whole = column.notna().all() and (column % 1 == 0).all()
        return bool(str(column.name).lower() == "year" and whole and column.between(1000, 3000).all())
    return bool(to_timestamps(column).notna().mean() > 0.9)


def item_column(data: pd.DataFrame, stamps: pd.Index, used: Sequence[str]) -> str | None:
    """The column that names the series of a long table: its stamps repeat, and one column of texts tells them
    apart."""
    if not stamps.has_duplicates:
        return None
    text_columns = [c for c in data.columns if not is_number(data[c]) and c not in used]
    unique = [c for c in text_columns if not pd.MultiIndex.from_arrays([stamps, data[c]]).has_duplicates]
    return unique[0] if len(unique) == 1 else None


def pivot(
    data: pd.DataFrame,
    stamps: pd.Index,
    item: str,
    target: Sequence[str],
    feat_dynamic_real: Sequence[str],
    source: str,
) -> tuple[pd.DataFrame, pd.Index, list[str], list[str]]:
    """A long table as a wide one: a column for each item; covariates become one column each, or one an item."""
    used = {item, *feat_dynamic_real}
    value = list(target) or [c for c in data.columns if c not in used and is_number(data[c])]
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
    return wide.reset_index(drop=True), wide.index, list(values.columns), names


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
