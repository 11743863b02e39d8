"""Larger pictures: each sample alone, consistent to the last bit, in the kind of numbers that went in."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.restoration import levels
from inkwash.systems.restoration.consistency import reduced
from inkwash.systems.restoration.upscaler import MOST_NOISE, Upscaler, enlarged
from tests.systems.restoration.toy import picture, upscaler


@pytest.mark.parametrize("engine", ["diffusion", "plain"])
@pytest.mark.parametrize(("bits", "colours"), [(8, 3), (8, 1), (16, 3), (16, 1)])
def test_consistent_to_the_last_bit(bits, colours, engine):
    """Of any size, larger than a window and odd."""
    low = picture(height=19, width=27, bits=bits, colours=colours)
    count = 1 if engine == "plain" else 2
    made = upscaler(engine=engine, factor=3).upscale(low, None if engine == "plain" else count, consistent=True)
    assert made.dtype == low.dtype and made.shape == (count, 57, 81, *low.shape[2:])
    assert all((reduced(one, 3) == low).all() for one in made)


@pytest.mark.parametrize("given", [{"samples": 2}, {"steps": 50}, {"noise_level": 0.1}])
def test_a_plain_model_has_one_answer(given):
    with pytest.raises(UserError, match=f"{next(iter(given))} means nothing with the engine plain: leave it out"):
        upscaler(engine="plain").upscale(picture(), **given)
    assert len(upscaler(engine="plain").upscale(picture())) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"seed": "1"},
        {"seed": None},
        {"seed": True},
        {"seed": 1.5},
        {"samples": np.nan},
        {"steps": "3"},
        {"steps": np.inf},
    ],
)
def test_numbers_that_are_none_are_one_line(given):
    with pytest.raises(UserError, match=r"(seed|samples|steps).*whole number"):
        upscaler().upscale(picture(), **given)


def test_a_sample_is_the_same_alone_and_among_others():
    model, low = upscaler(), picture()
    together = model.upscale(low, 3, seed=5)
    assert (model.upscale(low, 1, seed=7)[0] == together[2]).all()
    assert (together[0] != together[1]).any()
    assert (model.upscale(low, 1, seed=2**64 - 1) == model.upscale(low, 2, seed=2**64 - 2)[1:]).all()


def test_a_model_that_changes_nothing_answers_with_the_bicubic_picture():
    model, low = upscaler(factor=2, engine="plain"), picture()
    torch.nn.init.zeros_(model.network.unet.conv_out.weight)
    torch.nn.init.zeros_(model.network.unet.conv_out.bias)
    expected = enlarged(levels.to_network(low, 255), 2).clip(-1, 1)
    made = model.upscale(low)[0]
    assert np.abs(made - (expected[0].transpose(1, 2, 0) + 1) * 127.5).max() <= 0.5 + 1e-3


def test_a_small_picture_is_noised_at_sampling_time_too():
    """By the sample's own noise; a stage that was stopped at this time hands it over as it is: the same sample."""
    model, low = upscaler(), torch.from_numpy(levels.to_network(picture(), 255))
    clean, noised = (model.enlarge(low, [3], noise_level=level) for level in (0.0, 0.3))
    assert (clean != noised).any()
    seen = []
    model.network.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    model.enlarge(low, [3], noise_level=0.3)
    at = model.denoiser.process.at(0.3)
    noise = diffusion.Noise([3], tuple(low.shape[1:]), "small", device="cpu").normal()
    z = model.denoiser.process.noise(low, at, noise)
    assert float(seen[0]["noise_level"]) == pytest.approx(0.3)
    whole = enlarged(z / at.alpha, 2)
    assert torch.allclose(seen[0]["concat"], whole[..., :32, :32])  # the first window
    assert torch.equal(model.enlarge(z, [3], noise_level=0.3, noised=True), noised)


def test_states_of_training_are_those_of_sampling():
    """Whatever the noise of the small picture, base + scale state is the large one; and large noise has large states,
    so that their size stays about 1."""
    model = upscaler(residual=0.2)
    x = torch.from_numpy(levels.to_network(picture(height=32, width=32), 255)).expand(64, -1, -1, -1)
    low = torch.nn.functional.avg_pool2d(x, 2)
    state, condition, mask = model.example({"x": x, "low": low}, torch.Generator().manual_seed(0))
    level = condition["noise_level"]
    assert mask is None and 0 < float(level.min()) < 0.05 < MOST_NOISE - 0.05 < float(level.max()) < MOST_NOISE
    at = model.denoiser.process.at(level.reshape(-1, 1, 1, 1))
    scale = (0.2**2 + (at.sigma / at.alpha) ** 2) ** 0.5
    assert torch.allclose(condition["concat"] + scale * state, x, atol=1e-5)
    assert 0.3 < float(state.std()) < 1.5
    plain, told, _ = upscaler(engine="plain").example({"x": x, "low": low}, torch.Generator().manual_seed(0))
    assert not told["noise_level"].any() and torch.equal(told["concat"], enlarged(low, 2))
    assert torch.allclose(told["concat"] + 0.3 * plain, x, atol=1e-6)


@pytest.mark.parametrize("most", [200, 4095])
def test_dark_pictures_of_16_bits_stay_in_their_range(most):
    dark = (picture(bits=8).astype(np.uint16) * (most / 255)).astype(np.uint16)
    dark[0, 0] = most
    model = upscaler()
    made = model.upscale(dark, 1, consistent=True)[0]
    assert made.max() <= dark.max() and (reduced(made, 2) == dark).all()
    bright = (dark.astype(np.float64) * 65535 / dark.max()).round().astype(np.uint16)
    free = model.upscale(dark, 1)[0] * (65535 / dark.max())
    assert np.abs(free - model.upscale(bright, 1)[0]).max() < 65535 / dark.max()  # seen alike


def test_a_model_comes_back_from_its_folder(tmp_path):
    model, low = upscaler(), picture()
    model.save(tmp_path)
    again, other = Upscaler.load(tmp_path), Upscaler.load(tmp_path)
    assert again.config == model.config and (again.upscale(low) == other.upscale(low)).all()
    assert np.abs(again.upscale(low, 1).astype(int) - model.upscale(low, 1)).max() <= 2  # weights of 16 bits


def test_pictures_that_are_none_or_too_large_are_one_line(monkeypatch):
    model = upscaler()
    with pytest.raises(UserError, match=r"a picture of shape \(4, 4\) and float64"):
        model.upscale(np.zeros((4, 4)))
    for options, says in (
        ({"samples": 0}, "samples = 0: choose a whole number from 1"),
        ({"steps": 0}, "steps = 0: choose a whole number from 1"),
        ({"steps": True}, "steps = True: choose a whole number from 1"),
        ({"noise_level": 0.6}, "noise_level = 0.6: choose a number from 0 to 0.5"),
    ):
        with pytest.raises(UserError, match=says):
            model.upscale(picture(), **options)
    with pytest.raises(UserError, match="a whole number from 0"):
        model.upscale(picture(), seed=-1)
    monkeypatch.setattr(levels, "free_memory", lambda: 1000)
    with pytest.raises(UserError, match="a picture of 60 x 48 pixels needs about"):
        model.upscale(picture())


@pytest.mark.parametrize("shape", [(5, 7), (1, 3), (2, 2)])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_what_an_independent_implementation_says(shape, factor):
    low = np.random.default_rng(0).random((2, 3, *shape), np.float32)
    expected = interpolate(torch.from_numpy(low), scale_factor=factor, mode="bicubic", align_corners=False)
    np.testing.assert_allclose(enlarged(low, factor), expected, atol=1e-5)
    torch.testing.assert_close(enlarged(torch.from_numpy(low), factor), expected, atol=1e-5, rtol=0)


def test_a_single_pixel_is_a_picture():
    assert upscaler(factor=4).upscale(np.array([[7]], np.uint8), 1, consistent=True).mean() == 7
