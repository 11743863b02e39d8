import re
from random import Random

import pytest

from inkwash.systems.pictures import colours
from inkwash.systems.pictures.captions import CHINESE, ENGLISH, Subject, captions, paint, rarities, shorten

CROWN = Subject("crown", ["king", "royal", "yellow"], [1.0, 0.5, 0.1], "yellow")
CROWN_ZH = Subject("皇冠", ["国王", "皇家"], [1.0, 0.5], "yellow")


def share(texts: list[str], pattern: str) -> float:
    return sum(bool(re.search(pattern, text)) for text in texts) / len(texts)


def test_captions_are_many_and_always_name_the_thing_or_a_tag():
    some = captions(CROWN, ENGLISH, 5000, Random(0))
    assert some[0] == "crown" and len({*some}) > 200
    assert share(some, "crown|king|royal|yellow|gold") == 1
    assert share(some, "^king$") > 0.03 and share(some, "^a crown$") > 0.03  # single tags, and articles
    assert share(some, r"^(a )?golden crown$") > 0.002  # its own colour, also by another name
    assert share(captions(Subject("owl", [], []), ENGLISH, 200, Random(0)), "owl") == 1


def test_chinese_captions_too():
    some = captions(CROWN_ZH, CHINESE, 2000, Random(0))
    assert some[0] == "皇冠" and share(some, "皇冠|国王|皇家") == 1
    assert share(some, "^国王$") > 0.03 and share(some, "金色的皇冠") > 0.002 and share(some, "一个皇冠") > 0.02
    assert not share(some, "[a-z]")


def test_a_tag_of_one_thing_alone_is_said_more_often_than_one_of_many():
    rarity = rarities([["fruit", "pie"], ["fruit"], ["fruit", "fruit"], ["fruit"]])
    assert rarity == {"fruit": 0.5, "pie": 1.0}
    some = captions(Subject("apple", ["fruit", "pie"], [0.5, 1.0]), ENGLISH, 5000, Random(0))
    assert share(some, r"^pie$") / share(some, r"^fruit$") == pytest.approx(2, rel=0.3)


@pytest.mark.parametrize("colour", colours.COLOURS)
def test_every_caption_of_a_recoloured_picture_says_its_colour_and_no_other(colour):
    words, words_zh = "|".join(ENGLISH.colours[colour]), "|".join(CHINESE.colours[colour])
    painted = Subject("red apple", ["fruit", "red"], [1.0, 1.0], colour)
    some = captions(painted, ENGLISH, 300, Random(0), coloured=1.0)
    assert some[0] == f"{colour} apple" and share(some, rf"\b({words})\b") == 1
    others = [name for other, names in ENGLISH.colours.items() if other != colour for name in names]
    assert not share(some, rf"\b({'|'.join(others)})\b")
    some = captions(Subject("红苹果", ["水果", "红色"], [1.0, 1.0], colour), CHINESE, 300, Random(0), coloured=1.0)
    assert some[0] == f"{colours.COLOURS[colour].chinese}的苹果" and share(some, words_zh) == 1
    assert colour == "red" or not share(some, "(?<!粉)红(色的)?苹果")


def test_some_captions_name_a_kind_of_the_thing():
    dog = Subject("dog", ["pet"], [1.0], None, ["pooch", "corgi"])
    assert share(captions(dog, ENGLISH, 5000, Random(0)), "pooch|corgi") == pytest.approx(0.15, abs=0.02)


def test_both_languages_have_names_for_every_colour():
    assert {*ENGLISH.colours} == {*CHINESE.colours} == {*colours.COLOURS}
    assert paint("heart", "green", ENGLISH) == "green heart" and paint("red heart", "green", ENGLISH) == "green heart"


def test_long_names_lose_a_word_now_and_then():
    rng, name = Random(0), "smiling face with sunglasses"
    short = [shorten(name, rng) for _ in range(1000)]
    assert sum(text != name for text in short) / 1000 == pytest.approx(0.3, abs=0.05)
    assert {len(text.split()) for text in short} == {3, 4} and shorten("hot beverage", rng) == "hot beverage"
