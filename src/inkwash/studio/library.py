"""What belongs to users: results with their files, models, and the files that went in."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, case, delete, exists, func, insert, or_, select, tuple_, update

from inkwash.codecs.png import replace_recipe
from inkwash.studio.database import Database, count_rows, new_id, owned_by, page
from inkwash.studio.dialects import alone, now
from inkwash.studio.errors import APIError, no_such
from inkwash.studio.files import SVG, WITH_RECIPE, Content, contents, models_in, set_aside, thumbnail, tighten
from inkwash.studio.tables import files, jobs, models, results, shares, uploads, users

OPEN = ("queued", "running", "paused")
MAX_UPLOADS = 20_000  # files of one user at once
MB = 10**6
OPEN_ONCE = (
    "empty",
    "lost+found",
    "studio.db",
    "studio.db-wal",
    "studio.db-shm",
    "studio.log",
    "studio.log.1",
    "studio.log.2",
)


class NewFile(NamedTuple):
    """A file of a result, or one that came in, whose content is staged."""

    content: Content
    name: str


@dataclass(frozen=True)
class Result:
    """A row of `results`, and its files in their order."""

    id: str
    job_id: str
    part: int
    number: int
    place: int | None
    user_id: str
    system: str
    verb: str
    title: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    model: str | None
    bytes: int
    created: float
    deleted: float | None
    serial: int
    files: list[Row[Any]]

    @property
    def picture(self) -> Row[Any] | None:
        """The file of which there is a thumbnail."""
        pixels = (file for file in self.files if file.media.startswith("image/") and file.media != SVG)
        return next(pixels, None)


class Library(Database):
    # results

    def results_of(self, job: str) -> list[Result]:
        """The job's results that are there, in their order."""
        with self.reading() as tx:
            query = select(results).where(results.c.job_id == job, results.c.deleted.is_(None))
            return with_files(tx, tx.execute(query.order_by(results.c.part, results.c.number)))

    def result(self, id: str, user: str | None = None) -> Result | None:
        with self.reading() as tx:
            which = (results.c.id == id, results.c.deleted.is_(None), owned_by(results, user))
            return next(iter(with_files(tx, tx.execute(select(results).where(*which)))), None)

    def results(
        self, user: str, *, words: str = "", system: str | None = None, before: str | None = None, limit: int = 50
    ) -> list[Result]:
        """The user's newest results whose titles contain all these words; `before` one of theirs: those older."""
        with self.reading() as tx:
            query = select(results).where(results.c.user_id == user, results.c.deleted.is_(None))
            if system is not None:
                query = query.where(results.c.system == system)
            if "\0" in words:  # where SQLite's LIKE ends its pattern, so that it would find what ends with the rest
                return []
            for word in words.split():
                query = query.where(results.c.title.icontains(word, autoescape=True))
            return with_files(tx, page(tx, query, results, user, before, limit))

    def delete(self, id: str, user: str) -> bool:
        """Forgets a result and what it was asked for by; whether it was there. It is not made again."""
        with self.writing() as tx:
            which = (results.c.id == id, results.c.user_id == user, results.c.deleted.is_(None))
            its_job = select(results.c.job_id).where(*which).scalar_subquery()
            tx.execute(select(jobs.c.id).where(jobs.c.id == its_job).with_for_update(key_share=True))
            gone = {"deleted": now(tx), "recipe": {}, "data": {}, "title": "", "model": None, "bytes": 0}
            job = tx.scalar(update(results).where(*which).values(gone).returning(results.c.job_id))
            if job is None:
                return False
            tx.execute(delete(shares).where(shares.c.result_id == id))
            # names are words, too; contents stay named until the files are gone
            tx.execute(update(files).where(files.c.result_id == id).values(name=""))
            left = exists().where(results.c.job_id == job, not_deleted())
            if tx.scalar(select(jobs.c.id).where(jobs.c.id == job, ~may_go_on(), ~left)) is not None:
                erase_text(tx, job)
            self.has_erased = True
            named = tx.execute(select(files.c.sha256, files.c.suffix).where(files.c.result_id == id)).all()
        self._remove_unused(
            {(row.sha256, row.suffix) for row in named}
        )  # only when that is certain: a crash between leaves files, which the next start removes
        return True

    def _remove_unused(self, contents: Iterable[tuple[str, str]]) -> None:
        """Removes files that no row names."""
        with self.writing() as tx:
            alone(tx, "files")
            for sha256, suffix in contents:
                with_results = files.join(results)
                in_results = exists(
                    select(1).select_from(with_results).where(*_has_content(files, sha256, suffix), not_deleted())
                )
                in_uploads = exists().where(*_has_content(uploads, sha256, suffix))
                if not tx.scalar(select(or_(in_results, in_uploads))):
                    self.files.remove(sha256, suffix)

    def share(self, id: str, user: str, *, recipe: bool, seconds: float | None = None) -> str | None:
        """A name by which anyone may see the result's first file, with its recipe or without; None if it is not the
        user's, or has no file."""
        with self.writing() as tx:
            which = (results.c.id == id, results.c.user_id == user, not_deleted())
            its_file = select(files.c.result_id).join(results).where(*which)
            if tx.scalar(its_file.with_for_update(of=results, key_share=True)) is None:
                return None
            if seconds is None:  # the one that lasts replaces the one before
                tx.execute(delete(shares).where(shares.c.result_id == id, shares.c.expires.is_(None)))
            token, present = secrets.token_urlsafe(24), now(tx)
            facts = {"recipe": recipe, "created": present, "expires": None if seconds is None else present + seconds}
            tx.execute(insert(shares).values(token=token, result_id=id, **facts))
        return token

    def share_of(self, id: str, user: str) -> Row[Any] | None:
        """The result's share that lasts, if it has one and is the user's."""
        with self.reading() as tx:
            mine = (results.c.id == id, results.c.user_id == user, shares.c.expires.is_(None))
            return tx.execute(select(shares).join(results).where(*mine)).first()

    def unshare(self, id: str, user: str) -> bool:
        with self.writing() as tx:
            mine = exists().where(results.c.id == shares.c.result_id, results.c.user_id == user)
            return bool(tx.execute(delete(shares).where(shares.c.result_id == id, mine)).rowcount)

    def shared(self, token: str) -> tuple[Row[Any], bool] | None:
        """The file of a share, and whether its recipe goes with it."""
        with self.reading() as tx:
            valid = or_(shares.c.expires.is_(None), shares.c.expires > now(tx))
            share = tx.execute(select(shares).where(shares.c.token == token, valid)).first()
        found = None if share is None else self.result(share.result_id)
        return None if share is None or found is None else (found.files[0], share.recipe)

    def read(self, file: Row[Any], recipe: bool = True) -> bytes:
        """The content; without the recipe, of what has one, only that it was made by a model. APIError if it has just
        been deleted."""
        try:
            data = self.files.read(file.sha256, file.suffix)
        except FileNotFoundError:
            raise no_such("file") from None
        return data if recipe or file.media not in WITH_RECIPE else replace_recipe(data, None)

    def thumbnail(self, result: Result) -> bytes:
        """A small WebP of the result's picture, made when it is first asked for. APIError where there is none."""
        file = result.picture
        if file is None:
            raise no_such("thumbnail")
        small = self.files.thumbnail(file.sha256)
        if small is None:
            try:
                small = thumbnail(self.read(file))
            except (OSError, ValueError):  # what Pillow raises for what it cannot open
                raise no_such("thumbnail") from None
            if self.is_full() or self.is_busy:
                return small
            with self.writing() as tx:  # not of one that is being deleted
                alone(tx, "files", among_others=True)
                if tx.scalar(select(results.c.id).where(results.c.id == result.id, not_deleted())) is not None:
                    self.files.save_thumbnail(file.sha256, small)
        return small

    # files that go in

    def add_uploads(self, user: str, new_uploads: Sequence[NewFile], cleaned: bool = False) -> list[bool]:
        """Keeps files that came in; which of them were new. APIError for too many, or more than the user's share of
        the disk; OSError for a full disk."""
        self.check_disk()
        with self.writing() as tx:
            alone(tx, "files", among_others=True)
            tx.execute(select(users.c.id).where(users.c.id == user).with_for_update(key_share=True))
            count_before = count_rows(tx, uploads, uploads.c.user_id == user)
            if count_before + len(new_uploads) > MAX_UPLOADS:
                message = f"more than {MAX_UPLOADS} files that went in; they are kept for an hour"
                raise APIError(429, message, "uploads", wait=600)
            self.check_share(tx, user, sum(file.content.bytes for file in new_uploads))
            return [self._add_upload(tx, user, file, cleaned) for file in new_uploads]

    def _add_upload(self, tx: Connection, user: str, file: NewFile, cleaned: bool) -> bool:
        content, present = file.content, now(tx)
        which = (uploads.c.user_id == user, uploads.c.sha256 == content.sha256)
        if tx.execute(update(uploads).where(*which).values(created=present, name=file.name)).rowcount:
            return False
        facts = {"sha256": content.sha256, "suffix": content.suffix, "bytes": content.bytes}
        facts |= {"user_id": user, "name": file.name, "media": content.media, "created": present}
        tx.execute(insert(uploads).values(**facts, cleaned=cleaned))
        self.files.commit(content)
        return True

    def upload_of(self, sha256: str, user: str) -> Row[Any] | None:
        with self.reading() as tx:
            return tx.execute(select(uploads).where(uploads.c.sha256 == sha256, uploads.c.user_id == user)).first()

    def uploads_by_sha256(self, user: str, contents: set[str]) -> dict[str, Row[Any]]:
        """Those of the contents that the user has sent, by their SHA-256."""
        with self.reading() as tx:
            theirs = select(uploads).where(uploads.c.user_id == user, uploads.c.sha256.in_(contents))
            return {row.sha256: row for row in tx.execute(theirs)}

    def delete_uploads(self, older: float, only: Collection[tuple[str, str]] | None = None) -> None:
        """Removes uploads made before that time which no job needs that may go on; of these `only`,
        (user, sha256), if some are given."""
        with self.writing() as tx:
            found = select(uploads).where(uploads.c.created < older)
            if only is not None:
                found = found.where(tuple_(uploads.c.user_id, uploads.c.sha256).in_(only))
            old = tx.execute(found.with_for_update(skip_locked=True)).all()
            owners = list({row.user_id for row in old})
            theirs = (may_go_on(), jobs.c.user_id.in_(owners))
            requests = tx.execute(select(jobs.c.user_id, jobs.c.request).where(*theirs)).all() if owners else []
            needed = {(user, file["sha256"]) for user, request in requests for file in files_in(request)}
            gone = [row for row in old if (row.user_id, row.sha256) not in needed]
            for row in gone:
                tx.execute(
                    delete(uploads).where(*_has_content(uploads, row.sha256), uploads.c.user_id == row.user_id)
                )
            self.has_erased |= bool(gone)
        self._remove_unused({(row.sha256, row.suffix) for row in gone})

    # models

    def models(self, user: str) -> list[Row[Any]]:
        """Those that the user's trainings made, the newest last."""
        with self.reading() as tx:
            return list(tx.execute(select(models).where(*models_of(user)).order_by(models.c.created, models.c.id)))

    def model(self, name: str, user: str) -> Row[Any] | None:
        with self.reading() as tx:
            return tx.execute(select(models).where(models.c.name == name, *models_of(user))).first()

    def model_of(self, name: str, job: Row[Any]) -> Row[Any] | None:
        """The model that had this name when the job was asked for, as its training has left it since; None if it was
        deleted."""
        then = and_(models.c.created <= job.created, or_(models.c.deleted.is_(None), models.c.deleted >= job.created))
        training = select(models.c.job_id).where(models.c.user_id == job.user_id, models.c.name == name, then)
        with self.reading() as tx:
            same = (models.c.name == name, models.c.job_id.in_(training))
            return tx.execute(select(models).where(*same, *models_of(job.user_id))).first()

    def folder_of(self, model: Row[Any]) -> Path:
        folder = self.models_folder / str(model.id)
        if self.bucket is not None and not folder.exists():
            with suppress(FileNotFoundError):  # it was just deleted
                self.bucket.get_folder(archive_of(model.id), folder)
        return folder

    def send_model(self, folder: Path) -> str:
        """The id of a new model; where there is a bucket, its files are there before any row names them."""
        id = new_id()
        if self.bucket is not None:
            self.bucket.put_folder(archive_of(id), folder)
        return id

    def sweep_models(self) -> list[Path]:
        """Removes the folders of models that are deleted; those of none move to `lost+found`: which these are."""
        exists_by_id, lost = self.remove_deleted_models(), []
        for folder in list(models_in(self.models_folder)):
            if folder.name not in exists_by_id:
                with suppress(OSError):  # as with files
                    lost.append(set_aside(folder, self.home / "lost+found"))
        return lost

    def remove_deleted_models(self) -> dict[str, bool]:
        """Removes the folders of models that are deleted; of every model, whether it is there."""
        with self.reading() as tx:
            exists_by_id = {id: deleted is None for id, deleted in tx.execute(select(models.c.id, models.c.deleted))}
        for folder in self.models_folder.iterdir():
            if exists_by_id.get(folder.name) is False:
                shutil.rmtree(folder, ignore_errors=True)
        return exists_by_id

    def delete_model(self, name: str, user: str) -> bool:
        """Deletes a model, and forgets its name; whether it was there."""
        with self.writing() as tx:
            which = select(models).where(models.c.name == name, *models_of(user))
            row = tx.execute(which.with_for_update(key_share=True)).first()
            if row is None:
                return False
            tx.execute(update(models).where(models.c.id == row.id).values(deleted=now(tx), bytes=0))
            of_training = models.c.job_id == row.job_id  # those, too, that it has replaced
            tx.execute(update(models).where(of_training).values(name="", card=None))
            self.has_erased = True
        self._remove_model(row.id)  # only when that is certain, as above
        return True

    def _remove_model(self, id: str | None) -> None:
        if id is not None:
            shutil.rmtree(self.models_folder / id, ignore_errors=True)
            if self.bucket is not None:
                self.bucket.remove_object(archive_of(id))

    def disk_used(self, user: str) -> int:
        """Bytes of the user's results, models, uploads and trainings that may go on."""
        with self.reading() as tx:
            return self._disk_used(tx, user)

    def disk_left(self, user: str) -> float:
        """Bytes of the user's share of the disk; infinite without one."""
        with self.reading() as tx:
            disk = tx.scalar(select(users.c.disk).where(users.c.id == user))
            return math.inf if disk is None else disk - self._disk_used(tx, user)

    def _disk_used(self, tx: Connection, user: str, but: str = "") -> int:
        tables, run = (results, models, uploads), (jobs.c.user_id == user, jobs.c.lasting, may_go_on())
        kept = sum(int(tx.scalar(select(func.sum(t.c.bytes)).where(t.c.user_id == user)) or 0) for t in tables)
        runs = tx.execute(select(jobs.c.id).where(*run, jobs.c.id != but)).scalars()
        return kept + sum(size_of(self.runs / id / "out") for id in runs)  # what went in is among the uploads

    def check_share(self, tx: Connection, user: str, more: int, job: str = "") -> None:
        """APIError if so many bytes more are more than the user's share of the disk. job: that they come from; its
        folder is left out."""
        bounded = select(users.c.disk).where(users.c.id == user, users.c.disk.is_not(None))
        disk = tx.scalar(bounded.with_for_update(key_share=True))
        if disk is None:
            return
        used = self._disk_used(tx, user, job)
        if used + more > disk:
            message = (
                f"{used / MB:.1f} of your {disk / MB:g} MB of disk are taken, and {more / MB:.1f} more are needed"
            )
            raise APIError(403, f"{message}: delete results or models, or cancel a training", "disk_quota")

    def sweep(self) -> list[Path]:
        """At the start of a server, alone in its folder: what a crash left of files goes. Whole files and models
        without rows move to `lost+found`, as `Files.sweep` says; which these are."""
        with self.writing() as tx:
            gone = select(files.c.sha256, func.max(results.c.deleted)).join(results).where(~not_deleted())
            deleted = dict(map(tuple, tx.execute(gone.group_by(files.c.sha256))))
            lost = self.files.sweep(named_contents(tx), deleted)
        lost += self.sweep_models()
        self.remove_ended_runs()
        self._tighten()
        return lost

    def remove_ended_runs(self) -> None:
        """Removes the folders of jobs that have ended, on another machine, say."""
        names = [folder.name for folder in self.runs.iterdir()]
        with self.reading() as tx:
            ended = set(tx.execute(select(jobs.c.id).where(jobs.c.id.in_(names), ~may_go_on())).scalars())
        for name in ended:
            shutil.rmtree(self.runs / name, ignore_errors=True)

    def _tighten(self) -> None:
        """What an older studio left open to others."""
        tighten(self.models_folder, self.runs, *(self.home / name for name in OPEN_ONCE))
        for folder in (self.files.folder, self.files.thumbnails):
            tighten(folder, *(path for *_, file in contents(folder) for path in (file.parent, file)))
        for model in models_in(self.models_folder):
            tighten(model, *model.rglob("*"))


def may_go_on() -> Any:
    """Of a job: it is open, or a training that failed and may be resumed. What it needs stays, and counts."""
    return or_(jobs.c.status.in_(OPEN), and_(jobs.c.status == "failed", jobs.c.lasting))


def check_daily(tx: Connection, user: Row[Any], more: int, moment: float) -> None:
    """APIError if so many more results are more than the user's in 24 hours."""
    recent = (jobs.c.user_id == user.id, jobs.c.created > moment - 86400, jobs.c.created <= moment)
    made = select(func.count()).where(results.c.job_id == jobs.c.id).scalar_subquery()
    asked = func.coalesce(jobs.c.request["n"].as_integer(), jobs.c.parts)
    counted = case((jobs.c.status.in_(("cancelled", "failed")), made), else_=asked)
    taken = int(tx.scalar(select(func.sum(counted)).where(*recent)) or 0)
    if taken + more > user.daily:
        first = tx.scalar(select(func.min(jobs.c.created)).where(*recent)) or moment
        message = f"{taken} of your {user.daily} results in 24 hours are taken; {more} more are not left"
        raise APIError(429, message, "quota", wait=max(1.0, first + 86400 - moment))


def size_of(folder: Path) -> int:
    """Bytes of the files in it, or of itself if it is one; of those that vanish meanwhile none."""
    size = os.path.getsize(folder) if folder.is_file() else 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.path.getsize(os.path.join(place, name))
    return size


def archive_of(model: str) -> str:
    return f"models/{model}.zip"


def models_of(user: str) -> tuple[Any, ...]:
    return models.c.user_id == user, models.c.deleted.is_(None)


def not_deleted() -> Any:
    """Of a result: it was not deleted."""
    return results.c.deleted.is_(None)


def _has_content(table: Any, sha256: str, suffix: str | None = None) -> tuple[Any, ...]:
    """Of a row: it names this content."""
    return table.c.sha256 == sha256, True if suffix is None else table.c.suffix == suffix


def named_contents(tx: Connection) -> set[str]:
    """The SHA-256 of the files that results and uploads have."""
    of_results = select(files.c.sha256).join(results).where(not_deleted())
    return {*tx.execute(of_results).scalars(), *tx.execute(select(uploads.c.sha256)).scalars()}


def with_files(tx: Connection, rows: Iterable[Row[Any]]) -> list[Result]:
    rows = list(rows)
    found: dict[str, list[Row[Any]]] = {row.id: [] for row in rows}
    for file in tx.execute(select(files).where(files.c.result_id.in_(found)).order_by(files.c.number)):
        found[file.result_id].append(file)
    return [Result(**row._mapping, files=found[row.id]) for row in rows]


def nodes(value: Any) -> Iterator[Any]:
    """The value, and all that is in it."""
    yield value
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from nodes(inner)


def files_in(value: Any) -> list[dict[str, str]]:
    """The files that a request names, wherever in it."""
    return [one for one in nodes(value) if isinstance(one, dict) and one.keys() == {"sha256", "name"}]


def erase_text(tx: Connection, job: str) -> None:
    """The words of a job that does not go on; its numbers stay."""
    request = tx.execute(select(jobs.c.request).where(jobs.c.id == job)).scalar_one()
    numbers = {name: value for name, value in request.items() if not isinstance(value, str | list | dict)}
    tx.execute(
        update(jobs).where(jobs.c.id == job).values(request=numbers, notes=[], error=None, model=None, needs=None)
    )


def free_name(tx: Connection, stem: str, user: str, taken: Iterable[str]) -> str:
    """stem, or the first of stem-2, stem-3, ... that no model has which the user sees."""
    names = {*taken, *tx.execute(select(models.c.name).where(*models_of(user))).scalars()}
    return next(name for i in count(1) if (name := stem if i == 1 else f"{stem}-{i}") not in names)
