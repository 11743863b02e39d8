"""Commands made from requests: each verb of each system is one, its options are the request's fields."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from inkwash.cli import batch, cluster, cluster_train
from inkwash.cli.context import Local, json_line, move_unused, save_files, save_texts
from inkwash.cli.requests import build, default_out, is_file, plan_of, ready, with_format
from inkwash.errors import UserError
from inkwash.progress import peak_memory
from inkwash.systems import MAX_THREADS, available, systems
from inkwash.systems.base import File, Note, Option, Plan, Request, Result, System, Verb, options, resolve
from inkwash.systems.train import Train
from inkwash.weights.shipped import shipped

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
FOLDER = (Path | None, typer.Option("--out", "-o", help="A folder."))  # of a verb of which no file is a result
OPTIONAL = Verb._field_defaults["takes"]  # of COMMON, what a verb may lack
BATCH = (
    Path | None,
    typer.Option(
        "--csv",
        help="A table of requests, .csv or .parquet, under a line of option names; the options given here stand for "
        "its empty cells.",
    ),
)
ON = (str | None, typer.Option("--on", help="ray, or ray://HOST:PORT: on the machines of a Ray cluster."))
WORKERS = (int | None, typer.Option(min=1, max=4096, help="With --on: processes that train together; 1 if left out."))

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
        on, workers = given.pop("on", None), given.pop("workers", None)
        perform(system, verb, given, table, sprite, on, workers, **common)

    parameters = [parameter(option) for option in fields.values()]
    more = {key: common for key, common in COMMON.items() if key not in OPTIONAL or key in verb.takes}
    more |= {} if verb.endings or "out" not in more else {"out": FOLDER}
    more |= {} if verb.lasting else {"table": BATCH, "on": ON}
    more |= {"on": ON} if verb.maps else {}
    more |= {"on": ON, "workers": WORKERS} if issubclass(verb.request, Train) else {}
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
    system: System, verb: Verb, given: dict[str, Any], table: Path | None = None, sprite: bool = False,
    on: str | None = None, workers: int | None = None, *, out: Path | None, as_json: bool, timings: bool,
    only_plan: bool | None, started: float | None = None, **machine: Any,
) -> None:  # fmt: skip
    """Runs the verb for these options, or for the rows of a table; or says what that will take. Mistakes are reported
    before anything heavy. `started`: when the command was, where this is one of its processes."""
    clock = Clock()
    if only_plan and timings:
        raise UserError("--timings means nothing with --plan, which does nothing: leave it out")
    given = {key: value for key, value in given.items() if not (value is None or value is False or value == [])}
    if sprite and (table is None or only_plan):
        raise UserError("--sprite is made of the rows of a table: give one with --csv, and leave --plan out")
    if on is not None:
        check_on(on, machine["device"], verb, table, sprite, bool(only_plan))
    elif workers is not None:
        raise UserError("--workers means nothing without --on: torchrun starts as many as it is told")
    available(system)
    with TemporaryDirectory(prefix="inkwash-") as scratch:
        context = Local(Path(scratch), **machine) if on is None else cluster.Spread(on, Path(scratch), machine)
        context.started = context.started if started is None else started
        try:
            if only_plan and table is not None:
                show_plan(batch.plan_table(system, verb, table, given, out, context), as_json)
            elif only_plan:
                with checked(system, verb, given, out, context) as (request, out, _):
                    show_plan(plan_of(verb, request, out, context), as_json)
            elif sprite:
                batch.run_sprite(system, verb, table, given, out, context, as_json)
                clock.stage("run")
            elif table is not None:
                make = partial(batch.make_rows, verb, context)
                if on is not None:
                    make = partial(cluster.make_rows, on, verb, context, machine)
                batch.run_table(system, verb, table, given, out, context, as_json, make)
                clock.stage("run")
            elif on is not None and not verb.maps:
                with checked(system, verb, given, out, context) as (_, folder, _):
                    device, threads = cluster_train.processor(given.get("recipe"), machine)
                    cluster.check(on, device)
                    alone: dict[str, Any] = {"out": folder, "as_json": as_json, "timings": False, "only_plan": None}
                    run = partial(perform, system, verb, given, **alone, **machine)
                    cluster_train.train(on, workers or 1, device, threads, run, folder, context.started)
                clock.stage("run")
            else:
                run_one(system, verb, given, out, context, as_json, clock)
        finally:
            context.close()
    if timings:
        clock.show()


def check_on(
    on: str, device: str | None, verb: Verb, table: Path | None, sprite: bool, only_plan: bool
) -> None:  # fmt: skip
    """UserError for what means nothing on a cluster."""
    cluster.check(on, device)
    if not verb.lasting and table is None:
        raise UserError("--on spreads the rows of a table over machines: give one with --csv")
    for name, given in (("--sprite", sprite), ("--plan", only_plan)):
        if given:
            raise UserError(f"{name} means nothing with --on: leave one of them out")


def show_plan(plan: Plan, as_json: bool) -> None:
    print(json.dumps(plan._asdict()) if as_json else plan.text)


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
        if single and request.several() and ".txt" not in verb.endings:  # texts are lines of one file
            raise UserError(
                f"--out {out} is one file, but several results are asked for: give a folder, or ask for one result"
            )
        if single and getattr(request, "to", None) is not None:
            raise UserError(f"--out {out}: an animation is a .gif and a grid of its pictures: give a folder")
        if single and os.path.lexists(out):
            raise UserError(f"--out {out}: it is there already; move it away, or choose another name")
        with ready(out.parent if single else out):
            yield request, out, single


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
