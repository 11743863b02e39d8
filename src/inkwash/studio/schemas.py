"""What the studio's own API answers with, and what its client reads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Base64Bytes, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

Api = Literal["page", "api", "openai", "a1111"]
Status = Literal["queued", "running", "paused", "done", "failed", "cancelled"]


def refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number is needed, not true or false")
    return value


NOT_BOOL = BeforeValidator(refuse_bool)  # of numbers: to Python, true is one; text is one if it reads so, as in forms


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Problem(BaseModel):
    """Every error of this API and of OpenAI's."""

    error: Error


class VerbField(BaseModel):
    """An option of a verb."""

    name: str
    kind: Literal["bool", "int", "float", "str", "file", "folder"]
    help: str
    default: Any = Field(description="null where there is none")
    required: bool
    optional: bool = Field(description="Whether it may be null.")
    many: bool = Field(description="Whether it is a list of such values.")
    argument: bool = Field(description="Whether it is what the verb is mainly asked by.")
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    low_open: bool
    high_open: bool
    longest: int | None
    media: str


class VerbCard(BaseModel):
    name: str
    help: str
    lasting: bool
    fields: tuple[VerbField, ...]


class SystemCard(BaseModel):
    name: str
    help: str
    command: str
    available: bool
    missing: str = Field(description="What to install, if it is not available.")
    verbs: tuple[VerbCard, ...]


class Limits(BaseModel):
    """What a model says of an option of a verb."""

    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    default: Any = None
    absent: bool = False


class Model(BaseModel):
    """A model that may be named."""

    name: str
    system: str
    makes: str
    about: str = Field("", description="What its card says of it first.")
    bytes: int
    aliases: tuple[str, ...] = Field((), description="What else it may be called.")
    owned: bool = Field(description="Whether it is one's own, and may be deleted.")
    created: float | None = None
    job: str | None = Field(None, description="Which made it.")
    limits: dict[str, dict[str, Limits]] = Field(description="By verb and option: what the model narrows.")


class Upload(BaseModel):
    sha256: str
    name: str
    media: str
    bytes: int


class Share(BaseModel):
    url: str
    recipe: bool


class File(BaseModel):
    """A file of a result."""

    name: str
    media: str
    bytes: int
    url: str


class Result(BaseModel):
    """What a verb has made."""

    id: str
    job: str
    system: str
    verb: str
    place: int | None = Field(description="In its job, from 0; null for what belongs to the whole job.")
    title: str
    media: str = Field(description="Of the first file; empty without files.")
    files: tuple[File, ...]
    thumbnail: str | None
    row: dict[str, Any] = Field(description="Its line of a table; `text` is for a terminal.")
    recipe: dict[str, Any] = Field(description="What made it; in a PNG it is, too: `inkwash again FILE`.")
    model: str | None = Field(description="The model that a training made.")
    created: float = Field(description="Seconds since 1970.")


class Progress(BaseModel):
    """Of the part of a job that is being made."""

    place: int = Field(description="Which part is being made, from 0.")
    done: int
    total: int
    text: str = Field(description="How it goes: the loss of a training.")
    seconds_left: float | None = Field(description="Of the whole job, as far as one can tell.")
    preview: Base64Bytes | None = Field(description="What it looks like so far: a PNG in base64.")


class Plan(BaseModel):
    """What a request would take: seconds, bytes of disk, and the same in words; null where nobody can tell."""

    seconds: float | None
    bytes: int | None
    text: str


class Job(BaseModel):
    """A job as it was when the studio was asked."""

    id: str
    api: Api = Field("api", description="By which it came.")
    system: str
    verb: str
    model: str | None
    request: dict[str, Any]
    status: Status
    error: str | None
    notes: tuple[str, ...]
    created: float
    changed: float
    version: int = Field(description="Grows with every change, also of other jobs; the id of its events.")
    queue_position: int = Field(description="Jobs in the queue before this one.")
    plan: Plan | None
    progress: Progress | None
    results: tuple[Result, ...]
