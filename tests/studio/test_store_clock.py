"""A clock that was wrong, for days or between two looks, costs nobody anything once it is right."""

import time

import pytest
from starlette.testclient import TestClient

from inkwash.studio import accounts, engine
from inkwash.studio.store import LEASE, Store
from tests.studio.conftest import asked
from tests.studio.test_store import drawn, upload, watch

DAYS = 2 * 86400.0


@pytest.fixture
def clock(monkeypatch):
    """Sets the wall clock; the monotonic one goes on."""
    now = time.time
    return lambda ahead: monkeypatch.setattr(time, "time", lambda: now() + ahead)


def test_who_worked_while_the_clock_was_ahead_does_not_come_after_another(store, user, clock):
    """Two users take turns, round after round; of these served alike, who has waited longer is first."""
    other = accounts.add_user(store, "ben", None).id
    clock(DAYS)
    drawn(store, user)
    clock(0.0)
    drawn(store, other)
    for _ in range(12):
        store.submit(other, asked()), store.submit(user, asked())
        for person in (user, other):
            job = store.claim("w")
            assert job.user_id == person and not store.advance("w", job)


def test_a_job_asked_for_while_the_clock_was_ahead_does_not_come_after_later_ones(store, user, clock):
    clock(DAYS)
    ids = [store.submit(user, asked()).id]
    clock(0.0)
    ids += [store.submit(user, asked()).id for _ in range(12)]
    assert [store.claim("w").id for _ in ids] == ids


def test_lists_have_the_order_in_which_things_came_whatever_the_clock_said(store, user, clock):
    jobs, made = [], []
    for ahead in (0.0, DAYS, -DAYS, 0.0):
        clock(ahead)
        id, (result,) = drawn(store, user, shade=len(jobs))
        jobs.append(id), made.append(result.id)
    assert [job.id for job in store.jobs(user)] == jobs[::-1]
    assert [result.id for result in store.results(user)] == made[::-1]
    assert [job.id for job in store.jobs(user, before=jobs[2])] == jobs[1::-1]
    assert [job.id for job in store.changed_since(user, store.job(jobs[1]).version)] == jobs[1:]


def test_a_quota_that_a_clock_ahead_has_used_up_is_free_a_day_after_it_is_right(store, clock):
    user = accounts.add_user(store, "carl", None, daily=1).id
    clock(DAYS)
    drawn(store, user)
    clock(0.0)
    store.recover()
    assert store.jobs(user)[0].created <= time.time()
    clock(86401.0)
    store.submit(user, asked())


def test_times_that_lie_ahead_become_now_and_what_expires_keeps_its_lifetime(store, user, clock):
    clock(DAYS)
    _, (result,) = drawn(store, user)
    upload(store, user, b"x")
    token = store.share(result.id, user, recipe=True, seconds=60)
    session = accounts.issue(store, user, "session")
    clock(0.0)
    store.recover()
    now = time.time()
    with store.reading() as tx:
        for table, columns in {
            "jobs": "created, changed, started", "results": "created", "uploads": "created", "shares": "created",
            "secrets": "created",
        }.items():  # fmt: skip
            assert all(
                moment <= now for row in tx.exec_driver_sql(f"select {columns} from {table}") for moment in row
            )
    assert store.shared(token) and accounts.holder(store, session, "session")
    clock(61.0)
    assert store.shared(token) is None and accounts.holder(store, session, "session")
    clock(accounts.LIFETIMES["session"] + 1)
    assert accounts.holder(store, session, "session") is None


@pytest.mark.parametrize("ahead", [DAYS, -DAYS])
def test_a_clock_that_jumps_takes_no_job_from_a_living_worker(store, user, clock, ahead):
    id = store.submit(user, asked()).id
    store.claim("w")
    store.expire()
    clock(ahead)
    assert store.expire() == [] and store.holds("w", id) and store.job(id).deaths == 0
    assert watch(store, LEASE + 1) == ["w"]  # one that is dead is found all the same


def test_a_server_notices_a_clock_that_was_set_and_sweeps_no_uploads_by_it(tmp_path, monkeypatch):
    """Ahead for a while: what was sent an hour ago at most stays; then right again: no time lies ahead."""

    async def idle(self, device):
        pass

    monkeypatch.setattr(engine.Engine, "_supervise", idle)
    sweeps, now, skew = [], time.time, [0.0]
    monkeypatch.setattr(Store, "delete_uploads", lambda store, older, only=None: sweeps.append(older))
    monkeypatch.setattr(time, "time", lambda: now() + skew[0])
    from inkwash.studio.app import create

    app = create(engine.Settings(tmp_path / "home", port=80))
    store = app.state.engine.store
    user = accounts.local_user(store).id
    with TestClient(app, base_url="http://localhost"):
        time.sleep(1.2)  # it has looked once
        skew[0] = DAYS
        id = store.submit(user, asked()).id
        time.sleep(1.5)
        skew[0] = 0.0
        end = time.monotonic() + 20
        while store.job(id).created > now():
            assert time.monotonic() < end
            time.sleep(0.1)
    assert sweeps == []
