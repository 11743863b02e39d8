"""What is said to SQLite and to PostgreSQL in different words."""

import time

from sqlalchemy import Connection, func, select, text

LOCKS = ("tables", "users", "files", "sweep")  # see `alone`
OURS = 1768843115  # "ink", by which PostgreSQL tells these locks from those of other programs


def is_sqlite(tx: Connection) -> bool:
    return tx.dialect.name == "sqlite"


def now(tx: Connection) -> float:
    """Seconds since 1970 by the clock that times are written by: that of the database, which servers may share."""
    return time.time() if is_sqlite(tx) else server_time(tx)


def server_time(tx: Connection) -> float:
    query = text("select cast(extract(epoch from clock_timestamp()) as double precision)")
    return float(tx.execute(query).scalar_one())


def alone(tx: Connection, what: str, among_others: bool = False) -> None:
    """Until the transaction ends nobody else does this, one of `LOCKS`; among_others: but those who say so, too.
    SQLite's writers are alone in all that they do. To be called before a row is locked, so that no two wait for each
    other."""
    if not is_sqlite(tx):
        lock = func.pg_advisory_xact_lock_shared if among_others else func.pg_advisory_xact_lock
        tx.execute(select(lock(OURS, LOCKS.index(what))))


def try_alone(tx: Connection, what: str) -> bool:
    """The same with PostgreSQL, but False at once where somebody else does it."""
    return bool(tx.scalar(select(func.pg_try_advisory_xact_lock(OURS, LOCKS.index(what)))))
