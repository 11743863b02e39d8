"""What goes into a forecast beside its table: holidays, plans; and what its past is looked through for."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.systems.series import train
from inkwash.systems.series.model import Forecaster

SAYS = re.compile(r"sales: cheap is \+(\S+) a step beside base \(90 % of paths: \+(\S+) to \+(\S+)\)")
HOW = ["--feat-dynamic-real", "price", "--samples", "40"]


def plan(file, price, steps=5):
    days = pd.date_range("2024-07-19", periods=steps)
    pd.DataFrame({"day": days, "price": float(price)}).to_csv(file, index=False)


def pixels(file):
    with Image.open(file) as chart:
        return np.asarray(chart.convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sales that rise by 5 for each unit that the price falls, one of them an outlier; two plans, and a model."""
    folder, rng = tmp_path_factory.mktemp("plans"), np.random.default_rng(0)
    price = rng.integers(8, 13, 200).astype(float)
    days = pd.date_range("2024-01-01", periods=200)
    frame = pd.DataFrame({"day": days, "sales": 100 - 5 * price + rng.normal(0, 1, 200), "price": price})
    frame.loc[190, "sales"] += 30
    frame.to_csv(folder / "sales.csv", index=False)
    plan(folder / "base.csv", 10)
    plan(folder / "cheap.csv", 8)
    made = train.fit_forecaster(
        frame, 5, context=20, settings=replace(train.IMPROVED, steps=2, batch_size=8), alone=True,
        target=["sales"], feat_dynamic_real=["price"],
    )  # fmt: skip
    Forecaster(made.network, replace(made.config, weights={"exponential smoothing": 1.0})).save(folder / "model")
    return folder


def forecast(folder, out, *more):
    how = ["--model", str(folder / "model"), *HOW, *more, "-o", str(out)]
    return main(["forecast", str(folder / "sales.csv"), *how])


def test_two_plans_stand_beside_each_other(folder, tmp_path, capsys):
    plans = [["--future", str(folder / f"{name}.csv")] for name in ("base", "cheap")]
    assert forecast(folder, tmp_path / "both", *plans[0], *plans[1]) == 0
    out, error = capsys.readouterr()
    (mean, low, high) = map(float, SAYS.search(out).groups())
    assert mean == pytest.approx(10, abs=0.4) and 0 < low < mean < high < 11
    assert "read cheap.csv: time = day, every D from 2024-07-19 to 2024-07-23; series price" in error
    both = pd.read_csv(tmp_path / "both" / "forecast.csv")
    assert both["plan"].tolist() == ["base"] * 5 + ["cheap"] * 5
    assert forecast(folder, tmp_path / "one", *plans[0]) == 0
    one = pd.read_csv(tmp_path / "one" / "forecast.csv")
    pd.testing.assert_frame_equal(both[both["plan"] == "base"].drop(columns="plan"), one)
    above = (both["mean"][5:].to_numpy() - both["mean"][:5].to_numpy()).mean()
    assert forecast(folder, tmp_path / "json", *plans[0], *plans[1], "--json") == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["row"]["differences"]
    assert row["mean"] == pytest.approx(above) and row["low"] < above < row["high"]
    narrow, wide = (pixels(tmp_path / name / "forecast.png").shape for name in ("one", "both"))
    assert wide[1] > 1.3 * narrow[1] and wide[0] == narrow[0]


def test_plans_are_looked_at_before_a_training(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("inkwash.systems.series.verbs.fit_forecaster", None)
    (tmp_path / "other").mkdir()
    plan(tmp_path / "other" / "base.csv", 9)
    plan(tmp_path / "short.csv", 9, 3)
    base = ["--future", str(folder / "base.csv")]
    for given, says in (
        (["--future", str(tmp_path / "short.csv")], "missing at 2024-07-22"),
        ([*base, "--future", str(tmp_path / "other" / "base.csv")], "two plans are called base: rename one of them"),
        (["--future", str(folder / "sales.csv")], "'sales' is what is to be forecast"),
        (["--future", str(tmp_path / "none.csv")], "no such file"),
        ([], "missing at 2024-07-19"),
    ):
        what = ["--target", "sales", *HOW, "--horizon", "5", *given, "-o", str(tmp_path / "out")]
        assert main(["forecast", str(folder / "sales.csv"), *what]) == 2
        error = capsys.readouterr().err
        assert says in error.splitlines()[-1] and not (tmp_path / "out").exists()
    assert main(["forecast", str(folder / "sales.csv"), *base, "-o", str(tmp_path / "out")]) == 2
    assert "name those of the plan with --feat-dynamic-real" in capsys.readouterr().err


def test_values_beyond_those_of_training_are_said_once(folder, tmp_path, capsys):
    for name, price in (("first", 30), ("second", 30)):
        plan(tmp_path / f"{name}.csv", price)
    both = [f"--future={tmp_path / name}.csv" for name in ("first", "second")]
    assert forecast(folder, tmp_path, *both) == 0
    assert capsys.readouterr().err.count("'price' is 30 in steps to come, training saw 8 to 12") == 1


def test_unusual_values_are_a_table_and_circles(folder, tmp_path, capsys):
    future = ["--future", str(folder / "base.csv")]
    assert (
        forecast(folder, tmp_path / "with", *future, "--unusual") == forecast(folder, tmp_path / "out", *future) == 0
    )
    says = capsys.readouterr().out
    found = pd.read_csv(tmp_path / "with" / "forecast-unusual.csv")
    assert [*found.columns] == ["time", "series", "value", "low", "high"]
    assert "2024-07-09" in found["time"].tolist() and f"unusual: {len(found)} of 200 values" in says
    assert ((found["value"] < found["low"]) | (found["value"] > found["high"])).all()
    assert not (tmp_path / "out" / "forecast-unusual.csv").exists()
    charts = [pixels(tmp_path / name / "forecast.png") for name in ("with", "out")]
    red = [((each == (0xC0, 0x39, 0x2B)).all(-1)).sum() for each in charts]
    assert red[0] > 10 and red[1] == 0


def test_of_a_long_table_the_unusual_ones_are_long(folder, tmp_path):
    frame = pd.read_csv(folder / "sales.csv").rename(columns={"sales": "cups"})
    frame.assign(drink="sales").to_csv(tmp_path / "long.csv", index=False)
    what = ["--model", str(folder / "model"), *HOW, "--target", "cups", "--item", "drink", "--unusual"]
    pd.read_csv(folder / "base.csv").assign(drink="sales").to_csv(tmp_path / "base.csv", index=False)
    what += ["--future", str(tmp_path / "base.csv"), "-o", str(tmp_path / "out")]
    assert main(["forecast", str(tmp_path / "long.csv"), *what]) == 0
    found = pd.read_csv(tmp_path / "out" / "forecast-unusual.csv")
    assert [*found.columns] == ["drink", "day", "value", "low", "high"] and (found["drink"] == "sales").all()


def test_holidays_go_to_the_training_and_mean_nothing_after_it(folder, tmp_path, monkeypatch, capsys):
    sales = str(folder / "sales.csv")
    given = ["--target", "sales", "--holidays", "DE-BY", "--holidays", "FR", "-o", str(tmp_path / "out")]

    def fit(*_, **how):
        raise train.UserError(f"holidays are {how['holidays']}")

    with monkeypatch.context() as patch:
        patch.setattr("inkwash.systems.series.verbs.fit_forecaster", fit)
        assert main(["forecast", sales, *given]) == 2
    assert "holidays are ('DE-BY', 'FR')" in capsys.readouterr().err
    with monkeypatch.context() as patch:  # and to those of a backtest
        patch.setattr("inkwash.systems.series.cross_validation.fit_forecaster", fit)
        assert main(["series", "backtest", sales, "--horizon", "7", "--windows", "2", *given]) == 2
    assert "holidays are ('DE-BY', 'FR')" in capsys.readouterr().err
    assert main(["forecast", sales, *given, "--model", str(folder / "model")]) == 2
    assert "holidays means nothing with the model" in capsys.readouterr().err
    assert main(["forecast", sales, "--holidays", "Germany", "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("no such country; did you mean DE (germany)?\n")
    assert not (tmp_path / "out").exists()


def test_a_recipe_names_holidays(folder, tmp_path):
    settings = replace(train.FAITHFUL, steps=1, batch_size=4)
    recipe = train.Recipe(
        "series", folder / "sales.csv", 5, settings, mode="faithful", target=["sales"], holidays=["US"]
    )
    assert train.train(recipe, tmp_path).config.holidays == ["US"]
    assert Forecaster.load(tmp_path / "model").config.holidays == ["US"]
