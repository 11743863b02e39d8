"""The table of jobs: what is written here outlives any process.

A job is `queued`, then `running` under the lease of one worker, then `done`, `failed` or `cancelled`; a lasting
one may be `paused` between. Who writes for a running job must still hold it: a worker that was given up for dead
finds the job another's, and writes nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, exists, func, insert, or_, select, update

from inkwash.studio import fleet, runs
from inkwash.studio.catalogue import kept_card
from inkwash.studio.database import count_rows, new_id, owned_by, page, stamp
from inkwash.studio.dialects import alone, now
from inkwash.studio.errors import APIError
from inkwash.studio.files import link_folder
from inkwash.studio.library import OPEN, Library, NewFile, check_daily, erase_text, free_name, may_go_on, size_of
from inkwash.studio.locks import held_by, lock_held, lock_jobs, lock_user
from inkwash.studio.tables import counter, files, jobs, models, results, users
from inkwash.weights.files import sync

STORE = "INKWASH_STORE"  # the variable of the environment with the URL of a PostgreSQL database
LEASE = 15.0  # seconds that a worker has a job without a sign of life
GRACE = 3.0  # seconds more that a worker of another server has
MAX_GAP = LEASE / 3  # seconds between two looks for heartbeats, after which none is missed
MAX_DEATHS = 8  # of workers over one job without a result, before the job is held to be the cause
MAX_QUEUED = 10_000  # jobs in the queue
MAX_QUEUED_EACH = 2_000  # of one user
MAX_NOTES = 20  # of one job
UNPLANNED = 10.0  # seconds that a part is held to take of which nobody knows
MAX_CLAIMS = 50  # workers that look for a job in the same moment
TURN = 30.0  # seconds of a lasting job that come before other work may
PATIENCE = 10.0  # a job lets smaller ones of its user that came later go first for so many times its own seconds
ENDED = {"worker": None, "heartbeat": None, "wanted": None}
CANCELLED = {"status": "cancelled", **ENDED}


class NewJob(NamedTuple):
    """What a job is: see the table."""

    system: str
    verb: str
    request: dict[str, Any]
    parts: int = 1
    model: str | None = None
    lasting: bool = False
    plan: dict[str, Any] | None = None
    previews: int = 0
    request_hash: str | None = None  # of what was asked for, before a seed was drawn
    needs: str | None = None

    def cost(self) -> float:
        """Planned seconds of a part, or of a turn of a lasting job: to one digit, so that the same request costs the
        same after another start, which measures the machine's speed anew."""
        seconds = (self.plan or {}).get("seconds")
        cost = UNPLANNED if seconds is None else float(f"{max(seconds, 0.001) / self.parts:.1g}")
        return min(cost, TURN) if self.lasting else cost


class NewResult(NamedTuple):
    """What a worker keeps of a result. folder: of a model."""

    place: int | None
    title: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    files: Sequence[NewFile] = ()
    folder: Path | None = None
    model: str = ""  # what to call it


class Store(Library):
    _heartbeats: Mapping[Any, float] = {}  # of workers, and when each was first seen by the monotonic clock
    _last_look = 0.0
    lacking: Collection[str] = ()  # what queued jobs need that the worker has not which last claimed one
    _queue: tuple[int, dict[str, int]] = (-1, {})  # places of the jobs that wait, as of this value of the counter

    # what users ask for

    def submit(self, user: str, new: NewJob, *, api: str = "api", idempotency_key: str | None = None) -> Row[Any]:
        """A new job; or the one that this user was given for the same `idempotency_key`.

        Raises APIError for an account that was closed, a day's or the disk's share that is used up, or a queue that
        is full; OSError for a disk that is.
        """
        with self.writing() as tx:
            row = tx.execute(select(users).where(users.c.id == user).with_for_update(key_share=True)).first()
            if idempotency_key is not None:
                same = (jobs.c.user_id == user, jobs.c.idempotency_key == idempotency_key)
                if (found := tx.execute(select(jobs).where(*same)).first()) is not None:
                    return found
            self.check_disk()
            if row is None or not row.active:
                raise APIError(403, "this account is closed; ask who runs the studio", "account_closed")
            if row.daily is not None:
                check_daily(tx, row, new.request.get("n", new.parts), now(tx))
            self.check_share(tx, user, (new.plan or {}).get("bytes") or 0)
            queued = jobs.c.status == "queued"
            is_full = count_rows(tx, jobs, queued, jobs.c.user_id == user) >= MAX_QUEUED_EACH
            if is_full or count_rows(tx, jobs, queued) >= MAX_QUEUED:
                raise APIError(429, "the queue is full; ask again when some of it is done", "queue_full", wait=10)
            facts = {"id": new_id(), "user_id": user, "api": api, "part": 0, "status": "queued", "notes": []}
            facts |= {"cost": new.cost(), "idempotency_key": idempotency_key, "deaths": 0}
            facts |= {"served": _join(tx, row), **(changes := stamp(tx))}
            facts |= {"serial": changes["version"], "created": changes["changed"]}
            job = insert(jobs).values(**new._asdict(), **facts)
            return tx.execute(job.returning(jobs)).one()

    def find_retry(self, user: str, key_prefix: str, window: float) -> str | None:
        """The newest job whose `idempotency_key` begins with this, if it is open or has ended in so many seconds."""
        with self.reading() as tx:
            since = now(tx) - window
            mine = (jobs.c.user_id == user, jobs.c.deleted.is_(None))
            same = jobs.c.idempotency_key.startswith(key_prefix, autoescape=True)
            recent = or_(jobs.c.status.in_(OPEN), jobs.c.changed >= since)
            return tx.scalar(select(jobs.c.id).where(*mine, same, recent).order_by(jobs.c.serial.desc()).limit(1))

    def job(self, id: str, user: str | None = None) -> Row[Any] | None:
        """The job, if it is this user's; anyone's where no user is given. None for one that was deleted."""
        with self.reading() as tx:
            which = (jobs.c.id == id, owned_by(jobs, user), jobs.c.deleted.is_(None))
            return tx.execute(select(jobs).where(*which)).first()

    def jobs(
        self,
        user: str,
        *,
        status: Sequence[str] = (),
        system: str | None = None,
        verb: str | None = None,
        api: Sequence[str] = (),
        before: str | None = None,
        limit: int = 50,
    ) -> list[Row[Any]]:
        """The user's newest jobs; `before` a job of theirs: those that are older."""
        with self.reading() as tx:
            query = select(jobs).where(jobs.c.user_id == user, jobs.c.deleted.is_(None))
            query = query.where(jobs.c.status.in_(status)) if status else query
            query = query if system is None else query.where(jobs.c.system == system)
            query = query if verb is None else query.where(jobs.c.verb == verb)
            query = query.where(jobs.c.api.in_(api)) if api else query
            return page(tx, query, jobs, user, before, limit)

    def version(self) -> int:
        """Of the newest change."""
        with self.reading() as tx:
            return int(tx.execute(select(counter.c.value)).scalar_one())

    def open_jobs(self, user: str) -> set[str]:
        """Ids of the user's jobs that are open, of the last 500."""
        with self.reading() as tx:
            query = select(jobs.c.id).where(jobs.c.user_id == user, jobs.c.status.in_(OPEN))
            return set(tx.execute(query.order_by(jobs.c.serial.desc()).limit(500)).scalars())

    def changed_since(self, user: str, version: int, also: Collection[str] = ()) -> list[Row[Any]]:
        """The user's jobs of this version or a later one, the last 500, and `also` those with these ids; in the order
        in which they changed."""
        with self.reading() as tx:
            query = select(jobs).where(jobs.c.user_id == user, jobs.c.deleted.is_(None))
            news = query.where(jobs.c.version >= version).order_by(jobs.c.version.desc()).limit(500)
            rows = {row.id: row for row in tx.execute(news)}
            rows |= {row.id: row for row in tx.execute(query.where(jobs.c.id.in_(set(also) - set(rows))))}
        return sorted(rows.values(), key=lambda row: (row.version, row.serial))

    def queue_position(self, job: Row[Any]) -> int:
        """How many jobs come before this queued one, as long as none comes in."""
        with self.reading() as tx:
            version = tx.execute(select(counter.c.value)).scalar_one()
            known_version, places = self._queue
            if known_version != version:
                places = {id: place for place, id in enumerate(tx.execute(_waiting()).scalars())}
                self._queue = version, places
        return places.get(job.id, 0)

    def cancel(self, id: str, user: str | None = None) -> bool:
        """Ends a job that is open, or a lasting one that failed and might go on; whether it was. The worker that has
        it sees so at its next step."""
        with self.writing() as tx:
            which = and_(jobs.c.id == id, owned_by(jobs, user), may_go_on())
            row = tx.execute(select(jobs).where(which).with_for_update(key_share=True)).first()
            if row is not None:
                _refund(tx, row)
                tx.execute(update(jobs).where(jobs.c.id == id).values(**CANCELLED, **stamp(tx)))
        if row is not None and row.worker is None:  # else the worker removes it
            runs.remove(self, row)
        return row is not None

    def delete_job(self, id: str, user: str) -> bool:
        """Forgets a job that has ended, and what it was asked for by; whether there was one. Its results stay."""
        with self.writing() as tx:
            which = (jobs.c.id == id, jobs.c.user_id == user, ~may_go_on(), jobs.c.deleted.is_(None))
            gone = {"deleted": now(tx), "idempotency_key": None, "request_hash": None}  # who asks again means it
            if not tx.execute(update(jobs).where(*which).values(gone)).rowcount:
                return False
            erase_text(tx, id)
            self.has_erased = True
        shutil.rmtree(self.runs / id, ignore_errors=True)
        return True

    def pause(self, id: str, user: str) -> bool:
        """A lasting job leaves the queue, or its worker at the next checkpoint; whether there is such a job."""
        return self._change_status(
            id, user, {"queued": {"status": "paused"}, "running": {"wanted": "pause"}, "paused": {}}
        )

    def resume(self, id: str, user: str) -> bool:
        """A lasting job that was paused, or has failed, goes on where it was."""
        again = {"status": "queued", "wanted": None, "error": None, "deaths": 0}
        return self._change_status(
            id, user, {"paused": again, "failed": again, "running": {"wanted": None}, "queued": {}}
        )

    def stop(self, id: str, user: str) -> bool:
        """A lasting job ends at its next checkpoint, and what it has learned by then is its result."""
        stop = {"wanted": "stop"}
        return self._change_status(id, user, {"paused": stop | {"status": "queued"}, "queued": stop, "running": stop})

    def _change_status(self, id: str, user: str, changes: Mapping[str, Mapping[str, Any]]) -> bool:
        """Changes a lasting job as its status says."""
        with self.writing() as tx:
            which = (jobs.c.id == id, jobs.c.user_id == user, jobs.c.lasting)
            found = select(jobs).where(*which, jobs.c.status.in_(changes)).with_for_update(key_share=True)
            row = tx.execute(found).first()
            if row is None:
                return False
            if row.status in ("paused", "failed") and changes[row.status].get("status") == "queued":
                _join(tx, lock_user(tx, user))
            tx.execute(update(jobs).where(jobs.c.id == id).values(**changes[row.status], **stamp(tx)))
        return True

    def count(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        with self.reading() as tx:
            rows = tx.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
            return {status: count for status, count in rows}

    def last_model(self) -> tuple[str, str] | None:
        """The model of the newest job that is done and named one, and whose the job was."""
        with self.reading() as tx:
            query = select(jobs.c.model, jobs.c.user_id).where(jobs.c.status == "done", jobs.c.model.is_not(None))
            row = tx.execute(query.order_by(jobs.c.serial.desc()).limit(1)).first()
        return None if row is None else (row.model, row.user_id)

    # what workers do

    def claim(self, worker: str, fits: Callable[[str], bool] | None = None) -> Row[Any] | None:
        """The next job, now this worker's: see `_waiting`. fits: whether it has what a job needs, or others do it."""
        with self.reading() as tx:  # which does not wait for writers, as most calls of an idle worker find nothing
            if tx.scalar(select(jobs.c.id).where(jobs.c.status == "queued").limit(1)) is None:
                return None
        with self.writing() as tx:
            self.lacking = () if fits is None else [needs for needs in fleet.needs(tx) if not fits(needs)]
            job = _lock_next(tx, self.lacking, fits)
            if job is None:
                return None
            lock_user(tx, job.user_id)
            moment = (changes := stamp(tx))["changed"]
            lease = {"status": "running", "worker": worker, "heartbeat": moment, "started": moment}
            claimed = update(jobs).where(jobs.c.id == job.id).values(lease | changes).returning(jobs)
            row = tx.execute(claimed).one()
            _charge(tx, job, changes["version"])
            return row

    def is_next(self, job: str) -> bool:
        """Whether this running job would be the next, if it waited with the others; a lasting one of a user comes
        after what else they wait for."""
        with self.reading() as tx:
            return tx.scalar(_waiting(job, self.lacking).limit(1)) in (None, job)

    def holds(self, worker: str, job: str) -> bool:
        """Whether the job is still this worker's: not cancelled, not given to another."""
        with self.reading() as tx:
            return tx.scalar(select(jobs.c.id).where(held_by(worker, job))) is not None

    def wanted(self, job: str) -> str | None:
        """Whether the running job shall "pause" or "stop" at its next checkpoint."""
        with self.reading() as tx:
            return tx.scalar(select(jobs.c.wanted).where(jobs.c.id == job))

    def renew(self, worker: str, job: str) -> None:
        with self.writing() as tx:
            tx.execute(update(jobs).where(held_by(worker, job)).values(heartbeat=now(tx)))

    def note(self, worker: str, job: str, text: str) -> None:
        """Keeps a line for who asked for the job, once."""
        with self.writing() as tx:
            notes = tx.scalar(select(jobs.c.notes).where(held_by(worker, job)).with_for_update(key_share=True))
            if notes is not None and text not in notes and len(notes) < MAX_NOTES:
                changes = {"notes": [*notes, text], **stamp(tx)}
                tx.execute(update(jobs).where(jobs.c.id == job).values(changes))

    def add(
        self, worker: str, job: Row[Any], part: int, number: int, new: NewResult, taken: Collection[str] = ()
    ) -> bool:
        """Keeps a result of the job's, files and rows together; one that a worker before this had kept stays.

        taken: names that a model cannot have. False, and nothing kept, if the job is not this worker's any more.
        APIError where the user's share of the disk is used up; OSError for a full disk.
        """
        self.check_disk()
        model = None if new.folder is None else self.send_model(new.folder)
        with self.writing() as tx:
            alone(tx, "files", among_others=True)
            if lock_held(tx, worker, job.id) is None:
                return False
            which = (results.c.job_id == job.id, results.c.part == part, results.c.number == number)
            if tx.scalar(select(results.c.id).where(*which)) is not None:
                return True
            size, before = sum(file.content.bytes for file in new.files), None
            self.check_share(tx, job.user_id, size + (0 if new.folder is None else size_of(new.folder)), job.id)
            row = {"id": new_id(), "job_id": job.id, "part": part, "number": number, "user_id": job.user_id}
            row |= {"system": job.system, "verb": job.verb, "title": new.title, "bytes": size}
            row |= {"place": new.place, "data": new.data, "recipe": new.recipe, "model": None}
            for content, _ in new.files:
                self.files.commit(content)
            if new.folder is not None and model is not None:
                row["model"], before = self._add_model(tx, job, model, new.folder, new.model, taken)
            changes = stamp(tx)  # last: others wait for it
            tx.execute(insert(results).values(row | {"serial": changes["version"], "created": changes["changed"]}))
            for i, (content, name) in enumerate(new.files):
                facts = {"sha256": content.sha256, "suffix": content.suffix, "bytes": content.bytes, "name": name}
                tx.execute(insert(files).values(result_id=row["id"], number=i, media=content.media, **facts))
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(**changes, deaths=0))
        self._remove_model(before)
        return True

    def add_model(self, worker: str, job: Row[Any], folder: Path, stem: str, taken: Collection[str] = ()) -> bool:
        """Keeps what a training has learned so far, as `add` does a result."""
        self.check_disk()
        model = self.send_model(folder)
        with self.writing() as tx:
            if lock_held(tx, worker, job.id) is None:
                return False
            self.check_share(tx, job.user_id, size_of(folder), job.id)
            _, before = self._add_model(tx, job, model, folder, stem, taken)
        self._remove_model(before)
        return True

    def _add_model(
        self, tx: Connection, job: Row[Any], id: str, folder: Path, stem: str, taken: Collection[str]
    ) -> tuple[str, str | None]:
        """Puts a model's folder where models are; what it is called, and which of the job it replaces. The folder
        stays where it was: it is kept again, should this not be committed."""
        lock_user(tx, job.user_id)  # whose names are told apart
        moment = now(tx)
        of_job = (models.c.job_id == job.id, models.c.deleted.is_(None))
        before = tx.execute(select(models).where(*of_job)).first()
        tx.execute(update(models).where(*of_job).values(deleted=moment, bytes=0))
        name = before.name if before else free_name(tx, stem, job.user_id, taken)
        link_folder(folder, self.models_folder / id)
        sync(self.models_folder)
        row = {"id": id, "user_id": job.user_id, "name": name, "system": job.system, "job_id": job.id}
        row["card"] = None if self.bucket is None else kept_card(self.models_folder / id)
        tx.execute(insert(models).values(**row, bytes=size_of(folder), created=moment, deleted=None))
        return name, before.id if before else None

    def advance(self, worker: str, job: Row[Any], leave: bool = False) -> bool:
        """A part of the job is done, and with the last one the job. Whether the worker goes on with it: else it has
        ended, is another's, or went back to the queue, for another is next, or the worker shall `leave` it."""
        with self.writing() as tx:
            row = lock_held(tx, worker, job.id)
            if row is None:
                return False
            part = row.part + 1
            done = {"part": part, "deaths": 0}
            of_job = update(jobs).where(jobs.c.id == job.id)
            if part >= row.parts:
                tx.execute(of_job.values(**done, status="done", **ENDED, **stamp(tx)))
                return False
            tx.execute(of_job.values(done))
            if leave or tx.scalar(_waiting(job.id, self.lacking).limit(1)) != job.id:
                _requeue(tx, held_by(worker, job.id), 0)
                return False
            lock_user(tx, row.user_id)
            changes = stamp(tx)
            tx.execute(of_job.values(changes))
            _charge(tx, row, changes["version"])
        return True

    def fail(self, worker: str, job: str, error: str) -> None:
        with self.writing() as tx:
            row = lock_held(tx, worker, job)
            if row is not None:
                _refund(tx, row)
                state = {"status": "failed", "error": error, **stamp(tx), **ENDED}
                tx.execute(update(jobs).where(jobs.c.id == job).values(state))

    def release(self, worker: str, dead: bool = False) -> None:
        """The worker's jobs go back to the queue. dead: it died over them; where that was too often, they failed."""
        with self.writing() as tx:
            _requeue(tx, jobs.c.worker == worker, int(dead))

    def recover(self) -> list[Path]:
        """At the start of a server that is alone with its folder and its tables: times are `set_back`, every running
        job is queued again; and `sweep`."""
        self.set_back()
        with self.writing() as tx:
            _requeue(tx, jobs.c.status == "running", 0)
        return self.sweep()

    def running(self) -> set[str]:
        """Ids of the jobs that ran when `expire` last looked."""
        return {one.id for one in self._heartbeats}

    def expire(self, own: Collection[str] | None = None) -> list[str]:
        """Takes jobs from workers that gave no sign of life for `LEASE` seconds; who they were. own: names of workers
        of this server; to those of others their server, which may still end them, sees a little earlier.

        Call it every second or so: what counts is the time in which this looked, by the monotonic clock. Clocks that
        jump, a machine that sleeps and a database that another program has locked are no worker's fault.
        """
        with self.writing() as tx:
            which = jobs.c.status == "running"
            heartbeats = tx.execute(select(jobs.c.id, jobs.c.worker, jobs.c.heartbeat).where(which)).all()
            moment = time.monotonic()
            known = self._heartbeats if moment - self._last_look < MAX_GAP else {}
            self._heartbeats, self._last_look = {one: known.get(one, moment) for one in heartbeats}, moment
            bounds = {one: LEASE + (0 if own is None or one.worker in own else GRACE) for one in heartbeats}
            late = [one for one, seen in self._heartbeats.items() if moment - seen > bounds[one]]
            # if it still is: another server may see to it, too, or the worker have come back
            is_same = [and_(held_by(one.worker, one.id), jobs.c.heartbeat == one.heartbeat) for one in late]
            taken = _requeue(tx, or_(*is_same), 1) if late else []
        return [one.worker for one in late if one.id in taken]


def _waiting(also: str | None = None, lacking: Collection[str] = ()) -> Any:
    """Ids of the queued jobs in the order in which they are begun; as if this running job waited `also`, and without
    those whose needs are `lacking`.

    Of a user's jobs the one with the least left to do is first, lasting ones are last. So that large ones come, too,
    a job counts a tenth (`PATIENCE`) of what its user had been served before it was submitted: one that takes C
    seconds goes before all that its user submits after 10 C seconds of other work. Between users that job is first
    with whose next part its user will have been served the least; so of users served alike who waits for less.
    """
    left = jobs.c.cost * (jobs.c.parts - jobs.c.part)
    own = (jobs.c.lasting, left + jobs.c.served / PATIENCE, jobs.c.serial)
    before = func.coalesce(func.sum(left).over(partition_by=jobs.c.user_id, order_by=own, rows=(None, -1)), 0.0)
    waits = or_(jobs.c.status == "queued", jobs.c.id == also) if also else jobs.c.status == "queued"
    waits = and_(waits, or_(jobs.c.needs.is_(None), jobs.c.needs.not_in(lacking))) if lacking else waits
    order = (users.c.served + before + jobs.c.cost, users.c.turn, users.c.id, *own)
    return select(jobs.c.id).join(users).where(waits).order_by(*order)


def _lock_next(tx: Connection, lacking: Collection[str], fits: Callable[[str], bool] | None) -> Row[Any] | None:
    """The first that waits, but for those that others are about to begin."""
    for id in tx.execute(_waiting(None, lacking).limit(MAX_CLAIMS)).scalars().all():
        waits = select(jobs).where(jobs.c.id == id, jobs.c.status == "queued")
        job = tx.execute(waits.with_for_update(skip_locked=True, key_share=True)).first()
        if job and (fits is None or job.needs is None or fits(job.needs)):  # it may be newer than `lacking`
            return job
    return None


def _charge(tx: Connection, job: Row[Any], turn: int) -> None:
    """A part of the job is begun: its user was served so much."""
    begun = {"served": users.c.served + job.cost, "turn": turn}
    tx.execute(update(users).where(users.c.id == job.user_id).values(begun))


def _refund(tx: Connection, job: Row[Any]) -> None:
    """Of a part that is left for good its user was served only so long as it was worked on."""
    if job.status != "running":
        return
    unused = max(job.cost - max(now(tx) - job.changed, 0.0), 0.0)
    back = update(users).where(users.c.id == job.user_id).values(served=users.c.served - unused)
    served = tx.execute(back.returning(users.c.served)).scalar_one()
    late = (jobs.c.user_id == job.user_id, jobs.c.status.in_(OPEN), jobs.c.served > served)
    tx.execute(update(jobs).where(jobs.c.id.in_(lock_jobs(tx, *late, wait=False))).values(served=served))


def _join(tx: Connection, user: Row[Any]) -> float:
    """Who comes back after a while has saved nothing up: they begin where the least served of the others are. What
    the user has been served."""
    busy = jobs.c.status.in_(("queued", "running"))
    if tx.scalar(select(jobs.c.id).where(jobs.c.user_id == user.id, busy).limit(1)) is not None:
        return float(user.served)
    active = exists().where(jobs.c.user_id == users.c.id, busy)
    least = tx.scalar(select(func.min(users.c.served)).where(active))
    served: float = max(user.served, least or 0.0)
    tx.execute(update(users).where(users.c.id == user.id).values(served=served))
    return served


def _requeue(tx: Connection, which: Any, deaths: int) -> list[str]:
    """Running jobs to the queue, where they were, or to rest; those over which too many workers died have failed.
    Their ids."""
    ids = lock_jobs(tx, which, jobs.c.status == "running")
    if not ids:
        return []
    free = {"worker": None, "heartbeat": None, "deaths": jobs.c.deaths + deaths, **stamp(tx)}
    running = and_(jobs.c.id.in_(ids), jobs.c.status == "running")
    if deaths:
        error = f"the worker died over it {MAX_DEATHS} times; it may need more memory than there is"
        too_many = and_(running, jobs.c.deaths + deaths >= MAX_DEATHS)
        tx.execute(update(jobs).where(too_many).values(status="failed", error=error, **free))
    pauses = jobs.c.wanted == "pause"
    tx.execute(update(jobs).where(running, pauses).values(status="paused", **(free | {"wanted": None})))
    tx.execute(update(jobs).where(running).values(status="queued", **free))
    return ids
