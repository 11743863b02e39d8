"""The worker: it makes what is missing, stops when it should, and fails one job at a time."""

import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

import inkwash
from inkwash.codecs.png import KEY, read_recipe
from inkwash.errors import UserError
from inkwash.studio import accounts, context, worker
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.worker import ModelCache, Worker
from tests.studio.conftest import asked


class Painter:
    """Draws squares whose shade is the seed; `on_step` is called at each of three steps."""

    def __init__(self, on_step=lambda seed, step: None):
        self.on_step, self.seeds = on_step, []

    def prompt_warning(self, prompt):
        return "it hears the rest" if "xyz" in prompt else None

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
    monkeypatch.setattr(context, "EVERY", 0.0)


def working(store, painter):
    said = []
    cache = ModelCache(lambda folder: painter, 1e12)
    return Worker(store, Catalogue(store), cache, "w", said.append), said


def test_it_draws_all_says_so_and_keeps_paths_to_itself(store, user):
    job = store.submit(user, asked(n=3, previews=2))["id"]
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
    job = store.submit(user, asked(n=3))["id"]

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
    job = store.submit(user, asked(n=2))["id"]
    hand = None

    def change(seed, step):
        if (seed, step) == (8, 1):
            if how == "cancel":
                store.cancel(job)
            elif how == "close the account":
                accounts.change_user(store, user, active=False)
            elif how == "stop":
                hand.over.set()
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
        (OSError(5, "secret"), "mistake of the studio's"),
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError("secret"), "mistake of the studio's"),
    ],
)
def test_what_fails_fails_one_job_and_says_why(store, user, error, message, capsys):
    bad, good = store.submit(user, asked(seed=1))["id"], store.submit(user, asked(seed=2))["id"]

    def fail(seed, step):
        if seed == 1:
            raise error

    hand, _ = working(store, Painter(fail))
    hand.step(), hand.step()
    assert store.job(bad).status == "failed" and message in store.job(bad).error
    assert not {"secret", "me"} & set(re.split(r"\W", store.job(bad).error)) and store.job(good).status == "done"


def test_a_full_disk_puts_the_job_back_and_it_is_done_when_there_is_room(store, user, monkeypatch):
    job = store.submit(user, asked())["id"]
    hand, said = working(store, Painter())
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with monkeypatch.context() as patch:

        def no_room(*arguments):
            raise OSError(28, "No space left on device")

        patch.setattr(store.files, "keep", no_room)
        hand.step()
        assert store.job(job).status == "queued" and "disk full" in [message["event"] for message in said]
    hand.step()
    assert store.job(job).status == "done"


def test_it_renews_its_lease_while_there_are_steps_and_not_when_it_hangs(store, user, monkeypatch):
    monkeypatch.setattr(worker, "LEASE", 0.04)
    monkeypatch.setattr(worker, "STALLED", 0.3)
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
    leave.set(), drawing.join(), hand.over.set()
    assert hung and max(hung) < begun + 0.8  # it hung for a second, and was given up after a third of that


def test_models_stay_warm_only_so_many_and_idle_ones_leave(monkeypatch):
    loaded, clock = [], [0.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: clock[0])
    warm = ModelCache(lambda name: loaded.append(name) or object(), 1e12)
    first = warm.get("a")
    assert warm.get("a") is first and loaded == ["a"]
    for name in "bcd":
        warm.get(name)
    assert list(warm.models) == ["b", "c", "d"] and len(warm.models) == worker.MOST_MODELS
    clock[0] = worker.IDLE - 1
    warm.get("c")
    clock[0] = worker.IDLE + 1
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
