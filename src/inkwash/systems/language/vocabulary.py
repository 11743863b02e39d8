"""Sentences -> ids of words, and back. Needs no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import numpy as np

from inkwash.errors import UserError

PAD, END, START, UNKNOWN = range(4)
SPECIAL = ("[PAD]", "[END]", "[START]", "[UNKNOWN]")

HAN = "\u3400-\u9fff"
# a Chinese character; the n't and the 's of "don't" and "it's"; a word; a number; any other sign alone
WORD = re.compile(
    rf"[{HAN}]|n't\b|'(?:s|re|ve|ll|d|m)\b|[^\W\d_{HAN}]+?(?=n't\b)|[^\W\d_{HAN}]+|\d+(?:[.,]\d+)*|[^\s]",
    re.IGNORECASE,
)
NO_SPACE_BEFORE = re.compile(
    rf"\s+(?=(?:[.,!?;:)\]%…，。！？；：、{HAN}-]|n't\b|'(?:s|re|ve|ll|d|m)\b))", re.IGNORECASE
)
NO_SPACE_AFTER = re.compile(rf"(?<=[(\[£$€#{HAN}，。！？；：、-])\s+")


def tokenize(text: str) -> list[str]:
    """The words and signs of a text: "it's £20-25." -> it, 's, £, 20, -, 25, and the full stop."""
    return WORD.findall(text.replace("’", "'"))


def detokenize(words: Iterable[str]) -> str:
    """Words as one writes them: no space before a full stop, none after a pound sign, none around a hyphen."""
    text = NO_SPACE_BEFORE.sub("", " ".join(words))
    return NO_SPACE_AFTER.sub("", text)


class Vocabulary:
    """A vocabulary: [PAD], [END], [START] and [UNKNOWN], then words; the id of a word is its index."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.symbols = [*SPECIAL, *self.words]
        self._ids = {word: i for i, word in enumerate(self.symbols)}

    @classmethod
    def build(cls, texts: Iterable[str], min_count: int = 1, max_size: int = 20_000) -> Vocabulary:
        """The words that come at least so often, the most frequent first; no more than `max_size`."""
        counts = Counter(word for text in texts for word in tokenize(text))
        return cls([word for word, n in counts.most_common(max_size) if n >= min_count])

    def __len__(self) -> int:
        return len(self.symbols)

    def ids(self, words: Iterable[str]) -> list[int]:
        """[UNKNOWN] for words outside the vocabulary."""
        return [self._ids.get(word, UNKNOWN) for word in words]

    def known_ids(self, words: Sequence[str]) -> list[int]:
        """As `ids`; a UserError with the nearest words for one that is outside the vocabulary."""
        for word in words:
            if word not in self._ids:
                near = get_close_matches(word, self.words, n=3, cutoff=0.6)
                hint = f"did you mean {' or '.join(near)}?" if near else "use other words"
                raise UserError(f"the model does not know the word '{word}': {hint}")
        return self.ids(words)

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """(N, length) int64: the words, [END], then [PAD]; what is too long loses its end."""
        rows = np.full((len(texts), length), PAD, np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [*self.ids(tokenize(text))[: length - 1], END]
            row[: len(ids)] = ids
        return rows

    def decode(self, rows: np.ndarray) -> list[list[str]]:
        """The words before the first [END]; `detokenize` makes a text of them."""
        return [[self.symbols[i] for i in row[: ended(row)]] for row in rows]


def ended(row: np.ndarray) -> int:
    """How many words come before [END], or before [PAD] where it is missing."""
    marks = np.flatnonzero((row == END) | (row == PAD))
    return int(marks[0]) if len(marks) else len(row)
