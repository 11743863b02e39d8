"""A copy of a studio's folder, which is consistent although the studio runs, and the way back."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from inkwash.errors import UserError
from inkwash.studio.database import folder_errors
from inkwash.studio.files import contents, models_in, remove_cut_off, tighten
from inkwash.studio.library import size_of
from inkwash.studio.recovery import clear_database
from inkwash.studio.sqlite import check_not_postgresqls, has_content
from inkwash.studio.tables import migration_steps
from inkwash.weights.files import atomic, digest, lock, sync

UNFINISHED = "unfinished-backup"  # a file that a first backup has until it is whole
CONTENTS = """
    select sha256, suffix from files join results on results.id = result_id where deleted is null
    union select sha256, suffix from uploads
"""
MODELS = "select id from models where deleted is null"
RUNS = "select id from jobs where lasting and status in ('queued', 'running', 'paused', 'failed')"


class Named(NamedTuple):
    """What a database names: files by their paths in files/, folders of models/ and runs/ by their names."""

    files: set[str]
    models: set[str]
    runs: set[str]
    results: int


class Copied(NamedTuple):
    """missing: paths of what the database names and is not there, or damaged."""

    results: int
    files: int
    bytes: int
    missing: list[str]


def backup(home: Path, folder: Path) -> Copied:
    """Copies the studio in `home`, which may run, to `folder`, or adds to an earlier backup what is new. That
    stays as it is until the new database takes the place of the old one, which is the last step.

    UserError for a folder that is neither empty nor an earlier backup of this studio.
    """
    database = folder / "studio.db"
    with reading(home / "studio.db"), folder_errors(folder, "another"):
        check_target(home, folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock(folder / "lock", f"another backup is being written to {folder}"):
            remove_cut_off(folder)
            if not database.exists():
                (folder / UNFINISHED).touch()
            with atomic(database, durable=True) as snapshot:
                before: list[str] = []
                while True:  # until nothing that it names was deleted meanwhile
                    named = take_snapshot(home / "studio.db", snapshot)
                    missing = copy_named(home, folder, named)
                    if missing == before:
                        break
                    before = missing
            remove_unnamed(folder, named)
            (folder / UNFINISHED).unlink(missing_ok=True)
    return Copied(named.results, len(named.files), size_of(folder), missing)


def restore(folder: Path, home: Path) -> Copied:
    """Writes a studio's folder from a backup, the database last. UserError for a backup that is not whole, and for a
    home that has a database."""
    check_not_postgresqls(home)
    if has_content(home / "studio.db"):
        raise UserError(f"{home} has a database; move it away, or give another --home")
    with TemporaryDirectory() as scratch:  # the backup may lie where nobody can write
        named = take_snapshot(folder / "studio.db", Path(scratch) / "studio.db")
        check_whole(folder, named)
        with folder_errors(home):
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            with lock(home / "lock", f"a studio is running in {home}; stop it, or give another --home"):
                remove_cut_off(home)
                if gone := copy_named(folder, home, named):
                    raise UserError(f"{folder}: {gone[0]} has vanished; restore again")
                with atomic(home / "studio.db", durable=True) as database:
                    shutil.copyfile(Path(scratch) / "studio.db", database)
                    clear_database(home)
    return Copied(named.results, len(named.files), size_of(home), [])


def check_whole(folder: Path, named: Named) -> None:
    """UserError for a backup that lacks what its database names."""
    missing = [name for name in sorted(named.files) if not is_whole(folder / "files" / name)]
    missing += [f"models/{id}" for id in sorted(named.models) if not (folder / "models" / id).is_dir()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} files are lost or damaged, such as {missing[0]}; take another backup; "
            f"what is left of this one can be seen with `inkwash studio --home {folder}`"
        )


def check_target(home: Path, folder: Path) -> None:
    """UserError for a folder into which no backup of this studio can go."""
    database = folder / "studio.db"
    unfinished = (folder / UNFINISHED).is_file() and not database.exists()
    if not folder.exists() or not any(folder.iterdir()) or unfinished:
        return
    if not database.is_file():
        raise UserError(f"{folder}: it is not empty, and no backup; choose another folder")
    with reading(home / "studio.db") as studio, reading(database) as earlier:
        # a studio that runs anywhere turns its database to a journal of this kind, so this was never run
        used = earlier.execute("pragma journal_mode").fetchone() == ("wal",)
        if used or (folder / "studio.db-wal").exists():
            raise UserError(f"{folder}: a studio has run there, so it is no backup; choose another folder")
        ours, theirs = (set(one.execute("select id from users")) for one in (studio, earlier))  # who never go
        if not theirs <= ours:
            raise UserError(f"{folder}: it is a backup of another studio than that in {home}; choose another folder")
        ours, theirs = (one.execute("select max(changed) from jobs").fetchone()[0] for one in (studio, earlier))
        if (theirs or 0) > (ours or 0):
            raise UserError(f"{folder}: this backup is newer than the database in {home}; choose another folder")


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """UserError for what is no database of a studio."""
    if not database.is_file():
        raise UserError(f"{database}: there is no database; give the folder of a studio or of a backup")
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise UserError(f"{database}: it cannot be read as a studio's ({error}); nothing was changed") from None


def take_snapshot(database: Path, snapshot: Path) -> Named:
    """Copies the database as it is at one moment, in one file, and what it names then."""
    snapshot.unlink(missing_ok=True)
    with reading(database) as source, closing(sqlite3.connect(snapshot)) as copy:
        source.backup(copy)
        copy.execute("pragma journal_mode=delete")
        if copy.execute("pragma integrity_check(1)").fetchone() != ("ok",):
            raise UserError(f"{database}: it is damaged; nothing was changed; see `inkwash studio recover`")
        taken = {number for (number,) in copy.execute("select number from migrations")}
        if len(taken) < 2 or taken - set(migration_steps()):  # the first tables had none of what is asked for here
            raise UserError(
                f"{database}: its tables are not of this version; start the studio once, or use the newer inkwash"
            )
        files = {f"{sha256[:2]}/{sha256}{suffix}" for sha256, suffix in copy.execute(CONTENTS)}
        models, runs = ({id for (id,) in copy.execute(query)} for query in (MODELS, RUNS))
        (results,) = copy.execute("select count(*) from results where deleted is null").fetchone()
    return Named(files, models, runs, results)


def copy_named(source: Path, target: Path, named: Named) -> list[str]:
    """Copies what the database names and the target lacks, or has damaged; which of it is not there, or damaged.

    A file is copied rather than linked: a backup that shares its bytes with the studio's own would be none.
    """
    missing = []
    for name in sorted(named.files):
        if not is_whole(target / "files" / name):
            missing += [] if copy_file(source / "files" / name, target / "files" / name) else [name]
    for id in sorted(named.models):
        if not (target / "models" / id).is_dir() and not copy_folder(source / "models" / id, target / "models" / id):
            missing.append(f"models/{id}")
    for id in sorted(named.runs):  # which change: anew each time; one that has not begun yet has none
        copy_folder(source / "runs" / id, target / "runs" / id)
    return missing


def is_whole(path: Path) -> bool:
    """Whether a file has the content that its name says."""
    return path.is_file() and digest(path) == path.name.partition(".")[0]


def copy_file(source: Path, target: Path) -> bool:
    """False, and nothing copied, for one that is not there or not whole."""
    try:
        with atomic(target, durable=True) as temporary:
            shutil.copyfile(source, temporary)
            if digest(temporary) != source.name.partition(".")[0]:
                raise FileNotFoundError(source)
            times = source.stat()
            os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def copy_folder(source: Path, target: Path) -> bool:
    """Replaces the folder by a copy, whole or not at all; False for one that is not there, or goes meanwhile."""
    target.parent.mkdir(exist_ok=True, mode=0o700)
    with TemporaryDirectory(prefix=".copy-", dir=target.parent) as scratch:
        copy = Path(scratch) / "new"
        try:
            shutil.copytree(source, copy, symlinks=True, copy_function=copy_if_there)
        except OSError:
            if source.is_dir():
                raise
            return False
        for path in copy.rglob("*"):
            sync(path)
        tighten(copy, *copy.rglob("*"))
        if target.exists():
            target.rename(Path(scratch) / "old")
        copy.rename(target)
    sync(target.parent)
    return True


def copy_if_there(source: str, target: str) -> None:
    """A file of a training that goes on may be replaced at any moment."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def remove_unnamed(folder: Path, named: Named) -> None:
    """Of the studio's own files and folders in a backup, those that its database does not name any more."""
    for *_, path in list(contents(folder / "files")):
        if f"{path.parent.name}/{path.name}" not in named.files:
            path.unlink()
    for model in list(models_in(folder / "models")):
        if is_id(model.name) and model.name not in named.models:
            shutil.rmtree(model)
    for run in list((folder / "runs").glob("*/")):
        if is_id(run.name) and run.name not in named.runs:
            shutil.rmtree(run)


def is_id(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{32}", name) is not None
