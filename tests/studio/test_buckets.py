"""Files in S3-compatible storage: first there, then in a row; nothing is lost, nothing is another's, orphans go."""

import datetime
import hashlib
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

from inkwash.errors import UserError
from inkwash.studio import accounts, buckets, context, files, orphans, worker
from inkwash.studio.app import create
from inkwash.studio.engine import Settings
from inkwash.studio.errors import StorageUnusable
from inkwash.studio.library import NewFile
from inkwash.studio.store import NewJob, NewResult, Store
from inkwash.weights.shipped import shipped
from tests.studio import s3
from tests.studio.conftest import Quick, Running, asked, fox
from tests.studio.test_postgresql import at_once
from tests.studio.test_store import drawn, png, sha256, upload
from tests.studio.test_worker import Painter, working

BOTH = pytest.mark.parametrize("storage", ["moto", "seaweedfs"], indirect=True)  # the imitation, and a real one
REAL = pytest.mark.parametrize("storage", ["seaweedfs"], indirect=True)


@pytest.fixture(autouse=True)
def quick_to_give_up(monkeypatch, storage):
    for name, value in storage.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(buckets, "TRIES", 1)
    monkeypatch.setattr(buckets, "READ_TIMEOUT", 60)  # on a busy machine
    monkeypatch.setattr(worker, "RETRY", 0.05)
    monkeypatch.setattr(context, "INTERVAL", 0.0)


@pytest.fixture
def place(storage):
    """A new bucket."""
    return storage.create()


@pytest.fixture
def store(cluster, storage, place, tmp_path):
    found = Store(tmp_path / "home", url=cluster.url(name := cluster.create()), bucket=f"s3://{place}/inkwash")
    yield found
    found.engine.dispose()
    cluster.drop(name)


@pytest.fixture
def other(store, tmp_path):
    """A server of the same studio on another machine: nothing of the disk is shared."""
    return Store(tmp_path / "elsewhere", url=store.url, bucket=store.bucket.url)


def named(storage, place):
    """What is in the bucket but for the marks."""
    found = {name.removeprefix("inkwash/") for name in storage.names(place)}
    return found - {"studio.id", "clock"}


def file_of(content, suffix=".png", kind="files"):
    return f"{kind}/{content[:2]}/{content}{suffix}"


def later(store, monkeypatch, days=2):
    now = store.bucket.now
    monkeypatch.setattr(store.bucket, "now", lambda: now() + datetime.timedelta(days=days))


# what is there


@BOTH
def test_what_one_server_keeps_another_reads_and_what_it_deletes_is_gone(storage, place, store, other, user):
    _, (result,) = drawn(store, user, shade=5)
    content = sha256(result)
    found = other.result(result.id, user)
    assert other.read(found.files[0]) == png(5) and named(storage, place) == {file_of(content)}
    small = other.thumbnail(found)
    assert store.thumbnail(result) == small
    assert named(storage, place) == {file_of(content), file_of(content, ".webp", "thumbnails")}
    assert other.delete(result.id, user) and named(storage, place) == set()
    assert [path for path in store.home.rglob("*.png")] + [path for path in store.home.rglob(".staged-*")] == []


def test_the_disk_is_waited_for_where_files_stay_on_it_alone(store, user, tmp_path, monkeypatch):
    synced, alone = [], Store(tmp_path / "alone")
    monkeypatch.setattr(files, "sync", synced.append)
    drawn(store, user, shade=5)
    assert synced == []
    drawn(alone, accounts.add_user(alone, "anna", None).id, shade=5)
    assert any(path.parent == alone.files.folder for path in synced)


def test_a_studio_and_its_worker_draw_into_the_bucket(cluster, storage, place, tmp_path):
    name = cluster.create()
    studio = Running(tmp_path / "studio", tables=cluster.tcp(name), bucket=f"s3://{place}/inkwash")
    try:
        client = studio.client()
        job = fox(client, model="emoji-fast").json()["id"]
        job = client.get(f"/api/jobs/{job}", params={"wait": 60}).json()
        data = client.get(job["results"][0]["files"][0]["url"]).content
        assert data.startswith(b"\x89PNG") and file_of(hashlib.sha256(data).hexdigest()) in named(storage, place)
    finally:
        studio.stop()
        studio.store.engine.dispose()
    cluster.drop(name)


def test_large_files_come_in_blocks(store, user, monkeypatch):
    monkeypatch.setattr(buckets, "BLOCK", 1000)
    data = bytes(range(256)) * 20
    with store.files.stage(data, ".bin") as content:
        store.add_uploads(user, [NewFile(content, "some.bin")])
    blocks = list(store.bucket.blocks(content.sha256, ".bin", len(data)))
    assert b"".join(blocks) == data and max(map(len, blocks)) == 1000


def test_a_worker_opens_what_went_in_at_another_machine(store, other, user, tmp_path):
    content = upload(store, user, png(3))
    target = tmp_path / "in.png"
    other.files.fetch(content, ".png", target)
    assert target.read_bytes() == png(3)


def test_a_file_that_was_changed_in_the_bucket_is_not_taken_for_the_one_that_it_was(
    storage, place, store, user, tmp_path
):
    content = upload(store, user, png(3))
    storage.put(place, f"inkwash/{file_of(content)}", b"something else")
    with pytest.raises(StorageUnusable, match="another content"):
        store.files.fetch(content, ".png", tmp_path / "in.png")
    assert not (tmp_path / "in.png").exists()


@BOTH
def test_a_model_is_fetched_by_who_needs_it_and_its_copies_go_when_it_is_deleted(
    storage, place, store, other, user, tmp_path
):
    model = tmp_path / "model"
    (model / "inner").mkdir(parents=True)
    (model / "inner" / "weights").write_bytes(b"weights" * 100)
    store.submit(user, NewJob("pictures", "train", {}, lasting=True))
    job = store.claim("w")
    assert store.add("w", job, 0, 0, NewResult(0, "ring", {}, {}, (), model, "ring"))
    row = other.model("ring", user)
    assert named(storage, place) == {f"models/{row.id}.zip"}
    folder = other.folder_of(row)
    assert (folder / "inner" / "weights").read_bytes() == b"weights" * 100
    assert folder.parent == other.models_folder and other.folder_of(row) == folder
    assert store.delete_model("ring", user) and named(storage, place) == set() and not store.folder_of(row).exists()
    other.remove_deleted_models()
    assert not folder.exists()


def test_who_lists_models_fetches_none(store, user, ask, tmp_path):
    store.submit(user, NewJob("pictures", "train", {}, lasting=True))
    job, folder = store.claim("w"), shipped()["emoji-fast"]
    assert store.add("w", job, 0, 0, NewResult(0, "ring", {}, {}, (), folder, "ring"))
    client = ask("anna")
    (model,) = [one for one in client.get("/api/models").json() if one["owned"]]
    (like,) = [one for one in client.get("/api/models").json() if one["name"] == "emoji-fast"]
    assert (model["name"], model["limits"], model["about"]) == ("ring", like["limits"], like["about"])
    assert "ring" in [one["id"] for one in client.get("/v1/models").json()["data"]]
    (listed,) = [one for one in client.get("/sdapi/v1/sd-models").json() if one["model_name"] == "ring"]
    assert (listed["title"], listed["hash"]) == ("ring", None)
    for path in ("samplers", "schedulers", "prompt-styles"):
        assert client.get(f"/sdapi/v1/{path}").status_code == 200
    assert list((tmp_path / "server" / "models").iterdir()) == []
    assert (
        store.delete_model("ring", user) and [one for one in client.get("/api/models").json() if one["owned"]] == []
    )


# crashes, and what they leave


KILLED = """
import os, signal, sys
from pathlib import Path
from inkwash.studio.store import Store
store = Store(Path(sys.argv[1]), url=sys.argv[2], bucket=sys.argv[3])
with store.files.stage(b"half kept", ".png"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@BOTH
def test_what_a_worker_had_put_when_it_was_killed_goes_after_a_day(storage, place, store, user, monkeypatch):
    _, (result,) = drawn(store, user)
    kept = upload(store, user, png(9))
    store.thumbnail(result)
    command = [sys.executable, "-c", KILLED, str(store.home), store.url, store.bucket.url]
    assert subprocess.run(command).returncode == -9
    foreign = {"files/thesis.pdf", "files/ab/thesis.png", f"files/ff/{'a' * 64}.png", "models/theirs.zip"}
    for name in foreign:
        storage.put(place, f"inkwash/{name}", b"mine")
    lost = f"models/{'0' * 32}.zip"
    storage.put(place, f"inkwash/{lost}", b"a model whose row was never written")
    everything = named(storage, place)
    assert orphans.sweep(store) == [] and named(storage, place) == everything
    later(store, monkeypatch)
    gone = set(orphans.sweep(store))
    assert lost in gone and len(gone) == 2 and named(storage, place) == everything - gone
    thumbnail = file_of(sha256(result), ".webp", "thumbnails")
    assert named(storage, place) == {file_of(sha256(result)), file_of(kept), thumbnail, *foreign}


def test_one_server_sweeps_at_a_time(storage, place, store, other, monkeypatch):
    monkeypatch.setattr(orphans, "PARTS", [("files", "a")])
    storage.put(place, f"inkwash/{file_of('a' * 64)}")
    later(store, monkeypatch)
    with other.writing() as tx:
        assert orphans.try_alone(tx, "sweep")
        assert orphans.sweep(store) == [] and len(named(storage, place)) == 1
    assert orphans.sweep(store) == [file_of("a" * 64)] and named(storage, place) == set()


def test_a_content_that_is_removed_after_it_was_put_is_put_again(storage, place, store, other, user):
    with store.files.stage(png(1), ".png") as content:
        other.files.remove(content.sha256, ".png")
        assert named(storage, place) == set()
        store.add_uploads(user, [NewFile(content, "fox.png")])
    assert store.files.read(content.sha256, ".png") == png(1)


def test_a_content_that_one_deletes_while_another_keeps_it_stays(store, other, user):
    _, (result,) = drawn(store, user)
    at_once(2, lambda number: upload(store, user, png()) if number else other.delete(result.id, user))
    assert store.upload_of(sha256(result), user) and store.files.read(sha256(result), ".png") == png()


# storage that cannot be used


@BOTH
def test_what_cannot_be_a_bucket_is_one_line(cluster, storage, place, tmp_path, monkeypatch):
    url = cluster.url(name := cluster.create())
    wrong = {
        "ftp://host/files": "s3://BUCKET/PREFIX is needed",
        "file:///data": "s3://BUCKET/PREFIX is needed",
        "s3://": "s3://BUCKET/PREFIX is needed",
        "s3://bucket/../other": "s3://BUCKET/PREFIX is needed",
        "s3://key:secret@bucket": "never in the address",
        "s3://there-is-none": "see that the bucket is there",
    }
    for address, message in wrong.items():
        with pytest.raises(UserError, match=message) as error:
            Store(tmp_path / "home", url=url, bucket=address)
        assert "\n" not in str(error.value) and "secret" not in str(error.value).replace("AWS_SECRET", "")
    with pytest.raises(UserError, match="--store"):
        Store(tmp_path / "home", bucket=f"s3://{place}")
    for endpoint in ("http://someone:hidden@127.0.0.1:9", "http://someone:hidden@s3_storage:9", "s3.example.org"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(UserError, match="see that the bucket is there") as error:
            Store(tmp_path / "home", url=url, bucket=f"s3://{place}")
        assert "hidden" not in str(error.value)
    cluster.drop(name)


@REAL
def test_a_bucket_that_may_only_be_read_is_refused(cluster, storage, store, tmp_path, monkeypatch):
    for name, value in s3.READER.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="may be written"):
        Store(tmp_path / "elsewhere", url=store.url, bucket=store.bucket.url)


def test_a_bucket_is_one_databases_and_a_databases_files_are_in_one_place(
    cluster, storage, place, store, user, tmp_path
):
    second = cluster.url(name := cluster.create())
    with pytest.raises(UserError, match="files of another database"):
        Store(tmp_path / "second", url=second, bucket=store.bucket.url)
    storage.put(place, f"strangers/{file_of('a' * 64)}")
    with pytest.raises(UserError, match="not of this database"):
        Store(tmp_path / "second", url=second, bucket=f"s3://{place}/strangers")
    Store(tmp_path / "second", url=second)  # in a folder
    with pytest.raises(UserError, match="not in a bucket"):
        Store(tmp_path / "second", url=second, bucket=f"s3://{place}/second")
    for kept in (False, True):  # where there is none yet, who comes with another place would put theirs there
        if kept:
            upload(store, user, png())
        for home, options, message in (
            (store.home, {}, "in a bucket"),
            (tmp_path / "third", {}, "or in a bucket"),
            (store.home, {"bucket": f"s3://{place}/empty"}, "files are not in"),
            (tmp_path / "fourth", {"bucket": f"s3://{place}/empty"}, "files are not in"),
        ):
            with pytest.raises(UserError, match=message):
                Store(home, url=store.url, **options)
    assert "empty/studio.id" not in storage.names(place)
    cluster.drop(name)


@BOTH
def test_two_that_begin_at_once_have_the_bucket_once(cluster, storage, place, tmp_path):
    names = [cluster.create() for _ in range(2)]
    stores = at_once(2, lambda n: Store(tmp_path / str(n), url=cluster.url(names[n]), bucket=f"s3://{place}"))
    assert sorted(isinstance(found, UserError) for found in stores) == [False, True]
    cluster.drop(*names)


@pytest.fixture
def gate(storage, store, monkeypatch):
    """Before the storage of `store`."""
    found = s3.Gate(storage)
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
    yield found
    found.stop()


@pytest.fixture
def behind(gate, store, tmp_path):
    """A server that reaches its bucket through the gate."""
    return Store(tmp_path / "behind", url=store.url, bucket=store.bucket.url)


@BOTH
def test_while_the_storage_is_away_nothing_is_lost(behind, user, gate):
    """What a worker has made waits for it; who asks is told; what was deleted meanwhile is deleted."""
    _, (result,) = drawn(behind, user)
    job, told = behind.submit(user, asked(n=2)).id, threading.Event()

    def step(seed, number):
        if (seed, number) == (8, 2):
            gate.away = True

    hand, said = working(behind, Painter(step))
    hand.tell = lambda message: (said.append(message), message["event"] == "storage unusable" and told.set())
    thread = threading.Thread(target=hand.step)
    thread.start()
    try:
        assert told.wait(60)
        with pytest.raises(StorageUnusable):
            behind.read(result.files[0])
        with pytest.raises(StorageUnusable):
            behind.check()
        with pytest.raises(StorageUnusable):
            upload(behind, user, png(99))
        assert behind.job(job).status == "running" and behind.upload_of(sha256(result), user) is None
    finally:
        gate.away = False
        thread.join(60)
    assert behind.job(job).status == "done" and [row.recipe["seed"] for row in behind.results_of(job)] == [7, 8]
    behind.check()
    assert behind.read(result.files[0]) == png()


NO_ROOM = [(507, "XMinioStorageFull"), (403, "QuotaExceeded"), (500, "InternalError"), (403, "AccessDenied")]


@pytest.mark.parametrize("refusal", NO_ROOM)
def test_while_the_bucket_is_full_or_may_only_be_read_nothing_is_lost(storage, place, behind, user, gate, refusal):
    """SeaweedFS says InternalError where its disk is full."""
    _, (result,) = drawn(behind, user)
    job, told = behind.submit(user, asked(n=2)).id, threading.Event()

    def step(seed, number):
        if (seed, number) == (8, 2):
            gate.refusal = refusal

    painter = Painter(step)
    hand, said = working(behind, painter)
    hand.tell = lambda message: (said.append(message), message["event"] == "storage unusable" and told.set())
    with ThreadPoolExecutor(1) as pool:
        step_of_hand = pool.submit(hand.step)
        try:
            assert told.wait(60)
            with pytest.raises(StorageUnusable) as error:
                upload(behind, user, png(99))
            assert str(error.value) == "the studio's storage cannot be worked with" and error.value.status == 503
            assert "there is no room" in behind.bucket.failure  # which the log has, and nobody is told over HTTP
            with pytest.raises(StorageUnusable):
                behind.check()
            assert behind.read(result.files[0]) == png()
            assert behind.job(job).status == "running"
        finally:
            gate.refusal = None
        assert step_of_hand.result(60)
    behind.check()
    results = behind.results_of(job)
    assert behind.job(job).status == "done" and painter.seeds == [row.recipe["seed"] for row in results] == [7, 8]
    assert named(storage, place) == {file_of(sha256(row)) for row in [result, *results]}
    assert not list(behind.home.rglob(".staged-*"))


def test_a_slow_storage_is_waited_for_no_longer_than_was_said(behind, user, gate, monkeypatch):
    _, (result,) = drawn(behind, user)
    for name, value in {"CONNECT_TIMEOUT": 0.5, "READ_TIMEOUT": 0.3, "TRIES": 2}.items():
        monkeypatch.setattr(buckets, name, value)
    behind.files = behind.bucket = slow = buckets.Bucket(behind.bucket.url, behind.files.folder)
    gate.came = queue.Queue()
    gate.passing.clear()
    with pytest.raises(StorageUnusable):
        behind.read(result.files[0])
    assert gate.came.qsize() <= 2
    with pytest.raises(StorageUnusable):  # which waits for leave to write
        upload(behind, user, png(5))
    monkeypatch.setattr(slow, "_call", None)  # who deletes does not wait for what is known to be away
    assert behind.delete(result.id, user) and behind.result(result.id, user) is None


def test_others_are_served_while_some_wait_for_the_storage(store, user, gate, monkeypatch, tmp_path):
    monkeypatch.setattr(buckets, "READ_TIMEOUT", 600)
    monkeypatch.setattr(buckets, "CALLS", 2)
    monkeypatch.setattr(buckets, "TURN", 0.0)
    _, results = drawn(store, user, n=2)
    studio = Quick(tmp_path / "quick", store=store.url, bucket=store.bucket.url)
    try:
        headers = {"authorization": f"Bearer {accounts.issue(store, user, 'key')}"}
        client = httpx.Client(base_url=studio.url, headers=headers, timeout=60)
        paths = [f"/api/results/{result.id}/files/0" for result in results]
        gate.came = queue.Queue()
        gate.passing.clear()
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(client.get, path) for path in paths]
            for _ in paths:
                gate.came.get(timeout=60)
            refused = client.get(paths[0])
            assert refused.status_code == 503 and refused.json()["error"]["code"] == "storage_unusable"
            assert refused.headers["retry-after"] == "2"
            assert client.post("/api/uploads", files={"files": ("fox.png", png(9))}).status_code == 503
            for path in ("/api/jobs", "/api/results", f"/api/results/{results[0].id}", "/api/models"):
                assert client.get(path).status_code == 200
            assert fox(client).status_code == 202
            assert not any(one.done() for one in waiting)
            gate.passing.set()
            assert [one.result(60).content for one in waiting] == [png(0), png(1)]
    finally:
        gate.passing.set()
        studio.stop()
        studio.engine.store.engine.dispose()


# what may be read by whom


@pytest.fixture
def ask(store, tmp_path, storage):
    app = create(
        Settings(tmp_path / "server", port=80, store=store.url, bucket=store.bucket.url, downloads=storage.url)
    )

    def client(name):
        key = accounts.issue(store, accounts.find_user(store, name).id, "key") if name else "ink-none"
        headers = {"authorization": f"Bearer {key}"}
        return TestClient(app, base_url="http://localhost", headers=headers, follow_redirects=False)

    yield client
    app.state.engine.store.engine.dispose()


@BOTH
def test_downloads_come_from_the_storage_by_addresses_that_only_the_owner_is_given(store, user, ask):
    _, (result,) = drawn(store, user, shade=7)
    accounts.add_user(store, "bob", None)
    accounts.add_user(store, "boss", None, admin=True)
    path = f"/api/results/{result.id}/files/0"
    answer = ask("anna").get(path)
    assert answer.status_code == 307 and answer.headers["cache-control"] == "no-store"
    found = httpx.get(answer.headers["location"])
    assert found.content == png(7) and found.headers["content-type"] == "image/png"
    assert found.headers["content-disposition"].startswith('attachment; filename="fox.png"')
    assert {ask(name).get(path).status_code for name in ("bob", "boss")} == {404}
    assert ask("").get(path).status_code == 401
    token = ask("anna").put(f"/api/results/{result.id}/share", json={"recipe": True}).json()["url"]
    assert httpx.get(ask("").get(token).headers["location"]).content == png(7)
    assert ask("anna").delete(f"/api/results/{result.id}").status_code == 204
    assert ask("anna").get(path).status_code == ask("").get(token).status_code == 404
    assert httpx.get(answer.headers["location"]).status_code in (403, 404)  # who may not list is told no more


def test_a_part_of_a_file_comes_from_the_storage_and_from_the_studio_the_whole(store, user, ask):
    _, (result,) = drawn(store, user, shade=7)
    path, part = f"/api/results/{result.id}/files/0", {"range": "bytes=1-3"}
    answer = httpx.get(ask("anna").get(path, headers=part).headers["location"], headers=part)
    assert answer.status_code == 206 and answer.content == b"PNG"
    answer = ask("anna").get(path, headers={**part, "sec-fetch-mode": "cors"})
    assert answer.status_code == 200 and answer.content == png(7) and "content-range" not in answer.headers


@pytest.mark.parametrize("mode", ["no-cors", "cors", "same-origin"])
def test_the_page_is_shown_what_comes_from_the_studio_itself(store, user, ask, mode):
    _, (result,) = drawn(store, user, shade=7)
    answer = ask("anna").get(f"/api/results/{result.id}/files/0", headers={"sec-fetch-mode": mode})
    assert answer.status_code == 200 and answer.content == png(7)
    assert answer.headers["content-length"] == str(len(png(7))) and answer.headers["content-type"] == "image/png"


def test_what_needs_the_studios_own_headers_or_hands_comes_from_it(store, user, ask):
    store.submit(user, asked())
    job = store.claim("w")
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    with store.files.stage(drawing, ".svg") as one, store.files.stage(png(1, {"prompt": "a secret"}), ".png") as two:
        new = NewResult(0, "a fox", {}, {}, [NewFile(one, "fox.svg"), NewFile(two, "fox.png")])
        assert store.add("w", job, 0, 0, new)
    (result,) = store.results_of(job.id)
    answer = ask("anna").get(f"/api/results/{result.id}/files/0")
    assert answer.content == drawing and "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"].startswith("attachment")
    answer = ask("anna").get(f"/api/results/{result.id}/files/1", params={"recipe": False})
    assert answer.status_code == 200 and b"a secret" not in answer.content
    assert b"a secret" in store.read(result.files[1])


def test_what_lies_deeper_below_the_prefix_is_not_the_studios(storage, place, store):
    sha = "ab" + 62 * "0"
    for name in (f"files/archive/files/ab/{sha}.png", f"files/ab/{sha}.png", f"models/a/models/{32 * 'a'}.zip"):
        store.bucket.put(name, b"of another")
    assert [name for _, name in store.bucket.old("files", None)] == [f"files/ab/{sha}.png"]
    assert list(store.bucket.old("models", None)) == []
