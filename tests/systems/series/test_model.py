"""Forecasters: what they must not see, what must come out exactly, and what a person may get wrong."""

import json
import warnings
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.series import baselines, metrics, simulate, transforms
from inkwash.systems.series.data import Series, read_series
from inkwash.systems.series.evaluate import evaluate
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.rollout import antithetic, hold_known
from inkwash.systems.series.train import FAITHFUL, IMPROVED, fit_forecaster, fit_network, new_forecaster
from tests.spread import spread


def table(values, freq="D", names=None):
    values = np.asarray(values, np.float64)
    names = names or [f"x{i}" for i in range(values.shape[1])]
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=len(values), freq=freq), names)


def trained(frame, horizon=4, mode="improved", steps=2, tmp=None, **how):
    """The diffusion model alone: what it is combined with is in test_combination.py."""
    settings = replace(FAITHFUL if mode == "faithful" else IMPROVED, steps=steps, batch_size=8)
    return fit_forecaster(frame, horizon, tmp, mode=mode, settings=settings, alone=True, **how)


@pytest.fixture(scope="module")
def walks():
    """Long, as the past of a short walk may seem to tell where it goes; and they go together."""
    together = [[1, 0.6, 0.3], [0, 0.8, 0.5], [0, 0, 0.8]]
    return table(1000 + (np.random.default_rng(0).normal(0, 1, (2000, 3)) @ together).cumsum(0))


@pytest.fixture(scope="module")
def walker(walks):
    return trained(walks, context=20)


@pytest.fixture(scope="module")
def swing():
    t = np.arange(400)
    noise = np.random.default_rng(0).normal(0, 0.1, (400, 2))
    return table(np.stack([np.sin(2 * np.pi * t / 7), 3 + np.cos(2 * np.pi * t / 7)], 1) + noise)


@pytest.fixture(scope="module")
def swinger(swing):
    return trained(swing, context=14)


@pytest.mark.parametrize("mode", transforms.MODES)
def test_the_way_back_undoes_what_diffusion_learns(mode, swing, walks):
    for frame in (swing, walks):
        forecaster = trained(frame, mode=mode, context=14)
        config, net = forecaster.config, forecaster.network
        values, seen, told = transforms.window_sampler(read_series(frame), config)(5, np.random.default_rng(0))
        reach = max(config.lags)
        scaler = transforms.fit_scaler(
            config, net, values[:, reach : reach + config.context], seen[:, reach : reach + config.context]
        )
        inputs = transforms.features(config, net, values, seen, told, scaler)
        y = transforms.target(config, net, values, inputs, scaler)
        back = transforms.inverse_transform(
            replace(config, lower_bound=None, inflation=[]), net, y[:, 3], values[:, reach + 2], inputs[:, 3], scaler
        )
        torch.testing.assert_close(back, values[:, reach + 3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", transforms.MODES)
def test_no_input_sees_its_own_step_or_a_later_one(mode, swing):
    forecaster = trained(swing, mode=mode, context=14)
    config, net = forecaster.config, forecaster.network
    values, seen, told = transforms.window_sampler(read_series(swing), config)(2, np.random.default_rng(0))
    reach, step = max(config.lags), config.context + 1
    scaler = transforms.fit_scaler(
        config, net, values[:, reach : reach + config.context], seen[:, reach : reach + config.context]
    )
    before = transforms.features(config, net, values, seen, told, scaler)
    values[:, reach + step :] += 10
    seen[:, reach + step :] = False
    after = transforms.features(config, net, values, seen, told, scaler)
    torch.testing.assert_close(before[:, : step + 1], after[:, : step + 1])
    assert not torch.equal(before, after)


def test_series_that_walk_are_told_from_those_that_swing(walker, swinger):
    assert walker.config.random_walk and not swinger.config.random_walk
    assert not walker.network.location.any() and swinger.network.location.any()


def test_a_walk_has_neither_drift_nor_a_crooked_median(walker, walks):
    found = walker.forecast(walks, samples=50)
    last = walks.iloc[-1].to_numpy()
    np.testing.assert_allclose(found.samples.mean(0), np.broadcast_to(last, (4, 3)), atol=2e-3)  # float32


def test_an_untrained_walk_is_the_normal_one_of_its_context(walks, walker):
    """The first step of it: the covariance of the context's changes, up to what is given to the diagonal."""
    forecaster = trained(walks, context=20, steps=1)
    torch.nn.init.zeros_(forecaster.network.noise.leave.weight)
    torch.nn.init.zeros_(forecaster.network.noise.leave.bias)
    paths = forecaster.forecast(walks, 1, samples=24_000, steps=40).samples[:, 0] - walks.to_numpy()[-1]
    context = torch.from_numpy(walks.to_numpy()[None, -20:])
    scaler = transforms.fit_scaler(forecaster.config, forecaster.network, context, torch.ones_like(context) > 0)
    root = transforms.joint_factor(forecaster.config, forecaster.network, scaler)[0].double().numpy()
    white = np.linalg.solve(root, paths.T)  # half of the paths mirror the other half: 12,000 are drawn
    np.testing.assert_allclose(white @ white.T / len(paths), np.eye(3), atol=0.08)


def test_the_path_of_a_seed_is_the_same_among_any_others(swinger, swing):
    few, many = (swinger.forecast(swing, samples=n, seed=3).samples for n in (3, 9))
    np.testing.assert_allclose(few, many[:3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(few, swinger.forecast(swing, samples=3, seed=4).samples)


def test_a_seed_is_any_of_64_bits(swinger, swing):
    paths = swinger.forecast(swing, samples=3, seed=2**64 - 1).samples
    assert np.isfinite(paths).all() and len(np.unique(paths[:, 0, 0])) == 3
    holes = swing.copy()
    holes.iloc[200] = np.nan
    assert np.isfinite(swinger.impute(holes, samples=2, seed=2**64 - 1)).all()
    with pytest.raises(UserError, match="seed -1: a whole number"):
        swinger.impute(holes, seed=-1)


def test_few_at_once_are_all_at_once(swinger, swing, monkeypatch):
    whole = swinger.forecast(swing, samples=7).samples
    monkeypatch.setattr("inkwash.systems.series.rollout.MAX_ACTIVATIONS", 300)
    np.testing.assert_allclose(swinger.forecast(swing, samples=7).samples, whole, rtol=1e-5, atol=1e-6)


def test_saved_and_loaded_it_forecasts_the_same(swinger, swing, tmp_path):
    swinger.save(tmp_path / "model")
    first = Forecaster.load(tmp_path / "model").forecast(swing, samples=4).samples
    np.testing.assert_allclose(first, swinger.forecast(swing, samples=4).samples, rtol=2e-2, atol=2e-2)  # float16
    np.testing.assert_array_equal(first, Forecaster.load(tmp_path / "model").forecast(swing, samples=4).samples)


@pytest.mark.parametrize("mode", transforms.MODES)
@pytest.mark.parametrize("unit", [1e6, 1e9, 1e-6, 1e-13])
def test_a_series_of_any_unit_is_saved_and_forecast_alike(unit, mode, swing, tmp_path):
    """Facts of the data are no float16: the forecast of a series times 1e6 is the forecast times 1e6."""
    paths = []
    for frame in (swing, swing * unit):
        forecaster = trained(frame, mode=mode, context=14)
        forecaster.save(tmp_path)
        again = Forecaster.load(tmp_path)
        for name, buffer in forecaster.network.named_buffers():
            assert torch.equal(again.network.get_buffer(name), buffer)
        paths.append(again.forecast(frame, samples=20).samples)
    np.testing.assert_allclose(paths[1] / unit, paths[0], rtol=1e-3, atol=1e-3)


def test_a_series_far_from_zero_keeps_its_changes(swing, tmp_path):
    """An offset of 1e7 and a spread of 1, which float32 would round away."""
    paths = []
    for offset in (100.0, 1e7):
        forecaster = trained(swing + offset, context=14)
        forecaster.save(tmp_path)
        paths.append(Forecaster.load(tmp_path).forecast(swing + offset, samples=20).samples - offset)
    np.testing.assert_allclose(paths[1], paths[0], atol=0.05)


def test_a_series_that_float32_does_not_have_is_refused_before_the_training(swing, tmp_path):
    with pytest.raises(UserError, match="'x1' has values above 3e38"):
        trained(swing * [1, 1e39], context=14, tmp=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_constant_series_stays_and_its_neighbour_is_not_disturbed(swing):
    frame = swing.assign(still=5.0)
    found = trained(frame, context=14).forecast(frame, samples=5)
    np.testing.assert_allclose(found.samples[..., 2], 5.0, atol=1e-5)
    assert found.samples[..., 0].std() > 0.01


def test_what_was_never_negative_never_becomes_so():
    frame = table(np.abs(np.random.default_rng(0).normal(0, 1, (300, 2))) * 0.3)
    assert trained(frame, context=14).forecast(frame, samples=50).samples.min() >= 0


@pytest.mark.slow
@pytest.mark.parametrize("name", simulate.SETS)
def test_a_known_law_is_learned_to_within_a_tenth(name, tmp_path):
    law = simulate.SETS[name](steps=10_000, dims=3)
    values = law.series.values.to_numpy()
    cut = len(values) - 100 * law.horizon
    starts = [cut + law.horizon * k for k in range(100)]
    truth = np.stack([values[end : end + law.horizon] for end in starts])
    config = transforms.make_config(law.series.before(cut), law.horizon)
    part = law.series.before(cut)
    forecaster = fit_network(new_forecaster(part, config), part, tmp_path, replace(IMPROVED, steps=450))
    best = metrics.scores(baselines.rolling_forecasts(law.future, values, starts, law.horizon, 100), truth)
    own = metrics.scores(forecaster.paths(law.series, starts, law.horizon, 100), truth)
    assert own["crps_sum"] < 1.1 * best["crps_sum"]


def test_known_covariates_tell_what_nothing_else_can():
    rng = np.random.default_rng(0)
    open_ = rng.integers(0, 2, 500).astype(float)
    frame = table(np.stack([10 * open_ + rng.normal(0, 0.3, 500), open_], 1), names=["sales", "open"])
    history = frame.copy()
    history.loc[frame.index[496:], "sales"] = np.nan
    forecaster = trained(history, context=60, feat_dynamic_real=["open"])
    median = forecaster.forecast(history, samples=40).quantile(0.5)["sales"]
    np.testing.assert_allclose(median, 10 * open_[496:], atol=2.5)
    with pytest.raises(UserError, match=r"missing at 2025-05-13.*add rows"):
        forecaster.forecast(history.iloc[:-2], samples=2)
    frame.loc[frame.index[100], "open"] = np.nan
    with pytest.raises(UserError, match=r"missing at 2024-04-10.*fill it in"):
        trained(frame, context=14, feat_dynamic_real=["open"])


def test_missing_values_are_not_learned(swing):
    """Wild numbers under a hole change nothing, and a half empty series is still forecast well."""
    holes = swing.copy()
    gone = np.random.default_rng(1).random(swing.shape) < 0.3
    holes[gone] = np.nan
    forecaster = trained(holes, context=14)
    draw = transforms.window_sampler(read_series(holes), forecaster.config)
    seen = transforms.training_example(forecaster.config, forecaster.network, draw(4, np.random.default_rng(0)))[2]
    assert 0.6 < seen.float().mean() < 0.8
    rows = forecaster.backtest(holes, windows=5).rows
    found = {row["forecast"]: row["value"] for row in rows if row["metric"] == "crps"}
    assert found["this model"] < 0.7 * found["random walk"]
    assert all(np.isfinite(row["value"]) for row in rows)


def test_a_table_that_is_mostly_gaps_still_has_a_forecast(walks):
    """Values by the month on a clock of days: nearly no change is between two days that were seen."""
    sparse = walks.iloc[::30].asfreq("D")
    found = trained(sparse, horizon=3).forecast(sparse, samples=4)
    assert np.isfinite(found.samples).all()


def test_gaps_are_filled_and_the_rest_is_kept(swinger, swing):
    holes = swing.copy()
    holes.iloc[100:105] = np.nan
    holes.iloc[200:203, 0] = np.nan
    filled = swinger.impute(holes, samples=30)
    there = holes.notna().to_numpy()
    assert (filled[:, there] == holes.to_numpy()[there]).all() and np.isfinite(filled).all()
    error = np.abs(np.median(filled, 0) - swing.to_numpy())[~there]
    assert error.mean() < 0.3  # of a swing of 2


def test_held_series_tell_the_others_what_a_normal_law_says():
    """x = root y, y white: given x_0 the others have the conditional mean and variance of N(0, root root^T)."""
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]]))
    process = diffusion.Gaussian(diffusion.cosine())
    there = torch.tensor([True, False, False])
    held = torch.linalg.solve(root, torch.tensor([2.0, 0.0, 0.0])).expand(12_000, 3)

    def white(x, t, condition):  # the denoiser of N(0, 1)
        return diffusion.Prediction(x * t.alpha / (t.alpha**2 + t.sigma**2))

    grid = diffusion.uniform(process, 250)
    hook = hold_known(process, held, root, there)
    y = diffusion.sample(white, (3,), diffusion.ancestral, grid, range(12_000), hooks=[hook], device="cpu")
    x = (y @ root.T).numpy()
    np.testing.assert_allclose(x[:, 0], 2.0, atol=1e-4)
    covariance = (root @ root.T).numpy()
    np.testing.assert_allclose(x[:, 1:].mean(0), 2 * covariance[1:, 0], atol=0.06)
    rest = covariance[1:, 1:] - np.outer(covariance[1:, 0], covariance[1:, 0])
    np.testing.assert_allclose(np.cov(x[:, 1:].T), rest, atol=0.06)


def test_mirror_images_lie_about_the_last_value():
    both = antithetic(np.array([[[[3.0]], [[0.5]]]], np.float32), np.array([[1.0]]), 0.0)
    assert both[0, :, 0, 0].tolist() == [3.0, 0.0, 0.5, 1.5]


def test_a_tuned_table_comes_nearer_than_the_same_number_of_steps(tmp_path, swing):
    from inkwash.systems.series.request import Tune
    from inkwash.training import tune

    trained(swing, context=14, mode="faithful", steps=40).save(tmp_path)
    forecaster = Forecaster.load(tmp_path)
    with pytest.raises(UserError, match="inkwash tune"):
        forecaster.forecast(swing, sampler="tuned", steps=4)
    task, grid = forecaster.problem(Tune(model="here", data=File("", ""), samples=64), swing)
    found = tune.tune(task, tune.roll_out(task, grid), 4)
    tune.save_tables({"hash": forecaster.hash, "tables": {"4": asdict(found)}}, tmp_path / "tables.json")
    fine, tuned, plain = (
        forecaster.forecast(swing, 1, samples=64, sampler=sampler, steps=steps).samples
        for sampler, steps in (("dpmpp_2m", 100), ("tuned", 4), ("dpmpp_2m", 4))
    )
    assert np.abs(tuned - fine).mean() < np.abs(plain - fine).mean()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"horizon": 0}, "horizon = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"sampler": "magic"}, "unknown sampler"),
        ({"steps": -1}, "steps = -1"),
        ({"seed": -1}, r"seed -1: a whole number from 0 to 2\^64 - 1 is needed"),
        ({"seed": 2**64}, r"seed 18446744073709551616: a whole number from 0 to 2\^64 - 1"),
    ],
)
def test_bad_wishes(swinger, swing, how, message):
    with pytest.raises(UserError, match=message):
        swinger.forecast(swing, **how)


def test_bad_data(swinger, swing):
    with pytest.raises(UserError, match="needs 28"):
        swinger.forecast(swing.iloc[:20])
    with pytest.raises(UserError, match="'x1' is not in the table, which has x0"):
        swinger.forecast(swing[["x0"]])
    hourly = swing.set_axis(pd.date_range("2024-01-01", periods=len(swing), freq="h"))
    with pytest.raises(UserError, match="frequency"):
        swinger.forecast(hourly)
    with pytest.raises(UserError, match="horizon = 0"):
        trained(swing, horizon=0)
    with pytest.raises(UserError, match=r"training needs .*--lags"):
        trained(swing.iloc[:40], context=14, lags=[30])
    with pytest.raises(UserError, match="no value at all"):
        trained(swing.assign(empty=np.nan), target=["x0", "empty"])
    with pytest.raises(UserError, match="at most 24 windows"):
        swinger.backtest(swing, windows=1000, stride=16)


def test_one_series_and_no_times():
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(0, 1, 300).cumsum()})
    found = trained(frame, context=14).forecast(frame, samples=4)
    assert found.samples.shape == (4, 4, 1) and list(found.index) == [300, 301, 302, 303]
    assert isinstance(read_series(frame), Series)
    assert set(found.to_dataframe().columns) == {"time", "series", "mean", "0.05", "0.25", "0.5", "0.75", "0.95"}


def test_a_length_of_nothing_is_refused_and_is_no_default(swinger, swing):
    with pytest.raises(UserError, match="steps = 0: at least one is needed"):
        swinger.forecast(swing, steps=0)
    for how in ({"horizon": 0}, {"stride": 0}, {"windows": 0}):
        with pytest.raises(UserError, match=f"{next(iter(how))} = 0.*at least 1"):
            swinger.backtest(swing, **how)
    with pytest.raises(UserError, match="unknown sampler ''"):
        swinger.forecast(swing, sampler="")
    with pytest.raises(UserError, match="samples = 0"):
        swinger.impute(swing, samples=0)
    with pytest.raises(UserError, match="context = 0"):
        trained(swing, context=0)


def test_paths_are_rounded_and_held_above_a_minimum(swinger, swing):
    """Each path by itself, so that every quantile is one of the whole numbers too."""
    plain = swinger.forecast(swing, samples=9).samples
    counts = swinger.forecast(swing, samples=9, integer=True, minimum=0.5)
    np.testing.assert_array_equal(counts.samples, np.maximum(np.round(plain), 1))
    assert (counts.quantile(0.1) % 1 == 0).all(axis=None)
    holes = swing.copy()
    holes.iloc[200:203] = np.nan
    filled = swinger.impute(holes, samples=5, integer=True, minimum=0.5)
    there = holes.notna().to_numpy()
    assert (filled[:, there] == holes.to_numpy()[there]).all()  # what was observed stays, no whole number either
    assert set(np.unique(filled[:, ~there])) <= {1.0, 2.0, 3.0, 4.0}


def test_constants_are_forecast_exactly_and_not_trained_on(tmp_path):
    frame = table(np.full((300, 2), [7.1, 1e9 + 0.3]))
    forecaster = fit_forecaster(frame, 4, tmp_path)
    assert not (tmp_path / "search").exists()  # no search, in which most of a training goes by
    paths = forecaster.forecast(frame, samples=5).samples
    np.testing.assert_array_equal(paths, np.broadcast_to(frame.iloc[-1].to_numpy(), paths.shape))


def test_a_constant_among_others_is_exact_and_no_part_of_the_loss(swing):
    frame = swing.assign(still=7.1)
    forecaster = trained(frame, context=14)
    draw = transforms.window_sampler(read_series(frame), forecaster.config)
    learned = transforms.training_example(forecaster.config, forecaster.network, draw(4, np.random.default_rng(0)))[2]
    assert not learned[..., 2].any() and learned[..., :2].all()
    assert (forecaster.forecast(frame, samples=5).samples[..., 2] == 7.1).all()


@pytest.mark.parametrize("mode", transforms.MODES)
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_a_table_of_another_scale_is_forecast_in_its_own(factor, mode, swing):
    """As wide as it moves, and not as what the model was trained on moved."""
    forecaster = trained(swing, context=14, mode=mode)
    plain = forecaster.forecast(swing, samples=20).samples
    with pytest.warns(transforms.ForeignSeries, match="it is forecast in its own scale"):
        other = forecaster.forecast(swing * factor, samples=20).samples / factor
    np.testing.assert_allclose(other, plain, rtol=1e-3, atol=1e-3)


def test_what_is_unlike_the_training_is_said_in_one_line(swing, walks, swinger, walker):
    def lines(forecaster, frame):
        return transforms.warnings_of(forecaster.config, forecaster.network, forecaster.load_series(frame, {}))

    assert lines(swinger, swing) == lines(walker, walks) == lines(walker, walks + 1e5) == []
    (line,) = lines(swinger, swing * [1, 100])
    assert line.startswith("'x1' changes by ") and "it is forecast in its own scale" in line
    (line,) = lines(swinger, swing.add([50, 0]))
    assert line.startswith("'x0' ends at 49.") and "far from what training saw (" in line


@pytest.mark.parametrize(
    "call",
    [
        lambda forecaster, frame: forecaster.forecast(frame, samples=2),
        lambda forecaster, frame: forecaster.impute(frame, samples=2),
        lambda forecaster, frame: forecaster.backtest(frame, windows=1, samples=2),
        lambda forecaster, frame: forecaster.evaluate(frame, [380, 390], samples=2),
    ],
    ids=["forecast", "impute", "backtest", "evaluate"],
)
def test_python_is_warned_of_what_is_unlike_the_training(call, swinger, swing):
    call(swinger, swing)  # a warning would be an error
    with pytest.warns(transforms.ForeignSeries, match="'x1' changes by .*it is forecast in its own scale"):
        call(swinger, swing * [1, 100])


def test_a_series_that_ended_before_the_history_is_refused_by_name(swinger, swing):
    """Nothing can be drawn from where it ended; one step later something can."""
    history = swinger.config.history
    ended = swing.copy()
    ended.iloc[history - 1 :, 1] = np.nan
    with pytest.raises(
        UserError, match=f"'x1' has no value in the last {400 - history + 1} of 400 steps, and {history}"
    ):
        swinger.forecast(ended, samples=2)
    ended.iloc[history - 1, 1] = 3.0
    assert np.isfinite(swinger.forecast(ended, 1, samples=2).samples).all()
    with pytest.raises(UserError, match="'x1' has no value in the last 400 of 400 steps"):
        swinger.forecast(ended.assign(x1=np.nan), samples=2)


def test_a_dict_and_series_are_forecast_as_their_table_is(swing):
    """What has no clock is counted."""
    counted = swing.reset_index(drop=True)
    forecaster = trained(counted, context=14)
    expected = forecaster.forecast(counted, samples=4)
    for data in (counted.to_dict("list"), {name: column.to_numpy() for name, column in counted.items()}):
        found = forecaster.forecast(data, samples=4)
        np.testing.assert_array_equal(found.samples, expected.samples)
        assert list(found.index) == [400, 401, 402, 403]
    single = trained(counted[["x0"]], context=14)
    np.testing.assert_array_equal(
        single.forecast(counted["x0"], samples=4).samples, single.forecast(counted[["x0"]], samples=4).samples
    )
    with pytest.raises(UserError, match="x0"):
        single.forecast(counted[["x0"]].assign(x1=1.0).set_axis(["x0", "x0"], axis=1))


def test_facts_of_data_are_saved_in_float32(swinger, tmp_path):
    """And the weights in float16, which says which file is of before."""
    from safetensors.torch import load_file

    swinger.save(tmp_path)
    kinds = {name: tensor.dtype for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    facts = {name for name, _ in swinger.network.named_buffers()}
    assert facts == {"location", "root", "typical", "middle"}
    assert {kinds[name] for name in facts} == {torch.float32}
    assert kinds["rnn.weight_hh_l0"] == torch.float16
    assert Forecaster.load(tmp_path).config == swinger.config  # how far its bands were widened, too


def test_a_series_without_a_value_is_refused_where_no_diffusion_model_does_it(swinger, swing):
    """The simple forecasts of it would be 0."""
    simple = Forecaster(swinger.network, replace(swinger.config, weights={"exponential smoothing": 1.0}))
    empty = swing.assign(x1=np.nan)
    for call in (simple.forecast, simple.impute):
        with pytest.raises(UserError, match="'x1' has no value at all: bring some"):
            call(empty, samples=2)


def test_the_report_is_the_same_wherever_a_window_is_forecast(swinger, swing):
    context = SimpleNamespace(models={"swinger": swinger}, model={"swinger": swinger}.get)
    series = swinger.load_series(swing * [1, 100], {})
    alone, spread_out = (
        evaluate(swinger, series, [340, 360, 380], 20, 30, map_windows=map_windows)
        for map_windows in (map, partial(spread, context))
    )
    assert spread_out.rows == alone.rows


def test_windows_of_an_evaluation_have_a_history(swinger, swing):
    """A start below 0 would count from the end."""
    simple = Forecaster(swinger.network, replace(swinger.config, weights={"exponential smoothing": 1.0}))
    for starts in ([-10, 380], [swinger.config.history - 1], [397]):
        with pytest.raises(UserError, match="they must lie in the table of 400 steps, after"):
            simple.evaluate(swing, starts)


def test_series_that_the_model_does_not_know_are_named(swinger, swing):
    table = swing.assign(more=1.0)
    assert swinger.load_series(table, {"target": ["x1", "more", "x0"]}).note.endswith(
        "; left out more (not known to the model)"
    )
    assert "left out more" in swinger.load_series(read_series(table), {}).note


@pytest.mark.parametrize("mode", transforms.MODES)
def test_changes_that_cannot_be_told_from_zero_are_refused(mode, swing):
    """They would be taken for a constant."""
    forecaster = trained(swing, context=14, mode=mode)
    for act in (trained, lambda frame, **how: forecaster.forecast(frame, samples=2)):
        with (
            warnings.catch_warnings(action="ignore", category=transforms.ForeignSeries),
            pytest.raises(UserError, match=r"'x1' changes by .* multiply it by a power of ten"),
        ):
            act(swing * [1, 1e-33], context=14)


@pytest.mark.parametrize("facts", [{"stretch": [1.0]}, {"drift": [0.0] * 3}, {"names": ["x0"]}])
def test_facts_of_other_series_than_the_names_are_broken(facts, swinger, tmp_path):
    swinger.save(tmp_path)
    file = tmp_path / "system.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    with pytest.raises(UserError, match=r"system.json is broken \(\d names, and facts of \d series\)"):
        Forecaster.load(tmp_path)


def test_weights_of_an_expert_that_is_not_known_are_broken(swinger, tmp_path):
    swinger.save(tmp_path)
    file = tmp_path / "system.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights": {"diffusion": 0.5, "an oracle": 0.5}}))
    with pytest.raises(UserError, match=r"system.json is broken \(no expert is called an oracle\)"):
        Forecaster.load(tmp_path)
