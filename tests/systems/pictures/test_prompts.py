import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.pictures.prompts import MAX_WEIGHT, emphasise, piece_weights, spell_emoji, weigh
from tests.models import tiny

BRACKETS = st.text("ab 1.5:()[]\\\uff08\uff09\uff1a")


@pytest.mark.parametrize(
    ("prompt", "text", "weights"),
    [
        ("ab", "ab", [1, 1]),
        ("a (b:1.5)", "a b", [1, 1, 1.5]),
        ("(b:1,5)", "b", [1.5]),  # the decimal commas and points of keyboards
        ("\uff08b\uff1a1\uff0c5\uff09(b:,5)(b:1\u30025)", "bbb", [1.5, 0.5, 1.5]),
        ("(a)[b]", "ab", [1.1, 1 / 1.1]),
        ("((a)b:2)", "ab", [2.2, 2]),
        (r"\(a\)", "(a)", [1, 1, 1]),
        ("(红色:0.5)的", "红色的", [0.5, 0.5, 1]),
        ("\uff08红色\uff1a1.5\uff09的", "红色的", [1.5, 1.5, 1]),  # as a Chinese keyboard writes it
        ("红\uff1a色", "红\uff1a色", [1, 1, 1]),
        ("a:1.5 (b: c)", "a:1.5 b: c", [1] * 6 + [1.1] * 4),
        ("(ab:.5)", "ab", [0.5, 0.5]),
        ("(ab: 2 )", "ab", [2, 2]),
        ("(ab:2e0)(c:15E-1)", "abc", [2, 2, 1.5]),
        ("(ab:e0)(c:nans)", "ab:e0c:nans", [1.1] * 11),
        ("(12:30) a", "12:30 a", [1.1] * 5 + [1] * 2),
        ("(16:9)", "16:9", [1.1] * 4),
        ("(no 7:2)", "no 7", [2] * 4),
        ("(a:2:3)", "a:2", [3] * 3),
        ("\uff08ab\uff1a１\uff0e５\uff09", "ab", [1.5] * 2),
        ("(ab:0)", "ab", [0, 0]),
        ("(ab:0) c", "ab c", [0, 0, 1, 1]),
        ("", "", []),
    ],
)
def test_brackets_weigh_what_is_in_them(prompt, text, weights):
    plain, found, unmatched = weigh(prompt)
    assert (plain, unmatched) == (text, "")
    np.testing.assert_allclose(found, weights)


@pytest.mark.parametrize(
    ("prompt", "unmatched"), [("(a", "("), ("a)", ")"), ("[a)", "[)"), (":-)", ")"), ("a (b:1.5", "("), (")(", ")(")]
)
def test_brackets_that_do_not_match_are_text(prompt, unmatched):
    plain, weights, found = weigh(prompt)
    assert plain == prompt and (weights == 1).all() and found == unmatched


def test_a_smiley_takes_no_other_weight_away():
    text, weights, unmatched = weigh(":( a (b:1.3) [c")
    assert (text, unmatched) == (":( a b [c", "([")
    np.testing.assert_allclose(weights, [1] * 5 + [1.3] + [1] * 3)
    assert weigh("(a [b)c").weights.tolist() == [1.1, 1.1, 1.1, 1.1, 1]


@pytest.mark.parametrize(
    "prompt",
    ["(a:-1)", "(a:4.1)", "(a:30)", "((a:3):3)", "(((((((((((((((a)))))))))))))))", "[a:0.5]",
     "(a:1e3)", "(a:nan)", "(a:-inf)", "\uff08a\uff1ainf\uff09", "(a:1e999)"],
)  # fmt: skip
def test_weights_have_a_limit_and_stand_in_round_brackets(prompt):
    with pytest.raises(UserError, match=r"from 0 to 4|round brackets"):
        weigh(prompt)


@given(st.text() | BRACKETS)
def test_no_prompt_breaks_it(prompt):
    try:
        plain, weights, _ = weigh(prompt)
    except UserError:
        assert {*prompt} & {*"([\uff08\uff3b"}
        return
    assert len(plain) == len(weights) and ((weights >= 0) & (weights <= MAX_WEIGHT)).all()
    if not {*prompt} & {*"()[]\\\uff08\uff09\uff3b\uff3d"}:
        assert plain == prompt


@given(BRACKETS.filter(lambda text: not {*text} & {*"\uff08\uff09\uff1a"}))
def test_what_is_escaped_is_text(text):
    escaped = "".join(f"\\{sign}" if sign in "()[]\\" else sign for sign in text)
    plain, weights, unmatched = weigh(escaped)
    assert (plain, unmatched) == (text, "") and (weights == 1).all()


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("🦊", "fox"),
        ("红色的🦊", "红色的 fox"),
        ("a (🐈‍⬛:1.3) and ☕️", "a ( black cat :1.3) and hot beverage"),
        ("👍🏿", "thumbs up"),
        ("👩🏽‍🚀", "woman astronaut"),
        ("🅾️", "O button blood type"),
        ("a fox", "a fox"),
        ("© 2024 ™", "© 2024 ™"),
        ("狐狸  红", "狐狸  红"),
    ],
)
def test_emoji_are_understood_as_their_names(prompt, text):
    assert spell_emoji(prompt) == text


def test_an_emoji_asks_for_what_its_name_asks_for():
    model = tiny()
    named, drawn = (model.condition([prompt], [None]) for prompt in ("a red fox", "a red 🦊"))
    assert all((np.asarray(named[key]) == np.asarray(drawn[key])).all() for key in named)


def test_the_less_a_prompt_weighs_the_nearer_it_is_to_silence():
    model = tiny()
    silence = model.condition([""], [None])
    for prompt in ("(a red fox:0)", "(a red fox:0). ", "(a:0) (fox:0)"):
        none = model.condition([prompt], [None])
        assert all((np.asarray(silence[key]) == np.asarray(none[key])).all() for key in silence)
    labels = [model.condition([f"(a red fox:{w})"], [None])["label"] for w in (0, 0.1, 0.3, 0.6, 1, 1.5)]
    distances = [float(np.linalg.norm(np.asarray(label - labels[0]))) for label in labels]
    assert distances == sorted(distances) and len({*distances}) == 6


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
    np.testing.assert_allclose(pooled, encoded.mean(0) * np.sqrt(8) / np.linalg.norm(encoded.mean(0)), rtol=1e-5)


def test_pieces_have_the_mean_weight_of_their_characters():
    assert piece_weights([(0, 0), (0, 2), (1, 3)], np.array([1.0, 3.0, 5.0])).tolist() == [1.0, 2.0, 4.0]
    assert piece_weights([(0, 0), (0, 2), (0, 0)], np.array([0.2, 0.4])).tolist() == pytest.approx([0.3, 0.3, 0.3])


def test_what_is_not_heard_is_said_once():
    model = tiny()
    assert model.prompt_warning("a red fox") is None and model.prompt_warning("红色的苹果") is None
    assert "does not know ж" in model.prompt_warning("a ж fox") or "ж" in model.prompt_warning("a ж fox")
    assert model.prompt_warning("a red fox :(") == "'(' in the prompt has no fellow, so it is text and weighs nothing"
    both = model.prompt_warning("a ж fox :(")
    assert "has no fellow" in both and "does not know ж" in both and model.prompt_warning("жук") is None
    assert "is cut off" in model.prompt_warning("fox " * 60)


@pytest.mark.parametrize("prompt", ["жук", "قطة", "(жук:2)", "\u2713", "🏽", "()", "(:2)", "!", "\uff1f\uff01"])
def test_a_prompt_of_which_nothing_is_heard_is_refused(prompt):
    model = tiny()
    with pytest.raises(UserError, match="the model knows nothing of it; use English or Chinese words"):
        model.generate(prompt, seed=0)
    with pytest.raises(UserError, match=r"negative .*knows nothing of it"):
        model.generate("a red fox", negative=prompt, seed=0)
    assert model.generate("жук red", seed=0, steps=1).size


def test_a_negative_prompt_is_refused_where_it_cannot_act():
    model = tiny()
    with pytest.raises(UserError, match="negative: it acts through guidance, which is 1 here"):
        model.generate("a red fox", negative="fox", guidance=1, seed=0)
    assert model.generate("a red fox", negative="fox", guidance=2, seed=0, steps=1).size
