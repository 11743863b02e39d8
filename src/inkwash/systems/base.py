"""What a system brings: verbs, functions from requests to results.

The command line, the studio, Ray and a test read the same requests and take the same results. A room adds a
verb by writing a `Request`, whose fields are the options, and a function; docs/systems.md shows a whole system.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
import sys
import types
import typing
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

from annotated_types import Ge, Gt, Le, Lt, MaxLen

from inkwash.errors import UserError, unknown
from inkwash.progress import Monitor, Progress, duration
from inkwash.progress import Note as Note
from inkwash.progress import Preview as Preview
from inkwash.version import __version__
from inkwash.weights.shipped import describe, reference


@dataclass(frozen=True)
class File:
    """What goes into a verb, known by its content; `name` is what its owner calls it. A folder is a tuple of files,
    their names the paths within it."""

    sha256: str
    name: str


@dataclass(frozen=True)
class Help:
    """What an option says of itself. `argument`: on a command line it stands without its name."""

    text: str
    argument: bool = False


@dataclass(frozen=True)
class Media:
    """What kind of file an option takes, as browsers say it: image/*, text/csv; or "folder". An SVG is none of
    image/*, which are of pixels: image/*,image/svg+xml."""

    type: str


class Option(NamedTuple):
    """One field of a request. `kind` is bool, int, float, str or File; `many`: a tuple of them."""

    name: str
    kind: type
    help: str
    default: Any  # dataclasses.MISSING where it must be given
    optional: bool  # may be None
    many: bool
    argument: bool
    choices: tuple[str, ...]
    low: float
    high: float
    exclusive: tuple[bool, bool]  # whether the bounds themselves are excluded
    longest: int | None
    media: str

    def range(self) -> str:
        """The bounds in words, "" without any."""
        least = f"{'above' if self.exclusive[0] else 'from'} {self.low}" if self.low > -math.inf else ""
        most = f"{'below' if self.exclusive[1] else 'to'} {self.high}" if self.high < math.inf else ""
        return " ".join(filter(None, (least, most)))

    def check(self, value: Any) -> Any:
        """The value, as its own kind. UserError, in one line, for one that is none or out of its range."""
        if value is None and self.optional:
            return None
        if self.many:
            one, values = self._replace(many=False), [value] if isinstance(value, str) else value
            return tuple(map(one.check, values)) if isinstance(values, (tuple, list)) else one.check(value)
        if self.kind is File:
            if self.media == "folder" and isinstance(value, (tuple, list)) and value:
                return tuple(map(self._replace(media="").check, value))
            fits = isinstance(value, File)
        elif self.kind is float:
            fits = isinstance(value, (int, float)) and not isinstance(value, bool)
            fits = fits and abs(value) <= sys.float_info.max  # neither infinite, nor a whole number beyond all floats
            value = float(value) if fits else value
        else:
            fits = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if not fits:
            words = {bool: "yes or no", int: "a whole number", float: "a number", str: "text", File: "a file"}
            raise UserError(f"{self.name} = {str(value)[:60]!r}: {words[self.kind]} is needed")
        if self.choices and value not in self.choices:
            raise unknown(self.name, value[:60], self.choices)
        if self.kind is str:
            check_text(self.name, value)
        if self.longest is not None and len(value) > self.longest:
            raise UserError(f"{self.name}: {len(value)} characters; at most {self.longest} are possible")
        if self.kind in (int, float):
            outside = value < self.low or value > self.high or (self.exclusive[0] and value == self.low)
            if outside or (self.exclusive[1] and value == self.high):
                kind = "a whole number" if self.kind is int else "a number"
                raise UserError(f"{self.name} = {value}: choose {kind} {self.range()}")
        return value


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a verb is asked for. Each field is `Annotated[type, Help("..."), bounds...]`: an option of the command
    line, a column of a table, a field of a form and of the API. The docstring is the verb's help.

    Raises UserError for a value of another kind, or out of its bounds.
    """

    def __post_init__(self) -> None:
        for name, option in options(type(self)).items():
            object.__setattr__(self, name, option.check(getattr(self, name)))

    def facts(self) -> dict[str, Any]:
        """The fields, as JSON holds them: files as {"sha256", "name"}."""
        return dataclasses.asdict(self)

    def model_name(self) -> str | None:
        """The model that it asks for, or that is taken if none is named; None without one."""
        name: str | None = getattr(self, "model", None)
        return name

    def check(self, limits: Mapping[str, Limit]) -> None:
        """UserError for options that do not go together with a model of these limits."""

    def several(self) -> bool:
        """Whether it asks for more than one result."""
        return getattr(self, "n", 1) != 1

    def stem(self) -> str:
        """What its results are called, before their endings: their seed comes last, where it need not be given."""
        seed = options(type(self)).get("seed")
        value = getattr(self, "seed", None) if seed is not None and seed.optional else None
        return self.basename() if value is None else f"{self.basename()}-{value}"

    def basename(self) -> str:
        """The stem without a seed."""
        return type(self).__name__.lower()

    def subrequests(self) -> list[Self]:
        """Requests that make the same, one after the other; each takes its own turn in a queue."""
        return [self]


_OPTIONS: dict[type[Request], dict[str, Option]] = {}


def options(request: type[Request]) -> dict[str, Option]:
    """The options of a request, by name."""
    if request not in _OPTIONS:
        hints = typing.get_type_hints(request, include_extras=True)
        _OPTIONS[request] = {field.name: _option(field, hints[field.name]) for field in dataclasses.fields(request)}
    return _OPTIONS[request]


def _option(field: dataclasses.Field[Any], hint: Any) -> Option:
    annotations: list[Any] = []
    if typing.get_origin(hint) is typing.Annotated:
        hint, *annotations = typing.get_args(hint)
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    optional, (kind, *_) = type(None) in kinds, [kind for kind in kinds if kind is not type(None)]
    many = typing.get_origin(kind) is tuple
    kind = typing.get_args(kind)[0] if many else kind
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    note = {type(annotation): annotation for annotation in annotations}
    low, high = note.get(Gt) or note.get(Ge), note.get(Lt) or note.get(Le)
    text, media = note.get(Help, Help("")), note[Media].type if Media in note else ""
    return Option(
        field.name,
        str if choices else kind,
        text.text,
        field.default,
        optional,
        many and media != "folder",
        text.argument,
        choices,
        -math.inf if low is None else getattr(low, "gt", getattr(low, "ge", 0)),
        math.inf if high is None else getattr(high, "lt", getattr(high, "le", 0)),
        (Gt in note, Lt in note),
        note[MaxLen].max_length if MaxLen in note else None,
        media,
    )


class Result(NamedTuple):
    """What a verb has made.

    of      which request
    place   which of its n; None for what belongs to the whole run
    files   by their endings ("-grid.png"), in the context's folder; the first is the one that is shown
    row     a line of the run's table; `text` is what a terminal prints
    recipe  the request's fields, and what else the result depends on: `again` makes it anew
    model   a folder of a trained model
    """

    of: int
    place: int | None
    files: dict[str, Path]
    row: dict[str, Any] = {}  # noqa: RUF012
    recipe: dict[str, Any] = {}  # noqa: RUF012
    model: Path | None = None


class Recorded(NamedTuple):
    """What a file that a verb wrote says of itself.

    recipe   of the `Result` that it is of
    suffix   of files of its kind: ".png"
    content  what of it the recipe makes anew, without what the recipe says: the same content is the same result
    what     the content in a word: pixels
    """

    recipe: dict[str, Any]
    suffix: str
    content: Any
    what: str


class Context(Monitor, Protocol):
    """Where a verb runs, and who follows it. The command line, the studio's worker and a test bring one each."""

    device: str | None  # None, here and below: what the verb would take by itself
    precision: str | None
    runtime: str | None
    threads: int | None
    previews: int  # how often a result is shown on its way, where a verb can do that
    folder: Path  # for files that are made
    started: float  # when, by time.monotonic()
    local: bool  # who asks may name places on this machine, as recipes do

    def model(self, name: str) -> Any:
        """The model of this name, loaded once."""

    def open(self, file: File | tuple[File, ...]) -> Path:
        """Where the content of a file, or of a folder, lies."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """What the function returns of each item, in their order: one after the other, or spread over a cluster, to
        which it goes once with all that it holds, of the context's models their names. It depends on nothing but its
        item and what it holds, and changes nothing."""


class Limit(NamedTuple):
    """What a model says of an option: which of the verb's values it has, what it takes if none is given; or that it
    has none of it, and would change nothing."""

    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    default: Any = None
    absent: bool = False


class Plan(NamedTuple):
    """What a request will take, said before it starts; None where it cannot be known.

    seconds  until all of it is made
    bytes    of disk that it will fill
    text     the same for people: "about 3 min, 40 MB"
    """

    seconds: float | None = None
    bytes: int | None = None
    text: str = ""


class Verb(NamedTuple):
    """`run`, (requests, context) -> Results, is "module:function", so that nothing is imported before it runs.

    limits   (the model's folder) -> what the model narrows: {option: Limit}
    plan     (request, folder, device, threads) -> Plan; see `plan`
    lasting  it works in the folder of its results, and goes on there: a training, a table with a cache
    out      where a command line puts the results if nothing is said; "MODEL" is the model's own folder
    endings  of the file that is a result, where it can be told before; by its option `format`, if it has one
    sprite   "module:function", ([(name, request)], context) -> Result: the rows of a table in one SVG
    takes    of --out and what a `Context` says of the machine, what means something to it; nothing else can be asked
    maps     its work is the context's `map`, which `--on` spreads over a cluster
    """

    request: type[Request]
    run: str
    limits: str = ""
    plan: str = ""
    lasting: bool = False
    out: str = "."
    endings: tuple[str, ...] = ()
    sprite: str = ""
    takes: tuple[str, ...] = ("out", "device", "precision", "runtime", "threads")
    maps: bool = False


EVALUATE: dict[str, Any] = {"lasting": True, "out": "out/evaluate"}  # how the verb `evaluate` is run, in every system


class System(NamedTuple):
    """A room and what it brings. Names of functions are "module:function", as in `Verb`.

    load     (folder, device, precision, runtime, threads) -> Model
    command  a word of the command line for the first verb
    modules  what must be installed, and for which of its verbs; "" for all. A verb that stands there alone never runs
             without it; one with more words only where they say
    tasks    of its recipes
    makes    (the content of system.json) -> what a model makes, in a few words
    recipe_of
             (a file) -> Recorded, by which `again` makes it anew; None where the file is of none of its kinds
    """

    name: str
    help: str
    verbs: dict[str, Verb]
    load: str
    command: str = ""
    modules: Mapping[str, str] = {}
    tasks: tuple[str, ...] = ()
    makes: str = ""
    recipe_of: str = ""


class Model(Protocol):
    """What all systems' models share; the rest are their own methods."""

    hash: str | None  # of its weights

    def save(self, folder: Path) -> None:
        """Writes what `load` reads."""


def resolve(name: str) -> Callable[..., Any]:
    """The function of "module:name", or "module:Class.method"."""
    module, _, attributes = name.partition(":")
    function: Callable[..., Any] = attrgetter(attributes)(import_module(module))
    return function


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """UserError for what is wrong in the files of a model, if the block stumbles over it."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its system.json is broken ({error}); save the model again") from None


def limits(verb: Verb, folder: Path) -> dict[str, Limit]:
    """What the model in this folder narrows of the verb's options: by its system, and by the `limits` of its own card
    (system.json). Loads no model."""
    with reading(folder):
        found = resolve(verb.limits)(folder) if verb.limits else {}
        card: Any = describe(folder).get("limits", {})
        found |= {name: found.get(name, Limit())._replace(**limit) for name, limit in card.items()}
    return {name: limit for name, limit in found.items() if name in options(verb.request)}


def narrow(verb: Verb, request: Request, folder: Path) -> None:
    """UserError for what this model, of all values that the verb knows, does not."""
    found = limits(verb, folder)
    for name, limit in found.items():
        option, value = options(type(request))[name], getattr(request, name)
        if limit.absent and value not in (option.default, limit.default):
            raise UserError(f"{name} means nothing with the model {folder.name}: leave it out")
        if limit.choices and value is not None and value not in limit.choices:
            raise unknown(name, str(value)[:60], map(str, limit.choices))
        low = option.low if limit.low is None else max(limit.low, option.low)
        high = option.high if limit.high is None else min(limit.high, option.high)
        option._replace(low=low, high=high).check(value)
    request.check(found)


def plan(verb: Verb, request: Request, folder: Path | None, device: str | None, threads: int | None) -> Plan:
    """What the request will take on this machine: by the folder of its model, or, for a training that goes on, by
    that of its run. Loads no model and no torch."""
    with nullcontext() if folder is None else reading(folder):
        found = resolve(verb.plan)(request, folder, device or "cpu", threads or 1) if verb.plan else Plan()
    return found if found.text else found._replace(text=summary(found))


def add_up(plans: Iterable[Plan]) -> Plan:
    """The plan of all of them, one after the other."""
    plans = list(plans)
    if len(plans) == 1:
        return plans[0]
    seconds = [plan.seconds for plan in plans if plan.seconds is not None]
    total = Plan(sum(seconds) if len(seconds) == len(plans) else None, sum(plan.bytes or 0 for plan in plans) or None)
    return total._replace(text=summary(total))


def summary(plan: Plan) -> str:
    """ "about 3 min, 40 MB"."""
    time = "how long it takes shows when it runs"
    if plan.seconds is not None:
        time = f"about {duration(max(plan.seconds, 1))}"
    size = (plan.bytes or 0) / 1e6
    return f"{time}, {size:.{0 if size >= 10 else 1}f} MB" if size >= 0.1 else time


def idle(request: Request, names: Iterable[str], where: str) -> None:
    """UserError for an option that was given and would change nothing."""
    fields = options(type(request))
    for name in names:
        if getattr(request, name) != fields[name].default:
            raise UserError(f"{name} means nothing {where}: leave it out")


UNSEEN = {"Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Mn", "Me"}  # Unicode's: spaces, signs of control, marks on nothing
FILLERS = set("\u115f\u1160\u2800\u3164\uffa0")  # letters and a symbol without a shape


def is_blank(text: str) -> bool:
    """Whether nothing of it can be seen."""
    return all(sign in FILLERS or unicodedata.category(sign) in UNSEEN for sign in text)


def check_text(name: str, text: str) -> None:
    """UserError for a text with the sign that ends texts in files and databases."""
    if "\0" in text:
        raise UserError(f"{name} has the sign U+0000, which no text may have: take it out")


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, of whatever type but bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and value % 1 == 0


def check_seed(seed: int) -> None:
    """UserError for a seed that is none."""
    if not (is_whole(seed) and 0 <= seed < 2**64):
        raise UserError(f"seed {seed}: a whole number from 0 to 2^64 - 1 is needed")


def check_counts(**counts: Any) -> None:
    """UserError for what is no whole number from 1; None is the model's own."""
    for name, value in counts.items():
        if value is not None and not (is_whole(value) and value >= 1):
            raise UserError(f"{name} = {value}: choose a whole number from 1")


def seeded(request: Any) -> Any:
    """The request, with a seed drawn at random where none is given."""
    return dataclasses.replace(request, seed=secrets.randbelow(2**32)) if request.seed is None else request


def recipe(
    system: str, verb: str, request: Request, model: Model, context: Context, run: Any = None
) -> dict[str, Any]:
    """What makes a result anew: what was asked for, by which verb, of which weights, and how it was computed.

    run: of one of several that are computed at once, the request of all: alone it differs in the last bit.
    """
    facts: dict[str, Any] = {"system": system, "verb": verb, "hash": model.hash, "version": __version__}
    if (name := request.model_name()) is not None:
        facts["model"] = reference(name)
    facts |= {"device": context.device or "cpu", "precision": context.precision or "float32"}
    facts |= {} if run is None or run.n == 1 else {"run": {"n": run.n, "seed": run.seed}}
    return request.facts() | facts | {"runtime": context.runtime or "torch", "threads": context.threads or 1}


def on_progress(context: Context) -> Callable[[int, int], None]:
    """The context as a function of (steps done, steps in all), which most models report to."""
    return lambda done, total: context.tell(Progress(done, total))
