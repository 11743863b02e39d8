"""What every evaluation returns: rows of figures with their intervals, how they came about, and tables of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.progress import Progress
from inkwash.systems.base import Context, File, Result
from inkwash.weights.files import atomic, check_ours
from inkwash.weights.shipped import reference

FIGURE = ("metric", "value", "low", "high", "n")  # of a row; the rest of it says what was measured
BINS = 15  # of the expected calibration error
NAME, MARK = "report.json", '"cpu_seconds"'  # of the file, and what stands in it

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured of a model.

    title        what, and how, in words
    model        its name, the SHA-256 of its weights, and how it was sampled
    data         their name, SHA-256 and split
    cpu_seconds  of each part of the work
    rows         see `row`
    examples     what was made, unchosen, for people to look at
    figures      pictures that lie beside the report, by what they show
    """

    title: str
    system: str
    rows: list[Row]
    seeds: list[int] = field(default_factory=list)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def save(self, file: Path) -> Path:
        """Writes JSON, never over a file that is not ours."""
        check_ours(file, MARK)
        with atomic(file) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, file: Path) -> Report:
        """What `save` wrote. UserError for another file."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file}: not a report ({error}); evaluate the model again") from None

    def markdown(self) -> str:
        """How it was measured, and `markdown_tables` of the rows."""
        facts = {
            "Data": [self.data[key] for key in ("name", "split") if self.data.get(key)],
            "Seed": self.seeds,
            "CPU time": [f"{number(value)} s {name}" for name, value in self.cpu_seconds.items()],
        }
        lines = [f"{name}: {', '.join(map(str, values))}." for name, values in facts.items() if values]
        return "\n\n".join([" ".join([self.title, *lines]), *markdown_tables(self.rows)])


def row(
    metric: str, value: float, interval: Sequence[float] = (math.nan, math.nan), n: int | None = None, **keys: Any
) -> Row:
    """A figure, its interval of 95 % and the number of things it is of; `keys` say of what: source, style, ..."""
    figure, low, high = (None if math.isnan(x) else float(x) for x in (value, *interval))
    return keys | {"metric": metric, "value": figure, "low": low, "high": high, "n": n}


def markdown_tables(rows: Iterable[Row]) -> list[str]:
    """Tables in Markdown: metrics of the same keys are columns of one table."""
    metrics: dict[str, list[Row]] = {}
    for row in rows:
        metrics.setdefault(row["metric"], []).append(row)
    groups: dict[frozenset[Any], list[Row]] = {}
    for metric in metrics.values():
        groups.setdefault(frozenset(tuple(keys(row).items()) for row in metric), []).extend(metric)
    return [markdown_table(group) for group in groups.values()]


def markdown_table(rows: Sequence[Row]) -> str:
    """One table in Markdown: the keys of rows are its lines, metrics its columns, "value [low, high]" its cells."""
    names = list(dict.fromkeys(name for row in rows for name in keys(row)))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    counted = ["n"] if any(row["n"] is not None for row in rows) else []
    lines: dict[Any, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(tuple(keys(row).items()), {name: str(value) for name, value in keys(row).items()})
        line |= {row["metric"]: cell(row)} | ({} if row["n"] is None else {"n": str(row["n"])})
    columns = [*names, *counted, *metrics]
    head = [columns, ["---"] * len(names) + ["---:"] * len(columns[len(names) :])]
    cells = [*head, *([line.get(column, "") for column in columns] for line in lines.values())]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def keys(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in FIGURE}


def cell(row: Row) -> str:
    if row["low"] is None:
        return "" if row["value"] is None else number(row["value"])
    size = max(abs(row["low"]), abs(row["high"]))
    value, low, high = (number(row[name], size) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def number(value: float, size: float | None = None) -> str:
    """Three digits of a number, all of them before the point if there are more; `size`: of its neighbours."""
    size = abs(size or value)
    digits = 2 - math.floor(math.log10(size)) if 0 < size < math.inf else 0
    return f"{value:.{min(max(digits, 0), 9)}f}"


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion of `hits` in `n` trials; 95 % by default (Wilson 1927)."""
    p = hits / n
    middle = p + z**2 / (2 * n)
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    # Rounding may step over the ends.
    return max((middle - half) / (1 + z**2 / n), 0.0), min((middle + half) / (1 + z**2 / n), 1.0)


def student(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Student's interval of 95 % for the mean of independent values; of differences, that of a paired comparison."""
    from scipy.stats import ttest_1samp

    low, high = ttest_1samp(values, 0).confidence_interval()
    return float(low), float(high)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
) -> tuple[float, float]:
    """95 % of the (weighted) means of samples of the groups, drawn with replacement, 1,000 times: values of one group
    are alike, so it is groups that are drawn; without any, the values are."""
    values, groups = np.asarray(values), np.arange(len(values)) if groups is None else groups
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    sums, counts = np.bincount(groups, values * weights), np.bincount(groups, weights)
    chosen = np.random.default_rng(0).integers(0, len(sums), (1000, len(sums)))
    low, high = np.quantile(sums[chosen].sum(1) / counts[chosen].sum(1), [0.025, 0.975])
    return float(low), float(high)


def reliability(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(3, BINS): of equal bins of the probability the pixels, their sum of probabilities, and of truths."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1).ravel()
    sums = [
        np.bincount(bins, weights, BINS) for weights in (None, probability.ravel(), np.asarray(truth, float).ravel())
    ]
    return np.stack(sums).astype(float)


def calibration_error(table: np.ndarray) -> float:
    """Of `reliability`, added over pictures: the mean over pixels of |mean probability - share of truths| of their
    bin (Naeini et al. 2015)."""
    return float(np.abs(table[1] - table[2]).sum() / table[0].sum())


def names_of(request: Any) -> list[str]:
    """What the models are called in the table: those of one name, which lie elsewhere, by their number, too."""
    names = [reference(name) for name in (request.model, *request.beside)]
    return [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def ask_each(
    sources: Sequence[Any], cases: Iterable[Any], count: int, context: Context
) -> tuple[dict[str, list[Any]], dict[str, float]]:
    """What each source, which has a `name` and an `answer`, says of each of so many cases, and the seconds that it
    took; by its name."""

    def ask(case: Any) -> list[tuple[Any, float]]:
        found = []
        for source in sources:
            clock = time.process_time()
            found.append((source.answer(case), time.process_time() - clock))
        return found

    asked = list[list[tuple[Any, float]]]()
    for found in context.map(ask, cases):
        asked.append(found)
        context.tell(Progress(len(asked), count))
    answers = {source.name: [found[i][0] for found in asked] for i, source in enumerate(sources)}
    return answers, {source.name: sum(found[i][1] for found in asked) for i, source in enumerate(sources)}


def evaluate(
    requests: Iterable[Any], context: Context, measure: Callable[[Any, Any, Context], Report]
) -> Iterator[Result]:
    """The verb `evaluate` of every system: `measure`, (request, model, context) -> Report, does the work, and puts
    its figures into the context's folder. The model, the data and the time are added here."""
    check_ours(context.folder / NAME, MARK)
    for of, request in enumerate(requests):
        model, data = context.model(request.model), getattr(request, "data", None)
        clock = time.process_time()
        report = measure(request, model, context)
        report = replace(
            report,
            model={"name": reference(request.model), "sha256": model.hash} | report.model,
            data=(asdict(data) if isinstance(data, File) else {}) | report.data,
            cpu_seconds=report.cpu_seconds or {"in all": time.process_time() - clock},
        )
        files = [report.save(context.folder / NAME), *(context.folder / name for name in report.figures.values())]
        row = {"text": report.markdown(), "rows": report.rows}
        yield Result(of, None, {file.name: file for file in files}, row)
