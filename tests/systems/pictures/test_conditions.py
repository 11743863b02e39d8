import numpy as np
import pytest
import torch

from inkwash.systems.pictures import colours
from inkwash.systems.pictures.conditions import Conditions, captioned, own_colour
from inkwash.training import data
from tests.models import tiny
from tests.systems.pictures.discs import red_discs


def test_recoloured_pictures_are_captioned_with_their_colour_but_never_in_a_held_out_pair():
    data = red_discs()
    dataset = captioned(data, 0.5)
    near = ("red", "brown")  # too like what they are
    assert dataset.n_originals == 3 and captioned(data, 0.0).pictures.shape[0] == 3
    for i, concept, noun in ((0, "1f34e", "apple"), (1, "1f408", "cat")):
        possible = [c for c in colours.COLOURS if not colours.held_out(concept, c) and c not in near]
        assert [dataset.english[k][0] for k in dataset.recoloured[i]] == [f"{c} {noun}" for c in possible]
        assert all(
            dataset.chinese[k][0].startswith(colours.COLOURS[c].chinese)
            for k, c in zip(dataset.recoloured[i], possible, strict=True)
        )
    rng = np.random.default_rng(0)
    chosen = np.array([0, 1, 2] * 1000)
    swapped = dataset.swap_recoloured(chosen, 0.25, rng)
    assert (swapped >= dataset.n_originals).mean() == pytest.approx(0.25, abs=0.03)
    assert all(k == i or k in dataset.recoloured[i] for i, k in zip(chosen, swapped, strict=True))


def test_the_own_colour_of_a_thing_is_said_but_not_where_it_is_kept_for_the_test(monkeypatch):
    data = red_discs()
    kept = colours.held_out("1f408", "red")
    assert own_colour(data, 0) is None  # its name says it
    assert own_colour(data, 1) == (None if kept else "red")
    monkeypatch.setattr(colours, "held_out", lambda concept, colour: not kept)
    assert own_colour(data, 1) == ("red" if kept else None)


def test_conditions_are_of_both_languages_and_now_and_then_silent():
    """10 % without words and style, 5 % more without words, 10 % more without a style; two in five are Chinese; and
    each of a picture's captions as often as it is written."""
    model, dataset = tiny(), captioned(red_discs(), 0.0)
    conditions = Conditions(model, dataset, 0.4)
    batch = conditions.draw(np.ones(40_000, int), np.random.default_rng(0))  # the cat in the style "flat"
    texts = np.array(conditions.texts)[batch["text"]]
    silent, without_style = texts == "", batch["style"] == 2
    assert silent.mean() == pytest.approx(0.15, abs=0.008)
    assert without_style.mean() == pytest.approx(0.20, abs=0.008)
    assert (silent & without_style).mean() == pytest.approx(0.10, abs=0.006)
    assert set(batch["style"][~without_style]) == {0}
    for share, captions_of_cat in ((0.6, dataset.english[1]), (0.4, dataset.chinese[1])):
        for text in {*captions_of_cat}:
            expected = share * captions_of_cat.count(text) / len(captions_of_cat)
            assert (texts[~silent] == text).mean() == pytest.approx(expected, abs=0.012)


def test_the_network_is_told_what_the_text_encoder_says(monkeypatch):
    """Texts of a batch padded to its longest, or to the longest of all where shapes must not change."""
    model = tiny()
    conditions = Conditions(model, captioned(red_discs(), 0.5), 0.4)
    texts, longest = ["", "red apple", "红苹果"], conditions.encode.ragged.longest
    numbers = torch.tensor([conditions.texts.index(text) for text in texts])
    expected = model.text_encoder.encode(texts, torch.from_numpy)
    for length in (expected["context"].shape[1], longest):
        condition = conditions({"text": numbers, "style": torch.tensor([1, 2, 0])})
        assert condition["context"].shape[1] == condition["context_mask"].shape[1] == length
        padded = {"context": condition["context"], "context_mask": condition["context_mask"]}
        for name, value in padded.items():
            own = torch.zeros(value.shape, dtype=value.dtype)
            own[:, : expected[name].shape[1]] = expected[name]
            torch.testing.assert_close(value, own)
        torch.testing.assert_close(condition["label"][:, :384], expected["pooled"])
        assert condition["label"][:, 384:].tolist() == [[0, 1], [0, 0], [1, 0]]
        monkeypatch.setattr(data, "fixed_shapes", lambda device: True)
