"""Other tools' noise: Philox by its published test vectors, the CPU's by torch itself."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.checkpoints.seeds import OtherNoise, cuda_randn, drawing_from, first_state, philox

SHAPE = (4, 3, 5)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # of Random123, the code of Salmon et al. 2011: kat_vectors, philox4x32 10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_has_the_published_words(counter, key, words):
    assert tuple(philox(np.array(counter)[:, None], key)[:, 0].tolist()) == words


def test_a_cards_numbers_are_those_published_for_seed_0():
    """torch.manual_seed(0); torch.randn(12, device="cuda")."""
    published = [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711]
    np.testing.assert_allclose(cuda_randn(0, 12), [*published, 2.2655], atol=6e-5)


def test_a_cards_numbers_are_normal_and_other_for_each_seed_and_draw():
    drawn = [cuda_randn(seed, 40_000, draw) for seed, draw in ((7, 0), (7, 1), (2**32 + 7, 0))]
    for numbers in drawn:
        assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02 and np.abs(numbers).max() > 3.5
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.02
    assert (cuda_randn(7, 10) == drawn[0][:10]).all()


def test_a1111_has_a_generator_for_each_picture_and_goes_on_with_it():
    generator = torch.Generator().manual_seed(6)
    alone = [torch.randn(SHAPE, generator=generator) for _ in range(3)]
    again = OtherNoise("a1111-cpu", [5, 6], SHAPE)
    assert all(torch.equal(found[1], own) for found, own in zip([again.first(), again.normal()], alone, strict=False))
    card = OtherNoise("a1111", [5, 6], SHAPE)
    found = [card.first(), card.normal(), card.normal()]
    for draw, one in enumerate(found):
        assert (one[1].numpy() == cuda_randn(6, 60, draw).reshape(SHAPE)).all()


def test_comfyui_draws_a_batch_at_once_and_its_steps_on_the_card_from_the_start():
    batch = OtherNoise("comfyui", [5, 5, 5], SHAPE)
    assert torch.equal(batch.first(), torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(5)))
    for draw in range(2):
        assert (batch.normal().numpy() == cuda_randn(5, 180, draw).reshape(3, *SHAPE)).all()
    apart = OtherNoise("comfyui", [5, 6], SHAPE).first()
    assert torch.equal(apart[1], torch.randn(SHAPE, generator=torch.Generator().manual_seed(6)))


def test_an_ancestral_sampler_takes_its_noise_from_the_tool():
    """Against the steps of k-diffusion's Euler a, by hand, in x / alpha."""
    process = diffusion.Gaussian(diffusion.scaled_linear())
    grid = diffusion.karras(process, 4)
    noise = OtherNoise("a1111", [3], SHAPE)
    start = first_state("a1111", "euler_ancestral", grid, noise.first())
    denoise = lambda x, t, _: diffusion.Prediction(0.3 * x / t.alpha)  # noqa: E731
    rule = drawing_from(noise, diffusion.euler_ancestral)
    found = diffusion.sample(denoise, SHAPE, rule, grid, [99], x=start, device="cpu")
    sigmas = [level.edm_sigma for level in grid.levels]
    x = sigmas[0] * torch.from_numpy(cuda_randn(3, 60, 0).reshape(1, *SHAPE))
    for i, (sigma, lower) in enumerate(pairwise(sigmas)):
        up = (lower**2 * (sigma**2 - lower**2) / sigma**2) ** 0.5
        down = (lower**2 - up**2) ** 0.5
        x = x + (x - 0.3 * x) / sigma * (down - sigma)
        if lower:
            x = x + up * torch.from_numpy(cuda_randn(3, 60, i + 1).reshape(1, *SHAPE))
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)


def test_how_strong_the_first_noise_is():
    process = diffusion.Gaussian(diffusion.scaled_linear())
    whole, part = diffusion.karras(process, 4), diffusion.Grid(process, (0.5, 0.0))
    one = torch.ones(1)
    assert first_state("a1111", "euler", whole, one) == pytest.approx(whole[0].sigma) != 1
    assert first_state("a1111", "ddim", whole, one) == 1 == first_state("comfyui", "euler", whole, one)
    assert first_state("comfyui", "euler", part, one) == pytest.approx(part[0].sigma)
    ends = diffusion.Gaussian(diffusion.betas(diffusion.zero_terminal_snr(np.linspace(1e-3, 0.02, 100))))
    assert first_state("comfyui", "euler", diffusion.trailing(ends, 4, table=100), one) == 1


def test_what_other_tools_draw_in_no_way_that_is_known_is_refused():
    noise = OtherNoise("a1111", [3], SHAPE)
    with pytest.raises(UserError, match="Brownian path"):
        noise.between(1.0, 2.0)
    with pytest.raises(UserError, match="uniform numbers"):
        noise.uniform()
    with pytest.raises(UserError, match="unknown seed_like 'novelai'"):
        OtherNoise("novelai", [3], SHAPE)
