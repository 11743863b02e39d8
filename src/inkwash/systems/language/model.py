"""Sentences that keep to what is asked: Diffusion-LM (Li et al. 2022, 2205.14217), and masked diffusion beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inkwash import diffusion
from inkwash.diffusion.categorical import invert
from inkwash.diffusion.guides import Hook, nearest
from inkwash.errors import UserError
from inkwash.systems.language import baselines, engines
from inkwash.systems.language.controls import Classifier, Constraints, allowed_mask_of
from inkwash.systems.language.metrics import mbr, needs
from inkwash.systems.language.networks import ClassifierNetwork, ContinuousDenoiser, MaskedDenoiser
from inkwash.systems.language.vocabulary import PAD, Vocabulary, detokenize, tokenize
from inkwash.systems.torch_model import TorchModel
from inkwash.weights.files import atomic, load_into, save_tensors

if TYPE_CHECKING:
    from inkwash.systems.report import Report

AT_ONCE = 64  # sentences in one batch


@dataclass(frozen=True)
class Steering:
    """How hard a classifier leads: options of `gradient_control`, and `scale` and `candidates` of `reweighted`."""

    lr: float = 0.3
    lambda_: float = 0.005
    updates: int = 2
    t_min: float = 0.05
    scale: float = 3.0
    candidates: int = 16


@dataclass(frozen=True)
class Sampling:
    """How a sentence is drawn: calls of the network, and the rest of what `Writer.write` takes."""

    steps: int
    temperature: float
    guidance: float
    steering: Steering


class Writer(TorchModel):
    """A model of sentences.

    >>> writer = inkwash.load("e2e")
    >>> writer.write(3, constraints=parse_constraints(fields=["food=Italian"], length=12), seed=7)
    """

    system = "language"
    network: Any

    def __init__(
        self, network: Any, words: Vocabulary, config: dict[str, Any], classifier: Classifier | None = None
    ) -> None:
        self.network, self.words, self.config, self.classifier = network, words, config, classifier

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Writer:
        facts["steps"], facts["temperature"], facts["guidance"], facts["needs_source"]
        return cls(engines.NETWORKS[facts["engine"]](**facts["network"]), Vocabulary(facts["words"]), facts)

    def facts(self) -> dict[str, Any]:
        return self.config | {"network": self.network.config, "words": self.words.words}

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu", *how: Any, **more: Any) -> Writer:
        writer = super().load(name, device, *how, **more)
        writer.classifier = load_classifier(writer.folder, device)
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
        """n sentences that keep to the wish; made from `source` where the model reads sources.

        temperature: below 1 likely words are drawn more often. guidance: how closely to follow the source.
        candidates: of so many sentences the one with the least risk is taken, see `metrics.mbr`. The sentence
        of a seed is the same among any others.
        Raises UserError for what the model does not know and for constraints that cannot be met.
        """
        if n < 1 or not 1 <= candidates <= 1024:
            raise UserError(f"n = {n}, candidates = {candidates}: at least 1 of each, and at most 1024 candidates")
        if not 0 <= seed < 2**64:
            raise UserError(f"seed {seed}: a whole number from 0 to 2^64 - 1 is needed")
        if candidates > 1:
            needs("the choice among candidates", "sacrebleu")
        if source:
            self.source_condition([source])
            self.words.known_ids(tokenize(source))
        if steps is not None and steps < 1:
            raise UserError(f"steps = {steps}: at least 1 is needed")
        if temperature is not None and not 0 < temperature < 100:
            raise UserError(f"temperature {temperature}: a number above 0 is needed, 1 as the model has learned")
        constraints = constraints or Constraints()
        seeds = [diffusion.child_seed((seed + i) % 2**64, c) for i in range(n) for c in range(candidates)]
        sampling = {"steps": steps, "temperature": temperature, "guidance": guidance, "steering": steering}
        rows = self.sample([constraints] * len(seeds), seeds, [source] * len(seeds), progress=progress, **sampling)
        texts = self.words.decode(rows)
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
        """The numbers of the words of a sentence for each wish and seed, (B, L)."""
        for constraint in {id(constraint): constraint for constraint in constraints}.values():
            self.check(constraint)
        given = self.source_condition(list(sources or [None] * len(constraints)))
        sampling = Sampling(
            steps or self.config["steps"],
            temperature or self.config["temperature"],
            self.config["guidance"] if guidance is None else guidance,
            steering or Steering(),
        )
        out, total = [], len(range(0, len(constraints), AT_ONCE))
        for done, start in enumerate(range(0, len(constraints), AT_ONCE)):
            part = slice(start, start + AT_ONCE)
            report = None if progress is None else (lambda i, of, done=done: progress(done * of + i, total * of))
            condition = {key: value[part] for key, value in given.items()}
            out.append(self._draw(list(constraints[part]), list(seeds[part]), condition, sampling, report))
        return np.concatenate(out)

    def evaluate(self, data: str | Path, **how: Any) -> Report:
        """How well what is asked is kept to, and how fluently; `evaluate.evaluate` says what else can be given."""
        from inkwash.systems.language.evaluate import evaluate

        return evaluate(self, data, **how)

    def describe_controls(self) -> str:
        """What can be asked of this model, a line for each kind."""
        lines = [f"length: 1 to {self.length - 1} words and signs, {len(self.words.words)} different ones"]
        if self.network.config["source"]:
            lines.append(f"source: up to {self.network.config['source'] - 1} words and signs")
        if self.classifier is not None:
            lines += [f"{name}: {', '.join(of[1:])}" for name, of in self.classifier.fields.items()]
            if self.classifier.tags:
                known = [tag for tag, of in self.classifier.lexicon.items() if tag and of.any()]
                lines.append(f"parts of speech: {', '.join(known)}")
                lines.append(f"constituents: {', '.join(self.classifier.labels[1:])}")
        return "\n".join(lines)

    def check(self, constraint: Constraints) -> None:
        """Raises UserError for a wish that this model cannot understand."""
        if constraint.steered and self.classifier is None:
            raise UserError(
                "this model has no classifier, so fields and grammar cannot be asked of it, only words and length: "
                "train one with inkwash train, a recipe of task classifier"
            )
        if self.classifier is not None:
            self.classifier.check(constraint)

    def source_condition(self, sources: list[str | None]) -> dict[str, Tensor]:
        """What the network is told besides: the numbers of the words of the sources."""
        if not any(sources):
            if self.config["needs_source"]:
                raise UserError("this model makes a sentence from another: give it one (--source)")
            return {}
        most = self.network.config["source"]
        if not most:
            raise UserError("this model was not taught to read a source: leave it out")
        for text in dict.fromkeys(sources):
            if not text or not tokenize(text):
                raise UserError("source: no words in it")
            if len(tokenize(text)) >= most:
                raise UserError(f"source: {len(tokenize(text))} words; this model reads at most {most - 1}")
        rows = torch.from_numpy(self.words.encode([text or "" for text in sources], most))
        rows = rows[:, : int((rows != PAD).sum(1).max())].to(self.device)
        return {"source": rows, "source_mask": rows != PAD}

    def embeddings(self) -> Tensor:
        """The vectors of all words, and of the mask."""
        return self.network.embeddings.detach()

    def noised(self, words: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        """Vectors (B, L, dim) of sentences (B, L) at `times` (B,): what a classifier is taught to read."""
        table, model = self.embeddings(), engines.denoiser(self.network)
        if isinstance(self.network, ContinuousDenoiser):
            return model.draw(table[words], times, generator)[0]
        return table[model.draw(words, times, generator)[0]]

    def _draw(
        self,
        constraints: list[Constraints],
        seeds: list[int],
        given: dict[str, Tensor],
        sampling: Sampling,
        progress: Callable[[int, int], None] | None,
    ) -> np.ndarray:
        lexicon = None if self.classifier is None else self.classifier.lexicon
        tables = {
            id(constraint): allowed_mask_of(constraint, self.words, self.length, lexicon)
            for constraint in constraints
        }
        table = np.stack([tables[id(constraint)] for constraint in constraints])
        allowed_mask = torch.from_numpy(table).to(self.device)
        steered = self.classifier is not None and any(constraint.steered for constraint in constraints)
        score = self.classifier.score(constraints) if steered else None
        if isinstance(self.network, ContinuousDenoiser):
            rows = self._continuous(seeds, given, sampling, allowed_mask, score, progress)
        elif isinstance(self.network, MaskedDenoiser):
            rows = self._masked(seeds, given, sampling, allowed_mask, score, progress)
        else:
            rows = baselines.draw(self.network, seeds, allowed_mask, given, sampling.temperature)
        return rows.cpu().numpy()

    def _continuous(
        self,
        seeds: list[int],
        given: dict[str, Any],
        sampling: Sampling,
        allowed_mask: Tensor,
        score: Callable[..., Tensor] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Tensor:
        denoise, table, improved = engines.denoiser(self.network), self.embeddings(), self.network.config["improved"]
        if improved:
            given = {**given, "allowed": allowed_mask, "known": forced_words(allowed_mask)}
            guided_denoiser = replace(denoise, network=partial(self.network, temperature=sampling.temperature))
        else:
            guided_denoiser = denoise
        steering = sampling.steering
        x = diffusion.sample(
            diffusion.rounding(
                guided(guided_denoiser, given, sampling.guidance), table, allowed_mask, self.config["clamp"]
            ),
            (self.length, table.shape[1]),
            diffusion.ancestral,
            diffusion.uniform(denoise.process, sampling.steps),
            seeds,
            given,
            hooks=[]
            if score is None
            else [diffusion.gradient_control(score, steering.lr, steering.lambda_, steering.updates, steering.t_min)],
            self_conditioning=improved,
            progress=progress,
            device=self.device,
        )
        return nearest(x / denoise.process.at(0.0).alpha, table, allowed_mask)

    def _masked(
        self,
        seeds: list[int],
        given: dict[str, Any],
        sampling: Sampling,
        allowed_mask: Tensor,
        score: Callable[..., Tensor] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Tensor:
        model = engines.denoiser(self.network)

        def network(*x: Any, **condition: Any) -> Tensor:
            logits: Tensor = self.network(*x, **condition)
            return logits / sampling.temperature

        guided_denoiser = replace(model, network=network)
        allowed_mask = torch.nn.functional.pad(allowed_mask, (0, 1))  # never the mask
        known, mask, steering = forced_words(allowed_mask), model.process.mask, sampling.steering
        x = torch.where(known >= 0, known, mask)
        return diffusion.sample(
            diffusion.allowed_symbols(guided(guided_denoiser, given, sampling.guidance), allowed_mask),
            (self.length,),
            partial(diffusion.unmask, steps=sampling.steps),
            diffusion.Grid(model.process, (1.0, 0.0)),
            seeds,
            given,
            hooks=[]
            if score is None
            else [reweighted(x, self.embeddings(), score, steering.scale, steering.candidates)],
            x=x,
            progress=None if progress is None else (lambda done, _: progress(done, sampling.steps)),
            device=self.device,
        )


def reweighted(x: Tensor, table: Tensor, score: Callable[..., Tensor], scale: float, candidates: int) -> Hook:
    """After each step of `unmask` from `x`: the words that it has opened are drawn anew, each from
    p(w | x_t) p(y | x_t, w)^scale among the `candidates` likeliest.

    The classifier, `Classifier.score`, is asked with each of them in its place (FUDGE, Yang & Klein 2021,
    2104.05218); the gradient at the mask, as in `token_gradient`, says next to nothing of what a word would change
    there.
    """

    def redraw(step: diffusion.StepResult, noise: diffusion.Noise) -> Tensor | None:
        nonlocal x
        rows, places = (step.x != x).nonzero(as_tuple=True)
        if not len(rows):
            return None
        logits, words = step.prediction.x0[rows, places].topk(min(candidates, len(table)))
        changes = []
        for row, place, word in zip(rows.split(64), places.split(64), words.split(64), strict=True):
            tried = x[row, None].repeat(1, word.shape[1], 1)
            tried[torch.arange(len(row)), :, place] = word
            of = row.repeat_interleave(word.shape[1])
            changes.append(score(table[tried.flatten(0, 1)], step.s, rows=of).view(word.shape))
        chosen = invert((logits + scale * torch.cat(changes)).softmax(-1), noise.uniform()[rows, places])
        x = step.x.clone()
        x[rows, places] = words.gather(1, chosen[:, None])[:, 0]
        return x

    return redraw


def guided(denoise: Any, given: dict[str, Any], scale: float) -> Any:
    """Away from what the network would say without a source (classifier-free guidance)."""
    if "source" not in given or scale == 1:
        return denoise
    nothing = given | {"source_mask": torch.zeros_like(given["source_mask"])}
    return diffusion.classifier_free(denoise, scale, nothing)


def forced_words(allowed_mask: Tensor) -> Tensor:
    """The one word that may stand at a position, -1 where there are several: (B, L)."""
    return torch.where(allowed_mask.sum(-1) == 1, allowed_mask.long().argmax(-1), -1)


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
