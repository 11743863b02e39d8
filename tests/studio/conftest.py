"""A studio that runs as users run it: `inkwash studio` in a process of its own, with the shipped models."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from inkwash.codecs.png import KEY
from inkwash.studio import accounts, dialects
from inkwash.studio.app import create
from inkwash.studio.auth import Bucket
from inkwash.studio.database import LOCK_TIMEOUT, Database
from inkwash.studio.engine import Settings
from inkwash.studio.server import make_server
from inkwash.studio.store import NewJob, Store
from inkwash.studio.worker import ModelCache, Worker
from tests.studio import postgresql, s3

# whose tests hold of both databases: each runs with SQLite, and with PostgreSQL
BOTH = ("test_store", "test_queue", "test_people", "test_worker", "test_catalogue")
# whose tests hold of a running studio wherever its data are: in a folder, or in PostgreSQL and S3's storage
ANYWHERE = ("test_security", "test_files_formats")

SERVER_TIME = dialects.server_time
ONLY_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
IN_A_FOLDER = pytest.mark.parametrize("studio", ["folder"], indirect=True, scope="session")


def pytest_generate_tests(metafunc):
    module = metafunc.module.__name__.rpartition(".")[2]
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if module in BOTH and "database" not in chosen:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)
    elif module in ANYWHERE and "studio" in metafunc.fixturenames and "studio" not in chosen:
        metafunc.parametrize("studio", ["folder", "s3"], indirect=True, scope="session")
    elif module == "test_streams":
        metafunc.parametrize("quick", ["sqlite", "postgresql"], indirect=True, scope="session")
    elif module.startswith("test_postgresql"):
        metafunc.parametrize("database", ["postgresql"], indirect=True)


@pytest.fixture(scope="session")
def cluster():
    """A PostgreSQL server of the tests' own."""
    with postgresql.running() as found:
        yield found


@pytest.fixture(scope="session")
def moto():
    """A server of S3's protocol that imitates one, and is quick."""
    with s3.running("moto") as found:
        yield found


@pytest.fixture(scope="session")
def seaweedfs():
    """A real one."""
    with s3.running("seaweedfs") as found:
        yield found


@pytest.fixture
def storage(request):
    return request.getfixturevalue(getattr(request, "param", "moto"))


@pytest.fixture(autouse=True)
def database(request, monkeypatch):
    """In what tables lie. With PostgreSQL each folder has a database of its own."""
    kind, names, stores = getattr(request, "param", "sqlite"), {}, []
    cluster = request.getfixturevalue("cluster") if kind == "postgresql" else None
    begin, now = Database.__init__, time.time

    def begin_there(store, home, lock_timeout=LOCK_TIMEOUT, url="", bucket=""):
        if cluster is not None and not url:
            names[home] = names.get(home) or cluster.create()
            url = cluster.url(names[home])
        begin(store, home, lock_timeout, url, bucket)
        stores.append(store)

    monkeypatch.setattr(Database, "__init__", begin_there)
    if cluster is not None:  # a clock that a test sets is the server's, too
        monkeypatch.setattr(dialects, "server_time", lambda tx: SERVER_TIME(tx) + time.time() - now())
    yield kind
    for store in stores:
        if store.postgresql is not None:
            store.engine.dispose()
    if names:
        cluster.drop(*names.values())


@pytest.fixture
def store(database, tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def user(store):
    return accounts.add_user(store, "anna", None).id


class Running:
    """A studio, at `url`. Its data can be looked at through `store`, too. tables: the URL of those in PostgreSQL;
    bucket: that of its files in the storage of the environment."""

    def __init__(self, home: Path, *options: str, tables: str = "", bucket: str = "") -> None:
        self.home, self.options = home, options
        self.env = {"INKWASH_STORE": tables, "INKWASH_FILES": bucket}
        self.start()
        self.store = Store(home, url=tables, bucket=bucket)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "inkwash", "studio", "--home", str(self.home), "--port", "0", *self.options]

    def start(self) -> None:
        env = os.environ | {name: url for name, url in self.env.items() if url}
        self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, text=True, env=env)
        self.link = re.search(r"http\S+", self.process.stdout.readline())[0]
        self.url = self.link.partition("/#")[0]
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/healthz").json()["workers"]:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise TimeoutError("the studio does not start")

    def stop(self) -> None:
        with self.process:  # whose pipe is closed, too
            self.process.terminate()

    def key(self, name: str = accounts.LOCAL) -> str:
        """A new key of the user, who is made if there is none."""
        user = accounts.find_user(self.store, name) or accounts.add_user(self.store, name, "correct horse battery")
        return accounts.issue(self.store, user.id, "key")

    def client(self, name: str = accounts.LOCAL) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key(name)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture
def idle(tmp_path):
    """Who asks a studio that has no workers; `client.app.state.engine` is its engine."""
    app = create(Settings(tmp_path / "home", port=80))
    store = app.state.engine.store
    key = accounts.issue(store, accounts.local_user(store).id, "key")
    return TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {key}"})


@pytest.fixture(autouse=True)
def clients_are_closed(monkeypatch):
    """Those that a test has made, when it ends."""
    made, begin = [], httpx.Client.__init__

    def remembered(client, *arguments, **options):
        begin(client, *arguments, **options)
        made.append(client)

    monkeypatch.setattr(httpx.Client, "__init__", remembered)
    yield
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def studio(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("studio") / "home"
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request, "param", "folder") == "folder":
            running = Running(home)
        else:
            cluster, storage = request.getfixturevalue("cluster"), request.getfixturevalue("moto")
            for name, value in storage.env.items():
                patch.setenv(name, value)
            running = Running(home, tables=cluster.url(cluster.create()), bucket=f"s3://{storage.create()}/inkwash")
        yield running
        running.stop()
        running.store.engine.dispose()


class Quick:
    """A studio in this process, in a thread, whose models draw grey squares at once: to ask a great deal of."""

    def __init__(self, home: Path, **settings) -> None:
        self.app = create(Settings(home, port=80, **settings))
        self.engine = self.app.state.engine
        self.engine._supervise = self.work
        self.app.state.rate = Bucket(1e6, 1e6)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = make_server(self.app, grace=1)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        user = accounts.local_user(self.engine.store)
        self.headers = {"Authorization": f"Bearer {accounts.issue(self.engine.store, user.id, 'key')}"}

    async def work(self, device: str) -> None:
        loop = asyncio.get_running_loop()

        def tell(message: dict) -> None:
            loop.call_soon_threadsafe(self.engine._receive, device, message)

        cache = ModelCache(lambda folder: Grey(), 1e12)
        hand = Worker(self.engine.store, self.engine.catalogue, cache, device, tell)
        tell({"event": "ready", **hand.state()})
        while not self.engine.stopping:
            if not await asyncio.to_thread(hand.step):
                await asyncio.sleep(0.005)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)


class Grey:
    """Draws a grey square whose shade is the seed."""

    def prompt_warning(self, prompt):
        return None

    def generate(self, prompt, *, seed, size, progress, preview, previews, **options):
        progress(1, 1)
        picture = Image.new("RGB", (size or 64, size or 64), (seed % 256,) * 3)
        if preview:
            preview(picture.copy())
        recipe = {
            "seed": seed,
            "prompt": prompt,
            "size": size or 64,
            "sampler": "ancestral",
            "steps": 1,
            "guidance": 1.0,
        }
        picture.info[KEY] = {**recipe, "negative": "", "style": None, "strength": None, "hash": "0" * 64}
        return picture


@pytest.fixture(scope="session")
def quick(request, tmp_path_factory):
    settings = {}
    if getattr(request, "param", "sqlite") == "postgresql":
        cluster = request.getfixturevalue("cluster")
        settings["store"] = cluster.url(cluster.create())
    running = Quick(tmp_path_factory.mktemp("quick") / "home", **settings)
    yield running
    running.stop()
    running.engine.store.engine.dispose()


def proc(process: int | str) -> Path:
    """What Linux says of a process; elsewhere the test is skipped."""
    if not Path("/proc/self").exists():
        pytest.skip("this machine has no /proc")
    return Path("/proc") / str(process)


def asked(n: int = 1, seed: int = 7, previews: int = 0, **more) -> NewJob:
    """A job for the table: n pictures."""
    request = {"prompt": "a red fox", "n": n, "seed": seed, "model": "emoji", **more}
    return NewJob("pictures", "generate", request, n, "emoji", previews=previews)


def fox(client: httpx.Client, prompt: str = "a fox", **more) -> httpx.Response:
    """The answer to who asks for pictures."""
    return client.post("/api/jobs/pictures/generate", json={"prompt": prompt, **more})


def sent(client: httpx.Client, data: bytes, name: str = "fox.png") -> dict[str, str]:
    """What a request says of a file that the client has sent."""
    (upload,) = client.post("/api/uploads", files={"files": (name, data)}).json()
    return {"sha256": upload["sha256"], "name": upload["name"]}
