"""Fan charts say what is in them, and no more."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from inkwash.systems.series.forecast import Forecast

NAMES = ["cost $ and $x_{", "b"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *how, **more: figures.append(self) or save(self, *how, **more)
    )
    return figures


@pytest.fixture
def forecast():
    paths = np.random.default_rng(0).normal(0, 1, (50, 3, 2))
    return Forecast(paths, pd.date_range("2024-02-01", periods=3), NAMES)


def plot(forecast, file, marked, **how):
    index = pd.date_range("2024-01-25", periods=7)
    history = pd.DataFrame(1.0, index, NAMES)
    forecast.plot(file, history, unusual=history * [np.nan, 1.0 if marked else np.nan], **how)


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("marked", [False, True])
def test_the_legend_has_unusual_values_where_any_chart_has_one(marked, forecast, drawn, tmp_path):
    plot(forecast, tmp_path / "a.png", marked)
    assert ("unusual" in labels(drawn[0])) == marked
    assert [line.get_label() for line in drawn[0].axes[0].lines].count("unusual") == 0


def test_a_band_is_called_what_it_holds(forecast, drawn, tmp_path):
    plot(forecast, tmp_path / "a.png", False, levels=(0.001, 0.025, 0.5, 0.975, 0.999))
    assert labels(drawn[0]) == ["99.8 %", "95 %", "median"]


def test_a_dollar_in_a_name_is_no_formula(forecast, drawn, tmp_path):
    plot(forecast, tmp_path / "a.svg", False)
    title = drawn[0].axes[0].title
    assert title.get_text() == NAMES[0] and not title.get_parse_math()


def test_a_font_that_has_chinese_is_fallen_back_on_where_one_is_installed(forecast, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans", "SimHei", "Comic Sans MS"])
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: drawn.append(self) or file.touch())
    Forecast(forecast.samples, forecast.index, ["北京店", "b"]).plot(tmp_path / "a.png")
    families = {text.get_text(): text.get_fontfamily() for text in drawn[0].findobj(Text)}
    assert families["北京店"] == ["DejaVu Sans", "SimHei"] and families["b"] == ["sans-serif"]
