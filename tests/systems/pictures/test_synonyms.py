import json

import numpy as np
import pytest

import inkwash
from inkwash.systems.pictures import synonyms
from inkwash.systems.pictures.synonyms import build, rename
from inkwash.weights.shipped import FOLDER

NAMES = {
    "fox": "fox",
    "blue heart": "blue heart",
    "heart": "red heart",
    "hot beverage": "hot beverage",
    "clock": "clock",
}
NAMES |= {"one clock": "one clock"}
WORDS = NAMES | {"coffee": "hot beverage", "kitty": "cat face", "donut": "doughnut", "咖啡": "热饮", "单车": "自行车"}


@pytest.fixture(scope="module")
def emoji():
    return inkwash.load("emoji")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("coffee", "hot beverage"),
        ("A cup of Coffee", "hot beverage"),
        ("two coffees", "two coffees"),
        ("coffees", "hot beverage"),
        ("a small kitty icon", "cat face"),
        ("a golden kitty", "golden cat face"),
        ("pink donut.", "pink doughnut"),
        ("一杯咖啡", "热饮"),
        ("头咖啡", "头咖啡"),
        ("红色的单车", "红色的自行车"),
        ("goldkitty", "goldkitty"),
        ("a fox", "a fox"),
        ("foxs", "fox"),
        ("Blue Heart", "Blue Heart"),
        ("a green fox", "a green fox"),
        ("heart", "red heart"),
        ("one clock", "one clock"),
        ("a pink heart", "pink heart"),
        ("kitty with a donut", "kitty with a donut"),
        ("A Red Fox", "A Red Fox"),
        ("", ""),
    ],
)
def test_only_a_prompt_that_is_another_word_is_renamed(typed, name):
    assert rename(typed, WORDS) == name


def test_a_shared_word_belongs_to_the_nearest_name_and_a_held_out_name_to_none():
    directions = {"king": 0.0, "crown": 0.5, "prince": 0.4, "gold crown": 0.52, "wine": 0.0, "wine glass": 0.51}
    directions["bottle"] = 0.5

    def encode(texts):
        return np.array([[np.cos(directions[text]), np.sin(directions[text])] for text in texts])

    names = {"crown": ["king", "tiara", "red", "+1"], "prince": ["king", "Crown"], "wine glass": ["wine", "merlot"]}
    names |= {"bottle": ["wine", "kite"], "crowd": []}
    found = build(names, ["Kite"], encode)
    # .51 is farther from 0 than .5, by less than what a name that says the word is ahead
    words = {"king": "prince", "tiara": "crown", "merlot": "wine glass", "wine": "wine glass", "kite": "Kite"}
    assert found == words | {name: name for name in names}


def test_the_same_picture_as_by_its_name(emoji):
    named = emoji.generate("hot beverage", style="flat", seed=3)
    typed = emoji.generate("a cup of coffee", style="flat", seed=3)
    assert named.tobytes() == typed.tobytes()
    assert typed.info["inkwash"]["prompt"] == "a cup of coffee"
    assert emoji.prompt_warning("coffee") == (
        "'coffee' is drawn as 'hot beverage', the name by which the model learned it"
    )
    assert emoji.prompt_warning("hot beverage") is None


def test_weights_stay_where_they_are_alike(emoji):
    weighted = emoji.weighted("(coffee:1.3)")
    assert weighted.text == "hot beverage" and set(weighted.weights) == {1.3}
    assert emoji.weighted("a (cup:1.3) of coffee").text == "a cup of coffee"


def test_they_are_saved_and_shared_by_the_student(emoji, tmp_path):
    folders = [FOLDER / name for name in ("emoji", "emoji-fast")]
    assert synonyms.load(folders[0]) == synonyms.load(folders[1]) == emoji.synonyms
    synonyms.save(WORDS, tmp_path)
    assert synonyms.load(tmp_path) == WORDS
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / synonyms.UNPACKED).write_text(json.dumps(WORDS))
    assert synonyms.load(tmp_path / "older") == WORDS
    assert synonyms.load(tmp_path / "none") == {}
