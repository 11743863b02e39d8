"""What the engines learn from, against the formulas."""

import pytest
import torch

from inkwash import diffusion
from inkwash.systems.language import engines
from inkwash.systems.language.networks import AutoregressiveModel, ContinuousDenoiser, MaskedDenoiser
from inkwash.systems.language.vocabulary import END, PAD

SMALL = {"symbols": 11, "dim": 8, "width": 16, "layers": 1, "heads": 2, "length": 6, "source": 0}
WORDS = torch.tensor([[4, 5, 6, 7, END, PAD], [8, 9, END, PAD, PAD, PAD]]).repeat(2000, 1)


def test_hints_are_told_as_often_as_they_should():
    given = engines.random_hints(WORDS, torch.Generator().manual_seed(0)) >= 0
    ends = WORDS <= END
    nothing, length = ~given.any(1), (given | ~ends).all(1)
    some = given & ~ends
    assert nothing.float().mean() == pytest.approx(0.5, abs=0.03)
    assert length.float().mean() == pytest.approx(5 / 16, abs=0.03)
    beginnings = some.any(1) & ~length & (some.cummin(1).values == some).all(1)
    assert beginnings.float().mean() > 1 / 8 - 0.03
    assert (engines.random_hints(WORDS, torch.Generator().manual_seed(0))[given] == WORDS[given]).all()


def test_the_paper_s_loss_is_its_formula():
    torch.manual_seed(0)
    network = ContinuousDenoiser(improved=False, **SMALL)
    words = WORDS[:64]
    value = engines.loss(network)({"words": words}, torch.Generator().manual_seed(3))
    # the same draws: noise around the vectors, times, noise
    generator = torch.Generator().manual_seed(3)
    process = diffusion.Gaussian(diffusion.sqrt())
    clean = network.embedding(words)
    noised = clean + process.at(0.0).sigma * torch.randn(clean.shape, generator=generator)
    times = diffusion.uniform_times(64, generator)
    x0 = torch.where((times < 1 / 2000)[:, None, None], clean, noised)
    alpha = (1 - (1e-4 + (1 - 1e-4) * times).sqrt()).sqrt().float()[:, None, None]
    xt = alpha * x0 + (1 - alpha**2).sqrt() * torch.randn(clean.shape, generator=generator)
    squared = ((network(xt, (1000 * times).float()) - x0) ** 2).mean()
    rounding = -(noised @ network.embedding.weight.T).log_softmax(-1).gather(-1, words[..., None]).mean()
    torch.testing.assert_close(value, squared + rounding, rtol=1e-4, atol=1e-4)


def test_the_improved_loss_is_the_cross_entropy_of_what_is_not_told():
    network = ContinuousDenoiser(**SMALL)
    torch.nn.init.zeros_(network.out.weight)
    with torch.no_grad():
        network.out.bias.copy_(torch.randn(11, generator=torch.Generator().manual_seed(1)))
    law = network.out.bias.log_softmax(-1)  # the same at every place, whatever is seen
    value = engines.loss(network)({"words": WORDS[:500]}, torch.Generator().manual_seed(5))
    open_ = engines.random_hints(WORDS[:500], torch.Generator().manual_seed(5)) < 0
    torch.testing.assert_close(value, -law[WORDS[:500]][open_].mean())


def test_the_masked_loss_of_a_network_that_knows_nothing_is_the_entropy_of_its_guess():
    """MDLM's bound of a constant law is its cross-entropy, whatever the times; here as a mean over many."""
    network = MaskedDenoiser(**SMALL)
    torch.nn.init.zeros_(network.out.weight)
    torch.nn.init.zeros_(network.out.bias)
    loss = engines.loss(network)
    values = [loss({"words": WORDS}, torch.Generator().manual_seed(k)).item() for k in range(5)]
    assert sum(values) / 5 == pytest.approx(torch.log(torch.tensor(10.0)).item(), rel=0.03)


def test_next_words_are_learned_up_to_the_end_of_a_sentence():
    network = AutoregressiveModel(**SMALL)
    words = WORDS[:2]
    value = engines.loss(network)({"words": words}, torch.Generator())
    logits = network(words).log_softmax(-1)
    places = [(0, i) for i in range(5)] + [(1, i) for i in range(3)]
    by_hand = -sum(logits[row, i, words[row, i]] for row, i in places) / 8
    torch.testing.assert_close(value, by_hand)
