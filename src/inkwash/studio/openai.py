"""OpenAI's API: pictures as its clients ask for them. What an answer cannot honour is refused, not passed over."""

import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncGenerator
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.sse import format_sse_event
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from inkwash.codecs.png import XMP
from inkwash.errors import unknown
from inkwash.studio import uploads
from inkwash.studio.accounts import User
from inkwash.studio.auth import CurrentEngine, CurrentUser
from inkwash.studio.database import new_id
from inkwash.studio.engine import Engine
from inkwash.studio.errors import APIError, no_such
from inkwash.studio.library import OPEN, Result
from inkwash.studio.schemas import NOT_BOOL
from inkwash.studio.streams import (
    SaveUpload,
    check_streams,
    check_waits,
    stream_response,
    temporary_uploads,
    wait_for_job,
)
from inkwash.studio.tables import sha256
from inkwash.systems import systems
from inkwash.systems.base import options
from inkwash.systems.checkpoints.options import PIXELS
from inkwash.weights.shipped import CHECKPOINTS, ENGINES

router = APIRouter(prefix="/v1", tags=["OpenAI"])
TIMEOUT = 600.0  # seconds that a request waits for its pictures
RETRY_WINDOW = 30.0  # seconds after a job's end in which a client that saw no answer asks again
URL_LIFE = 3600.0  # seconds that an answer's `url` leads to its picture
VARIATION = 0.5  # how much of a picture changes in a variation
HARD_WIRED = ("dall-e-", "gpt-image-")  # what the names begin with of which clients know no others
SYSTEM, VERB = "pictures", "generate"
SYSTEMS = (SYSTEM, CHECKPOINTS, ENGINES)  # which have that verb
MAX_EACH = 10  # pictures of one request
MAX_SIDE = 1024  # of a square
MAX_CHECKPOINT_SIDE = 2048
MAX_STEPS = 200
MAX_PROMPT = 20_000  # of a prompt, in characters
MAX_NAME = 300  # of a model, in characters
Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS), NOT_BOOL]
Guidance = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False), NOT_BOOL]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NOT_BOOL]

Percent = Annotated[int, Field(ge=0, le=100), NOT_BOOL]


class ImageRequest(BaseModel):
    """What OpenAI's clients send, and beside it this studio's own: seed, steps, guidance, sampler, negative_prompt,
    strength. `style` is one of the model's; OpenAI's vivid and natural, quality, moderation and user mean nothing
    here."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt = ""
    model: str | None = Field(None, max_length=MAX_NAME)
    n: Annotated[int, Field(ge=1, le=MAX_EACH), NOT_BOOL] | None = 1
    size: str | None = Field("auto", max_length=20, description="auto: the model's own; or 256x256, 1792x1024, ...")
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: Percent | None = Field(None, description="100 if left out; for jpeg and webp.")
    background: Literal["auto", "opaque", "transparent"] | None = "auto"
    stream: bool | None = False
    partial_images: Annotated[int, Field(ge=0, le=3), NOT_BOOL] | None = 0
    style: str | None = Field(None, max_length=100)
    quality: str | None = Field(None, max_length=20)
    moderation: str | None = Field(None, max_length=20)
    input_fidelity: str | None = Field(None, max_length=20)
    user: str | None = Field(None, max_length=500)
    safety_identifier: str | None = Field(None, max_length=500)
    seed: Annotated[int, Field(ge=0, lt=2**64), NOT_BOOL] | None = None
    steps: Steps | None = None
    num_inference_steps: Steps | None = None
    guidance: Guidance | None = None
    guidance_scale: Guidance | None = None
    sampler: str | None = Field(None, max_length=100)
    negative_prompt: Prompt = ""
    strength: Fraction | None = None


class Reference(BaseModel):
    """A picture in a JSON body: a data: URL, or an upload of this studio. Other URLs are not fetched."""

    model_config = ConfigDict(extra="forbid")
    image_url: str | None = None
    file_id: str | None = Field(None, max_length=100)


class EditRequest(ImageRequest):
    images: list[Reference] = Field(min_length=1, max_length=16)
    mask: Reference | None = None


class Datum(BaseModel):
    b64_json: str | None = None
    url: str | None = None
    id: str = Field(description="The picture in this studio.")
    seed: int


class Details(BaseModel):
    text_tokens: int = 0
    image_tokens: int = 0


class Usage(BaseModel):
    """Nothing is counted or charged."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: Details = Details()


class Answer(BaseModel):
    created: int
    data: list[Datum]
    background: str
    output_format: str
    size: str
    quality: str = "auto"
    note: str | None = Field(None, description="What was done otherwise than asked for.")
    usage: Usage = Usage()


ModelName = Annotated[str, PathParameter(max_length=MAX_NAME)]


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "inkwash"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


@router.get("/models")
def models(user: CurrentUser, engine: CurrentEngine) -> Models:
    """The models that draw, and their aliases."""
    return Models(data=[ModelCard(id=name) for name in names_of(user, engine)])


def models_of(user: User, engine: Engine) -> dict[str, Path]:
    """The models that draw, and where they lie."""
    return {name: path for system in SYSTEMS for name, path in engine.catalogue.of_system(system, user.id).items()}


def system_of_model(model: str | None, user: User, engine: Engine) -> str:
    """Of a name or an alias; the first where there is no such model, which then says so."""
    name = engine.catalogue.real_name(model or "", user.id)
    return next((one for one in SYSTEMS if name in engine.catalogue.of_system(one, user.id)), SYSTEM)


def names_of(user: User, engine: Engine) -> list[str]:
    found = models_of(user, engine)
    return [
        *found,
        *(name for name, model in engine.catalogue.aliases.items() if model in found and name not in found),
    ]


@router.get("/models/{name:path}")  # of a hub's models it has a slash
def model(name: ModelName, user: CurrentUser, engine: CurrentEngine) -> ModelCard:
    """One model."""
    if name not in (names := names_of(user, engine)):
        raise APIError(404, str(unknown("model", name[:60], names)), "model_not_found", "model")
    return ModelCard(id=name)


STREAMED: dict[int | str, Any] = {
    200: {"content": {"text/event-stream": {}}, "description": "The pictures; with `stream`, server-sent events."}
}


@router.post("/images/generations", response_model=Answer, responses=STREAMED)
async def generations(body: ImageRequest, user: CurrentUser, engine: CurrentEngine, request: Request) -> Any:
    """Pictures from words."""
    return await generate(body, {}, "image_generation", user, engine, request)


IMAGE = ("image", "image[]")  # OpenAI's client sends a list under the second name
FILES = (*IMAGE, "mask")
MULTIPART = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {
                "image": {"type": "string", "format": "binary"},
                "mask": {"type": "string", "format": "binary"},
                **{name: {"type": "string"} for name in ImageRequest.model_fields},
            },
        }
    }
}
JSON_EDIT = {"application/json": {"schema": EditRequest.model_json_schema()}}


@router.post(
    "/images/edits",
    response_model=Answer,
    responses=STREAMED,
    openapi_extra={"requestBody": {"required": True, "content": {**MULTIPART, **JSON_EDIT}}},
)
async def edits(user: CurrentUser, engine: CurrentEngine, request: Request) -> Any:
    """A picture drawn anew by words: all of it, or where the mask is transparent."""
    body, pictures = await read_edit(request, user, engine)
    return await generate(body, pictures, "image_edit", user, engine, request)


@router.post(
    "/images/variations",
    response_model=Answer,
    responses=STREAMED,
    openapi_extra={"requestBody": {"required": True, "content": MULTIPART}},
)
async def variations(user: CurrentUser, engine: CurrentEngine, request: Request) -> Any:
    """Pictures that are like a picture."""
    body, pictures = await read_edit(request, user, engine)
    if "mask" in pictures:
        raise APIError(
            400, "mask: a variation is of the whole picture; take /v1/images/edits", "invalid_value", "mask"
        )
    if await to_thread.run_sync(system_of_model, body.model, user, engine) == ENGINES:
        message = f"model: the engine of {body.model} makes no variations; take /v1/images/edits"
        raise APIError(400, message, "invalid_value", "model")
    body = body.model_copy(update={"strength": VARIATION if body.strength is None else body.strength})
    return await generate(body, pictures, "image_edit", user, engine, request)


async def read_edit(request: Request, user: User, engine: Engine) -> tuple[ImageRequest, dict[str, bytes]]:
    """The fields of a form or of a JSON body, and its picture and mask."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            body, images, masks = await to_thread.run_sync(read_json_edit, await request.body(), user, engine)
        elif kind == "multipart/form-data":
            async with request.form(max_files=20, max_fields=100) as form:
                items = form.multi_items()
                check_form(items)
                images = [await value.read() for key, value in items if key in IMAGE and not isinstance(value, str)]
                masks = [await value.read() for key, value in items if key == "mask" and not isinstance(value, str)]
            fields: dict[str, Any] = {key: value for key, value in items if isinstance(value, str)}
            body = ImageRequest(**fields)
        else:
            raise APIError(415, "send multipart/form-data or application/json", "unsupported_media_type")
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None
    if len(images) != 1:
        raise APIError(400, f"image: {len(images)} pictures; send one", "invalid_value", "image")
    return body, {"image": images[0]} | ({"mask": masks[0]} if masks else {})


def check_form(items: list[tuple[str, UploadFile | str]]) -> None:
    """APIError for a file that is none of an edit's, a text in the place of one, and what is said twice."""
    names = [name for name, _ in items]
    for name, value in items:
        if isinstance(value, str) and name in FILES:
            raise APIError(400, f"{name}: a file is needed", "invalid_value", name)
        if not isinstance(value, str) and name not in FILES:
            raise APIError(400, f"{name}: the files of an edit are image and mask", "invalid_value", name)
        if name not in IMAGE and names.count(name) > 1:
            raise APIError(400, f"{name}: given {names.count(name)} times; send one", "invalid_value", name)


def read_json_edit(data: bytes, user: User, engine: Engine) -> tuple[ImageRequest, list[bytes], list[bytes]]:
    edit = EditRequest.model_validate_json(data)
    images = [fetch(one, user, engine, "images") for one in edit.images]
    masks = [fetch(edit.mask, user, engine, "mask")] if edit.mask else []
    return ImageRequest(**edit.model_dump(exclude={"images", "mask"})), images, masks


def fetch(picture: Reference, user: User, engine: Engine, param: str) -> bytes:
    if picture.image_url is not None and picture.file_id is not None:
        raise APIError(400, f"{param}: give image_url or file_id, not both", "invalid_value", param)
    if picture.image_url is not None:
        return uploads.from_base64(picture.image_url, param)
    row = engine.store.upload_of(picture.file_id or "", user.id)
    if row is None:
        raise APIError(404, f"{param}: there is no such upload", "upload_not_found", param)
    return engine.store.files.read(row.sha256, row.suffix)


def invert_alpha(data: bytes) -> bytes:
    """A mask that is white where the PNG is transparent."""
    picture, file = Image.open(BytesIO(data)), BytesIO()
    if picture.mode != "RGBA":
        message = "mask: a PNG that is transparent where to draw is needed"
        raise APIError(400, message, "invalid_image", "mask")
    picture.getchannel("A").point(lambda alpha: 255 * (alpha == 0)).save(file, format="PNG")
    return file.getvalue()


def values_of(body: ImageRequest, system: str) -> dict[str, Any]:
    """What the verb is asked."""
    values = {
        "prompt": body.prompt,
        "negative": body.negative_prompt or None,
        "model": body.model,
        "n": body.n,
        "seed": body.seed,
        "sampler": body.sampler,
        "steps": body.num_inference_steps if body.steps is None else body.steps,
        "guidance": body.guidance_scale if body.guidance is None else body.guidance,
        "strength": body.strength,
    }
    style = None if body.style in ("vivid", "natural") else body.style
    is_transparent = body.background == "transparent"
    if system != SYSTEM:
        for name, given in (("style", style), ("background", is_transparent)):
            if given:
                message = f"{name}: {body.model} knows no {getattr(body, name)}; leave it out"
                raise APIError(400, message, "invalid_value", name)
        values |= sides(body.size)
    else:
        values |= {"style": style, "transparent": is_transparent, "size": side(body.size)}
    wanted = {name: value for name, value in values.items() if value is not None}
    known = options(systems()[system].verbs[VERB].request)
    for name in wanted:
        if name not in known:
            raise APIError(400, f"{name}: {body.model} knows no {name}; leave it out", "invalid_value", name)
    return wanted


def sides(size: str | None) -> dict[str, int]:
    """Width and height, none of which is the model's own, or of the picture's shape."""
    if size in (None, "auto"):
        return {}
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(size))
    both = [int(text) for text in found.groups()] if found else []
    if not both or any(one % PIXELS or not PIXELS <= one <= MAX_CHECKPOINT_SIDE for one in both):
        message = f"auto, or two multiples of {PIXELS} up to {MAX_CHECKPOINT_SIDE} like 768x512"
        raise APIError(400, f"size = {size}: {message}", "invalid_value", "size")
    return dict(zip(("width", "height"), both, strict=True))


def side(size: str | None) -> int | None:
    """Of the largest square that fits into the size, in pixels; None: the model's own."""
    if size in (None, "auto"):
        return None
    sides = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(size))
    if sides is None:
        raise APIError(400, f"size = {size}: auto, or two sides like 256x256", "invalid_value", "size")
    shorter = min(map(int, sides.groups()))
    if not 8 <= shorter <= MAX_SIDE:
        raise APIError(400, f"size = {size}: the shorter side has 8 to {MAX_SIDE} pixels", "invalid_value", "size")
    return shorter


async def generate(
    body: ImageRequest, pictures: dict[str, bytes], kind: str, user: User, engine: Engine, request: Request
) -> Response | Answer:
    """The answer, or the stream of it."""
    if body.background == "transparent" and body.output_format == "jpeg":
        raise APIError(400, "background: jpeg knows no transparency; take png or webp", "invalid_value", "background")
    if body.response_format == "url" and (body.stream or body.output_format in ("jpeg", "webp")):
        raise APIError(400, "response_format: a url leads to a whole PNG", "invalid_value", "response_format")
    for name, twin in (("steps", "num_inference_steps"), ("guidance", "guidance_scale")):
        if getattr(body, name) is not None and getattr(body, twin) is not None:
            raise APIError(400, f"{twin}: the same as {name}; give one of them", "invalid_value", twin)
    if body.partial_images and not body.stream:
        raise APIError(400, "partial_images: only a stream shows them", "invalid_value", "partial_images")
    if body.output_compression is not None and body.output_format in (None, "png"):
        message = "output_compression: means nothing for png; take jpeg or webp, or leave it out"
        raise APIError(400, message, "invalid_value", "output_compression")
    (check_streams if body.stream else check_waits)(user, request)
    async with temporary_uploads(engine, user) as save:
        job = await to_thread.run_sync(submit, body, pictures, save, user, engine, request)
        if body.stream:
            return stream_response(engine, user, stream(engine, body, job, kind), request)
        row = await wait_for_job(engine, user, job, TIMEOUT, request)
        return await to_thread.run_sync(answer_of, engine, body, row, user, request)


def submit(
    body: ImageRequest, pictures: dict[str, bytes], save: SaveUpload, user: User, engine: Engine, request: Request
) -> str:
    """The job; of a request that OpenAI's client sends again because it saw no answer, the first one's."""
    safe = {name: uploads.clean(data, name) for name, data in pictures.items()}
    images = {name: save(invert_alpha(data) if name == "mask" else data, name) for name, data in safe.items()}
    retries = request.headers.get("x-stainless-retry-count", "")
    content = json.dumps([request.url.path, body.model_dump(), images])
    key_prefix = f"sent:{hashlib.sha256(content.encode()).hexdigest()}:"
    if retries.isascii() and retries.isdigit() and int(retries):
        found = engine.store.find_retry(user.id, key_prefix, RETRY_WINDOW)
        if found is not None:
            return found
    given_key = request.headers.get("idempotency-key")
    key = f"{key_prefix}{new_id()}" if given_key is None else f"key:openai:{sha256(given_key)}"
    previews = (body.partial_images or 0) if body.stream else 0
    system = system_of_model(body.model, user, engine)
    values = values_of(body, system) | images
    try:
        return str(engine.submit(user, system, VERB, values, api="openai", idempotency_key=key, previews=previews).id)
    except APIError as error:
        if error.code == "model_not_found" and str(body.model).startswith(HARD_WIRED):
            error.message += f"; a studio started with `--alias {body.model}=MODEL` knows this name"
        raise


def check_done(row: Any) -> None:
    """APIError for a job that brought no pictures, or that was deleted."""
    if row is None:
        raise no_such("job")
    if row.status in OPEN:
        raise APIError(504, "it takes longer than this request may wait; the job goes on", "timeout")
    if row.status == "cancelled":
        raise APIError(409, "the job was cancelled", "cancelled")
    if row.status == "failed":
        raise APIError(400, row.error or "it failed", "generation_failed")


def answer_of(engine: Engine, body: ImageRequest, row: Any, user: User, request: Request) -> Answer:
    check_done(row)
    pictures, data = engine.store.results_of(row.id), []
    for picture in pictures:
        datum = Datum(id=picture.id, seed=picture.recipe["seed"])
        if body.response_format == "url":
            token = engine.store.share(picture.id, user.id, recipe=False, seconds=URL_LIFE)
            datum.url = f"{str(request.base_url).rstrip('/')}/shared/{token}"
        else:
            datum.b64_json = encode(engine, body, picture)
        data.append(datum)
    return Answer(created=int(row.created), data=data, **metadata_of(body, pictures[0] if pictures else None))


def shape_of(recipe: dict[str, Any]) -> tuple[Any, Any]:
    """Width and height of what was drawn: of models of squares the recipe has one number."""
    side = recipe.get("size")
    return recipe.get("width", side), recipe.get("height", side)


def metadata_of(body: ImageRequest, picture: Result | None) -> dict[str, Any]:
    size = "auto" if picture is None else "{}x{}".format(*shape_of(picture.recipe))
    background = "transparent" if body.background == "transparent" else "opaque"
    facts = {"background": background, "output_format": body.output_format or "png", "size": size}
    if picture is not None and body.size not in (None, "auto", size):
        facts["note"] = f"size: {size}, the largest square in {body.size}; the models draw squares"
    return facts


def encode(engine: Engine, body: ImageRequest, picture: Result) -> str:
    """The picture in base64, in the format that was asked for; a PNG has its recipe."""
    return base64.b64encode(convert(engine.store.read(picture.files[0]), body)).decode()


def convert(data: bytes, body: ImageRequest) -> bytes:
    if body.output_format in (None, "png"):
        return data
    picture, file = Image.open(BytesIO(data)), BytesIO()
    quality = 100 if body.output_compression is None else body.output_compression
    picture.save(file, format=body.output_format, quality=quality, xmp=XMP.encode())
    return file.getvalue()


async def stream(engine: Engine, body: ImageRequest, job: str, kind: str) -> AsyncGenerator[bytes]:
    """Each picture's previews as they come, and each picture as it is done."""
    sent, count = 0, dict[int, int]()
    with engine.subscribe(job, previews=True) as subscriber:
        while True:
            for place, preview in subscriber.previews:
                count[place] = count.get(place, -1) + 1
                data = await to_thread.run_sync(convert, base64.b64decode(preview), body)
                facts = {"partial_image_index": count[place], **metadata_of(body, None)}
                yield sse(f"{kind}.partial_image", base64.b64encode(data).decode(), facts)
            subscriber.previews.clear()
            row = await to_thread.run_sync(engine.store.job, job)
            pictures = await to_thread.run_sync(engine.store.results_of, job)
            for picture in pictures[sent:]:
                data64 = await to_thread.run_sync(encode, engine, body, picture)
                facts = {"usage": Usage().model_dump(), "id": picture.id, "seed": picture.recipe["seed"]}
                yield sse(f"{kind}.completed", data64, {**facts, **metadata_of(body, picture)})
            sent = len(pictures)
            if row is None or row.status not in OPEN or engine.stopping:
                break
            if not await subscriber.changes(15.0):
                yield b": heartbeat\n\n"
    try:
        check_done(row)
    except APIError as failed:
        error = {"message": failed.message, "type": "server_error", "param": failed.param, "code": failed.code}
        yield format_sse_event(event="error", data_str=json.dumps({"error": error}))


def sse(kind: str, data: str, facts: dict[str, Any]) -> bytes:
    body = {"type": kind, "b64_json": data, "created_at": int(time.time()), "quality": "auto", **facts}
    return format_sse_event(event=kind, data_str=json.dumps(body))
