"""Icons to learn from: their captions, the same thing in other styles, and small changes of their fields."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from itertools import chain
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.systems.pictures.captions import CHINESE, ENGLISH, Subject, captions, rarities, with_article
from inkwash.systems.pictures.conditions import Captioned, Choices
from inkwash.systems.pictures.distance_fields import average, limit
from inkwash.systems.pictures.icon_names import Words
from inkwash.systems.pictures.icons_data import Icons

CAPTIONS, ALIAS_CAPTIONS, ALIASES = 40, 5, 8  # of a name; of each alias; how many of these at most
BADGES = {"plus", "minus", "check", "heart", "star", "lock", "search", "question", "exclamation", "clock", "pin"}
ONE_SIDED = {  # words of drawings that are something else when they are mirrored
    *("left", "right", "forward", "back", "backward", "next", "previous", "undo", "redo", "rewind", "play", "skip"),
    *("question", "help", "music", "note", "notes", "dollar", "euro", "pound", "yen", "percent", "currency", "clock"),
}
MAX_WEIGHT, MAX_SHIFT = 0.3, 1  # pixels
WITHOUT_WORDS = 0.4  # share of those with a reference that have none


def captioned_icons(icons: Icons, size: int) -> Captioned:
    """The training split with its captions, and of the validation split at most 256 pictures with their names.

    Its pictures are fields of 64 or 32 pixels (N, size, size), with room beyond `limit` for another weight.
    """
    rng, rows = Random(0), np.flatnonzero(icons.split == "train")
    words = words_of_names(icons, rows)
    rarity = rarities([own.tags for own in words.values()])
    rarity_zh = rarities([own.tags_zh for own in words.values()])

    @cache  # the styles of a name share its captions
    def captions_of(name: str) -> tuple[list[str], list[str]]:
        own = words[name]

        def of_word(word: str, count: int) -> list[str]:
            return captions(Subject(word, own.tags, [rarity[tag] for tag in own.tags]), ENGLISH, count, rng)

        english = of_word(name, CAPTIONS)
        for alias in [*with_badge(name), *own.aliases[:ALIASES]]:
            english += of_word(alias, ALIAS_CAPTIONS)
        if not own.name_zh:
            return english, english
        subject = Subject(own.name_zh, own.tags_zh, [rarity_zh[tag] for tag in own.tags_zh])
        return english, captions(subject, CHINESE, CAPTIONS, rng)

    held_out = np.random.default_rng(0).permutation(np.flatnonzero(icons.split == "validation"))[:256]
    texts = [captions_of(str(icons.name[row])) for row in rows]
    texts += [([str(icons.name[row])], [str(icons.name[row])]) for row in held_out]
    english, chinese = ([both[i] for both in texts] for i in range(2))
    every = np.concatenate([rows, held_out])
    return Captioned(
        average(icons.fields[every], icons.fields.shape[-1] // size),
        english,
        chinese,
        icons.style[every].tolist(),
        len(rows),
        [[] for _ in rows],
        np.arange(len(rows), len(every)),
    )


def words_of_names(icons: Icons, rows: np.ndarray) -> dict[str, Words]:
    """The words for each name: of all sets that draw it, since they do not say the same."""
    of_name: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        of_name[str(icons.name[row])].append(row)

    def together(lists: list[list[str]], own: list[int]) -> list[str]:
        return [*dict.fromkeys(chain.from_iterable(lists[row] for row in own))]

    return {
        name: Words(
            name,
            together(icons.aliases, own),
            together(icons.tags, own),
            next((str(icons.name_zh[row]) for row in own if icons.name_zh[row]), ""),
            together(icons.tags_zh, own),
        )
        for name, own in of_name.items()
    }


def with_badge(name: str) -> list[str]:
    """A name that ends in a sign beside the thing, in other words: "folder plus" -> "folder with a plus"."""
    *thing, last = name.split()
    if last not in BADGES or not thing:
        return []
    return [
        f"{' '.join(thing)} with {with_article(last)}",
        f"{with_article(' '.join(thing))} with {with_article(last)}",
    ]


def counterparts(icons: Icons) -> list[list[int]]:
    """For each of the training split (numbered within it) those of the same name in other styles."""
    rows = np.flatnonzero(icons.split == "train")
    of_name: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        of_name[str(icons.name[row]).lower()].append(i)
    style = icons.style[rows]
    return [[j for j in of_name[str(icons.name[row]).lower()] if style[j] != style[i]] for i, row in enumerate(rows)]


def has_no_side(name: str) -> bool:
    """Whether a drawing of this name is one when it is mirrored too."""
    return ONE_SIDED.isdisjoint(name.split())


def draw_augmentation(may_mirror: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """For each of these (N,): whether it is mirrored, where allowed; half of the time a shift in pixels (N, 2), and
    as often another weight of the strokes, as the level of its field."""
    n = len(may_mirror)
    shift = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, (n, 2)) * (rng.random((n, 1)) < 0.5)
    weight = rng.uniform(-MAX_WEIGHT, MAX_WEIGHT, n) * (rng.random(n) < 0.5)
    return {"mirror": may_mirror & (rng.random(n) < 0.5), "shift": shift, "weight": weight.astype(np.float32)}


def augment(fields: Tensor, augmentation: Mapping[str, Tensor]) -> Tensor:
    """Fields (B, side, side) in pixels, changed as `draw_augmentation` says; cut off as a network knows them.

    What is shown beside a field is changed alike, so the network knows from it, and draws unchanged what is not.
    """
    side = torch.arange(fields.shape[-1], device=fields.device)
    mirrored = torch.where(augmentation["mirror"][:, None, None], fields.flip(-1), fields)
    y, x = ((side - augmentation["shift"][:, axis, None]).clip(0, len(side) - 1) for axis in (0, 1))
    batch = torch.arange(len(fields), device=fields.device)[:, None, None]
    shifted = mirrored[batch, y[:, :, None], x[:, None, :]]
    return (shifted + augmentation["weight"][:, None, None]).clip(-limit(len(side)), limit(len(side)))


class References:
    """What is shown beside icons of the training split: half of those that can have it in another style."""

    def __init__(self, icons: Icons) -> None:
        self.counterparts = Choices(counterparts(icons))

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """For each of these the number of its reference, whether it has one, and whether it then has no words."""
        has = (self.counterparts.counts[rows] > 0) & (rng.random(len(rows)) < 0.5)
        reference = rows.copy()
        reference[has] = self.counterparts.draw(rows[has], rng)
        return {
            "reference": reference,
            "has_reference": has,
            "wordless": has & (rng.random(len(rows)) < WITHOUT_WORDS),
        }


def clean_and_concat(
    fields: Tensor, batch: Mapping[str, Tensor], mean: Tensor, patch: int, reference: bool
) -> tuple[Tensor, Tensor]:
    """The states x_0 of a batch, and what the network is shown beside them: the mean prediction, then the reference,
    zeros where there is none.

    fields: of all pictures (N, side, side), of which the batch has the numbers. All are augmented alike.
    """
    shown = [fields[batch["rows"]].float(), to_fields(mean, patch)]
    if "reference" in batch:
        shown.append(fields[batch["reference"]].float())
    if "mirror" in batch:
        shown = [augment(each, batch) for each in shown]
    x0, *concat = (to_state(each, patch) for each in shown)
    if "reference" in batch:
        concat[-1] = concat[-1] * batch["has_reference"][:, None, None, None]
    elif reference:
        concat.append(torch.zeros_like(x0))
    return x0, torch.cat(concat, dim=1)


def to_state(fields: Tensor, patch: int) -> Tensor:
    """As `distance_fields.to_state`, of tensors."""
    return F.pixel_unshuffle((fields[:, None] / limit(fields.shape[-1])).clip(-1, 1), patch)


def to_fields(state: Tensor, patch: int) -> Tensor:
    fields = F.pixel_shuffle(state, patch)[:, 0]
    return fields * limit(fields.shape[-1])
