"""The worker: it makes what is missing, stops when it should, and fails one job at a time."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from annotated_types import Ge
from PIL import Image

import inkwash
from inkwash.codecs.png import KEY, read_recipe
from inkwash.errors import UserError
from inkwash.studio import accounts, context, worker
from inkwash.studio import store as stores
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.errors import DatabaseUnusable
from inkwash.studio.store import NewJob, NewResult
from inkwash.studio.worker import ModelCache, Worker
from inkwash.systems import systems
from inkwash.systems.base import Help, Note, Progress, Request, Result, System, Verb
from tests.studio.conftest import asked


class Painter:
    """Draws squares whose shade is the seed; `on_step` is called at each of three steps."""

    def __init__(self, on_step=lambda seed, step: None):
        self.on_step, self.seeds = on_step, []

    def prompt_warning(self, prompt):
        return "it uses the rest" if "xyz" in prompt else None

    def generate(self, prompt, *, seed, progress, preview, previews, **options):
        self.seeds.append(seed)
        for step in range(3):
            self.on_step(seed, step)
            progress(step + 1, 3)
            if preview:
                preview(Image.new("RGB", (8, 8), (seed, 0, step)))
        picture = Image.new("RGB", (8, 8), (seed, 0, 0))
        picture.info[KEY] = {"model": "/home/somebody/model", "seed": seed, "prompt": prompt}
        return picture


@pytest.fixture(autouse=True)
def each_step_looks(monkeypatch):
    monkeypatch.setattr(context, "INTERVAL", 0.0)


def working(store, painter):
    said = []
    cache = ModelCache(lambda folder: painter, 1e12)
    return Worker(store, Catalogue(store), cache, "w", said.append), said


def test_it_draws_all_says_so_and_keeps_paths_to_itself(store, user):
    job = store.submit(user, asked(n=3, previews=2)).id
    hand, said = working(store, Painter())
    assert hand.step() and not hand.step()
    assert store.job(job).status == "done"
    recipes = [row.recipe for row in store.results_of(job)]
    assert [recipe["seed"] for recipe in recipes] == [7, 8, 9] and {recipe["model"] for recipe in recipes} == {
        "emoji"
    }
    assert read_recipe(store.files.path(store.results_of(job)[2].files[0].sha256, ".png")) == recipes[2]
    assert [message["event"] for message in said] == [
        "started",
        *["progress", "preview"] * 3,
        "result",
        *["progress", "preview"] * 3,
        "result",
        *["progress", "preview"] * 3,
        "result",
        "left",
    ]
    assert {message["user"] for message in said} == {user}


def test_after_a_crash_it_draws_only_what_is_missing(store, user):
    job = store.submit(user, asked(n=3)).id

    def crash(seed, step):
        if (seed, step) == (8, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        working(store, Painter(crash))[0].step()
    assert len(store.results_of(job)) == 1
    store.recover()
    painter = Painter()
    working(store, painter)[0].step()
    assert painter.seeds == [8, 9] and store.job(job).status == "done"


@pytest.mark.parametrize("how", ["cancel", "close the account", "give to another", "stop"])
def test_it_stops_at_the_next_step_when_the_job_is_not_its_own_any_more(store, user, how):
    job = store.submit(user, asked(n=2)).id
    hand = None

    def change(seed, step):
        if (seed, step) == (8, 1):
            if how == "cancel":
                store.cancel(job)
            elif how == "close the account":
                accounts.change_user(store, user, active=False)
            elif how == "stop":
                hand.stopping.set()
            else:
                store.release("w")
        assert (seed, step) != (8, 2)

    hand, _ = working(store, Painter(change))
    hand.step()
    status = {"give to another": "queued", "stop": "running"}.get(how, "cancelled")
    assert store.job(job).status == status and len(store.results_of(job)) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("style = x: there is none"), "style = x: there is none"),
        (UserError("/home/me/x/unet/w.safetensors: no such file"), "w.safetensors: no such file"),
        (UserError(r"C:\me\x: 1 / 2, 64x64"), "x: 1 / 2, 64x64"),
        (UserError(f"cannot open '{tempfile.gettempdir()}/me/x.png'"), "cannot open 'x.png'"),
        (UserError(f"(path={inkwash.__path__[0]}/me/x.py)"), "(path=x.py)"),
        (OSError(5, "secret"), "mistake of the studio's"),
        (MemoryError(), "not enough memory"),
        (ModuleNotFoundError("x", name="spacy.tokens"), "this needs spacy: pip install"),
        (ModuleNotFoundError("x", name="inkwash.nowhere"), "mistake of the studio's"),
        (ZeroDivisionError("secret"), "mistake of the studio's"),
    ],
)
def test_what_fails_fails_one_job_and_says_why(store, user, error, message, capsys):
    bad, good = store.submit(user, asked(seed=1)).id, store.submit(user, asked(seed=2)).id

    def fail(seed, step):
        if seed == 1:
            raise error

    hand, _ = working(store, Painter(fail))
    hand.step(), hand.step()
    assert store.job(bad).status == "failed" and message in store.job(bad).error
    assert not {"secret", "me"} & set(re.split(r"\W", store.job(bad).error)) and store.job(good).status == "done"


def test_a_full_disk_puts_the_job_back_and_it_is_done_when_there_is_room(store, user, monkeypatch):
    job = store.submit(user, asked()).id
    hand, said = working(store, Painter())
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with monkeypatch.context() as patch:

        def no_room(*arguments):
            raise OSError(28, "No space left on device")

        patch.setattr(store.files, "commit", no_room)
        hand.step()
        assert store.job(job).status == "queued" and "disk full" in [message["event"] for message in said]
    hand.step()
    assert store.job(job).status == "done"


def test_it_renews_its_lease_while_there_are_steps_and_not_when_it_hangs(store, user, monkeypatch):
    monkeypatch.setattr(worker, "LEASE", 0.04)
    monkeypatch.setattr(worker, "STALL_TIMEOUT", 0.3)
    renewed, leave = [], threading.Event()
    monkeypatch.setattr(store, "renew", lambda name, job: renewed.append(time.monotonic()))

    def hang(seed, step):
        if step == 2:
            leave.wait(5)

    store.submit(user, asked())
    hand, _ = working(store, Painter(hang))
    threading.Thread(target=hand.send_heartbeats, daemon=True).start()
    drawing = threading.Thread(target=hand.step)
    begun = time.monotonic()
    drawing.start()
    while time.monotonic() < begun + 1:
        time.sleep(0.05)
    hung = list(renewed)
    leave.set(), drawing.join(), hand.stopping.set()
    assert hung and max(hung) < begun + 0.8  # it hung for a second, and was given up after a third of that


# what lasts


def counting(requests, context):
    """A verb that lasts: it counts in its folder, and goes on there."""
    for request in requests:
        file, total = context.folder / "count", request.steps
        done = int(file.read_text()) if file.exists() else 0
        while done < total and not context.stopped():
            done += 1
            context.tell(Progress(done, total))
            file.write_text(str(done))
        model = context.folder / "model"
        model.mkdir(exist_ok=True)
        (model / "system.json").write_text(json.dumps({"system": "counting", "done": done}))
        context.tell(Note(f"stopped after {done}"))
        yield Result(0, None, {}, {"done": done}, {"path": str(context.folder)}, model)


@dataclass(frozen=True, kw_only=True)
class Count(Request):
    """Count."""

    steps: Annotated[int, Ge(1), Help("How far.")] = 300


@pytest.fixture
def counting_system(monkeypatch):
    verb = Verb(Count, "tests.studio.test_worker:counting", lasting=True)
    system = System("counting", "Counting.", {"count": verb}, "")
    monkeypatch.setattr(worker, "systems", lambda: {**systems(), "counting": system})
    monkeypatch.setattr(context, "POLL", 0.0)


def count(**request):
    return NewJob("counting", "count", request, lasting=True)


@pytest.mark.usefixtures("counting_system")
def test_a_training_makes_way_after_its_turn_and_goes_on_where_it_was(store, user, monkeypatch):
    monkeypatch.setattr(context, "TURN", 0.05)
    long = store.submit(user, count()).id
    hand, said = working(store, Painter())
    at = []

    def tell(message):
        said.append(message)
        if message["event"] == "progress" and message["job"] == long:
            at.append(message["done"])
            if message["done"] == 10:
                store.submit(user, asked())

    hand.tell = tell
    while hand.step():
        pass
    assert store.count() == {"done": 2}
    started = [message["job"] for message in said if message["event"] == "started"]
    assert len(started) == 3 and started[0] == started[2] == long != started[1]
    assert at == sorted(at) and at[-1] == 300  # nothing was counted twice
    (result,) = store.results_of(long)
    assert result.data == {"done": 300} and store.job(long).notes == ["stopped after 300"]
    assert [model.name for model in store.models(user)] == ["count"] and not (store.runs / long).exists()


@pytest.mark.usefixtures("counting_system")
@pytest.mark.parametrize("how", ["pause", "stop", "cancel", "server ends"])
def test_a_training_that_is_told_to_ends_at_its_next_checkpoint(store, user, how):
    id = store.submit(user, count()).id
    hand, said = working(store, Painter())

    def tell(message):
        said.append(message)
        if message["event"] == "progress" and message["done"] == 20:
            if how == "server ends":
                hand.stopping.set()
            else:
                getattr(store, how)(id, user)

    hand.tell = tell
    hand.step()
    job = store.job(id)
    assert job.status == {"pause": "paused", "stop": "done", "cancel": "cancelled", "server ends": "queued"}[how]
    assert len(store.results_of(id)) == (how == "stop")
    assert [model.name for model in store.models(user)] == ([] if how in ("cancel", "server ends") else ["count"])
    assert (store.runs / id).exists() == (how in ("pause", "server ends"))
    if how == "pause":  # and what it learns later takes the place of that
        before = store.models(user)[0].id
        store.resume(id, user)
        hand.stopping.clear()
        hand.step()
        (model,) = store.models(user)
        assert model.name == "count" and model.id != before and not (store.models_folder / before).exists()
        assert json.loads((store.folder_of(model) / "system.json").read_text())["done"] == 300


@pytest.mark.usefixtures("counting_system")
def test_a_model_that_does_not_fit_fails_the_training_with_a_line_and_it_can_go_on(store):
    user = accounts.add_user(store, "carl", None, disk=10).id
    id = store.submit(user, count(steps=3)).id
    hand, _ = working(store, Painter())
    hand.step()
    job = store.job(id)
    assert job.status == "failed" and "MB of disk are taken" in job.error and "\n" not in job.error
    accounts.change_user(store, user, disk=10**6)
    store.resume(id, user)
    hand.step()
    assert store.job(id).status == "done" and len(store.models(user)) == 1


def test_notes_are_kept_once_and_time_left_is_told(store, user, monkeypatch):
    id = store.submit(user, asked(3, prompt="a xyz")).id
    clock = [0.0]

    def tick(seed, step):
        clock[0] += 2.0

    hand, said = working(store, Painter(tick))
    monkeypatch.setattr(context.time, "monotonic", lambda: clock[0])
    hand.step()
    assert store.job(id).notes == ["it uses the rest"]
    left = [message["seconds_left"] for message in said if message["event"] == "progress"]
    assert left[:3] == [None, 2 + 12, 0 + 12] and left[-3:] == [None, 2, 0]  # two seconds a step, three steps a part


def test_a_picture_that_is_made_in_a_batch_is_the_one_made_alone(store, user):
    """Parts are what the verb would make of the whole."""
    request = systems()["pictures"].verbs["generate"].request(prompt="a fox", n=3, seed=5)
    assert [(part.n, part.seed) for part in request.subrequests()] == [(1, 5), (1, 6), (1, 7)]
    film = systems()["pictures"].verbs["generate"].request(prompt="a fox", to="a dog", n=3, seed=5)
    assert film.subrequests() == [film]


# models


def test_models_stay_warm_only_so_many_and_idle_ones_leave(monkeypatch):
    loaded, clock = [], [0.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: clock[0])
    warm = ModelCache(lambda name: loaded.append(name) or object(), 1e12)
    first = warm.get("a")
    assert warm.get("a") is first and loaded == ["a"]
    for name in "bcd":
        warm.get(name)
    assert list(warm.models) == ["b", "c", "d"] and len(warm.models) == worker.MAX_MODELS
    clock[0] = worker.MODEL_TTL - 1
    warm.get("c")
    clock[0] = worker.MODEL_TTL + 1
    assert warm.tidy() and list(warm.models) == ["c"]


def test_without_room_only_the_last_model_stays_and_it_says_that_there_is_none(monkeypatch):
    warm = ModelCache(lambda name: object(), 1000)
    monkeypatch.setattr(worker, "memory", lambda: 500)
    warm.get("a"), warm.get("b")
    assert warm.tidy() and len(warm.models) == 2
    monkeypatch.setattr(worker, "memory", lambda: 2000)
    assert not warm.tidy() and list(warm.models) == ["b"]


def test_memory_is_what_the_process_takes():
    code = "import numpy as np; from inkwash.studio.worker import memory; before = memory()\n"
    code += "block = np.ones(50_000_000, np.uint8); print(memory() - before)"
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 45e6 < float(grown) < 60e6


def test_previews_show_the_picture_on_its_way_and_change_nothing():
    emoji, seen = inkwash.load("emoji"), []
    plain = emoji.generate("a red fox", style="flat", seed=7)
    shown = emoji.generate("a red fox", style="flat", seed=7, preview=seen.append, previews=3)
    assert np.array_equal(np.asarray(plain), np.asarray(shown)) and len(seen) == 3
    far = [np.abs(np.asarray(picture, float) - np.asarray(plain, float)).mean() for picture in seen]
    assert far[0] > far[1] > far[2] and far[2] < 20


def test_previews_of_a_masked_picture_keep_what_the_mask_keeps():
    emoji, seen = inkwash.load("emoji"), []
    before = emoji.generate("a red fox", style="flat", seed=7)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    options = {"image": before, "mask": mask, "seed": 1, "preview": seen.append}
    emoji.generate("a blue fox", style="flat", **options)
    right = [np.asarray(picture)[:, 32:] for picture in seen]
    assert len(seen) == 3 and all(np.array_equal(part, np.asarray(before)[:, 32:]) for part in right)


def test_what_is_likely_to_be_asked_for_is_loaded_before(store, user):
    loaded = []
    cache = ModelCache(lambda folder: loaded.append(folder.name) or Painter(), 1e12)
    hand = Worker(store, Catalogue(store), cache, "w", lambda message: None)
    hand.warm_up()
    assert loaded == ["emoji"]
    store.submit(user, asked()._replace(model="emoji-fast"))
    hand.step(), hand.warm_up()
    assert loaded == ["emoji", "emoji-fast"]
    with store.writing() as tx:
        tx.exec_driver_sql("update jobs set model = 'gone'")
    hand.warm_up()


def test_one_that_leaves_a_job_removes_nothing_of_the_next_ones(store, user):
    """Who goes on may have begun before the other has tidied up: both may work in one folder."""
    store.submit(user, asked(n=2))
    one, other = working(store, Painter())[0], working(store, Painter())[0]
    other.name = "other"
    job = store.claim("w")
    first = context.JobContext(one, job)
    (first.folder / "drawn").touch()
    assert not store.advance("w", job, leave=True)
    second = context.JobContext(other, store.claim("other"))
    (second.folder / "drawn").touch()
    first.close()
    assert (second.folder / "drawn").exists() and not first.root.exists()
    store.advance("other", store.job(job.id))
    second.close()
    assert not (store.runs / job.id).exists()


def test_a_model_is_kept_though_the_database_goes_in_the_middle(store, user, tmp_path, monkeypatch):
    def gone(tx):
        raise DatabaseUnusable("gone", "database_unreachable")

    store.submit(user, NewJob("pictures", "train", {}, lasting=True))
    job, folder = store.claim("w"), tmp_path / "model"
    folder.mkdir()
    (folder / "system.json").write_text("{}")
    new = NewResult(None, "a model", {}, {}, [], folder, "mine")
    with monkeypatch.context() as patch, pytest.raises(DatabaseUnusable):
        patch.setattr(stores, "stamp", gone)
        store.add("w", job, 0, 0, new)
    assert store.models(user) == [] and store.add("w", job, 0, 0, new)
    (model,) = store.models(user)
    assert (store.folder_of(model) / "system.json").read_text() == "{}"
