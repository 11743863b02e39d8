"""One request to an engine: what goes there, what may come back, and what goes wrong in between."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from inkwash.systems.engines.addresses import KEYS, Address

TIMEOUT = 1200.0  # seconds that an engine may take over a picture
CONNECT_TIMEOUT = 10.0
PATIENCE = 120.0  # seconds that one which is not there, or busy, is asked again
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0  # seconds between two tries
BEAT = 0.5  # seconds between two looks whether the picture is still wanted
MAX_ANSWER = 40_000_000  # bytes
MAX_MESSAGE = 300  # characters of what an engine says of an error
BUSY = (408, 425, 429, 502, 503, 504)  # what is worth another try

Beat = Callable[[str], None]  # is told why it takes longer, or ""; it may raise, to end the work at once
Files = Mapping[str, tuple[str, bytes, str]]  # names, contents and media types, by field
T = TypeVar("T")


class EngineError(Exception):
    """What is wrong with an engine or its answer; its name goes before."""


class Busy(EngineError):
    """It may draw later: after so many seconds, if it says so."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        super().__init__(why)
        self.seconds = seconds


def ask(address: Address, key: str, path: str, fields: Mapping[str, Any], files: Files, beat: Beat) -> bytes:
    """What the engine answers to a POST. EngineError if it is not there, or refuses, after some patience."""
    return asyncio.run(_ask(address, key, path, fields, files, beat))


async def _ask(address: Address, key: str, path: str, fields: Mapping[str, Any], files: Files, beat: Beat) -> bytes:
    failed, pause = None, FIRST_PAUSE
    while True:
        try:
            return await beating(post(address, key, path, fields, files), beat, "")
        except Busy as busy:
            now, wait = time.monotonic(), max(pause, busy.seconds)
            failed = failed or now
            if now + wait > failed + PATIENCE:
                raise EngineError(f"{busy}: try again later, or tell whoever runs the studio") from None
            await beating(asyncio.sleep(wait), beat, str(busy))
            pause = min(2 * pause, LONGEST_PAUSE)


async def beating(work: Awaitable[T], beat: Beat, text: str) -> T:
    """What the work brings; it ends at once, its connection is closed, when the beat raises."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            beat(text)
            await asyncio.wait({task}, timeout=BEAT)
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def post(address: Address, key: str, path: str, fields: Mapping[str, Any], files: Files) -> bytes:
    """The body of the answer. No proxy and no password of the environment is taken, no redirect is followed."""
    headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {key}"} if key else {})
    body: dict[str, Any] = {"data": fields, "files": files} if files else {"json": fields}
    timeout = httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT)
    certificates = ssl.create_default_context()  # the system's, or those of SSL_CERT_FILE
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(trust_env=False, timeout=timeout, verify=certificates) as client,
            client.stream("POST", f"{address.url}/{path}", headers=headers, **body) as response,
        ):
            answer = await read(response)
    except (httpx.ConnectError, httpx.ConnectTimeout, UnicodeError) as error:  # the last of a name that is none
        if "CERTIFICATE" in str(error):
            raise EngineError("has a certificate that is not trusted here: SSL_CERT_FILE may name its own") from None
        raise Busy("is not there") from None
    except (TimeoutError, httpx.TimeoutException):
        raise EngineError(f"has not answered for {TIMEOUT / 60:.0f} minutes") from None
    except httpx.HTTPError:
        raise Busy("broke off its answer") from None
    if response.status_code == 200:
        return answer
    raise refusal(response, answer, address, key)


async def read(response: httpx.Response) -> bytes:
    """The body as it is sent. EngineError for one without end."""
    found = bytearray()
    async for chunk in response.aiter_raw():
        found += chunk
        if len(found) > MAX_ANSWER:
            raise EngineError(f"answered with more than {MAX_ANSWER // 10**6} MB")
    return bytes(found)


def refusal(response: httpx.Response, answer: bytes, address: Address, key: str) -> EngineError:
    """What a status other than 200 says."""
    status = response.status_code
    if status in (401, 403):  # what it says may show the key
        return EngineError(f"does not take the studio's key ({status}): whoever runs the studio sets {KEYS}")
    if status in BUSY:
        return Busy(f"is busy ({status})", retry_after(response.headers.get("retry-after", "")))
    said = message_in(answer, key)
    if 300 <= status < 400:
        return EngineError(f"sends elsewhere ({status}), where nothing is asked: its address is another one")
    if status == 404:
        return EngineError(f"knows no model {address.model}, or does not do this{said and f': {said}'}")
    verb = "refuses this" if 400 <= status < 500 else "failed"
    return EngineError(f"{verb} ({status}){said and f': {said}'}")


def retry_after(text: str) -> float:
    """Seconds, of a number of them or a date; 0 for what is neither."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # a date without a zone, too
        return 0.0


def message_in(answer: bytes, key: str) -> str:
    """What an engine says of an error, in one line without the key: OpenAI's {"error": {"message"}}, or FastAPI's
    {"detail"}, a text or a list of {"msg"}. "" for what is none of these."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        found = found.get(name, found) if isinstance(found, dict) else found
    if isinstance(found, list):
        found = "; ".join(str(one["msg"]) for one in found[:3] if isinstance(one, dict) and "msg" in one)
    if not isinstance(found, str):
        return ""
    line = " ".join(found.replace(key, "***").split() if key else found.split())
    return "".join(sign for sign in line if sign.isprintable())[:MAX_MESSAGE]
