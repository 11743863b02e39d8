"""Whether sentences keep to what was asked, and how fluent they are, beside human text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inkwash.errors import UserError
from inkwash.systems import load
from inkwash.systems.language import baselines, engines, grammar, metrics
from inkwash.systems.language.controls import Classifier, Constraints
from inkwash.systems.language.data import Corpus, linearize_mr, mentions, read_corpus
from inkwash.systems.language.vocabulary import detokenize, tokenize
from inkwash.systems.report import Report, Row, bootstrap, row

EARLY = 0.01  # a time at which a classifier sees nearly clean words
Progress = Callable[[int, int], None]
# rows of sentences for constraints and seeds; a `Writer`'s `sample`, or a baseline's
Draw = Callable[..., np.ndarray]
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
GAP, DATA_TO_TEXT = "the middle third of a sentence", "data-to-text"  # what else is asked
OURS = "this model"  # a source; others are "paper" and what people wrote


def evaluate(
    writer: Any,
    data: str | Path,
    targets: int = 40,
    samples: int = 10,
    seed: int = 0,
    controls: Sequence[str] | None = None,
    draw: Draw | None = None,
    steering: Any = None,
    steps: int | None = None,
    mrs: int = 100,
    progress: Progress | None = None,
) -> Report:
    """The report of a writer with a classifier, on sentences that it has not seen (E2E's development set): for each
    control `targets` targets and `samples` sentences each, their success, and their fluency, -log p of a word under
    the model `e2e-evaluator`, beside human sentences and the same with their words shuffled.

    draw: makes the sentences instead of the writer (`best_of`). mrs: of so many, sentences are made too, if the
    writer reads sources.
    """
    if writer.classifier is None:
        raise UserError(
            "this model has no classifier, so nothing but words can be asked of it: there is no table to make"
        )
    metrics.needs("this table", "sacrebleu", "rouge_score", *(["spacy"] if writer.classifier.tags else []))
    corpus, evaluator, draw = read_corpus(data), EvaluatorLM(), draw or writer.sample
    rng = np.random.default_rng(seed)
    asked = constraints(corpus, writer.classifier, writer.length, targets, rng)
    kinds = [kind for kind in asked if controls is None or kind in controls]
    fits = [words for text in corpus.texts if len(words := tokenize(text)) < evaluator.writer.length]
    human = [fits[i] for i in rng.choice(len(fits), min(1000, len(fits)), replace=False)]
    rows: list[Row] = []
    examples: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for done, kind in enumerate(kinds):
        repeated = [constraint for constraint in asked[kind] for _ in range(samples)]
        report = None if progress is None else (lambda i, of, k=done: progress(k * of + i, len(kinds) * of))
        clock = time.process_time()
        made = draw(repeated, range(len(repeated)), steps=steps, steering=steering, progress=report)
        seconds[kind] = time.process_time() - clock
        sentences = writer.words.decode(made)
        scores = score(sentences, repeated)
        groups, n = np.repeat(np.arange(len(asked[kind])), samples), len(repeated)
        for part, values in scores.items():
            interval = bootstrap(values, groups)
            rows.append(row("success", np.mean(values), interval, n, source=OURS, asked=kind, part=part))
        for part, value in PAPER.get(kind, {}).items():
            rows.append(row("success", value, source="paper", asked=kind, part=part))
        each, sizes = evaluator(sentences)
        interval = bootstrap(each / sizes, groups, sizes)
        rows.append(row("NLL", each.sum() / sizes.sum(), interval, n, source=OURS, asked=kind))
        examples += [
            {"of": kind, "asked": describe(repeated[i]), "text": detokenize(sentences[i])}
            | {part: float(values[i]) for part, values in scores.items()}
            for i in range(0, len(repeated), samples)
        ]
    if controls is None or "infilling" in controls:
        more, found, sentences = infilling(writer, draw, corpus, targets, samples, steps, rng)
        rows += [*more, row("NLL", evaluator.mean(sentences), n=len(sentences), source=OURS, asked=GAP)]
        examples += found
    if mrs and writer.network.config["source"] and draw == writer.sample:
        more, found = data_to_text(writer, corpus, mrs, steps)
        rows, examples = rows + more, examples + found
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
        rows = self.writer.words.encode([detokenize(words) for words in sentences], self.writer.length)
        return baselines.nll(self.writer.network, torch.from_numpy(rows))

    def mean(self, sentences: Sequence[Sequence[str]]) -> float:
        """Of a word."""
        total, count = self(sentences)
        return float(total.sum() / count.sum())


def constraints(
    corpus: Corpus, classifier: Classifier, length: int, targets: int, rng: np.random.Generator
) -> dict[str, list[Constraints]]:
    """What is asked: values of fields at random, and what sentences of the corpus are like."""
    fits = [i for i in range(len(corpus)) if 4 <= len(tokenize(corpus.texts[i])) < length]
    if len(fits) < 12 * targets:
        raise UserError(
            f"{12 * targets} sentences of 4 to {length - 1} words are needed for {targets} targets, not {len(fits)}"
        )
    chosen = [fits[i] for i in rng.choice(len(fits), 12 * targets, replace=False)]
    words = [tokenize(corpus.texts[i]) for i in chosen]
    pairs = [(name, value) for name, of in classifier.fields.items() for value in of[1:]]
    picked = [pairs[i] for i in rng.choice(len(pairs), min(targets, len(pairs)), replace=False)]
    out = {
        "none": [Constraints()] * targets,
        "semantic": [Constraints(fields={name: value}) for name, value in picked],
    }
    out["length"] = [Constraints(length=len(of)) for of in words[:targets]]
    if not picked:
        del out["semantic"]
    if not classifier.tags:
        return out
    parses = list(grammar.parse(words))
    known = {tag for tag, of in classifier.lexicon.items() if of.any()}
    trees = [i for i, parse in enumerate(parses) if parse.spans and set(parse.tags) <= known]
    size = [len(of) for of in words]
    out["parts of speech"] = [Constraints(tags=tuple(parses[i].tags), length=size[i]) for i in trees[:targets]]
    out["tree"] = [Constraints(tree=tuple(parses[i].spans), length=size[i]) for i in trees[:targets]]
    inner = [i for i in trees if any(last - first + 1 < size[i] for first, last, _ in parses[i].spans)]
    out["span"] = []
    for i in inner[:targets]:
        parts = [part for part in parses[i].spans if part[1] - part[0] + 1 < size[i]]
        out["span"].append(Constraints(spans=(parts[rng.integers(len(parts))],)))
    both = []
    for i in trees:
        told = [
            (name, value)
            for name, value in corpus.fields[chosen[i]].items()
            if value in classifier.fields.get(name, []) and mentions(corpus.texts[chosen[i]], value)
        ]
        if told:
            both.append((i, dict([told[rng.integers(len(told))]])))
    if not (kept := both[:targets]):
        return out
    out["semantic + parts of speech"] = [
        Constraints(fields=f, tags=tuple(parses[i].tags), length=size[i]) for i, f in kept
    ]
    out["semantic + tree"] = [Constraints(fields=f, tree=tuple(parses[i].spans), length=size[i]) for i, f in kept]
    out["semantic + length"] = [Constraints(fields=f, length=size[i]) for i, f in kept]
    return out


def gap(words: Sequence[str]) -> Constraints:
    """The middle third of a sentence is to be written."""
    first, last = middle(len(words))
    hidden = [None if first <= i < last else word for i, word in enumerate(words)]
    return Constraints(words=tuple(hidden), length=len(words))


def middle(length: int) -> tuple[int, int]:
    """Where the middle third begins, and where it has ended."""
    third = max(length // 3, 1)
    return third, 2 * third


def infilling(
    writer: Any, draw: Draw, corpus: Corpus, targets: int, samples: int, steps: int | None, rng: np.random.Generator
) -> tuple[list[Row], list[dict[str, Any]], list[list[str]]]:
    """The middle third of sentences, written anew: BLEU and ROUGE-L (%) beside the words that were there, of one
    sentence and of the one of least risk among `samples`; and how many of the words are the very same. Rows, examples
    and all the sentences."""
    known = writer.words.ids
    fits = [of for text in corpus.texts if 9 <= len(of := tokenize(text)) < writer.length and min(known(of)) > 3]
    chosen = [fits[i] for i in rng.choice(len(fits), min(targets, len(fits)), replace=False)]
    asked = [gap(of) for of in chosen for _ in range(samples)]
    made = writer.words.decode(draw(asked, range(len(asked)), steps=steps))
    parts = [middle(len(of)) for of in chosen]
    truths = [of[first:last] for of, (first, last) in zip(chosen, parts, strict=True)]
    groups = [
        [sentence[first:last] for sentence in made[i * samples : (i + 1) * samples]]
        for i, (first, last) in enumerate(parts)
    ]
    best = [group[metrics.mbr(group)] for group in groups]
    same = [
        np.mean([a == b for a, b in zip(group[0], truth, strict=False)])
        for group, truth in zip(groups, truths, strict=True)
    ]
    people = [[" ".join(truth)] for truth in truths]
    rows = similarity([" ".join(group[0]) for group in groups], people, GAP, "one")
    rows += similarity([" ".join(words) for words in best], people, GAP, "MBR")
    rows.append(row("same words", np.mean(same), n=len(same), source=OURS, asked=GAP, chosen="one"))
    examples = [
        {"of": GAP, "asked": " ".join(truth), "text": detokenize(sentence)}
        for truth, sentence in zip(truths, made[::samples], strict=True)
    ]
    return rows, examples, made


def data_to_text(
    writer: Any, corpus: Corpus, mrs: int, steps: int | None, candidates: int = 5
) -> tuple[list[Row], list[dict[str, Any]]]:
    """A sentence for each of the first `mrs` meaning representations: BLEU and ROUGE-L (%) beside all that people
    wrote for it; of one, and of the one of least risk among five. Rows and examples."""
    people: dict[str, list[str]] = {}
    for fields, text in zip(corpus.fields, corpus.texts, strict=True):
        people.setdefault(linearize_mr(fields), []).append(text)
    sources = list(people)[:mrs]
    told = [source for source in sources for _ in range(candidates)]
    texts = [
        detokenize(words)
        for words in writer.words.decode(
            writer.sample([Constraints()] * len(told), range(len(told)), told, steps=steps)
        )
    ]
    groups = [texts[i : i + candidates] for i in range(0, len(texts), candidates)]
    best = [group[metrics.mbr([tokenize(text) for text in group])] for group in groups]
    truths = [people[source] for source in sources]
    rows = similarity([group[0] for group in groups], truths, DATA_TO_TEXT, "one")
    rows += similarity(best, truths, DATA_TO_TEXT, "MBR")
    examples = [
        {"of": DATA_TO_TEXT, "asked": source, "text": text, "person": truth[0]}
        for source, text, truth in list(zip(sources, best, truths, strict=True))[:20]
    ]
    return rows, examples


def similarity(texts: list[str], truths: list[list[str]], asked: str, chosen: str) -> list[Row]:
    """Corpus BLEU-4 and mean ROUGE-L, each in percent, beside one or more texts."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu

    most = max(map(len, truths))
    columns = [[of[k] if k < len(of) else "" for of in truths] for k in range(most)]
    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score_multi(of, text)["rougeL"].fmeasure for of, text in zip(truths, texts, strict=True)]
    of: dict[str, Any] = {"n": len(texts), "source": OURS, "asked": asked, "chosen": chosen}
    return [row("BLEU", corpus_bleu(texts, columns).score, **of), row("ROUGE-L", 100 * np.mean(rouge), **of)]


def score(sentences: list[list[str]], asked: Sequence[Constraints]) -> dict[str, list[float]]:
    """How well each sentence keeps to each part of its constraints, 0 to 1."""
    out: dict[str, list[float]] = {}
    parses = list(grammar.parse(sentences)) if any(w.tags or w.spans or w.tree is not None for w in asked) else []
    for i, (words, constraint) in enumerate(zip(sentences, asked, strict=True)):
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
    """What is asked, in short."""
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


def best_of(baseline: Any, writer: Any, n: int, pool: int = 300) -> Draw:
    """The baseline's `sample`: of n sentences of a plain autoregressive model (a `Writer`) the one that the writer's
    classifier likes best, out of `pool` that are drawn once for each length and beginning that is asked.

    Given words and a length it is held to, but from left to right: it does not foresee them.
    """
    pools: dict[str, np.ndarray] = {}

    def draw(asked: Sequence[Constraints], seeds: Sequence[int], **ignored: Any) -> np.ndarray:
        if not any(constraint.steered for constraint in asked):
            return ours(baseline.sample(asked, seeds))
        return np.stack([best(constraint, seed) for constraint, seed in zip(asked, seeds, strict=True)])

    def ours(rows: np.ndarray) -> np.ndarray:  # the two may know other words
        return writer.words.encode([detokenize(words) for words in baseline.words.decode(rows)], writer.length)

    def best(constraint: Constraints, seed: int) -> np.ndarray:
        key = str((constraint.words, constraint.length))
        if key not in pools:
            pools[key] = ours(
                baseline.sample([Constraints(words=constraint.words, length=constraint.length)] * pool, range(pool))
            )
        rows = pools[key][np.random.default_rng(seed).choice(pool, n, replace=False)]
        level = engines.denoiser(writer.network).process.at(EARLY)
        x = writer.noised(torch.from_numpy(rows), torch.full((n,), EARLY), torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return rows[int(writer.classifier.score([constraint] * n)(x, level).argmax())]

    return draw
