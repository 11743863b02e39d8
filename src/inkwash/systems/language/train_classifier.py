"""Training of what steers a writer: a classifier of noisy sentences, on the writer's own word vectors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.language import grammar
from inkwash.systems.language.controls import Classifier
from inkwash.systems.language.data import Corpus, mentions, read_corpus, split_training
from inkwash.systems.language.model import Writer
from inkwash.systems.language.networks import ClassifierNetwork
from inkwash.systems.language.vocabulary import Vocabulary, tokenize
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import fit
from inkwash.training.placement import device_of, place
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
    device = device_of(recipe.fit.device)
    writer = Writer.load(recipe.writer, str(device))
    if writer.config["engine"] == "autoregressive":
        raise UserError(f"{recipe.writer}: an autoregressive model cannot be steered; give one of diffusion")
    training_set, held_out = split_training(read_corpus(recipe.data))
    fields = field_values(training_set, recipe.min_count)
    if not fields and not recipe.grammar:
        raise UserError(
            f"{recipe.data}: no fields in it, and grammar is false: there is nothing to teach a classifier"
        )
    count, corpus = len(training_set), training_set + held_out
    labels = torch.cat([field_labels(part, fields) for part in (training_set, held_out)])
    parses = list(grammar.parse([tokenize(text) for text in corpus.texts])) if recipe.grammar else []
    torch.manual_seed(recipe.fit.seed)
    classifier = new_classifier(recipe, writer, fields)
    tables = label_data(corpus.texts, labels, writer.vocabulary, writer.length, parses)
    if recipe.grammar:
        seen = {key: table[:count] for key, table in tables.items()}
        classifier.network.lexicon.copy_(lexicon(seen, len(writer.vocabulary), min(3, recipe.min_count)))
    writer.classifier = classifier
    tables = place(tables, device)
    size, end = recipe.fit.batch_size, len(corpus)

    def preview(_: nn.Module, step: int) -> str:
        accuracies = field_accuracies(classifier, writer, gather(tables, torch.arange(count, end, device=device)))
        return "held-out accuracy: " + ", ".join(f"{name} {share:.0%}" for name, share in accuracies.items())

    fit(
        classifier.network,
        lambda rows, generator: loss(classifier.network, writer, recipe.grammar, gather(tables, rows), generator),
        batches(count, size, recipe.fit.seed), folder, recipe.fit,
        preview if fields and count < end else None, writer.save, into or folder / "model", monitor,
        held_out=whole_batches(np.arange(count, end), size),
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


def label_data(
    texts: list[str], fields: Tensor, vocabulary: Vocabulary, length: int, parses: list[grammar.Parse]
) -> dict[str, Tensor]:
    """What a classifier learns from: words (N, L), fields (N, F), tags (N, L); and the constituents of each sentence:
    "spans" (N, S), first word * L + last word, and their "labels" (N, S), both padded. parses: of each sentence; none
    without grammar."""
    words = torch.from_numpy(vocabulary.encode(texts, length))
    tags = torch.full(words.shape, len(grammar.TAGS))
    spans: list[list[tuple[int, int]]] = [[] for _ in texts]
    for row, parse in enumerate(parses):
        end = min(len(parse.tags), length - 1)
        tags[row, :end] = torch.tensor([grammar.TAGS.index(tag) for tag in parse.tags[:end]])
        spans[row] = [(i * length + j, 1 + grammar.LABELS.index(label)) for i, j, label in parse.spans if j < end]
    most = max(map(len, spans), default=0)
    padded = torch.tensor([found + [(0, -1)] * (most - len(found)) for found in spans]).reshape(len(spans), most, 2)
    table = {"words": words, "fields": fields, "tags": tags}
    return table | {"spans": padded[..., 0].long(), "labels": padded[..., 1].long()}


def lexicon(tables: dict[str, Tensor], symbols: int, min_count: int) -> Tensor:
    """Which words each part of speech has, (tags, symbols) bool: those seen with it so often."""
    counts = torch.zeros(len(grammar.TAGS) + 1, symbols)
    tags, words = tables["tags"].flatten(), tables["words"].flatten()
    counts.index_put_((tags, words), torch.ones(words.numel()), accumulate=True)
    return counts >= min_count


def gather(tables: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The examples of these rows; "labels" (B, L, L) of all spans, 0 of what is no constituent, -1 of what ends
    before its second word."""
    batch = {key: table[rows] for key, table in tables.items()}
    spans, found, (count, length) = batch.pop("spans"), batch.pop("labels"), batch["words"].shape
    none = torch.full((length, length), -1, device=rows.device).tril().flatten().repeat(count, 1)
    return batch | {"labels": none.scatter(1, spans, found).view(count, length, length)}


def field_accuracies(classifier: Classifier, writer: Writer, batch: dict[str, Tensor]) -> dict[str, float]:
    """How often each field is told from the sentence without noise, where it is to be learned."""
    vectors = writer.embeddings()[batch["words"]]
    scores = classifier.network.field_scores(classifier.network.states(vectors, torch.zeros_like(vectors[:, 0, 0])))
    right = [each.argmax(-1)[of >= 0] == of[of >= 0] for each, of in zip(scores, batch["fields"].T, strict=True)]
    named = zip(classifier.fields, right, strict=True)
    return {name: each.float().mean().item() for name, each in named if len(each)}


def loss(
    classifier: ClassifierNetwork, writer: Writer, grammar: bool, batch: dict[str, Tensor], generator: torch.Generator
) -> Tensor:
    """The cross-entropies of fields, tags and constituents, seen from x_t at uniform times; see `Writer.noised`."""
    times = diffusion.uniform_times(len(batch["words"]), generator)
    x = writer.noised(batch["words"], times, generator)
    states = classifier.states(x, (1000 * times).to(x))
    total: Any = 0.0
    for i, scores in enumerate(classifier.field_scores(states)):
        total = total + F.cross_entropy(scores, batch["fields"][:, i], ignore_index=-1, reduction="sum") / len(x)
    if grammar:
        tags = F.cross_entropy(classifier.tag_scores(states).flatten(0, 1), batch["tags"].flatten())
        length = x.shape[1]
        first, last = torch.triu_indices(length, length, 1, device=x.device)
        scores, labels = classifier.label_scores(states)[:, first, last], batch["labels"][:, first, last]
        spans = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum")
        total = total + 5 * tags + spans / (5 * len(x))
    return cast(Tensor, total)
