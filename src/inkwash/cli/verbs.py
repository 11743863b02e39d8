"""Commands made from requests: each verb of each system is one, its options are the request's fields."""

from __future__ import annotations

import dataclasses
import inspect
import json
import mimetypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from inkwash.cli.context import Local, json_line, make_writable, move_unused, save_files
from inkwash.cli.record import Record
from inkwash.cli.tables import NAME, Table, row_names, safe_name
from inkwash.errors import UserError
from inkwash.progress import peak_memory
from inkwash.systems import MAX_THREADS, available, system_of, systems
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
from inkwash.weights.shipped import locate, shipped

COMMON = {  # what every verb has; a request's own fields come before
    "out": (Path | None, typer.Option("--out", "-o", help="A folder, or a file for one result.")),
    "device": (str | None, typer.Option(help="cpu, cuda or mps; cpu if left out.")),
    "precision": (
        str | None,
        typer.Option(help="What the network computes in: float32 or bfloat16; of pictures float16, too."),
    ),
    "runtime": (str | None, typer.Option(help="onnx or torch; the faster one if left out.")),
    "threads": (int | None, typer.Option(min=1, max=MAX_THREADS, help="Threads to compute with; one if left out.")),
    "as_json": (bool, typer.Option("--json", help="A line of JSON for each result.")),
    "timings": (bool, typer.Option("--timings", help="Print where the time went.")),
    "only_plan": (bool, typer.Option("--plan", help="Say what it will take, and do nothing.")),
}
LONG = 10.0  # seconds from which on a command says before how long it will take
UNTYPED = (".feather", ".jsonl", ".parquet")  # endings of files that Python's list of types lacks
OPTIONAL = Verb._field_defaults["takes"]  # of COMMON, what a verb may lack
BATCH = (
    Path | None,
    typer.Option(
        "--csv",
        help="A table of requests under a line of option names; the options given here stand for its empty cells.",
    ),
)

SPRITE = (
    bool,
    typer.Option("--sprite", help="The rows of a table as one SVG of symbols, --out, and a PNG of them beside it."),
)


def add_commands(app: typer.Typer) -> None:
    """The commands of all systems: `SYSTEM VERB`, and the system's own word for its first verb alone, so that what
    follows that word is its argument: "train" is a prompt, too."""
    for system in systems().values():
        group = typer.Typer(help=system.help, no_args_is_help=True, rich_markup_mode=None)
        for name, verb in system.verbs.items():
            own_word = [(app, system.command)] if system.command and not group.registered_commands else []
            for parent, word in [(group, name), *own_word]:
                parent.command(word, help=inspect.getdoc(verb.request))(command(system, verb))
        app.add_typer(group, name=system.name)


def command(system: System, verb: Verb) -> Callable[..., None]:
    """The function behind a command: its signature is made of the request's fields."""
    fields = options(verb.request)

    def run(**given: Any) -> None:
        common = {key: given.pop(key, None) for key in COMMON}
        table, sprite = given.pop("table", None), given.pop("sprite", False)
        perform(system, verb, given, table, sprite, **common)

    parameters = [parameter(option) for option in fields.values()]
    more = {key: common for key, common in COMMON.items() if key not in OPTIONAL or key in verb.takes}
    more |= {} if verb.lasting else {"table": BATCH}
    more |= {"sprite": SPRITE} if verb.sprite else {}
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
    lines = [option.help, f"One of {', '.join(option.choices)}." if option.choices else ""]
    lines.append(f"[{option.range()}]" if option.kind in (int, float) and option.range() else "")
    lines.append("[required]" if option.default is dataclasses.MISSING else "")  # here, or in each row of a table
    kind: Any = Path if option.kind is File else option.kind
    kind = list[kind] if option.many else kind
    kind = kind if option.kind is bool else kind | None
    text = " ".join(filter(None, lines))
    names = ["-n", "--n"] if option.name == "n" else [f"--{option.name.replace('_', '-')}"]
    values = complete(values_of(option)) if option.kind is str else None
    if option.argument:
        note = typer.Argument(help=text, autocompletion=values)
    else:
        note = typer.Option(*names, help=text, autocompletion=values)
    default = False if option.kind is bool else None
    annotation = Annotated[kind, note]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def values_of(option: Option) -> Callable[[], Iterable[str]]:
    """What a shell offers for an option: its choices, or models that ship."""
    return shipped if option.name == "model" else lambda: option.choices


def complete(values: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """The values that begin with what is typed, as a shell asks for them."""
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def perform(
    system: System, verb: Verb, given: dict[str, Any], table: Path | None, sprite: bool, *, out: Path | None,
    as_json: bool, timings: bool, only_plan: bool | None, **machine: Any,
) -> None:  # fmt: skip
    """Runs the verb for these options, or for the rows of a table; or says what that will take. Mistakes are reported
    before anything heavy."""
    clock = Clock()
    if only_plan and timings:
        raise UserError("--timings means nothing with --plan, which does nothing: leave it out")
    given = {key: value for key, value in given.items() if not (value is None or value is False or value == [])}
    if sprite and (table is None or only_plan):
        raise UserError("--sprite is made of the rows of a table: give one with --csv, and leave --plan out")
    available(system)
    with TemporaryDirectory(prefix="inkwash-") as scratch:
        context = Local(Path(scratch), **machine)
        try:
            if only_plan and table is not None:
                show_plan(plan_table(system, verb, table, given, out, context), as_json)
            elif only_plan:
                with checked(system, verb, given, out, context) as (request, out, _):
                    show_plan(plan_of(verb, request, out, context), as_json)
            elif sprite:
                run_sprite(system, verb, table, given, out, context, as_json)
                clock.stage("run")
            elif table is not None:
                run_table(system, verb, table, given, out, context, as_json)
                clock.stage("run")
            else:
                run_one(system, verb, given, out, context, as_json, clock)
        finally:
            context.close()
    if timings:
        clock.show()


def show_plan(plan: Plan, as_json: bool) -> None:
    print(json.dumps(plan._asdict()) if as_json else plan.text)


def plan_of(verb: Verb, request: Request, out: Path | None, context: Local) -> Plan:
    model, folder = getattr(request, "model", None), None
    if model is not None:
        folder = locate(model)
    elif verb.lasting:
        folder = out or default_out(verb, request)
    return plan(verb, request, folder, context.device, context.threads)


def run_one(
    system: System, verb: Verb, given: dict[str, Any], out: Path | None, context: Local, as_json: bool, clock: Clock
) -> None:
    """Runs the verb for one request."""
    typed, texts, scratch = out is not None, list[str](), context.folder
    with checked(system, verb, given, out, context) as (request, out, single):
        expected = plan_of(verb, request, out, context)
        if (expected.seconds or 0) > LONG:
            context.expected = expected.text
        clock.stage("import")
        if verb.lasting:
            context.folder = out
        elif (model := getattr(request, "model", None)) is not None:
            context.model(model)
            clock.stage("load")
        for result in resolve(verb.run)([request], context):
            show(verb, request, result, out, single, as_json)
            texts += [result.row["text"]] if "text" in result.row and not result.files else []
        if typed and texts:
            move_unused(save_texts(texts, scratch / "texts.txt"), out if single else out / f"{request.stem()}.txt")
        if context.signal:
            if verb.lasting:
                context.tell(Note("run the same command to go on"))
            raise typer.Exit(128 + context.signal)
        clock.stage("run")


@contextmanager
def checked(
    system: System, verb: Verb, given: dict[str, Any], out: Path | None, context: Local
) -> Iterator[tuple[Request, Path, bool]]:
    """The request, where its results go, and whether that is a file; the folder is there while the block lasts.
    UserError for what cannot be done, or not be written there."""
    single = out is not None and is_file(verb, out)
    if single and out is not None:
        given = with_format(verb, given, out)
    with ready(Path() if out is None else out.parent if single else out):
        request = build(system, verb, given, context)
        out = out or default_out(verb, request)
        if single and getattr(request, "n", 1) != 1 and ".txt" not in verb.endings:  # texts are lines of one file
            raise UserError(f"--out {out} is one file, but several results are asked for: give a folder")
        if single and getattr(request, "to", None) is not None:
            raise UserError(f"--out {out}: an animation is a .gif and a grid of its pictures: give a folder")
        if single and os.path.lexists(out):
            raise UserError(f"--out {out}: it is there already; move it away, or choose another name")
        with ready(out.parent if single else out):
            yield request, out, single


@contextmanager
def ready(folder: Path) -> Iterator[None]:
    """Makes the folder; if nothing lies in it when the block ends, it is removed again, with the parents that were
    made for it."""
    fresh = [path for path in (folder, *folder.parents) if not path.exists()]
    make_writable(folder)
    try:
        yield
    finally:
        for path in fresh:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def build(system: System, verb: Verb, given: dict[str, Any], context: Local) -> Request:
    """The request of these options, files by their content. UserError for a model that is not there or is of another
    system, and for options that it does not have."""
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
    request = verb.request(**values)
    if (model := request.model_name()) is not None:
        folder = locate(model)
        other = system_of(folder)
        if other.name != system.name:
            word = other.command or f"{other.name} {next(iter(other.verbs))}"
            raise UserError(f"{model} is a model of {other.name}: inkwash {word} --model {model}")
        narrow(verb, request, folder)
    return request


def default_out(verb: Verb, request: Request) -> Path:
    """Where the results go if --out is not given."""
    if verb.out == "MODEL":
        return locate(request.model)  # type: ignore[attr-defined]  # such a verb has one
    return Path(verb.out.replace("STEM", request.stem()))


def is_file(verb: Verb, out: Path) -> bool:
    """Whether --out names a file and not a folder. UserError for a format that is not written."""
    suffix = out.suffix.lower()
    is_known = suffix in (*verb.endings, *UNTYPED) or any(mimetypes.guess_type(out.name))
    if out.is_dir() or verb.lasting or not is_known:
        return False
    if suffix not in verb.endings:
        wanted = f"a {verb.endings[0]} file or a folder" if verb.endings else "a folder"
        raise UserError(f"--out {out}: no {suffix} file is written; give {wanted}")
    return True


def with_format(verb: Verb, given: dict[str, Any], out: Path) -> dict[str, Any]:
    """The options, and the format that the file's ending says. UserError for one that another was given with."""
    option, ending = options(verb.request).get("format"), out.suffix.lower()[1:]
    if option is None or ending not in option.choices:
        return given
    if given.get("format", ending) != ending:
        raise UserError(f"--out {out}: its ending is not of the format {given['format']}: leave one of them out")
    return given | {"format": ending}


def show(verb: Verb, request: Request, result: Result, out: Path, single: bool, as_json: bool) -> None:
    """Saves the files of a result and prints where they are, or its text."""
    if verb.lasting:
        files = list(result.files.values()) if result.model is None else [result.model]
    else:
        files = save_files(result, stem(verb, request, result), out, single)
        if result.model is not None:
            files = [move_unused(result.model, (out.parent if single else out) / result.model.name)]
    if as_json:
        print(json_line(result, files))
        return
    if "text" in result.row:
        print(result.row["text"])
    for file in files:
        print(file)


def stem(verb: Verb, request: Request, result: Result) -> str:
    """The stem of a result: one of several by its own seed, what belongs to all of them by none."""
    seed = options(verb.request).get("seed")
    if seed is None or not seed.optional:
        return request.stem()
    own = None if result.place is None else result.recipe.get("seed")
    return request.basename() if own is None else f"{request.basename()}-{own}"


def run_table(
    system: System, verb: Verb, table: Path, given: dict[str, Any], out: Path | None, context: Local, as_json: bool
) -> None:
    """Runs the rows of a CSV, each by itself; exit code 2 if one was broken. What is there already, by the same model
    and the same request, is not made again."""
    scratch, counts = context.folder, {"made": 0, "there already": 0, "broken": 0}
    with record_of(verb, out) as record:
        for of, (number, row) in enumerate(rows(system, verb, table, given, context).items()):
            try:
                if isinstance(row, UserError):
                    raise row
                name, request = row
                context.folder = scratch / str(number)
                context.folder.mkdir()
                counts[run_row(verb, request, of, name, record, out is not None, as_json, context)] += 1
            except UserError as error:
                counts["broken"] += 1
                print(f"inkwash: {located(table, number, error)}", file=sys.stderr)
        print(", ".join(f"{count} {what}" for what, count in counts.items()), file=sys.stderr)
        if counts["broken"]:
            raise typer.Exit(2)


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
        except UserError as error:
            broken[line] = error
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


def run_row(
    verb: Verb, request: Request, of: int, name: str, record: Record, typed: bool, as_json: bool, context: Local
) -> str:
    """Runs the verb for a row, saves and prints the results, unless they are there already: which of both. A text
    goes into a file if a folder was typed."""
    models = [model for key in ("model", "refiner") if (model := getattr(request, key, None)) is not None]
    hash = "-".join(str(context.model(model).hash) for model in models) or None
    if existing := record.existing(name, request, hash):
        if as_json:
            print(json_line(Result(of, 0, {}, recipe=record.last[name]["request"]), existing))
        else:
            print("\n".join(f"{file} (there already)" for file in existing))
        return "there already"
    check_free(verb, request, name, record, typed)
    results = list[Result](resolve(verb.run)([request], context))
    files, targets = dict[str, Path](), list[list[Path]]()
    if context.signal:  # the results are not complete
        raise typer.Exit(128 + context.signal)
    several = len(stems_of(verb, request, name)) > 1
    for result in results:
        paths = result.files | ({} if result.model is None else {f"-{result.model.name}": result.model})
        stem = f"{name}-{result.place + 1}" if several and result.place is not None else name
        named = {f"{stem}{ending}": file for ending, file in paths.items()}
        targets.append([record.folder / file for file in named])
        files |= named
    texts = [result.row["text"] for result in results if "text" in result.row and not result.files]
    if typed and texts:
        files[f"{name}.txt"] = save_texts(texts, context.folder / "texts.txt")
    record.save(name, request, hash, files)
    for result, saved in zip(results, targets, strict=True):
        text = [result.row["text"]] if "text" in result.row else []
        print(json_line(result._replace(of=of), saved) if as_json else "\n".join(map(str, [*text, *saved])))
    return "made"


def save_texts(texts: list[str], file: Path) -> Path:
    """A line for each."""
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return file


class Clock:
    """The time that each stage of a command takes."""

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
        print(f"memory   {peak_memory() / 1e6:6.0f} MB at most", file=sys.stderr)
