"""Training of a writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.language import engines, train_classifier
from inkwash.systems.language.controls import Constraints
from inkwash.systems.language.data import Corpus, read_corpus, split_corpus
from inkwash.systems.language.model import Writer
from inkwash.systems.language.vocabulary import PAD, Vocabulary, detokenize, tokenize
from inkwash.training.data import batches
from inkwash.training.fit import Settings, fit

# how each engine is sampled, chosen on the sentences of E2E that are held out
USUAL = {
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
    alone     whether every other batch leaves the sources out, so that the model also writes without one
    at_least  how often a word must come to be in the vocabulary
    dim       of the word vectors; the masked and the autoregressive network take the width
    classifier_steps  how long to teach a classifier of the fields afterwards; for grammar see `train_classifier`
    """

    task: Literal["language"]
    data: Path
    fit: Settings
    engine: Literal["continuous", "masked", "autoregressive"] = "continuous"
    improved: bool = True
    length: int = 40
    source: int = 40
    alone: bool = True
    at_least: int = 2
    dim: int = 16
    width: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.0
    classifier_steps: int = 0


def network(recipe: Recipe, words: Vocabulary, sources: bool) -> Any:
    """A new one."""
    vectors = recipe.engine == "continuous"
    more = {"improved": recipe.improved} if vectors else {}
    return engines.NETWORKS[recipe.engine](
        symbols=len(words) + (recipe.engine == "masked"),
        dim=recipe.dim if vectors else recipe.width,
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        length=recipe.length,
        source=recipe.source if sources else 0,
        dropout=recipe.dropout,
        **more,
    )


def encode_sources(words: Vocabulary, sources: list[str], length: int) -> dict[str, Tensor]:
    """The numbers of their words (N, S), and where there is one."""
    rows = torch.from_numpy(words.encode(sources, length))
    rows = rows[:, : int((rows != PAD).sum(1).max())]
    return {"source": rows, "source_mask": rows != PAD}


def feed(recipe: Recipe, corpus: Corpus, words: Vocabulary) -> Callable[[int], dict[str, Tensor]]:
    """Batch k: {"words": (B, L)}, and its sources."""
    rows = torch.from_numpy(words.encode(corpus.texts, recipe.length))
    sources = encode_sources(words, corpus.sources, recipe.source) if recipe.source and any(corpus.sources) else None
    order = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed)

    def batch(k: int) -> dict[str, Tensor]:
        chosen = torch.from_numpy(order(k))
        out = {"words": rows[chosen]}
        if sources is not None and not (recipe.alone and k % 2):
            longest = int(sources["source_mask"][chosen].sum(1).max())
            out |= {key: value[chosen, :longest] for key, value in sources.items()}
        return out

    return batch


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model."""
    training_set, _ = split_corpus(read_corpus(recipe.data))
    words = Vocabulary.learn(training_set.texts + (training_set.sources if recipe.source else []), recipe.at_least)
    if not words.words:
        raise UserError(f"{recipe.data}: no word comes {recipe.at_least} times; lower at_least in the recipe")
    if cut := sum(len(tokenize(text)) >= recipe.length for text in training_set.texts):
        longer = f"longer than {recipe.length - 1} words: their ends are cut off"
        monitor.tell(Note(f"{cut} of {len(training_set)} sentences are {longer}"))
    torch.manual_seed(recipe.fit.seed)
    sources = recipe.source > 0 and any(training_set.sources)
    made = network(recipe, words, sources)
    config = {"engine": recipe.engine, "needs_source": sources and not recipe.alone}
    config["steps"] = recipe.length
    config |= USUAL[recipe.engine]
    if recipe.engine == "continuous":
        config["steps"] = 60 if recipe.improved else 200
        config["clamp"] = 0.97 if recipe.improved else 1.0  # the time below which predictions are rounded to words
    writer = Writer(made, words, config)

    samples = (
        [None] * 3
        if not config["needs_source"]
        else [s for s in training_set.sources if len(tokenize(s)) < recipe.source]
    )
    samples = samples[:3]

    def preview(_: nn.Module, step: int) -> str:
        rows = writer.sample([Constraints()] * len(samples), range(len(samples)), samples)
        return " / ".join(detokenize(text) for text in words.decode(rows))

    fit(
        made, engines.loss(made), feed(recipe, training_set, words), folder, recipe.fit, preview if samples else None,
        writer.save, folder / "model", monitor,
    )  # fmt: skip
    if recipe.classifier_steps:
        settings = Settings(recipe.classifier_steps, 32, 1e-3, warmup=100, lr_decay="cosine", ema_decay=0.99)
        labelled = train_classifier.Recipe("classifier", recipe.data, folder / "model", settings, grammar=False)
        train_classifier.train(labelled, folder / "classifier", monitor, folder / "model")


def default_recipe(file: Path) -> Recipe:
    """For `inkwash train language`: a recipe for a file of one's own."""
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
        alone=not paired,
        at_least=2 if len(corpus) > 2000 else 1,
        classifier_steps=2000 if any(corpus.fields) else 0,
    )
