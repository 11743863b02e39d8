"""What runs verbs: one process for each device. It takes jobs from the store until its supervisor goes away.

It tells that on standard output, a line of JSON each, what happens: progress, previews, results, how it is.
What counts is in the store; if a line is lost, nothing is.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError, OperationalError

from inkwash.codecs.png import embedded_recipe, replace_recipe
from inkwash.diffusion.errors import DiffusionError
from inkwash.errors import UserError
from inkwash.extras import missing
from inkwash.studio import runs
from inkwash.studio.buckets import FILES
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.context import JobContext, LeaseLost, without_paths
from inkwash.studio.errors import APIError, DatabaseUnusable, StorageUnusable, is_disk_full
from inkwash.studio.files import MEDIA, WITH_RECIPE, suffix_of
from inkwash.studio.library import NewFile
from inkwash.studio.requests import lack, parse_request
from inkwash.studio.store import LEASE, STORE, NewResult, Store
from inkwash.systems import load, systems
from inkwash.systems.base import File, Request, Result, options, resolve

LOCK_TIMEOUT = 86400.0  # seconds that it waits for another program's lock on the database
MODEL_TTL = 600.0  # seconds after which a model that nobody asks for leaves the memory
MAX_MODELS = 3  # in memory at once
STALL_TIMEOUT = 1200.0  # seconds without a step, of which SDXL's take minutes on one thread, after which the lease is
# not renewed: the worker is held to hang
RETRY = 2.0  # seconds between two tries to keep what cannot be kept now
END_TIMEOUT = 3.0  # seconds that it has to end when its server has gone
MAX_TITLE = 2000


class ModelCache:
    """Models that stay in memory: the last few asked for, less when there is no room, none that idle."""

    def __init__(self, load: Callable[[Path], Any], most_memory: float) -> None:
        self.load, self.most_memory = load, most_memory
        self.models: OrderedDict[Path, tuple[Any, float]] = OrderedDict()

    def get(self, folder: Path) -> Any:
        model = self.models.pop(folder)[0] if folder in self.models else None
        while model is None and len(self.models) >= MAX_MODELS:
            self.models.popitem(last=False)
        model = model or self.load(folder)
        self.models[folder] = model, time.monotonic()
        return model

    def tidy(self) -> bool:
        """Lets models go that idle, and all but the last if there is too little room; whether there is enough now."""
        before = len(self.models)
        for folder, (_, used) in list(self.models.items()):
            if time.monotonic() - used > MODEL_TTL:
                del self.models[folder]
        if memory() > self.most_memory:
            while len(self.models) > 1:
                self.models.popitem(last=False)
        if len(self.models) < before:
            gc.collect()
        return memory() <= self.most_memory


def memory() -> float:
    """What this process takes, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the most it ever took
        if sys.platform == "win32":  # which has no such module: the limit is not watched there
            return 0.0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)


class Worker:
    """Runs jobs one after the other. `tell` is called with each message; `stopping` is set when it shall stop,
    `draining` when it shall end the part that it is at, and leave the rest to others."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        models: ModelCache,
        name: str,
        tell: Callable[[dict[str, Any]], None],
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self.store, self.catalogue, self.models, self.name, self.tell = store, catalogue, models, name, tell
        self.device, self.threads = device, threads
        self.stopping, self.draining = threading.Event(), threading.Event()
        self.job: str | None = None
        self.active = time.monotonic()  # when the last step was
        self.busy = 0.0  # seconds of the job in which its verb ran
        self.said: set[str] = set()  # what it was said that jobs wait for

    def warm_up(self) -> None:
        """Loads, before the first job, what is likely to be asked for: the model of the last job that was done, or
        what pictures are drawn with if none is named."""
        verb = next(iter(systems()["pictures"].verbs.values()))
        name, user = self.store.last_model() or (options(verb.request)["model"].default, "")
        with suppress(UserError, APIError):  # it is gone, or broken: who asks for it is told
            self.models.get(self.catalogue.folder(name, user))

    def step(self) -> bool:
        """Runs the next job; False if there is none."""
        hashes = None if self.store.postgresql is None else self.catalogue.offered()
        job = self.store.claim(self.name, None if hashes is None else lambda needs: not lack(needs, hashes))
        self.say_lacking(hashes or {})
        if job is None:
            return False
        self.job, self.active, self.busy = job.id, time.monotonic(), 0.0
        self.notify(job, "started")
        try:
            self.run(job)
        except LeaseLost:
            pass
        except Exception as error:
            if is_disk_full(error) or isinstance(error, StorageUnusable):
                self.back_off(job, "disk full" if is_disk_full(error) else "storage unusable", str(error))
            elif isinstance(error, BrokenPipeError | DBAPIError) or is_of_database(error):
                raise  # the server has gone, or the table cannot be written
            else:  # the job fails, the worker goes on
                message = message_of(error, self.store.home)
                if message != str(error):  # the log has where; what it says may have words of the request
                    traceback.print_tb(error.__traceback__)
                    print(type(error).__name__, file=sys.stderr)
                self.store.fail(self.name, job.id, message)
        finally:
            self.job = None
            self.notify(job, "left", seconds=self.busy, **self.state())
        return True

    def say_lacking(self, hashes: Container[str]) -> None:
        """Once, what jobs wait for that is not here, or is another here."""
        if len(self.catalogue.hashes) == len(self.catalogue.shared):  # else some is still being read
            for what in {one for needs in self.store.lacking for one in lack(needs, hashes)} - self.said:
                print(f"left to others: jobs that need {what}", file=sys.stderr)
                self.said.add(what)

    def notify(self, job: Row[Any], event: str, **facts: Any) -> None:
        self.tell({"job": job.id, "user": job.user_id, "event": event, **facts})

    def state(self) -> dict[str, Any]:
        return {"memory": memory(), "models": len(self.models.models)}

    def back_off(self, job: Row[Any], event: str, why: str) -> None:
        """The disk is full, or the storage cannot be worked with: the job waits in the queue."""
        self.notify(job, event, why=why)
        time.sleep(RETRY)
        try:
            self.store.release(self.name)
        except OperationalError:
            traceback.print_exc()  # the lease will run out instead

    def run(self, job: Row[Any]) -> None:
        """The parts of the job that are not there yet: after a crash, those that are stay."""
        if job.system not in systems() or job.verb not in systems()[job.system].verbs:
            raise UserError(f"there is no {job.system} {job.verb} here any more")
        verb = systems()[job.system].verbs[job.verb]
        context = JobContext(self, job)
        try:
            values, known = job.request, options(verb.request)
            if job.needs is not None:  # of another version, perhaps, all of whose other options are at their defaults
                values = {name: value for name, value in values.items() if name in known}
            for part, request in list(enumerate(parse_request(verb, values).subrequests()))[job.part :]:
                context.next_part(part)
                self.store.check_disk()  # rather than make what cannot be kept
                for number, result in enumerate(self.time_verb(resolve(verb.run)([request], context))):
                    if context.stop_reason in (None, "stop"):
                        self.insist(context, partial(self.save_result, job, request, part, number, result))
                    elif context.stop_reason == "pause" and result.model is not None:
                        self.insist(context, partial(self.save_model_so_far, job, request, result.model, context))
                if context.stop_reason not in (None, "stop"):
                    context.check()  # what another has learned since is not to be replaced
                    self.insist(context, partial(runs.send, self.store, job.id))
                    return self.store.release(self.name)
                if not self.store.advance(self.name, job, leave=self.draining.is_set()):
                    return None
        finally:
            context.close()

    def time_verb(self, results: Iterable[Result]) -> Iterator[Result]:
        results = iter(results)
        while True:
            started = time.monotonic()
            try:
                result = next(results)
            except StopIteration:
                return
            finally:
                self.busy += time.monotonic() - started
            yield result

    def insist(self, context: JobContext, keep: Callable[[], None]) -> None:
        """As often as it takes until storage and database can be worked with: what was made is not lost."""
        while True:
            try:
                return keep()
            except (StorageUnusable, DatabaseUnusable) as error:
                if self.store.postgresql is None:  # SQLite's does not come back
                    raise
                self.active = time.monotonic()
                self.notify(context.job, "storage unusable", why=str(error))
                if self.stopping.wait(RETRY):
                    raise LeaseLost from None
                context.check()

    def save_result(self, job: Row[Any], request: Request, part: int, number: int, result: Result) -> None:
        """Files and rows together. LeaseLost if the job is not this worker's any more."""
        with ExitStack() as stack:
            files = []
            for ending, path in flat(result.files):
                name = re.sub(
                    r"[^\w.-]+", "-", ending if job.lasting or ending[:1] not in "-." else f"{request.stem()}{ending}"
                )
                source = public_file(path, request)
                staged = self.store.files.stage(source, suffix_of(name), link=not job.lasting)
                content = stack.enter_context(staged)
                files.append(NewFile(content, name[-200:]))
            new = NewResult(
                part if job.parts > 1 else result.place,
                title_of(request, result),
                json.loads(json.dumps(result.row, default=str)),
                json.loads(json.dumps(public_recipe(result.recipe, request), default=str)),
                files,
                result.model,
                model_name(request),
            )
            if not self.store.add(self.name, job, part, number, new, self.catalogue.shared):
                raise LeaseLost
        self.notify(job, "result", place=part)

    def save_model_so_far(self, job: Row[Any], request: Request, folder: Path, context: JobContext) -> None:
        """A copy of the model of a training that pauses, so that it can be used."""
        copy = context.root / "so far"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        try:
            self.store.add_model(self.name, job, copy, model_name(request), self.catalogue.shared)
        except (StorageUnusable, DatabaseUnusable):
            raise
        except APIError as error:  # there is no room for it; the training can go on all the same
            self.store.note(self.name, job.id, str(error))
        shutil.rmtree(copy)

    def send_heartbeats(self) -> None:
        """Renews the lease of the job at hand, in a thread of its own, as long as there are steps."""
        while not self.stopping.wait(LEASE / 4):
            job = self.job
            if job is not None and time.monotonic() - self.active < STALL_TIMEOUT:
                try:
                    self.store.renew(self.name, job)
                except OperationalError:
                    traceback.print_exc()
                except APIError:
                    pass  # the job's next step says so


def is_of_database(error: Exception) -> bool:
    """Whether it says that nothing can be read or written now; what was done of the job stays, and it goes on."""
    return isinstance(error, APIError) and error.status == 503


def message_of(error: Exception, home: Path) -> str:
    """Why a job failed, in one line."""
    if isinstance(error, UserError | DiffusionError | APIError):
        return without_paths(str(error), home)
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, ModuleNotFoundError):  # what not every installation has
        with suppress(ModuleNotFoundError):  # one of our own: a mistake
            return str(missing(error))
    return "it failed by a mistake of the studio's; its log says more"


def public_recipe(recipe: dict[str, Any], request: Request) -> dict[str, Any]:
    """The recipe with models and files as they were asked for: where they lie here is nobody's business."""
    facts, fields = request.facts(), options(type(request))
    inner = {name for name, option in fields.items() if option.kind is File or (name == "model" and facts[name])}
    return {name: facts[name] if name in inner else value for name, value in recipe.items()}


def flat(files: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Files by their endings; those of a folder by their own names, which name one another. The one that is shown
    comes first: of favicons it is icon-512.png."""
    for ending, path in files.items():
        inner = sorted(path.iterdir(), reverse=True) if path.is_dir() else []
        yield from [(file.name, file) for file in inner] or [(ending, path)]


def public_file(path: Path, request: Request) -> Path | bytes:
    """The file; a picture with its recipe as `public_recipe` has it."""
    if MEDIA.get(suffix_of(path.name)) not in WITH_RECIPE:
        return path
    data = path.read_bytes()
    try:
        recipe = embedded_recipe(data)
    except (KeyError, TypeError, ValueError):  # it has none
        return path
    clean = (
        [public_recipe(one, request) for one in recipe]
        if isinstance(recipe, list)
        else public_recipe(recipe, request)
    )
    return path if clean == recipe else replace_recipe(data, clean)


def model_name(request: Request) -> str:
    return re.sub(r"[^\w.-]+", "-", request.stem()).strip(".-")[:60] or "model"


def title_of(request: Request, result: Result) -> str:
    """By which it is found again: what the verb is mainly asked by, or what it says."""
    texts = []
    for option in options(type(request)).values():
        value = getattr(request, option.name)
        value = value[0] if isinstance(value, tuple) and value else value
        if option.argument and value:
            texts.append(value.name if isinstance(value, File) else str(value))
    summary = str(result.row.get("text", "")).strip().partition("\n")[0]
    return (" ".join(texts).strip() or summary or request.stem())[:MAX_TITLE]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="inkwash.studio.worker")
    parser.add_argument("name")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=2000, help="MB")
    parser.add_argument("--model", action="append", default=[], type=json.loads, help="[name, place] as JSON")
    parser.add_argument("--hash", action="append", default=[], type=json.loads, help="[name, hash] as JSON")
    args = parser.parse_args(arguments)

    lines, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no message
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock:
            print(json.dumps(message), file=lines, flush=True)

    try:
        store = Store(args.home.resolve(), LOCK_TIMEOUT, os.environ.get(STORE, ""), os.environ.get(FILES, ""))
    except UserError as error:
        sys.exit(f"inkwash: {error}")
    catalogue = Catalogue(store)
    catalogue.shared |= {name: Path(place) for name, place in args.model}
    catalogue.hashes |= dict(args.hash)
    cache = ModelCache(lambda folder: load(folder, args.device, threads=args.threads), args.memory * 1e6)
    worker = Worker(store, catalogue, cache, args.name, tell, args.device, args.threads)
    wake = threading.Event()
    os.chdir(store.home / "empty")  # what is called by a relative name is not there

    def listen() -> None:
        for line in sys.stdin:  # an empty one for each new job; a word when it shall drain
            wake.set()
            if line.strip():
                drain()
        worker.stopping.set()  # the server has gone
        wake.set()
        time.sleep(END_TIMEOUT)
        os._exit(1)  # it waits for a lock, say; another may have its job by now

    def drain(*_: object) -> None:
        threading.Thread(
            target=end, daemon=True
        ).start()  # a handler of signals may not wait for the lock of an event

    def end() -> None:
        worker.draining.set()
        wake.set()
        time.sleep(END_TIMEOUT)
        if worker.job is None:  # it waits for the database
            os._exit(0)

    signal.signal(signal.SIGTERM, drain)  # as a system that stops sends it to all processes of a service
    for task in (worker.send_heartbeats, listen):
        threading.Thread(target=task, daemon=True).start()
    try:
        worker.warm_up()
        tell({"event": "ready", **worker.state()})
        while not (worker.stopping.is_set() or worker.draining.is_set()):
            wake.clear()
            found = worker.step()
            has_memory = cache.tidy()
            if found and not has_memory:
                return  # what is left are fragments; the server starts a new process, which has none
            if not found:
                wake.wait(1.0)
    except BrokenPipeError:  # the server has gone
        return
    except APIError as error:
        if not is_of_database(error):
            raise
        print(error, file=sys.stderr)
        tell({"event": error.code})


if __name__ == "__main__":
    main()
