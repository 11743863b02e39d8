"""What the networks see and what they are blind to."""

import numpy as np
import pytest
import torch
from scipy.stats import special_ortho_group
from torch import Tensor, nn

from inkwash.systems.protein import networks
from inkwash.systems.protein.networks import FrameNetwork, ProtDiffNetwork, frames_of
from tests.systems.protein.chains import REAL, globule

NETWORKS = {"frames": FrameNetwork, "protdiff": ProtDiffNetwork}


def network(name: str) -> nn.Module:
    """With weights that leave nothing at 0."""
    torch.manual_seed(0)
    made = NETWORKS[name](width=16).double()
    for p in made.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return made


def state(atoms: int, length: int = 12) -> Tensor:
    x = torch.randn(2, atoms * length, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x - x.mean(1, keepdim=True)


T = torch.tensor([-0.5, 0.3], dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_rotated_chain_has_a_rotated_answer(name: str) -> None:
    made = network(name)
    x, turn = state(made.atoms), torch.tensor(special_ortho_group.rvs(3, random_state=1))
    assert torch.allclose(made(x @ turn.T, T), made(x, T) @ turn.T, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_protdiff_is_blind_to_mirrors(name: str) -> None:
    made = network(name)
    x = state(made.atoms)
    unlike = (made(-x, T) + made(x, T)).abs().max()
    assert unlike < 1e-9 if name == "protdiff" else unlike > 0.1


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_nothing(name: str) -> None:
    made = network(name)
    x, n = state(made.atoms), 12 * made.atoms
    padded = torch.cat([x, torch.randn(2, 5 * made.atoms, 3, dtype=torch.float64)], 1)
    mask = torch.arange(padded.shape[1]).expand(2, -1) < n
    assert torch.allclose(made(padded, T, mask)[:, :n], made(x, T), atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_chain_has_a_direction(name: str) -> None:
    """Offsets are signed: residues in the opposite order are another chain, even where all else is symmetric."""
    made = network(name)
    x = state(made.atoms).view(2, 12, made.atoms, 3)
    forward, back = made(x.flatten(1, 2), T), made(x.flip(1).flatten(1, 2), T)
    assert (forward.view_as(x) - back.view_as(x).flip(1)).abs().max() > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_the_answer_depends_on_the_time(name: str) -> None:
    made = network(name)
    assert (made(state(made.atoms), T) - made(state(made.atoms), T + 1)).abs().max() > 1e-3


def test_time_is_turned_away_from_the_place() -> None:
    made = ProtDiffNetwork(width=16)
    assert torch.allclose(made.rotation @ made.rotation.T, torch.eye(16), atol=1e-5)
    assert (made.rotation == ProtDiffNetwork(width=16).rotation).all()
    alike = (
        networks.sinusoid(torch.arange(50.0), 16) @ (networks.sinusoid(torch.arange(50.0), 16) @ made.rotation.T).T
    )
    assert (alike.argmax(1) == torch.arange(50)).double().mean() < 0.5


def test_frames_are_right_handed_axes() -> None:
    frames = frames_of(torch.tensor(globule(20)).double())
    assert torch.allclose(frames @ frames.transpose(-1, -2), torch.eye(3).double().expand(20, 3, 3), atol=1e-9)
    assert torch.allclose(torch.linalg.det(frames), torch.ones(20).double())


def test_points_without_a_frame_give_finite_answers_and_gradients() -> None:
    """All atoms of a residue in one place, or in a line: where noise could lead, if hardly ever."""
    made = FrameNetwork(width=16)
    for p in made.parameters():
        p.data += 0.1
    x = torch.zeros(2, 36, 3)
    x[1, :, 0] = torch.arange(36)
    x = (x - x.mean(1, keepdim=True)).requires_grad_()
    out = made(x, T.float())
    out.sum().backward()
    assert out.isfinite().all() and x.grad is not None and x.grad.isfinite().all()


@pytest.mark.skipif(not REAL.is_file(), reason="the chains lie beside the repository")
def test_the_distances_that_chemistry_fixes() -> None:
    """Their means over compact chains, to 0.001 nm, and they vary by less than 0.006 nm."""
    from inkwash.systems.protein.data import compact, load_chains

    chains = [chain.atoms.astype(float) / 10 for chain in load_chains(REAL) if compact(chain)]
    for fixed, step in ((networks.WITHIN, 0), (networks.TO_NEXT, 1)):
        for i, j, length in fixed:
            found = np.concatenate([np.linalg.norm(x[: len(x) - step, i] - x[step:, j], axis=-1) for x in chains])
            assert found.mean() == pytest.approx(length, abs=1e-4) and found.std() < 0.006
