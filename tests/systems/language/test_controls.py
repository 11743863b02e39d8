"""What may be typed, and what comes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.language.controls import Constraints, allowed_mask, parse_constraints
from inkwash.systems.language.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

WORDS = Vocabulary(["the", "cat", "sits", "near", "."])


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (
            {"fields": ["food=Fast food", "area = riverside"]},
            Constraints(fields={"food": "Fast food", "area": "riverside"}),
        ),
        ({"tags": "det NOUN verb"}, Constraints(tags=("DET", "NOUN", "VERB"), length=3)),
        ({"spans": ["3-6:pp"]}, Constraints(spans=((2, 5, "PP"),))),
        ({"infill": "The _ isn't near."}, Constraints(words=("The", None, "is", "n't", "near", "."), length=6)),
        ({"start": "The cat", "length": 9}, Constraints(words=("The", "cat"), length=9)),
        (
            {"tree": "(S (NP the _) (VP sits (PP near _)) .)"},
            Constraints(
                words=("the", None, "sits", "near", None, "."),
                length=6,
                tree=((0, 1, "NP"), (0, 5, "S"), (2, 4, "VP"), (3, 4, "PP")),
            ),
        ),
    ],
)
def test_what_is_typed_is_read(typed, read):
    assert parse_constraints(**typed) == read


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"fields": ["food"]}, "write field=value"),
        ({"fields": ["food="]}, "write field=value"),
        ({"fields": ["food=Thai", "food=French"]}, "contradict"),
        ({"length": 0}, "at least one word"),
        ({"length": -3}, "at least one word"),
        ({"length": 4, "tags": "DET NOUN"}, "contradict"),
        ({"length": 2, "start": "the cat sits"}, "contradicts"),
        ({"length": 2, "spans": ["3-6:PP"]}, "contradicts"),
        ({"tags": "DET NOUN", "infill": "the _ ."}, "contradict"),
        ({"infill": "no gap here"}, "no _ in the text"),
        ({"infill": "a _", "start": "a"}, "contradict"),
        ({"start": "  "}, "no words"),
        ({"tags": ""}, "no tags"),
        ({"spans": ["6-3:PP"]}, "first-last:LABEL"),
        ({"spans": ["0-3:PP"]}, "counted from 1"),
        ({"spans": ["PP"]}, "first-last:LABEL"),
        ({"tree": "(S (NP _ _)"}, "in brackets"),
        ({"tree": "S _ _)"}, "not opened"),
        ({"tree": "the cat"}, "in brackets"),
        ({"tree": "(NP the _)", "start": "a"}, "leaves"),
        ({"tree": "(S (NP _ _))"}, "words 1 to 2 are both"),
        ({"tree": "(S (NP _ _) _)", "spans": ["1-2:PP"]}, "are both"),
        ({"tree": "(S (NP _ _) _)", "spans": ["2-3:NP"]}, "cross|contradicts the tree"),
        ({"spans": ["1-3:NP", "1-3:PP"]}, "are both"),
        ({"spans": ["1-3:NP", "2-4:PP"]}, "cross"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(typed, says):
    with pytest.raises(UserError, match=says) as error:
        parse_constraints(**typed)
    assert "\n" not in str(error.value)


def words_at(allowed, i):
    return [WORDS.symbols[k] for k in np.flatnonzero(allowed[i])]


def test_the_table_of_what_may_stand_where():
    allowed = allowed_mask(Constraints(words=("the", None, "sits"), length=4), WORDS, 6, {})
    assert words_at(allowed, 0) == ["the"] and words_at(allowed, 2) == ["sits"]
    assert words_at(allowed, 1) == words_at(allowed, 3) == WORDS.words
    assert words_at(allowed, 4) == ["[END]"] and words_at(allowed, 5) == ["[PAD]"]


def test_the_lexicon_says_which_words_have_a_tag():
    lexicon = {
        "DET": np.array([0, 0, 0, 0, 1, 0, 0, 0, 0], bool),
        "NOUN": np.array([0, 0, 0, 0, 0, 1, 0, 0, 0], bool),
    }
    allowed = allowed_mask(Constraints(tags=("DET", "NOUN"), length=2), WORDS, 5, lexicon)
    assert words_at(allowed, 0) == ["the"] and words_at(allowed, 1) == ["cat"]
    with pytest.raises(UserError, match="no word that is X"):
        allowed_mask(Constraints(tags=("X",), length=1), WORDS, 5, {"X": np.zeros(9, bool)})
    with pytest.raises(UserError, match="'near' is no DET"):
        allowed_mask(Constraints(tags=("DET", "NOUN"), words=("near",), length=2), WORDS, 5, lexicon)


@given(st.integers(1, 6), st.integers(1, 8))
def test_a_length_is_kept_and_a_longer_one_refused(length, most):
    wanted = Constraints(length=length)
    if length > most - 1:
        with pytest.raises(UserError, match=f"at most {most - 1}"):
            allowed_mask(wanted, WORDS, most, {})
        return
    allowed = allowed_mask(wanted, WORDS, most, {})
    assert not allowed[:length, [PAD, END, START, UNKNOWN]].any() and allowed[:length, 4:].all()
    assert allowed[length:].sum(1).tolist() == [1] * (most - length)


def test_a_free_sentence_ends_within_the_model_s_length():
    allowed = allowed_mask(Constraints(), WORDS, 5, {})
    assert words_at(allowed, 4) == ["[PAD]", "[END]"]
    assert "[END]" not in words_at(allowed, 0) and "[END]" in words_at(allowed, 1)
