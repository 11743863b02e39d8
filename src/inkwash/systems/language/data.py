"""What is learned from: a text file, or a table of sentences with what is said of them."""

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

EVERY = 40  # of so many sources (or texts) one is held out
MR = re.compile(r"([\w ]+)\[([^\]]*)\]")  # name[The Punter], food[Italian]


@dataclass(frozen=True)
class Corpus:
    """Sentences; what each is made from, if it is ("" if not); and its fields, {name: value}."""

    texts: list[str]
    sources: list[str]
    fields: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, rows: list[int]) -> Corpus:
        """Some of it."""
        return Corpus(*([column[i] for i in rows] for column in (self.texts, self.sources, self.fields)))


def read_corpus(file: str | Path) -> Corpus:
    """A text file, a sentence a line; or a table with a heading (CSV, or TSV; either may be gzipped) of

    - `mr,ref`: the E2E challenge (Novikova et al. 2017, 1706.09254), whose mrs are sources and fields;
    - `source,target`: pairs, for translation, answers, summaries;
    - `text` and any other columns, which are fields.

    Raises UserError for a file that cannot be read, has no sentence, or has none of these headings.
    """
    file = Path(file)
    text = _read(file)
    name = file.name.removesuffix(".gz").lower()
    if name.endswith((".csv", ".tsv")):
        corpus = _table(file, text, "\t" if name.endswith(".tsv") else ",")
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        corpus = Corpus(lines, [""] * len(lines), [{} for _ in lines])
    if not len(corpus):
        raise UserError(
            f"{file}: no sentence in it; a text file has one a line, a table a line of column names first"
        )
    return corpus


def _read(file: Path) -> str:
    try:
        raw = file.read_bytes()
        return (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from None


def _table(file: Path, text: str, delimiter: str) -> Corpus:
    reader = csv.DictReader(StringIO(text), delimiter=delimiter)
    columns = reader.fieldnames or []
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(
            f"{file}, line {reader.line_num}: {error}; look for a quotation mark that is not closed"
        ) from None
    if {"mr", "ref"} <= set(columns):
        rows = [row for row in rows if (row["ref"] or "").strip()]
        mrs = [parse_mr(row["mr"] or "") for row in rows]
        return Corpus([row["ref"].strip() for row in rows], [linearize_mr(fields) for fields in mrs], mrs)
    if {"source", "target"} <= set(columns):
        rows = [row for row in rows if (row["source"] or "").strip() and (row["target"] or "").strip()]
        return Corpus(
            [row["target"].strip() for row in rows], [row["source"].strip() for row in rows], [{} for _ in rows]
        )
    if "text" in columns:
        rows = [row for row in rows if (row["text"] or "").strip()]
        others = [column for column in columns if column and column != "text"]
        fields = [{column: row[column].strip() for column in others if (row[column] or "").strip()} for row in rows]
        return Corpus([row["text"].strip() for row in rows], [""] * len(rows), fields)
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
    inner, outer = ([word.lower() for word in tokenize(part)] for part in (value, text))
    return any(outer[i : i + len(inner)] == inner for i in range(len(outer) - len(inner) + 1))


def split_corpus(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """What is learned, and what is held out for choices: all sentences of one in forty sources, or texts."""
    keys = [source or text for source, text in zip(corpus.sources, corpus.texts, strict=True)]
    places = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    out = [places[key] % EVERY == EVERY - 1 for key in keys]
    return tuple(corpus.part([i for i, held in enumerate(out) if held is wanted]) for wanted in (False, True))  # type: ignore[return-value]
