"""Training data: a text file, or a table of sentences with their sources or fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from inkwash.errors import UserError
from inkwash.systems import tables
from inkwash.systems.language.vocabulary import tokenize

ENDINGS = (".txt", ".csv", ".tsv")  # of files that are read
HELD_OUT = 40  # of so many sources (or texts) one is held out
FOLLOWED = 256  # sentences of these, by which a training is followed
MR = re.compile(r"([\w ]+)\[([^\]]*)\]")  # name[The Punter], food[Italian]


@dataclass(frozen=True)
class Corpus:
    """Sentences; what each is made from, if it is ("" if not); and its fields, {name: value}.

    note: what the columns of the table were taken for.
    """

    texts: list[str]
    sources: list[str]
    fields: list[dict[str, str]]
    note: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def __add__(self, other: Corpus) -> Corpus:
        return Corpus(self.texts + other.texts, self.sources + other.sources, self.fields + other.fields, self.note)

    def subset(self, rows: list[int]) -> Corpus:
        """The sentences with these indices."""
        columns = ([self.texts[i] for i in rows], [self.sources[i] for i in rows], [self.fields[i] for i in rows])
        return Corpus(*columns, self.note)


def read_corpus(file: str | Path) -> Corpus:
    """A text file (.txt), a sentence a line; or a table with a heading (.csv or .tsv; each may be gzipped) of

    - `mr,ref`: the E2E challenge (Novikova et al. 2017, 1706.09254), whose mrs are sources and fields;
    - `source,target`: pairs, for translation, answers, summaries;
    - `text` and any other columns, which are fields.

    Raises UserError for a file that cannot be read, has no sentence, or has none of these headings, and for a table
    with a cell out of place (`tables.read_rows`).
    """
    file = Path(file)
    name = file.name.lower().removesuffix(".gz")
    if not name.endswith(ENDINGS):
        raise UserError(
            f"{file}: no such file is read; give .txt with a sentence a line, or a table, .csv or .tsv (each may be "
            "gzipped)"
        )
    raw = tables.read_utf8(file)
    if name.endswith(".txt"):
        lines = [line.strip() for line in raw.decode().splitlines() if line.strip()]
        corpus = Corpus(lines, [""] * len(lines), [{} for _ in lines])
    else:
        corpus = _parse_table(file, raw)
    if not len(corpus):
        raise UserError(
            f"{file}: no sentence in it; a text file has one a line, a table a line of column names first"
        )
    return corpus


def _parse_table(file: Path, raw: bytes) -> Corpus:
    cells = tables.read_rows(file, raw)
    columns = next(cells, [])
    rows = [dict(zip(columns, row, strict=True)) for row in cells]
    if {"mr", "ref"} <= set(columns):
        rows = [row for row in rows if row["ref"]]
        mrs = [parse_mr(row["mr"]) for row in rows]
        note = _note(file, columns, {"sentences": ["ref"], "their meanings": ["mr"]})
        return Corpus([row["ref"] for row in rows], [linearize_mr(fields) for fields in mrs], mrs, note)
    if {"source", "target"} <= set(columns):
        rows = [row for row in rows if row["source"] and row["target"]]
        note = _note(file, columns, {"sentences": ["target"], "what they are made from": ["source"]})
        return Corpus([row["target"] for row in rows], [row["source"] for row in rows], [{} for _ in rows], note)
    if "text" in columns:
        rows = [row for row in rows if row["text"]]
        names = [name for name in columns if name not in ("", "text")]
        for name in names:
            _check_field(file, name, [row[name] for row in rows if row[name]])
        fields = [{name: row[name] for name in names if row[name]} for row in rows]
        note = _note(file, columns, {"sentences": ["text"], "fields": names})
        return Corpus([row["text"] for row in rows], [""] * len(rows), fields, note)
    raise UserError(
        f"{file}: the columns are {', '.join(columns) or 'missing'}; needed are source and target, or text (with any "
        "others), or mr and ref"
    )


def _note(file: Path, columns: list[str], roles: dict[str, list[str]]) -> str:
    """What becomes of each column."""
    used = [name for names in roles.values() for name in names]
    roles = roles | {"left out": [name or "row numbers" for name in columns if name not in used]}
    return f"read {file.name}: " + "; ".join(f"{role}: {', '.join(names)}" for role, names in roles.items() if names)


def _check_field(file: Path, name: str, values: list[str]) -> None:
    """UserError for a column that numbers the sentences, or has a value of its own for most of them."""
    if (classes := len(set(values))) > 10 and 2 * classes > len(values):
        raise UserError(
            f"{file}: the column '{name}' has {classes} values in {len(values)} rows, too many for a field that can "
            "be asked for: leave it out"
        )


def parse_mr(text: str) -> dict[str, str]:
    """{field: value} of a meaning representation (MR) as E2E writes it, name[The Punter], food[Italian].

    UserError for anything else.
    """
    found = MR.findall(text)
    if not found:
        raise UserError(f"'{text}': a meaning is written name[The Punter], food[Italian]")
    return {field.strip(): value.strip() for field, value in found}


def linearize_mr(fields: dict[str, str]) -> str:
    """An MR as a source: name The Punter | food Italian."""
    return " | ".join(f"{field} {value}" for field, value in fields.items())


def mentions(text: str, value: str) -> bool:
    """Whether the words of the value stand in the text, one after the other, in any case."""
    needle, words = ([word.lower() for word in tokenize(each)] for each in (value, text))
    return any(words[i : i + len(needle)] == needle for i in range(len(words) - len(needle) + 1))


def split_corpus(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """What is learned, and what is held out for choices: all sentences of one in forty sources, or texts."""
    keys = [source or text for source, text in zip(corpus.sources, corpus.texts, strict=True)]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    held_out = [number[key] % HELD_OUT == HELD_OUT - 1 for key in keys]
    training, validation = ([i for i, out in enumerate(held_out) if out is which] for which in (False, True))
    return corpus.subset(training), corpus.subset(validation)


def split_training(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """As `split_corpus`, but of what is held out only so much as a training is followed by."""
    training, held_out = split_corpus(corpus)
    return training, held_out.subset([*range(len(held_out))][:FOLLOWED])
