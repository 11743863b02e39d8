"""What a prompt leaves to chance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.checkpoints.wildcards import choose


def test_each_choice_comes_as_often_as_the_others_and_is_its_seeds():
    found = [choose("{a|b|c}", seed) for seed in range(600)]
    assert [choose("{a|b|c}", seed) for seed in range(600)] == found
    assert all(150 < found.count(text) < 250 for text in "abc")
    pairs = {choose("{a|b} {a|b}", seed) for seed in range(40)}
    assert pairs == {"a a", "a b", "b a", "b b"}  # each choice for itself
    assert [choose("{a|b|c}", seed, None, "negative") for seed in range(600)] != found


def test_choices_within_choices_and_files(tmp_path):
    (tmp_path / "things").mkdir()
    (tmp_path / "color.txt").write_text("\ufeffred\n# blue\n\n {light|dark} green \n", encoding="utf-8")
    (tmp_path / "things" / "all.txt").write_text("a __color__ fox", encoding="utf-8")
    found = {choose("__things/all__{| with {a|the} cats}", seed, tmp_path) for seed in range(200)}
    ends = ["", " with a cats", " with the cats"]
    assert found == {f"a {color} fox{end}" for color in ("red", "light green", "dark green") for end in ends}


@given(st.text(st.sampled_from("ab {}_ ()\\"), max_size=30), st.integers(0, 2**64 - 1))
def test_without_a_bar_in_braces_nothing_is_chosen(text, seed):
    assert choose(text.replace("__", "_"), seed) == text.replace("__", "_")


@given(st.text(st.sampled_from("ab{}|\\"), max_size=30), st.integers(0, 9))
def test_what_is_chosen_leaves_nothing_to_choose(text, seed):
    chosen = choose(text, seed)
    assert choose(chosen, seed + 1) == chosen


def test_braces_can_be_escaped():
    assert choose(r"\{a|b\}", 0) == r"\{a|b\}"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("{2$$a|b}", "numbers of choices"),
        ("{3::a|b}", "numbers of choices"),
        ("__colour__", "unknown wildcard 'colour': did you mean color"),
        ("__../secret__", "unknown wildcard"),
        ("__empty__", "no line to choose from"),
        ("__binary__", "cannot be read as UTF-8"),
        ("__circle__", "more than 1000 choices"),
    ],
)
def test_what_cannot_be_chosen(tmp_path, prompt, message):
    folder = tmp_path / "cards"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("a secret")
    for name, content in {
        "color": b"red",
        "empty": b"#\n",
        "binary": b"\xff\xfe\x80",
        "circle": b"__circle__",
    }.items():
        (folder / f"{name}.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        choose(prompt, 0, folder)


def test_a_wildcard_needs_a_folder():
    with pytest.raises(UserError, match="name a folder"):
        choose("a __color__ fox", 0)
