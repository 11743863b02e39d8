"""Captions as people type them: drawn from the name, the tags and the colour of what a picture shows."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from inkwash.systems.pictures.colours import WORD, WORD_ZH


class Language(NamedTuple):
    """How one language asks for a thing {x}, or {a} thing with its article, each as often as it is written; how two
    words for it stand together; how a colour stands before it; and what the colours are called."""

    patterns: list[str]
    joints: list[str]
    coloured: str
    colours: dict[str, list[str]]


PATTERNS = """{x}|{x}|{x}|{x}|{x}|{x}|{x}|{a}|{a}|{a}|{a}|the {x}|my {x}|one {x}|{x} icon|{x} emoji|{x} symbol
an icon of {a}|a picture of {a}|an emoji of {a}|a small {x}|a little {x}|a cute {x}|cute {x}|a simple {x}"""
PATTERNS_ZH = "{x}|{x}|{x}|{x}|{x}|{x}|{x}|一个{x}|一个{x}|{x}图标|{x}表情|{x}符号|一张{x}的图片|小{x}|可爱的{x}"
COLOURS = """red red;orange orange;yellow yellow golden gold;green green;blue blue;purple purple violet;pink pink
brown brown;black black;white white;grey grey gray silver"""
COLOURS_ZH = """red 红色的 红;orange 橙色的 橘色的;yellow 黄色的 金色的 黄 金;green 绿色的 绿;blue 蓝色的 蓝
purple 紫色的 紫;pink 粉色的 粉红色的 粉;brown 棕色的 褐色的;black 黑色的 黑;white 白色的 白;grey 灰色的 银色的 灰"""


def colour_names(text: str) -> dict[str, list[str]]:
    """ "grey grey silver;red red" -> {"grey": ["grey", "silver"], "red": ["red"]}"""
    return {colour: names for colour, *names in map(str.split, re.split(r"[;\n]", text))}


ENGLISH = Language(re.split(r"[|\n]", PATTERNS), [", ", " "], "{} {}", colour_names(COLOURS))
CHINESE = Language(PATTERNS_ZH.split("|"), ["\uff0c", "", " "], "{}{}", colour_names(COLOURS_ZH))
KINDS = 0.15  # share of the captions that name a kind of the thing, where there are such words


class Subject(NamedTuple):
    """What a picture shows, in one language: its name, its tags, how rare each of these is, its colour, and words for
    kinds of it.

    A tag of one thing alone names it; one of many things hardly does, so it is drawn the less often.
    """

    name: str
    tags: Sequence[str]
    rarity: Sequence[float]
    colour: str | None = None
    kinds: Sequence[str] = ()


def rarities(tags: Iterable[Sequence[str]]) -> dict[str, float]:
    """Of each tag: 1 / sqrt(number of things that have it)."""
    return {tag: count**-0.5 for tag, count in Counter(tag for of_one in tags for tag in set(of_one)).items()}


def captions(subject: Subject, language: Language, count: int, rng: Random, coloured: float = 0.15) -> list[str]:
    """So many captions, the first of them the plainest: the name, and its colour where all say it.

    coloured: the share of those that say the colour, where there is one.
    """
    plain = subject.name
    if subject.colour is not None and coloured == 1:
        plain = paint(plain, language.colours[subject.colour][0], language)
    return [plain, *(caption(subject, language, rng, coloured) for _ in range(count - 1))]


def caption(subject: Subject, language: Language, rng: Random, coloured: float) -> str:
    """The name, now and then a word short, or a tag, or two of these; some with the colour; in some pattern."""
    colour = subject.colour if rng.random() < coloured else None
    if subject.kinds and rng.random() < KINDS:
        kind = rng.choice(subject.kinds)
        subject = subject._replace(name=kind, tags=(), rarity=())
    tags = dict(zip(subject.tags, subject.rarity, strict=True))
    if colour is not None:
        tags = {tag: rarity for tag, rarity in tags.items() if not WORD.search(tag) and not WORD_ZH.search(tag)}
    name, u = shorten(subject.name, rng), rng.random() if tags else 0.0
    first, second = rng.choices([*tags], [*tags.values()], k=2) if tags else ("", "")
    x = name if u < 0.45 else first
    if u >= 0.75:
        x = f"{name if u < 0.9 else second}{rng.choice(language.joints)}{first}"
    if colour is not None:
        x = paint(x, rng.choice(language.colours[colour]), language)
    return rng.choice(language.patterns).format(x=x, a=with_article(x))


def paint(text: str, colour: str, language: Language) -> str:
    """The text with this colour word in it: one that is there already is replaced."""
    if WORD.search(text):
        return WORD.sub(colour, text, count=1)
    return language.coloured.format(colour, WORD_ZH.sub("", text))


def shorten(name: str, rng: Random) -> str:
    """A name of three words and more loses one of them now and then."""
    words = name.split()
    if len(words) > 2 and rng.random() < 0.3:
        words.pop(rng.randrange(len(words)))
    return " ".join(words)


def with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
