"""How well sentences keep to what was asked of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inkwash.systems.language.controls import Constraints
from inkwash.systems.language.data import mentions
from inkwash.systems.language.grammar import Parse


def mbr(texts: Sequence[Sequence[str]]) -> int:
    """The text, given as its words, with the least mean risk, 1 - BLEU, beside the others (minimum Bayes risk
    decoding, Kumar & Byrne 2004)."""
    from sacrebleu import BLEU

    bleu = BLEU(tokenize="none", effective_order=True)
    lines = [" ".join(words) for words in texts]
    gains = [
        np.mean([bleu.sentence_score(line, [other]).score for j, other in enumerate(lines) if j != i] or [0.0])
        for i, line in enumerate(lines)
    ]
    return int(np.argmax(gains))


def semantic(text: str, constraint: Constraints) -> float:
    """Whether every value stands in the text, word by word (Diffusion-LM looks for its letters)."""
    return float(all(mentions(text, value) for value in constraint.fields.values()))


def tags(parse: Parse, constraint: Constraints) -> float:
    """The share of positions whose tag is as asked; missing words are wrong, words beyond are not counted."""
    right = [a == b for a, b in zip(parse.tags, constraint.tags, strict=False)]
    return sum(right) / len(constraint.tags)


def span(parse: Parse, constraint: Constraints) -> float:
    """Whether the constituents are there, exactly."""
    return float(set(constraint.spans) <= set(parse.spans))


def tree(parse: Parse, constraint: Constraints) -> float:
    """F1 of the labelled constituents."""
    assert constraint.tree is not None
    found, requested = set(parse.spans), set(constraint.tree)
    return 2 * len(found & requested) / max(len(found) + len(requested), 1)
