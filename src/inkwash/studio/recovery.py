"""Files without a database, or with one that is older than they are: found at a start, and taken in again."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from PIL import Image
from sqlalchemy import Connection, func, insert, select

from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio.catalogue import shared_models
from inkwash.studio.database import new_id, tick
from inkwash.studio.files import CONTENT, contents, models_in, move, set_aside
from inkwash.studio.library import Library, free_name, named_contents, size_of
from inkwash.studio.sqlite import DAMAGED, check_not_postgresqls, has_content, unusable
from inkwash.studio.store import Store
from inkwash.studio.tables import files, jobs, models, results, uploads
from inkwash.systems import system_of, systems
from inkwash.systems.base import options
from inkwash.weights.files import digest, sync

MAX_DEPTH = 20  # of a recipe: answers with those of many pictures can be written
MARGIN = 60.0  # seconds before a crash whose files may have no row
TIMES: tuple[Any, ...] = (  # by which a database says how new it is
    jobs.c.changed,
    jobs.c.heartbeat,
    results.c.created,
    results.c.deleted,
    uploads.c.created,
    models.c.created,
    models.c.deleted,
)


class Found(NamedTuple):
    """A file, or a model's folder, that no row names, and what made it."""

    path: Path
    recipe: dict[str, Any]

    @property
    def time(self) -> float:
        return self.path.stat().st_mtime


def check_current(library: Library) -> None:
    """UserError for a database that knows nothing of what was made since, as an old copy of it does."""
    with library.reading() as tx:
        known = max(tx.scalar(select(func.max(column))) or 0.0 for column in TIMES)
        newer = [found.time for found in without_rows(library, tx, known + MARGIN)]
    if newer:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(newer)))
        raise UserError(
            f"{library.path} is older than {len(newer)} results and models in {library.home}, made since {since}; "
            "put the newest database back, or let `inkwash studio recover` take them in"
        )


def without_rows(library: Library, tx: Connection, since: float = 0.0) -> Iterator[Found]:
    """What `recover` can take in, and was made since: pictures with a recipe, and models."""
    named, known = named_contents(tx), set(tx.execute(select(models.c.id)).scalars())
    lost = library.home / "lost+found"
    places = [(name, path) for name, _, path in contents(library.files.folder)]
    places += [(name[1], path) for path in lost.glob("*.png") if (name := CONTENT.fullmatch(path.name))]
    for sha256, path in places:
        if sha256 in named or path.suffix != ".png" or path.is_symlink() or path.stat().st_mtime <= since:
            continue
        if (recipe := recipe_of(path)) and digest(path) == sha256:
            named.add(sha256)
            yield Found(path, recipe)
    for folder in (*models_in(library.models_folder), *models_in(lost)):
        if folder.name not in known and folder.stat().st_mtime > since:
            with suppress(UserError):  # of no system that is here
                yield Found(folder, {"system": system_of(folder).name})


def recipe_of(path: Path) -> dict[str, Any] | None:
    """The recipe in a PNG that inkwash wrote; None for any other file."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            recipe = json.loads(picture.info[KEY])
        if depth(recipe) > MAX_DEPTH:
            return None
        json.dumps(recipe, ensure_ascii=False, allow_nan=False).encode()  # NaN and half a pair are in no answer
    except (OSError, ValueError, KeyError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return None
    # those of the first studios name no system
    return {"system": "pictures", "verb": "generate", **recipe} if isinstance(recipe, dict) else None


def depth(value: Any) -> int:
    """How deeply lists and objects stand in one another."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


class Recovered(NamedTuple):
    results: int
    models: int
    left: int  # in lost+found


def recover(home: Path, user: str = accounts.LOCAL) -> Recovered:
    """Takes in what no row names, as the user's; where the database is lost or damaged, into a new one. The folder
    must be alone: hold its lock. UserError for a user who does not exist."""
    check_not_postgresqls(home)
    database = home / "studio.db"
    if is_new := not has_content(database) or is_damaged(database):
        make_database(home)
    store = Store(home)
    owner = accounts.local_user(store) if user == accounts.LOCAL else accounts.find_user(store, user)
    if owner is None and is_new:
        owner = accounts.add_user(store, user, None)
    if owner is None:
        raise UserError(f"there is no user '{user}': make one with `inkwash studio user {user}`")
    count = {"results": 0, "models": 0}
    with store.writing() as tx:
        for found in sorted(without_rows(store, tx), key=lambda found: found.time):
            kind, take_in = ("models", take_in_model) if found.path.is_dir() else ("results", take_in_picture)
            take_in(store, tx, owner.id, found)
            count[kind] += 1
    left = 0
    with suppress(OSError):  # there is none, or it is the file system's
        left = len(os.listdir(home / "lost+found"))
    return Recovered(**count, left=left)


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds a fault in a database."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            return bool(connection.execute("pragma integrity_check(1)").fetchone() != ("ok",))
    except sqlite3.Error as error:
        if unusable(error) == DAMAGED:
            return True
        raise UserError(f"{path}: it cannot be read ({error})") from None


def make_database(home: Path) -> None:
    """A new database, whole, in place of one that is lost or damaged, which moves to `lost+found`."""
    if not (home / "files").is_dir():
        raise UserError(f"{home}: no studio has been there; give its folder with --home")
    with TemporaryDirectory(prefix=".recover-", dir=home) as scratch:
        Store(Path(scratch)).engine.dispose()
        clear_database(home)
        (Path(scratch) / "studio.db").rename(home / "studio.db")
    sync(home)


def clear_database(home: Path) -> None:
    """Moves what there is of a database to `lost+found`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for ending in ("", "-wal", "-shm"):  # the names by which SQLite finds them together
        path = home / f"studio.db{ending}"
        if path.exists():
            set_aside(path, home / "lost+found", f"studio.db.{stamp}{ending}")


def take_in_picture(store: Store, tx: Connection, user: str, found: Found) -> None:
    sha256, made, size = digest(found.path), found.time, found.path.stat().st_size
    system, verb = str(found.recipe["system"]), str(found.recipe["verb"])
    request, title = request_of(system, verb, found.recipe)
    job = add_job(tx, user, made, system=system, verb=verb, request=request, model=request.get("model"))
    row = {"id": new_id(), "job_id": job, "part": 0, "number": 0, "place": 0, "user_id": user, "title": title}
    row |= {"system": system, "verb": verb, "data": {}, "recipe": found.recipe, "bytes": size, "created": made}
    tx.execute(insert(results).values(**row, serial=tick(tx)))
    file = {"result_id": row["id"], "number": 0, "sha256": sha256, "suffix": ".png", "media": "image/png"}
    tx.execute(insert(files).values(file | {"name": f"inkwash-{sha256[:8]}.png", "bytes": size}))
    path = store.files.path(sha256, ".png")
    path.parent.mkdir(exist_ok=True, mode=0o700)
    move(found.path, path)
    sync(path.parent)


def request_of(system: str, verb: str, recipe: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The request of a recipe, as far as this version knows its verb, and the words by which it is found again."""
    known = systems()[system].verbs.get(verb) if system in systems() else None
    fields = options(known.request) if known else {}
    request = {name: recipe[name] for name in fields if isinstance(recipe.get(name), str | int | float)}
    words = (str(request[name]) for name, option in fields.items() if option.argument and request.get(name))
    return request, " ".join(words)


def take_in_model(store: Store, tx: Connection, user: str, found: Found) -> None:
    system, made, id = found.recipe["system"], found.time, new_id()
    job = add_job(tx, user, made, system=system, verb="train", request={}, model=None)
    name = free_name(tx, f"{system}-recovered", user, shared_models(()))
    row = {"id": id, "user_id": user, "name": name, "system": system, "job_id": job, "created": made}
    tx.execute(insert(models).values(row | {"bytes": size_of(found.path)}))
    move(found.path, store.models_folder / id)
    sync(store.models_folder)


def add_job(tx: Connection, user: str, made: float, **facts: Any) -> str:
    """A job that is done, for what it has made."""
    row = {"id": new_id(), "user_id": user, "api": "api", "parts": 1, "part": 1, "lasting": False, "status": "done"}
    row |= {"notes": [], "cost": 0.0, "served": 0.0, "previews": 0, "deaths": 0, "created": made, "changed": made}
    tx.execute(insert(jobs).values(row | facts | {"serial": tick(tx), "version": tick(tx)}))
    return str(row["id"])
