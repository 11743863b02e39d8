"""Whether sentences keep to their controls, and how fluent they are, beside human text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems import load
from inkwash.systems.language import baselines, engines, grammar, metrics
from inkwash.systems.language.controls import Classifier, Constraints
from inkwash.systems.language.data import Corpus, linearize_mr, mentions, read_corpus
from inkwash.systems.language.vocabulary import UNKNOWN, detokenize, tokenize
from inkwash.systems.report import Report, Row, bootstrap, row

EARLY = 0.01  # a time at which a classifier sees nearly clean words
Progress = Callable[[int, int], None]
# ids of sentences for constraints and seeds; a `Writer`'s `sample`, or a baseline's
Sample = Callable[..., np.ndarray]
# of the figures of Diffusion-LM, for other data, tools and a network of eighty times the size
PAPER = {
    "semantic": {"semantic": 0.812},
    "parts of speech": {"parts of speech": 0.900},
    "tree": {"tree": 0.860},
    "span": {"span": 0.938},
    "length": {"length": 0.999},
    "semantic + parts of speech": {"semantic": 0.637, "parts of speech": 0.691},
    "semantic + tree": {"semantic": 0.698, "tree": 0.748},
}
INFILLING, DATA_TO_TEXT = "the middle third of a sentence", "data-to-text"
OURS = "this model"  # a source; others are "paper" and what people wrote


def evaluate(
    writer: Any,
    data: str | Path,
    targets: int = 40,
    samples: int = 10,
    seed: int = 0,
    controls: Sequence[str] | None = None,
    sample: Sample | None = None,
    steering: Any = None,
    steps: int | None = None,
    mrs: int = 100,
    progress: Progress | None = None,
) -> Report:
    """The report of a writer with a classifier, on sentences that it has not seen (E2E's development set): for each
    control `targets` targets and `samples` sentences each, their success, and their fluency, -log p of a word under
    the model `e2e-evaluator`, beside human sentences and the same with their words shuffled.

    sample: makes the sentences instead of the writer (`best_of`). mrs: of so many meaning representations sentences
    are made too, if the writer reads sources.
    """
    if writer.classifier is None:
        raise UserError(
            "this model has no classifier, so nothing but words can be asked of it: there is no table to make"
        )
    require("this table", "sacrebleu", "rouge_score", *(["spacy"] if writer.classifier.tags else []))
    corpus, evaluator, sample = read_corpus(data), EvaluatorLM(), sample or writer.sample
    rng = np.random.default_rng(seed)
    requested = constraints(corpus, writer.classifier, writer.length, targets, rng)
    kinds = [kind for kind in requested if controls is None or kind in controls]
    fits = [words for text in corpus.texts if len(words := tokenize(text)) < evaluator.writer.length]
    human = [fits[i] for i in rng.choice(len(fits), min(1000, len(fits)), replace=False)]
    rows: list[Row] = []
    examples: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for done, kind in enumerate(kinds):
        repeated = [constraint for constraint in requested[kind] for _ in range(samples)]
        on_batch = None if progress is None else (lambda i, of, k=done: progress(k * of + i, len(kinds) * of))
        clock = time.process_time()
        ids = sample(repeated, range(len(repeated)), steps=steps, steering=steering, progress=on_batch)
        seconds[kind] = time.process_time() - clock
        sentences = writer.vocabulary.decode(ids)
        scores = score(sentences, repeated)
        groups, n = np.repeat(np.arange(len(requested[kind])), samples), len(repeated)
        for part, values in scores.items():
            interval = bootstrap(values, groups)
            rows.append(row("success", float(np.mean(values)), interval, n, source=OURS, control=kind, part=part))
        for part, value in PAPER.get(kind, {}).items():
            rows.append(row("success", value, source="paper", control=kind, part=part))
        nll, sizes = evaluator(sentences)
        interval = bootstrap(nll / sizes, groups, sizes)
        rows.append(row("NLL", nll.sum() / sizes.sum(), interval, n, source=OURS, control=kind))
        examples += [
            {"of": kind, "control": describe(repeated[i]), "text": detokenize(sentences[i])}
            | {part: float(values[i]) for part, values in scores.items()}
            for i in range(0, len(repeated), samples)
        ]
    if controls is None or "infilling" in controls:
        more, written, sentences = infilling(writer, sample, corpus, targets, samples, steps, rng)
        rows += [*more, row("NLL", evaluator.mean(sentences), n=len(sentences), source=OURS, control=INFILLING)]
        examples += written
    if mrs and writer.network.config["source"] and sample == writer.sample:
        more, written = data_to_text(writer, corpus, mrs, steps)
        rows, examples = rows + more, examples + written
    shuffled = [list(rng.permutation(words)) for words in human]
    for source, sentences in (("people", human), ("people, their words shuffled", shuffled)):
        rows.append(row("NLL", evaluator.mean(sentences), n=len(human), source=source))
    return Report(
        title=f"{targets} targets, {samples} sentences each; NLL: nats a word under e2e-evaluator.",
        system="language",
        model=facts(writer) | {"evaluator": evaluator.writer.hash},
        data={"name": Path(data).name},
        seeds=[seed],
        cpu_seconds=seconds,
        rows=rows,
        examples=examples,
    )


def facts(writer: Any) -> dict[str, Any]:
    """What was measured."""
    parameters = sum(p.numel() for p in writer.network.parameters())
    return {"sha256": writer.hash, "engine": writer.config["engine"], "parameters": parameters}


class EvaluatorLM:
    """-log p of sentences, nats, [END] included, under the shipped autoregressive model `e2e-evaluator`."""

    def __init__(self) -> None:
        self.writer = load("e2e-evaluator")

    def __call__(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Of each sentence, and how many words that is."""
        ids = self.writer.vocabulary.encode([detokenize(words) for words in sentences], self.writer.length)
        return baselines.nll(self.writer.network, torch.from_numpy(ids))

    def mean(self, sentences: Sequence[Sequence[str]]) -> float:
        """Of a word."""
        total, count = self(sentences)
        return float(total.sum() / count.sum())


def constraints(
    corpus: Corpus, classifier: Classifier, length: int, targets: int, rng: np.random.Generator
) -> dict[str, list[Constraints]]:
    """For each control its targets: values of fields at random, and what sentences of the corpus are like."""
    fits = [i for i in range(len(corpus)) if 4 <= len(tokenize(corpus.texts[i])) < length]
    if len(fits) < 12 * targets:
        raise UserError(
            f"{12 * targets} sentences of 4 to {length - 1} words are needed for {targets} targets, not {len(fits)}"
        )
    chosen = [fits[i] for i in rng.choice(len(fits), 12 * targets, replace=False)]
    words = [tokenize(corpus.texts[i]) for i in chosen]
    pairs = [(name, value) for name, of in classifier.fields.items() for value in of[1:]]
    values = [pairs[i] for i in rng.choice(len(pairs), min(targets, len(pairs)), replace=False)]
    out = {"none": [Constraints()] * targets}
    if values:
        out["semantic"] = [Constraints(fields={name: value}) for name, value in values]
    out["length"] = [Constraints(length=len(of)) for of in words[:targets]]
    if not classifier.tags:
        return out
    parses = list(grammar.parse(words))
    tags = {tag for tag, of in classifier.lexicon.items() if of.any()}
    trees = [i for i, parse in enumerate(parses) if parse.spans and set(parse.tags) <= tags]
    size = [len(of) for of in words]
    out["parts of speech"] = [Constraints(tags=tuple(parses[i].tags), length=size[i]) for i in trees[:targets]]
    out["tree"] = [Constraints(tree=tuple(parses[i].spans), length=size[i]) for i in trees[:targets]]
    inner = [i for i in trees if any(last - first + 1 < size[i] for first, last, _ in parses[i].spans)]
    out["span"] = []
    for i in inner[:targets]:
        spans = [span for span in parses[i].spans if span[1] - span[0] + 1 < size[i]]
        out["span"].append(Constraints(spans=(spans[rng.integers(len(spans))],)))
    both = []
    for i in trees:
        mentioned = [
            (name, value)
            for name, value in corpus.fields[chosen[i]].items()
            if value in classifier.fields.get(name, []) and mentions(corpus.texts[chosen[i]], value)
        ]
        if mentioned:
            both.append((i, dict([mentioned[rng.integers(len(mentioned))]])))
    for i, fields in both[:targets]:
        out.setdefault("semantic + parts of speech", []).append(
            Constraints(fields=fields, tags=tuple(parses[i].tags), length=size[i])
        )
        tree = Constraints(fields=fields, tree=tuple(parses[i].spans), length=size[i])
        out.setdefault("semantic + tree", []).append(tree)
        out.setdefault("semantic + length", []).append(Constraints(fields=fields, length=size[i]))
    return out


def infilling_constraint(words: Sequence[str]) -> Constraints:
    """A sentence without its middle third."""
    first, last = middle(len(words))
    hidden = [None if first <= i < last else word for i, word in enumerate(words)]
    return Constraints(words=tuple(hidden), length=len(words))


def middle(length: int) -> tuple[int, int]:
    """Where the middle third begins, and where it has ended."""
    third = max(length // 3, 1)
    return third, 2 * third


def infilling(
    writer: Any,
    sample: Sample,
    corpus: Corpus,
    targets: int,
    samples: int,
    steps: int | None,
    rng: np.random.Generator,
) -> tuple[list[Row], list[dict[str, Any]], list[list[str]]]:
    """The middle third of sentences, written anew: BLEU and ROUGE-L (%) beside the words of the original, of one
    sentence and of the one of least risk among `samples`; and how many of the words are the very same. Rows, examples
    and all the sentences."""
    ids = writer.vocabulary.ids
    fits = [of for text in corpus.texts if 9 <= len(of := tokenize(text)) < writer.length and min(ids(of)) > UNKNOWN]
    chosen = [fits[i] for i in rng.choice(len(fits), min(targets, len(fits)), replace=False)]
    requested = [infilling_constraint(of) for of in chosen for _ in range(samples)]
    sentences = writer.vocabulary.decode(sample(requested, range(len(requested)), steps=steps))
    thirds = [slice(*middle(len(of))) for of in chosen]
    truths = [of[third] for of, third in zip(chosen, thirds, strict=True)]
    groups = [
        [sentence[third] for sentence in sentences[i * samples : (i + 1) * samples]] for i, third in enumerate(thirds)
    ]
    best = [group[metrics.mbr(group)] for group in groups]
    same = [
        np.mean([a == b for a, b in zip(group[0], truth, strict=False)])
        for group, truth in zip(groups, truths, strict=True)
    ]
    references = [[" ".join(truth)] for truth in truths]
    rows = similarity([" ".join(group[0]) for group in groups], references, INFILLING, "one")
    rows += similarity([" ".join(words) for words in best], references, INFILLING, "MBR")
    rows.append(row("same words", float(np.mean(same)), n=len(same), source=OURS, control=INFILLING, chosen="one"))
    examples = [
        {"of": INFILLING, "control": " ".join(truth), "text": detokenize(sentence)}
        for truth, sentence in zip(truths, sentences[::samples], strict=True)
    ]
    return rows, examples, sentences


def data_to_text(
    writer: Any, corpus: Corpus, mrs: int, steps: int | None, candidates: int = 5
) -> tuple[list[Row], list[dict[str, Any]]]:
    """A sentence for each of the first `mrs` meaning representations: BLEU and ROUGE-L (%) beside all that people
    wrote for it; of one, and of the one of least risk among five. Rows and examples."""
    references: dict[str, list[str]] = {}
    for fields, text in zip(corpus.fields, corpus.texts, strict=True):
        references.setdefault(linearize_mr(fields), []).append(text)
    sources = list(references)[:mrs]
    repeated = [source for source in sources for _ in range(candidates)]
    ids = writer.sample([Constraints()] * len(repeated), range(len(repeated)), repeated, steps=steps)
    texts = [detokenize(words) for words in writer.vocabulary.decode(ids)]
    groups = [texts[i : i + candidates] for i in range(0, len(texts), candidates)]
    best = [group[metrics.mbr([tokenize(text) for text in group])] for group in groups]
    truths = [references[source] for source in sources]
    rows = similarity([group[0] for group in groups], truths, DATA_TO_TEXT, "one")
    rows += similarity(best, truths, DATA_TO_TEXT, "MBR")
    examples = [
        {"of": DATA_TO_TEXT, "control": source, "text": text, "person": truth[0]}
        for source, text, truth in list(zip(sources, best, truths, strict=True))[:20]
    ]
    return rows, examples


def similarity(texts: list[str], references: list[list[str]], control: str, chosen: str) -> list[Row]:
    """Corpus BLEU-4 and mean ROUGE-L, each in percent, beside one or more texts."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu

    columns = [[of or "" for of in column] for column in zip_longest(*references)]
    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score_multi(of, text)["rougeL"].fmeasure for of, text in zip(references, texts, strict=True)]
    keys: dict[str, Any] = {"n": len(texts), "source": OURS, "control": control, "chosen": chosen}
    bleu = corpus_bleu(texts, columns).score
    return [row("BLEU", bleu, **keys), row("ROUGE-L", 100 * float(np.mean(rouge)), **keys)]


def score(sentences: list[list[str]], requested: Sequence[Constraints]) -> dict[str, list[float]]:
    """How well each sentence keeps to each part of its constraints, 0 to 1."""
    out: dict[str, list[float]] = {}
    parses = list(grammar.parse(sentences)) if any(w.tags or w.spans or w.tree is not None for w in requested) else []
    for i, (words, constraint) in enumerate(zip(sentences, requested, strict=True)):
        found: dict[str, float] = {}
        if constraint.fields:
            found["semantic"] = metrics.semantic(detokenize(words), constraint)
        if constraint.tags:
            found["parts of speech"] = metrics.tags(parses[i], constraint)
        if constraint.tree is not None:
            found["tree"] = metrics.tree(parses[i], constraint)
        if constraint.spans:
            found["span"] = metrics.span(parses[i], constraint)
        if constraint.length is not None and not (constraint.tags or constraint.tree is not None):
            found["length"] = float(len(words) == constraint.length)
        for name, value in found.items():
            out.setdefault(name, []).append(value)
    return out


def describe(constraint: Constraints) -> str:
    """A constraint, in short."""
    parts = [f"{name}={value}" for name, value in constraint.fields.items()]
    if constraint.words:
        parts.append(" ".join(word or "_" for word in constraint.words))
    if constraint.tags:
        parts.append(" ".join(constraint.tags))
    if constraint.tree is not None:
        parts.append(" ".join(f"{i + 1}-{j + 1}:{label}" for i, j, label in constraint.tree))
    if constraint.length:
        parts.append(f"{constraint.length} words")
    parts += [f"{i + 1}-{j + 1}:{label}" for i, j, label in constraint.spans]
    return ", ".join(parts) or "nothing"


def best_of(baseline: Any, writer: Any, n: int, pool: int = 300) -> Sample:
    """The baseline's `sample`: of n sentences of a plain autoregressive model (a `Writer`) the one that the writer's
    classifier likes best, out of `pool` that are sampled once for each length and beginning.

    It is held to given words and a length, but from left to right: it does not foresee them.
    """
    pools: dict[str, np.ndarray] = {}

    def sample(requested: Sequence[Constraints], seeds: Sequence[int], **_: Any) -> np.ndarray:
        if not any(constraint.steered for constraint in requested):
            return reencode(baseline.sample(requested, seeds))
        return np.stack([best(constraint, seed) for constraint, seed in zip(requested, seeds, strict=True)])

    def reencode(ids: np.ndarray) -> np.ndarray:  # the two may have other vocabularies
        texts = [detokenize(words) for words in baseline.vocabulary.decode(ids)]
        encoded: np.ndarray = writer.vocabulary.encode(texts, writer.length)
        return encoded

    def best(constraint: Constraints, seed: int) -> np.ndarray:
        key = str((constraint.words, constraint.length))
        if key not in pools:
            pools[key] = reencode(
                baseline.sample([Constraints(words=constraint.words, length=constraint.length)] * pool, range(pool))
            )
        ids = pools[key][np.random.default_rng(seed).choice(pool, n, replace=False)]
        level = engines.denoiser(writer.network).process.at(EARLY)
        x = writer.noised(torch.from_numpy(ids), torch.full((n,), EARLY), torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return np.asarray(ids[int(writer.classifier.score([constraint] * n)(x, level).argmax())])

    return sample
