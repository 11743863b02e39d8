"""`--on ray`: the rows of a table, or the cases of an evaluation, on the machines of a Ray cluster."""

from __future__ import annotations

import io
import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from inkwash.cli.batch import Outcome, Row, make_row
from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.progress import Note, Preview, Progress
from inkwash.systems.base import File, Result, Verb, options

TRIES = 3  # of a row, or a case, with which its process dies
# of the machine's own names: 127.0.0.1 would become its network's address
ALONE: dict[str, Any] = {"_node_ip_address": "127.0.0.2"} if sys.platform == "linux" else {}
SHORT = "/tmp" if sys.platform == "darwin" else None  # a socket's path has a hundred bytes at most
BLOCK = 16  # rows that an actor is given at once at most: so many are made anew where it dies


@contextmanager
def connected(on: str, log: bool = False) -> Iterator[Any]:
    """The module `ray`, with a cluster behind it: the one at an address; else one that is started, listens to nobody
    without its token, and ends with the block."""
    require(f"--on {on}", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it mends is no news
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # by which a thread of Ray Data would start another Ray after its end
    how: dict[str, Any] = {"log_to_driver": log, "logging_level": logging.ERROR}
    with ExitStack() as stack:
        if address := on.removeprefix("ray").removeprefix("://"):
            how |= {"address": address}
        else:
            folder = os.environ.get("RAY_TMPDIR", SHORT)
            folder = stack.enter_context(TemporaryDirectory(prefix="ray-", dir=folder, ignore_cleanup_errors=True))
            token = secrets.token_hex(32)  # all reach its ports
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "TMPDIR": folder}
            how |= {"address": "local", "include_dashboard": False, "_temp_dir": folder} | ALONE
        import ray

        try:
            if address:
                host, _, port = address.rpartition(":")
                socket.create_connection(
                    (host.strip("[]"), int(port)), 5
                ).close()  # Ray itself would wait for minutes
            with _silent():
                ray.init(**how)
        except (OSError, OverflowError, RuntimeError, ValueError) as error:
            why = f"{str(error).strip().splitlines()[0]:.160}"
            needed = "have this machine join its cluster (ray start), and give its RAY_AUTH_TOKEN if it has one"
            raise UserError(f"--on {on}: {why}; {needed}") from None
        signal.signal(signal.SIGTERM, _terminated)  # after Ray's own, which ends the process at once
        err = sys.stderr
        out = stack.enter_context(_own_output())
        stack.enter_context(redirect_stdout(_Ours(out, err)))
        stack.enter_context(redirect_stderr(_Ours(err, err)))
        stack.callback(_end, ray)
        yield ray


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on the process's standard error: code below Python says there each second that it tries again."""
    error = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(error, 2)
        os.close(error)


def _end(ray: Any) -> None:
    with redirect_stdout(io.StringIO()):  # it says what it had kept back of its own
        ray.shutdown()


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _own_output() -> Iterator[TextIO]:
    """The process's standard output for us alone: what code below Python writes there, as when a machine is gone,
    goes to standard error, and no result is mixed with it."""
    stdout = sys.__stdout__
    if stdout is None or sys.stdout is not stdout:  # somebody has it already
        yield sys.stdout
        return
    stdout.flush()
    descriptor = stdout.fileno()
    with open(os.dup(descriptor), "w", encoding=stdout.encoding, errors=stdout.errors) as out:
        os.dup2(2, descriptor)
        try:
            yield out
        finally:
            out.flush()
            stdout.flush()  # of what Ray has printed there
            os.dup2(out.fileno(), descriptor)


class _Ours(io.TextIOBase):
    """A stream without what Ray's own threads say, not all of which have its name: of the processes' lines, ours go
    to standard error."""

    def __init__(self, stream: TextIO, error: TextIO) -> None:
        self.stream, self.error = stream, error

    def write(self, text: str) -> int:
        thread, has_results = threading.current_thread(), self.stream is not self.error
        if thread is threading.main_thread() or not (has_results or thread.name.startswith("ray_")):
            return self.stream.write(text)
        for line in text.splitlines():
            _, ours, said = line.partition("inkwash: ")
            self.error.write(f"{ours}{said}\n" if ours else "")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def check(on: str, device: str | None) -> None:
    """UserError for an address that is none, and for one GPU among those that Ray gives away."""
    host, _, port = on.removeprefix("ray://").rpartition(":")
    if on != "ray" and not (on.startswith("ray://") and host and port.isdecimal()):
        raise UserError(f"--on {on}: give ray, or ray://HOST:PORT")
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"device {device} means nothing with --on, where Ray gives each process its own: cpu, cuda")


def resources(ray: Any, device: str | None, threads: int) -> dict[str, float]:
    """What a process takes of the cluster: a GPU, or its threads. UserError where no machine has as much."""
    wanted = {"GPU": 1.0} if device == "cuda" else {"CPU": float(threads)}
    ((name, count),) = wanted.items()
    if all(node["Resources"].get(name, 0) < count for node in ray.nodes() if node["Alive"]):
        raise UserError(f"no machine of this cluster has {count:.0f} {name} for a process: ask for less")
    return wanted


def make_rows(on: str, verb: Verb, context: Local, machine: dict[str, Any], rows: Iterable[Row]) -> Iterator[Outcome]:
    """The rows in the order in which they are made. Ray Data gives them to actors, which keep their models, and makes
    anew what dies with one; what comes back waits in its object store, for which the actors wait in turn."""
    waiting, hashes = list(rows), dict[tuple[str | None, ...], str | None]()
    if not waiting:
        return
    with connected(on) as ray, _gone(ray, on):
        files = {sha: ray.put(path.read_bytes()) for sha, path in inputs(waiting, context).items()}
        stream = _stream(ray, partial(make_packed, verb), machine, waiting, files)
        for done, (place, made, notes) in enumerate(stream, 1):
            row = waiting[place]
            for note in notes:
                context.tell(note)
            if isinstance(made, Exception) and not isinstance(made, UserError):
                raise made
            outcome, contents = (Outcome(row, error=made), {}) if isinstance(made, UserError) else made
            names = tuple(getattr(row.request, option, None) for option in ("model", "refiner"))
            if outcome.error is None and hashes.setdefault(names, outcome.hash) != outcome.hash:
                raise another_model(names[0])
            yield outcome._replace(row=row, results=unpack(outcome.results, contents, context.folder))
            context.tell(Progress(done, len(waiting)))


@contextmanager
def _gone(ray: Any, on: str) -> Iterator[None]:
    """UserError for a cluster that cannot go on."""
    try:
        yield
    except ray.exceptions.RayError as error:
        why = f"{str(error).strip().splitlines()[-1]:.160}"
        raise UserError(f"--on {on}: {why}; what is made stays, and the same command goes on") from None


class Spread(Local):
    """The `Context` of a command whose `map` the actors of a cluster do."""

    def __init__(self, on: str, folder: Path, machine: dict[str, Any]) -> None:
        super().__init__(folder, **machine | {"device": None})  # which lies elsewhere
        self.on, self.machine = on, machine

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        found, following = dict[int, Any](), 0
        self.expected = ""  # of one machine
        with connected(self.on) as ray, _gone(ray, self.on):
            work = partial(apply, ray.put(by_name(function, self.models)))
            for place, value, notes in _stream(ray, work, self.machine, items, {}):
                for note in notes:
                    self.tell(note)
                if isinstance(value, Exception):
                    raise value
                found[place] = value
                while following in found:
                    yield found.pop(following)
                    following += 1


def by_name(function: Callable[[Any], Any], models: dict[str, Any]) -> bytes:
    """The function as pickle has it, but for its models: where it is done they are loaded by their names, on the
    device and by the runtime there."""
    from ray import cloudpickle

    names = {id(model): name for name, model in models.items()}

    class Pickler(cloudpickle.CloudPickler):
        def persistent_id(self, value: Any) -> tuple[str, str | None] | None:
            return (names[id(value)], value.hash) if id(value) in names else None

    pickler: Any = Pickler
    pickler(content := io.BytesIO()).dump(function)
    return content.getvalue()


class Unpickler(pickle.Unpickler):
    """Of what `by_name` has pickled."""

    def __init__(self, content: bytes, context: Local) -> None:
        super().__init__(io.BytesIO(content))
        self.context = context

    def persistent_load(self, name_and_hash: Any) -> Any:
        name, hash = name_and_hash
        if (model := self.context.model(name)).hash != hash:
            raise another_model(name)
        return model


def another_model(name: str | None) -> UserError:
    return UserError(f"{name}: another model of this name lies on one of the machines: make them the same")


def _stream(
    ray: Any, work: Callable[[Any, Any], Any], machine: dict[str, Any], items: Iterable[Any], files: dict[str, Any]
) -> Iterator[tuple[int, Any, list[Note]]]:
    """The places of all items, and what `Maker.make` returns of them, in the order in which they are made. UserError
    if any do not come back."""
    from ray import data

    from inkwash.weights.graph import default_threads

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised, too
    settings = data.DataContext.get_current()
    settings.enable_progress_bars = False
    settings.target_max_block_size = None  # one output a block: tried again it is made whole, whatever was cut before
    wanted = resources(ray, machine["device"], machine["threads"] or default_threads())
    ((name, count),) = wanted.items()
    actors = max(1, int(ray.cluster_resources()[name] // count))
    maker = {
        "work": work,
        "machine": machine,
        "files": files,
        "folder": os.getcwd(),
        "begun": command_node(ray)(Begun).remote(),  # dies with us alone
        "environment": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
    }
    pickled = [{"item": pickle.dumps(pair)} for pair in enumerate(items)]
    lacking = len(pickled)
    per_block = max(1, min(BLOCK, lacking // (4 * actors)))
    source = data.from_items(pickled, override_num_blocks=-(-lacking // per_block))
    del pickled  # which lie in the object store now
    made = source.map_batches(
        Maker,
        batch_size=1,  # None, a whole block, is refused with GPUs
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=1, max_size=actors),
        fn_constructor_kwargs=maker,
        num_cpus=wanted.get("CPU", 0),
        num_gpus=wanted.get("GPU", 0),
    )
    for batch in made.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for value in batch["made"]:
            yield pickle.loads(value.as_py())
            lacking -= 1
    if lacking:
        raise UserError(f"{lacking} did not come back from the cluster: the same command makes them")


def command_node(ray: Any) -> Any:
    """The decorator of what runs on the command's own machine, beside all else."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return ray.remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def inputs(rows: Iterable[Row], context: Local) -> dict[str, Path]:
    """The files that go into the rows, by their SHA-256."""
    found: dict[str, Path] = {}
    for row in rows:
        for option in options(type(row.request)).values():
            value = getattr(row.request, option.name) if option.kind is File else None
            for one in value if option.many and value else filter(None, [value]):
                path = context.open(one)
                found |= (
                    {file.sha256: path / file.name for file in one} if isinstance(one, tuple) else {one.sha256: path}
                )
    return found


class Remote(Local):
    """The `Context` of an actor: files come through Ray's object store, notes go back with the results."""

    def __init__(self, folder: Path, files: dict[str, Any], machine: dict[str, Any]) -> None:
        super().__init__(folder, **machine)
        self.inputs, self.files, self.notes = folder.with_name("inputs"), files, list[Note]()
        self.mapped: Callable[[Any], Any] | None = None

    def tell(self, event: Progress | Preview | Note) -> None:
        if isinstance(event, Note):
            self.notes.append(event)

    def stopped(self) -> bool:
        return False

    def model(self, name: str) -> Any:
        try:
            return super().model(name)
        except UserError as error:
            raise UserError(f"{error} (on {socket.gethostname()}, where it must lie, too)") from None

    def open(self, file: File | tuple[File, ...]) -> Path:
        if isinstance(file, File):
            return self._fetch(file, self.inputs / file.sha256[:16] / Path(file.name).name)
        folder = self.inputs / sha256(repr(file).encode()).hexdigest()[:16]
        for one in file:
            self._fetch(one, folder / one.name)
        return folder

    def _fetch(self, file: File, path: Path) -> Path:
        import ray

        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ray.get(self.files[file.sha256]))
        return path


class Begun:
    """How often each item was begun, of those that are not done: with one that kills its process all others of its
    block are begun anew, too, and done."""

    def __init__(self) -> None:
        self.times = Counter[int]()

    def begin(self, place: int) -> int:
        self.times[place] += 1
        return self.times[place]

    def done(self, place: int) -> None:
        del self.times[place]


class Maker:
    """An actor's work, of (context, item), with models that stay warm."""

    def __init__(
        self,
        work: Callable[[Remote, Any], Any],
        machine: dict[str, Any],
        files: dict[str, Any],
        folder: str,
        begun: Any,
        environment: dict[str, str],
    ) -> None:
        os.environ.update(environment)
        with suppress(OSError):  # where the machines share no folders
            os.chdir(folder)
        self.begun = begun
        self.work, self.scratch = work, TemporaryDirectory(prefix="inkwash-")
        (results := Path(self.scratch.name, "results")).mkdir()
        self.context = Remote(results, files, machine)

    def __call__(self, batch: Any) -> Any:
        import pyarrow

        items = (pickle.loads(value.as_py()) for value in batch["item"])
        made = [pickle.dumps((place, *self.make(place, item))) for place, item in items]
        return pyarrow.table({"made": pyarrow.array(made, pyarrow.large_binary())})

    def make(self, place: int, item: Any) -> tuple[Any, list[Note]]:
        """What the work makes of an item, or its error, and what is to be said."""
        import ray

        notes = self.context.notes = list[Note]()
        if ray.get(self.begun.begin.remote(place)) > TRIES:
            return UserError(f"its process died {TRIES} times, for want of memory perhaps"), []
        try:
            return self.work(self.context, item), notes
        except Exception as error:  # as on one machine, one that is no UserError ends all; the driver says it
            error.add_note(traceback.format_exc())
            return error, notes
        finally:
            empty(self.context.folder)
            shutil.rmtree(self.context.inputs, ignore_errors=True)
            self.begun.done.remote(place)


def make_packed(verb: Verb, context: Remote, row: Row) -> tuple[Outcome, dict[str, bytes]]:
    """What a row came to, and the content of its files."""
    outcome = make_row(verb, context, row)
    results, contents = pack(outcome.results, context.folder)
    return outcome._replace(results=results), contents


def apply(function: Any, context: Remote, item: Any) -> Any:
    """What a function that `by_name` has pickled says of an item; it is unpickled once an actor."""
    import ray

    if context.mapped is None:
        context.mapped = Unpickler(ray.get(function), context).load()
        context.notes.clear()  # on its models, which the command has said already
    return context.mapped(item)


def pack(results: list[Result] | None, folder: Path) -> tuple[list[Result] | None, dict[str, bytes]]:
    """The results with paths seen from the folder, and by these paths the content of their files."""
    paths = [path for result in results or () for path in [*result.files.values(), result.model] if path is not None]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    return _moved(results, lambda path: path.relative_to(folder)), contents


def unpack(results: list[Result] | None, contents: dict[str, bytes], folder: Path) -> list[Result] | None:
    """The results with their files in the folder, in which nothing else lies then."""
    empty(folder)
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return _moved(results, lambda path: folder / path)


def empty(folder: Path) -> None:
    """Removes what is in it; a folder for each row would take longer than many a row."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _moved(results: list[Result] | None, move: Callable[[Path], Path]) -> list[Result] | None:
    return results and [
        result._replace(
            files={ending: move(path) for ending, path in result.files.items()},
            model=None if result.model is None else move(result.model),
        )
        for result in results
    ]
