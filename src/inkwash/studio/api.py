"""The studio's own door: sessions, models, jobs, events, pictures, uploads, keys and users."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, File, Header, Path, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, ConfigDict, Field

from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.studio import accounts, uploads
from inkwash.studio.catalogue import Ask, Model
from inkwash.studio.engine import Engine
from inkwash.studio.store import OPEN, Refused
from inkwash.studio.who import Admin, Someone, TheEngine, address, cookie, known

router = APIRouter(prefix="/api", tags=["studio"])
Id = Annotated[str, Path(max_length=100)]
Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[str | None, Query(max_length=100)]
STREAMS, WAITS = 20, 100  # event streams, and requests that wait for a job, of one user at once
BEAT = 10.0  # seconds between two signs of life in a stream, and two looks whether its user may still listen
STILL_HERE = b": still here\n\n"
PACE = 0.05  # seconds between two events at least
HASHING = CapacityLimiter(2)  # passwords hashed at once: each takes 64 MB and a core
LONGEST_RECIPE = 20_000  # characters
LONGEST_WAIT = 60.0  # seconds for which `wait` may ask


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Problem(BaseModel):
    """Every error of this door and of OpenAI's."""

    error: Error


class Picture(BaseModel):
    id: str
    job: str
    place: int = Field(description="In its job, from 0.")
    width: int
    height: int
    created: float = Field(description="Seconds since 1970.")
    recipe: dict[str, Any] = Field(description="What made it; it is in the PNG, too: `inkwash again FILE`.")
    url: str
    thumbnail: str


class Progress(BaseModel):
    place: int = Field(description="Which picture is being drawn, from 0.")
    step: int
    steps: int
    preview: str | None = Field(description="What it looks like so far: a PNG in base64.")


class Job(BaseModel):
    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    error: str | None
    ask: dict[str, Any]
    created: float
    changed: float
    ahead: int = Field(description="Jobs in the queue before this one.")
    progress: Progress | None
    pictures: list[Picture]


class Session(BaseModel):
    name: str
    admin: bool
    daily: int | None


class Login(BaseModel):
    name: str = Field(max_length=100)
    password: str = Field(max_length=1000)


class Key(BaseModel):
    id: str
    name: str
    created: float


class NewKey(Key):
    key: str = Field(description="Shown this once.")


class Named(BaseModel):
    name: str = Field("", max_length=100)


class Account(BaseModel):
    id: str
    name: str
    admin: bool
    active: bool
    daily: int | None


Daily = Annotated[int, Field(ge=0, le=10**6)]


class NewAccount(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=100)
    password: str = Field(max_length=1000)
    admin: bool = False
    daily: Daily | None = Field(None, description="Pictures in 24 hours; no limit if null.")


class AccountChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    active: bool | None = None
    admin: bool | None = None
    daily: Daily | None = None
    password: str | None = Field(None, max_length=1000)


class Share(BaseModel):
    model_config = ConfigDict(extra="forbid")
    recipe: bool = Field(False, description="Whether the words and settings go with the picture.")


class Shared(BaseModel):
    url: str
    recipe: bool


class Uploaded(BaseModel):
    id: str


class Recipe(BaseModel):
    recipe: dict[str, Any]


def no_such(what: str) -> Refused:
    """The same whether it does not exist or is another's."""
    return Refused(404, f"there is no such {what}", "not_found")


# who


@router.get("/session")
def session(user: Someone) -> Session:
    """Who is logged in."""
    return Session(name=user.name, admin=user.admin, daily=user.daily)


@router.post("/login", responses={401: {"model": Problem}})
async def login(form: Login, request: Request, response: Response, engine: TheEngine) -> Session:
    """Opens a session for a name and a password; the session is a cookie."""
    state = request.app.state
    state.logins.take(address(request))
    state.tries.take(f"{address(request)} {form.name}")
    work = accounts.log_in, engine.store, form.name, form.password
    user = await to_thread.run_sync(*work, limiter=HASHING)
    if user is None:
        raise Refused(401, "the name or the password is wrong", "wrong_password")
    begin_session(request, response, engine, user)
    return session(user)


def begin_session(request: Request, response: Response, engine: Engine, user: accounts.User) -> None:
    secret, age = accounts.issue(engine.store, user.id, "session"), int(accounts.LIFETIMES["session"] or 0)
    secure = request.url.scheme == "https"
    response.set_cookie(cookie(engine), secret, max_age=age, httponly=True, samesite="strict", secure=secure)


@router.post("/logout", status_code=204)
def logout(user: Someone, request: Request, response: Response, engine: TheEngine) -> None:
    """Ends the session."""
    accounts.revoke(engine.store, request.cookies.get(cookie(engine), ""))
    response.delete_cookie(cookie(engine))


@router.get("/keys")
def keys(user: Someone, engine: TheEngine) -> list[Key]:
    """One's keys for programs."""
    rows = accounts.list_keys(engine.store, user.id)
    return [Key(id=row.id, name=row.name, created=row.created) for row in rows]


@router.post("/keys", status_code=201)
def new_key(form: Named, user: Someone, engine: TheEngine) -> NewKey:
    """A new key for programs: send it as `Authorization: Bearer KEY`."""
    if engine.settings.open:
        raise Refused(403, "an open studio gives no keys; `inkwash studio key` does", "not_allowed")
    key = accounts.issue(engine.store, user.id, "key", form.name)
    row = accounts.find_key(engine.store, key)
    return NewKey(id=row.id, name=row.name, created=row.created, key=key)


@router.delete("/keys/{id}", status_code=204)
def delete_key(id: Id, user: Someone, engine: TheEngine) -> None:
    """From now on the key is not valid."""
    if not accounts.revoke_key(engine.store, id, user.id):
        raise no_such("key")


@router.get("/users")
def users(user: Admin, engine: TheEngine) -> list[Account]:
    """Everyone who has an account."""
    return [
        Account(**{key: row._mapping[key] for key in Account.model_fields})
        for row in accounts.list_users(engine.store)
    ]


@router.post("/users", status_code=201)
def new_user(form: NewAccount, user: Admin, engine: TheEngine) -> Account:
    """Opens an account."""
    try:
        made = accounts.add_user(engine.store, form.name, form.password, admin=form.admin, daily=form.daily)
    except UserError as error:
        raise Refused(422, str(error), "invalid_value") from None
    return Account(**made._asdict(), active=True)


@router.patch("/users/{id}")
def change_user(id: Id, form: AccountChange, user: Admin, engine: TheEngine) -> Account:
    """Changes an account. One that is closed loses its sessions, its keys and its open jobs."""
    changes = form.model_dump(exclude_unset=True)
    if id == user.id and (changes.get("active") is False or changes.get("admin") is False):
        raise Refused(422, "you cannot close your own account, or be no administrator any more", "invalid_value")
    if any(changes.get(key, True) is None for key in ("active", "admin", "password")):
        raise Refused(422, "active, admin and password may be left out, but not null", "invalid_value")
    try:
        found = accounts.change_user(engine.store, id, **changes)
    except UserError as error:
        raise Refused(422, str(error), "invalid_value", "password") from None
    if not found:
        raise no_such("user")
    return next(account for account in users(user, engine) if account.id == id)


# jobs


@router.get("/models")
def models(user: Someone, engine: TheEngine) -> list[Model]:
    """The models, their styles and what is usual with them."""
    return engine.catalogue.models()


@router.post("/jobs", status_code=202)
def new_job(
    ask: Ask,
    user: Someone,
    engine: TheEngine,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Job:
    """Puts a job in the queue. Once this has answered, the job will be drawn, whatever happens to the server.

    Asked again with the same `Idempotency-Key`, it answers with the job that it made at first.
    """
    retry = None if idempotency_key is None else f"key:api:{idempotency_key}"
    job = engine.submit(user, ask, "api", retry)
    return shown(engine, engine.store.job(job["id"]))


@router.get("/jobs")
def list_jobs(
    user: Someone,
    engine: TheEngine,
    status: Annotated[list[Literal["queued", "running", "done", "failed", "cancelled"]] | None, Query()] = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Job]:
    """One's newest jobs; `before` one of them: those that are older."""
    rows = engine.store.jobs(user.id, status=status or (), before=before, limit=limit)
    return [shown(engine, row) for row in rows]


@router.get("/jobs/{id}")
async def job(
    id: Id,
    user: Someone,
    engine: TheEngine,
    request: Request,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for its end.")] = 0,
) -> Job:
    """A job, as it is now or when it has ended."""
    row = await to_thread.run_sync(engine.store.job, id, user.id)
    if row is None:
        raise no_such("job")
    if wait:
        check_waits(user, request)
        row = await waited(engine, user, id, wait, request)
    return await to_thread.run_sync(shown, engine, row)


@router.post("/jobs/{id}/cancel")
def cancel(id: Id, user: Someone, engine: TheEngine) -> Job:
    """Ends a job of one's own. What is drawn of it stays; one that has ended is left as it is."""
    engine.cancel(user, id)
    row = engine.store.job(id, user.id)
    if row is None:
        raise no_such("job")
    return shown(engine, row)


STREAM: dict[int | str, Any] = {200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}}


@router.get("/jobs/{id}/events", responses=STREAM, response_class=StreamingResponse)
async def job_events(id: Id, user: Someone, engine: TheEngine, request: Request) -> StreamingResponse:
    """What becomes of a job, until it has ended: an event `job` each time, which holds all that `GET /api/jobs/ID`
    answers. Who was cut off asks again and has missed nothing."""
    if await to_thread.run_sync(engine.store.job, id, user.id) is None:
        raise no_such("job")
    return streamed(engine, user, job_stream(engine, id, request), request)


@router.get("/events", responses=STREAM, response_class=StreamingResponse)
async def events(
    user: Someone, engine: TheEngine, request: Request, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """What becomes of all one's jobs, as of one by `/api/jobs/ID/events`. It begins with those that are open, and
    those that have changed since `Last-Event-ID`, which a browser sends by itself."""
    try:
        since = float(last_event_id) if last_event_id else time.time()
    except ValueError:
        since = time.time()
    return streamed(engine, user, user_stream(engine, user, since, request), request)


async def job_stream(engine: Engine, id: str, request: Request) -> AsyncGenerator[bytes]:
    last: Any = None
    async for _ in beats(engine, id, request):
        row = await to_thread.run_sync(engine.store.job, id)
        yield STILL_HERE if row == last and row.status != "running" else await event(engine, row)
        if row.status not in OPEN:
            return
        last = row


async def user_stream(engine: Engine, user: accounts.User, since: float, request: Request) -> AsyncGenerator[bytes]:
    seen = float("-inf")  # the newest change that was told
    async for changed in beats(engine, user.id, request):
        if changed:
            rows = [await to_thread.run_sync(engine.store.job, id) for id in changed]
        else:  # at first; and later what another process may have written, which nobody tells
            rows = await to_thread.run_sync(engine.store.changed_since, user.id, max(since - 5, seen))
            rows = [row for row in rows if row.changed > seen]
        for row in rows:
            seen = max(seen, row.changed)
            yield await event(engine, row)
        yield STILL_HERE


async def beats(engine: Engine, key: str, request: Request) -> AsyncGenerator[set[str]]:
    """At once, and then whenever something changes, or nothing does for `BEAT` seconds: which jobs have changed. It
    ends when who listens may not any more, or the studio stops."""
    changed, looked = set[str](), time.monotonic()
    with engine.watching(key) as watcher:
        while not engine.stopping:
            yield changed
            await asyncio.sleep(PACE)
            changed = await watcher.news(BEAT)
            if time.monotonic() - looked > BEAT - 1:
                looked = time.monotonic()
                if await to_thread.run_sync(known, engine, request) is None:
                    return


async def event(engine: Engine, row: Any) -> bytes:
    job = await to_thread.run_sync(shown, engine, row)
    return format_sse_event(event="job", id=repr(row.changed), data_str=job.model_dump_json(), retry=1000)


def check_streams(user: accounts.User, request: Request) -> None:
    if request.app.state.streams[user.id] >= STREAMS:
        raise Refused(429, f"{STREAMS} event streams are open already; close one", "too_many_streams", wait=5)


def check_waits(user: accounts.User, request: Request) -> None:
    if request.app.state.waits[user.id] >= WAITS:
        raise Refused(429, f"{WAITS} requests wait for jobs already; let some end", "too_many_waits", wait=5)


@asynccontextmanager
async def passing(engine: Engine) -> AsyncIterator[list[str]]:
    """The names of uploads that a request brings along: they are forgotten with it, unless an open job needs them."""
    brought: list[str] = []
    try:
        yield brought
    finally:
        if brought:
            await to_thread.run_sync(engine.store.forget_uploads, time.time() + 1, brought)


async def waited(engine: Engine, user: accounts.User, job: str, seconds: float, request: Request) -> Any:
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


def streamed(
    engine: Engine, user: accounts.User, source: AsyncIterator[bytes], request: Request
) -> StreamingResponse:
    """An event stream, one of a few that a user may have at once."""
    check_streams(user, request)
    count = request.app.state.streams

    async def counted() -> AsyncIterator[bytes]:
        count[user.id] += 1  # here: a stream whose client has gone before it began is never begun
        engine.metrics.streams.inc()
        try:
            async with aclosing(source):
                async for piece in source:
                    yield piece
        finally:
            engine.metrics.streams.dec()
            count[user.id] -= 1
            if not count[user.id]:
                del count[user.id]

    return StreamingResponse(counted(), media_type="text/event-stream")


def shown(engine: Engine, row: Any) -> Job:
    live = engine.live.get(row.id)
    return Job(
        id=row.id,
        status=row.status,
        error=row.error,
        ask=row.ask,
        created=row.created,
        changed=row.changed,
        ahead=engine.store.ahead(row) if row.status == "queued" else 0,
        progress=Progress(**live._asdict()) if live and row.status == "running" else None,
        pictures=[picture_of(found) for found in engine.store.of_job(row.id)],
    )


# pictures


def picture_of(row: Any) -> Picture:
    own = f"/api/pictures/{row.id}"
    facts = {key: row._mapping[key] for key in ("id", "place", "width", "height", "created", "recipe")}
    return Picture(**facts, job=row.job_id, url=f"{own}/file", thumbnail=f"{own}/thumbnail")


def own_picture(id: str, user: accounts.User, engine: Engine) -> Any:
    row = engine.store.picture(id, user.id)
    if row is None:
        raise no_such("picture")
    return row


PNG: dict[int | str, Any] = {200: {"content": {"image/png": {}}, "description": "A PNG."}}
WEBP: dict[int | str, Any] = {200: {"content": {"image/webp": {}}, "description": "A WebP."}}


class Png(Response):
    media_type = "image/png"


class WebP(Response):
    media_type = "image/webp"


@router.get("/pictures")
def list_pictures(
    user: Someone,
    engine: TheEngine,
    words: Annotated[str, Query(max_length=200, description="All of which the prompt contains.")] = "",
    before: Before = None,
    limit: Limit = 50,
) -> list[Picture]:
    """One's newest pictures; `before` one of them: those that are older."""
    return [picture_of(row) for row in engine.store.pictures(user.id, words=words, before=before, limit=limit)]


@router.get("/pictures/{id}")
def picture(id: Id, user: Someone, engine: TheEngine) -> Picture:
    """A picture's facts and recipe."""
    return picture_of(own_picture(id, user, engine))


@router.get("/pictures/{id}/file", responses=PNG, response_class=Png)
def file(
    id: Id,
    user: Someone,
    engine: TheEngine,
    recipe: Annotated[bool, Query(description="Whether the words and settings are in the file.")] = True,
) -> Response:
    """The picture itself."""
    row = own_picture(id, user, engine)
    name = f'attachment; filename="inkwash-{row.recipe.get("seed", row.place)}.png"'
    headers = {"content-disposition": name, "cache-control": "private, max-age=31536000, immutable"}
    return Png(engine.store.read(row, recipe), headers=headers)


@router.get("/pictures/{id}/thumbnail", responses=WEBP, response_class=WebP)
def thumbnail(id: Id, user: Someone, engine: TheEngine) -> Response:
    """The picture, small."""
    data = engine.store.thumbnail(own_picture(id, user, engine))
    return WebP(data, headers={"cache-control": "private, max-age=31536000, immutable"})


@router.delete("/pictures/{id}", status_code=204)
def delete_picture(id: Id, user: Someone, engine: TheEngine) -> None:
    """Deletes a picture, its file and its recipe."""
    if not engine.store.delete(id, user.id):
        raise no_such("picture")


@router.put("/pictures/{id}/share")
def share(id: Id, form: Share, user: Someone, engine: TheEngine) -> Shared:
    """An address at which anyone may see the picture; one that it had before leads nowhere any more."""
    token = engine.store.share(id, user.id, recipe=form.recipe)
    if token is None:
        raise no_such("picture")
    return Shared(url=f"/shared/{token}", recipe=form.recipe)


@router.get("/pictures/{id}/share")
def shown_to(id: Id, user: Someone, engine: TheEngine) -> Shared | None:
    """At which address anyone may see the picture; null if at none."""
    own_picture(id, user, engine)
    row = engine.store.share_of(id, user.id)
    return None if row is None else Shared(url=f"/shared/{row.token}", recipe=row.recipe)


@router.delete("/pictures/{id}/share", status_code=204)
def unshare(id: Id, user: Someone, engine: TheEngine) -> None:
    """From now on nobody else sees it."""
    if not engine.store.unshare(id, user.id):
        raise no_such("share")


@router.post("/uploads", status_code=201)
async def upload(file: Annotated[UploadFile, File()], user: Someone, engine: TheEngine) -> Uploaded:
    """A picture to begin from, or a mask: PNG, JPEG, WebP, BMP or GIF. Only its pixels are kept, for an hour."""

    def work() -> str:
        return engine.store.upload(user.id, uploads.clean(file.file.read(uploads.MOST_BYTES + 1), "file"))

    return Uploaded(id=await to_thread.run_sync(work, limiter=uploads.DECODING))


@router.post("/recipe")
def recipe(file: Annotated[UploadFile, File()], user: Someone) -> Recipe:
    """The recipe in a PNG that inkwash made."""
    return Recipe(recipe=recipe_in(file.file.read(uploads.MOST_BYTES + 1), "file"))


def recipe_in(data: bytes, param: str) -> dict[str, Any]:
    """Refused for a picture without one."""
    found = uploads.decoded(data, param).info.get(KEY)
    try:
        recipe = json.loads(found[:LONGEST_RECIPE]) if isinstance(found, str) else None
        json.dumps(recipe, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict) or not all(map(plain, recipe.values())):
        raise Refused(422, f"{param}: no recipe in it; only a PNG that inkwash wrote has one", "no_recipe", param)
    return recipe


def plain(value: Any) -> bool:
    """A text, a number, or what a recipe says of a picture that went in."""
    return not isinstance(value, list | dict) or (
        isinstance(value, dict) and not any(isinstance(each, list | dict) for each in value.values())
    )


public = APIRouter(tags=["studio"])


@public.get("/shared/{token}", responses=PNG, response_class=Png)
def shared(token: Annotated[str, Path(max_length=100)], engine: TheEngine) -> Response:
    """A picture that its owner shows to everyone who has this address."""
    found = engine.store.shared(token)
    if found is None:
        raise no_such("picture")
    return Png(engine.store.read(*found), headers={"cross-origin-resource-policy": "cross-origin"})
