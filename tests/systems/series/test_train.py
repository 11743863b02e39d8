"""Trainings of forecasters: what is held out, what is shown, what a killed one leaves, and other devices."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from inkwash.progress import Preview, Progress
from inkwash.systems.series import train, transforms
from inkwash.systems.series.data import read_series
from inkwash.systems.series.model import Forecaster
from inkwash.training.fit import fit
from tests.accelerator import counting, is_chip
from tests.follower import Follower

SETTINGS = replace(train.IMPROVED, steps=4, batch_size=4, warmup=1, preview_every=2, checkpoint_minutes=0)


@pytest.fixture(scope="module")
def swing():
    t = np.arange(240)
    noise = np.random.default_rng(0).normal(0, 0.1, (240, 2))
    values = np.stack([np.sin(2 * np.pi * t / 7), 3 + np.cos(2 * np.pi * t / 7)], 1) + noise
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=240), ["tea", "coffee"])


@pytest.fixture(autouse=True)
def early(monkeypatch):
    monkeypatch.setattr(train, "FIRST_LOOK", 4)


@pytest.fixture
def calls(monkeypatch):
    """What each fit is called with."""
    calls = []
    monkeypatch.setattr(train, "fit", lambda *how, **more: calls.append((how, more)) or fit(*how, **more))
    return calls


class Killed(Exception):
    """The process is gone."""


class Killer(Follower):
    def tell(self, event):
        super().tell(event)
        if isinstance(event, Progress) and event.done == 2:
            raise Killed


def run(frame, folder, mode="improved", monitor=None, context=14, **settings):
    series = read_series(frame)
    config = transforms.make_config(series, 4, mode, context)
    forecaster = train.new_forecaster(series, config)
    settings = replace(SETTINGS, **settings)
    return train.fit_network(forecaster, series, folder, settings, folder / "model", monitor or Follower())


def test_the_search_is_followed_by_the_last_part_and_the_final_training_learns_all(swing, tmp_path, calls):
    run(swing, tmp_path)
    (search, early), (final, late) = calls
    ends = lambda starts: starts + 14 + 4 + max(transforms.make_config(read_series(swing), 4, context=14).lags)  # noqa: E731
    assert len(early["held_out"]) == 8 and "held_out" not in late
    assert all((ends(starts) > 0.85 * 240).all() for starts in early["held_out"])
    assert all((ends(search[2](k)) <= 0.85 * 240).all() for k in range(100))
    assert max(int(ends(final[2](k)).max()) for k in range(100)) > 0.95 * 240
    rows = [*csv.DictReader((tmp_path / "search" / "held_out.csv").read_text().splitlines())]
    assert int(rows[-1]["step"]) == 4 and np.isfinite(float(rows[-1]["loss"]))


@pytest.mark.parametrize("mode", transforms.MODES)
def test_a_forecast_is_shown_beside_what_came(mode, swing, tmp_path):
    run(swing, tmp_path, mode, follower := Follower())
    pictures = follower.of(Preview)
    assert pictures and all(len(np.unique(event.image)) > 20 for event in pictures)
    assert (tmp_path / ("search" if mode == "improved" else "") / "preview-00000002.png").is_file()


@pytest.mark.parametrize("mode", transforms.MODES)
def test_a_killed_training_leaves_a_forecaster(mode, swing, tmp_path):
    with pytest.raises(Killed):
        run(swing, tmp_path, mode, Killer())
    assert json.loads((tmp_path / "model" / "training.json").read_text())["step"] == 1
    forecast = Forecaster.load(tmp_path / "model").forecast(swing, samples=3, steps=2)
    assert forecast.samples.shape == (3, 4, 2) and np.isfinite(forecast.samples).all()


@pytest.mark.parametrize("mode", transforms.MODES)
def test_on_an_accelerator_it_is_the_training_of_a_cpu(mode, swing, tmp_path, calls):
    losses, validations = {}, []
    for device in ("cpu", "chip"):
        forecaster = run(swing, tmp_path / device, mode, device=device)
        first = tmp_path / device / ("search" if mode == "improved" else "")
        rows = csv.DictReader((first / "log.csv").read_text().splitlines())
        losses[device] = [float(row["loss"]) for row in rows]
        if mode == "improved":
            validations.append([*json.loads((first / "losses.json").read_text()).values()])
    assert is_chip(next(forecaster.network.parameters())) and is_chip(forecaster.network.location)
    np.testing.assert_allclose(losses["chip"], losses["cpu"], rtol=1e-4)
    if mode == "improved":
        np.testing.assert_allclose(*validations, rtol=1e-4)
    loss, batch = calls[-1][0][1:3]
    starts, generator = batch(3).to("chip"), torch.Generator("chip").manual_seed(0)
    with counting() as counts:
        loss(starts, generator)
    assert counts.copies == counts.syncs == 0, counts


def test_precision_is_the_network_s_alone(swing, tmp_path, calls):
    """What is learned of a window is the same in bfloat16, in which a regression would have few digits."""
    run(swing, tmp_path)
    network, loss, batch = calls[-1][0][:3]
    seen = []
    network.rnn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    targets = []
    solve = transforms.solve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "solve", lambda *x: targets.append(solve(*x)) or targets[-1])
        for bfloat16 in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss(batch(0), torch.Generator().manual_seed(0))
    assert torch.equal(*targets) and torch.equal(*seen)


def test_what_tune_learns_from_lies_on_the_model_s_device(swing, tmp_path):
    forecaster = run(swing, tmp_path, "faithful", steps=1, device="chip")
    request = SimpleNamespace(samples=3, seed=0, time=None, freq=None, target=[], item=None, feat_dynamic_real=[])
    problem, _ = forecaster.problem(request, swing)
    assert is_chip(problem.condition["hidden"])


@pytest.mark.parametrize("alone", [True, False])
def test_a_recipe_may_leave_the_backtest_out(alone, swing, tmp_path):
    swing.iloc[:60].to_csv(tmp_path / "t.csv")
    settings = replace(SETTINGS, steps=train.FIRST_LOOK)
    recipe = train.Recipe("series", tmp_path / "t.csv", 4, settings, alone=alone, context=14)
    weights = train.train(recipe, tmp_path / "run", Follower()).config.weights
    assert (weights == {}) == alone == (not (tmp_path / "run" / "backtest").exists())


def test_items_without_a_value_are_left_out_and_said(tmp_path, swing):
    items = [swing[["tea"]].rename_axis("date").reset_index().assign(item=name) for name in "abc"]
    items[1]["tea"] = np.nan
    forecaster = train.fit_forecaster(pd.concat(items), 4, tmp_path, settings=SETTINGS, context=14)
    assert forecaster.config.names == ["a", "c"]
    series = train.without_empty_items(read_series(pd.concat(items)))
    assert series.note.endswith("left out b (no values)") and series.names == ["a", "c"]


def test_every_verb_computes_on_the_model_s_device(swing, tmp_path):
    """What it says is what a CPU says: the noise is of the seed."""
    run(swing, tmp_path, steps=1)
    holes = swing.copy()
    holes.iloc[150:153] = np.nan
    holes.iloc[160:165, 0] = np.nan
    ended = swing.copy()
    ended.iloc[-3:, 1] = np.nan
    found = {}
    for device in ("cpu", "chip"):
        forecaster = Forecaster.load(tmp_path / "model", device)
        assert is_chip(forecaster.network.root) == (device == "chip") and any(forecaster.config.drift)
        scores = [
            forecaster.backtest(swing, windows=2, samples=3).rows,
            forecaster.evaluate(swing, [228, 232], samples=3).rows,
        ]
        found[device] = [
            forecaster.forecast(swing, samples=3).samples,
            forecaster.forecast(ended, samples=3).samples,
            forecaster.impute(holes, samples=3),
            [row["value"] for rows in scores for row in rows],
        ]
    for cpu, chip in zip(found["cpu"], found["chip"], strict=True):
        np.testing.assert_allclose(chip, cpu, rtol=1e-4, atol=1e-4)
