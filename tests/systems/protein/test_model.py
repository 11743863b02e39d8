"""Backbones: of the seeds and lengths that were asked for, by known processes."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from inkwash.diffusion import ZeroCoM, betas
from inkwash.diffusion.denoiser import Denoiser
from inkwash.errors import UserError
from inkwash.systems.protein import model as room
from inkwash.systems.protein.model import BackboneModel
from inkwash.systems.protein.networks import FrameNetwork, ProtDiffNetwork
from inkwash.systems.protein.train import DEFAULTS

NETWORKS = {"frames": (FrameNetwork, 3), "protdiff": (ProtDiffNetwork, 1)}


def backbone(engine: str = "frames", trained: bool = False) -> BackboneModel:
    torch.manual_seed(0)
    kind, atoms = NETWORKS[engine]
    network = kind(width=16)
    for p in network.parameters() if trained and engine == "frames" else ():  # where nothing is 0
        p.data += 0.01 * torch.randn_like(p)
    facts = {"engine": engine, "atoms": atoms, "shortest": 4, "max_length": 30}
    return BackboneModel(network, facts | DEFAULTS[engine] | {"errors": [[1.0, 0.0]]})


def test_an_untrained_model_is_a_gaussian_of_the_data() -> None:
    """Its network answers 0, which by EDM's preconditioning is the exact denoiser of N(0, data_std^2)."""
    made = backbone()
    made.config["sampler"] = ["heun", {}]
    x = np.stack(made.sample([10] * 100, seed=1, steps=40)) / 10
    assert abs(x.mean((1, 2))).max() < 1e-5
    assert x.var() * 30 / 29 == pytest.approx(0.68**2, rel=0.05)  # of 9,000 numbers: 0.015


@pytest.mark.parametrize("engine", NETWORKS)
def test_a_chain_is_the_same_alone_and_among_others(engine: str) -> None:
    made = backbone(engine, trained=True)
    lengths = [12, 20, 12, 7, 20]
    together = made.sample(lengths, seed=5, steps=20)
    for i, length in enumerate(lengths):
        (alone,) = made.sample([length], seed=5 + i, steps=20)
        assert alone.shape == (length, made.config["atoms"], 3)
        assert np.allclose(alone, together[i], atol=1e-3 * abs(alone).max())
    assert not np.allclose(together[0], together[2], atol=0.1)


@pytest.mark.parametrize("engine", NETWORKS)
def test_a_saved_model_makes_the_same(engine: str, tmp_path: Path) -> None:
    made = backbone(engine, trained=True)
    for p in made.network.parameters():
        p.data = p.data.half().float()  # as it is saved
    made.save(tmp_path)
    loaded = BackboneModel.load(tmp_path)
    assert loaded.facts() == made.facts()
    assert (loaded.sample([10], 3, steps=4)[0] == made.sample([10], 3, steps=4)[0]).all()


def test_the_noise_scale_is_that_of_each_step() -> None:
    """The untrained model's chain is linear, x_s = a x_t + b z: its variance follows step by step."""
    made = backbone()
    for scale in (1.0, 0.5):
        variance = made.grid(10)[0].sigma ** 2
        for t, s in pairwise(made.grid(10)):
            ratio = (s.sigma / t.sigma) ** 2
            keep = ratio + (1 - ratio) * 0.68**2 / (0.68**2 + t.sigma**2)
            variance = keep**2 * variance + scale**2 * (t.sigma**2 - s.sigma**2) * ratio
        x = np.stack(made.sample([10] * 100, seed=1, steps=10, noise_scale=scale)) / 10
        assert x.var() * 30 / 29 == pytest.approx(variance, rel=0.06)
    made.config["noise_scale"] = 0.5
    assert np.allclose(made.sample([10], seed=8, steps=10)[0], 10 * x[7], atol=1e-3)
    for wrong in (-1.0, 0.0, math.nan):
        with pytest.raises(UserError, match="noise_scale"):
            made.sample([10], noise_scale=wrong)


def test_progress_goes_up_to_all_of_the_steps() -> None:
    seen = list[tuple[int, int]]()
    backbone().sample([8, 9, 8], steps=3, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_lengths_and_steps_that_there_are_not() -> None:
    made = backbone()
    for length in (3, 31):
        with pytest.raises(UserError, match=f"length {length}: this model makes chains of 4 to 30 residues"):
            made.sample([10, length])
    with pytest.raises(UserError, match="steps = 0"):
        made.sample([10], steps=0)


def test_protdiff_has_the_papers_chain() -> None:
    """1,024 linear betas from 1e-4 to 0.02; the network is told the entry of the table."""
    made = backbone("protdiff")
    table = np.linspace(1e-4, 0.02, 1024)
    grid = made.grid()
    assert len(grid) == 1025 and isinstance(grid.process, ZeroCoM) and grid.process.schedule == betas(table)
    alpha = np.sqrt(np.cumprod(1 - table))[::-1]
    assert np.allclose([level.alpha for level in grid][:-1], alpha, rtol=1e-9)
    assert np.allclose([room.table_index(level) for level in grid][:-1], np.arange(1024)[::-1])


@pytest.mark.parametrize("engine", NETWORKS)
def test_the_network_is_told_what_it_computes_with(engine: str) -> None:
    """ "frames" computes m and sigma of what it is told; they must be those of the process."""
    seen = {}

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        seen["x"], seen["time"] = x, time
        return torch.zeros_like(x)

    own = room.denoiser(backbone(engine).network)
    wrapped = Denoiser(network, own.process, own.parametrization, own.c_noise)
    x, t = torch.ones(1, 6, 3), 0.6
    wrapped(x, t)
    level = own.process.at(t)
    if engine == "protdiff":
        assert float(seen["time"]) == pytest.approx(0.6 * 1024 - 1) and (seen["x"] == x).all()
    else:
        assert float(torch.exp(4 * seen["time"])) == pytest.approx(level.sigma, rel=1e-5)
        assert float(seen["x"][0, 0, 0]) == pytest.approx(1 / np.hypot(0.68, level.sigma), rel=1e-5)
