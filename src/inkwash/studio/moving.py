"""From a backup, whose tables are SQLite's, to a studio on PostgreSQL, whose files are in a folder or in a bucket."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, delete, insert, select

from inkwash.errors import UserError
from inkwash.studio import runs
from inkwash.studio.backup import Copied, Named, check_whole, copy_named, take_snapshot
from inkwash.studio.buckets import Bucket
from inkwash.studio.database import LOCK_TIMEOUT, Database, count_rows
from inkwash.studio.dialects import alone
from inkwash.studio.files import Files
from inkwash.studio.library import archive_of, size_of
from inkwash.studio.sqlite import SQLite
from inkwash.studio.tables import counter, jobs, metadata, users

ROWS = 1000  # written at once


def restore_to_postgresql(folder: Path, home: Path, url: str, bucket: str) -> Copied:
    """Writes a studio anew from a backup: its files first, its tables in one transaction. What is stopped goes on
    with the same command. UserError for a backup that is not whole, and for a database with users or jobs."""
    with TemporaryDirectory() as scratch:  # the backup may lie where nobody can write
        named = take_snapshot(folder / "studio.db", snapshot := Path(scratch) / "studio.db")
        check_whole(folder, named)
        source = SQLite(snapshot, Files(folder / "files"), LOCK_TIMEOUT)  # takes the steps that an older one lacks
        target = Database(home, url=url, bucket=bucket)
        try:
            with target.reading() as tx:
                check_new(tx, target)
            copy_files(folder, target, named)
            with source.reading() as rows, target.writing() as tx:
                alone(tx, "users")
                check_new(tx, target)
                copy_tables(rows, tx)
        finally:
            source.engine.dispose()
            target.engine.dispose()
    return Copied(named.results, len(named.files), size_of(folder), [])


def check_new(tx: Connection, target: Database) -> None:
    if count_rows(tx, users) or count_rows(tx, jobs):
        assert target.postgresql is not None
        raise UserError(
            f"{target.postgresql.name} has users or jobs already, and nothing of them was changed; make a new "
            "database (`createdb --encoding UTF8 NAME`), and restore before a studio starts there"
        )


def copy_files(folder: Path, target: Database, named: Named) -> None:
    if target.bucket is None:
        gone = copy_named(folder, target.home, named)
    else:
        gone = send_named(folder, target.bucket, named)
    if gone:
        raise UserError(f"{folder}: {gone[0]} has vanished; restore again")


def send_named(folder: Path, bucket: Bucket, named: Named) -> list[str]:
    """What the database names into the bucket; which of it is not there."""
    try:
        for name in sorted(named.files):
            bucket.put(path := f"files/{name}", folder / path)
        for id in sorted(named.models):
            bucket.put_folder(archive_of(id), folder / (path := f"models/{id}"))
        for id in sorted(named.runs):
            if (out := folder / (path := f"runs/{id}/out")).is_dir():  # one that has not begun yet has none
                bucket.put_folder(runs.archive_of(id), out)
    except FileNotFoundError:
        return [path]
    return []


def copy_tables(rows: Connection, tx: Connection) -> None:
    """All rows; no rights are lost, nor keys and sessions, of which there are hashes alone."""
    tx.execute(delete(counter))
    for table in metadata.sorted_tables:
        for some in rows.execution_options(yield_per=ROWS).execute(select(table)).mappings().partitions():
            tx.execute(insert(table), [dict(row) for row in some])
