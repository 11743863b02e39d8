"""The examples run, and make what they say."""

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.systems.language.vocabulary import tokenize

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs one in an empty folder; its names."""
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))


def pixels(picture):
    """Of a picture, or of a file."""
    if isinstance(picture, str):
        with Image.open(picture) as opened:
            return pixels(opened)
    return np.asarray(picture).astype(int)


def test_a_picture(run, capsys):
    run("picture")
    assert main(["again", "fox.png"]) == 0
    assert capsys.readouterr().out.endswith("\nthe same pixels\n")


def test_a_sheet_holds_what_each_seed_draws_alone(run):
    run("seeds")
    alone = inkwash.load("emoji-fast").generate("a blue car", seed=2)
    sheet, size = pixels("sheet.png"), alone.width
    assert sheet.shape == (3 * size, 4 * size, 3)
    assert abs(sheet[size : 2 * size, 2 * size : 3 * size] - pixels(alone)).max() <= 1


def test_an_edit_keeps_what_the_mask_keeps_and_varies_as_strongly_as_asked(run):
    house = pixels(run("edit")["house"])
    roof, little, much = (pixels(f"{name}.png") for name in ("roof", "varied-0.4", "varied-0.7"))
    half = len(house) // 2 + 1
    assert (roof[half:] == house[half:]).all() and abs(roof[:half] - house[:half]).mean() > 10
    assert 0 < abs(little - house).mean() < abs(much - house).mean()


@pytest.mark.slow
def test_a_forecast(run):
    names = run("forecast")
    table = pd.read_csv("forecast.csv", parse_dates=["time"])
    assert list(table.time.unique()) == list(names["truth"].index) and set(table.series) == {"tea", "coffee"}
    assert names["inside"].to_numpy().mean() > 0.7
    week = names["truth"].groupby(names["truth"].index.dayofweek).mean()
    median = names["forecast"].quantile(0.5).groupby(names["truth"].index.dayofweek).mean()
    assert abs(median - week).to_numpy().mean() < 1.5  # the days of a week differ by 12
    assert len(np.unique(pixels("forecast.png"))) > 100


def test_sentences_keep_to_lengths_and_words(run, capsys):
    run("sentences")
    fields, lengths, gaps = (part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n"))
    assert sum("Italian" in sentence for sentence in fields) >= 2
    assert [len(tokenize(sentence)) for sentence in lengths] == [10] * 3
    assert all(re.fullmatch(r"The \S+ is a \S+ near the river\.", sentence) for sentence in gaps)


def test_a_solver_of_second_order(run, capsys):
    run("solver")
    errors = np.array(re.findall(r"\d\.\d{5}", capsys.readouterr().out), float).reshape(3, 2)
    euler, heun = np.log2(errors[1] / errors[2])
    assert euler == pytest.approx(1, abs=0.1) and heun == pytest.approx(2, abs=0.2)
