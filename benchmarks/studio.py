"""What the studio costs beside the model: start, overhead of a job, idle device, and a crowd of clients.

    python benchmarks/studio.py

starts `inkwash studio` on this machine with an empty folder, and writes docs/results/studio.json. The machine should
be otherwise idle.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

import common
import inkwash
from common import QUICK, ROOT
from inkwash.studio import accounts
from inkwash.studio.store import Store

RESULT = ROOT / "docs" / "results" / "studio.json"
STARTS, PAIRS, QUEUED, CLIENTS, EACH = (1, 2, 4, 2, 2) if QUICK else (5, 40, 150, 50, 100)


class Studio:
    """A studio in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.begun = time.perf_counter()
        command = [sys.executable, "-m", "inkwash", "studio", "--home", str(home), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split(" at ")[1].partition("/#")[0]
        self.store = Store(home)

    def key(self, name: str = accounts.LOCAL) -> dict[str, str]:
        user = accounts.find_user(self.store, name) or accounts.add_user(self.store, name, None)
        return {"authorization": f"Bearer {accounts.issue(self.store, user.id, 'key')}"}

    def client(self, name: str = accounts.LOCAL) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.key(name), timeout=600)

    def memory(self) -> dict[str, float]:
        """MB of the server and of its worker."""
        server = self.process.pid
        (worker,) = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        pages = {
            name: int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for name, pid in [("server", server), ("worker", worker)]
        }
        return {name: count * os.sysconf("SC_PAGE_SIZE") / 1e6 for name, count in pages.items()}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


def submit(client: httpx.Client, **ask: object) -> dict:
    """A job of pictures."""
    answer = client.post("/api/jobs/pictures/generate?previews=0", json={"prompt": "a red fox", **ask})
    return answer.raise_for_status().json()


def draw(client: httpx.Client, **ask: object) -> dict:
    job = submit(client, style="flat", **ask)
    while job["status"] in ("queued", "running"):
        job = client.get(f"/api/jobs/{job['id']}", params={"wait": 60}).raise_for_status().json()
    assert job["status"] == "done", job
    return job


def starts() -> dict:
    """Seconds from the command to the first answer, and to the first picture, each time with an empty folder."""
    answers, pictures = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as home:
            studio = Studio(Path(home))
            while True:
                try:
                    httpx.get(f"{studio.url}/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.01)
            answers.append(time.perf_counter() - studio.begun)
            with studio.client() as client:
                draw(client, seed=7)
            pictures.append(time.perf_counter() - studio.begun)
            studio.stop()
    return {"first answer": spread(answers), "first picture": spread(pictures)}


def overhead(client: httpx.Client) -> dict:
    """Seconds of a picture by the model alone and through the studio, in turn, and of the difference."""
    model, alone, through = inkwash.load("emoji"), [], []
    model.generate("a red fox", style="flat", seed=0)
    draw(client, seed=0)
    for seed in range(PAIRS):
        begun = time.perf_counter()
        model.generate("a red fox", style="flat", seed=seed)
        between = time.perf_counter()
        draw(client, seed=seed)
        alone.append(between - begun)
        through.append(time.perf_counter() - between)
    differences = [b - a for a, b in zip(alone, through, strict=True)]
    return {"model alone": spread(alone), "through the studio": spread(through), "overhead": spread(differences)}


def busy(client: httpx.Client, n: int) -> dict:
    """The part of the time in which the model draws, while jobs wait."""
    before = metric(client, "inkwash_device_busy_seconds_total")
    begun = time.perf_counter()
    ids = [submit(client, n=n, seed=i)["id"] for i in range(QUEUED // n)]
    while client.get(f"/api/jobs/{ids[-1]}", params={"wait": 60}).json()["status"] != "done":
        pass
    seconds = time.perf_counter() - begun
    return {
        "pictures": len(ids) * n,
        "seconds": seconds,
        "busy": (metric(client, "inkwash_device_busy_seconds_total") - before) / seconds,
    }


def crowd(studio: Studio) -> dict:
    """Many clients at once, each of whom puts all its jobs into the queue and then waits for each."""
    clients = [studio.client(f"client {i}") for i in range(CLIENTS)]
    draw(clients[0], model="emoji-fast")
    memory, over = [studio.memory()], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            memory.append(studio.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    submitted, most = [], 0

    def ask(client: httpx.Client) -> int:
        ids, done = [], 0
        for seed in range(EACH):
            begun = time.perf_counter()
            answer = submit(client, model="emoji-fast", seed=seed)
            submitted.append(time.perf_counter() - begun)
            ids.append(answer["id"])
        barrier.wait()
        for id in ids:
            while (
                status := client.get(f"/api/jobs/{id}", params={"wait": 60}).raise_for_status().json()["status"]
            ) != "done":
                assert status in ("queued", "running")
            done += 1
        return done

    def count() -> None:
        nonlocal most
        most = sum(studio.store.count().get(status, 0) for status in ("queued", "running"))

    barrier = threading.Barrier(CLIENTS, action=count)
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = sum(pool.map(ask, clients))
    seconds = time.perf_counter() - begun
    over.set()
    watcher.join()
    pictures = sum(
        len(studio.store.results_of(job.id)) for i in range(CLIENTS) for job in jobs_of(studio, f"client {i}")
    )
    return {
        "clients": CLIENTS,
        "jobs": CLIENTS * EACH,
        "done": done,
        "pictures kept": pictures - 1,
        "waiting when all were in": most,
        "seconds": seconds,
        "submit": spread(submitted),
        "submit 99 %": statistics.quantiles(submitted, n=100)[98],
        "memory": {
            name: {
                "before": memory[0][name],
                "middle": memory[len(memory) // 2][name],
                "after": memory[-1][name],
                "most": max(m[name] for m in memory),
            }
            for name in ("server", "worker")
        },
    }


def jobs_of(studio: Studio, name: str) -> list:
    return studio.store.jobs(accounts.find_user(studio.store, name).id, limit=10**6)


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def spread(values: list[float]) -> dict[str, float]:
    low, *_, high = statistics.quantiles(values, n=20) if len(values) > 20 else (min(values), max(values))
    return {"median": statistics.median(values), "low": low, "high": high, "n": len(values)}


def table(report: dict) -> str:
    """The figures as a table of Markdown."""

    def ms(part: dict) -> str:
        return f"{1000 * part['median']:.0f} ms ({1000 * part['low']:.0f} to {1000 * part['high']:.0f})"

    def s(part: dict) -> str:
        return f"{part['median']:.1f} s ({part['low']:.1f} to {part['high']:.1f})"

    crowd, cost = report["crowd"], report["overhead"]
    waiting = crowd["waiting when all were in"]
    memory = "; ".join(
        f"{name} {part['before']:.0f} MB before, {part['middle']:.0f} in the middle, {part['after']:.0f} after"
        for name, part in crowd["memory"].items()
    )
    rows = [
        ("from the command to the first answer", s(report["start"]["first answer"])),
        ("from the command to the first picture", s(report["start"]["first picture"])),
        ("a picture by the model alone", ms(cost["model alone"])),
        ("the same through the studio", ms(cost["through the studio"])),
        ("overhead of a job, encoding and fsync included", ms(cost["overhead"])),
        ("time in which the model draws while jobs of one picture wait", f"{report['busy, 1']['busy']:.1%}"),
        ("the same, jobs of four pictures", f"{report['busy, 4']['busy']:.1%}"),
        (
            f"{crowd['clients']} clients, {crowd['jobs']} jobs, {waiting} of them waiting at once",
            f"{crowd['done']} done, {crowd['pictures kept']} pictures, in {crowd['seconds']:.0f} s",
        ),
        (
            "putting a job into the queue, then",
            f"{ms(crowd['submit'])}; 99 % within {1000 * crowd['submit 99 %']:.0f} ms",
        ),
        ("memory, then", memory),
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])


def main() -> None:
    common.parser(__doc__).parse_args()
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "start": starts(),
    }
    with tempfile.TemporaryDirectory() as home:
        studio = Studio(Path(home))
        with studio.client() as client:
            report["overhead"] = overhead(client)
            report["busy, 1"], report["busy, 4"] = busy(client, 1), busy(client, 4)
        report["crowd"] = crowd(studio)
        studio.stop()
    common.save(RESULT, report)
    print(table(report))


if __name__ == "__main__":
    main()
