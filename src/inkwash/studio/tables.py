"""The tables as they are now, and how a database gets there: by the numbered files in migrations/."""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import JSON, Boolean, Column, Connection, Double, ForeignKey, Integer, MetaData, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from inkwash.errors import UserError

metadata = MetaData()


def text(name: str, *more: object, null: bool = False, **options: object) -> Column:
    return Column(name, Text, *more, nullable=null, **options)  # type: ignore[arg-type]


def time(name: str, null: bool = False) -> Column:
    """Seconds since 1970."""
    return Column(name, Double, nullable=null)


users = Table(
    "users",
    metadata,
    text("id", primary_key=True),
    text("name", unique=True),
    text("password", null=True),  # argon2id; none: enters by links and keys alone
    Column("admin", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("daily", Integer),  # pictures a day; none: as many as they like
    time("served"),  # when a job of theirs was last begun: who has waited longest is next
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
    text("id", primary_key=True),
    text("user_id", ForeignKey("users.id")),
    text("sha256"),
    time("created"),
)
jobs = Table(
    "jobs",
    metadata,
    text("id", primary_key=True),
    text("user_id", ForeignKey("users.id")),
    text("door"),  # by which it came: api, openai, a1111
    Column("ask", JSON, nullable=False),
    Column("n", Integer, nullable=False),
    text("status"),  # queued, running, done, failed, cancelled
    text("error", null=True),
    text("retry", null=True),  # what is the same when a client asks again: see `Store.submit`
    text("worker", null=True),
    time("lease", null=True),  # until when the worker has it, unless it renews
    Column("deaths", Integer, nullable=False),  # of workers that had it, since its last picture
    time("created"),
    time("changed"),
    time("started", null=True),
    Unique("user_id", "retry"),
)
pictures = Table(
    "pictures",
    metadata,
    text("id", primary_key=True),
    text("job_id", ForeignKey("jobs.id")),
    Column("place", Integer, nullable=False),  # in its job, from 0
    text("user_id", ForeignKey("users.id")),
    text("sha256"),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    text("prompt"),
    Column("recipe", JSON, nullable=False),
    time("created"),
    time("deleted", null=True),
    Unique("job_id", "place"),
)
shares = Table(
    "shares",
    metadata,
    text("token", primary_key=True),
    text("picture_id", ForeignKey("pictures.id")),
    Column("recipe", Boolean, nullable=False),
    time("expires", null=True),
)


def migrate(connection: Connection) -> None:
    """Takes the steps that this database has not taken. UserError for one that a later version has changed."""
    connection.exec_driver_sql("create table if not exists migrations (number integer primary key)")
    taken = set(connection.exec_driver_sql("select number from migrations").scalars())
    steps = {int(f.name[:4]): f for f in files("inkwash.studio.migrations").iterdir() if f.name.endswith(".sql")}
    if taken - set(steps):
        raise UserError("the studio's data were written by a newer inkwash: update it, or give another --home")
    for number in sorted(set(steps) - taken):
        for statement in steps[number].read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"insert into migrations (number) values ({number})")
