"""What can be asked of forecasters."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from inkwash.errors import UserError
from inkwash.systems import tune
from inkwash.systems.base import File, Help, Media, Request, idle

Seed = Annotated[int, Ge(0), Le(2**64 - 1), Help("The same seed draws the same paths.")]
Samples = Annotated[int, Ge(1), Le(100_000), Help("Paths that are drawn.")]
Sampler = Annotated[
    Literal["ancestral", "ddim", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "tuned"] | None,
    Help("How a step is drawn; the model's own if left out."),
]
Steps = Annotated[int | None, Ge(1), Le(100_000), Help("Calls of the network for each step of time.")]
Alone = Annotated[bool, Help("The diffusion model alone, without the simple forecasts that are combined with it.")]
Dates = Annotated[
    Literal["dmy", "mdy", "ymd"] | None, Help("The order in dates, where the table leaves it open: dmy, mdy, ymd.")
]
Decimal = Annotated[
    Literal[",", "."] | None, Help("The sign before decimals, where the table leaves it open: , or a point.")
]
Sheet = Annotated[str | None, Help("The sheet of a workbook, where several hold a table.")]
Missing = Annotated[
    tuple[str, ...] | None,
    Help(
        "What stands for a missing value, as -999; again for more. Found by itself if left out; none: nothing does."
    ),
]
Levels = Annotated[
    tuple[float, ...] | None, Ge(0), Le(1),
    Help("A quantile of the table; again for more, as 0.1 and 0.9 for a band of 80 %. The chart has the bands, too."),
]  # fmt: skip
Integer = Annotated[bool, Help("Round every path to whole numbers, as counts are.")]
Minimum = Annotated[float | None, Help("No path lies below.")]
Targets = Annotated[tuple[str, ...] | None, Help("A column to forecast; again for more. All numbers if left out.")]
Covariates = Annotated[tuple[str, ...] | None, Help("A covariate whose values are known in advance; again for more.")]
Mode = Annotated[
    Literal["improved", "faithful"] | None,
    Help("What to train: improved, or faithful, TimeGrad as published; improved if left out."),
]
Lags = Annotated[tuple[int, ...] | None, Ge(1), Le(100_000), Help("A lag to look back to; again for more.")]
ContextSteps = Annotated[int | None, Ge(1), Le(100_000), Help("Steps that are read before a forecast.")]
Holidays = Annotated[
    tuple[str, ...] | None,
    Help("A country whose public holidays are known in advance, or a part of one: DE, DE-BY; again for more."),
]
Horizon = Annotated[
    int | None, Ge(1), Le(100_000), Help("Steps ahead; the model's own, or 30 where one must be trained.")
]
ModelName = Annotated[str, Help("A folder of a trained model, or a shipped one.")]


def check_training(request: "Forecast | Backtest") -> None:
    """UserError, where no model is named, for what one that is trained first cannot do."""
    if request.model is None and request.mode == "faithful":
        idle(request, ("alone",), "with the mode faithful, which is alone")
        if (request.steps or 0) > 100:
            raise UserError(f"steps = {request.steps}: the mode faithful has 100 at most")
    if request.model is None and request.sampler == "tuned":
        raise UserError("sampler = tuned is what `inkwash tune` learns for a model: name that with --model")


@dataclass(frozen=True, kw_only=True)
class SeriesRequest(Request):
    """A table of series, and which columns are what."""

    data: Annotated[
        File,
        Media("text/csv"),
        Help("A CSV file, .xlsx or .parquet: wide or long; or JSON lines of gluonts.", argument=True),
    ]
    time: Annotated[str | None, Help("The column of time stamps; found by itself if left out.")] = None
    freq: Annotated[str | None, Help("Steps of time as pandas writes them: D, B, W, MS, h, 30min.")] = None
    item: Annotated[
        tuple[str, ...] | None, Help("In a long table a column that names the series; again for more.")
    ] = None
    dates: Dates = None
    decimal: Decimal = None
    sheet: Sheet = None
    missing: Missing = None


@dataclass(frozen=True, kw_only=True)
class Forecast(SeriesRequest):
    """Forecast the series of a table: quantiles as CSV and a fan chart. Without a model, one is trained first."""

    target: Targets = None
    feat_dynamic_real: Covariates = None
    future: Annotated[
        tuple[File, ...] | None,
        Media("text/csv"),
        Help("A table of the covariates of the steps to come; again, to set one plan beside another."),
    ] = None
    holidays: Holidays = None
    horizon: Horizon = None
    model: Annotated[str | None, Help("A folder of a trained model, or a shipped one.")] = None
    samples: Samples = 100
    seed: Seed = 0
    mode: Mode = None
    lags: Lags = None
    context: ContextSteps = None
    sampler: Sampler = None
    steps: Steps = None
    levels: Levels = None
    integer: Integer = False
    minimum: Minimum = None
    sums: Annotated[
        bool, Help("Add the total, and the sums by each column of --item: of each path, so their bands are right.")
    ] = False
    alone: Alone = False
    unusual: Annotated[
        bool,
        Help("Mark the values of the past that lie outside of a one-step band of 99 %: a table, and in the chart."),
    ] = False
    format: Annotated[Literal["csv", "xlsx", "parquet"], Help("Of the table; the ending of --out says it, too.")] = (
        "csv"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self)


@dataclass(frozen=True, kw_only=True)
class Backtest(SeriesRequest):
    """Score forecasts of rolling windows, beside ones that need no model. Without a model, one is trained anew before
    each window."""

    target: Targets = None
    feat_dynamic_real: Covariates = None
    model: Annotated[str | None, Help("A folder of a trained model, or a shipped one.")] = None
    windows: Annotated[int, Ge(1), Le(100_000), Help("Windows, from the end of the table back.")] = 10
    stride: Annotated[int | None, Ge(1), Le(100_000), Help("Steps between them; the horizon if left out.")] = None
    holidays: Holidays = None
    horizon: Horizon = None
    samples: Samples = 100
    seed: Seed = 0
    mode: Mode = None
    lags: Lags = None
    context: ContextSteps = None
    sampler: Sampler = None
    steps: Steps = None
    alone: Alone = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self)


@dataclass(frozen=True, kw_only=True)
class Impute(SeriesRequest):
    """Fill the gaps of a table by the median of paths that are drawn through them; quantiles beside it."""

    model: ModelName
    samples: Samples = 100
    seed: Seed = 0
    sampler: Sampler = None
    steps: Steps = None
    levels: Levels = None
    integer: Integer = False
    minimum: Minimum = None

    def basename(self) -> str:
        return "imputed"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure a forecaster on rolling windows, beside a random walk and other baselines."""

    model: Annotated[str, Help("A folder of a trained model, or a shipped one.", argument=True)]
    data: Annotated[
        File,
        Media("text/csv"),
        Help("gluonts' archive of windows, or a table: its last ten horizons, which training must not have seen."),
    ]
    dates: Dates = None
    decimal: Decimal = None
    sheet: Sheet = None
    missing: Missing = None
    seed: Seed = 0
    sampler: Sampler = None
    steps: Steps = None
    alone: Alone = False


@dataclass(frozen=True, kw_only=True)
class Tune(tune.Tune, SeriesRequest):
    """Learn how to sample a forecaster in few steps; then `--sampler tuned --steps 6`."""

    data: Annotated[File, Media("text/csv"), Help("The table that it was trained on.")]
    samples: Annotated[int, Ge(8), Le(10_000), Help("Steps of time to learn from.")] = 512
