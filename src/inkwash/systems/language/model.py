"""Sentences that keep to what is asked: Diffusion-LM (Li et al. 2022, 2205.14217), and masked diffusion beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.diffusion.categorical import invert
from inkwash.diffusion.denoiser import Denoise
from inkwash.diffusion.guides import Hook, nearest
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.base import check_seed
from inkwash.systems.language import baselines, engines
from inkwash.systems.language.controls import Classifier, Constraints, allowed_mask
from inkwash.systems.language.metrics import mbr
from inkwash.systems.language.networks import (
    ClassifierNetwork,
    ContinuousDenoiser,
    MaskedDenoiser,
    WordNetwork,
)
from inkwash.systems.language.vocabulary import Vocabulary, detokenize, tokenize
from inkwash.systems.torch_model import TorchModel
from inkwash.weights.files import atomic, load_into, save_tensors
from inkwash.weights.shipped import locate

if TYPE_CHECKING:
    from inkwash.systems.report import Report

BATCH_SIZE = 64  # sentences that are sampled together


@dataclass(frozen=True)
class Steering:
    """How hard a classifier leads: options of `gradient_control`, and `scale` and `candidates` of `reweighted`."""

    lr: float = 0.3
    lambda_: float = 0.005
    updates: int = 2
    t_min: float = 0.05
    scale: float = 3.0
    candidates: int = 16


class Batch(NamedTuple):
    """Sentences that are sampled together: seeds, sources, allowed words (B, L, symbols), the classifier's
    log-probability if one steers, and what `Writer.sample` takes."""

    seeds: Sequence[int]
    condition: dict[str, Tensor]
    allowed: Tensor
    log_prob: Callable[..., Tensor] | None
    steps: int
    temperature: float
    guidance: float
    steering: Steering
    progress: Callable[[int, int], None] | None


class Writer(TorchModel):
    """A model of sentences.

    >>> writer = inkwash.load("e2e")
    >>> writer.write(3, constraints=parse_constraints(fields=["food=Italian"], length=12), seed=7)
    """

    system = "language"
    network: WordNetwork

    def __init__(
        self,
        network: WordNetwork,
        vocabulary: Vocabulary,
        config: dict[str, Any],
        classifier: Classifier | None = None,
    ) -> None:
        self.network, self.vocabulary, self.config, self.classifier = network, vocabulary, config, classifier

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Writer:
        facts["steps"], facts["temperature"], facts["guidance"], facts["needs_source"]
        return cls(engines.NETWORKS[facts["engine"]](**facts["network"]), Vocabulary(facts["words"]), facts)

    def facts(self) -> dict[str, Any]:
        return self.config | {"network": self.network.config, "words": self.vocabulary.words}

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu", *how: Any, **more: Any) -> Writer:
        writer = super().load(name, device, *how, **more)
        writer.classifier = load_classifier(locate(name), device)
        return writer

    def save(self, folder: str | Path) -> None:
        """And the same two files of its classifier, if it has one."""
        super().save(folder)
        if self.classifier is not None:
            save_classifier(self.classifier, Path(folder))

    @property
    def length(self) -> int:
        """Of the longest sentence, [END] included."""
        return int(self.network.config["length"])

    def write(
        self,
        n: int = 1,
        constraints: Constraints | None = None,
        source: str | None = None,
        seed: int = 0,
        *,
        steps: int | None = None,
        temperature: float | None = None,
        guidance: float | None = None,
        candidates: int = 1,
        steering: Steering | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """n sentences that keep to the constraints; made from `source` where the model reads sources.

        temperature: below 1 likely words are drawn more often. guidance: how closely to follow the source.
        candidates: of so many sentences the one with the least risk is taken, see `metrics.mbr`. The sentence
        of a seed is the same among any others.
        Raises UserError for what the model does not know and for constraints that cannot be met.
        """
        if n < 1 or not 1 <= candidates <= 1024:
            raise UserError(f"n = {n}, candidates = {candidates}: at least 1 of each, and at most 1024 candidates")
        check_seed(seed)
        if candidates > 1:
            require("the choice among candidates", "sacrebleu")
        if source:
            self.source_condition([source])
            self.vocabulary.known_ids(tokenize(source))
        if steps is not None and steps < 1:
            raise UserError(f"steps = {steps}: at least 1 is needed")
        if temperature is not None and not 0 < temperature < 100:
            raise UserError(f"temperature {temperature}: a number above 0 is needed, 1 as the model has learned")
        seeds = [diffusion.child_seed((seed + i) % 2**64, c) for i in range(n) for c in range(candidates)]
        ids = self.sample(
            [constraints or Constraints()] * len(seeds), seeds, [source] * len(seeds),
            steps=steps, temperature=temperature, guidance=guidance, steering=steering, progress=progress,
        )  # fmt: skip
        texts = self.vocabulary.decode(ids)
        if candidates > 1:
            groups = [texts[i : i + candidates] for i in range(0, len(texts), candidates)]
            texts = [group[mbr(group)] for group in groups]
        return [detokenize(words) for words in texts]

    def sample(
        self,
        constraints: Sequence[Constraints],
        seeds: Sequence[int],
        sources: Sequence[str | None] | None = None,
        *,
        steps: int | None = None,
        temperature: float | None = None,
        guidance: float | None = None,
        steering: Steering | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """The ids of the words of a sentence for each constraint and seed, (B, L)."""
        for constraint in {id(constraint): constraint for constraint in constraints}.values():
            self.check(constraint)
        condition = self.source_condition(list(sources or [None] * len(constraints)))
        lexicon = {} if self.classifier is None else self.classifier.lexicon
        out, starts = [], range(0, len(constraints), BATCH_SIZE)
        for done, start in enumerate(starts):
            rows = slice(start, start + BATCH_SIZE)
            some, log_prob = constraints[rows], None
            report = (
                None if progress is None else (lambda i, of, done=done: progress(done * of + i, len(starts) * of))
            )
            masks = {id(each): allowed_mask(each, self.vocabulary, self.length, lexicon) for each in some}
            if self.classifier is not None and any(each.steered for each in some):
                log_prob = self.classifier.score(some)
            batch = Batch(
                seeds[rows],
                {key: value[rows] for key, value in condition.items()},
                torch.from_numpy(np.stack([masks[id(each)] for each in some])).to(self.device),
                log_prob,
                steps or self.config["steps"],
                temperature or self.config["temperature"],
                self.config["guidance"] if guidance is None else guidance,
                steering or Steering(),
                report,
            )
            out.append(self._sample_batch(batch).numpy(force=True))
        return np.concatenate(out)

    def evaluate(self, data: str | Path, **how: Any) -> Report:
        """How well what is asked is kept to, and how fluently; `evaluate.evaluate` says what else can be given."""
        from inkwash.systems.language.evaluate import evaluate

        return evaluate(self, data, **how)

    def describe_controls(self) -> str:
        """What can be asked of this model, a line for each kind."""
        lines = [f"length: 1 to {self.length - 1} words and signs, {len(self.vocabulary.words)} different ones"]
        if self.network.config["source"]:
            lines.append(f"source: up to {self.network.config['source'] - 1} words and signs")
        if self.classifier is not None:
            lines += [f"{name}: {', '.join(of[1:])}" for name, of in self.classifier.fields.items()]
            if self.classifier.tags:
                tags = [tag for tag, of in self.classifier.lexicon.items() if tag and of.any()]
                lines.append(f"parts of speech: {', '.join(tags)}")
                lines.append(f"constituents: {', '.join(self.classifier.labels[1:])}")
        return "\n".join(lines)

    def check(self, constraint: Constraints) -> None:
        """Raises UserError for a constraint that this model does not know."""
        if constraint.steered and self.classifier is None:
            raise UserError(
                "this model has no classifier, so fields and grammar cannot be asked of it, only words and length: "
                "train one with inkwash train, a recipe of task classifier"
            )
        if self.classifier is not None:
            self.classifier.check(constraint)

    def source_condition(self, sources: list[str | None]) -> dict[str, Tensor]:
        """What the network is conditioned on: the ids of the words of the sources, and their mask."""
        if not any(sources):
            if self.config["needs_source"]:
                raise UserError("this model makes a sentence from another: give it one (--source)")
            return {}
        longest = self.network.config["source"]
        if not longest:
            raise UserError("this model was not taught to read a source: leave it out")
        for text in dict.fromkeys(sources):
            if not text or not tokenize(text):
                raise UserError("source: no words in it")
            if len(tokenize(text)) >= longest:
                raise UserError(f"source: {len(tokenize(text))} words; this model reads at most {longest - 1}")
        encoded = engines.encode_sources(self.vocabulary, [text or "" for text in sources], longest)
        return {key: value.to(self.device) for key, value in encoded.items()}

    def embeddings(self) -> Tensor:
        """The vectors of all words, and of the mask."""
        return self.network.embeddings.detach()

    def noised(self, words: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        """Vectors (B, L, dim) of sentences (B, L) at `times` (B,): what a classifier is trained on."""
        vectors, denoiser = self.embeddings(), engines.denoiser(self.network)
        if isinstance(self.network, ContinuousDenoiser):
            noised: Tensor = denoiser.draw(vectors[words], times, generator)[0]
            return noised
        return vectors[denoiser.draw(words, times, generator)[0]]

    def _sample_batch(self, batch: Batch) -> Tensor:
        if isinstance(self.network, ContinuousDenoiser):
            return self._sample_continuous(batch)
        if isinstance(self.network, MaskedDenoiser):
            return self._sample_masked(batch)
        return baselines.sample(self.network, batch.seeds, batch.allowed, batch.condition, batch.temperature)

    def _sample_continuous(self, batch: Batch) -> Tensor:
        denoise, vectors, condition = engines.denoiser(self.network), self.embeddings(), batch.condition
        process, improved, steering = denoise.process, self.network.config["improved"], batch.steering
        if improved:
            condition = condition | {"allowed": batch.allowed, "forced": forced_words(batch.allowed)}
            denoise = replace(denoise, network=partial(self.network, temperature=batch.temperature))
        hooks: list[Hook] = []
        if batch.log_prob is not None:
            hooks = [diffusion.gradient_control(
                batch.log_prob, steering.lr, steering.lambda_, steering.updates, steering.t_min
            )]  # fmt: skip
        x = diffusion.sample(
            diffusion.rounding(
                guided(denoise, condition, batch.guidance), vectors, batch.allowed, self.config["clamp"]
            ),
            (self.length, vectors.shape[1]),
            diffusion.ancestral,
            diffusion.uniform(process, batch.steps),
            batch.seeds,
            condition,
            hooks=hooks,
            self_conditioning=improved,
            progress=batch.progress,
            device=self.device,
        )
        words: Tensor = nearest(x / process.at(0.0).alpha, vectors, batch.allowed)
        return words

    def _sample_masked(self, batch: Batch) -> Tensor:
        denoise, steering, progress = engines.denoiser(self.network), batch.steering, batch.progress
        process = denoise.process

        def network(*x: Any, **condition: Any) -> Tensor:
            logits: Tensor = self.network(*x, **condition)
            return logits / batch.temperature

        allowed = F.pad(batch.allowed, (0, 1))  # never the mask
        forced = forced_words(allowed)
        x = torch.where(forced >= 0, forced, process.mask)
        hooks: list[Hook] = []
        if batch.log_prob is not None:
            hooks = [reweighted(x, self.embeddings(), batch.log_prob, steering.scale, steering.candidates)]
        words: Tensor = diffusion.sample(
            diffusion.allowed_symbols(
                guided(replace(denoise, network=network), batch.condition, batch.guidance), allowed
            ),
            (self.length,),
            partial(diffusion.unmask, steps=batch.steps),
            diffusion.Grid(process, (1.0, 0.0)),
            batch.seeds,
            batch.condition,
            hooks=hooks,
            x=x,
            progress=progress and (lambda done, _: progress(done, batch.steps)),
            device=self.device,
        )
        return words


def reweighted(x: Tensor, vectors: Tensor, log_prob: Callable[..., Tensor], scale: float, candidates: int) -> Hook:
    """After each step of `unmask` from `x`: the words that it has unmasked are sampled anew, each from
    p(w | x_t) p(y | x_t, w)^scale among the `candidates` likeliest.

    The classifier, `Classifier.score`, is asked with each of them at its position (FUDGE, Yang & Klein 2021,
    2104.05218); the gradient at the mask, as in `token_gradient`, says next to nothing of what a word would change.
    """

    def resample(step: diffusion.StepResult, noise: diffusion.Noise) -> Tensor | None:
        nonlocal x
        rows, positions = (step.x != x).nonzero(as_tuple=True)
        if not len(rows):
            return None
        logits, words = step.prediction.x0[rows, positions].topk(min(candidates, len(vectors)))
        changes = []
        for row, position, word in zip(rows.split(64), positions.split(64), words.split(64), strict=True):
            tried = x[row, None].repeat(1, word.shape[1], 1)
            tried[torch.arange(len(row)), :, position] = word
            constraints = row.repeat_interleave(word.shape[1])
            changes.append(log_prob(vectors[tried.flatten(0, 1)], step.s, rows=constraints).view(word.shape))
        chosen = invert((logits + scale * torch.cat(changes)).softmax(-1), noise.uniform()[rows, positions])
        x = step.x.clone()
        x[rows, positions] = words.gather(1, chosen[:, None])[:, 0]
        return x

    return resample


def guided(denoise: Denoise, condition: dict[str, Tensor], scale: float) -> Denoise:
    """Classifier-free guidance, away from the prediction without a source."""
    if "source" not in condition or scale == 1:
        return denoise
    uncond = condition | {"source_mask": torch.zeros_like(condition["source_mask"])}
    towards_source: Denoise = diffusion.classifier_free(denoise, scale, uncond)
    return towards_source


def forced_words(allowed: Tensor) -> Tensor:
    """The one word that may stand at a position, -1 where there are several: (B, L)."""
    return torch.where(allowed.sum(-1) == 1, allowed.long().argmax(-1), -1)


def load_classifier(folder: Path, device: str = "cpu") -> Classifier | None:
    """The classifier in a model's folder, if it has one."""
    file = folder / "classifier.json"
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        network = ClassifierNetwork(**facts.pop("network"))
        load_into(network, folder / "classifier.safetensors")
        return Classifier(network.eval().to(device), **facts)
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: broken ({error}); train the classifier again") from None


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Writes classifier.json and classifier.safetensors."""
    save_tensors(folder / "classifier.safetensors", classifier.network.state_dict())
    facts = {
        "network": classifier.network.config,
        "fields": classifier.fields,
        "tags": classifier.tags,
        "labels": classifier.labels,
    }
    with atomic(folder / "classifier.json") as file:
        file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
