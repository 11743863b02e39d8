"""Vocabulary: what a sentence is cut into, and that it comes together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.language.vocabulary import END, PAD, UNKNOWN, Vocabulary, detokenize, tokenize

SENTENCES = [
    "The Punter is a family-friendly coffee shop near Café Sicilia.",
    "It costs £20-25, isn't cheap, and they're rated 3 out of 5!",
    "Is it open (on Sundays)? Yes; 10.50 or 1,000 is fine.",
    "我喜欢这家店，因为它便宜。",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_comes_together_as_it_was(text):
    assert detokenize(tokenize(text)) == text


def test_what_is_a_word():
    assert tokenize("don't pay £20-25.") == ["do", "n't", "pay", "£", "20", "-", "25", "."]
    assert tokenize("it’s 3.5 在家") == ["it", "'s", "3.5", "在", "家"]


@given(st.text(max_size=60))
def test_joining_loses_no_word(text):
    words = tokenize(text)
    assert detokenize(words).replace(" ", "") == "".join(words).replace(" ", "")


@given(st.lists(st.sampled_from("abcdefg"), max_size=12), st.integers(2, 10))
def test_numbers_become_the_words_again(letters, length):
    words = Vocabulary(list("abcdef"))
    row = words.encode([" ".join(letters)], length)[0]
    kept = [w if w != "g" else "[UNKNOWN]" for w in letters[: length - 1]]
    assert words.decode(row[None]) == [kept]
    assert row[len(kept)] == END and (row[len(kept) + 1 :] == PAD).all()


def test_the_vocabulary_holds_what_comes_often_enough_the_most_frequent_first():
    words = Vocabulary.build(["b b b a a c"], min_count=2)
    assert words.words == ["b", "a"] and words.ids(["a", "c"]) == [5, UNKNOWN]
    assert Vocabulary.build(["b b b a a c"], max_size=1).words == ["b"]


def test_an_unknown_word_is_named_with_its_neighbours():
    with pytest.raises(UserError, match="'resturant': did you mean restaurant"):
        Vocabulary(["restaurant", "river"]).known_ids(["resturant"])


def test_a_row_without_an_end_is_read_to_its_end():
    assert Vocabulary(["a"]).decode(np.array([[4, 4, 4]])) == [["a", "a", "a"]]
