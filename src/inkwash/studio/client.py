"""A studio from Python: `inkwash.Studio`, and `inkwash.AsyncStudio`, which is the same with `await`.

Every operation is written once, as a coroutine over httpx. For `Studio` httpx's transport blocks, so that nothing is
left to wait for: a coroutine then runs in one go, and needs no event loop.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, fields
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Concatenate, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack, cast, overload
from urllib.parse import quote
from uuid import uuid4

from PIL import Image

from inkwash.codecs.png import KEY, GeneratedImage
from inkwash.errors import UserError
from inkwash.systems.pictures.data import load_image as opened
from inkwash.version import __version__
from inkwash.weights.files import atomic

try:
    import anyio
    import httpx
except ModuleNotFoundError as missing:
    raise UserError(f"a studio is reached by {missing.name}: pip install 'inkwash[studio]'") from None

Status = Literal["queued", "running", "done", "failed", "cancelled"]
Transport = httpx.BaseTransport | None
AsyncTransport = httpx.AsyncBaseTransport | None
Source = str | os.PathLike[str] | IO[bytes] | Image.Image
AGAIN = (429, 502, 503, 504, 507)  # answers after which the same may be asked again
PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds before that, at first and at most: twice as long each time
ANSWER = 60.0  # seconds in which something must come; a stream shows a sign of life every 10
WAIT = 30.0  # seconds for which one request waits for the end of a job
SIDE = 1024  # pixels: a studio keeps no more of a picture to begin from


class StudioError(UserError):
    """Why a studio did not do what was asked, in one line.

    status: of its HTTP answer; None if there was none, or a job failed. code: the studio's word for it, such as
    "not_found" or "quota"; else "unreachable", "no_studio", "failed", "cancelled" or "deleted".
    """

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Model:
    """A model that draws. sizes: sides that it draws itself, in pixels; sampler, steps, guidance: what is usual."""

    name: str
    styles: list[str]
    sizes: list[int]
    samplers: list[str]
    sampler: str
    steps: int
    guidance: float
    transparent: bool


@dataclass(frozen=True)
class Picture:
    """A picture in a studio. place: in its job, from 0; created: seconds since 1970; recipe: what made it."""

    id: str
    job: str
    place: int
    width: int
    height: int
    created: float
    recipe: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Progress:
    """Of the picture being drawn: its place in the job, steps done and in all; a PNG if previews were asked for."""

    place: int
    step: int
    steps: int
    preview: bytes | None


@dataclass(frozen=True)
class Job:
    """A job as it was when the studio was asked. ahead: jobs in the queue before it; times: seconds since 1970."""

    id: str
    status: Status
    error: str | None
    ask: dict[str, Any] = field(hash=False)
    created: float
    changed: float
    ahead: int
    progress: Progress | None
    pictures: tuple[Picture, ...]

    @property
    def ended(self) -> bool:
        return self.status in ("done", "failed", "cancelled")


class Options(TypedDict, total=False):
    """What may be asked for beside the prompt, meant as in `generate` of a model. image, mask: a path, an open file
    or a PIL picture. previews: how often each picture is shown on its way."""

    model: str
    style: str | None
    seed: int | None
    negative: str
    sampler: str | None
    steps: int | None
    guidance: float | None
    size: int | None
    transparent: bool
    image: Source | None
    strength: float | None
    mask: Source | None
    border: float | None
    previews: int


class Watched(Options, total=False):
    """progress: called with (steps done, steps in all); preview: with what a picture looks like so far."""

    progress: Callable[[int, int], None] | None
    preview: Callable[[Image.Image], None] | None


P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", Job, Picture)


class AsyncStudio:
    """A studio, for programs with an event loop: like `Studio`, but what it does is awaited.

    >>> async with inkwash.AsyncStudio() as studio:
    ...     picture = await studio.generate("a red fox", style="flat", seed=7)
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        transport: AsyncTransport = None,
    ) -> None:
        self.url, headers = _address(url, key)
        self.timeout, self._reached = timeout, False
        patience = httpx.Timeout(ANSWER, connect=10.0, pool=None)
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=patience, transport=transport)

    async def aclose(self) -> None:
        """Closes the connections; jobs go on."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @overload
    async def generate(self, prompt: str, *, n: None = None, **options: Unpack[Watched]) -> Image.Image: ...

    @overload
    async def generate(self, prompt: str, *, n: int, **options: Unpack[Watched]) -> list[Image.Image]: ...

    async def generate(
        self, prompt: str, *, n: int | None = None, **options: Unpack[Watched]
    ) -> Image.Image | list[Image.Image]:
        """A picture from words, or a list of them when `n` is given: as `inkwash.load("emoji").generate`.

        It waits as long as the queue takes. StudioError for what cannot be asked for, and for a job that fails.
        """
        progress, preview = options.pop("progress", None), options.pop("preview", None)
        options["previews"] = options.get("previews", 3) if preview else 0
        job = await self._submit(prompt, 1 if n is None else n, dict(options))
        job = await (self._watch(job, progress, preview) if progress or preview else self.wait(job))
        if job.status != "done":
            raise StudioError(job.error or f"the job was {job.status}", code=job.status)
        if len(job.pictures) < (n or 1):
            raise StudioError("a picture of the job was deleted before it was fetched", code="deleted")
        pictures = [await self.open(picture) for picture in job.pictures]
        return pictures[0] if n is None else pictures

    async def _watch(
        self, job: Job, progress: Callable[[int, int], None] | None, preview: Callable[[Image.Image], None] | None
    ) -> Job:
        """The job when it has ended; the two are called on the way."""
        n, steps, shown = int(job.ask["n"]), 0, None
        async with aclosing(self.follow(job)) as states:
            async for job in states:
                now = job.progress
                if progress and now and now.steps:
                    steps = now.steps
                    progress(now.place * steps + now.step, n * steps)
                if preview and now and now.preview and now.preview != shown:
                    shown = now.preview
                    preview(_decoded(shown))
        if progress and steps and job.status == "done":
            progress(n * steps, n * steps)
        return job

    async def submit(self, prompt: str, *, n: int = 1, **options: Unpack[Options]) -> Job:
        """Puts a job in the queue. Once this has returned, it will be drawn, whatever happens to the studio."""
        return await self._submit(prompt, n, dict(options))

    async def _submit(self, prompt: str, n: int, options: dict[str, Any]) -> Job:
        ask = {key: value for key, value in options.items() if value is not None}
        for key in {"image", "mask"} & set(ask):
            file = ("picture.png", _png(ask[key]))
            ask[key] = await self._ask(lambda facts: facts["id"], "POST", "/api/uploads", files={"file": file})
        once = {"idempotency-key": uuid4().hex}
        return await self._ask(_job, "POST", "/api/jobs", json={"prompt": prompt, "n": n, **ask}, headers=once)

    async def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return await self._ask(_job, "GET", _path("jobs", job))

    async def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """The job when it has ended, done or not. TimeoutError after so many seconds; the job goes on then."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            left = max(0.0, end - time.monotonic())
            query, patience = {"wait": min(left, WAIT)}, min(left, self.timeout)
            now = await self._ask(_job, "GET", _path("jobs", job), patience=patience, params=query)
            if now.ended:
                return now
            if time.monotonic() >= end:
                raise TimeoutError(f"the job {now.id} is {now.status} after {timeout:g} s; it goes on")
            await self._sleep(PAUSE)  # a studio that is being stopped answers at once

    async def follow(self, job: Job | str) -> AsyncGenerator[Job, None]:
        """The job each time that something of it has changed, until it has ended. A stream that is cut off is opened
        again: states between may be left out, the last one never is."""
        last: Job | None = None
        while last is None or not last.ended:
            if last is not None:
                await self._sleep(PAUSE)
            answer = await self._send("GET", _path("jobs", job, "/events"), stream=True)
            try:
                async for data in _events(answer.aiter_bytes()):
                    now = self._made(lambda data: _job(json.loads(data)), data)
                    if now != last:
                        yield now
                    last = now
            except httpx.TransportError:
                pass  # cut off
            finally:
                await answer.aclose()

    async def cancel(self, job: Job | str) -> Job:
        """Ends a job. What is drawn of it stays; one that has ended is left as it is."""
        return await self._ask(_job, "POST", _path("jobs", job, "/cancel"))

    def jobs(self, *status: Status, page: int = 50) -> AsyncGenerator[Job, None]:
        """One's jobs, newest first; only those of a status, if any is given. page: how many are fetched at once."""
        return self._pages(_job, "/api/jobs", {"status": status, "limit": page})

    def pictures(self, words: str = "", *, page: int = 50) -> AsyncGenerator[Picture, None]:
        """One's pictures, newest first, whose prompts have all these words. page: how many are fetched at once."""
        return self._pages(_picture, "/api/pictures", {"words": words, "limit": page})

    async def _pages(
        self, make: Callable[[Any], Item], path: str, query: dict[str, Any]
    ) -> AsyncGenerator[Item, None]:
        rows = await self._ask(_each(make), "GET", path, params=query)
        while rows:
            for row in rows[:-1]:
                yield row
            last, more = rows[-1], len(rows) == query["limit"]
            rows = await self._ask(_each(make), "GET", path, params={**query, "before": last.id}) if more else []
            yield last  # only now: who gets it may delete it, and a studio lists nothing before what is not there

    async def models(self) -> list[Model]:
        """The studio's models, and what is usual with them."""
        return await self._ask(_each(lambda facts: _known(Model, facts)), "GET", "/api/models")

    async def open(self, picture: Picture | str) -> Image.Image:
        """The picture itself, its recipe in `info["inkwash"]`."""
        answer = await self._send("GET", _path("pictures", picture, "/file"))
        return self._made(_decoded, answer.content)

    async def download(self, picture: Picture | str, path: str | os.PathLike[str]) -> Path:
        """Writes the picture's PNG, which has its recipe, whole or not at all. UserError if it cannot be written."""
        answer, path = await self._send("GET", _path("pictures", picture, "/file")), Path(path)
        try:
            with atomic(path) as file:
                file.write_bytes(answer.content)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place") from None
        return path

    async def delete(self, picture: Picture | str) -> None:
        """Deletes a picture from the studio, with its recipe."""
        await self._send("DELETE", _path("pictures", picture))

    async def share(self, picture: Picture | str, recipe: bool = False) -> str:
        """An address at which anyone may see the picture, with its recipe or without. An earlier one ends."""
        what = {"json": {"recipe": recipe}}
        return await self._ask(
            lambda facts: self.url + facts["url"], "PUT", _path("pictures", picture, "/share"), **what
        )

    async def unshare(self, picture: Picture | str) -> None:
        """From now on nobody else sees the picture."""
        await self._send("DELETE", _path("pictures", picture, "/share"))

    async def _ask(self, make: Callable[[Any], T], method: str, path: str, **what: Any) -> T:
        """What `make` makes of the answer's JSON."""
        answer = await self._send(method, path, **what)
        return self._made(lambda data: make(json.loads(data)), answer.content)

    def _made(self, make: Callable[[bytes], T], data: bytes) -> T:
        try:
            return make(data)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            message = f"{self.url} does not answer as a studio does: check the address"
            raise StudioError(message, code="no_studio") from error

    async def _send(
        self, method: str, path: str, *, stream: bool = False, patience: float | None = None, **what: Any
    ) -> httpx.Response:
        """The answer. All requests may be made again, and are where none comes or the studio is busy, for `patience`
        seconds (None: the timeout) from the first failure on; but who was never there is not waited for."""
        end, pause, lost = float("inf"), PAUSE, False
        while True:
            try:
                answer = await self._http.send(self._http.build_request(method, path, **what), stream=stream)
                if not answer.is_success:
                    await answer.aread()
            except httpx.TransportError as error:
                problem, lost, wait = _unreachable(self.url, error), True, pause
                final = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not self._reached
            else:
                self._reached = True
                if answer.is_success or (lost and method == "DELETE" and answer.status_code == 404):
                    return answer
                problem = _refusal(self.url, answer)
                wait = max(pause, _seconds(answer.headers.get("retry-after", "")))
                final = answer.status_code not in AGAIN
            now = time.monotonic()
            end = min(end, now + (self.timeout if patience is None else patience))
            if final or now + wait > end:
                raise problem
            await self._sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self.stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.stream:
            yield piece

    async def aclose(self) -> None:
        self.stream.close()


class _Transport(httpx.AsyncBaseTransport):
    """Blocks until there is an answer."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.http.send(request, stream=True)
        stream = _Stream(cast(httpx.SyncByteStream, answer.stream))
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)

    async def aclose(self) -> None:
        self.http.close()


class _Blocking(AsyncStudio):
    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of a blocking studio, which waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("it waits")


def _method(
    work: Callable[Concatenate[AsyncStudio, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Studio, P], T]:
    @wraps(work)
    def method(self: Studio, /, *args: P.args, **options: P.kwargs) -> T:
        return _run(work(self._studio, *args, **options))

    return method


def _iterator(
    work: Callable[Concatenate[AsyncStudio, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Studio, P], Iterator[T]]:
    @wraps(work)
    def iterator(self: Studio, /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        items = work(self._studio, *args, **options)
        try:
            while True:
                yield _run(anext(items))
        except StopAsyncIteration:
            return
        finally:
            _run(items.aclose())

    return iterator


class Studio:
    """A studio at an address, or the one of this machine.

    url: such as "http://host:7860"; if left out, where `inkwash studio` was last started here.
    key: `inkwash studio key` makes one; if left out, INKWASH_KEY, or for the studio of this machine its own.
    timeout: seconds for which a studio that went away, or is busy, is asked again.
    transport: httpx's, to connect in another way.

    Raises UserError for an address that is none, and StudioError, which is one, for what the studio refuses.

    >>> studio = inkwash.Studio()
    >>> picture = studio.generate("a red fox", style="flat", seed=7)
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 60.0, transport: Transport = None
    ) -> None:
        http = httpx.Client(transport=transport)
        self._studio = _Blocking(url, key, timeout=timeout, transport=_Transport(http))
        self.url = self._studio.url

    def close(self) -> None:
        """Closes the connections; jobs go on."""
        _run(self._studio.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @overload
    def generate(self, prompt: str, *, n: None = None, **options: Unpack[Watched]) -> Image.Image: ...

    @overload
    def generate(self, prompt: str, *, n: int, **options: Unpack[Watched]) -> list[Image.Image]: ...

    def generate(
        self, prompt: str, *, n: int | None = None, **options: Unpack[Watched]
    ) -> Image.Image | list[Image.Image]:
        work: Coroutine[Any, Any, Image.Image | list[Image.Image]] = self._studio.generate(prompt, n=n, **options)
        return _run(work)

    generate.__doc__ = AsyncStudio.generate.__doc__
    submit = _method(AsyncStudio.submit)
    job = _method(AsyncStudio.job)
    wait = _method(AsyncStudio.wait)
    follow = _iterator(AsyncStudio.follow)
    cancel = _method(AsyncStudio.cancel)
    jobs = _iterator(AsyncStudio.jobs)
    pictures = _iterator(AsyncStudio.pictures)
    models = _method(AsyncStudio.models)
    open = _method(AsyncStudio.open)
    download = _method(AsyncStudio.download)
    delete = _method(AsyncStudio.delete)
    share = _method(AsyncStudio.share)
    unshare = _method(AsyncStudio.unshare)


def _address(url: str | None, key: str | None) -> tuple[str, dict[str, str]]:
    """The studio's address, and the headers of every request: see `Studio`."""
    home = Path(os.environ.get("INKWASH_HOME") or Path.home() / ".local/share/inkwash/studio").expanduser()
    try:
        here = json.loads((home / "local.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        here = {"url": "", "key": ""}
    url = (url or here["url"]).partition("?")[0].rstrip("/")
    if not url:
        raise UserError("no studio has run on this machine: start one with `inkwash studio`, or give its address")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is no address of a studio: it begins with http:// or https://")
    key = (key or os.environ.get("INKWASH_KEY") or (here["key"] if url == here["url"] else "")).strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError("the key has characters that no key has; `inkwash studio key` prints one")
    return url, {"user-agent": f"inkwash/{__version__}"} | ({"authorization": f"Bearer {key}"} if key else {})


def _unreachable(url: str, error: httpx.TransportError) -> StudioError:
    reason = str(error) or type(error).__name__
    message = f"no studio answers at {url} ({reason}): start one with `inkwash studio`, or check the address"
    return StudioError(message, code="unreachable")


def _refusal(url: str, answer: httpx.Response) -> StudioError:
    try:
        error = answer.json()["error"]
        return StudioError(str(error["message"]), answer.status_code, error["code"])
    except (ValueError, KeyError, TypeError):
        message = f"{url} answers with status {answer.status_code}, but not as a studio does: check the address"
        return StudioError(message, answer.status_code, "no_studio")


def _seconds(text: str) -> float:
    """What Retry-After says, if that is a number."""
    return float(text) if text.isascii() and text.isdigit() else 0.0


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event `job` of a stream."""
    rest = b""
    async for piece in pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            lines = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
            if lines.get(b"event") == b"job":
                yield lines[b"data"]


def _png(source: Source) -> bytes:
    """A picture to begin from, or a mask, as a PNG: turned as EXIF says, 16 bits as 8. UserError if it is none."""
    picture, file = opened(source), BytesIO()  # type: ignore[arg-type]  # Pillow opens files, too
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.save(file, format="PNG")
    return file.getvalue()


def _decoded(data: bytes) -> Image.Image:
    picture = Image.open(BytesIO(data))
    recipe = picture.info.get(KEY)
    return GeneratedImage(picture, None if recipe is None else json.loads(recipe))


def _known(kind: Callable[..., T], facts: dict[str, Any], **own: Any) -> T:
    """A dataclass from JSON, of which it takes what it knows: a newer studio may say more."""
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: own[name] if name in own else facts[name] for name in names})


def _picture(facts: dict[str, Any]) -> Picture:
    return _known(Picture, facts)


def _job(facts: dict[str, Any]) -> Job:
    progress = facts["progress"]
    if progress is not None:
        preview = progress["preview"] and base64.b64decode(progress["preview"])
        progress = _known(Progress, progress, preview=preview)
    return _known(Job, facts, progress=progress, pictures=tuple(map(_picture, facts["pictures"])))


def _each(make: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda rows: [make(row) for row in rows]


def _path(kind: str, one: Job | Picture | str, more: str = "") -> str:
    """Of a job or a picture, or of one's id."""
    return f"/api/{kind}/{quote(one if isinstance(one, str) else one.id, safe='')}{more}"
