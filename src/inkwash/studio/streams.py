"""Answers that take a while: streams of events, and requests that wait for a job."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from inkwash.studio import accounts
from inkwash.studio.auth import user_of
from inkwash.studio.engine import Engine
from inkwash.studio.errors import APIError
from inkwash.studio.library import OPEN
from inkwash.studio.schemas import job_of

STREAMS, WAITS = 20, 100  # event streams, and requests that wait for a job, of one user at once
HEARTBEAT = 10.0  # seconds between two signs of life in a stream, and two looks whether its user may still listen
HEARTBEAT_EVENT = b": heartbeat\n\n"
PACE = 0.05  # seconds between two events at least


async def job_stream(engine: Engine, id: str, request: Request) -> AsyncGenerator[bytes]:
    last: Any = None
    async for _ in changes(engine, id, request):
        row = await to_thread.run_sync(engine.store.job, id)
        yield HEARTBEAT_EVENT if row == last and row.status != "running" else await event(engine, row)
        if row.status not in OPEN:
            return
        last = row


async def user_stream(engine: Engine, user: accounts.User, since: float, request: Request) -> AsyncGenerator[bytes]:
    seen = float("-inf")  # the newest change that was told
    async for changed in changes(engine, user.id, request):
        if changed:
            rows = [await to_thread.run_sync(engine.store.job, id) for id in changed]
        else:  # at first; and later what another process may have written, which nobody tells
            rows = await to_thread.run_sync(engine.store.changed_since, user.id, max(since - 5, seen))
            rows = [row for row in rows if row.changed > seen]
        for row in rows:
            seen = max(seen, row.changed)
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
    return format_sse_event(event="job", id=repr(row.changed), data_str=job.model_dump_json(), retry=1000)


def check_streams(user: accounts.User, request: Request) -> None:
    if request.app.state.streams[user.id] >= STREAMS:
        raise APIError(429, f"{STREAMS} event streams are open already; close one", "too_many_streams", wait=5)


def check_waits(user: accounts.User, request: Request) -> None:
    if request.app.state.waits[user.id] >= WAITS:
        raise APIError(429, f"{WAITS} requests wait for jobs already; let some end", "too_many_waits", wait=5)


@asynccontextmanager
async def temporary_uploads(engine: Engine, user: accounts.User) -> AsyncIterator[list[str]]:
    """The contents of uploads that a request brings along: they are forgotten with it, unless an open job needs
    them."""
    new_uploads: list[str] = []
    try:
        yield new_uploads
    finally:
        if new_uploads:
            which = {(user.id, sha256) for sha256 in new_uploads}
            await to_thread.run_sync(engine.store.delete_uploads, time.time() + 1, which)


async def wait_for_job(engine: Engine, user: accounts.User, job: str, seconds: float, request: Request) -> Any:
    """The job when it has ended, or as it is after so many seconds, or when the client has gone. It is counted: see
    `check_waits`, which comes before a job is put in the queue."""
    count = request.app.state.waits
    count[user.id] += 1
    try:
        return await engine.finished(job, seconds, request.is_disconnected)
    finally:
        count[user.id] -= 1
        if not count[user.id]:
            del count[user.id]


def stream_response(
    engine: Engine, user: accounts.User, source: AsyncIterator[bytes], request: Request
) -> StreamingResponse:
    """An event stream, one of a few that a user may have at once."""
    check_streams(user, request)
    count = request.app.state.streams

    async def counted() -> AsyncIterator[bytes]:
        count[user.id] += 1  # here: a stream whose client has gone before it began is never begun
        engine.metrics.streams.inc()
        try:
            async with aclosing(source):  # type: ignore[type-var]
                async for piece in source:
                    yield piece
        finally:
            engine.metrics.streams.dec()
            count[user.id] -= 1
            if not count[user.id]:
                del count[user.id]

    return StreamingResponse(counted(), media_type="text/event-stream")
