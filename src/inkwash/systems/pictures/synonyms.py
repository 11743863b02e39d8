"""Other words for what a model learned by name: "coffee" is drawn as "hot beverage", "a red kitty" as "red cat face".

A model learns some thousand names well, and their tags, which are many more, hardly. So a prompt that is nothing but
a tag, apart from articles, measures and a colour, is given to the network as the name that it belongs to.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from inkwash.systems.pictures.captions import CHINESE, ENGLISH, Language, paint
from inkwash.weights.files import atomic
from inkwash.weights.shipped import load_json

FILE = "synonyms.json.gz"  # in a model's folder: {"coffee": "hot beverage", ...}
UNPACKED = "synonyms.json"  # as older folders have it
MEASURES = "cup|mug|glass|slice|piece|bowl|bottle|plate|pair|bunch|picture|drawing|icon|emoji"
LEADING = re.compile(
    rf"^(?:(?:an?|the|my|one|small|little|cute|simple|tiny) |(?:{MEASURES})s? of |"
    "一[个只杯块片碗瓶张朵辆架棵条头]|的图片|可爱的|小(?=..))+"
)
TRAILING = re.compile(r"(?: (?:icon|emoji|symbol)|图标|表情|符号|[.!。！])+$")


def colour_of(language: Language) -> re.Pattern[str]:
    """One of the language's words for colours at the beginning, the longest that fits."""
    words = sorted(chain(*language.colours.values()), key=len, reverse=True)
    return re.compile(f"^({'|'.join(words)}){' ' if ' ' in language.coloured else ''}(?=.)")


COLOUR = [(language, colour_of(language)) for language in (ENGLISH, CHINESE)]


def rename(text: str, synonyms: Mapping[str, str]) -> str:
    """The prompt by the name that the model learned, or as it is where it is no other word for one."""
    whole = " ".join(text.lower().split())
    word = whole if whole in synonyms else LEADING.sub("", TRAILING.sub("", whole))
    if name := find(word, synonyms):
        return text if name.lower() == word else name
    for language, colour in COLOUR:
        if (found := colour.match(word)) and (name := find(plain := word[found.end() :], synonyms)):
            return text if name.lower() == plain else paint(name, found[1], language)
    return text


def find(word: str, synonyms: Mapping[str, str]) -> str | None:
    return synonyms.get(word) or synonyms.get(word.removesuffix("s"))


def build(
    names: Mapping[str, Iterable[str]], held_out: Iterable[str], encode: Callable[[list[str]], np.ndarray]
) -> dict[str, str]:
    """The synonyms that these names with their tags give. A word that several share belongs to the nearest name; one
    that says it counts as nearer by 0.05. Each name stands for itself, those that are held out, too: nothing is to be
    known of them.

    encode: texts -> (N, D), of unit length
    """
    themselves = {name.lower(): name for name in (*held_out, *names)}
    taken = themselves.keys() | {*chain(*ENGLISH.colours.values(), *CHINESE.colours.values())}
    names_of: dict[str, list[str]] = defaultdict(list)
    for name, tags in names.items():
        for tag in {tag.lower() for tag in tags if re.search(r"[^\W\d]", tag)} - taken:
            names_of[tag].append(name)
    shared = {word: candidates for word, candidates in names_of.items() if len(candidates) > 1}
    texts = [*dict.fromkeys([*shared, *chain(*shared.values())])]
    states = dict(zip(texts, encode(texts), strict=True)) if texts else {}

    def nearness(word: str, name: str) -> float:
        says_it = re.search(rf"\b{re.escape(word)}\b", name.lower())
        return float(states[word] @ states[name]) + (0.05 if says_it else 0.0)

    nearest = {word: max(own, key=partial(nearness, word)) for word, own in shared.items()}
    found = {word: nearest.get(word, candidates[0]) for word, candidates in names_of.items()}
    return dict(sorted((themselves | found).items()))


def load(folder: Path) -> dict[str, str]:
    """Those in a model's folder; none where it has none."""
    if (packed := folder / FILE).exists():
        return dict(json.loads(gzip.decompress(packed.read_bytes())))
    return load_json(folder / UNPACKED) if (folder / UNPACKED).exists() else {}


def save(synonyms: Mapping[str, str], folder: Path) -> None:
    """The same bytes of the same words."""
    with atomic(folder / FILE) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(synonyms, ensure_ascii=False).encode(), mtime=0))
