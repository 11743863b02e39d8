"""What stands before every route: which hosts and origins may ask, how much they may send, what every answer says;
and the log and the figures of each request."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse

from inkwash.studio.auth import NOT_LOGGED_IN, user_of
from inkwash.studio.database import new_id
from inkwash.studio.engine import Engine, Settings
from inkwash.studio.errors import APIError, is_disk_full

LOG = logging.getLogger("inkwash.studio")
SMALL, MEDIUM, LARGE, UPLOAD = 10**6, 4 * 10**6, 32 * 10**6, 250 * 10**6  # bytes of a body
FOLDER_PATHS = ("/api/jobs/", "/api/plans/")  # where a request may name every file of a folder
LARGE_PATHS = (
    "/api/recipe",
    "/v1/images/edits",
    "/v1/images/variations",
    "/sdapi/v1/img2img",
    "/sdapi/v1/png-info",
    "/sdapi/v1/extra-",
    "/sdapi/v1/interrogate",
    "/controlnet/",
)
BODILESS = ("GET", "HEAD")
DRAIN_BYTES, DRAIN_SECONDS = 4_000_000, 2.0  # bytes of a refused body that are still read, and seconds
BODY_TIMEOUT = 300.0  # seconds for a client to send its body
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


class Abort(Exception):
    """A request is not read to its end."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Any, engine: Engine) -> None:
        self.app, self.engine = app, engine

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # there are no websockets here
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started_at, status, is_started = time.monotonic(), 500, False
        headers, path = Headers(scope=scope), scope["path"]
        scope.setdefault("state", {})["request"] = name = new_id()
        max_bytes = longest_body(path)
        seen, is_complete = 0, False
        failure = rejection(scope, headers, self.engine.settings, max_bytes)

        async def receive_limited() -> Any:
            nonlocal seen, is_complete, failure
            if is_complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), started_at + BODY_TIMEOUT - time.monotonic())
            except TimeoutError:
                failure = APIError(408, "the body came too slowly", "request_timeout")
                raise Abort from None
            seen += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if seen > max_bytes:
                failure = too_large(max_bytes)
                raise Abort
            return message

        async def send_with_headers(message: Any) -> None:
            nonlocal status, is_started
            if failure is not None:
                return  # whatever the application makes of it, it is answered below
            if message["type"] == "http.response.start":
                status, is_started = message["status"], True
                response_headers = MutableHeaders(scope=message)
                for key, value in {**HEADERS, "x-request-id": name}.items():
                    response_headers.setdefault(key, value)
            await send(message)

        try:
            if failure is None and await self.is_anonymous(scope):
                failure = APIError(401, NOT_LOGGED_IN, "not_logged_in")
            if failure is None:
                await self.app(scope, receive_limited, send_with_headers)
        except Abort:
            pass
        except Exception as error:  # a mistake of ours, or a full disk: the log has the rest, the answer no word
            LOG.exception("mistake", extra={"facts": {"request": name}})
            failure = APIError(500, "a mistake of the studio's; its log says more", "internal_error")
            if is_disk_full(error):
                failure = APIError(507, "the disk is full; nothing was taken in", "disk_full")
        if failure is not None and not is_started:
            status = failure.status
            if not is_complete and scope["method"] not in BODILESS and "expect" not in headers:
                await drain(receive)
            response = error_response(path, failure)
            response.headers.update({**HEADERS, "x-request-id": name, "connection": "close"})
            await response(scope, receive, send)
        self.record(scope, status, time.monotonic() - started_at, name)

    async def is_anonymous(self, scope: Any) -> bool:
        """Whether a body comes from nobody, who shall cost nothing: it is not parsed."""
        if scope["method"] in BODILESS or scope["path"] == "/api/login":
            return False
        return await to_thread.run_sync(user_of, self.engine, Request(scope)) is None

    def record(self, scope: Any, status: int, seconds: float, name: str) -> None:
        """A line in the log and the figures; of the path only the route, never what was asked in it."""
        route = getattr(scope.get("route"), "path", None) or (
            "/static" if scope["path"].startswith("/static") else "?"
        )
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD") else "?"
        self.engine.metrics.requests.labels(route, method, str(status)).inc()
        self.engine.metrics.seconds.labels(route).observe(seconds)
        facts = {"route": route, "method": method, "status": status, "ms": round(1000 * seconds, 1), "request": name}
        LOG.info("request", extra={"facts": {**facts, "user": scope["state"].get("user")}})


def rejection(scope: Any, headers: Headers, settings: Settings, max_bytes: int) -> APIError | None:
    """Why a request is not even looked at; None if it is."""
    host = headers.get("host", "")
    if not allowed_host(host, settings):
        return APIError(403, "this name is not the studio's (DNS rebinding?); see --name", "wrong_host")
    visits = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET" and scope["path"] == "/"
    public = scope["path"].startswith("/shared/") and scope["method"] == "GET"
    is_other_site = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not visits and not public
    if is_other_site or ("origin" in headers and not same_site(headers["origin"], host)):
        return APIError(403, "a page of another site may not ask this", "wrong_origin")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > max_bytes:
        return too_large(max_bytes)
    return None


def too_large(max_bytes: int) -> APIError:
    return APIError(413, f"the body is longer than {max_bytes // 10**6} MB", "body_too_large")


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


def longest_body(path: str) -> int:
    if path.startswith("/api/uploads"):
        return UPLOAD
    if path.startswith(FOLDER_PATHS):
        return MEDIUM
    return LARGE if path.startswith(LARGE_PATHS) else SMALL


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
