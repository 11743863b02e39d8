"""Backbones of small proteins: ProtDiff (Trippe et al. 2023, 2206.04119), and a model that knows handedness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from inkwash import diffusion
from inkwash.diffusion.denoiser import Denoise, Denoiser, quarter_log_sigma
from inkwash.diffusion.parametrization import edm
from inkwash.diffusion.schedule import NoiseLevel
from inkwash.errors import UserError
from inkwash.systems.base import check_seed
from inkwash.systems.protein.networks import FrameNetwork, ProtDiffNetwork
from inkwash.systems.torch_model import TorchModel

NETWORKS: dict[str, type[nn.Module]] = {"frames": FrameNetwork, "protdiff": ProtDiffNetwork}
SIGMAS = (0.002, 30.0)  # of "frames", in nm: from a fiftieth of an angstrom to far more than any chain is wide
BATCH = 64  # chains that are sampled together
TABLE = 1024  # steps of ProtDiff's chain


class BackboneModel(TorchModel):
    """A model of backbones.

    facts: engine ("frames" or "protdiff"), atoms of a residue (3: N, CA, C; 1: CA), shortest and max_length of the
    chains it was trained on, steps, sampler with its options, `errors` of the noise predicted at noise levels, from
    which the variance of a step follows (see `analytic_variance`), noise_scale of `sample`, and the network's own.

    >>> model = inkwash.load("backbone")
    >>> model.sample([64, 64, 80], seed=7)
    """

    system = "protein"

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        self.network, self.config = network, config

    @classmethod
    def build(cls, facts: dict[str, Any]) -> BackboneModel:
        for key in ("atoms", "shortest", "max_length", "steps", "sampler", "errors", "noise_scale"):
            facts[key]
        return cls(NETWORKS[facts["engine"]](**facts["network"]), facts)

    def facts(self) -> dict[str, Any]:
        network: Any = self.network
        return self.config | {"network": network.config}

    @property
    def denoiser(self) -> Denoise:
        """Of centred points in nm, (B, atoms L, 3), residue by residue: the chain that was learned, as it is."""
        return self.scaled(1.0)

    def scaled(self, noise_scale: float) -> Denoise:
        """The denoiser of a chain whose steps draw so many times the noise: below 1, as in ProtDiff and its
        successors, more regular backbones and less diverse ones."""
        sigmas, errors = zip(*self.config["errors"], strict=True)
        scaled: Denoise = diffusion.analytic_variance(denoiser(self.network), sigmas, errors, noise_scale)
        return scaled

    def grid(self, steps: int | None = None) -> diffusion.Grid:
        """The model's own times, of `steps` steps."""
        spacing = diffusion.uniform if self.config["engine"] == "protdiff" else diffusion.karras
        grid: diffusion.Grid = spacing(denoiser(self.network).process, steps or self.config["steps"])
        return grid

    def sampler(self) -> Any:
        """The core's sampler with this model's options."""
        name, options = self.config["sampler"]
        return partial(diffusion.SAMPLERS[name], **options)

    def sample(
        self,
        lengths: Sequence[int],
        seed: int = 0,
        steps: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        noise_scale: float | None = None,
    ) -> list[np.ndarray]:
        """A backbone of each length, (L, atoms, 3) in angstrom, centred; number i has the seed `seed` + i, and is the
        same alone and among others, up to rounding. noise_scale: see `scaled`; None is the model's own, 1 the chain
        as it was learned, which `denoiser` is.

        Raises UserError for lengths that the model was not trained on.
        """
        check_seed(seed)
        if steps is not None and steps < 1:
            raise UserError(f"steps = {steps}: at least 1 is needed")
        if noise_scale is not None and not 0 < noise_scale <= 2:
            raise UserError(f"noise_scale = {noise_scale}: a number above 0 and up to 2 is needed")
        self.check_lengths(lengths)
        alike = [[i for i, own in enumerate(lengths) if own == length] for length in sorted(set(lengths))]
        batches = [rows[k : k + BATCH] for rows in alike for k in range(0, len(rows), BATCH)]
        atoms, grid, found = self.config["atoms"], self.grid(steps), dict[int, np.ndarray]()
        denoise = self.scaled(noise_scale or self.config["noise_scale"])
        for done, rows in enumerate(batches):
            length = lengths[rows[0]]
            x = diffusion.sample(
                denoise,
                (atoms * length, 3),
                self.sampler(),
                grid,
                [(seed + i) % 2**64 for i in rows],
                progress=progress and partial(in_all, progress, done, len(batches)),
                device=self.device,
            )
            found |= dict(zip(rows, 10 * x.numpy(force=True).reshape(-1, length, atoms, 3), strict=True))
        return [found[i] for i in range(len(lengths))]

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """UserError for lengths that the model was not trained on."""
        low, high = self.config["shortest"], self.config["max_length"]
        for length in lengths:
            if not low <= length <= high:
                raise UserError(f"length {length}: this model makes chains of {low} to {high} residues")


def in_all(progress: Callable[[int, int], None], batch: int, batches: int, step: int, steps: int) -> None:
    """Reports a step of one batch of several."""
    progress(batch * steps + step, batches * steps)


def denoiser(network: nn.Module) -> Denoiser:
    """How each network is wrapped. ProtDiff: linear betas from 1e-4 to 0.02, the noise predicted. Ours: EDM's
    preconditioning (Karras et al. 2022, 2206.00364), so that it is as exact at 0.01 angstrom as at 10."""
    if isinstance(network, ProtDiffNetwork):
        table = diffusion.betas(np.linspace(1e-4, 0.02, TABLE))
        return Denoiser(network, diffusion.ZeroCoM(table), "eps", table_index)
    config: Any = network.config
    process = diffusion.ZeroCoM(diffusion.variance_exploding(*SIGMAS))
    return Denoiser(network, process, edm(config["data_std"]), quarter_log_sigma)


def table_index(t: NoiseLevel) -> Any:
    """The entry of ProtDiff's table of betas."""
    return TABLE * t.t - 1
