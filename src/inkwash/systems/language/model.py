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
from inkwash.systems.language.controls import Reading, Wish, allowed
from inkwash.systems.language.metrics import least_risk, needs
from inkwash.systems.language.networks import MaskedDenoiser, Reader, VectorDenoiser
from inkwash.systems.language.vocabulary import PAD, Words, join, split
from inkwash.systems.torch_model import TorchModel
from inkwash.weights.files import atomic, load_into, write

if TYPE_CHECKING:
    from inkwash.systems.report import Report

AT_ONCE = 64  # sentences in one batch


@dataclass(frozen=True)
class Steering:
    """How hard a reader leads: options of `gradient_control`, and `scale` and `candidates` of `reweighted`."""

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
    >>> writer.write(3, wish=wish(fields=["food=Italian"], length=12), seed=7)
    """

    system = "language"
    network: Any

    def __init__(self, network: Any, words: Words, info: dict[str, Any], reading: Reading | None = None) -> None:
        self.network, self.words, self.info, self.reading = network, words, info, reading

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Writer:
        facts["steps"], facts["temperature"], facts["guidance"], facts["needs_source"]
        return cls(engines.NETWORKS[facts["engine"]](**facts["network"]), Words(facts["words"]), facts)

    def facts(self) -> dict[str, Any]:
        return self.info | {"network": self.network.config, "words": self.words.words}

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu", *how: Any, **more: Any) -> Writer:
        writer = super().load(name, device, *how, **more)
        writer.reading = load_reading(writer.folder, device)
        return writer

    def save(self, folder: str | Path) -> None:
        """And reader.json and reader.safetensors, if it has a reader."""
        super().save(folder)
        if self.reading is not None:
            save_reading(self.reading, Path(folder))

    @property
    def length(self) -> int:
        """Of the longest sentence, [END] included."""
        return int(self.network.config["length"])

    def write(
        self,
        n: int = 1,
        wish: Wish | None = None,
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
        candidates: of so many sentences the one with the least risk is taken, see `metrics.least_risk`. The sentence
        of a seed is the same among any others.
        Raises UserError for what the model does not know and for wishes that cannot be met.
        """
        if n < 1 or not 1 <= candidates <= 1024:
            raise UserError(f"n = {n}, candidates = {candidates}: at least 1 of each, and at most 1024 candidates")
        if not 0 <= seed < 2**64:
            raise UserError(f"seed {seed}: a whole number from 0 to 2^64 - 1 is needed")
        if candidates > 1:
            needs("the choice among candidates", "sacrebleu")
        if source:
            self.given([source])
            self.words.known(split(source))
        if steps is not None and steps < 1:
            raise UserError(f"steps = {steps}: at least 1 is needed")
        if temperature is not None and not 0 < temperature < 100:
            raise UserError(f"temperature {temperature}: a number above 0 is needed, 1 as the model has learned")
        wish = wish or Wish()
        seeds = [diffusion.child_seed((seed + i) % 2**64, c) for i in range(n) for c in range(candidates)]
        how = {"steps": steps, "temperature": temperature, "guidance": guidance, "steering": steering}
        rows = self.draw([wish] * len(seeds), seeds, [source] * len(seeds), progress=progress, **how)
        texts = self.words.decode(rows)
        if candidates > 1:
            groups = [texts[i : i + candidates] for i in range(0, len(texts), candidates)]
            texts = [group[least_risk(group)] for group in groups]
        return [join(words) for words in texts]

    def draw(
        self,
        wishes: Sequence[Wish],
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
        for wanted in {id(wanted): wanted for wanted in wishes}.values():
            self.check(wanted)
        given = self.given(list(sources or [None] * len(wishes)))
        how = Sampling(
            steps or self.info["steps"],
            temperature or self.info["temperature"],
            self.info["guidance"] if guidance is None else guidance,
            steering or Steering(),
        )
        out, total = [], len(range(0, len(wishes), AT_ONCE))
        for done, start in enumerate(range(0, len(wishes), AT_ONCE)):
            part = slice(start, start + AT_ONCE)
            report = None if progress is None else (lambda i, of, done=done: progress(done * of + i, total * of))
            told = {key: value[part] for key, value in given.items()}
            out.append(self._draw(list(wishes[part]), list(seeds[part]), told, how, report))
        return np.concatenate(out)

    def evaluate(self, data: str | Path, **how: Any) -> Report:
        """How well what is asked is kept to, and how fluently; `evaluate.evaluate` says what else can be given."""
        from inkwash.systems.language.evaluate import evaluate

        return evaluate(self, data, **how)

    def asked(self) -> str:
        """What can be asked of this model, a line for each kind."""
        lines = [f"length: 1 to {self.length - 1} words and signs, {len(self.words.words)} different ones"]
        if self.network.config["source"]:
            lines.append(f"source: up to {self.network.config['source'] - 1} words and signs")
        if self.reading is not None:
            lines += [f"{name}: {', '.join(of[1:])}" for name, of in self.reading.fields.items()]
            if self.reading.tags:
                known = [tag for tag, of in self.reading.lexicon.items() if tag and of.any()]
                lines.append(f"parts of speech: {', '.join(known)}")
                lines.append(f"constituents: {', '.join(self.reading.labels[1:])}")
        return "\n".join(lines)

    def check(self, wanted: Wish) -> None:
        """Raises UserError for a wish that this model cannot understand."""
        if wanted.steered and self.reading is None:
            raise UserError(
                "this model has no reader, so fields and grammar cannot be asked of it, only words and length: teach "
                "it with inkwash train, a recipe of task reader"
            )
        if self.reading is not None:
            self.reading.check(wanted)

    def given(self, sources: list[str | None]) -> dict[str, Tensor]:
        """What the network is told besides: the numbers of the words of the sources."""
        if not any(sources):
            if self.info["needs_source"]:
                raise UserError("this model makes a sentence from another: give it one (--source)")
            return {}
        most = self.network.config["source"]
        if not most:
            raise UserError("this model was not taught to read a source: leave it out")
        for text in dict.fromkeys(sources):
            if not text or not split(text):
                raise UserError("source: no words in it")
            if len(split(text)) >= most:
                raise UserError(f"source: {len(split(text))} words; this model reads at most {most - 1}")
        rows = torch.from_numpy(self.words.encode([text or "" for text in sources], most))
        rows = rows[:, : int((rows != PAD).sum(1).max())].to(self.device)
        return {"source": rows, "source_mask": rows != PAD}

    def table(self) -> Tensor:
        """The vectors of all words, and of the mask."""
        return self.network.table.detach()

    def noised(self, words: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        """Vectors (B, L, dim) of sentences (B, L) at `times` (B,): what a reader is taught to read."""
        table, model = self.table(), engines.denoiser(self.network)
        if isinstance(self.network, VectorDenoiser):
            return model.draw(table[words], times, generator)[0]
        return table[model.draw(words, times, generator)[0]]

    def _draw(
        self,
        wishes: list[Wish],
        seeds: list[int],
        given: dict[str, Tensor],
        how: Sampling,
        progress: Callable[[int, int], None] | None,
    ) -> np.ndarray:
        lexicon = None if self.reading is None else self.reading.lexicon
        tables = {id(wanted): allowed(wanted, self.words, self.length, lexicon) for wanted in wishes}
        may = torch.from_numpy(np.stack([tables[id(wanted)] for wanted in wishes])).to(self.device)
        score = self.reading.score(wishes) if self.reading and any(w.steered for w in wishes) else None
        if isinstance(self.network, VectorDenoiser):
            rows = self._vectors(seeds, given, how, may, score, progress)
        elif isinstance(self.network, MaskedDenoiser):
            rows = self._masked(seeds, given, how, may, score, progress)
        else:
            rows = baselines.draw(self.network, seeds, may, given, how.temperature)
        return rows.cpu().numpy()

    def _vectors(
        self,
        seeds: list[int],
        given: dict[str, Any],
        how: Sampling,
        may: Tensor,
        score: Callable[..., Tensor] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Tensor:
        denoise, table, improved = engines.denoiser(self.network), self.table(), self.network.config["improved"]
        if improved:
            given = {**given, "allowed": may, "known": only(may)}
            ask = replace(denoise, network=partial(self.network, temperature=how.temperature))
        else:
            ask = denoise
        steering = how.steering
        x = diffusion.sample(
            diffusion.rounding(guided(ask, given, how.guidance), table, may, self.info["clamp"]),
            (self.length, table.shape[1]),
            diffusion.ancestral,
            diffusion.uniform(denoise.process, how.steps),
            seeds,
            given,
            hooks=[]
            if score is None
            else [diffusion.gradient_control(score, steering.lr, steering.lambda_, steering.updates, steering.t_min)],
            self_conditioning=improved,
            progress=progress,
            device=self.device,
        )
        return nearest(x / denoise.process.at(0.0).alpha, table, may)

    def _masked(
        self,
        seeds: list[int],
        given: dict[str, Any],
        how: Sampling,
        may: Tensor,
        score: Callable[..., Tensor] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Tensor:
        model = engines.denoiser(self.network)
        ask = replace(model, network=lambda *x, **told: self.network(*x, **told) / how.temperature)
        may = torch.nn.functional.pad(may, (0, 1))  # never the mask
        known, mask, steering = only(may), model.process.mask, how.steering
        x = torch.where(known >= 0, known, mask)
        return diffusion.sample(
            diffusion.allowed_symbols(guided(ask, given, how.guidance), may),
            (self.length,),
            partial(diffusion.unmask, steps=how.steps),
            diffusion.Grid(model.process, (1.0, 0.0)),
            seeds,
            given,
            hooks=[] if score is None else [reweighted(x, self.table(), score, steering.scale, steering.candidates)],
            x=x,
            progress=None if progress is None else (lambda done, _: progress(done, how.steps)),
            device=self.device,
        )


def reweighted(x: Tensor, table: Tensor, score: Callable[..., Tensor], scale: float, candidates: int) -> Hook:
    """After each step of `unmask` from `x`: the words that it has opened are drawn anew, each from
    p(w | x_t) p(y | x_t, w)^scale among the `candidates` likeliest.

    The reader, `Reading.score`, is asked with each of them in its place (FUDGE, Yang & Klein 2021, 2104.05218); the
    gradient at the mask, as in `token_gradient`, says next to nothing of what a word would change there.
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


def only(may: Tensor) -> Tensor:
    """The one word that may stand at a position, -1 where there are several: (B, L)."""
    return torch.where(may.sum(-1) == 1, may.long().argmax(-1), -1)


def load_reading(folder: Path, device: str = "cpu") -> Reading | None:
    """The reader in a model's folder, if it has one."""
    file = folder / "reader.json"
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        network = Reader(**facts.pop("network"))
        load_into(network, folder / "reader.safetensors")
        return Reading(network.eval().to(device), **facts)
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: broken ({error}); train the reader again") from None


def save_reading(reading: Reading, folder: Path) -> None:
    """Writes reader.json and reader.safetensors."""
    write(folder / "reader.safetensors", reading.network.state_dict())
    facts = {
        "network": reading.network.config,
        "fields": reading.fields,
        "tags": reading.tags,
        "labels": reading.labels,
    }
    with atomic(folder / "reader.json") as file:
        file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
