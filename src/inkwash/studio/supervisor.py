"""The workers of a process, a server's or their own: it starts one for each device, and passes on what they tell."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from anyio import to_thread

from inkwash.studio import fleet, orphans
from inkwash.studio.buckets import FILES
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.errors import APIError, DatabaseUnusable
from inkwash.studio.metrics import Metrics
from inkwash.studio.news import News
from inkwash.studio.processes import STOP_TIMEOUT, log_output, say, stop
from inkwash.studio.store import STORE, Store
from inkwash.systems.engines.addresses import ADDRESSES
from inkwash.systems.engines.model import save_all
from inkwash.weights.shipped import shipped

LOG = logging.getLogger("inkwash.studio")
LOCK_TIMEOUT = 1.0  # seconds that one who asks waits for another program's lock on the database
POLL = 2.0  # seconds between two looks whether the database is back
TURN = 0.008  # seconds in which a worker that looks for a job has it
MAX_TURN = 0.1  # seconds after which every worker looks for a job that nobody has
MAX_JUMP = 1.0  # seconds by which the clock may gain or lose between two looks
MAX_MESSAGE = 4_000_000  # bytes of a worker's message at most
UPLOAD_LIFE = 3600.0  # seconds that a file which went in is kept, if no job needs it that may go on


@dataclass(frozen=True)
class Settings:
    """How a studio is run: see `inkwash studio --help`."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 7860
    names: tuple[str, ...] = ()  # further names by which it is reached
    origins: tuple[str, ...] = ()  # of other sites whose pages may ask with a key
    root_path: str = ""  # the path at which a proxy shows it, such as "/inkwash"
    proxies: tuple[str, ...] = ()  # addresses and networks that are believed whom they speak for
    open: bool = False  # no login: who reaches it is the guest
    devices: tuple[str, ...] = ("cpu",)  # none: workers elsewhere do it
    threads: int = 1
    memory: int = 2000  # MB of a worker
    models: tuple[str, ...] = ()
    login_header: str = ""  # in which a proxy names who is logged in; none if empty
    aliases: Mapping[str, str] = field(default_factory=dict)  # what else models may be called
    store: str = field(default="", repr=False)  # the URL of a PostgreSQL database, which may have a password
    bucket: str = ""  # the URL of S3-compatible storage, where files are
    engines: tuple[str, ...] = ()  # NAME=URL#MODEL of models elsewhere
    downloads: str = ""  # the URL at which browsers reach that; none: this server passes files on


class Progress(NamedTuple):
    """What a worker has said of the part of a job that it is making."""

    place: int = 0
    done: int = 0
    total: int = 0
    text: str = ""  # how it goes
    seconds_left: float | None = None  # of the whole job
    preview: str | None = None  # the newest, a PNG in base64


class Subscriber:
    """Who waits for news of a job, or of a user's jobs: which have changed since it last looked."""

    def __init__(self, previews: bool) -> None:
        self.event = asyncio.Event()
        self.jobs: set[str] = set()
        self.wants_previews = previews
        self.previews: list[tuple[int, str]] = []  # place, a PNG in base64

    async def changes(self, seconds: float) -> set[str]:
        """The jobs that have changed, as soon as there are some; none after so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.event.wait(), seconds)
        self.event.clear()
        jobs, self.jobs = self.jobs, set()
        return jobs


@dataclass
class WorkerState:
    name: str = ""
    ready: bool = False
    memory: float = 0.0
    models: int = 0  # in its memory
    process: Any = None
    job: tuple[str, str] | None = None  # what it makes, and for whom


class Supervisor:
    """`running()` is the time in which jobs are worked on; the rest may be called from any thread, or as it says."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.home, LOCK_TIMEOUT, settings.store, settings.bucket)
        engines = save_all(settings.engines, settings.home / "engines")
        self.catalogue = Catalogue(self.store, (*settings.models, *engines), settings.aliases)
        self.metrics = Metrics()
        self.progress: dict[str, Progress] = {}
        self._ended = set[str]()  # jobs with progress that did not run any more when last looked at
        self.workers = {device: WorkerState() for device in settings.devices}
        self.stopping, self.id = False, secrets.token_hex(16)
        self.leaving = asyncio.Event()  # nobody waits for what the workers are at
        self._news: News | None = None  # to and from other servers, where there may be some
        self.fleet: list[Any] | None = None  # the workers of all servers that share the database, as last seen
        self._wakes: dict[str, asyncio.TimerHandle] = {}  # by job: when this one looks for it
        self._last_error = ""  # of what is tried again and again
        self._subscribers: dict[str, set[Subscriber]] = defaultdict(set)  # by job and by user
        self._loop: asyncio.AbstractEventLoop | None = None

    def notify(self, job: str, user: str) -> None:
        """Tells who listens that the job has changed."""
        self._call_soon(self._changed, job, user)

    @contextmanager
    def subscribe(self, key: str, previews: bool = False) -> Iterator[Subscriber]:
        """Who is told when a job has changed, or any job of a user; and shown every preview of it, if wanted."""
        subscriber = Subscriber(previews)
        now = self.progress.get(key)
        if previews and now is not None and now.preview is not None:  # it came before who waits for it
            subscriber.previews.append((now.place, now.preview))
        self._subscribers[key].add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers[key].discard(subscriber)
            if not self._subscribers[key]:
                del self._subscribers[key]

    def _changed(self, job: str, user: str, preview: tuple[int, str] | None = None) -> None:
        for subscriber in (*self._subscribers.get(job, ()), *self._subscribers.get(user, ())):
            subscriber.jobs.add(job)
            if preview is not None and subscriber.wants_previews:
                subscriber.previews.append(preview)
            subscriber.event.set()

    def _call_soon(self, call: Any, *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    # workers

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the workers; in the end they finish what they are at, unless `leave` is called. With SQLite the folder
        must be this studio's alone: hold a lock."""
        self._loop, self.stopping = asyncio.get_running_loop(), False
        if self.store.postgresql is None:
            await self._recover()
        supervising = [asyncio.create_task(self._supervise(device)) for device in self.settings.devices]
        tasks = [asyncio.create_task(self._watch())]
        tasks.append(asyncio.create_task(orphans.watch(self.store, lambda: self.stopping)))
        if self.store.postgresql is not None:
            self._news = News(self.store.postgresql)
            tasks += [asyncio.create_task(self._news.send()), asyncio.create_task(self._listen(self._news))]
        try:
            yield
        finally:
            self.stopping = True
            for subscriber in [w for subscribers in self._subscribers.values() for w in subscribers]:
                subscriber.event.set()
            await self._drain(supervising)
            for task in (*supervising, *tasks):
                task.cancel()
            await asyncio.gather(*supervising, *tasks, return_exceptions=True)
            with suppress(APIError, sqlite3.Error):  # the next start does it; who has not reported is forgotten soon
                await to_thread.run_sync(self.store.truncate_log)
                if self.store.postgresql is not None:
                    await to_thread.run_sync(self._report, {})

    def leave(self) -> None:
        """Workers are ended at once; what they hold goes back to the queue. A handler of signals may call it, too."""
        self._call_soon(self.leaving.set)

    async def _drain(self, supervising: Sequence[asyncio.Task[None]]) -> None:
        """Workers end what they are at, and give back the rest of their jobs."""
        for state in self.workers.values():
            say(state.process, "drain")
        ended = asyncio.gather(*supervising, return_exceptions=True)
        leaving = asyncio.create_task(self.leaving.wait())
        await asyncio.wait((ended, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()

    async def _recover(self) -> None:
        """What a server before this one, in the same folder, has left half done."""
        if lost := await to_thread.run_sync(self.store.recover):
            LOG.warning("files without a row", extra={"facts": {"files": len(lost), "now in": "lost+found"}})
            message = f"{len(lost)} files and models without a row lie in {self.store.home / 'lost+found'} now"
            print(f"inkwash: {message}; `inkwash studio recover` takes in what it can", file=sys.stderr)

    async def _listen(self, news: News) -> None:
        """What is told by other servers, and by the database."""
        while True:
            try:
                async for message in news.listen():
                    self._hear(message)
            except Exception as error:  # of a message that is none of ours, say
                self._log_error("news", error)
            await asyncio.sleep(1)

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return self._look_again()
        if message["event"] != "changed":
            return self._progress(message)
        if message["status"] != "running":
            self.progress.pop(message["job"], None)
        self._wake_in_turn(message["job"], message["status"])
        return self._changed(message["job"], message["user"])

    def _wake_in_turn(self, job: str, status: str) -> None:
        """Not all workers wake for each job: the next of them, should the first have something else to do."""
        if wake := self._wakes.pop(job, None):
            wake.cancel()
        if status == "queued" and self.workers:
            peers = {worker.supervisor for worker in self.fleet or ()}
            seconds = min(TURN * fleet.place(self.id, peers, job), MAX_TURN)
            self._wakes[job] = asyncio.get_running_loop().call_later(seconds, self._wake_for, job)

    def _wake_for(self, job: str) -> None:
        del self._wakes[job]
        self._wake()

    def _look_again(self) -> None:
        """Something may have been missed: who listens looks at the tables, and progress is told anew."""
        ours = {state.job[0] for state in self.workers.values() if state.job}
        self.progress = {job: progress for job, progress in self.progress.items() if job in ours}
        for subscriber in [one for subscribers in self._subscribers.values() for one in subscribers]:
            subscriber.event.set()
        self._wake()

    async def _supervise(self, device: str) -> None:
        """Starts the device's worker, and again when it ends; one that cannot even start is not hurried."""
        state, pause = self.workers[device], 0.0
        while not self.stopping:
            try:
                await self._run_worker(device, state)
            except Exception:  # no process to be had, say
                LOG.exception("worker", extra={"facts": {"worker": state.name}})
            pause = 0.0 if state.ready else min(5.0, 2 * pause + 0.1)
            state.ready = False
            while not self.has_database() and not self.stopping:
                await asyncio.sleep(POLL)
            await asyncio.sleep(0.0 if self.stopping else pause)

    async def _run_worker(self, device: str, state: WorkerState) -> None:
        """The life of one worker; what it held goes back to the queue."""
        state.name, dead = f"{device}-{secrets.token_hex(4)}", True
        self.metrics.starts.labels(device).inc()
        places = {STORE: self.store.url, FILES: self.settings.bucket, ADDRESSES: " ".join(self.settings.engines)}
        state.process = process = await asyncio.create_subprocess_exec(
            *self._command(state.name, device),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_MESSAGE,
            env={**os.environ, **places},  # which nobody else can read
            start_new_session=True,  # Ctrl-C is for the server, which ends its workers in good order
        )
        assert process.stdout is not None and process.stderr is not None
        output = asyncio.create_task(log_output(process.stderr, state.name))
        LOG.info("worker started", extra={"facts": {"worker": state.name, "pid": process.pid}})
        if self.stopping:
            say(state.process, "drain")
        try:
            while line := await process.stdout.readline():
                self._receive(device, json.loads(line))
            dead = await process.wait() != 0
        except asyncio.CancelledError:
            dead = False
            raise
        finally:
            await stop(process, 0.0 if self.leaving.is_set() else STOP_TIMEOUT)
            await output
            LOG.info("worker ended", extra={"facts": {"worker": state.name, "code": process.returncode}})
            await self._release(state.name, dead)
            if state.job is not None:
                self.progress.pop(state.job[0], None)
                self._changed(*state.job)
                state.job = None

    async def _release(self, worker: str, dead: bool) -> None:
        """What the worker held is queued again, even if the disk is full for now."""
        while True:
            try:
                return await to_thread.run_sync(lambda: self.store.release(worker, dead))
            except Exception as error:
                self._log_error("release", error)
                if self.stopping:
                    return None  # the next start does it
                await asyncio.sleep(2)

    def has_database(self) -> bool:
        """Whether it is still the one that was opened, and sound."""
        try:
            self.store.backend.check()
        except DatabaseUnusable:
            return False
        return True

    def _log_error(self, event: str, error: Exception) -> None:
        """Once, however often what goes on without end comes upon it."""
        facts = {"facts": {"why": str(error)}}
        if str(error) != self._last_error:
            LOG.error(event, exc_info=None if isinstance(error, DatabaseUnusable) else error, extra=facts)
        self._last_error = str(error)

    def _command(self, name: str, device: str) -> list[str]:
        options = self.settings
        shared = self.catalogue.shared.items()  # not the options, which may mean other files by now
        models = [f"--model={json.dumps([name, str(path)])}" for name, path in shared if name not in shipped()]
        models += [f"--hash={json.dumps(one)}" for one in self.catalogue.hashes.items()]  # which took a while to read
        command = [sys.executable, "-m", "inkwash.studio.worker", name, "--home", str(options.home), *models]
        return [*command, "--device", device, "--threads", str(options.threads), "--memory", str(options.memory)]

    def _receive(self, device: str, message: dict[str, Any]) -> None:
        state, job = self.workers[device], message.get("job")
        event = message["event"]
        if "memory" in message:
            state.memory, state.models = message["memory"], message["models"]
            self.metrics.memory.labels(device).set(state.memory)
            self.metrics.models.labels(device).set(state.models)
        if event == "ready":
            state.ready = True
        elif event.startswith("database"):  # it could not work with it: the next one is not hurried
            state.ready = False
            self.store.backend.damaged |= event == "database_damaged"
        if job is None:
            return
        state.job = None if event == "left" else (job, message["user"])
        if event == "result":
            self.metrics.results.labels(device).inc()
        elif event in ("disk full", "storage unusable"):
            LOG.warning(event, extra={"facts": {"worker": state.name, "why": message["why"]}})
        elif event == "left":
            self.metrics.busy.labels(device).inc(message["seconds"])
        self._progress(message)
        if self._news is not None:
            self._news.tell(message)

    def _progress(self, message: dict[str, Any]) -> None:
        """What a worker has said of a job, this server's or another's."""
        event, job = message["event"], message["job"]
        now = self.progress.get(job, Progress())
        if event in ("progress", "preview") and now.place != message["place"]:
            now = Progress(message["place"])
        if event == "progress":
            self.progress[job] = now._replace(
                **{key: message[key] for key in ("done", "total", "text", "seconds_left")}
            )
        elif event == "preview":
            self.progress[job] = now._replace(preview=message["picture"])
        elif event == "left":
            self.progress.pop(job, None)
        preview = (message["place"], message["picture"]) if event == "preview" else None
        self._changed(job, message["user"], preview)

    def _forget_ended(self) -> None:
        """Lets progress go that another server told of when its job had ended already; of a job that has just begun
        it stays."""
        ended = self.progress.keys() - self.store.running()
        for job in ended & self._ended:
            del self.progress[job]
        self._ended = ended - self._ended

    def _wake(self) -> None:
        """Tells the workers that there is work."""
        for state in self.workers.values():
            say(state.process, "")

    async def _watch(self) -> None:
        """Once a second: jobs whose worker shows no sign of life, and a clock that was set. What was erased goes from
        the database's log, too. Every ten minutes: uploads that nobody needs; not for an hour after a start, or after
        the clock was set, when their age is not known."""
        skew, sweep_at = time.time() - time.monotonic(), time.monotonic() + UPLOAD_LIFE
        reported, report_at = dict[str, str](), 0.0
        while True:
            try:
                own = [state.name for state in self.workers.values()]
                for name in await to_thread.run_sync(self.store.expire, own):
                    for state in self.workers.values():
                        if state.name == name and state.process is not None and state.process.returncode is None:
                            state.process.kill()
                self._forget_ended()
                skew_before, skew_now = skew, time.time() - time.monotonic()
                if abs(skew_now - skew_before) > MAX_JUMP and self.store.postgresql is None:
                    LOG.warning("clock set", extra={"facts": {"seconds": round(skew_now - skew_before)}})
                    await to_thread.run_sync(self.store.set_back)
                    sweep_at = time.monotonic() + UPLOAD_LIFE
                skew = skew_now
                if self.store.has_erased:
                    await to_thread.run_sync(self.store.truncate_log)
                if time.monotonic() > sweep_at:
                    sweep_at = time.monotonic() + 600
                    await to_thread.run_sync(self._sweep)
                ready = {state.name: device for device, state in self.workers.items() if state.ready}
                if self.store.postgresql is not None and (ready != reported or time.monotonic() > report_at):
                    reported, report_at = ready, time.monotonic() + fleet.EVERY
                    await to_thread.run_sync(self._report, ready)
                self._last_error = ""
            except Exception as error:  # a full disk, say: the next second may be better
                self._log_error("watch", error)
            await asyncio.sleep(1)

    def _report(self, ready: Mapping[str, str]) -> None:
        self.catalogue.offered()  # reads what is not read yet
        fleet.report(self.store, self.id, ready, self.catalogue.hashes)
        self.fleet = fleet.alive(self.store)

    def _sweep(self) -> None:
        self.store.delete_uploads(self.store.clock() - UPLOAD_LIFE)
        if self.store.postgresql is not None:
            self.store.postgresql.empty_buckets(UPLOAD_LIFE)
            self.store.remove_deleted_models()  # copies of what a server elsewhere has deleted
            self.store.remove_ended_runs()
