"""Trainings of backbones: what is learned from, what is held out, and that handedness is learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inkwash.diffusion import Denoiser, centred
from inkwash.errors import UserError
from inkwash.systems.protein import train
from inkwash.systems.protein.data import Chain, points, split
from inkwash.systems.protein.model import SIGMAS, BackboneModel, denoiser
from inkwash.systems.protein.networks import FrameNetwork, ProtDiffNetwork
from inkwash.training.fit import Stopped
from inkwash.training.settings import Settings
from tests.follower import Follower
from tests.systems.protein.chains import chains, globule, save

FIT = Settings(steps=4, batch_size=2, warmup=1, checkpoint_minutes=0)


def recipe(data: Path, **how: object) -> train.Recipe:
    return replace(train.Recipe("backbone", data, FIT, width=16, layers=1), **how)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save(tmp_path / "chains.npz", chains(40))


@pytest.mark.parametrize("engine", ["frames", "protdiff"])
def test_a_training_that_was_stopped_ends_with_the_same_bits(engine: str, data: Path, tmp_path: Path) -> None:
    class Stopper(Follower):
        def stopped(self) -> bool:
            return any(Path(tmp_path / "b/checkpoints").glob("*.json"))

    wanted = recipe(data, engine=engine)
    train.train(wanted, tmp_path / "a", Follower())
    with pytest.raises(Stopped):
        train.train(wanted, tmp_path / "b", Stopper())
    train.train(wanted, tmp_path / "b", Follower())
    first, second = (BackboneModel.load(tmp_path / name / "model") for name in "ab")
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert (a == b).all()
    assert first.config["atoms"] == (3 if engine == "frames" else 1)
    assert first.sample([20], steps=2)[0].shape == (20, first.config["atoms"], 3)


def test_held_out_chains_are_not_learned_from() -> None:
    training_set, choices, _ = split(chains(60))
    batch, held_out = train.loader(training_set, choices, 3, FIT)
    learned = {tuple(row[0].tolist()) for k in range(100) for row in batch(k)["x"]}
    assert learned == {tuple(points(chain, 3)[0].tolist()) for chain in training_set}
    rest = [tuple(row[0].tolist()) for part in held_out for row in part["x"]]
    assert sorted(rest) == sorted(tuple(points(chain, 3)[0].tolist()) for chain in choices)
    assert sum(int(part["mask"].sum()) for part in held_out) == 3 * sum(len(chain.atoms) for chain in choices)


def test_the_errors_of_an_untrained_network_are_those_of_a_gaussian() -> None:
    """It answers 0, the exact denoiser of N(0, d^2): of data of variance v the noise is missed by the share
    (sigma^2 v + d^4) / (sigma^2 + d^2)^2."""
    made = train.padded([points(chain, 3) for chain in chains(40)])
    variance = float((made["x"] ** 2).sum() / made["mask"].sum() / 3)
    with torch.no_grad():
        errors = train.noise_errors(denoiser(FrameNetwork(width=16)), made)
    assert errors[0][0] == pytest.approx(SIGMAS[0])  # the end of the grid: what lies below is not extrapolated
    for sigma, error in errors:
        wanted = (sigma**2 * variance + 0.68**4) / (sigma**2 + 0.68**2) ** 2
        assert error == pytest.approx(wanted, rel=0.08)


def test_what_lies_in_the_padding_does_not_count() -> None:
    made = train.padded([points(chain, 3) for chain in chains(3)])
    denoise = denoiser(FrameNetwork(width=16))

    @torch.no_grad()
    def loss(x: torch.Tensor) -> float:
        return float(denoise.loss(x, mask=made["mask"], generator=torch.Generator().manual_seed(0)))

    assert loss(torch.where(made["mask"][..., None], made["x"], 9.0)) == loss(made["x"])


def test_chains_that_are_none_to_learn_from(tmp_path: Path) -> None:
    rods = [Chain(f"{i}ABC_A", globule(30) * [3.0, 0.1, 0.1]) for i in range(5)]
    with pytest.raises(UserError, match="of 5 chains none is compact, unbroken and of 20 to 100 residues"):
        train.train(recipe(save(tmp_path / "rods.npz", rods)), tmp_path / "out", Follower())
    assert not (tmp_path / "out").exists()
    held_out = [chain for chain in chains(40) if not split([chain])[0]]
    with pytest.raises(UserError, match="too few to train on"):
        train.train(recipe(save(tmp_path / "few.npz", held_out[:1])), tmp_path / "out", Follower())


def test_handedness_is_learned_by_one_network_only(tmp_path: Path) -> None:
    """From one chain: its mirror image is then denoised much worse, by ProtDiff's network exactly as well."""
    chain = Chain("1ABC_A", globule(12, 3))
    error = {}
    for engine, network in (("frames", FrameNetwork(32, layers=(1, 2))), ("protdiff", ProtDiffNetwork(32, 2))):
        torch.manual_seed(0)
        x = torch.from_numpy(points(chain, network.atoms)).expand(16, -1, -1)
        denoise, optimizer = denoiser(network), torch.optim.Adam(network.parameters(), 3e-3)
        eps = centred(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
        t = torch.full((16,), denoise.process.schedule.sigma_to_t(0.15))

        def loss(sign: int, x0: Tensor = x, t: Tensor = t, eps: Tensor = eps, denoise: Denoiser = denoise) -> Tensor:
            state = denoise.draw(sign * x0, t, eps=sign * eps)[0]
            return ((denoise(state, t).x0 - sign * x0) ** 2).mean()

        for _ in range(100):
            optimizer.zero_grad()
            loss(1).backward()
            optimizer.step()
        error[engine] = [loss(sign).item() for sign in (1, -1)]
    assert error["frames"][1] > 4 * error["frames"][0]
    assert error["protdiff"][1] == pytest.approx(error["protdiff"][0], rel=1e-3)
