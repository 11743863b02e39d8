"""Fan charts, and reliability diagrams."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.report import Row
from inkwash.weights.files import atomic

MOST = 12  # charts on one page
CHINESE = (  # fonts of Linux, Windows and macOS
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"), *("Microsoft YaHei", "SimHei"),
    *("PingFang SC", "Heiti TC"),
)  # fmt: skip
FIRST_CHINESE = "\u2e80"  # and Japanese and Korean
INK = "#1b3a5c"
# of thin lines, told apart by people of any sight (Okabe and Ito 2008), and three of their darker ones
THIN = (
    "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#8c6d00", "#7f7f7f", "#117755", "#882255",
)  # fmt: skip


def fan(
    quantile: Callable[[float], pd.DataFrame],
    file: Path,
    history: pd.DataFrame | None,
    truth: pd.DataFrame | None,
    levels: Sequence[float],
    unusual: pd.DataFrame | None = None,
    alike: int = 1,
) -> None:
    """A chart for each of the first twelve series: the last of the history, the median, a band between every level
    below 0.5 and its counterpart above, if that is one of the levels, and what came, if it is known. `unusual`:
    values of the history that get a circle, among gaps. `alike`: so many charts in a row have one scale. Writes PNG
    or SVG. UserError for another kind of file, and without matplotlib."""
    figure_class = figures(file)
    median = quantile(0.5)
    rounded = {round(level, 9) for level in levels}
    bands = [(low, round(1 - low, 9)) for low in sorted(rounded) if low < 0.5 and round(1 - low, 9) in rounded]
    names = list(median.columns[:MOST])
    columns = min(len(names), 3 if len(names) > 4 else 2) if alike == 1 else min(len(names), alike)
    rows = -(-len(names) // columns)
    figure = figure_class(figsize=(max(5.2 * columns, 7.0), 2.9 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (axis, name) in enumerate(zip(axes, names, strict=False)):
        if place % alike:
            axis.sharey(axes[place - place % alike])
        if getattr(median.index, "tz", None):  # else the hours would be those of UTC
            axis.xaxis_date(median.index.tz)
        if history is not None:
            past = history[name].iloc[-4 * len(median) :]
            axis.plot(past.index, past, color="0.25", linewidth=1)
        circles = pd.Series() if unusual is None else unusual[name].iloc[-4 * len(median) :].dropna()
        if len(circles):
            axis.plot(circles.index, circles, "o", color="#c0392b", fillstyle="none", markersize=6, label="unusual")
        for k, (low, high) in enumerate(bands):
            below, above = quantile(low)[name], quantile(high)[name]
            label = f"{100 * (high - low):.6g} %"
            strength = 0.2 + 0.15 * k / max(len(bands) - 1, 1)
            axis.fill_between(below.index, below, above, color=INK, alpha=strength, linewidth=0, label=label)
        axis.plot(median.index, median[name], color=INK, linewidth=1.5, label="median")
        if truth is not None:
            axis.plot(truth.index, truth[name], color="#c0392b", linewidth=1, label="what came")
        axis.set_title(name, fontsize=10, parse_math=False)  # a dollar is no formula
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        for label in axis.get_xticklabels():
            label.set(rotation=25, horizontalalignment="right")
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    legend = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        legend.values(), legend.keys(), fontsize=8, frameon=False, loc="outside upper right", ncols=len(legend)
    )
    if len(median.columns) > MOST:
        figure.supxlabel(f"the first {MOST} of {len(median.columns)} series", fontsize=9)
    save(figure, file)


def reliability(overall: Sequence[Row], by_series: Mapping[str, Sequence[Row]], windows: float, file: Path) -> None:
    """A reliability diagram: at each level of the quantiles the share of the truth that lies below (rows of
    `Backtest.calibration`), of all values and, as thin lines, of each series. As PNG or SVG.

    On the diagonal, but for chance, lies what is calibrated. How far chance goes (95 % of a binomial distribution) is
    known if all n values are independent (the narrow band), or only those of different windows (the wide one); values
    of one window hang together, so the truth is between.
    """
    figure_class = figures(file)
    from scipy.stats import binom

    levels, n = [each["level"] for each in overall], overall[0]["n"]
    ends = np.array([0, *levels, 1])
    figure = figure_class(figsize=(8.4, 6.2))
    axis = figure.subplots()
    axis.plot(
        levels, shares(overall), color=INK, linewidth=2.4, marker="o", markersize=5, label="all values", zorder=4
    )
    for (name, rows), color in zip(by_series.items(), cycle(THIN), strict=False):
        axis.plot(levels, shares(rows), color=color, linewidth=1.1, label=legend_label(name), zorder=3)
    axis.plot([0, 1], [0, 1], color="0.3", linewidth=1, linestyle=(0, (4, 3)), label="calibrated", zorder=2)
    for count, strength, what in ((max(n, 1), 0.2, "values"), (max(int(windows), 1), 0.08, "windows")):
        low, high = binom.ppf([[0.025], [0.975]], count, ends) / count
        label = f"chance, if the {count} {what}\nwere independent (95 %)"
        axis.fill_between(ends, low, high, color=INK, alpha=strength, linewidth=0, label=label)
    ticks = np.linspace(0, 1, 6)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=ticks, yticks=ticks)
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.set_xlabel("level of the quantile")
    axis.set_ylabel("share of the truth below it")
    axis.set_title("Calibration", loc="left", fontsize=12, pad=10)
    axis.tick_params(labelsize=9, length=3, color="0.6")
    axis.grid(color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color("0.6")
    axis.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1), labelspacing=0.7)
    axis.annotate(
        "flatter than the diagonal: bands too narrow, steeper: too wide; above: forecasts too high, below: too low",
        (0, -0.14), xycoords="axes fraction", fontsize=8.5, color="0.35",
    )  # fmt: skip
    save(figure, file, bbox_inches="tight", pad_inches=0.2)


def legend_label(name: str) -> str:
    """Not too long, and nothing in it that matplotlib takes for markup, or for a label to be left out."""
    text = name if len(name) <= 28 else f"{name[:27]}…"
    return f"{' ' * text.startswith('_')}{text}".replace("$", r"\$")


def shares(rows: Sequence[Row]) -> list[float]:
    return [math.nan if each["value"] is None else each["value"] for each in rows]


def save(figure: Any, file: Path, **how: Any) -> None:
    """Writes a figure; texts with signs that matplotlib's own font lacks have an installed one beside it that has
    Chinese."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    installed = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(name for name in CHINESE if name in installed)]
    for text in figure.findobj(Text):
        if any(sign >= FIRST_CHINESE for sign in text.get_text()):
            text.set_fontfamily(families)
    logger = logging.getLogger(font_manager.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)  # which weight of a font is taken is of no interest
    try:
        with atomic(file) as temporary:
            figure.savefig(temporary, dpi=110, **how)
    finally:
        logger.setLevel(level)


def figures(file: Path) -> Any:
    """The class of a figure that is written into this file. UserError for one that is neither PNG nor SVG, and
    without matplotlib."""
    if file.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"{file}: charts are written as .png or .svg")
    require("a chart", "matplotlib")
    from matplotlib.figure import Figure

    return Figure
