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
from inkwash.systems.language.controls import Reading, Wish
from inkwash.systems.language.data import Corpus, mentions, read_corpus, said
from inkwash.systems.language.vocabulary import join, split
from inkwash.systems.report import Report, Row, bootstrap, row

EARLY = 0.01  # a time at which a reader sees nearly clean words
Progress = Callable[[int, int], None]
# rows of sentences for wishes and seeds; a `Writer`'s `draw`, or a rival's
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
GAP, SPOKEN = "the middle third of a sentence", "a sentence for a meaning"  # what else is asked
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
    meanings: int = 100,
    progress: Progress | None = None,
) -> Report:
    """The report of a writer with a reader, on sentences that it has not seen (E2E's development set): for each
    control `targets` targets and `samples` sentences each, their success, and their fluency, -log p of a word under
    the model `e2e-judge`, beside human sentences and the same with their words shuffled.

    draw: makes the sentences instead of the writer (`best_of`). meanings: of so many, sentences are made too, if the
    writer reads sources.
    """
    if writer.reading is None:
        raise UserError(
            "this model has no reader, so nothing but words can be asked of it: there is no table to make"
        )
    metrics.needs("this table", "sacrebleu", "rouge_score", *(["spacy"] if writer.reading.tags else []))
    corpus, judge, draw = read_corpus(data), Judge(), draw or writer.draw
    rng = np.random.default_rng(seed)
    asked = wishes(corpus, writer.reading, writer.length, targets, rng)
    kinds = [kind for kind in asked if controls is None or kind in controls]
    fits = [words for text in corpus.texts if len(words := split(text)) < judge.writer.length]
    human = [fits[i] for i in rng.choice(len(fits), min(1000, len(fits)), replace=False)]
    rows: list[Row] = []
    examples: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for done, kind in enumerate(kinds):
        repeated = [wanted for wanted in asked[kind] for _ in range(samples)]
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
        each, sizes = judge(sentences)
        interval = bootstrap(each / sizes, groups, sizes)
        rows.append(row("surprise", each.sum() / sizes.sum(), interval, n, source=OURS, asked=kind))
        examples += [
            {"of": kind, "asked": typed(repeated[i]), "text": join(sentences[i])}
            | {part: float(values[i]) for part, values in scores.items()}
            for i in range(0, len(repeated), samples)
        ]
    if controls is None or "infilling" in controls:
        more, found, sentences = infilling(writer, draw, corpus, targets, samples, steps, rng)
        rows += [*more, row("surprise", judge.mean(sentences), n=len(sentences), source=OURS, asked=GAP)]
        examples += found
    if meanings and writer.network.config["source"] and draw == writer.draw:
        more, found = spoken(writer, corpus, meanings, steps)
        rows, examples = rows + more, examples + found
    shuffled = [list(rng.permutation(words)) for words in human]
    for source, sentences in (("people", human), ("people, their words shuffled", shuffled)):
        rows.append(row("surprise", judge.mean(sentences), n=len(human), source=source))
    return Report(
        title=f"{targets} targets, {samples} sentences each; surprise: nats a word under e2e-judge.",
        system="language",
        model=facts(writer) | {"judge": judge.writer.hash},
        data={"name": Path(data).name},
        seeds=[seed],
        cpu_seconds=seconds,
        rows=rows,
        examples=examples,
    )


def facts(writer: Any) -> dict[str, Any]:
    """What was measured."""
    parameters = sum(p.numel() for p in writer.network.parameters())
    return {"sha256": writer.hash, "engine": writer.info["engine"], "parameters": parameters}


class Judge:
    """-log p of sentences, nats, [END] included, under the shipped autoregressive model `e2e-judge`."""

    def __init__(self) -> None:
        self.writer = load("e2e-judge")

    def __call__(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Of each sentence, and how many words that is."""
        rows = self.writer.words.encode([join(words) for words in sentences], self.writer.length)
        return baselines.surprise(self.writer.network, torch.from_numpy(rows))

    def mean(self, sentences: Sequence[Sequence[str]]) -> float:
        """Of a word."""
        total, count = self(sentences)
        return float(total.sum() / count.sum())


def wishes(
    corpus: Corpus, reading: Reading, length: int, targets: int, rng: np.random.Generator
) -> dict[str, list[Wish]]:
    """What is asked: values of fields at random, and what sentences of the corpus are like."""
    fits = [i for i in range(len(corpus)) if 4 <= len(split(corpus.texts[i])) < length]
    if len(fits) < 12 * targets:
        raise UserError(
            f"{12 * targets} sentences of 4 to {length - 1} words are needed for {targets} targets, not {len(fits)}"
        )
    chosen = [fits[i] for i in rng.choice(len(fits), 12 * targets, replace=False)]
    words = [split(corpus.texts[i]) for i in chosen]
    pairs = [(name, value) for name, of in reading.fields.items() for value in of[1:]]
    picked = [pairs[i] for i in rng.choice(len(pairs), min(targets, len(pairs)), replace=False)]
    out = {"none": [Wish()] * targets, "semantic": [Wish(fields={name: value}) for name, value in picked]}
    out["length"] = [Wish(length=len(of)) for of in words[:targets]]
    if not picked:
        del out["semantic"]
    if not reading.tags:
        return out
    parses = list(grammar.parse(words))
    known = {tag for tag, of in reading.lexicon.items() if of.any()}
    trees = [i for i, parse in enumerate(parses) if parse.spans and set(parse.tags) <= known]
    size = [len(of) for of in words]
    out["parts of speech"] = [Wish(tags=tuple(parses[i].tags), length=size[i]) for i in trees[:targets]]
    out["tree"] = [Wish(tree=tuple(parses[i].spans), length=size[i]) for i in trees[:targets]]
    inner = [i for i in trees if any(last - first + 1 < size[i] for first, last, _ in parses[i].spans)]
    out["span"] = []
    for i in inner[:targets]:
        parts = [part for part in parses[i].spans if part[1] - part[0] + 1 < size[i]]
        out["span"].append(Wish(spans=(parts[rng.integers(len(parts))],)))
    both = []
    for i in trees:
        told = [
            (name, value)
            for name, value in corpus.fields[chosen[i]].items()
            if value in reading.fields.get(name, []) and mentions(corpus.texts[chosen[i]], value)
        ]
        if told:
            both.append((i, dict([told[rng.integers(len(told))]])))
    if not (kept := both[:targets]):
        return out
    out["semantic + parts of speech"] = [Wish(fields=f, tags=tuple(parses[i].tags), length=size[i]) for i, f in kept]
    out["semantic + tree"] = [Wish(fields=f, tree=tuple(parses[i].spans), length=size[i]) for i, f in kept]
    out["semantic + length"] = [Wish(fields=f, length=size[i]) for i, f in kept]
    return out


def gap(words: Sequence[str]) -> Wish:
    """The middle third of a sentence is to be written."""
    first, last = middle(len(words))
    hidden = [None if first <= i < last else word for i, word in enumerate(words)]
    return Wish(words=tuple(hidden), length=len(words))


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
    known = writer.words.numbers
    fits = [of for text in corpus.texts if 9 <= len(of := split(text)) < writer.length and min(known(of)) > 3]
    chosen = [fits[i] for i in rng.choice(len(fits), min(targets, len(fits)), replace=False)]
    asked = [gap(of) for of in chosen for _ in range(samples)]
    made = writer.words.decode(draw(asked, range(len(asked)), steps=steps))
    parts = [middle(len(of)) for of in chosen]
    truths = [of[first:last] for of, (first, last) in zip(chosen, parts, strict=True)]
    groups = [
        [sentence[first:last] for sentence in made[i * samples : (i + 1) * samples]]
        for i, (first, last) in enumerate(parts)
    ]
    best = [group[metrics.least_risk(group)] for group in groups]
    same = [
        np.mean([a == b for a, b in zip(group[0], truth, strict=False)])
        for group, truth in zip(groups, truths, strict=True)
    ]
    people = [[" ".join(truth)] for truth in truths]
    rows = likeness([" ".join(group[0]) for group in groups], people, GAP, "one")
    rows += likeness([" ".join(words) for words in best], people, GAP, "least risk")
    rows.append(row("same words", np.mean(same), n=len(same), source=OURS, asked=GAP, chosen="one"))
    examples = [
        {"of": GAP, "asked": " ".join(truth), "text": join(sentence)}
        for truth, sentence in zip(truths, made[::samples], strict=True)
    ]
    return rows, examples, made


def spoken(
    writer: Any, corpus: Corpus, meanings: int, steps: int | None, candidates: int = 5
) -> tuple[list[Row], list[dict[str, Any]]]:
    """A sentence for each of the first `meanings` meanings: BLEU and ROUGE-L (%) beside all that people wrote for it;
    of one, and of the one of least risk among five. Rows and examples."""
    people: dict[str, list[str]] = {}
    for fields, text in zip(corpus.fields, corpus.texts, strict=True):
        people.setdefault(said(fields), []).append(text)
    sources = list(people)[:meanings]
    told = [source for source in sources for _ in range(candidates)]
    texts = [
        join(words)
        for words in writer.words.decode(writer.draw([Wish()] * len(told), range(len(told)), told, steps=steps))
    ]
    groups = [texts[i : i + candidates] for i in range(0, len(texts), candidates)]
    best = [group[metrics.least_risk([split(text) for text in group])] for group in groups]
    truths = [people[source] for source in sources]
    rows = likeness([group[0] for group in groups], truths, SPOKEN, "one")
    rows += likeness(best, truths, SPOKEN, "least risk")
    examples = [
        {"of": SPOKEN, "asked": source, "text": text, "person": truth[0]}
        for source, text, truth in list(zip(sources, best, truths, strict=True))[:20]
    ]
    return rows, examples


def likeness(texts: list[str], truths: list[list[str]], asked: str, chosen: str) -> list[Row]:
    """Corpus BLEU-4 and mean ROUGE-L, each in percent, beside one or more texts."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu

    most = max(map(len, truths))
    columns = [[of[k] if k < len(of) else "" for of in truths] for k in range(most)]
    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score_multi(of, text)["rougeL"].fmeasure for of, text in zip(truths, texts, strict=True)]
    of: dict[str, Any] = {"n": len(texts), "source": OURS, "asked": asked, "chosen": chosen}
    return [row("BLEU", corpus_bleu(texts, columns).score, **of), row("ROUGE-L", 100 * np.mean(rouge), **of)]


def score(sentences: list[list[str]], asked: Sequence[Wish]) -> dict[str, list[float]]:
    """How well each sentence keeps to each part of its wish, 0 to 1."""
    out: dict[str, list[float]] = {}
    parses = list(grammar.parse(sentences)) if any(w.tags or w.spans or w.tree is not None for w in asked) else []
    for i, (words, wanted) in enumerate(zip(sentences, asked, strict=True)):
        found: dict[str, float] = {}
        if wanted.fields:
            found["semantic"] = metrics.semantic(join(words), wanted)
        if wanted.tags:
            found["parts of speech"] = metrics.tags(parses[i], wanted)
        if wanted.tree is not None:
            found["tree"] = metrics.tree(parses[i], wanted)
        if wanted.spans:
            found["span"] = metrics.span(parses[i], wanted)
        if wanted.length is not None and not (wanted.tags or wanted.tree is not None):
            found["length"] = float(len(words) == wanted.length)
        for name, value in found.items():
            out.setdefault(name, []).append(value)
    return out


def typed(wanted: Wish) -> str:
    """What is asked, in short."""
    parts = [f"{name}={value}" for name, value in wanted.fields.items()]
    if wanted.words:
        parts.append(" ".join(word or "_" for word in wanted.words))
    if wanted.tags:
        parts.append(" ".join(wanted.tags))
    if wanted.tree is not None:
        parts.append(" ".join(f"{i + 1}-{j + 1}:{label}" for i, j, label in wanted.tree))
    if wanted.length:
        parts.append(f"{wanted.length} words")
    parts += [f"{i + 1}-{j + 1}:{label}" for i, j, label in wanted.spans]
    return ", ".join(parts) or "nothing"


def best_of(rival: Any, writer: Any, n: int, pool: int = 300) -> Draw:
    """The rival: of n sentences of a plain autoregressive model (a `Writer` of engine next) the one that the writer's
    reader likes best, out of `pool` that are drawn once for each length and beginning that is asked.

    Given words and a length it is held to, but from left to right: it does not foresee them.
    """
    pools: dict[str, np.ndarray] = {}

    def draw(asked: Sequence[Wish], seeds: Sequence[int], **ignored: Any) -> np.ndarray:
        if not any(wanted.steered for wanted in asked):
            return ours(rival.draw(asked, seeds))
        return np.stack([best(wanted, seed) for wanted, seed in zip(asked, seeds, strict=True)])

    def ours(rows: np.ndarray) -> np.ndarray:  # the two may know other words
        return writer.words.encode([join(words) for words in rival.words.decode(rows)], writer.length)

    def best(wanted: Wish, seed: int) -> np.ndarray:
        key = str((wanted.words, wanted.length))
        if key not in pools:
            pools[key] = ours(rival.draw([Wish(words=wanted.words, length=wanted.length)] * pool, range(pool)))
        rows = pools[key][np.random.default_rng(seed).choice(pool, n, replace=False)]
        level = engines.denoiser(writer.network).process.at(EARLY)
        x = writer.noised(torch.from_numpy(rows), torch.full((n,), EARLY), torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return rows[int(writer.reading.score([wanted] * n)(x, level).argmax())]

    return draw
