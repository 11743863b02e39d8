"""What a proxy before the studio says: whom it speaks for, and who is logged in there."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from inkwash.errors import UserError
from inkwash.studio.accounts import check_name
from inkwash.studio.errors import APIError

LOCAL_PROXIES = ("127.0.0.1", "::1")


def check_proxy(address: str) -> None:
    """UserError for what is no address and no network."""
    try:
        ipaddress.ip_network(address)
    except ValueError:
        raise UserError(
            f"--proxy-address {address}: no address, and no network of addresses; such as 172.18.0.2 or 172.18.0.0/16"
        ) from None


class BehindProxy:
    """ASGI middleware outside of all: the client's address and scheme are what a proxy says, and `proxied` in the
    scope's state is whether it was a proxy that asked. proxies: addresses and networks."""

    def __init__(self, app: Any, proxies: Sequence[str]) -> None:
        self.app = ProxyHeadersMiddleware(app, list(proxies))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            peer, port = scope.get("client") or ("", 0)
            peer = peer.removeprefix("::ffff:")  # IPv4, where it is listened for both by `--host ::`
            scope["client"] = peer, port
            scope.setdefault("state", {})["proxied"] = peer in self.app.trusted_hosts
        await self.app(scope, receive, send)


def wrong_login(scope: Any, headers: Headers, login_header: str) -> APIError | None:
    """Why a login header is not believed: it is no proxy's, or came twice, or names who cannot have an account."""
    if not login_header or login_header not in headers:
        return None
    try:
        if not scope["state"].get("proxied"):
            raise UserError("only the proxy may send this header")
        if len(headers.getlist(login_header)) > 1:
            raise UserError("it came twice; the proxy must replace what its clients send")
        if name := login_name(headers, login_header):
            check_name(name)
    except UserError as error:
        return APIError(403, f"{login_header}: {error}", "wrong_login_header")
    return None


def login_name(headers: Headers, login_header: str) -> str:
    """Whom the login header names; nobody if it is empty or not there. Bytes that are no UTF-8 make it a name that
    nobody can have."""
    return headers.get(login_header, "").encode("latin-1").decode(errors="surrogateescape").strip()
