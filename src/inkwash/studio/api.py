"""The studio's own API: systems, models, jobs, events, results and uploads; verbs.py has the routes that ask."""

import json
import re
from contextlib import ExitStack
from io import BytesIO
from itertools import chain
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, File, Header, Path, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inkwash.codecs.png import embedded_recipe, is_svg
from inkwash.studio import accounts, library, requests, uploads
from inkwash.studio.auth import CurrentEngine, CurrentUser
from inkwash.studio.buckets import Bucket
from inkwash.studio.engine import Engine
from inkwash.studio.errors import APIError, invalid, no_such
from inkwash.studio.files import SVG, WITH_RECIPE, suffix_of
from inkwash.studio.library import NewFile
from inkwash.studio.schemas import Api, Job, Model, Result, Share, Status, SystemCard, Upload
from inkwash.studio.streams import check_waits, job_stream, stream_response, user_stream, wait_for_job
from inkwash.studio.views import job_of, result_of
from inkwash.systems import systems
from inkwash.systems.base import options, resolve
from inkwash.systems.checkpoints.settings import settings_of
from inkwash.systems.pictures.distance_fields import MAX_SVG
from inkwash.weights.shipped import CHECKPOINTS

router = APIRouter(prefix="/api", tags=["studio"])
public = APIRouter(tags=["studio"])
Id = Annotated[str, Path(max_length=100)]
Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[str | None, Query(max_length=100)]
Kind = Annotated[str | None, Query(max_length=100)]
MAX_RECIPE = 20_000  # bytes
TEXTS = (".cif", ".extxyz", ".xyz", ".pdb", ".json")  # that may have one
MAX_WAIT = 60.0  # seconds for which `wait` may ask


class NewShare(BaseModel):
    model_config = ConfigDict(extra="forbid")
    recipe: bool = Field(False, description="Whether the words and settings go with it.")


class Recipe(BaseModel):
    system: str
    verb: str
    request: dict[str, Any] = Field(description="What can be sent again; files only that are still there.")
    recipe: dict[str, Any]


# what there is


@router.get("/systems")
def list_systems(user: CurrentUser) -> list[SystemCard]:
    """The systems, their verbs, and what can be asked of each."""
    return [requests.system_card(system) for system in systems().values()]


@router.get("/models")
def models(user: CurrentUser, engine: CurrentEngine) -> list[Model]:
    """The models that one may name: those of the studio, and one's own."""
    return engine.catalogue.models(user.id)


@router.delete("/models/{name}", status_code=204)
def delete_model(name: Id, user: CurrentUser, engine: CurrentEngine) -> None:
    """Deletes a model of one's own."""
    if not engine.store.delete_model(name, user.id):
        raise no_such("model of yours")


# jobs


@router.get("/jobs")
def list_jobs(
    user: CurrentUser,
    engine: CurrentEngine,
    status: Annotated[list[Status] | None, Query()] = None,
    system: Kind = None,
    verb: Kind = None,
    api: Annotated[list[Api] | None, Query()] = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Job]:
    """One's newest jobs; `before` one of them: those that are older."""
    only: dict[str, Any] = {"status": status or (), "system": system, "verb": verb, "api": api or ()}
    rows = engine.store.jobs(user.id, **only, before=before, limit=limit)
    return [job_of(engine, row) for row in rows]


@router.get("/jobs/{id}")
async def job(
    id: Id,
    user: CurrentUser,
    engine: CurrentEngine,
    request: Request,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for its end.")] = 0,
) -> Job:
    """A job, as it is now or when it has ended."""
    row = await to_thread.run_sync(engine.store.job, id, user.id)
    if row is None:
        raise no_such("job")
    if wait:
        check_waits(user, request)
        row = await wait_for_job(engine, user, id, wait, request)
    return await to_thread.run_sync(job_of, engine, row)


@router.post("/jobs/{id}/cancel")
def cancel(id: Id, user: CurrentUser, engine: CurrentEngine) -> Job:
    """Ends a job of one's own. What is made of it stays; one that has ended is left as it is."""
    engine.change(user, id, engine.store.cancel)
    return get_job(id, user, engine)


@router.delete("/jobs/{id}", status_code=204)
def delete_job(id: Id, user: CurrentUser, engine: CurrentEngine) -> None:
    """Deletes a job of one's own that has ended, and its words. Its results stay until they are deleted."""
    if not engine.store.delete_job(id, user.id):
        message = f"delete: the job is {get_job(id, user, engine).status}, and may go on; cancel it first"
        raise APIError(409, message, "not_possible")


@router.post("/jobs/{id}/pause")
def pause(id: Id, user: CurrentUser, engine: CurrentEngine) -> Job:
    """Lets a training rest, from its next checkpoint on, until it is resumed."""
    return change_status(id, user, engine, "pause")


@router.post("/jobs/{id}/resume")
def resume(id: Id, user: CurrentUser, engine: CurrentEngine) -> Job:
    """Lets a training go on that was paused, or failed, from its last checkpoint."""
    return change_status(id, user, engine, "resume")


@router.post("/jobs/{id}/stop")
def stop(id: Id, user: CurrentUser, engine: CurrentEngine) -> Job:
    """Ends a training at its next checkpoint, and keeps its model as it is then."""
    return change_status(id, user, engine, "stop")


def change_status(id: str, user: accounts.User, engine: Engine, how: str) -> Job:
    changed = engine.change(user, id, getattr(engine.store, how))
    found = get_job(id, user, engine)
    if not changed:
        kind = systems()[found.system].verbs[found.verb] if found.system in systems() else None
        why = f"the job is {found.status}" if kind is None or kind.lasting else f"{found.verb} knows no {how}"
        raise APIError(409, f"{how}: {why}", "not_possible")
    return found


def get_job(id: str, user: accounts.User, engine: Engine) -> Job:
    row = engine.store.job(id, user.id)
    if row is None:
        raise no_such("job")
    return job_of(engine, row)


STREAM: dict[int | str, Any] = {200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}}


@router.get("/jobs/{id}/events", responses=STREAM, response_class=StreamingResponse)
async def job_events(id: Id, user: CurrentUser, engine: CurrentEngine, request: Request) -> StreamingResponse:
    """What becomes of a job, until it has ended: an event `job` each time, which holds all that `GET /api/jobs/ID`
    answers. Who was cut off asks again and has missed nothing."""
    if await to_thread.run_sync(engine.store.job, id, user.id) is None:
        raise no_such("job")
    return stream_response(engine, user, job_stream(engine, id, request), request)


@router.get("/events", responses=STREAM, response_class=StreamingResponse)
async def events(
    user: CurrentUser, engine: CurrentEngine, request: Request, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """What becomes of all one's jobs, as of one by `/api/jobs/ID/events`. It begins with those that are open, and
    those that have changed since `Last-Event-ID`, which a browser sends by itself."""
    known = re.fullmatch("[0-9]{1,18}", last_event_id or "")
    since = int(known[0]) if known else await to_thread.run_sync(engine.store.version) + 1
    return stream_response(engine, user, user_stream(engine, user, since, request), request)


# results

BYTES: dict[int | str, Any] = {200: {"content": {"application/octet-stream": {}}, "description": "The file."}}
WEBP: dict[int | str, Any] = {200: {"content": {"image/webp": {}}, "description": "A WebP."}}
INLINE = ("image/png", "image/jpeg", "image/webp", "image/gif", "audio/", "video/", "text/plain")  # by a browser
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}


class WebP(Response):
    media_type = "image/webp"


@router.get("/results")
def list_results(
    user: CurrentUser,
    engine: CurrentEngine,
    words: Annotated[str, Query(max_length=200, description="All of which the title contains.")] = "",
    system: Kind = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Result]:
    """One's newest results; `before` one of them: those that are older."""
    found = engine.store.results(user.id, words=words, system=system, before=before, limit=limit)
    return list(map(result_of, found))


@router.get("/results/{id}")
def result(id: Id, user: CurrentUser, engine: CurrentEngine) -> Result:
    """A result's facts and recipe."""
    return result_of(get_result(id, user, engine))


def get_result(id: str, user: accounts.User, engine: Engine) -> library.Result:
    found = engine.store.result(id, user.id)
    if found is None:
        raise no_such("result")
    return found


@router.get("/results/{id}/files/{index}", responses=BYTES, response_class=FileResponse)
def file(
    id: Id,
    index: Annotated[int, Path(ge=0, le=10**6)],
    request: Request,
    user: CurrentUser,
    engine: CurrentEngine,
    recipe: Annotated[
        bool, Query(description="Whether the words and settings are in it; false for pictures alone.")
    ] = True,
) -> Response:
    """A file of the result, as a download."""
    files = get_result(id, user, engine).files
    if index >= len(files):
        raise no_such("file")
    check_recipe_goes(files[index], recipe)
    return file_response(engine, request, files[index], recipe, IMMUTABLE)


def check_recipe_goes(found: Any, recipe: bool) -> None:
    """APIError where a file without its recipe is wanted, and it is of a kind that nobody here can take it out of."""
    if not recipe and found.media not in WITH_RECIPE:
        raise invalid(
            f"recipe: only a picture can go without it, not a {found.suffix or 'file'}; say recipe=true", "recipe"
        )


def file_response(
    engine: Engine, request: Request, found: Any, recipe: bool, headers: dict[str, str], kind: str = "attachment"
) -> Response:
    """A file in which a browser runs nothing. Without the recipe its name, which has words of it, goes too."""
    name = found.name if recipe else f"{found.media.partition('/')[0]}{found.suffix}"
    ascii_name = name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    disposition = f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name)}"
    headers = headers | {"content-disposition": disposition}
    if found.media == SVG:  # a document of its own, where it is opened
        headers |= {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    if not recipe and found.media in WITH_RECIPE:
        return Response(engine.store.read(found, recipe), media_type=found.media, headers=headers)
    if engine.store.bucket is not None:
        return bucket_response(engine, engine.store.bucket, request, found, headers)
    path = engine.store.files.path(found.sha256, found.suffix)
    if not path.exists():  # it was just deleted
        raise no_such("file")
    return FileResponse(path, media_type=found.media, headers=headers)


def bucket_response(
    engine: Engine, bucket: Bucket, request: Request, found: Any, headers: dict[str, str]
) -> Response:
    """A file from the bucket. Programs, and browsers that save or show it, are sent there if it is known where they
    reach it; but not the page, which shows what comes from here alone, nor who opens an SVG, which may run something
    anywhere else."""
    asked, endpoint = (found.sha256, found.suffix), engine.settings.downloads
    is_page = request.headers.get("sec-fetch-mode", "navigate") != "navigate"
    if endpoint and not is_page and found.media != SVG:
        address = bucket.address(endpoint, *asked, found.media, headers["content-disposition"])
        return RedirectResponse(address, 307, headers={"cache-control": "no-store"})
    try:
        blocks = bucket.blocks(*asked, found.bytes)
        first = next(blocks, b"")
    except FileNotFoundError:  # it was just deleted
        raise no_such("file") from None
    headers |= {"content-length": str(found.bytes)}
    return StreamingResponse(chain([first], blocks), media_type=found.media, headers=headers)


@router.get("/results/{id}/thumbnail", responses=WEBP, response_class=WebP)
def thumbnail(id: Id, user: CurrentUser, engine: CurrentEngine) -> Response:
    """The result's picture, small."""
    return WebP(engine.store.thumbnail(get_result(id, user, engine)), headers=IMMUTABLE)


@router.delete("/results/{id}", status_code=204)
def delete_result(id: Id, user: CurrentUser, engine: CurrentEngine) -> None:
    """Deletes a result, its files and its recipe. A model that it brought stays."""
    found = get_result(id, user, engine)
    if not engine.store.delete(id, user.id):
        raise no_such("result")
    engine.notify(found.job_id, user.id)


@router.put("/results/{id}/share")
def share(id: Id, form: NewShare, user: CurrentUser, engine: CurrentEngine) -> Share:
    """An address at which anyone may see the first file; one that it had before leads nowhere any more. Without the
    words and settings goes a picture alone."""
    if files := get_result(id, user, engine).files:
        check_recipe_goes(files[0], form.recipe)
    token = engine.store.share(id, user.id, recipe=form.recipe)
    if token is None:
        raise no_such("result with a file")
    return Share(url=f"/shared/{token}", recipe=form.recipe)


@router.get("/results/{id}/share")
def share_of(id: Id, user: CurrentUser, engine: CurrentEngine) -> Share | None:
    """At which address anyone may see the first file; null if at none."""
    get_result(id, user, engine)
    row = engine.store.share_of(id, user.id)
    return None if row is None else Share(url=f"/shared/{row.token}", recipe=row.recipe)


@router.delete("/results/{id}/share", status_code=204)
def unshare(id: Id, user: CurrentUser, engine: CurrentEngine) -> None:
    """From now on nobody else sees it."""
    if not engine.store.unshare(id, user.id):
        raise no_such("share")


@public.get("/shared/{token}", responses=BYTES, response_class=FileResponse)
def shared(token: Annotated[str, Path(max_length=100)], request: Request, engine: CurrentEngine) -> Response:
    """A file that its owner shows to everyone who has this address."""
    found = engine.store.shared(token)
    if found is None:
        raise no_such("file")
    kind = "inline" if found[0].media.startswith(INLINE) else "attachment"
    return file_response(engine, request, *found, {"cross-origin-resource-policy": "cross-origin"}, kind)


# uploads


@router.post("/uploads", status_code=201)
def upload(
    files: Annotated[list[UploadFile], File(description="One or many.")],
    user: CurrentUser,
    engine: CurrentEngine,
    unpack: Annotated[bool, Query(description="A zip becomes the files in it.")] = False,
) -> list[Upload]:
    """Files for a request, which names them by their SHA-256. They are kept for an hour, and while a job needs them.
    Of a picture to begin from only the pixels are used."""
    with ExitStack() as stack:
        found: list[NewFile] = []
        budget = uploads.Budget(engine.store.disk_left(user.id))
        for one in files:
            inner = [(relative_path(one.filename or ""), uploads.BoundedReader(one.file, "files", budget))]
            if unpack and suffix_of(one.filename or "") == ".zip":
                inner = uploads.unzip(one.file, str(one.filename), budget)  # type: ignore[assignment]
            for name, content in inner:
                requests.check_name(name, "files")
                engine.store.check_disk()
                staged = engine.store.files.stage(content, suffix_of(name))  # type: ignore[arg-type]
                found.append(NewFile(stack.enter_context(staged), name))
        engine.store.add_uploads(user.id, found)
        return [
            Upload(sha256=content.sha256, name=name, media=content.media, bytes=content.bytes)
            for content, name in found
        ]


def relative_path(name: str) -> str:
    """What a browser calls a file, as a path within a folder."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part.strip(" .")) or "file"


@router.post("/recipe")
def recipe(file: Annotated[UploadFile, File()], user: CurrentUser, engine: CurrentEngine) -> Recipe:
    """The recipe in a file that inkwash made; where there are checkpoints, also in a picture of A1111 or ComfyUI."""
    data = file.file.read(uploads.MAX_BYTES + 1)
    try:
        suffix = suffix_of(file.filename or "")
        found = recipe_in_text(data, suffix) if suffix in TEXTS else recipe_in(data, "file")
    except APIError as error:
        if error.code != "no_recipe" or not engine.catalogue.of_system(CHECKPOINTS, user.id):
            raise
        found = recipe_of_others(data, error)
    system = systems().get(str(found.get("system")))
    verb = system.verbs.get(str(found.get("verb"))) if system else None
    if system is None or verb is None:
        return Recipe(system="", verb="", request={}, recipe=found)
    elsewhere = {
        name for name, value in found.items() if isinstance(value, dict) and set(value) != {"sha256", "name"}
    }
    given = {name: value for name, value in found.items() if value is not None and name not in elsewhere}
    try:
        form = requests.schema(system, str(found["verb"]), verb, partial=True).model_validate(given)
    except ValidationError:
        raise invalid("file: its recipe is not one that this version of inkwash can follow", "file") from None
    request = form.model_dump(mode="json", exclude_unset=True)
    sent = engine.store.uploads_by_sha256(user.id, {file["sha256"] for file in library.files_in(request)})
    request = {
        name: value
        for name, value in request.items()
        if all(file["sha256"] in sent for file in library.files_in(value))
    }
    return Recipe(system=system.name, verb=str(found["verb"]), request=request, recipe=found)


def recipe_in_text(data: bytes, suffix: str) -> dict[str, Any]:
    """What a CIF, a PDB or a table of figures says of itself. APIError where that is nothing a form can hold."""
    with TemporaryDirectory(prefix="inkwash-") as folder:
        path = FilePath(folder) / f"file{suffix}"
        path.write_bytes(data[: uploads.MAX_BYTES])
        for reader in dict.fromkeys(system.recipe_of for system in systems().values() if system.recipe_of):
            try:
                found = resolve(reader)(path)
                recipe = None if found is None else found.recipe
                is_short = len(json.dumps(recipe, ensure_ascii=False, allow_nan=False).encode()) <= MAX_RECIPE
            except Exception:  # as below
                continue
            if recipe and is_short and is_flat(recipe):
                return dict(recipe)
    raise APIError(422, "file: no recipe in it; only files that inkwash wrote have one", "no_recipe", "file")


def recipe_in(data: bytes, param: str) -> dict[str, Any]:
    """APIError for a picture without one."""
    if is_svg(data):
        data = data[:MAX_SVG]
    else:
        uploads.open_image(data, param, (*uploads.FORMATS, "ICO"))
    try:
        recipe = embedded_recipe(data)
        if len(json.dumps(recipe, ensure_ascii=False, allow_nan=False).encode()) > MAX_RECIPE:
            recipe = None
    except Exception:  # a broken file makes its reader stumble in any way
        recipe = None
    if not isinstance(recipe, dict) or not is_flat(recipe):
        raise APIError(
            422, f"{param}: no recipe in it; only a picture that inkwash wrote has one", "no_recipe", param
        )
    return recipe


def recipe_of_others(data: bytes, missing: APIError) -> dict[str, Any]:
    """The settings in another tool's picture as a recipe of checkpoints. Raises `missing` where there are none."""
    try:
        return {"system": CHECKPOINTS, "verb": "generate", **settings_of(BytesIO(data)).options}
    except Exception:  # as above
        raise missing from None


def is_flat(recipe: dict[str, Any]) -> bool:
    """Whether it holds texts, numbers and what a recipe says of a file; lists where its verb has such an option."""
    system = systems().get(str(recipe.get("system")))
    verb = system.verbs.get(str(recipe.get("verb"))) if system else None
    lists = {o.name for o in options(verb.request).values() if o.many or o.media == "folder"} if verb else set()
    for name, value in recipe.items():
        inner = value if name in lists and isinstance(value, list) else [value]
        inner = [x for one in inner for x in (one.values() if isinstance(one, dict) else [one])]
        if any(isinstance(one, list | dict) for one in inner):
            return False
    return True
