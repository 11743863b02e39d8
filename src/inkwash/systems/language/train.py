"""Training of a writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.language import engines, train_classifier
from inkwash.systems.language.controls import Constraints
from inkwash.systems.language.data import Corpus, read_corpus, split_corpus
from inkwash.systems.language.model import Writer
from inkwash.systems.language.networks import WordNetwork
from inkwash.systems.language.vocabulary import Vocabulary, detokenize, tokenize
from inkwash.training.build import build
from inkwash.training.data import batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Amount, Count, Depth, Share, Width
from inkwash.training.settings import Settings

# how each engine is sampled, chosen on the sentences of E2E that are held out
DEFAULTS = {
    "continuous": {"temperature": 0.5, "guidance": 2.0},
    "masked": {"temperature": 0.7, "guidance": 2.0},
    "autoregressive": {"temperature": 1.0, "guidance": 1.0},
}


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "language".

    data      see `read_corpus`
    engine    continuous, masked or autoregressive; see `engines`
    improved  of continuous: CDCD's loss; if false, the paper's; see `engines`
    length    of the longest sentence, in words and signs, [END] included; what is longer is cut
    source    of the longest source; 0: sources are not read
    drop_source  whether every other batch leaves the sources out, so that the model also writes without one
    min_count    how often a word must come to be in the vocabulary
    dim       of the word vectors; the masked and the autoregressive network take the width
    classifier_steps  how long to teach a classifier of the fields afterwards; for grammar see `train_classifier`
    """

    task: Literal["language"]
    data: Path
    fit: Settings
    engine: Literal["continuous", "masked", "autoregressive"] = "continuous"
    improved: bool = True
    length: Width = 40
    source: Annotated[int, Ge(0), Le(2**16)] = 40
    drop_source: bool = True
    min_count: Count = 2
    dim: Width = 16
    width: Width = 128
    layers: Depth = 4
    heads: Width = 4
    dropout: Share = 0.0
    classifier_steps: Amount = 0


def new_network(recipe: Recipe, vocabulary: Vocabulary, sources: bool) -> WordNetwork:
    """An untrained one."""
    continuous = recipe.engine == "continuous"
    more = {"improved": recipe.improved} if continuous else {}
    return engines.NETWORKS[recipe.engine](
        symbols=len(vocabulary) + (recipe.engine == "masked"),
        dim=recipe.dim if continuous else recipe.width,
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        length=recipe.length,
        source=recipe.source if sources else 0,
        dropout=recipe.dropout,
        **more,
    )


def loader(recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary) -> Callable[[int], dict[str, Tensor]]:
    """Batch k: {"words": (B, L)}, and its sources."""
    ids = torch.from_numpy(vocabulary.encode(corpus.texts, recipe.length))
    sources: dict[str, Tensor] = {}
    if recipe.source and any(corpus.sources):
        sources = engines.encode_sources(vocabulary, corpus.sources, recipe.source)
    order = batches(len(ids), recipe.fit.batch_size, recipe.fit.seed)

    def batch(k: int) -> dict[str, Tensor]:
        rows = torch.from_numpy(order(k))
        out = {"words": ids[rows]}
        if sources and not (recipe.drop_source and k % 2):
            longest = int(sources["source_mask"][rows].sum(1).max())
            out |= {key: value[rows, :longest] for key, value in sources.items()}
        return out

    return batch


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model."""
    corpus = read_corpus(recipe.data)
    if corpus.note:
        monitor.tell(Note(corpus.note))
    training_set, _ = split_corpus(corpus)
    sources = training_set.sources if recipe.source else []
    vocabulary = Vocabulary.build(training_set.texts + sources, recipe.min_count)
    if not vocabulary.words:
        raise UserError(f"{recipe.data}: no word comes {recipe.min_count} times; lower min_count in the recipe")
    if cut := sum(len(tokenize(text)) >= recipe.length for text in training_set.texts):
        longer = f"longer than {recipe.length - 1} words: their ends are cut off"
        monitor.tell(Note(f"{cut} of {len(training_set)} sentences are {longer}"))
    torch.manual_seed(recipe.fit.seed)
    network = build(lambda: new_network(recipe, vocabulary, any(sources)), {}, "the recipe")
    needs_source = any(sources) and not recipe.drop_source
    config: dict[str, Any] = {"engine": recipe.engine, "needs_source": needs_source, "steps": recipe.length}
    config |= DEFAULTS[recipe.engine]
    if recipe.engine == "continuous":
        config["steps"] = 60 if recipe.improved else 200
        config["clamp"] = 0.97 if recipe.improved else 1.0  # the time below which predictions are rounded to words
    writer = Writer(network, vocabulary, config)
    examples: Sequence[str | None] = [None] * 3
    if needs_source:
        examples = [source for source in sources if len(tokenize(source)) < recipe.source][:3]

    def preview(_: nn.Module, step: int) -> str:
        ids = writer.sample([Constraints()] * len(examples), range(len(examples)), examples)
        return " / ".join(detokenize(text) for text in vocabulary.decode(ids))

    fit(
        network, engines.loss(network), loader(recipe, training_set, vocabulary), folder, recipe.fit,
        preview if examples else None, writer.save, folder / "model", monitor,
    )  # fmt: skip
    if recipe.classifier_steps:
        settings = Settings(recipe.classifier_steps, 32, 1e-3, warmup=100, lr_decay="cosine", ema_decay=0.99)
        labelled = train_classifier.Recipe("classifier", recipe.data, folder / "model", settings, grammar=False)
        train_classifier.train(labelled, folder / "classifier", monitor, folder / "model")


def default_recipe(file: Path) -> Recipe:
    """For `inkwash train language`: the recipe for a file of the user's."""
    corpus = read_corpus(file)
    sizes = sorted(len(tokenize(text)) for text in corpus.texts)
    length = min(max(sizes[int(0.98 * len(sizes))] + 1, 8), 64)  # two sentences of a hundred may be cut
    paired = any(corpus.sources) and not any(corpus.fields)
    source = min(max((len(tokenize(text)) for text in corpus.sources), default=0) + 1, 96)
    settings = Settings(20_000, 32, 1e-3, warmup=200, lr_decay="cosine", ema_decay=0.999)
    return Recipe(
        "language",
        file,
        settings,
        length=length,
        source=source if any(corpus.sources) else 0,
        drop_source=not paired,
        min_count=2 if len(corpus) > 2000 else 1,
        classifier_steps=2000 if any(corpus.fields) else 0,
    )
