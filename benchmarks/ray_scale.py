"""Tables on a Ray cluster: efficiency beside one process, memory of 100,000 rows, and nodes that are killed.

    python benchmarks/ray_scale.py

starts the nodes of a cluster on this machine, one core each, reached from it alone, and writes docs/results/ray.json.
A row waits for some milliseconds and writes a line: what is measured is all that is not the model. The machine should
be otherwise idle.
"""

import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
from common import QUICK, ROOT

RESULT = ROOT / "docs" / "results" / "ray.json"
LENGTHS, WORK, LONG, KILLS = (
    ((20,), 400, (40,), 1) if QUICK else ((20, 200), 40_000, (10_000, 100_000), 5)
)  # ms, rows
HOST = "127.0.0.2"  # Ray would take 127.0.0.1 for the machine's address in its network
NODE = {"num_cpus": 1, "node_ip_address": HOST, "object_store_memory": 200 * 2**20}

TOY = '''
import time
from dataclasses import dataclass
from typing import Annotated
from annotated_types import Ge
from inkwash.systems.base import Help, Request, Result, System, Verb


@dataclass(frozen=True, kw_only=True)
class Wait(Request):
    """Wait."""

    ms: Annotated[float, Ge(0), Help("Milliseconds.")] = 1.0
    seed: Annotated[int | None, Ge(0), Help("What is written.")] = None


def wait(requests, context):
    for of, request in enumerate(requests):
        time.sleep(request.ms / 1000)
        file = context.folder / f"{of}.csv"
        file.write_text(f"{request.seed}\\n")
        yield Result(of, 0, {".csv": file}, recipe=request.facts())


WAIT = Verb(Wait, "toy_rows:wait", endings=(".csv",), takes=("out",))
SYSTEM = System("toy", "Rows that wait.", {"wait": WAIT}, "")
'''


def install(site: Path) -> dict[str, str]:
    """The environment in which the toy is a system of inkwash."""
    about = site / "toy_rows-1.0.dist-info"
    about.mkdir()
    (site / "toy_rows.py").write_text(TOY)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy_rows\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[inkwash.systems]\ntoy = toy_rows:SYSTEM\n")
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.update(PYTHONPATH=path, OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))  # all reach its ports
    os.environ["RAY_TMPDIR"] = "/tmp"  # a socket's path has 107 bytes at most
    return dict(os.environ)


class Table:
    """`inkwash toy wait` for so many rows, as it runs."""

    def __init__(self, place: Path, rows: int, ms: float, address: str | None, environment: dict[str, str]) -> None:
        self.out = Path(tempfile.mkdtemp(dir=place)) / "out"
        file = self.out.with_name("rows.csv")
        file.write_text("seed\n" + "".join(f"{seed}\n" for seed in range(rows)))
        on = ["--on", f"ray://{address}"] if address else []
        command = [
            sys.executable,
            "-m",
            "inkwash",
            "toy",
            "wait",
            "--csv",
            file,
            "--ms",
            str(ms),
            "-o",
            self.out,
            *on,
        ]
        self.rows, self.begun = rows, time.perf_counter()
        self.process = subprocess.Popen(
            [*map(str, command), "--timings"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def made(self) -> int:
        """How many rows are in the record so far."""
        record = self.out / "results.jsonl"
        return record.read_bytes().count(b"\n") if record.exists() else 0

    def end(self) -> dict[str, float]:
        said = self.process.communicate()[1]
        seconds = time.perf_counter() - self.begun
        if self.process.returncode:
            sys.exit(said)
        right = all((self.out / f"wait-{seed}.csv").read_text() == f"{seed}\n" for seed in range(self.rows))
        if not right or self.made() != self.rows:
            sys.exit(f"{self.rows} rows were asked for, {self.made()} made")
        memory = int(re.search(r"memory +(\d+) MB", said)[1])
        return {"rows": self.rows, "seconds": seconds, "MB of the command": memory}


def main() -> None:
    common.parser(__doc__).parse_args()
    common.needs("ray")
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as folder:
        place, site = Path(folder), Path(folder, "site")
        site.mkdir()
        environment = install(site)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            run(report, place, cluster, environment)
        finally:
            cluster.shutdown()
    common.save(RESULT, report)
    print(markdown(report))


def markdown(report: dict[str, Any]) -> str:
    """A table of Markdown. Of a cluster of n nodes the efficiency is the time of one over n times its own."""
    rows = [["what", "rows", "seconds", "efficiency", "MB of the command"], ["---", *["---:"] * 4]]
    for what, facts in report.items():
        if isinstance(facts, dict):
            nodes, _, ms = what.partition(", ")
            alone = report.get(f"one process, {ms}") if "node" in nodes and ms else None
            share = f"{alone['seconds'] / int(nodes.split()[0]) / facts['seconds']:.2f}" if alone else ""
            name = f"2 nodes, one of them killed {facts['kills']} times, 20 ms" if "kills" in facts else what
            rows.append([name, str(facts["rows"]), f"{facts['seconds']:.0f}", share, str(facts["MB of the command"])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def run(report: dict[str, Any], place: Path, cluster: Any, environment: dict[str, str]) -> None:
    def table(rows: int, ms: float, on: bool = True) -> Table:
        return Table(place, rows, ms, cluster.address if on else None, environment)

    for ms in LENGTHS:
        report[f"one process, {ms} ms"] = table(WORK // ms, ms, on=False).end()
        report[f"1 node, {ms} ms"] = table(WORK // ms, ms).end()
    node = cluster.add_node(**NODE)
    for ms in LENGTHS:
        report[f"2 nodes, {ms} ms"] = table(WORK // ms, ms).end()
    for rows in LONG:
        report[f"{rows} rows, 1 ms"] = table(rows, 1).end()
    running, kills = table(WORK // 20, 20), 0
    while running.process.poll() is None and kills < KILLS:
        if running.made() > running.rows * (kills + 1) // (KILLS + 2):
            cluster.remove_node(node, allow_graceful=False)
            node, kills = cluster.add_node(**NODE), kills + 1
        time.sleep(0.05)
    report["nodes killed"] = running.end() | {"kills": kills}


if __name__ == "__main__":
    main()
