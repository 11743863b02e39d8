"""Rows of the tables as the API answers with them."""

from typing import Any

from inkwash.studio import fleet, library
from inkwash.studio.engine import Engine
from inkwash.studio.schemas import File, Job, Progress, Result


def job_of(engine: Engine, row: Any) -> Job:
    """A row of the table, with what the worker has said and what there is."""
    progress = engine.progress.get(row.id)
    notes = [*row.notes, *fleet.why_it_waits(row, engine.fleet)]
    return Job(
        **row._asdict() | {"notes": notes},
        queue_position=engine.store.queue_position(row) if row.status == "queued" else 0,
        progress=Progress(**progress._asdict()) if progress and row.status == "running" else None,
        results=tuple(map(result_of, engine.store.results_of(row.id))),
    )


def result_of(found: library.Result) -> Result:
    url = f"/api/results/{found.id}"
    files = tuple(
        File(name=file.name, media=file.media, bytes=file.bytes, url=f"{url}/files/{file.number}")
        for file in found.files
    )
    facts = vars(found) | {"job": found.job_id, "row": found.data, "files": files}
    return Result(
        **facts, media=files[0].media if files else "", thumbnail=f"{url}/thumbnail" if found.picture else None
    )
