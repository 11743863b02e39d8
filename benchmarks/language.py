"""Controlled sentences: the two diffusion engines beside a plain autoregressive model with best-of-50.

    pip install '.[language]'
    inkwash train recipes/e2e-next.toml --data e2e_trainset.csv.gz
    python benchmarks/language.py --data e2e_devset.csv.gz --rival runs/e2e-next/model

Each column may be measured by itself (--column), and the report keeps the others. With --paper, the folder of a
model by recipes/e2e-paper.toml, the fluency of Diffusion-LM as published is measured, and nothing else.
"""

import argparse
import json
import time
from pathlib import Path

from inkwash.systems.language.controls import Wish
from inkwash.systems.language.data import read_corpus
from inkwash.systems.language.evaluate import Judge, best_of, evaluate, paper, spoken, successes, surprised
from inkwash.systems.language.evaluate import facts as facts_of
from inkwash.systems.language.model import Writer
from inkwash.systems.language.vocabulary import join
from inkwash.weights.files import atomic

RESULT = Path(__file__).parents[1] / "docs" / "results" / "language.json"
COLUMNS = ("e2e", "e2e-masked", "autoregressive, best of 50")


def measured(column: str, data: Path, rival: Path | None) -> dict:
    """The report of one column."""
    if column != COLUMNS[2]:
        return evaluate(Writer.load(column), data)
    writer, other = Writer.load(COLUMNS[0]), Writer.load(rival)
    report = evaluate(writer, data, draw=best_of(other, writer, 50))
    report["model"] = facts_of(other)
    report["meanings"] = spoken(other, read_corpus(data), 100, None)
    return report


def published(folder: Path) -> dict:
    """The fluency of 400 sentences of a writer with nothing asked."""
    writer = Writer.load(folder)
    clock = time.process_time()
    sentences = writer.words.decode(writer.draw([Wish()] * 400, range(400)))
    seconds = (time.process_time() - clock) / 400
    examples = [join(words) for words in sentences[:6]]
    return {"model": facts_of(writer), "surprise": Judge().mean(sentences), "cpu_seconds_each": seconds} | {
        "steps": writer.info["steps"],
        "examples": examples,
    }


def table(facts: dict) -> str:
    """The report as Markdown."""
    columns = [name for name in COLUMNS if name in facts]
    some = facts[columns[0]]
    lines = [
        f"Human sentences: {some['human']:.2f} nats a word; their words shuffled: {some['shuffled']:.2f}.",
        "",
        "| asked | paper | " + " | ".join(f"{name}: success | surprise" for name in columns) + " |",
        "|---|---|" + "---|---|" * len(columns),
    ]
    for kind in some["rows"]:
        rows = [facts[name]["rows"][kind] for name in columns]
        cells = " | ".join(f"{successes(row)} | {surprised(row)}" for row in rows)
        lines.append(f"| {kind} | {paper(kind)} | {cells} |")
    cells = " | ".join(
        f"{sum(r['cpu_seconds_each'] for r in facts[n]['rows'].values()) / len(some['rows']):.2f} |" for n in columns
    )
    lines.append(f"| CPU seconds a sentence | | {cells} |")
    lines += ["", "| made | of | " + " | ".join(f"{name}: BLEU | ROUGE-L" for name in columns) + " |"]
    lines.append("|---|---|" + "---|---|" * len(columns))
    for name, of in (("the middle third of a sentence", "infilling"), ("a sentence for a meaning", "meanings")):
        for which in ("one", "least risk"):
            parts = [facts[column][of][which] for column in columns]
            cells = " | ".join(f"{part['BLEU']:.1f} | {part['ROUGE-L']:.1f}" for part in parts)
            lines.append(f"| {name} | {which} | {cells} |")
    return "\n".join(lines)


def samples(report: dict, count: int = 3) -> str:
    """The first sentences of a column, unchosen, as Markdown; in brackets how well each keeps to what was asked."""
    lines = ["| asked | written |", "|---|---|"]
    for kind, rows in report["examples"].items():
        for row in rows[: count if kind != "none" else 0]:
            kept = ", ".join(f"{100 * row[name]:.0f} %" for name in row if name not in ("asked", "text"))
            lines.append(f"| {row['asked']} | {row['text']} ({kept}) |")
    for row in report["infilling"]["examples"][:count]:
        lines.append(f"| instead of *{row['hidden']}* | {row['with']} |")
    for row in report["meanings"]["examples"][:count]:
        lines.append(f"| {row['meaning'].replace(' | ', ', ')} | {row['text']} |")
    free = " ".join(f"*{row['text']}*" for row in report["examples"]["none"][: 2 * count])
    return "\n".join([*lines, "", f"Nothing asked: {free}"])


def keep(column: str, found: dict) -> dict:
    """Puts a column into the report, which it returns."""
    facts = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    facts[column] = found
    with atomic(RESULT) as file:
        file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return facts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rival", type=Path)
    parser.add_argument("--paper", type=Path)
    parser.add_argument("--column", choices=COLUMNS, action="append")
    given = parser.parse_args()
    if given.paper is not None:
        print(keep("as published", published(given.paper))["as published"])
    else:
        wanted = given.column or COLUMNS
        if given.data is None or (COLUMNS[2] in wanted and given.rival is None):
            parser.error("--data and, for the autoregressive model, --rival are needed")
        for column in wanted:
            facts = keep(column, measured(column, given.data, given.rival))
        print(table(facts), samples(facts[COLUMNS[0]]), sep="\n\n")
