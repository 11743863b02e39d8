"""What known covariates add: effects whose truth is known, and none where there is none."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.series import combination, transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.effects import Covariates, choose_effect, fit_effect, remove_effects

STEPS = 300


def covariates(x, dims=1):
    return Covariates(x, np.ones((dims, x.shape[1]), bool))


def levels(kind, rng, steps=STEPS):
    """A level that a difference nearly takes off: a walk, a season of 7, noise."""
    noise, t = rng.normal(0, 1, steps), np.arange(steps)
    return {"walk": noise.cumsum(), "season": 20 * np.sin(2 * np.pi * t / 7) + noise, "noise": noise}[kind]


@pytest.mark.parametrize("kind", ["walk", "season", "noise"])
def test_an_effect_is_found_under_any_level_and_its_spread_is_right(kind):
    """The root mean square of (found - true) / deviation is about one, and the ridge takes little off."""
    scores, found = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 2, (STEPS, 1)).astype(float)
        effect = fit_effect(levels(kind, rng) + 3 * x[:, 0], x, 7)
        found.append(effect.mean[0])
        scores.append((effect.mean[0] - 3) / np.linalg.norm(effect.factor[0]))
    assert np.mean(found) == pytest.approx(3, abs=0.06)
    assert 0.75 < np.sqrt(np.mean(np.square(scores))) < 1.3


def test_without_noise_it_is_exact():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (60, 2))
    y = 5 + x @ [2.0, -1.0]
    np.testing.assert_allclose(fit_effect(y, x, 1).mean, [2, -1], rtol=2e-3)  # the least ridge
    found = choose_effect(np.exp(y), x, 1)
    assert found.is_log and not choose_effect(y + 100, x, 1).is_log
    np.testing.assert_allclose(found.mean, [2, -1], rtol=2e-3)


def test_outliers_neither_change_an_effect_nor_how_it_acts():
    """Ten of 300 values are 30 deviations off, all upwards; by logarithms they would be less far."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (STEPS, 1))
    y = 50 + 3 * x[:, 0] + rng.normal(0, 1, STEPS)
    y[rng.choice(STEPS, 10, replace=False)] += 30
    found = choose_effect(y, x, 7)
    assert not found.is_log and found.mean[0] == pytest.approx(3, abs=0.25)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_where_there_is_none_hardly_any_is_found(seed):
    """Five deviations of what least squares would say: sqrt(2) / sqrt(2 T) / deviation of x."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (STEPS, 1))
    assert abs(fit_effect(rng.normal(0, 1, STEPS), x, 1).mean[0]) < 5 / STEPS**0.5


def test_what_never_changed_or_is_hardly_there_has_none():
    rng = np.random.default_rng(0)
    still = np.stack([np.ones(STEPS), rng.integers(0, 2, STEPS)], 1).astype(float)
    found = fit_effect(rng.normal(0, 1, STEPS) + 5 * still[:, 1], still, 1)
    assert found.mean[0] == 0 and not found.factor[0].any() and found.mean[1] == pytest.approx(5, abs=0.5)
    nothing = fit_effect(rng.normal(0, 1, STEPS), np.ones((STEPS, 1)), 1)
    assert nothing.mean == 0 and not nothing.factor.any()
    short = fit_effect(np.arange(9.0), rng.normal(0, 1, (9, 1)), 1)
    assert not short.mean.any() and not short.factor.any()


def test_taken_off_and_added_again_the_past_is_what_it_was():
    """Of paths that go on as the past was, whatever the gaps: the mean is the level plus the effect, one series in
    logarithms, and each pair of paths lies about it."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.integers(0, 2, (STEPS, 1)), [[0.0], [1.0]]]).astype(float)
    level = 10 + rng.normal(0, 0.1, (STEPS, 2))
    values = np.stack([level[:, 0] - 15 * x[:STEPS, 0], level[:, 1] * np.exp(2 * x[:STEPS, 0])], 1)
    values[5:9, 0] = np.nan
    removed, add = remove_effects(values, covariates(x, 2), 1)
    np.testing.assert_allclose(removed, np.where(np.isnan(values), np.nan, level), atol=0.6)
    paths = add(np.full((200, 2, 2), 10.0), np.random.default_rng(0))
    np.testing.assert_allclose(paths.mean(0), [[10, 10], [-5, 10 * np.exp(2)]], rtol=0.01)
    np.testing.assert_allclose(
        paths[0::2, :, 0] + paths[1::2, :, 0], 2 * paths[:2, :, 0].mean(0)[None].repeat(100, 0)
    )


def test_every_expert_knows_a_covariate_and_none_changes_without_one():
    """A switch of a walk: of steps of 20, which come every other day, little is left to miss."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (STEPS, 1)).astype(float)
    values = (np.cumsum(rng.normal(0, 1, STEPS)) + 20 * x[:, 0])[:, None]
    starts = list(range(200, 299, 3))
    truth = np.stack([values[start : start + 1] for start in starts])
    for name in combination.experts(7):
        knows, blind, nothing = (
            combination.expert_paths(name, 7, values, starts, 1, 50, 0, covariates=each)
            for each in (covariates(x), None, covariates(x[:, :0]))
        )
        np.testing.assert_array_equal(blind, nothing)
        errors = [np.abs(np.median(paths, 1) - truth).mean() for paths in (knows, blind)]
        assert errors[0] < 0.4 * errors[1], name


def test_what_is_ahead_of_a_start_is_not_looked_at():
    """Other values and covariates after its horizon change no forecast from a start."""
    rng = np.random.default_rng(0)
    x, values = rng.normal(0, 1, (STEPS, 2)), rng.normal(0, 1, (STEPS, 1)).cumsum(0)
    first = combination.expert_paths(combination.ETS, 7, values, [200], 5, 20, 0, covariates=covariates(x))
    x[205:], values[200:] = 99, -99
    again = combination.expert_paths(combination.ETS, 7, values, [200], 5, 20, 0, covariates=covariates(x))
    np.testing.assert_array_equal(first, again)


def test_in_a_long_table_a_covariate_of_one_item_concerns_it_alone():
    days = pd.date_range("2024-01-01", periods=40)
    price = np.random.default_rng(0).integers(1, 5, (2, 40))
    long = pd.concat(
        pd.DataFrame({"day": days, "item": item, "sales": np.arange(40.0), "price": price[k], "week": days.dayofweek})
        for k, item in enumerate(("tea", "coffee"))
    )
    series = read_series(long, item="item", target=["sales"], feat_dynamic_real=["price", "week"])
    config = transforms.make_config(series, 2, holidays=["DE"])
    found = transforms.known_to_experts(series, config, 0)
    assert config.feat_dynamic_real == ["price of coffee", "price of tea", "week"] and config.names == [
        "coffee",
        "tea",
    ]
    assert found.concern.tolist() == [[True, False, *[True] * 4], [False, *[True] * 5]]
    assert found.values.shape == (40, 6) and found.values[0, 3] == 1  # New Year's Day
