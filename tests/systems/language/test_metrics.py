"""Scores on cases whose value is known, and grammar as spaCy reads it."""

import pytest

from inkwash.systems.language import grammar, metrics
from inkwash.systems.language.controls import Constraints
from inkwash.systems.language.evaluate import infilling_constraint, score
from inkwash.systems.language.grammar import Parse
from inkwash.systems.language.vocabulary import tokenize


def test_tags_are_counted_position_by_position():
    parse = Parse(["DET", "NOUN", "VERB", "ADV"], [])
    assert metrics.tags(parse, Constraints(tags=("DET", "NOUN", "VERB"), length=3)) == 1
    assert metrics.tags(parse, Constraints(tags=("DET", "ADJ", "VERB", "ADV", "PUNCT"), length=5)) == pytest.approx(
        3 / 5
    )


def test_a_tree_is_scored_by_f1_and_a_span_exactly():
    parse = Parse([], [(0, 1, "NP"), (0, 4, "S"), (2, 4, "VP")])
    assert metrics.tree(parse, Constraints(tree=((0, 1, "NP"), (0, 4, "S"), (2, 4, "VP")), length=5)) == 1
    assert metrics.tree(parse, Constraints(tree=((0, 1, "NP"), (3, 4, "PP")), length=5)) == pytest.approx(2 / 5)
    assert metrics.span(parse, Constraints(spans=((2, 4, "VP"),))) == 1
    assert metrics.span(parse, Constraints(spans=((2, 4, "NP"),))) == 0


def test_grammar_of_a_plain_sentence():
    words = tokenize("The Punter is a cheap pub near the river.")
    (parse,) = grammar.parse([words])
    assert parse.tags == ["DET", "PROPN", "AUX", "DET", "ADJ", "NOUN", "ADP", "DET", "NOUN", "PUNCT"]
    said = {(" ".join(words[i : j + 1]), label) for i, j, label in parse.spans}
    assert {("The Punter", "NP"), ("a cheap pub", "NP"), ("near the river", "PP"), ("the river", "NP")} <= said
    assert (" ".join(words), "S") in said


def test_constituents_are_nested_or_apart():
    texts = ["It has a low price and kids like it, but the food that they serve is cold.", "Near the river, Cocum."]
    for parse in grammar.parse([tokenize(text) for text in texts]):
        for i, j, _ in parse.spans:
            for k, m, _ in parse.spans:
                assert j < k or m < i or (i <= k and m <= j) or (k <= i and j <= m)


def test_a_sentence_keeps_to_its_own_description():
    words = tokenize("The Punter is a cheap pub near the river.")
    (parse,) = grammar.parse([words])
    spans = tuple(parse.spans)
    wanted = Constraints({"price": "cheap"}, tuple(parse.tags), spans[:2], spans, (), len(words))
    assert score([words], [wanted]) == {
        "semantic": [1.0], "parts of speech": [1.0], "tree": [1.0], "span": [1.0],
    }  # fmt: skip
    assert score([words[1:]], [Constraints(length=len(words))]) == {"length": [0.0]}


def test_the_gap_is_the_middle_third():
    assert infilling_constraint(list("abcdef")) == Constraints(words=("a", "b", None, None, "e", "f"), length=6)
