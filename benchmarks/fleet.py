"""A studio of several servers and workers, each in processes and a folder of its own, on PostgreSQL and SeaweedFS.
Its workers draw with the toy system beside this and with what ships."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import httpx  # noqa: E402
import pytest  # noqa: E402
from tests.studio import postgresql, s3  # noqa: E402
from tests.studio.machines import children, install, write_model  # noqa: E402

from inkwash.studio import accounts  # noqa: E402
from inkwash.studio.errors import APIError  # noqa: E402
from inkwash.studio.store import Store  # noqa: E402
from toy import PHASES  # noqa: E402

PATIENCE = 1800.0  # seconds that anything may take here, on a machine that is busy


def until(true: Callable[[], Any]) -> None:
    """It looks rarely: what it asks costs what is measured."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.2)


class Machine:
    """A server, at `url`, or a worker: a program, and below it the process that draws."""

    def __init__(self, fleet: "Fleet", number: int, *words: str) -> None:
        self.fleet, self.log, self.url, self.wanted = fleet, fleet.folder / f"{number}.log", "", True
        self.command = [sys.executable, "-m", "inkwash", "studio", *words, "--home", str(fleet.folder / f"{number}")]
        self.command += ["--model", str(fleet.folder / "models" / "toy")]
        if "worker" not in words:
            port = s3.free_port(28_000 + number)
            self.command += ["--port", str(port)]
            self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.fleet.env)

    def is_ready(self) -> bool:
        if not self.url:
            return self.drawing() is not None
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        return False

    def drawing(self) -> int | None:
        """The process that draws, if it is as far as that."""
        with suppress(OSError):
            return next((pid for pid in children(self.process) if self.fleet.phase(pid)), None)
        return None

    def freeze(self) -> tuple[int, str] | None:
        """The process that draws, stopped, and in which phase it is."""
        pid = self.drawing()
        with suppress(OSError, TypeError):
            os.kill(pid, signal.SIGSTOP)
            while state(pid) not in "TZ":
                time.sleep(0.0005)
            return (pid, self.fleet.phase(pid)) if state(pid) == "T" else None
        return None


class Fleet:
    """All of it. A machine that ends is started anew, as a system's services are.

    ended   what those said last which ended by themselves
    """

    def __init__(self, folder: Path, cluster: Any, storage: Any, servers: int, workers: int) -> None:
        self.folder, self.cluster, self.ended, self.over = folder, cluster, list[str](), threading.Event()
        self.marks, bucket = folder / "marks", f"s3://{storage.create()}/inkwash"
        for made in (site := folder / "site", self.marks):
            made.mkdir()
        install(site, HERE / "toy")
        write_model(folder / "models" / "toy", system="toy")
        os.environ |= storage.env
        url = cluster.tcp(cluster.create())
        self.store = Store(folder / "harness", PATIENCE, url, bucket)
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        self.env = {**os.environ, "PYTHONPATH": path, "MARKS": str(self.marks), "OMP_NUM_THREADS": "1"}
        self.env |= {"INKWASH_STORE": url, "INKWASH_FILES": bucket}
        self.servers = [Machine(self, number, "--device", "none") for number in range(servers)]
        self.workers = [Machine(self, servers + number, "worker") for number in range(workers)]
        self.wait()
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.keeper.start()

    def wait(self) -> None:
        until(lambda: all(machine.is_ready() for machine in (*self.servers, *self.workers)))

    def _keep(self) -> None:
        while not self.over.wait(0.2):
            for machine in (*self.servers, *self.workers):
                if machine.wanted and (code := machine.process.poll()) is not None:
                    if code != -signal.SIGKILL:
                        self.ended.append(machine.log.read_text().rstrip().rpartition("\n")[2])
                    machine.start()

    def phase(self, pid: int) -> str | None:
        """Where the process is that draws; None before it can draw."""
        file = self.marks / str(pid)
        return PHASES[file.read_bytes()[0]] if file.exists() else None

    def look(self, ask: Callable[[Store], Any]) -> Any:
        """What the tables say, as soon as they are there."""
        while True:
            with suppress(APIError):
                return ask(self.store)
            time.sleep(0.1)

    def open(self) -> int:
        """How many jobs have not ended."""
        count = self.look(Store.count)
        return count.get("queued", 0) + count.get("running", 0)

    def user(self, name: str) -> str:
        user = accounts.find_user(self.store, name) or accounts.add_user(self.store, name, None)
        return str(user.id)

    def client(self, name: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {accounts.issue(self.store, self.user(name), 'key')}"}
        return httpx.Client(headers=headers, timeout=PATIENCE)

    def restart_database(self) -> None:
        """As after a crash: it writes nothing more, and reads its log."""
        self.cluster.process.send_signal(signal.SIGQUIT)
        self.cluster.process.wait(60)
        self.cluster.start()

    def stop(self) -> None:
        self.over.set()
        self.keeper.join()
        self.end(*self.servers, *self.workers)
        self.store.engine.dispose()

    def end(self, *machines: Machine) -> None:
        """In good order, if they can."""
        for machine in machines:
            machine.wanted = False
            machine.process.terminate()
        for machine in machines:
            try:
                machine.process.wait(60)
            except subprocess.TimeoutExpired:
                machine.process.kill()


class Client(threading.Thread):
    """One that asks for jobs by turns, each with a key of its own, as long as there are `asks` (numbers of jobs and
    what they are); of a server that does not answer it goes on to the next.

    accepted   ids that were acknowledged, and what they shall be
    most       jobs that may be open before it asks for another
    """

    accepted: dict[str, dict[str, Any]]

    def __init__(
        self, fleet: Fleet, name: str, asks: Iterable[tuple[str, str, dict[str, Any]]], again: float
    ) -> None:
        super().__init__(daemon=True)
        self.fleet, self.asks, self.again, self.random = fleet, asks, again, random.Random(name)
        self.http = fleet.client(name)
        self.accepted, self.count, self.server, self.at = {}, Counter[str](), self.random.randrange(9), ""
        self.error = ""

    def run(self) -> None:
        for key, path, ask in self.asks:
            id = self.post(key, path, ask)
            self.accepted[id] = ask
            if self.random.random() < self.again:  # the same once more, of another server
                self.server += 1
                self.count["sent again"] += 1
                if self.post(key, path, ask) != id:
                    self.error = f"{key} is two jobs"

    def post(self, key: str, path: str, ask: dict[str, Any]) -> str:
        while True:
            self.at = self.fleet.servers[self.server % len(self.fleet.servers)].url
            try:
                answer = self.http.post(f"{self.at}/api/jobs/{path}", json=ask, headers={"idempotency-key": key})
            except httpx.HTTPError:
                self.count["without an answer"] += 1
                self.server += 1
                time.sleep(0.05)
                continue
            finally:
                self.at = ""
            if answer.status_code == 202:
                return str(answer.json()["id"])
            if answer.status_code not in (429, 503):
                self.error = answer.text
            time.sleep(min(1.0, float(answer.headers.get("retry-after", 1))))


def state(pid: int) -> str:
    """As Linux says: T for stopped, Z for ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@contextmanager
def running(servers: int, workers: int) -> Iterator[Fleet]:
    """Ends the program where one of the engines is missing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    try:
        with (
            postgresql.running("-c", "fsync=on") as cluster,
            s3.running("seaweedfs") as storage,
            TemporaryDirectory(prefix="fleet-") as folder,
        ):
            fleet = Fleet(Path(folder), cluster, storage, servers, workers)
            try:
                yield fleet
            finally:
                fleet.stop()
    except pytest.skip.Exception as error:
        sys.exit(f"not installed: {error}")
