"""Who may come in: sessions, keys and accounts."""

from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio.auth import Admin, CurrentEngine, CurrentUser, client_address, cookie, secret_of
from inkwash.studio.engine import Engine
from inkwash.studio.errors import APIError, invalid, no_such
from inkwash.studio.library import OPEN
from inkwash.studio.schemas import NOT_BOOL, Problem
from inkwash.studio.store import MAX_QUEUED_EACH
from inkwash.studio.tables import name_key

router = APIRouter(prefix="/api", tags=["studio"])
Id = Annotated[str, Path(max_length=100)]
HASHING = CapacityLimiter(2)  # passwords hashed at once: each takes 64 MB and a core


class Session(BaseModel):
    name: str
    admin: bool
    guest: bool = Field(description="Whether they are a visitor of an open studio who did not sign in.")
    has_password: bool
    daily: int | None = Field(description="Results in 24 hours; no limit if null.")
    disk: int | None = Field(description="Bytes of results, models, uploads and trainings; no limit if null.")
    disk_used: int


class Login(BaseModel):
    name: str = Field(max_length=100)
    password: str = Field(max_length=1000)


class Link(BaseModel):
    token: str = Field(max_length=200, description="What stands behind `#token=` in a link that lets in once.")


class NewPassword(BaseModel):
    old: str = Field(max_length=1000)
    new: str = Field(max_length=1000)


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
    disk: int | None
    disk_used: int


Daily = Annotated[int, Field(ge=0, le=10**6), NOT_BOOL]
Disk = Annotated[int, Field(ge=0, le=10**15), NOT_BOOL]


class NewAccount(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=100)
    password: str = Field(max_length=1000)
    admin: bool = False
    daily: Daily | None = Field(None, description="Results in 24 hours; no limit if null.")
    disk: Disk | None = Field(None, description="Bytes of results, models, uploads and trainings; no limit if null.")


class AccountChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    active: bool | None = None
    admin: bool | None = None
    daily: Daily | None = None
    disk: Disk | None = None
    password: str | None = Field(None, max_length=1000)


@router.get("/session")
def session(user: CurrentUser, engine: CurrentEngine) -> Session:
    """Who is logged in."""
    return Session(
        **user._asdict(),
        guest=user.id == accounts.GUEST,
        has_password=accounts.has_password(engine.store, user.id),
        disk_used=engine.store.disk_used(user.id),
    )


@router.post("/login", responses={401: {"model": Problem}})  # which names it for all routes
async def login(form: Login, request: Request, response: Response, engine: CurrentEngine) -> Session:
    """Opens a session for a name and a password; the session is a cookie."""
    user = await verify_password(request, engine, form.name, form.password)
    begin_session(request, response, engine, user)
    return session(user, engine)


@router.post("/enter")
def enter(form: Link, request: Request, response: Response, engine: CurrentEngine) -> Session:
    """Opens a session for who has a link that lets in once; it is used up."""
    request.app.state.logins.take(client_address(request))
    user = accounts.redeem(engine.store, form.token)
    if user is None:
        raise APIError(401, "this link was used, or is too old; `inkwash studio link` makes another", "used_link")
    begin_session(request, response, engine, user)
    return session(user, engine)


@router.post("/password", status_code=204)
async def change_password(form: NewPassword, user: CurrentUser, request: Request, engine: CurrentEngine) -> None:
    """Changes one's own password. One's other sessions end, and so do one's keys: who knew the old password may have
    made them. What this request was sent with goes on."""
    await verify_password(request, engine, user.name, form.old)
    _, secret = secret_of(engine, request)
    try:
        await to_thread.run_sync(accounts.change_password, engine.store, user.id, form.new, secret, limiter=HASHING)
    except UserError as error:
        raise invalid(str(error), "new") from None


async def verify_password(request: Request, engine: Engine, name: str, password: str) -> accounts.User:
    """The user whose password it is. APIError if it is not, and for who tries too often."""
    state = request.app.state
    await to_thread.run_sync(state.logins.take, client_address(request))
    await to_thread.run_sync(state.tries.take, f"{client_address(request)} {name_key(name)}")
    user = await to_thread.run_sync(accounts.log_in, engine.store, name, password, limiter=HASHING)
    if user is None:
        raise APIError(401, "the name or the password is wrong", "wrong_password")
    return user


def begin_session(request: Request, response: Response, engine: Engine, user: accounts.User) -> None:
    secret, age = accounts.issue(engine.store, user.id, "session"), int(accounts.LIFETIMES["session"] or 0)
    secure, path = request.url.scheme == "https", engine.settings.root_path or "/"
    response.set_cookie(
        cookie(engine), secret, max_age=age, path=path, httponly=True, samesite="strict", secure=secure
    )


@router.post("/logout", status_code=204)
def logout(user: CurrentUser, request: Request, response: Response, engine: CurrentEngine) -> None:
    """Ends the session."""
    accounts.revoke(engine.store, request.cookies.get(cookie(engine), ""))
    drop_cookie(response, engine)


def drop_cookie(response: Response, engine: Engine) -> None:
    """The browser forgets its session."""
    response.delete_cookie(cookie(engine), path=engine.settings.root_path or "/")


@router.get("/keys")
def keys(user: CurrentUser, engine: CurrentEngine) -> list[Key]:
    """One's keys for programs."""
    return [Key(**row._asdict()) for row in accounts.list_keys(engine.store, user.id)]


@router.post("/keys", status_code=201)
def new_key(form: Named, user: CurrentUser, engine: CurrentEngine) -> NewKey:
    """A new key for programs: send it as `Authorization: Bearer KEY`."""
    key = accounts.issue(engine.store, user.id, "key", form.name)
    return NewKey(**accounts.find_key(engine.store, key)._asdict(), key=key)


@router.delete("/keys/{id}", status_code=204)
def delete_key(id: Id, user: CurrentUser, engine: CurrentEngine) -> None:
    """From now on the key is not valid."""
    if not accounts.revoke_key(engine.store, id, user.id):
        raise no_such("key")


@router.get("/users")
def users(user: Admin, engine: CurrentEngine) -> list[Account]:
    """Everyone who has an account."""
    rows = accounts.list_users(engine.store)
    return [Account(**row._asdict(), disk_used=engine.store.disk_used(row.id)) for row in rows]


@router.post("/users", status_code=201)
def new_user(form: NewAccount, user: Admin, engine: CurrentEngine) -> Account:
    """Opens an account."""
    try:
        made = accounts.add_user(engine.store, **form.model_dump())
    except UserError as error:
        raise invalid(str(error)) from None
    return Account(**made._asdict(), active=True, disk_used=0)


@router.patch("/users/{id}")
def change_user(id: Id, form: AccountChange, user: Admin, engine: CurrentEngine) -> Account:
    """Changes an account. One that is closed loses its sessions, its keys and its open jobs."""
    changes = form.model_dump(exclude_unset=True)
    if id == user.id and (changes.get("active") is False or changes.get("admin") is False):
        raise invalid("you cannot close your own account, or be no administrator any more")
    if any(changes.get(key, True) is None for key in ("active", "admin", "password")):
        raise invalid("active, admin and password may be left out, but not null")
    open_jobs = engine.store.jobs(id, status=OPEN, limit=MAX_QUEUED_EACH)
    try:
        found = accounts.change_user(engine.store, id, **changes)
    except UserError as error:
        raise invalid(str(error), "password" if "password" in changes else None) from None
    if not found:
        raise no_such("user")
    for job in open_jobs if changes.get("active") is False else []:
        engine.notify(job.id, id)
    return next(account for account in users(user, engine) if account.id == id)
