"""Training pictures with their words, and what a network is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from random import Random

import numpy as np
import torch
from torch import Tensor

from inkwash.codecs.pixels import on_white
from inkwash.codecs.text import TextCodec
from inkwash.systems.pictures import colours, emoji_data
from inkwash.systems.pictures.captions import CHINESE, ENGLISH, Subject, captions, rarities
from inkwash.systems.pictures.phrases import caption_kinds
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.training.data import Ragged
from inkwash.training.placement import place


@dataclass(frozen=True)
class Captioned:
    """Pictures with their captions: `n_originals` of the data's own to learn from, then recoloured ones, then others.

    recoloured   the numbers of the recoloured forms of each of the data's own
    held_out     the numbers of pictures that nothing is learned from
    """

    pictures: np.ndarray
    english: list[list[str]]
    chinese: list[list[str]]
    style: list[str]
    n_originals: int
    recoloured: list[list[int]]
    held_out: np.ndarray

    def caption(self, i: int, chinese: float, rng: np.random.Generator) -> str:
        """One of the captions of picture i; a share of them Chinese."""
        return str(rng.choice((self.chinese if rng.random() < chinese else self.english)[i]))

    def swap_recoloured(self, chosen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        """The chosen, but of those that have recoloured forms a share is replaced by one of these."""
        recoloured = self._recoloured
        swap = (recoloured.counts[chosen] > 0) & (rng.random(len(chosen)) < share)
        swapped = chosen.copy()
        swapped[swap] = recoloured.draw(chosen[swap], rng)
        return swapped

    @cached_property
    def _recoloured(self) -> "Choices":
        return Choices(self.recoloured)


class Choices:
    """Lists of numbers, of which one is drawn at a time."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self.counts = np.array([len(numbers) for numbers in lists])
        self.starts = self.counts.cumsum() - self.counts
        self.numbers = np.fromiter(chain.from_iterable(lists), np.int64)

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One number of each of these lists."""
        drawn: np.ndarray = self.numbers[self.starts[rows] + rng.integers(self.counts[rows])]
        return drawn

    def first(self, rows: np.ndarray) -> np.ndarray:
        first: np.ndarray = self.numbers[self.starts[rows]]
        return first


CAPTIONS, COLOURED_CAPTIONS = 200, 20  # of a thing in a language; of a recoloured one


def captioned(emoji: emoji_data.Emoji, recolour: float) -> Captioned:
    """The training split with its captions; if recolour > 0, also each picture in every colour that suits it; and of
    the validation split at most 256 pictures, with their names."""
    rng, words = Random(0), [(ENGLISH, emoji.name, emoji.tags), (CHINESE, emoji.name_zh, emoji.tags_zh)]
    rarity = [rarities(dict(zip(emoji.concept.tolist(), tags, strict=True)).values()) for _, _, tags in words]
    first_row = {concept: row for row, concept in reversed([*enumerate(emoji.concept.tolist())])}

    @cache  # the styles of a concept share its captions
    def captions_of(concept: str, colour: str | None, count: int, coloured: float) -> list[list[str]]:
        row = first_row[concept]
        return [
            captions(
                Subject(
                    str(name[row]), tags[row], [rare[tag] for tag in tags[row]], colour,
                    caption_kinds(emoji, row) if language is ENGLISH else (),
                ),
                language, count, rng, coloured if colour else 0.0,
            )
            for (language, name, tags), rare in zip(words, rarity, strict=True)
        ]  # fmt: skip

    rows = np.flatnonzero(emoji.split == "train")
    pictures, style = list(emoji.pictures[rows]), emoji.style[rows].tolist()
    texts = [captions_of(str(emoji.concept[row]), own_colour(emoji, int(row)), CAPTIONS, 0.15) for row in rows]
    recoloured: list[list[int]] = [[] for _ in rows]
    for i, row in enumerate(rows if recolour else []):
        concept = str(emoji.concept[row])
        if not colours.recolourable(emoji.group[row], emoji.name[row]):
            continue
        for colour in colours.COLOURS:
            if colours.held_out(concept, colour):
                continue
            recoloured_picture = colours.recolour(emoji.pictures[row], colour)
            if recoloured_picture is not None:
                recoloured[i].append(len(pictures))
                pictures.append(recoloured_picture)
                texts.append(captions_of(concept, colour, COLOURED_CAPTIONS, 1.0))
                style.append(style[i])
    held_out = held_out_rows(emoji)
    numbers = np.arange(len(pictures), len(pictures) + len(held_out))
    pictures += list(emoji.pictures[held_out])
    texts += [[[str(emoji.name[row])], [str(emoji.name_zh[row])]] for row in held_out]
    style += emoji.style[held_out].tolist()
    english, chinese = ([both[i] for both in texts] for i in range(2))
    return Captioned(np.stack(pictures), english, chinese, style, len(rows), recoloured, numbers)


def own_colour(emoji: emoji_data.Emoji, row: int) -> str | None:
    """The colour that a caption may say of a picture; None where its name says one, where nobody would say it, and
    where the pair is kept for the test."""
    name = str(emoji.name[row])
    if not colours.recolourable(emoji.group[row], name) or colours.WORD.search(name):
        return None
    colour = colours.main_colour(on_white(emoji.pictures[row : row + 1])[0])
    return None if colours.held_out(str(emoji.concept[row]), colour) else colour


def held_out_rows(emoji: emoji_data.Emoji) -> np.ndarray:
    """At most 256 pictures of the validation split, the same each time."""
    return np.random.default_rng(0).permutation(np.flatnonzero(emoji.split == "validation"))[:256]


class Texts:
    """Texts as piece numbers on the device, from which the states of a batch are computed when it is drawn: a table
    of states would hold hundreds of captions of each thing, gigabytes."""

    def __init__(self, codec: TextCodec, texts: list[str], device: torch.device) -> None:
        parts = [codec.tokenize(texts[start : start + 1024]) for start in range(0, len(texts), 1024)]
        self.network = codec.network
        self.ids = place(np.concatenate([ids[mask].astype(np.int32) for ids, mask in parts]), device)
        self.ragged = Ragged(np.concatenate([mask.sum(1) for _, mask in parts]), device)

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        """As `TextCodec.encode`, of the texts with these numbers."""
        index, mask = self.ragged(rows)
        states, pooled = self.network(self.ids[index], mask)
        return {"context": states * mask[..., None], "context_mask": mask, "pooled": pooled}


class Conditions:
    """What the network is told of training pictures: each time other words for it, and now and then none.

    Of all pictures 10 % lose words and style, so that guidance has something to push from, 5 % only words and 10 %
    only the style. A batch is the numbers of its texts and styles.
    """

    def __init__(self, model: Pipeline, dataset: Captioned, chinese: float) -> None:
        self.dataset, self.chinese, self.styles = dataset, chinese, len(model.config.styles)
        lists = dataset.english, dataset.chinese if chinese else dataset.english
        self.texts = [*dict.fromkeys(["", *chain(*lists[0], *lists[1])])]
        number = {text: i for i, text in enumerate(self.texts)}
        self.in_english, self.in_chinese = (Choices([[number[t] for t in texts] for texts in own]) for own in lists)
        self.unconditional = number[""]
        styles = [*model.config.styles, ""]
        self.style = np.array([styles.index(style) for style in dataset.style])
        self.encode = Texts(model.text_encoder, self.texts, model.runtime.device)
        one_hot = np.eye(self.styles + 1, self.styles, dtype=np.float32)  # the last: no style
        self.one_hot = place(one_hot, model.runtime.device)

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The number of a text and of a style for each of these pictures."""
        u, in_chinese = rng.random(len(rows)), rng.random(len(rows)) < self.chinese
        text = np.where(in_chinese, self.in_chinese.draw(rows, rng), self.in_english.draw(rows, rng))
        with_style = (u >= 0.1) & ((u < 0.15) | (u >= 0.25))
        return {
            "text": np.where(u < 0.15, self.unconditional, text),
            "style": np.where(with_style, self.style[rows], self.styles),
        }

    def plain(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The first caption and the style of each."""
        return {"text": self.in_english.first(rows), "style": self.style[rows]}

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Token states and their mask; and the label: pooled texts beside styles, (B, D + styles)."""
        states = self.encode(batch["text"])
        label = torch.cat([states.pop("pooled"), self.one_hot[batch["style"]]], dim=1)
        return {**states, "label": label}
