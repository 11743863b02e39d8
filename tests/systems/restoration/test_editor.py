"""Edited photographs: what is known keeps its bits, what is not known has no say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.restoration import levels
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.levels import as_bright, luma
from inkwash.systems.restoration.masks import random_hole
from tests.systems.restoration.toy import editor, picture

MODEL = editor()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sides=st.tuples(st.integers(9, 50), st.integers(9, 50)),
    bits=st.sampled_from([8, 16]),
    colours=st.sampled_from([1, 3]),
    engine=st.sampled_from(["diffusion", "plain"]),
)
def test_what_is_known_keeps_its_bits(seed, sides, bits, colours, engine):
    """Beside holes of any form, in pictures larger than a window."""
    given = picture(seed % 100, *sides, bits=bits, colours=colours)
    hole = random_hole(np.random.default_rng(seed), 64)[: sides[0], : sides[1]]
    hole[4, 4], hole[0, 0] = True, False
    more = {} if engine == "plain" else {"samples": 2, "steps": 2}
    found = editor(engine=engine).edit(given, "inpaint", hole.astype(float), seed=seed, **more)
    assert found.samples.dtype == given.dtype and (found.invented == hole).all()
    assert all((one[~hole] == given[~hole]).all() for one in found.samples)
    assert not found.spread[~hole].any() and (engine == "plain" or hole.sum() < 40 or found.spread[hole].any())


def test_what_lies_in_the_hole_has_no_say():
    given, hole = picture(), np.zeros((24, 30))
    hole[8:16, 10:20] = 1
    other = given.copy()
    other[hole > 0] = 255 - other[hole > 0]
    one, two = (MODEL.edit(each, "inpaint", hole, seed=1).samples for each in (given, other))
    assert (one == two).all()


@pytest.mark.parametrize("steps", [2, 8])
def test_the_last_answer_has_hardly_any_noise_to_take_away(steps):
    """What a small network leaves of it is grain."""
    model, times = editor(), []
    model.network.register_forward_pre_hook(lambda _, given: times.append(float(given[1][0]) / 1000))
    model.edit(picture(), "restore", samples=1, steps=steps)
    levels = [model.denoiser.process.at(t) for t in times]
    assert len(levels) == steps and levels[0].sigma > 0.999 and levels[-1].sigma < 0.01


def test_between_black_and_white_both_are_mixed():
    given, hole = picture(), np.zeros((24, 30))
    hole[8:16, 10:20] = 1
    whole = MODEL.edit(given, "inpaint", hole, samples=1).samples[0].astype(float)
    hole[8:16, 15:20] = 0.25
    half = MODEL.edit(given, "inpaint", hole, samples=1).samples[0]
    mixed = 0.25 * whole + 0.75 * given
    assert np.abs(half - mixed)[8:16, 15:20].max() <= 1
    assert (half == whole)[8:16, 10:15].all()


@pytest.mark.parametrize(("outpaint", "bits"), [(0.25, 8), (0.1, 16), (0.45, 8)])
def test_a_picture_that_is_drawn_on_is_in_the_middle_with_its_bits(outpaint, bits):
    given = picture(bits=bits)
    found = MODEL.edit(given, "uncrop", outpaint=outpaint, samples=1, steps=1)
    height, width = found.invented.shape
    top, left = (height - 24) // 2, (width - 30) // 2
    assert (top / height, left / width) == (pytest.approx(outpaint, abs=0.02), pytest.approx(outpaint, abs=0.02))
    inside = np.s_[top : top + 24, left : left + 30]
    assert (found.samples[0][inside] == given).all()
    assert not found.invented[inside].any() and found.invented.sum() == height * width - 24 * 30


def test_colours_are_drawn_by_the_brightness_alone():
    given = picture()
    grey = luma(given)
    expected = (0.299 * given[..., 0] + 0.587 * given[..., 1] + 0.114 * given[..., 2]).round()
    assert (grey == expected).all()
    one, two = (MODEL.edit(each, "colourise").samples for each in (given, grey))
    assert one.shape == (2, 24, 30, 3) and (one == two).all()


@pytest.mark.parametrize("engine", ["diffusion", "plain"])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_brightness_stays_where_colours_are_drawn(engine, bits):
    """Up to the rounding of three numbers, which is half a level at most, and of 32 bits."""
    given = picture(bits=bits)
    samples = editor(engine=engine).edit(given, "colourise", seed=1).samples
    assert samples.std(-1).mean() > given.max() / 500  # it drew colours
    off = samples @ np.array([0.299, 0.587, 0.114]) - luma(given)
    assert np.abs(off).max() <= (0.501 if bits == 8 else 0.6)


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.one_of(st.floats(-1, 1, width=32), st.sampled_from([-1.0, 1.0, 0.999])),
)
def test_colours_at_another_brightness_have_its_brightness_and_their_hue(colours, grey):
    weights = np.array([0.299, 0.587, 0.114])
    x, level = np.array(colours, np.float32).reshape(1, 3, 1, 1), np.full((1, 1, 1, 1), grey, np.float32)
    found = as_bright(x, level)[0, :, 0, 0]
    assert np.abs(found).max() <= 1 + 1e-5 and found @ weights == pytest.approx(grey, abs=1e-5)
    before, after = x[0, :, 0, 0] - x[0, :, 0, 0] @ weights, found - grey
    assert np.abs(np.cross(before, after)).max() < 1e-5 and before @ after >= -1e-5
    if np.abs(before + grey).max() <= 1:
        np.testing.assert_allclose(after, before, atol=1e-5)  # no fainter than it must be
    np.testing.assert_allclose(as_bright(torch.tensor(x), torch.tensor(level))[0, :, 0, 0], found, atol=1e-6)


def test_colours_may_be_as_bright_as_those_of_the_picture(monkeypatch):
    given = np.zeros((4, 6, 3), np.uint16)
    given[..., 2] = 3000  # of 12 bits, and much brighter than its brightness
    model = editor()
    monkeypatch.setattr(model, "fill", lambda source, *_: np.ones_like(source))
    assert (model.edit(given, "colourise", samples=1).samples == 3000).all()


@pytest.mark.parametrize(
    ("given", "mask", "says"),
    [
        (Image.fromarray(picture()), None, "a picture of type Image: give an array"),
        (picture()[:0], None, "it has no pixels"),
        (picture(), [[0, 1]], "mask: of type list: give an array"),
        (picture(), np.zeros((24, 30), object), "mask: numbers of type object: give real ones"),
    ],
)
def test_what_is_no_array_is_one_line(given, mask, says):
    with pytest.raises(UserError, match=says):
        MODEL.edit(given, "restore" if mask is None else "inpaint", mask)


def test_a_seed_of_numpy_is_one():
    one, two = (MODEL.edit(picture(), "restore", seed=seed).samples for seed in (np.int64(3), 3))
    assert (one == two).all()
    for name in ("seed", "samples"):
        with pytest.raises(UserError, match=rf"{name}.* 1.5: .*a whole number"):
            MODEL.edit(picture(), "restore", **{name: 1.5})


def test_the_order_of_bytes_means_nothing():
    given = picture(bits=16)
    one, two = (MODEL.edit(each, "restore", samples=1).samples for each in (given, given.astype(">u2")))
    assert (one == two).all()


def test_a_canvas_and_many_samples_that_are_too_large_are_one_line(monkeypatch):
    """Before any memory is taken: a picture is ten times as wide with the largest of borders."""
    monkeypatch.setattr(levels, "free_memory", lambda: 2e6)
    monkeypatch.setattr("inkwash.systems.restoration.editor.canvas", None)
    with pytest.raises(UserError, match=r"a picture of 300 x 240 pixels needs about 0.0 GB"):
        MODEL.edit(picture(), "uncrop", outpaint=0.45)
    given, hole = picture(height=400, width=500), np.zeros((400, 500))
    hole[200, 300] = 1
    with pytest.raises(UserError, match=r"needs about 0.0 GB, .* or take fewer samples"):
        MODEL.edit(given, "inpaint", hole, samples=5, steps=1)
    assert MODEL.edit(given, "inpaint", hole, samples=1, steps=1).invented.sum() == 1


@pytest.mark.parametrize("task", ["restore", "denoise", "deblur"])
def test_grey_stays_grey_and_the_model_is_not_told_the_task(task):
    given = picture(colours=1)
    found = MODEL.edit(given, task, seed=3)
    assert found.samples.shape == (2, 24, 30) and found.invented.all()
    assert (found.samples == MODEL.edit(given, "deblur", seed=3).samples).all()


def test_a_small_hole_in_a_large_picture_costs_no_more_than_its_surroundings():
    seen = []
    model = editor()
    model.network.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    given, hole = picture(height=400, width=500), np.zeros((400, 500))
    hole[200:204, 300:304] = 1
    found = model.edit(given, "inpaint", hole, samples=1, steps=2)
    assert sum(shape[2] * shape[3] for shape in seen) <= 2 * 4 * 32**2
    assert (found.samples[0] != given).any(-1).sum() <= 16


def test_in_training_only_the_hole_is_noised_and_counts():
    """The loss is the same whatever the network says of what is known, and its gradient there is 0."""
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    hole = torch.zeros(2, 1, 16, 16)
    hole[..., 4:9, 2:12] = 1
    batch = {"x": x, "source": x, "missing": hole, "drawn": hole > 0}
    state, condition, mask = MODEL.example(batch, torch.Generator())
    assert not condition["concat"][:, :3][mask].any()  # nothing of the hole is told
    known = (hole == 0).expand_as(x)
    assert torch.equal(condition["concat"][:, :3][known], x[known]) and not state[known].any()
    seen = []

    def answer(noised, time, concat, mask):
        seen.append(noised)
        seen.append(torch.zeros_like(noised, requires_grad=True))
        return seen[-1]

    denoiser = MODEL.denoiser.__class__(answer, MODEL.denoiser.process, "x0")
    denoiser.loss(state, condition, mask=mask, generator=torch.Generator().manual_seed(0)).backward()
    noised, said = seen
    assert not noised[known].any() and noised[~known].any()
    assert not said.grad[known].any() and said.grad[~known].all()


def test_a_model_comes_back_from_its_folder(tmp_path):
    MODEL.save(tmp_path)
    again = Editor.load(tmp_path)
    assert again.config == MODEL.config
    one, two = (model.edit(picture(), "restore", samples=1).samples for model in (again, Editor.load(tmp_path)))
    assert (one == two).all()


@pytest.mark.parametrize(
    ("task", "more", "says"),
    [
        ("inpaint", {}, "inpaint needs mask: what to draw anew"),
        ("uncrop", {}, "uncrop needs outpaint: how far to draw on"),
        ("restore", {"mask": np.ones((24, 30))}, "mask means nothing with the task restore"),
        ("inpaint", {"mask": np.ones((24, 30)), "outpaint": 0.1}, "outpaint means nothing with the task inpaint"),
        ("paint", {}, "unknown task 'paint': did you mean inpaint"),
        ("uncrop", {"outpaint": 0.5}, "outpaint = 0.5: choose a fraction of the side above 0, to 0.45"),
        ("inpaint", {"mask": np.full((24, 30), 255)}, "mask: 255 to 255: numbers from 0 to 1 are needed"),
        ("inpaint", {"mask": np.zeros((24, 30))}, "some of them above 0"),
        ("inpaint", {"mask": np.ones((30, 24))}, r"mask: its shape is \(30, 24\), the picture's \(24, 30\)"),
    ],
)
def test_what_does_not_go_together_is_one_line(task, more, says):
    with pytest.raises(UserError, match=says):
        MODEL.edit(picture(), task, **more)
