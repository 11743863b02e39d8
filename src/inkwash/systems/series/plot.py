"""Fan charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.weights.files import atomic

MOST = 12  # charts on one page
INK = "#1b3a5c"


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
    if file.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"{file}: charts are written as .png or .svg")
    require("a chart", "matplotlib")
    from matplotlib.figure import Figure

    median = quantile(0.5)
    rounded = {round(level, 9) for level in levels}
    bands = [(low, round(1 - low, 9)) for low in sorted(rounded) if low < 0.5 and round(1 - low, 9) in rounded]
    names = list(median.columns[:MOST])
    columns = min(len(names), 3 if len(names) > 4 else 2) if alike == 1 else min(len(names), alike)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(5.2 * columns, 7.0), 2.9 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (axis, name) in enumerate(zip(axes, names, strict=False)):
        if place % alike:
            axis.sharey(axes[place - place % alike])
        if getattr(median.index, "tz", None):  # else the hours would be those of UTC
            axis.xaxis_date(median.index.tz)
        if history is not None:
            past = history[name].iloc[-4 * len(median) :]
            axis.plot(past.index, past, color="0.25", linewidth=1)
        if unusual is not None:
            circles = unusual[name].iloc[-4 * len(median) :]
            axis.plot(circles.index, circles, "o", color="#c0392b", fillstyle="none", markersize=6, label="unusual")
        for k, (low, high) in enumerate(bands):
            below, above = quantile(low)[name], quantile(high)[name]
            label = f"{round(100 * (high - low))} %"
            strength = 0.2 + 0.15 * k / max(len(bands) - 1, 1)
            axis.fill_between(below.index, below, above, color=INK, alpha=strength, linewidth=0, label=label)
        axis.plot(median.index, median[name], color=INK, linewidth=1.5, label="median")
        if truth is not None:
            axis.plot(truth.index, truth[name], color="#c0392b", linewidth=1, label="what came")
        axis.set_title(name, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        for label in axis.get_xticklabels():
            label.set(rotation=25, horizontalalignment="right")
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside upper right", ncols=len(labels))
    if len(median.columns) > MOST:
        figure.supxlabel(f"the first {MOST} of {len(median.columns)} series", fontsize=9)
    with atomic(file) as temporary:
        figure.savefig(temporary, dpi=110)
