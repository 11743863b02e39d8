"""Pictures from pictures by diffusion: larger ones (CDM, Ho et al. 2021, 2106.15282; SR3, 2104.07636), and edited
ones (Palette, Saharia et al. 2021, 2111.05826); or by the same network without noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from inkwash import diffusion
from inkwash.diffusion.arrays import namespace, no_grad, numpy
from inkwash.diffusion.denoiser import Denoise, Denoiser
from inkwash.diffusion.process import Prediction
from inkwash.errors import UserError
from inkwash.systems.base import check_counts, check_seed
from inkwash.systems.restoration.graphs import GraphNetwork
from inkwash.systems.torch_model import TorchModel

if TYPE_CHECKING:
    import torch

MOST_SAMPLES = 1000
OVERLAP = 16  # pixels that two windows share at least
Progress = Callable[[int, int], None]
Batch = dict[str, Any]
# of the facts of both kinds
KEYS = (
    "engine", "objective", "parametrization", "size", "zoom", "steps", "samples", "residual", "degradation", "train",
    "choices",
)  # fmt: skip


class RestorationModel(TorchModel):
    """What both kinds share.

    facts: engine ("diffusion", or "plain": the network without noise), parametrization (what it predicts), size (of
    the squares that it was trained on), zoom (they were cut up to so many times larger, and made small), steps,
    samples, degradation (in words: what it undoes), train and choices (digests of the pictures that it has seen),
    residual (the root mean square of what is to change in `base`), and the network's own.
    """

    has_graphs = True
    parametrization: ClassVar[str]  # of new ones
    keys: ClassVar[tuple[str, ...]]  # of the facts of this kind

    def __init__(self, network: Any, config: dict[str, Any]) -> None:
        self.network: Any = network
        self.config = config

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Self:
        import torch

        from inkwash.systems.restoration.networks import RestorationNetwork

        network: Any = RestorationNetwork(**facts["network"])
        return cls(network.to(memory_format=torch.channels_last), cls.checked(facts))  # faster on a CPU

    @classmethod
    def on_graphs(cls, facts: dict[str, Any], folder: Path, threads: int | None) -> Self:
        return cls(GraphNetwork(folder, facts["network"], threads), cls.checked(facts))

    @classmethod
    def checked(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """KeyError where one is missing."""
        return facts | {key: facts[key] for key in (*KEYS, *cls.keys)}

    def facts(self) -> dict[str, Any]:
        return self.config

    @property
    def denoiser(self) -> Denoiser:
        """Of states (B, 3, H, W): what is to change in `base`, divided by how much that is at large, so that noise of
        every size matters (SRDiff, Li et al. 2021, 2104.14951, of residuals). Its condition is that of
        `RestorationNetwork`, which is told the time, continuous, times 1000."""
        return Denoiser(self.network, diffusion.Gaussian(diffusion.cosine()), self.config["parametrization"])

    def draw(
        self,
        base: Any,
        scale: float,
        condition: dict[str, Any],
        seeds: Sequence[int],
        steps: int | None = None,
        mask: Any = None,
        project: Callable[[Any], Any] | None = None,
        until: float = 0.0,
        progress: Progress | None = None,
    ) -> Any:
        """Samples base + scale state, (B, 3, H, W) from -1 to 1, by windows where they are more than twice as large
        as what was trained on; of a plain model its answer. mask: what is drawn, elsewhere it is `base`. project: of
        pictures those nearby that agree with what is known, in each step. until: the steps end early, with the
        pictures as they are in noise at this time: the state's noise is `scale` times as large in the picture, so the
        state ends where it has the more."""
        plain = self.config["engine"] == "plain"
        answers: Denoise = partial(plain_answer, self.network) if plain else self.denoiser
        size = self.config["size"]
        windows = diffusion.tiled(answers, 2 * size, min(OVERLAP, size))
        denoise = in_range(windows, base, scale, project)
        process = self.denoiser.process
        at = process.at(until)
        end = process.at(float(process.schedule.sigma_to_t(at.sigma / at.alpha / scale))) if until else at
        check_counts(steps=steps)
        steps = self.config["steps"] if steps is None else steps
        with no_grad(base):
            if plain:
                state = denoise(namespace(base).zeros_like(base), diffusion.cosine().at(0.0), condition).x0
                state = state if mask is None else state * mask
            else:
                state = diffusion.sample(
                    denoise,
                    tuple(base.shape[1:]),
                    self.sampler,
                    diffusion.uniform(process, steps, end=end.t) if until else self.grid(steps),
                    seeds,
                    condition,
                    mask=mask,
                    device=self.device,
                    progress=progress,
                )
        return at.alpha * (base + scale / end.alpha * state)

    @property
    def sampler(self) -> Any:
        return diffusion.ddim

    def grid(self, steps: int) -> Any:
        return diffusion.uniform(self.denoiser.process, steps)

    def base(self, batch: Batch) -> Any:
        """Of a batch the pictures (B, 3, H, W) that are changed."""
        raise NotImplementedError

    def answer(self, batch: Batch, seed: int, steps: int) -> Any:
        """A sample of a batch of one."""
        raise NotImplementedError

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Any, dict[str, Any], Any]:
        """What is learned from: states, what the network is told of them, and what of them counts; None for all."""
        raise NotImplementedError

    def padded(self, x: Any) -> Any:
        """(1, C, H, W) as the network takes it, mirrored beyond its edges to multiples of the network's patch."""
        rows, columns = (-side % self.network.patch for side in x.shape[2:])
        return self.array(np.pad(numpy(x), ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric"))

    def check_plain(self, **options: Any) -> None:
        """UserError for what a plain model has none of."""
        for name, value in options.items():
            if value is not None and self.config["engine"] == "plain":
                raise UserError(f"{name} means nothing with the engine plain: leave it out")

    def seeds(self, seed: int, samples: int | None) -> list[int]:
        check_seed(seed)
        check_counts(samples=samples)
        own = 1 if self.config["engine"] == "plain" else self.config["samples"]
        count = own if samples is None else samples
        if count > MOST_SAMPLES:
            raise UserError(f"samples = {count}: choose a whole number from 1 to {MOST_SAMPLES}")
        return [(int(seed) + j) % 2**64 for j in range(int(count))]


@diffusion.x0_guide()
def in_range(x0: Any, t: Any, base: Any, scale: float, project: Callable[[Any], Any] | None = None) -> Any:
    """Of the state of a picture base + scale x0 the one of that picture from -1 to 1, projected."""
    picture = (base + scale * x0).clip(-1, 1)
    if project is not None:
        picture = project(picture)
    return (picture - base) / scale


def plain_answer(network: Any, x: Any, t: Any, condition: Any) -> Prediction:
    """What the network says without noise, and without a time."""
    zeros = namespace(x).zeros_like(x)
    return Prediction(network(zeros, zeros[:, 0, 0, 0], **condition))


def in_all(progress: Progress | None, number: int, of: int) -> Progress | None:
    """Reports a step of one of several."""
    return progress and (lambda step, steps: progress(number * steps + step, of * steps))
