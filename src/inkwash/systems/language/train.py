"""Training of a writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note
from inkwash.systems.language import engines, train_classifier
from inkwash.systems.language.controls import Constraints
from inkwash.systems.language.data import Corpus, read_corpus, split_training
from inkwash.systems.language.model import Writer
from inkwash.systems.language.networks import WordNetwork
from inkwash.systems.language.vocabulary import Vocabulary, detokenize, tokenize
from inkwash.training.build import build
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import fit
from inkwash.training.placement import device_of, fixed_shapes, place
from inkwash.training.recipe import Amount, Count, Depth, Share, Width
from inkwash.training.settings import Settings

Batch = dict[str, Any]

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
    classifier_steps  how long to teach a classifier of the fields afterwards, 32 sentences a step; for grammar see
                      `train_classifier`
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


def encode(recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """{"words": (N, L)}, and the sources, if they are read and there are any."""
    words = torch.from_numpy(vocabulary.encode(corpus.texts, recipe.length))
    if not recipe.source or not any(corpus.sources):
        return {"words": words}
    return {"words": words} | engines.encode_sources(vocabulary, corpus.sources, recipe.source)


def loader(recipe: Recipe, tables: dict[str, Tensor], count: int) -> tuple[Callable[[int], Batch], list[Batch]]:
    """Batch k of the first `count` sentences, and the batches of the others, which are held out. A batch is {"rows":
    (B,), "source_length": of which so much is read, 0 where sources are left out}."""
    size, fixed = recipe.fit.batch_size, fixed_shapes(device_of(recipe.fit.device))
    order = batches(count, size, recipe.fit.seed)
    lengths = (
        tables["source_mask"].sum(1) if "source" in tables else torch.zeros(len(tables["words"]), dtype=torch.long)
    )

    def of(rows: Tensor) -> Batch:
        return {"rows": rows, "source_length": int((lengths if fixed else lengths[rows]).max())}

    def batch(k: int) -> Batch:
        rows = torch.from_numpy(order(k))
        return {"rows": rows, "source_length": 0} if recipe.drop_source and k % 2 else of(rows)

    return batch, [of(torch.from_numpy(rows)) for rows in whole_batches(np.arange(count, len(lengths)), size)]


def gather(tables: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """What `engines.loss` takes, where the tables lie."""
    rows, source_length = batch["rows"], batch["source_length"]
    sources = {key: table[rows, :source_length] for key, table in tables.items() if key != "words" and source_length}
    return {"words": tables["words"][rows]} | sources


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> None:
    """Trains, or goes on; writes folder/model."""
    corpus = read_corpus(recipe.data)
    if corpus.note:
        monitor.tell(Note(corpus.note))
    training_set, held_out = split_training(corpus)
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

    tables = encode(recipe, training_set + held_out, vocabulary)
    batch, held_out_batches = loader(recipe, tables, len(training_set))
    tables = place(tables, device_of(recipe.fit.device))
    loss = engines.loss(network)

    def preview(_: nn.Module, step: int) -> str:
        ids = writer.sample([Constraints()] * len(examples), range(len(examples)), examples)
        return " / ".join(detokenize(text) for text in vocabulary.decode(ids))

    fit(
        network, lambda batch, generator: loss(gather(tables, batch), generator), batch, folder, recipe.fit,
        preview if examples else None, writer.save, folder / "model", monitor, held_out=held_out_batches,
    )  # fmt: skip
    if recipe.classifier_steps:
        settings = replace(
            recipe.fit, steps=recipe.classifier_steps, batch_size=max(1, 32 // recipe.fit.grad_accumulation),
            learning_rate=1e-3, warmup=100, lr_decay="cosine", ema_decay=0.99,
        )  # fmt: skip
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
