"""The table of jobs, and the pictures that belong to them: what is written here outlives any process.

A job is `queued`, then `running` under the lease of one worker, then `done`, `failed` or `cancelled`. Who writes for
a running job must still hold it: a worker that was given up for dead finds the job another's, and writes nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, create_engine, delete, event, exists, func, insert, or_, select, update
from sqlalchemy.exc import OperationalError

from inkwash.codecs.png import encode_png
from inkwash.errors import UserError
from inkwash.studio.files import Files, thumbnail
from inkwash.studio.tables import jobs, migrate, pictures, shares, uploads, users
from inkwash.weights.files import sync

LEASE = 15.0  # seconds that a worker has a job without a sign of life
MOST_DEATHS = 8  # of workers over one job without a picture, before the job is held to be the cause
MOST_WAITING = 10_000  # jobs in the queue
MOST_WAITING_EACH = 2_000  # of one user
MOST_UPLOADS = 300  # of one user at once
RESERVE = 20_000_000  # bytes of the disk that pictures leave free, so that the tables can still be written
PRAGMAS = ("journal_mode=wal", "synchronous=full", "fullfsync=on", "busy_timeout=30000", "foreign_keys=on")
OPEN = ("queued", "running")
CANCELLED = {"status": "cancelled", "worker": None, "lease": None}


class Refused(Exception):
    """What a client asked for cannot be: an HTTP status, one line, and for programs a code and the parameter."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.wait = status, message, code, param, wait


def identity() -> str:
    """A new name for a row: 128 random bits, which nobody guesses."""
    return secrets.token_hex(16)


def full(error: BaseException) -> bool:
    """Whether it says that there is no room on the disk."""
    if isinstance(error, OperationalError):
        return "disk is full" in str(error.orig)
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


class Store:
    """Jobs, pictures and their files, in one folder. Any number of processes may have it open."""

    def __init__(self, home: Path) -> None:
        self.home = home
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"cannot make the folder {home}: {error.strerror}; choose another with --home") from None
        self.files, self.one = Files(home / "pictures"), threading.Lock()
        sync(home)
        self.engine = create_engine(
            f"sqlite:///{home / 'studio.db'}", pool_size=20, max_overflow=40, hide_parameters=True
        )
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin)
        with self.writing() as tx:
            migrate(tx)

    def is_full(self) -> bool:
        return shutil.disk_usage(self.home).free < RESERVE

    def room(self) -> None:
        """OSError ENOSPC if there is none left for pictures."""
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.home))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction alone with the database; when the block is left, what it wrote lies on the disk."""
        # one thread of this process at a time: they would otherwise wait for SQLite by sleeping, some for seconds
        with self.one, self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    # what users ask for

    def submit(
        self, user: str, ask: Mapping[str, Any], *, door: str = "api", retry: str | None = None
    ) -> Mapping[str, Any]:
        """A new job; or the one that this user was given for the same `retry`.

        Raises Refused for an account that was closed, a day's share that is used up, or a queue that is full; OSError
        for a disk that is.
        """
        with self.writing() as tx:
            now = time.time()
            if retry is not None:
                found = tx.execute(select(jobs).where(jobs.c.user_id == user, jobs.c.retry == retry)).first()
                if found is not None:
                    return found._mapping
            self.room()
            row = tx.execute(select(users).where(users.c.id == user, users.c.active).with_for_update()).first()
            if row is None:
                raise Refused(403, "this account is closed; ask who runs the studio", "account_closed")
            if row.daily is not None:
                _within(tx, row, ask["n"], now)
            waiting = select(func.count()).select_from(jobs).where(jobs.c.status == "queued")
            if (
                tx.scalar(waiting.where(jobs.c.user_id == user)) >= MOST_WAITING_EACH
                or tx.scalar(waiting) >= MOST_WAITING
            ):
                raise Refused(429, "the queue is full; ask again when some of it is done", "queue_full", wait=10)
            job = {
                "id": identity(),
                "user_id": user,
                "door": door,
                "ask": dict(ask),
                "n": ask["n"],
                "status": "queued",
                "error": None,
                "retry": retry,
                "worker": None,
                "lease": None,
                "deaths": 0,
                "created": now,
                "changed": now,
                "started": None,
            }
            tx.execute(insert(jobs).values(job))
        return job

    def retried(self, user: str, what: str, since: float) -> str | None:
        """The newest job whose `retry` begins with this, if it is open or has ended since then."""
        with self.reading() as tx:
            same = (jobs.c.user_id == user, jobs.c.retry.startswith(what, autoescape=True))
            same = (*same, or_(jobs.c.status.in_(OPEN), jobs.c.changed >= since))
            return tx.scalar(select(jobs.c.id).where(*same).order_by(jobs.c.created.desc()).limit(1))

    def job(self, id: str, user: str | None = None) -> Row[Any] | None:
        """The job, if it is this user's; anyone's where no user is given."""
        with self.reading() as tx:
            return tx.execute(select(jobs).where(jobs.c.id == id, _of(jobs, user))).first()

    def jobs(self, user: str, *, status: Sequence[str] = (), before: str | None = None, limit: int = 50) -> list[Any]:
        """The user's newest jobs; `before` a job of theirs: those that are older."""
        with self.reading() as tx:
            query = select(jobs).where(jobs.c.user_id == user)
            if status:
                query = query.where(jobs.c.status.in_(status))
            return _page(tx, query, jobs, user, before, limit)

    def changed_since(self, user: str, moment: float) -> list[Any]:
        """The user's jobs that are open or have changed since, in the order in which they changed; the last 500."""
        with self.reading() as tx:
            news = or_(jobs.c.status.in_(OPEN), jobs.c.changed >= moment)
            query = select(jobs).where(jobs.c.user_id == user, news).order_by(jobs.c.changed.desc(), jobs.c.id)
            return list(tx.execute(query.limit(500)))[::-1]

    def ahead(self, job: Row[Any]) -> int:
        """How many jobs at most come before this queued one, as users take turns."""
        with self.reading() as tx:
            queued = jobs.c.status == "queued"
            mine = (queued, jobs.c.user_id == job.user_id, jobs.c.created < job.created)
            own = tx.scalar(select(func.count()).select_from(jobs).where(*mine)) or 0
            others = select(func.count()).where(queued, jobs.c.user_id != job.user_id).group_by(jobs.c.user_id)
            return own + sum(min(count, own + 1) for count in tx.execute(others).scalars())

    def cancel(self, id: str, user: str | None = None) -> bool:
        """Ends a job that is open; whether it was. The worker that has it sees so at its next step."""
        with self.writing() as tx:
            now = time.time()
            which = and_(jobs.c.id == id, _of(jobs, user), jobs.c.status.in_(OPEN))
            return bool(tx.execute(update(jobs).where(which).values(**CANCELLED, changed=now)).rowcount)

    def count(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        with self.reading() as tx:
            rows = tx.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
            return {status: count for status, count in rows}

    # what workers do

    def claim(self, worker: str) -> Row[Any] | None:
        """The next job, now this worker's: the oldest of the user who waits and was served longest ago."""
        with self.reading() as tx:  # which does not wait for writers, as most calls of an idle worker find nothing
            if tx.scalar(select(jobs.c.id).where(jobs.c.status == "queued").limit(1)) is None:
                return None
        with self.writing() as tx:
            now = time.time()
            waits = exists().where(jobs.c.user_id == users.c.id, jobs.c.status == "queued")
            user = tx.scalar(select(users.c.id).where(waits).order_by(users.c.served, users.c.id).limit(1))
            query = select(jobs).where(jobs.c.user_id == user, jobs.c.status == "queued")
            job = tx.execute(
                query.order_by(jobs.c.created, jobs.c.id).limit(1).with_for_update(skip_locked=True)
            ).first()
            if job is None:
                return None
            lease = {"status": "running", "worker": worker, "lease": now + LEASE, "started": now, "changed": now}
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(lease))
            tx.execute(update(users).where(users.c.id == user).values(served=now))
            return tx.execute(select(jobs).where(jobs.c.id == job.id)).one()

    def holds(self, worker: str, job: str) -> bool:
        """Whether the job is still this worker's: not cancelled, not given to another."""
        with self.reading() as tx:
            return tx.scalar(select(jobs.c.id).where(_held(worker, job))) is not None

    def renew(self, worker: str, job: str) -> None:
        with self.writing() as tx:
            tx.execute(update(jobs).where(_held(worker, job)).values(lease=time.time() + LEASE))

    def places(self, job: str) -> set[int]:
        """Which of the job's pictures are there."""
        with self.reading() as tx:
            return set(tx.execute(select(pictures.c.place).where(pictures.c.job_id == job)).scalars())

    def add(self, worker: str, job: Row[Any], place: int, data: bytes, facts: Mapping[str, Any]) -> bool:
        """Keeps a picture of the job, file and row together; with the job's last one the job is done.

        False, and nothing kept, if the job is not this worker's any more. OSError for a full disk.
        """
        self.room()
        with self.writing() as tx:
            now = time.time()
            if tx.scalar(select(jobs.c.id).where(_held(worker, job.id)).with_for_update()) is None:
                return False
            row = {"id": identity(), "job_id": job.id, "place": place, "user_id": job.user_id, "created": now}
            tx.execute(insert(pictures).values({**row, **facts, "sha256": self.files.save(data)}))
            there = tx.scalar(select(func.count()).select_from(pictures).where(pictures.c.job_id == job.id))
            state = {"status": "done", "worker": None, "lease": None} if there == job.n else {}
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(changed=now, deaths=0, **state))
        return True

    def fail(self, worker: str, job: str, error: str) -> None:
        with self.writing() as tx:
            state = {"status": "failed", "error": error, "worker": None, "lease": None, "changed": time.time()}
            tx.execute(update(jobs).where(_held(worker, job)).values(state))

    def release(self, worker: str, dead: bool = False) -> None:
        """The worker's jobs go back to the queue. dead: it died over them; where that was too often, they failed."""
        with self.writing() as tx:
            _give_back(tx, jobs.c.worker == worker, int(dead))

    def recover(self) -> list[Path]:
        """At the start of a server, alone in its folder: every running job is queued again, and what a crash left of
        files goes. Whole pictures without rows move to `lost+found`, as `Files.sweep` says; which these are."""
        with self.writing() as tx:
            _give_back(tx, jobs.c.status == "running", 0)
            kept = set(tx.execute(select(pictures.c.sha256).where(pictures.c.deleted.is_(None))).scalars())
            gone = select(pictures.c.sha256, func.max(pictures.c.deleted)).group_by(pictures.c.sha256)
            deleted = dict(map(tuple, tx.execute(gone.where(pictures.c.deleted.is_not(None)))))
            return self.files.sweep(kept | set(tx.execute(select(uploads.c.sha256)).scalars()), deleted)

    def expire(self) -> list[str]:
        """Takes jobs from workers that gave no sign of life in time; who they were."""
        late = and_(jobs.c.status == "running", jobs.c.lease < time.time())
        with self.reading() as tx:
            if tx.scalar(select(jobs.c.id).where(late).limit(1)) is None:
                return []
        with self.writing() as tx:
            workers = list(tx.execute(select(jobs.c.worker).where(late)).scalars())
            _give_back(tx, late, 1)
        return workers

    # pictures

    def of_job(self, job: str) -> list[Any]:
        """The job's pictures that are there, in their order."""
        with self.reading() as tx:
            there = (pictures.c.job_id == job, pictures.c.deleted.is_(None))
            return list(tx.execute(select(pictures).where(*there).order_by(pictures.c.place)))

    def picture(self, id: str, user: str | None = None) -> Row[Any] | None:
        with self.reading() as tx:
            there = (pictures.c.id == id, pictures.c.deleted.is_(None), _of(pictures, user))
            return tx.execute(select(pictures).where(*there)).first()

    def pictures(self, user: str, *, words: str = "", before: str | None = None, limit: int = 50) -> list[Any]:
        """The user's newest pictures whose prompts contain all these words; `before` one of theirs: those older."""
        with self.reading() as tx:
            query = select(pictures).where(pictures.c.user_id == user, pictures.c.deleted.is_(None))
            for word in words.split():
                query = query.where(pictures.c.prompt.icontains(word, autoescape=True))
            return _page(tx, query, pictures, user, before, limit)

    def delete(self, id: str, user: str) -> bool:
        """Forgets a picture and what it was asked for by; whether it was there. It is not drawn again."""
        with self.writing() as tx:
            which = (pictures.c.id == id, pictures.c.user_id == user, pictures.c.deleted.is_(None))
            content = tx.scalar(select(pictures.c.sha256).where(*which))
            if content is None:
                return False
            tx.execute(delete(shares).where(shares.c.picture_id == id))
            gone = {"deleted": time.time(), "recipe": {}, "prompt": ""}
            job = tx.scalar(update(pictures).where(pictures.c.id == id).values(gone).returning(pictures.c.job_id))
            _forget_words(tx, job)
        self._drop(content)  # only when that is certain: a crash between leaves a file, which the next start removes
        return True

    def _drop(self, content: str) -> None:
        """Removes a file that no row names."""
        with self.writing() as tx:
            in_pictures = exists().where(pictures.c.sha256 == content, pictures.c.deleted.is_(None))
            in_uploads = exists().where(uploads.c.sha256 == content)
            if not tx.scalar(select(or_(in_pictures, in_uploads))):
                self.files.remove(content)

    def share(self, id: str, user: str, *, recipe: bool, seconds: float | None = None) -> str | None:
        """A name by which anyone may see the picture, with its recipe or without; None if it is not the user's."""
        with self.writing() as tx:
            which = (pictures.c.id == id, pictures.c.user_id == user, pictures.c.deleted.is_(None))
            if tx.scalar(select(pictures.c.id).where(*which)) is None:
                return None
            if seconds is None:  # the one that lasts replaces the one before
                tx.execute(delete(shares).where(shares.c.picture_id == id, shares.c.expires.is_(None)))
            token, expires = secrets.token_urlsafe(24), None if seconds is None else time.time() + seconds
            tx.execute(insert(shares).values(token=token, picture_id=id, recipe=recipe, expires=expires))
        return token

    def share_of(self, id: str, user: str) -> Row[Any] | None:
        """The picture's share that lasts, if it has one and is the user's."""
        with self.reading() as tx:
            own = (pictures.c.id == id, pictures.c.user_id == user, shares.c.expires.is_(None))
            return tx.execute(select(shares).join(pictures).where(*own)).first()

    def unshare(self, id: str, user: str) -> bool:
        with self.writing() as tx:
            own = exists().where(pictures.c.id == shares.c.picture_id, pictures.c.user_id == user)
            return bool(tx.execute(delete(shares).where(shares.c.picture_id == id, own)).rowcount)

    def shared(self, token: str) -> tuple[Row[Any], bool] | None:
        """The picture of a share, and whether its recipe goes with it."""
        with self.reading() as tx:
            valid = or_(shares.c.expires.is_(None), shares.c.expires > time.time())
            share = tx.execute(select(shares).where(shares.c.token == token, valid)).first()
        found = None if share is None else self.picture(share.picture_id)
        return None if share is None or found is None else (found, share.recipe)

    def read(self, picture: Row[Any], recipe: bool = True) -> bytes:
        """The PNG of a picture; without the recipe it says only that it was made by a model. Refused if it has just
        been deleted."""
        try:
            data = self.files.read(picture.sha256)
        except FileNotFoundError:
            raise Refused(404, "there is no such picture", "not_found") from None
        return data if recipe else encode_png(Files.opened(data))

    def thumbnail(self, picture: Row[Any]) -> bytes:
        """A small WebP of the picture, made when it is first asked for."""
        small = self.files.thumbnail(picture.sha256)
        if small is None:
            small = thumbnail(self.read(picture))
            if self.is_full():
                return small
            with self.writing() as tx:  # not of one that is being deleted
                there = (pictures.c.id == picture.id, pictures.c.deleted.is_(None))
                if tx.scalar(select(pictures.c.id).where(*there)) is not None:
                    self.files.save_thumbnail(picture.sha256, small)
        return small

    # pictures that went in

    def upload(self, user: str, data: bytes) -> str:
        """Keeps a picture that uploads.py made safe; its name. Refused for too many, OSError for a full disk."""
        self.room()
        with self.writing() as tx:
            count = tx.scalar(select(func.count()).select_from(uploads).where(uploads.c.user_id == user))
            if count >= MOST_UPLOADS:
                raise Refused(429, "too many pictures to begin from; they are kept for an hour", "uploads", wait=600)
            row = {"id": identity(), "user_id": user, "sha256": self.files.save(data), "created": time.time()}
            tx.execute(insert(uploads).values(row))
        return str(row["id"])

    def uploaded(self, id: str, user: str) -> str | None:
        """The content's SHA-256."""
        with self.reading() as tx:
            return tx.scalar(select(uploads.c.sha256).where(uploads.c.id == id, uploads.c.user_id == user))

    def forget_uploads(self, older: float, only: Sequence[str] | None = None) -> None:
        """Removes uploads made before that time which no open job names; of these `only`, if some are given."""
        with self.writing() as tx:
            which = True if only is None else uploads.c.id.in_(only)
            old = tx.execute(select(uploads).where(uploads.c.created < older, which)).all()
            owners = list({row.user_id for row in old})
            theirs = (jobs.c.status.in_(OPEN), jobs.c.user_id.in_(owners))
            asks = list(tx.execute(select(jobs.c.ask).where(*theirs)).scalars()) if owners else []
            needed = {ask.get(key) for ask in asks for key in ("image", "mask")}
            gone = [row for row in old if row.id not in needed]
            for row in gone:
                tx.execute(delete(uploads).where(uploads.c.id == row.id))
        for content in {row.sha256 for row in gone}:
            self._drop(content)


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in PRAGMAS:
        connection.execute(f"pragma {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")


def _of(table: Any, user: str | None) -> Any:
    return True if user is None else table.c.user_id == user


def _held(worker: str, job: str) -> Any:
    return and_(jobs.c.id == job, jobs.c.worker == worker, jobs.c.status == "running")


def _page(tx: Connection, query: Any, table: Any, user: str, before: str | None, limit: int) -> list[Any]:
    """Newest first. The mark is found whatever has become of it since it was listed."""
    if before is not None:
        mark = tx.execute(select(table).where(table.c.id == before, table.c.user_id == user)).first()
        if mark is None:
            return []
        older = and_(table.c.created == mark.created, table.c.id < mark.id)
        query = query.where(or_(table.c.created < mark.created, older))
    return list(tx.execute(query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)))


def _within(tx: Connection, user: Row[Any], n: int, now: float) -> None:
    """Refused if n more pictures are more than the user's in 24 hours."""
    recent = (jobs.c.user_id == user.id, jobs.c.created > now - 86400, jobs.c.status.in_((*OPEN, "done")))
    taken = tx.scalar(select(func.coalesce(func.sum(jobs.c.n), 0)).where(*recent))
    ended = (jobs.c.user_id == user.id, jobs.c.created > now - 86400, jobs.c.status.in_(("cancelled", "failed")))
    taken += tx.scalar(select(func.count()).select_from(pictures.join(jobs)).where(*ended))  # what was drawn of them
    if taken + n > user.daily:
        first = tx.scalar(select(func.min(jobs.c.created)).where(*recent)) or now
        message = f"{taken} of your {user.daily} pictures in 24 hours are taken; {n} more are not left"
        raise Refused(429, message, "quota", wait=max(1.0, first + 86400 - now))


def _forget_words(tx: Connection, job: str) -> None:
    """Of a job that has ended and none of whose pictures are left, the words go, too."""
    left = exists().where(pictures.c.job_id == job, pictures.c.deleted.is_(None))
    ask = tx.scalar(select(jobs.c.ask).where(jobs.c.id == job, jobs.c.status.not_in(OPEN), ~left))
    if ask is not None:
        tx.execute(update(jobs).where(jobs.c.id == job).values(ask={**ask, "prompt": "", "negative": ""}))


def _give_back(tx: Connection, which: Any, deaths: int) -> None:
    """Running jobs to the queue, where they were; those over which too many workers died have failed."""
    free = {"worker": None, "lease": None, "changed": time.time(), "deaths": jobs.c.deaths + deaths}
    running = and_(which, jobs.c.status == "running")
    if deaths:
        error = f"the worker died over it {MOST_DEATHS} times; it may need more memory than there is"
        last = and_(running, jobs.c.deaths + deaths >= MOST_DEATHS)
        tx.execute(update(jobs).where(last).values(status="failed", error=error, **free))
    tx.execute(update(jobs).where(running).values(status="queued", **free))
