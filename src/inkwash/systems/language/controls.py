"""What may be asked of a sentence, and how a model is made to keep to it.

What is known of single words (words that are given, where the sentence ends, which words can be a noun at all) is a
table of allowed words at each position. What is not (what a field says, tags and syntax in context) is a reader's
log-probability, uphill of which the sampler is led.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.diffusion import NoiseLevel
from inkwash.errors import UserError, unknown
from inkwash.systems.language.networks import Reader
from inkwash.systems.language.vocabulary import END, PAD, START, UNKNOWN, Words, split

Span = tuple[int, int, str]  # first word, last word, from 0; label
GAP = "_"


@dataclass(frozen=True)
class Wish:
    """What is asked of one sentence; what is left out is free.

    fields  {field: value}
    tags    the part of speech of each word
    spans   constituents that must be there
    tree    all constituents: these and no others
    words   words at positions, None where any may stand
    length  words and signs
    """

    fields: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    tree: tuple[Span, ...] | None = None
    words: tuple[str | None, ...] = ()
    length: int | None = None

    def __post_init__(self) -> None:
        if (self.tags or self.tree is not None) and self.length is None:
            raise UserError("tags and trees are of whole sentences: give their length, too")
        asked = (*self.spans, *(self.tree or ()))
        labels: dict[tuple[int, int], str] = {}
        for first, last, label in asked:
            if labels.setdefault((first, last), label) != label:
                raise UserError(
                    f"words {first + 1} to {last + 1} are both {labels[first, last]} and {label}: ask for one"
                )
        for i, j in labels:
            for k, m in labels:
                if i < k <= j < m:
                    raise UserError(f"constituents cross: words {i + 1} to {j + 1} and {k + 1} to {m + 1}")
        if self.tree is not None and (outside := set(self.spans) - set(self.tree)):
            first, last, label = min(outside)
            raise UserError(f"the span {first + 1}-{last + 1}:{label} contradicts the tree, which does not have it")

    @property
    def steered(self) -> bool:
        """Whether a reader is needed."""
        return bool(self.fields or self.tags or self.spans or self.tree is not None)


def wish(
    fields: Sequence[str] = (),
    tags: str | None = None,
    spans: Sequence[str] = (),
    tree: str | None = None,
    infill: str | None = None,
    start: str | None = None,
    length: int | None = None,
) -> Wish:
    """From what was typed: field=value; tags, one a word; first-last:LABEL, counted from 1; a tree in brackets,
    (NP the _); a sentence with _ for each word that is missing; the words that it begins with; its length.

    Raises UserError for what cannot be read and for wishes that contradict each other.
    """
    out = Wish(length=length)
    if length is not None and length < 1:
        raise UserError(f"length {length}: a sentence has at least one word")
    if infill is not None and start is not None:
        raise UserError("infill and start contradict each other: write the beginning into the text with gaps")
    told: dict[str, str] = {}
    for text in fields:
        name, _, value = (part.strip() for part in text.partition("="))
        if not value:
            raise UserError(f"control '{text}': write field=value, food=Italian")
        if told.setdefault(name, value) != value:
            raise UserError(f"controls contradict each other: {name} is both {told[name]} and {value}")
    out = replace(out, fields=told)
    if infill is not None:
        known = template(infill)
        if not any(word is None for word in known):
            raise UserError("infill: no _ in the text; write one for each word that is missing")
        out = _sized(out, len(known), "the text with gaps", words=known)
    if start is not None:
        if not (known := template(start)):
            raise UserError("start: no words in it")
        out = replace(out, words=known)
    if tags is not None:
        if not tags.split():
            raise UserError("pos: no tags in it; write one for each word, DET NOUN VERB")
        out = _sized(out, len(tags.split()), "pos", tags=tuple(tag.upper() for tag in tags.split()))
    if tree is not None:
        leaves, found = read_tree(tree)
        if any(leaves) and out.words:
            raise UserError("the tree has words of its own: give _ for its leaves, or leave out infill and start")
        out = _sized(out, len(leaves), "the tree", tree=tuple(found), words=out.words or leaves)
    if spans:
        out = replace(out, spans=tuple(read_span(text) for text in spans))
    longest = max([len(out.words), *(last + 1 for _, last, _ in out.spans)])
    if out.length is not None and longest > out.length:
        raise UserError(f"a length of {out.length} contradicts words or spans that reach to word {longest}")
    return out


def _sized(wanted: Wish, length: int, name: str, **more: Any) -> Wish:
    if wanted.length not in (None, length):
        raise UserError(f"lengths contradict each other: {name} has {length} words, {wanted.length} are asked for")
    return replace(wanted, length=length, **more)


def template(text: str) -> tuple[str | None, ...]:
    """The words of a text; None for each _."""
    return tuple(word for part in text.split() for word in ([None] if part == GAP else _parts(part)))


def _parts(text: str) -> list[str | None]:
    return [None if word == GAP else word for word in split(text)]


def read_span(text: str) -> Span:
    """3-6:PP -> (2, 5, "PP")."""
    found = re.fullmatch(r"(\d+)-(\d+):(\w+)", text.strip())
    if not found or not 1 <= int(found[1]) < int(found[2]):
        raise UserError(f"span '{text}': write first-last:LABEL, 3-6:PP, of two words or more, counted from 1")
    return int(found[1]) - 1, int(found[2]) - 1, found[3].upper()


def read_tree(text: str) -> tuple[tuple[str | None, ...], list[Span]]:
    """(S (NP the _) (VP is _)) -> the leaves, None for _; the constituents of two words or more."""
    leaves: list[str | None] = []
    spans: list[Span] = []
    open_: list[tuple[str, int]] = []
    for bracket, label, close, leaf in re.findall(r"(\(\s*)([^\s()]+)|(\))|([^\s()]+)", text):
        if bracket:
            open_.append((label.upper(), len(leaves)))
        elif close:
            if not open_:
                raise UserError(f"tree '{text}': a bracket is closed that was not opened")
            label, first = open_.pop()
            if len(leaves) - first > 1:
                spans.append((first, len(leaves) - 1, label))
        else:
            leaves += [None] if leaf == GAP else _parts(leaf)
    if open_ or not spans:
        raise UserError(f"tree '{text}': write constituents in brackets, (S (NP _ _) (VP _ _))")
    return tuple(leaves), sorted(spans)


def allowed(wanted: Wish, words: Words, length: int, lexicon: dict[str, np.ndarray] | None) -> np.ndarray:
    """Which words may stand at each position: (length, symbols), bool.

    lexicon: for each part of speech, the words that it has; needed where tags are asked for.
    Raises UserError for words that the model does not know and sentences longer than it writes.
    """
    most = length - 1  # [END] takes one
    size = wanted.length or max([len(wanted.words), *(last + 1 for _, last, _ in wanted.spans)], default=0)
    if size > most:
        raise UserError(f"{size} words are asked for; this model writes at most {most}")
    table = np.ones((length, len(words)), bool)
    table[:, [START, UNKNOWN]] = False
    table[:size, [END, PAD]] = False
    table[0, [END, PAD]] = False
    table[most, :] = False
    table[most, [END, PAD]] = True
    if wanted.length is not None:
        table[size:] = False
        table[size, END] = True
        table[size + 1 :, PAD] = True
    for i, tag in enumerate(wanted.tags):
        if lexicon is not None and i < length:
            table[i] &= lexicon[tag]
            if not table[i].any():
                raise UserError(f"the model knows no word that is {tag}: ask for another part of speech")
    for i, number in enumerate(numbers(wanted, words)):
        if number is not None:
            if not table[i, number]:
                raise UserError(f"'{words.symbols[number]}' is no {wanted.tags[i]} that the model knows")
            table[i] = False
            table[i, number] = True
    return table


def numbers(wanted: Wish, words: Words) -> list[int | None]:
    """The numbers of the words that are given."""
    given = words.known([word for word in wanted.words if word is not None])
    return [None if word is None else given.pop(0) for word in wanted.words]


@dataclass(frozen=True)
class Reading:
    """A reader and the names of what it tells apart: values of each field, parts of speech, labels of constituents.
    The first value of a field is "", absent; the last tag and the first label are "", none."""

    network: Reader
    fields: dict[str, list[str]]
    tags: list[str]
    labels: list[str]

    @property
    def lexicon(self) -> dict[str, np.ndarray]:
        """Which words each part of speech has."""
        return dict(zip(self.tags, self.network.lexicon.cpu().numpy(), strict=True))

    def check(self, wanted: Wish) -> None:
        """Raises UserError, with the nearest that exist, for fields, values, tags and labels that are unknown."""
        for name, value in wanted.fields.items():
            if name not in self.fields:
                raise unknown("field", name, self.fields)
            if value not in self.fields[name]:
                raise unknown(f"value of {name}", value, self.fields[name][1:])
        if (wanted.tags or wanted.tree is not None or wanted.spans) and not self.tags:
            raise UserError("this model was not taught grammar: only fields, words and length can be asked of it")
        for tag in wanted.tags:
            if tag not in self.tags:
                raise unknown("part of speech", tag, self.tags[:-1])
        for _, _, label in (*wanted.spans, *(wanted.tree or ())):
            if label not in self.labels:
                raise unknown("constituent", label, self.labels[1:])

    def score(self, wishes: Sequence[Wish], share: float = 0.1) -> Callable[..., Tensor]:
        """(vectors (B, L, dim), t) -> log p(what is asked of each sentence | x_t), (B,), in nats. `rows`: the
        numbers of the wishes that the sentences are for, if there is not one for each in turn.

        Tags and trees, which are as many terms as words or more, count by `share` only: else they overrule both
        fluency and a field that is asked along with them. (The paper has another weight of fluency for each control.)
        """
        length = self.network.config["length"]
        targets = [self._targets(wanted, length) for wanted in wishes]
        device = self.network.lexicon.device
        weights = torch.tensor([1.0 if wanted.tree is None else share for wanted in wishes], device=device)
        fields, tags, labels = (torch.stack([part[i] for part in targets]).to(device) for i in range(3))

        def log_prob(x: Tensor, t: NoiseLevel, condition: object = None, rows: Any = slice(None)) -> Tensor:
            time = torch.full((len(x),), 1000.0 * t.t, device=x.device)
            states, total = self.network.states(x, time), x.new_zeros(len(x))
            for i, scores in enumerate(self.network.field_scores(states)):
                total = total - _surprise(scores, fields[rows, i])
            if (tags >= 0).any():
                total = total - share * _surprise(self.network.tag_scores(states), tags[rows]).sum(1)
            if (labels >= 0).any():
                surprise = _surprise(self.network.label_scores(states), labels[rows])
                total = total - weights[rows] * surprise.sum((1, 2))
            return total

        return log_prob

    def _targets(self, wanted: Wish, length: int) -> tuple[Tensor, Tensor, Tensor]:
        fields = [
            self.fields[name].index(wanted.fields[name]) if name in wanted.fields else -1 for name in self.fields
        ]
        tags = torch.full((length,), -1)
        tags[: len(wanted.tags)] = torch.tensor([self.tags.index(tag) for tag in wanted.tags], dtype=torch.long)
        labels = torch.full((length, length), -1)
        if wanted.tree is not None:
            labels[: wanted.length, : wanted.length] = torch.tril(torch.full((wanted.length, wanted.length), -1))
        for first, last, label in (*wanted.spans, *(wanted.tree or ())):
            labels[first, last] = self.labels.index(label)
        return torch.tensor(fields, dtype=torch.long), tags, labels


def _surprise(scores: Tensor, targets: Tensor) -> Tensor:
    """-log p(target), 0 where the target is -1."""
    return F.cross_entropy(scores.movedim(-1, 1), targets, ignore_index=-1, reduction="none")
