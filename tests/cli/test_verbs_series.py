"""The commands of forecasting, as a person types them."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import inkwash.cli.record
from inkwash.cli import main
from inkwash.errors import UserError
from inkwash.systems.report import Report
from inkwash.systems.series.cross_validation import cross_validate
from inkwash.systems.series.train import default_settings
from inkwash.training.settings import Settings
from inkwash.weights.files import digest
from tests.follower import Follower


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    file = tmp_path_factory.mktemp("series") / "sales.csv"
    t = np.arange(200)
    values = 20 + 5 * np.sin(2 * np.pi * t / 7) + np.random.default_rng(0).normal(0, 1, 200)
    frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=200), "tea": values, "coffee": values[::-1]})
    frame.to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def forecast(sales, tmp_path_factory):
    """The folder that a first forecast left."""
    out = tmp_path_factory.mktemp("forecast")
    assert main(["forecast", str(sales), "--horizon", "7", "--context", "14", "--samples", "20", "-o", str(out)]) == 0
    return out


def test_a_table_becomes_a_table_and_a_chart(forecast):
    table = pd.read_csv(forecast / "forecast.csv")
    assert list(table["series"].unique()) == ["tea", "coffee"] and len(table) == 14
    assert table["time"].iloc[0] == "2024-07-19"
    assert (table["0.05"] <= table["0.5"]).all() and (table["0.5"] <= table["0.95"]).all()
    with Image.open(forecast / "forecast.png") as chart:
        assert np.asarray(chart.convert("L")).std() > 5  # something is drawn


def test_the_model_that_was_trained_serves_again(forecast, sales, capsys):
    how = ["--model", str(forecast / "forecaster"), "--samples", "20", "-o", str(forecast)]
    assert main(["forecast", str(sales), *how]) == 0
    first, second = (pd.read_csv(forecast / name) for name in ("forecast.csv", "forecast-2.csv"))
    np.testing.assert_allclose(first["mean"], second["mean"], rtol=0.02)  # weights in float16
    how = ["--model", str(forecast / "forecaster"), "--windows", "3", "-o", str(forecast / "backtest")]
    assert main(["series", "backtest", str(sales), *how]) == 0
    assert "random walk" in capsys.readouterr().out


def test_a_forecast_says_whether_it_can_be_trusted(forecast, sales, tmp_path, capsys):
    """By the windows that the training held out, again by the saved model, and in its line of the results."""
    how = ["--model", str(forecast / "forecaster"), "--samples", "8"]
    assert main(["forecast", str(sales), *how, "-o", str(tmp_path)]) == 0
    found = capsys.readouterr().out
    assert "| last season | " in found and "| random walk | " in found
    assert "This forecast is better than the last season by " in found
    assert main(["forecast", str(sales), *how, "-o", str(tmp_path), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["row"]["rows"]
    assert {"forecast", "scaled CRPS", "within 90 %"} <= table[0].keys()


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Two years of four shops in each of two regions, long."""
    rng, t = np.random.default_rng(0), np.arange(24)
    frames = [
        pd.DataFrame({"region": region, "shop": shop, "month": pd.date_range("2024-01-01", periods=24, freq="MS"),
                      "sold": 50 + 10 * np.sin(np.pi * t / 6) + rng.normal(0, 3, 24)})
        for region in ("North", "South") for shop in "abcd"
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("shops") / "shops.csv"
    pd.concat(frames).to_csv(file, index=False)
    return file


@pytest.mark.slow
def test_many_short_series_are_pooled_and_their_sums_are_those_of_the_paths(shops, tmp_path, capsys):
    """A sum's mean is the sum of means, its band far narrower than that of bands; the total has scores of its own."""
    how = ["--item", "region", "--item", "shop", "--samples", "200", "-o", str(tmp_path)]
    assert main(["forecast", str(shops), *how, "--horizon", "3", "--sums"]) == 0
    said = capsys.readouterr()
    assert "8 short series: exponential smoothing learns from all of them" in said.err
    assert "| CRPS of the total | total within 90 % |" in said.out and "| pooled exponential smoothing | " in said.out
    table = pd.read_csv(tmp_path / "forecast.csv")
    assert list(table.columns[:4]) == ["region", "shop", "month", "mean"] and len(table) == 3 * 15
    single, by = (
        table[table["region"].ne("total") & table["shop"].ne("total")],
        table.set_index(["region", "shop"]).sort_index(),
    )
    width = single["0.95"].sub(single["0.05"]).groupby(single["month"]).sum()
    total, north = by.loc[("total", "total")].set_index("month"), by.loc[("North", "total")].set_index("month")
    np.testing.assert_allclose(total["mean"], single.groupby("month")["mean"].sum())
    np.testing.assert_allclose(north["mean"], single[single["region"] == "North"].groupby("month")["mean"].sum())
    assert ((total["0.95"] - total["0.05"]) < 0.7 * width).all()
    assert main(["forecast", str(shops), *how, "--model", str(tmp_path / "forecaster")]) == 0
    assert "of the total" not in capsys.readouterr().out
    assert "total" not in set(pd.read_csv(tmp_path / "forecast-2.csv")["region"])


def test_a_wide_table_has_its_total_and_what_has_no_sum_is_refused_before_a_training(
    forecast, sales, tmp_path, capsys
):
    how = ["--samples", "8", "--sums", "-o", str(tmp_path)]
    assert main(["forecast", str(sales), "--model", str(forecast / "forecaster"), *how]) == 0
    table = pd.read_csv(tmp_path / "forecast.csv").pivot(index="time", columns="series", values="mean")
    np.testing.assert_allclose(table["total"], table["tea"] + table["coffee"])
    frame = pd.read_csv(sales)
    frame.assign(Total=frame["tea"] + frame["coffee"]).to_csv(tmp_path / "double.csv", index=False)
    before = {*tmp_path.iterdir()}
    assert main(["forecast", str(tmp_path / "double.csv"), *how]) == 2
    assert "'Total' is a total already and would count twice" in capsys.readouterr().err
    assert main(["forecast", str(sales), "--target", "tea", *how]) == 2
    assert "sums of one series ('tea')" in capsys.readouterr().err and {*tmp_path.iterdir()} == before


def test_the_diffusion_model_can_be_had_alone_where_it_is_not(forecast, sales, tmp_path, capsys):
    how = ["--model", str(forecast / "forecaster"), "--samples", "8", "-o", str(tmp_path)]
    assert main(["forecast", str(sales), *how]) == main(["forecast", str(sales), *how, "--alone"]) == 0
    assert capsys.readouterr().out.count("This forecast is") == 1
    pooled, alone = (pd.read_csv(tmp_path / name) for name in ("forecast.csv", "forecast-2.csv"))
    assert not np.allclose(pooled["mean"], alone["mean"])
    assert main(["forecast", str(sales), "--model", "exchange", "--alone"]) == 2
    assert "alone means nothing with the model" in capsys.readouterr().err


def test_a_table_is_trained_on_without_a_recipe_as_a_forecast_is(sales, tmp_path, capsys):
    assert main(["train", "series", "--data", str(sales), "--steps", "50", "-o", str(tmp_path / "run")]) == 0
    model = inkwash.load(tmp_path / "run" / "model")
    assert model.config.names == ["tea", "coffee"] and (model.config.horizon, model.config.mode) == (30, "improved")


def test_how_to_train_means_nothing_with_a_model(forecast, sales, capsys):
    """Also where it is what is taken if nothing is said."""
    for mode in ("improved", "faithful"):
        assert main(["forecast", str(sales), "--model", str(forecast / "forecaster"), "--mode", mode]) == 2
        assert "mode means nothing with the model" in capsys.readouterr().err


def test_the_forecast_is_there_though_the_model_cannot_be_saved(sales, tmp_path, monkeypatch, capsys):
    def full(self, folder):
        raise UserError("cannot write the model: the disk is full")

    monkeypatch.setattr("inkwash.systems.series.model.Forecaster.save", full)
    how = ["--horizon", "2", "--context", "14", "--samples", "2", "--mode", "faithful", "-o", str(tmp_path)]
    monkeypatch.setattr("inkwash.systems.series.train.FAITHFUL", Settings(steps=1))
    assert main(["forecast", str(sales), *how]) == 2
    assert capsys.readouterr().err.endswith("inkwash: cannot write the model: the disk is full\n")
    assert (tmp_path / "forecast.csv").exists() and (tmp_path / "forecast.png").exists()


def test_gaps_are_filled(forecast, sales, tmp_path):
    frame = pd.read_csv(sales)
    frame.loc[100:103, "tea"] = np.nan
    frame.to_csv(tmp_path / "holes.csv", index=False)
    model = ["--model", str(forecast / "forecaster"), "--samples", "20"]
    assert main(["series", "impute", str(tmp_path / "holes.csv"), *model, "-o", str(tmp_path / "full.csv")]) == 0
    full = pd.read_csv(tmp_path / "full.csv")
    np.testing.assert_allclose(full["coffee"], frame["coffee"])
    assert full["tea"].notna().all()


def test_a_table_that_is_there_is_not_replaced_unless_it_is_named(forecast, sales, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imputed.csv").write_text("mine")
    model = ["--model", str(forecast / "forecaster"), "--samples", "2"]
    assert main(["series", "impute", str(sales), *model]) == 0
    assert (
        capsys.readouterr().out == "imputed-2.csv\nimputed-quantiles-2.csv\n"
        and (tmp_path / "imputed.csv").read_text() == "mine"
    )


def test_the_whole_table(forecast, sales, tmp_path, capsys):
    model = str(forecast / "forecaster")
    assert main(["evaluate", model, "--data", str(sales), "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "vector autoregression" in out and "chosen in training" in out
    report = Report.load(tmp_path / "report.json")
    assert report.markdown() in out and {row["n"] for row in report.rows} == {10}
    assert report.data == {"name": "sales.csv", "sha256": digest(sales)} and report.model["name"] == "forecaster"
    (minus,) = (r for r in report.rows if (r["forecast"], r["metric"]) == ("last value", "this model minus it"))
    own, last = (
        next(r["value"] for r in report.rows if (r["forecast"], r["metric"]) == (name, "crps_sum"))
        for name in ("this model", "last value")
    )
    assert minus["value"] == pytest.approx(own - last) and minus["low"] < minus["value"] < minus["high"]


def test_a_recipe_trains_the_same_model(sales, tmp_path):
    recipe = tmp_path / "sales.toml"
    recipe.write_text(
        f'task = "series"\ndata = "{sales}"\nhorizon = 7\ncontext = 14\n[fit]\nsteps = 50\nbatch_size = 4\n'
    )
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    assert main(["forecast", str(sales), "--model", str(tmp_path / "run/model"), "-o", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "no such file"),
        (["{sales}", "--horizon", "0"], "horizon = 0: choose a whole number from 1"),
        (["{sales}", "--freq", "W"], "does not lie on the frequency"),
        (["{sales}", "--target", "cocoa"], "cocoa"),
        (["{sales}", "--context", "500"], "training needs"),
        (["{sales}", "--model", "nothing"], "nothing"),
        (["{sales}", "--model", "emoji"], "is a model of pictures"),
        (["{sales}", "--mode", "magic"], "magic"),
    ],
)
def test_mistakes_are_one_line(arguments, message, sales, tmp_path, capsys):
    given = [argument.format(sales=sales) for argument in arguments]
    assert main(["forecast", *given, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_forecaster_draws_no_pictures(forecast, capsys):
    assert main(["generate", "a fox", "--model", str(forecast / "forecaster")]) == 2
    assert "is a model of series: inkwash forecast --model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mode", "faithful"], "mode means nothing with the model forecaster"),
        (["--lags", "3"], "lags means nothing with the model forecaster"),
        (["--context", "9"], "context means nothing with the model forecaster"),
        (["--samples", "9" * 20], "samples = 99999999999999999999: choose a whole number from 1 to"),
        (["--horizon", "9" * 20], "choose a whole number from 1 to"),
        (["--steps", "9" * 20], "choose a whole number from 1 to"),
    ],
)
def test_what_changes_nothing_or_is_too_much_is_refused(arguments, says, forecast, sales, tmp_path, capsys):
    model = str(forecast / "forecaster")
    assert main(["forecast", str(sales), "--model", model, *arguments, "-o", str(tmp_path / "out" / "deep")]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_table_of_tables_replaces_no_file(forecast, sales, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(f"data,name\n{sales},mine\n{sales},other\n")
    (tmp_path / "mine.csv").write_text("mine")
    command = ["--csv", str(tmp_path / "rows.csv"), "--model", str(forecast / "forecaster"), "--samples", "3"]
    assert main(["series", "impute", *command, "-o", str(tmp_path)]) == 2
    assert "line 2: " in (error := capsys.readouterr().err) and "mine.csv: it is there already" in error
    assert (tmp_path / "mine.csv").read_text() == "mine" and (tmp_path / "other.csv").exists()


def test_a_table_of_forecasts_goes_on_where_it_was(forecast, sales, tmp_path, monkeypatch, capsys):
    """Also if it was killed while the files of a row went to their places."""
    (tmp_path / "rows.csv").write_text(f"data,seed,name\n{sales},1,one\n{sales},2,two\n")
    command = ["--csv", str(tmp_path / "rows.csv"), "--model", str(forecast / "forecaster"), "--samples", "3"]
    command = ["forecast", *command, "-o", str(tmp_path / "out")]
    move = inkwash.cli.record.move

    def killed(source, target):
        if target.name == "two.png":
            raise KeyboardInterrupt
        return move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("inkwash.cli.record.move", killed)
        assert main(command) == 130
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "one.csv", "one.png", "results.jsonl", "two.csv"
    ]  # fmt: skip
    before = {file: file.read_bytes() for file in (tmp_path / "out").glob("*.csv")}
    for made in (1, 0):
        assert main(command) == 0
        assert f"{made} made, {2 - made} there already, 0 broken" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before and (tmp_path / "out" / "two.png").exists()
    assert main([*command[:-4], "--samples", "4", *command[-2:]]) == 0  # another request: ours are replaced
    assert "2 made, 0 there already, 0 broken" in capsys.readouterr().err
    assert (tmp_path / "out" / "one.csv").read_bytes() != before[tmp_path / "out" / "one.csv"]


def test_a_table_of_somebody_else_is_not_tuned_over(forecast, sales, tmp_path, capsys):
    (tmp_path / "tables.json").write_text("mine")
    assert main(["tune", str(forecast / "forecaster"), "--data", str(sales), "-o", str(tmp_path)]) == 2
    assert "tables.json: this file is not inkwash's" in capsys.readouterr().err
    assert (tmp_path / "tables.json").read_text() == "mine"


def test_tune_says_what_was_read(forecast, sales, tmp_path, capsys):
    options = ["--steps", "2", "--samples", "8", "-o", str(tmp_path)]
    assert main(["tune", str(forecast / "forecaster"), "--data", str(sales), *options]) == 0
    assert "read sales.csv: time = day, every D from" in capsys.readouterr().err


@pytest.fixture
def run(sales, tmp_path, capsys):
    """Trains in one folder by a recipe: (more arguments) -> exit code and what was said; its files."""
    data, recipe = tmp_path / "d.csv", tmp_path / "r.toml"
    data.write_bytes(sales.read_bytes())
    recipe.write_text(f'task = "series"\ndata = "{data}"\nhorizon = 7\nmode = "faithful"\n[fit]\nsteps = 4\n')

    def train(*arguments):
        code = main(["train", str(recipe), "--out", str(tmp_path / "run"), *arguments])
        return code, capsys.readouterr().err

    return train, recipe, data, tmp_path / "run"


def test_a_run_goes_on_with_the_same_data_alone(run, tmp_path):
    """Under whatever name."""
    train, _, data, folder = run
    assert train()[0] == 0
    other = data.rename(tmp_path / "e.csv")
    code, error = train("--data", str(other))
    assert code == 0 and error.startswith(f"inkwash: {folder / 'model'} is finished: more --steps train it on")
    data.write_text(other.read_text().replace("20", "21"))
    code, error = train("--steps", "6")
    assert code == 2 and "holds a finished run with another content of data: choose another" in error


@pytest.mark.parametrize(("decay", "steps"), [("none", 2), ("cosine", 6)])
def test_a_refused_training_leaves_a_run_as_it_was(decay, steps, run):
    train, recipe, _, folder = run
    recipe.write_text(f'{recipe.read_text()}lr_decay = "{decay}"\n')
    assert train()[0] == 0
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    code, error = train("--steps", str(steps))
    assert code == 2 and "steps" in error
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_two_trainings_in_one_folder_are_refused(run, monkeypatch, capsys):
    train, _, _, folder = run
    heard = []
    monkeypatch.setattr("inkwash.systems.series.train.train", lambda *_: heard.append(train()))
    assert train()[0] == 0 and heard[0][0] == 2
    assert heard[0][1].startswith(f"inkwash: {folder}: another training works there") and len(heard) == 1


def test_a_training_tells_a_program_where_its_model_is(sales, tmp_path, capsys):
    recipe = tmp_path / "sales.toml"
    recipe.write_text(
        f'task = "series"\ndata = "{sales}"\nhorizon = 7\ncontext = 14\n[fit]\nsteps = 50\nbatch_size = 4\n'
    )
    assert main(["train", str(recipe), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(tmp_path / "run/model")]


def test_steps_are_the_most_that_are_tried(sales, tmp_path, capsys):
    recipe, run = tmp_path / "sales.toml", ["--out", str(tmp_path / "run")]
    recipe.write_text(
        f'task = "series"\ndata = "{sales}"\nhorizon = 7\ncontext = 14\n[fit]\nsteps = 60\nbatch_size = 4\n'
    )
    assert main(["train", str(recipe), "--steps", "49", *run]) == 2
    assert "steps = 49: in the mode improved they are the most that are tried" in capsys.readouterr().err
    assert main(["train", str(recipe), *run]) == 0
    error = capsys.readouterr().err
    assert (
        "60 steps at most; " in error
        and "read sales.csv: time = day, every D from 2024-01-01 to 2024-07-18; series tea, coffee\n" in error
    )
    assert main(["train", str(recipe), *run]) == 0
    assert "is finished" in (error := capsys.readouterr().err) and "more --steps" not in error


def test_series_that_a_model_does_not_know_are_named(forecast, sales, tmp_path, capsys):
    pd.read_csv(sales).rename(columns={"tea": "milk"}).to_csv(tmp_path / "other.csv", index=False)
    model = str(forecast / "forecaster")
    assert main(["evaluate", model, "--data", str(tmp_path / "other.csv"), "-o", str(tmp_path)]) == 2
    says = "the model knows the series tea, coffee; 'tea' is not in the table, which has milk, coffee"
    assert says in capsys.readouterr().err


def test_a_long_table_serves_its_model_again(forecast, sales, tmp_path, capsys):
    wide = pd.read_csv(sales)
    wide.melt("day", var_name="drink", value_name="cups").to_csv(tmp_path / "long.csv", index=False)
    how = ["--model", str(forecast / "forecaster"), "--samples", "3"]
    for name, table in (("wide", sales), ("long", tmp_path / "long.csv")):
        assert main(["forecast", str(table), *how, "-o", str(tmp_path / name)]) == 0
    long, wide = (pd.read_csv(tmp_path / name / "forecast.csv") for name in ("long", "wide"))
    pd.testing.assert_frame_equal(long.rename(columns={"drink": "series", "day": "time"})[wide.columns], wide)


def test_a_forecast_trains_where_it_was_told_to(sales, tmp_path, monkeypatch, capsys):
    def fit(*_, settings, **__):
        raise UserError(f"{settings.threads} threads")

    monkeypatch.setattr("inkwash.systems.series.verbs.fit_forecaster", fit)
    assert main(["forecast", str(sales), "--threads", "3", "-o", str(tmp_path)]) == 2
    assert "3 threads" in capsys.readouterr().err


@pytest.fixture(scope="module")
def verkauf(sales):
    """The same as a German spreadsheet has it, long."""
    long = pd.read_csv(sales, parse_dates=["day"]).melt("day", var_name="unique_id", value_name="y")
    long = long.assign(ds=long["day"].dt.strftime("%d.%m.%Y"))[["unique_id", "ds", "y"]]
    file = sales.with_name("verkauf.csv")
    long.to_csv(file, index=False, sep=";", decimal=",", encoding="utf-16")
    return file


def test_a_long_table_of_a_stranger_has_long_results(verkauf, sales, forecast, tmp_path, capsys):
    how = ["--model", str(forecast / "forecaster"), "--samples", "3", "--dates", "dmy", "--decimal", ","]
    assert main(["forecast", str(verkauf), *how, "-o", str(tmp_path)]) == 0
    said = "read verkauf.csv in UTF-16LE: time = ds (dd.mm.yyyy), every D from 2024-01-01 to 2024-07-18; series y by "
    assert f"{said}unique_id: coffee, tea; decimal comma\n" in capsys.readouterr().err
    assert main(["forecast", str(sales), *how[:4], "-o", str(tmp_path / "wide")]) == 0
    long, wide = (pd.read_csv(folder / "forecast.csv") for folder in (tmp_path, tmp_path / "wide"))
    assert list(long.columns)[:3] == ["unique_id", "ds", "mean"]
    pd.testing.assert_frame_equal(long.rename(columns={"unique_id": "series", "ds": "time"})[wide.columns], wide)
    assert main(["series", "impute", str(verkauf), *how, "-o", str(tmp_path / "full.csv")]) == 0
    full = pd.read_csv(tmp_path / "full.csv")
    assert list(full.columns) == ["unique_id", "ds", "y"]
    np.testing.assert_allclose(full.query("unique_id == 'tea'")["y"], pd.read_csv(sales)["tea"])


@pytest.mark.parametrize("verb", ["forecast", "series backtest", "series impute", "evaluate", "tune"])
@pytest.mark.parametrize("option", ["--dates mdy", "--decimal .", "--sheet a"])
def test_no_verb_passes_over_how_a_table_is_read(verb, option, verkauf, forecast, tmp_path, capsys):
    model = str(forecast / "forecaster")
    data = [model, "--data", str(verkauf)] if verb in ("evaluate", "tune") else [str(verkauf), "--model", model]
    assert main([*verb.split(), *data, *option.split(), "-o", str(tmp_path / "out")]) == 2
    says = {
        "--dates mdy": "is no time stamp that can be read with dates = mdy",
        "--decimal .": "' is no number",
        "--sheet a": "sheet means nothing with",
    }[option]
    assert says in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.mark.parametrize("verb", ["forecast", "series backtest", "series impute"])
def test_what_is_taken_for_missing_is_said(verb, sales, forecast, tmp_path, capsys):
    """By itself, by name, and not at all."""
    table = pd.read_csv(sales)
    table.loc[[150, 160], "tea"] = -9999
    table.to_csv(tmp_path / "sales.csv", index=False)
    few = ["--samples", "2", *(["--windows", "1"] if verb == "series backtest" else [])]
    for number, (option, says) in enumerate(
        (
            ([], "-9999 in tea taken for missing, 2 times (--missing none keeps it)"),
            (["--missing", "-9999"], "2 gaps; '-9999' taken for missing, 2 times"),
            (["--missing", "none"], ""),
        )
    ):
        how = ["--model", str(forecast / "forecaster"), *few, *option, "-o", str(tmp_path / f"out{number}")]
        assert main([*verb.split(), str(tmp_path / "sales.csv"), *how]) == 0
        assert says in (said := capsys.readouterr().err) and ("taken for missing" in said) == bool(says)


def test_a_recipe_says_how_its_table_is_read(verkauf, tmp_path, capsys):
    recipe = tmp_path / "sales.toml"
    for line, says in (
        ('dates = "mdy"', "with dates = mdy"),
        ('decimal = "."', "is no number"),
        ('sheet = "a"', "sheet means nothing with"),
    ):
        recipe.write_text(f'task = "series"\ndata = "{verkauf}"\nhorizon = 7\n{line}\n[fit]\nsteps = 50\n')
        assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 2
        assert says in capsys.readouterr().err


def test_levels_are_the_columns_of_a_forecast_and_of_gaps(forecast, sales, tmp_path):
    """In order, each once; the median of the paths stays what it is."""
    how = ["--model", str(forecast / "forecaster"), "--samples", "20", "--levels", "0.9", "--levels", "0.1"]
    assert main(["forecast", str(sales), *how, "--levels", "0.9", "--levels", "0.5", "-o", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "forecast.csv")
    assert list(found.columns) == ["time", "series", "mean", "0.1", "0.5", "0.9"]
    assert (found["0.1"] < found["0.9"]).all() and found["0.5"].between(found["0.1"], found["0.9"]).all()
    assert main(["forecast", str(sales), *how[:4], "-o", str(tmp_path / "default")]) == 0
    pd.testing.assert_series_equal(pd.read_csv(tmp_path / "default" / "forecast.csv")["0.5"], found["0.5"])
    holes = pd.read_csv(sales)
    holes.loc[150, "tea"] = np.nan
    holes.to_csv(tmp_path / "holes.csv", index=False)
    assert main(["series", "impute", str(tmp_path / "holes.csv"), *how, "-o", str(tmp_path / "full.csv")]) == 0
    assert list(pd.read_csv(tmp_path / "imputed-quantiles.csv").columns[-2:]) == ["0.1", "0.9"]


def test_levels_outside_are_refused(forecast, sales, tmp_path, capsys):
    model = str(forecast / "forecaster")
    assert main(["forecast", str(sales), "--model", model, "--levels", "1.5", "-o", str(tmp_path / "out")]) == 2
    assert "levels" in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.mark.parametrize("verb", ["forecast", "series backtest", "series impute", "evaluate"])
def test_another_scale_is_said_by_every_verb(verb, forecast, sales, tmp_path, capsys):
    table = pd.read_csv(sales)
    table.assign(tea=1000 * table["tea"]).to_csv(tmp_path / "big.csv", index=False)
    model, big = str(forecast / "forecaster"), str(tmp_path / "big.csv")
    data = [model, "--data", big] if verb == "evaluate" else [big, "--model", model, "--samples", "2"]
    less = ["--windows", "2"] if "backtest" in verb else []
    assert main([*verb.split(), *data, *less, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("'tea' changes by ") == 1


QUICK = ["--mode", "faithful", "--horizon", "3", "--context", "14", "--samples", "4"]


@pytest.fixture
def quick(monkeypatch):
    """Trainings of the mode faithful take one step."""
    monkeypatch.setattr("inkwash.systems.series.train.FAITHFUL", Settings(steps=1, batch_size=4))


def test_a_backtest_without_a_model_trains_one_before_each_window(quick, sales, tmp_path, capsys):
    how = ["--windows", "2", "--stride", "5", "--seed", "7", *QUICK]
    assert main(["series", "backtest", str(sales), *how, "-o", str(tmp_path / "out")]) == 0
    found = capsys.readouterr()
    names = [f"backtest{ending}" for ending in (".txt", "-series.csv", "-calibration.png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    text = (tmp_path / "out" / "backtest.txt").read_text()
    assert found.out == text + "".join(f"{tmp_path / 'out' / name}\n" for name in names)
    assert text.startswith("2 windows of 3 steps, 4 paths. Seed: 7.") and "| tea | 6 |" in text
    how = {"mode": "faithful", "context": 14, "settings": default_settings("faithful")}
    measured = cross_validate(sales, 3, 2, 5, 4, 7, monitor=Follower(), **how)
    saved = pd.read_csv(tmp_path / "out" / "backtest-series.csv")
    pd.testing.assert_frame_equal(saved, measured.table())
    with Image.open(tmp_path / "out" / "backtest-calibration.png") as chart:
        assert np.asarray(chart.convert("L")).std() > 5  # something is drawn


def test_the_report_of_a_backtest_goes_into_the_file_that_is_named(quick, sales, tmp_path, capsys):
    how = ["--windows", "1", *QUICK, "-o", str(tmp_path / "tea.txt")]
    assert main(["series", "backtest", str(sales), *how]) == 0
    assert (tmp_path / "tea.txt").read_text().startswith("1 windows of 3 steps")
    assert (tmp_path / "backtest-series.csv").exists() and (tmp_path / "backtest-calibration.png").exists()
    capsys.readouterr()
    assert main(["series", "backtest", str(sales), *how]) == 2
    assert "it is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--mode faithful --alone", "alone means nothing with the mode faithful, which is alone: leave it out"),
        ("--mode faithful --steps 200", "steps = 200: the mode faithful has 100 at most"),
        ("--sampler tuned", "sampler = tuned is what `inkwash tune` learns for a model: name that with --model"),
        ("--model exchange --mode improved", "mode means nothing with the model exchange: leave it out"),
        ("--model exchange --lags 3", "lags means nothing with the model exchange: leave it out"),
        ("--model exchange --context 60", "context means nothing with the model exchange: leave it out"),
        (
            "--model exchange --feat-dynamic-real tea",
            "feat_dynamic_real means nothing with exchange, which has no cov",
        ),
    ],
)
def test_what_cannot_act_on_a_backtest_is_refused_before_any_work(options, says, sales, tmp_path, capsys):
    assert main(["series", "backtest", str(sales), *options.split(), "-o", str(tmp_path / "out")]) == 2
    assert says in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_ending_decides_how_a_forecast_is_written(quick, sales, tmp_path, capsys):
    """The same numbers in each, beside its chart; the model's folder lies beside them."""
    for ending in ("csv", "xlsx", "parquet"):
        out = tmp_path / ending / f"tea.{ending}"
        assert main(["forecast", str(sales), *QUICK, "-o", str(out)]) == 0
        assert capsys.readouterr().out.splitlines()[0] == str(out)
        assert {path.name for path in out.parent.iterdir()} == {out.name, "forecast.png", "forecaster"}
    csv, sheet, parquet = (
        read(tmp_path / ending / f"tea.{ending}")
        for ending, read in (("csv", pd.read_csv), ("xlsx", pd.read_excel), ("parquet", pd.read_parquet))
    )
    assert (sheet["time"] == parquet["time"]).all() and (csv["time"] == parquet["time"].astype(str)).all()
    pd.testing.assert_frame_equal(sheet.drop(columns="time"), parquet.drop(columns="time"))
    pd.testing.assert_frame_equal(csv.drop(columns="time"), parquet.drop(columns="time"))
    assert main(["forecast", str(sales), *QUICK, "--format", "xlsx", "-o", str(tmp_path / "folder")]) == 0
    assert (tmp_path / "folder" / "forecast.xlsx").exists()


@pytest.mark.parametrize("name", ["a.json", "a.xls", "a.feather", "a.jsonl", "a.png"])
def test_a_forecast_has_no_other_endings(name, sales, tmp_path, capsys):
    assert main(["forecast", str(sales), *QUICK, "-o", str(tmp_path / name)]) == 2
    says = f"no {name[1:]} file is written; give a .csv file or a folder"
    assert says in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (tmp_path / name).exists()


def test_a_workbook_that_is_there_is_not_replaced(sales, tmp_path, capsys):
    (tmp_path / "b.xlsx").write_text("mine")
    assert main(["forecast", str(sales), *QUICK, "-o", str(tmp_path / "b.xlsx")]) == 2
    assert "it is there already" in capsys.readouterr().err and (tmp_path / "b.xlsx").read_text() == "mine"


def test_what_a_sheet_cannot_hold_is_refused_before_training(sales, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("inkwash.systems.series.tables.MOST_ROWS", 5)
    assert main(["forecast", str(sales), *QUICK, "-o", str(tmp_path / "out" / "a.xlsx")]) == 2
    assert "6 rows: a sheet of .xlsx has 5 at most" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_ids_that_are_called_as_results_are_refused_before_a_training(sales, tmp_path, capsys):
    long = pd.read_csv(sales).melt("day", value_name="cups")
    for name, options in (("mean", ""), ("0.05", ""), ("0.9", "--levels 0.9"), ("low", "--unusual")):
        long.rename(columns={"variable": name}).to_csv(tmp_path / "long.csv", index=False)
        how = ["--item", name, *options.split(), "-o", str(tmp_path / "out")]
        assert main(["forecast", str(tmp_path / "long.csv"), *how]) == 2
        assert f"a column of ids is called {name}, as that of the results is" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_gaps_that_have_no_band_are_said(forecast, sales, tmp_path, capsys):
    frame = pd.read_csv(sales)
    frame.loc[[2, 3, 100], "tea"] = np.nan
    frame.to_csv(tmp_path / "holes.csv", index=False)
    how = ["--model", str(forecast / "forecaster"), "--samples", "3", "-o", str(tmp_path / "full.csv")]
    assert main(["series", "impute", str(tmp_path / "holes.csv"), *how]) == 0
    assert "2 gaps in the first " in (said := capsys.readouterr().err) and "without a band" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--mode faithful --alone", "alone means nothing with the mode faithful"),
        ("--mode faithful --steps 101", "the mode faithful has 100 at most"),
        ("--sampler tuned", "name that with --model"),
    ],
)
def test_what_no_training_can_do_is_refused_before_it(options, says, sales, tmp_path, capsys):
    assert main(["forecast", str(sales), *options.split(), "-o", str(tmp_path / "out")]) == 2
    assert says in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_what_a_saved_model_says_of_itself_is_of_its_training(forecast, sales, tmp_path, capsys):
    how = ["--model", str(forecast / "forecaster"), "--samples", "3", "--horizon", "2", "-o", str(tmp_path)]
    assert main(["forecast", str(sales), *how]) == 0
    assert "That was measured in its training, 7 steps ahead." in capsys.readouterr().out
