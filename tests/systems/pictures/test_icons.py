import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.systems.pictures import distance_fields
from inkwash.systems.pictures.icons import (
    References,
    augment,
    captioned_icons,
    clean_and_concat,
    counterparts,
    draw_augmentation,
    has_no_side,
    to_fields,
    to_state,
    with_badge,
)
from tests.systems.pictures.shapes import icons


def plain(n):
    """An augmentation that changes nothing."""
    return {
        "mirror": torch.zeros(n, dtype=torch.bool),
        "shift": torch.zeros(n, 2, dtype=int),
        "weight": torch.zeros(n),
    }


def test_captions_are_of_all_words_that_the_sets_have_for_a_name():
    data = icons()
    captioned = captioned_icons(data, 32)
    assert captioned.n_originals == 7 and captioned.held_out.tolist() == [7]
    assert captioned.english[7] == ["hill"] and captioned.english[0][0] == "disc"
    disc = " ".join(captioned.english[0])
    assert "coin" in disc and "round" in disc  # an alias that another style's set knows
    assert captioned.english[0] is captioned.english[3]
    assert any("box with a plus" in text for text in captioned.english[1])
    assert captioned.chinese[0][0] == "圆盘" and captioned.chinese[1] is captioned.english[1]
    words = " ".join(text for texts in captioned.english[:7] for text in texts)
    assert "lake" not in words and "hill" not in words
    np.testing.assert_allclose(captioned.pictures[:7].clip(-2, 2), icons(size=32).fields[:7].clip(-2, 2), atol=1e-6)


def test_a_sign_beside_a_thing_is_said_in_words():
    assert with_badge("mail folder plus") == ["mail folder with a plus", "a mail folder with a plus"]
    assert with_badge("plus") == with_badge("folder") == []


def test_what_says_a_side_is_not_mirrored():
    assert has_no_side("rocket") and not has_no_side("align left") and not has_no_side("question")
    mirror = draw_augmentation(np.array([True, False] * 500), np.random.default_rng(0))["mirror"]
    assert mirror[::2].mean() == pytest.approx(0.5, abs=0.1) and not mirror[1::2].any()


def test_counterparts_are_of_the_same_name_in_another_style():
    data = icons()
    assert counterparts(data) == [[3, 6], [4], [5], [0, 6], [1], [2], [0, 3]]
    rng, rows = np.random.default_rng(0), np.arange(7).repeat(300)
    drawn = References(data).draw(rows, rng)
    assert drawn["has_reference"].mean() == pytest.approx(0.5, abs=0.05)
    assert drawn["wordless"].mean() == pytest.approx(0.2, abs=0.05)
    assert not (drawn["wordless"] & ~drawn["has_reference"]).any()
    own = drawn["has_reference"]
    pairs = {*zip(rows[own].tolist(), drawn["reference"][own].tolist(), strict=True)}
    assert pairs == {(i, j) for i, others in enumerate(counterparts(data)) for j in others}


@given(st.booleans(), st.integers(-1, 1), st.integers(-1, 1), st.floats(-0.3, 0.3))
def test_a_field_is_mirrored_then_shifted_then_made_bolder(mirror, down, right, weight):
    field = np.random.default_rng(0).uniform(-3, 3, (32, 32)).astype(np.float32)
    changed = augment(
        torch.from_numpy(field)[None],
        {"mirror": torch.tensor([mirror]), "shift": torch.tensor([[down, right]]), "weight": torch.tensor([weight])},
    )[0].numpy()
    expected = np.roll(field[:, ::-1] if mirror else field, (down, right), (0, 1))
    inner = slice(1, -1), slice(1, -1)  # what comes in at the edge is its neighbour
    np.testing.assert_allclose(changed[inner], (expected + weight).clip(-2, 2)[inner], atol=1e-6)


def test_states_of_tensors_are_those_of_arrays():
    fields = icons(size=32).fields
    state = to_state(torch.from_numpy(fields), 4)
    np.testing.assert_allclose(state.numpy(), distance_fields.to_state(fields.clip(-2, 2), 4), atol=1e-6)
    np.testing.assert_allclose(to_fields(state, 4).numpy(), fields.clip(-2, 2), atol=1e-6)
    np.testing.assert_allclose(distance_fields.from_state(state.numpy(), 4), fields.clip(-2, 2), atol=1e-6)


def test_beside_a_state_stand_its_mean_and_its_reference():
    fields = torch.from_numpy(icons(size=32).fields)
    mean = to_state(fields[[4, 5]], 4)
    rows = torch.tensor([0, 1])
    x0, concat = clean_and_concat(fields, {"rows": rows}, mean, 4, True)
    torch.testing.assert_close(x0, to_state(fields[:2], 4))
    torch.testing.assert_close(concat, torch.cat([mean, torch.zeros_like(mean)], 1))
    batch = {"rows": rows, "reference": torch.tensor([3, 4]), "has_reference": torch.tensor([True, False])}
    _, concat = clean_and_concat(fields, batch, mean, 4, True)
    torch.testing.assert_close(concat[0, 16:], to_state(fields[3:4], 4)[0])
    assert (concat[1, 16:] == 0).all()
    mirrored = batch | plain(2) | {"mirror": torch.tensor([True, False])}
    x0, concat = clean_and_concat(fields, mirrored, mean, 4, True)
    for state, field in ((x0, fields[0]), (concat[:, :16], fields[4]), (concat[:, 16:], fields[3])):
        torch.testing.assert_close(to_fields(state, 4)[0], field.flip(-1).clip(-2, 2))
