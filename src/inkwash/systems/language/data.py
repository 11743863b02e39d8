"""Training data: a text file, or a table of sentences with their sources or fields."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from inkwash.errors import UserError
from inkwash.systems.language.vocabulary import tokenize

HELD_OUT = 40  # of so many sources (or texts) one is held out
MR = re.compile(r"([\w ]+)\[([^\]]*)\]")  # name[The Punter], food[Italian]


@dataclass(frozen=True)
class Corpus:
    """Sentences; what each is made from, if it is ("" if not); and its fields, {name: value}."""

    texts: list[str]
    sources: list[str]
    fields: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, rows: list[int]) -> Corpus:
        """The sentences with these indices."""
        columns = ([self.texts[i] for i in rows], [self.sources[i] for i in rows], [self.fields[i] for i in rows])
        return Corpus(*columns)


def read_corpus(file: str | Path) -> Corpus:
    """A text file, a sentence a line; or a table with a heading (CSV, or TSV; either may be gzipped) of

    - `mr,ref`: the E2E challenge (Novikova et al. 2017, 1706.09254), whose mrs are sources and fields;
    - `source,target`: pairs, for translation, answers, summaries;
    - `text` and any other columns, which are fields.

    Raises UserError for a file that cannot be read, has no sentence, or has none of these headings.
    """
    file = Path(file)
    text = _read_text(file)
    name = file.name.removesuffix(".gz").lower()
    if name.endswith((".csv", ".tsv")):
        corpus = _parse_table(file, text, "\t" if name.endswith(".tsv") else ",")
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        corpus = Corpus(lines, [""] * len(lines), [{} for _ in lines])
    if not len(corpus):
        raise UserError(
            f"{file}: no sentence in it; a text file has one a line, a table a line of column names first"
        )
    return corpus


def _read_text(file: Path) -> str:
    try:
        raw = file.read_bytes()
        return (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from None


def _parse_table(file: Path, text: str, delimiter: str) -> Corpus:
    reader = csv.DictReader(StringIO(text), delimiter=delimiter)
    columns = reader.fieldnames or []
    try:
        rows = [{column: (row[column] or "").strip() for column in columns} for row in reader]
    except csv.Error as error:
        raise UserError(
            f"{file}, line {reader.line_num}: {error}; look for a quotation mark that is not closed"
        ) from None
    if {"mr", "ref"} <= set(columns):
        rows = [row for row in rows if row["ref"]]
        mrs = [parse_mr(row["mr"]) for row in rows]
        return Corpus([row["ref"] for row in rows], [linearize_mr(fields) for fields in mrs], mrs)
    if {"source", "target"} <= set(columns):
        rows = [row for row in rows if row["source"] and row["target"]]
        return Corpus([row["target"] for row in rows], [row["source"] for row in rows], [{} for _ in rows])
    if "text" in columns:
        rows = [row for row in rows if row["text"]]
        fields = [{name: value for name, value in row.items() if name and name != "text" and value} for row in rows]
        return Corpus([row["text"] for row in rows], [""] * len(rows), fields)
    raise UserError(
        f"{file}: the columns are {', '.join(columns) or 'missing'}; needed are source and target, or text (with any "
        "others), or mr and ref"
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
