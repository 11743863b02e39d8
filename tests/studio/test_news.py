"""Several servers of one studio, as they are run: what is asked of one is seen at all, and no death loses a job."""

import asyncio
import json
import os
import signal
import threading
import time

import httpx
import pytest

from inkwash.cli import main
from inkwash.studio import accounts
from inkwash.studio.errors import DatabaseUnusable
from inkwash.studio.library import OPEN
from inkwash.studio.news import News
from inkwash.studio.store import Store
from tests.studio.conftest import Running, fox
from tests.studio.postgresql import PASSWORD


@pytest.fixture(scope="module")
def pair(cluster, tmp_path_factory):
    """Two servers with a worker each, on one database and one folder."""
    home, name = tmp_path_factory.mktemp("pair") / "home", cluster.create()
    tables = cluster.tcp(name)
    servers = [Running(home, tables=tables), Running(home, tables=tables)]
    yield servers
    for server in servers:
        server.stop()
        server.store.engine.dispose()
    said = "".join(file.read_text() for file in home.glob("*") if file.is_file())
    assert PASSWORD not in said and PASSWORD.replace(" ", "%20") not in said and "Traceback" not in said
    cluster.drop(name)


def test_a_preview_that_is_gone_when_it_is_looked_for_is_none():
    class Database:
        async def news(self):
            yield {"event": "preview", "job": "ended", "user": "anna", "place": 0}
            yield {"event": "preview", "job": "away", "user": "anna", "place": 0}
            yield {"event": "preview", "job": "runs", "user": "anna", "place": 0}

        def preview(self, job):
            if job == "away":
                raise DatabaseUnusable("cannot be reached", "database_unreachable")
            return "a picture" if job == "runs" else None

    async def heard():
        return [(message["job"], message["picture"]) async for message in News(Database()).listen()]

    assert asyncio.run(heard()) == [("runs", "a picture")]


def follow(client, job, states):
    """Keeps all that is told of a job until it ends."""
    with client.stream("GET", f"/api/jobs/{job}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: ")))


def ended(client, job):
    """The job when it has ended, asked for again and again as long as it may take on a busy machine."""
    end = time.monotonic() + 300
    while (answer := client.get(f"/api/jobs/{job}", params={"wait": 10}).json())["status"] in OPEN:
        assert time.monotonic() < end
    return answer


def test_pages_of_both_servers_see_the_same_job_as_it_is_drawn(pair):
    """Only one of them has the worker that draws it."""
    clients = [server.client() for server in pair]
    job = fox(clients[0], n=2, steps=40).json()["id"]
    seen = ([], [])
    each = zip(clients, seen, strict=True)
    threads = [threading.Thread(target=follow, args=(client, job, states)) for client, states in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for states in seen:
        running = [state["progress"] for state in states if state["status"] == "running" and state["progress"]]
        assert len({(one["place"], one["done"]) for one in running}) > 2 and any(one["preview"] for one in running)
        assert states[-1]["status"] == "done" and len(states[-1]["results"]) == 2
    assert seen[0][-1] == seen[1][-1]


def test_a_session_and_a_cancel_at_one_server_count_at_the_other(pair):
    one, two = (httpx.Client(base_url=server.url, headers={"origin": server.url}) for server in pair)
    link = accounts.issue(pair[0].store, accounts.local_user(pair[0].store).id, "link")
    assert one.post("/api/enter", json={"token": link}).status_code == 200
    assert two.post("/api/enter", json={"token": link}).status_code == 401
    two.cookies.update(one.cookies)
    assert two.get("/api/session").json()["name"] == "local"
    job = fox(one, n=10, steps=200).json()["id"]
    while two.get(f"/api/jobs/{job}").json()["status"] != "running":
        time.sleep(0.02)
    states = []
    listening = threading.Thread(target=follow, args=(one, job, states))
    listening.start()
    assert two.post(f"/api/jobs/{job}/cancel").status_code == 200
    listening.join(20)
    assert states[-1]["status"] == "cancelled"


def test_a_database_that_restarts_is_waited_for_and_nothing_is_lost(pair, cluster):
    """The servers and their workers are the same processes afterwards, or such as they have started themselves."""
    clients = [server.client() for server in pair]
    jobs = [fox(client, n=3, steps=20).json()["id"] for client in clients for _ in range(2)]
    while not any(clients[0].get(f"/api/jobs/{job}").json()["status"] == "running" for job in jobs):
        time.sleep(0.02)
    cluster.stop()
    end = time.monotonic() + 20
    while (answer := fox(clients[0])).status_code != 503:
        assert time.monotonic() < end
    assert answer.json()["error"]["code"] == "database_unreachable" and answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["message"] == "the studio's database cannot be reached"  # where it is, is no one's
    while (health := clients[1].get("/healthz")).json()["status"] != "database unreachable":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert health.status_code == 503
    cluster.start()
    for server, client in zip(pair, clients, strict=True):
        end = time.monotonic() + 60
        while client.get("/healthz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert server.process.poll() is None
    for job in jobs:
        answer = ended(clients[1], job)
        assert answer["status"] == "done", answer
        assert [result["place"] for result in answer["results"]] == [0, 1, 2]
        assert len(pair[0].store.results_of(job)) == 3


@pytest.mark.slow
def test_what_a_killed_server_was_drawing_another_draws(pair):
    """Its worker goes with it; the lease runs out, and another worker takes the job."""
    client = pair[1].client()
    store = pair[1].store
    while store.count().get("running"):
        time.sleep(0.05)
    pair[0].process.send_signal(signal.SIGSTOP)  # it starts no other worker, and renews nothing itself
    children = f"/proc/{pair[0].process.pid}/task/{pair[0].process.pid}/children"
    if not os.path.exists(children):
        pytest.skip("this machine has no /proc")
    with open(children) as file:
        worker = int(file.read().split()[0])
    jobs = [fox(client, n=2, steps=60).json()["id"] for _ in range(2)]
    while store.count().get("running", 0) < 2:
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    pair[0].process.kill()
    pair[0].process.wait()
    answers = [ended(client, job) for job in jobs]
    assert [answer["status"] for answer in answers] == ["done", "done"]
    assert sorted(store.job(job).deaths for job in jobs) == [0, 0]  # none since its last result
    assert all(len(answer["results"]) == 2 for answer in answers)
    pair[0].process.stdout.close()
    pair[0].start()


# the command line


@pytest.fixture
def told(capsys, monkeypatch):
    """What a command says in its one line of an error."""

    def run(*words, store=None):
        monkeypatch.delenv("INKWASH_STORE", raising=False)
        if store is not None:
            monkeypatch.setenv("INKWASH_STORE", store)
        assert main(["studio", *map(str, words)]) == 2
        output = capsys.readouterr()
        assert output.err.count("\n") == 1 and "Traceback" not in output.err and "geheim" not in output.err
        assert output.out == ""
        return output.err

    return run


def test_each_command_says_in_a_line_what_is_wrong_with_the_database(cluster, tmp_path, told):
    name, home = cluster.create(), ("--home", tmp_path / "home")
    wrong = cluster.tcp(name, "geheim")
    for words in (["--port", "0"], ["key"], ["user", "anna"]):
        before, after = (words, home) if words[0] == "--port" else ((), (*words, *home))
        assert "password authentication failed" in told(*before, *after, store=wrong)
    assert "--store is empty" in told(*home, "--store", "") and "--store is empty" in told(
        "key", *home, "--store", ""
    )
    assert "--files is empty" in told("key", *home, "--files", "", store=cluster.tcp(name))
    for password in ("ge/heim", "ge?heim"):
        assert "could see its password" in told("key", *home, "--store", f"postgresql://anna:{password}@b/c")
    for password in ("x@geheim", "x@y/geheim"):  # of which the rest would be the host, or the database
        assert "@ is written %40" in told("key", *home, store=f"postgresql://anna:{password}@b/c")
    assert "--store mysql: the address of a PostgreSQL database is needed" in told(
        *home, store="mysql://a:geheim@b/c"
    )
    assert "cannot be reached" in told("key", *home, store="postgresql://anna:geheim@127.0.0.1:1/x")
    for words in (["backup", tmp_path / "x"], ["recover"]):
        assert "use pg_dump and pg_restore" in told(*words, *home, store=cluster.tcp(name))
    assert not (tmp_path / "x").exists()
    cluster.drop(name)


def test_what_is_given_before_a_command_counts_more_than_the_environment(
    cluster, tmp_path, told, monkeypatch, capsys
):
    name, home = cluster.create(), ("--home", str(tmp_path / "home"))
    monkeypatch.setenv("INKWASH_STORE", "postgresql://anna@127.0.0.1:1/x")
    assert main(["studio", "--store", cluster.url(name), "key", *home]) == 0 and capsys.readouterr().out
    for option, one, other in (("store", "postgresql://b/c", "postgresql://b/d"), ("home", home[1], tmp_path)):
        line = told(f"--{option}", one, "key", f"--{option}", other)
        assert f"--{option}: one stands before key, another after it" in line
    cluster.drop(name)


def test_nobody_is_asked_to_work_where_nobody_does(told, tmp_path):
    words = ("--home", tmp_path, "--device", "none", "--threads", "2", "--memory", "900")
    assert "--threads, --memory: of the workers here" in told(*words, store="postgresql://b/c")


def test_users_keys_and_links_are_made_in_the_database_wherever_store_is_given(
    cluster, tmp_path, capsys, monkeypatch
):
    name, home = cluster.create(), ("--home", str(tmp_path / "home"))
    url = cluster.url(name)
    assert main(["studio", "--store", url, "key", *home]) == 0
    first = capsys.readouterr()
    assert main(["studio", "key", "--store", url, *home]) == 0
    second = capsys.readouterr()
    store = Store(tmp_path / "home", url=url)
    for output in (first, second):
        assert accounts.holder(store, output.out.strip(), "key").name == "local" and output.err == ""
    assert not (tmp_path / "home" / "studio.db").exists()
    for words in (["key", "--store", cluster.tcp(name), *home], ["--store", cluster.tcp(name), "key", *home]):
        assert main(["studio", *words]) == 2
        error = capsys.readouterr().err
        assert "INKWASH_STORE" in error and error.count("\n") == 1 and PASSWORD.replace(" ", "%20") not in error
    store.engine.dispose()
    cluster.drop(name)
