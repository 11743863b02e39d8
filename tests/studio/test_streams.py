"""Event streams: who was cut off has missed nothing, and who may not listen any more is cut off."""

import json
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from inkwash.studio import accounts, streams
from tests.studio.conftest import asked, fox


@pytest.fixture
def still(quick, monkeypatch):
    """A studio in which nobody draws, and whose streams have a heartbeat five times a second."""
    monkeypatch.setattr(quick.engine.store, "claim", lambda *_: None)
    monkeypatch.setattr(streams, "HEARTBEAT", 0.2)
    for job in quick.engine.store.jobs(accounts.local_user(quick.engine.store).id, limit=1000):
        quick.engine.store.cancel(job.id)
    return quick


def someone(quick, name):
    """A client of a new user."""
    user = accounts.add_user(quick.engine.store, name, "correct horse battery")
    key = accounts.issue(quick.engine.store, user.id, "key")
    return user, httpx.Client(base_url=quick.url, headers={"authorization": f"Bearer {key}"}, timeout=20)


@contextmanager
def listening(client, path="/api/events", **headers):
    """The events of a stream: their ids, and what they tell of a job."""
    with client.stream("GET", path, headers=headers) as stream:
        assert stream.status_code == 200 and stream.headers["content-type"].startswith("text/event-stream")
        yield events(stream.iter_lines())


def events(lines):
    fields = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield fields["id"], json.loads(fields["data"])
            fields = {}


def ask(client, **more):
    return fox(client, **more).json()["id"]


def test_who_was_cut_off_hears_what_was_missed_in_the_order_in_which_it_happened(still):
    _, client = someone(still, "listener one")
    jobs = [ask(client) for _ in range(3)]
    with listening(client) as heard:
        first = [next(heard) for _ in jobs]
    assert [job["id"] for _, job in first] == jobs
    for job in (jobs[2], jobs[0]):
        client.post(f"/api/jobs/{job}/cancel")
    with listening(client, **{"last-event-id": first[-1][0]}) as heard:
        missed = [next(heard)[1] for _ in range(3)]
    assert [(job["id"], job["status"]) for job in missed] == [
        (jobs[1], "queued"),
        (jobs[2], "cancelled"),
        (jobs[0], "cancelled"),
    ]
    with listening(client, **{"last-event-id": "nonsense"}) as heard:
        assert next(heard)[1]["id"] == jobs[1]


@pytest.mark.parametrize("of_one", [True, False])
def test_what_another_process_has_written_is_heard_of_though_nobody_tells(still, of_one):
    user, client = someone(still, f"listener two {of_one}")
    job = ask(client)
    with listening(client, f"/api/jobs/{job}/events" if of_one else "/api/events") as heard:
        assert next(heard)[1]["status"] == "queued"
        still.engine.store.cancel(job, user.id)  # as `inkwash studio user --close` would, beside the server
        assert next(heard)[1]["status"] == "cancelled"
        if not of_one:
            late = still.engine.store.submit(user.id, asked()).id
            assert next(heard)[1]["id"] == late


@pytest.mark.parametrize("path", ["/api/events", "/api/jobs/{job}/events"])
@pytest.mark.parametrize("how", ["closed", "new password", "key revoked"])
def test_who_may_not_listen_any_more_is_cut_off(still, path, how, monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT", 1.05)
    store = still.engine.store
    user, client = someone(still, f"{how} {len(path)}")
    job = ask(client)
    with listening(client, path.format(job=job)) as heard:
        next(heard)
        if how == "closed":
            accounts.change_user(store, user.id, active=False)
        elif how == "new password":
            accounts.change_user(store, user.id, password="another long password")
        else:
            accounts.revoke_key(store, accounts.list_keys(store, user.id)[0].id, user.id)
        assert all(job["status"] in ("queued", "cancelled") for _, job in heard)  # and it ends
    assert client.get("/api/session").status_code == 401


def test_a_stream_of_a_job_ends_with_it_and_holds_all_that_the_job_holds(quick):
    with httpx.Client(base_url=quick.url, headers=quick.headers, timeout=60) as client:
        job = ask(client, n=3, seed=5)
        with listening(client, f"/api/jobs/{job}/events") as heard:
            states = [state for _, state in heard]
        assert states[-1] == client.get(f"/api/jobs/{job}").json() and states[-1]["status"] == "done"
        assert [result["recipe"]["seed"] for result in states[-1]["results"]] == [5, 6, 7]


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("GET", "/api/jobs/ID?wait=20", None),
        ("GET", "/api/jobs/ID/events", None),
        ("POST", "/v1/images/generations", {"prompt": "a fox"}),
        ("POST", "/v1/images/generations", {"prompt": "a fox", "stream": True}),
        ("POST", "/sdapi/v1/txt2img", {"prompt": "a fox"}),
    ],
)
def test_who_waits_for_a_job_that_is_deleted_is_told(still, method, path, body, monkeypatch):
    store = still.engine.store
    monkeypatch.setattr(still.engine, "_changed", lambda *news: None)  # nobody tells that it was cancelled before
    user, client = someone(still, f"waits {path} {body}")
    id = None if body else fox(client).json()["id"]
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(client.request(method, path.replace("ID", str(id)), json=body))
    )
    waiting.start()
    while not still.engine._subscribers:
        time.sleep(0.01)
    (job,) = store.jobs(user.id)
    assert store.cancel(job.id) and store.delete_job(job.id, user.id)
    waiting.join(20)
    (answer,) = answers
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    assert answer.status_code == (200 if is_stream else 404)
    assert not body or "there is no such job" in answer.text
