"""Pictures of a kind by a cascade (CDM, Ho et al. 2021, 2106.15282): a small one from noise, made larger in stages,
each a network of its own that is told the kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from inkwash.codecs.pixels import denormalize
from inkwash.diffusion.arrays import constant, namespace, numpy
from inkwash.errors import UserError, unknown
from inkwash.systems.base import check_counts, check_seed
from inkwash.systems.restoration.graphs import GraphNetwork, graph_of_stage
from inkwash.systems.restoration.levels import COLOURS, Array
from inkwash.systems.restoration.model import Batch, Progress, RestorationModel, in_all
from inkwash.systems.restoration.options import check_whole
from inkwash.systems.restoration.upscaler import Upscaler, enlarged
from inkwash.systems.torch_model import TorchModel

if TYPE_CHECKING:
    import torch

SYSTEM = "cascade"
MOST_NOISE = 0.2  # time to which small pictures are noised in training: of more, less is left than a stage adds
KEYS = ("classes", "noise_level", "augmentation", "steps", "train", "choices")


class Base(RestorationModel):
    """The first stage: its pictures have no source."""

    system = SYSTEM
    keys = ()
    parametrization = "v"

    def make(
        self, label: Any, seeds: Sequence[int], steps: int | None = None, until: float = 0.0, progress: Any = None
    ) -> Any:
        """label (B, classes) -> (B, 3, size, size) from -1 to 1; until: see `draw`."""
        nothing = self.array(np.zeros((len(label), COLOURS, self.config["size"], self.config["size"]), np.float32))
        condition, scale = {"label": label}, self.config["residual"]
        return self.draw(nothing, scale, condition, seeds, steps, until=until, progress=progress)

    def base(self, batch: Batch) -> Any:
        return 0 * batch["x"]

    def answer(self, batch: Batch, seed: int, steps: int) -> Any:
        return self.make(batch["label"].to(self.device), [seed], steps)

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Any, dict[str, Any], None]:
        return batch["x"] / self.config["residual"], {"label": batch["label"]}, None


class Stage(Upscaler):
    """A later stage; further facts: augmentation, without which it has only seen clean small pictures, and spectrum
    (h, h), the mean squares of their cosine transform.

    By that it takes from a noisy small picture what noise a linear filter can (Wiener 1949), before the network sees
    it: else its first task would be to copy all of that noise, so as to take it away.
    """

    system = SYSTEM
    keys: ClassVar[tuple[str, ...]] = ("factor", "augmentation", "spectrum")

    @property
    def most_noise(self) -> float:
        return MOST_NOISE if self.config["augmentation"] else 0.0

    def seen(self, small: Any, noise: Any) -> tuple[Any, Any]:
        """As of an `Upscaler`, of the small pictures' linear estimate of least error, cosine by cosine
        P / (P + noise^2), whose mean error is P noise^2 / (P + noise^2)."""
        xp, device = namespace(small), small.device
        values = spectrum_and_basis(tuple(map(tuple, self.config["spectrum"])))
        power, basis = (one(xp, small.dtype, device) for one in values)
        share = power / (power + noise**2)
        smooth = basis.T @ (share * (basis @ small @ basis.T)) @ basis
        error = xp.mean(power * (1 - share), axis=(-2, -1), keepdims=True)
        return enlarged(smooth, self.factor), (self.config["residual"] ** 2 + error) ** 0.5


class Cascade(TorchModel):
    """Pictures of each kind that it has learned.

    facts: classes (the kinds), noise_level (the time to which the picture of a stage is noised for the next, unless
    it is said), steps (of each stage), augmentation, train and choices (digests of the pictures that it has seen),
    stages (the facts of each: its size, the factor to it).

    >>> model = inkwash.load("runs/cells/model")
    >>> model.generate("WBC", 8, seed=7)
    """

    system = SYSTEM
    has_graphs = True

    def __init__(self, stages: list[Any], config: dict[str, Any]) -> None:
        self.stages, self.config = stages, config

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Self:
        first, *later = stages_of(facts)
        return cls.of([Base.build(first), *map(Stage.build, later)], facts)

    @classmethod
    def of(cls, stages: list[Any], facts: dict[str, Any]) -> Self:
        """The model of stages whose networks are torch's."""
        from torch import nn

        model = cls(stages, facts)
        model.network = nn.ModuleList(stage.network for stage in stages)
        return model

    @classmethod
    def on_graphs(cls, facts: dict[str, Any], folder: Path, threads: int | None) -> Self:
        stages = list[Any]()
        for k, own in enumerate(stages_of(facts)):
            network = GraphNetwork(folder, own["network"], threads, graph_of_stage(k))
            stages.append((Stage if k else Base)(network, Base.checked(own)))
            stages[-1].runtime = "onnx"
        return cls(stages, facts)

    def facts(self) -> dict[str, Any]:
        return self.config

    @property
    def sides(self) -> list[int]:
        """Of the pictures of each stage, in pixels."""
        return [stage.config["size"] for stage in self.stages]

    def generate(
        self,
        kind: str,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        noise_level: float | None = None,
        truncated: bool = False,
        progress: Progress | None = None,
    ) -> Array:
        """Pictures (samples, side, side, 3) uint8. Sample j has the seed `seed` + j, and is the same alone and among
        others.

        noise_level: the time to which each stage's picture is noised for the next one: more lets that correct more.
        truncated: a stage is stopped at that time, in place of noise on its finished picture (CDM, section 3.3).
        Raises UserError for another kind, for noise where none was in training, and for stages that are to be
        truncated where there is none.
        """
        if kind not in self.config["classes"]:
            raise unknown("kind", str(kind), self.config["classes"])
        check_counts(samples=samples)
        check_seed(seed)
        if truncated and not self.level(noise_level):
            raise UserError("truncated means nothing without noise between stages: leave it out, or give noise_level")
        kinds, made = [self.config["classes"].index(kind)], []
        for j in range(samples):
            told = in_all(progress, j, samples)
            made.append(self.draw(kinds, [(int(seed) + j) % 2**64], steps, noise_level, truncated, told)[-1])
        return np.concatenate([to_bytes(x) for x in made])

    def draw(
        self,
        kinds: Sequence[int],
        seeds: Sequence[int],
        steps: int | None = None,
        noise_level: float | None = None,
        truncated: bool = False,
        progress: Progress | None = None,
    ) -> list[Any]:
        """What each stage makes, (B, 3, side, side) from -1 to 1, of kinds by their numbers; of truncated stages,
        but for the last, as they were stopped."""
        level, first = self.level(noise_level), self.stages[0]
        until = level if truncated else 0.0
        told = in_all(progress, 0, len(self.stages))
        x = first.make(self.labels(kinds), of_stage(seeds, 0), self.steps(steps), until, told)
        return [x, *self.enlarge(x, kinds, seeds, steps, level, truncated, progress)]

    def enlarge(
        self,
        low: Any,
        kinds: Sequence[int],
        seeds: Sequence[int],
        steps: int | None = None,
        noise_level: float | None = None,
        noised: bool = False,
        progress: Progress | None = None,
        first: int = 1,
    ) -> list[Any]:
        """What the stages from `first` on make of pictures of the one before it; noised: of pictures that are at the
        time `noise_level` already, and so that each stage hands over such."""
        level, made, last = self.level(noise_level), list[Any](), len(self.stages) - 1
        for k in range(first, last + 1):
            until = level if noised and k < last else 0.0
            told = in_all(progress, k, last + 1)
            low = self.stages[k].enlarge(
                low, of_stage(seeds, k), self.steps(steps), noise_level=level, noised=noised,
                label=self.labels(kinds), until=until, progress=told,
            )  # fmt: skip
            made.append(low)
        return made

    def level(self, noise_level: float | None) -> float:
        """The noise level that is asked for, or the model's own. UserError for one that no stage has learned."""
        level = self.config["noise_level"] if noise_level is None else noise_level
        if most := [stage.most_noise for stage in self.stages[1:] if not 0 <= level <= stage.most_noise]:
            what = (
                f"choose a number from 0 to {most[0]}" if most[0] else "the model has learned no noise: leave it out"
            )
            raise UserError(f"noise_level = {level}: {what}")
        return float(level)

    def labels(self, kinds: Sequence[int]) -> Any:
        return self.stages[0].array(np.eye(len(self.config["classes"]), dtype=np.float32)[list(kinds)])

    def steps(self, steps: int | None) -> int:
        return int(self.config["steps"] if steps is None else steps)


def stages_of(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts of each stage. UserError for those of one stage alone, KeyError where one is missing."""
    check_whole(facts)
    for key in KEYS:
        facts[key]
    return list(facts["stages"])


@lru_cache(maxsize=8)
def spectrum_and_basis(spectrum: tuple[tuple[float, ...], ...]) -> tuple[Any, Any]:
    """The spectrum, and the transform's basis, as `constant`s: no step of a training waits for them."""
    return constant(np.array(spectrum)), constant(cosines(len(spectrum)))


def cosines(side: int) -> Array:
    """(side, side), the orthonormal cosine transform (DCT-II): row k is cos(pi k (2 i + 1) / (2 side)), scaled."""
    k, i = np.arange(side)[:, None], np.arange(side)
    rows: Array = (2 / side) ** 0.5 * np.cos(np.pi * k * (2 * i + 1) / (2 * side))
    return np.concatenate([rows[:1] / 2**0.5, rows[1:]])


def of_stage(seeds: Sequence[int], stage: int) -> list[int]:
    """Seeds of a stage's own: else its noise would be that of the stage before."""
    return [int(np.random.SeedSequence((seed, stage)).generate_state(1, np.uint64)[0]) for seed in seeds]


def to_bytes(x: Any) -> Array:
    """(B, 3, H, W) from -1 to 1 -> (B, H, W, 3) uint8."""
    return denormalize(numpy(x))
