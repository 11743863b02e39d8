"""The tables as they are now, and how a database gets there: by the numbered files in migrations/."""

from __future__ import annotations

import hashlib
import sqlite3
import unicodedata
from importlib import resources
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
)
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.exc import OperationalError

from inkwash.errors import UserError

metadata = MetaData()


def text(name: str, *more: Any, null: bool = False, **options: Any) -> Column[Any]:
    return Column(name, Text, *more, nullable=null, **options)


def time(name: str, null: bool = False) -> Column[Any]:
    """Seconds since 1970."""
    return Column(name, Double, nullable=null)


counter = Table("counter", metadata, Column("value", BigInteger, nullable=False))  # one row: see `database.tick`
users = Table(
    "users",
    metadata,
    text("id", primary_key=True),
    text("name", unique=True),
    text("key", unique=True),  # see `name_key`; of an account from before there were keys perhaps what nobody types
    text("password", null=True),  # argon2id; none: enters by links and keys alone
    Column("admin", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("daily", Integer),  # results a day; none: as many as they like
    Column("disk", BigInteger),  # bytes of results, models, uploads and trainings; none: as many as they like
    text("a1111_model", null=True),  # that they chose by that API; none: the usual one
    time("served"),  # planned seconds of work begun for them: who has the least is next
    Column("turn", BigInteger, nullable=False),  # the counter when their last work was begun
    time("created"),
)
secrets = Table(  # of each its SHA-256 alone: they are random, and need no slow hash
    "secrets",
    metadata,
    text("hash", primary_key=True),
    text("id", unique=True),
    text("user_id", ForeignKey("users.id")),
    text("kind"),  # key, session, link
    text("name"),
    time("created"),
    time("expires", null=True),
)
uploads = Table(
    "uploads",
    metadata,
    text("user_id", ForeignKey("users.id"), primary_key=True),
    text("sha256", primary_key=True),
    text("suffix"),
    text("name"),
    text("media"),
    Column("bytes", BigInteger, nullable=False),
    Column("cleaned", Boolean, nullable=False),  # a picture of which only the pixels were kept
    time("created"),
)
jobs = Table(
    "jobs",
    metadata,
    text("id", primary_key=True),
    text("user_id", ForeignKey("users.id")),
    text("api"),  # by which it came: page, api, openai, a1111
    text("system"),
    text("verb"),
    text("model", null=True),
    text("needs", null=True),  # of whoever draws it, as JSON: see `requests.Needs`
    Column("request", JSON, nullable=False),
    Column("parts", Integer, nullable=False),  # that can be made on their own: see `Request.parts`
    Column("part", Integer, nullable=False),  # the next: so many are done
    Column("lasting", Boolean, nullable=False),  # it works in a folder that outlives its worker
    text("status"),  # queued, running, paused, done, failed, cancelled
    text("wanted", null=True),  # pause, stop: what it shall do at its next checkpoint
    text("error", null=True),
    Column("notes", JSON, nullable=False),
    Column("plan", JSON),
    Column("cost", Double, nullable=False),  # planned seconds of a part
    Column("served", Double, nullable=False),  # of its user, when it was submitted: see `store._waiting`
    Column("previews", Integer, nullable=False),  # of each result
    text("idempotency_key", null=True),  # what is the same when a client asks again: see `Store.submit`
    text("request_hash", null=True),  # tells one request from another after its words are erased
    text("worker", null=True),
    time("heartbeat", null=True),  # the worker's last sign of life: see `Store.expire`
    Column("deaths", Integer, nullable=False),  # of workers that had it, since its last result
    time("created"),
    time("changed"),
    time("started", null=True),
    time("deleted", null=True),
    Column("serial", BigInteger, nullable=False),  # the counter when it was submitted: clocks go back, this never
    Column("version", BigInteger, nullable=False),  # the counter at its last change
    Unique("user_id", "idempotency_key"),
)
results = Table(
    "results",
    metadata,
    text("id", primary_key=True),
    text("job_id", ForeignKey("jobs.id")),
    Column("part", Integer, nullable=False),
    Column("number", Integer, nullable=False),  # in its part, from 0
    Column("place", Integer),  # in its job, from 0; none: of the whole job
    text("user_id", ForeignKey("users.id")),
    text("system"),
    text("verb"),
    text("title"),
    Column("data", JSON, nullable=False),  # its line of a table
    Column("recipe", JSON, nullable=False),
    text("model", null=True),  # that it brought
    Column("bytes", BigInteger, nullable=False),
    time("created"),
    time("deleted", null=True),
    Column("serial", BigInteger, nullable=False),  # the counter when it was made
    Unique("job_id", "part", "number"),
)
files = Table(
    "files",
    metadata,
    text("result_id", ForeignKey("results.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    text("sha256"),
    text("suffix"),
    text("name"),
    text("media"),
    Column("bytes", BigInteger, nullable=False),
)
models = Table(  # that trainings made; each is a folder of models/
    "models",
    metadata,
    text("id", primary_key=True),
    text("user_id", ForeignKey("users.id")),
    text("name"),
    text("system"),
    Column("bytes", BigInteger, nullable=False),
    text("job_id", ForeignKey("jobs.id")),
    Column("card", JSON),  # what its files say of it, where these are in a bucket: see `catalogue.kept_card`
    time("created"),
    time("deleted", null=True),
)
shares = Table(
    "shares",
    metadata,
    text("token", primary_key=True),
    text("result_id", ForeignKey("results.id")),
    Column("recipe", Boolean, nullable=False),
    time("created"),
    time("expires", null=True),
)
workers = Table(  # of PostgreSQL's servers: see `fleet`
    "workers",
    metadata,
    text("name", primary_key=True),
    text("supervisor"),
    text("host"),
    text("device"),
    text("version"),
    Column("models", JSON, nullable=False),  # hashes of shared ones, by name
    time("seen"),
)


def name_key(name: str) -> str:
    """What names of users are compared by: the same for all their cases, widths and Unicode forms."""
    folded = unicodedata.normalize("NFKC", name.strip()).casefold()
    return unicodedata.normalize("NFKC", folded)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def migration_steps(dialect: str = "sqlite") -> dict[int, Any]:
    """The files of the steps, by their numbers: NNNN_name.sql is for both databases, NNNN_name.postgresql.sql for
    that alone, in place of the other of its number."""
    found = [file for file in resources.files("inkwash.studio.migrations").iterdir() if file.name.endswith(".sql")]
    both = {int(file.name[:4]): file for file in found if file.name.count(".") == 1}
    if dialect == "sqlite":
        return both
    own = {int(file.name[:4]): file for file in found if file.name.endswith(f".{dialect}.sql")}
    return {number: file for number, file in (both | own).items() if number >= min(own)}  # whose first makes all


ADDITIVE = "-- additive"  # the first line of a step after which programs that do not know it go on: it adds tables,
# indices, and columns that may be left out


def migrate(connection: Connection) -> None:
    """Takes the steps that this database has not taken. UserError for one that a later version has changed so that
    this one cannot work with it: of what that has only added it knows nothing, and need not."""
    if not inspect(connection).has_table("migrations"):
        connection.exec_driver_sql("create table migrations (number integer primary key)")
    if "additive" not in {column["name"] for column in inspect(connection).get_columns("migrations")}:
        connection.exec_driver_sql("alter table migrations add column additive boolean not null default false")
    taken = dict(map(tuple, connection.exec_driver_sql("select number, additive from migrations")))
    steps, other = migration_steps(dialect := connection.dialect.name), "--home" if dialect == "sqlite" else "--store"
    if any(number not in steps and not additive for number, additive in taken.items()):
        raise UserError(f"the studio's data were written by a newer inkwash: update it, or give another {other}")
    for number in sorted(set(steps) - set(taken)):
        step = steps[number].read_text(encoding="utf-8")
        for statement in statements(step, dialect):
            try:
                connection.exec_driver_sql(statement)
            except OperationalError as error:
                if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
                    raise  # a full disk, say
                raise UserError(
                    f"its tables are not those of step {number - 1} of a studio's ({error.orig}); "
                    "move it away, and put back a backup, or make a new one with `inkwash studio recover`"
                ) from None
        additive = "true" if step.startswith(ADDITIVE) else "false"
        connection.exec_driver_sql(f"insert into migrations (number, additive) values ({number}, {additive})")


def statements(step: str, dialect: str) -> list[str]:
    """SQLite takes one at a time; PostgreSQL all of them, whose functions have semicolons of their own."""
    return [one for one in step.split(";\n") if one.strip()] if dialect == "sqlite" else [step]
