"""A1111's grammar by the examples of its wiki and of its issues, ComfyUI's by those of its read-me; and any text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.checkpoints.grammar import (
    Adapter,
    comfyui_emphasis,
    divide,
    emphasis,
    parse,
    schedule,
    take_adapters,
)

SIGNS = st.text(st.sampled_from("ab ()[]:|\\.,0159-{}_<>AND BREAK\n猫"), max_size=40)
TEXTS = st.one_of(SIGNS, st.text(max_size=40))


def weights(text):
    return [(segment.text, pytest.approx(segment.weight)) for section in emphasis(text) for segment in section]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [("normal text", 1)]),
        ("a (word)", [("a ", 1), ("word", 1.1)]),
        ("a ((word))", [("a ", 1), ("word", 1.21)]),
        ("a [word]", [("a ", 1), ("word", 1 / 1.1)]),
        ("a (word:1.5)", [("a ", 1), ("word", 1.5)]),
        ("a (word:0.25)", [("a ", 1), ("word", 0.25)]),
        (r"a \(word\)", [("a (word)", 1)]),
        ("(x:.5)", [("x", 0.5)]),
        ("(x: 1.3 )", [("x", 1.3)]),
        ("(x:-1)", [("x", -1)]),
        ("(fire:+2.)", [("fire", 2)]),
        ("((a:1.3) b:2)", [("a", 2.6), (" b", 2)]),
        ("([a])", [("a", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("a ((b", [("a ", 1), ("b", 1.21)]),
        ("[a", [("a", 1 / 1.1)]),
        ("a) b]", [("a) b]", 1)]),
        (":1.3)", [(":1.3)", 1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        (r"a\\b \c", [(r"a\b \c", 1)]),
        (r"\{a|b\}", [("{a|b}", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("anime_\\(character\\)", [("anime_(character)", 1)]),
        ("", [("", 1)]),
    ],
)
def test_brackets_are_weights(text, expected):
    assert weights(text) == expected


def test_weights_multiply_however_they_lie():
    found = weights("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).")
    expected = [("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1)]
    assert found == [*expected, ("sky", 1.4641), (".", 1.1)]


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("a BREAK b", ["a", "b"]),
        ("a\nBREAK\nBREAK b", ["a", "", "b"]),
        ("BREAK b", ["", "b"]),
        ("aBREAK break", ["aBREAK break"]),
    ],
)
def test_break_divides(text, sections):
    assert ["".join(segment.text for segment in section) for section in emphasis(text)] == sections


def test_break_within_brackets_leaves_both_sides_their_weight():
    (first,), (second, rest) = emphasis("(a BREAK b:1.2) c")
    assert (first.weight, second.weight, rest.weight) == (1.2, 1.2, 1.0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b::0.5] c", [(5, "a b c"), (10, "a  c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("(a [b:c:5]:1.2)", [(5, "(a b:1.2)"), (10, "(a c:1.2)")]),
        ("[a:b:0.25]", [(2, "a"), (10, "b")]),  # int(2.5)
        ("[a:b:12]", [(10, "a")]),
        ("[a:b:1.0]", [(10, "a")]),  # with a point it is a share of the steps, without one a step
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:1e999]", [(10, "a")]),
        ("[a:b:c:2]", [(10, "[a:b:c:2]")]),
        (r"[a\:b:c:2]", [(2, r"a\:b"), (10, "c")]),
        (r"a \[b:3\]", [(10, r"a \[b:3\]")]),
        (
            "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]",
            [
                (2, "fantasy landscape with a mountain and an oak"),
                (7, "fantasy landscape with a lake and an oak"),
                (10, "fantasy landscape with a lake and a christmas tree"),
            ],
        ),
    ],
)
def test_schedules_change_after_their_steps(prompt, expected):
    assert schedule(prompt, 10) == expected


def test_words_alternate_step_by_step():
    assert schedule("[cow|horse] in a field", 4) == [
        (1, "cow in a field"),
        (2, "horse in a field"),
        (3, "cow in a field"),
        (4, "horse in a field"),
    ]
    assert schedule("[fe|]male", 3) == [(1, "female"), (2, "male"), (3, "female")]
    assert [text for _, text in schedule("[a|(b:1.1)|[c|d]]", 6)] == ["a", "(b:1.1)", "c", "a", "(b:1.1)", "d"]
    assert [text for _, text in schedule("[[a|b]:c:2]", 4)] == ["a", "b", "c"]


def test_and_joins_prompts_by_their_weights():
    assert divide("a cat :1.2 AND a dog AND a penguin :2.2") == [("a cat", 1.2), (" a dog", 1), (" a penguin", 2.2)]
    assert divide("log AND frog:-0.1") == [("log", 1), (" frog", -0.1)]
    assert divide("a (b:1.2) AND c") == [("a (b:1.2)", 1), (" c", 1)]
    assert divide("a clock at 12:30") == [("a clock at 12:30", 1)]  # there is nothing to weigh it against
    assert divide("SAND AND\nland") == [("SAND", 1), ("\nland", 1)]
    joined, alone = (parse("a AND [b:c:5]", 10, compose=compose) for compose in (True, False))
    assert [[interval.end for interval in part.intervals] for part in joined] == [[10], [5, 10]]
    assert [interval.sections[0][0].text for interval in alone[0].intervals] == ["a AND b", "a AND c"]


@pytest.mark.parametrize(
    ("prompt", "text", "adapters"),
    [
        ("a <lora:fox:0.8> b", "a  b", [Adapter("fox", 0.8, 0.8)]),
        ("<lora:fox>", "", [Adapter("fox", 1, 1)]),
        ("<lora:a b:-.5:1><LyCO:c:te=0.2:unet=0.3>", "", [Adapter("a b", -0.5, 1), Adapter("c", 0.2, 0.3)]),
        ("a < b > c <b:1>", "a < b > c <b:1>", []),
    ],
)
def test_tags_of_adapters_are_taken_out(prompt, text, adapters):
    assert take_adapters(prompt) == (text, adapters)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("<hypernet:a:1>", "hypernetworks cannot"),
        ("<lora:a:b>", "write <lora:name:0.8>"),
        ("<lora:a:1:1:1>", "two numbers"),
        ("<lora::1>", "write <lora:name"),
        ("<lora:a:1:lbw=1>", "write <lora:name"),
    ],
)
def test_tags_that_say_something_else_are_refused(prompt, message):
    with pytest.raises(UserError, match=message):
        take_adapters(prompt)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a (good code:1.2) or (bad:0.8)", [("a ", 1), ("good code", 1.2), (" or ", 1), ("bad", 0.8)]),
        ("((a))", [("a", 1.21)]),
        ("((a:1.3))", [("a", 1.3)]),  # a number is the weight, whatever stands around it
        ("((a) b:1.2)", [("a", 1.32), (" b", 1.2)]),
        (r"\(a\) [b] c:1.2", [("(a) [b] c:1.2", 1)]),
        ("(a b) ) (c", [("a b", 1.1), (" ) (c", 1)]),
        ("(:1.2)", [(":1.2", 1.1)]),
        (r"(a\):1.5)", [("a)", 1.5)]),
    ],
)
def test_comfyui_reads_round_brackets_alone(text, expected):
    assert [(segment.text, pytest.approx(segment.weight)) for segment in comfyui_emphasis(text)] == expected


def test_none_takes_every_sign_as_it_stands():
    (part,) = parse("(a:1.2) [b:c:3] AND \\(", 10, "none")
    assert part.intervals[0].sections[0][0] == ("(a:1.2) [b:c:3] AND \\(", 1.0)
    with pytest.raises(UserError, match="unknown weighting 'compel'"):
        parse("a", 10, "compel")


@given(TEXTS, st.integers(1, 8), st.sampled_from(["a1111", "comfyui", "none"]))
def test_no_text_is_an_error(text, steps, weighting):
    for part in parse(text, steps, weighting):
        ends = [interval.end for interval in part.intervals]
        assert ends == sorted(set(ends)) and ends[-1] == steps
        assert all(math.isfinite(segment.weight) for each in part.intervals for s in each.sections for segment in s)


@given(TEXTS)
def test_what_is_escaped_stands_for_itself(text):
    escaped = "".join(f"\\{sign}" if sign in "()[]{}\\" else sign for sign in text.replace("BREAK", ""))
    (section,) = emphasis(escaped)
    assert [*section] == [(text.replace("BREAK", ""), 1.0)]


@given(st.lists(st.floats(-3, 3).map(lambda weight: round(weight, 3)), min_size=1, max_size=5))
def test_nested_weights_multiply(values):
    prompt = "x"
    for value in values:
        prompt = f"({prompt}:{value:f})"
    assert weights(prompt) == [("x", math.prod(values))]


@given(st.text(st.sampled_from("ab ,"), min_size=1), st.text(st.sampled_from("ab ,"), min_size=1), st.integers(0, 9))
def test_a_schedule_is_one_text_and_then_the_other(before, after, when):
    runs = schedule(f"[{before}:{after}:{when}]", 8)
    texts = [next(text for end, text in runs if step <= end) for step in range(1, 9)]
    assert texts == [before if step <= when else after for step in range(1, 9)]


def test_deep_brackets_are_read():
    assert weights("(" * 3000 + "x" + "[" * 10) is not None
    assert schedule("[" * 3000 + "x" + "]" * 3000 + "[a:b:2]", 4)[0][0] == 2
    assert comfyui_emphasis("(" * 2000 + "x:2" + ")" * 2000) == (("x", 2.0),)
