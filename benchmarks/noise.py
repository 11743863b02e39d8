"""What noise costs: ours beside numpy.random.Generator(Philox).standard_normal(float32), in one run.

    python benchmarks/noise.py

It takes about half a minute, prints its table and writes docs/results/noise.json.

Ours is a function of (seed, field, draw number) for every row, NumPy's is one stream for all: so ours is
`Noise.normal`, called again and again as a sampler does, and theirs one call for as many numbers. Both take turns on
one thread, round after round, in alternating order, and the table gives the medians over the rounds of a call's time
and of the ratio. A round of ours is 50 draws of a new `Noise`, since it makes the words of small draws ahead: what it
makes for nothing is counted.
"""

import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import common
from common import QUICK, ROOT
from inkwash.diffusion.noise import Noise

RESULT = ROOT / "docs" / "results" / "noise.json"
SHAPES = ((1, 12288), (64, 12288), (16000, 2), (256, 7), (4096, 64), (16, 16), (1, 1))[:: 3 if QUICK else 1]
ROUNDS, CALLS, BAR = (1, 5, 4) if QUICK else (15, 50, 4)


def microseconds(call: Callable[[], Any], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls * 1e6


def measure() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for shape in SHAPES:
        numpys = partial(np.random.Generator(np.random.Philox(0)).standard_normal, shape, np.float32)
        calls = max(CALLS, int(20_000 / microseconds(numpys, CALLS)))
        taken: dict[str, list[float]] = {"NumPy": [], "ours": []}
        for i in range(ROUNDS + 1):
            contenders = {"NumPy": numpys, "ours": Noise(range(shape[0]), shape[1:]).normal}
            for name, call in list(contenders.items())[:: 1 if i % 2 else -1]:
                time_of_call = microseconds(call, calls if name == "NumPy" else CALLS)
                if i:  # the first round warms up
                    taken[name].append(round(time_of_call, 2))
        ratio = median(a / b for a, b in zip(taken["ours"], taken["NumPy"], strict=True))
        table[" x ".join(map(str, shape))] = {**taken, "ratio": ratio, f"at most {BAR}": ratio <= BAR}
    return {
        "command": "python benchmarks/noise.py",
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
            "threads": 1,
        },
        "microseconds a call, each round": table,
    }


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [f"| seeds x numbers | NumPy, µs | ours, µs | ratio | at most {BAR} |", "|---|---:|---:|---:|---|"]
    for name, row in report["microseconds a call, each round"].items():
        numpys, ours = (median(row[who]) for who in ("NumPy", "ours"))
        met = "met" if row[f"at most {BAR}"] else "MISSED"
        lines.append(f"| {name} | {numpys:.1f} | {ours:.1f} | {row['ratio']:.2f} | {met} |")
    return "\n".join(lines)


if __name__ == "__main__":
    common.parser(__doc__).parse_args()
    report = measure()
    common.save(RESULT, report)
    print(table(report))
    print(f"\n{RESULT}")
