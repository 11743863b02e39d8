"""Detection by diffusion: boxes out of noise, for a picture that is looked at once (DiffusionDet, Chen et al. 2022,
2211.09788); or by the same backbone in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from inkwash import diffusion
from inkwash.codecs.picture_files import Array, check
from inkwash.diffusion.arrays import namespace, no_grad, numpy
from inkwash.diffusion.denoiser import Denoiser
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.samplers import StepResult
from inkwash.systems.base import check_counts, check_seed
from inkwash.systems.detection.calibration import calibrated
from inkwash.systems.detection.candidates import Candidates, best_of, joined, spread_over
from inkwash.systems.detection.graphs import GraphNetwork
from inkwash.systems.detection.sizes import Prepared, prepare
from inkwash.systems.torch_model import TorchModel

RENEWED = 0.0  # boxes of a lower logit, a probability of less than one half, are drawn anew after each step
CELLS = 300  # of the head without diffusion: the best that are looked at
KEYS = (  # of the facts, beside the network's
    "engine", "classes", "ids", "size", "boxes", "steps", "samples", "calibration", "common", "train", "choices",
)  # fmt: skip


def checked(facts: dict[str, Any]) -> dict[str, Any]:
    """KeyError where one is missing."""
    return facts | {key: facts[key] for key in KEYS}


class Detection(NamedTuple):
    """What a model says of a picture of W x H pixels: n boxes, the most probable first.

    boxes   (n, 4) float64: x0, y0, x1, y1 in pixels from the picture's corner, x1 and y1 where the box ends
    kinds   (n,) int64: the class of each, from 0
    scores  (n,) float64: its calibrated probability
    spread  (n, 4): the standard deviation of the four over samples; None of one sample
    found   (n,): the share of the samples that have the box; None of one sample
    """

    boxes: Array
    kinds: Array
    scores: Array
    spread: Array | None = None
    found: Array | None = None

    def above(self, threshold: float) -> Detection:
        """Those that are at least so probable."""
        keep = self.scores >= threshold
        return Detection(*(None if part is None else part[keep] for part in self))  # type: ignore[arg-type]


class DetectionModel(TorchModel):
    """A model of boxes.

    facts: engine ("diffusiondet" or "fcos"), classes and the ids that its data gave them, size (of the longer side of
    a picture as the network sees it), boxes, steps, samples, calibration (see `calibrated`), common (the class that
    most objects have), train and choices (digests of the pictures that it has seen), and the network's own.

    >>> model = inkwash.load("runs/cells/model")
    >>> model.detect(picture, steps=4).boxes
    """

    system = "detection"
    has_graphs = True

    def __init__(self, network: Any, config: dict[str, Any]) -> None:
        self.network: Any = network
        self.config = config

    @classmethod
    def build(cls, facts: dict[str, Any]) -> DetectionModel:
        import torch

        from inkwash.systems.detection.networks import DetectionNetwork

        network: Any = DetectionNetwork(**facts["network"])
        return cls(network.to(memory_format=torch.channels_last), checked(facts))

    @classmethod
    def on_graphs(cls, facts: dict[str, Any], folder: Path, threads: int | None) -> DetectionModel:
        return cls(GraphNetwork(folder, threads), checked(facts))

    def facts(self) -> dict[str, Any]:
        return self.config

    @property
    def classes(self) -> list[str]:
        names: list[str] = self.config["classes"]
        return names

    @property
    def denoiser(self) -> Denoiser:
        """Of states of boxes (B, N, 4); its condition is {"features": network.backbone(pictures)}."""
        return denoiser(self.network)

    def detect(
        self,
        picture: Array,
        boxes: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        samples: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detection:
        """Of a picture (H, W) or (H, W, 3), of any size and range. Sample j has the seed `seed` + j. UserError for
        what is no such picture."""
        return self.detect_all([picture], boxes, steps, seed, samples, progress)[0]

    def detect_all(
        self,
        pictures: Sequence[Array],
        boxes: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        samples: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Detection]:
        """Of several pictures, those of one size together; each is told by itself and the seed, so that it has the
        boxes it would have alone."""
        check_seed(seed)
        check_counts(boxes=boxes, steps=steps, samples=samples)
        for picture in pictures:
            check(picture, "the picture")
        prepared = [prepare(picture, self.config["size"], self.multiple) for picture in pictures]
        groups: dict[Any, list[int]] = {}
        for number, one in enumerate(prepared):
            groups.setdefault(one.x.shape, []).append(number)
        found: dict[int, Detection] = {}
        for numbers in groups.values():
            x = self.array(np.concatenate([prepared[number].x for number in numbers]))
            with no_grad(x):
                drawn = self.candidates(x, boxes, steps, seed, samples, progress)
            found |= {number: self.read(own, prepared[number]) for number, own in zip(numbers, drawn, strict=True)}
        return [found[number] for number in range(len(pictures))]

    @property
    def multiple(self) -> int:
        """Of which a side is, as the network sees it."""
        halvings: int = len(self.config["network"]["widths"])
        return 1 << halvings

    def candidates(
        self,
        x: Any,
        boxes: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        samples: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Candidates]:
        """Of each of pictures (B, 3, h, w), as `prepare` makes them; the backbone sees them once."""
        features = self.network.backbone(x)
        if self.config["engine"] == "fcos":
            corners, scores = map(numpy, self.network.dense(features))
            return [joined([best_of(*own, CELLS)]) for own in zip(corners, scores, strict=True)]
        count, drawn = samples or self.config["samples"], []
        for j in range(count):
            told = progress and partial(in_all, progress, j, count)
            drawn.append(self.sampled(features, boxes, steps, (int(seed) + j) % 2**64, told))
        if count == 1:
            return drawn[0]
        return [spread_over(own) for own in zip(*drawn, strict=True)]

    def sampled(
        self,
        features: Sequence[Any],
        boxes: int | None,
        steps: int | None,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> list[Candidates]:
        """One sample of each picture: the boxes of all steps together."""
        pictures, count = len(features[0]), boxes or self.config["boxes"]
        said: list[list[Candidates]] = [[] for _ in range(pictures)]

        def gather(step: StepResult, noise: Noise) -> None:
            extra: Any = step.prediction.extra
            last = (numpy(extra[name][:, -1]) for name in ("boxes", "logits"))
            for own, corners, logits in zip(said, *last, strict=True):
                own.append(best_of(corners.clip(0, 1), expit(logits), count))

        diffusion.sample(
            self.denoiser,
            (count, 4),
            partial(diffusion.ddim, eta=1.0),
            diffusion.uniform(self.denoiser.process, steps or self.config["steps"]),
            [seed] * pictures,
            {"features": features},
            hooks=[gather, renewal],
            device=self.device,
            progress=progress,
        )
        return [joined(own) for own in said]

    def read(self, found: Candidates, prepared: Prepared) -> Detection:
        """In the picture's pixels; what lies beyond its edge is cut off, and boxes of which nothing is left go."""
        frame, ends = (np.array([*size, *size], float) for size in (prepared.frame, prepared.size))
        boxes = np.minimum(found.corners * frame, ends)
        scores = calibrated(found.scores.astype(float), *self.config["calibration"])
        keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
        spread, share = found.spread, found.found
        return Detection(
            boxes[keep],
            found.kinds[keep],
            scores[keep],
            None if spread is None else spread[keep] * frame,
            None if share is None else share[keep],
        )


def denoiser(network: Any) -> Denoiser:
    """What is clean is predicted, on the cosine schedule."""
    return Denoiser(network, diffusion.Gaussian(diffusion.cosine()), "x0")


def renewal(step: StepResult, noise: Noise) -> Any:
    """Box renewal: after each step but the last, boxes whose best logit is no more than RENEWED become noise of
    that picture's own, so that the picture and the seed decide, whatever stands beside it in a batch."""
    if not step.s.sigma:
        return None
    extra: Any = step.prediction.extra
    xp = namespace(step.x)
    sure = xp.amax(extra["logits"][:, -1], -1, keepdims=True) > RENEWED
    return xp.where(sure, step.x, noise.normal())


def in_all(progress: Callable[[int, int], None], sample: int, samples: int, step: int, steps: int) -> None:
    """Reports a step of one sample of several."""
    progress(sample * steps + step, samples * steps)
