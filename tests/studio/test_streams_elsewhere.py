"""Pages of one studio at several servers, whose workers are elsewhere: all of them see the same."""

import json

import httpx
import pytest

from tests.studio import machines as module
from tests.studio.machines import address


@pytest.fixture
def machines(cluster, tmp_path):
    name = cluster.create()
    with module.running(tmp_path, cluster.tcp(name), "") as found:
        yield found
    cluster.drop(name)


def states(url, key, job):
    """What a page is told of a job, until it closes."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream("GET", f"{url}/api/jobs/{job}/events", headers=headers, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def seen(url, key, job):
    """As a page shows it that connects now, as soon as it can: how it goes, and the preview."""
    for state in states(url, key, job):
        progress = state["progress"] or {}
        if progress.get("preview") and progress["total"]:
            return {name: progress[name] for name in ("place", "done", "total", "preview")}
    return None


def test_a_page_that_connects_anew_at_any_server_sees_what_a_worker_elsewhere_draws(machines):
    pages = [address(machines.start("--port", "0", "--device", "none")) for _ in range(2)]
    machines.worker()
    key = machines.key()
    answer = httpx.post(
        f"{pages[0]}/api/jobs/gate/draw", json={"n": 2}, headers={"authorization": f"Bearer {key}"}, timeout=60
    )
    job = answer.json()["id"]
    first = [seen(page, key, job) for page in pages]
    assert first[0] == first[1] and (first[0]["place"], first[0]["done"], first[0]["total"]) == (0, 1, 2)
    assert [seen(page, key, job) for page in reversed(pages)] == first
    machines.open(0, 1)
    last = [list(states(page, key, job))[-1] for page in pages]
    assert last[0] == last[1] and last[0]["status"] == "done" and len(last[0]["results"]) == 2
