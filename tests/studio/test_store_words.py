"""Words that were deleted stand nowhere any more: not in the database, nor in its log, nor in a file or its name."""

import threading
import time

import pytest

from inkwash.studio import accounts
from inkwash.studio.library import NewFile
from inkwash.studio.store import NewResult, Store
from tests.studio.conftest import asked, fox, sent
from tests.studio.test_store import png

WORD = "quetzalcoatl"


def found_in(home):
    """Where the word stands."""
    word = WORD.encode()
    names = [str(path) for path in home.rglob("*") if WORD in path.name]
    return names + [str(path) for path in home.rglob("*") if path.is_file() and word in path.read_bytes().lower()]


def until_gone(home):
    end = time.monotonic() + 10
    while places := found_in(home):
        assert time.monotonic() < end, places
        time.sleep(0.1)


def claimed(store, id, worker="w"):
    job = store.claim(worker)
    assert job.id == id
    return job


@pytest.mark.parametrize("status", ["done", "failed", "cancelled"])
def test_of_a_job_that_was_deleted_no_word_is_left(store, user, status):
    request = asked(model=WORD, style=WORD, prompt=f"a {WORD} " * 500, image={"sha256": "0" * 64, "name": WORD})
    id = store.submit(user, request._replace(model=WORD)).id
    job = claimed(store, id)
    store.note("w", id, f"{WORD}: it uses the rest")
    if status == "done":
        with store.files.stage(png(), ".png") as content:
            new = NewResult(0, WORD, {"text": WORD}, {"prompt": WORD}, [NewFile(content, f"{WORD}.png")], None, WORD)
            assert store.add("w", job, 0, 0, new) and not store.advance("w", job)
    elif status == "failed":
        store.fail("w", id, f"style = {WORD}: there is none")
    else:
        store.cancel(id)
    (store.runs / id / "in").mkdir(parents=True)
    (store.runs / id / "in" / f"{WORD}.png").write_bytes(b"x")
    assert found_in(store.home)
    results = store.results_of(id)
    assert not store.delete_job(id, "somebody else") and store.delete_job(id, user) and not store.delete_job(id, user)
    assert store.job(id) is None and store.jobs(user) == [] and store.changed_since(user, 0) == []
    assert store.results_of(id) == results
    for result in results:
        assert store.delete(result.id, user)
    assert store.has_erased
    store.truncate_log()
    assert not store.has_erased and found_in(store.home) == []


def test_a_job_that_may_go_on_is_not_deleted(store, user):
    id = store.submit(user, asked()).id
    assert not store.delete_job(id, user)
    claimed(store, id)
    assert not store.delete_job(id, user) and store.job(id).request["prompt"] == "a red fox"


def test_a_log_that_others_read_in_is_emptied_later(store, user):
    id = store.submit(user, asked(prompt=WORD)).id
    store.cancel(id)
    with store.reading() as tx:
        tx.exec_driver_sql("select * from jobs").all()
        store.delete_job(id, user)
        store.truncate_log()
        assert store.has_erased
    store.truncate_log()
    assert not store.has_erased and found_in(store.home) == []


def test_names_of_uploads_and_models_go_with_them(store, user):
    from tests.studio.test_queue import trained

    with store.files.stage(b"1,2", ".csv") as content:
        store.add_uploads(user, [NewFile(content, f"{WORD}.csv")])
    id = trained(store, user, WORD)
    assert store.delete(store.results_of(id)[0].id, user) and store.delete_job(id, user)
    assert store.model(WORD, user) and store.delete_model(WORD, user) and store.models(user) == []
    store.delete_uploads(time.time() + 1)
    store.truncate_log()
    assert found_in(store.home) == []


def test_a_studio_that_runs_forgets_within_seconds(studio):
    """Prompts of three jobs, done, failed and cancelled, the name of a file, and a key of idempotency."""
    with studio.client("forgetful") as client:
        head = {"idempotency-key": WORD}
        ask = {"prompt": f"a {WORD}", "model": "emoji-fast"}
        done = client.post("/api/jobs/pictures/generate", json=ask, headers=head).json()["id"]
        broken = sent(client, b"1,2\n3", f"{WORD}.csv")
        failed = client.post("/api/jobs/series/forecast", json={"data": broken, "horizon": 3}).json()["id"]
        cancelled = fox(client, f"two {WORD}", n=10, steps=200).json()["id"]
        client.post(f"/api/jobs/{cancelled}/cancel")
        jobs = [client.get(f"/api/jobs/{id}", params={"wait": 60}).json() for id in (done, failed, cancelled)]
        assert [job["status"] for job in jobs] == ["done", "failed", "cancelled"] and found_in(studio.home)
        user = accounts.find_user(studio.store, "forgetful").id
        studio.store.delete_uploads(time.time() + 1, {(user, broken["sha256"])})
        for job in jobs:
            for result in job["results"]:
                assert client.delete(f"/api/results/{result['id']}").status_code == 204
            assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
            assert client.get(f"/api/jobs/{job['id']}").status_code == 404
        assert client.get("/api/jobs").json() == []
        until_gone(studio.home)


def test_a_job_that_is_open_is_not_deleted_over_http(idle):
    id = fox(idle).json()["id"]
    answer = idle.delete(f"/api/jobs/{id}")
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "not_possible"
    assert "cancel it first" in answer.json()["error"]["message"] and idle.get(f"/api/jobs/{id}").status_code == 200
    assert idle.delete("/api/jobs/nothing").status_code == 404


def test_a_reader_that_stays_keeps_out_nobody_who_writes(store, user):
    """The log cannot be emptied then, which is tried each second: who writes would wait as long."""
    patient = Store(store.home, lock_timeout=3600.0)
    with store.reading() as tx:
        tx.exec_driver_sql("select * from jobs").all()
        store.submit(user, asked())
        emptying = threading.Thread(target=patient.truncate_log, daemon=True)
        emptying.start()
        emptying.join(20)
        assert not emptying.is_alive() and patient.has_erased
        patient.submit(user, asked())


def test_a_key_of_idempotency_makes_a_new_job_once_its_job_was_deleted(idle):
    head = {"idempotency-key": "once"}
    first, same = (idle.post("/api/jobs/pictures/generate", json={"prompt": "a fox"}, headers=head) for _ in "ab")
    id = first.json()["id"]
    assert same.json()["id"] == id
    idle.post(f"/api/jobs/{id}/cancel")
    assert idle.delete(f"/api/jobs/{id}").status_code == 204
    again = idle.post("/api/jobs/pictures/generate", json={"prompt": "a cat"}, headers=head)
    assert again.status_code == 202 and idle.get(f"/api/jobs/{again.json()['id']}").json()["status"] == "queued"
