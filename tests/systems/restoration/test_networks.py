"""The network: what it is told has a say, and sizes are free."""

import pytest
import torch

from inkwash.systems.restoration.networks import RestorationNetwork
from tests.systems.restoration.toy import editor, upscaler

NOISE = torch.randn(4, 4, 16, 24, generator=torch.Generator().manual_seed(0))
X, SOURCE, TIME = NOISE[:2, :3], NOISE[2:], torch.tensor([100.0, 900.0])


def test_times_noise_levels_and_sources_have_a_say():
    network = upscaler().network
    level = torch.tensor([0.1, 0.4])
    found = network(X, TIME, SOURCE[:, :3], level)
    for other in (
        network(X, TIME + 1, SOURCE[:, :3], level),
        network(X, TIME, SOURCE[:, :3], level + 0.01),
        network(X, TIME, SOURCE[:, :3] + 0.1, level),
        network(X + 0.1, TIME, SOURCE[:, :3], level),
    ):
        assert found.shape == X.shape and not torch.allclose(found, other, atol=1e-5)


def test_what_is_missing_has_a_say():
    network = editor().network
    whole = SOURCE.clone()
    whole[:, 3] = 0
    hole = whole.clone()
    hole[:, 3, 4:8] = 1
    assert not torch.allclose(network(X, TIME, whole), network(X, TIME, hole), atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_patch_is_a_permutation_and_any_multiple_of_it_a_size(patch):
    """A network that has learned nothing answers with nothing; sizes that cannot be halved often are fine."""
    network = RestorationNetwork(widths=(16, 16, 16), patch=patch)
    for height, width in ((patch, patch), (3 * patch, 5 * patch)):
        x = torch.randn(1, 3, height, width)
        answer = network(x, torch.tensor([5.0]), x)
        assert answer.shape == x.shape and not answer.any()


@pytest.mark.parametrize("attention", [True, False])
def test_without_attention_no_weight_is_of_one(attention):
    network = RestorationNetwork(widths=(16, 16), attention=attention)
    assert any("attentions" in name for name in network.state_dict()) is attention
    assert network.config["attention"] is attention
