"""A studio from Python: `inkwash.Studio`, and `inkwash.AsyncStudio`, which is the same with `await`.

Every operation is written once, as a coroutine over httpx. For `Studio` httpx's transport blocks, so that nothing is
left to wait for: a coroutine then runs in one go, and needs no event loop.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from functools import wraps
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, Self, TypedDict, TypeVar, Unpack, cast, overload
from urllib.parse import quote
from uuid import uuid4

from PIL import Image

from inkwash.codecs.png import KEY, GeneratedImage, is_svg
from inkwash.errors import UserError, unknown
from inkwash.systems.pictures.data import load_image as load_image
from inkwash.version import __version__
from inkwash.weights.files import atomic
from inkwash.weights.shipped import CHECKPOINTS, ENGINES, shipped

try:
    import anyio
    import httpx
    from pydantic import PrivateAttr, TypeAdapter

    from inkwash.studio import schemas
    from inkwash.studio.schemas import Model, Plan, Status
except ModuleNotFoundError as missing:
    raise UserError(f"a studio is reached by {missing.name}: pip install 'inkwash[studio]'") from None

Transport = httpx.BaseTransport | None
AsyncTransport = httpx.AsyncBaseTransport | None
Source = str | os.PathLike[str] | IO[bytes] | Image.Image
RETRY_STATUSES = (429, 502, 503, 504, 507)  # answers after which the same may be asked again
BACKOFF, MAX_BACKOFF = 0.1, 2.0  # seconds before that, at first and at most: twice as long each time
READ_TIMEOUT = 60.0  # seconds in which something must come; a stream shows a sign of life every 10
LONG_POLL = 30.0  # seconds for which one request waits for the end of a job
SIDE = 2048  # pixels: a studio keeps no more of a picture to begin from
MAX_FILES, MAX_BYTES = 500, 100_000_000  # of files that are sent at once


class StudioError(UserError):
    """Why a studio did not do what was asked, in one line.

    status: of its HTTP answer; None if there was none, or a job failed. code: the studio's word for it, such as
    "not_found" or "quota"; else "unreachable", "no_studio", "failed", "cancelled" or "deleted".
    """

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Result(schemas.Result):
    """What a verb has made. place: in its job, from 0; row: its line of a table; recipe: what made it; model: the
    name of a trained one; created: seconds since 1970."""

    _studio: Studio | None = PrivateAttr(None)

    def model_post_init(self, studio: Any) -> None:
        self._studio = studio

    def image(self) -> Image.Image:
        """The picture itself, its recipe in `info["inkwash"]`. With AsyncStudio: `await studio.open(result)`."""
        return self._blocking().open(self)

    def save(self, folder: str | os.PathLike[str] = ".") -> list[Path]:
        """Writes the files; where they are. With AsyncStudio: `await studio.download(result, folder)`."""
        return self._blocking().download(self, folder)

    def _blocking(self) -> Studio:
        if self._studio is None:
            raise UserError("this result came of an AsyncStudio: await its open(result), or download(result, folder)")
        return self._studio


class Job(schemas.Job):
    """A job as it was when the studio was asked. queue_position: jobs before it; times: seconds since 1970."""

    results: tuple[Result, ...]

    @property
    def ended(self) -> bool:
        return self.status in ("done", "failed", "cancelled")


class Options(TypedDict, total=False):
    """What may be asked for beside the prompt, meant as in `generate` of a model. image, mask, like: a path, an open
    file or a PIL picture."""

    model: str
    style: str | None
    seed: int | None
    negative: str
    sampler: str | None
    steps: int | None
    grid: str | None
    guidance: float | None
    size: int | None
    width: int | None
    height: int | None
    rescale: float
    clip_skip: int
    transparent: bool
    image: Source | None
    strength: float | None
    mask: Source | None
    image_guidance: float | None
    outpaint: float | None
    like: Source | None
    weight: float | None
    colors: str | None
    progress: ProgressCallback
    preview: PreviewCallback
    previews: int


ProgressCallback = Callable[[int, int], None] | None  # is called with (steps done, steps in all)
PreviewCallback = Callable[[Image.Image], None] | None  # is called with what a result looks like so far
P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", Job, Result)


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
        self.timeout, self._has_answered = timeout, False
        self._blocking: Studio | None = None
        self._systems: dict[str, str] = {}  # of names of models that others than pictures draw by
        self._fields: dict[tuple[str, str], dict[str, schemas.VerbField]] = {}  # of each verb, by name
        timeouts = httpx.Timeout(READ_TIMEOUT, connect=10.0, pool=None)
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=timeouts, transport=transport)

    async def aclose(self) -> None:
        """Closes the connections; jobs go on."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @overload
    async def generate(self, prompt: str = "", *, n: None = None, **options: Unpack[Options]) -> Image.Image: ...

    @overload
    async def generate(self, prompt: str = "", *, n: int, **options: Unpack[Options]) -> list[Image.Image]: ...

    async def generate(
        self, prompt: str = "", *, n: int | None = None, **options: Unpack[Options]
    ) -> Image.Image | list[Image.Image]:
        """A picture from words, or a list of them when `n` is given: as `generate` of the model.

        It waits as long as the queue takes. StudioError for what cannot be asked for, and for a job that fails.
        """
        request_options: dict[str, Any] = dict(options)
        watch: dict[str, Any] = {name: request_options.pop(name, None) for name in ("progress", "preview")}
        previews = request_options.pop("previews", 3) if watch["preview"] else 0
        request: dict[str, Any] = {"prompt": prompt, "n": 1 if n is None else n}
        request |= {name: value for name, value in request_options.items() if value is not None}
        system = await self._system_of(request.get("model"))
        if request.get("format", "png") != "png":
            raise UserError(
                f"format = {request['format']}: take run('{system}', 'generate', ...), and save its results"
            )
        for name in {"image", "mask", "like"} & set(request):
            (request[name],) = await self._upload([_encode(name, request[name], svg=name == "like")])
        job = await self._queue(system, "generate", request, previews)
        results = await self._results(job, **watch)
        if len(results) < (n or 1):
            raise StudioError("a picture of the job was deleted before it was fetched", code="deleted")
        pictures = [await self.open(result) for result in results]
        return pictures[0] if n is None else pictures

    async def _system_of(self, model: str | None) -> str:
        """Which makes pictures by this model."""
        if isinstance(model, str) and model not in self._systems and model not in shipped():  # else it is a path
            found = [one for one in await self.models() if one.system in (CHECKPOINTS, ENGINES)]
            self._systems = {name: one.system for one in found for name in (one.name, *one.aliases)}
        return self._systems.get(str(model), "pictures")

    async def run(
        self,
        system: str,
        verb: str,
        /,
        *,
        progress: ProgressCallback = None,
        preview: PreviewCallback = None,
        **request: Any,
    ) -> list[Result]:
        """What a verb makes of a request: `run("series", "forecast", data="sales.csv", horizon=12)`.

        Its fields are those of `inkwash SYSTEM VERB --help`. A file may be a path, an open file, bytes or a PIL
        picture; a folder a path to one, or to a zip. It waits as long as the queue takes. StudioError for what cannot
        be asked for, and for a job that fails.
        """
        job = await self._start(system, verb, request, 3 if preview else 0)
        return list(await self._results(job, progress, preview))

    async def start(self, system: str, verb: str, /, **request: Any) -> Job:
        """Puts a job in the queue, as `run` does, and does not wait. Once this has returned, it will be done,
        whatever happens to the studio."""
        return await self._start(system, verb, request, 3)

    async def plan(self, system: str, verb: str, /, **request: Any) -> Plan:
        """What a request would take, before it is started."""
        body = await self._upload_files(system, verb, request)
        path = f"/api/plans/{_quote(system)}/{_quote(verb)}"
        return await self._request(Plan, "POST", path, **_json(body))

    async def _start(self, system: str, verb: str, request: dict[str, Any], previews: int) -> Job:
        return await self._queue(system, verb, await self._upload_files(system, verb, request), previews)

    async def _queue(self, system: str, verb: str, request: dict[str, Any], previews: int) -> Job:
        path = f"/api/jobs/{_quote(system)}/{_quote(verb)}"
        how = _json(request)
        how["headers"]["idempotency-key"] = uuid4().hex
        return await self._request(Job, "POST", path, params={"previews": previews}, **how)

    async def _results(self, job: Job, progress: ProgressCallback, preview: PreviewCallback) -> tuple[Result, ...]:
        """Those of the job when it is done; the two are called on the way."""
        job = await (self._report(job, progress, preview) if progress or preview else self.wait(job))
        if job.status != "done":
            raise StudioError(job.error or f"the job was {job.status}", code=job.status)
        return job.results

    async def _report(self, job: Job, progress: ProgressCallback, preview: PreviewCallback) -> Job:
        """The job when it has ended; the two are called on the way."""
        n, steps, shown = int(job.request.get("n") or 1), 0, None
        async with aclosing(self.follow(job)) as states:
            async for job in states:
                now = job.progress
                if progress and now and now.total:
                    steps = now.total
                    progress(now.place * steps + now.done, max(n, now.place + 1) * steps)
                if preview and now and now.preview and now.preview != shown:
                    shown = now.preview
                    preview(_decode(shown))
        if progress and steps and job.status == "done":
            progress(n * steps, n * steps)
        return job

    async def _upload_files(self, system: str, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """The request as JSON, its files sent before."""
        if (system, verb) not in self._fields:
            cards = await self._request(list[schemas.SystemCard], "GET", "/api/systems")
            verbs = [((card.name, verb.name), verb) for card in cards for verb in card.verbs]
            self._fields = {names: {field.name: field for field in verb.fields} for names, verb in verbs}
        fields = self._fields.get((system, verb))
        if fields is None:
            raise unknown("verb", f"{system} {verb}", [" ".join(names) for names in self._fields])
        body = {}
        for name, value in request.items():
            field = fields.get(name)
            if field is None or value is None or field.kind not in ("file", "folder"):
                body[name] = value
            elif field.kind == "folder":
                body[name] = await self._send_folder(value, name)
            else:
                values = value if field.many and isinstance(value, list | tuple) else [value]
                sent = await self._upload([_load_file(one, field.media, name) for one in values])
                body[name] = sent if field.many else sent[0]
        return body

    async def _send_folder(self, value: Any, param: str) -> Any:
        if not isinstance(value, str | os.PathLike):
            return (await self._upload([_load_file(value, "", param)]))[0]
        path = Path(value)
        if path.is_dir():
            inner = sorted(one for one in path.rglob("*") if one.is_file())
            if not inner:
                raise UserError(f"{path}: an empty folder")
            sent: list[dict[str, str]] = []
            for names in _batches(inner):
                sent += await self._upload([(one.relative_to(path).as_posix(), one.read_bytes()) for one in names])
            return sent
        file = _load_file(path, "", param)
        is_zip = path.suffix.lower() == ".zip"
        sent = await self._upload([file], unpack=is_zip)
        return sent if is_zip else sent[0]

    async def _upload(self, files: list[tuple[str, bytes]], unpack: bool = False) -> list[dict[str, str]]:
        """What a request says of them."""
        form = [("files", file) for file in files]
        query = {"unpack": unpack}
        sent = await self._request(list[schemas.Upload], "POST", "/api/uploads", files=form, params=query)
        names = [file.name for file in sent] if unpack else [name for name, _ in files]
        return [{"sha256": file.sha256, "name": name} for file, name in zip(sent, names, strict=True)]

    async def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return await self._request(Job, "GET", _path("jobs", job))

    async def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """The job when it has ended, done or not. TimeoutError after so many seconds; the job goes on then."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            remaining = max(0.0, end - time.monotonic())
            query, retry_for = {"wait": min(remaining, LONG_POLL)}, min(remaining, self.timeout)
            now = await self._request(Job, "GET", _path("jobs", job), retry_for=retry_for, params=query)
            if now.ended:
                return now
            if time.monotonic() >= end:
                raise TimeoutError(f"the job {now.id} is {now.status} after {timeout:g} s; it goes on")
            await self._sleep(BACKOFF)  # a studio that is being stopped answers at once

    async def follow(self, job: Job | str) -> AsyncGenerator[Job, None]:
        """The job each time that something of it has changed, until it has ended. A stream that is cut off is opened
        again: states between may be left out, the last one never is."""
        last: Job | None = None
        while last is None or not last.ended:
            if last is not None:
                await self._sleep(BACKOFF)
            answer = await self._send("GET", _path("jobs", job, "/events"), stream=True)
            try:
                async for data in _events(answer.aiter_bytes()):
                    now = self._parse(Job, data)
                    if now != last:
                        yield now
                    last = now
            except httpx.TransportError:
                pass  # cut off
            finally:
                await answer.aclose()

    async def cancel(self, job: Job | str) -> Job:
        """Ends a job. What is made of it stays; one that has ended is left as it is."""
        return await self._request(Job, "POST", _path("jobs", job, "/cancel"))

    async def delete_job(self, job: Job | str) -> None:
        """Deletes a job that has ended, with its words. Its results stay until they are deleted."""
        await self._send("DELETE", _path("jobs", job))

    async def pause(self, job: Job | str) -> Job:
        """Lets a training rest, from its next checkpoint on."""
        return await self._request(Job, "POST", _path("jobs", job, "/pause"))

    async def resume(self, job: Job | str) -> Job:
        """Lets a training go on that was paused, or failed."""
        return await self._request(Job, "POST", _path("jobs", job, "/resume"))

    async def stop(self, job: Job | str) -> Job:
        """Ends a training at its next checkpoint; its model is the result."""
        return await self._request(Job, "POST", _path("jobs", job, "/stop"))

    def jobs(self, *status: Status, page: int = 50) -> AsyncGenerator[Job, None]:
        """One's jobs, newest first; only those of a status, if any is given. page: how many are fetched at once."""
        return self._pages(list[Job], "/api/jobs", {"status": status, "limit": page})

    def results(self, words: str = "", *, system: str | None = None, page: int = 50) -> AsyncGenerator[Result, None]:
        """One's results, newest first, whose titles have all these words. page: how many are fetched at once."""
        only = {} if system is None else {"system": system}
        return self._pages(list[Result], "/api/results", {"words": words, "limit": page, **only})

    async def _pages(self, kind: type[list[Item]], path: str, query: dict[str, Any]) -> AsyncGenerator[Item, None]:
        rows = await self._request(kind, "GET", path, params=query)
        while rows:
            for row in rows[:-1]:
                yield row
            last, more = rows[-1], len(rows) == query["limit"]
            rows = await self._request(kind, "GET", path, params={**query, "before": last.id}) if more else []
            yield last  # only now: who gets it may delete it, and a studio lists nothing before what is not there

    async def models(self) -> list[Model]:
        """The studio's models, and one's own."""
        return await self._request(list[Model], "GET", "/api/models")

    async def delete_model(self, name: str) -> None:
        """Deletes a model of one's own."""
        await self._send("DELETE", f"/api/models/{_quote(name)}")

    async def read(self, result: Result | str, index: int = 0) -> bytes:
        """The content of one of the result's files."""
        return (await self._send("GET", _path("results", result, f"/files/{index}"))).content

    async def open(self, result: Result | str) -> Image.Image:
        """The result's first file as a picture, its recipe in `info["inkwash"]`."""
        data = await self.read(result)
        if is_svg(data):
            raise UserError("the result is an SVG, which has no pixels: download it, or read(result)")
        with self._checking():
            return _decode(data)

    async def download(self, result: Result, folder: str | os.PathLike[str] = ".") -> list[Path]:
        """Writes the result's files into a folder, each whole or not at all, over none; where they are. UserError if
        one cannot be written."""
        paths = []
        for index, file in enumerate(result.files):
            data, path = await self.read(result, index), Path(folder) / (Path(file.name).name or f"{index}")
            path = next(one for one in _numbered(path) if not one.exists())
            try:
                with atomic(path) as temporary:
                    temporary.write_bytes(data)
            except OSError as error:
                raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place") from None
            paths.append(path)
        return paths

    async def delete(self, result: Result | str) -> None:
        """Deletes a result from the studio, with its files and its recipe."""
        await self._send("DELETE", _path("results", result))

    async def share(self, result: Result | str, recipe: bool = False) -> str:
        """An address at which anyone may see the first file, with its recipe or, if it is a PNG, without. An earlier
        one ends."""
        share = await self._request(
            schemas.Share, "PUT", _path("results", result, "/share"), **_json({"recipe": recipe})
        )
        return self.url + share.url

    async def unshare(self, result: Result | str) -> None:
        """From now on nobody else sees it."""
        await self._send("DELETE", _path("results", result, "/share"))

    async def _request(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        """The answer's JSON, as such an object."""
        return self._parse(kind, (await self._send(method, path, **options)).content)

    def _parse(self, kind: type[T], data: bytes) -> T:
        with self._checking():
            return TypeAdapter(kind).validate_json(data, context=self._blocking)

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """StudioError for an answer that is not a studio's."""
        try:
            yield
        except (ValueError, OSError) as error:
            message = f"{self.url} does not answer as a studio does: check the address"
            raise StudioError(message, code="no_studio") from error

    async def _send(
        self, method: str, path: str, *, stream: bool = False, retry_for: float | None = None, **options: Any
    ) -> httpx.Response:
        """The answer. All requests may be made again, and are where none comes or the studio is busy, for `retry_for`
        seconds (None: the timeout) from the first failure on; but who was never there is not waited for."""
        end, pause, is_repeated = float("inf"), BACKOFF, False
        while True:
            try:
                request = self._build(method, path, options)  # a file may lie elsewhere
                answer = await self._http.send(request, stream=stream, follow_redirects=method == "GET")
                if not answer.is_success:
                    await answer.aread()
            except httpx.TransportError as error:
                problem, is_repeated, wait = _unreachable(self.url, error), True, pause
                final = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not self._has_answered
            else:
                self._has_answered = True
                if answer.is_success or (is_repeated and method == "DELETE" and answer.status_code == 404):
                    return answer
                problem = _refusal(self.url, answer)
                wait = max(pause, _seconds(answer.headers.get("retry-after", "")))
                final = answer.status_code not in RETRY_STATUSES
            now = time.monotonic()
            end = min(end, now + (self.timeout if retry_for is None else retry_for))
            if final or now + wait > end:
                raise problem
            await self._sleep(wait)
            pause = min(2 * pause, MAX_BACKOFF)

    def _build(self, method: str, path: str, options: dict[str, Any]) -> httpx.Request:
        try:
            return self._http.build_request(method, path, **options)
        except (UnicodeError, httpx.InvalidURL) as error:  # half a character, in the name of a file, say
            raise UserError(f"it cannot be sent to a studio: {error}") from None

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
        self._studio._blocking, self.url = self, self._studio.url

    def close(self) -> None:
        """Closes the connections; jobs go on."""
        _run(self._studio.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    generate = _method(AsyncStudio.generate)
    run = _method(AsyncStudio.run)
    start = _method(AsyncStudio.start)
    plan = _method(AsyncStudio.plan)
    job = _method(AsyncStudio.job)
    wait = _method(AsyncStudio.wait)
    follow = _iterator(AsyncStudio.follow)
    cancel = _method(AsyncStudio.cancel)
    delete_job = _method(AsyncStudio.delete_job)
    pause = _method(AsyncStudio.pause)
    resume = _method(AsyncStudio.resume)
    stop = _method(AsyncStudio.stop)
    jobs = _iterator(AsyncStudio.jobs)
    results = _iterator(AsyncStudio.results)
    models = _method(AsyncStudio.models)
    delete_model = _method(AsyncStudio.delete_model)
    read = _method(AsyncStudio.read)
    open = _method(AsyncStudio.open)
    download = _method(AsyncStudio.download)
    delete = _method(AsyncStudio.delete)
    share = _method(AsyncStudio.share)
    unshare = _method(AsyncStudio.unshare)


def _address(url: str | None, key: str | None) -> tuple[str, dict[str, str]]:
    """The studio's address, and the headers of every request: see `Studio`."""
    home = Path(os.environ.get("INKWASH_HOME") or Path.home() / ".local/share/inkwash/studio").expanduser()
    try:
        local = json.loads((home / "local.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        local = {"url": "", "key": ""}
    url = (url or local["url"]).partition("?")[0].rstrip("/")
    if not url:
        raise UserError("no studio has run on this machine: start one with `inkwash studio`, or give its address")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is no address of a studio: it begins with http:// or https://")
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"'{url}' is no address of a studio: {error}") from None
    key = (key or os.environ.get("INKWASH_KEY") or (local["key"] if url == local["url"] else "")).strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError("the key has characters that no key has; `inkwash studio key` prints one")
    return url, {"user-agent": f"inkwash/{__version__}"} | ({"authorization": f"Bearer {key}"} if key else {})


def _json(body: dict[str, Any]) -> dict[str, Any]:
    """A body for httpx; paths are sent as texts. UserError that names what JSON cannot hold."""
    for name, value in body.items():
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False, default=os.fspath).encode()
        except (TypeError, ValueError, RecursionError):
            message = f"{name} = {str(value)[:60]!r}: a text, a number, yes or no, or a list of these is needed"
            raise UserError(message) from None
    return {"content": json.dumps(body, default=os.fspath), "headers": {"content-type": "application/json"}}


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


def _encode_png(source: Source) -> bytes:
    """A picture to begin from, or a mask, as a PNG: turned as EXIF says, 16 bits as 8. UserError if it is none."""
    picture, file = load_image(source), BytesIO()  # type: ignore[arg-type]  # Pillow opens files, too
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.save(file, format="PNG")
    return file.getvalue()


def _encode(stem: str, source: Any, svg: bool) -> tuple[str, bytes]:
    """The name and the content of a picture to send: an SVG as it is, where one is taken, others as `_encode_png`
    makes them."""
    if not isinstance(source, Image.Image):
        try:
            data = _content(source)
        except OSError as error:
            why = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise UserError(f"{source}: {why}") from None
        if svg and is_svg(data):
            return f"{stem}.svg", data
        source = source if isinstance(source, str | os.PathLike) else BytesIO(data)
    return f"{stem}.png", _encode_png(source)


def _content(source: Any) -> bytes:
    """Of a path, an open file, or bytes."""
    if isinstance(source, bytes):
        return source
    data: bytes = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else source.read()
    return data


def _decode(data: bytes) -> Image.Image:
    picture = Image.open(BytesIO(data))
    recipe = picture.info.get(KEY)
    return GeneratedImage(picture, None if recipe is None else json.loads(recipe))


def _load_file(source: Any, media: str, param: str) -> tuple[str, bytes]:
    """The name and the content of a file to send; of a picture as `_encode_png` makes it."""
    is_path = isinstance(source, str | os.PathLike)
    name = Path(source).name if is_path else Path(str(getattr(source, "name", param))).name
    if media.startswith("image/") or isinstance(source, Image.Image):
        return _encode(Path(name).stem, source, "svg" in media)
    try:
        data = _content(source)
    except OSError as error:
        raise UserError(f"{source}: {error.strerror} ({param})") from None
    except AttributeError:
        raise UserError(f"{param}: a path, bytes or an open file is needed, not {type(source).__name__}") from None
    return name, data


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    """So many at once as are sent in one request."""
    batch: list[Path] = []
    size = 0
    for path in paths:
        more = path.stat().st_size
        if batch and (len(batch) == MAX_FILES or size + more > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch, size = [*batch, path], size + more
    yield batch


def _numbered(path: Path) -> Iterator[Path]:
    """path, path-2, path-3, ..."""
    yield path
    for i in count(2):
        yield path.with_name(f"{path.stem}-{i}{path.suffix}")


def _path(kind: str, one: Job | Result | str, more: str = "") -> str:
    """Of a job or a result, or of one's id."""
    return f"/api/{kind}/{_quote(one if isinstance(one, str) else one.id)}{more}"


def _quote(text: str) -> str:
    """As a part of a path; half a character becomes a question mark, of which there is nothing."""
    return quote(text, safe="", errors="replace")
