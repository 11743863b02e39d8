"""Who asks, and how often they may: what every route but the public ones depends on."""

import base64
import binascii
import ipaddress
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from inkwash.studio import accounts
from inkwash.studio.accounts import GUEST, User
from inkwash.studio.engine import Engine
from inkwash.studio.errors import APIError
from inkwash.studio.proxy import login_name

if TYPE_CHECKING:
    from inkwash.studio.postgresql import PostgreSQL

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PER_SECOND, AT_ONCE = 30.0, 300.0  # requests of a user
TRIES, PER_TRY = 10.0, 30.0  # of passwords for one name, from one address: so many, then one each so many seconds
LOGINS, PER_LOGIN = 60.0, 1.0  # from one address, for whatever name
MAX_BUCKETS = 10_000  # users and addresses
NOT_LOGGED_IN = (
    "log in first: open the link that `inkwash studio` printed, or send a key (`inkwash studio key` makes one)"
)
BEARER = HTTPBearer(auto_error=False, description="A key: `inkwash studio key` makes one.")  # for /docs


class Bucket:
    """Lets `capacity` through at once for each key, and `rate` a second after that."""

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate, self.capacity = rate, capacity
        self.tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.lock = threading.Lock()

    def take(self, key: str) -> None:
        """APIError, with the time to wait, when nothing is left."""
        with self.lock:
            tokens_then, then = self.tokens.get(key, (self.capacity, 0.0))
            tokens = min(self.capacity, tokens_then + (time.monotonic() - then) * self.rate)
            if tokens < 1:
                raise too_many((1 - tokens) / self.rate)
            self.tokens[key] = tokens - 1, time.monotonic()
            self.tokens.move_to_end(key)
            while len(self.tokens) > MAX_BUCKETS:
                self.tokens.popitem(last=False)


class SharedBucket:
    """The same, counted in a database for all servers that share it. name: of what is counted."""

    def __init__(self, postgresql: "PostgreSQL", name: str, rate: float, capacity: float) -> None:
        self.postgresql, self.name, self.rate, self.capacity = postgresql, name, rate, capacity

    def take(self, key: str) -> None:
        wait = self.postgresql.take(f"{self.name} {key}", self.rate, self.capacity)
        if wait:
            raise too_many(wait)


def bucket(engine: Engine, name: str, rate: float, capacity: float) -> Bucket | SharedBucket:
    shared = engine.store.postgresql
    return Bucket(rate, capacity) if shared is None else SharedBucket(shared, name, rate, capacity)


def too_many(wait: float) -> APIError:
    return APIError(429, "too many requests; slow down", "rate_limit_exceeded", wait=wait)


def cookie(engine: Engine) -> str:
    """The session's cookie: its name has the port, since browsers give it to all servers of the host; or what is the
    same on all servers of a studio."""
    shared = engine.store.postgresql
    return f"inkwash-{engine.settings.port if shared is None else shared.id[:8]}"


def engine_of(request: Request) -> Engine:
    return request.app.state.engine  # type: ignore[no-any-return]


def client_address(request: Request) -> str:
    """By which who asks is counted: of IPv6 the network, since a client there has 2^64 addresses."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64))


def bucket_of(user: User, request: Request) -> str:
    """Whose bounds a request counts against: its user's; of an open studio's visitors its address's."""
    return f"{user.id} {client_address(request)}" if user.id == GUEST else user.id


def user_of(engine: Engine, request: Request) -> User | None:
    """Who sent the request: whose key it brings, or whom the proxy names, or whose session it is; nobody for a secret
    that is not valid. In an open studio who brings nothing is the guest, but for pages of other sites."""
    kind, secret = secret_of(engine, request)
    may_act = request.method in SAFE_METHODS or same_origin(request)
    name = login_name(request.headers, engine.settings.login_header)
    if name and not is_bearer(request):  # Basic then is between the client and the proxy
        return accounts.proxied_user(engine.store, name) if may_act else None
    if kind == "key" or (kind == "session" and may_act):
        return accounts.holder(engine.store, secret, kind)
    is_other_origin = request.headers.get("origin") in engine.settings.origins
    if engine.settings.open and not kind and not is_other_origin and "authorization" not in request.headers:
        return accounts.open_user(engine.store, GUEST)
    return None


def secret_of(engine: Engine, request: Request) -> tuple[str, str]:
    """The kind of secret that a request brings, and the secret: a key, as `Authorization: Bearer KEY` or as the
    password of Basic, or a session's cookie. Of none both are empty."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if is_bearer(request):
        return "key", value.strip()
    if scheme.lower() == "basic":
        try:
            return "key", base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return "key", ""
    session = request.cookies.get(cookie(engine))
    return ("", "") if session is None else ("session", session)


def is_bearer(request: Request) -> bool:
    return request.headers.get("authorization", "").lower().startswith("bearer ")


def same_origin(request: Request) -> bool:
    """Whether a browser says that its page is ours."""
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site") == "same-origin"
    return origin.partition("://")[2].lower() == request.headers.get("host", "").lower()


def user(request: Request, _: Annotated[object, Depends(BEARER)]) -> User:
    """The user who asks. APIError for nobody, and for one who asks too often."""
    found = user_of(engine_of(request), request)
    if found is None:
        raise APIError(401, NOT_LOGGED_IN, "not_logged_in")
    request.app.state.rate.take(bucket_of(found, request))
    request.scope["state"]["user"] = found.id
    return found


def admin(user: Annotated[User, Depends(user)]) -> User:
    if not user.admin:
        raise APIError(403, "only an administrator may do that", "not_allowed")
    return user


CurrentUser = Annotated[User, Depends(user)]
Admin = Annotated[User, Depends(admin)]
CurrentEngine = Annotated[Engine, Depends(engine_of)]
