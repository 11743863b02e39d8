"""Names of icons as words: what a drawing shows, in the words that people type, without what is of its set alone."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

from inkwash.systems.pictures.emoji_data import Concept, split
from inkwash.systems.pictures.packages import members, read_json


class Words(NamedTuple):
    """What a picture shows, in words."""

    name: str
    aliases: list[str]
    tags: list[str]
    name_zh: str
    tags_zh: list[str]


WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
VARIANTS = {"alt", "variant", "simple", "minimalistic"}  # of a drawing, not of what it shows


def words(text: str) -> list[str]:
    """The words of a name, without numbers and what else tells only variants apart: "bell-simple-2" -> bell."""
    found = [re.sub(r"(?<=[a-z]{3})\d+$", "", word) for word in WORD.findall(text.lower())]
    kept = [word for word in found if not word.isdigit()]
    return [word for word in kept if word not in VARIANTS] or kept


# --- what is left out ---

GLYPHS = {
    *WORD.findall("""
letter letters number numbers numeric alphabet alphabetical abc keycap math align alignment border borders layout
text heading paragraph indent outdent italic underline strikethrough superscript subscript font typography justify
kerning spacing margin padding column columns row rows distribute sort ascending descending latin exposure decimal
""")
}
ARROWS = {
    *WORD.findall("""
arrow arrows chevron chevrons caret corner up down left right top bottom north south east west upward downward
upwards downwards leftward rightward upleft upright downleft downright
""")
}
PLAIN = {
    *WORD.findall("""
circle circles square rectangle triangle hexagon octagon pentagon diamond rounded round dashed dotted double big
small fat narrow line lines bar straight bend turn curve curved elbow loop ramp bear move back forward backward to
from in out and center middle horizontal vertical diagonal half long short one two three four all both sides angle
zig zag head tail dot
""")
}


def is_glyph(name: list[str]) -> bool:
    """Whether words name a sign that nobody asks a model to draw: letters, numbers, arrows, alignment, borders.

    That is, nothing is left of a name without its numbers; a word is made of them ("f5"); a letter stands by itself,
    but for "x" and the t of a shirt; there is a word of GLYPHS; or all are ARROWS, perhaps in PLAIN shapes ("arrow
    up", but neither "cloud arrow up" nor "circle dashed").
    """
    return (
        not name
        or any(re.search(r"\d", word) for word in name if word not in ("3d", "1st", "2nd", "3rd"))
        or any(
            len(w) == 1 and w.isascii() and w != "x" and name[i + 1 : i + 2] != ["shirt"] for i, w in enumerate(name)
        )
        or not GLYPHS.isdisjoint(name)
        or (not ARROWS.isdisjoint(name) and {*name} <= ARROWS | PLAIN)
    )


COMMON = {
    "windy",
    "edge",
    "opera",
    "stripe",
    "craft",
    "carbon",
    "booking",
    "market",
    "customer",
    "wish",
}  # and brands


def is_brand(name: list[str], brands: Set[str]) -> bool:
    """Whether words name a brand: they say "brand" or "logo", are its name, or one is and nothing else besides."""
    return not {"brand", "logo", "logos", "ibm"}.isdisjoint(name) or not brands.isdisjoint(
        {*name} - COMMON | {"-".join(name)}
    )


# --- words that people type ---

CROSSED = {"off", "slash", "disabled"}
NOT_CROSSED = {"take", "turn", "switch", "log", "kick", "lift"}  # "take off" is no thing crossed out
SYNONYMS = [("user", "person", "account"), ("home", "house"), ("trash", "bin", "delete")]


def phrase(name: list[str]) -> str:
    """Words of an icon's name as people say them: "bell off" is a bell crossed out, "add user" a user with a plus."""
    if len(name) > 1 and name[-1] in CROSSED and name[-2] not in NOT_CROSSED:
        name = [*name[:-1], "crossed", "out"]
    if name[0] == "add":
        name = [*name[1:], "plus"]
    return " ".join("plus" if word == "add" else word for word in name)


def synonyms(name: str) -> list[str]:
    """The name with each other word of the same meaning: "user plus" -> "person plus", "account plus".

    "Delete" is a bin only where it stands alone: "delete file" is none.
    """
    found = []
    for same in SYNONYMS:
        for word in same:
            if word in name.split() and (word != "delete" or name == word):
                found += [re.sub(rf"\b{word}\b", other, name) for other in same if other != word]
    return found


def clean_tags(name: str, tags: Iterable[str], brands: Set[str] = frozenset()) -> list[str]:
    """Tags in the words of `phrase`, each once, without the name, brands, signs, and "off" by itself."""
    found = [tag for tag in map(words, tags) if not is_glyph(tag) and not is_brand(tag, brands)]
    found = [tag for tag in found if not CROSSED.issuperset(tag)]
    return [tag for tag in dict.fromkeys(map(phrase, found)) if tag != name]


class Lexicon(NamedTuple):
    """What the packages of words know, by the name of an icon as `phrase` says it."""

    tags: Mapping[str, list[str]]
    aliases: Mapping[str, list[str]]
    chinese: Mapping[str, tuple[str, list[str]]]  # name and tags
    brands: frozenset[str]  # words of brands, and their names joined by "-"
    authors: Mapping[str, str]  # by the icon of icon-park


def read_lexicon(tarballs: Mapping[str, Path], concepts: Mapping[str, Concept]) -> Lexicon:
    """From the packages of words (`icons_data.WORDS`) and the concepts of the emoji."""
    tags, aliases = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    (lucide,) = read_json(tarballs["lucide"], "tags.json")
    (tabler,) = read_json(tarballs["tabler"], "icons.json")
    (mdi,) = read_json(tarballs["mdi"], "meta.json")
    (park,) = read_json(tarballs["icon-park"], "icons.json")
    own = [
        *lucide.items(),
        *((name, icon["tags"]) for name, icon in tabler.items()),
        *read_phosphor(tarballs["ph"]),
    ]
    for name, of_one in own:
        if said := words(name):
            tags[phrase(said)] += [str(tag) for tag in of_one]
    for icon in mdi:
        if said := words(icon["name"]):
            aliases[phrase(said)] += icon["aliases"]
    chinese = {}
    for concept in concepts.values():
        if said := words(concept.name):
            chinese[phrase(said)] = (concept.name_zh, concept.tags_zh)
    for icon in park:
        if said := words(NUMBERED.sub("", icon["name"])):
            chinese[phrase(said)] = (re.sub(r"[\d\s-]+$", "", icon["title"]), icon["tag"])
    common = [name for name, icon in tabler.items() if icon["category"] != "Brand"]
    common += [*lucide, *(concept.name for concept in concepts.values())]
    known = {word for name in common for word in words(name)}
    brands = [name.removeprefix("brand-") for name, icon in tabler.items() if icon["category"] == "Brand"]
    brands += [icon["name"] for icon in park if icon["category"] == "Brand"]
    return Lexicon(
        tags,
        aliases,
        chinese,
        frozenset("-".join(words(brand)) for brand in brands) - known,
        {icon["name"]: icon["author"] for icon in park if icon["author"]},
    )


NUMBERED = re.compile(r"-(one|two|three|four|five|six|seven|eight|nine)$")  # the variants of icon-park


def read_phosphor(tarball: Path) -> list[tuple[str, list[str]]]:
    """Names and tags of the icons in the JavaScript of @phosphor-icons/core."""
    text = next(data.decode() for name, data in members(tarball) if name == "dist/index.mjs")
    icons = re.findall(r'\bname: "([\w-]+)",.*?\btags: \[(.*?)\]', text, re.DOTALL)
    return [(name, [tag for tag in re.findall(r'"([^"]+)"', tags) if "*" not in tag]) for name, tags in icons]


# --- the split ---

FREQUENT = 20  # names: a word in so many is always trained on
SPLITS = ("train", "validation", "test")


def singular(word: str) -> str:
    """A word without the s of its plural, near enough to know one by the other."""
    return re.sub(r"(?<=[a-z]{2})(?<![sui])s$", "", re.sub("['’]s$", "", word))


def forms(text: str) -> set[str]:
    """What a text may be found by: its words, their singulars, and all in one ("hot dogs": hotdogs)."""
    found = words(text)
    return {*found, *map(singular, found), "".join(found)}


def held_out_concepts(concepts: Iterable[Concept]) -> dict[frozenset[str], str]:
    """The concepts that the emoji split holds out, by the words of their names and by all in one: {words: split}."""
    held: dict[frozenset[str], str] = {}
    for concept in concepts:
        if (place := split(concept.family)) != "train":
            animal = concept.group.startswith("animals")  # whose face is the same family
            name = words(concept.name.removesuffix(" face") if animal else concept.name)
            held |= {frozenset(name): place, frozenset(["".join(name)]): place}
    return held


def splitter(names: Iterable[str], concepts: Collection[Concept]) -> Callable[[str], str]:
    """What tells where the words for an icon belong: "train", "validation" or "test".

    A text is held out when it holds all words of a concept that the emoji split holds out, or one word that is held
    out: by the SHA-256 of its singular, or as the last of such a concept's name. Never held out are the words of
    emoji in training, and those in FREQUENT of the names: without "circle" few names would be left.
    """
    count = Counter(singular(word) for name in {*names} for word in {*words(name)})
    places = {word: "train" for word, n in count.items() if n >= FREQUENT}
    places |= dict.fromkeys((word for same in SYNONYMS for word in same), "train")  # shown in the documents
    for concept in concepts:
        if split(concept.family) == "train":
            places |= dict.fromkeys(map(singular, words(concept.name)), "train")
    for concept in concepts:
        if name := words(concept.name):
            places.setdefault(singular(name[-1]), split(concept.family))
    held = held_out_concepts(concepts)

    @cache
    def place(text: str) -> str:
        own = forms(text)
        found = {places.get(word) or split(f"word {word}") for word in map(singular, words(text))}
        found |= {where for concept, where in held.items() if concept <= own}
        return max(found, key=SPLITS.index, default="train")

    return place
