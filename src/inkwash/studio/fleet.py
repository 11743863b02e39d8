"""The workers of all servers that share a database: where they are, and what waits for a model that none has."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select

import inkwash
from inkwash.studio.database import Database
from inkwash.studio.dialects import now
from inkwash.studio.tables import jobs, workers

EVERY = 5.0  # seconds between two reports of a supervisor
ALIVE = 30.0  # seconds after its last report for which a worker is held to be there


def report(database: Database, supervisor: str, names: Mapping[str, str], models: Mapping[str, str]) -> None:
    """Which workers the supervisor has, by name, with their devices, and their models, by name, with their hashes."""
    with database.writing() as tx:
        moment = now(tx)
        tx.execute(delete(workers).where(or_(workers.c.supervisor == supervisor, workers.c.seen < moment - 3600)))
        facts = {"supervisor": supervisor, "host": platform.node(), "version": inkwash.__version__, "seen": moment}
        for name, device in names.items():
            tx.execute(insert(workers).values(name=name, device=device, models=dict(models), **facts))


def needs(tx: Connection) -> list[str]:
    """Of queued jobs, each once."""
    said = select(jobs.c.needs).where(jobs.c.status == "queued", jobs.c.needs.is_not(None))
    return list(tx.execute(said.distinct()).scalars())


def alive(database: Database) -> list[Row[Any]]:
    """The workers that are there."""
    with database.reading() as tx:
        there = select(workers).where(workers.c.seen > now(tx) - ALIVE)
        return list(tx.execute(there.order_by(workers.c.host, workers.c.name)))


def place(supervisor: str, others: Collection[str], job: str) -> int:
    """Of a supervisor, from 0, in the order in which these look for a job: each job has one of its own."""

    def rank(name: str) -> bytes:
        return sha256(f"{name} {job}".encode()).digest()

    return sum(rank(other) < rank(supervisor) for other in others)


def unserved(database: Database, fleet: Sequence[Row[Any]]) -> Counter[tuple[str, str]]:
    """How many queued jobs wait for a model, by its name and hash, that none of these workers has."""
    queued = (jobs.c.status == "queued", jobs.c.needs.is_not(None))
    with database.reading() as tx:
        counts = tx.execute(select(jobs.c.needs, func.count()).where(*queued).group_by(jobs.c.needs)).all()
    found = Counter[tuple[str, str]]()
    for said, count in counts:
        for one in lacking(said, fleet).items():
            found[one] += count
    return found


def lacking(needs: str, fleet: Sequence[Row[Any]]) -> dict[str, str]:
    """Of the models that a job needs, with their hashes, those for which none of these workers can draw it."""
    needed: dict[str, str] = json.loads(needs)["models"]
    hashes = [set(worker.models.values()) for worker in fleet]
    if any(set(needed.values()) <= one for one in hashes):
        return {}
    return {name: hash for name, hash in needed.items() if not any(hash in one for one in hashes)} or needed


def why_it_waits(job: Row[Any], fleet: Sequence[Row[Any]] | None) -> list[str]:
    """For who asked for a job: that none of these workers can begin it; None: nobody knows of them."""
    if job.status != "queued" or fleet is None:
        return []
    if not fleet:
        return ["no worker is there now: it waits until one is"]
    names = [] if job.needs is None else lacking(job.needs, fleet)
    return [f"no worker has the model {name} now: it waits until one has" for name in names]
