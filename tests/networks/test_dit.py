"""Properties of the diffusion transformer that follow from its equations."""

import pytest
import torch

from inkwash.errors import UserError
from inkwash.networks.dit import DiT, positions

SMALL = {"width": 32, "depth": 2, "heads": 4, "context_dim": 6, "label_dim": 3}


def inputs() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return {
        "x": torch.randn(2, 4, 8, 6),
        "time": torch.tensor([20.0, 700.0]),
        "context": torch.randn(2, 5, 6),
        "context_mask": mask,
        "label": torch.randn(2, 3),
    }


def filled(**config: object) -> DiT:
    """A DiT in which nothing is zero any more."""
    torch.manual_seed(0)
    dit = DiT(**SMALL | config).eval()
    for parameter in dit.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return dit


def test_starts_at_zero_with_blocks_that_are_the_identity_and_every_parameter_learns():
    torch.manual_seed(0)
    dit, given = DiT(**SMALL), inputs()
    assert not dit(**given).any()
    x, vector = torch.randn(2, 7, 32), torch.randn(2, 32)
    assert torch.equal(dit.blocks[0](x, vector, given["context"], None), x)
    start = {key: value.clone() for key, value in dit.named_parameters()}
    optimizer = torch.optim.Adam(dit.parameters(), lr=1e-2)
    target = torch.randn(2, 4, 8, 6)
    for _ in range(4):
        optimizer.zero_grad()
        (dit(**given) - target).square().mean().backward()
        optimizer.step()
    assert not [key for key, value in dit.named_parameters() if torch.equal(value, start[key])]


@torch.no_grad()
def test_without_positions_a_permutation_of_patches_permutes_the_output(monkeypatch):
    dit, given = filled(), inputs()
    x = given.pop("x")

    def turned(picture: torch.Tensor) -> torch.Tensor:  # by two patches down, one to the right
        return picture.roll((4, 2), dims=(2, 3))

    with_positions = dit(turned(x), **given)
    monkeypatch.setattr("inkwash.networks.dit.positions", lambda *shape: torch.zeros(1))
    torch.testing.assert_close(dit(turned(x), **given), turned(dit(x, **given)), rtol=0, atol=1e-5)
    assert not torch.allclose(dit(turned(x), **given), with_positions, atol=1e-2)


@torch.no_grad()
def test_padding_is_not_seen_and_each_condition_is():
    dit, given = filled(), inputs()
    out = dit(**given)
    alone = dit(given["x"][1:], given["time"][1:], given["context"][1:, :3], None, given["label"][1:])
    torch.testing.assert_close(out[1:], alone, rtol=0, atol=1e-5)
    changed = given | {"context": given["context"].index_fill(1, torch.tensor([3, 4]), 1e4)}
    assert torch.equal(dit(**changed)[1], out[1])
    for key in ("x", "time", "context", "label"):
        assert not torch.allclose(dit(**given | {key: given[key] + 0.5}), out, atol=1e-4), key


@torch.no_grad()
def test_a_patch_of_the_output_depends_on_its_own_token_where_nothing_attends():
    dit, given = filled(context_dim=None, depth=0), inputs()
    del given["context"], given["context_mask"]
    other = given | {"x": given["x"].clone()}
    other["x"][:, :, 2:4, 4:6] += 1  # the patch in row 1, column 2
    moved = (dit(**other) != dit(**given)).any(dim=1)
    expected = torch.zeros(2, 8, 6, dtype=torch.bool)
    expected[:, 2:4, 4:6] = True
    assert torch.equal(moved, expected)


def test_positions_are_all_different_and_shift_as_sinusoids_do():
    table = positions(5, 7, 32)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1
    grid = table.unflatten(0, (5, 7))
    products = torch.einsum("rcd,rd->rc", grid, grid[:, 0])  # with the same row: a function of the distance
    shifted = torch.einsum("rcd,rcd->rc", grid[:, 1:], grid[:, :-1])
    torch.testing.assert_close(shifted, products[:, 1:2].expand_as(shifted))


@pytest.mark.parametrize("change", [{"label": None}, {"context": None}, {"x": torch.ones(2, 4, 7, 6)}])
def test_wrong_inputs_are_named(change):
    with pytest.raises(ValueError, match=r"label|context|multiple of the patch"):
        DiT(**SMALL)(**inputs() | change)


def test_a_width_it_cannot_divide_is_an_error():
    with pytest.raises(UserError, match="width 30"):
        DiT(width=30, heads=3)
