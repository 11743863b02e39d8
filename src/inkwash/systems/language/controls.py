"""What may be asked of a sentence, and how a model is made to keep to it.

What concerns single words (words that are given, where the sentence ends, which words can be a noun at all) is a mask
of allowed words at each position. What does not (what a field says, tags and syntax in context) is a classifier's
log-probability, uphill of which the sampler is led.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.diffusion import NoiseLevel
from inkwash.errors import UserError, unknown
from inkwash.systems.language.networks import ClassifierNetwork
from inkwash.systems.language.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, tokenize

Span = tuple[int, int, str]  # first word, last word, from 0; label
GAP = "_"


@dataclass(frozen=True)
class Constraints:
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
        spans = (*self.spans, *(self.tree or ()))
        labels: dict[tuple[int, int], str] = {}
        for first, last, label in spans:
            if labels.setdefault((first, last), label) != label:
                raise UserError(
                    f"words {first + 1} to {last + 1} are both {labels[first, last]} and {label}: ask for one"
                )
        for i, j in labels:
            for k, m in labels:
                if i < k <= j < m:
                    raise UserError(f"constituents cross: words {i + 1} to {j + 1} and {k + 1} to {m + 1}")
        if self.tree is not None and (extra := set(self.spans) - set(self.tree)):
            first, last, label = min(extra)
            raise UserError(f"the span {first + 1}-{last + 1}:{label} contradicts the tree, which does not have it")

    @property
    def steered(self) -> bool:
        """Whether a classifier is needed."""
        return bool(self.fields or self.tags or self.spans or self.tree is not None)


def parse_constraints(
    fields: Sequence[str] = (),
    tags: str | None = None,
    spans: Sequence[str] = (),
    tree: str | None = None,
    infill: str | None = None,
    start: str | None = None,
    length: int | None = None,
) -> Constraints:
    """From what a user writes: field=value; tags, one a word; first-last:LABEL, counted from 1; a tree in brackets,
    (NP the _); a sentence with _ for each word that is missing; the words that it begins with; its length.

    Raises UserError for what cannot be read and for constraints that contradict each other.
    """
    if length is not None and length < 1:
        raise UserError(f"length {length}: a sentence has at least one word")
    if infill is not None and start is not None:
        raise UserError("infill and start contradict each other: write the beginning into the text with gaps")

    def check_length(count: int, name: str) -> None:
        nonlocal length
        if length not in (None, count):
            raise UserError(f"lengths contradict each other: {name} has {count} words, {length} are asked for")
        length = count

    values: dict[str, str] = {}
    for text in fields:
        name, _, value = (side.strip() for side in text.partition("="))
        if not value:
            raise UserError(f"control '{text}': write field=value, food=Italian")
        if values.setdefault(name, value) != value:
            raise UserError(f"controls contradict each other: {name} is both {values[name]} and {value}")
    words = parse_template(infill or start or "")
    constituents: tuple[Span, ...] | None = None
    if infill is not None:
        if None not in words:
            raise UserError("infill: no _ in the text; write one for each word that is missing")
        check_length(len(words), "the text with gaps")
    if start is not None and not words:
        raise UserError("start: no words in it")
    if tags is not None:
        if not tags.split():
            raise UserError("pos: no tags in it; write one for each word, DET NOUN VERB")
        check_length(len(tags.split()), "pos")
    if tree is not None:
        leaves, constituents = parse_tree(tree)
        if any(leaves) and words:
            raise UserError("the tree has words of its own: give _ for its leaves, or leave out infill and start")
        check_length(len(leaves), "the tree")
        words = words or leaves
    found = tuple(parse_span(text) for text in spans)
    longest = max([len(words), *(last + 1 for _, last, _ in found)])
    if length is not None and longest > length:
        raise UserError(f"a length of {length} contradicts words or spans that reach to word {longest}")
    return Constraints(values, tuple((tags or "").upper().split()), found, constituents, words, length)


def parse_template(text: str) -> tuple[str | None, ...]:
    """The words of a text; None for each _."""
    return tuple(None if word == GAP else word for word in tokenize(text))


def parse_span(text: str) -> Span:
    """3-6:PP -> (2, 5, "PP")."""
    found = re.fullmatch(r"(\d+)-(\d+):(\w+)", text.strip())
    if not found or not 1 <= int(found[1]) < int(found[2]):
        raise UserError(f"span '{text}': write first-last:LABEL, 3-6:PP, of two words or more, counted from 1")
    return int(found[1]) - 1, int(found[2]) - 1, found[3].upper()


def parse_tree(text: str) -> tuple[tuple[str | None, ...], tuple[Span, ...]]:
    """(S (NP the _) (VP is _)) -> the leaves, None for _; the constituents of two words or more."""
    leaves: list[str | None] = []
    spans: list[Span] = []
    stack: list[tuple[str, int]] = []
    for opening, label, closing, leaf in re.findall(r"(\(\s*)([^\s()]+)|(\))|([^\s()]+)", text):
        if opening:
            stack.append((label.upper(), len(leaves)))
        elif closing:
            if not stack:
                raise UserError(f"tree '{text}': a bracket is closed that was not opened")
            label, first = stack.pop()
            if len(leaves) - first > 1:
                spans.append((first, len(leaves) - 1, label))
        else:
            leaves += parse_template(leaf)
    if stack or not spans:
        raise UserError(f"tree '{text}': write constituents in brackets, (S (NP _ _) (VP _ _))")
    return tuple(leaves), tuple(sorted(spans))


def allowed_mask(
    constraint: Constraints, vocabulary: Vocabulary, length: int, lexicon: dict[str, np.ndarray]
) -> np.ndarray:
    """Which words may stand at each position: (length, symbols), bool.

    lexicon: for each part of speech, the words that it has.
    Raises UserError for words that the model does not know and sentences longer than it writes.
    """
    longest = length - 1  # [END] takes one
    size = constraint.length or max(
        [len(constraint.words), *(last + 1 for _, last, _ in constraint.spans)], default=0
    )
    if size > longest:
        raise UserError(f"{size} words are asked for; this model writes at most {longest}")
    allowed = np.ones((length, len(vocabulary)), bool)
    allowed[:, [START, UNKNOWN]] = False
    allowed[:size, [END, PAD]] = False
    allowed[0, [END, PAD]] = False
    allowed[longest, :] = False
    allowed[longest, [END, PAD]] = True
    if constraint.length is not None:
        allowed[size:] = False
        allowed[size, END] = True
        allowed[size + 1 :, PAD] = True
    for i, tag in enumerate(constraint.tags):
        allowed[i] &= lexicon[tag]
        if not allowed[i].any():
            raise UserError(f"the model knows no word that is {tag}: ask for another part of speech")
    for i, word in enumerate(constraint.words):
        if word is not None:
            (token,) = vocabulary.known_ids([word])
            if not allowed[i, token]:
                raise UserError(f"'{word}' is no {constraint.tags[i]} that the model knows")
            allowed[i] = False
            allowed[i, token] = True
    return allowed


@dataclass(frozen=True)
class Classifier:
    """A network and the names of its classes: values of each field, parts of speech, labels of constituents.
    The first value of a field is "", absent; the last tag and the first label are "", none."""

    network: ClassifierNetwork
    fields: dict[str, list[str]]
    tags: list[str]
    labels: list[str]

    @property
    def lexicon(self) -> dict[str, np.ndarray]:
        """Which words each part of speech has."""
        return dict(zip(self.tags, self.network.lexicon.cpu().numpy(), strict=True))

    def check(self, constraint: Constraints) -> None:
        """Raises UserError, with the nearest that exist, for fields, values, tags and labels that are unknown."""
        for name, value in constraint.fields.items():
            if name not in self.fields:
                raise unknown("field", name, self.fields)
            if value not in self.fields[name]:
                raise unknown(f"value of {name}", value, self.fields[name][1:])
        if (constraint.tags or constraint.tree is not None or constraint.spans) and not self.tags:
            raise UserError("this model was not taught grammar: only fields, words and length can be asked of it")
        for tag in constraint.tags:
            if tag not in self.tags:
                raise unknown("part of speech", tag, self.tags[:-1])
        for _, _, label in (*constraint.spans, *(constraint.tree or ())):
            if label not in self.labels:
                raise unknown("constituent", label, self.labels[1:])

    def score(self, constraints: Sequence[Constraints], share: float = 0.1) -> Callable[..., Tensor]:
        """(vectors (B, L, dim), t) -> log p(what is asked of each sentence | x_t), (B,), in nats. `rows`: the
        indices of the constraints that the sentences are for, if there is not one for each in turn.

        Tags and trees, which are as many terms as words or more, count by `share` only: else they overrule both
        fluency and a field that is asked along with them. (The paper has another weight of fluency for each control.)
        """
        length = self.network.config["length"]
        targets = [self._targets(constraint, length) for constraint in constraints]
        device = self.network.lexicon.device
        weights = torch.tensor(
            [1.0 if constraint.tree is None else share for constraint in constraints], device=device
        )
        fields, tags, labels = (torch.stack(column).to(device) for column in zip(*targets, strict=True))

        def log_prob(x: Tensor, t: NoiseLevel, condition: object = None, rows: Any = slice(None)) -> Tensor:
            time = torch.full((len(x),), 1000.0 * t.t, device=x.device)
            states, total = self.network.states(x, time), x.new_zeros(len(x))
            for i, scores in enumerate(self.network.field_scores(states)):
                total = total - _nll(scores, fields[rows, i])
            if (tags >= 0).any():
                total = total - share * _nll(self.network.tag_scores(states), tags[rows]).sum(1)
            if (labels >= 0).any():
                nll = _nll(self.network.label_scores(states), labels[rows])
                total = total - weights[rows] * nll.sum((1, 2))
            return total

        return log_prob

    def _targets(self, constraint: Constraints, length: int) -> tuple[Tensor, Tensor, Tensor]:
        fields = [
            self.fields[name].index(constraint.fields[name]) if name in constraint.fields else -1
            for name in self.fields
        ]
        tags = torch.full((length,), -1)
        tags[: len(constraint.tags)] = torch.tensor(
            [self.tags.index(tag) for tag in constraint.tags], dtype=torch.long
        )
        labels = torch.full((length, length), -1)
        if constraint.tree is not None:
            size = constraint.length or 0
            labels[:size, :size] = torch.full((size, size), -1).tril()
        for first, last, label in (*constraint.spans, *(constraint.tree or ())):
            labels[first, last] = self.labels.index(label)
        return torch.tensor(fields, dtype=torch.long), tags, labels


def _nll(scores: Tensor, targets: Tensor) -> Tensor:
    """-log p(target), 0 where the target is -1."""
    return F.cross_entropy(scores.movedim(-1, 1), targets, ignore_index=-1, reduction="none")
