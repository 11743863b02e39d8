"""Servers and workers one version apart share a database: that of now, and that before the last step of migration."""

import io
import re
import subprocess
import tarfile
from pathlib import Path

import httpx
import pytest

from inkwash.errors import UserError
from inkwash.studio.store import Store
from inkwash.studio.tables import ADDITIVE, migration_steps
from tests.studio import machines as module
from tests.studio.machines import address, until

ROOT = Path(__file__).parents[2]
ADDS = re.compile(
    r"create (unique )?index \w+ on \w+ \([\w, ]+\)|create (unlogged )?table \w+ \(.*\)"
    r"|alter table \w+ add column \w+ \w+( \w+)*( not null default .*)?",
    re.DOTALL,
)


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *words], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The source of the version before the last step; skipped where its commit is not there."""
    steps = migration_steps("postgresql")
    last = f"src/inkwash/studio/migrations/{steps[max(steps)].name}"
    try:
        commit = git("log", "-1", "--diff-filter=A", "--format=%H", "--", last).decode().strip()
        archive = git("archive", f"{commit}^", "src")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no git history here, or it does not go back so far")
    place = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(place, filter="data")
    assert not (place / last).exists()
    return place / "src"


@pytest.fixture
def machines(cluster, tmp_path):
    name = cluster.create()
    with module.running(tmp_path, cluster.tcp(name), "", opened=False) as found:
        yield found
    cluster.drop(name)


def drawn(machines, url):
    """What a server that was asked for two pictures says of them in the end."""
    with httpx.Client(base_url=url, timeout=60) as client:
        client.headers["authorization"] = f"Bearer {machines.key()}"
        job = client.post("/api/jobs/gate/draw", json={"n": 2}).json()["id"]
        return until(lambda: of_ended(client.get(f"/api/jobs/{job}").json()))


def of_ended(job):
    return None if job["status"] in ("queued", "running") else (job["status"], len(job["results"]), job["error"])


def steps_of(machines):
    with machines.store.reading() as tx:
        return set(tx.exec_driver_sql("select number from migrations").scalars())


def test_a_server_of_before_works_with_a_worker_of_now(machines, before):
    """The worker takes the step while the server runs; and the server starts again on those tables."""
    machines.open(0, 1)
    server = machines.start("--port", "0", "--device", "none", source=str(before))
    url = address(server)
    worker = machines.worker()
    until(lambda: "Drawing" in worker.stdout.readline())
    machines.connect()
    assert steps_of(machines) == set(migration_steps("postgresql"))
    assert drawn(machines, url) == ("done", 2, None)
    server.terminate()
    server.wait(60)
    again = machines.start("--port", "0", "--device", "none", source=str(before))
    assert drawn(machines, address(again)) == ("done", 2, None)


def test_a_worker_of_before_works_with_a_server_of_now(machines, before):
    machines.open(0, 1)
    url = address(machines.start("--port", "0", "--device", "none"))
    machines.connect()
    worker = machines.worker(source=str(before))
    assert drawn(machines, url) == ("done", 2, None)
    assert worker.poll() is None


def test_steps_that_say_so_only_add():
    """So that who does not know them reads and writes as before."""
    for file in {*migration_steps().values(), *migration_steps("postgresql").values()}:
        step = file.read_text(encoding="utf-8")
        if step.startswith(ADDITIVE):
            for statement in step.removeprefix(ADDITIVE).strip().removesuffix(";").split(";\n"):
                assert ADDS.fullmatch(statement.strip()), statement
                assert "add column" not in statement or ("not null" in statement) == ("default" in statement)


def test_tables_with_steps_of_a_newer_version_open_if_those_only_add(store):
    with store.writing() as tx:
        tx.exec_driver_sql("insert into migrations (number, additive) values (9998, true)")
    again = Store(store.home)
    again.engine.dispose()
    with store.writing() as tx:
        tx.exec_driver_sql("insert into migrations (number, additive) values (9999, false)")
    with pytest.raises(UserError, match="newer inkwash"):
        Store(store.home)
