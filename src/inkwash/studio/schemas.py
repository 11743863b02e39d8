"""What the studio's own API answers with."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from inkwash.studio import library
from inkwash.studio.engine import Engine

Status = Literal["queued", "running", "paused", "done", "failed", "cancelled"]


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Problem(BaseModel):
    """Every error of this API and of OpenAI's."""

    error: Error


class File(BaseModel):
    name: str
    media: str
    bytes: int
    url: str


class Result(BaseModel):
    id: str
    job: str
    system: str
    verb: str
    place: int | None = Field(description="In its job, from 0; null for what belongs to the whole job.")
    title: str
    media: str = Field(description="Of the first file; empty without files.")
    files: list[File]
    thumbnail: str | None
    row: dict[str, Any] = Field(description="Its line of a table; `text` is for a terminal.")
    recipe: dict[str, Any] = Field(description="What made it; in a PNG it is, too: `inkwash again FILE`.")
    model: str | None = Field(description="The model that a training made.")
    created: float = Field(description="Seconds since 1970.")


class Progress(BaseModel):
    place: int = Field(description="Which part is being made, from 0.")
    done: int
    total: int
    text: str = Field(description="How it goes: the loss of a training.")
    seconds_left: float | None = Field(description="Of the whole job, as far as one can tell.")
    preview: str | None = Field(description="What it looks like so far: a PNG in base64.")


class Plan(BaseModel):
    seconds: float | None
    bytes: int | None
    text: str


class Job(BaseModel):
    id: str
    system: str
    verb: str
    model: str | None
    request: dict[str, Any]
    status: Status
    error: str | None
    notes: list[str]
    created: float
    changed: float
    queue_position: int = Field(description="Jobs in the queue before this one.")
    plan: Plan | None
    progress: Progress | None
    results: list[Result]


def job_of(engine: Engine, row: Any) -> Job:
    """A row of the table, with what the worker has said and what there is."""
    progress = engine.progress.get(row.id)
    columns = {name: row._mapping[name] for name in Job.model_fields if name in row._mapping}
    return Job(
        **columns,
        queue_position=engine.store.queue_position(row) if row.status == "queued" else 0,
        progress=Progress(**progress._asdict()) if progress and row.status == "running" else None,
        results=[result_of(found) for found in engine.store.results_of(row.id)],
    )


def result_of(found: library.Result) -> Result:
    url = f"/api/results/{found.id}"
    files = [
        File(name=file.name, media=file.media, bytes=file.bytes, url=f"{url}/files/{file.number}")
        for file in found.files
    ]
    same = ("id", "system", "verb", "place", "title", "recipe", "model", "created")
    return Result(
        **{name: getattr(found, name) for name in same},
        job=found.job_id,
        media=files[0].media if files else "",
        files=files,
        thumbnail=f"{url}/thumbnail" if found.picture else None,
        row=found.data,
    )
