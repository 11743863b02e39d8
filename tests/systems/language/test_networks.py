"""Transformers over words: what each position may see, and what comes out."""

import numpy as np
import pytest
import torch

from inkwash.systems.language.networks import AutoregressiveModel, ContinuousDenoiser, MaskedDenoiser
from inkwash.systems.language.vocabulary import END, PAD

SMALL = {"symbols": 11, "dim": 8, "width": 16, "layers": 2, "heads": 2, "length": 6, "source": 5}


def sentences(n=3):
    return torch.randint(4, 11, (n, 6), generator=torch.Generator().manual_seed(0))


def nonzero(network):
    """Random weights everywhere, also where training begins with zeros."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


@torch.no_grad()
def test_the_next_word_depends_on_those_before_it_alone():
    network, words = nonzero(AutoregressiveModel(**SMALL)), sentences()
    seen = network(words)
    for i in range(6):
        changed = words.clone()
        changed[:, i] = 4 + (words[:, i] - 3) % 7
        other = network(changed)
        torch.testing.assert_close(other[:, : i + 1], seen[:, : i + 1])
        if i < 5:
            assert (other[:, i + 1] - seen[:, i + 1]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", [AutoregressiveModel, MaskedDenoiser, ContinuousDenoiser])
@torch.no_grad()
def test_a_source_is_read_and_its_padding_is_not(kind):
    network, words = nonzero(kind(**SMALL)), sentences()
    x = torch.randn(3, 6, 8) if kind is ContinuousDenoiser else words
    time = () if kind is AutoregressiveModel else (torch.full((3,), 500.0),)
    source = torch.tensor([[4, 5, PAD, PAD]] * 3)

    def answer(source):
        output = network(x, *time, source=source, source_mask=source != PAD)
        return output[0] if kind is ContinuousDenoiser else output

    told = answer(source)
    torch.testing.assert_close(told, answer(source[:, :2]))
    other = source.clone()
    other[:, 1] = END
    assert (answer(other) - told).abs().max() > 1e-4


@torch.no_grad()
def test_an_improved_denoiser_answers_with_the_mean_of_word_vectors_of_unit_scale():
    network = nonzero(ContinuousDenoiser(**SMALL))
    x, time = torch.randn(3, 6, 8), torch.full((3,), 500.0)
    mean, extra = network(x, time)
    weights = extra["logits"].softmax(-1)
    torch.testing.assert_close(mean, torch.einsum("blv,vd->bld", weights, network.embeddings))
    np.testing.assert_allclose(network.embeddings.square().mean(1), 1, rtol=1e-5)


@torch.no_grad()
def test_a_denoiser_of_the_paper_has_free_word_vectors():
    network = nonzero(ContinuousDenoiser(improved=False, **SMALL))
    assert torch.equal(network.embeddings, network.embedding.weight)
    assert network(torch.randn(3, 6, 8), torch.full((3,), 500.0)).shape == (3, 6, 8)
