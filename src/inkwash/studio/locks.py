"""Rows that a transaction has to itself until it ends; SQLite's writers are alone anyway.

So that no two wait for each other, they are locked in this order: files (`dialects.alone`), jobs, users, the counter.
Who holds a user's row and wants more jobs takes only those that nobody else has.
"""

from typing import Any

from sqlalchemy import Connection, Row, and_, select

from inkwash.studio.tables import jobs, users


def held_by(worker: str, job: str) -> Any:
    return and_(jobs.c.id == job, jobs.c.worker == worker, jobs.c.status == "running")


def lock_held(tx: Connection, worker: str, job: str) -> Row[Any] | None:
    return tx.execute(select(jobs).where(held_by(worker, job)).with_for_update(key_share=True)).first()


def lock_jobs(tx: Connection, *which: Any, wait: bool = True) -> list[str]:
    """Ids of the jobs; but for those, if nobody waits, that others have locked."""
    found = select(jobs.c.id).where(*which).order_by(jobs.c.id)
    return list(tx.execute(found.with_for_update(skip_locked=not wait, key_share=True)).scalars())


def lock_user(tx: Connection, user: str) -> Row[Any]:
    return tx.execute(select(users).where(users.c.id == user).with_for_update(key_share=True)).one()
