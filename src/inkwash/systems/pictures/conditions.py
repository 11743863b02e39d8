"""Training pictures with their words, and what a network is told of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from inkwash.progress import CONSOLE, Monitor, Progress
from inkwash.systems.pictures import colours, emoji_data
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


def captioned(emoji: emoji_data.Emoji, recolour: float) -> Captioned:
    """The training split with its captions; if recolour > 0, also each picture in every colour that suits it; and of
    the validation split at most 256 pictures, with their names."""
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(emoji.split == "train")
    pictures, english, chinese, style = list(emoji.pictures[rows]), [], [], emoji.style[rows].tolist()
    captions_of: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        concept = emoji.concept[row]
        if concept not in captions_of:
            captions_of[concept] = (
                captions(str(emoji.name[row]), emoji.tags[row], rng),
                captions_zh(str(emoji.name_zh[row]), emoji.tags_zh[row], rng),
            )
        english.append(captions_of[concept][0])
        chinese.append(captions_of[concept][1])
    recoloured: list[list[int]] = [[] for _ in rows]
    for i, row in enumerate(rows if recolour else []):
        if not colours.recolourable(emoji.group[row], emoji.name[row]):
            continue
        for colour in colours.COLOURS:
            if colours.held_out(str(emoji.concept[row]), colour):
                continue
            recoloured_picture = colours.recolour(emoji.pictures[row], colour)
            if recoloured_picture is not None:
                caption, caption_zh = colours.colour_captions(str(emoji.name[row]), str(emoji.name_zh[row]), colour)
                recoloured[i].append(len(pictures))
                pictures.append(recoloured_picture)
                english.append(articles(caption))
                chinese.append([caption_zh])
                style.append(style[i])
    held_out = held_out_rows(emoji)
    numbers = np.arange(len(pictures), len(pictures) + len(held_out))
    pictures += list(emoji.pictures[held_out])
    english += [[str(name)] for name in emoji.name[held_out]]
    chinese += [[str(name)] for name in emoji.name_zh[held_out]]
    style += emoji.style[held_out].tolist()
    return Captioned(np.stack(pictures), english, chinese, style, len(rows), recoloured, numbers)


def held_out_rows(emoji: emoji_data.Emoji) -> np.ndarray:
    """At most 256 pictures of the validation split, the same each time."""
    return np.random.default_rng(0).permutation(np.flatnonzero(emoji.split == "validation"))[:256]


class Contexts:
    """Token states of texts that were encoded once, float16 on the device; those of a batch are gathered and padded.

    encoded: states (N, L, D) and their mask (N, L), of some texts at a time.
    """

    def __init__(self, encoded: Iterable[tuple[np.ndarray, np.ndarray]], device: torch.device) -> None:
        parts = [(states[mask].astype(np.float16), mask.sum(1)) for states, mask in encoded]
        self.states = place(np.concatenate([states for states, _ in parts]), device)
        self.ragged = Ragged(np.concatenate([lengths for _, lengths in parts]), device)

    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        index, mask = self.ragged(rows)
        return {"context": self.states[index].float() * mask[..., None], "context_mask": mask}


class Conditions:
    """What the network is told of training pictures: each time other words for it, and now and then none.

    A caption is the name, the name with an article, with some tags, or tags alone. Of all pictures 10 % lose words
    and style, so that guidance has something to push from, 5 % only words and 10 % only the style.

    Each text is encoded once; a batch is the numbers of its texts and styles.
    """

    def __init__(self, model: Pipeline, dataset: Captioned, chinese: float, monitor: Monitor = CONSOLE) -> None:
        self.dataset, self.chinese, self.styles = dataset, chinese, len(model.config.styles)
        lists = dataset.english, dataset.chinese if chinese else dataset.english
        # of like length together, so that little is padded
        self.texts = sorted({"", *chain(*lists[0], *lists[1])}, key=lambda text: (text.isascii(), len(text), text))
        number = {text: i for i, text in enumerate(self.texts)}
        self.in_english, self.in_chinese = (Choices([[number[t] for t in texts] for texts in own]) for own in lists)
        self.unconditional = number[""]
        self.style = np.array([model.config.styles.index(style) for style in dataset.style])

        def encoded() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start in range(0, len(self.texts), 256):
                states = model.encode_prompt(self.texts[start : start + 256])
                pooled.append(states["pooled"].astype(np.float16))
                yield states["context"], states["context_mask"]
                done = min(start + 256, len(self.texts))
                monitor.tell(Progress(done, len(self.texts), "captions become states"))

        pooled: list[np.ndarray] = []
        self.contexts = Contexts(encoded(), model.runtime.device)
        one_hot = np.eye(self.styles + 1, self.styles, dtype=np.float32)  # the last: no style
        self.pooled, self.one_hot = place((np.concatenate(pooled), one_hot), model.runtime.device)

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

    def label(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Pooled texts beside styles, (B, D + styles)."""
        return torch.cat([self.pooled[batch["text"]].float(), self.one_hot[batch["style"]]], dim=1)

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**self.contexts(batch["text"]), "label": self.label(batch)}


def articles(name: str) -> list[str]:
    """A name alone, and with its article."""
    return [name, f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"]


def captions(name: str, tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Eight ways to ask for one concept."""
    some = [", ".join(rng.permutation(tags)[:k]) if tags else name for k in (1, 2, 2, 3)]
    return [*articles(name), *articles(name), *(f"{name}, {words}" for words in some[:2]), *some[2:]]


def captions_zh(name: str, tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The same in Chinese, which has no articles but measure words."""
    some = ["\uff0c".join(rng.permutation(tags)[:k]) if tags else name for k in (1, 2, 2, 3)]
    return [name, name, name, f"\u4e00\u4e2a{name}", *(f"{name}\uff0c{words}" for words in some[:2]), *some[2:]]
