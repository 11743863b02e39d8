from inkwash.systems.pictures.wordnet import Nouns, kinds

NOUNS = Nouns(
    words={"a": ["animal"], "d": ["dog", "hound"], "p": ["poodle"], "t": ["toy"], "h": ["sausage"], "c": ["cur"]},
    above={"d": ["a"], "p": ["d"], "t": ["p"], "c": ["d"]},
    senses={"dog": ["d", "h"], "animal": ["a"], "poodle": ["p"], "cur": ["c"], "hound": ["d"]},
)  # fmt: skip


def test_a_word_belongs_to_the_nearest_thing_above_it():
    names = {"1": ["animal"], "2": ["dog"], "3": ["poodle"]}
    assert kinds(NOUNS, names, {}) == {"1": [], "2": ["cur", "hound"], "3": ["toy"]}
    assert kinds(NOUNS, {"1": ["animal"]}, {})["1"] == ["cur", "dog", "hound", "poodle", "toy"]


def test_three_steps_up_and_no_more():
    chain = Nouns(
        {str(i): [f"word-{'abcdef'[i]}"] for i in range(6)},
        {str(i): [str(i - 1)] for i in range(1, 6)},
        {"top": ["0"]},
    )
    assert kinds(chain, {"x": ["top"]}, {})["x"] == [f"word-{c}" for c in "abcd"]


def test_a_tag_stands_for_a_thing_only_where_no_name_does():
    found = kinds(NOUNS, {"1": ["dog"], "2": ["pet"]}, {"2": ["hound", "cur"], "1": ["poodle"]})
    assert found == {"1": ["hound", "toy"], "2": []}
