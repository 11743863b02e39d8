"""The combination of experts: weights and stretches whose answer is known, and pools that are mixtures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

import inkwash
from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.series import combination, metrics, transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.train import IMPROVED, combine, fit_forecaster
from tests.follower import Follower


def constant(*values):
    """Paths (K, W, S, H, D) that are one value each, of experts on one window."""
    return np.broadcast_to(np.reshape(values, (-1, 1, 1, 1, 1)), (len(values), 1, 4, 2, 1)).astype(float)


def weigh(values, prior, windows):
    found = combination.distances(constant(*values), np.zeros((1, 2, 1)), np.ones(1))
    return combination.stack(found, np.array(prior), windows)


def test_distances_are_those_of_the_energy_form():
    """E|X - y| and E|X - X'| of normal laws of deviations 1 and 2 as their 19 quantiles say, in units of a scale."""
    normal = norm.ppf((np.arange(20_000) + 0.5) / 20_000)[None, :, None, None]
    found = combination.distances(np.stack([normal, 2 * normal]), np.full((1, 1, 1), 0.5), np.array([10.0]))
    x = norm.ppf(metrics.LEVELS)
    both = [x, 2 * x]
    np.testing.assert_allclose(found.to_truth[0], [np.abs(a - 0.5).mean() / 10 for a in both], atol=1e-4)
    exact = [[np.abs(a[:, None] - b).mean() / 10 for b in both] for a in both]
    np.testing.assert_allclose(found.between[0], exact, atol=1e-4)


def test_with_many_windows_the_evidence_decides():
    """Points at -1 and 1 of a truth of 0: CRPS = 1 - 2 w (1 - w), least at a half. One that is right takes all."""
    np.testing.assert_allclose(weigh([-1, 1], [0.9, 0.1], 1e4), [0.5, 0.5], atol=1e-3)
    np.testing.assert_allclose(weigh([0, 5], [0.1, 0.9], 10), [1, 0])


def test_without_a_window_the_prior_decides():
    np.testing.assert_allclose(weigh([-1, 3, 9], [0.5, 0.3, 0.2], 0), [0.5, 0.3, 0.2])


@pytest.mark.parametrize("windows", [0.5, 2.0, 8.0])
def test_between_them_the_penalty_does(windows):
    prior = np.array([0.7, 0.2, 0.1])
    found = combination.distances(constant(-1, 2, 0.5), np.zeros((1, 2, 1)), np.ones(1))
    a, b = found.to_truth[0], found.between[0]

    def objective(logits):
        w = np.exp(logits) / np.exp(logits).sum()
        return windows * (w @ a - w @ b @ w / 2) / 0.5 + combination.PENALTY * (w * np.log(w / prior)).sum()

    x = minimize(objective, np.log(prior), tol=1e-12).x
    np.testing.assert_allclose(weigh([-1, 2, 0.5], prior, windows), np.exp(x) / np.exp(x).sum(), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=5), st.floats(0, 50), st.randoms())
def test_weights_sum_to_one_and_do_not_hang_on_the_order(values, windows, random):
    order = random.sample(range(len(values)), len(values))
    prior = np.arange(1.0, len(values) + 1) / sum(range(1, len(values) + 1))
    weights = weigh(values, prior, windows)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    again = weigh([values[k] for k in order], prior[order], windows)
    np.testing.assert_allclose(again, weights[order], atol=1e-6)


def test_a_pool_has_the_mean_and_the_variance_of_the_mixture():
    """0.3 N(0, 1) + 0.7 N(5, 2^2): mean 3.5, variance 0.3 + 0.7 * 4 + 0.3 * 0.7 * 25."""
    rng, weights = np.random.default_rng(0), {"a": 0.3, "b": 0.7}
    means, deviations = {"a": 0.0, "b": 5.0}, {"a": 1.0, "b": 2.0}
    paths = combination.pool(weights, 40_000, lambda k, n: rng.normal(means[k], deviations[k], (1, n, 1, 1)))
    assert paths.mean() == pytest.approx(3.5, abs=0.05) and paths.var() == pytest.approx(8.35, rel=0.02)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=5), st.integers(1, 200), st.integers(0, 50))
def test_among_any_first_paths_each_expert_has_its_share_in_pairs(parts, count, more):
    weights = {str(k): part / sum(parts) for k, part in enumerate(parts)}

    def numbered(name, n):
        return (1000 * int(name) + np.arange(n, dtype=float))[None, :, None, None]

    first, longer = (combination.pool(weights, n, numbered)[0, :, 0, 0] for n in (count, count + more))
    np.testing.assert_array_equal(first, longer[:count])
    experts = first // 1000
    assert (experts[: count // 2 * 2 : 2] == experts[1::2][: count // 2]).all()
    for k, weight in enumerate(weights.values()):
        assert abs((experts == k).sum() - weight * count) <= 2 * (2 + np.log2(count + 1))
        np.testing.assert_array_equal(first[experts == k] % 1000, np.arange((experts == k).sum()))


@pytest.mark.parametrize(
    ("deviation", "windows", "power"), [(0.8, 1e9, 1.0), (1.6, 1e9, 1.0), (1.6, 6.0, 0.5), (1.6, 0, 0)]
)
def test_a_normal_of_the_wrong_spread_is_stretched_to_the_right_one(deviation, windows, power):
    rng = np.random.default_rng(0)
    paths = deviation * rng.standard_normal((4000, 200, 1, 1))
    found = combination.stretches(paths, rng.standard_normal((4000, 1, 1)), windows)
    assert found[0] == pytest.approx(deviation**-power, rel=0.03)
    stretched = combination.stretch(paths, found)
    np.testing.assert_allclose(np.median(stretched, 1), np.median(paths, 1))
    assert stretched.std() == pytest.approx(found[0] * deviation, rel=0.01)


def test_a_stretch_is_of_its_series_and_bounded():
    rng = np.random.default_rng(0)
    paths = rng.standard_normal((500, 100, 1, 3)) * [1, 0.01, 0]
    truth = rng.standard_normal((500, 1, 3)) * [1, 1, 0]
    truth[:, :, 2] = np.nan
    np.testing.assert_allclose(combination.stretches(paths, truth, 1e9), [1, combination.STRETCH[1], 1], rtol=0.06)


def test_a_series_that_ended_early_is_walked_to_the_start_of_the_forecast():
    """Of a walk of deviation 1 that ended 5 steps before: h steps ahead its variance is h + 5."""
    values = np.random.default_rng(0).standard_normal((400, 3)).cumsum(0)
    values[-5:, 0], values[:100, 2] = np.nan, np.nan
    values[:, 1] += 1000
    paths = combination.expert_paths(combination.WALK, 1, values, [400], 4, 8000, 0)[0]
    steps = {k: np.diff(values[:, k])[~np.isnan(np.diff(values[:, k]))].std() for k in range(3)}
    for k, missing in enumerate([5, 0, 0]):
        deviation = steps[k] * np.sqrt(np.arange(1, 5) + missing)
        np.testing.assert_allclose(paths[..., k].std(0), deviation, rtol=0.04)
    np.testing.assert_allclose(paths[..., 0].mean(0), values[394, 0], atol=0.3)


@given(st.integers(1, 2000), st.integers(1, 200), st.integers(1, 2000))
def test_windows_of_a_backtest_lie_in_the_last_half(length, horizon, dims):
    starts, windows = combination.backtest_starts(length, horizon, dims)
    assert len(starts) <= (combination.WINDOWS if dims < 400 else 3) and 0 <= windows <= len(starts)
    if starts:
        assert starts[-1] == length - horizon and starts[0] >= length // 2 and len(set(np.diff(starts))) < 2
    else:
        assert length - horizon < max(length // 2, 8)


def test_a_backtest_finds_who_knows_and_how_wide_the_rest_is():
    """The truth is N(0, 1): one expert says so, one is 3 off; the third has no paths and keeps its prior."""
    rng, prior = np.random.default_rng(0), {"knows": 0.4, combination.WALK: 0.4, "untried": 0.2}
    truth = rng.standard_normal((10, 12, 2))
    paths = {
        "knows": rng.standard_normal((10, 100, 12, 2)),
        combination.WALK: 3 + rng.standard_normal((10, 100, 12, 2)),
    }
    found = combination.backtest(paths, truth, np.ones(2), prior, 10)
    assert found.weights["untried"] == pytest.approx(0.2) and sum(found.weights.values()) == pytest.approx(1)
    assert found.weights["knows"] > 0.7
    np.testing.assert_allclose(found.stretch, 1, atol=0.15)
    scores = {row["forecast"]: row["scaled CRPS"] for row in found.table}
    assert scores["knows"] == pytest.approx(metrics.quantile_loss(np.moveaxis(paths["knows"], 1, 0), truth).mean())
    assert scores[combination.COMBINATION] == pytest.approx(scores["knows"], rel=0.05)
    assert combination.verdict(found.table).startswith("better than the random walk by 7")


def test_the_total_is_scored_by_the_sum_of_each_path():
    """Of 1 and 2 where 1 and 1 came: |3 - 2| over a mean size of 2. In mirror images only the sum is certain."""
    paths, truth = np.broadcast_to([1.0, 2.0], (3, 8, 4, 2)), np.ones((3, 4, 2))
    assert combination.total_score(paths, truth) == pytest.approx(
        {combination.TOTAL_CRPS: 0.5, combination.TOTAL_WITHIN: 0}
    )
    noise = np.random.default_rng(0).standard_normal((3, 8, 4, 1))
    certain = combination.total_score(np.concatenate([1 + noise, 1 - noise], axis=-1), truth)
    assert certain[combination.TOTAL_CRPS] == pytest.approx(0, abs=1e-12)
    assert combination.total_score(paths[..., :1], truth[..., :1]) == {}
    assert combination.total_score(paths, np.where([True, False], np.nan, truth)) == {}


def rows(own, walk, season):
    return [
        {"forecast": name, "scaled CRPS": float(np.mean(scores)), "within 90 %": 0.9, "by window": scores}
        for name, scores in ((combination.COMBINATION, own), (combination.WALK, walk), (combination.SEASON, season))
    ]


def test_the_verdict_is_about_the_better_of_the_two():
    says = combination.verdict(rows([0.8, 0.9, 0.7], [2.0, 2.0, 2.0], [1.0, 1.1, 0.9]))
    assert says == "better than the last season by 20 % on 3 windows that it had not seen"
    says = combination.verdict(rows([0.8, 0.2, 1.9], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]))
    assert says == "not shown to be better than the random walk on 3 windows: trust it no more than that"
    assert "on 1 window:" in combination.verdict(rows([0.1], [1.0], [1.0]))


@pytest.fixture(scope="module")
def weeks():
    rng, t = np.random.default_rng(0), np.arange(140)
    values = 20 + 5 * np.sin(2 * np.pi * t / 7)[:, None] + rng.normal(0, 1, (140, 2))
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=140), ["tea", "coffee"])


@pytest.fixture(scope="module")
def combined(weeks):
    return fit_forecaster(weeks, 7, context=14, settings=replace(IMPROVED, steps=2, batch_size=8))


def test_it_is_saved_with_its_forecaster(combined, weeks, tmp_path):
    combined.save(tmp_path)
    again = Forecaster.load(tmp_path)
    assert again.config == combined.config and sum(again.config.weights.values()) == pytest.approx(1)
    np.testing.assert_allclose(again.forecast(weeks).samples, combined.forecast(weeks).samples, rtol=0.02, atol=0.02)


def test_it_beats_the_rules_that_it_is_shown_beside(combined):
    scores = {row["forecast"]: row["scaled CRPS"] for row in combined.config.backtest}
    assert scores[combination.COMBINATION] < min(scores[combination.WALK], scores[combination.SEASON])
    assert {combination.ETS, combination.DIFFUSION} < scores.keys()


def test_alone_it_is_the_diffusion_model_of_a_training_alone(combined, weeks):
    alone = fit_forecaster(weeks, 7, context=14, settings=replace(IMPROVED, steps=2, batch_size=8), alone=True)
    assert not alone.config.weights
    np.testing.assert_array_equal(combined.forecast(weeks, alone=True).samples, alone.forecast(weeks).samples)
    assert np.abs(combined.forecast(weeks).samples - alone.forecast(weeks).samples).max() > 0.1


def test_seeds_tell_its_paths(combined, weeks):
    first, again, other = (combined.forecast(weeks, seed=seed).samples for seed in (2**64 - 1, 2**64 - 1, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_what_comes_after_its_start_changes_no_forecast(combined, weeks):
    series = combined.load_series(weeks, {})
    np.testing.assert_allclose(
        combined.paths(series, [120], 7, 10), combined.paths(series.before(120), [120], 7, 10), rtol=1e-6
    )


def test_how_to_draw_steps_means_nothing_where_diffusion_has_no_weight(combined, weeks):
    config = replace(combined.config, weights={combination.ETS: 1.0})
    without = Forecaster(combined.network, config)
    assert np.isfinite(without.forecast(weeks, samples=4).samples).all()
    with pytest.raises(UserError, match="sampler and steps mean nothing"):
        without.forecast(weeks, steps=4)
    for how in ({"horizon": 0}, {"samples": 0}, {"seed": -1}):
        with pytest.raises(UserError, match=next(iter(how))):
            without.forecast(weeks, **how)


def test_what_was_never_negative_never_becomes_so(combined, weeks):
    config = replace(combined.config, weights={combination.WALK: 1.0}, lower_bound=0.0)
    low = (weeks - weeks.min() + 0.01) * [1, 0]
    assert Forecaster(combined.network, config).forecast(low, samples=50).samples.min() >= 0


@pytest.mark.parametrize(
    ("length", "says"),
    [(16, "8 steps are too few to try out the diffusion model"), (10, "too few steps for a backtest")],
)
def test_in_a_short_table_what_cannot_be_tried_keeps_its_prior(length, says, tmp_path):
    series = read_series(pd.DataFrame({"x": np.random.default_rng(0).normal(0, 1, length).cumsum()}))
    follower = Follower()
    config = transforms.Config(["x"], "", 4, 6, [1])
    found = combine(series, config, None, None, tmp_path, IMPROVED, follower)
    prior = combination.prior(length, 1)
    assert says in follower.of(Note)[0].text and found.weights[combination.DIFFUSION] == prior[combination.DIFFUSION]
    assert bool(found.backtest) == (length == 16) and (found.weights == prior) == (length == 10)
    assert not list(tmp_path.iterdir())


def test_the_backtest_and_the_forecast_give_covariates_to_the_simple_forecasts(tmp_path):
    """A switch of 20 on noise of 1, of which nothing else tells: each expert is scored by what it knows of it."""
    rng = np.random.default_rng(0)
    opened = rng.integers(0, 2, 64).astype(float)
    table = pd.DataFrame({"x": 50 + 20 * opened + rng.normal(0, 1, 64), "open": opened})
    table.loc[60:, "x"] = np.nan
    series, settings = read_series(table, feat_dynamic_real=["open"]), replace(IMPROVED, steps=2, batch_size=8)
    made = fit_forecaster(series, 4, context=14, settings=settings)
    for row in made.config.backtest:
        if row["forecast"] in (combination.ETS, combination.WALK, combination.SHORT_WALK):
            assert row["scaled CRPS"] < 0.25, row["forecast"]  # of a change of 10 on average
    alone = Forecaster(made.network, replace(made.config, weights={combination.ETS: 1.0}, stretch=[]))
    found = alone.forecast(series, samples=100).quantile(0.5)["x"]
    np.testing.assert_allclose(found, 50 + 20 * opened[60:], atol=2)
    with pytest.raises(UserError, match="missing at 64"):
        alone.forecast(series, horizon=5)


def test_a_series_that_begins_late_is_tried_where_it_has_begun(weeks):
    late = weeks.copy()
    late.iloc[:100, 1] = np.nan
    config = fit_forecaster(late, 7, context=14, settings=replace(IMPROVED, steps=2, batch_size=8)).config
    assert sum(config.weights.values()) == pytest.approx(1)
    assert {len(row["by window"]) for row in config.backtest} == {5}  # from 105, 112, ... 133


def test_the_shipped_exchange_is_the_diffusion_model_alone():
    """And draws what it drew when it was trained."""
    exchange = inkwash.load("exchange")
    assert exchange.config.weights == {} and exchange.config.backtest == []
    rates = pd.DataFrame(np.exp(np.random.default_rng(0).normal(0, 0.01, (100, 8)).cumsum(0)),
                         pd.bdate_range("2024-01-01", periods=100), exchange.config.names)  # fmt: skip
    with pytest.warns(transforms.ForeignSeries, match="changes by"):
        paths, alone = (exchange.forecast(rates, 3, 4, 7, alone=only).samples for only in (False, True))
    np.testing.assert_array_equal(paths, alone)
    np.testing.assert_allclose(paths[:, 2, 0], [1.0387781, 1.0275295, 1.0562591, 1.0100485], rtol=1e-4)
