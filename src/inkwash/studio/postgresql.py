"""A studio's tables in PostgreSQL, which any number of servers share: what one writes, the others hear of."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.types.string import StrDumper
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from inkwash.errors import UserError
from inkwash.studio.buckets import Bucket
from inkwash.studio.dialects import alone
from inkwash.studio.errors import APIError, DatabaseUnusable, busy, is_state
from inkwash.studio.files import contents, models_in
from inkwash.studio.sqlite import MARK, has_content
from inkwash.studio.tables import migrate
from inkwash.weights.files import atomic

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
OLDEST = 13  # version that has all that is asked for
CONNECTIONS = 10  # of a process at most: a server of PostgreSQL lets in 100 if nobody said otherwise
CONNECT_TIMEOUT = 5  # seconds
ROW_TIMEOUT = 10.0  # seconds that one waits for what another writes; on a slow disk many wait in a row
IDLE_TIMEOUT = 600.0  # seconds in which a program must go on that has begun to write: it may have been frozen
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}  # of a machine that is gone
RETRY = 0.5  # seconds between two tries to connect
CHANNEL = "inkwash"  # of NOTIFY; that of the migration's trigger
# SQLSTATE, or how it begins: no connection, or one that is ended; too many of them
UNREACHABLE = ("08", "57P", "53300")
LOCKED = ("55P03", "40P01", "40001", "57014")  # waited too long; two wait for each other; try again; cancelled
UNUSABLE = ("42501", "25006", "42P01", "42703", "3D000", "3F000", "28")  # no right to it, read only, tables gone


class PostgreSQL:
    """The database at `url`, whose files are in the folder `home`, or in the bucket.

    patience  seconds for which it is tried to connect, while it restarts, say
    failure   why it could not be worked with, as long as it cannot
    """

    is_busy = damaged = False  # which SQLite's may be

    def __init__(self, url: str, home: Path, lock_timeout: float, bucket: Bucket | None = None) -> None:
        self.url, self.patience = parse(url), 0.0
        self.failure: tuple[str, str, float, str] | None = None
        self.name = name_of(self.url)
        settings = {"lock_timeout": max(ROW_TIMEOUT, lock_timeout)}
        settings |= {"idle_in_transaction_session_timeout": IDLE_TIMEOUT}
        options = "".join(f" -c {name}={round(1000 * seconds)}" for name, seconds in settings.items())
        query = self.url.query
        usual = {**KEEPALIVE, "connect_timeout": CONNECT_TIMEOUT, "application_name": "inkwash"}
        arguments: dict[str, Any] = {name: query.get(name, value) for name, value in usual.items()}
        arguments |= {"options": f"{query.get('options', '')}{options}", "client_encoding": "utf8"}
        self.engine = create_engine(
            self.url,
            connect_args=arguments,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=ROW_TIMEOUT,
            pool_pre_ping=True,
            hide_parameters=True,
            json_serializer=to_json,
        )
        self.connect_arguments = {**self.engine.dialect.create_connect_args(self.url)[1], **arguments}
        event.listen(self.engine, "connect", _configure)
        self._readers = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        try:
            self._open(home, bucket)
        except (APIError, UserError, DBAPIError) as error:
            self.engine.dispose()
            why = one_line(error) if isinstance(error, DBAPIError) else error
            raise UserError(f"{self.name}: {why}") from None
        self.patience = lock_timeout

    def _open(self, home: Path, bucket: Bucket | None) -> None:
        """Makes the tables, or takes the steps that they lack. UserError for what is no database of a studio, or not
        that of this folder."""
        with self.writing() as tx:
            version, encoding = tx.execute(
                text("select current_setting('server_version_num')::int / 10000, getdatabaseencoding()")
            ).one()
            if version < OLDEST or encoding != "UTF8":
                raise UserError(
                    f"it is PostgreSQL {version} with the encoding {encoding}; {OLDEST} or newer with UTF8 is needed"
                )
            alone(tx, "tables")
            tables = set(inspect(tx).get_table_names())
            if tables and not {"migrations", "users", "jobs", "studio"} <= tables:
                raise UserError("it is another program's database; make one for the studio (`createdb inkwash`)")
            migrate(tx)
            self.id, in_bucket = tx.execute(text("select id, bucket from studio")).one()
            files = text("select exists (select from results) or exists (select from uploads)")
            has_files = in_bucket or bool(tx.scalar(files))  # or others are just making some
            check_folder(home, self.id, has_files, bucket)
        if bucket is not None:
            bucket.claim(self.id, has_files)
            if not in_bucket:
                with self.writing() as tx:
                    tx.execute(text("update studio set bucket = true"))
        if not (home / MARK).exists():
            with atomic(home / MARK, durable=True) as file:
                file.write_text(f"{mark_of(self.id, bucket)}\n", encoding="utf-8")

    def check(self) -> None:
        """DatabaseUnusable if it could not be worked with when that was last tried."""
        if self.failure is not None:
            raise DatabaseUnusable(*self.failure)

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """APIError in place of what PostgreSQL says of a lock, or of itself."""
        try:
            yield
        except PoolTimeout:
            raise busy() from None
        except DBAPIError as error:
            if is_state(error, *LOCKED):
                raise busy() from None
            if error.connection_invalidated or has_no_connection(error.orig) or is_state(error, *UNREACHABLE):
                why, code = "cannot be reached", "database_unreachable"
            elif is_state(error, *UNUSABLE):
                why, code = "cannot be worked with", "database_unusable"
            else:
                raise
            self.failure = f"the studio's database {why}", code, 2.0, one_line(error)
            raise DatabaseUnusable(*self.failure) from None
        self.failure = None

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with self._checked(), self._connect(engine) as connection, connection.begin():
            yield connection

    def _connect(self, engine: Engine) -> Connection:
        end = time.monotonic() + self.patience
        while True:
            try:
                return engine.connect()
            except DBAPIError:
                if time.monotonic() >= end:
                    raise
                time.sleep(RETRY)

    def reading(self) -> Any:
        """A transaction that sees the tables as they were when it began."""
        return self._transaction(self._readers)

    def writing(self) -> Any:
        """A transaction in which each statement sees what others have written by then: lock what must stay as it was
        read. Rows are locked in this order, so that no two wait for each other: jobs, users, the counter."""
        return self._transaction(self.engine)

    def truncate_log(self) -> bool:
        """It has none that could be emptied: what was erased goes when PostgreSQL sees to it."""
        return True

    # what servers tell each other

    def tell(self, message: dict[str, Any], picture: str = "") -> None:
        """To all servers, these included, whatever JSON of 8,000 bytes can hold; a preview goes by the table."""
        job, place = message["job"], message["place"]
        with self.writing() as tx:
            tx.execute(text("set local synchronous_commit = off"))  # what is lost by a crash is said again
            if picture:
                tx.execute(KEEP_PREVIEW, {"job": job, "place": place, "picture": picture})
            words = json.dumps(message, ensure_ascii=False)
            tx.execute(text("select pg_notify(:channel, :words)"), {"channel": CHANNEL, "words": words})

    def preview(self, job: str) -> str | None:
        """The newest of the job, a PNG in base64."""
        with self.reading() as tx:
            query = text("select picture from previews where job_id = :job")
            return cast("str | None", tx.scalar(query, {"job": job}))

    async def news(self) -> AsyncIterator[dict[str, Any] | None]:
        """What is told, without end; None where something may have been missed."""
        while True:
            with suppress(psycopg.OperationalError):
                listening = await psycopg.AsyncConnection.connect(**self.connect_arguments, autocommit=True)
                async with listening:
                    await listening.execute(f"listen {CHANNEL}")
                    yield None
                    async for note in listening.notifies():
                        yield json.loads(note.payload)
            await asyncio.sleep(1.0)

    # how often who has asked

    def take(self, key: str, rate: float, capacity: float) -> float:
        """One of the tokens of a bucket that holds `capacity`, and gets `rate` a second: 0, or the seconds until it
        has one."""
        facts = {"key": key, "rate": rate, "capacity": capacity}
        with self.writing() as tx:
            if tx.execute(TAKE, facts).first() is not None:
                return 0.0
            return max(0.0, float(tx.scalar(MISSING, facts) or 0.0))

    def empty_buckets(self, seconds: float) -> None:
        """Forgets who has not asked for so long."""
        with self.writing() as tx:
            tx.execute(text(f"delete from buckets where changed < {CLOCK} - :seconds"), {"seconds": seconds})


CLOCK = "cast(extract(epoch from clock_timestamp()) as double precision)"
FILLED = f"least(:capacity, buckets.tokens + ({CLOCK} - buckets.changed) * :rate)"
TAKE = text(
    f"insert into buckets (key, tokens, changed) values (:key, :capacity - 1, {CLOCK}) "
    f"on conflict (key) do update set tokens = {FILLED} - 1, changed = {CLOCK} where {FILLED} >= 1 returning tokens"
)
MISSING = text(f"select (1 - {FILLED}) / :rate from buckets where key = :key")
KEEP_PREVIEW = text(
    "insert into previews (job_id, place, picture) "
    "select id, :place, :picture from jobs where id = :job and status = 'running' for share "  # nobody ends it now
    "on conflict (job_id) do update set place = excluded.place, picture = excluded.picture"
)


def parse(url: str) -> URL:
    """UserError, which says nothing of a password, for what is no address of a PostgreSQL database."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if found is None or found.drivername not in SCHEMES:
        scheme = re.match(r"[a-z0-9+]{1,20}(?=:)", url)
        raise UserError(
            f"--store{f' {scheme[0]}' if scheme else ''}: the address of a PostgreSQL database is needed, "
            "postgresql://USER@HOST/DATABASE; without it the tables are SQLite's, in --home"
        )
    if "@" in f"{found.host}{found.database}":  # of a password, the rest of which would be shown as the host
        raise UserError("--store: in the password of a database's address @ is written %40, and / is written %2F")
    return found.set(drivername="postgresql+psycopg")


def name_of(url: URL) -> str:
    """Which database it is, without a password, wherever in its address that stands."""
    host = url.host or url.query.get("host")
    where = host if isinstance(host, str) else None
    shown = URL.create("postgresql", url.username, host=where, port=url.port, database=url.database)
    return shown.render_as_string()


def has_no_connection(error: object) -> bool:
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def one_line(error: DBAPIError) -> str:
    """What PostgreSQL says, without the statement and its values."""
    return " ".join(str(error.orig).partition("\nDETAIL")[0].split())


def mark_of(id: str, bucket: Bucket | None) -> str:
    """What stands in a folder of this database, whose files are there or in a bucket."""
    return f"{id} bucket" if bucket else id


def check_folder(home: Path, id: str, has_files: bool, bucket: Bucket | None) -> None:
    """UserError for a folder that is not this database's, and no new one, which is marked as its own after this."""
    mark = home / MARK
    if mark.exists():
        found = mark.read_text(encoding="utf-8").strip()
        if found == mark_of(id, bucket):
            return
        if found == id:
            raise UserError(f"its files are in {home}, not in a bucket; leave out --files (INKWASH_FILES, too)")
        if found.startswith(id):
            raise UserError("its files are in a bucket; give that with --files, or in INKWASH_FILES")
        raise UserError(f"{home} is the folder of another database; give that with --store, or another --home")
    if has_content(home / "studio.db"):
        raise UserError(f"{home} has a database of its own, studio.db; give another --home, or leave out --store")
    if any(contents(home / "files")) or any(models_in(home / "models")):
        raise UserError(f"{home} has files that are not of this database; give another --home")
    if has_files and bucket is None:
        raise UserError(f"its files are in another folder than {home}, or in a bucket; give --home, or --files")


class Words(StrDumper):
    """PostgreSQL keeps no NUL in a text."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _configure(connection: Any, _: object) -> None:
    connection.adapters.register_dumper(str, Words)


def to_json(value: Any) -> str:
    return json.dumps(storable(value))


def storable(value: Any) -> Any:
    """The value without what PostgreSQL's JSON has not: NUL, and numbers that are not finite, which clients are shown
    as null anyway."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(name): storable(inner) for name, inner in value.items()}
    return [storable(inner) for inner in value] if isinstance(value, list | tuple) else value
