"""Commands made from requests: each verb of each system is one, its options are the request's fields."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import mimetypes
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from inkwash.cli.context import Local, keep, line, moved, unused, writable
from inkwash.cli.record import Record
from inkwash.errors import UserError, unknown
from inkwash.systems import available, system_of, systems
from inkwash.systems.base import (
    File,
    Note,
    Option,
    Plan,
    Request,
    Result,
    System,
    Verb,
    add_up,
    narrow,
    options,
    plan,
    resolve,
)
from inkwash.weights.shipped import locate

COMMON = {  # what every verb has; a request's own fields come before
    "out": (Path | None, typer.Option("--out", "-o", help="A folder, or a file for one result.")),
    "device": (str | None, typer.Option(help="cpu, cuda or mps; cpu if left out.")),
    "precision": (str | None, typer.Option(help="What the network computes in: float32 or bfloat16.")),
    "runtime": (str | None, typer.Option(help="onnx or torch; the faster one if left out.")),
    "threads": (int | None, typer.Option(min=1, help="Threads to compute with; one if left out.")),
    "as_json": (bool, typer.Option("--json", help="A line of JSON for each result.")),
    "timings": (bool, typer.Option("--timings", help="Print where the time went.")),
    "only_plan": (bool, typer.Option("--plan", help="Say what it will take, and do nothing.")),
}
LONG = 10.0  # seconds from which on a command says before how long it will take
TAKEN = Verb._field_defaults["takes"]  # what a verb may not have
BATCH = (Path | None, typer.Option("--csv", help="A table of requests, one a line, under a line of option names."))


YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def add(app: typer.Typer) -> None:
    """The commands of all systems: `SYSTEM VERB`, and the system's own word for its first verb alone, so that what
    follows that word is what is asked: "train" is a prompt, too."""
    for system in systems().values():
        group = typer.Typer(help=system.help, no_args_is_help=True, rich_markup_mode=None)
        for name, verb in system.verbs.items():
            words = [
                (group, name),
                *([(app, system.command)] if system.command and not group.registered_commands else []),
            ]
            for place, word in words:
                place.command(word, help=inspect.getdoc(verb.request))(command(system, verb))
        app.add_typer(group, name=system.name)


def command(system: System, verb: Verb) -> Callable[..., None]:
    """The function behind a command: its signature is made of the request's fields."""
    fields = options(verb.request)

    def run(**given: Any) -> None:
        common = {key: given.pop(key, None) for key in COMMON}
        perform(system, verb, given, given.pop("table", None), **common)

    parameters = [parameter(option) for option in fields.values()]
    more = {key: common for key, common in COMMON.items() if key not in TAKEN or key in verb.takes}
    more |= {} if verb.lasting else {"table": BATCH}
    if not verb.plan:
        del more["only_plan"]
    parameters += [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, note],
                          default=False if kind is bool else None)
        for key, (kind, note) in more.items()
    ]  # fmt: skip
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def parameter(option: Option) -> inspect.Parameter:
    """An option of the command line. What it may be, the request itself checks, so that every face says the same."""
    said = [option.help, f"One of {', '.join(option.choices)}." if option.choices else ""]
    said.append(f"[{option.range()}]" if option.kind in (int, float) and option.range() else "")
    kind: Any = Path if option.kind is File else option.kind
    said.append("[required]" if option.default is dataclasses.MISSING else "")  # here, or in each row of a table
    kind = list[kind] if option.many else kind
    kind = kind if option.kind is bool else kind | None
    text = " ".join(filter(None, said))
    names = ["-n", "--n"] if option.name == "n" else [f"--{option.name.replace('_', '-')}"]
    note = typer.Argument(help=text) if option.argument else typer.Option(*names, help=text)
    default = False if option.kind is bool else None
    annotation = Annotated[kind, note]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def perform(
    system: System, verb: Verb, given: dict[str, Any], table: Path | None, *, out: Path | None,
    as_json: bool, timings: bool, only_plan: bool | None, **machine: Any,
) -> None:  # fmt: skip
    """Runs the verb: for what was typed, or for the rows of a table. What is wrong is said before anything heavy."""
    clock = Clock()
    given = {key: value for key, value in given.items() if not (value is None or value is False or value == [])}
    available(system)
    with TemporaryDirectory(prefix="inkwash-") as scratch:
        context = Local(Path(scratch), **machine)
        try:
            if only_plan:
                asked_for = [given] if table is None else list(listed(verb, table, given))
                print(add_up(planned(system, verb, values, out, context) for values in asked_for).text)
            elif table is not None:
                rows(system, verb, table, given, out, context, as_json)
                clock.stage("run")
            else:
                one(system, verb, given, out, context, as_json, clock)
        finally:
            context.close()
    if timings:
        clock.show()


def listed(verb: Verb, table: Path, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is asked in the rows of a table, of those that can be read."""
    for _, values in read_rows(verb, table, given):
        if isinstance(values, UserError):
            raise values
        yield given | {name: value for name, value in values.items() if name != "name"}


def planned(system: System, verb: Verb, given: dict[str, Any], out: Path | None, context: Local) -> Plan:
    """What these values will take."""
    request = asked(verb, given, context)
    narrowed(system, verb, request)
    return plan_of(verb, request, out or default_out(verb, request), context)


def plan_of(verb: Verb, request: Request, out: Path, context: Local) -> Plan:
    model = getattr(request, "model", None)
    folder = locate(model) if model is not None else out if verb.lasting else None
    return plan(verb, request, folder, context.device, context.threads)


def one(
    system: System, verb: Verb, given: dict[str, Any], out: Path | None, context: Local, as_json: bool, clock: Clock
) -> None:
    """Runs the verb for one request."""
    single, typed, texts = out is not None and is_file(verb, out), out is not None, []
    with ready(Path() if out is None else out.parent if single else out):
        request = asked(verb, given, context)
        out = out or default_out(verb, request)
        if single and getattr(request, "n", 1) != 1 and ".txt" not in verb.endings:  # texts are lines of one file
            raise UserError(f"--out {out} is one file, but several results are asked for: give a folder")
        if single and getattr(request, "to", None) is not None:
            raise UserError(f"--out {out}: an animation is a .gif and a grid of its pictures: give a folder")
        if single and out.exists():
            raise UserError(f"--out {out}: it is there already; move it away, or choose another name")
        narrowed(system, verb, request)
        expected = plan_of(verb, request, out, context)
        if (expected.seconds or 0) > LONG:
            context.expected = expected.text
        clock.stage("import")
        with ready(out.parent if single else out):
            if verb.lasting:
                context.folder = out
            elif getattr(request, "model", None) is not None:
                context.model(request.model)  # type: ignore[attr-defined]
                clock.stage("load")
            for result in resolve(verb.run)([request], context):
                show(verb, request, result, out, single, as_json)
                texts += [result.row["text"]] if "text" in result.row and not result.files else []
            if typed and texts:
                keep_texts(texts, out if single else unused(out / f"{request.stem()}.txt"))
            if context.signal:
                if verb.lasting:
                    context.tell(Note("run the same command to go on"))
                raise typer.Exit(128 + context.signal)
            clock.stage("run")


@contextmanager
def ready(folder: Path) -> Iterator[None]:
    """The folder, made if need be; if what is done there fails or is stopped before anything lies in it, it goes
    again, with those above it that were made for it."""
    fresh = [place for place in (folder, *folder.parents) if not place.exists()]
    writable(folder)
    try:
        yield
    except BaseException:
        for place in fresh:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        raise


def asked(verb: Verb, given: dict[str, Any], context: Local) -> Request:
    """The request: values as they were typed, files by their content."""
    fields, values = options(verb.request), {}
    for key, value in given.items():
        option = fields[key]
        if option.kind is File:
            value = tuple(context.file(one, option) for one in value) if option.many else context.file(value, option)
        values[key] = tuple(value) if option.many and isinstance(value, list) else value
    for option in fields.values():
        if option.default is dataclasses.MISSING and option.name not in values:
            raise UserError(
                f"missing {'' if option.argument else '--'}{option.name.replace('_', '-')}: {option.help}"
            )
    return verb.request(**values)


def default_out(verb: Verb, request: Request) -> Path:
    place = verb.out.replace("STEM", request.stem())
    return locate(request.model) if place == "MODEL" else Path(place)


def is_file(verb: Verb, out: Path) -> bool:
    """Whether --out names a file and not a folder. UserError for a format that is not written."""
    suffix = out.suffix.lower()
    if out.is_dir() or verb.lasting or (suffix not in verb.endings and not mimetypes.guess_type(out.name)[0]):
        return False
    if suffix not in verb.endings:
        wanted = f"a {verb.endings[0]} file or a folder" if verb.endings else "a folder"
        raise UserError(f"--out {out}: no {suffix} file is written; give {wanted}")
    return True


def narrowed(system: System, verb: Verb, request: Request) -> None:
    """UserError for a model that is not there or is of another system, and for what it does not know."""
    model = getattr(request, "model", None)
    if model is not None:
        folder = locate(model)
        other = system_of(folder)
        if other.name != system.name:
            word = other.command or f"{other.name} {next(iter(other.verbs))}"
            raise UserError(f"{model} is a model of {other.name}: inkwash {word} --model {model}")
        narrow(verb, request, folder)


def show(verb: Verb, request: Request, result: Any, out: Path, single: bool, as_json: bool) -> None:
    """Keeps what a result brings and prints where it is, or what it says."""
    if verb.lasting:
        files = list(result.files.values()) if result.model is None else [result.model]
    else:
        files = keep(result, stem(verb, request, result), out, single)
        if result.model is not None:
            files = [moved(result.model, unused(out / result.model.name, folder=True))]
    if as_json:
        print(line(result, files))
        return
    if "text" in result.row:
        print(result.row["text"])
    for file in files:
        print(file)


def stem(verb: Verb, request: Request, result: Any) -> str:
    """What a result is called: one of several by its own seed, what belongs to all of them by none."""
    seed = options(verb.request).get("seed")
    if seed is None or not seed.optional:
        return request.stem()
    return dataclasses.replace(request, seed=result.recipe.get("seed")).stem()  # type: ignore[call-arg]


def rows(
    system: System, verb: Verb, table: Path, given: dict[str, Any], out: Path | None, context: Local, as_json: bool
) -> None:
    """Runs the rows of a CSV, each by itself; exit code 2 if one was broken. What is there already, by the same model
    and the same request, is not made again."""
    folder, scratch = out or Path(verb.out), context.folder
    if is_file(verb, folder):
        raise UserError(f"--out {folder} is one file, but a table has many rows: give a folder")
    counts, taken = {"made": 0, "there already": 0, "broken": 0}, {}
    with ready(folder):
        record = Record(folder)
        for of, (number, values) in enumerate(read_rows(verb, table, given)):
            try:
                if isinstance(values, UserError):
                    raise values
                named = values.pop("name", None)
                request = asked(verb, given | values, context)
                if getattr(request, "seed", 0) is None:
                    request = dataclasses.replace(request, seed=number)  # type: ignore[call-arg]
                several = getattr(request, "n", 1) != 1 and getattr(request, "to", None) is None
                if several and ".txt" not in verb.endings:
                    raise UserError("n: a row is for one result; write a row for each, or leave it out")
                narrowed(system, verb, request)
                called = request.stem()
                if named is not None:
                    called = re.sub(r"[^\w.-]+", "-", named.removesuffix(".png"))[:80]
                if called in taken:
                    raise UserError(f"{called} is line {taken[called]}'s already; give it a name")
                taken[called] = number
                context.folder = scratch / str(number)
                context.folder.mkdir()
                counts[row(verb, request, of, called, record, out is not None, as_json, context)] += 1
            except UserError as error:
                counts["broken"] += 1
                where = f"{table}, line {number}"
                print(f"inkwash: {error if str(error).startswith(where) else f'{where}: {error}'}", file=sys.stderr)
        print(", ".join(f"{count} {what}" for what, count in counts.items()), file=sys.stderr)
        if counts["broken"]:
            raise typer.Exit(2)


def row(
    verb: Verb, request: Request, of: int, called: str, record: Record, typed: bool, as_json: bool, context: Local
) -> str:
    """What the verb makes for a row, kept and printed, unless it is there already: which of both. A text goes into a
    file if a folder was typed."""
    model = getattr(request, "model", None)
    hash = None if model is None else context.model(model).hash
    if there := record.made(called, request, hash):
        shown = [line(Result(of, 0, {}, recipe=request.facts()), there)] if as_json else there
        print("\n".join(f"{one}{' (there already)' * (not as_json)}" for one in shown))
        return "there already"
    for ending in verb.endings:
        if typed or ending != ".txt":
            record.free(f"{called}{ending}")
    results, files, places = list(resolve(verb.run)([request], context)), {}, []
    if context.signal:  # what was made is not what was asked for
        raise typer.Exit(128 + context.signal)
    for result in results:
        parts = result.files | ({} if result.model is None else {f"-{result.model.name}": result.model})
        names = {f"{called}{ending}": file for ending, file in parts.items()}
        places.append([record.folder / name for name in names])
        files |= names
    texts = [result.row["text"] for result in results if "text" in result.row and not result.files]
    if typed and texts:
        keep_texts(texts, context.folder / "texts.txt")
        files[f"{called}.txt"] = context.folder / "texts.txt"
    record.keep(called, request, hash, files)
    for result, kept in zip(results, places, strict=True):
        text = [result.row["text"]] if "text" in result.row else []
        print(line(result._replace(of=of), kept) if as_json else "\n".join(map(str, [*text, *kept])))
    return "made"


def keep_texts(texts: list[str], file: Path) -> None:
    """A line for each."""
    from inkwash.weights.files import atomic

    with atomic(file) as place:
        place.write_text("\n".join(texts) + "\n", encoding="utf-8")


def read_rows(verb: Verb, table: Path, given: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Line numbers and what is asked for there, or what is wrong with it. Cells left empty are left out.

    Raises UserError for a file that cannot be read, or a column that is no option.
    """
    fields = options(verb.request)
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            names = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            for name in names:
                if name not in (*fields, "name"):
                    raise unknown(f"column of {table}", name, [*fields, "name"])
                if names.count(name) > 1:
                    raise UserError(f"{table}: two columns are called '{name}'; leave one out")
            for option in fields.values():
                if option.argument and option.name not in (*names, *given):
                    raise UserError(f"{table}: no column '{option.name}' in its first line")
            if not names:
                raise UserError(f"{table}: no column of an option's name in its first line")
            for cells in reader:
                yield reader.line_num, read_row(fields, cells, f"{table}, line {reader.line_num}")
    except FileNotFoundError:
        raise UserError(f"{table}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a CSV file in UTF-8 ({error})") from None


def read_row(fields: dict[str, Option], cells: dict[Any, Any], where: str) -> dict[str, Any] | UserError:
    if None in cells or None in cells.values():
        return UserError(f"{where}: more or fewer cells than the first line has; put texts with commas in quotes")
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if text := cell.strip():
            kind: Any = str if name == "name" else fields[name].kind
            kind = Path if kind is File else kind
            try:
                values[name] = YES[text.lower()] if kind is bool else kind(text)
            except (ValueError, KeyError):
                needed = {bool: "neither yes nor no", int: "no whole number"}.get(kind, "no number")
                return UserError(f"{where}, column {name}: '{text}' is {needed}")
            if name != "name" and fields[name].many:
                values[name] = [values[name]]
    for name in cells:
        if name != "name" and fields[name].argument and name not in values:
            return UserError(f"{where}, column {name}: empty")
    return values


class Clock:
    """Where the time of a command went."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.stages: list[tuple[str, float]] = []

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.stages.append((name, now - self.last))
        self.last = now

    def show(self) -> None:
        """One line a stage on standard error: seconds, and the peak memory of the process."""
        for name, seconds in [*self.stages, ("all", self.last - self.start)]:
            print(f"{name:8} {seconds:6.2f} s", file=sys.stderr)
        if (peak := memory()) is not None:
            print(f"memory   {peak / 1e6:6.0f} MB at most", file=sys.stderr)


def memory() -> int | None:
    """The most that this process took, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # the resource module would count what the program that started this one had taken
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])  # type: ignore[index]
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
