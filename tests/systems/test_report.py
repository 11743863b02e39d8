"""Reports: their intervals against known answers, their tables, and what is not written over."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.report import (
    Report,
    bootstrap,
    calibration_error,
    markdown_tables,
    names_of,
    number,
    reliability,
    row,
    student,
    wilson,
)


def report(**changes):
    rows = [row("top 1", 0.5, (0.25, 0.75), 12, source="model", style="flat")]
    facts = {"title": "Twelve.", "system": "pictures", "seeds": [3], "cpu_seconds": {"to draw": 70.4}, "rows": rows}
    return Report(**facts | changes)


def test_what_is_saved_is_loaded(tmp_path):
    more = {"examples": [{"text": "A cat."}], "figures": {"nearest": "nearest.png"}}
    one = report(data={"name": "猫.csv", "split": "test"}, **more)
    assert Report.load(one.save(tmp_path / "report.json")) == one
    one.save(tmp_path / "report.json")  # its own is replaced
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(UserError, match=r"mine\.json: this file is not inkwash's"):
        one.save(tmp_path / "mine.json")
    with pytest.raises(UserError, match=r"mine\.json: not a report"):
        Report.load(tmp_path / "mine.json")
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_its_page_says_how_it_was_measured_and_lists_the_rows():
    assert report(data={"name": "a.csv", "split": "test"}).markdown() == (
        "Twelve. Data: a.csv, test. Seed: 3. CPU time: 70.4 s to draw.\n\n"
        "| source | style | n | top 1 |\n| --- | --- | ---: | ---: |\n| model | flat | 12 | 0.500 [0.250, 0.750] |"
    )


def test_metrics_of_the_same_things_are_columns_of_one_table():
    both = [row(m, v, source=s) for m in ("a", "b") for s, v in (("x", 1), ("y", 2))]
    first, second = markdown_tables([*both, row("c", float("nan"), source="x")])
    assert first.splitlines()[0] == "| source | a | b |" and first.splitlines()[2:] == [
        "| x | 1.00 | 1.00 |",
        "| y | 2.00 | 2.00 |",
    ]
    assert second.splitlines()[2:] == ["| x |  |"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1018.4, "1018"), (45.67, "45.7"), (8.187, "8.19"), (-0.001678, "-0.00168"), (1.0, "1.00")],
)
def test_a_number_has_three_digits(value, shown):
    assert number(value) == shown


def test_wilson_known_values():
    # 81 of 263: Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(0, 29)[0] == 0  # not -0.0


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_score_equation(n, data):
    hits = data.draw(st.integers(0, n))
    for p in wilson(hits, n):
        assert 0 <= p <= 1
        assert (hits / n - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, abs=1e-9)


def test_student_by_hand():
    # mean 3, standard error sqrt(2.5 / 5), and 2.7764 is the 97.5 % point of t with 4 degrees of freedom
    assert student([1, 2, 3, 4, 5]) == pytest.approx((3 - 2.7764 * 0.5**0.5, 3 + 2.7764 * 0.5**0.5), abs=1e-3)


def test_a_bootstrap_holds_the_mean_and_is_wide_where_groups_differ():
    groups = np.repeat(np.arange(40), 10)
    alike = np.tile([0, 1], 200)  # every group has the mean 1/2
    apart = np.repeat(np.tile([0, 1], 20), 10)  # half of the groups succeed always
    assert bootstrap(alike, groups) == (0.5, 0.5)
    for low, high in (bootstrap(apart, groups), bootstrap(apart[::10])):
        half = 1.96 * 0.5 / 40**0.5
        assert 0.5 - low == pytest.approx(half, rel=0.2) and high - 0.5 == pytest.approx(half, rel=0.2)


def test_a_bootstrap_weighs_values_by_their_size():
    assert bootstrap([1.0, 3.0], [0, 0], [3, 1]) == (1.5, 1.5)


def test_calibration_by_hand():
    table = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 1, 1, 1]))
    assert calibration_error(table) == pytest.approx((abs(0.2 - 1) + abs(1.8 - 2)) / 4)


def test_a_calibrated_probability_has_no_calibration_error():
    rng = np.random.default_rng(0)
    probability = rng.random((1, 400, 400))
    assert calibration_error(reliability(probability, rng.random(probability.shape) < probability)) < 0.005


def test_models_of_one_name_are_told_apart():
    request = SimpleNamespace(model="/a/model", beside=("/b/model", "/c/other"))
    assert names_of(request) == ["model (1)", "model (2)", "other"]
