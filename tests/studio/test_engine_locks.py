"""Another program has the database locked, as a backup or a person with a shell may: who asks is told at once, and
nothing is lost."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import httpx
import pytest

import inkwash
from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio.errors import APIError
from inkwash.studio.store import LEASE, Store
from tests.studio.conftest import asked, fox

HOLD = float(os.environ.get("INKWASH_LOCK", "6"))  # seconds


@contextmanager
def locked(home):
    with closing(sqlite3.connect(home / "studio.db", isolation_level=None, timeout=30)) as other:
        other.execute("begin exclusive")
        yield other
        if other.in_transaction:
            other.execute("rollback")


@pytest.fixture
def hasty(store, user):
    """The store of a server that hardly waits."""
    return Store(store.home, lock_timeout=0.2)


def test_one_thread_waits_for_a_lock_and_the_others_are_told_at_once(hasty, user):
    errors, took = [], []

    def write():
        start = time.monotonic()
        with pytest.raises(APIError) as error:
            hasty.submit(user, asked())
        errors.append((error.value.status, error.value.code, error.value.wait))
        took.append(time.monotonic() - start)

    hasty.submit(user, asked())
    threads = [threading.Thread(target=write) for _ in range(60)]
    with locked(hasty.home):
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begin
        assert hasty.is_busy and len(hasty.jobs(user)) == 1  # who reads is not kept out
    assert errors == [(503, "busy", 2)] * 60
    assert seconds < 60 * 0.2 / 2  # they did not wait one after the other
    hasty.submit(user, asked())
    assert not hasty.is_busy


def test_a_worker_waits_for_a_lock(hasty, user):
    patient = Store(hasty.home, lock_timeout=3600.0)
    id = hasty.submit(user, asked()).id
    with locked(hasty.home):
        claims = []
        worker = threading.Thread(target=lambda: claims.append(patient.claim("w")))
        worker.start()
        worker.join(1.0)
        assert worker.is_alive() and claims == []
    worker.join(20)
    assert [job.id for job in claims] == [id]


def test_a_lease_that_a_lock_kept_from_being_renewed_is_no_death(hasty, user, monkeypatch):
    id = hasty.submit(user, asked()).id
    hasty.claim("w")
    assert hasty.expire() == []
    now = time.monotonic
    with locked(hasty.home):
        for second in range(1, 46, 4):
            monkeypatch.setattr(time, "monotonic", lambda second=second: now() + second)
            with pytest.raises(APIError):
                hasty.expire()
    for second in range(46, 46 + round(LEASE) - 1):
        monkeypatch.setattr(time, "monotonic", lambda second=second: now() + second)
        assert hasty.expire() == []
    assert hasty.holds("w", id) and hasty.job(id).deaths == 0


def test_a_command_says_so_in_one_line(hasty, user, capsys):
    from inkwash.cli import main

    with locked(hasty.home):
        assert main(["studio", "key", "--home", str(hasty.home)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert "studio.db: another program has the studio's database locked" in output.err
    with locked(hasty.home), pytest.raises(UserError, match="locked"):
        Store(hasty.home, lock_timeout=0.1)


def test_a_studio_whose_database_is_locked_answers_goes_on_and_loses_nothing(studio):
    """60 threads ask, while a worker is in the middle of a job."""
    clients = [studio.client(f"impatient {number}") for number in range(6)]
    user = accounts.find_user(studio.store, "impatient 0").id
    job = fox(clients[0], n=4, steps=30).json()["id"]
    while studio.store.job(job).status != "running":
        time.sleep(0.02)
    statuses, accepted, over = [], [], threading.Event()

    def ask(client):
        while not over.is_set():
            answer = fox(client, model="emoji-fast")
            statuses.append(answer.status_code)
            accepted.extend([answer.json()["id"]] if answer.status_code == 202 else [])
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "busy" and answer.headers["retry-after"] == "2"
            over.wait(0.5)

    threads = [threading.Thread(target=ask, args=(clients[number % 6],)) for number in range(60)]
    with locked(studio.home) as other, httpx.Client(base_url=studio.url, timeout=60) as page:
        end = time.monotonic() + HOLD
        for thread in threads:
            thread.start()
        time.sleep(HOLD / 3)
        timed = [(page.get(path).status_code, time.monotonic()) for path in ("/static/main.js", "/", "/healthz")]
        health = page.get("/healthz").json()["status"]
        read = clients[0].get(f"/api/jobs/{job}", params={"wait": 0.5})
        assert [status for status, _ in timed] == [200, 200, 503]
        assert health == "busy" and read.status_code == 200
        assert timed[-1][1] < end  # while it was locked
        time.sleep(max(0.0, end - time.monotonic()))
        over.set()
        other.execute("rollback")
    for thread in threads:
        thread.join()
    assert statuses.count(500) == 0 and {*statuses} <= {202, 503} and 503 in statuses
    print(f"locked for {HOLD:g} s: {len(statuses)} answers, {statuses.count(503)} of them busy, none 500")
    assert clients[0].get(f"/api/jobs/{job}", params={"wait": 60}).json()["status"] == "done"
    assert len(studio.store.results_of(job)) == 4 and studio.store.job(job).deaths == 0
    assert studio.store.job(job).user_id == user and all(studio.store.job(id) for id in accepted)
    for client in clients:
        for one in client.get("/api/jobs", params={"status": ["queued", "running"], "limit": 200}).json():
            client.post(f"/api/jobs/{one['id']}/cancel")


def test_the_python_client_asks_again(studio):
    with inkwash.Studio(studio.url, studio.key("patient")) as client, locked(studio.home) as other:
        made = []
        asking = threading.Thread(
            target=lambda: made.append(client.start("pictures", "generate", prompt="a fox", model="emoji-fast"))
        )
        asking.start()
        asking.join(2.5)
        assert made == []
        other.execute("rollback")
        asking.join(30)
        assert client.wait(made[0], timeout=60).status == "done"


def test_a_worker_whose_server_has_gone_ends_while_it_waits_for_a_lock(store, user):
    store.submit(user, asked())
    with locked(store.home) as other:
        command = [sys.executable, "-m", "inkwash.studio.worker", "w", "--home", str(store.home)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        other.execute("rollback")
        with subprocess.Popen(command, text=True, **pipes) as worker:
            while store.jobs(user)[0].status == "queued":
                time.sleep(0.05)
            other.execute("begin exclusive")
            try:
                time.sleep(1)
                worker.stdin.close()
                worker.wait(30)  # TimeoutExpired if it does not
            finally:
                worker.kill()
