"""Controlled sentences: the two diffusion engines beside a plain autoregressive model with best-of-50.

    pip install '.[language]'
    inkwash train e2e-autoregressive --data e2e_trainset.csv.gz
    python benchmarks/language.py --data e2e_devset.csv.gz --baseline runs/e2e-autoregressive/model

Each column may be measured by itself (--column), and the report keeps the others. With --paper, the folder of a
model by recipes/e2e-paper.toml, the fluency of Diffusion-LM as published is measured, and nothing else.
"""

import time
from dataclasses import asdict, replace
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path

import common
from common import QUICK, ROOT
from inkwash.systems.language.controls import Constraints
from inkwash.systems.language.data import read_corpus
from inkwash.systems.language.evaluate import INFILLING, OURS, EvaluatorLM, best_of, data_to_text, evaluate
from inkwash.systems.language.evaluate import facts as facts_of
from inkwash.systems.language.model import Writer
from inkwash.systems.language.vocabulary import detokenize
from inkwash.systems.report import Report, markdown_table, number

RESULT = ROOT / "docs" / "results" / "language.json"
COLUMNS = ("e2e", "e2e-masked", "autoregressive, best of 50")
QUICK_CONTROLS = ("none", "length", "infilling")
SIZES = {"targets": 2, "samples": 1, "steps": 2, "mrs": 2, "controls": QUICK_CONTROLS} if QUICK else {}


def measured(column: str, data: Path, baseline: Path | None) -> Report:
    """The report of one column."""
    if column != COLUMNS[2]:
        return evaluate(Writer.load(column), data, **SIZES)
    writer, other = Writer.load(COLUMNS[0]), Writer.load(baseline)
    found = evaluate(writer, data, sample=best_of(other, writer, 2 if QUICK else 50), **SIZES)
    rows, examples = data_to_text(other, read_corpus(data), SIZES.get("mrs", 100), None)
    return replace(
        found, model=found.model | facts_of(other), rows=found.rows + rows, examples=found.examples + examples
    )


def published(folder: Path) -> dict:
    """The fluency of 400 sentences of a writer with nothing asked."""
    writer = Writer.load(folder)
    clock = time.process_time()
    sentences = writer.vocabulary.decode(writer.sample([Constraints()] * 400, range(400)))
    seconds = (time.process_time() - clock) / 400
    examples = [detokenize(words) for words in sentences[:6]]
    return {"model": facts_of(writer), "NLL": EvaluatorLM().mean(sentences), "cpu_seconds_each": seconds} | {
        "steps": writer.config["steps"],
        "examples": examples,
    }


def sentences() -> Path:
    """For a quick run: places to eat, in the format of E2E."""
    file = ROOT / "e2e.csv"
    parts = product(
        ("The Punter", "The Mill", "The Wrestlers"), ("pub", "restaurant"), ("French", "Indian", "Chinese")
    )
    lines = [
        f'"name[{name}], eatType[{kind}], food[{food}]","{name} is a {kind} that serves {food} food {place}."'
        for name, kind, food in parts
        for place in ("by the river", "in the city centre")
    ]
    file.write_text("\n".join(["mr,ref", *lines]), encoding="utf-8")
    return file


def compare(facts: dict) -> str:
    """The reports as Markdown, a column for each model and for the paper."""
    rows = []
    for name in COLUMNS:
        for row in facts[name]["rows"]:
            source = name if row["source"] == OURS else row["source"]
            label = {"metric": f"{source}: {row['metric']}", "n": None}
            rows.append({key: value for key, value in row.items() if key != "source"} | label)
    metrics = (("success",), ("NLL",), ("BLEU", "ROUGE-L"))
    chosen = [[row for row in rows if row["metric"].rpartition(": ")[2] in of and "control" in row] for of in metrics]
    seconds = ", ".join(f"{name} {number(sum(facts[name]['cpu_seconds'].values()))}" for name in COLUMNS)
    people = [f"{row['source']} {row['value']:.2f}" for row in facts[COLUMNS[0]]["rows"] if "control" not in row]
    lines = [f"NLL, nats a word: {'; '.join(people)}.", f"CPU seconds for all of them: {seconds}."]
    return "\n\n".join([*map(markdown_table, chosen), "\n".join(lines)])


def samples(report: dict, count: int = 3) -> str:
    """The first sentences of a column, unchosen, as Markdown; in brackets how well each keeps to what was asked."""
    lines = ["| control | written |", "|---|---|"]
    found = {of: list(rows) for of, rows in groupby(report["examples"], itemgetter("of"))}
    free = [f"*{row['text']}*" for row in found.pop("none")[: 2 * count]]
    for of, rows in found.items():
        for row in rows[:count]:
            kept = ", ".join(f"{100 * value:.0f} %" for value in row.values() if isinstance(value, float))
            control = f"instead of *{row['control']}*" if of == INFILLING else row["control"].replace(" | ", ", ")
            lines.append(f"| {control} | {row['text']}{f' ({kept})' if kept else ''} |")
    return "\n".join([*lines, "", f"Nothing asked: {' '.join(free)}"])


def keep(column: str, found: dict) -> dict:
    """Puts a column into the report, which it returns."""
    facts = common.load(RESULT) | {column: found}
    common.save(RESULT, facts)
    return facts


if __name__ == "__main__":
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--paper", type=Path)
    parser.add_argument("--column", choices=COLUMNS, action="append")
    given = parser.parse_args()
    if QUICK:
        given.data, given.baseline = sentences(), Path(COLUMNS[1])
    if given.paper is not None:
        print(keep("as published", published(given.paper))["as published"])
    else:
        wanted = given.column or COLUMNS
        if given.data is None or (COLUMNS[2] in wanted and given.baseline is None):
            parser.error("--data and, for the autoregressive model, --baseline are needed")
        for column in wanted:
            facts = keep(column, asdict(measured(column, given.data, given.baseline)))
        print(compare(facts), samples(facts[COLUMNS[0]]), sep="\n\n")
