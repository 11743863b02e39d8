"""Training of what steers a writer: a classifier of noisy sentences, on the writer's own word vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.language import grammar
from inkwash.systems.language.controls import Classifier
from inkwash.systems.language.data import Corpus, mentions, read_corpus, split_corpus
from inkwash.systems.language.model import Writer
from inkwash.systems.language.networks import ClassifierNetwork
from inkwash.systems.language.vocabulary import Vocabulary, tokenize
from inkwash.training.data import batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Count, Depth, Width
from inkwash.training.settings import Settings


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "classifier".

    data     what the writer was trained on; see `read_corpus`
    writer   its folder, or its shipped name; the classifier is written into a copy of it
    grammar  whether to teach parts of speech and syntax too, which spaCy reads (English)
    min_count  how often a value of a field must come to be one
    """

    task: Literal["classifier"]
    data: Path
    writer: Path
    fit: Settings
    grammar: bool = True
    width: Width = 128
    layers: Depth = 2
    heads: Width = 4
    min_count: Count = 10


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE, into: Path | None = None) -> None:
    """Trains, or goes on; writes the writer with its classifier into folder/model, or elsewhere."""
    writer = Writer.load(recipe.writer, recipe.fit.device)
    if writer.config["engine"] == "autoregressive":
        raise UserError(f"{recipe.writer}: an autoregressive model cannot be steered; give one of diffusion")
    training_set, _ = split_corpus(read_corpus(recipe.data))
    fields = field_values(training_set, recipe.min_count)
    if not fields and not recipe.grammar:
        raise UserError(
            f"{recipe.data}: no fields in it, and grammar is false: there is nothing to teach a classifier"
        )
    parses = list(grammar.parse([tokenize(text) for text in training_set.texts])) if recipe.grammar else []
    torch.manual_seed(recipe.fit.seed)
    classifier = new_classifier(recipe, writer, fields)
    labelled = label_data(training_set, writer.vocabulary, writer.length, fields, parses)
    if recipe.grammar:
        classifier.network.lexicon.copy_(lexicon(labelled, len(writer.vocabulary), min(3, recipe.min_count)))
    writer.classifier = classifier
    fit(
        classifier.network, partial(loss, classifier.network, writer, recipe.grammar),
        loader(labelled, recipe.fit), folder, recipe.fit, save=writer.save, model=into or folder / "model",
        monitor=monitor,
    )  # fmt: skip


def new_classifier(recipe: Recipe, writer: Writer, fields: dict[str, list[str]]) -> Classifier:
    """An untrained one."""
    tags = [*grammar.TAGS, ""] if recipe.grammar else []
    labels = ["", *grammar.LABELS] if recipe.grammar else []
    network = ClassifierNetwork(
        dim=writer.embeddings().shape[1],
        fields=[len(values) for values in fields.values()],
        tags=len(tags),
        labels=len(labels),
        symbols=len(writer.vocabulary),
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        length=writer.length,
    )
    return Classifier(network, fields, tags, labels)


def field_values(corpus: Corpus, min_count: int) -> dict[str, list[str]]:
    """The values that each field has at least so often; the first is "", absent."""
    counts = Counter(pair for fields in corpus.fields for pair in fields.items())
    values: dict[str, list[str]] = {}
    for (name, value), n in sorted(counts.items()):
        if n >= min_count:
            values.setdefault(name, [""]).append(value)
    return values


def field_labels(corpus: Corpus, values: dict[str, list[str]]) -> Tensor:
    """The value of each field in each sentence, (N, fields); -1 where it is not to be learned.

    A value that most sentences mention literally is learned from these alone, for that is what a user asks for;
    others (family friendly: yes) from all that mean it.
    """
    out = torch.zeros(len(corpus), len(values), dtype=torch.long)
    for column, (name, classes) in enumerate(values.items()):
        rows: dict[str, list[int]] = {}
        for row, fields in enumerate(corpus.fields):
            if name in fields:
                rows.setdefault(fields[name], []).append(row)
        for value, having in rows.items():
            label = classes.index(value) if value in classes else -1
            literal = [mentions(corpus.texts[row], value) for row in having]
            for row, mentioned in zip(having, literal, strict=True):
                out[row, column] = label if mentioned or 2 * sum(literal) < len(literal) else -1
    return out


@dataclass(frozen=True)
class LabelledData:
    """Of sentences: words (N, L), fields (N, F), tags (N, L), and constituents as rows of (sentence, first, last,
    label)."""

    words: Tensor
    fields: Tensor
    tags: Tensor
    spans: list[list[tuple[int, int, int]]]


def label_data(
    corpus: Corpus, vocabulary: Vocabulary, length: int, fields: dict[str, list[str]], parses: list[grammar.Parse]
) -> LabelledData:
    """What a classifier learns from. parses: of each sentence; none without grammar."""
    words = torch.from_numpy(vocabulary.encode(corpus.texts, length))
    tags = torch.full(words.shape, len(grammar.TAGS))
    spans: list[list[tuple[int, int, int]]] = [[] for _ in corpus.texts]
    for row, parse in enumerate(parses):
        end = min(len(parse.tags), length - 1)
        tags[row, :end] = torch.tensor([grammar.TAGS.index(tag) for tag in parse.tags[:end]])
        spans[row] = [(i, j, 1 + grammar.LABELS.index(label)) for i, j, label in parse.spans if j < end]
    return LabelledData(words, field_labels(corpus, fields), tags, spans)


def lexicon(data: LabelledData, symbols: int, min_count: int) -> Tensor:
    """Which words each part of speech has, (tags, symbols) bool: those seen with it so often."""
    counts = torch.zeros(len(grammar.TAGS) + 1, symbols)
    counts.index_put_((data.tags.flatten(), data.words.flatten()), torch.ones(data.words.numel()), accumulate=True)
    return counts >= min_count


def loss(
    classifier: ClassifierNetwork, writer: Writer, grammar: bool, batch: dict[str, Tensor], generator: torch.Generator
) -> Tensor:
    """The cross-entropies of fields, tags and constituents, seen from x_t at uniform times; see `Writer.noised`."""
    times = diffusion.uniform_times(len(batch["words"]), generator)
    x = writer.noised(batch["words"], times, generator)
    states = classifier.states(x, (1000 * times).to(x))
    total = x.new_zeros(())
    for i, scores in enumerate(classifier.field_scores(states)):
        total = total + F.cross_entropy(scores, batch["fields"][:, i], ignore_index=-1, reduction="sum") / len(x)
    if grammar:
        tags = F.cross_entropy(classifier.tag_scores(states).flatten(0, 1), batch["tags"].flatten())
        upper = torch.ones_like(batch["labels"][0], dtype=torch.bool).triu(1)
        scores = classifier.label_scores(states)[:, upper]
        spans = F.cross_entropy(scores.flatten(0, 1), batch["labels"][:, upper].flatten(), reduction="sum")
        total = total + 5 * tags + spans / (5 * len(x))
    return total


def loader(data: LabelledData, settings: Settings) -> Callable[[int], dict[str, Tensor]]:
    """Batch k."""
    order, length = batches(len(data.words), settings.batch_size, settings.seed), data.words.shape[1]

    def batch(k: int) -> dict[str, Tensor]:
        rows = order(k)
        labels = torch.zeros(len(rows), length, length, dtype=torch.long)
        for i, row in enumerate(rows):
            for first, last, label in data.spans[row]:
                labels[i, first, last] = label
        return {"words": data.words[rows], "fields": data.fields[rows], "tags": data.tags[rows], "labels": labels}

    return batch
