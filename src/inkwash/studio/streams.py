"""Answers that take a while: streams of events, and requests that wait for a job."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from typing import Any

from anyio import to_thread
from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from inkwash.studio import accounts
from inkwash.studio.auth import bucket_of, user_of
from inkwash.studio.engine import Engine
from inkwash.studio.errors import APIError, no_such
from inkwash.studio.library import OPEN
from inkwash.studio.views import job_of

STREAMS, WAITS = 20, 100  # event streams, and requests that wait for a job, of one user at once
HEARTBEAT = 10.0  # seconds between two signs of life in a stream, and two looks whether its user may still listen
HEARTBEAT_EVENT = b": heartbeat\n\n"
PACE = 0.05  # seconds between two events at least


async def job_stream(engine: Engine, id: str, request: Request) -> AsyncGenerator[bytes]:
    last: Any = None
    async for _ in changes(engine, id, request):
        row = await to_thread.run_sync(engine.store.job, id)
        if row is None:  # it has ended, and was deleted
            return
        yield HEARTBEAT_EVENT if row == last and row.status != "running" else await event(engine, row)
        if row.status not in OPEN:
            return
        last = row


async def user_stream(engine: Engine, user: accounts.User, since: int, request: Request) -> AsyncGenerator[bytes]:
    """Jobs of the version `since` and later, and those that are open; then what changes, also by another process,
    which nobody tells."""
    seen, also = since - 1, await to_thread.run_sync(engine.store.open_jobs, user.id)  # the newest version told
    async for changed in changes(engine, user.id, request):
        rows = await to_thread.run_sync(engine.store.changed_since, user.id, seen + 1, also | changed)
        also = set()
        for row in rows:
            seen = max(seen, row.version)
            yield await event(engine, row)
        yield HEARTBEAT_EVENT


async def changes(engine: Engine, key: str, request: Request) -> AsyncGenerator[set[str]]:
    """At once, and then whenever something changes, or nothing does for `HEARTBEAT` seconds: which jobs have changed.
    It ends when who listens may not any more, or the studio stops."""
    changed, checked = set[str](), time.monotonic()
    with engine.subscribe(key) as subscriber:
        while not engine.stopping:
            yield changed
            await asyncio.sleep(PACE)
            changed = await subscriber.changes(HEARTBEAT)
            if time.monotonic() - checked > HEARTBEAT - 1:
                checked = time.monotonic()
                if await to_thread.run_sync(user_of, engine, request) is None:
                    return


async def event(engine: Engine, row: Any) -> bytes:
    job = await to_thread.run_sync(job_of, engine, row)
    return format_sse_event(event="job", id=str(row.version), data_str=job.model_dump_json(), retry=1000)


def check_streams(user: accounts.User, request: Request) -> None:
    if request.app.state.streams[bucket_of(user, request)] >= STREAMS:
        raise APIError(429, f"{STREAMS} event streams are open already; close one", "too_many_streams", wait=5)


def check_waits(user: accounts.User, request: Request) -> None:
    if request.app.state.waits[bucket_of(user, request)] >= WAITS:
        raise APIError(429, f"{WAITS} requests wait for jobs already; let some end", "too_many_waits", wait=5)


@contextmanager
def counted(counter: Counter[str], bucket: str) -> Iterator[None]:
    counter[bucket] += 1
    try:
        yield
    finally:
        counter[bucket] -= 1
        if not counter[bucket]:
            del counter[bucket]


SaveUpload = Callable[[bytes, str], dict[str, str]]  # (PNG, parameter) -> what a request says of it


@asynccontextmanager
async def temporary_uploads(engine: Engine, user: accounts.User) -> AsyncIterator[SaveUpload]:
    """Keeps pictures that a request brings along until its end, or as long as an open job needs them."""
    new: set[tuple[str, str]] = set()

    def save(data: bytes, param: str) -> dict[str, str]:
        file, is_new = engine.save_image(user, data, f"{param}.png")
        if is_new:
            new.add((user.id, file.sha256))
        return asdict(file)

    try:
        yield save
    finally:
        if new:
            with suppress(APIError):  # the database is locked: they go later, with others that nobody needs
                await to_thread.run_sync(engine.store.delete_uploads, math.inf, new)


async def wait_for_job(engine: Engine, user: accounts.User, job: str, seconds: float, request: Request) -> Any:
    """The job when it has ended, or as it is after so many seconds, or when the client has gone. APIError if it was
    deleted meanwhile. It is counted: see `check_waits`, which comes before a job is put in the queue."""
    with counted(request.app.state.waits, bucket_of(user, request)):
        row = await engine.finished(job, seconds, request.is_disconnected)
    if row is None:
        raise no_such("job")
    return row


def stream_response(
    engine: Engine, user: accounts.User, source: AsyncGenerator[bytes], request: Request
) -> StreamingResponse:
    """An event stream, one of a few that a user may have at once."""
    check_streams(user, request)

    async def events() -> AsyncIterator[bytes]:
        # counted here: a stream whose client has gone before it began is never begun
        with counted(request.app.state.streams, bucket_of(user, request)), engine.metrics.streams.track_inprogress():
            async with aclosing(source):
                async for piece in source:
                    yield piece

    headers = {"x-accel-buffering": "no"}  # nginx would keep the events back otherwise
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
