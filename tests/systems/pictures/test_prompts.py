import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.systems.pictures.prompts import emphasise, piece_weights, weigh
from tests.models import tiny


@pytest.mark.parametrize(
    ("prompt", "text", "weights"),
    [
        ("ab", "ab", [1, 1]),
        ("a (b:1.5)", "a b", [1, 1, 1.5]),
        ("(a)[b]", "ab", [1.1, 1 / 1.1]),
        ("((a)b:2)", "ab", [2.2, 2]),
        (r"\(a\)", "(a)", [1, 1, 1]),
        ("(红色:0.5)的", "红色的", [0.5, 0.5, 1]),
        ("a:1.5 (b: c)", "a:1.5 b: c", [1] * 6 + [1.1] * 4),
        ("", "", []),
    ],
)
def test_brackets_weigh_what_is_in_them(prompt, text, weights):
    plain, found = weigh(prompt)
    assert plain == text
    np.testing.assert_allclose(found, weights)


@pytest.mark.parametrize("prompt", ["(a", "a)", "[a)", ":-)", "a (b:1.5"])
def test_brackets_that_do_not_match_are_text(prompt):
    plain, weights = weigh(prompt)
    assert plain == prompt and (weights == 1).all()


@given(st.text())
def test_no_prompt_breaks_it(prompt):
    plain, weights = weigh(prompt)
    assert (len(plain) == len(weights) and (weights > 0).all()) or "0" in prompt
    if not set(prompt) & set("()[]\\"):
        assert plain == prompt


def test_a_weight_of_one_is_the_plain_prompt_and_of_nought_silence():
    model = tiny()
    plain, same, other = (model.condition([p], [None]) for p in ("a red fox", "a (red:1.0) fox", "a (red:1.6) fox"))
    assert all((np.asarray(plain[key]) == np.asarray(same[key])).all() for key in plain)
    assert np.abs(np.asarray(plain["context"] - other["context"])).max(axis=(0, 2)).argmax() == 2  # the piece "red"
    assert (np.asarray(plain["label"]) != np.asarray(other["label"])).any()
    states, silence = np.random.default_rng(0).normal(size=(4, 8)), np.ones(8)
    mask = np.array([True, True, True, False])
    encoded, pooled = emphasise(states, mask, silence, np.array([1.0, 0.0, 2.0, 1.0]))
    np.testing.assert_allclose(encoded[1], silence)
    np.testing.assert_allclose(encoded[2], 2 * states[2] - silence, rtol=1e-6)
    assert (encoded[3] == 0).all() and np.square(pooled).mean() == pytest.approx(1)


def test_pieces_have_the_mean_weight_of_their_characters():
    assert piece_weights([(0, 0), (0, 2), (1, 3)], np.array([1.0, 3.0, 5.0])).tolist() == [1.0, 2.0, 4.0]


def test_what_is_not_heard_is_said_once():
    model = tiny()
    assert model.prompt_warning("a red fox") is None and model.prompt_warning("红色的苹果") is None
    assert "does not know ж" in model.prompt_warning("a ж fox") or "ж" in model.prompt_warning("a ж fox")
    assert "is cut off" in model.prompt_warning("fox " * 60)
