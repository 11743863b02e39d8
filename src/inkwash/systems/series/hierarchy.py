"""Sums over a hierarchy, path by path: since a path is one future of all series, its sums are those of that future.

A quantile of a sum is no sum of quantiles: of n independent series of one width the sum is sqrt(n) times as wide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from inkwash.errors import UserError
from inkwash.systems.series.data import Layout
from inkwash.systems.series.forecast import Forecast
from inkwash.systems.series.roles import JOINT

TOTAL = "total"


class Sum(NamedTuple):
    """Its name, as region=North total; its cells in the columns of ids; and which series it is the sum of."""

    name: str
    ids: tuple[str, ...]
    members: list[int]


def sums(names: Sequence[str], layout: Layout) -> list[Sum]:
    """The total, and of a long table the sums by each column of ids, by each two of three, and so on; none of a
    single series, and none twice.

    Raises UserError where there is one series only, or one that is called total, which would count twice."""
    if len(names) < 2:
        raise UserError(f"sums of one series ('{names[0]}') are that series: leave out --sums")
    ids = [layout.ids.get(name, (name,)) for name in names]
    for name, cells in zip(names, ids, strict=True):
        if any(cell.strip().casefold() == TOTAL for cell in cells):
            raise UserError(
                f"'{name}' is a total already and would count twice: take it out of the table, or leave out --sums"
            )
    found: dict[tuple[int, ...], Sum] = {}
    for count in range(max(len(layout.items), 1)):
        for columns in combinations(range(len(layout.items)), count):
            members = defaultdict(list)
            for k, cells in enumerate(ids):
                members[tuple(cells[c] if c in columns else TOTAL for c in range(len(cells)))].append(k)
            for cells, rows in members.items():
                fixed = JOINT.join(f"{layout.items[c]}={cells[c]}" for c in columns)
                if len(rows) > 1:
                    found.setdefault(tuple(rows), Sum(f"{fixed} {TOTAL}".strip(), cells, rows))
    return list(found.values())


def with_sums(forecast: Forecast, layout: Layout) -> tuple[Forecast, Layout]:
    """The forecast with its sums before its series, and the layout that writes them: in the columns of ids that one
    sums over stands total. UserError as of `sums`."""
    added = sums(forecast.names, layout)
    summed = [forecast.samples[..., each.members].sum(-1) for each in added]
    samples = np.concatenate([np.stack(summed, axis=-1), forecast.samples], axis=-1)
    layout = replace(layout, ids=layout.ids | {each.name: each.ids for each in added})
    return Forecast(samples, forecast.index, [*(each.name for each in added), *forecast.names]), layout


def history_with_sums(values: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Values (T, D) and their sums; a sum is NaN where one of its series is."""
    added = {
        each.name: values.iloc[:, each.members].sum(axis=1, skipna=False)
        for each in sums([*map(str, values.columns)], layout)
    }
    return pd.concat([pd.DataFrame(added, values.index), values], axis=1)
