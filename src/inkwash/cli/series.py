"""The commands of forecasting: `inkwash forecast`, and `inkwash series backtest`, `impute` and `tune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from inkwash.cli.commands import app, progress, unused, writable
from inkwash.errors import UserError

series_app = typer.Typer(help="Try out, mend and tune forecasts.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(series_app, name="series")

Data = Annotated[
    Path, typer.Argument(help="A CSV file: a column for each series, or long; or JSON lines of gluonts.")
]
Model = Annotated[str | None, typer.Option(help="A folder of a trained model, or a shipped one.")]
Time = Annotated[str | None, typer.Option(help="The column of time stamps; found by itself if left out.")]
Freq = Annotated[str | None, typer.Option(help="Steps of time as pandas writes them: D, B, W, MS, h, 30min.")]
Target = Annotated[
    list[str] | None, typer.Option(help="A column to forecast; again for more. All numbers if left out.")
]
Item = Annotated[str | None, typer.Option(help="In a long table the column that names the series.")]
Known = Annotated[list[str] | None, typer.Option(help="A column whose values are known in advance; again for more.")]
Samples = Annotated[int, typer.Option(help="Paths that are drawn.")]
Seed = Annotated[int, typer.Option(help="The same seed draws the same paths.")]
Sampler = Annotated[str | None, typer.Option(help="How a step is drawn; the model's own if left out.")]
Steps = Annotated[int | None, typer.Option(help="Calls of the network for each step of time.")]


@app.command()
def forecast(
    data: Data,
    horizon: Annotated[
        int | None, typer.Option(help="Steps ahead; the model's own, or 30 where one must be trained.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for forecast.csv and forecast.png.")] = Path("."),
    model: Model = None,
    samples: Samples = 100,
    seed: Seed = 0,
    time: Time = None,
    freq: Freq = None,
    target: Target = None,
    item: Item = None,
    known: Known = None,
    mode: Annotated[
        str, typer.Option(help="What to train: improved, or faithful, TimeGrad as published.")
    ] = "improved",
    lags: Annotated[list[int] | None, typer.Option(help="A lag to look back to; again for more.")] = None,
    context: Annotated[int | None, typer.Option(help="Steps that are read before a forecast.")] = None,
    sampler: Sampler = None,
    steps: Steps = None,
) -> None:
    """Forecast the series of a table: quantiles as CSV and a fan chart. Without a model, one is trained first."""
    if horizon is not None and horizon < 1:
        raise UserError(f"--horizon {horizon}: at least one step must be forecast")
    writable(out)
    needs_pandas()
    from inkwash.systems.series.model import Forecaster
    from inkwash.systems.series.reading import read_series

    how = columns(time, freq, target, item, known)
    if model is None:
        series = read_series(data, **how)
        folder = unused(out / "forecaster")
        forecaster = Forecaster.fit(series, horizon or 30, folder / "run", mode=mode, context=context, lags=lags)
    else:
        forecaster = Forecaster.load(model)
        series = forecaster.read(data, how)
    with progress("steps of paths") as report:
        found = forecaster.forecast(series, horizon, samples, seed, sampler=sampler, steps=steps, progress=report)
    table, chart = unused(out / "forecast.csv"), unused(out / "forecast.png")
    write_table(found.table(), table)
    found.plot(chart, series.values)
    print(table)
    print(chart)
    if model is None:  # last: the forecast is there whatever becomes of this
        forecaster.save(folder)
        typer.echo(f"trained; next time: inkwash forecast {data} --model {folder}", err=True)


@series_app.command()
def backtest(
    data: Data,
    model: Annotated[str, typer.Option(help="A folder of a trained model, or a shipped one.")],
    windows: Annotated[int, typer.Option(help="Windows, from the end of the table back.")] = 10,
    stride: Annotated[int | None, typer.Option(help="Steps between them; the horizon if left out.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Steps ahead; the model's own if left out.")] = None,
    samples: Samples = 100,
    seed: Seed = 0,
    time: Time = None,
    freq: Freq = None,
    item: Item = None,
    sampler: Sampler = None,
    steps: Steps = None,
) -> None:
    """Score a model on rolling windows, beside forecasts that need no model."""
    needs_pandas()
    from inkwash.systems.series.model import Forecaster

    forecaster = Forecaster.load(model)
    with progress("steps of paths") as report:
        found = forecaster.backtest(
            data, windows, stride, horizon, samples, seed, sampler=sampler, steps=steps, progress=report,
            **columns(time, freq, None, item, None),
        )  # fmt: skip
    show(found.table())


@series_app.command()
def impute(
    data: Data,
    model: Annotated[str, typer.Option(help="A folder of a trained model, or a shipped one.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The CSV file to write; a new imputed.csv if left out.")
    ] = None,
    samples: Samples = 100,
    seed: Seed = 0,
    time: Time = None,
    freq: Freq = None,
    item: Item = None,
) -> None:
    """Fill the gaps of a table by the median of paths that are drawn through them."""
    needs_pandas()
    import numpy as np
    import pandas as pd

    from inkwash.systems.series.model import Forecaster

    forecaster = Forecaster.load(model)
    series = forecaster.read(data, columns(time, freq, None, item, None))
    with progress("gaps") as report:
        paths = forecaster.impute(series, samples, seed, progress=report)
    out = out or unused(Path("imputed.csv"))
    writable(out.parent)
    filled = pd.DataFrame(np.median(paths, axis=0), series.values.index, series.values.columns)
    write_table(filled.rename_axis("time").reset_index(), out)
    print(out)


@series_app.command()
def tune(
    model: Annotated[str, typer.Argument(help="A folder of a trained model.")],
    data: Annotated[Path, typer.Argument(help="The table that it was trained on.")],
    steps: Annotated[int, typer.Option(help="Calls of the network for each step of time.")] = 6,
    time: Time = None,
    freq: Freq = None,
    item: Item = None,
) -> None:
    """Learn how to sample a model in few steps; then `--sampler tuned --steps N`."""
    needs_pandas()
    from dataclasses import asdict

    from inkwash.systems.series.model import Forecaster
    from inkwash.training.tune import save_tables
    from inkwash.weights.shipped import locate

    forecaster = Forecaster.load(model)
    table = forecaster.tune(data, steps, **columns(time, freq, None, item, None))
    file = locate(model) / "tables.json"
    save_tables({"hash": forecaster.hash, "tables": {str(steps): asdict(table)}}, file)
    print(file)


def evaluate_forecaster(model: str, data: Path, seed: int, out: Path, sampler: str | None, steps: int | None) -> None:
    """Prints the whole table of a forecaster on rolling windows, and keeps it in out/report.json.

    data: gluonts' archive of windows, or a table: then its last ten horizons, which training must not have seen.
    """
    needs_pandas()
    import json

    from inkwash.systems.series.evaluate import table
    from inkwash.systems.series.model import Forecaster
    from inkwash.systems.series.reading import rolling
    from inkwash.weights.files import atomic

    forecaster = Forecaster.load(model)
    horizon = forecaster.info.horizon
    if data.name.endswith((".tar.gz", ".tgz")):
        series, ends, _ = rolling(data)
    else:
        series = forecaster.read(data, {})
        ends = [len(series.values) - horizon * k for k in range(10, 0, -1)]
    with progress("steps of paths") as report:
        found = forecaster.evaluate(series, ends, seed, sampler=sampler, steps=steps, progress=report)
    with atomic(out / "report.json") as file:
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    print(out / "report.json")


def columns(
    time: str | None, freq: str | None, target: list[str] | None, item: str | None, known: list[str] | None
) -> dict[str, Any]:
    """What was said of the table's columns."""
    given = {"time": time, "freq": freq, "target": target, "item": item, "known": known}
    return {key: value for key, value in given.items() if value}


def needs_pandas() -> None:
    from importlib.util import find_spec

    if not find_spec("pandas"):
        raise UserError("forecasts need pandas: pip install 'inkwash[series]'")


def write_table(table: Any, file: Path) -> None:
    """A CSV file, whole or not at all."""
    from inkwash.weights.files import atomic

    with atomic(file) as temporary:
        table.to_csv(temporary, index=False)


def show(table: Any) -> None:
    """A table of scores on the terminal."""
    from rich.console import Console
    from rich.table import Table

    page = Table("", *map(str, table.columns))
    for name, row in table.iterrows():
        page.add_row(str(name), *(f"{value:.5g}" for value in row))
    Console().print(page)
