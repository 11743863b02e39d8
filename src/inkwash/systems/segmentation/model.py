"""Segmentation by diffusion: several masks of one picture, and what their mean says (SegDiff, Amit et al. 2021,
2112.00390); or by the same network without noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash import diffusion
from inkwash.codecs.picture_files import Array, check, normalised, resized
from inkwash.diffusion.arrays import namespace, no_grad, numpy
from inkwash.diffusion.denoiser import Denoise, Denoiser
from inkwash.diffusion.process import Prediction
from inkwash.errors import UserError
from inkwash.systems.base import check_counts, check_seed
from inkwash.systems.segmentation import calibration
from inkwash.systems.segmentation.calibration import calibrated, entropy
from inkwash.systems.segmentation.graphs import GraphMembers
from inkwash.systems.segmentation.objects import class_map, find_objects, sizes_of
from inkwash.systems.segmentation.sizes import check_memory, middle, working_size
from inkwash.systems.torch_model import TorchModel
from inkwash.training.tune import Problem

STEPS = 100  # of the published chain
SHIFT = 10.0  # of the schedule "shifted"
AT_ONCE = 2**20  # pixels of all samples that are drawn together
OVERLAP = 16  # pixels that two windows share at least, as the network sees them
FLIPS = ((), (-1,), (-2,), (-2, -1))
TUNING_STEPS = 50  # of the samples that `tune` learns from
KEYS = (  # of the facts, beside the network's and its members
    "engine", "classes", "distance", "parting", "parametrization", "schedule", "size", "scale", "radius", "smallest",
    "steps", "samples", "sampler", "temperature", "counts", "train", "choices",
)  # fmt: skip


def checked(facts: dict[str, Any]) -> dict[str, Any]:
    """KeyError where one is missing."""
    return facts | {key: facts[key] for key in KEYS}


class Segmentation(NamedTuple):
    """What a model says of a picture of H x W pixels, K classes, by k samples.

    labels       (H, W) int32: 0, or the number of an object
    kinds        (n + 1,) uint8: the class of each object, from 1; kinds[0] is 0
    probability  (K, H, W) float32: of each class, calibrated
    mean         (K, H, W) float32: of the samples, before it is rounded or calibrated
    uncertainty  (H, W) float32: the entropy of the probability, 0 sure, 1 all classes the same
    samples      (k, H, W) int32: the objects of each sample
    counts       (k, K): objects of each sample
    areas        (k, K): their pixels
    count_interval  (K, 2): in which 90 % of the counts of new pictures lie; None where that was never measured
    """

    labels: Array
    kinds: Array
    probability: Array
    mean: Array
    uncertainty: Array
    samples: Array
    counts: Array
    areas: Array
    count_interval: Array | None


class SegmentationModel(TorchModel):
    """A model of masks.

    facts: engine ("segdiff" or "plain"), classes, distance (whether the network also draws the distance to the edge),
    parting (by which objects that touch are parted: that "distance", or that of the "mask" itself), parametrization
    and schedule, size (of the squares that it was trained on) and scale (of its pixels to a picture's), radius and
    smallest of its objects in a picture's pixels, steps, samples, sampler, temperature and counts (see
    `calibration`), train and choices (digests of the pictures that it has seen), members, and the network's own.

    >>> model = inkwash.load("runs/nuclei/model")
    >>> model.segment(picture, samples=9).probability
    """

    system = "segmentation"
    has_graphs = True

    def __init__(self, network: Any, config: dict[str, Any]) -> None:
        self.network: Any = network
        self.config = config

    @classmethod
    def build(cls, facts: dict[str, Any]) -> SegmentationModel:
        import torch

        from inkwash.systems.segmentation.networks import Members

        network: Any = Members(facts["network"], facts["members"])
        return cls(network.to(memory_format=torch.channels_last), checked(facts))  # a fifth faster on a CPU

    @classmethod
    def on_graphs(cls, facts: dict[str, Any], folder: Path, threads: int | None) -> SegmentationModel:
        return cls(GraphMembers(folder, facts, threads), checked(facts))

    def facts(self) -> dict[str, Any]:
        return self.config

    @property
    def classes(self) -> list[str]:
        names: list[str] = self.config["classes"]
        return names

    @property
    def denoiser(self) -> Denoiser:
        """Of masks in [-1, 1], (B, channels, H, W); its condition is {"features": network.encode(picture)}."""
        return denoiser(self.network.networks[0], self.config["parametrization"], self.config["schedule"])

    def segment(
        self,
        picture: Array,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        flips: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Of a picture (H, W) or (H, W, 3), of any size and range. Sample j has the seed `seed` + j, and is
        the same alone and among others, up to rounding. flips: of the plain engine, the mean over mirror images.

        Raises UserError for what is no picture, and for one that is too large for the memory.
        """
        check_seed(seed)
        check(picture, "the picture")
        check_counts(samples=samples, steps=steps)
        self.check_options(samples=samples, steps=steps, sampler=sampler, flips=flips or None)
        height, width = picture.shape[:2]
        check_memory(height, width, self.config["scale"], len(self.classes), samples or self.config["samples"])
        drawn = self.draw(picture, samples, seed, steps, sampler, flips, progress)
        return self.read(drawn, (height, width))

    def check_options(self, **options: Any) -> None:
        """UserError for what this engine has none of."""
        absent = ("samples", "steps", "sampler") if self.config["engine"] == "plain" else ("flips",)
        for name, value in options.items():
            if value is not None and name in absent:
                raise UserError(f"{name} means nothing with the engine {self.config['engine']}: leave it out")

    def draw(
        self,
        picture: Array,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        flips: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        """Samples (k, channels, h, w) from 0 to 1, of the picture as the network sees it: of the plain engine, what
        each member says."""
        x, shape = self.prepare(picture)
        with no_grad(self.array(x)):
            if self.config["engine"] == "plain":
                found = self.answers(x, flips)
            else:
                found = self.sampled(x, samples or self.config["samples"], seed, steps, sampler, progress)
        cut: Array = ((found + 1) / 2).clip(0, 1)[..., : shape[0], : shape[1]]
        return cut

    def prepare(self, picture: Array) -> tuple[Array, tuple[int, int]]:
        """The picture as the network sees it, (1, 3, h, w), mirrored beyond its edge to a size that can be halved as
        often as it has levels; and its size without that."""
        x = normalised(picture).transpose(2, 0, 1)[None]
        shape = working_size((picture.shape[0], picture.shape[1]), self.config["scale"])
        x = resized(x, shape) * 2 - 1
        multiple = 2 ** len(self.config["network"]["widths"])
        rows, columns = (-side % multiple for side in shape)
        return np.pad(x, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric"), shape

    def sampled(
        self,
        x: Array,
        samples: int,
        seed: int,
        steps: int | None,
        sampler: str | None,
        progress: Callable[[int, int], None] | None,
    ) -> Array:
        """Masks from -1 to 1; the picture is encoded once."""
        features = self.network.networks[0].encode(self.array(x))
        method, grid = self.method(steps, sampler)
        shape, found = (self.channels, *x.shape[2:]), []
        together = max(1, AT_ONCE // (shape[1] * shape[2]))
        batches = range(0, samples, together)
        for done, start in enumerate(batches):
            seeds = [(int(seed) + j) % 2**64 for j in range(start, min(start + together, samples))]
            drawn = diffusion.sample(
                self.windowed(diffusion.static_threshold(self.denoiser)),
                shape,
                method,
                grid,
                seeds,
                {"features": features[[0] * len(seeds)]},
                device=self.device,
                progress=progress and partial(in_all, progress, done, len(batches)),
            )
            found.append(numpy(drawn))
        return np.concatenate(found)

    def answers(self, x: Array, flips: bool) -> Array:
        """What each member says, from -1 to 1."""
        found = []
        zeros = self.array(np.zeros((1, self.channels, *x.shape[2:]), np.float32))
        for network in self.network.networks:
            views = []
            for flip in FLIPS if flips else FLIPS[:1]:
                features = network.encode(self.array(np.flip(x, flip)))
                denoise: Any = self.windowed(partial(plain_answer, network))
                answer = denoise(zeros, diffusion.cosine().at(0.0), {"features": features})
                views.append(np.flip(numpy(answer.x0), flip))
            found.append(np.mean(views, 0))
        return np.concatenate(found)

    def windowed(self, denoise: Any) -> Denoise:
        """By windows, where a picture is more than twice as large as what was trained on."""
        made: Denoise = diffusion.tiled(denoise, 2 * self.config["size"], OVERLAP)
        return made

    @property
    def channels(self) -> int:
        return len(self.classes) + int(self.config["distance"])

    def method(self, steps: int | None, sampler: str | None) -> tuple[Any, diffusion.Grid]:
        """The sampler, and its grid."""
        name, count = sampler or self.config["sampler"], steps or self.config["steps"]
        if name == "tuned":
            from inkwash.systems.tune import tuned

            return tuned(self.folder, self.hash, count, self.denoiser.process)
        return diffusion.SAMPLERS[name], diffusion.uniform(self.denoiser.process, count)

    def read(self, drawn: Array, size: tuple[int, int]) -> Segmentation:
        """What samples (k, channels, h, w) say of a picture of this size."""
        classes = len(self.classes)
        mean = resized(drawn.mean(0, keepdims=True), size)[0]
        labels, counts, areas = list[Array](), list[Array](), list[Array]()
        for one in drawn:
            values = resized(one[None], size)[0]
            own, own_kinds = self.objects(values[:classes], values)
            count, area = sizes_of(own, own_kinds, classes)
            labels.append(own)
            counts.append(count)
            areas.append(area)
        probability = calibrated(mean[:classes], self.config["temperature"])
        objects, kinds = self.objects(probability, mean)
        found, quantiles = sizes_of(objects, kinds, classes)[0], self.config["counts"]
        interval = None
        if quantiles is not None:
            pairs = zip(found, quantiles, strict=True)
            interval = np.array([calibration.count_interval(float(n), q) for n, q in pairs])
        return Segmentation(
            objects,
            kinds,
            probability,
            mean[:classes],
            entropy(probability),
            np.stack(labels),
            np.stack(counts),
            np.stack(areas),
            interval,
        )

    def objects(self, probability: Array, values: Array) -> tuple[Array, Array]:
        distance = values[len(self.classes)] if self.config["parting"] == "distance" else None
        return find_objects(class_map(probability), distance, self.config["radius"], self.config["smallest"])

    def problem(self, request: Any, data: Path | None) -> tuple[Problem, diffusion.Grid]:
        """What `tune` learns from: squares of the middle of pictures."""
        from inkwash.systems.segmentation.files import pictures_of

        if self.config["engine"] == "plain":
            raise UserError("a plain model takes one step, of which nothing can be learned")
        if data is None:
            raise UserError("data: pictures are needed, of the kind that the model is for")
        size = self.config["size"]
        pages = [page for _, page in pictures_of(data)][: request.samples]
        squares = [middle(self.prepare(page)[0], size) for page in pages]
        x = self.array(np.concatenate([squares[i % len(squares)] for i in range(request.samples)]))
        with no_grad(x):
            features = self.network.networks[0].encode(x)
        seeds = [(request.seed + i) % 2**64 for i in range(request.samples)]
        shape, denoise = (self.channels, size, size), diffusion.static_threshold(self.denoiser)
        grid: diffusion.Grid = diffusion.uniform(self.denoiser.process, TUNING_STEPS)
        return Problem(denoise, shape, seeds, {"features": features}, self.device), grid


def denoiser(network: Any, parametrization: str, schedule: str) -> Denoiser:
    """linear: the published chain of 100 betas from 0.001 to 0.2; cosine: 2102.09672; shifted: the cosine with SHIFT
    times the noise, since the pixels of a mask are so alike that less hides none of it, and the picture is not looked
    at."""
    if schedule == "linear":
        noise = diffusion.betas(np.linspace(0.001, 0.2, STEPS))
    else:
        noise = diffusion.cosine(shift={"cosine": 1.0, "shifted": SHIFT}[schedule])
    return Denoiser(network, diffusion.Gaussian(noise), parametrization)


def plain_answer(network: Any, x: Any, t: Any, condition: Any) -> Prediction:
    """What the network says without noise, x = 0, and without a time: from -1 to 1."""
    logits = network(x, x[:, 0, 0, 0], condition["features"])
    return Prediction(namespace(x).tanh(logits / 2))  # 2 sigmoid(logits) - 1


def in_all(progress: Callable[[int, int], None], batch: int, batches: int, step: int, steps: int) -> None:
    """Reports a step of one batch of several."""
    progress(batch * steps + step, batches * steps)
