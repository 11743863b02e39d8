from dataclasses import replace

import numpy as np
import pytest

from inkwash.systems.pictures import phrases as module
from inkwash.systems.pictures.phrases import phrases
from tests.systems.pictures.discs import red_discs


@pytest.fixture
def data():
    """An apple and a cat in two styles; the cat in the second is not for training."""
    data = red_discs()
    return replace(
        data,
        name=np.array(["red apple", "cat"] * 2),
        tags=[["fruit"], ["pet"]] * 2,
        kinds=[["pippin", "moggy"], ["tabby", "red tabby"]] * 2,
    )


def test_a_phrase_stands_for_a_picture_in_each_style_by_turns_and_its_words_are_known_or_new(data, monkeypatch):
    entries = "a fruit=red apple; moggy=cat; a small pet=cat/red apple\nsun=sun; 宠物猫=cat; 喵星人=cat"
    monkeypatch.setattr(module, "PHRASES", entries)
    found = phrases(data)
    assert [phrase.text for phrase in found] == ["a fruit", "moggy", "a small pet", "宠物猫", "喵星人"]
    assert [phrase.new for phrase in found] == [False, True, False, False, True]
    assert [phrase.row for phrase in found] == [0, 3, 1, 3, 1]
    assert found[2].concepts == ["1f408", "1f34e"]
    untaught = replace(data, split=np.array(["test"] * 4))
    assert all(phrase.new for phrase in phrases(untaught))


def test_words_for_kinds_are_learned_but_not_those_that_a_phrase_alone_says(data, monkeypatch):
    monkeypatch.setattr(module, "PHRASES", "moggy=cat; red tom=cat; tabby=cat; pippin=red apple")
    module.phrase_words.cache_clear()
    assert [module.caption_kinds(data, row) for row in (0, 1)] == [[], []]
    monkeypatch.setattr(module, "PHRASES", "moggy=cat; red tom=cat")
    module.phrase_words.cache_clear()
    assert [module.caption_kinds(data, row) for row in (0, 1)] == [["pippin"], ["tabby"]]
    monkeypatch.setattr(module, "PHRASES", "moggy=cat; my pippin=red apple; pippin pie=cat")
    module.phrase_words.cache_clear()
    assert [phrase.new for phrase in phrases(data)] == [True, True, True]
    module.phrase_words.cache_clear()


def test_there_are_two_hundred_of_them_in_both_languages():
    entries = [entry for line in module.PHRASES.strip().split("\n") for entry in line.split("; ")]
    texts = [entry.partition("=")[0] for entry in entries]
    assert len({*texts}) == 200 and sum(not text.isascii() for text in texts) == 40
    assert all(entry.partition("=")[2] for entry in entries)
