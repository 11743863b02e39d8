"""Server and worker are killed, again and again, at any moment: no accepted job is lost, no result twice."""

import json
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from inkwash.studio import accounts
from inkwash.studio.store import OPEN, Store
from inkwash.weights.files import atomic
from tests.studio.conftest import Running, proc

KILLS = int(os.environ.get("INKWASH_KILLS", "25"))  # `make kills`: 200, and the report of docs/studio.md
REPORT = Path(__file__).parents[2] / "docs" / "results" / "kills.json"
EVERY = 4  # of them one is the server's


def workers_of(server: int) -> list[int]:
    """The processes that the server has started."""
    return [int(pid) for pid in (proc(server) / f"task/{server}/children").read_text().split()]


class Asker(threading.Thread):
    """A client that asks without end, through deaths of the server, and remembers what was acknowledged."""

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self.store, self.url, self.accepted, self.over = store, None, {}, False
        self.key = accounts.issue(store, accounts.local_user(store).id, "key")

    def run(self) -> None:
        number = 0
        while not self.over:
            number += 1
            n = 1 + number % 3
            ask = {"prompt": "a fox", "steps": 4, "n": n, "seed": 10 * number}
            headers = {"authorization": f"Bearer {self.key}", "idempotency-key": str(number)}
            while not self.over:
                try:
                    url = f"{self.url}/api/jobs/pictures/generate"
                    answer = httpx.post(url, json=ask, headers=headers, timeout=5)
                    assert answer.status_code == 202, answer.text
                    self.accepted[answer.json()["id"]] = ask
                    break
                except httpx.HTTPError:
                    time.sleep(0.02)
            while not self.over and sum(self.store.count().get(status, 0) for status in OPEN) > 5:
                time.sleep(0.02)


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path):
    random.seed(0)
    home = tmp_path / "home"
    store = Store(home)
    asker = Asker(store)
    running = Running(home)
    asker.url = running.url
    asker.start()
    begun, died_at_work = time.monotonic(), 0
    while not store.count().get("done"):
        time.sleep(0.005)
    longest = max(
        0.8, time.monotonic() - begun
    )  # so that, on a slow machine, too, some pictures are done between kills
    for kill in range(KILLS):
        if random.random() < 0.7:  # while it draws; else at any moment, its start included
            while not store.count().get("running"):
                time.sleep(0.005)
        time.sleep(random.uniform(0, longest))
        died_at_work += store.count().get("running", 0)
        if kill % EVERY == 0:
            with running.process:
                running.process.kill()
            running.start()
            asker.url = running.url
        else:
            while not (workers := workers_of(running.process.pid)):
                time.sleep(0.005)
            os.kill(workers[0], signal.SIGKILL)
    asker.over = True
    asker.join()
    end = time.monotonic() + 120
    while set(store.count()) != {"done"} and time.monotonic() < end:
        time.sleep(0.1)
    running.stop()
    assert died_at_work > KILLS / 4  # many died with a job at hand
    assert len(asker.accepted) > KILLS / 4

    named = set()
    for id, ask in asker.accepted.items():
        job, pictures = store.job(id), store.results_of(id)
        assert job.status == "done", job.error
        assert [picture.place for picture in pictures] == list(range(ask["n"]))
        assert [picture.recipe["seed"] for picture in pictures] == [ask["seed"] + place for place in range(ask["n"])]
        for picture in pictures:
            path = store.files.path(picture.files[0].sha256, ".png")
            Image.open(path).load()
            named.add(path)
    # idempotent: a request whose answer was lost made no second job (the last one may have had no answer at all)
    assert store.count()["done"] - len(asker.accepted) in (0, 1)
    extra = {
        store.files.path(p.files[0].sha256, ".png")
        for job in store.jobs(accounts.local_user(store).id, limit=200)
        for p in store.results_of(job.id)
    }
    assert {path for path in (home / "files").rglob("*") if path.is_file()} == named | extra
    with sqlite3.connect(home / "studio.db") as raw:
        assert raw.execute("pragma integrity_check").fetchone() == ("ok",)
    if "INKWASH_KILLS" in os.environ:
        facts = {"kills": KILLS, "with a job at hand": died_at_work}
        facts |= {"jobs": len(asker.accepted), "pictures": sum(ask["n"] for ask in asker.accepted.values())}
        with atomic(REPORT) as file:
            file.write_text(json.dumps({"command": "make kills", **facts}, indent=1) + "\n", encoding="utf-8")
