"""Tables of requests (--csv): each row by itself, and none made twice."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import typer

from inkwash.cli import message
from inkwash.cli.context import Local, file_name, json_line, move_unused, save_texts
from inkwash.cli.record import Record, facts
from inkwash.cli.requests import build, is_file, plan_of, ready, with_format
from inkwash.cli.tables import NAME, Table, row_names, safe_name
from inkwash.errors import UserError
from inkwash.progress import say
from inkwash.systems.base import Note, Plan, Request, Result, System, Verb, add_up, resolve


class Row(NamedTuple):
    """One that is to be made.

    of     which of the table's requests
    there  its files, if the same request has made them before; by the models of this hash
    """

    line: int
    of: int
    name: str
    request: Request
    there: list[Path]
    hash: str | None


class Outcome(NamedTuple):
    """What a row came to: `results`, None if it is there by the same models; or what was wrong."""

    row: Row
    hash: str | None = None
    results: list[Result] | None = None
    error: UserError | None = None


def run_table(
    system: System, verb: Verb, table: Path, given: dict[str, Any], out: Path | None, context: Local, as_json: bool,
    make: Callable[[Iterable[Row]], Iterable[Outcome]],
) -> None:  # fmt: skip
    """Makes the rows of a table; exit code 2 if one was broken. What is there already, by the same model and the same
    request, is not made again."""
    scratch, counts = context.folder, {"made": 0, "there already": 0, "broken": 0}

    def broken(line: int, error: UserError) -> None:
        counts["broken"] += 1
        say(located(table, line, error))

    with record_of(verb, out) as record:
        found = rows(system, verb, table, given, context)
        for outcome in make(_unmade(verb, found, record, out is not None, broken)):
            try:
                if outcome.error is not None:
                    raise outcome.error
                counts[save_row(verb, outcome, record, out is not None, as_json, scratch)] += 1
            except UserError as error:
                broken(outcome.row.line, error)
        print(", ".join(f"{count} {what}" for what, count in counts.items()), file=sys.stderr)
        if counts["broken"]:
            raise typer.Exit(2)


def _unmade(
    verb: Verb, found: dict[int, tuple[str, Request] | UserError], record: Record, typed: bool,
    broken: Callable[[int, UserError], None],
) -> Iterator[Row]:  # fmt: skip
    """The rows that can be made; of others it is said why not."""
    for of, (line, row) in enumerate(found.items()):
        try:
            if isinstance(row, UserError):
                raise row
            name, request = row
            there, hash = record.existing(name, request)
            if not there:
                check_free(verb, request, name, record, typed)
            yield Row(line, of, name, request, there, hash)
        except UserError as error:
            broken(line, error)


def make_rows(verb: Verb, context: Local, rows: Iterable[Row]) -> Iterator[Outcome]:
    """Each in its own folder, one after the other."""
    scratch = context.folder
    for row in rows:
        context.folder = scratch / str(row.line)
        context.folder.mkdir()
        yield make_row(verb, context, row)


def make_row(verb: Verb, context: Local, row: Row) -> Outcome:
    """Runs the verb for a row, unless it is there by the same models."""
    try:
        models = [model for key in ("model", "refiner") if (model := getattr(row.request, key, None)) is not None]
        hash = "-".join(str(context.model(model).hash) for model in models) or None
        if row.there and row.hash == hash:
            return Outcome(row, hash)
        results = list[Result](resolve(verb.run)([row.request], context))
    except UserError as error:
        return Outcome(row, error=error)
    if context.signal:  # the results are not complete
        raise typer.Exit(128 + context.signal)
    return Outcome(row, hash, results)


def save_row(
    verb: Verb, outcome: Outcome, record: Record, typed: bool, as_json: bool, scratch: Path
) -> str:  # fmt: skip
    """Saves and prints the results of a row, unless they are there already: which of both. A text goes into a file if
    a folder was typed."""
    row, results = outcome.row, outcome.results
    if results is None:
        if as_json:
            print(json_line(Result(row.of, 0, {}, recipe=facts(row.request)), row.there))
        else:
            print("\n".join(f"{file} (there already)" for file in row.there))
        return "there already"
    files, targets = dict[str, Path](), list[list[Path]]()
    several = len(stems_of(verb, row.request, row.name)) > 1
    for result in results:
        paths = result.files | ({} if result.model is None else {f"-{result.model.name}": result.model})
        stem = f"{row.name}-{result.place + 1}" if several and result.place is not None else row.name
        named = {file_name(stem, ending): file for ending, file in paths.items()}
        targets.append([record.folder / file for file in named])
        files |= named
    texts = [result.row["text"] for result in results if "text" in result.row and not result.files]
    if typed and texts:
        files[f"{row.name}.txt"] = save_texts(texts, scratch / f"{row.line}.txt")
    record.save(row.name, row.request, outcome.hash, files)
    for result, saved in zip(results, targets, strict=True):
        text = [result.row["text"]] if "text" in result.row else []
        print(json_line(result._replace(of=row.of), saved) if as_json else "\n".join(map(str, [*text, *saved])))
    return "made"


def run_sprite(
    system: System, verb: Verb, table: Path | None, given: dict[str, Any], out: Path | None, context: Local,
    as_json: bool,
) -> None:  # fmt: skip
    """Makes one SVG of all rows of a CSV, and a PNG beside it; of none, if one row is broken."""
    if table is None or out is None or out.suffix.lower() != ".svg" or out.is_dir():
        raise UserError("--sprite: it is one file: give its name, as --out icons.svg")
    for file in (out, sheet := out.with_suffix(".png")):
        if os.path.lexists(file):
            raise UserError(f"--out {out}: {file} is there already; move it away, or choose another name")
    found, named = rows(system, verb, table, with_format(verb, given, out), context), []
    for line, row in found.items():
        if isinstance(row, UserError):
            raise UserError(located(table, line, row))
        if row[1].format != "svg" or row[1].n != 1 or row[1].to is not None:  # type: ignore[attr-defined]
            raise UserError(f"{table}, line {line}: a sprite has one SVG of each row: leave format, n and to out")
        named.append(row)
    if not named:
        raise UserError(f"{table}: no rows in it, of which a sprite could be made")
    with ready(out.parent):
        result = resolve(verb.sprite)(named, context)
        if context.signal:
            raise typer.Exit(128 + context.signal)
        files = [move_unused(result.files[ending], file) for ending, file in ((".svg", out), (".png", sheet))]
    print(json_line(result, files) if as_json else "\n".join(map(str, files)))


def plan_table(
    system: System, verb: Verb, table: Path, given: dict[str, Any], out: Path | None, context: Local
) -> Plan:
    """Of all rows. UserError for the first that cannot be made."""
    plans = []
    with record_of(verb, out) as record:
        for number, row in rows(system, verb, table, given, context).items():
            if isinstance(row, UserError):
                raise UserError(located(table, number, row))
            name, request = row
            check_free(verb, request, name, record, out is not None)
            plans.append(plan_of(verb, request, out, context))
    return add_up(plans)


def located(table: Path, line: int, error: UserError) -> str:
    return f"{table}, line {line}{', ' if str(error).startswith('column ') else ': '}{error}"


@contextmanager
def record_of(verb: Verb, out: Path | None) -> Iterator[Record]:
    """What a table has made in the folder, which is there while the block lasts."""
    folder = out or Path(verb.out)
    if is_file(verb, folder):
        raise UserError(f"--out {folder} is one file, but a table has many rows: give a folder")
    with ready(folder):
        yield Record(folder)


def rows(
    system: System, verb: Verb, file: Path, given: dict[str, Any], context: Local
) -> dict[int, tuple[str, Request] | UserError]:
    """By line number the name and the request of each row, or what is wrong with it. What the command line gives
    stands for empty cells, and for columns that are not there. UserError for what is wrong with all rows."""
    table = Table(file, verb.request)
    if table.encoding != "UTF-8":
        context.tell(Note(f"{file}: read as {table.encoding}; if its words are wrong, save it as UTF-8"))
    requests, broken = dict[int, tuple[str | None, Request]](), dict[int, UserError]()
    for line, values in table:
        try:
            if isinstance(values, UserError):
                raise values
            name = values.pop(NAME, None)
            if name is not None:
                safe_name(name)
            request = build(system, verb, given | values, context)
            if getattr(request, "seed", 0) is None and getattr(request, "settings", None) is None:
                request = dataclasses.replace(request, seed=line)  # type: ignore[call-arg]
            requests[line] = name, request
        except (UserError, OSError) as error:  # of a path that there cannot be
            if (text := message(error)) is None:
                raise
            broken[line] = UserError(text)
    if len(broken) == len(table.rows) > 1 and len({str(error) for error in broken.values()}) == 1:
        raise UserError(f"{file}: {next(iter(broken.values()))}")
    found, taken = dict[int, tuple[str, Request] | UserError](broken), dict[str, int]()
    for line, name in row_names(requests).items():
        request = requests[line][1]
        stems = [stem.casefold() for stem in stems_of(verb, request, name)]
        owner = next((taken[stem] for stem in stems if stem in taken), None)
        taken |= dict.fromkeys(stems, line) if owner is None else {}
        repeated = UserError(f"{name} is line {owner}'s already; give it a name, in a column '{NAME}'")
        found[line] = (name, request) if owner is None else repeated
    return dict(sorted(found.items()))


def stems_of(verb: Verb, request: Request, name: str) -> list[str]:
    """What the files of a row are called, before their endings: of one with several results each has its number."""
    n = getattr(request, "n", 1)
    if n == 1 or getattr(request, "to", None) is not None or ".txt" in verb.endings:
        return [name]
    return [*(f"{name}-{place + 1}" for place in range(n)), f"{name}-grid"]


def check_free(verb: Verb, request: Request, name: str, record: Record, typed: bool) -> None:
    """UserError where something lies that is not ours under a name that the row's results will have."""
    for stem in stems_of(verb, request, name):
        for ending in (".png",) if stem == f"{name}-grid" else endings_of(verb, request):
            if typed or ending != ".txt":
                record.check_free(f"{stem}{ending}")


def endings_of(verb: Verb, request: Request) -> tuple[str, ...]:
    """What the files of its results end in: those of a folder in nothing."""
    format = getattr(request, "format", None)
    if format is None:
        return verb.endings
    return (f".{format}",) if f".{format}" in verb.endings else ("",)
