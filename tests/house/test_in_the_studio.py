"""What somebody adds has a place in the studio at once: forms, jobs, files, trainings, models."""

import io
import os
import shutil
import signal
import time
import zipfile

import numpy as np
import pytest

import inkwash
from inkwash.studio import accounts, uploads
from inkwash.studio.client import StudioError
from inkwash.studio.errors import APIError
from tests.house import path_with_points
from tests.studio.conftest import Running
from tests.studio.test_crash import workers_of

RECIPE = """task = "points"
[fit]
steps = 1000000
learning_rate = 3e-3
warmup = 10
ema_decay = 0.9
preview_every = 200
checkpoint_minutes = 0.002
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path_with_points(tmp_path_factory.mktemp("site")))
        running = Running(tmp_path_factory.mktemp("studio") / "home")
        yield running
        running.stop()


@pytest.fixture(scope="module")
def client(studio):
    with inkwash.Studio(studio.url, studio.key("anna")) as client:
        yield client


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipes") / "ring.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def ring(client, recipe):
    """The name of a model that was trained to its end."""
    (result,) = client.run("points", "train", recipe=recipe, steps=400)
    return result.model


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_its_verbs_are_in_the_reference_with_their_bounds(studio, client):
    with studio.client("anna") as http:
        schemas = http.get("/openapi.json").json()["components"]["schemas"]
        assert schemas["PointsScatter"]["properties"]["count"]["maximum"] == 5000
        assert schemas["PointsScatter"]["required"] == ["model"]
        (system,) = [one for one in http.get("/api/systems").json() if one["name"] == "points"]
    fields = {verb["name"]: {field["name"]: field for field in verb["fields"]} for verb in system["verbs"]}
    assert fields["scatter"]["shift"]["media"] == "text/csv" and fields["train"]["data"]["kind"] == "folder"
    assert {verb["name"]: verb["lasting"] for verb in system["verbs"]} == {
        "scatter": False, "train": True, "evaluate": True,
    }  # fmt: skip


def test_a_training_outlives_its_worker_pauses_is_of_use_and_stops(studio, client, tmp_path):
    recipe = named("loop.toml", RECIPE)
    job = client.start("points", "train", recipe=recipe)
    before = until(lambda: (now := client.job(job)).progress and now.progress.done > 1000 and now).progress
    assert before.total == 10**6 and before.seconds_left > 1 and before.text
    until(lambda: client.job(job).progress.preview)
    (worker,) = workers_of(studio.process.pid)
    os.kill(worker, signal.SIGKILL)
    until(lambda: studio.store.job(job.id).deaths == 1)
    again = until(lambda: (now := client.job(job)).progress and now.progress.done and now).progress
    assert workers_of(studio.process.pid) != [worker] and again.done > 200  # it did not begin anew

    assert client.pause(job).status in ("running", "paused")
    until(lambda: client.job(job).status == "paused")
    points = scattered(client, "loop", count=100)  # its model so far
    assert np.abs(np.linalg.norm(points, axis=1) - 1).mean() < 0.2
    client.resume(job)
    done = until(lambda: (now := client.job(job)).progress and now.progress.done and now).progress.done
    client.stop(job)
    (result,) = client.wait(job).results
    ended = client.job(job)
    assert result.model == "loop" and ended.status == "done"
    assert sum("stopped after step" in note for note in ended.notes) == 1
    assert done > again.done and not (studio.home / "runs" / job.id).exists()
    assert [model.name for model in client.models() if model.job == job.id] == ["loop"]
    client.delete_model("loop")
    with pytest.raises(StudioError, match="the job is done"):
        client.pause(job)


def scattered(client, model, **request):
    """The points, read from the second file of the result."""
    (result,) = client.run("points", "scatter", model=model, seed=3, **request)
    assert [file.media for file in result.files] == ["image/png", "text/csv"]
    return np.loadtxt(client.read(result, 1).decode().splitlines(), delimiter=",")


def test_results_of_several_files_are_kept_shown_and_found(client, ring, tmp_path):
    (tmp_path / "shift.csv").write_text("5,0\n")
    points = scattered(client, ring, count=50)
    moved = scattered(client, ring, count=50, shift=tmp_path / "shift.csv")
    assert np.allclose(moved, points + np.array([5, 0]))
    assert np.allclose(scattered(client, ring, count=50, shift=b"5,0\n"), moved)
    newest = next(client.results(system="points"))
    assert newest.image().size == (64, 64) and newest.row["radius"] > 4
    assert newest.recipe["model"] == "ring" and newest.recipe["shift"]["name"] == "shift"
    kept = newest.save(tmp_path / "out")
    assert [path.name for path in kept] == ["scatter-3.png", "scatter-3.csv"]
    report = client.run("points", "evaluate", model="ring", count=20)[0]
    assert report.files[0].name == "report.json" and "| model |" in report.row["text"]


def test_what_a_model_does_not_know_is_refused_before_it_is_queued(client, ring):
    for request, message in (
        ({"model": "ring", "sampler": "ancestral"}, "unknown sampler 'ancestral'"),
        ({"model": "emoji"}, "emoji is a model of pictures"),
        ({"model": "rung"}, "did you mean ring"),
        ({"model": "ring", "count": 0}, "count"),
        ({"model": "ring", "size": 3}, "unknown parameter 'size'"),
    ):
        with pytest.raises(StudioError, match=message):
            client.start("points", "scatter", **request)
    with pytest.raises(inkwash.errors.UserError, match="points scatter"):
        client.start("points", "skatter")


def test_a_recipe_names_no_place_of_the_studios_machine_whatever_it_is_called(studio, client):
    def error(recipe, name="x.toml", **more):
        text = recipe + "[fit]\nsteps = 1\n"
        return client.wait(client.start("pictures", "train", recipe=named(name, text), **more)).error

    for place in (studio.home / "runs", ".", "./x", "../../etc", " /etc/passwd", "~/x", "C:/x", "file:///etc/passwd"):
        for name in ("x.toml", "x.txt", "x"):
            told = error(f'task = "pictures"\nwords = false\ndata = "{place}"\n[network]\n', name)
            assert told.startswith("data = ") and "is a place on this machine" in told
    data = {"data": named("a.csv", "x")}
    assert "no such folder of pictures" in error(
        'task = "pictures"\nwords = false\ndata = "mine"\n[network]\n', **data
    )
    assert "recipe lacks the key 'data'" in error('task = "pictures"\n[network]\n')
    assert error('task = "pictures"\nautoencoder = "/etc"\n[network]\n', **data).startswith("autoencoder = '/etc'")
    student = 'task = "student"\ntrajectories = 1\nteacher = '
    assert error(f'{student}"x"\n', **data).startswith("teacher = 'x'")
    assert "teacher" not in error(f'{student}"emoji"\n', **data)


def named(name, text):
    file = io.BytesIO(text.encode())
    file.name = name
    return file


def test_a_model_is_its_owners_counts_and_can_be_deleted(studio, client, ring):
    (own,) = [model for model in client.models() if model.owned]
    assert (own.name, own.system, own.makes) == ("ring", "points", "Clouds of points in the plane.")
    assert own.limits["scatter"]["sampler"].choices == ("heun", "ddim", "tuned")
    with studio.client("anna") as http:
        used = http.get("/api/session").json()["disk_used"]
        assert used > own.bytes > 1000
    with inkwash.Studio(studio.url, studio.key("ben")) as ben:
        assert not [model for model in ben.models() if model.owned]
        with pytest.raises(StudioError, match="unknown model"):
            ben.start("points", "scatter", model="ring")
        with pytest.raises(StudioError, match="no such"):
            ben.delete_model("ring")
    client.delete_model("ring")
    with pytest.raises(StudioError, match="unknown model"):
        client.start("points", "scatter", model="ring")
    with studio.client("anna") as http:
        assert http.get("/api/session").json()["disk_used"] == used - own.bytes
    assert not list((studio.home / "models").iterdir())


def test_a_cancelled_training_leaves_nothing(studio, client, recipe):
    job = client.start("points", "train", recipe=recipe)
    until(lambda: client.job(job).progress)
    assert client.cancel(job).status == "cancelled"
    until(lambda: not (studio.home / "runs" / job.id).exists())
    assert not [model for model in client.models() if model.job == job.id]


def test_a_folder_goes_in_as_it_is_and_as_a_zip(studio, client, tmp_path):
    for name in ("a.csv", "inner/b.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    zipped = shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "data")
    for source in (tmp_path / "data", zipped):
        job = client.start("points", "train", data=source)
        assert {file["name"] for file in job.request["data"]} == {"a.csv", "inner/b.csv"}
        assert client.wait(job).error.startswith("a recipe is needed")


def test_of_a_zip_no_more_is_unpacked_than_its_user_has_room_for(studio):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}", bytes(10**6))
    user = accounts.add_user(studio.store, "carl", None, disk=15 * 10**5)
    read = list[int]()
    budget = uploads.Budget(studio.store.disk_left(user.id))
    with pytest.raises(APIError, match="more than what is left of your share"):
        for _, content in uploads.unzip(file, "x.zip", budget):
            while data := content.read(1000):
                read.append(len(data))
    assert sum(read) == 15 * 10**5
    with studio.client("carl") as http:
        answer = http.post("/api/uploads", params={"unpack": True}, files={"files": ("x.zip", file.getvalue())})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "disk_quota")
        assert http.get("/api/session").json()["disk_used"] == 0


def test_uploads_are_bounded_and_zips_lead_nowhere(studio):
    def packed(*entries):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries:
                archive.writestr(name, data)
        return file.getvalue()

    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    bad = {
        "absolute": packed(("/etc/passwd", b"x")),
        "up": packed(("a/../../x", b"x")),
        "backslash": packed(("a\\b", b"x")),
        "link": packed((link, b"/etc/passwd")),
        "many": packed(*((f"{i}", b"") for i in range(10_001))),
        "bomb": packed(*((f"{i}", bytes(150_000_000)) for i in range(4))),
        "no zip": b"PK\x03\x04 nothing",
    }
    with studio.client("anna") as http:
        before = sum(path.stat().st_size for path in studio.home.rglob("*") if path.is_file())
        for name, data in bad.items():
            answer = http.post("/api/uploads", params={"unpack": True}, files={"files": ("x.zip", data)})
            assert answer.status_code in (400, 413, 422), name
        assert sum(path.stat().st_size for path in studio.home.rglob("*") if path.is_file()) < before + 10**6
        two = [
            ("files", (f"{i}.zip", packed((f"{i}", bytes(150_000_000)), ("x", bytes(150_000_000))))) for i in range(2)
        ]
        answer = http.post("/api/uploads", params={"unpack": True}, files=two)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
        many = [("files", (f"{i}.zip", packed(*((f"{i}-{j}", b"") for j in range(6000))))) for i in range(2)]
        answer = http.post("/api/uploads", params={"unpack": True}, files=many)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_files")
        good = http.post(
            "/api/uploads", params={"unpack": True}, files={"files": ("x.zip", packed(("a/b.txt", b"x")))}
        )
        assert [file["name"] for file in good.json()] == ["a/b.txt"]
