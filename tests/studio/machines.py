"""Workers as they are run on machines of their own, and what they draw: the toy of `gate`."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from inkwash.studio import accounts
from inkwash.studio.store import NewJob, Store

HERE = Path(__file__).parent


def until(true, seconds=120.0):
    """What it says as soon as that is something; a machine that is busy may take its time."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def install(site: Path, package: Path = HERE / "gate") -> Path:
    """Makes a system of tests a package there."""
    name = package.name
    (site / name).symlink_to(package)
    about = site / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[inkwash.systems]\n{name} = {name}:SYSTEM\n")
    return site


def write_model(folder: Path, weights: str = "ink", system: str = "gate") -> Path:
    folder.mkdir(parents=True)
    (folder / "system.json").write_text(json.dumps({"system": system}))
    (folder / "model.safetensors").write_text(weights)
    return folder


class Machines:
    """Those of one studio, each with a folder of its own; in its database anna has an account."""

    store: Store
    user: str

    def __init__(self, folder: Path, tables: str, bucket: str) -> None:
        self.folder, self.tables, self.bucket, self.processes = folder, tables, bucket, []
        self.site, self.gate = install(_made(folder / "site")), _made(folder / "gate")
        self.model = write_model(folder / "models" / "toy")

    def connect(self, home: str = "home") -> None:
        """To the database, which has its tables after that."""
        self.store = Store(self.folder / home, url=self.tables, bucket=self.bucket)
        self.user = accounts.add_user(self.store, "anna", None).id

    def start(self, *words: str, source: str = "", model: Path | None = None, home: str = "", **env: str):
        """A process of `inkwash studio` with these words. source: of inkwash, in place of this one's."""
        home = home or (f"home{len(self.processes)}" if self.bucket else "home")  # without a bucket all share it
        path = os.pathsep.join(filter(None, [str(self.site), source, os.environ.get("PYTHONPATH", "")]))
        env = {**os.environ, "PYTHONPATH": path, "GATE": str(self.gate), "INKWASH_STORE": self.tables, **env}
        env |= {"INKWASH_FILES": self.bucket}
        command = [sys.executable, "-m", "inkwash", "studio", *words, "--home", str(self.folder / home)]
        command += ["--model", str(model or self.model)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, text=True, env=env, **pipes)
        self.processes.append(process)
        return process

    def worker(self, **more):
        return self.start("worker", **more)

    def submit(self, n: int = 1, verb: str = "draw", **more) -> str:
        new = NewJob("gate", verb, {"model": "toy", "n": n}, n, "toy", lasting=verb == "train", **more)
        if verb == "train":
            new = new._replace(request={"model": "toy"})
        return self.store.submit(self.user, new).id

    def key(self) -> str:
        """Of who runs the studio."""
        return accounts.issue(self.store, accounts.local_user(self.store).id, "key")

    def begun(self) -> list[str]:
        file = self.gate / "begun"
        return file.read_text().split() if file.exists() else []

    def open(self, *names: object) -> None:
        for name in names:
            (self.gate / f"open-{name}").touch()

    def is_draining(self) -> bool:
        return (self.gate / "draining").exists()

    def status(self, job: str) -> str:
        return self.store.job(job).status

    def done(self, job: str) -> list:
        """Its results, when it is done."""
        until(lambda: self.status(job) not in ("queued", "running"))
        assert self.status(job) == "done", self.store.job(job).error
        return self.store.results_of(job)


def children(process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def address(process) -> str:
    """Of a server that was started."""
    line = next(line for line in process.stdout if "http://" in line)
    url = line.split()[-1].partition("/#")[0]
    until(lambda: is_up(url))
    return url


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@contextmanager
def running(folder: Path, tables: str, bucket: str, opened: bool = True):
    """opened: by this process, too, before any other has made the tables."""
    found = Machines(folder, tables, bucket)
    if opened:
        found.connect("test" if bucket else "home")
    try:
        yield found
    finally:
        for process in found.processes:
            process.kill()
            print(*process.communicate(), sep="\n")  # shown where a test fails
        found.store.engine.dispose()
