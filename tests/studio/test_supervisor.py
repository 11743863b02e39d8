"""Workers without a server, on machines of their own: they end in good order, and others go on at once."""

import os
import signal

import httpx
import pytest

from inkwash.cli import main
from tests.studio import machines as module
from tests.studio.machines import address, children, until, write_model

SKEWED = """import time
now = time.time
time.time = lambda: now() + 3600
"""


@pytest.fixture
def machines(cluster, storage, tmp_path, monkeypatch):
    """Nothing of a disk is shared between them: only the database and the bucket."""
    for name, value in storage.env.items():
        monkeypatch.setenv(name, value)
    name = cluster.create()
    with module.running(tmp_path, cluster.tcp(name), f"s3://{storage.create()}/inkwash") as found:
        yield found
    cluster.drop(name)


@pytest.fixture
def folder(cluster, tmp_path):
    """The same with a folder for all of them."""
    name = cluster.create()
    with module.running(tmp_path, cluster.tcp(name), "") as found:
        yield found
    cluster.drop(name)


def asked_to_end(machines, process, *numbers, all_of_it=False):
    """Signals a process whose worker draws, and waits until that knows."""
    for pid in (process.pid, *(children(process) if all_of_it else ())):
        for number in numbers:
            os.kill(pid, number)
    until(machines.is_draining)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "all of a service"])
def test_a_worker_ends_its_picture_and_another_goes_on_with_the_rest_at_once(machines, how):
    if how == "all of a service" and not os.path.exists("/proc/self/task"):
        pytest.skip("this machine has no /proc")
    job, first = machines.submit(3), machines.worker()
    until(lambda: machines.begun() == ["0"])
    number = signal.SIGINT if how == "SIGINT" else signal.SIGTERM
    asked_to_end(machines, first, number, all_of_it=how == "all of a service")
    machines.open(0, 1, 2)
    assert first.wait(60) == 0
    row = machines.store.job(job)
    assert (row.status, row.part, row.worker, row.deaths) == ("queued", 1, None, 0)
    assert len(machines.store.results_of(job)) == 1 and machines.begun() == ["0"]
    machines.worker()
    assert [result.recipe["seed"] for result in machines.done(job)] == [0, 1, 2]
    assert machines.begun() == ["0", "1", "2"] and machines.store.job(job).deaths == 0
    assert machines.store.read(machines.store.results_of(job)[0].files[0]) == b"0 ink"


def test_a_second_ctrl_c_leaves_at_once_and_the_job_is_others(folder):
    job, process = folder.submit(), folder.worker()
    until(lambda: folder.begun() == ["0"])
    asked_to_end(folder, process, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    row = folder.store.job(job)
    assert (row.status, row.part, row.worker, row.deaths) == ("queued", 0, None, 0)
    assert folder.store.results_of(job) == []


def test_a_server_ends_its_picture_too_and_one_without_workers_serves(folder):
    server = folder.start("--port", "0")
    url, job = address(server), folder.submit(2)
    until(lambda: folder.begun() == ["0"])
    asked_to_end(folder, server, signal.SIGTERM)
    folder.open(0, 1)
    server.wait(60)
    assert folder.status(job) == "queued" and len(folder.store.results_of(job)) == 1
    with pytest.raises(httpx.HTTPError):
        httpx.get(url)
    serves = folder.start("--port", "0", "--device", "none")
    assert httpx.get(f"{address(serves)}/healthz").json()["status"] == "ok"
    assert folder.status(job) == "queued"
    folder.worker()
    assert len(folder.done(job)) == 2 and folder.begun() == ["0", "1"]
    serves.terminate()
    serves.wait(60)


@pytest.mark.parametrize("place", ["folder", "machines"])
def test_a_training_writes_its_checkpoint_and_goes_on_there_on_another_machine_too(place, request):
    studio = request.getfixturevalue(place)
    job, first = studio.submit(verb="train"), studio.worker()
    until(lambda: studio.begun() == ["train"])
    first.terminate()
    assert first.wait(60) == 0
    assert studio.status(job) == "queued" and studio.store.results_of(job) == []
    studio.open("train")
    studio.worker()
    (result,) = studio.done(job)
    assert result.data == {"times": 2} and studio.begun() == ["train"] * 2
    if place == "machines":
        until(lambda: studio.store.bucket.tag(f"runs/{job}.zip") is None)


def test_a_database_that_is_away_is_waited_for_and_who_idles_leaves_without_it(folder, cluster):
    job, busy = folder.submit(2), folder.worker()
    until(lambda: folder.begun() == ["0"])
    idle = folder.worker()
    until(lambda: "Drawing on cpu" in idle.stdout.readline())
    cluster.stop()
    try:
        idle.terminate()
        assert idle.wait(60) == 0
        assert busy.poll() is None
    finally:
        cluster.start()
    folder.open(0, 1)
    assert len(folder.done(job)) == 2
    assert busy.poll() is None


def test_a_worker_whose_lease_was_lost_drops_what_it_draws(folder):
    job = folder.submit()
    folder.worker()
    until(lambda: folder.begun() == ["0"])
    folder.store.release(folder.store.job(job).worker)  # as a server does to one that shows no sign of life
    until(lambda: folder.begun() == ["0", "0"])
    folder.open(0)
    assert len(folder.done(job)) == 1


def test_a_clock_that_is_an_hour_off_moves_no_time_and_takes_no_lease(folder):
    (folder.site / "sitecustomize.py").write_text(SKEWED)
    held = folder.submit()
    assert folder.store.claim("somebody").id == held  # who draws, elsewhere
    job, process = folder.submit(), folder.worker()
    folder.open(0)
    until(lambda: folder.store.renew("somebody", held) or folder.status(job) == "done")
    (result,) = folder.done(job)
    row, now = folder.store.job(job), folder.store.clock()
    assert all(now - 600 < moment <= now for moment in (row.created, row.started, row.changed, result.created))
    assert folder.store.holds("somebody", held)
    process.terminate()
    assert process.wait(60) == 0


def test_a_worker_says_in_a_line_what_it_needs(tmp_path, capsys, monkeypatch):
    for name in ("INKWASH_STORE", "INKWASH_FILES"):
        monkeypatch.delenv(name, raising=False)
    home = ["--home", str(tmp_path / "home")]
    for words, said in (
        (["worker", *home], "needs the database that it shares"),
        (["worker", *home, "--store", "mysql://a/b"], "a PostgreSQL database is needed"),
        (["worker", *home, "--store", "postgresql://a@127.0.0.1:1/b"], "Connection refused"),
        (["worker", *home, "--store", "postgresql://a@127.0.0.1:1/b", "--device", "none"], "device"),
        (["--device", "none", *home, "--port", "0"], "give --store"),
        (["--device", "cpu", "worker", *home], "leave it out with worker"),
    ):
        assert main(["studio", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "home" / "studio.db").exists()


# models


def test_a_worker_with_another_model_of_the_name_leaves_the_job_to_one_that_has_it(folder, capsys, monkeypatch):
    """It says so once; who runs the studio sees what is waited for; what others can draw is drawn meanwhile."""
    monkeypatch.setenv("INKWASH_STORE", folder.tables)
    server = folder.start("--port", "0", "--device", "none")
    with httpx.Client(base_url=address(server), timeout=60) as client:
        client.headers["authorization"] = f"Bearer {folder.key()}"
        folder.open(0, 1, 2)
        other = write_model(folder.folder / "other" / "toy", "other ink")
        job = until(lambda: client.post("/api/jobs/gate/draw", json={"n": 2}).json().get("id"))  # its hash is known

        def notes():
            return client.get(f"/api/jobs/{job}").json()["notes"]

        until(lambda: notes() == ["no worker is there now: it waits until one is"])
        stranger = folder.worker(model=other)
        plain = folder.submit()  # as of an older server: it says nothing of hashes
        assert folder.done(plain)[0].data == {"weights": "other ink"}
        said = until(lambda: next((line for line in stranger.stderr if "left to others" in line), ""))
        assert "jobs that need the model toy (" in said
        until(lambda: 'inkwash_jobs_without_model{model="toy ' in client.get("/metrics").text)
        until(lambda: "inkwash_workers 1.0" in client.get("/metrics").text)
        assert folder.status(job) == "queued"
        until(lambda: notes() == ["no worker has the model toy now: it waits until one has"])
        assert main(["studio", "workers", "--home", str(folder.folder / "home")]) == 0
        listed = capsys.readouterr().out.splitlines()
        assert listed[0].startswith("cpu-") and listed[1] == "1 workers" and len(listed) == 3
        assert listed[2].startswith("1 jobs wait for the model toy (")
        folder.worker()
        assert [result.data for result in folder.done(job)] == [{"weights": "ink"}] * 2 and notes() == []
        until(lambda: "inkwash_workers 2.0" in client.get("/metrics").text)
        assert "inkwash_jobs_without_model{" not in client.get("/metrics").text
        folder.store.cancel(folder.submit())
        stranger.terminate()
        assert stranger.wait(60) == 0
        assert "left to others" not in stranger.stderr.read()
        until(lambda: "inkwash_workers 1.0" in client.get("/metrics").text)
