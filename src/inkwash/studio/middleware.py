"""What stands before every route: which hosts and origins may ask, how much they may send, what every answer says;
and the log and the figures of each request."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from inkwash.errors import UserError
from inkwash.studio.auth import NOT_LOGGED_IN, bucket_of, client_address, user_of
from inkwash.studio.database import new_id
from inkwash.studio.engine import Engine, Settings
from inkwash.studio.errors import APIError, is_disk_full
from inkwash.studio.proxy import wrong_login

LOG = logging.getLogger("inkwash.studio")
ENTRANCES = ("/api/login", "/api/enter")  # whose bodies may come from nobody
COOKIE_PATHS = (*ENTRANCES, "/api/logout")  # which set what a browser remembers of us
BODILESS = ("GET", "HEAD")
DRAIN_BYTES, DRAIN_SECONDS = 4_000_000, 2.0  # bytes of a refused body that are still read, and seconds
MAX_HELD = 300 * 10**6  # bytes of all bodies of one user that are received or worked on
BODY_TIMEOUT, ENTRANCE_TIMEOUT = 300.0, 10.0  # seconds for a client to send its body
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
OWN_PATHS = (
    "/api/",
    "/v1/",
    "/sdapi/",
    "/controlnet/",
    "/shared/",
    "/static/",
    "/static-docs/",
    "/docs/",
    "/metrics/",
)
PREFLIGHT = {
    "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "access-control-allow-headers": "authorization, *",  # a star alone would leave out the one that is needed
    "access-control-max-age": "600",
}


class Bounds(NamedTuple):
    """Of a body. JSON is parsed and validated by C code that lets nothing else run, in whatever thread: how long that
    takes depends on how many values there are, hardly on the bytes."""

    json: int = 10**6  # bytes
    form: int = 10**6  # bytes of a form with files
    signs: int = 10_000  # of JSON's syntax, texts included: four prompts of commas alone have 8,000


SYNTAX = (b",", b":", b"[", b"{")
FOLDER = Bounds(json=4 * 10**6, signs=200_000)  # 20,000 files, five signs each, and as many in their names
PICTURE = Bounds(json=12 * 10**6)  # whose clients send pictures as base64 in JSON, and know no other way
BOUNDS = {  # of paths that begin so
    **dict.fromkeys(ENTRANCES, Bounds(json=20_000, form=20_000)),
    "/api/uploads": Bounds(form=250 * 10**6),
    "/api/recipe": Bounds(form=32 * 10**6),
    "/api/jobs/": FOLDER,
    "/api/plans/": FOLDER,
    "/v1/images/edits": PICTURE._replace(form=32 * 10**6),
    "/v1/images/variations": Bounds(form=32 * 10**6),
    **dict.fromkeys(("/sdapi/v1/img2img", "/sdapi/v1/png-info", "/sdapi/v1/extra-"), PICTURE),
    **dict.fromkeys(("/sdapi/v1/interrogate", "/controlnet/"), PICTURE),
}


class Abort(Exception):
    """A request is not read to its end, or its answer not sent to its end."""


class Body:
    """Receives the body of a request, within its bounds. failure: why it is not received to its end; held: bytes of
    all bodies, by who sends them."""

    def __init__(self, receive: Any, path: str, headers: Headers, held: Counter[str]) -> None:
        is_form = headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"
        bounds = next((found for prefix, found in BOUNDS.items() if path.startswith(prefix)), Bounds())
        self.max_bytes = bounds.form if is_form else bounds.json
        self.max_signs = None if is_form else bounds.signs
        self.end = time.monotonic() + (ENTRANCE_TIMEOUT if path in ENTRANCES else BODY_TIMEOUT)
        self.receive, self.bytes, self.signs, self.is_complete = receive, 0, 0, False
        self.failure: APIError | None = None
        self.sender, self.held = "", held

    async def __call__(self) -> Any:
        if self.is_complete:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self.end - time.monotonic())
        except TimeoutError:
            self.failure = APIError(408, "the body came too slowly", "request_timeout")
            raise Abort from None
        piece = message.get("body", b"")
        self.bytes, self.is_complete = self.bytes + len(piece), not message.get("more_body", False)
        if self.bytes > self.max_bytes:
            self.failure = too_large(self.max_bytes)
        self.held[self.sender] += len(piece)
        if self.held[self.sender] > MAX_HELD:
            message = f"you have sent {MAX_HELD // 10**6} MB already that wait or are worked on; let some end"
            self.failure = APIError(429, message, "too_many_bodies", wait=5)
        if self.max_signs is not None:
            self.signs += sum(map(piece.count, SYNTAX))
            if self.signs > self.max_signs:
                self.failure = too_complex(self.max_signs)
        if self.failure is not None:
            raise Abort
        return message

    def release(self) -> None:
        """Nothing of it is held any more."""
        self.held[self.sender] -= self.bytes
        if not self.held[self.sender]:
            del self.held[self.sender]


def check_root_path(path: str) -> None:
    """UserError for what is no path, or one that cannot be told from the studio's own."""
    if path and not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path):
        raise UserError(f"--root-path {path}: a path like /inkwash is needed, which ends without a slash")
    if f"{path}/".startswith(OWN_PATHS):
        raise UserError(f"--root-path {path}: the studio has addresses of its own that begin so; take another")


def check_origin(origin: str) -> None:
    """UserError for what is not one site exactly as a browser names it."""
    if origin in ("*", "null"):
        raise UserError(
            f"--allow-origin {origin}: it would be every site; name each that may ask, as https://app.example.org"
        )
    is_one = re.fullmatch(r"https?://([a-z0-9_.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", origin)
    if not is_one or re.fullmatch(r"http:.*:80|https:.*:443", origin):
        raise UserError(
            f"--allow-origin {origin}: a site as a browser names it is needed, in small letters, without a path and "
            "without the usual port, as https://app.example.org or http://localhost:3000"
        )


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Any, engine: Engine) -> None:
        self.app, self.engine, self.held = app, engine, Counter[str]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # there are no websockets here
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started_at, status, is_started = time.monotonic(), 500, False
        settings, headers, method = self.engine.settings, Headers(scope=scope), scope["method"]
        path = inner_path(scope["path"], settings.root_path)
        is_other_origin = headers.get("origin") in settings.origins
        scope = {
            **scope,
            "state": {**scope.get("state", {}), "request": new_id()},
            "method": "GET" if method == "HEAD" else method,  # the same answer, whose body is not sent
            "path": settings.root_path + path,  # whether a proxy took the prefix away or not
            "root_path": settings.root_path,
        }
        if is_other_origin:  # a key says who asks there, not what a browser remembers of us
            left_out = (b"cookie", settings.login_header.lower().encode())
            scope["headers"] = [(key, value) for key, value in scope["headers"] if key not in left_out]
        answer_headers = {**HEADERS, "x-request-id": scope["state"]["request"], **cors_headers(headers, settings)}
        body = Body(receive, path, headers, self.held)
        body.failure = rejection(method, path, headers, settings, body.max_bytes)
        body.failure = body.failure or wrong_login(scope, headers, settings.login_header)

        async def send_with_headers(message: Any) -> None:
            nonlocal status, is_started
            if body.failure is not None:
                return  # whatever the application makes of it, it is answered below
            if message["type"] == "http.response.start":
                status, is_started = message["status"], True
                response_headers = MutableHeaders(scope=message)
                for key, value in answer_headers.items():
                    response_headers.setdefault(key, value)
            await send(message)
            if method == "HEAD":  # nothing of the body is made, not even of an endless one
                await send({"type": "http.response.body"})
                raise Abort

        try:
            if body.failure is None and is_other_origin and method == "OPTIONS":
                await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send_with_headers)
            elif body.failure is None:
                body.sender = await self.sender(scope, path)
                await self.app(scope, body, send_with_headers)
        except Abort:
            pass
        except APIError as error:  # of who asks, or of the database, before there is a route
            body.failure = error
        except Exception as error:  # a mistake of ours, or a full disk: the log has the rest, the answer no word
            LOG.exception("mistake", extra={"facts": {"request": scope["state"]["request"]}})
            body.failure = APIError(500, "a mistake of the studio's; its log says more", "internal_error")
            if is_disk_full(error):
                body.failure = APIError(507, "the disk is full; nothing was taken in", "disk_full")
        finally:
            body.release()
        if body.failure is not None and not is_started:
            status = body.failure.status
            if not body.is_complete and method not in BODILESS and "expect" not in headers:
                await drain(receive)
            response = error_response(path, body.failure)
            response.headers.update({**answer_headers, "connection": "close"})
            await response(scope, receive, send)
        self.record(scope, method, path, status, time.monotonic() - started_at)

    async def sender(self, scope: Any, path: str) -> str:
        """Whose bounds a body counts against. APIError if it comes from nobody, who shall cost nothing: it is not
        parsed."""
        request = Request(scope)
        if scope["method"] in BODILESS or path in ENTRANCES:
            return client_address(request)
        user = await to_thread.run_sync(user_of, self.engine, request)
        if user is None:
            raise APIError(401, NOT_LOGGED_IN, "not_logged_in")
        return bucket_of(user, request)

    def record(self, scope: Any, method: str, path: str, status: int, seconds: float) -> None:
        """A line in the log and the figures; of the path only the route, never what was asked in it."""
        route = getattr(scope.get("route"), "path", None) or ("/static" if path.startswith("/static") else "?")
        method = method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else "?"
        self.engine.metrics.requests.labels(route, method, str(status)).inc()
        self.engine.metrics.seconds.labels(route).observe(seconds)
        facts = {"route": route, "method": method, "status": status, "ms": round(1000 * seconds, 1)}
        facts |= {"request": scope["state"]["request"], "user": scope["state"].get("user")}
        LOG.info("request", extra={"facts": facts})


def inner_path(path: str, root_path: str) -> str:
    """The path within the studio, whether it has the prefix under which a proxy shows it or not."""
    return path[len(root_path) :] or "/" if f"{path}/".startswith(f"{root_path}/") else path


def cors_headers(headers: Headers, settings: Settings) -> dict[str, str]:
    """By which a browser shows an answer to a page of an origin that may ask. Nothing is allowed to cookies."""
    if not settings.origins:
        return {}
    if (origin := headers.get("origin")) not in settings.origins:
        return {"vary": "origin"}
    exposed = "retry-after, x-request-id, content-disposition"
    return {"vary": "origin", "access-control-allow-origin": str(origin), "access-control-expose-headers": exposed}


def rejection(method: str, path: str, headers: Headers, settings: Settings, max_bytes: int) -> APIError | None:
    """Why a request is not even looked at; None if it is."""
    host = headers.get("host", "")
    if not allowed_host(host, settings):
        return APIError(403, "this name is not the studio's (DNS rebinding?); see --name", "wrong_host")
    visits = headers.get("sec-fetch-mode") == "navigate" and method == "GET" and path == "/"
    public = path.startswith("/shared/") and method in BODILESS
    is_other_site = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not visits and not public
    is_other_origin = "origin" in headers and not same_site(headers["origin"], host)
    if (is_other_site or is_other_origin) and headers.get("origin") not in settings.origins:
        return APIError(403, "a page of another site may not ask this; see --allow-origin", "wrong_origin")
    if headers.get("origin") in settings.origins and path in COOKIE_PATHS:
        return APIError(403, "a page of another site asks with a key, and signs nobody in or out", "wrong_origin")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > max_bytes:
        return too_large(max_bytes)
    return None


def too_large(max_bytes: int) -> APIError:
    return APIError(413, f"the body is longer than {max_bytes / 10**6:g} MB", "body_too_large")


def too_complex(signs: int) -> APIError:
    return APIError(413, f"the body has more than {signs} commas, colons and brackets", "body_too_complex")


def same_site(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def allowed_host(host: str, settings: Settings) -> bool:
    """Whether a Host header names this studio. A page of another site whose name was rebound to our address sends
    that name; it cannot send an address, or `localhost`."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name == "localhost" or name in settings.names:
        return True
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return name == settings.host
    return found.is_loopback or not is_loopback(settings.host)


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def drain(receive: Any) -> None:
    """Reads on for a little in a body that is refused: else the client, still sending, would see no answer."""
    seen = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while seen < DRAIN_BYTES and (message := await receive()).get("more_body", False):
                seen += len(message.get("body", b""))


KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(path: str, error: APIError) -> dict[str, Any]:
    """An error in the shape of the API that was asked: A1111's, or OpenAI's, which is our own, too."""
    if path.startswith(("/sdapi", "/controlnet")):
        return {"error": error.code, "detail": error.message, "body": "", "errors": error.message}
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def error_response(path: str, error: APIError) -> JSONResponse:
    headers = {} if error.wait is None else {"retry-after": str(max(1, round(error.wait)))}
    if error.status == 422 and path.startswith("/v1"):
        error.status = 400  # OpenAI's word for it
    if error.status == 401 and path.startswith(("/sdapi", "/controlnet", "/metrics")):
        # where programs log in with a name and a password, that they may
        headers["www-authenticate"] = 'Basic realm="inkwash: any name, a key as password"'
    return JSONResponse(error_body(path, error), error.status, headers)
