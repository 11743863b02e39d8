import pytest

from inkwash.systems.pictures.emoji_data import Concept
from inkwash.systems.pictures.icon_names import (
    clean_tags,
    forms,
    held_out_concepts,
    is_brand,
    is_glyph,
    phrase,
    splitter,
    synonyms,
    words,
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bell-off", "bell crossed out"),
        ("bell-simple-slash", "bell crossed out"),
        ("air-conditioning-disabled", "air conditioning crossed out"),
        ("off", "off"),
        ("plane-take-off", "plane take off"),
        ("take-off", "take off"),
        ("car-off-road", "car off road"),
        ("user-add", "user plus"),
        ("add-user", "user plus"),
        ("add", "plus"),
        ("message-2-bolt", "message bolt"),
        ("book2", "book"),
        ("home-alt", "home"),
        ("simple", "simple"),
    ],
)
def test_a_name_is_said_as_people_say_it(name, said):
    assert phrase(words(name)) == said


@pytest.mark.parametrize(
    "name",
    """
123 letter-a circle-letter-b number-7-small bell-z square-f5 grid-2x2 align-left border-top text-wrap arrow-up
arrow-bear-left-2 circle-arrow-right-up chevrons-down left-small-up sort-ascending layout-sidebar
""".split(),  # noqa: SIM905
)
def test_signs_are_left_out(name):
    assert is_glyph(words(name))


@pytest.mark.parametrize(
    "name",
    """
cloud-arrow-up circle circle-dashed x calendar-x t-shirt hand-left plus cube-3d-sphere dice-4 man’s-shoe 1st-
place-medal currency-dollar triangle
""".split(),  # noqa: SIM905
)
def test_pictures_are_not(name):
    assert not is_glyph(words(name))


def test_brands_are_left_out_but_for_words_that_mean_more():
    brands = {"twitter", "edge", "windy", "app-store"}
    for name in ("brand-nexo", "apple-logo", "twitter", "twitter-circle", "app-store", "edge", "windy"):
        assert is_brand(words(name), brands), name
    for name in ("cloud-windy", "edge-blur", "apple", "store"):
        assert not is_brand(words(name), brands), name


def test_synonyms():
    assert synonyms("user plus") == ["person plus", "account plus"]
    assert synonyms("home") == ["house"] and synonyms("trash") == ["bin", "delete"]
    assert synonyms("delete") == ["trash", "bin"]
    assert synonyms("file delete") == [] and synonyms("users") == []  # not a bin; not a word of theirs


def test_tags_are_clean():
    assert clean_tags("bell", ["alarm", "bell", "off", "Alarm", "mute-off", "a-z", "123"]) == [
        "alarm",
        "mute crossed out",
    ]


def concept(name: str, family: str, group: str = "objects") -> Concept:
    return Concept(name, [], group, "", [], family)


# families whose splits `test_emoji_data.test_the_split_never_moves` holds
ZEBRA = concept("zebra", "zebra", "animals-nature")  # test
LEOPARD = concept("leopard face", "leopard", "animals-nature")  # validation
HOT_DOGS = concept("hot dog", "zebra")  # test
PIZZA = concept("pizza", "1f355")  # train
NAMES = [f"circle {thing}" for thing in "abcdefghijklmnopqrstuvwxyz"]


def test_names_that_hold_an_emoji_held_out_are_held_out():
    place = splitter(NAMES, [ZEBRA, LEOPARD, HOT_DOGS, PIZZA])
    assert place("zebra") == place("zebras") == place("circle zebra") == place("zebra crossed out") == "test"
    assert place("leopard") == "validation" and place("zebra leopard") == "test"
    assert place("hotdog circle") == place("hot dogs") == "test"
    assert place("pizza") == place("circle pizza") == "train"


def test_plural_and_singular_of_two_emoji_are_two_things():
    """ "Houses" is held out and "house" is not: a house is trained on."""
    place = splitter([], [concept("houses", "zebra"), concept("house", "1f355")])
    assert place("house plus") == "train" and place("houses") == "test"


def test_words_are_held_out_together_and_never_move():
    names = [f"thing{chr(97 + i // 26)}{chr(97 + i % 26)}o" for i in range(600)]
    place = splitter([*NAMES, *names], [PIZZA])
    share = {name: sum(place(f"{word} circle") == name for word in names) / 600 for name in ("validation", "test")}
    assert share["test"] == pytest.approx(0.07, abs=0.03) and share["validation"] == pytest.approx(0.03, abs=0.02)
    for word in names:  # a held-out word holds out every name that holds it, and its plural
        assert place(word) == place(f"circle {word}") == place(f"{word}s crossed out")
    others = splitter([*names[:300], *NAMES], [PIZZA])
    assert [others(name) for name in names] == [place(name) for name in names]
    assert {word: place(word) for word in ("robot", "network", "anchor", "owl", "trash")} == PLACES


PLACES = {"robot": "validation", "network": "test", "anchor": "train", "owl": "train", "trash": "train"}


def test_frequent_words_are_trained_on():
    place = splitter([], [])
    rare = next(w for w in (f"thing{chr(97 + i)}" for i in range(26)) if place(w) == "test")
    assert splitter([f"{rare} {name}" for name in NAMES], [])(rare) == "train"
    assert splitter([rare], [concept(f"{rare} pizza", "1f355")])(rare) == "train"  # a word of an emoji in training


def test_concepts_held_out_are_known_by_their_words():
    held = held_out_concepts([ZEBRA, LEOPARD, HOT_DOGS, PIZZA])
    assert held == {
        frozenset(["zebra"]): "test",
        frozenset(["leopard"]): "validation",
        frozenset(["hot", "dog"]): "test",
        frozenset(["hotdog"]): "test",
    }
    assert forms("hot dogs") == {"hot", "dogs", "dog", "hotdogs"}
